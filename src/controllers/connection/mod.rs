//! Reconciles a `GitProviderConnection`: reachability, authentication, permissions and expiry of the credential.

pub mod apply;
pub mod connection_inputs;
pub mod observe;
pub mod plan;
pub mod report;
#[cfg(test)]
mod tests;
pub mod usage;

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use tracing::{debug, info};

use super::runtime::writes::STALE_CACHE_RETRY;
use super::{Context, Error, View};
use crate::api::v1alpha1::GitProviderConnection;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::controllers::runtime::status;

/// Runs one reconciliation of a connection.
pub fn reconcile(object: Arc<GitProviderConnection>, context: Arc<Context>) -> BoxFuture<'static, Result<Action, Error>> {
    async move {
        if !context.writes.is_observed(&*object) {
            return Ok(Action::requeue(STALE_CACHE_RETRY));
        }
        if status::skip_if_foreign(&context, &*object).await? {
            // The connection may have been ours before: bindings must no longer use its credential.
            forget(&context.view, &target(&object));
            return Ok(Action::await_change());
        }
        let facts = observe::observe(&context.view, object).await;
        let plan = plan::plan(&facts);
        let object = apply::apply(&context, &facts, &plan).await?;
        let Some(object) = object else { return Ok(Action::await_change()) };
        let report = report::report(&facts, &plan);
        let written = status::write(&context, &*object, &report.status).await?;
        if written {
            context.metrics.status_writes.get_or_create(&super::metrics::Kind { kind: "GitProviderConnection" }).inc();
            status::publish(&context, &*object, &report.events).await;
            log(&object, &report);
        } else {
            debug!(namespace = object.namespace(), name = object.name_any(), "connection unchanged");
        }
        context.backoff.succeed(&object.uid().unwrap_or_default());
        Ok(plan.wake.map_or_else(Action::await_change, Action::requeue))
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

/// Forgets a connection that is gone or belongs to another installation, because its client holds the credential.
pub fn forget(view: &View, connection: &ConnectionTarget) {
    view.sessions.remove(connection);
    view.usages.forget(connection);
}

/// Forgets everything about a deleted connection, also if somebody else removed its finalizer.
pub fn gone(context: &Context, object: &GitProviderConnection) {
    let uid = object.uid().unwrap_or_default();
    context.writes.forget(&uid);
    context.backoff.succeed(&uid);
    // A new connection of the same name may exist already; its session stays.
    let connection = target(object);
    if context.view.connection(&connection).is_none_or(|present| present.uid() == object.uid()) {
        forget(&context.view, &connection);
    }
}

/// Returns the namespace and name of a connection.
#[must_use]
pub fn target(object: &GitProviderConnection) -> ConnectionTarget {
    ConnectionTarget { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}
