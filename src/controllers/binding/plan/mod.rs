//! Plans the reconciliation of a binding. Pure: no call, no clock.

mod cleanup;
mod crowding;
mod model;
mod repository;
mod webhook;

use std::time::Duration;

use self::model::SLOW_PROBE;
use super::cleanup::wants_none;
use super::facts::Facts;
use super::schedule::{rotation_due_at, stretched};
use super::snapshot::Connection;
use super::time::after;
use crate::api::v1alpha1::Reason;
use crate::controllers::runtime::backoff::jitter;
use crate::k8s::conditions::ConditionStatus;
use crate::k8s::finalizer;

pub use self::model::{FinalizerStep, Finding, Plan, PlanStep};
pub use self::repository::is_refusal;
pub use self::webhook::{AMBIGUOUS_CREATE, left_behind};

/// Pause before an object is read again that the API server did not return.
const READ_AGAIN: Duration = Duration::from_secs(30);
/// Pause before another probe after an action that may have been done twice.
const SECOND_PROBE: Duration = Duration::from_secs(60);

pub fn plan(facts: &Facts) -> Plan {
    let mut plan = Plan::nothing();
    if facts.snapshot.object.is_being_deleted() {
        cleanup::delete(&mut plan, facts);
        return plan;
    }
    // Before everything that may fail: until then the receivers hold the events of these sinks. Where no hook may exist nothing is sent.
    let sends = facts.snapshot.grant.is_granted() && !wants_none(&facts.snapshot, facts.probe.as_ref());
    if sends && facts.snapshot.prepared_sinks.is_to_publish(&facts.snapshot.prepared_entry) {
        plan.steps.push(PlanStep::PublishSinkSecrets);
    }
    if facts.snapshot.prepared_sinks.unknown {
        plan.wake_at(Some(after(facts.snapshot.now, READ_AGAIN)));
    }
    if let Some(found) = &facts.probe {
        repository::repository(&mut plan, &facts.snapshot, found);
        webhook::webhook(&mut plan, &facts.snapshot, found);
    } else {
        repository::without_probe(&mut plan, &facts.snapshot);
        if sends {
            webhook::prepare_again(&mut plan, &facts.snapshot);
        }
    }
    cleanup::clear(&mut plan, facts);
    // Hooks in order may exist without a finalizer, for example after an uninstallation that removed the finalizers.
    let has_hooks = !facts.snapshot.observe_only && plan.existing.as_ref().is_some_and(|existing| !existing.is_empty());
    let is_held = finalizer::is_present(&*facts.snapshot.object);
    let is_rid = cleanup::is_rid_of_everything(facts);
    plan.finalizer_step = match is_held {
        false if has_hooks || !plan.steps.is_empty() => FinalizerStep::Add,
        true if is_rid => FinalizerStep::Remove,
        _ => FinalizerStep::Keep,
    };
    // Without a finalizer nobody would withdraw it later.
    let object = &facts.snapshot.object;
    if is_rid && facts.snapshot.prepared_entry.exists_or(is_held && object.sinks_need_secrets()) {
        plan.steps.push(PlanStep::WithdrawSecret);
    }
    next_probe(&mut plan, facts);
    wake_at_removal(&mut plan, facts);
    plan
}

/// Wakes when a missing grant counts as withdrawn. A repository that was found without a grant is probed then, because only a probe
/// shows where it is.
fn wake_at_removal(plan: &mut Plan, facts: &Facts) {
    let snapshot = &facts.snapshot;
    if let Some(until) = facts.kept_until() {
        plan.next_probe = Some(plan.next_probe.map_or(until, |next| next.min(until)));
        plan.wake_at(Some(until));
    }
    let refused = snapshot.grant.refused.iter().map(|target| snapshot.removal_at(target));
    plan.wake_at(refused.filter(|at| *at > snapshot.now).min());
}

fn next_probe(plan: &mut Plan, facts: &Facts) {
    let object = &facts.snapshot.object;
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let interval = object.spec.interval.length();
    // A finding with the reason `Observing` counts as settled: the binding is in the requested state.
    let settled = |finding: &Finding| finding.status == ConditionStatus::True || finding.reason == Reason::Observing;
    let good = |finding: &Option<Finding>| finding.as_ref().is_none_or(settled);
    plan.next_probe = if facts.probe.is_some() {
        // A creation by the previous operator process, or one without an answer, may still arrive at the provider after our list:
        // probe once more, soon.
        let may_be_duplicated =
            facts.snapshot.memory.probe.as_ref().map_or_else(|| finalizer::is_present(&**object), |memory| !memory.good);
        let inherited = (may_be_duplicated && !plan.steps.is_empty()) || plan.pending_create.is_some();
        let second_probe = inherited.then(|| after(facts.snapshot.now, SECOND_PROBE));
        let rotation = plan.secret_version.as_deref().and_then(|secret_version| rotation_due_at(&facts.snapshot, secret_version));
        let rotation = rotation.filter(|due| *due > facts.snapshot.now);
        plan.not_after = [plan.next_probe, second_probe, rotation].into_iter().flatten().min();
        let pause = if good(&plan.repository) && good(&plan.webhook) {
            interval + jitter(uid, interval / 10)
        } else {
            interval.min(SLOW_PROBE + jitter(uid, SLOW_PROBE / 10))
        };
        [plan.not_after, Some(after(facts.snapshot.now, pause))].into_iter().flatten().min()
    } else {
        match &facts.snapshot.memory.probe {
            Some(memory) => memory.next.map(|next| stretched(&facts.snapshot, next)),
            // After a start: spread over the interval, because no change is known.
            None => Some(after(facts.snapshot.now, jitter(uid, interval))),
        }
    };
    if matches!(facts.snapshot.connection, Connection::Ready { .. }) && !facts.snapshot.suspended {
        plan.wake_at(plan.next_probe);
    }
}
