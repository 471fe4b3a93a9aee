//! Tracks our own writes that the caches have not seen yet.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use kube::{Resource, ResourceExt as _};
use parking_lot::Mutex;

/// How long to wait before checking again whether the cache has seen our last write. The watch usually delivers it earlier.
pub const STALE_CACHE_RETRY: Duration = Duration::from_secs(1);

/// The version of our last write of each object, by UID. Nothing is decided from a cache that has not seen it yet.
#[derive(Debug, Default)]
pub struct WriteTracker(Mutex<HashMap<String, u64>>);

impl WriteTracker {
    /// Records the version of an object that we wrote.
    pub fn note(&self, object: &impl Resource) {
        if let (Some(uid), Some(version)) = (object.uid(), version(object)) {
            let mut written = self.0.lock();
            let known = written.entry(uid).or_insert(version);
            // Two parts of the status have writers of their own, and the later write may be noted first.
            *known = version.max(*known);
        }
    }

    /// Whether a cached object is at least as new as our last write. Versions of one kind are comparable numbers (stable since
    /// Kubernetes 1.35, and so in every server before it).
    #[must_use]
    pub fn is_observed(&self, object: &impl Resource) -> bool {
        let (Some(uid), Some(version)) = (object.uid(), version(object)) else { return true };
        self.0.lock().get(&uid).is_none_or(|written| *written <= version)
    }

    /// Forgets every object that is not in `present`.
    pub fn keep(&self, present: &HashSet<String>) {
        self.0.lock().retain(|uid, _| present.contains(uid));
    }

    /// Forgets an object that no longer exists.
    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

fn version(object: &impl Resource) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::v1alpha1::RepoBinding;

    #[test]
    fn an_earlier_write_that_is_noted_late_does_not_hide_a_later_one() {
        let binding = |version: &str| -> RepoBinding {
            serde_json::from_value(json!({
                "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
                "metadata": {"name": "shop", "namespace": "team", "uid": "uid", "resourceVersion": version},
                "spec": {"connectionRef": {"name": "acme"}, "repository": "acme/shop"},
            }))
            .unwrap()
        };
        let writes = WriteTracker::default();
        writes.note(&binding("12"));
        writes.note(&binding("11"));
        assert!(!writes.is_observed(&binding("11")) && writes.is_observed(&binding("12")));
    }
}
