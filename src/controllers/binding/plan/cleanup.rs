//! Where hooks are that are to go, and for how long their removal is tried. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::{Action, FinalizerAction, Plan, SLOW_PROBE, after, wants_own_hook, webhook_status};
use crate::api::v1alpha1::binding::HookTarget;
use crate::api::v1alpha1::{Reason, RepoBinding};
use crate::controllers::binding::hooks::{self, HookAction};
use crate::controllers::binding::observe::{self, CleanupTarget, Connection, Facts, Obstacle};
use crate::controllers::binding::ownership::host_of;
use crate::controllers::gate::OwnedHooks;
use crate::k8s::conditions::ConditionStatus;
use crate::k8s::finalizer;

/// How long a removal waits for a credential that works.
const CREDENTIAL_BOUND: Duration = Duration::from_secs(3600);
/// How long it waits for a provider that is out of reach.
const OUTAGE_BOUND: Duration = Duration::from_secs(24 * 3600);
/// How many former targets the status has room for.
pub const FORMER_TARGETS: usize = 8;
/// How long it waits in a namespace that is being deleted.
const NAMESPACE_BOUND: Duration = Duration::from_secs(20);

/// The targets whose hooks are to go.
#[must_use]
pub fn cleanup_targets(facts: &Facts) -> Vec<HookTarget> {
    let object = &facts.object;
    let webhook = webhook_status(object);
    // What this installation did not write down itself counts for nothing, as if the status were lost.
    let is_sealed = |target: &&HookTarget| facts.seal.is_on(target);
    let present = webhook.and_then(|webhook| webhook.target.as_ref()).filter(is_sealed).cloned();
    let former: Vec<_> = webhook.into_iter().flat_map(|webhook| &webhook.former_targets).filter(is_sealed).cloned().collect();
    if object.metadata.deletion_timestamp.is_some() {
        if !finalizer::is_present(&**object) {
            return Vec::new();
        }
        let targets = present.or_else(|| target_by_grant(facts, &former)).into_iter().chain(former);
        return targets.filter(|cleanup_target| !is_left(facts, cleanup_target)).collect();
    }
    let withdrawn = || facts.withdrawn.clone();
    if facts.suspended || facts.observe_only {
        return withdrawn();
    }
    if wants_none(facts) {
        return present.or_else(|| target_by_grant(facts, &former)).into_iter().chain(former).collect();
    }
    // Where the hooks are to be cannot be seen now: the old ones stay.
    let Some(keeps) = present_target(facts) else { return withdrawn() };
    present.into_iter().chain(former).filter(|target| !same_target(&keeps, target)).collect()
}

/// Whether the hooks at a target stay there although the object goes, as its deletion policy says. It does not say so for a connection
/// of another namespace that does not allow the binding any more, nor where its owner could not end the deliveries later on: our
/// receiver takes none without a grant, somebody else's endpoint takes them for ever.
fn is_left(facts: &Facts, cleanup_target: &HookTarget) -> bool {
    let object = &facts.object;
    let is_own = object.metadata.namespace.as_ref() == Some(&cleanup_target.connection.namespace);
    let may_stay = is_own || observe::custom_url(object).is_none();
    observe::orphans(object) && may_stay && !facts.withdrawn.contains(cleanup_target)
}

/// The target that the spec names, for a binding whose status was lost, so that it names none: the finalizer tells that a hook
/// may be there. Anybody can set a finalizer, so that nobody looks there without a grant.
fn target_by_grant(facts: &Facts, former: &[HookTarget]) -> Option<HookTarget> {
    let lost = finalizer::is_present(&*facts.object) && former.is_empty();
    (lost && facts.granted == Some(true)).then(|| observe::target_of_spec(&facts.object, facts.public_url.as_ref().ok()))
}

/// Why a hook that is asked for is not to be: the connection is not there for this binding any more.
#[must_use]
pub fn withheld(facts: &Facts) -> Option<(Reason, &'static str)> {
    match &facts.connection {
        Connection::NotPermitted => Some((Reason::RefNotPermitted, "the connection does not exist or does not allow this binding")),
        Connection::NotReady(failure) if failure.reason == Reason::ConnectionNotReady => {
            Some((Reason::ConnectionNotReady, "the connection is being deleted"))
        }
        _ => facts
            .out_of_reach()
            .map(|_| (Reason::RepositoryMovedOutOfScope, "the repository is where the connection does not allow this binding")),
    }
}

