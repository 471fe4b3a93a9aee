//! Where hooks are that are to go, and for how long their removal is tried. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::{Action, Hold, Plan, SLOW_PROBE, after, wants_own_hook, webhook_status};
use crate::api::v1alpha1::binding::HookTarget;
use crate::api::v1alpha1::{Reason, RepoBinding};
use crate::controllers::binding::hooks::{self, HookAction};
use crate::controllers::binding::observe::{self, Connection, Observation, Obstacle, Place};
use crate::controllers::binding::ownership::host_of;
use crate::controllers::conditions::Verdict;
use crate::controllers::finalizer;
use crate::controllers::gate::Ours;

/// How long a removal waits for a credential that works.
const CREDENTIAL_BOUND: Duration = Duration::from_secs(3600);
/// How long it waits for a provider that is out of reach.
const OUTAGE_BOUND: Duration = Duration::from_secs(24 * 3600);
/// How many former places the status has room for.
pub const FORMER_TARGETS: usize = 8;
/// How long it waits in a namespace that is being deleted.
const NAMESPACE_BOUND: Duration = Duration::from_secs(20);

/// The places whose hooks are to go.
#[must_use]
pub fn places_to_clear(observation: &Observation) -> Vec<HookTarget> {
    let object = &observation.object;
    let webhook = webhook_status(object);
    // What this installation did not write down itself counts for nothing, as if the status were lost.
    let is_sealed = |target: &&HookTarget| observation.seal.is_on(target);
    let present = webhook.and_then(|webhook| webhook.target.as_ref()).filter(is_sealed).cloned();
    let former: Vec<_> = webhook.into_iter().flat_map(|webhook| &webhook.former_targets).filter(is_sealed).cloned().collect();
    if object.metadata.deletion_timestamp.is_some() {
        if !finalizer::is_present(&**object) {
            return Vec::new();
        }
        // What is left behind on purpose is left within the grant only.
        if observe::orphans(object) {
            return observation.withdrawn.clone();
        }
        return present.or_else(|| place_by_grant(observation, &former)).into_iter().chain(former).collect();
    }
    let withdrawn = || observation.withdrawn.clone();
    if observation.suspended || observation.observe_only {
        return withdrawn();
    }
    if wants_none(observation) {
        return present.or_else(|| place_by_grant(observation, &former)).into_iter().chain(former).collect();
    }
    // Where the hooks are to be cannot be seen now: the old ones stay.
    let Some(keeps) = present_target(observation) else { return withdrawn() };
    present.into_iter().chain(former).filter(|target| !same_place(&keeps, target)).collect()
}

/// The place that the spec names, for a binding whose status was lost, so that it names none: the finalizer tells that a hook
/// may be there. Anybody can set a finalizer, so that nobody looks there without a grant.
fn place_by_grant(observation: &Observation, former: &[HookTarget]) -> Option<HookTarget> {
    let lost = finalizer::is_present(&*observation.object) && former.is_empty();
    (lost && observation.granted == Some(true)).then(|| observe::place_of_spec(&observation.object, observation.public_url.as_ref().ok()))
}

/// Why a hook that is asked for is not to be: the connection is not there for this binding any more.
#[must_use]
pub fn withheld(observation: &Observation) -> Option<(Reason, &'static str)> {
    match &observation.connection {
        Connection::NotPermitted => Some((Reason::RefNotPermitted, "the connection does not exist or does not allow this binding")),
        Connection::NotReady(trouble) if trouble.reason == Reason::ConnectionNotReady => {
            Some((Reason::ConnectionNotReady, "the connection is being deleted"))
        }
        _ => observation
            .departure()
            .map(|_| (Reason::RepositoryMovedOutOfScope, "the repository is where the connection does not allow this binding")),
    }
}

/// Whether no hook is to be anywhere: none is asked for, or it is withheld.
pub(super) fn wants_none(observation: &Observation) -> bool {
    wants_own_hook(&observation.object).is_none() || withheld(observation).is_some()
}

/// Whether two places are one: the same repository through the same connection.
#[must_use]
pub fn same_place(one: &HookTarget, other: &HookTarget) -> bool {
    one.connection == other.connection && one.repository_id == other.repository_id
}

/// Where the hooks are to be, as far as this look shows it.
pub(super) fn present_target(observation: &Observation) -> Option<HookTarget> {
    let found = observation.look.as_ref()?;
    let repository = found.repository.here().filter(|_| matches!(found.hooks, Some(Ok(_))))?;
    let host = match observe::custom_url(&observation.object) {
        Some(url) => host_of(&url),
        None => observation.public_url.as_ref().ok().map(host_of)?,
    };
    Some(repository.place(&observation.seal, host))
}

