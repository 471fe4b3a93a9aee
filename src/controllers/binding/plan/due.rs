//! When a repository is looked at. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Finding, Plan, SLOW_PROBE, after, wants_own_hook, webhook_status};
use crate::api::v1alpha1::binding::{RepoBindingStatus, WebhookStatus};
use crate::api::v1alpha1::{ConditionType, Reason, RepoBinding};
use crate::controllers::backoff::spread;
use crate::controllers::binding::generation;
use crate::controllers::binding::observe::{self, Connection, Observation};
use crate::controllers::conditions::{self, Verdict};
use crate::controllers::finalizer;
use crate::evidence::DEPARTED;

/// Evidence stretches the time between two looks to this at most.
const LONGEST_STRETCH: SignedDuration = SignedDuration::from_hours(24);
/// How far the API server's clock and ours may be apart.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);
/// When to look again after what may have been done twice.
const SECOND_LOOK: Duration = Duration::from_secs(60);

/// Whether the status says that all was well with the present spec, so that the first look after a start can wait its turn.
pub(in crate::controllers::binding) fn is_settled(observation: &Observation) -> bool {
    let object = &observation.object;
    let Some(status) = &object.status else { return false };
    status.observed_generation == object.metadata.generation
        && status.installation.as_ref() == Some(&observation.fingerprint)
        && conditions::is_true(&status.conditions, ConditionType::Ready)
        && !is_older_than(status, object)
        && (finalizer::is_present(&**object) || object.spec.webhook.is_none())
        && status.webhook.as_ref().is_none_or(|webhook| !is_under_way(webhook))
        && !rotation_is_due(observation)
}

/// Whether a status tells of a time before its object was made: it came from a backup, and the hooks may have changed since.
fn is_older_than(status: &RepoBindingStatus, object: &RepoBinding) -> bool {
    let Some(made) = object.metadata.creation_timestamp.as_ref().map(|time| time.0) else { return false };
    status.conditions.iter().any(|condition| made.duration_since(condition.last_transition_time.0) > CLOCKS_DIFFER)
}

/// Whether the secret is older than it may become. A predecessor may have begun to replace it.
pub(super) fn rotation_is_due(observation: &Observation) -> bool {
    let generation = webhook_status(&observation.object).and_then(|webhook| webhook.secret_generation.as_deref());
    generation.and_then(|generation| rotation_due_at(observation, generation)).is_some_and(|due| due <= observation.now)
}

/// When the secret of a generation is to be replaced.
pub(super) fn rotation_due_at(observation: &Observation, generation: &str) -> Option<Timestamp> {
    let interval = observation.object.spec.webhook.as_ref()?.rotation_interval.as_ref()?;
    let made = Timestamp::from_second(generation::second(generation, observation.now)?).ok()?;
    Some(after(made, interval.length()))
}

/// Whether a rotation or a move was begun and not finished: a hook with an earlier secret, or at an earlier place, is there.
pub(super) fn is_under_way(webhook: &WebhookStatus) -> bool {
    !webhook.former_targets.is_empty() || webhook.previous_secrets.iter().any(|previous| previous.valid_until.is_none())
}

/// Whether the repository is to be looked at: something that the hooks depend on changed, somebody asks, or it is time.
#[must_use]
pub fn look_due(observation: &Observation) -> bool {
    let Connection::Ready { inspected_at, .. } = &observation.connection else { return false };
    let object = &observation.object;
    let requests = observation.requests;
    if requests.look || requests.rotate || requests.revoke || status_is_lost(observation) || was_departed(observation) {
        return true;
    }
    let Some(memory) = &observation.memory else {
        return !is_settled(observation) || user_secret_changed(observation) || delivers_elsewhere(observation);
    };
    if memory.generation != object.metadata.generation.unwrap_or_default()
        || memory.circumstances != observation.circumstances()
        || (!memory.good && memory.at.is_some_and(|at| at < *inspected_at))
    {
        return true;
    }
    memory.next.is_none_or(|next| stretched(observation, next) <= observation.now)
}

/// Whether a delivery told since the last look that the repository is where the binding may not follow.
fn was_departed(observation: &Observation) -> bool {
    let refusals = observation.evidence.as_ref().and_then(|evidence| evidence.refusals.as_ref());
    let told = refusals.filter(|refusals| refusals.reason == DEPARTED);
    let looked = observation.memory.as_ref().and_then(|memory| memory.at);
    told.is_some_and(|told| looked.is_none_or(|at| at < told.last))
}

