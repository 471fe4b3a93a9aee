//! Limits pending deliveries for each binding and in total, because they are kept in memory.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::receiver::metrics::Metrics;

/// The limits of pending deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingLimits {
    /// Maximum deliveries of one binding; default 1,000.
    pub per_binding: usize,
    /// Maximum deliveries of all bindings; default 10,000.
    pub deliveries: usize,
    /// Maximum bytes of their bodies; default 64 MiB.
    pub bytes: usize,
}

impl Default for PendingLimits {
    fn default() -> Self {
        Self { per_binding: 1_000, deliveries: 10_000, bytes: 64 * 1024 * 1024 }
    }
}

/// The present use of the limits. Cheap to clone; all clones share it.
#[derive(Clone)]
pub(super) struct PendingBudget {
    limits: PendingLimits,
    used: Arc<Mutex<Used>>,
    metrics: Metrics,
}

#[derive(Default)]
struct Used {
    deliveries: usize,
    bytes: usize,
    bindings: HashMap<String, usize>,
}

/// Permission to keep one delivery. Dropping it frees its share of the limits.
pub(super) struct PendingPermit {
    budget: PendingBudget,
    uid: String,
    bytes: usize,
}

impl PendingBudget {
    pub(super) fn new(limits: PendingLimits, metrics: Metrics) -> Self {
        Self { limits, used: Arc::default(), metrics }
    }

    /// Takes a permit for one delivery; `None` when a limit is reached.
    pub(super) fn acquire(&self, uid: &str, bytes: usize) -> Option<PendingPermit> {
        let mut used = self.used.lock();
        let of_binding = used.bindings.get(uid).copied().unwrap_or_default();
        let fits = of_binding < self.limits.per_binding
            && used.deliveries < self.limits.deliveries
            && used.bytes.saturating_add(bytes) <= self.limits.bytes;
        if !fits {
            return None;
        }
        used.deliveries += 1;
        used.bytes += bytes;
        used.bindings.insert(uid.to_owned(), of_binding + 1);
        self.metrics.pending(used.deliveries, used.bytes);
        Some(PendingPermit { budget: self.clone(), uid: uid.to_owned(), bytes })
    }
}

impl Drop for PendingPermit {
    fn drop(&mut self) {
        let mut used = self.budget.used.lock();
        used.deliveries = used.deliveries.saturating_sub(1);
        used.bytes = used.bytes.saturating_sub(self.bytes);
        if let Some(count) = used.bindings.get_mut(&self.uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                used.bindings.remove(&self.uid);
            }
        }
        self.budget.metrics.pending(used.deliveries, used.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_limits_each_binding_all_deliveries_and_their_bytes_and_is_released() {
        let limits = PendingLimits { per_binding: 2, deliveries: 3, bytes: 100 };
        let budget = PendingBudget::new(limits, Metrics::new(&mut prometheus_client::registry::Registry::default()));
        let first = budget.acquire("a", 10).unwrap();
        let _second = budget.acquire("a", 10).unwrap();
        assert!(budget.acquire("a", 10).is_none(), "the limit of the binding is reached");
        assert!(budget.acquire("b", 81).is_none(), "too many bytes");
        let _third = budget.acquire("b", 80).unwrap();
        assert!(budget.acquire("c", 0).is_none(), "too many deliveries");
        drop(first);
        assert!(budget.acquire("a", 10).is_some());
    }
}
