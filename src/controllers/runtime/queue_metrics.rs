//! Queue metrics: how many objects wait for a reconciliation and for how long, which distinguishes a growing queue from a
//! stalled one.

use std::collections::HashMap;

use kube::runtime::reflector::{Lookup, ObjectRef};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::controllers::metrics::{Kind, Metrics};

/// Namespace and name.
type Key = (Option<String>, String);

/// The objects of one kind between the first request and the start of their reconciliation. A requeue that a reconciliation
/// schedules for later does not count as waiting.
pub struct QueueMetrics {
    kind: &'static str,
    metrics: Metrics,
    since: Mutex<HashMap<Key, Instant>>,
}

impl QueueMetrics {
    /// Starts with an empty queue.
    #[must_use]
    pub fn new(kind: &'static str, metrics: Metrics) -> Self {
        Self { kind, metrics, since: Mutex::default() }
    }

    /// Records a request for an object. Only the first one counts.
    pub fn enqueued<K: Lookup>(&self, object: &ObjectRef<K>) {
        let mut since = self.since.lock();
        since.entry(key(object)).or_insert_with(Instant::now);
        self.show(since.len());
    }

    /// Records that the reconciliation of an object starts.
    pub fn started<K: Lookup>(&self, object: &ObjectRef<K>) {
        if let Some(since) = self.remove(object) {
            self.metrics.waited.get_or_create(&Kind { kind: self.kind }).observe(since.elapsed().as_secs_f64());
        }
    }

    /// Records that an object no longer exists and is not reconciled.
    pub fn dropped<K: Lookup>(&self, object: &ObjectRef<K>) {
        self.remove(object);
    }

    fn remove<K: Lookup>(&self, object: &ObjectRef<K>) -> Option<Instant> {
        let mut since = self.since.lock();
        let removed = since.remove(&key(object));
        self.show(since.len());
        removed
    }

    fn show(&self, count: usize) {
        self.metrics.waiting.get_or_create(&Kind { kind: self.kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// Resets the gauge on loss of leadership.
impl Drop for QueueMetrics {
    fn drop(&mut self) {
        self.show(0);
    }
}

fn key<K: Lookup>(object: &ObjectRef<K>) -> Key {
    (object.namespace.clone(), object.name.clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::registry::Registry;

    use super::*;
    use crate::api::v1alpha1::RepoBinding;

    fn object(name: &str) -> ObjectRef<RepoBinding> {
        ObjectRef::new(name).within("team-shop")
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_from_the_first_request_to_the_beginning() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let waiting = QueueMetrics::new("RepoBinding", metrics.clone());
        let shown = || metrics.waiting.get_or_create(&Kind { kind: "RepoBinding" }).get();
        waiting.enqueued(&object("a"));
        tokio::time::advance(Duration::from_secs(3)).await;
        waiting.enqueued(&object("a"));
        waiting.enqueued(&object("b"));
        assert_eq!(shown(), 2);
        waiting.started(&object("a"));
        waiting.started(&object("by its own pause"));
        waiting.dropped(&object("b"));
        assert_eq!(shown(), 0);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("forgebind_reconciliation_wait_seconds_sum{kind=\"RepoBinding\"} 3.0"), "{text}");
        assert!(text.contains("forgebind_reconciliation_wait_seconds_count{kind=\"RepoBinding\"} 1"), "{text}");
        waiting.enqueued(&object("c"));
        drop(waiting);
        assert_eq!(shown(), 0);
    }
}
