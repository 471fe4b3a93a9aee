//! What was tried at providers and is not over: creations whose answer was lost, and hooks that were brought back after the
//! provider switched them off. In memory only: what a crash loses, the look after a start makes up for.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::hooks::repair::Repair;
use super::hooks::revival::Revival;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};

/// How long after a creation without an answer a list that does not show the hook is not believed: lists lag behind.
pub const LAG: SignedDuration = SignedDuration::from_secs(10);

/// For how long a repair counts that was not found to last: longer than the longest time between two looks.
const REPAIRS_COUNT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// For how long a place that was cleared without a grant is not looked at again.
const CLEARED_COUNTS: SignedDuration = SignedDuration::from_hours(1);

/// Where a hook is: each of several hooks of one binding has a part of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seat {
    connection: ConnectionTarget,
    repository_id: String,
    part: String,
}

impl Seat {
    fn new(target: &HookTarget, part: &str) -> Self {
        Self { connection: target.connection.clone(), repository_id: target.repository_id.clone(), part: part.to_owned() }
    }

    fn is_at(&self, target: &HookTarget) -> bool {
        self.connection == target.connection && self.repository_id == target.repository_id
    }
}

/// What was tried for one binding.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    unanswered: HashMap<Seat, Timestamp>,
    revivals: HashMap<Seat, Revival>,
    repairs: HashMap<Seat, Repair>,
    cleared: HashMap<Seat, Timestamp>,
}

impl Attempts {
    /// Notes that the answer to a creation was lost: the hook may be there, or come.
    pub fn unanswered(&mut self, target: &HookTarget, part: &str, now: Timestamp) {
        self.unanswered.insert(Seat::new(target, part), now);
    }

    /// Until when nothing is to be created at a place, by part. What is over is not in it.
    #[must_use]
    pub fn awaited(&self, target: &HookTarget, now: Timestamp) -> BTreeMap<String, Timestamp> {
        let here = self.unanswered.iter().filter(|(seat, _)| seat.is_at(target));
        let ends = here.map(|(seat, at)| (seat.part.clone(), at.checked_add(LAG).unwrap_or(Timestamp::MAX)));
        ends.filter(|(_, until)| *until > now).collect()
    }

    /// Notes that a place was cleared without a grant: whoever writes it into the status again causes no other call.
    pub fn cleared(&mut self, target: &HookTarget, now: Timestamp) {
        self.cleared.insert(Seat::new(target, ""), now);
    }

    /// Whether a place was cleared lately.
    #[must_use]
    pub fn was_cleared(&self, target: &HookTarget, now: Timestamp) -> bool {
        self.cleared.get(&Seat::new(target, "")).is_some_and(|at| now.duration_since(*at) < CLEARED_COUNTS)
    }

    /// Notes that a hook was brought back, or that its first attempt was put off.
    pub fn revived(&mut self, target: &HookTarget, part: &str, revival: Revival) {
        self.revivals.insert(Seat::new(target, part), revival);
    }

    /// The attempts to bring hooks of a place back, by part.
    #[must_use]
    pub fn revivals(&self, target: &HookTarget) -> BTreeMap<String, Revival> {
        let here = self.revivals.iter().filter(|(seat, _)| seat.is_at(target));
        here.map(|(seat, revival)| (seat.part.clone(), *revival)).collect()
    }

    /// Notes that a hook was repaired, or that it was found in order: `None`.
    pub fn repaired(&mut self, target: &HookTarget, part: &str, repair: Option<Repair>) {
        let seat = Seat::new(target, part);
        match repair {
            Some(repair) => drop(self.repairs.insert(seat, repair)),
            None => drop(self.repairs.remove(&seat)),
        }
    }

    /// The repairs at a place that were not found to last, by part.
    #[must_use]
    pub fn repairs(&self, target: &HookTarget) -> BTreeMap<String, Repair> {
        let here = self.repairs.iter().filter(|(seat, _)| seat.is_at(target));
        here.map(|(seat, repair)| (seat.part.clone(), repair.clone())).collect()
    }

    /// Forgets what is over.
    pub fn forget(&mut self, now: Timestamp) {
        self.repairs.retain(|_, repair| repair.last.checked_add(REPAIRS_COUNT).is_ok_and(|until| until > now));
        self.unanswered.retain(|_, at| at.checked_add(LAG).is_ok_and(|until| until > now));
        self.revivals.retain(|_, revival| revival.end() > now);
        self.cleared.retain(|_, at| now.duration_since(*at) < CLEARED_COUNTS);
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unanswered.is_empty() && self.revivals.is_empty() && self.repairs.is_empty() && self.cleared.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn target(id: &str) -> HookTarget {
        let connection = ConnectionTarget { namespace: "platform".to_owned(), name: "acme".to_owned() };
        HookTarget {
            connection,
            repository_id: id.to_owned(),
            repository: "acme/shop".to_owned(),
            host: "hooks.acme.io".to_owned(),
            seal: None,
        }
    }

    #[test]
    fn a_creation_without_an_answer_is_waited_for_at_its_place_and_for_its_part_alone() {
        let mut attempts = Attempts::default();
        attempts.unanswered(&target("7"), "push", at(100));
        assert_eq!(attempts.awaited(&target("7"), at(109)), BTreeMap::from([("push".to_owned(), at(110))]));
        assert!(attempts.awaited(&target("8"), at(109)).is_empty());
        assert!(attempts.awaited(&target("7"), at(110)).is_empty(), "a list of now shows what was made then");
        attempts.forget(at(109));
        assert!(!attempts.is_empty());
        attempts.forget(at(110));
        assert!(attempts.is_empty());
    }
}
