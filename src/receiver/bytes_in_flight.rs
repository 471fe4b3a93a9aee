//! Limits the bytes of all bodies that are being received or delivered.
//!
//! A namespace gets at most half of what the others leave, or one body that fits. So one whose sinks are slow, or two, cannot make
//! the receiver refuse the deliveries of all others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use super::metrics::Metrics;

/// The bytes of the bodies in memory.
#[derive(Clone)]
pub(super) struct BytesInFlight {
    used: Arc<Mutex<Used>>,
    limit: usize,
    metrics: Metrics,
}

#[derive(Default)]
struct Used {
    total: usize,
    /// Namespaces with a body in memory.
    namespaces: HashMap<Arc<str>, usize>,
}

/// There is no room for a body at present.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// The bytes that one request has reserved.
pub(super) struct ByteReservation {
    budget: BytesInFlight,
    namespace: Arc<str>,
    bytes: usize,
}

impl BytesInFlight {
    pub(super) fn new(limit: usize, metrics: Metrics) -> Self {
        Self { used: Arc::default(), limit, metrics }
    }

    /// A reservation of no bytes yet.
    pub(super) fn reserve(&self, namespace: &str) -> ByteReservation {
        ByteReservation { budget: self.clone(), namespace: Arc::from(namespace), bytes: 0 }
    }
}

impl Used {
    /// Changes what a namespace uses. Returns what it and all use now.
    fn change(&mut self, namespace: &Arc<str>, more: usize, less: usize) -> (usize, usize) {
        self.total = self.total.saturating_add(more).saturating_sub(less);
        let own = match self.namespaces.entry(Arc::clone(namespace)) {
            Entry::Occupied(mut known) => {
                let own = known.get().saturating_add(more).saturating_sub(less);
                if own == 0 {
                    known.remove();
                } else {
                    *known.get_mut() = own;
                }
                own
            }
            Entry::Vacant(new) => {
                let own = more.saturating_sub(less);
                if own > 0 {
                    new.insert(own);
                }
                own
            }
        };
        (own, self.total)
    }
}

impl ByteReservation {
    /// Adds bytes, which count until the reservation is dropped.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let (own, total) = self.change(bytes, 0);
        self.bytes = self.bytes.saturating_add(bytes);
        let left_by_others = self.budget.limit.saturating_sub(total.saturating_sub(own));
        let fits = own <= left_by_others / 2 || (own == self.bytes && own <= left_by_others);
        if fits { Ok(()) } else { Err(NoRoom) }
    }

    /// Changes the reservation to this many bytes, even beyond the limit, because they are already in memory.
    pub(super) fn change_to(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        self.change(bytes, before);
    }

    /// Changes what the namespace uses. Returns what it and all use now.
    fn change(&self, more: usize, less: usize) -> (usize, usize) {
        let mut used = self.budget.used.lock();
        let now = used.change(&self.namespace, more, less);
        self.budget.metrics.bytes_in_flight(now.1);
        now
    }
}

impl Drop for ByteReservation {
    fn drop(&mut self) {
        self.change(0, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn every_namespace_leaves_half_of_the_room_to_the_next() {
        let budget = BytesInFlight::new(64, Metrics::new(&mut Registry::default()));
        let take = |namespace: &str, bytes| {
            let mut reservation = budget.reserve(namespace);
            reservation.grow(bytes).map(|()| reservation).map_err(|_| namespace.to_owned())
        };
        let first = [take("a", 20).unwrap(), take("a", 12).unwrap()];
        assert_eq!(take("a", 1).err().as_deref(), Some("a"), "half of all is its share");
        let _second = [take("b", 10).unwrap(), take("b", 6).unwrap()];
        assert_eq!(take("b", 1).err().as_deref(), Some("b"));
        assert_eq!(take("c", 17).err().as_deref(), Some("c"), "there is no room for it");
        let _third = take("c", 8).unwrap();
        drop(first);
        let _again = [take("a", 10).unwrap(), take("a", 10).unwrap()];
        assert!(budget.used.lock().namespaces.len() == 3);
    }

    #[test]
    fn one_body_of_the_largest_size_of_each_of_two_namespaces_fits() {
        let budget = BytesInFlight::new(64, Metrics::new(&mut Registry::default()));
        let (mut first, mut second) = (budget.reserve("a"), budget.reserve("b"));
        for _ in 0..25 {
            first.grow(1).unwrap();
            second.grow(1).unwrap();
        }
        assert_eq!(budget.reserve("c").grow(15), Err(NoRoom));
    }

    #[test]
    fn nothing_is_counted_when_nothing_is_in_memory() {
        let budget = BytesInFlight::new(64, Metrics::new(&mut Registry::default()));
        let mut reservation = budget.reserve("a");
        reservation.grow(65).unwrap_err();
        reservation.change_to(10);
        assert_eq!(budget.used.lock().total, 10);
        drop(reservation);
        let used = budget.used.lock();
        assert!(used.total == 0 && used.namespaces.is_empty());
    }
}
