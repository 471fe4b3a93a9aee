//! Keeps one binding's hook as it should be, and its story true: the connection, the repository, the hook, its deliveries.

pub mod apply;
pub mod attempts;
pub mod cause;
pub mod evidence;
pub mod generation;
pub mod hooks;
pub mod observe;
pub mod ownership;
pub mod plan;
pub mod report;
pub mod rivals;
pub mod strays;
#[cfg(test)]
mod tests;
pub mod user_secret;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use tracing::info;

use super::claim::{self, Belonging};
use super::{CACHE_BEHIND, Context, Error, locked, metrics, status};
use crate::api::v1alpha1::binding::RepoBindingStatus;
use crate::api::v1alpha1::{ConditionType, RepoBinding};

/// What is remembered of the last look at a binding's repository. In memory: a restart looks again where that matters.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// When; `None` when not since the start.
    pub at: Option<Timestamp>,
    /// Generation of the object then.
    pub generation: i64,
    /// When the next one is due.
    pub next: Option<Timestamp>,
    /// What of that evidence cannot put off.
    pub not_after: Option<Timestamp>,
    /// Whether all was well. If so, evidence may stretch the time to the next one; if not, it is repeated after each
    /// inspection of the connection, because that is what may have put it right.
    pub good: bool,
    /// What it depended on beside the spec.
    pub circumstances: Circumstances,
    /// What the last attempt to remove hooks met.
    pub obstacle: Option<observe::Obstacle>,
    /// When evidence was written to the status last.
    pub evidence_at: Option<Timestamp>,
}

/// What a look depends on beside the spec. Where any of it changed, the next look is due at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Whether the connection could be used.
    pub usable: bool,
    /// Whether nothing might be written at the provider.
    pub observe_only: bool,
    /// The generation of the secret that the user brought, or why there is none.
    pub user_secret: Option<String>,
    /// Where our receiver is to take its deliveries; `None` where that is nowhere, or they go elsewhere.
    pub receiver: Option<String>,
    /// Whether the repository that the status knows has a path that the connection does not grant.
    pub known_without_grant: bool,
}

/// One reconciliation.
pub fn reconcile(object: Arc<RepoBinding>, context: Arc<Context>) -> BoxFuture<'static, Result<Action, Error>> {
    async move {
        if !context.writes.seen_by(&*object) {
            return Ok(Action::requeue(CACHE_BEHIND));
        }
        if status::leave_foreign(&context, &*object).await? {
            return Ok(Action::await_change());
        }
        match claim::belonging(&context.view, &object) {
            Belonging::Ours => {}
            Belonging::Waits => return Ok(Action::await_change()),
            Belonging::WithAnother => {
                status::write(&context, &*object, &RepoBindingStatus::default()).await?;
                return Ok(Action::await_change());
            }
        }
        let observation = observe::observe(&context.view, object).await;
        let plan = plan::plan(&observation);
        let outcome = apply::apply(&context, &observation, &plan).await?;
        if outcome.gone {
            status::publish(&context, &*outcome.object, &report::left_behind_notices(&observation, &outcome)).await;
            tell_rivals(&context, &observation);
            return Ok(Action::await_change());
        }
        // Before anything that can fail: a creation that is forgotten would be made again at once.
        note_attempts(&context, &observation, &plan, &outcome);
        let report = report::report(&observation, &plan, &outcome);
        let written = status::write(&context, &*outcome.object, &report.status).await?;
        if written {
            context.metrics.status_writes.get_or_create(&metrics::Kind { kind: "RepoBinding" }).inc();
            status::publish(&context, &*outcome.object, &report.notices).await;
            log(&outcome.object, &report);
        }
        remember(&context, &observation, &plan, &outcome, report.evidence_written && written);
        tell_connection(&context, &observation, &outcome);
        if outcome.changed_hooks || written {
            tell_rivals(&context, &observation);
        }
        Ok(next(&context, &observation, &plan, &outcome))
    }
    .boxed()
}

fn log(object: &RepoBinding, report: &report::Report) {
    let ready = super::conditions::find(&report.status.conditions, ConditionType::Ready);
    info!(
        namespace = object.namespace(),
        name = object.name_any(),
        ready = ready.map(|ready| ready.status.as_str()),
        reason = ready.map(|ready| ready.reason.as_str()),
        detail = ready.map(|ready| ready.message.as_str()),
        "binding status"
    );
}

