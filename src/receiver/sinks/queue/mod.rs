//! The events that one sink of one binding has not accepted yet, and which of them is sent next. Pure: no call, no clock.
//!
//! Events of one *subject* (a ref or a pull request) are sent in the order of arrival, one at a time. Subjects do not wait for
//! each other, so that one event that the sink never accepts does not hold back the others:
//!
//! ```text
//! pending --3 failures--> trial: one event of another subject is sent
//!                           accepted, then or shortly before: the first event is parked (it is at fault)
//!                           failed, or there is none: the sink is down (the sink is at fault)
//! parked  --1 min to 1 h--> sent again; a later event of its subject was accepted: dead letter
//! down    --up to 1 min---> one event after the other is tried, the oldest first; accepted: all are sent again
//! ```

mod fault;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::protocol::evidence::SinkState;

/// Failed attempts of one event after which the fault is looked for: at the event or at the sink.
const FAILURES: u32 = 3;
/// First pause after a failure; it doubles with each further one.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two attempts of a pending event, and between two attempts at a sink that is down.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// First pause of a parked event; it doubles with each further attempt.
const LEAST_PARKED: Duration = Duration::from_secs(60);
/// Longest pause of a parked event.
const LONGEST_PARKED: Duration = Duration::from_secs(60 * 60);
/// Minimum time between two attempts at a sink that is down when deliveries arrive for it.
const ARRIVAL_PAUSE: Duration = Duration::from_secs(1);
/// Attempts at one sink at the same time, each of another subject.
const CONCURRENT: usize = 8;

/// An event of a delivery: the delivery's time of arrival, which another receiver may have recorded, its number at this one, and
/// the event's position in the delivery. The order is that of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EventKey {
    pub(super) at: Timestamp,
    pub(super) delivery: u64,
    pub(super) event: usize,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Accepted,
    Failed,
    /// The sink says that this event is too large for it.
    TooLarge,
    /// Nothing was sent: the sink may not be sent to at present.
    Held,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send this event and report the result.
    Send(EventKey),
    /// Wait for a result, for a new event, or until this time.
    Wait(Option<Instant>),
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Accepted(EventKey),
    /// It no longer holds back its subject. Its next attempt is due at this time.
    Parked(EventKey, Parked),
    /// A later event of its subject was accepted.
    Superseded(EventKey),
    /// The sink did not accept it before its expiry.
    Expired(EventKey),
}

impl Change {
    /// The event.
    pub(super) const fn key(&self) -> EventKey {
        match self {
            Self::Accepted(key) | Self::Parked(key, _) | Self::Superseded(key) | Self::Expired(key) => *key,
        }
    }
}

/// The schedule of a parked event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parked {
    /// How often it was parked; the pause doubles with each time.
    pub(super) times: u32,
    pub(super) due: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    events: BTreeMap<EventKey, Waiting>,
    subjects: HashMap<Arc<str>, Subject>,
    /// The events that may be sent, by the time at which they are due: of each subject without an attempt under way the first
    /// pending event and the parked ones.
    armed: BTreeSet<(Instant, EventKey)>,
    /// The pending ones of these.
    heads: BTreeSet<EventKey>,
    expiries: BTreeSet<(Instant, EventKey)>,
    /// The events that failed or are parked.
    troubled: BTreeSet<EventKey>,
    in_flight: usize,
    mode: Mode,
    /// The time and the subject of the last event that was accepted.
    accepted: Option<(Instant, Arc<str>)>,
}

#[derive(Debug)]
struct Waiting {
    subject: Arc<str>,
    /// Failures since the sink was last found to be up.
    failures: u32,
    failed_at: Option<Instant>,
    /// The last failure before these, or the first of them.
    failing_since: Option<Instant>,
    due: Instant,
    /// How often it was parked.
    parked: Option<u32>,
    /// Whether it is sent again at once if the attempt under way fails.
    hurried: bool,
    expires: Instant,
}