/// Whether no hook is to be anywhere: none is asked for, or it is withheld.
pub(super) fn wants_none(facts: &Facts) -> bool {
    wants_own_hook(&facts.object).is_none() || withheld(facts).is_some()
}

/// Whether two targets are one: the same repository through the same connection.
#[must_use]
pub fn same_target(one: &HookTarget, other: &HookTarget) -> bool {
    one.connection == other.connection && one.repository_id == other.repository_id
}

/// Where the hooks are to be, as far as this probe shows it.
pub(super) fn present_target(facts: &Facts) -> Option<HookTarget> {
    let found = facts.probe.as_ref()?;
    let repository = found.repository.found().filter(|_| matches!(found.hooks, Some(Ok(_))))?;
    let host = match observe::custom_url(&facts.object) {
        Some(url) => host_of(&url),
        None => facts.public_url.as_ref().ok().map(host_of)?,
    };
    Some(repository.target(&facts.seal, host))
}

/// The target that is to be written down before the first hook is made there: a crash, or a grant that is withdrawn, may come
/// before the hook is in the status.
pub(super) fn to_announce(plan: &Plan, facts: &Facts, actions: &[HookAction]) -> Option<HookTarget> {
    let makes = |action: &HookAction| matches!(action, HookAction::Create(_) | HookAction::Update { adopted: true, .. });
    let target = plan.target.as_ref().filter(|_| actions.iter().any(makes))?;
    let webhook = webhook_status(&facts.object);
    let former = webhook.map(|webhook| webhook.former_targets.as_slice()).unwrap_or_default();
    let is_known = webhook
        .and_then(|webhook| webhook.target.as_ref())
        .into_iter()
        .chain(former)
        .any(|known| same_target(known, target) && known.seal == target.seal);
    (!is_known && former.len() < FORMER_TARGETS).then(|| target.clone())
}

/// Whether the time to wait for an obstacle is over.
#[must_use]
pub fn is_past_bound(facts: &Facts, obstacle: &Obstacle) -> bool {
    deadline(facts, obstacle).is_some_and(|deadline| deadline <= facts.now)
}

/// Until when an obstacle is waited for; `None` where nobody tried yet, which is over in a moment. After a start that may be
/// long after the deletion, and who gives up then leaves hooks that would have gone at the first attempt.
pub(super) fn deadline(facts: &Facts, obstacle: &Obstacle) -> Option<Timestamp> {
    let deleted = facts.object.metadata.deletion_timestamp.as_ref()?.0;
    let bound = match obstacle {
        Obstacle::Pending | Obstacle::NotHeld => return None,
        // A wait would tell what stands against it.
        Obstacle::Untold => Duration::ZERO,
        _ if facts.terminating => NAMESPACE_BOUND,
        Obstacle::Credential(_) | Obstacle::Gone(_) => facts.settings.cleanup_timeout.unwrap_or(CREDENTIAL_BOUND),
        Obstacle::Outage(_) => facts.settings.cleanup_timeout.unwrap_or(OUTAGE_BOUND),
    };
    Some(after(deleted, bound))
}

/// Whether nothing of ours is left anywhere once the plan is carried out, and nothing is to come. A finalizer that somebody
/// else set, to a binding that holds nothing and may look at nothing, goes at once.
pub(super) fn is_rid_of_everything(facts: &Facts) -> bool {
    let seen = |cleanup_target: &CleanupTarget| matches!(cleanup_target.hooks, Ok(_) | Err(Obstacle::Gone(_) | Obstacle::NotHeld));
    let idle = facts.suspended || facts.observe_only;
    let judged = !facts.targets.is_empty() || facts.granted.is_some();
    !idle && judged && wants_none(facts) && facts.targets.iter().all(seen)
}

pub(super) fn adopted(object: &RepoBinding) -> BTreeSet<String> {
    let hooks = webhook_status(object).map(|webhook| webhook.hooks.as_slice()).unwrap_or_default();
    hooks.iter().filter(|hook| hook.adopted).map(|hook| hook.id.clone()).collect()
}

/// The adopted ones among the hooks that are to go. With the status lost, nobody knows which were adopted: where the spec
/// allows it, all count as adopted, because a hook of somebody else must not be deleted as ours.
pub(super) fn adopted_at_targets(facts: &Facts) -> BTreeSet<String> {
    let object = &facts.object;
    let may_be = object.spec.webhook.as_ref().is_some_and(|webhook| webhook.adopt);
    if !may_be || tells_of_hooks(object) {
        return adopted(object);
    }
    facts
        .targets
        .iter()
        .filter_map(|cleanup_target| cleanup_target.hooks.as_ref().ok())
        .flat_map(OwnedHooks::hooks)
        .map(|hook| hook.id.clone())
        .collect()
}

