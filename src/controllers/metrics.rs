//! What the controllers count. Labels are bounded: kinds, reasons and actions, never a name.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The kinds that are reconciled.
pub const KINDS: [&str; 2] = ["GitProviderConnection", "RepoBinding"];

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
    /// [`Cause::label`](super::binding::cause::Cause::label).
    pub cause: &'static str,
}

/// How a hook that was left behind came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Resolution {
    /// `removed` or `expired`.
    pub result: &'static str,
}

/// One condition of many objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct ConditionLabels {
    /// `GitProviderConnection` or `RepoBinding`.
    pub kind: &'static str,
    /// Of [`ConditionType::ALL`](crate::api::v1alpha1::ConditionType::ALL).
    pub condition: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// Of [`Reason::ALL`](crate::api::v1alpha1::Reason::ALL), or `other`.
    pub reason: &'static str,
}

/// How soon credentials end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct Horizon {
    /// What `--providers` takes.
    pub provider: &'static str,
    /// `0d`, `1d`, `7d` or `30d`.
    pub within: &'static str,
}

/// The provider that a figure is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfProvider {
    /// What `--providers` takes.
    pub provider: &'static str,
}

/// The key that a figure is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfKey {
    /// `install` or `receiver`.
    pub key: &'static str,
}

/// Receivers, by whether they tell the controller what they saw.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Receivers {
    /// `answering` or `silent`.
    pub state: &'static str,
}

/// The controllers' metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Reconciliations by how they ended.
    pub reconciliations: Family<Outcome, Counter>,
    /// Seconds that a reconciliation took.
    pub seconds: Family<Kind, Histogram, fn() -> Histogram>,
    /// Objects whose reconciliation was asked for and has not begun.
    pub waiting: Family<Kind, Gauge>,
    /// Reconciliations under way.
    pub running: Family<Kind, Gauge>,
    /// Seconds from being asked for to beginning.
    pub waited: Family<Kind, Histogram, fn() -> Histogram>,
    /// Status writes.
    pub status_writes: Family<Kind, Counter>,
    /// Objects that there are.
    pub objects: Family<Kind, Gauge>,
    /// Objects by their conditions.
    pub conditions: Family<ConditionLabels, Gauge>,
    /// Hooks that are kept at providers.
    pub hooks: Gauge,
    /// Hooks created, updated and deleted at providers.
    pub hook_changes: Family<HookChange, Counter>,
    /// Credentials that end within a time.
    pub credentials_ending: Family<Horizon, Gauge>,
    /// The first end of a credential.
    pub earliest_end: Family<OfProvider, Gauge>,
    /// Bindings whose hooks are left behind.
    pub leftovers: Gauge,
    /// Entries written for hooks that could not be removed.
    pub leftovers_recorded: Counter,
    /// Entries that came to their end.
    pub leftovers_resolved: Family<Resolution, Counter>,
    /// Objects that do not parse.
    pub invalid_objects: Family<Kind, Counter>,
    /// Receivers that were asked last.
    pub receivers: Family<Receivers, Gauge>,
    /// 1 while this process leads.
    pub leading: Gauge,
    /// 1 while a key of this process is in its Secret.
    pub keys_stored: Family<OfKey, Gauge>,
    /// Secrets with keys that were deleted and written back.
    pub keys_restored: Family<OfKey, Counter>,
}

