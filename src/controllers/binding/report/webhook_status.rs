//! The hooks and their secrets, as the status tells them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::v1alpha1::EventKind;
use crate::api::v1alpha1::binding::{ANY_EARLIER_GENERATION, HookStatus, HookTarget, PreviousSecret, RepoBindingStatus, WebhookStatus};
use crate::controllers::binding::apply::Outcome;
use crate::controllers::binding::hooks::Kept;
use crate::controllers::binding::observe::{Connection, Observation, custom_url};
use crate::controllers::binding::plan::Plan;
use crate::controllers::binding::plan::places::{FORMER_TARGETS, same_place};

/// How many earlier secrets are kept at most, as the schema has it.
const PREVIOUS_SECRETS: usize = 8;

/// The hooks and their secrets, as they are after what was done.
pub(super) fn webhook(observation: &Observation, plan: &Plan, outcome: &Outcome, before: &RepoBindingStatus) -> Option<WebhookStatus> {
    let old = before.webhook.clone().unwrap_or_default();
    let mut former = former_targets(&old, plan, outcome);
    let Some(kept) = &plan.kept else {
        // Not listed now: what was known stays, less what is gone for certain.
        let left = old.target.as_ref().is_some_and(|target| outcome.cleared.contains(target) || outcome.recorded.contains(target));
        return match (before.webhook.is_some(), left) {
            (true, true) if former.is_empty() => None,
            (true, true) => Some(WebhookStatus { former_targets: former, ..WebhookStatus::default() }),
            (true, false) => Some(WebhookStatus { former_targets: former, ..old }),
            (false, _) => None,
        };
    };
    let hooks = present_hooks(kept, outcome);
    // What was written down before the first hook was made is over, unless that may still appear.
    let may_appear = hooks.is_empty() && (!outcome.unanswered.is_empty() || plan.awaits.is_some());
    former.retain(|target| may_appear || plan.target.as_ref().is_none_or(|present| !same_place(present, target)));
    if observation.observe_only && hooks.is_empty() {
        return (before.webhook.is_some()).then_some(WebhookStatus { hooks: Vec::new(), former_targets: former, ..old });
    }
    let generation = plan
        .generation
        .clone()
        .filter(|wanted| hooks.iter().any(|hook| hook.generation == *wanted))
        .or_else(|| old.secret_generation.clone());
    let changed = generation != old.secret_generation;
    let found = before.webhook.is_none() && !kept.is_empty() && custom_url(&observation.object).is_none();
    let wanted = match custom_url(&observation.object) {
        Some(url) => Some(url.to_string()),
        None => observation.ownership.masked_receiver_url(),
    };
    // While one of them was not moved yet, it is what is told: deliveries still come that way.
    let elsewhere = hooks.iter().map(|hook| &hook.address).find(|address| Some(*address) != wanted.as_ref());
    let url = elsewhere.cloned().or(wanted);
    Some(WebhookStatus {
        url,
        previous_secrets: previous_secrets(observation, &old, &hooks, generation.as_deref(), found),
        secret_changed_at: if changed { Some(Time(observation.now)) } else { old.secret_changed_at },
        secret_generation: generation,
        last_delivery: old.last_delivery,
        former_targets: former,
        target: if hooks.is_empty() { old.target } else { plan.target.clone() },
        hooks: hooks.iter().map(hook_status).collect(),
    })
}

fn hook_status(hook: &Kept) -> HookStatus {
    // The order of the API's own list, so that the same hook always reads the same.
    let events = EventKind::ALL.into_iter().filter(|event| hook.events.contains(event)).collect();
    HookStatus { id: hook.id.clone(), events, adopted: hook.adopted }
}

fn present_hooks(kept: &[Kept], outcome: &Outcome) -> Vec<Kept> {
    let mut hooks: BTreeMap<(usize, String), Kept> = BTreeMap::new();
    for hook in kept.iter().chain(&outcome.present) {
        hooks.insert((hook.id.len(), hook.id.clone()), hook.clone());
    }
    hooks.retain(|(_, id), _| !outcome.absent.contains(id));
    hooks.into_values().collect()
}

