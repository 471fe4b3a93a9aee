//! Remembers the last deliveries of each binding and what became of them, in memory and without bodies.
//!
//! Only what was verified and is about the binding's own repository is remembered by its content. What was turned away is
//! counted by reason ([`super::evidence`]), so that a flood of forged deliveries takes no room here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;

use crate::api::v1alpha1::deliveries::{DeliveryOutcome, RECENT_DELIVERIES, RecentDelivery, SinkAnswerState, outcome_of};
use crate::protocol::deliveries::{RecentQuery, RecentReport, presentable, short_sha};
use crate::providers::webhook::Event;

/// Maximum number of deliveries of one binding.
const OF_ONE_BINDING: usize = 50;
/// How long a delivery is remembered.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Maximum size of all of them, in bytes. Beyond it, the bindings with the most deliveries lose their oldest ones.
const BYTES: usize = 16 * 1024 * 1024;
/// Size of a delivery and of an answer without their texts, with what the allocator adds.
const DELIVERY_BYTES: usize = 320;
const ANSWER_BYTES: usize = 144;

/// The last deliveries of all bindings. Cheap to clone; all clones share them.
#[derive(Clone, Debug)]
pub(super) struct RecentDeliveries(Arc<Mutex<Memory>>);

/// Identifies a delivery, with the id as it arrived. The id alone does not: the provider may send a delivery again.
#[derive(Clone, Copy)]
pub(super) struct DeliveryKey<'a> {
    pub(super) uid: &'a str,
    pub(super) at: Timestamp,
    pub(super) id: &'a str,
}

impl DeliveryKey<'_> {
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.id.hash(&mut hasher);
        hasher.finish()
    }
}

#[derive(Debug)]
struct Memory {
    /// Marks the reports of this process.
    process: u64,
    /// Number of changes so far.
    changes: u64,
    bytes: usize,
    limit: usize,
    bindings: HashMap<String, Deliveries>,
}

/// The last deliveries of one binding, the oldest first.
#[derive(Debug, Default)]
struct Deliveries {
    list: VecDeque<Remembered>,
    /// The number of the last change.
    changed: u64,
}

#[derive(Debug)]
struct Remembered {
    at: Timestamp,
    /// The digest of the id as it arrived.
    digest: u64,
    delivery: RecentDelivery,
}

impl Remembered {
    /// Whether it is a delivery that was sent to its sinks, or may be. A duplicate never is.
    fn is(&self, key: DeliveryKey<'_>) -> bool {
        self.at == key.at && self.digest == key.digest() && self.delivery.outcome != DeliveryOutcome::Duplicate
    }

    fn bytes(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let delivery = &self.delivery;
        let answers = delivery.sinks.iter().map(|sink| ANSWER_BYTES + sink.name.len() + length(&sink.error));
        DELIVERY_BYTES + length(&delivery.reference) + length(&delivery.id) + answers.sum::<usize>()
    }
}

/// A verified delivery as it arrived, before anything became of it.
pub(super) fn arrived(at: Timestamp, id: &str, events: &[Event]) -> RecentDelivery {
    let first = events.first();
    presentable(RecentDelivery {
        time: Time(at),
        event: first.map(|event| event.kind),
        reference: first.and_then(|event| event.reference.clone()),
        sha: first.and_then(|event| event.commit.as_deref()).and_then(short_sha),
        events: (events.len() > 1).then(|| u64::try_from(events.len()).unwrap_or(u64::MAX)),
        id: Some(id.to_owned()),
        outcome: DeliveryOutcome::Pending,
        reason: None,
        count: None,
        sinks: Vec::new(),
    })
}

impl RecentDeliveries {
    pub(super) fn new() -> Self {
        Self::with_limit(BYTES)
    }