#[derive(Debug, Default)]
struct Subject {
    pending: BTreeSet<EventKey>,
    parked: BTreeSet<EventKey>,
    in_flight: Option<EventKey>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Mode {
    #[default]
    Accepting,
    /// The next result of another subject tells whether this event or the sink is at fault.
    Trial(EventKey),
    Down {
        attempts: u32,
        tried_at: Instant,
        due: Instant,
        last: EventKey,
    },
}

impl Queue {
    /// Adds an event. Returns whether it may be accepted soon: no earlier event of its subject has failed, and the sink is up.
    pub(super) fn push(&mut self, key: EventKey, subject: &str, expires: Instant, now: Instant) -> bool {
        let subject: Arc<str> = self.subjects.get_key_value(subject).map_or_else(|| subject.into(), |(known, _)| Arc::clone(known));
        let known = self.subjects.get(&subject);
        let earlier = known.is_some_and(|known| known.pending.iter().any(|earlier| self.has_failed(*earlier)));
        let waiting = Waiting {
            subject: Arc::clone(&subject),
            failures: 0,
            failed_at: None,
            failing_since: None,
            due: now,
            parked: None,
            hurried: false,
            expires,
        };
        self.change(&subject, |queue| {
            queue.add(key, waiting);
            queue.subject(&subject).pending.insert(key);
        });
        match &mut self.mode {
            Mode::Down { due, tried_at, .. } => {
                *due = (*due).min((*tried_at + ARRIVAL_PAUSE).max(now));
                false
            }
            Mode::Accepting | Mode::Trial(_) => !earlier,
        }
    }

    /// Adds an event that was parked before a restart.
    pub(super) fn push_parked(&mut self, key: EventKey, subject: &str, expires: Instant, parked: Parked) {
        let subject: Arc<str> = subject.into();
        let waiting = Waiting {
            subject: Arc::clone(&subject),
            failures: FAILURES,
            failed_at: None,
            failing_since: None,
            due: parked.due,
            parked: Some(parked.times),
            hurried: false,
            expires,
        };
        self.change(&subject, |queue| {
            queue.add(key, waiting);
            queue.subject(&subject).parked.insert(key);
            queue.troubled.insert(key);
        });
    }

    /// Makes a parked event due; one whose attempt is under way, as soon as that has failed. Returns false if it is not parked.
    pub(super) fn hurry_parked(&mut self, key: EventKey, now: Instant) -> bool {
        let is_under_way = self.is_under_way(key);
        let Some(waiting) = self.events.get_mut(&key).filter(|waiting| waiting.parked.is_some()) else { return false };
        waiting.hurried = is_under_way;
        let subject = Arc::clone(&waiting.subject);
        self.change(&subject, |queue| {
            if let Some(waiting) = queue.events.get_mut(&key) {
                waiting.due = now;
            }
        });
        true
    }

    /// What to do now. An event to send counts as under way until [`Self::finish`].
    pub(super) fn next(&mut self, now: Instant) -> Next {
        let chosen = match self.mode {
            Mode::Accepting if self.in_flight >= CONCURRENT => None,
            Mode::Accepting => self.armed.first().filter(|(due, _)| *due <= now).map(|(_, key)| *key),
            Mode::Trial(_) | Mode::Down { .. } if self.in_flight > 0 => None,
            Mode::Trial(blocked) => self.head_of_another(blocked),
            Mode::Down { due, last, .. } => {
                self.heads.range(successor(last)..).next().or_else(|| self.heads.first()).copied().filter(|_| due <= now)
            }
        };
        match chosen {
            Some(key) => {
                self.start(key);
                Next::Send(key)
            }
            None => Next::Wait(self.wake()),
        }
    }

    /// The oldest pending event, whatever it waits for. It counts as under way until [`Self::finish`].
    pub(super) fn oldest(&mut self) -> Option<EventKey> {
        let key = *self.heads.first()?;
        self.start(key);
        Some(key)
    }

