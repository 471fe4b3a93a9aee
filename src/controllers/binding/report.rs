//! What to say about a binding. Pure, and the only code that makes its conditions and events.

mod deliveries;
mod webhook_status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;

use super::apply::{Failure, Outcome};
use super::observe::{Connection, Observation, custom_url};
use super::plan::{self, Finding, Plan, UNANSWERED, is_refusal};
use crate::api::v1alpha1::binding::{HookTarget, RepoBindingStatus, RepositoryStatus, RequestedRepository, WebhookStatus};
use crate::api::v1alpha1::{
    ConditionType, LastHandled, RECONCILE_REQUESTED_AT, REVOKE_REQUESTED_AT, ROTATE_REQUESTED_AT, Reason, RepoBinding,
};
use crate::controllers::conditions::{self, Conditions, Verdict};
use crate::controllers::status::Notice;
use crate::providers::{ErrorKind, ProviderError, Repository};
use deliveries::Evidence;

pub use webhook_status::surplus_targets;

/// What is to be said.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The status.
    pub status: RepoBindingStatus,
    /// Events for what a person should notice.
    pub notices: Vec<Notice>,
    /// Whether news of deliveries is in it.
    pub evidence_written: bool,
}

/// Whether the look at the repository failed in part, so that it is not known: whatever is no answer about the repository.
#[must_use]
pub fn look_failed(observation: &Observation) -> bool {
    let Some(look) = &observation.look else { return false };
    let failed = |error: &ProviderError| !is_refusal(error.kind);
    look.repository.error().is_some_and(failed)
        || matches!(&look.branch, Some(Err(error)) if failed(error))
        || matches!(&look.hooks, Some(Err(error)) if failed(error))
}

/// Whether the present spec was judged. While its provider is out of reach, a changed spec was not: the status goes on
/// telling of the generation before, and says so by its `observedGeneration`.
fn is_seen(observation: &Observation, plan: &Plan) -> bool {
    let before = observation.object.status.as_ref().and_then(|status| status.observed_generation);
    let unchanged = before.is_none_or(|before| Some(before) == observation.object.metadata.generation);
    let looked = observation.look.is_some() && !look_failed(observation);
    let needs_no_look = match observation.connection {
        Connection::Ready { .. } => plan.repository.is_some(),
        Connection::Pending | Connection::Unreachable(_) => false,
        Connection::NotFound | Connection::NotPermitted | Connection::NotReady(_) | Connection::Path(_) => true,
    };
    unchanged || looked || needs_no_look || observation.suspended || observation.object.metadata.deletion_timestamp.is_some()
}

/// Says it.
#[must_use]
pub fn report(observation: &Observation, plan: &Plan, outcome: &Outcome) -> Report {
    let before = observation.object.status.clone().unwrap_or_default();
    let webhook = webhook_status::webhook(observation, plan, outcome, &before);
    let evidence = Evidence::of(observation, &before, webhook.as_ref());
    let mut conditions = Conditions::new(&before.conditions, observation.object.metadata.generation, observation.now);
    connection(&mut conditions, observation);
    repository(&mut conditions, plan);
    webhook_in_sync(&mut conditions, observation, plan, outcome, &before, webhook.as_ref());
    evidence.conditions(&mut conditions, observation, webhook.as_ref());
    cleanup(&mut conditions, plan, outcome);
    ready(&mut conditions, observation, plan, outcome);
    let mut conditions = conditions.finish();
    if observation.look.is_some() {
        begin_with_the_object(&mut conditions, &observation.object);
    }
    let mut notices = notices(&before, &conditions, webhook.as_ref());
    notices.extend(left_behind_notices(observation, outcome));
    notices.extend(left_behind(observation, &before, &conditions));
    let news = evidence.is_news(&before, &conditions);
    let seen = is_seen(observation, plan);
    let mut status = RepoBindingStatus {
        observed_generation: if seen { observation.object.metadata.generation } else { before.observed_generation },
        conditions,
        repository: repository_status(observation, plan).or_else(|| known_repository(observation, &before)),
        webhook,
        plan: if observation.look.is_none() && observation.observe_only && plan::places::withheld(observation).is_none() {
            before.plan.clone()
        } else {
            plan.would.clone()
        },
        sinks: evidence.sinks(observation, &before, news),
        accepted_until: if news {
            evidence.accepted_until.map(Time).or_else(|| before.accepted_until.clone())
        } else {
            before.accepted_until.clone()
        },
        heads: before.heads.clone(),
        installation: Some(observation.fingerprint.clone()),
        last_handled: last_handled(observation, plan, outcome, &before),
    };
    if news && let Some(webhook) = &mut status.webhook {
        webhook.last_delivery = evidence.last_delivery(webhook.last_delivery.take());
    }
    Report { status, notices, evidence_written: news }
}

