//! Selects cleanup targets and limits how long their removal is tried. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::{Action, FinalizerAction, Plan, SLOW_PROBE};
use crate::api::v1alpha1::Reason;
use crate::api::v1alpha1::binding::HookTarget;
use crate::controllers::binding::hooks::{self, HookAction};
use crate::controllers::binding::observe::{self, CleanupTarget, Connection, Facts, Obstacle};
use crate::controllers::binding::ownership::host_of;
use crate::controllers::binding::time::after;
use crate::controllers::gate::OwnedHooks;
use crate::k8s::conditions::ConditionStatus;
use crate::k8s::finalizer;

/// How long a removal waits for a working credential.
const CREDENTIAL_BOUND: Duration = Duration::from_secs(3600);
/// How long a removal waits for a provider that is out of reach.
const OUTAGE_BOUND: Duration = Duration::from_secs(24 * 3600);
/// Maximum number of former targets in the status.
pub const FORMER_TARGETS: usize = 8;
/// How long a removal waits in a namespace that is being deleted.
const NAMESPACE_BOUND: Duration = Duration::from_secs(20);

/// Targets whose hooks must be removed.
#[must_use]
pub fn cleanup_targets(facts: &Facts) -> Vec<HookTarget> {
    let object = &facts.object;
    let webhook = object.webhook_status();
    // Targets without our seal do not count, as if the status were lost.
    let is_sealed = |target: &&HookTarget| facts.seal.is_on(target);
    let present = webhook.and_then(|webhook| webhook.target.as_ref()).filter(is_sealed).cloned();
    let former: Vec<_> = webhook.into_iter().flat_map(|webhook| &webhook.former_targets).filter(is_sealed).cloned().collect();
    if object.is_being_deleted() {
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
    // The wanted target is not known now: the old hooks stay.
    let Some(keeps) = present_target(facts) else { return withdrawn() };
    present.into_iter().chain(former).filter(|target| !same_target(&keeps, target)).collect()
}

/// Whether the hooks at a target stay when the object is deleted, according to its deletion policy. The policy does not apply to
/// a connection of another namespace that no longer allows the binding. It does not apply either where the connection's owner
/// could not end the deliveries later: our receiver refuses deliveries without a grant, a custom endpoint accepts them for ever.
fn is_left(facts: &Facts, cleanup_target: &HookTarget) -> bool {
    let object = &facts.object;
    let is_own = object.metadata.namespace.as_ref() == Some(&cleanup_target.connection.namespace);
    let may_stay = is_own || object.custom_url().is_none();
    object.orphans() && may_stay && !facts.withdrawn.contains(cleanup_target)
}

/// The target that the spec names, for a binding whose status was lost and names none: the finalizer means that a hook may exist
/// there. Anybody can set a finalizer, so the target is read only with a grant.
fn target_by_grant(facts: &Facts, former: &[HookTarget]) -> Option<HookTarget> {
    let lost = finalizer::is_present(&*facts.object) && former.is_empty();
    (lost && facts.granted == Some(true)).then(|| observe::target_of_spec(&facts.object, facts.public_url.as_ref().ok()))
}

/// Why a requested hook must not exist: the connection is not available to this binding any more.
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

/// Whether no hook must exist anywhere: none is requested, or it is withheld.
pub(super) fn wants_none(facts: &Facts) -> bool {
    facts.object.own_hook().is_none() || withheld(facts).is_some()
}

/// Whether two targets are the same repository through the same connection.
#[must_use]
pub fn same_target(one: &HookTarget, other: &HookTarget) -> bool {
    one.connection == other.connection && one.repository_id == other.repository_id
}

/// Target of the hooks, as far as this probe found it.
pub(super) fn present_target(facts: &Facts) -> Option<HookTarget> {
    let found = facts.probe.as_ref()?;
    let repository = found.repository.found().filter(|_| matches!(found.hooks, Some(Ok(_))))?;
    let host = match facts.object.custom_url() {
        Some(url) => host_of(&url),
        None => facts.public_url.as_ref().ok().map(host_of)?,
    };
    Some(repository.target(&facts.seal, host))
}

/// The target to record before its first hook is created, because a crash or the withdrawal of a grant may come before the hook
/// is in the status.
pub(super) fn to_announce(plan: &Plan, facts: &Facts, actions: &[HookAction]) -> Option<HookTarget> {
    let makes = |action: &HookAction| matches!(action, HookAction::Create(_) | HookAction::Update { adopted: true, .. });
    let target = plan.target.as_ref().filter(|_| actions.iter().any(makes))?;
    let webhook = facts.object.webhook_status();
    let former = webhook.map(|webhook| webhook.former_targets.as_slice()).unwrap_or_default();
    let is_known = webhook
        .and_then(|webhook| webhook.target.as_ref())
        .into_iter()
        .chain(former)
        .any(|known| same_target(known, target) && known.seal == target.seal);
    (!is_known && former.len() < FORMER_TARGETS).then(|| target.clone())
}

/// Whether the deadline of an obstacle has passed.
#[must_use]
pub fn is_past_bound(facts: &Facts, obstacle: &Obstacle) -> bool {
    deadline(facts, obstacle).is_some_and(|deadline| deadline <= facts.now)
}

/// Deadline for a blocked cleanup. `None` before the first attempt: after a restart the deletion may be old, and giving up would
/// leave hooks that the first attempt could remove.
pub(super) fn deadline(facts: &Facts, obstacle: &Obstacle) -> Option<Timestamp> {
    let deleted = facts.object.metadata.deletion_timestamp.as_ref()?.0;
    let bound = match obstacle {
        Obstacle::Pending | Obstacle::NotHeld => return None,
        // Waiting would reveal which obstacle it is.
        Obstacle::Untold => Duration::ZERO,
        _ if facts.terminating => NAMESPACE_BOUND,
        Obstacle::Credential(_) | Obstacle::Gone(_) => facts.settings.cleanup_timeout.unwrap_or(CREDENTIAL_BOUND),
        Obstacle::Outage(_) => facts.settings.cleanup_timeout.unwrap_or(OUTAGE_BOUND),
    };
    Some(after(deleted, bound))
}

/// Whether no hook of ours is left once the plan is executed, and none is to be created. This removes a finalizer that somebody
/// else set on a binding without hooks and without a grant at once.
pub(super) fn is_rid_of_everything(facts: &Facts) -> bool {
    let seen = |cleanup_target: &CleanupTarget| matches!(cleanup_target.hooks, Ok(_) | Err(Obstacle::Gone(_) | Obstacle::NotHeld));
    let idle = facts.suspended || facts.observe_only;
    let judged = !facts.targets.is_empty() || facts.granted.is_some();
    !idle && judged && wants_none(facts) && facts.targets.iter().all(seen)
}

/// Ids of the adopted hooks among those to remove. If the status was lost, the adopted hooks are unknown: if the spec allows
/// adoption, all count as adopted, so that a foreign hook is not deleted as ours.
pub(super) fn adopted_at_targets(facts: &Facts) -> BTreeSet<String> {
    let object = &facts.object;
    let may_be = object.spec.webhook.as_ref().is_some_and(|webhook| webhook.adopt);
    if !may_be || object.tells_of_hooks() {
        return object.adopted_hooks();
    }
    facts
        .targets
        .iter()
        .filter_map(|cleanup_target| cleanup_target.hooks.as_ref().ok())
        .flat_map(OwnedHooks::hooks)
        .map(|hook| hook.id.clone())
        .collect()
}

/// Plans the removal of hooks at targets where they are no longer wanted, after their successors were created.
pub(super) fn clear(plan: &mut Plan, facts: &Facts) {
    let waits = plan.webhook.as_ref().is_some_and(|finding| finding.status != ConditionStatus::True);
    let waits = waits && matches!(facts.connection, Connection::Ready { .. }) && facts.object.own_hook().is_some();
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
                // The successor is probed again too, because the old target is read again only together with it.
                let probe = after(facts.now, SLOW_PROBE);
                plan.next_probe = Some(plan.next_probe.map_or(probe, |next| next.min(probe)));
                plan.wake_at(Some(probe));
            }
        }
    }
}

