//! Decides what follows from a reconciliation: what is remembered, when the object is reconciled again, and who else is. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};
use crate::api::v1alpha1::{ConditionType, Reason};
use crate::controllers::binding::attempts::Attempts;
use crate::controllers::binding::cleanup::{self, CleanupTarget};
use crate::controllers::binding::facts::Facts;
use crate::controllers::binding::memory::{BindingMemory, ProbeInputs, ProbeRecord};
use crate::controllers::binding::obstacle::Obstacle;
use crate::controllers::binding::outcome::Outcome;
use crate::controllers::binding::plan::{Finding, Plan, is_refusal};
use crate::controllers::binding::schedule::probe_due;
use crate::controllers::binding::snapshot::Connection;
use crate::controllers::binding::time::{after, until};
use crate::controllers::gate::Ungranted;
use crate::k8s::conditions::{self, ConditionStatus};
use crate::providers::ProviderError;

/// Pause before what sinks need is published again that had no room.
const ROOM_RETRY: Duration = Duration::from_secs(300);

/// When an object is reconciled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// After the backoff of a failure, and not before this pause.
    Backoff(Duration),
    After(Duration),
    OnChange,
}

/// What else is reconciled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Connections that need an inspection: a credential was refused or a provider did not answer.
    pub inspections: BTreeSet<ConnectionTarget>,
    /// Whether hooks changed, so that bindings which wait for one of them probe again. They do so after every status write, too.
    pub conflicting: bool,
}

/// Whether the probe failed in part: a call returned an error that is not an answer about the repository.
pub fn probe_failed(facts: &Facts) -> bool {
    let Some(probe) = &facts.probe else { return false };
    let failed = |error: &ProviderError| !is_refusal(error.kind);
    probe.repository.error().is_some_and(failed)
        || matches!(&probe.branch, Some(Err(error)) if failed(error))
        || matches!(&probe.hooks, Some(Err(error)) if failed(error))
}

pub(super) fn requeue(facts: &Facts, plan: &Plan, outcome: &Outcome) -> Requeue {
    let now = facts.snapshot.now;
    if outcome.failure.is_some() || probe_failed(facts) {
        let not_before = outcome.failure.as_ref().and_then(|failure| failure.error.retry_at);
        return Requeue::Backoff(not_before.map(|at| until(now, at)).unwrap_or_default());
    }
    let room = (!outcome.without_room.is_empty()).then(|| after(now, ROOM_RETRY));
    let wake = [plan.wake, room].into_iter().flatten().min();
    // Adds one second so that the moment has certainly passed at the wake-up.
    wake.map_or(Requeue::OnChange, |at| Requeue::After(until(now, at) + Duration::from_secs(1)))
}

/// What else is reconciled, also because of an object that is gone.
pub fn notify(facts: &Facts, outcome: &Outcome) -> Notify {
    let probe = facts.probe.as_ref().and_then(|probe| probe.repository.error());
    let errors = outcome.failure.iter().map(|failure| &failure.error).chain(probe);
    let is_present =
        errors.filter(|error| error.kind.disposition().concerns_connection()).map(|_| facts.snapshot.object.connection_target());
    let former = facts.targets.iter().filter(|cleanup_target| cleanup_target.connection_failed);
    let former = former.map(|cleanup_target| cleanup_target.target.connection.clone());
    Notify { inspections: is_present.chain(former).collect(), conflicting: outcome.changed_hooks }
}

/// What is remembered; `evidence_written`: whether the new status contains new delivery evidence.
pub(super) fn memory(facts: &Facts, plan: &Plan, outcome: &Outcome, evidence_written: bool) -> BindingMemory {
    let before = &facts.snapshot.memory;
    BindingMemory {
        probe: probe_record(facts, plan, outcome),
        attempts: attempts(facts, plan, outcome),
        obstacle: outcome.failure.as_ref().map(|failure| Obstacle::of(&failure.error)).or_else(|| before.obstacle.clone()),
        evidence: before.evidence.clone(),
        evidence_at: if evidence_written { Some(facts.snapshot.now) } else { before.evidence_at },
        sinks_read: facts.snapshot.prepared_sinks.remembered.clone(),
        changed_references: before.changed_references,
        ungranted: ungranted(facts),
    }
}