    fn with_limit(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Memory { process: fastrand::u64(..), changes: 0, bytes: 0, limit, bindings: HashMap::new() })))
    }

    /// Remembers a delivery that is being sent to its sinks, or that is finished.
    pub(super) fn remember(&self, key: DeliveryKey<'_>, delivery: RecentDelivery) {
        let mut bindings = self.0.lock();
        let number = bindings.next();
        let remembered = Remembered { at: key.at, digest: key.digest(), delivery };
        let mut bytes = remembered.bytes();
        let known = bindings.bindings.entry(key.uid.to_owned()).or_default();
        known.changed = number;
        known.list.push_back(remembered);
        let dropped = if known.list.len() > OF_ONE_BINDING { known.list.pop_front() } else { None };
        bytes = bytes.saturating_sub(dropped.as_ref().map_or(0, Remembered::bytes));
        bindings.bytes = bindings.bytes.saturating_add(bytes);
        bindings.make_room();
    }

    /// Whether a delivery is remembered.
    pub(super) fn knows(&self, key: DeliveryKey<'_>) -> bool {
        self.0.lock().bindings.get(key.uid).is_some_and(|known| known.list.iter().rev().any(|entry| entry.is(key)))
    }

    /// Sets the outcome of a delivery that is remembered. Returns false if it is not.
    pub(super) fn conclude(&self, key: DeliveryKey<'_>, outcome: DeliveryOutcome) -> bool {
        self.change(key, |delivery| delivery.outcome = outcome)
    }

    /// Records the state of a delivery at its sinks. Other sinks keep theirs.
    pub(super) fn progress(&self, key: DeliveryKey<'_>, states: &[(&str, SinkAnswerState)], now: Timestamp) {
        self.change(key, |delivery| {
            for (name, state) in states {
                let Some(answer) = delivery.sinks.iter_mut().find(|answer| answer.name == *name) else { continue };
                if answer.state != *state {
                    answer.state = *state;
                    answer.time = (*state == SinkAnswerState::Accepted).then_some(Time(now));
                }
                if *state == SinkAnswerState::Accepted {
                    answer.error = None;
                }
            }
            delivery.outcome = outcome_of(&delivery.sinks);
        });
    }

    /// Records why a sink did not accept a delivery.
    pub(super) fn failed(&self, key: DeliveryKey<'_>, sink: &str, error: &str) {
        self.change(key, |delivery| {
            if let Some(answer) = delivery.sinks.iter_mut().find(|answer| answer.name == sink) {
                answer.error = Some(error.to_owned());
            }
        });
    }

    /// The lists that changed after an earlier report, those that waited longest first.
    pub(super) fn report(&self, query: &RecentQuery) -> RecentReport {
        let bindings = self.0.lock();
        let after = query.after.as_deref().and_then(|cursor| bindings.read(cursor)).unwrap_or_default();
        let mut changed: Vec<_> = bindings.bindings.iter().filter(|(_, known)| known.changed > after).collect();
        changed.sort_unstable_by_key(|(_, known)| known.changed);
        let complete = changed.len() <= query.room;
        changed.truncate(query.room);
        let reached = changed.last().map_or(after, |(_, known)| known.changed);
        let cursor = if complete { bindings.changes } else { reached };
        let newest = |known: &Deliveries| known.list.iter().rev().take(RECENT_DELIVERIES).map(|entry| entry.delivery.clone()).collect();
        RecentReport {
            cursor: format!("{:x}-{cursor}", bindings.process),
            bindings: changed.into_iter().map(|(uid, known)| (uid.clone(), newest(known))).collect::<BTreeMap<_, _>>(),
        }
    }

    /// Forgets old deliveries, and the bindings that are gone.
    pub(super) fn keep(&self, now: Timestamp, is_present: impl Fn(&str) -> bool) {
        let mut bindings = self.0.lock();
        bindings.bindings.retain(|uid, known| {
            known.list.retain(|entry| now.duration_since(entry.at) < REMEMBERED);
            !known.list.is_empty() && is_present(uid)
        });
        bindings.count();
    }

    fn change(&self, key: DeliveryKey<'_>, act: impl FnOnce(&mut RecentDelivery)) -> bool {
        let mut bindings = self.0.lock();
        let Some(known) = bindings.bindings.get_mut(key.uid) else { return false };
        // From the newest: results usually concern the last deliveries.
        let Some(entry) = known.list.iter_mut().rev().find(|entry| entry.is(key)) else { return false };
        let before = entry.bytes();
        act(&mut entry.delivery);
        let after = entry.bytes();
        let number = bindings.next();
        bindings.bytes = bindings.bytes.saturating_sub(before).saturating_add(after);
        if let Some(known) = bindings.bindings.get_mut(key.uid) {
            known.changed = number;
        }
        true
    }

    #[cfg(test)]
    fn lengths(&self) -> BTreeMap<String, usize> {
        self.0.lock().bindings.iter().map(|(uid, known)| (uid.clone(), known.list.len())).collect()
    }
}

impl Memory {
    const fn next(&mut self) -> u64 {
        self.changes = self.changes.saturating_add(1);
        self.changes
    }

    /// The number in a cursor; `None` for a cursor of another process.
    fn read(&self, cursor: &str) -> Option<u64> {
        let (process, number) = cursor.split_once('-')?;
        (process == format!("{:x}", self.process)).then(|| number.parse().ok())?
    }

    /// Keeps fewer deliveries of each binding until there is a quarter of the room to spare, so that this is seldom needed.
    fn make_room(&mut self) {
        if self.bytes <= self.limit {
            return;
        }
        for most in [30, 20, RECENT_DELIVERIES, 5, 2, 1, 0] {
            for known in self.bindings.values_mut() {
                let surplus = known.list.len().saturating_sub(most);
                known.list.drain(..surplus);
                known.list.shrink_to_fit();
            }
            self.count();
            if self.bytes <= self.limit / 4 * 3 {
                return;
            }
        }
    }