/// Once the hooks were looked at, a status that was restored tells of this object: nothing in it was so before the object was.
fn begin_with_the_object(conditions: &mut [Condition], object: &RepoBinding) {
    let Some(made) = object.metadata.creation_timestamp.clone() else { return };
    for condition in conditions.iter_mut().filter(|condition| condition.last_transition_time.0 < made.0) {
        condition.last_transition_time = made.clone();
    }
}

fn connection(conditions: &mut Conditions<'_>, observation: &Observation) {
    let (kind, name) = (ConditionType::ConnectionReady, &observation.object.spec.connection_ref.name);
    match &observation.connection {
        Connection::Ready { .. } | Connection::Path(_) => conditions.succeed(kind, "the connection works and may be used"),
        Connection::NotFound => {
            conditions.set(
                kind,
                Verdict::False,
                Reason::ConnectionNotFound,
                format!("there is no connection {name} in this namespace; create it or correct connectionRef"),
            );
        }
        Connection::NotPermitted => {
            conditions.set(kind, Verdict::False, Reason::RefNotPermitted, not_permitted(observation));
        }
        Connection::NotReady(trouble) if trouble.reason == Reason::ConnectionNotReady => {
            let message = format!("connection {name} is being deleted, and the hook that was made through it goes with it");
            conditions.set(kind, Verdict::False, Reason::ConnectionNotReady, message);
        }
        Connection::NotReady(trouble) => {
            conditions.set(
                kind,
                Verdict::False,
                Reason::ConnectionNotReady,
                format!("connection {name} does not work ({}); see its conditions", trouble.reason),
            );
        }
        Connection::Unreachable(trouble) => {
            let why = trouble.reason;
            let message = format!("the provider of connection {name} cannot be reached at present ({why}); what works goes on working");
            conditions.set(kind, Verdict::Unknown, Reason::ConnectionUnreachable, message);
        }
        Connection::Pending => conditions.keep(kind),
    }
}

/// Of a connection in another namespace it is not told whether it exists; what a rule would have to cover is in the binding.
fn not_permitted(observation: &Observation) -> String {
    let name = &observation.object.spec.connection_ref.name;
    if let Some(lacking) = &observation.refusal {
        return format!("connection {name} does not allow this binding: {lacking}");
    }
    let url = custom_url(&observation.object);
    let destination = url.map(|url| format!(" and, for webhook.url, {} in destinationHosts", url.host_str().unwrap_or_default()));
    format!(
        "connection {name} does not exist in that namespace or does not allow this binding; ask its owner for a rule in allowedBindings that \
         covers this namespace, the repository{}",
        destination.unwrap_or_default()
    )
}

fn set(conditions: &mut Conditions<'_>, kind: ConditionType, finding: &Finding) {
    conditions.set(kind, finding.verdict, finding.reason, finding.message.clone());
}

fn repository(conditions: &mut Conditions<'_>, plan: &Plan) {
    match &plan.repository {
        Some(finding) => set(conditions, ConditionType::RepositoryFound, finding),
        None => conditions.keep(ConditionType::RepositoryFound),
    }
}

