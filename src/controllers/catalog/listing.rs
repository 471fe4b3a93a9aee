//! Lists the repositories of one connection and writes its slices.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use tokio::time::Instant;
use tracing::{info, warn};

use super::entry::entry;
use super::finding;
use super::merge::{Merge, Missing};
use super::slices;
use super::state::{Finding, Next, Outcome};
use super::store::Slices;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::catalog::{CatalogStatus, SliceEntry};
use crate::api::v1alpha1::{CATALOG_REQUESTED_AT, GitProviderConnection};
use crate::controllers::Context;
use crate::controllers::gate::CatalogPermit;
use crate::controllers::metrics::{KINDS, Kind};
use crate::protocol::catalog::{Selection, digest};
use crate::providers::{ErrorKind, ProviderError};

/// How often additions are written while a listing runs.
const FLUSHED_EVERY: Duration = Duration::from_secs(30);
/// How long a page waits for reconciliations that wait themselves, and how often it looks.
const GIVES_WAY_FOR: Duration = Duration::from_secs(10);
const LOOKS_EVERY: Duration = Duration::from_millis(100);
/// Maximum number of look-ups of missing repositories in one listing.
const MOST_LOOK_UPS: usize = 100;

/// A listing to be made.
pub(super) struct Work {
    pub(super) connection: ConnectionTarget,
    pub(super) object: Arc<GitProviderConnection>,
    pub(super) selection: Selection,
    pub(super) permit: CatalogPermit,
}

/// Why a listing ended early.
enum Ended {
    /// The provider refused or did not answer.
    Provider(ProviderError),
    /// The slices could not be read or written.
    Kubernetes(kube::Error),
    /// The connection was deleted, changed or does not work any more.
    Outdated,
}

impl From<ProviderError> for Ended {
    fn from(error: ProviderError) -> Self {
        Self::Provider(error)
    }
}

impl From<kube::Error> for Ended {
    fn from(error: kube::Error) -> Self {
        Self::Kubernetes(error)
    }
}

/// Lists the repositories of a connection and records the result for its status.
pub(super) async fn run(context: &Context, work: Work) {
    let catalogs = &context.view.catalogs;
    let uid = work.object.uid().unwrap_or_default();
    if !catalogs.begin(&work.connection, &uid, work.permit.inputs(), context.view.clock.now()) {
        return;
    }
    let handled = work.object.annotations().get(CATALOG_REQUESTED_AT).cloned();
    let (status, result) = list(context, &work).await;
    let now = context.view.clock.now();
    let (finding, next) = match result {
        Ok(finding) => (finding, Next::Scheduled),
        Err(Ended::Outdated) => return catalogs.end(&work.connection, &uid, None, Next::Scheduled, now),
        Err(Ended::Provider(error)) if error.kind == ErrorKind::NotLeading => {
            return catalogs.end(&work.connection, &uid, None, Next::Repeated(None), now);
        }
        Err(Ended::Provider(error)) => {
            if error.kind == ErrorKind::Unauthenticated {
                context.view.sessions.request_inspection(&work.connection);
            }
            (finding::failed(&error), Next::Repeated(error.retry_at))
        }
        Err(Ended::Kubernetes(error)) => (finding::unwritten(&error), Next::Repeated(None)),
    };
    log(&work, &finding, next != Next::Scheduled);
    catalogs.end(&work.connection, &uid, Some(Outcome { status, finding, handled }), next, now);
    context.view.triggers.connection(&work.connection);
}

fn log(work: &Work, finding: &Finding, failed: bool) {
    let (namespace, name, message) = (&work.connection.namespace, &work.connection.name, &finding.message);
    if failed {
        warn!(namespace, name, reason = finding.reason.as_str(), message, "the repositories of a connection could not be listed");
    } else {
        info!(namespace, name, reason = finding.reason.as_str(), message, "the repositories of a connection were listed");
    }
}

