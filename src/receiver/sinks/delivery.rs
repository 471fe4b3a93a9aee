//! A delivery on its way to its sinks: its content, and the state of each of its events at each sink.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::Instant;

use super::queue::EventKey;
use crate::api::v1alpha1::deliveries::SinkAnswerState;
use crate::receiver::bytes_in_flight::ByteReservation;
use crate::receiver::dedupe::Entry;
use crate::receiver::envelope::Envelope;
use crate::receiver::outbox::{EventState, Record, Sequence, SinkPart};
use crate::receiver::recent::DeliveryKey;

/// A delivery and what became of it so far.
pub(in crate::receiver) struct Delivery {
    pub(in crate::receiver) envelope: Envelope,
    /// Its place in the order of arrival: the time, and its number within this process.
    pub(super) order: (Timestamp, u64),
    /// When its events become dead letters.
    pub(super) expires: Instant,
    pub(in crate::receiver) entry: Arc<Entry>,
    /// The sinks that get an event of it.
    pub(super) parts: Vec<Part>,
    /// The sinks that select it and were not served when it arrived.
    not_served: Vec<String>,
    /// Number of attempts under way.
    attempts: AtomicUsize,
    progress: Mutex<Progress>,
    changed: watch::Sender<()>,
}

/// The events of a delivery for one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::receiver) struct Part {
    pub(in crate::receiver) sink: String,
    /// Positions in [`Envelope::events`], and the position after the last for the event that says how many were omitted.
    pub(in crate::receiver) events: Vec<usize>,
    /// Number of events that the sink does not get because the delivery has too many.
    pub(in crate::receiver) omitted: usize,
}

/// A delivery that has arrived.
pub(in crate::receiver) struct Arrived {
    pub(in crate::receiver) envelope: Envelope,
    pub(in crate::receiver) entry: Arc<Entry>,
    pub(in crate::receiver) parts: Vec<Part>,
    pub(in crate::receiver) not_served: Vec<String>,
    pub(in crate::receiver) payload: Bytes,
    pub(in crate::receiver) reservation: ByteReservation,
}

/// A body in memory. Its bytes count as in flight until nobody needs it any more.
pub(super) struct Payload {
    pub(super) bytes: Bytes,
    _reservation: ByteReservation,
}

/// Where the body of a delivery is.
#[derive(Clone)]
pub(super) enum Body {
    Memory(Arc<Payload>),
    Stored(Sequence),
    /// The delivery was refused or dropped.
    Gone,
}

struct Progress {
    body: Body,
    stored: Option<Sequence>,
    /// For each part, the state of each of its events.
    states: Vec<Vec<Status>>,
    /// The events that are sent again on request, as part and event.
    redelivered: BTreeSet<(usize, usize)>,
}

/// The state of an event at one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Open(EventState),
    Accepted,
    DeadLetter(EventState),
    /// Nobody wants it any more: the binding or the sink is gone, or its room was needed.
    Discarded,
}

/// What a delivery says when it is stored; parts and events by their positions.
pub(super) struct StoredNow {
    /// The events that are open.
    pub(super) open: Vec<(usize, usize)>,
    /// The events whose state has changed since the record was made.
    pub(super) changed: Vec<(usize, usize, EventState)>,
}

/// An attempt at one sink.
pub(super) struct AttemptUnderWay<'a>(&'a AtomicUsize);

impl Drop for AttemptUnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a delivery says when it is given up.
pub(super) struct GivenUp {
    /// The events that were open, as part and event.
    pub(super) open: Vec<(usize, usize)>,
    /// The part of each dead letter.
    pub(super) dead_letters: Vec<usize>,
    /// Whether the open ones counted as pending.
    pub(super) was_stored: bool,
}

/// What follows from a new state of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    /// The record of the delivery, if it is stored.
    pub(super) stored: Option<Sequence>,
    /// The position of the sink in that record.
    pub(super) part: usize,
    /// Nothing of the delivery will be sent any more.
    pub(super) concluded: bool,
    /// Nothing of it is a dead letter either.
    pub(super) finished: bool,
    /// Every event was accepted by every sink.
    pub(super) accepted: bool,
}