    /// Records the result of an attempt. `jitter` is between 0 and 1.
    pub(super) fn finish(&mut self, key: EventKey, attempt: Attempt, now: Instant, jitter: f64) -> Vec<Change> {
        let Some(waiting) = self.events.get(&key) else { return Vec::new() };
        let subject = Arc::clone(&waiting.subject);
        if self.subjects.get(&subject).and_then(|known| known.in_flight) != Some(key) {
            return Vec::new();
        }
        self.in_flight -= 1;
        self.subject(&subject).in_flight = None;
        let mut changes = match attempt {
            Attempt::Accepted => self.accept(key, &subject),
            Attempt::TooLarge => vec![self.park(key, now)],
            Attempt::Failed | Attempt::Held => self.fail(key, now, jitter, attempt == Attempt::Failed),
        };
        self.arm(&subject);
        if attempt == Attempt::Accepted {
            self.accepted = Some((now, Arc::clone(&subject)));
        }
        // Another subject's event was accepted meanwhile: this one is at fault.
        let failing_since = self.events.get(&key).and_then(|waiting| waiting.failing_since);
        let is_at_fault = self.accepted.as_ref().is_some_and(|(at, of)| *of != subject && failing_since.is_some_and(|since| *at >= since));
        changes.extend(self.judge(key, &subject, attempt, is_at_fault, now, jitter));
        changes
    }

    /// Removes an event of which nothing was sent and nothing has to be: the sink accepted it earlier, or its room was needed. Says
    /// nothing about the sink.
    pub(super) fn settle(&mut self, key: EventKey) {
        let Some(subject) = self.events.get(&key).map(|waiting| Arc::clone(&waiting.subject)) else { return };
        if self.is_under_way(key) {
            self.in_flight -= 1;
            self.subject(&subject).in_flight = None;
        }
        self.change(&subject, |queue| queue.forget(key, &subject));
        self.settle_mode();
    }

    /// Removes the events that were not accepted before their expiry.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Change> {
        let expired: Vec<_> = self.expiries.iter().take_while(|(expires, _)| *expires <= now).map(|(_, key)| *key).collect();
        let changes: Vec<_> = expired.into_iter().filter(|key| self.remove(*key)).map(Change::Expired).collect();
        if let (Mode::Down { due, last, .. }, Some(Change::Expired(key))) = (&mut self.mode, changes.first()) {
            // The next event of the subject has its chance before it expires too.
            (*due, *last) = (now, *key);
        }
        changes
    }

    /// Removes an event that is not under way. Returns whether it was there.
    pub(super) fn remove(&mut self, key: EventKey) -> bool {
        let Some(subject) = self.events.get(&key).map(|waiting| Arc::clone(&waiting.subject)) else { return false };
        if self.subject(&subject).in_flight == Some(key) {
            return false;
        }
        self.change(&subject, |queue| queue.forget(key, &subject));
        self.settle_mode();
        true
    }

