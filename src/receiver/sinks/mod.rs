//! Hands deliveries to sinks, and stores in the outbox what a sink has not accepted.
//!
//! Each sink of a binding has a queue ([`queue`]) and, while the queue is not empty, a task that sends its events
//! ([`driver`]). A delivery waits for its sinks for a second. What is not accepted by then is stored, the provider is answered,
//! and the attempts go on.

mod bodies;
mod client;
pub(super) mod cloud_events;
mod delivery;
mod driver;
mod queue;
mod trusting;
mod upkeep;

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use bodies::BodyBudget;
use client::Clients;
pub(super) use delivery::{Arrived, Part};
use delivery::{Delivery, GivenUp, StoredNow};
use queue::{EventKey, Parked, Queue};

use super::dedupe::{Dedupe, DeliveryResult};
use super::envelope::Identity;
use super::evidence::EvidenceStore;
use super::metrics::Metrics;
use super::outbox::{EventState, KeepError, Outbox, Record, Sequence};
use super::recent;
use super::routes::{Freshness, Routes};
use crate::api::v1alpha1::deliveries::{RecentDelivery, SinkAnswer, SinkAnswerState, outcome_of};
use crate::network::NetworkPolicy;

/// Time limits of events and attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkLimits {
    /// Timeout of one attempt; default 30 s.
    pub attempt: Duration,
    /// How long a delivery waits for its sinks before it is stored and answered; default 1 s.
    pub direct: Duration,
    /// How long after its arrival an event is attempted; default 72 h.
    pub attempted: Duration,
    /// How long a dead letter is kept; default 7 days.
    pub dead: Duration,
}

impl Default for SinkLimits {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        Self { attempt: Duration::from_secs(30), direct: Duration::from_secs(1), attempted: 72 * HOUR, dead: 7 * 24 * HOUR }
    }
}

/// Maximum number of lost deliveries that the log names.
const NAMED_LOST: usize = 100;
/// How long the end waits for the disk.
const CLOSE: Duration = Duration::from_secs(5);
/// How long a stored event is attempted after a start at least, however old it is.
const AT_LEAST: Duration = Duration::from_secs(60 * 60);

/// A sink: the UID of its binding, and its name.
type SinkKey = (String, String);

/// The events that one sink has not accepted.
#[derive(Default)]
struct SinkQueue {
    queue: Queue,
    deliveries: BTreeMap<EventKey, Arc<Delivery>>,
    /// Notified when an event was added.
    wake: Arc<Notify>,
}

/// What the dispatcher works with.
pub(super) struct Parts {
    pub(super) routes: Routes,
    pub(super) freshness: Arc<dyn Freshness>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) evidence: EvidenceStore,
    pub(super) metrics: Metrics,
    pub(super) limits: SinkLimits,
}

/// Hands deliveries to sinks.
pub(super) struct Dispatcher {
    routes: Routes,
    freshness: Arc<dyn Freshness>,
    clients: Clients,
    limits: SinkLimits,
    outbox: Arc<Outbox>,
    bodies: BodyBudget,
    evidence: EvidenceStore,
    metrics: Metrics,
    /// The queue of a sink exists as long as it has a driver.
    queues: Mutex<HashMap<SinkKey, SinkQueue>>,
    /// The stored deliveries.
    stored: Mutex<BTreeMap<Sequence, Arc<Delivery>>>,
    /// The latest time of arrival, and the number of deliveries.
    arrivals: Mutex<(Timestamp, u64)>,
    drivers: TaskTracker,
    stopping: CancellationToken,
}

impl Dispatcher {
    pub(super) fn new(parts: Parts, policy: &Arc<NetworkPolicy>) -> reqwest::Result<Arc<Self>> {
        let Parts { routes, freshness, outbox, evidence, metrics, limits } = parts;
        Ok(Arc::new(Self {
            routes,
            freshness,
            clients: Clients::new(policy, limits.attempt)?,
            limits,
            outbox,
            bodies: BodyBudget::new(),
            evidence,
            metrics,
            queues: Mutex::default(),
            stored: Mutex::default(),
            arrivals: Mutex::new((Timestamp::MIN, 0)),
            drivers: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }))
    }

    /// Continues with the deliveries that an earlier process stored, in their order. Call it before anything is delivered.
    pub(super) fn resume(self: &Arc<Self>, mut stored: Vec<(Sequence, Record)>, dedupe: &Dedupe) {
        // By arrival: a delivery that waited for its sinks was stored after later ones that did not.
        stored.sort_by_key(|(sequence, record)| (record.envelope.at, *sequence));
        for (sequence, record) in stored {
            self.continue_with(sequence, record, dedupe);
        }
    }

