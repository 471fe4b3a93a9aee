//! What is counted of calls. Labels are bounded: never a host, a path or a connection.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::call::Operation;
use crate::api::v1alpha1::ProviderKind;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    provider: &'static str,
    operation: &'static str,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    provider: &'static str,
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabels {
    provider: &'static str,
}

#[derive(Clone)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
    }
}

/// The transport's metrics. Clones share them.
#[derive(Clone)]
pub(super) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, Buckets>,
    remaining: Family<ProviderLabels, Gauge<i64>>,
    limited: Family<ProviderLabels, Counter<u64, AtomicU64>>,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(Buckets),
            remaining: Family::default(),
            limited: Family::default(),
        };
        registry.register(
            "forgebind_provider_requests",
            "Requests sent to providers, by HTTP status or, without an answer, by what went wrong",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "forgebind_provider_request_duration",
            "Time until a provider's answer was complete",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "forgebind_provider_rate_limit_remaining",
            "Calls that a provider last told to be left",
            metrics.remaining.clone(),
        );
        registry.register(
            "forgebind_provider_rate_limited",
            "Calls that were not sent because a rate limit is used up",
            metrics.limited.clone(),
        );
        metrics
    }

    pub(super) fn sent(&self, provider: ProviderKind, operation: Operation, code: String, took: Duration) {
        let (provider, operation) = (provider.flag(), operation.label());
        self.requests.get_or_create(&RequestLabels { provider, operation, code }).inc();
        self.durations.get_or_create(&DurationLabels { provider, operation }).observe(took.as_secs_f64());
    }

    pub(super) fn remaining(&self, provider: ProviderKind, remaining: u64) {
        let remaining = i64::try_from(remaining).unwrap_or(i64::MAX);
        self.remaining.get_or_create(&ProviderLabels { provider: provider.flag() }).set(remaining);
    }

    pub(super) fn limited(&self, provider: ProviderKind) {
        self.limited.get_or_create(&ProviderLabels { provider: provider.flag() }).inc();
    }
}
