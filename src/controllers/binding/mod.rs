//! Reconciles a `RepoBinding`: connection, repository, webhook and deliveries.

pub mod apply;
pub mod attempts;
pub mod cause;
pub mod conflicts;
pub mod evidence;
pub mod hooks;
pub mod observe;
pub mod orphaned_hooks;
pub mod ownership;
pub mod plan;
pub mod report;
pub mod requested;
pub mod secret_version;
#[cfg(test)]
mod tests;
pub mod time;
pub mod user_secret;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use tracing::info;

use self::time::until;
use super::claim::{self, BindingOwner};
use super::runtime::writes::STALE_CACHE_RETRY;
use super::{Context, Error, locked, metrics};
use crate::api::v1alpha1::binding::RepoBindingStatus;
use crate::api::v1alpha1::{ConditionType, RepoBinding};
use crate::controllers::runtime::status;

/// Record of the last probe of a binding's repository. In memory only: after a restart, bindings that are not known to be
/// settled are probed again.
#[derive(Clone, Debug, Default)]
pub struct ProbeRecord {
    /// Time of the last probe; `None` if there was none since the start.
    pub at: Option<Timestamp>,
    /// `metadata.generation` at the last probe.
    pub generation: i64,
    /// Time at which the next probe is due.
    pub next: Option<Timestamp>,
    /// Latest time of the next probe, which delivery evidence cannot postpone.
    pub not_after: Option<Timestamp>,
    /// Whether the probe found everything in order. If so, delivery evidence may postpone the next probe; if not, the probe is
    /// repeated after each inspection of the connection, because the inspection may have found the problem fixed.
    pub good: bool,
    /// Inputs of the probe beside the spec.
    pub probe_inputs: ProbeInputs,
    /// Obstacle that the last attempt to remove hooks met.
    pub obstacle: Option<observe::Obstacle>,
    /// Time at which delivery evidence was last written to the status.
    pub evidence_at: Option<Timestamp>,
}

/// Inputs of a probe beside the spec. If any of them changes, the next probe is due at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeInputs {
    /// Whether the connection was usable.
    pub usable: bool,
    /// Whether writing at the provider was forbidden.
    pub observe_only: bool,
    /// Version of the user's own secret, or the message why it could not be read.
    pub user_secret: Option<String>,
    /// Masked URL at which our receiver takes deliveries; `None` without a public URL or with a custom URL.
    pub receiver: Option<String>,
    /// Whether the repository in the status has a path that the connection does not grant.
    pub known_without_grant: bool,
}

/// Runs one reconciliation of a binding.
pub fn reconcile(object: Arc<RepoBinding>, context: Arc<Context>) -> BoxFuture<'static, Result<Action, Error>> {
    async move {
        if !context.writes.is_observed(&*object) {
            return Ok(Action::requeue(STALE_CACHE_RETRY));
        }
        if status::skip_if_foreign(&context, &*object).await? {
            return Ok(Action::await_change());
        }
        match claim::owner(&context.view, &object) {
            BindingOwner::Ours => {}
            BindingOwner::Waits => return Ok(Action::await_change()),
            BindingOwner::WithAnother => {
                status::write(&context, &*object, &RepoBindingStatus::default()).await?;
                return Ok(Action::await_change());
            }
        }
        let facts = observe::observe(&context.view, object).await;
        let plan = plan::plan(&facts);
        let outcome = apply::apply(&context, &facts, &plan).await?;
        if outcome.gone {
            status::publish(&context, &*outcome.object, &report::leftover_events(&facts, &outcome)).await;
            requeue_conflicting(&context, &facts);
            return Ok(Action::await_change());
        }
        // Must precede everything that can fail: if a creation were forgotten, the next reconciliation would create the hook
        // again.
        note_attempts(&context, &facts, &plan, &outcome);
        let report = report::report(&facts, &plan, &outcome);
        let written = status::write(&context, &*outcome.object, &report.status).await?;
        if written {
            context.metrics.status_writes.get_or_create(&metrics::Kind { kind: "RepoBinding" }).inc();
            status::publish(&context, &*outcome.object, &report.events).await;
            log(&outcome.object, &report);
        }
        remember(&context, &facts, &plan, &outcome, report.evidence_written && written);
        request_inspection(&context, &facts, &outcome);
        if outcome.changed_hooks || written {
            requeue_conflicting(&context, &facts);
        }
        Ok(next(&context, &facts, &plan, &outcome))
    }
    .boxed()
}

