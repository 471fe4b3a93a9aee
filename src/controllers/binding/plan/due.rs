//! Decides when a repository is probed. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Finding, Plan, SLOW_PROBE};
use crate::api::v1alpha1::binding::{RepoBindingStatus, WebhookStatus};
use crate::api::v1alpha1::{ConditionType, Reason, RepoBinding};
use crate::controllers::binding::observe::{Connection, Facts};
use crate::controllers::binding::secret_version;
use crate::controllers::binding::time::after;
use crate::controllers::runtime::backoff::jitter;
use crate::k8s::conditions::{self, ConditionStatus};
use crate::k8s::finalizer;
use crate::protocol::evidence::DEPARTED;

/// Maximum time between two probes when delivery evidence postpones the next one.
const LONGEST_STRETCH: SignedDuration = SignedDuration::from_hours(24);
/// Maximum difference between the API server's clock and ours.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);
/// Pause before another probe after an action that may have been done twice.
const SECOND_PROBE: Duration = Duration::from_secs(60);

/// Whether the status shows that everything was in order with the present spec, so that the first probe after a start can be
/// delayed.
pub(in crate::controllers::binding) fn is_settled(facts: &Facts) -> bool {
    let object = &facts.object;
    let Some(status) = &object.status else { return false };
    status.observed_generation == object.metadata.generation
        && status.installation.as_ref() == Some(&facts.fingerprint)
        && conditions::is_true(&status.conditions, ConditionType::Ready)
        && !is_older_than(status, object)
        && (finalizer::is_present(&**object) || object.spec.webhook.is_none())
        && status.webhook.as_ref().is_none_or(|webhook| !is_under_way(webhook))
        && !rotation_is_due(facts)
}

/// Whether a status is older than its object: it comes from a backup, and the hooks may have changed since.
fn is_older_than(status: &RepoBindingStatus, object: &RepoBinding) -> bool {
    let Some(made) = object.metadata.creation_timestamp.as_ref().map(|time| time.0) else { return false };
    status.conditions.iter().any(|condition| made.duration_since(condition.last_transition_time.0) > CLOCKS_DIFFER)
}

/// Whether the secret is due for rotation. The previous operator process may have begun to replace it.
pub(super) fn rotation_is_due(facts: &Facts) -> bool {
    let secret_version = facts.object.webhook_status().and_then(|webhook| webhook.secret_version.as_deref());
    secret_version.and_then(|secret_version| rotation_due_at(facts, secret_version)).is_some_and(|due| due <= facts.now)
}

/// Time at which a secret version is due for rotation.
pub(super) fn rotation_due_at(facts: &Facts, secret_version: &str) -> Option<Timestamp> {
    let interval = facts.object.spec.webhook.as_ref()?.rotation_interval.as_ref()?;
    let made = Timestamp::from_second(secret_version::second(secret_version, facts.now)?).ok()?;
    Some(after(made, interval.length()))
}

/// Whether a rotation or a move is unfinished: a hook with an earlier secret or at an earlier target still exists.
pub(super) fn is_under_way(webhook: &WebhookStatus) -> bool {
    !webhook.former_targets.is_empty() || webhook.previous_secrets.iter().any(|previous| previous.valid_until.is_none())
}

/// Whether the repository must be probed: an input of the hooks changed, a probe was requested, or it is time.
#[must_use]
pub fn probe_due(facts: &Facts) -> bool {
    let Connection::Ready { inspected_at, .. } = &facts.connection else { return false };
    let object = &facts.object;
    let requests = facts.requests;
    if requests.probe || requests.rotate || requests.revoke || status_is_lost(facts) || was_out_of_reach(facts) {
        return true;
    }
    let Some(memory) = &facts.memory else {
        return !is_settled(facts) || user_secret_changed(facts) || delivers_elsewhere(facts);
    };
    if memory.generation != object.metadata.generation.unwrap_or_default()
        || memory.probe_inputs != facts.probe_inputs()
        || (!memory.good && memory.at.is_some_and(|at| at < *inspected_at))
    {
        return true;
    }
    memory.next.is_none_or(|next| stretched(facts, next) <= facts.now)
}

/// Whether a delivery since the last probe showed that the repository has moved out of the binding's reach.
fn was_out_of_reach(facts: &Facts) -> bool {
    let refusals = facts.evidence.as_ref().and_then(|evidence| evidence.refusals.as_ref());
    let told = refusals.filter(|refusals| refusals.reason == DEPARTED);
    let probed = facts.memory.as_ref().and_then(|memory| memory.at);
    told.is_some_and(|told| probed.is_none_or(|at| at < told.last))
}

