//! Plans repairs of hooks that do not keep their repaired state. Pure.
//!
//! A server may accept an update and keep some of its own values, or somebody may change the hook back. Repairing such a hook at
//! every probe and reporting it in order would never end, so repairs are counted, made with growing pauses, and reported.

use std::collections::{BTreeSet, hash_map::DefaultHasher};
use std::hash::{Hash as _, Hasher as _};

use jiff::Timestamp;

use super::model::{HookAction, HookFinding, HookIntent, HookPlan, OwnedHook, Repair, Wanted};
use crate::api::v1alpha1::Reason;
use crate::controllers::binding::time::told;

fn wish(intent: &HookIntent) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&intent.url, &intent.shape.fields).hash(&mut hasher);
    hasher.finish()
}

/// Repairs the fields in which a hook differs, unless the last repair of the same fields did not last and its pause is not over.
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

/// The finding for a hook that differs after a repair.
pub fn did_not_last(id: &str, fields: &[&str], attempts: usize, follows: &str) -> HookFinding {
    let times = if attempts == 1 { "a repair".to_owned() } else { format!("{attempts} repairs") };
    let message = format!(
        "hook {id} differs in {} after {times}: the provider does not store these values, or somebody changes them back; {follows}",
        fields.join(", ")
    );
    HookFinding { reason: Reason::RepairDidNotLast, message }
}