    /// Continues with a stored delivery of an earlier process or of another receiver. Its events have the place
    /// of their arrival there.
    pub(super) fn continue_with(self: &Arc<Self>, sequence: Sequence, record: Record, dedupe: &Dedupe) {
        let (now, clock) = (Instant::now(), self.routes.clock().now());
        let expires = now + self.limits.attempted.saturating_sub(since(record.envelope.at, clock)).max(AT_LEAST);
        let (entry, order) = (dedupe.restore(&record), self.order(record.envelope.at, false));
        let delivery = Delivery::stored_before(sequence, record, entry, order, expires);
        self.stored().insert(sequence, Arc::clone(&delivery));
        self.remember_stored(&delivery);
        for (part, _, _) in delivery.dead_letters() {
            with_sink(&delivery, part, |sink| self.evidence.dead_letters(&delivery.envelope.uid, sink, 1));
        }
        let open = delivery.open();
        if delivery.has_dead_letters() || open.iter().any(|(_, _, state)| matches!(state, EventState::Parked { .. })) {
            // A request that was carried out before did not reach these.
            self.evidence.forget_redelivery(&delivery.envelope.uid);
        }
        if !open.is_empty() {
            self.evidence.waiting(&delivery.envelope.uid, delivery.entry.number(), delivery.envelope.at);
        }
        for (part, event, state) in open {
            with_sink(&delivery, part, |sink| {
                self.evidence.sink_pending(&delivery.envelope.uid, sink, 1);
                self.push_stored(&delivery, sink, event, &state, delivery.expires);
            });
        }
    }

    /// Remembers a delivery that an earlier process stored.
    fn remember_stored(&self, delivery: &Delivery) {
        let answer = |(name, state): (&str, SinkAnswerState)| SinkAnswer { name: name.to_owned(), state, time: None, error: None };
        let sinks: Vec<_> = delivery.answers(SinkAnswerState::Discarded).into_iter().map(answer).collect();
        let seen = recent::arrived(delivery.envelope.at, &delivery.envelope.delivery, &delivery.envelope.events);
        self.evidence.recent().remember(delivery.recent_key(), RecentDelivery { outcome: outcome_of(&sinks), sinks, ..seen });
    }

    /// Hands a delivery to its sinks. Waits for them for a moment, then stores what they have not accepted.
    pub(super) async fn deliver(self: &Arc<Self>, arrived: Arrived) -> DeliveryResult {
        let order = self.order(arrived.envelope.at, true);
        let delivery = Delivery::new(arrived, order, Instant::now() + self.limits.attempted);
        if self.enqueue(&delivery) {
            let _ = timeout(self.limits.direct, delivery.concluded()).await;
        }
        self.store(&delivery).await
    }

    /// Ends the attempts: those that are under way may finish until the deadline.
    pub(super) async fn stop(&self, deadline: Instant) {
        self.end_attempts();
        let _ = timeout_at(deadline, self.drivers.wait()).await;
    }

    /// Begins no attempt any more.
    pub(super) fn end_attempts(&self) {
        self.stopping.cancel();
        self.drivers.close();
    }

    /// The stored deliveries by arrival, those with pending events before those with dead letters alone. Without those with an attempt
    /// under way, unless they are asked for.
    pub(super) fn to_hand_over(&self, also_under_way: bool) -> Vec<Sequence> {
        let stored = self.stored();
        let chosen = stored.iter().filter(|(_, delivery)| also_under_way || !delivery.is_under_way());
        let mut chosen: Vec<_> = chosen.map(|(sequence, delivery)| (delivery.is_concluded(), delivery.envelope.at, *sequence)).collect();
        drop(stored);
        chosen.sort_unstable();
        chosen.into_iter().map(|(_, _, sequence)| sequence).collect()
    }

    /// What identifies the stored deliveries over receivers.
    pub(super) fn identities(&self) -> HashSet<Identity> {
        self.stored().values().map(|delivery| delivery.envelope.identity()).collect()
    }

    /// Removes a stored delivery that another receiver continues with.
    pub(super) fn handed_over(&self, sequence: Sequence) {
        self.forget(sequence);
    }

    /// Releases the outbox. `is_deleted`: so are its contents, with the pod.
    pub(super) async fn close(&self, is_deleted: bool) {
        if timeout(CLOSE, self.outbox.close()).await.is_err() {
            tracing::warn!("stopped before the outbox was closed");
        }
        let stored = self.stored();
        // Dead letters would not have been sent.
        let left: Vec<_> = stored.iter().filter(|(_, delivery)| !delivery.is_concluded()).collect();
        let in_memory = self.outbox.in_memory_alone();
        let is_lost = |(sequence, _): &&(&Sequence, &Arc<Delivery>)| is_deleted || in_memory.contains(sequence);
        let lost: Vec<_> = left.iter().filter(is_lost).map(|(_, delivery)| Arc::clone(delivery)).collect();
        let kept = left.len() - lost.len();
        drop(stored);
        self.metrics.lost(lost.len());
        tell_lost(&lost);
        if kept > 0 {
            tracing::info!(deliveries = kept, "stopped with pending deliveries, which are in the outbox");
        }
    }

