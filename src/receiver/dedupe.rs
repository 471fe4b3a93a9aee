//! Detects duplicate deliveries: by their id, by the state they report if the provider repeats states, and by their content
//! while several hooks deliver the same events. Decides under which id the events of a delivery are sent.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use foldhash::quality;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::envelope::Envelope;
use super::outbox::{EventState, Record};
use super::ttl_cache::TtlCache;
use crate::api::v1alpha1::EventKind;
use crate::providers::webhook::StateKey;

/// How long an id is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum number of remembered ids, over all bindings.
const IDS: usize = 100_000;
/// How long the state of a subject is remembered after it was last reported.
const STATE_REMEMBERED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Maximum number of subjects whose state is remembered, over all bindings.
const STATES: usize = 20_000;
/// Maximum time between deliveries of the same event by two hooks.
const SIDE_BY_SIDE: Duration = Duration::from_secs(10 * 60);
/// Maximum number of contents that are remembered for that time.
const CONTENTS: usize = 50_000;
/// How many repetitions of the same content are distinguished within that time.
const REPETITIONS: usize = 64;

/// The result of handing a delivery to its sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeliveryResult {
    /// Every sink accepted it.
    Accepted,
    /// No sink gets an event of it. Another attempt of the provider is judged anew.
    Unwanted,
    /// A sink that selects it is not served; the others accepted it. Another attempt of the provider is judged anew.
    NotServed,
    /// A sink or its grant went away while it was being sent.
    Discarded,
    /// It is pending for at least one sink.
    Pending,
    /// It could neither be delivered nor be kept.
    Overloaded,
}

/// The properties that identify a delivery.
pub(super) struct Identity<'a> {
    pub(super) uid: &'a str,
    pub(super) id: &'a str,
    /// The hook that delivered it: its id and its secret version.
    pub(super) hook: (&'a str, &'a str),
    /// The id that is derived from the content, while several hooks may deliver the same events. All
    /// receivers derive the same one, also after a restart.
    pub(super) derived_id: Option<&'a str>,
    pub(super) events: &'a [EventKind],
    /// The reported states, if the delivery reports nothing else; otherwise empty.
    pub(super) once: &'a [&'a StateKey],
    pub(super) payload: &'a [u8],
}

/// Remembers deliveries.
#[derive(Debug)]
pub(super) struct Dedupe {
    // Keyed by hashes with random keys for each process, so that senders cannot choose texts that collide.
    first: RandomState,
    second: RandomState,
    /// For whole contents, for which `SipHash` would cost as much as the verification. Senders choose the content but never see
    /// its hash.
    content: quality::RandomState,
    ids: TtlCache<(u64, u64), Arc<Entry>>,
    /// The entries by their derived ids, for as long as another hook may report the same event. Later, the same content is another
    /// event.
    derived: TtlCache<(u64, u64), Arc<Entry>>,
    contents: TtlCache<(u64, usize), Arc<Mutex<ContentDuplicates>>>,
    states: TtlCache<(u64, u64), Arc<Mutex<LastState>>>,
}

/// The last reported state of a subject, as a hash, and the delivery that reported it.
#[derive(Debug)]
struct LastState {
    state: u64,
    entry: Arc<Entry>,
}

/// The deliveries with one content. The n-th one by one hook is the same event as the n-th one by any other hook.
#[derive(Debug)]
struct ContentDuplicates {
    /// Number of earlier events of this content that are forgotten.
    forgotten: usize,
    entries: Vec<Arc<Entry>>,
    counts: Vec<((String, String), usize)>,
}

/// The state of one delivery.
#[derive(Debug)]
pub(super) struct Entry {
    number: u64,
    /// The id under which its events are sent, from the first attempt on.
    event_id: OnceLock<String>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Whether an event turned out not to be accepted while the delivery was in flight.
    reopened: bool,
    /// The events that each sink has accepted, until all sinks have accepted all of theirs.
    accepted: BTreeSet<(String, usize)>,
}

#[derive(Debug)]
enum Phase {
    New,
    InFlight(watch::Receiver<Option<DeliveryResult>>),
    Pending,
    Complete,
}

/// Whether a delivery is the first of its kind.
pub(super) enum Begin {
    /// It is the first: deliver it.
    First(Claim),
    /// An earlier delivery is in progress or done: return its answer.
    Duplicate(Earlier),
}

/// The answer to an earlier delivery.
pub(super) enum Earlier {
    Known(DeliveryResult),
    Awaited(watch::Receiver<Option<DeliveryResult>>),
}

/// The right to deliver. Dropping it without an answer, for example in a panic, allows the provider's next attempt to be
/// delivered.
pub(super) struct Claim {
    entry: Arc<Entry>,
    answer: watch::Sender<Option<DeliveryResult>>,
}

