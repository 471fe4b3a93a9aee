//! The schedule of the recorded entries, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::entry::Leftover;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::controllers::runtime::backoff::growing_pause;

/// Maximum number of entries of one namespace, so that no tenant uses the space of all.
const OF_A_NAMESPACE: usize = 500;
/// The pause before the first attempt.
const FIRST: SignedDuration = SignedDuration::from_secs(5);

/// The schedule of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) namespace: String,
    pub(super) connection: ConnectionTarget,
    pub(super) since: Timestamp,
    attempts: usize,
    next: Timestamp,
}

impl Due {
    fn of(entry: Leftover, next: Timestamp) -> Self {
        let Leftover { namespace, connection, since, .. } = entry;
        Self { namespace, connection, since, attempts: 0, next }
    }
}

/// The recorded entries and the time of each one's next attempt.
#[derive(Debug, Default)]
pub struct Pending {
    entries: Mutex<BTreeMap<String, Due>>,
    /// Whether the recorded entries were read since this process began to lead.
    complete: AtomicBool,
    changed: Notify,
}

impl Pending {
    /// Adds a recorded entry. The first attempt follows soon, because the cause that prevented the deletion may be over.
    pub(super) fn add(&self, key: &str, entry: &Leftover, now: Timestamp) {
        let due = Due::of(entry.clone(), now.checked_add(FIRST).unwrap_or(now));
        self.entries.lock().insert(key.to_owned(), due);
        self.changed.notify_one();
    }

    pub(super) fn remove(&self, key: &str) {
        self.entries.lock().remove(key);
    }

    /// Number of entries.
    pub(super) fn count(&self) -> i64 {
        i64::try_from(self.entries.lock().len()).unwrap_or(i64::MAX)
    }

    /// Whether the recorded entries were read since this process began to lead.
    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Whether a namespace may have an entry under this key in addition to its present ones.
    pub(super) fn has_room(&self, key: &str, namespace: &str) -> bool {
        let entries = self.entries.lock();
        entries.contains_key(key) || entries.values().filter(|due| due.namespace == namespace).count() < OF_A_NAMESPACE
    }

    /// Waits for a new entry, or for one that is scheduled earlier.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn fill(&self, recorded: BTreeMap<String, Leftover>, now: Timestamp) {
        let mut entries = self.entries.lock();
        for (key, entry) in recorded {
            entries.entry(key).or_insert_with(|| Due::of(entry, now));
        }
        self.complete.store(true, Ordering::Release);
    }

    pub(super) fn clear(&self) {
        self.entries.lock().clear();
        self.complete.store(false, Ordering::Release);
    }

    /// Schedules the entries of a connection that works again for now.
    pub fn try_now(&self, connection: &ConnectionTarget) {
        let mut entries = self.entries.lock();
        for due in entries.values_mut().filter(|due| due.connection == *connection) {
            due.attempts = 0;
            due.next = Timestamp::UNIX_EPOCH;
        }
        drop(entries);
        self.changed.notify_one();
    }

    /// The due entries: one of each connection, the longest overdue first.
    pub(super) fn due(&self, now: Timestamp) -> Vec<String> {
        let entries = self.entries.lock();
        let mut due: Vec<(&String, &Due)> = entries.iter().filter(|(_, due)| due.next <= now).collect();
        due.sort_by_key(|(_, due)| due.next);
        let mut connections = BTreeSet::new();
        due.retain(|(_, due)| connections.insert(&due.connection));
        due.into_iter().map(|(key, _)| key.clone()).collect()
    }

    /// Records an attempt before it starts, so that an interrupted attempt has its pause, and neither its entry nor any other
    /// is lost.
    pub(super) fn begin(&self, key: &str, now: Timestamp) -> Option<Due> {
        let mut entries = self.entries.lock();
        let due = entries.get_mut(key)?;
        due.attempts = due.attempts.saturating_add(1);
        due.next = after(now, due.attempts);
        Some(due.clone())
    }

    /// Postpones the due entries of a connection that cannot be processed now, each by its own pause.
    pub(super) fn put_off(&self, connection: &ConnectionTarget, now: Timestamp) {
        for due in self.entries.lock().values_mut().filter(|due| due.connection == *connection && due.next <= now) {
            due.attempts = due.attempts.saturating_add(1);
            due.next = after(now, due.attempts);
        }
    }
}

fn after(now: Timestamp, attempts: usize) -> Timestamp {
    now.checked_add(growing_pause(attempts)).unwrap_or(Timestamp::MAX)
}