/// Since when no grant has fitted for the hooks.
fn ungranted(facts: &Facts) -> Ungranted {
    let (snapshot, object) = (&facts.snapshot, &facts.snapshot.object);
    let lacks_grant = cleanup::lacks_grant(snapshot, facts.probe.as_ref());
    // Only a probe shows where a repository is: until the next one, what the last one found is kept.
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let moved = conditions::find(conditions, ConditionType::RepositoryFound)
        .is_some_and(|found| found.reason == Reason::RepositoryMovedOutOfScope.as_str());
    let is_unseen = moved && facts.probe.is_none() && snapshot.grant.is_granted();
    let counts = |target: &&HookTarget| {
        let known = is_unseen && snapshot.memory.ungranted.since(target).is_some();
        snapshot.seal.is_on(target) && (lacks_grant || known || snapshot.grant.refused.contains(target))
    };
    snapshot.memory.ungranted.only(object.hook_targets().filter(counts), snapshot.now)
}

/// Creations, recreations, repairs and cleared targets, with those of earlier reconciliations.
fn attempts(facts: &Facts, plan: &Plan, outcome: &Outcome) -> Attempts {
    let now = facts.snapshot.now;
    let mut attempts = facts.snapshot.memory.attempts.clone();
    attempts.forget(now);
    if let Some(target) = &plan.target {
        attempts.granted(target);
        for variant in &outcome.ambiguous_creates {
            attempts.ambiguous_creates(target, variant, now);
        }
        for recreated in plan.recreated.iter().filter(|recreated| !recreated.made || outcome.created.contains(&recreated.variant)) {
            attempts.recreated(target, &recreated.variant, recreated.recreation);
        }
        for (variant, repair) in plan.repairs.iter().filter(|(variant, repair)| repair.is_none() || outcome.updated.contains(variant)) {
            attempts.repaired(target, variant, repair.clone());
        }
    }
    let cleared = |cleanup_target: &&CleanupTarget| {
        !cleanup_target.told && cleanup_target.hooks.is_ok() && outcome.cleared.contains(&cleanup_target.target)
    };
    for cleanup_target in facts.targets.iter().filter(cleared) {
        attempts.cleared(&cleanup_target.target, now);
    }
    attempts
}

/// The record of the probe. Without a probe, one is made only for objects that were settled before the start, which count as
/// probed now; any other record would delay the first probe.
fn probe_record(facts: &Facts, plan: &Plan, outcome: &Outcome) -> Option<ProbeRecord> {
    let snapshot = &facts.snapshot;
    let probed = facts.probe.is_some();
    let is_first = snapshot.memory.probe.is_none();
    if !probed && is_first && (probe_due(snapshot) || !matches!(snapshot.connection, Connection::Ready { .. })) {
        return None;
    }
    let before = snapshot.memory.probe.clone().unwrap_or_default();
    let seen = probed || is_first;
    let usable = before.probe_inputs.usable && snapshot.connection.may_be_usable();
    let failed = outcome.failure.is_some() || probe_failed(facts);
    Some(ProbeRecord {
        at: if probed { Some(snapshot.now) } else { before.at },
        generation: if seen { snapshot.object.metadata.generation.unwrap_or_default() } else { before.generation },
        next: if failed { Some(snapshot.now) } else { plan.next_probe.or(before.next) },
        not_after: if probed { plan.not_after } else { before.not_after },
        good: if seen { is_good(facts, plan) && outcome.failure.is_none() && outcome.unrepaired.is_empty() } else { before.good },
        probe_inputs: if seen { snapshot.probe_inputs() } else { ProbeInputs { usable, ..before.probe_inputs } },
    })
}

/// Whether the probe found everything in order. Without a probe, true.
fn is_good(facts: &Facts, plan: &Plan) -> bool {
    let is_true = |finding: &Option<Finding>| finding.as_ref().is_some_and(|finding| finding.status == ConditionStatus::True);
    let probed = facts.probe.is_some();
    !probed || (is_true(&plan.repository) && (facts.snapshot.object.spec.webhook.is_none() || is_true(&plan.webhook)))
}