impl Dedupe {
    pub(super) fn new() -> Self {
        Self {
            first: RandomState::new(),
            second: RandomState::new(),
            content: quality::RandomState::default(),
            ids: TtlCache::since_insert(REMEMBERED, IDS),
            derived: TtlCache::since_insert(SIDE_BY_SIDE, CONTENTS),
            contents: TtlCache::since_insert(SIDE_BY_SIDE, CONTENTS),
            states: TtlCache::since_use(STATE_REMEMBERED, STATES),
        }
    }

    /// Decides whether a delivery is a duplicate, and claims it if it is not.
    pub(super) fn begin(&self, identity: &Identity<'_>) -> Begin {
        let key = self.key(identity.uid, identity.id);
        let own = self.ids.get_or_insert_with(key, || Arc::new(Entry::new(key.0)));
        if !own.is_new() {
            return own.claim(identity.id);
        }
        let (mut chosen, repetition) = match identity.once {
            [] => self.duplicate(identity, &own),
            once => (self.of_same_state(identity.uid, once, &own), 0),
        };
        let id = match (identity.derived_id, repetition) {
            (None, _) => identity.id.to_owned(),
            (Some(derived), 0) => derived.to_owned(),
            (Some(derived), repetition) => format!("{derived}-{}", repetition + 1),
        };
        if identity.derived_id.is_some() {
            // An earlier process may have received it by the other hook.
            chosen = self.derived.get_or_insert_with(self.key(identity.uid, &id), || chosen);
        }
        if !Arc::ptr_eq(&chosen, &own) {
            self.ids.insert(key, chosen.clone());
        }
        chosen.claim(&id)
    }

    fn key(&self, uid: &str, id: &str) -> (u64, u64) {
        (self.first.hash_one((uid, id)), self.second.hash_one((uid, id)))
    }

    /// Remembers a delivery that an earlier process or another receiver stored, and what its sinks have accepted. The provider may have
    /// sent it to this receiver as well.
    pub(super) fn restore(&self, record: &Record) -> Arc<Entry> {
        let Envelope { uid, delivery, id, events: told, .. } = &record.envelope;
        let key = self.key(uid, delivery);
        let entry = self.ids.get_or_insert_with(key, || Arc::new(Entry::new(key.0)));
        let _ = entry.event_id.get_or_init(|| id.clone());
        let events = record.sinks.iter().flat_map(|sink| sink.events.iter().map(|(event, state)| (&sink.name, *event, state)));
        let mut is_open = false;
        for (sink, event, state) in events {
            match state {
                EventState::Accepted => entry.accept(sink, event),
                EventState::Pending | EventState::Redelivery | EventState::Parked { .. } => is_open = true,
                EventState::DeadLetter { .. } => {}
            }
        }
        if is_open {
            entry.state.lock().wait();
            // The last state that a subject reported is among those that wait: later ones wait behind it.
            let once: Option<Vec<_>> = told.iter().map(|event| event.once.as_ref()).collect();
            if let Some(once) = once.filter(|once| !once.is_empty()) {
                self.of_same_state(uid, &once, &entry);
            }
        }
        if is_open && id != delivery {
            self.derived.insert(self.key(uid, id), Arc::clone(&entry));
        }
        entry
    }

    /// The entry of the last delivery about the same subjects if it reported the same state, else its own entry. A state that
    /// returns after another one is delivered again.
    fn of_same_state(&self, uid: &str, once: &[&StateKey], own: &Arc<Entry>) -> Arc<Entry> {
        let subjects: Vec<_> = once.iter().map(|once| once.subject.as_str()).collect();
        let states: Vec<_> = once.iter().map(|once| once.state.as_str()).collect();
        let state = self.first.hash_one(states);
        let key = (self.first.hash_one((uid, &subjects)), self.second.hash_one((uid, &subjects)));
        let told = self.states.get_or_insert_with(key, || Arc::new(Mutex::new(LastState { state, entry: own.clone() })));
        let mut told = told.lock();
        if told.state != state {
            *told = LastState { state, entry: own.clone() };
        }
        told.entry.clone()
    }

    /// The entry of the same event that arrived by another hook, else its own entry. With it, the number of
    /// earlier events of the same content.
    fn duplicate(&self, identity: &Identity<'_>, own: &Arc<Entry>) -> (Arc<Entry>, usize) {
        let fingerprint = self.content.hash_one((identity.uid, identity.events, identity.payload));
        let empty = || Arc::new(Mutex::new(ContentDuplicates { forgotten: 0, entries: Vec::new(), counts: Vec::new() }));
        let duplicates = self.contents.get_or_insert_with((fingerprint, identity.payload.len()), empty);
        duplicates.lock().entry_of(identity.hook, identity.derived_id.is_some(), own)
    }
}

