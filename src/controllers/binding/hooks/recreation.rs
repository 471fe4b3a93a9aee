//! Plans the recreation of hooks that the provider switched off. Pure.
//!
//! Also of those that stay paused for long. The hook is created anew, because no provider re-enables a hook on an update. The new hook is created before the old one is
//! deleted, so that no delivery is lost in between. Growing pauses separate the attempts for a receiver that stays broken.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::model::{HookAction, HookFinding, HookIntent, HookPlan, OwnedHook, Recreated, Recreation, Wanted};
use crate::api::v1alpha1::Reason;
use crate::controllers::binding::time::told;

/// A hook whose provider resumes within this time is not recreated.
const BORNE_PAUSE: SignedDuration = SignedDuration::from_mins(5);

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
        _ if context.adopted => ("somebody else made it and can enable it again there".to_owned(), None),
        (Some(until), _) => {
            plan.wait(*until, false);
            ("Forgebind checks again whether a new one was created".to_owned(), Some(*until))
        }
        (None, Some(known)) if known.next() > now => (made_at(known.next()), Some(known.next())),
        (None, None) if wanted.history.refused => {
            plan.recreated.push(Recreated { variant, recreation, made: false });
            (made_at(recreation.next()), Some(recreation.next()))
        }
        (None, _) => {
            plan.actions.push(HookAction::Create(HookIntent { why: "the provider disabled the old one", ..intent }));
            plan.actions.push(off.removal(&BTreeSet::new(), "the provider disabled it"));
            plan.recreated.push(Recreated { variant, recreation, made: true });
            // Wakes before the next recreation would be allowed, to see whether the new hook lasts.
            (format!("a new one replaces it; the next replacement is possible at {}", told(recreation.next())), Some(recreation.next()))
        }
    };
    let message = format!("the provider disabled hook {}: {cause}; {follows}", off.hook.id);
    plan.finding = Some(HookFinding { reason: Reason::DisabledByProvider, message });
    if let Some(at) = at {
        plan.wake_at(at);
    }
}

/// Plans a hook that the provider resumes by itself. If that takes long, it is recreated, because the provider drops what happens
/// meanwhile. An adopted hook is left to its owner.
pub(super) fn held_back(
    plan: &mut HookPlan,
    off: &OwnedHook<'_>,
    cause: &str,
    until: Option<Timestamp>,
    intent: HookIntent,
    wanted: &Wanted,
    context: HookContext,
) {
    let left = until.map(|until| until.duration_since(context.now)).filter(SignedDuration::is_positive);
    if left.is_some_and(|left| left > BORNE_PAUSE) && !context.adopted {
        recreate_disabled(plan, off, cause, intent, wanted, context);
    } else {
        let message = format!("the provider disabled hook {}: {cause}", off.hook.id);
        plan.finding = Some(HookFinding { reason: Reason::DisabledByProvider, message });
    }
    // The hook may be in order then.
    if let Some(until) = until.filter(|_| left.is_some()) {
        plan.wake_at(until);
    }
}

/// Further inputs for the plan of one hook.
#[derive(Clone, Copy, Debug)]
pub(super) struct HookContext {
    pub(super) adopted: bool,
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
    format!("a new one replaces it at {}", told(next))
}

#[cfg(test)]
mod tests;