/// The place that is to be written down before the first hook is made there: a crash, or a grant that is withdrawn, may come
/// before the hook is in the status.
pub(super) fn to_announce(plan: &Plan, observation: &Observation, actions: &[HookAction]) -> Option<HookTarget> {
    let makes = |action: &HookAction| matches!(action, HookAction::Create(_) | HookAction::Update { adopted: true, .. });
    let target = plan.target.as_ref().filter(|_| actions.iter().any(makes))?;
    let webhook = webhook_status(&observation.object);
    let former = webhook.map(|webhook| webhook.former_targets.as_slice()).unwrap_or_default();
    let is_known = webhook
        .and_then(|webhook| webhook.target.as_ref())
        .into_iter()
        .chain(former)
        .any(|known| same_place(known, target) && known.seal == target.seal);
    (!is_known && former.len() < FORMER_TARGETS).then(|| target.clone())
}

/// Whether the time to wait for an obstacle is over.
#[must_use]
pub fn is_past_bound(observation: &Observation, obstacle: &Obstacle) -> bool {
    deadline(observation, obstacle).is_some_and(|deadline| deadline <= observation.now)
}

/// Until when an obstacle is waited for; `None` where nobody tried yet, which is over in a moment. After a start that may be
/// long after the deletion, and who gives up then leaves hooks that would have gone at the first attempt.
pub(super) fn deadline(observation: &Observation, obstacle: &Obstacle) -> Option<Timestamp> {
    let deleted = observation.object.metadata.deletion_timestamp.as_ref()?.0;
    let bound = match obstacle {
        Obstacle::Pending | Obstacle::NotHeld => return None,
        // A wait would tell what stands against it.
        Obstacle::Untold => Duration::ZERO,
        _ if observation.terminating => NAMESPACE_BOUND,
        Obstacle::Credential(_) | Obstacle::Gone(_) => observation.settings.cleanup_timeout.unwrap_or(CREDENTIAL_BOUND),
        Obstacle::Outage(_) => observation.settings.cleanup_timeout.unwrap_or(OUTAGE_BOUND),
    };
    Some(after(deleted, bound))
}

/// Whether nothing of ours is left anywhere once the plan is carried out, and nothing is to come. A finalizer that somebody
/// else set, to a binding that holds nothing and may look at nothing, goes at once.
pub(super) fn is_rid_of_everything(observation: &Observation) -> bool {
    let seen = |place: &Place| matches!(place.hooks, Ok(_) | Err(Obstacle::Gone(_) | Obstacle::NotHeld));
    let idle = observation.suspended || observation.observe_only;
    let judged = !observation.places.is_empty() || observation.granted.is_some();
    !idle && judged && wants_none(observation) && observation.places.iter().all(seen)
}

pub(super) fn adopted(object: &RepoBinding) -> BTreeSet<String> {
    let hooks = webhook_status(object).map(|webhook| webhook.hooks.as_slice()).unwrap_or_default();
    hooks.iter().filter(|hook| hook.adopted).map(|hook| hook.id.clone()).collect()
}

/// The adopted ones among the hooks that are to go. With the status lost, nobody knows which were adopted: where the spec
/// allows it, all count as adopted, because a hook of somebody else must not be deleted as ours.
pub(super) fn adopted_at_places(observation: &Observation) -> BTreeSet<String> {
    let object = &observation.object;
    let may_be = object.spec.webhook.as_ref().is_some_and(|webhook| webhook.adopt);
    if !may_be || tells_of_hooks(object) {
        return adopted(object);
    }
    observation.places.iter().filter_map(|place| place.hooks.as_ref().ok()).flat_map(Ours::hooks).map(|hook| hook.id.clone()).collect()
}

/// Whether the status tells which hooks were made. One that was lost does not, nor one that was written just before the first.
#[must_use]
pub fn tells_of_hooks(object: &RepoBinding) -> bool {
    webhook_status(object).is_some_and(|webhook| webhook.secret_generation.is_some())
}