/// The oldest of the former places, for which the status has no room: their hooks are recorded as left behind before the status is
/// written.
#[must_use]
pub fn surplus_targets(observation: &Observation, plan: &Plan, outcome: &Outcome) -> Vec<HookTarget> {
    let old = observation.object.status.as_ref().and_then(|status| status.webhook.as_ref());
    let Some(mut former) = old.filter(|_| !outcome.gone).map(|old| former_targets(old, plan, outcome)) else { return Vec::new() };
    former.truncate(former.len().saturating_sub(FORMER_TARGETS));
    former
}

/// The places that still hold hooks beside the present one, each of them once, in the order in which they were left.
fn former_targets(old: &WebhookStatus, plan: &Plan, outcome: &Outcome) -> Vec<HookTarget> {
    let moved = match (&plan.target, &old.target) {
        (Some(new), Some(old_target)) if (&new.connection, &new.repository_id) != (&old_target.connection, &old_target.repository_id) => {
            Some(old_target.clone())
        }
        _ => None,
    };
    let announced = outcome.announced.iter().filter(|target| !old.former_targets.contains(target)).cloned();
    let mut former: Vec<HookTarget> = old.former_targets.iter().cloned().chain(moved).chain(announced).collect();
    former.retain(|target| !outcome.cleared.contains(target) && !outcome.recorded.contains(target));
    let mut later = BTreeSet::new();
    former.reverse();
    former.retain(|target| later.insert(target.clone()));
    former.reverse();
    former
}

/// The earlier secrets: without an end while a hook may carry them, then for as long as late deliveries may come.
fn previous_secrets(
    observation: &Observation,
    old: &WebhookStatus,
    hooks: &[Kept],
    generation: Option<&str>,
    found: bool,
) -> Vec<PreviousSecret> {
    let grace = match &observation.connection {
        Connection::Ready { working, .. } => working.provider.webhook().rules().secret_grace,
        _ => std::time::Duration::ZERO,
    };
    let grace_end = observation.now.checked_add(SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX);
    let known = old.previous_secrets.iter().map(|previous| (previous.generation.clone(), previous.valid_until.clone()));
    let replaced = old.secret_generation.iter().map(|generation| (generation.clone(), None));
    let carried = hooks.iter().map(|hook| (hook.generation.clone(), None));
    let mut ends: BTreeMap<String, Option<Time>> = BTreeMap::new();
    for (known, end) in known.chain(replaced).chain(carried).filter(|(known, _)| Some(known.as_str()) != generation) {
        let entry = ends.entry(known).or_insert_with(|| end.clone());
        *entry = entry.clone().or(end);
    }
    if found {
        // Which ones are in their grace is lost with the status: deliveries that carry them are authentic all the same.
        ends.entry(ANY_EARLIER_GENERATION.to_owned()).or_insert_with(|| Some(Time(grace_end)));
    }
    let mut previous: Vec<PreviousSecret> = Vec::new();
    for (known, end) in ends {
        let is_carried = hooks.iter().any(|hook| hook.generation == known);
        let end = match end {
            _ if is_carried => None,
            _ if observation.requests.revoke => continue,
            Some(end) if end.0 <= observation.now => continue,
            Some(end) => Some(end),
            None => Some(Time(grace_end)),
        };
        previous.push(PreviousSecret { generation: known, valid_until: end });
    }
    // What hooks carry comes last, and of the others what is accepted longest.
    let end = |previous: &PreviousSecret| previous.valid_until.as_ref().map_or(Timestamp::MAX, |end| end.0);
    previous.sort_by(|one, other| (end(one), &one.generation).cmp(&(end(other), &other.generation)));
    let surplus = previous.len().saturating_sub(PREVIOUS_SECRETS);
    previous.split_off(surplus)
}
