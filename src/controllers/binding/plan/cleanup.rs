//! Plans the removal of hooks. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::model::{FinalizerStep, Plan, PlanStep, SLOW_PROBE};
use crate::controllers::binding::cleanup::{self, CleanupTarget, deadline, is_past_bound};
use crate::controllers::binding::facts::Facts;
use crate::controllers::binding::hooks::{self, HookAction};
use crate::controllers::binding::obstacle::Obstacle;
use crate::controllers::binding::snapshot::Connection;
use crate::controllers::binding::time::after;
use crate::controllers::gate::{Grant, OwnedHooks};
use crate::k8s::conditions::ConditionStatus;
use crate::k8s::finalizer;

/// Pause between two attempts at a removal that blocks the deletion of a binding.
const BLOCKED_RETRY: Duration = Duration::from_secs(15);

/// Whether no hook of ours is left once the plan is executed, and none is to be created. This removes a finalizer that somebody
/// else set on a binding without hooks and without a grant at once.
pub(super) fn is_rid_of_everything(facts: &Facts) -> bool {
    let seen = |cleanup_target: &CleanupTarget| matches!(cleanup_target.hooks, Ok(_) | Err(Obstacle::Gone(_) | Obstacle::NotHeld));
    let idle = facts.snapshot.suspended || facts.snapshot.observe_only;
    let judged = !facts.targets.is_empty() || facts.snapshot.grant.spec != Grant::Undecided;
    let wants_none = cleanup::wants_none(&facts.snapshot, facts.probe.as_ref()) && facts.kept_until().is_none();
    !idle && judged && wants_none && facts.targets.iter().all(seen)
}

/// Ids of the adopted hooks among those to remove. If the status was lost, the adopted hooks are unknown: if the spec allows
/// adoption, all count as adopted, so that a foreign hook is not deleted as ours.
pub(super) fn adopted_at_targets(facts: &Facts) -> BTreeSet<String> {
    let object = &facts.snapshot.object;
    let may_be = object.spec.webhook.as_ref().is_some_and(|webhook| webhook.adopt);
    if !may_be || object.tells_of_hooks() {
        return object.adopted_hooks();
    }
    let listed = facts.targets.iter().filter_map(|cleanup_target| cleanup_target.hooks.as_ref().ok());
    listed.flat_map(|owned_hooks| owned_hooks.hooks()).map(|hook| hook.id.clone()).collect()
}

/// Plans the removal of hooks at targets where they are no longer wanted, after their successors were created.
pub(super) fn clear(plan: &mut Plan, facts: &Facts) {
    let waits = plan.webhook.as_ref().is_some_and(|finding| finding.status != ConditionStatus::True);
    let waits = waits && matches!(facts.snapshot.connection, Connection::Ready { .. }) && facts.snapshot.object.spec.webhook.is_some();
    let adopted = adopted_at_targets(facts);
    for cleanup_target in &facts.targets {
        match &cleanup_target.hooks {
            _ if waits && !facts.snapshot.grant.withdrawn.contains(&cleanup_target.target) => {}
            Ok(owned_hooks) => {
                let existing = kept_there(plan, facts, owned_hooks);
                let removal = hooks::removal(owned_hooks.hooks(), owned_hooks.identity(), &adopted, "it is no longer requested");
                let removal = removal.actions.into_iter().filter(|action| action.id().is_none_or(|id| !existing.contains(id)));
                plan.steps.extend(removal.map(|action| clear_step(cleanup_target, owned_hooks, action)));
            }
            Err(Obstacle::Gone(why)) => plan.steps.extend(record(cleanup_target, why.clone())),
            Err(Obstacle::NotHeld) => {}
            Err(_) => {
                // The successor is probed again too, because the old target is read again only together with it.
                let probe = after(facts.snapshot.now, SLOW_PROBE);
                plan.next_probe = Some(plan.next_probe.map_or(probe, |next| next.min(probe)));
                plan.wake_at(Some(probe));
            }
        }
    }
}

