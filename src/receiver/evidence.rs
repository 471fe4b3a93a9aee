//! Records evidence of deliveries for the controller.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::recent::RecentDeliveries;
use super::routes::Routes;
use crate::api::v1alpha1::EventKind;
use crate::api::v1alpha1::deliveries::DeliveryOutcome;
use crate::protocol::deliveries::{RecentQuery, RecentReport, TurnedAway};
use crate::protocol::evidence::{BindingEvidence, Delivery, Dropped, Evidence, Refusals, SECRET_VERSIONS, SinkEvidence, SinkState};

/// How long a delivery that was neither accepted nor pending holds back `accepted_until`.
const HELD_BACK: SignedDuration = SignedDuration::from_hours(24);
/// How many records beyond the number of existing bindings are kept before obsolete ones are removed.
const SPARE_RECORDS: usize = 64;
/// Maximum number of such deliveries of one binding; the earliest ones are kept.
const OUTSTANDING: usize = 20_000;

/// The records of one receiver. Cheap to clone; all clones share the records.
#[derive(Clone, Debug)]
pub struct EvidenceStore {
    routes: Routes,
    records: Arc<Mutex<HashMap<String, Record>>>,
    recent: RecentDeliveries,
}

#[derive(Debug, Default)]
struct Record {
    seen: BindingEvidence,
    sinks: BTreeMap<String, SinkRecord>,
    /// Deliveries that some sink has not accepted, with their time of arrival.
    outstanding: HashMap<u64, Timestamp>,
    accepted: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct SinkRecord {
    last_error: Option<String>,
    failing_since: Option<Timestamp>,
    down_since: Option<Timestamp>,
    state: SinkState,
    pending: i64,
    dead_letters: i64,
}

/// An authentic delivery to record.
pub(super) struct Arrival<'a> {
    pub(super) at: Timestamp,
    pub(super) secret_version: &'a str,
    pub(super) id: &'a str,
    pub(super) events: &'a [EventKind],
}

impl EvidenceStore {
    pub(super) fn new(routes: Routes) -> Self {
        Self { routes, records: Arc::default(), recent: RecentDeliveries::new() }
    }

    /// The last deliveries.
    pub(super) const fn recent(&self) -> &RecentDeliveries {
        &self.recent
    }

    /// The evidence about the bindings that still exist, with the lists of deliveries that changed.
    #[must_use]
    pub fn report(&self, query: &RecentQuery) -> Evidence {
        let now = self.routes.clock().now();
        let unsure = self.routes.may_be_incomplete(now);
        self.recent.keep(now, |uid| unsure || self.routes.knows(uid));
        Evidence { recent: self.recent.report(query), ..self.snapshot() }
    }

    /// The evidence about the bindings that still exist.
    #[must_use]
    pub fn snapshot(&self) -> Evidence {
        let now = self.routes.clock().now();
        let unserved = self.routes.unserved_services();
        let mut records = self.records.lock();
        self.forget_gone(&mut records);
        // From now on the binding is in every report, so that the controller learns when the Service may be sent to again.
        for (uid, _, _) in &unserved {
            records.entry(uid.clone()).or_default();
        }
        let uids: Vec<String> = records.keys().cloned().collect();
        drop(records);
        // One lock for each: every delivery waits for it.
        let evidence = |uid: String| {
            let evidence = self.records.lock().get_mut(&uid)?.evidence(now);
            Some((uid, evidence))
        };
        let mut bindings: BTreeMap<_, _> = uids.into_iter().filter(|uid| self.routes.knows(uid)).filter_map(evidence).collect();
        for (uid, name, refusal) in unserved {
            let Some(binding) = bindings.get_mut(&uid) else { continue };
            let sink = binding.sinks.entry(name).or_default();
            sink.state = SinkState::Down;
            sink.last_error = Some(refusal.message.clone());
            sink.not_served = Some(refusal);
        }
        Evidence { bindings, recent: RecentReport::default() }
    }