fn webhook_in_sync(
    conditions: &mut Conditions<'_>,
    observation: &Observation,
    plan: &Plan,
    outcome: &Outcome,
    before: &RepoBindingStatus,
    webhook: Option<&WebhookStatus>,
) {
    let kind = ConditionType::WebhookInSync;
    if observation.object.spec.webhook.is_none() {
        return;
    }
    if let Some(finding) = outcome.failure.as_ref().and_then(refusal) {
        return set(conditions, kind, &finding);
    }
    if conditions::find(&before.conditions, kind).is_some()
        && let Some(finding) = withheld(observation, webhook)
    {
        return set(conditions, kind, &finding);
    }
    match &plan.webhook {
        Some(finding) if outcome.failure.is_none() && finding.verdict == Verdict::True && !outcome.unrepaired.is_empty() => {
            let message = outcome.unrepaired.iter().map(|finding| finding.message.as_str()).collect::<Vec<_>>().join("; ");
            conditions.set(kind, Verdict::False, Reason::RepairDidNotLast, message);
        }
        Some(finding) if outcome.failure.is_none() => set(conditions, kind, finding),
        _ => conditions.keep(kind),
    }
}

/// What is said of a hook that goes, or went, although it is asked for.
fn withheld(observation: &Observation, webhook: Option<&WebhookStatus>) -> Option<Finding> {
    let holds = webhook.is_some_and(|webhook| !webhook.hooks.is_empty() || !webhook.former_targets.is_empty());
    let (reason, why) = match plan::places::withheld(observation) {
        Some(withheld) => withheld,
        None if matches!(observation.connection, Connection::NotFound) && !holds => {
            (Reason::ConnectionNotFound, "there is no such connection in this namespace")
        }
        None => return None,
    };
    // While nothing is written at the provider, or the binding is suspended, the hook stays where it is.
    let stays = holds && (observation.observe_only || observation.suspended) && observation.withdrawn.is_empty();
    let message = match (holds, stays) {
        (true, true) => format!("the hook is no longer wanted and stays while nothing is changed here: {why}"),
        (true, false) => format!("the hook is being removed: {why}"),
        (false, _) => format!("there is no hook: {why}"),
    };
    Some(Finding { verdict: Verdict::False, reason, message })
}

/// What a provider's refusal says about the hook; `None` where it says something about the provider only.
fn refusal(failure: &Failure) -> Option<Finding> {
    let (reason, remedy) = match failure.error.kind {
        _ if failure.clearing => return None,
        kind if is_refusal(kind) => {
            (Reason::PermissionMissing, "; give the credential's account the right to manage hooks of the repository")
        }
        ErrorKind::LimitReached => (Reason::HookLimitReached, "; remove hooks at the provider that are no longer needed"),
        ErrorKind::TargetRefused => {
            (Reason::PublicURLRefused, "; use an address that the provider accepts, or have its administrator allow this one")
        }
        ErrorKind::Archived => (Reason::RepositoryArchived, "; unarchive the repository or remove webhook"),
        // What to do is in the words of the provider.
        ErrorKind::Rejected => (Reason::RequestRejected, ""),
        _ => return None,
    };
    Some(Finding { verdict: Verdict::False, reason, message: format!("{}{remedy}", failure.error) })
}

fn cleanup(conditions: &mut Conditions<'_>, plan: &Plan, outcome: &Outcome) {
    let message = match (&plan.blocked, &outcome.failure) {
        (Some((why, until)), _) => format!("hooks cannot be removed: {why}; written down and let go at {until}"),
        (None, Some(failure)) if failure.clearing => format!("hooks cannot be removed: {}; tried again", failure.error),
        _ => return,
    };
    conditions.set(ConditionType::CleanupBlocked, Verdict::True, Reason::Progressing, message);
}

