//! What becomes of a hook that does not stay as it was repaired. Pure.
//!
//! A server may take an update and keep some of its own ways, or somebody may set the hook back. Repairing it at every probe, and
//! calling that in order, would go on for ever: the repairs are counted, made with growing pauses, and told.

use std::collections::{BTreeSet, hash_map::DefaultHasher};
use std::hash::{Hash as _, Hasher as _};

use jiff::Timestamp;

use super::{HookAction, HookFinding, HookIntent, HookPlan, OwnedHook, Wanted};
use crate::api::v1alpha1::Reason;
use crate::controllers::binding::plan::told;
use crate::controllers::runtime::backoff::growing_pause;

/// The repairs of one hook after which it was not found as it should be, in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// How many, one at least.
    pub attempts: usize,
    /// When the last one was.
    pub last: Timestamp,
    /// The fields that were repaired.
    fields: BTreeSet<&'static str>,
    /// What the hook was to become: something else that is wanted is no repair of the same.
    wish: u64,
}

impl Repair {
    /// When the next attempt may be made.
    #[must_use]
    pub fn next(&self) -> Timestamp {
        self.last.checked_add(growing_pause(self.attempts)).unwrap_or(Timestamp::MAX)
    }
}

fn wish(intent: &HookIntent) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&intent.url, &intent.shape.fields).hash(&mut hasher);
    hasher.finish()
}

/// Repairs the fields in which a hook differs, unless that was tried a moment ago and did not last.
pub(super) fn repair(
    plan: &mut HookPlan,
    stays: &OwnedHook<'_>,
    intent: HookIntent,
    drift: Vec<&'static str>,
    wanted: &Wanted,
    (adopted, now): (bool, Timestamp),
) {
    let (variant, wish, fields) = (intent.shape.variant.clone(), wish(&intent), drift.iter().copied().collect::<BTreeSet<_>>());
    let known = wanted.history.repairs.get(&variant).filter(|known| known.wish == wish && !known.fields.is_disjoint(&fields));
    let attempts = known.map_or(0, |known| known.attempts);
    let waits = known.map(Repair::next).filter(|next| *next > now);
    if let Some(known) = known {
        let what: Vec<&str> = known.fields.intersection(&fields).copied().collect();
        let follows = waits.map_or_else(|| "it is repaired once more".to_owned(), |next| format!("it is repaired again at {}", told(next)));
        plan.finding = Some(did_not_last(&stays.hook.id, &what, attempts, &follows));
    }
    if let Some(next) = waits {
        return plan.wake_at(next);
    }
    plan.repairs.insert(variant, Some(Repair { attempts: attempts + 1, last: now, fields, wish }));
    plan.actions.push(HookAction::Update { id: stays.hook.id.clone(), intent, drift, adopted });
}

/// What is said of a hook that differs again, or still.
#[must_use]
pub fn did_not_last(id: &str, fields: &[&str], attempts: usize, follows: &str) -> HookFinding {
    let times = if attempts == 1 { "a repair".to_owned() } else { format!("{attempts} repairs") };
    let message = format!(
        "hook {id} differs in {} after {times}: the provider does not keep what it was given, or somebody sets it back; {follows}",
        fields.join(", ")
    );
    HookFinding { reason: Reason::RepairDidNotLast, message }
}
