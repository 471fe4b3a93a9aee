//! Plans the recreation of hooks that the provider switched off. Pure.
//!
//! The hook is created anew, because no provider re-enables a hook on an update. The new hook is created before the old one is
//! deleted, so that no delivery is lost in between. Growing pauses separate the attempts for a receiver that stays broken.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::repair::Repair;
use super::{HookAction, HookFinding, HookIntent, HookPlan, OwnedHook, Wanted, delete_or_release};
use crate::api::v1alpha1::{EventKind, Reason};
use crate::controllers::binding::time::told;
use crate::controllers::runtime::backoff::growing_pause;

/// Recreations of one hook since its last good delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recreation {
    /// Number of recreations, at least one.
    pub attempts: usize,
    /// Time of the last recreation.
    pub last: Timestamp,
}

impl Recreation {
    fn pause(self) -> SignedDuration {
        growing_pause(self.attempts)
    }

    /// Earliest time of the next recreation.
    #[must_use]
    pub fn next(self) -> Timestamp {
        self.last.checked_add(self.pause()).unwrap_or(Timestamp::MAX)
    }

    /// Expiry: two backoff periods without another recreation.
    #[must_use]
    pub fn end(self) -> Timestamp {
        self.next().checked_add(self.pause()).unwrap_or(Timestamp::MAX)
    }
}

/// Earlier recreations and repairs, and the deliveries of the binding.
#[derive(Clone, Debug, Default)]
pub struct RecreationHistory {
    /// Recreations by variant.
    pub recreations: BTreeMap<String, Recreation>,
    /// Repairs that were not confirmed, by variant.
    pub repairs: BTreeMap<String, Repair>,
    /// Time of the last verified delivery of each event.
    pub last_delivery: BTreeMap<EventKind, Timestamp>,
    /// Whether our receiver refused the last delivery that reached it.
    pub refused: bool,
}

/// A recreation to be stored in the attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recreated {
    /// Variant of the hook.
    pub variant: String,
    /// The attempts including this one.
    pub recreation: Recreation,
    /// Whether the new hook is created now; otherwise the first recreation is postponed.
    pub made: bool,
}

/// Plans the recreation of a hook that the provider switched off.
pub(super) fn recreate_disabled(
    plan: &mut HookPlan,
    off: &OwnedHook<'_>,
    cause: &str,
    intent: HookIntent,
    wanted: &Wanted,
    context: HookContext,
) {
    let now = context.now;
    let variant = intent.shape.variant.clone();
    let known = wanted.history.recreations.get(&variant).copied().filter(|recreation| !was_delivered_since(&intent, wanted, *recreation));
    let recreation = Recreation { attempts: known.map_or(1, |known| known.attempts.saturating_add(1)), last: now };
    let (follows, at) = match (wanted.pending_creates.get(&variant), known) {
        _ if context.adopted => ("it is somebody else's, who can switch it on again there".to_owned(), None),
        (Some(until), _) => {
            plan.wait(*until, false);
            ("whether a new one was made is looked for again".to_owned(), Some(*until))
        }
        (None, Some(known)) if known.next() > now => (made_at(known.next()), Some(known.next())),
        (None, None) if wanted.history.refused => {
            plan.recreated.push(Recreated { variant, recreation, made: false });
            (made_at(recreation.next()), Some(recreation.next()))
        }
        (None, _) => {
            plan.actions.push(HookAction::Create(HookIntent { why: "the provider switched the old one off", ..intent }));
            plan.actions.push(delete_or_release(off, &BTreeSet::new(), "the provider switched it off"));
            plan.recreated.push(Recreated { variant, recreation, made: true });
            // Wakes before the next recreation would be allowed, to see whether the new hook lasts.
            (format!("a new one takes its place; another one, if need be, not before {}", told(recreation.next())), Some(recreation.next()))
        }
    };
    let message = format!("the provider switched hook {} off: {cause}; {follows}", off.hook.id);
    plan.finding = Some(HookFinding { reason: Reason::DisabledByProvider, message });
    if let Some(at) = at {
        plan.wake_at(at);
    }
}

/// Further inputs for the plan of one hook.
#[derive(Clone, Copy, Debug)]
pub(super) struct HookContext {
    /// Whether the hook was adopted.
    pub(super) adopted: bool,
    /// The present time.
    pub(super) now: Timestamp,
}

fn was_delivered_since(intent: &HookIntent, wanted: &Wanted, recreation: Recreation) -> bool {
    intent
        .shape
        .events
        .iter()
        .filter_map(|event| wanted.history.last_delivery.get(event))
        .any(|last_delivery| *last_delivery > recreation.last)
}

fn made_at(next: Timestamp) -> String {
    format!("a new one takes its place at {}", told(next))
}

#[cfg(test)]
mod tests;