/// Sets Ready from the others, and what goes with it.
fn ready(conditions: &mut Conditions<'_>, observation: &Observation, plan: &Plan, outcome: &Outcome) {
    if observation.object.metadata.deletion_timestamp.is_some() {
        conditions.set(ConditionType::Reconciling, Verdict::True, Reason::Progressing, "being deleted");
        return conditions.set(ConditionType::Ready, Verdict::False, Reason::Progressing, "being deleted");
    }
    let order = [ConditionType::ConnectionReady, ConditionType::RepositoryFound, ConditionType::WebhookInSync];
    let observing =
        conditions.get(ConditionType::WebhookInSync).filter(|condition| condition.reason == Reason::Observing.as_str()).cloned();
    let lowers = |condition: &&Condition| condition.status == "False" && condition.reason != Reason::Observing.as_str();
    let mut lowering = order.into_iter().filter_map(|kind| conditions.get(kind)).filter(lowers);
    let sinks = conditions
        .get(ConditionType::Delivering)
        .filter(|condition| condition.status == "False" && condition.reason != Reason::SinkFailing.as_str());
    let lowering = lowering.next().or(sinks).cloned();
    let needed = order.into_iter().filter(|kind| *kind != ConditionType::WebhookInSync || observation.object.spec.webhook.is_some());
    let unsettled = |kind: &ConditionType| match conditions.get(*kind) {
        None => true,
        Some(condition) => *kind == ConditionType::WebhookInSync && condition.status == "Unknown",
    };
    let unknown = needed.filter(unsettled).count() > 0;
    if observation.suspended {
        return conditions.set(
            ConditionType::Ready,
            Verdict::False,
            Reason::Suspended,
            "suspended; set spec.suspend to false here and on the connection to go on",
        );
    }
    if !is_seen(observation, plan) {
        conditions.keep(ConditionType::Ready);
        return conditions.set(ConditionType::Reconciling, Verdict::True, Reason::Progressing, progress(observation, plan, outcome));
    }
    if let Some(condition) = lowering {
        return lowered(conditions, &condition);
    }
    if unknown {
        let message = progress(observation, plan, outcome);
        conditions.set(ConditionType::Reconciling, Verdict::True, Reason::Progressing, &message);
        return conditions.set(ConditionType::Ready, Verdict::Unknown, Reason::Progressing, message);
    }
    let failed = outcome.failure.is_some() && plan.webhook.is_some() && conditions.get(ConditionType::CleanupBlocked).is_none();
    if failed || plan.awaits.is_some() {
        conditions.set(ConditionType::Reconciling, Verdict::True, Reason::Progressing, progress(observation, plan, outcome));
    }
    if let Some(observing) = observing {
        return conditions.set(ConditionType::Ready, Verdict::True, Reason::Observing, observing.message);
    }
    let message = match &observation.object.spec.webhook {
        Some(_) => "the repository is there and its hooks are as they should be",
        None => "the repository is there",
    };
    conditions.succeed(ConditionType::Ready, message);
}

fn lowered(conditions: &mut Conditions<'_>, condition: &Condition) {
    let reason = Reason::ALL.iter().copied().find(|reason| reason.as_str() == condition.reason).unwrap_or(Reason::Progressing);
    if waits_for_a_person(reason) {
        conditions.set(ConditionType::Stalled, Verdict::True, reason, &condition.message);
    } else {
        conditions.set(ConditionType::Reconciling, Verdict::True, reason, &condition.message);
    }
    conditions.set(ConditionType::Ready, Verdict::False, reason, &condition.message);
}

/// A missing Secret, connection or repository may come later: none of them is stalled.
const fn waits_for_a_person(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::SecretNotFound
            | Reason::SecretForbidden
            | Reason::ConnectionNotFound
            | Reason::ConnectionNotReady
            | Reason::RefNotPermitted
            | Reason::NotFoundOrHidden
            | Reason::BranchNotFound
            | Reason::DisabledByProvider
            | Reason::InstallKeyNotStored
            | Reason::RepairDidNotLast
            | Reason::Progressing
    )
}