/// Ids of the hooks at a target that are still wanted, because another connection found them in the very same repository. The
/// server must be reached in the same way, because on another way somebody else may answer in its name.
fn kept_there(plan: &Plan, facts: &Facts, owned_hooks: &OwnedHooks) -> BTreeSet<String> {
    let (Connection::Ready { active_client, .. }, Some(target)) = (&facts.connection, &plan.target) else { return BTreeSet::new() };
    let is_same = active_client.server() == owned_hooks.server() && target.repository_id == owned_hooks.repository_id();
    plan.existing.iter().flatten().filter(|_| is_same).map(|hook| hook.id.clone()).collect()
}

/// Plans the deletion: removes all our hooks, or records them as leftovers once the deadline has passed.
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
            // Hooks of a missing repository cannot be removed. If the repository reappears, the leftover entry is retried.
            Err(Obstacle::Gone(why)) if cleanup_target.held => plan.actions.push(Action::Record(position, why.clone())),
            Err(Obstacle::Gone(_) | Obstacle::NotHeld) => {}
            Err(obstacle) if is_past_bound(facts, obstacle) && cleanup_target.held => {
                plan.actions.push(Action::Record(position, text(obstacle)));
            }
            // As far as is known, no hook was ever held there, so nothing is left behind.
            Err(obstacle) if is_past_bound(facts, obstacle) => {}
            Err(obstacle) => match deadline(facts, obstacle) {
                Some(until) if blocked.is_none_or(|(_, later)| later < until) => blocked = Some((obstacle, until)),
                Some(_) => {}
                None => untried = true,
            },
        }
    }
    let ends = blocked.is_none() && !untried;
    // Also without a present secretRef: an earlier spec may have had one.
    let may_have_brought =
        object.webhook_status().is_some() || object.spec.webhook.as_ref().is_some_and(|webhook| webhook.secret_ref.is_some());
    if may_have_brought && ends {
        plan.actions.push(Action::WithdrawSecret);
    }
    plan.finalizer_action = if ends { FinalizerAction::RemoveAndForget } else { FinalizerAction::Keep };
    // A blocked cleanup ends at its deadline at the latest; until then it is tried again, for example during an outage.
    let probe = after(facts.now, Duration::from_secs(15));
    let wake = blocked.map(|(_, until)| after(until, Duration::from_secs(1)).min(probe));
    plan.wake_at(wake.or_else(|| untried.then_some(probe)));
    // A cleanup that was not tried yet after a start is tried in a moment and not reported as blocked.
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
