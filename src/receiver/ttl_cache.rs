//! A cache with a maximum size and a time to live.

use std::hash::Hash;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Stores values by key. When the cache is full, the oldest entry is removed first.
///
/// Uses a lock and one list instead of a concurrent cache: a delivery makes two look-ups of less than a microsecond each, and a
/// cache with background maintenance costs as much as the verification of the delivery.
#[derive(Debug)]
pub(super) struct TtlCache<K: Hash + Eq, V> {
    /// Ordered by time.
    entries: Mutex<LruCache<K, (Instant, V)>>,
    capacity: usize,
    kept: Duration,
    renewed_by_use: bool,
}

impl<K: Hash + Eq, V: Clone> TtlCache<K, V> {
    /// A cache whose entries expire this long after they were inserted.
    pub(super) fn since_insert(kept: Duration, capacity: usize) -> Self {
        Self { entries: Mutex::new(LruCache::unbounded()), capacity, kept, renewed_by_use: false }
    }

    /// A cache whose entries expire this long after they were last used.
    pub(super) fn since_use(kept: Duration, capacity: usize) -> Self {
        Self { renewed_by_use: true, ..Self::since_insert(kept, capacity) }
    }

    /// The valid entry of a key, or a new one.
    pub(super) fn get_or_insert_with(&self, key: K, new: impl FnOnce() -> V) -> V {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        let known = entries.peek(&key).filter(|(since, _)| self.counts(*since, now)).map(|(_, value)| value.clone());
        match known {
            Some(value) if !self.renewed_by_use => value,
            known => {
                let value = known.unwrap_or_else(new);
                entries.put(key, (now, value.clone()));
                self.trim(&mut entries, now);
                value
            }
        }
    }

    /// Inserts a value and replaces the former one.
    pub(super) fn insert(&self, key: K, value: V) {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        entries.put(key, (now, value));
        self.trim(&mut entries, now);
    }

    fn counts(&self, since: Instant, now: Instant) -> bool {
        now.duration_since(since) < self.kept
    }

    fn trim(&self, entries: &mut LruCache<K, (Instant, V)>, now: Instant) {
        while entries.len() > self.capacity || entries.peek_lru().is_some_and(|(_, (since, _))| !self.counts(*since, now)) {
            entries.pop_lru();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const KEPT: Duration = Duration::from_secs(60);
    const NEARLY: Duration = Duration::from_secs(45);

    #[tokio::test(start_paused = true)]
    async fn an_entry_expires_and_is_removed_although_it_is_read() {
        let recent = TtlCache::since_insert(KEPT, 10);
        assert_eq!(recent.get_or_insert_with("a", || 1), 1);
        advance(NEARLY).await;
        assert_eq!(recent.get_or_insert_with("a", || 2), 1);
        advance(NEARLY).await;
        assert_eq!(recent.get_or_insert_with("a", || 3), 3, "reading did not extend its time");
        recent.insert("b", 4);
        advance(KEPT).await;
        assert_eq!(recent.get_or_insert_with("c", || 5), 5);
        assert_eq!(recent.entries.lock().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn with_expiry_after_use_an_entry_stays_as_long_as_it_is_read() {
        let recent = TtlCache::since_use(KEPT, 10);
        assert_eq!(recent.get_or_insert_with("a", || 1), 1);
        recent.insert("b", 2);
        for _ in 0..3 {
            advance(NEARLY).await;
            assert_eq!(recent.get_or_insert_with("a", || 3), 1);
        }
        assert_eq!(recent.get_or_insert_with("b", || 4), 4, "it was not read");
        advance(KEPT).await;
        assert_eq!(recent.get_or_insert_with("a", || 5), 5);
    }

    #[test]
    fn the_entry_that_was_inserted_first_is_removed_first() {
        let recent = TtlCache::since_insert(KEPT, 2);
        recent.insert("a", 1);
        recent.insert("b", 2);
        recent.insert("a", 3);
        recent.insert("c", 4);
        assert_eq!(recent.get_or_insert_with("a", || 5), 3);
        assert_eq!(recent.get_or_insert_with("c", || 6), 4);
        assert_eq!(recent.get_or_insert_with("b", || 7), 7);
        assert_eq!(recent.entries.lock().len(), 2);
    }
}
