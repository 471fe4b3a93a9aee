//! Reconciles a `RepoBinding`: connection, repository, webhook and deliveries.

pub mod apply;
pub mod attempts;
pub mod cause;
pub mod cleanup;
pub mod conflicts;
pub mod evidence;
pub mod facts;
pub mod hooks;
pub mod inbox;
pub mod memory;
pub mod obstacle;
pub mod orphaned_hooks;
pub mod outcome;
pub mod ownership;
pub mod plan;
pub mod prepared;
pub mod probe;
pub mod recent;
pub mod report;
pub mod requested;
pub mod schedule;
pub mod secret_version;
pub mod shard_store;
pub mod sink_secrets;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod time;
pub mod user_secret;

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use tracing::info;

use self::facts::Facts;
use self::outcome::Outcome;
use self::report::{Notify, Report, Requeue};
use super::claim::{self, BindingOwner};
use super::runtime::writes::STALE_CACHE_RETRY;
use super::{Context, Error, metrics};
use crate::api::v1alpha1::binding::RepoBindingStatus;
use crate::api::v1alpha1::{ConditionType, RepoBinding};
use crate::controllers::runtime::status;

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
        shard_store::read_once(&context, &object.uid().unwrap_or_default()).await?;
        let facts = Facts::gather(&context.view, object).await;
        let plan = plan::plan(&facts);
        let outcome = apply::apply(&context, &facts, &plan).await?;
        if outcome.gone {
            return Ok(let_go(&context, &facts, &outcome).await);
        }
        let report = report::report(&facts, &plan, &outcome);
        write(&context, &facts, &outcome.object, report).await
    }
    .boxed()
}

/// Carries out a report: stores the memory, writes the status, publishes the events and notifies others.
async fn write(context: &Context, facts: &Facts, object: &RepoBinding, report: Report) -> Result<Action, Error> {
    let uid = object.uid().unwrap_or_default();
    // Must precede everything that can fail: if a creation were forgotten, the next reconciliation would create the hook again.
    context.view.memory.store_attempts(&uid, &report.memory.attempts);
    let written = status::write(context, object, &report.status).await?;
    if written {
        context.metrics.status_writes.get_or_create(&metrics::Kind { kind: "RepoBinding" }).inc();
        status::publish(context, object, &report.events).await;
        log(object, &report);
    }
    // Only once the status tells of the probe: if the write failed, the repository is probed again.
    context.view.memory.store(&uid, report.memory, written);
    notify(context, facts, &report.notify, written);
    Ok(requeue(context, &uid, report.requeue))
}

/// Forgets an object that is gone, or whose finalizer was removed so that it goes.
async fn let_go(context: &Context, facts: &Facts, outcome: &Outcome) -> Action {
    let uid = outcome.object.uid().unwrap_or_default();
    context.view.memory.forget(&uid);
    context.writes.forget(&uid);
    context.backoff.succeed(&uid);
    status::publish(context, &*outcome.object, &report::leftover_events(facts, outcome)).await;
    notify(context, facts, &report::notify(facts, outcome), true);
    Action::await_change()
}

fn log(object: &RepoBinding, report: &Report) {
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

/// Requests inspections of connections. Makes bindings that wait for a hook which this binding may have given up probe again.
fn notify(context: &Context, facts: &Facts, notify: &Notify, changed: bool) {
    let view = &context.view;
    for connection in notify.inspections.iter().filter(|connection| view.sessions.request_inspection(connection)) {
        view.triggers.connection(connection);
    }
    if notify.conflicting || changed {
        for other in conflicts::waiting(view, &facts.snapshot.object) {
            view.memory.probe_at(&other.uid().unwrap_or_default(), facts.snapshot.now);
            view.triggers.binding(&other);
        }
    }
}

fn requeue(context: &Context, uid: &str, requeue: Requeue) -> Action {
    if let Requeue::Backoff(not_before) = requeue {
        return Action::requeue(context.backoff.fail(uid).max(not_before));
    }
    context.backoff.succeed(uid);
    match requeue {
        Requeue::After(pause) => Action::requeue(pause),
        Requeue::Backoff(_) | Requeue::OnChange => Action::await_change(),
    }
}