impl Delivery {
    pub(super) fn new(arrived: Arrived, order: (Timestamp, u64), expires: Instant) -> Arc<Self> {
        let Arrived { envelope, entry, parts, not_served, payload, reservation } = arrived;
        let body = Body::Memory(Arc::new(Payload { bytes: payload, _reservation: reservation }));
        let states = parts.iter().map(|part| vec![Status::Open(EventState::Pending); part.events.len()]).collect();
        let progress = Mutex::new(Progress { body, stored: None, states, redelivered: BTreeSet::new() });
        let (attempts, changed) = (AtomicUsize::new(0), watch::Sender::new(()));
        Arc::new(Self { envelope, order, expires, entry, parts, not_served, attempts, progress, changed })
    }

    /// A delivery that an earlier process stored.
    pub(super) fn stored_before(
        sequence: Sequence,
        record: Record,
        entry: Arc<Entry>,
        order: (Timestamp, u64),
        expires: Instant,
    ) -> Arc<Self> {
        let Record { envelope, sinks, not_served } = record;
        let read = |(_, state): &(usize, EventState)| match state {
            EventState::Accepted => Status::Accepted,
            EventState::DeadLetter { .. } => Status::DeadLetter(state.clone()),
            EventState::Pending | EventState::Redelivery | EventState::Parked { .. } => Status::Open(state.clone()),
        };
        let states = sinks.iter().map(|part| part.events.iter().map(read).collect()).collect();
        let marked = |(part, of): (usize, &SinkPart)| {
            let events = of.events.iter().filter(|(_, state)| state.is_redelivered());
            events.map(|(event, _)| (part, *event)).collect::<Vec<_>>()
        };
        let redelivered = sinks.iter().enumerate().flat_map(marked).collect();
        let part = |SinkPart { name, events, omitted }| {
            let events = events.into_iter().map(|(event, _)| event).collect();
            Part { sink: name, events, omitted }
        };
        let parts = sinks.into_iter().map(part).collect();
        let body = Body::Stored(sequence);
        let progress = Mutex::new(Progress { body, stored: Some(sequence), states, redelivered });
        let (attempts, changed) = (AtomicUsize::new(0), watch::Sender::new(()));
        Arc::new(Self { envelope, order, expires, entry, parts, not_served, attempts, progress, changed })
    }

    pub(super) const fn key(&self, event: usize) -> EventKey {
        EventKey { at: self.order.0, delivery: self.order.1, event }
    }

