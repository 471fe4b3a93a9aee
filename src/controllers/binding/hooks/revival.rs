//! What becomes of a hook that the provider switched off. Pure.
//!
//! It is made anew: no provider takes an update for a reason to switch it on again. The new one comes before the old one
//! goes, so that nothing is lost between them, and a receiver that stays broken is tried with growing pauses.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, Unit};

use super::{Destination, HookAction, HookFinding, HookIntent, HookPlan, Ours, Wanted, leave};
use crate::api::v1alpha1::{EventKind, Reason};

/// The pauses after the first, the second, … attempt.
const PAUSES: [SignedDuration; 6] = [
    SignedDuration::from_mins(1),
    SignedDuration::from_mins(5),
    SignedDuration::from_mins(30),
    SignedDuration::from_hours(2),
    SignedDuration::from_hours(6),
    SignedDuration::from_hours(24),
];

/// The attempts to bring one hook back, since its deliveries were good last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revival {
    /// How many, one at least.
    pub attempts: usize,
    /// When the last one was.
    pub last: Timestamp,
}

impl Revival {
    fn pause(self) -> SignedDuration {
        let position = self.attempts.saturating_sub(1).min(PAUSES.len() - 1);
        PAUSES.get(position).copied().unwrap_or_default()
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
pub struct Known {
    /// The attempts, by part.
    pub revivals: BTreeMap<String, Revival>,
    /// The last verified delivery of each event.
    pub heard: BTreeMap<EventKind, Timestamp>,
    /// Whether our receiver refused the last delivery that reached it.
    pub refused: bool,
}

/// An attempt, for whoever remembers it and tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revived {
    /// Which of several hooks.
    pub part: String,
    /// To be remembered.
    pub revival: Revival,
    /// What the provider did; `None` where the first attempt is only put off.
    pub message: Option<String>,
}

/// Decides about a hook that the provider switched off, for good or, with `rests`, until it tries again by itself.
pub(super) fn revive(plan: &mut HookPlan, off: &Ours<'_>, cause: &str, rests: bool, intent: HookIntent, wanted: &Wanted, of: Standing) {
    let said = format!("the provider switched hook {} off: {cause}", off.hook.id);
    let wait = |plan: &mut HookPlan, next: &str, at: Option<Timestamp>| {
        plan.finding = Some(HookFinding { reason: Reason::DisabledByProvider, message: format!("{said}; {next}") });
        if let Some(at) = at {
            plan.wake_at(at);
        }
    };
    if of.adopted {
        return wait(plan, "it is somebody else's, who can switch it on again there", None);
    }
    if let Some(until) = wanted.awaited.get(&intent.shape.part) {
        plan.wait(*until, false);
        return wait(plan, "whether a new one was made is looked for again", None);
    }
    let known = wanted.known.revivals.get(&intent.shape.part).copied().filter(|revival| !was_heard(&intent, wanted, *revival));
    // Nobody tells how somebody else's endpoint does.
    let is_doubtful = wanted.known.refused || wanted.destination != Destination::Receiver;
    if rests && is_doubtful {
        return wait(plan, "a new one is made once deliveries are accepted again", known.map(Revival::next).filter(|next| *next > of.now));
    }
    let revival = Revival { attempts: known.map_or(1, |known| known.attempts.saturating_add(1)), last: of.now };
    let part = intent.shape.part.clone();
    match known {
        Some(known) if known.next() > of.now => wait(plan, &made_at(known.next()), Some(known.next())),
        None if wanted.known.refused => {
            wait(plan, &made_at(revival.next()), Some(revival.next()));
            plan.revived.push(Revived { part, revival, message: None });
        }
        _ => {
            plan.actions.push(HookAction::Create(HookIntent { why: "the provider switched the old one off", ..intent }));
            plan.actions.push(leave(off, &std::collections::BTreeSet::new(), "the provider switched it off"));
            // Whether it lasts is seen before it would be tried again.
            plan.wake_at(revival.next());
            plan.revived.push(Revived { part, revival, message: Some(said) });
        }
    }
}

/// What else decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Whether the hook was somebody else's.
    pub(super) adopted: bool,
    /// The present time.
    pub(super) now: Timestamp,
}

fn was_heard(intent: &HookIntent, wanted: &Wanted, revival: Revival) -> bool {
    intent.shape.events.iter().filter_map(|event| wanted.known.heard.get(event)).any(|heard| *heard > revival.last)
}

fn made_at(next: Timestamp) -> String {
    format!("a new one is made at {}", next.round(Unit::Second).unwrap_or(next))
}

#[cfg(test)]
mod tests;