fn progress(observation: &Observation, plan: &Plan, outcome: &Outcome) -> String {
    let look = observation.look.as_ref();
    let error = outcome
        .failure
        .as_ref()
        .map(|failure| failure.error.to_string())
        .or_else(|| look.and_then(|look| look.repository.error()).map(ToString::to_string))
        .or_else(|| look.and_then(|look| look.hooks.as_ref()).and_then(|hooks| hooks.as_ref().err()).map(ToString::to_string));
    match (error, &observation.connection) {
        (Some(error), _) => format!("{error}; tried again"),
        (None, _) if plan.awaits.is_some() => UNANSWERED.to_owned(),
        (None, Connection::Unreachable(_)) => "waiting for the connection's provider".to_owned(),
        (None, _) => "waiting for the connection to be examined".to_owned(),
    }
}

fn repository_status(observation: &Observation, plan: &Plan) -> Option<RepositoryStatus> {
    let replaced = plan.repository.as_ref().is_some_and(|finding| finding.reason == Reason::RepositoryReplaced);
    found_repository(observation).filter(|_| !replaced)
}

/// What a look found.
#[must_use]
pub fn found_repository(observation: &Observation) -> Option<RepositoryStatus> {
    let Connection::Ready { working, path, .. } = &observation.connection else { return None };
    // Of a repository without a grant nothing is told.
    let admitted = observation.look.as_ref()?.repository.here()?;
    let found: &Repository = admitted;
    Some(RepositoryStatus {
        id: found.id.clone(),
        path: found.path.as_str().to_owned(),
        web_url: found.web_url.clone(),
        clone_url: found.clone_url.clone(),
        ssh_url: found.ssh_url.clone(),
        default_branch: found.default_branch.clone(),
        visibility: found.visibility,
        archived: found.archived,
        empty: found.empty,
        requested: Some(RequestedRepository {
            connection: observation.object.connection_target(),
            api: Some(working.endpoint.api.to_string()),
            path: path.as_str().to_owned(),
            seal: Some(admitted.repository_seal(&observation.seal)),
        }),
    })
}

/// What the status goes on telling of the repository that was found last. Once the connection does not grant its path any more, that
/// is what later looks and the removal of its hooks are judged by, and nothing of what the provider said of it.
fn known_repository(observation: &Observation, before: &RepoBindingStatus) -> Option<RepositoryStatus> {
    let known = before.repository.clone()?;
    if !observation.known_without_grant {
        return Some(known);
    }
    let RepositoryStatus { id, path, requested, .. } = known;
    Some(RepositoryStatus {
        id,
        path,
        requested,
        web_url: None,
        clone_url: None,
        ssh_url: None,
        default_branch: None,
        visibility: None,
        archived: false,
        empty: false,
    })
}

fn last_handled(observation: &Observation, plan: &Plan, outcome: &Outcome, before: &RepoBindingStatus) -> Option<LastHandled> {
    let annotation = |name: &str| observation.object.annotations().get(name).cloned();
    let old = before.last_handled.clone().unwrap_or_default();
    let has_webhook = observation.object.spec.webhook.is_some();
    let looked = observation.look.is_some() && outcome.failure.is_none() && !look_failed(observation);
    // After a start nobody knows yet whether the connection works: the request waits.
    let nothing_to_look_at = observation.look.is_none() && !matches!(observation.connection, Connection::Pending);
    // Acknowledged when it was done, or when there is nothing that it could be done to.
    let rotated = looked && (plan.rotated || plan.generation.is_none() || !observation.requests.rotate) || !has_webhook;
    let revoked = looked || !has_webhook;
    let handled = LastHandled {
        reconcile: if looked || observation.suspended || nothing_to_look_at { annotation(RECONCILE_REQUESTED_AT) } else { old.reconcile },
        rotate_secret: if rotated { annotation(ROTATE_REQUESTED_AT) } else { old.rotate_secret },
        rotate_secret_of_connection: if rotated { observation.rotation_of_connection.clone() } else { old.rotate_secret_of_connection },
        revoke_secret: if revoked { annotation(REVOKE_REQUESTED_AT) } else { old.revoke_secret },
        revoke_secret_of_connection: if revoked { observation.revocation_of_connection.clone() } else { old.revoke_secret_of_connection },
    };
    (handled != LastHandled::default()).then_some(handled)
}

