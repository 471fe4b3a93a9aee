//! Keeps the list of the repositories that a connection's credential reaches, in `RepositorySlice`s.
//!
//! [`schedule`] decides when a listing is due, [`listing`] reads the provider's list page by page, [`merge`] compares it with the
//! repositories that are known, [`slices`] distributes them and decides what to write, and [`store`] writes it. The result goes into
//! the connection's status with its next reconciliation ([`state`], [`finding`]).

pub mod entry;
pub mod finding;
pub mod listing;
pub mod merge;
pub mod schedule;
pub mod slices;
pub mod state;
pub mod store;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{FuturesUnordered, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::ResourceExt as _;
use tracing::{info, warn};

use self::listing::Work;
use self::schedule::Situation;
use self::state::Catalogs;
use super::gate::CatalogPermit;
use super::{Context, View, foreign_owner_message, requested};
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::{CATALOG_REQUESTED_AT, ConditionType, GitProviderConnection, Reason, RepositorySlice};
use crate::k8s::conditions;
use crate::k8s::watch::{self, PartChange, Scope};
use crate::protocol::catalog::{Selection, digest};

/// How many listings run at once.
const AT_ONCE: usize = 2;
/// How often to look for listings that are due.
const REST: Duration = Duration::from_secs(2);

/// Watches the slices, of which only the hashes are kept. Never returns.
pub async fn watch(context: Arc<Context>, client: Client, scope: Scope) {
    let hear = move |change| hear(&context.view.catalogs, change);
    watch::parts::<RepositorySlice, _>(client, scope, store::seen, hear).await;
}

fn hear(catalogs: &Catalogs, change: PartChange<state::SeenSlice>) {
    match change {
        PartChange::Applied(namespace, name, slice) => catalogs.saw(namespace, name, slice),
        PartChange::Deleted(namespace, name) => catalogs.lost(namespace, name),
        PartChange::Listed(namespace, found) => catalogs.found_only(namespace.as_deref(), &found),
        PartChange::Ready => catalogs.filled(),
    }
}

/// Lists the repositories of connections when it is time, while this process leads. Never returns.
pub async fn follow(context: &Context) {
    context.view.catalogs.begin_term();
    let mut running: FuturesUnordered<BoxFuture<'_, ConnectionTarget>> = FuturesUnordered::new();
    let mut busy = BTreeSet::new();
    loop {
        if context.view.catalogs.is_filled() {
            for (connection, task) in due(context, &busy) {
                if running.len() >= AT_ONCE {
                    break;
                }
                busy.insert(connection.clone());
                running.push(
                    async move {
                        match task {
                            Task::List(work) => listing::run(context, *work).await,
                            Task::Remove(names) => remove(context, &connection, names).await,
                        }
                        connection
                    }
                    .boxed(),
                );
            }
        }
        tokio::select! {
            Some(connection) = running.next(), if !running.is_empty() => drop(busy.remove(&connection)),
            () = tokio::time::sleep(REST) => {}
        }
    }
}

/// Something to do for a connection.
enum Task {
    List(Box<Work>),
    /// Delete these slices, because the connection asks for no catalogue.
    Remove(Vec<String>),
}

/// What is due, those first that wait for the longest time.
fn due(context: &Context, busy: &BTreeSet<ConnectionTarget>) -> Vec<(ConnectionTarget, Task)> {
    let view = &context.view;
    let mut due: Vec<_> = view
        .connections
        .state_filter(|object| object.spec.catalog.is_some())
        .into_iter()
        .filter(|object| !busy.contains(&ConnectionTarget::of(object)))
        .filter_map(|object| work(view, &object))
        .collect();
    due.sort_by_key(|work| listing::listed_at(&work.object));
    let lists = due.into_iter().map(|work| (work.connection.clone(), Task::List(Box::new(work))));
    lists.chain(unasked(view, busy)).collect()
}

/// The slices of connections that ask for no catalogue. Those of a connection that is gone are removed by the garbage collector.
fn unasked(view: &View, busy: &BTreeSet<ConnectionTarget>) -> Vec<(ConnectionTarget, Task)> {
    let owners = view.catalogs.owners().into_iter().filter(|(connection, _)| !busy.contains(connection));
    let without = owners.filter(|(connection, uid)| {
        view.connection(connection)
            .is_some_and(|object| object.uid().as_ref() == Some(uid) && object.spec.catalog.is_none() && is_ours(view, &object))
    });
    without
        .map(|(connection, uid)| {
            let names = view.catalogs.slices_of(&connection, &uid).into_keys().collect();
            (connection, Task::Remove(names))
        })
        .collect()
}

fn is_ours(view: &View, object: &GitProviderConnection) -> bool {
    object.metadata.deletion_timestamp.is_none() && foreign_owner_message(object, &view.keys.fingerprint).is_none()
}

/// The permit to list the repositories of a connection, as long as it asks for them and works.
fn permitted(view: &View, object: &GitProviderConnection) -> Option<CatalogPermit> {
    let connection = ConnectionTarget::of(object);
    if object.spec.suspend || !is_ours(view, object) || view.is_terminating(&connection.namespace) {
        return None;
    }
    let session = view.sessions.get(&connection).filter(|session| session.failure.is_none())?;
    CatalogPermit::of(object, session.active_client.as_ref()?)
}

/// Whether the last listing failed. Only the process that made it knows when it is repeated: the next leader repeats it at once.
fn is_to_be_repeated(object: &GitProviderConnection) -> bool {
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let failed = |condition: &Condition| condition.status == "False" && condition.reason != Reason::Truncated.as_str();
    conditions::find(conditions, ConditionType::Cataloged).is_some_and(failed)
}

/// The listing of a connection, if one is due and the connection works.
fn work(view: &View, object: &Arc<GitProviderConnection>) -> Option<Work> {
    let connection = ConnectionTarget::of(object);
    let spec = object.spec.catalog.as_ref()?;
    let permit = permitted(view, object)?;
    let uid = object.uid().unwrap_or_default();
    let selection = Selection::of(spec);
    let outcome = view.catalogs.outcome(&connection, &uid);
    // The status in the cache may be older than the result of this process, or its write may have been refused.
    let last = outcome.as_ref().and_then(|outcome| outcome.status.clone()).or_else(|| object.status.as_ref()?.catalog.clone());
    let slices = view.catalogs.slices_of(&connection, &uid);
    let differs = last.as_ref().is_some_and(|last| last.digest != digest(&selection, slices.values().map(String::as_str)));
    let now = view.clock.now();
    let progress = view.catalogs.progress(&connection, (&uid, permit.inputs()), differs, now)?;
    let handled = object.status.as_ref().and_then(|status| status.last_handled.as_ref()?.catalog.clone());
    let handled = outcome.as_ref().and_then(|outcome| outcome.handled.clone()).or(handled);
    let situation = Situation {
        uid: &uid,
        interval: spec.interval.length(),
        listed_at: last.as_ref().and_then(|last| last.listed_at.as_ref()).map(|time| time.0),
        requested: requested(&**object, CATALOG_REQUESTED_AT, handled.as_ref()).is_some()
            || (outcome.is_none() && is_to_be_repeated(object)),
        begun_at: progress.begun_at,
        retry_at: progress.retry_at,
        differs_since: progress.differs_since,
    };
    schedule::is_due(&situation, now).then(|| Work { connection, selection, permit, object: Arc::clone(object), last, handled })
}

async fn remove(context: &Context, connection: &ConnectionTarget, names: Vec<String>) {
    let (namespace, name, count) = (&connection.namespace, &connection.name, names.len());
    match store::delete_all(context.client.clone(), namespace, names).await {
        Ok(()) => info!(namespace, name, count, "deleted the slices of a connection without a catalogue"),
        Err(error) => warn!(namespace, name, error = crate::text::wording::of_api_server(&error), "slices could not be deleted, retrying"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_next_leader_repeats_a_listing_that_failed() {
        let object = |status: &str, reason: &str| -> GitProviderConnection {
            serde_json::from_value(json!({
                "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection", "metadata": {"name": "acme"},
                "spec": {"provider": {}},
                "status": {"conditions": [{
                    "type": "Cataloged", "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-11-20T12:00:00Z",
                }]},
            }))
            .unwrap()
        };
        assert!(is_to_be_repeated(&object("False", "RateLimited")));
        assert!(!is_to_be_repeated(&object("False", "Truncated")), "it was complete");
        assert!(!is_to_be_repeated(&object("True", "Succeeded")));
    }
}
