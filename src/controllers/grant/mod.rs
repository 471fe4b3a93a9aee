//! Reconciles a `ConnectionGrant`: reports whether it names a connection and how many bindings it allows. Decides nothing about
//! who may use a connection: that is [`crate::protocol::grant`].
//!
//! The steps follow each other in one direction: [`facts`] reads the caches, [`report`] builds the status.

pub mod facts;
pub mod report;
#[cfg(test)]
mod tests;
pub mod usage;

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use parking_lot::Mutex;

use self::facts::Facts;
use super::runtime::status;
use super::runtime::writes::STALE_CACHE_RETRY;
use super::{Context, Error, metrics};
use crate::api::v1alpha1::ConnectionGrant;

/// When the count of each grant was written last, by UID. In memory only.
#[derive(Debug, Default)]
pub struct CountTimes(Mutex<HashMap<String, Timestamp>>);

impl CountTimes {
    fn get(&self, uid: &str) -> Option<Timestamp> {
        self.0.lock().get(uid).copied()
    }

    fn set(&self, uid: String, at: Timestamp) {
        self.0.lock().insert(uid, at);
    }

    /// Forgets a grant that no longer exists.
    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

/// Runs one reconciliation of a grant.
pub fn reconcile(object: Arc<ConnectionGrant>, context: Arc<Context>) -> BoxFuture<'static, Result<Action, Error>> {
    async move {
        if !context.writes.is_observed(&*object) {
            return Ok(Action::requeue(STALE_CACHE_RETRY));
        }
        let uid = object.uid().unwrap_or_default();
        let facts = Facts::read(&context.view, &object, context.grant_counts.get(&uid));
        if !facts.is_ours {
            return Ok(Action::await_change());
        }
        let report = report::report(&facts);
        if status::write(&context, &*object, &report.status).await? {
            context.metrics.status_writes.get_or_create(&metrics::Kind { kind: "ConnectionGrant" }).inc();
            status::publish(&context, &*object, &report.events).await;
            context.grant_counts.set(uid.clone(), facts.now);
        }
        context.backoff.succeed(&uid);
        Ok(report.requeue.map_or_else(Action::await_change, Action::requeue))
    }
    .boxed()
}

/// Forgets everything about a deleted grant.
pub fn gone(context: &Context, object: &ConnectionGrant) {
    let uid = object.uid().unwrap_or_default();
    context.writes.forget(&uid);
    context.backoff.succeed(&uid);
    context.grant_counts.forget(&uid);
}