    pub(super) fn arrived(&self, uid: &str, arrival: &Arrival<'_>) {
        self.with(uid, |record| {
            let seen = &mut record.seen;
            seen.secret_versions.insert(arrival.secret_version.to_owned(), arrival.at);
            while seen.secret_versions.len() > SECRET_VERSIONS {
                let Some(oldest) = seen.secret_versions.iter().min_by_key(|(_, at)| **at).map(|(secret_version, _)| secret_version.clone())
                else {
                    break;
                };
                seen.secret_versions.remove(&oldest);
            }
            for event in arrival.events {
                seen.events.insert(*event, arrival.at);
            }
            let event = arrival.events.first().copied();
            seen.last_delivery = Some(Delivery { at: arrival.at, event, id: arrival.id.to_owned() });
        });
    }

    pub(super) fn refused(&self, uid: &str, at: Timestamp, reason: &'static str) {
        self.with(uid, |record| {
            let count = record.seen.refusals.as_ref().map_or(0, |refusals| refusals.count).saturating_add(1);
            record.seen.refusals = Some(Refusals { count, last: at, reason: reason.to_owned() });
        });
    }

    /// Counts a delivery of which nothing is remembered. `reason` is one of a fixed set of texts.
    pub(super) fn turned_away(&self, uid: &str, at: Timestamp, outcome: DeliveryOutcome, reason: &'static str) {
        self.with(uid, |record| {
            let same = |known: &&mut TurnedAway| known.outcome == outcome && known.reason == reason;
            match record.seen.turned_away.iter_mut().find(same) {
                Some(known) => (known.count, known.last) = (known.count.saturating_add(1), at),
                None => record.seen.turned_away.push(TurnedAway { outcome, reason: reason.to_owned(), count: 1, last: at }),
            }
        });
    }

    /// Records that a delivery waits for its sinks. A repeated delivery keeps its first time of arrival.
    pub(super) fn waiting(&self, uid: &str, delivery: u64, at: Timestamp) {
        self.with(uid, |record| {
            if record.outstanding.len() < OUTSTANDING {
                record.outstanding.entry(delivery).or_insert(at);
            }
        });
    }

    /// Records that a delivery waits for no sink any more.
    pub(super) fn settled(&self, uid: &str, delivery: u64, at: Timestamp) {
        self.with(uid, |record| {
            record.outstanding.remove(&delivery);
            record.accepted = record.accepted.max(Some(at));
        });
    }

    /// Records a failure of a sink. Returns whether it is the first one since the sink last accepted an event.
    pub(super) fn sink_failed(&self, uid: &str, sink: &str, at: Timestamp, error: String) -> bool {
        self.with(uid, |record| {
            let sink = record.sinks.entry(sink.to_owned()).or_default();
            sink.last_error = Some(error);
            sink.failing_since.replace(sink.failing_since.unwrap_or(at)).is_none()
        })
    }

    /// Records a success of a sink. Returns whether the sink had failed before.
    pub(super) fn sink_accepted(&self, uid: &str, sink: &str) -> bool {
        self.with(uid, |record| {
            let sink = record.sinks.entry(sink.to_owned()).or_default();
            sink.last_error = None;
            sink.failing_since.take().is_some()
        })
    }

    /// Records whether a sink accepts events.
    pub(super) fn sink_state(&self, uid: &str, sink: &str, state: SinkState, at: Timestamp) {
        self.with(uid, |record| {
            let sink = record.sinks.entry(sink.to_owned()).or_default();
            sink.state = state;
            sink.down_since = (state == SinkState::Down).then(|| sink.down_since.unwrap_or(at));
        });
    }

    /// Records that a sink has more or fewer dead letters.
    pub(super) fn dead_letters(&self, uid: &str, sink: &str, change: i64) {
        self.with(uid, |record| {
            let sink = record.sinks.entry(sink.to_owned()).or_default();
            sink.dead_letters = sink.dead_letters.saturating_add(change);
        });
    }