/// Reads the known repositories, merges the listing with them, and writes what changed. Whatever ends it, additions are kept.
async fn list(context: &Context, work: &Work) -> (Option<CatalogStatus>, Result<Finding, Ended>) {
    let (mut stored, known) = match Slices::read(context.client.clone(), &work.object).await {
        Ok(read) => read,
        Err(error) => return (None, Err(error.into())),
    };
    let mut merge = Merge::new(work.selection.clone(), known.entries).doubting(known.doubtful);
    let mut result = read_pages(context, work, &mut merge, &mut stored).await.map(|()| 0);
    let mut listed_at = work.object.status.as_ref().and_then(|status| status.catalog.as_ref()?.listed_at.clone());
    if result.is_ok() {
        let now = context.view.clock.now();
        let missing = merge.end(now);
        result = Ok(look_up(&work.permit, &mut merge, missing).await);
        listed_at = Some(Time(now.round(jiff::Unit::Second).unwrap_or(now)));
    }
    if matches!(result, Ok(_) | Err(Ended::Provider(_)))
        && let Err(error) = stored.write(&merge).await
    {
        listed_at = work.object.status.as_ref().and_then(|status| status.catalog.as_ref()?.listed_at.clone());
        result = Err(error.into());
    }
    let entries: Vec<&SliceEntry> = merge.entries().collect();
    let status = slices::summary(&entries, digest(merge.selection(), stored.hashes()), listed_at);
    (Some(status), result.map(|left| finding::complete(&merge, left)))
}

/// Reads the list page by page, after interactive work, and writes additions from time to time.
async fn read_pages(context: &Context, work: &Work, merge: &mut Merge, stored: &mut Slices) -> Result<(), Ended> {
    let mut pages = work.permit.repositories();
    let mut flushed = Instant::now();
    loop {
        give_way(context).await;
        if !is_current(context, work) {
            return Err(Ended::Outdated);
        }
        let Some(page) = pages.try_next().await? else { return Ok(()) };
        merge.add(page.into_iter().map(|found| entry(found, work.permit.may_manage())));
        if flushed.elapsed() >= FLUSHED_EVERY {
            stored.write(merge).await?;
            flushed = Instant::now();
        }
    }
}

/// Waits while reconciliations wait for their turn: they use the same rate limits, processors and API server.
async fn give_way(context: &Context) {
    let is_busy = || KINDS.iter().any(|kind| context.metrics.waiting.get_or_create(&Kind { kind }).get() > 0);
    let until = Instant::now() + GIVES_WAY_FOR;
    while is_busy() && Instant::now() < until {
        tokio::time::sleep(LOOKS_EVERY).await;
    }
}

/// Whether the connection still asks for this listing, with this credential.
fn is_current(context: &Context, work: &Work) -> bool {
    let present = context.view.connection(&work.connection);
    let session = context.view.sessions.get(&work.connection);
    present.is_some_and(|present| {
        present.uid() == work.object.uid()
            && present.metadata.deletion_timestamp.is_none()
            && present.spec.catalog.as_ref().map(Selection::of).as_ref() == Some(&work.selection)
    }) && session.is_some_and(|session| {
        session.failure.is_none() && session.active_client.is_some_and(|client| client.inputs == work.permit.inputs())
    })
}

/// Looks up repositories that two complete listings did not show, and removes those that are gone. Returns how many were not looked
/// up.
async fn look_up(permit: &CatalogPermit, merge: &mut Merge, missing: Vec<Missing>) -> usize {
    let count = missing.len();
    for (number, missing) in missing.into_iter().take(MOST_LOOK_UPS).enumerate() {
        match permit.is_gone(&missing.id, &missing.path).await {
            Ok(true) => merge.remove(&missing.id),
            Err(error) if error.kind.disposition().concerns_connection() => return count - number,
            // It is there, or the credential may not see it: it stays, as not visible.
            Ok(false) | Err(_) => {}
        }
    }
    count.saturating_sub(MOST_LOOK_UPS)
}

/// Time of the last complete listing, from a connection's status.
pub(super) fn listed_at(object: &GitProviderConnection) -> Option<Timestamp> {
    object.status.as_ref()?.catalog.as_ref()?.listed_at.as_ref().map(|time| time.0)
}