    pub(super) fn state(&self) -> SinkState {
        match self.mode {
            Mode::Down { .. } => SinkState::Down,
            Mode::Trial(_) => SinkState::Retrying,
            Mode::Accepting if !self.troubled.is_empty() => SinkState::Retrying,
            Mode::Accepting => SinkState::Accepting,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = EventKey> + '_ {
        self.events.keys().copied()
    }

    fn accept(&mut self, key: EventKey, subject: &Arc<str>) -> Vec<Change> {
        let earlier: Vec<_> = self.subject(subject).parked.range(..key).copied().collect();
        self.disarm(subject);
        for key in earlier.iter().copied().chain([key]) {
            self.forget(key, subject);
        }
        [Change::Accepted(key)].into_iter().chain(earlier.into_iter().map(Change::Superseded)).collect()
    }

    fn fail(&mut self, key: EventKey, now: Instant, jitter: f64, sent: bool) -> Vec<Change> {
        let Some(waiting) = self.events.get_mut(&key) else { return Vec::new() };
        waiting.failures = waiting.failures.saturating_add(u32::from(sent));
        if waiting.parked.is_some() {
            return vec![self.park(key, now)];
        }
        if waiting.failures == 1 {
            waiting.failing_since = waiting.failed_at.or(Some(now));
        }
        waiting.failed_at = Some(now);
        self.troubled.insert(key);
        waiting.due = now + pause_after(waiting.failures, jitter);
        Vec::new()
    }

    fn park(&mut self, key: EventKey, now: Instant) -> Change {
        let times = self.events.get(&key).and_then(|waiting| waiting.parked).unwrap_or_default().saturating_add(1);
        let pause = LEAST_PARKED.saturating_mul(1 << (times - 1).min(6)).min(LONGEST_PARKED);
        let hurried = self.events.get_mut(&key).is_some_and(|waiting| std::mem::take(&mut waiting.hurried));
        let schedule = Parked { times, due: if hurried { now } else { now + pause } };
        if let Some(waiting) = self.events.get_mut(&key) {
            waiting.failures = waiting.failures.max(1);
            (waiting.parked, waiting.due) = (Some(times), schedule.due);
            self.troubled.insert(key);
            let subject = Arc::clone(&waiting.subject);
            let subject = self.subject(&subject);
            subject.pending.remove(&key);
            subject.parked.insert(key);
        }
        Change::Parked(key, schedule)
    }

    fn start(&mut self, key: EventKey) {
        let Some(subject) = self.events.get(&key).map(|waiting| Arc::clone(&waiting.subject)) else { return };
        self.disarm(&subject);
        self.subject(&subject).in_flight = Some(key);
        self.in_flight += 1;
    }

    fn is_under_way(&self, key: EventKey) -> bool {
        let subject = self.events.get(&key).and_then(|waiting| self.subjects.get(&waiting.subject));
        subject.is_some_and(|subject| subject.in_flight == Some(key))
    }

    fn has_failed(&self, key: EventKey) -> bool {
        self.events.get(&key).is_some_and(|waiting| waiting.failed_at.is_some())
    }

    fn wake(&self) -> Option<Instant> {
        let due = match self.mode {
            Mode::Accepting if self.in_flight < CONCURRENT => self.armed.first().map(|(due, _)| *due),
            Mode::Down { due, .. } if self.in_flight == 0 => Some(due),
            Mode::Accepting | Mode::Trial(_) | Mode::Down { .. } => None,
        };
        // An event that expires while it is under way is removed after its attempt.
        let expires = self.expiries.iter().find(|(_, key)| !self.is_under_way(*key)).map(|(expires, _)| *expires);
        [due, expires].into_iter().flatten().min()
    }

    fn subject(&mut self, subject: &Arc<str>) -> &mut Subject {
        self.subjects.entry(Arc::clone(subject)).or_default()
    }

    fn add(&mut self, key: EventKey, waiting: Waiting) {
        self.expiries.insert((waiting.expires, key));
        self.events.insert(key, waiting);
    }

    fn forget(&mut self, key: EventKey, subject: &Arc<str>) {
        self.troubled.remove(&key);
        if let Some(waiting) = self.events.remove(&key) {
            self.expiries.remove(&(waiting.expires, key));
        }
        let known = self.subject(subject);
        known.pending.remove(&key);
        known.parked.remove(&key);
    }

    /// Changes a subject and keeps what may be sent up to date.
    fn change(&mut self, subject: &Arc<str>, act: impl FnOnce(&mut Self)) {
        self.disarm(subject);
        act(self);
        self.arm(subject);
    }

    fn arm(&mut self, subject: &Arc<str>) {
        let Some(known) = self.subjects.get(subject) else { return };
        if known.pending.is_empty() && known.parked.is_empty() {
            self.subjects.remove(subject);
        } else if known.in_flight.is_none() {
            self.heads.extend(known.pending.first());
            let due = |key: &EventKey| self.events.get(key).map(|waiting| (waiting.due, *key));
            self.armed.extend(known.pending.first().into_iter().chain(&known.parked).filter_map(due));
        }
    }

    fn disarm(&mut self, subject: &Arc<str>) {
        let Some(known) = self.subjects.get(subject) else { return };
        for key in known.pending.first().into_iter().chain(&known.parked) {
            if let Some(waiting) = self.events.get(key) {
                self.armed.remove(&(waiting.due, *key));
            }
            self.heads.remove(key);
        }
    }
}

fn successor(key: EventKey) -> EventKey {
    EventKey { event: key.event + 1, ..key }
}

/// The pause after this many failures, with up to a quarter taken off so that sinks are not tried in step.
fn pause_after(failures: u32, jitter: f64) -> Duration {
    let doubled = LEAST_PAUSE.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1).min(20)).unwrap_or(u32::MAX));
    doubled.min(LONGEST_PAUSE).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0)
}
