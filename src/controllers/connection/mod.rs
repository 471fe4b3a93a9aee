//! Reconciles a `GitProviderConnection`: reachability, authentication, permissions and expiry of the credential.
//!
//! The steps follow each other in one direction, and no file imports one of a later step: [`snapshot`] reads the cluster, [`schedule`]
//! decides whether an inspection is due, [`probe`] makes it, [`facts`] has the results of both, [`plan`] decides, [`apply`] executes
//! the plan and [`report`] builds the status. Only this file changes what is remembered.

pub mod apply;
pub mod connection_inputs;
pub mod facts;
pub mod failure;
pub mod plan;
pub mod probe;
pub mod report;
pub mod schedule;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod usage;

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use tracing::{debug, info};

use self::facts::Facts;
use self::snapshot::Snapshot;
use super::runtime::status;
use super::runtime::writes::STALE_CACHE_RETRY;
use super::{Context, Error, View};
use crate::api::v1alpha1::GitProviderConnection;
use crate::api::v1alpha1::binding::ConnectionTarget;

/// Runs one reconciliation of a connection.
pub fn reconcile(object: Arc<GitProviderConnection>, context: Arc<Context>) -> BoxFuture<'static, Result<Action, Error>> {
    async move {
        if !context.writes.is_observed(&*object) {
            return Ok(Action::requeue(STALE_CACHE_RETRY));
        }
        if status::skip_if_foreign(&context, &*object).await? {
            // The connection may have been ours before: bindings must no longer use its credential.
            context.view.sessions.remove(&ConnectionTarget::of(&object));
            return Ok(Action::await_change());
        }
        let snapshot = Snapshot::read(&context.view, object).await;
        let facts = Facts::gather(&context.view, snapshot).await;
        // Must precede everything that can fail: otherwise a failed write would cause another inspection.
        remember(&context.view, &facts);
        let plan = plan::plan(&facts);
        let Some(object) = apply::apply(&context, &facts, &plan).await? else {
            gone(&context, &facts.snapshot.object);
            return Ok(Action::await_change());
        };
        let report = report::report(&facts, &plan);
        if status::write(&context, &*object, &report.status).await? {
            context.metrics.status_writes.get_or_create(&super::metrics::Kind { kind: "GitProviderConnection" }).inc();
            status::publish(&context, &*object, &report.events).await;
            log(&object, &report);
        } else {
            debug!(namespace = object.namespace(), name = object.name_any(), "connection unchanged");
        }
        context.backoff.succeed(&object.uid().unwrap_or_default());
        Ok(report.requeue.map_or_else(Action::await_change, Action::requeue))
    }
    .boxed()
}

fn log(object: &GitProviderConnection, report: &report::Report) {
    let ready = crate::k8s::conditions::find(&report.status.conditions, crate::api::v1alpha1::ConditionType::Ready);
    info!(
        namespace = object.namespace(),
        name = object.name_any(),
        ready = ready.map(|ready| ready.status.as_str()),
        reason = ready.map(|ready| ready.reason.as_str()),
        detail = ready.map(|ready| ready.message.as_str()),
        "connection status"
    );
}

/// Stores what the facts add to what is known of connections and credentials.
pub fn remember(view: &View, facts: &Facts) {
    let connection = ConnectionTarget::of(&facts.snapshot.object);
    if let Some(probe) = &facts.probe {
        if let Some(credential) = &probe.credential {
            view.sessions.uses(&connection, credential, view.clock.now());
        }
        view.sessions.set(&connection, facts.session.clone());
    }
    view.sessions.set_usage(&connection, facts.usage);
    // If the connection was deleted during the inspection, no other code would forget the credential.
    if view.connection(&connection).is_none() {
        view.sessions.remove(&connection);
    }
}

/// Forgets everything about a deleted connection, also if somebody else removed its finalizer.
pub fn gone(context: &Context, object: &GitProviderConnection) {
    let uid = object.uid().unwrap_or_default();
    context.writes.forget(&uid);
    context.backoff.succeed(&uid);
    // A new connection of the same name may exist already; its session stays.
    let connection = ConnectionTarget::of(object);
    if context.view.connection(&connection).is_none_or(|present| present.uid() == object.uid()) {
        context.view.sessions.remove(&connection);
        context.view.catalogs.forget(&connection);
    }
}
