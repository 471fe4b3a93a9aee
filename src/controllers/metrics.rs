//! Metrics of the controllers. Labels are bounded: kinds, reasons and actions, never names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The reconciled kinds.
pub const KINDS: [&str; 3] = ["GitProviderConnection", "ConnectionGrant", "RepoBinding"];

/// Label: the kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// `GitProviderConnection`, `ConnectionGrant` or `RepoBinding`.
    pub kind: &'static str,
}

/// Labels: the kind and the result of a reconciliation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `GitProviderConnection`, `ConnectionGrant` or `RepoBinding`.
    pub kind: &'static str,
    /// `success` or `error`.
    pub result: &'static str,
}

/// Labels: a change of a hook and its cause.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HookChange {
    /// `create`, `update` or `delete`.
    pub action: &'static str,
    /// From [`Cause::label`](super::binding::cause::Cause::label).
    pub cause: &'static str,
}

/// Label: how an entry for leftover hooks ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Resolution {
    /// `removed` or `expired`.
    pub result: &'static str,
}

/// Labels: a condition and its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct ConditionLabels {
    /// `GitProviderConnection`, `ConnectionGrant` or `RepoBinding`.
    pub kind: &'static str,
    /// One of [`ConditionType::ALL`](crate::api::v1alpha1::ConditionType::ALL), or `other`.
    pub condition: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// One of [`Reason::ALL`](crate::api::v1alpha1::Reason::ALL), or `other`.
    pub reason: &'static str,
}

/// Labels: the provider and the time in which a credential expires.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct Horizon {
    /// The name of the provider as in `--providers`.
    pub provider: &'static str,
    /// `0d`, `1d`, `7d` or `30d`.
    pub within: &'static str,
}

/// Label: the provider.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfProvider {
    /// The name of the provider as in `--providers`.
    pub provider: &'static str,
}

/// Label: the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfKey {
    /// `install` or `receiver`.
    pub key: &'static str,
}

/// Label: whether receivers answered the controller's last poll.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Receivers {
    /// `answering` or `silent`.
    pub state: &'static str,
}

/// Label: a public URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfEndpoint {
    /// The name of the URL in `--public-url`, or `default`.
    pub endpoint: String,
}

/// The controllers' metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Reconciliations by result.
    pub reconciliations: Family<Outcome, Counter>,
    /// Duration of reconciliations in seconds.
    pub seconds: Family<Kind, Histogram, fn() -> Histogram>,
    /// Objects whose reconciliation was requested and has not started.
    pub waiting: Family<Kind, Gauge>,
    /// Running reconciliations.
    pub running: Family<Kind, Gauge>,
    /// Seconds from the first request for a reconciliation to its start.
    pub waited: Family<Kind, Histogram, fn() -> Histogram>,
    /// Status writes.
    pub status_writes: Family<Kind, Counter>,
    /// Existing objects.
    pub objects: Family<Kind, Gauge>,
    /// Objects by their conditions.
    pub conditions: Family<ConditionLabels, Gauge>,
    /// Hooks that bindings have at providers.
    pub hooks: Gauge,
    /// Hooks created, updated and deleted at providers.
    pub hook_changes: Family<HookChange, Counter>,
    /// Connections whose credential expires within a time.
    pub credentials_ending: Family<Horizon, Gauge>,
    /// Earliest expiry of a credential, in seconds since the Unix epoch.
    pub earliest_end: Family<OfProvider, Gauge>,
    /// Bindings with leftover hooks.
    pub leftovers: Gauge,
    /// Entries recorded for hooks that could not be deleted.
    pub leftovers_recorded: Counter,
    /// Entries for leftover hooks that ended.
    pub leftovers_resolved: Family<Resolution, Counter>,
    /// Objects that do not parse.
    pub invalid_objects: Family<Kind, Counter>,
    /// Receivers by whether they answered the last poll.
    pub receivers: Family<Receivers, Gauge>,
    /// 1 while a public URL answers, 0 while it does not.
    pub public_endpoints: Family<OfEndpoint, Gauge>,
    /// 1 while this process is the leader.
    pub leading: Gauge,
    /// 1 while the Secret of the key holds the key that this process uses.
    pub keys_stored: Family<OfKey, Gauge>,
    /// Deleted Secrets of keys that were written back.
    pub keys_restored: Family<OfKey, Counter>,
}

impl Metrics {
    /// Registers all metrics. Series with fixed label values start at 0, so that the first event shows as an increase.
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
            public_endpoints: Family::default(),
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
        registry.register("forgebind_leading", "1 while this process is the leader", metrics.leading.clone());
        registry.register("forgebind_reconciliations", "Reconciliations, by result", metrics.reconciliations.clone());
        registry.register("forgebind_reconciliation_seconds", "Duration of a reconciliation in seconds", metrics.seconds.clone());
        registry.register(
            "forgebind_reconciliations_waiting",
            "Objects whose reconciliation was requested and has not started",
            metrics.waiting.clone(),
        );
        registry.register("forgebind_reconciliations_running", "Reconciliations in progress", metrics.running.clone());
        registry.register(
            "forgebind_reconciliation_wait_seconds",
            "Seconds from the first request for a reconciliation to its start",
            metrics.waited.clone(),
        );
        registry.register("forgebind_status_writes", "Status writes to the API server", metrics.status_writes.clone());
        registry.register("forgebind_invalid_objects", "Stored objects that do not match the schema", metrics.invalid_objects.clone());
        registry.register(
            "forgebind_receivers",
            "Receivers, by whether the last collection of evidence succeeded",
            metrics.receivers.clone(),
        );
        registry.register(
            "forgebind_public_endpoint_answers",
            "1 while this public URL answers, as seen by the leader from inside the cluster, and 0 while it does not",
            metrics.public_endpoints.clone(),
        );
    }

    fn register_objects(&self, registry: &mut Registry) {
        let metrics = self;
        registry.register("forgebind_objects", "Number of objects", metrics.objects.clone());
        registry.register("forgebind_object_conditions", "Objects with this condition", metrics.conditions.clone());
        registry.register(
            "forgebind_credentials_ending",
            "Connections whose credential expires within this time (0d: has expired)",
            metrics.credentials_ending.clone(),
        );
        registry.register_with_unit(
            "forgebind_credential_earliest_end_timestamp",
            "Expiry of the credential that expires first, among those with a known expiry",
            Unit::Seconds,
            metrics.earliest_end.clone(),
        );
    }

    fn register_hooks(&self, registry: &mut Registry) {
        let metrics = self;
        registry.register("forgebind_hooks", "Hooks that bindings have at providers", metrics.hooks.clone());
        registry.register("forgebind_hook_changes", "Hooks created, updated and deleted at providers", metrics.hook_changes.clone());
        registry.register("forgebind_leftovers", "Bindings with leftover hooks at a provider", metrics.leftovers.clone());
        registry.register("forgebind_leftovers_recorded", "Entries recorded for leftover hooks", metrics.leftovers_recorded.clone());
        registry.register(
            "forgebind_leftovers_resolved",
            "Resolved entries, by whether the hooks were removed",
            metrics.leftovers_resolved.clone(),
        );
    }

    fn register_keys(&self, registry: &mut Registry) {
        let metrics = self;
        registry.register("forgebind_keys_stored", "1 while the Secret of this key contains the key in use", metrics.keys_stored.clone());
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

/// Counts one running reconciliation until it is dropped, however it ends.
#[derive(Debug)]
pub struct Running(Gauge);

impl Running {
    /// Increments the gauge.
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
