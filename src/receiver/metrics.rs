//! Metrics of the receiver. Labels come from closed sets: never a path, a repository or a name.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::outbox::{DeadLetterCause, OutboxState};
use super::refusal::Refusal;
use crate::api::v1alpha1::ProviderKind;
use crate::network::Purpose;

const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    provider: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeadLetterLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    kind: &'static str,
    result: &'static str,
}

/// The receiver's metrics. Cheap to clone; all clones share the values.
#[derive(Clone, Debug)]
pub(super) struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    requests: Family<RequestLabels, Counter>,
    duration: Histogram,
    refusals: Family<RefusalLabels, Counter>,
    deliveries: Family<DeliveryLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    attempt_duration: Histogram,
    dead_letters: Family<DeadLetterLabels, Counter>,
    discarded: Counter,
    dropped: Counter,
    lost: Counter,
    taken_over: Counter,
    pending_deliveries: Gauge<i64, AtomicI64>,
    pending_bytes: Gauge<i64, AtomicI64>,
    outbox_limit: Gauge<i64, AtomicI64>,
    outbox_healthy: Gauge<i64, AtomicI64>,
    connections: Gauge<i64, AtomicI64>,
    bytes_in_flight: Gauge<i64, AtomicI64>,
    routes: Gauge<i64, AtomicI64>,
    fresh: Gauge<i64, AtomicI64>,
    failing_sinks: Gauge<i64, AtomicI64>,
}

/// Label for the kind of a sink.
pub(super) const fn sink_kind(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::ServiceSink => "service",
        Purpose::HttpSink | Purpose::Provider | Purpose::PublicEndpoint => "http",
    }
}

fn count(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Metrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let families = Families {
            requests: Family::default(),
            duration: Histogram::new(BUCKETS),
            refusals: Family::default(),
            deliveries: Family::default(),
            attempts: Family::default(),
            attempt_duration: Histogram::new(BUCKETS),
            dead_letters: Family::default(),
            discarded: Counter::default(),
            dropped: Counter::default(),
            lost: Counter::default(),
            taken_over: Counter::default(),
            pending_deliveries: Gauge::default(),
            pending_bytes: Gauge::default(),
            outbox_limit: Gauge::default(),
            outbox_healthy: Gauge::default(),
            connections: Gauge::default(),
            bytes_in_flight: Gauge::default(),
            routes: Gauge::default(),
            fresh: Gauge::default(),
            failing_sinks: Gauge::default(),
        };
        for refusal in Refusal::ALL {
            // Start at 0, so that the first refusal shows as an increase.
            drop(families.refusals.get_or_create(&RefusalLabels { reason: refusal.label() }));
        }
        for reason in [DeadLetterCause::TooOld, DeadLetterCause::Superseded] {
            drop(families.dead_letters.get_or_create(&DeadLetterLabels { reason: reason.label() }));
        }
        let registry = registry.sub_registry_with_prefix("forgebind_receiver");
        registry.register("requests", "HTTP requests by status code of the response", families.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from the request header to the response",
            Unit::Seconds,
            families.duration.clone(),
        );
        registry.register("refusals", "Refused requests, by reason", families.refusals.clone());
        registry.register("deliveries", "Verified deliveries, by provider and outcome", families.deliveries.clone());
        registry.register("sink_attempts", "Attempts to send events to sinks, by kind and result", families.attempts.clone());
        registry.register_with_unit("sink_attempt_duration", "Duration of an attempt", Unit::Seconds, families.attempt_duration.clone());
        registry.register("dead_letters", "Events that became dead letters, by reason", families.dead_letters.clone());
        registry.register(
            "discarded_events",
            "Events that were discarded because their binding or sink is gone, or the binding lost its grant",
            families.discarded.clone(),
        );
        registry.register("dropped_events", "Events that were dropped to make room in the outbox", families.dropped.clone());
        registry.register("lost_deliveries", "Deliveries that were acknowledged and lost", families.lost.clone());
        registry.register(
            "taken_over_deliveries",
            "Pending deliveries that were taken over from a receiver that stopped",
            families.taken_over.clone(),
        );
        registry.register("pending_deliveries", "Deliveries with pending events", families.pending_deliveries.clone());
        registry.register_with_unit("pending", "Size of the deliveries in the outbox", Unit::Bytes, families.pending_bytes.clone());
        registry.register_with_unit("outbox_limit", "Limit of the outbox", Unit::Bytes, families.outbox_limit.clone());
        registry.register("outbox_healthy", "1 while deliveries can be stored in the outbox", families.outbox_healthy.clone());
        registry.register("connections", "Open connections", families.connections.clone());
        registry.register_with_unit(
            "in_flight",
            "Size of the bodies that are being received",
            Unit::Bytes,
            families.bytes_in_flight.clone(),
        );
        registry.register("routes", "Bindings for which this receiver accepts deliveries", families.routes.clone());
        registry.register("fresh", "1 while the watches of this receiver are up to date", families.fresh.clone());
        registry.register("failing_sinks", "Sinks whose last attempt failed", families.failing_sinks.clone());
        Self(Arc::new(families))
    }

    pub(super) fn request(&self, status: StatusCode, duration: Duration) {
        self.0.requests.get_or_create(&RequestLabels { code: status.as_u16() }).inc();
        self.0.duration.observe(duration.as_secs_f64());
    }

    pub(super) fn refusal(&self, reason: &'static str) {
        self.0.refusals.get_or_create(&RefusalLabels { reason }).inc();
    }

    pub(super) fn delivery(&self, provider: ProviderKind, outcome: &'static str) {
        self.0.deliveries.get_or_create(&DeliveryLabels { provider: provider.flag(), outcome }).inc();
    }

    pub(super) fn attempt(&self, purpose: Purpose, result: &'static str, duration: Duration) {
        self.0.attempts.get_or_create(&AttemptLabels { kind: sink_kind(purpose), result }).inc();
        self.0.attempt_duration.observe(duration.as_secs_f64());
    }

    pub(super) fn dead_letter(&self, reason: DeadLetterCause) {
        self.0.dead_letters.get_or_create(&DeadLetterLabels { reason: reason.label() }).inc();
    }

    pub(super) fn discarded(&self, events: usize) {
        self.0.discarded.inc_by(count(events));
    }

    pub(super) fn dropped(&self, events: usize) {
        self.0.dropped.inc_by(count(events));
    }

    pub(super) fn lost(&self, deliveries: usize) {
        self.0.lost.inc_by(count(deliveries));
    }

    pub(super) fn taken_over(&self, deliveries: usize) {
        self.0.taken_over.inc_by(count(deliveries));
    }

    pub(super) fn outbox(&self, state: &OutboxState) {
        let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.0.pending_deliveries.set(bytes(state.held.records));
        self.0.pending_bytes.set(bytes(state.held.bytes));
        self.0.outbox_limit.set(bytes(state.limit));
        self.0.outbox_healthy.set(i64::from(state.healthy));
    }

    pub(super) fn connections(&self, change: i64) {
        self.0.connections.inc_by(change);
    }

    pub(super) fn state(&self, routes: usize, fresh: bool, failing_sinks: usize) {
        self.0.routes.set(gauge(routes));
        self.0.fresh.set(i64::from(fresh));
        self.0.failing_sinks.set(gauge(failing_sinks));
    }

    pub(super) fn bytes_in_flight(&self, bytes: usize) {
        self.0.bytes_in_flight.set(gauge(bytes));
    }
}