    /// Adds the events of a delivery to their queues. Returns whether all of them may be accepted soon.
    fn enqueue(self: &Arc<Self>, delivery: &Arc<Delivery>) -> bool {
        let now = Instant::now();
        let mut soon = true;
        let mut queues = self.queues();
        for part in &delivery.parts {
            let sink_queue = self.sink_queue(&mut queues, delivery, &part.sink);
            for event in &part.events {
                soon &= sink_queue.queue.push(delivery.key(*event), &delivery.envelope.subject(*event), delivery.expires, now);
                sink_queue.deliveries.insert(delivery.key(*event), Arc::clone(delivery));
            }
            sink_queue.wake.notify_one();
        }
        soon
    }

    /// Adds one stored event to its queue.
    fn push_stored(self: &Arc<Self>, delivery: &Arc<Delivery>, sink: &str, event: usize, state: &EventState, expires: Instant) {
        let (key, subject) = (delivery.key(event), delivery.envelope.subject(event));
        let mut queues = self.queues();
        let sink_queue = self.sink_queue(&mut queues, delivery, sink);
        sink_queue.deliveries.insert(key, Arc::clone(delivery));
        match state {
            EventState::Parked { attempts, next, .. } => {
                let parked = Parked { times: *attempts, due: Instant::now() + since(self.routes.clock().now(), *next) };
                sink_queue.queue.push_parked(key, &subject, expires, parked);
            }
            _ => drop(sink_queue.queue.push(key, &subject, expires, Instant::now())),
        }
        sink_queue.wake.notify_one();
    }