/// Plans the removal of hooks at places where they are no longer wanted. Their successors come first.
pub(super) fn clear(plan: &mut Plan, observation: &Observation) {
    let waits = plan.webhook.as_ref().is_some_and(|finding| finding.verdict != Verdict::True);
    let waits = waits && matches!(observation.connection, Connection::Ready { .. }) && wants_own_hook(&observation.object).is_some();
    let adopted = adopted_at_places(observation);
    for (position, place) in observation.places.iter().enumerate() {
        match &place.hooks {
            _ if waits && !observation.withdrawn.contains(&place.target) => {}
            // The same place seen through another connection: what is there is what is wanted.
            Ok(ours) if is_present_place(plan, observation, ours) => {}
            Ok(ours) => {
                let removal = hooks::removal(ours.hooks(), &observation.ownership, &adopted, "it is no longer wanted here");
                plan.actions.extend(removal.actions.into_iter().map(|action| Action::Clear(position, action)));
            }
            Err(Obstacle::Gone(why)) if place.held => plan.actions.push(Action::Record(position, why.clone())),
            Err(Obstacle::Gone(_) | Obstacle::NotHeld) => {}
            Err(_) => {
                // Its successor is looked at again too: only beside it does the old one come up.
                let probe = after(observation.now, SLOW_PROBE);
                plan.next_look = Some(plan.next_look.map_or(probe, |next| next.min(probe)));
                plan.wake_at(Some(probe));
            }
        }
    }
}

/// Whether a place is the very repository in which the hooks are to be.
pub(super) fn is_present_place(plan: &Plan, observation: &Observation, ours: &Ours) -> bool {
    let (Connection::Ready { working, .. }, Some(target)) = (&observation.connection, &plan.target) else { return false };
    working.endpoint.api == *ours.api() && target.repository_id == ours.repository_id()
}

/// Plans the end: everything of ours goes, or is written down when its time is over.
pub(super) fn delete(plan: &mut Plan, observation: &Observation) {
    let object = &observation.object;
    if !finalizer::is_present(&**object) {
        return;
    }
    let adopted = adopted_at_places(observation);
    let mut untried = false;
    let mut blocked: Option<(&Obstacle, Timestamp)> = None;
    for (position, place) in observation.places.iter().enumerate() {
        match &place.hooks {
            _ if observation.observe_only => {
                if place.held {
                    plan.actions.push(Action::Record(position, "nothing is written at the provider while observing".to_owned()));
                }
            }
            Ok(ours) => {
                let removal = hooks::removal(ours.hooks(), &observation.ownership, &adopted, "its binding is being deleted");
                plan.actions.extend(removal.actions.into_iter().map(|action| Action::Clear(position, action)));
            }
            // A repository that is gone has no hook that we could remove. Should it come back, the entry is worked off.
            Err(Obstacle::Gone(why)) if place.held => plan.actions.push(Action::Record(position, why.clone())),
            Err(Obstacle::Gone(_) | Obstacle::NotHeld) => {}
            Err(obstacle) if is_past_bound(observation, obstacle) && place.held => {
                plan.actions.push(Action::Record(position, text(obstacle)));
            }
            // No hook was ever held there, as far as is known: nothing that could be left behind.
            Err(obstacle) if is_past_bound(observation, obstacle) => {}
            Err(obstacle) => match deadline(observation, obstacle) {
                Some(until) if blocked.is_none_or(|(_, later)| later < until) => blocked = Some((obstacle, until)),
                Some(_) => {}
                None => untried = true,
            },
        }
    }
    let ends = blocked.is_none() && !untried;
    // Also without secretRef now: there may have been one before.
    let may_have_brought =
        webhook_status(object).is_some() || object.spec.webhook.as_ref().is_some_and(|webhook| webhook.secret_ref.is_some());
    if may_have_brought && ends {
        plan.actions.push(Action::WithdrawSecret);
    }
    plan.hold = if ends { Hold::Remove } else { Hold::Keep };
    // A wait that ends by something else than a change ends by its deadline; an outage is probed meanwhile.
    let probe = after(observation.now, Duration::from_secs(15));
    let wake = blocked.map(|(_, until)| after(until, Duration::from_secs(1)).min(probe));
    plan.wake_at(wake.or_else(|| untried.then_some(probe)));
    // What was not tried yet, after a start, is tried in a moment: nothing to bother anybody with.
    plan.blocked = blocked.map(|(obstacle, until)| (text(obstacle), until));
}

pub(super) fn text(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::Pending => "the connection was not examined yet".to_owned(),
        Obstacle::Credential(why) | Obstacle::Outage(why) | Obstacle::Gone(why) => why.clone(),
        Obstacle::Untold => observe::UNTOLD.to_owned(),
        Obstacle::NotHeld => "no hook was made there".to_owned(),
    }
}
