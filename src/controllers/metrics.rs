//! What the controllers count. Labels are bounded: kinds, reasons and actions, never a name.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The kind that a figure is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// `GitProviderConnection` or `RepoBinding`.
    pub kind: &'static str,
}

/// The kind and how its reconciliation ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `GitProviderConnection` or `RepoBinding`.
    pub kind: &'static str,
    /// `success` or `error`.
    pub result: &'static str,
}

/// What was done to a hook.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HookChange {
    /// `create`, `update` or `delete`.
    pub action: &'static str,
}

/// The controllers' metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Reconciliations by how they ended.
    pub reconciliations: Family<Outcome, Counter>,
    /// Seconds that a reconciliation took.
    pub seconds: Family<Kind, Histogram, fn() -> Histogram>,
    /// Status writes.
    pub status_writes: Family<Kind, Counter>,
    /// Hooks created, updated and deleted at providers.
    pub hook_changes: Family<HookChange, Counter>,
    /// Entries written for hooks that could not be removed.
    pub leftovers_recorded: Counter,
    /// Objects that do not parse.
    pub invalid_objects: Family<Kind, Counter>,
    /// 1 while this process leads.
    pub leading: Gauge,
}

impl Metrics {
    /// Registers everything.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciliations: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 2.0, 14))),
            status_writes: Family::default(),
            hook_changes: Family::default(),
            leftovers_recorded: Counter::default(),
            invalid_objects: Family::default(),
            leading: Gauge::default(),
        };
        registry.register("forgebind_reconciliations", "Reconciliations by how they ended", metrics.reconciliations.clone());
        registry.register("forgebind_reconciliation_seconds", "Seconds that a reconciliation took", metrics.seconds.clone());
        registry.register("forgebind_status_writes", "Status writes to the API server", metrics.status_writes.clone());
        registry.register("forgebind_hook_changes", "Hooks created, updated and deleted at providers", metrics.hook_changes.clone());
        registry.register(
            "forgebind_leftovers_recorded",
            "Entries written for hooks that could not be removed",
            metrics.leftovers_recorded.clone(),
        );
        registry.register("forgebind_invalid_objects", "Objects met that do not fit the schema", metrics.invalid_objects.clone());
        registry.register("forgebind_leading", "1 while this process leads", metrics.leading.clone());
        metrics
    }
}