fn log(object: &RepoBinding, report: &report::Report) {
    let ready = crate::k8s::conditions::find(&report.status.conditions, ConditionType::Ready);
    info!(
        namespace = object.namespace(),
        name = object.name_any(),
        ready = ready.map(|ready| ready.status.as_str()),
        reason = ready.map(|ready| ready.reason.as_str()),
        detail = ready.map(|ready| ready.message.as_str()),
        "binding status"
    );
}

/// Stores creations, recreations, repairs and cleared targets in the memory of attempts.
fn note_attempts(context: &Context, facts: &observe::Facts, plan: &plan::Plan, outcome: &apply::Outcome) {
    let now = context.view.clock.now();
    let mut attempts = facts.attempts.clone();
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
    for cleanup_target in facts
        .targets
        .iter()
        .filter(|cleanup_target| !cleanup_target.told && cleanup_target.hooks.is_ok() && outcome.cleared.contains(&cleanup_target.target))
    {
        attempts.cleared(&cleanup_target.target, now);
    }
    let uid = facts.object.uid().unwrap_or_default();
    let mut known = locked(&context.view.attempts);
    if attempts.is_empty() {
        known.remove(&uid);
    } else {
        known.insert(uid, attempts);
    }
}

fn remember(context: &Context, facts: &observe::Facts, plan: &plan::Plan, outcome: &apply::Outcome, evidence_written: bool) {
    let before = facts.memory.clone().unwrap_or_default();
    let probed = facts.probe.is_some();
    // An object that was settled before the start counts as probed now.
    let seen = probed || facts.memory.is_none();
    let usable = before.probe_inputs.usable && facts.connection.may_be_usable();
    let memory = ProbeRecord {
        at: if probed { Some(facts.now) } else { before.at },
        generation: if seen { facts.object.metadata.generation.unwrap_or_default() } else { before.generation },
        next: plan.next_probe.or(before.next),
        not_after: if probed { plan.not_after } else { before.not_after },
        good: if seen { plan.is_good(facts) && outcome.failure.is_none() && outcome.unrepaired.is_empty() } else { before.good },
        probe_inputs: if seen { facts.probe_inputs() } else { ProbeInputs { usable, ..before.probe_inputs } },
        obstacle: outcome.failure.as_ref().map(|failure| observe::Obstacle::of(&failure.error)).or(before.obstacle),
        evidence_at: if evidence_written { Some(facts.now) } else { before.evidence_at },
    };
    // Without a probe, a record is stored only for objects that were settled before the start; any other record would delay the
    // first probe.
    let first_probe_pending = !probed && facts.memory.is_none() && plan::due::probe_due(facts);
    let waits_for_connection = !probed && facts.memory.is_none() && !matches!(facts.connection, observe::Connection::Ready { .. });
    if !first_probe_pending && !waits_for_connection {
        locked(&context.view.probes).insert(facts.object.uid().unwrap_or_default(), memory);
    }
}

/// Requests an inspection of the connection if its credential was refused or its provider did not answer.
fn request_inspection(context: &Context, facts: &observe::Facts, outcome: &apply::Outcome) {
    let probe = facts.probe.as_ref().and_then(|probe| probe.repository.error());
    let errors = outcome.failure.iter().map(|failure| &failure.error).chain(probe);
    let connection = facts.object.connection_target();
    for error in errors {
        if error.kind.disposition().concerns_connection() && context.view.sessions.request_inspection(&connection) {
            context.view.triggers.connection(&connection);
        }
    }
}

/// Makes bindings that wait for a hook which this binding may have given up probe again.
fn requeue_conflicting(context: &Context, facts: &observe::Facts) {
    for other in conflicts::waiting(&context.view, &facts.object) {
        locked(&context.view.probes).entry(other.uid().unwrap_or_default()).and_modify(|probe| probe.next = Some(facts.now));
        context.view.triggers.binding(&other);
    }
}

fn next(context: &Context, facts: &observe::Facts, plan: &plan::Plan, outcome: &apply::Outcome) -> Action {
    let uid = facts.object.uid().unwrap_or_default();
    if outcome.failure.is_some() || report::probe_failed(facts) {
        let pause = context.backoff.fail(&uid);
        let not_before = outcome.failure.as_ref().and_then(|failure| failure.error.retry_at).map(|at| until(facts.now, at));
        locked(&context.view.probes).entry(uid).and_modify(|probe| probe.next = Some(facts.now));
        return Action::requeue(pause.max(not_before.unwrap_or_default()));
    }
    context.backoff.succeed(&uid);
    match plan.wake {
        // Adds one second so that the moment has certainly passed at the wake-up.
        Some(at) => Action::requeue(until(facts.now, at) + Duration::from_secs(1)),
        None => Action::await_change(),
    }
}