/// Notes what was tried and is not over.
fn note_attempts(context: &Context, observation: &observe::Observation, plan: &plan::Plan, outcome: &apply::Outcome) {
    let now = context.view.clock.now();
    let mut attempts = observation.attempts.clone();
    attempts.forget(now);
    if let Some(target) = &plan.target {
        for part in &outcome.unanswered {
            attempts.unanswered(target, part, now);
        }
        for revived in plan.revived.iter().filter(|revived| !revived.made || outcome.created.contains(&revived.part)) {
            attempts.revived(target, &revived.part, revived.revival);
        }
        for (part, repair) in plan.repairs.iter().filter(|(part, repair)| repair.is_none() || outcome.updated.contains(part)) {
            attempts.repaired(target, part, repair.clone());
        }
    }
    for place in observation.places.iter().filter(|place| !place.told && place.hooks.is_ok() && outcome.cleared.contains(&place.target)) {
        attempts.cleared(&place.target, now);
    }
    let uid = observation.object.uid().unwrap_or_default();
    let mut known = locked(&context.view.attempts);
    if attempts.is_empty() {
        known.remove(&uid);
    } else {
        known.insert(uid, attempts);
    }
}

fn remember(context: &Context, observation: &observe::Observation, plan: &plan::Plan, outcome: &apply::Outcome, evidence_written: bool) {
    let before = observation.memory.clone().unwrap_or_default();
    let looked = observation.look.is_some();
    // What was settled before the start counts as seen now.
    let seen = looked || observation.memory.is_none();
    let usable = before.circumstances.usable && observation.connection.may_be_usable();
    let memory = Look {
        at: if looked { Some(observation.now) } else { before.at },
        generation: if seen { observation.object.metadata.generation.unwrap_or_default() } else { before.generation },
        next: plan.next_look.or(before.next),
        not_after: if looked { plan.not_after } else { before.not_after },
        good: if seen { plan.is_good(observation) && outcome.failure.is_none() && outcome.unrepaired.is_empty() } else { before.good },
        circumstances: if seen { observation.circumstances() } else { Circumstances { usable, ..before.circumstances } },
        obstacle: outcome.failure.as_ref().map(|failure| observe::Obstacle::of(&failure.error)).or(before.obstacle),
        evidence_at: if evidence_written { Some(observation.now) } else { before.evidence_at },
    };
    // Without a look there is nothing to hold the first one off, but for objects that were settled before the start.
    let first_look_pending = !looked && observation.memory.is_none() && plan::due::look_due(observation);
    let waits_for_connection =
        !looked && observation.memory.is_none() && !matches!(observation.connection, observe::Connection::Ready { .. });
    if !first_look_pending && !waits_for_connection {
        locked(&context.view.looks).insert(observation.object.uid().unwrap_or_default(), memory);
    }
}

/// Asks for an inspection of the connection whose credential was refused or whose provider did not answer.
fn tell_connection(context: &Context, observation: &observe::Observation, outcome: &apply::Outcome) {
    let look = observation.look.as_ref().and_then(|look| look.repository.error());
    let errors = outcome.failure.iter().map(|failure| &failure.error).chain(look);
    let connection = observation.object.connection_target();
    for error in errors {
        if error.kind.disposition().concerns_connection() && context.view.sessions.suspect(&connection) {
            context.view.triggers.connection(&connection);
        }
    }
}

/// Lets the bindings look again that wait for a hook which this one may have left.
fn tell_rivals(context: &Context, observation: &observe::Observation) {
    for other in rivals::waiting(&context.view, &observation.object) {
        locked(&context.view.looks).entry(other.uid().unwrap_or_default()).and_modify(|look| look.next = Some(observation.now));
        context.view.triggers.binding(&other);
    }
}

fn next(context: &Context, observation: &observe::Observation, plan: &plan::Plan, outcome: &apply::Outcome) -> Action {
    let uid = observation.object.uid().unwrap_or_default();
    if outcome.failure.is_some() || report::look_failed(observation) {
        let pause = context.backoff.fail(&uid);
        let not_before = outcome.failure.as_ref().and_then(|failure| failure.error.retry_at).map(|at| hooks::until(observation.now, at));
        locked(&context.view.looks).entry(uid).and_modify(|look| look.next = Some(observation.now));
        return Action::requeue(pause.max(not_before.unwrap_or_default()));
    }
    context.backoff.succeed(&uid);
    match plan.wake {
        // A second more, so that the moment has passed for certain when the wake comes.
        Some(at) => Action::requeue(hooks::until(observation.now, at) + Duration::from_secs(1)),
        None => Action::await_change(),
    }
}
