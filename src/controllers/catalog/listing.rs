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
use super::merge::{Merge, Missing, in_turn};
use super::schedule;
use super::slices;
use super::state::{Finding, Next, Outcome};
use super::store::Slices;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::catalog::CatalogStatus;
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
    /// The result of the last listing, as far as it was written.
    pub(super) last: Option<CatalogStatus>,
    /// The value of the annotation that was handled last.
    pub(super) handled: Option<String>,
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
    let request = work.object.annotations().get(CATALOG_REQUESTED_AT).cloned();
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
        Err(Ended::Kubernetes(error)) => {
            let told = is_refusal(&error).then(|| schedule::after_the_longest_pause(now));
            (finding::unwritten(&error), Next::Repeated(told))
        }
    };
    let handled = request.or_else(|| work.handled.clone());
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

/// Whether the API server refuses what is written, for a quota or by admission control, and will refuse it again.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if [403, 422].contains(&status.code))
}

/// Reads the known repositories, merges the listing with them, and writes what changed. Whatever ends it, additions are kept.
async fn list(context: &Context, work: &Work) -> (Option<CatalogStatus>, Result<Finding, Ended>) {
    let (mut stored, known) = match Slices::read(context.client.clone(), &work.object).await {
        Ok(read) => read,
        Err(error) => return (None, Err(error.into())),
    };
    let is_told = is_told(work, stored.hashes());
    let mut merge = Merge::new(work.selection.clone(), known.entries).doubting(known.doubtful);
    let mut result = read_all(context, work, &mut merge, &mut stored).await;
    if matches!(result, Ok(_) | Err(Ended::Provider(_)))
        && let Err(error) = stored.write(&merge).await
    {
        result = Err(error.into());
    }
    let result = result.map(|left| finding::complete(&merge, left));
    let entries: Vec<_> = match &result {
        // Only the API server knows which of the writes it stored.
        Err(Ended::Kubernetes(_)) => match Slices::read(context.client.clone(), &work.object).await {
            Ok((read, known)) => {
                stored = read;
                Merge::new(work.selection.clone(), known.entries).entries().cloned().collect()
            }
            Err(_) => return (None, result),
        },
        _ => merge.entries().cloned().collect(),
    };
    let written = digest(&work.selection, stored.hashes());
    let (digest, listed_at) = match (&result, work.last.as_ref()) {
        (Ok(_), _) => {
            let now = context.view.clock.now();
            (written, Some(Time(now.round(jiff::Unit::Second).unwrap_or(now))))
        }
        (Err(_), last) => (digest_after_failure(last, is_told, written), last.and_then(|last| last.listed_at.clone())),
    };
    (Some(slices::summary(&entries.iter().collect::<Vec<_>>(), digest, listed_at)), result)
}

/// Whether the last complete listing had this selection, and its slices are unchanged.
fn is_told<'a>(work: &Work, hashes: impl Iterator<Item = &'a str>) -> bool {
    work.last.as_ref().is_some_and(|last| last.digest == digest(&work.selection, hashes))
}

/// The digest after a listing that failed. It contains a selection only after a complete listing with it: the next leader sees by
/// the difference that a listing is due.
fn digest_after_failure(last: Option<&CatalogStatus>, is_told: bool, written: String) -> String {
    match last {
        Some(last) if !is_told => last.digest.clone(),
        _ => written,
    }
}

/// Reads the whole list and looks up what is missing. Returns how many are not looked up.
async fn read_all(context: &Context, work: &Work, merge: &mut Merge, stored: &mut Slices) -> Result<usize, Ended> {
    read_pages(context, work, merge, stored).await?;
    let missing = merge.end(context.view.clock.now());
    look_up(context, work, merge, missing).await
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
    let present = context.view.connection(&work.connection).filter(|present| present.uid() == work.object.uid());
    present.is_some_and(|present| {
        present.spec.catalog.as_ref().map(Selection::of).as_ref() == Some(&work.selection)
            && super::permitted(&context.view, &present).is_some_and(|permit| permit.inputs() == work.permit.inputs())
    })
}

/// Looks up repositories that two complete listings did not show, and removes those that are gone. Returns how many were not looked
/// up.
async fn look_up(context: &Context, work: &Work, merge: &mut Merge, missing: Vec<Missing>) -> Result<usize, Ended> {
    let count = missing.len();
    let interval = work.object.spec.catalog.as_ref().map(|spec| spec.interval.length()).unwrap_or_default();
    let listing = schedule::number(interval, &work.object.uid().unwrap_or_default(), context.view.clock.now());
    for (number, missing) in in_turn(missing, listing, MOST_LOOK_UPS).into_iter().enumerate() {
        give_way(context).await;
        if !is_current(context, work) {
            return Err(Ended::Outdated);
        }
        match work.permit.is_gone(&missing.id, &missing.path).await {
            Ok(true) => merge.remove(&missing.id),
            Err(error) if error.kind.disposition().concerns_connection() => return Ok(count - number),
            // It is there, or the credential may not see it: it stays, as not visible.
            Ok(false) | Err(_) => {}
        }
    }
    Ok(count.saturating_sub(MOST_LOOK_UPS))
}

/// Time of the last complete listing, from a connection's status.
pub(super) fn listed_at(object: &GitProviderConnection) -> Option<Timestamp> {
    object.status.as_ref()?.catalog.as_ref()?.listed_at.as_ref().map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_listing_does_not_put_a_new_selection_into_the_digest() {
        let last = CatalogStatus { digest: "old".to_owned(), ..CatalogStatus::default() };
        let after = |last, is_told| digest_after_failure(last, is_told, "written".to_owned());
        assert_eq!(after(Some(&last), false), "old", "the selection is new, or somebody changed a slice");
        assert_eq!(after(Some(&last), true), "written", "additions of a listing with the same selection");
        assert_eq!(after(None, false), "written", "without a complete listing one is due anyway");
    }

    #[test]
    fn only_a_refusal_of_the_api_server_is_repeated_late() {
        let error = |code| kube::Error::Api(Box::new(kube::core::Status::failure("no", "Reason").with_code(code)));
        assert_eq!([403, 422, 409, 500].map(|code| is_refusal(&error(code))), [true, true, false, false]);
    }
}