/// Ids of the hooks at a target that are still wanted, because another connection found them in the very same repository. The
/// server must be reached in the same way, because on another way somebody else may answer in its name.
fn kept_there(plan: &Plan, facts: &Facts, owned_hooks: &OwnedHooks) -> BTreeSet<String> {
    let (Connection::Ready { active_client, .. }, Some(target)) = (&facts.snapshot.connection, &plan.target) else {
        return BTreeSet::new();
    };
    let is_same = active_client.server() == owned_hooks.server() && target.repository_id == owned_hooks.repository_id();
    plan.existing.iter().flatten().filter(|_| is_same).map(|hook| hook.id.clone()).collect()
}

/// Plans the deletion: removes all our hooks, or records them as leftovers once the deadline has passed.
pub(super) fn delete(plan: &mut Plan, facts: &Facts) {
    let object = &facts.snapshot.object;
    if !finalizer::is_present(&**object) {
        return;
    }
    let adopted = adopted_at_targets(facts);
    let mut untried = false;
    let mut blocked: Option<(&Obstacle, Timestamp)> = None;
    for cleanup_target in &facts.targets {
        match &cleanup_target.hooks {
            _ if facts.snapshot.observe_only => {
                plan.steps.extend(record(cleanup_target, "nothing is changed at the provider while only observing".to_owned()));
            }
            Ok(owned_hooks) => {
                let removal = hooks::removal(owned_hooks.hooks(), owned_hooks.identity(), &adopted, "its binding is being deleted");
                plan.steps.extend(removal.actions.into_iter().map(|action| clear_step(cleanup_target, owned_hooks, action)));
            }
            // Hooks of a missing repository cannot be removed. If the repository reappears, the leftover entry is retried.
            Err(Obstacle::Gone(why)) => plan.steps.extend(record(cleanup_target, why.clone())),
            Err(Obstacle::NotHeld) => {}
            Err(obstacle) if is_past_bound(&facts.snapshot, obstacle) => plan.steps.extend(record(cleanup_target, obstacle.text())),
            Err(obstacle) => match deadline(&facts.snapshot, obstacle) {
                Some(until) if blocked.is_none_or(|(_, later)| later < until) => blocked = Some((obstacle, until)),
                Some(_) => {}
                None => untried = true,
            },
        }
    }
    let ends = blocked.is_none() && !untried;
    // Also without a present secretRef: an earlier spec may have had one.
    let may_have_brought = object.webhook_status().is_some()
        || object.spec.webhook.as_ref().is_some_and(|webhook| webhook.secret_ref.is_some())
        || object.sinks_need_secrets();
    if ends && facts.snapshot.prepared_entry.exists_or(may_have_brought) {
        plan.steps.push(PlanStep::WithdrawSecret);
    }
    plan.finalizer_step = if ends { FinalizerStep::RemoveAndForget } else { FinalizerStep::Keep };
    // A blocked cleanup ends at its deadline at the latest; until then it is tried again, for example during an outage.
    let probe = after(facts.snapshot.now, BLOCKED_RETRY);
    let wake = blocked.map(|(_, until)| after(until, Duration::from_secs(1)).min(probe));
    plan.wake_at(wake.or_else(|| untried.then_some(probe)));
    // A cleanup that was not tried yet after a start is tried in a moment and not reported as blocked.
    plan.blocked = blocked.map(|(obstacle, until)| (obstacle.text(), until));
}

fn clear_step(cleanup_target: &CleanupTarget, hooks: &Arc<OwnedHooks>, action: HookAction) -> PlanStep {
    PlanStep::Clear { hooks: Arc::clone(hooks), told: cleanup_target.told, action }
}

/// `None` where, as far as is known, no hook was ever held, so that nothing is left behind.
fn record(cleanup_target: &CleanupTarget, why: String) -> Option<PlanStep> {
    cleanup_target.held.then(|| PlanStep::Record { target: cleanup_target.target.clone(), why })
}
