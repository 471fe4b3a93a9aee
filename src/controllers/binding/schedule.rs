//! Decides when a repository is probed. Pure.

use jiff::{SignedDuration, Timestamp};

use super::secret_version;
use super::snapshot::{Connection, Snapshot};
use super::time::after;
use crate::api::v1alpha1::binding::{RepoBindingStatus, WebhookStatus};
use crate::api::v1alpha1::{ConditionType, RepoBinding};
use crate::k8s::conditions;
use crate::k8s::finalizer;
use crate::protocol::evidence::DEPARTED;

/// Maximum time between two probes when delivery evidence postpones the next one.
const LONGEST_STRETCH: SignedDuration = SignedDuration::from_hours(24);
/// Maximum difference between the API server's clock and ours.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);

/// Whether the status shows that everything was in order with the present spec, so that the first probe after a start can be
/// delayed.
pub fn is_settled(snapshot: &Snapshot) -> bool {
    let object = &snapshot.object;
    let Some(status) = &object.status else { return false };
    status.observed_generation == object.metadata.generation
        && status.installation.as_ref() == Some(&snapshot.fingerprint)
        && conditions::is_true(&status.conditions, ConditionType::Ready)
        && !is_older_than(status, object)
        && (finalizer::is_present(&**object) || object.spec.webhook.is_none())
        && status.webhook.as_ref().is_none_or(|webhook| !is_under_way(webhook))
        && !rotation_is_due(snapshot)
}

/// Whether a status is older than its object: it comes from a backup, and the hooks may have changed since.
fn is_older_than(status: &RepoBindingStatus, object: &RepoBinding) -> bool {
    let Some(made) = object.metadata.creation_timestamp.as_ref().map(|time| time.0) else { return false };
    status.conditions.iter().any(|condition| made.duration_since(condition.last_transition_time.0) > CLOCKS_DIFFER)
}

/// Whether the secret is due for rotation. The previous operator process may have begun to replace it.
fn rotation_is_due(snapshot: &Snapshot) -> bool {
    let secret_version = snapshot.object.webhook_status().and_then(|webhook| webhook.secret_version.as_deref());
    secret_version.and_then(|secret_version| rotation_due_at(snapshot, secret_version)).is_some_and(|due| due <= snapshot.now)
}

/// Time at which a secret version is due for rotation.
pub fn rotation_due_at(snapshot: &Snapshot, secret_version: &str) -> Option<Timestamp> {
    let interval = snapshot.object.spec.webhook.as_ref()?.rotation_interval.as_ref()?;
    let made = Timestamp::from_second(secret_version::second(secret_version, snapshot.now)?).ok()?;
    Some(after(made, interval.length()))
}

/// Whether a rotation or a move is unfinished: a hook with an earlier secret or at an earlier target still exists.
fn is_under_way(webhook: &WebhookStatus) -> bool {
    !webhook.former_targets.is_empty() || webhook.previous_secrets.iter().any(|previous| previous.valid_until.is_none())
}

/// Whether the repository must be probed: an input of the hooks changed, a probe was requested, or it is time.
pub fn probe_due(snapshot: &Snapshot) -> bool {
    let Connection::Ready { inspected_at, .. } = &snapshot.connection else { return false };
    let object = &snapshot.object;
    let requests = snapshot.requests;
    if requests.probe || requests.rotate || requests.revoke || status_is_lost(snapshot) || was_out_of_reach(snapshot) {
        return true;
    }
    let Some(memory) = &snapshot.memory.probe else {
        return !is_settled(snapshot) || user_secret_changed(snapshot) || delivers_elsewhere(snapshot);
    };
    if memory.generation != object.metadata.generation.unwrap_or_default()
        || memory.probe_inputs != snapshot.probe_inputs()
        || (!memory.good && memory.at.is_some_and(|at| at < *inspected_at))
    {
        return true;
    }
    memory.next.is_none_or(|next| stretched(snapshot, next) <= snapshot.now)
}

/// Whether a delivery since the last probe showed that the repository has moved out of the binding's reach.
fn was_out_of_reach(snapshot: &Snapshot) -> bool {
    let refusals = snapshot.memory.evidence.as_ref().and_then(|evidence| evidence.refusals.as_ref());
    let told = refusals.filter(|refusals| refusals.reason == DEPARTED);
    let probed = snapshot.memory.probe.as_ref().and_then(|memory| memory.at);
    told.is_some_and(|told| probed.is_none_or(|at| at < told.last))
}

/// Whether somebody removed from the status what an earlier probe wrote. A restored or edited status cannot be relied on.
fn status_is_lost(snapshot: &Snapshot) -> bool {
    let object = &snapshot.object;
    let Some(memory) = snapshot.memory.probe.as_ref().filter(|memory| memory.at.is_some()) else { return false };
    let Some(status) = object.status.as_ref().filter(|status| status.observed_generation.is_some()) else { return true };
    let tells = |kind| conditions::find(&status.conditions, kind).is_some();
    let hooks_told = object.spec.webhook.is_none() || (tells(ConditionType::WebhookInSync) && status.webhook.is_some());
    memory.good && !(tells(ConditionType::RepositoryFound) && hooks_told)
}

/// Time of the next probe, postponed by delivery evidence: a verified delivery with the present secret shows that the hook
/// exists.
pub fn stretched(snapshot: &Snapshot, next: Timestamp) -> Timestamp {
    let Some(memory) = snapshot.memory.probe.as_ref().filter(|memory| memory.good) else { return next };
    let Some(at) = memory.at else { return next };
    let secret_version = snapshot.object.webhook_status().and_then(|webhook| webhook.secret_version.as_ref());
    let seen = secret_version.and_then(|secret_version| snapshot.memory.evidence.as_ref()?.secret_versions.get(secret_version));
    let Some(seen) = seen else { return next };
    let latest = at.checked_add(LONGEST_STRETCH).unwrap_or(next);
    let stretched = after(*seen, snapshot.object.spec.interval.length()).min(latest).max(next);
    stretched.min(memory.not_after.unwrap_or(Timestamp::MAX))
}

/// Whether, according to the status, hooks for our receiver deliver to another URL than wanted: the connection or the
/// installation has another public URL now, or none.
pub fn delivers_elsewhere(snapshot: &Snapshot) -> bool {
    let Some(url) = snapshot.object.webhook_status().and_then(|webhook| webhook.url.as_ref()) else { return false };
    snapshot.object.custom_url().is_none() && Some(url) != snapshot.identity.masked_receiver_url().as_ref()
}

fn user_secret_changed(snapshot: &Snapshot) -> bool {
    let known = snapshot.object.webhook_status().and_then(|webhook| webhook.secret_version.as_ref());
    match &snapshot.user_secret {
        Some(Ok(secret)) => known != Some(&secret.version),
        Some(Err(_)) => true,
        None => false,
    }
}