    fn count(&mut self) {
        self.bindings.retain(|_, known| !known.list.is_empty());
        self.bytes = self.bindings.values().flat_map(|known| &known.list).map(Remembered::bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::deliveries::SinkAnswer;
    use crate::providers::webhook::Change;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn push(second: i64, id: &str, branch: &str) -> RecentDelivery {
        let event = Event::of_reference(&format!("refs/heads/{branch}"), Change::Updated).unwrap();
        arrived(at(second), id, &[event.at(Some("2b7d44102b7d44102b7d44102b7d44102b7d4410"))])
    }

    fn remember(recent: &RecentDeliveries, uid: &str, second: i64, id: &str) {
        recent.remember(DeliveryKey { uid, at: at(second), id }, push(second, id, "main"));
    }

    fn query(room: usize, after: &RecentReport) -> RecentQuery {
        RecentQuery { room, after: Some(after.cursor.clone()) }
    }

    fn ids(list: &[RecentDelivery]) -> Vec<&str> {
        list.iter().filter_map(|delivery| delivery.id.as_deref()).collect()
    }

    #[test]
    fn a_delivery_is_remembered_with_what_each_sink_made_of_it() {
        let recent = RecentDeliveries::new();
        let mut delivery = push(1, "d-1", "main");
        let pending = |name: &str| SinkAnswer { name: name.to_owned(), state: SinkAnswerState::Pending, time: None, error: None };
        delivery.sinks = vec![pending("a"), pending("b")];
        let key = DeliveryKey { uid: "uid", at: at(1), id: "d-1" };
        recent.remember(key, delivery);
        recent.progress(key, &[("a", SinkAnswerState::Accepted)], at(2));
        recent.failed(key, "b", "answered 503");
        let report = recent.report(&RecentQuery { room: 10, after: None });
        let told = &report.bindings["uid"][0];
        assert_eq!((told.reference.as_deref(), told.sha.as_deref()), (Some("refs/heads/main"), Some("2b7d4410")));
        assert_eq!(told.outcome, DeliveryOutcome::Pending);
        assert_eq!(told.sinks[0].time, Some(Time(at(2))));
        assert_eq!(told.sinks[1].error.as_deref(), Some("answered 503"));
        recent.progress(key, &[("b", SinkAnswerState::DeadLetter)], at(3));
        assert_eq!(recent.report(&query(10, &report)).bindings["uid"][0].outcome, DeliveryOutcome::DeadLetter);
        recent.progress(key, &[("b", SinkAnswerState::Accepted)], at(4));
        let told = recent.report(&query(10, &report)).bindings["uid"][0].clone();
        assert_eq!((told.outcome, told.sinks[1].error.as_deref()), (DeliveryOutcome::Accepted, None));
    }

    #[test]
    fn a_report_has_only_what_changed_and_continues_where_there_was_no_room() {
        let recent = RecentDeliveries::new();
        for number in 0..5 {
            remember(&recent, &format!("uid-{number}"), number, "d");
        }
        let first = recent.report(&RecentQuery { room: 2, after: None });
        assert_eq!(first.bindings.keys().collect::<Vec<_>>(), ["uid-0", "uid-1"], "those that waited longest");
        let nothing = RecentReport { cursor: first.cursor.clone(), ..RecentReport::default() };
        assert_eq!(recent.report(&query(0, &first)), nothing, "without room, nothing is skipped");
        let second = recent.report(&query(10, &first));
        assert_eq!(second.bindings.keys().collect::<Vec<_>>(), ["uid-2", "uid-3", "uid-4"]);
        assert!(recent.report(&query(10, &second)).bindings.is_empty(), "nothing is new");
        remember(&recent, "uid-0", 9, "e");
        assert_eq!(ids(&recent.report(&query(10, &second)).bindings["uid-0"]), ["e", "d"], "the newest first");
        let of_another_process = RecentDeliveries::new().report(&RecentQuery::default());
        assert_eq!(recent.report(&query(10, &of_another_process)).bindings.len(), 5, "a cursor of another process means everything");
    }

    #[test]
    fn fifty_deliveries_of_a_binding_are_remembered_for_seven_days() {
        let recent = RecentDeliveries::new();
        for number in 0..80 {
            remember(&recent, "uid", number, &number.to_string());
        }
        assert_eq!(recent.lengths()["uid"], OF_ONE_BINDING);
        let report = recent.report(&RecentQuery { room: 1, after: None });
        assert_eq!((report.bindings["uid"].len(), ids(&report.bindings["uid"])[0]), (RECENT_DELIVERIES, "79"));
        recent.keep(at(70 + 7 * 24 * 3600), |_| true);
        assert_eq!(recent.lengths()["uid"], 9, "those of the last seven days");
        recent.keep(at(100), |uid| uid != "uid");
        assert!(recent.lengths().is_empty());
    }

    #[test]
    fn the_memory_of_all_of_them_is_bounded_and_the_busy_bindings_lose_first() {
        let limit = 64 * 1024;
        let recent = RecentDeliveries::with_limit(limit);
        for number in 0..3 {
            remember(&recent, "quiet", number, "d");
        }
        for number in 0..2000_i64 {
            remember(&recent, &format!("busy-{}", number % 4), number, &"x".repeat(300));
            assert!(recent.0.lock().bytes <= limit);
        }
        let lengths = recent.lengths();
        assert_eq!(lengths["quiet"], 3, "{lengths:?}");
        for number in 0..2000_i64 {
            remember(&recent, &format!("many-{number}"), number, "d");
            assert!(recent.0.lock().bytes <= limit);
        }
    }
}