/// Hooks that nobody will remove are told once more when they are first seen.
fn left_behind(observation: &Observation, before: &RepoBindingStatus, now: &[Condition]) -> Option<Notice> {
    let strays = &observation.look.as_ref().filter(|look| !look.strays.is_empty())?.strays;
    let message = |conditions: &[Condition]| {
        conditions::find(conditions, ConditionType::WebhookInSync).map(|condition| condition.message.clone()).unwrap_or_default()
    };
    let text = plan::left_behind(strays);
    let news = message(now).contains(&text) && !message(&before.conditions).contains(&text);
    news.then(|| Notice::warning("HooksLeftBehind", text))
}

/// What is told of hooks that could not be removed, also of an object that is gone. Of places for which the binding has no grant,
/// nothing is told.
#[must_use]
pub fn left_behind_notices(observation: &Observation, outcome: &Outcome) -> Vec<Notice> {
    let hidden = |target: &HookTarget| observation.places.iter().any(|place| !place.told && place.target == *target);
    let told = |targets: &[HookTarget]| targets.iter().filter(|target| !hidden(target)).cloned().collect::<Vec<_>>();
    let (recorded, unrecorded) = (told(&outcome.recorded), told(&outcome.unrecorded));
    let named = |places: &mut dyn Iterator<Item = &HookTarget>| {
        places.map(|place| format!("{} (to {})", place.repository, place.host)).collect::<Vec<_>>().join(", ")
    };
    let mut notices = Vec::new();
    if recorded.len() > unrecorded.len() {
        let text = format!(
            "hooks could not be removed and were written down in the operator's namespace: {}; they are removed once their connection \
             works again, or remove them at the provider by hand",
            named(&mut recorded.iter().filter(|place| !unrecorded.contains(place)))
        );
        notices.push(Notice::warning("HooksLeftBehind", text));
    }
    if !unrecorded.is_empty() {
        let text = format!(
            "hooks could not be removed, and there is no room left to write them down; remove them at the provider by hand: {}",
            named(&mut unrecorded.iter())
        );
        notices.push(Notice::warning("HooksLeftBehind", text));
    }
    notices
}

fn notices(before: &RepoBindingStatus, now: &[Condition], webhook: Option<&WebhookStatus>) -> Vec<Notice> {
    let mut notices = Vec::new();
    let old = conditions::find(&before.conditions, ConditionType::Ready);
    if let Some(new) = conditions::find(now, ConditionType::Ready)
        && old.is_none_or(|old| old.status != new.status || old.reason != new.reason)
    {
        match new.status.as_str() {
            "True" => notices.push(Notice::normal("Ready", &new.message)),
            "False" if new.reason != Reason::Suspended.as_str() => notices.push(Notice::warning(&new.reason, &new.message)),
            _ => {}
        }
    }
    let rotated = before.webhook.as_ref().and_then(|webhook| webhook.secret_generation.as_ref());
    let present = webhook.and_then(|webhook| webhook.secret_generation.as_ref());
    if rotated.is_some() && present.is_some() && rotated != present {
        notices.push(Notice::normal(
            "SecretRotated",
            "the webhook secret was replaced; the previous one is accepted while deliveries may still carry it",
        ));
    }
    for kind in [ConditionType::CleanupBlocked, ConditionType::Delivering, ConditionType::Receiving] {
        let bad = |condition: &&Condition| {
            if kind == ConditionType::CleanupBlocked { condition.status == "True" } else { condition.status == "False" }
        };
        let was = conditions::find(&before.conditions, kind).as_ref().is_some_and(bad);
        if let Some(condition) = conditions::find(now, kind).filter(bad)
            && !was
        {
            notices.push(Notice::warning(kind.as_str(), &condition.message));
        }
    }
    notices
}
