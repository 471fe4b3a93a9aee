//! Keeps one binding's hook as it should be, and its story true: the connection, the repository, the hook, its deliveries.

pub mod apply;
pub mod evidence;
pub mod generation;
pub mod hooks;
pub mod observe;
pub mod ownership;
pub mod plan;
pub mod report;
pub mod rivals;
pub mod user_secret;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use tracing::info;

use super::{Context, Error, locked, metrics, status};
use crate::api::v1alpha1::{ConditionType, RepoBinding};
use crate::providers::ErrorKind;

/// How long to wait for the cache to see our own last write; the watch usually brings it before.
const CACHE_BEHIND: Duration = Duration::from_secs(1);

/// What is remembered of the last look at a binding's repository. In memory: a restart looks again where that matters.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// When; `None` when not since the start.
    pub at: Option<Timestamp>,
    /// Generation of the object then.
    pub generation: i64,
    /// When the next one is due.
    pub next: Option<Timestamp>,
    /// Whether it ended in an outage, so that it is repeated as soon as the connection works again.
    pub failed: bool,
    /// Whether all was well, so that evidence may stretch the time to the next one. Where it was not, the next inspection of
    /// the connection calls for another look: a credential with other rights may be what was missing.
    pub stretchable: bool,
    /// What the last attempt to remove hooks met.
    pub obstacle: Option<observe::Obstacle>,
    /// When evidence was written to the status last.
    pub evidence_at: Option<Timestamp>,
}

/// One reconciliation.
pub fn reconcile(object: Arc<RepoBinding>, context: Arc<Context>) -> BoxFuture<'static, Result<Action, Error>> {
    async move {
        if !context.writes.seen_by(&*object) {
            return Ok(Action::requeue(CACHE_BEHIND));
        }
        let observation = observe::observe(&context, object).await;
        let plan = plan::plan(&observation);
        let outcome = apply::apply(&context, &observation, &plan).await?;
        if plan.foreign || outcome.gone {
            return Ok(Action::await_change());
        }
        let report = report::report(&observation, &plan, &outcome);
        let written = status::write(&context, &*outcome.object, outcome.object.status.as_ref(), &report.status).await?;
        if written {
            context.metrics.status_writes.get_or_create(&metrics::Kind { kind: "RepoBinding" }).inc();
            status::publish(&context, &*outcome.object, &report.notices).await;
            log(&outcome.object, &report);
        }
        remember(&context, &observation, &plan, &outcome, report.evidence_written && written);
        tell_others(&context, &observation, &outcome);
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
        message = ready.map(|ready| ready.message.as_str()),
        "binding status"
    );
}

fn remember(context: &Context, observation: &observe::Observation, plan: &plan::Plan, outcome: &apply::Outcome, evidence_written: bool) {
    let before = observation.memory.clone().unwrap_or_default();
    let outage = outcome.failure.as_ref().is_some_and(|failure| failure.error.kind.is_outage()) || report::look_failed(observation);
    let looked = observation.look.is_some();
    let is_good =
        |finding: &Option<plan::Finding>| finding.as_ref().is_none_or(|finding| finding.verdict == super::conditions::Verdict::True);
    let good = is_good(&plan.repository) && is_good(&plan.webhook) && outcome.failure.is_none();
    let memory = Look {
        at: if looked { Some(observation.now) } else { before.at },
        generation: if looked { observation.object.metadata.generation.unwrap_or_default() } else { before.generation },
        next: plan.next_look.or(before.next),
        failed: if looked { outage } else { before.failed },
        stretchable: if looked { good } else { before.stretchable },
        obstacle: outcome.failure.as_ref().map(|failure| observe::Obstacle::of(&failure.error)).or(before.obstacle),
        evidence_at: if evidence_written { Some(observation.now) } else { before.evidence_at },
    };
    // Without a look there is nothing to hold the first one off, but for objects that were settled before the start.
    let first_look_pending = !looked && observation.memory.is_none() && plan::look_due(observation);
    let waits_for_connection =
        !looked && observation.memory.is_none() && !matches!(observation.connection, observe::Connection::Ready { .. });
    if !first_look_pending && !waits_for_connection {
        locked(&context.looks).insert(observation.object.uid().unwrap_or_default(), memory);
    }
}

/// Tells those whom this reconciliation concerns: the connection whose credential was refused, and bindings that waited
/// for a URL that this one leaves.
fn tell_others(context: &Context, observation: &observe::Observation, outcome: &apply::Outcome) {
    let look = observation.look.as_ref().and_then(|look| look.repository.as_ref().err());
    let errors = outcome.failure.iter().map(|failure| &failure.error).chain(look);
    let connection = observation.object.connection_target();
    for error in errors {
        if (error.kind == ErrorKind::Unauthenticated || error.kind.is_outage()) && context.sessions.suspect(&connection) {
            context.triggers.connection(&connection);
        }
    }
    if outcome.changed_hooks {
        for other in rivals::others(context, &observation.object) {
            context.triggers.binding(&other);
        }
    }
}

fn next(context: &Context, observation: &observe::Observation, plan: &plan::Plan, outcome: &apply::Outcome) -> Action {
    let uid = observation.object.uid().unwrap_or_default();
    if outcome.failure.is_some() || report::look_failed(observation) {
        let pause = context.backoff.fail(&uid);
        let not_before = outcome.failure.as_ref().and_then(|failure| failure.error.retry_at).map(|at| hooks::until(observation.now, at));
        locked(&context.looks).entry(uid).and_modify(|look| look.next = Some(observation.now));
        return Action::requeue(pause.max(not_before.unwrap_or_default()));
    }
    context.backoff.succeed(&uid);
    match plan.wake {
        // A second more, so that the moment has passed for certain when the wake comes.
        Some(at) => Action::requeue(hooks::until(observation.now, at) + Duration::from_secs(1)),
        None => Action::await_change(),
    }
}
