//! Builds condition lists; nothing else writes them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::v1alpha1::{ConditionType, Reason};

/// The values of a condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// The status cannot be determined now.
    Unknown,
}

impl ConditionStatus {
    const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Maximum length of a message in characters: conditions are read in terminals.
const LONGEST_MESSAGE: usize = 1024;

/// Builds a condition list from an old one: the transition time stays while the status is unchanged, and conditions that are
/// not set again are dropped.
#[derive(Debug)]
pub struct Conditions<'a> {
    generation: Option<i64>,
    now: Timestamp,
    old: &'a [Condition],
    new: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    /// Starts from an old list.
    #[must_use]
    pub const fn new(old: &'a [Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self { generation, now, old, new: Vec::new() }
    }

    /// Sets a condition. Truncates a message that is too long.
    pub fn set(&mut self, kind: ConditionType, status: ConditionStatus, reason: Reason, message: impl Into<String>) {
        let message: String = message.into();
        let before = find(self.old, kind);
        let last_transition_time =
            before.filter(|before| before.status == status.as_str()).map_or(Time(self.now), |before| before.last_transition_time.clone());
        self.new.retain(|condition| condition.type_ != kind.as_str());
        self.new.push(Condition {
            type_: kind.as_str().to_owned(),
            status: status.as_str().to_owned(),
            reason: reason.as_str().to_owned(),
            message: message.chars().take(LONGEST_MESSAGE).collect(),
            observed_generation: self.generation,
            last_transition_time,
        });
    }

    /// Sets a condition to `True` with the reason `Succeeded`.
    pub fn succeed(&mut self, kind: ConditionType, message: impl Into<String>) {
        self.set(kind, ConditionStatus::True, Reason::Succeeded, message);
    }

    /// Keeps a condition unchanged, including its observed generation. Does nothing if the old list does not have it.
    pub fn keep(&mut self, kind: ConditionType) {
        if let Some(before) = find(self.old, kind) {
            self.new.retain(|condition| condition.type_ != kind.as_str());
            self.new.push(before.clone());
        }
    }

    /// Whether the old list has a condition.
    #[must_use]
    pub fn was(&self, kind: ConditionType) -> bool {
        find(self.old, kind).is_some()
    }

    /// A condition of the new list.
    #[must_use]
    pub fn get(&self, kind: ConditionType) -> Option<&Condition> {
        find(&self.new, kind)
    }

    /// Returns the new list, sorted by type, with `Ready` first.
    #[must_use]
    pub fn finish(mut self) -> Vec<Condition> {
        self.new.sort_by(|one, other| (one.type_ != "Ready", &one.type_).cmp(&(other.type_ != "Ready", &other.type_)));
        self.new
    }
}

/// Finds a condition in a list.
#[must_use]
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

/// Whether a condition in a list is `True`.
#[must_use]
pub fn is_true(conditions: &[Condition], kind: ConditionType) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_changes_only_with_the_status() {
        let mut conditions = Conditions::new(&[], Some(1), at(10));
        conditions.set(ConditionType::Ready, ConditionStatus::False, Reason::Progressing, "first");
        let old = conditions.finish();
        let mut conditions = Conditions::new(&old, Some(2), at(20));
        conditions.set(ConditionType::Ready, ConditionStatus::False, Reason::Unreachable, "second");
        let same = conditions.finish();
        assert_eq!(find(&same, ConditionType::Ready).unwrap().last_transition_time, Time(at(10)));
        let mut conditions = Conditions::new(&same, Some(2), at(30));
        conditions.succeed(ConditionType::Ready, "third");
        let changed = conditions.finish();
        assert_eq!(find(&changed, ConditionType::Ready).unwrap().last_transition_time, Time(at(30)));
    }

    #[test]
    fn a_condition_that_is_not_set_again_is_dropped() {
        let mut conditions = Conditions::new(&[], Some(1), at(10));
        conditions.set(ConditionType::Stalled, ConditionStatus::True, Reason::ForeignHook, "x");
        let old = conditions.finish();
        assert!(Conditions::new(&old, Some(1), at(20)).finish().is_empty());
    }
}
