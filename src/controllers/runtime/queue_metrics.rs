//! Who was asked for and has not begun: tells a queue that grows from one that does not move.

use std::collections::HashMap;
use std::sync::Mutex;

use kube::runtime::reflector::{Lookup, ObjectRef};
use tokio::time::Instant;

use crate::controllers::locked;
use crate::controllers::metrics::{Kind, Metrics};

/// Namespace and name.
type Key = (Option<String>, String);

/// The objects of one kind, from the first request for them to the beginning of their reconciliation. What a
/// reconciliation asks of itself for later is not waiting.
pub struct QueueMetrics {
    kind: &'static str,
    metrics: Metrics,
    since: Mutex<HashMap<Key, Instant>>,
}

impl QueueMetrics {
    /// Nobody yet.
    #[must_use]
    pub fn new(kind: &'static str, metrics: Metrics) -> Self {
        Self { kind, metrics, since: Mutex::default() }
    }

    /// Somebody asks for an object. The first request counts.
    pub fn enqueued<K: Lookup>(&self, object: &ObjectRef<K>) {
        let mut since = locked(&self.since);
        since.entry(key(object)).or_insert_with(Instant::now);
        self.show(since.len());
    }

    /// Its reconciliation begins.
    pub fn started<K: Lookup>(&self, object: &ObjectRef<K>) {
        if let Some(since) = self.remove(object) {
            self.metrics.waited.get_or_create(&Kind { kind: self.kind }).observe(since.elapsed().as_secs_f64());
        }
    }

    /// It is gone, and nothing begins.
    pub fn dropped<K: Lookup>(&self, object: &ObjectRef<K>) {
        self.remove(object);
    }

    fn remove<K: Lookup>(&self, object: &ObjectRef<K>) -> Option<Instant> {
        let mut since = locked(&self.since);
        let removed = since.remove(&key(object));
        self.show(since.len());
        removed
    }

    fn show(&self, count: usize) {
        self.metrics.waiting.get_or_create(&Kind { kind: self.kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// Who no longer leads keeps nobody waiting.
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