    /// Counts an attempt until the result is dropped.
    pub(super) fn attempt(&self) -> AttemptUnderWay<'_> {
        self.attempts.fetch_add(1, Ordering::AcqRel);
        AttemptUnderWay(&self.attempts)
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.attempts.load(Ordering::Acquire) > 0
    }

    /// Identifies it among the last deliveries of its binding.
    pub(super) fn recent_key(&self) -> DeliveryKey<'_> {
        DeliveryKey { uid: &self.envelope.uid, at: self.envelope.at, id: &self.envelope.delivery }
    }

    pub(super) fn body(&self) -> Body {
        self.lock().body.clone()
    }

    /// Waits until nothing of the delivery will be sent any more.
    pub(super) async fn concluded(&self) {
        let mut changed = self.changed.subscribe();
        while !self.lock().is_concluded() {
            // The sender lives as long as `self`.
            let _ = changed.changed().await;
        }
    }

    pub(super) fn is_concluded(&self) -> bool {
        self.lock().is_concluded()
    }

    /// The record and the body to store. `None` if nothing of the delivery waits any more.
    pub(super) fn record(&self) -> Option<(Record, Bytes)> {
        let progress = self.lock();
        let Body::Memory(payload) = &progress.body else { return None };
        // A dead letter is stored too: it can be sent again on request.
        if progress.is_finished() {
            return None;
        }
        let sinks = self.parts.iter().zip(&progress.states).map(|(part, states)| SinkPart {
            name: part.sink.clone(),
            omitted: part.omitted,
            events: part.events.iter().copied().zip(states.iter().map(Status::stored)).collect(),
        });
        let record = Record { envelope: self.envelope.clone(), sinks: sinks.collect(), not_served: self.not_served.clone() };
        Some((record, payload.bytes.clone()))
    }

    /// Records that the delivery is stored.
    pub(super) fn store(&self, sequence: Sequence, record: &Record) -> StoredNow {
        let mut progress = self.lock();
        progress.stored = Some(sequence);
        progress.body = Body::Stored(sequence);
        let (mut open, mut changed) = (Vec::new(), Vec::new());
        for (part, (states, stored)) in progress.states.iter().zip(&record.sinks).enumerate() {
            for (status, (event, before)) in states.iter().zip(&stored.events) {
                if matches!(status, Status::Open(_)) {
                    open.push((part, *event));
                }
                let now = status.stored();
                if now != *before {
                    changed.push((part, *event, now));
                }
            }
        }
        StoredNow { open, changed }
    }

    /// Gives up everything that waits: the delivery was refused, or its room was needed.
    pub(super) fn discard(&self) -> GivenUp {
        let mut progress = self.lock();
        progress.body = Body::Gone;
        let was_stored = progress.stored.is_some();
        let (mut open, mut dead_letters) = (Vec::new(), Vec::new());
        for (part, states) in self.parts.iter().enumerate().zip(&mut progress.states) {
            let (number, part) = part;
            for (status, event) in states.iter_mut().zip(&part.events) {
                match status {
                    Status::Open(_) => open.push((number, *event)),
                    Status::DeadLetter(_) => dead_letters.push(number),
                    Status::Accepted | Status::Discarded => {}
                }
                if !matches!(status, Status::Accepted) {
                    *status = Status::Discarded;
                }
            }
        }
        drop(progress);
        self.changed.send_replace(());
        GivenUp { open, dead_letters, was_stored }
    }

    /// What the list of the last deliveries says of each sink: of its events, the state that is farthest from accepted counts.
    /// `given_up` is what became of events that nobody wants any more.
    pub(super) fn answers(&self, given_up: SinkAnswerState) -> Vec<(&str, SinkAnswerState)> {
        let progress = self.lock();
        let state = |status: &Status| match status {
            Status::Open(EventState::Parked { .. }) => (3, SinkAnswerState::Parked),
            Status::Open(_) => (4, SinkAnswerState::Pending),
            Status::DeadLetter(_) => (2, SinkAnswerState::DeadLetter),
            Status::Discarded => (1, given_up),
            Status::Accepted => (0, SinkAnswerState::Accepted),
        };
        let worst = |states: &Vec<Status>| states.iter().map(state).max().map_or(SinkAnswerState::Accepted, |(_, state)| state);
        let served = self.parts.iter().zip(&progress.states).map(|(part, states)| (part.sink.as_str(), worst(states)));
        served.chain(self.not_served.iter().map(|sink| (sink.as_str(), SinkAnswerState::NotServed))).collect()
    }

    /// Sets the state of an event. `None` if it was no longer open.
    pub(super) fn note(&self, sink: &str, event: usize, status: Status) -> Option<Noted> {
        let part = self.parts.iter().position(|part| part.sink == sink)?;
        let index = self.parts.get(part)?.events.iter().position(|known| *known == event)?;
        let mut progress = self.lock();
        let slot = progress.states.get_mut(part)?.get_mut(index)?;
        if !matches!(slot, Status::Open(_)) {
            return None;
        }
        *slot = status;
        let noted = Noted {
            stored: progress.stored,
            part,
            concluded: progress.is_concluded(),
            finished: progress.is_finished(),
            accepted: progress.is_accepted(),
        };
        drop(progress);
        if noted.concluded {
            self.changed.send_replace(());
        }
        Some(noted)
    }

    /// The events that an earlier process left open, as part, event and state.
    pub(super) fn open(&self) -> Vec<(usize, usize, EventState)> {
        let progress = self.lock();
        let mut open = Vec::new();
        for (number, (part, states)) in self.parts.iter().zip(&progress.states).enumerate() {
            for (event, status) in part.events.iter().zip(states) {
                if let Status::Open(state) = status {
                    open.push((number, *event, state.clone()));
                }
            }
        }
        open
    }

    pub(super) fn has_dead_letters(&self) -> bool {
        self.lock().states.iter().flatten().any(|status| matches!(status, Status::DeadLetter(_)))
    }

    /// The dead letters, as part, event and time.
    pub(super) fn dead_letters(&self) -> Vec<(usize, usize, Timestamp)> {
        let progress = self.lock();
        let mut dead = Vec::new();
        for (number, (part, states)) in self.parts.iter().zip(&progress.states).enumerate() {
            for (event, status) in part.events.iter().zip(states) {
                if let Status::DeadLetter(EventState::DeadLetter { at, .. }) = status {
                    dead.push((number, *event, *at));
                }
            }
        }
        dead
    }

    /// Makes a dead letter open again, to be sent again on request. Returns false if it is none any more.
    pub(super) fn reopen(&self, part: usize, event: usize) -> bool {
        let reopened = self.replace_dead_letter(part, event, Status::Open(EventState::Redelivery));
        if reopened {
            self.lock().redelivered.insert((part, event));
        }
        reopened
    }

    /// Removes a dead letter. Returns false if it is none any more.
    pub(super) fn remove_dead_letter(&self, part: usize, event: usize) -> bool {
        self.replace_dead_letter(part, event, Status::Discarded)
    }

    /// Whether every event was accepted by every sink.
    pub(super) fn is_accepted(&self) -> bool {
        self.lock().is_accepted()
    }

    /// Whether every sink that selects it was served when it arrived.
    pub(super) fn is_for_all(&self) -> bool {
        self.not_served.is_empty()
    }

    /// Whether nothing is left to do for the delivery.
    pub(super) fn is_finished(&self) -> bool {
        self.lock().is_finished()
    }

    fn replace_dead_letter(&self, part: usize, event: usize, new: Status) -> bool {
        let Some(index) = self.parts.get(part).and_then(|part| part.events.iter().position(|known| *known == event)) else { return false };
        let mut progress = self.lock();
        let status = progress.states.get_mut(part).and_then(|states| states.get_mut(index));
        let Some(status) = status.filter(|status| matches!(status, Status::DeadLetter(_))) else { return false };
        *status = new;
        true
    }

    /// Marks a parked event as sent again on request. Returns its new state; `None` if it is not parked any more.
    pub(super) fn mark_redelivered(&self, part: usize, event: usize) -> Option<EventState> {
        let index = self.parts.get(part)?.events.iter().position(|known| *known == event)?;
        let mut progress = self.lock();
        let Some(Status::Open(EventState::Parked { redelivered, .. })) = progress.states.get_mut(part)?.get_mut(index) else {
            return None;
        };
        *redelivered = true;
        let state = progress.states.get(part)?.get(index)?.stored();
        progress.redelivered.insert((part, event));
        Some(state)
    }

    /// Whether an event is sent to a sink again on request.
    pub(super) fn is_redelivered(&self, sink: &str, event: usize) -> bool {
        let part = self.parts.iter().position(|part| part.sink == sink);
        part.is_some_and(|part| self.lock().redelivered.contains(&(part, event)))
    }

    /// Whether any event of it is.
    pub(super) fn has_redelivered(&self) -> bool {
        !self.lock().redelivered.is_empty()
    }

    /// Number of events that a sink does not get.
    pub(super) fn omitted(&self, sink: &str) -> usize {
        self.parts.iter().find(|part| part.sink == sink).map_or(0, |part| part.omitted)
    }

    pub(super) fn sequence(&self) -> Option<Sequence> {
        self.lock().stored
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock()
    }
}

impl Progress {
    fn is_concluded(&self) -> bool {
        !self.states.iter().flatten().any(|status| matches!(status, Status::Open(_)))
    }

    fn is_finished(&self) -> bool {
        self.states.iter().flatten().all(|status| matches!(status, Status::Accepted | Status::Discarded))
    }

    fn is_accepted(&self) -> bool {
        self.states.iter().flatten().all(|status| matches!(status, Status::Accepted))
    }
}

impl Status {
    /// The state in the record. What nobody wants any more need not be sent after a restart either.
    pub(super) fn stored(&self) -> EventState {
        match self {
            Self::Open(state) | Self::DeadLetter(state) => state.clone(),
            Self::Accepted | Self::Discarded => EventState::Accepted,
        }
    }
}