/// Whether somebody took out of the status what an earlier look put there: one that was restored or edited tells nothing.
pub(super) fn status_is_lost(observation: &Observation) -> bool {
    let object = &observation.object;
    let Some(memory) = observation.memory.as_ref().filter(|memory| memory.at.is_some()) else { return false };
    let Some(status) = object.status.as_ref().filter(|status| status.observed_generation.is_some()) else { return true };
    let tells = |kind| conditions::find(&status.conditions, kind).is_some();
    let hooks_told = wants_own_hook(object).is_none() || (tells(ConditionType::WebhookInSync) && status.webhook.is_some());
    memory.good && !(tells(ConditionType::RepositoryFound) && hooks_told)
}

/// The next look, moved by evidence: a verified delivery under the present secret shows that the hook is there.
pub(super) fn stretched(observation: &Observation, next: Timestamp) -> Timestamp {
    let Some(memory) = observation.memory.as_ref().filter(|memory| memory.good) else { return next };
    let Some(at) = memory.at else { return next };
    let generation = webhook_status(&observation.object).and_then(|webhook| webhook.secret_generation.as_ref());
    let seen = generation.and_then(|generation| observation.evidence.as_ref()?.generations.get(generation));
    let Some(seen) = seen else { return next };
    let latest = at.checked_add(LONGEST_STRETCH).unwrap_or(next);
    let stretched = after(*seen, observation.object.spec.interval.length()).min(latest).max(next);
    stretched.min(memory.not_after.unwrap_or(Timestamp::MAX))
}

/// Whether the status tells that hooks for our receiver deliver elsewhere than they are to: the connection or the installation
/// has another public URL since, or none.
pub(in crate::controllers::binding) fn delivers_elsewhere(observation: &Observation) -> bool {
    let Some(url) = webhook_status(&observation.object).and_then(|webhook| webhook.url.as_ref()) else { return false };
    observe::custom_url(&observation.object).is_none() && Some(url) != observation.ownership.masked_receiver_url().as_ref()
}

pub(super) fn user_secret_changed(observation: &Observation) -> bool {
    let known = webhook_status(&observation.object).and_then(|webhook| webhook.secret_generation.as_ref());
    match &observation.user_secret {
        Some(Ok(secret)) => known != Some(&secret.generation),
        Some(Err(_)) => true,
        None => false,
    }
}

/// Says when to look at the repository again.
pub(super) fn next_look(plan: &mut Plan, observation: &Observation) {
    let object = &observation.object;
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let interval = object.spec.interval.length();
    // What is only observed is as it was asked to be.
    let settled = |finding: &Finding| finding.verdict == Verdict::True || finding.reason == Reason::Observing;
    let good = |finding: &Option<Finding>| finding.as_ref().is_none_or(settled);
    plan.next_look = if observation.look.is_some() {
        // What was begun before, by a predecessor or without an answer, may still arrive at the provider after our list:
        // look once more, soon.
        let unanswered = observation.memory.as_ref().map_or_else(|| finalizer::is_present(&**object), |memory| !memory.good);
        let inherited = (unanswered && !plan.actions.is_empty()) || plan.awaits.is_some();
        let second_look = inherited.then(|| after(observation.now, SECOND_LOOK));
        let rotation = plan.generation.as_deref().and_then(|generation| rotation_due_at(observation, generation));
        let rotation = rotation.filter(|due| *due > observation.now);
        plan.not_after = [plan.next_look, second_look, rotation].into_iter().flatten().min();
        let pause = if good(&plan.repository) && good(&plan.webhook) {
            interval + spread(uid, interval / 10)
        } else {
            interval.min(SLOW_PROBE + spread(uid, SLOW_PROBE / 10))
        };
        [plan.not_after, Some(after(observation.now, pause))].into_iter().flatten().min()
    } else {
        match &observation.memory {
            Some(memory) => memory.next.map(|next| stretched(observation, next)),
            // After a start: spread over the interval, because nothing is known to have changed.
            None => Some(after(observation.now, spread(uid, interval))),
        }
    };
    if matches!(observation.connection, Connection::Ready { .. }) && !observation.suspended {
        plan.wake_at(plan.next_look);
    }
}