/// Whether somebody removed from the status what an earlier probe wrote. A restored or edited status cannot be relied on.
pub(super) fn status_is_lost(facts: &Facts) -> bool {
    let object = &facts.object;
    let Some(memory) = facts.memory.as_ref().filter(|memory| memory.at.is_some()) else { return false };
    let Some(status) = object.status.as_ref().filter(|status| status.observed_generation.is_some()) else { return true };
    let tells = |kind| conditions::find(&status.conditions, kind).is_some();
    let hooks_told = object.own_hook().is_none() || (tells(ConditionType::WebhookInSync) && status.webhook.is_some());
    memory.good && !(tells(ConditionType::RepositoryFound) && hooks_told)
}

/// Time of the next probe, postponed by delivery evidence: a verified delivery with the present secret shows that the hook
/// exists.
pub(super) fn stretched(facts: &Facts, next: Timestamp) -> Timestamp {
    let Some(memory) = facts.memory.as_ref().filter(|memory| memory.good) else { return next };
    let Some(at) = memory.at else { return next };
    let secret_version = facts.object.webhook_status().and_then(|webhook| webhook.secret_version.as_ref());
    let seen = secret_version.and_then(|secret_version| facts.evidence.as_ref()?.secret_versions.get(secret_version));
    let Some(seen) = seen else { return next };
    let latest = at.checked_add(LONGEST_STRETCH).unwrap_or(next);
    let stretched = after(*seen, facts.object.spec.interval.length()).min(latest).max(next);
    stretched.min(memory.not_after.unwrap_or(Timestamp::MAX))
}

/// Whether, according to the status, hooks for our receiver deliver to another URL than wanted: the connection or the
/// installation has another public URL now, or none.
pub(in crate::controllers::binding) fn delivers_elsewhere(facts: &Facts) -> bool {
    let Some(url) = facts.object.webhook_status().and_then(|webhook| webhook.url.as_ref()) else { return false };
    facts.object.custom_url().is_none() && Some(url) != facts.identity.masked_receiver_url().as_ref()
}

pub(super) fn user_secret_changed(facts: &Facts) -> bool {
    let known = facts.object.webhook_status().and_then(|webhook| webhook.secret_version.as_ref());
    match &facts.user_secret {
        Some(Ok(secret)) => known != Some(&secret.version),
        Some(Err(_)) => true,
        None => false,
    }
}

/// Sets the time of the next probe.
pub(super) fn next_probe(plan: &mut Plan, facts: &Facts) {
    let object = &facts.object;
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let interval = object.spec.interval.length();
    // A finding with the reason `Observing` counts as settled: the binding is in the requested state.
    let settled = |finding: &Finding| finding.status == ConditionStatus::True || finding.reason == Reason::Observing;
    let good = |finding: &Option<Finding>| finding.as_ref().is_none_or(settled);
    plan.next_probe = if facts.probe.is_some() {
        // A creation by the previous operator process, or one without an answer, may still arrive at the provider after our list:
        // probe once more, soon.
        let may_be_duplicated = facts.memory.as_ref().map_or_else(|| finalizer::is_present(&**object), |memory| !memory.good);
        let inherited = (may_be_duplicated && !plan.actions.is_empty()) || plan.pending_create.is_some();
        let second_probe = inherited.then(|| after(facts.now, SECOND_PROBE));
        let rotation = plan.secret_version.as_deref().and_then(|secret_version| rotation_due_at(facts, secret_version));
        let rotation = rotation.filter(|due| *due > facts.now);
        plan.not_after = [plan.next_probe, second_probe, rotation].into_iter().flatten().min();
        let pause = if good(&plan.repository) && good(&plan.webhook) {
            interval + jitter(uid, interval / 10)
        } else {
            interval.min(SLOW_PROBE + jitter(uid, SLOW_PROBE / 10))
        };
        [plan.not_after, Some(after(facts.now, pause))].into_iter().flatten().min()
    } else {
        match &facts.memory {
            Some(memory) => memory.next.map(|next| stretched(facts, next)),
            // After a start: spread over the interval, because no change is known.
            None => Some(after(facts.now, jitter(uid, interval))),
        }
    };
    if matches!(facts.connection, Connection::Ready { .. }) && !facts.suspended {
        plan.wake_at(plan.next_probe);
    }
}
