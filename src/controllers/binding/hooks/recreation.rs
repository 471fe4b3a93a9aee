//! What becomes of a hook that the provider switched off. Pure.
//!
//! It is made anew: no provider takes an update for a reason to switch it on again. The new one comes before the old one
//! goes, so that nothing is lost between them, and a receiver that stays broken is tried with growing pauses.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::repair::Repair;
use super::{HookAction, HookFinding, HookIntent, HookPlan, OwnedHook, Wanted, delete_or_release};
use crate::api::v1alpha1::{EventKind, Reason};
use crate::controllers::binding::plan::told;
use crate::controllers::runtime::backoff::growing_pause;

/// The attempts to bring one hook back, since its deliveries were good last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recreation {
    /// How many, one at least.
    pub attempts: usize,
    /// When the last one was.
    pub last: Timestamp,
}

impl Recreation {
    fn pause(self) -> SignedDuration {
        growing_pause(self.attempts)
    }

    /// When the next attempt may be made.
    #[must_use]
    pub fn next(self) -> Timestamp {
        self.last.checked_add(self.pause()).unwrap_or(Timestamp::MAX)
    }

    /// When it counts no more: nobody had to bring the hook back for twice the pause.
    #[must_use]
    pub fn end(self) -> Timestamp {
        self.next().checked_add(self.pause()).unwrap_or(Timestamp::MAX)
    }
}

/// What is known of earlier attempts and of deliveries.
#[derive(Clone, Debug, Default)]
pub struct RecreationHistory {
    /// The attempts, by variant.
    pub recreations: BTreeMap<String, Recreation>,
    /// The repairs that were not found to last, by variant.
    pub repairs: BTreeMap<String, Repair>,
    /// The last verified delivery of each event.
    pub last_delivery: BTreeMap<EventKind, Timestamp>,
    /// Whether our receiver refused the last delivery that reached it.
    pub refused: bool,
}

/// An attempt, for whoever remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recreated {
    /// Which of several hooks.
    pub variant: String,
    /// To be remembered.
    pub recreation: Recreation,
    /// Whether the new hook is made now; otherwise the first attempt is put off.
    pub made: bool,
}

/// Decides about a hook that the provider switched off.
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
            // Whether it lasts is seen before it would be tried again.
            (format!("a new one takes its place; another one, if need be, not before {}", told(recreation.next())), Some(recreation.next()))
        }
    };
    let message = format!("the provider switched hook {} off: {cause}; {follows}", off.hook.id);
    plan.finding = Some(HookFinding { reason: Reason::DisabledByProvider, message });
    if let Some(at) = at {
        plan.wake_at(at);
    }
}

/// What else decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct HookContext {
    /// Whether the hook was somebody else's.
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