/// Whether the status tells which hooks were made. One that was lost does not, nor one that was written just before the first.
#[must_use]
pub fn tells_of_hooks(object: &RepoBinding) -> bool {
    webhook_status(object).is_some_and(|webhook| webhook.secret_version.is_some())
}

/// Plans the removal of hooks at targets where they are no longer wanted. Their successors come first.
pub(super) fn clear(plan: &mut Plan, facts: &Facts) {
    let waits = plan.webhook.as_ref().is_some_and(|finding| finding.status != ConditionStatus::True);
    let waits = waits && matches!(facts.connection, Connection::Ready { .. }) && wants_own_hook(&facts.object).is_some();
    let adopted = adopted_at_targets(facts);
    for (position, cleanup_target) in facts.targets.iter().enumerate() {
        match &cleanup_target.hooks {
            _ if waits && !facts.withdrawn.contains(&cleanup_target.target) => {}
            Ok(owned_hooks) => {
                let existing = kept_there(plan, facts, owned_hooks);
                let removal = hooks::removal(owned_hooks.hooks(), owned_hooks.identity(), &adopted, "it is no longer wanted here");
                let removal = removal.actions.into_iter().filter(|action| action.id().is_none_or(|id| !existing.contains(id)));
                plan.actions.extend(removal.map(|action| Action::Clear(position, action)));
            }
            Err(Obstacle::Gone(why)) if cleanup_target.held => plan.actions.push(Action::Record(position, why.clone())),
            Err(Obstacle::Gone(_) | Obstacle::NotHeld) => {}
            Err(_) => {
                // Its successor is probed again too: only beside it does the old one come up.
                let probe = after(facts.now, SLOW_PROBE);
                plan.next_probe = Some(plan.next_probe.map_or(probe, |next| next.min(probe)));
                plan.wake_at(Some(probe));
            }
        }
    }
}

/// The hooks at a target that are wanted now: through another connection they were found in the very same repository. What somebody
/// else may have said in the server's name, on another way, keeps nothing.
fn kept_there(plan: &Plan, facts: &Facts, owned_hooks: &OwnedHooks) -> BTreeSet<String> {
    let (Connection::Ready { active_client, .. }, Some(target)) = (&facts.connection, &plan.target) else { return BTreeSet::new() };
    let is_same = active_client.server() == owned_hooks.server() && target.repository_id == owned_hooks.repository_id();
    plan.existing.iter().flatten().filter(|_| is_same).map(|hook| hook.id.clone()).collect()
}

/// Plans the end: everything of ours goes, or is written down when its time is over.
pub(super) fn delete(plan: &mut Plan, facts: &Facts) {
    let object = &facts.object;
    if !finalizer::is_present(&**object) {
        return;
    }
    let adopted = adopted_at_targets(facts);
    let mut untried = false;
    let mut blocked: Option<(&Obstacle, Timestamp)> = None;
    for (position, cleanup_target) in facts.targets.iter().enumerate() {
        match &cleanup_target.hooks {
            _ if facts.observe_only => {
                if cleanup_target.held {
                    plan.actions.push(Action::Record(position, "nothing is written at the provider while observing".to_owned()));
                }
            }
            Ok(owned_hooks) => {
                let removal = hooks::removal(owned_hooks.hooks(), owned_hooks.identity(), &adopted, "its binding is being deleted");
                plan.actions.extend(removal.actions.into_iter().map(|action| Action::Clear(position, action)));
            }
            // A repository that is gone has no hook that we could remove. Should it come back, the entry is worked off.
            Err(Obstacle::Gone(why)) if cleanup_target.held => plan.actions.push(Action::Record(position, why.clone())),
            Err(Obstacle::Gone(_) | Obstacle::NotHeld) => {}
            Err(obstacle) if is_past_bound(facts, obstacle) && cleanup_target.held => {
                plan.actions.push(Action::Record(position, text(obstacle)));
            }
            // No hook was ever held there, as far as is known: nothing that could be left behind.
            Err(obstacle) if is_past_bound(facts, obstacle) => {}
            Err(obstacle) => match deadline(facts, obstacle) {
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
    plan.finalizer_action = if ends { FinalizerAction::RemoveAndForget } else { FinalizerAction::Keep };
    // A wait that ends by something else than a change ends by its deadline; an outage is probed meanwhile.
    let probe = after(facts.now, Duration::from_secs(15));
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