    /// Records that pending events of a binding were dropped because the outbox needed their room.
    pub(super) fn dropped(&self, uid: &str, at: Timestamp, events: usize) {
        self.with(uid, |record| {
            let before = record.seen.dropped.as_ref().map_or(0, |dropped| dropped.count);
            let count = before.saturating_add(u64::try_from(events).unwrap_or(u64::MAX));
            record.seen.dropped = Some(Dropped { count, last: at });
        });
    }

    /// Records that a delivery was refused because the outbox could not store it.
    pub(super) fn outbox_unavailable(&self, uid: &str, at: Timestamp) {
        self.with(uid, |record| _ = record.seen.outbox_unavailable.get_or_insert(at));
    }

    /// Records that the outbox stores deliveries again.
    pub(super) fn outbox_available(&self) {
        for record in self.records.lock().values_mut() {
            record.seen.outbox_unavailable = None;
        }
    }

    /// Records a request to send dead letters again. Returns whether it is new.
    pub(super) fn begin_redelivery(&self, uid: &str, value: &str) -> bool {
        self.with(uid, |record| record.seen.redelivered.replace(value.to_owned()).as_deref() != Some(value))
    }

    /// Lets a request that is not acknowledged yet be carried out again.
    pub(super) fn forget_redelivery(&self, uid: &str) {
        self.with(uid, |record| record.seen.redelivered = None);
    }

    pub(super) fn sink_pending(&self, uid: &str, sink: &str, change: i64) {
        self.with(uid, |record| {
            let sink = record.sinks.entry(sink.to_owned()).or_default();
            sink.pending = sink.pending.saturating_add(change);
        });
    }

    /// Number of sinks whose last attempt failed.
    pub(super) fn failing_sinks(&self) -> usize {
        let records = self.records.lock();
        let known = records.iter().filter(|(uid, _)| self.routes.knows(uid));
        known.flat_map(|(_, record)| record.sinks.values()).filter(|sink| sink.failing_since.is_some()).count()
    }

    fn with<R>(&self, uid: &str, act: impl FnOnce(&mut Record) -> R) -> R {
        let mut records = self.records.lock();
        if let Some(record) = records.get_mut(uid) {
            return act(record);
        }
        // The evidence may not be read for a long time, so obsolete records are removed here too.
        if !self.routes.is_empty() && records.len() >= self.routes.len().saturating_mul(2).max(SPARE_RECORDS) {
            self.forget_gone(&mut records);
        }
        act(records.entry(uid.to_owned()).or_default())
    }

    /// Removes the records of bindings and sinks that no longer exist. Keeps a sink as long as events are pending for it.
    fn forget_gone(&self, records: &mut HashMap<String, Record>) {
        records.retain(|uid, record| {
            let sinks = self.routes.sinks(uid);
            // The outbox may hold events of bindings that the watches have not shown yet.
            let is_known = |name: &String| sinks.as_ref().is_some_and(|sinks| sinks.iter().any(|sink| sink.name == *name));
            record.sinks.retain(|name, sink| sink.pending > 0 || sink.dead_letters > 0 || is_known(name));
            sinks.is_some() || !record.sinks.is_empty()
        });
    }

    /// Number of records.
    #[cfg(test)]
    pub(super) fn records(&self) -> usize {
        self.records.lock().len()
    }
}

impl Record {
    fn evidence(&mut self, now: Timestamp) -> BindingEvidence {
        self.outstanding.retain(|_, at| now.duration_since(*at) < HELD_BACK);
        let held_back = self.outstanding.values().min().map(|at| at.saturating_sub(SignedDuration::from_millis(1)).unwrap_or(*at));
        let sinks = self.sinks.iter().map(|(name, sink)| {
            let evidence = SinkEvidence {
                last_error: sink.last_error.clone(),
                failing_since: sink.failing_since,
                state: sink.state,
                down_since: sink.down_since,
                pending: u64::try_from(sink.pending).unwrap_or_default(),
                dead_letters: u64::try_from(sink.dead_letters).unwrap_or_default(),
                not_served: None,
            };
            (name.clone(), evidence)
        });
        BindingEvidence { sinks: sinks.collect(), accepted_until: held_back.or(self.accepted), ..self.seen.clone() }
    }
}