impl ContentDuplicates {
    fn entry_of(&mut self, hook: (&str, &str), several_hooks: bool, own: &Arc<Entry>) -> (Arc<Entry>, usize) {
        if let Some(position) = self.entries.iter().position(|entry| Arc::ptr_eq(entry, own)) {
            return (own.clone(), self.forgotten + position);
        }
        if self.entries.len() >= REPETITIONS {
            self.forgotten += self.entries.len();
            (self.entries, self.counts) = (Vec::new(), Vec::new());
        }
        let before = self.counts.iter().position(|((id, version), _)| (id.as_str(), version.as_str()) == hook);
        let count = before.and_then(|at| self.counts.get(at)).map_or(0, |(_, count)| *count);
        let duplicate = self.entries.get(count).filter(|_| several_hooks).cloned();
        let count = if duplicate.is_some() { count + 1 } else { self.entries.len() + 1 };
        match before.and_then(|at| self.counts.get_mut(at)) {
            Some(known) => known.1 = count,
            None => self.counts.push(((hook.0.to_owned(), hook.1.to_owned()), count)),
        }
        let entry = duplicate.unwrap_or_else(|| {
            self.entries.push(own.clone());
            own.clone()
        });
        (entry, self.forgotten + count - 1)
    }
}

impl Entry {
    fn new(number: u64) -> Self {
        let state = Mutex::new(State { phase: Phase::New, reopened: false, accepted: BTreeSet::new() });
        Self { number, event_id: OnceLock::new(), state }
    }

    /// Identifies the delivery within this process.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    fn is_new(&self) -> bool {
        matches!(self.state.lock().phase, Phase::New)
    }

    /// The id under which its events are sent. Empty before the first claim.
    pub(super) fn event_id(&self) -> &str {
        self.event_id.get().map_or("", String::as_str)
    }

    fn claim(self: Arc<Self>, id: &str) -> Begin {
        let _ = self.event_id.get_or_init(|| id.to_owned());
        let mut state = self.state.lock();
        let pending = match &state.phase {
            Phase::InFlight(answer) => Earlier::Awaited(answer.clone()),
            Phase::Pending => Earlier::Known(DeliveryResult::Pending),
            Phase::Complete => Earlier::Known(DeliveryResult::Accepted),
            Phase::New => {
                let (answer, receiver) = watch::channel(None);
                state.phase = Phase::InFlight(receiver);
                state.reopened = false;
                drop(state);
                return Begin::First(Claim { entry: self, answer });
            }
        };
        Begin::Duplicate(pending)
    }

    /// Whether a sink has accepted an event of this delivery.
    pub(super) fn has_accepted(&self, sink: &str, event: usize) -> bool {
        let state = self.state.lock();
        matches!(state.phase, Phase::Complete) || state.accepted.contains(&(sink.to_owned(), event))
    }

    /// Records that a sink accepted an event.
    pub(super) fn accept(&self, sink: &str, event: usize) {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Complete) {
            state.accepted.insert((sink.to_owned(), event));
        }
    }

    /// Records that every sink accepted all events.
    pub(super) fn complete(&self) {
        *self.state.lock() = State { phase: Phase::Complete, reopened: false, accepted: BTreeSet::new() };
    }

    /// Lets the provider's next attempt be delivered: not every event was accepted. What was accepted is not sent again.
    pub(super) fn reopen(&self) {
        let mut state = self.state.lock();
        match state.phase {
            Phase::InFlight(_) => state.reopened = true,
            Phase::Pending => state.phase = Phase::New,
            Phase::New | Phase::Complete => {}
        }
    }
}

impl State {
    /// An earlier delivery is pending, unless this one was accepted or is being delivered.
    fn wait(&mut self) {
        if matches!(self.phase, Phase::New) {
            self.phase = Phase::Pending;
        }
    }
}

impl Claim {
    pub(super) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// Ends the claim and gives the answer to all duplicates that wait for it.
    pub(super) fn finish(self, answer: DeliveryResult) {
        {
            let mut state = self.entry.state.lock();
            // Pending events may have been accepted in the meantime.
            if !matches!(state.phase, Phase::Complete) {
                state.phase = match answer {
                    DeliveryResult::Accepted if !state.reopened => Phase::Complete,
                    DeliveryResult::Pending if !state.reopened => Phase::Pending,
                    _ => Phase::New,
                };
            }
        }
        self.answer.send_replace(Some(answer));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.entry.state.lock();
        if self.answer.borrow().is_none() && matches!(state.phase, Phase::InFlight(_)) {
            state.phase = Phase::New;
        }
    }
}

impl Earlier {
    /// Waits for the answer; [`DeliveryResult::Overloaded`] if the earlier delivery was interrupted.
    pub(super) async fn answer(self) -> DeliveryResult {
        match self {
            Self::Known(answer) => answer,
            Self::Awaited(mut answer) => {
                answer.wait_for(Option::is_some).await.ok().and_then(|answer| *answer).unwrap_or(DeliveryResult::Overloaded)
            }
        }
    }
}
