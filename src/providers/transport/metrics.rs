//! Metrics of calls. Labels are bounded: never a host, a path or a connection.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::call::Operation;
use super::rate_limiter::RateLimitStatus;
use crate::api::v1alpha1::ProviderKind;
use crate::providers::ErrorKind;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    provider: &'static str,
    operation: &'static str,
    code: &'static str,
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

/// The label for a call without a response: what went wrong.
pub(super) const fn failure_label(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unreachable => "unreachable",
        ErrorKind::Tls => "tls",
        ErrorKind::Proxy => "proxy",
        ErrorKind::HostNotAllowed => "host_not_allowed",
        ErrorKind::InsecureUrl => "insecure_url",
        ErrorKind::Transient => "broken",
        ErrorKind::ResponseInvalid => "response_invalid",
        _ => "other",
    }
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
    resting: Family<ProviderLabels, Gauge<i64>>,
    limited: Family<ProviderLabels, Counter<u64, AtomicU64>>,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(Buckets),
            remaining: Family::default(),
            resting: Family::default(),
            limited: Family::default(),
        };
        registry.register(
            "forgebind_provider_requests",
            "Requests to providers, by HTTP status or, without a response, by kind of failure",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "forgebind_provider_request_duration",
            "Time until the response of a provider was complete",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "forgebind_provider_rate_limit_remaining",
            "Remaining calls of the account with the fewest left, as last reported by the provider",
            metrics.remaining.clone(),
        );
        registry.register(
            "forgebind_provider_accounts_resting",
            "Accounts that send no calls because their rate limit is exhausted",
            metrics.resting.clone(),
        );
        registry.register(
            "forgebind_provider_rate_limited",
            "Calls that were not sent because a rate limit is exhausted",
            metrics.limited.clone(),
        );
        for kind in ProviderKind::ALL {
            // Starts at 0, so that the first count is an increase.
            drop(metrics.limited.get_or_create(&ProviderLabels { provider: kind.flag() }));
        }
        metrics
    }

    pub(super) fn sent(&self, provider: ProviderKind, operation: Operation, code: &'static str, took: Duration) {
        let (provider, operation) = (provider.flag(), operation.label());
        self.requests.get_or_create(&RequestLabels { provider, operation, code }).inc();
        self.durations.get_or_create(&DurationLabels { provider, operation }).observe(took.as_secs_f64());
    }

    /// Updates the gauges from the state of all accounts.
    pub(super) fn accounts(&self, accounts: impl Iterator<Item = (ProviderKind, RateLimitStatus)>) {
        let (mut fewest, mut resting) = (BTreeMap::new(), BTreeMap::new());
        for (provider, status) in accounts {
            let provider = provider.flag();
            *resting.entry(provider).or_insert(0) += i64::from(status.rests);
            if let Some(remaining) = status.remaining {
                let remaining = i64::try_from(remaining).unwrap_or(i64::MAX);
                fewest.entry(provider).and_modify(|fewest| *fewest = remaining.min(*fewest)).or_insert(remaining);
            }
        }
        for (family, figures) in [(&self.remaining, fewest), (&self.resting, resting)] {
            family.clear();
            for (provider, figure) in figures {
                family.get_or_create(&ProviderLabels { provider }).set(figure);
            }
        }
    }

    pub(super) fn limited(&self, provider: ProviderKind) {
        self.limited.get_or_create(&ProviderLabels { provider: provider.flag() }).inc();
    }
}