impl Metrics {
    /// Registers everything. What is counted by kind begins with 0, so that the first event is an increase.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciliations: Family::default(),
            seconds: Family::new_with_constructor(buckets),
            waiting: Family::default(),
            running: Family::default(),
            waited: Family::new_with_constructor(buckets),
            status_writes: Family::default(),
            objects: Family::default(),
            conditions: Family::default(),
            hooks: Gauge::default(),
            hook_changes: Family::default(),
            credentials_ending: Family::default(),
            earliest_end: Family::default(),
            leftovers: Gauge::default(),
            leftovers_recorded: Counter::default(),
            leftovers_resolved: Family::default(),
            invalid_objects: Family::default(),
            receivers: Family::default(),
            leading: Gauge::default(),
            keys_stored: Family::default(),
            keys_restored: Family::default(),
        };
        metrics.register_reconciling(registry);
        metrics.register_objects(registry);
        metrics.register_hooks(registry);
        metrics.register_keys(registry);
        metrics.begin();
        metrics
    }

    fn register_reconciling(&self, registry: &mut Registry) {
        let metrics = self;
        registry.register("forgebind_leading", "1 while this process leads", metrics.leading.clone());
        registry.register("forgebind_reconciliations", "Reconciliations by how they ended", metrics.reconciliations.clone());
        registry.register("forgebind_reconciliation_seconds", "Seconds that a reconciliation took", metrics.seconds.clone());
        registry.register(
            "forgebind_reconciliations_waiting",
            "Objects whose reconciliation was asked for and has not begun",
            metrics.waiting.clone(),
        );
        registry.register("forgebind_reconciliations_running", "Reconciliations under way", metrics.running.clone());
        registry.register(
            "forgebind_reconciliation_wait_seconds",
            "Seconds from the first request for a reconciliation to its beginning",
            metrics.waited.clone(),
        );
        registry.register("forgebind_status_writes", "Status writes to the API server", metrics.status_writes.clone());
        registry.register("forgebind_invalid_objects", "Objects met that do not fit the schema", metrics.invalid_objects.clone());
        registry.register(
            "forgebind_receivers",
            "Receivers, by whether they told what they saw when asked last",
            metrics.receivers.clone(),
        );
    }

    fn register_objects(&self, registry: &mut Registry) {
        let metrics = self;
        registry.register("forgebind_objects", "Objects that there are", metrics.objects.clone());
        registry.register("forgebind_object_conditions", "Objects that have this condition", metrics.conditions.clone());
        registry.register(
            "forgebind_credentials_ending",
            "Connections whose credential ends within this time (0d: has ended)",
            metrics.credentials_ending.clone(),
        );
        registry.register_with_unit(
            "forgebind_credential_earliest_end_timestamp",
            "When the first credential ends, of those whose end is known",
            Unit::Seconds,
            metrics.earliest_end.clone(),
        );
    }

    fn register_hooks(&self, registry: &mut Registry) {
        let metrics = self;
        registry.register("forgebind_hooks", "Hooks that bindings have at providers", metrics.hooks.clone());
        registry.register("forgebind_hook_changes", "Hooks created, updated and deleted at providers", metrics.hook_changes.clone());
        registry.register("forgebind_leftovers", "Bindings whose hooks are left behind at a provider", metrics.leftovers.clone());
        registry.register(
            "forgebind_leftovers_recorded",
            "Entries written for hooks that could not be removed",
            metrics.leftovers_recorded.clone(),
        );
        registry.register(
            "forgebind_leftovers_resolved",
            "Entries that came to their end, by whether the hooks are gone",
            metrics.leftovers_resolved.clone(),
        );
    }

    fn register_keys(&self, registry: &mut Registry) {
        let metrics = self;
        registry.register(
            "forgebind_keys_stored",
            "1 while the Secret of this key holds the key that is worked with",
            metrics.keys_stored.clone(),
        );
        registry.register("forgebind_keys_restored", "Secrets of keys that were deleted and written back", metrics.keys_restored.clone());
    }

    fn begin(&self) {
        for kind in KINDS {
            drop(self.invalid_objects.get_or_create(&Kind { kind }));
            drop(self.waiting.get_or_create(&Kind { kind }));
            drop(self.running.get_or_create(&Kind { kind }));
            for result in ["success", "error"] {
                drop(self.reconciliations.get_or_create(&Outcome { kind, result }));
            }
        }
        for action in ["create", "update", "delete"] {
            for cause in super::binding::cause::Cause::ALL {
                drop(self.hook_changes.get_or_create(&HookChange { action, cause: cause.label() }));
            }
        }
        for key in ["install", "receiver"] {
            drop(self.keys_restored.get_or_create(&OfKey { key }));
        }
        for result in ["removed", "expired"] {
            drop(self.leftovers_resolved.get_or_create(&Resolution { result }));
        }
    }
}

fn buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 14))
}

/// One reconciliation under way, counted until it is dropped, however it ends.
#[derive(Debug)]
pub struct Running(Gauge);

impl Running {
    /// Counts it.
    #[must_use]
    pub fn begin(metrics: &Metrics, kind: &'static str) -> Self {
        let gauge = metrics.running.get_or_create_owned(&Kind { kind });
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}
