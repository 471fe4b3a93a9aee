//! Keeps unfinished attempts at providers: creations whose answer was lost, recreations of hooks that the provider switched off,
//! repairs, and cleared targets. In memory only: after a crash, the probe at the start makes up for the loss.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::hooks::{Recreation, Repair};
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};

/// Lists lag behind: for this long after a creation without an answer, a list that does not contain the hook proves nothing.
pub const LIST_LAG: SignedDuration = SignedDuration::from_secs(10);

/// How long a repair that was not confirmed is remembered: longer than the longest time between two probes.
const REPAIRS_COUNT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How long a target that was cleared without a grant is not read again.
const CLEARED_COUNTS: SignedDuration = SignedDuration::from_hours(1);

/// Identifies one hook of a binding: connection, repository and variant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct HookSlot {
    connection: ConnectionTarget,
    repository_id: String,
    variant: String,
}

impl HookSlot {
    fn new(target: &HookTarget, variant: &str) -> Self {
        Self { connection: target.connection.clone(), repository_id: target.repository_id.clone(), variant: variant.to_owned() }
    }

    fn is_at(&self, target: &HookTarget) -> bool {
        self.connection == target.connection && self.repository_id == target.repository_id
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    ambiguous_creates: HashMap<HookSlot, Timestamp>,
    recreations: HashMap<HookSlot, Recreation>,
    repairs: HashMap<HookSlot, Repair>,
    cleared: HashMap<HookSlot, Timestamp>,
}

impl Attempts {
    /// Records that the answer to a creation was lost: the hook may exist or may still appear.
    pub fn ambiguous_creates(&mut self, target: &HookTarget, variant: &str, now: Timestamp) {
        self.ambiguous_creates.insert(HookSlot::new(target, variant), now);
    }

    /// Time until which no hook may be created at a target, by variant. Expired entries are left out.
    pub fn pending_creates(&self, target: &HookTarget, now: Timestamp) -> BTreeMap<String, Timestamp> {
        let here = self.ambiguous_creates.iter().filter(|(slot, _)| slot.is_at(target));
        let ends = here.map(|(slot, at)| (slot.variant.clone(), at.checked_add(LIST_LAG).unwrap_or(Timestamp::MAX)));
        ends.filter(|(_, until)| *until > now).collect()
    }

    /// Records that a target was cleared without a grant: writing it into the status again then causes no further provider call.
    pub fn cleared(&mut self, target: &HookTarget, now: Timestamp) {
        self.cleared.insert(HookSlot::new(target, ""), now);
    }

    /// Records that a grant covers the target again, so that hooks are created there and it is read again.
    pub fn granted(&mut self, target: &HookTarget) {
        self.cleared.remove(&HookSlot::new(target, ""));
    }

    /// Whether a target was cleared within the last hour.
    pub fn was_cleared(&self, target: &HookTarget, now: Timestamp) -> bool {
        self.cleared.get(&HookSlot::new(target, "")).is_some_and(|at| now.duration_since(*at) < CLEARED_COUNTS)
    }

    /// Records that a hook was recreated, or that its first recreation was postponed.
    pub fn recreated(&mut self, target: &HookTarget, variant: &str, recreation: Recreation) {
        self.recreations.insert(HookSlot::new(target, variant), recreation);
    }

    /// Recreations of hooks at a target, by variant.
    pub fn recreations(&self, target: &HookTarget) -> BTreeMap<String, Recreation> {
        let here = self.recreations.iter().filter(|(slot, _)| slot.is_at(target));
        here.map(|(slot, recreation)| (slot.variant.clone(), *recreation)).collect()
    }

    /// Records a repair of a hook, or with `None` that the hook was found in order.
    pub fn repaired(&mut self, target: &HookTarget, variant: &str, repair: Option<Repair>) {
        let slot = HookSlot::new(target, variant);
        match repair {
            Some(repair) => drop(self.repairs.insert(slot, repair)),
            None => drop(self.repairs.remove(&slot)),
        }
    }

    /// Unconfirmed repairs at a target, by variant.
    pub fn repairs(&self, target: &HookTarget) -> BTreeMap<String, Repair> {
        let here = self.repairs.iter().filter(|(slot, _)| slot.is_at(target));
        here.map(|(slot, repair)| (slot.variant.clone(), repair.clone())).collect()
    }

    pub fn forget(&mut self, now: Timestamp) {
        self.repairs.retain(|_, repair| repair.last.checked_add(REPAIRS_COUNT).is_ok_and(|until| until > now));
        self.ambiguous_creates.retain(|_, at| at.checked_add(LIST_LAG).is_ok_and(|until| until > now));
        self.recreations.retain(|_, recreation| recreation.end() > now);
        self.cleared.retain(|_, at| now.duration_since(*at) < CLEARED_COUNTS);
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
    fn a_target_that_was_cleared_without_a_grant_is_read_again_once_a_grant_leads_there_or_after_an_hour() {
        let mut attempts = Attempts::default();
        attempts.cleared(&target("7"), at(100));
        assert!(attempts.was_cleared(&target("7"), at(101)) && !attempts.was_cleared(&target("8"), at(101)));
        assert!(!attempts.was_cleared(&target("7"), at(100 + 3600)));
        attempts.granted(&target("7"));
        assert!(!attempts.was_cleared(&target("7"), at(101)) && attempts == Attempts::default());
    }

    #[test]
    fn a_creation_without_an_answer_is_waited_for_at_its_target_and_for_its_part_alone() {
        let mut attempts = Attempts::default();
        attempts.ambiguous_creates(&target("7"), "push", at(100));
        assert_eq!(attempts.pending_creates(&target("7"), at(109)), BTreeMap::from([("push".to_owned(), at(110))]));
        assert!(attempts.pending_creates(&target("8"), at(109)).is_empty());
        assert!(attempts.pending_creates(&target("7"), at(110)).is_empty(), "a list of now shows what was made then");
        attempts.forget(at(109));
        assert_ne!(attempts, Attempts::default());
        attempts.forget(at(110));
        assert_eq!(attempts, Attempts::default());
    }
}