    fn sink_queue<'a>(self: &Arc<Self>, queues: &'a mut HashMap<SinkKey, SinkQueue>, delivery: &Delivery, sink: &str) -> &'a mut SinkQueue {
        match queues.entry((delivery.envelope.uid.clone(), sink.to_owned())) {
            Slot::Occupied(sink_queue) => sink_queue.into_mut(),
            Slot::Vacant(slot) => {
                let key = slot.key().clone();
                let sink_queue = slot.insert(SinkQueue::default());
                self.drivers.spawn(Arc::clone(self).drive(key, Arc::clone(&sink_queue.wake)));
                sink_queue
            }
        }
    }

    /// Stores what is still open of a delivery.
    async fn store(&self, delivery: &Arc<Delivery>) -> DeliveryResult {
        let Some((record, body)) = delivery.record() else {
            return match (delivery.is_accepted(), delivery.is_for_all()) {
                (true, true) => DeliveryResult::Accepted,
                (true, false) => DeliveryResult::NotServed,
                (false, _) => DeliveryResult::Discarded,
            };
        };
        let kept = self.outbox.keep(record.clone(), body).await;
        let result = match kept.result {
            Ok(place) => {
                self.note_stored(delivery, place.sequence, &record);
                DeliveryResult::Pending
            }
            Err(error) => {
                tracing::warn!(namespace = delivery.envelope.namespace, name = delivery.envelope.name, delivery = delivery.envelope.delivery, %error, "delivery not stored");
                let given_up = self.give_up(delivery);
                self.withdraw(delivery, &given_up.open);
                if error == KeepError::Full {
                    self.evidence.outbox_unavailable(&delivery.envelope.uid, self.routes.clock().now());
                }
                DeliveryResult::Overloaded
            }
        };
        for dropped in kept.dropped {
            self.drop_stored(dropped.sequence);
        }
        result
    }

    fn note_stored(&self, delivery: &Arc<Delivery>, sequence: Sequence, record: &Record) {
        // Before the delivery knows that it is stored: whoever concludes it after that removes it here.
        self.stored().insert(sequence, Arc::clone(delivery));
        let StoredNow { open, changed } = delivery.store(sequence, record);
        for (part, _) in &open {
            with_sink(delivery, *part, |sink| self.evidence.sink_pending(&delivery.envelope.uid, sink, 1));
        }
        for (part, event, state) in changed {
            self.outbox.note(sequence, part, event, state);
        }
        if open.is_empty() && delivery.dead_letters().is_empty() {
            self.forget(sequence);
        }
    }

    /// Gives up a stored delivery whose room was needed.
    pub(super) fn drop_stored(&self, sequence: Sequence) {
        let Some(delivery) = self.stored().remove(&sequence) else { return };
        let GivenUp { open, was_stored, .. } = self.give_up(&delivery);
        self.withdraw(&delivery, &open);
        for (part, _) in open.iter().filter(|_| was_stored) {
            with_sink(&delivery, *part, |sink| self.evidence.sink_pending(&delivery.envelope.uid, sink, -1));
        }
        self.evidence.settled(&delivery.envelope.uid, delivery.entry.number(), delivery.envelope.at);
        self.evidence.dropped(&delivery.envelope.uid, self.routes.clock().now(), open.len());
        self.remember_given_up(&delivery, SinkAnswerState::Dropped);
        self.metrics.dropped(open.len());
        delivery.entry.reopen();
        tracing::warn!(
            namespace = delivery.envelope.namespace,
            name = delivery.envelope.name,
            delivery = delivery.envelope.delivery,
            events = open.len(),
            "pending events dropped: the outbox needs their room"
        );
    }

    /// Gives up everything that waits of a delivery, and its dead letters.
    fn give_up(&self, delivery: &Delivery) -> GivenUp {
        let given_up = delivery.discard();
        for part in &given_up.dead_letters {
            with_sink(delivery, *part, |sink| self.evidence.dead_letters(&delivery.envelope.uid, sink, -1));
        }
        given_up
    }

    /// Reports what the sinks have made of a delivery so far.
    fn remember(&self, delivery: &Delivery) {
        self.remember_given_up(delivery, SinkAnswerState::Discarded);
    }

    /// As [`Self::remember`], with what became of the events that nobody wants any more.
    fn remember_given_up(&self, delivery: &Delivery, given_up: SinkAnswerState) {
        let now = self.routes.clock().now();
        self.evidence.recent().progress(delivery.recent_key(), &delivery.answers(given_up), now);
    }

    /// Removes a stored delivery of which nothing is left to do.
    fn forget(&self, sequence: Sequence) {
        self.stored().remove(&sequence);
        self.outbox.remove(sequence);
    }

    /// Removes events from their queues, except those that are under way.
    fn withdraw(&self, delivery: &Delivery, events: &[(usize, usize)]) {
        let mut queues = self.queues();
        for (part, event) in events {
            with_sink(delivery, *part, |sink| {
                let Some(sink_queue) = queues.get_mut(&(delivery.envelope.uid.clone(), sink.to_owned())) else { return };
                let key = delivery.key(*event);
                if sink_queue.queue.remove(key) {
                    sink_queue.deliveries.remove(&key);
                    sink_queue.wake.notify_one();
                }
            });
        }
    }

    /// The place of a delivery in the order of arrival. One that arrives here comes after all earlier ones, even if the clock was set
    /// back; one of an earlier process or of another receiver has the place of its time.
    fn order(&self, at: Timestamp, arrives: bool) -> (Timestamp, u64) {
        let mut arrivals = self.arrivals.lock();
        let at = if arrives { at.max(arrivals.0) } else { at };
        *arrivals = (arrivals.0.max(at), arrivals.1 + 1);
        (at, arrivals.1)
    }

    /// Whether an unknown binding certainly does not exist. Events of a binding that may only be unknown yet are not discarded.
    fn is_sure(&self) -> bool {
        self.freshness.is_fresh() && !self.routes.may_be_incomplete(self.routes.clock().now())
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<SinkKey, SinkQueue>> {
        self.queues.lock()
    }

    fn stored(&self) -> MutexGuard<'_, BTreeMap<Sequence, Arc<Delivery>>> {
        self.stored.lock()
    }
}

/// The time from one moment to a later one; zero if it is earlier.
fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

/// Names the deliveries that are lost when the receiver ends: hardly anybody reads its metrics after that. The last line has their
/// number.
fn tell_lost(lost: &[Arc<Delivery>]) {
    for Delivery { envelope, .. } in lost.iter().take(NAMED_LOST).map(|delivery| &**delivery) {
        tracing::error!(
            namespace = envelope.namespace,
            name = envelope.name,
            delivery = envelope.delivery,
            "pending delivery that no other receiver has; it is lost unless this receiver is started again with its outbox"
        );
    }
    if !lost.is_empty() {
        tracing::error!(
            deliveries = lost.len(),
            "stopped with pending deliveries that no other receiver has; they are lost unless this receiver is started again with its \
             outbox; send them again from the provider's page of the hook"
        );
    }
}

fn with_sink(delivery: &Delivery, part: usize, act: impl FnOnce(&str)) {
    if let Some(part) = delivery.parts.get(part) {
        act(&part.sink);
    }
}
