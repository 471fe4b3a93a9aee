//! Builds the status and the events of a binding. Pure, and the only code that sets its conditions and events.

mod deliveries;
mod follow_up;
mod webhook_status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;

use super::facts::Facts;
use super::memory::BindingMemory;
use super::outcome::{Failure, Outcome};
use super::plan::{AMBIGUOUS_CREATE, Finding, Plan, is_refusal, left_behind};
use super::snapshot::Connection;
use super::time::told;
use crate::api::v1alpha1::binding::{HookTarget, RepoBindingStatus, RepositoryStatus, WebhookStatus};
use crate::api::v1alpha1::{
    ConditionType, LastHandled, RECONCILE_REQUESTED_AT, REDELIVER_REQUESTED_AT, REVOKE_REQUESTED_AT, ROTATE_REQUESTED_AT, Reason,
    RepoBinding,
};
use crate::controllers::gate::Grant;
use crate::controllers::runtime::status::EventRecord;
use crate::k8s::conditions::{self, ConditionStatus, Conditions};
use crate::providers::ErrorKind;
use deliveries::Evidence;

pub use self::follow_up::{Notify, Requeue, notify, probe_failed};

/// Result of a reconciliation, to be carried out as it stands.
#[derive(Clone, Debug)]
pub struct Report {
    pub status: RepoBindingStatus,
    /// Kubernetes events for the user, published if the status is written.
    pub events: Vec<EventRecord>,
    pub memory: BindingMemory,
    pub requeue: Requeue,
    pub notify: Notify,
}

/// Whether the present spec was judged. While the provider is out of reach, a changed spec is not judged: the status keeps the
/// results and the `observedGeneration` of the previous generation.
fn is_seen(facts: &Facts, plan: &Plan) -> bool {
    let before = facts.snapshot.object.status.as_ref().and_then(|status| status.observed_generation);
    let unchanged = before.is_none_or(|before| Some(before) == facts.snapshot.object.metadata.generation);
    let probed = facts.probe.is_some() && !probe_failed(facts);
    let needs_no_probe = match facts.snapshot.connection {
        Connection::Ready { .. } => plan.repository.is_some(),
        Connection::Pending | Connection::Unreachable(_) => false,
        Connection::NotFound | Connection::NotPermitted | Connection::NotReady(_) | Connection::Path(_) => true,
    };
    unchanged || probed || needs_no_probe || facts.snapshot.suspended || facts.snapshot.object.is_being_deleted()
}

pub fn report(facts: &Facts, plan: &Plan, outcome: &Outcome) -> Report {
    let before = facts.snapshot.object.status.clone().unwrap_or_default();
    let webhook = webhook_status::webhook(&facts.snapshot, plan, outcome, &before);
    let evidence = Evidence::of(&facts.snapshot, &before, outcome);
    let mut conditions = Conditions::new(&before.conditions, facts.snapshot.object.metadata.generation, facts.snapshot.now);
    connection(&mut conditions, facts);
    repository(&mut conditions, plan);
    webhook_in_sync(&mut conditions, facts, plan, outcome, &before, webhook.as_ref());
    evidence.conditions(&mut conditions, &facts.snapshot, webhook.as_ref());
    cleanup(&mut conditions, plan, outcome);
    ready(&mut conditions, facts, plan, outcome);
    let mut conditions = conditions.finish();
    if facts.probe.is_some() {
        begin_with_the_object(&mut conditions, &facts.snapshot.object);
    }
    let mut events = events(&before, &conditions, webhook.as_ref());
    events.extend(leftover_events(facts, outcome));
    events.extend(orphaned_hooks_event(facts, &before, &conditions));
    let news = evidence.is_news(&before, &conditions);
    let seen = is_seen(facts, plan);
    let status = RepoBindingStatus {
        observed_generation: if seen { facts.snapshot.object.metadata.generation } else { before.observed_generation },
        conditions,
        repository: repository_status(facts, plan).or_else(|| known_repository(facts, &before)),
        webhook,
        plan: if facts.probe.is_none() && facts.snapshot.observe_only && facts.withheld().is_none() {
            before.plan.clone()
        } else {
            plan.would.clone()
        },
        sinks: evidence.sinks(&facts.snapshot, &before, news),
        // Written apart from the rest, in `crate::controllers::binding::evidence`.
        recent_deliveries: Vec::new(),
        accepted_until: if news {
            evidence.accepted_until.map(Time).or_else(|| before.accepted_until.clone())
        } else {
            before.accepted_until.clone()
        },
        installation: Some(facts.snapshot.fingerprint.clone()),
        last_handled: last_handled(facts, plan, outcome, &before),
    };
    Report {
        status,
        events,
        memory: follow_up::memory(facts, plan, outcome, news),
        requeue: follow_up::requeue(facts, plan, outcome),
        notify: follow_up::notify(facts, outcome),
    }
}

/// After a probe, no transition time may lie before the creation of the object, as it does in a restored status.
fn begin_with_the_object(conditions: &mut [Condition], object: &RepoBinding) {
    let Some(made) = object.metadata.creation_timestamp.clone() else { return };
    for condition in conditions.iter_mut().filter(|condition| condition.last_transition_time.0 < made.0) {
        condition.last_transition_time = made.clone();
    }
}

fn connection(conditions: &mut Conditions<'_>, facts: &Facts) {
    let (kind, name) = (ConditionType::ConnectionReady, &facts.snapshot.object.spec.connection_ref.name);
    match &facts.snapshot.connection {
        Connection::Ready { .. } | Connection::Path(_) => conditions.succeed(kind, "the connection works and allows this binding"),
        Connection::NotFound => {
            conditions.set(
                kind,
                ConditionStatus::False,
                Reason::ConnectionNotFound,
                format!("connection {name} does not exist in this namespace; create it or correct connectionRef"),
            );
        }
        Connection::NotPermitted => {
            conditions.set(kind, ConditionStatus::False, Reason::RefNotPermitted, not_permitted(facts));
        }
        Connection::NotReady(failure) if failure.reason == Reason::ConnectionNotReady => {
            let message = format!("connection {name} is being deleted, together with the hook that was made through it");
            conditions.set(kind, ConditionStatus::False, Reason::ConnectionNotReady, message);
        }
        Connection::NotReady(failure) => {
            conditions.set(
                kind,
                ConditionStatus::False,
                Reason::ConnectionNotReady,
                format!("connection {name} does not work ({}); see its conditions", failure.reason),
            );
        }
        Connection::Unreachable(failure) => {
            let why = failure.reason;
            let message = format!(
                "the provider of connection {name} cannot be reached at the moment ({why}); existing hooks \
                                   continue to work"
            );
            conditions.set(kind, ConditionStatus::Unknown, Reason::ConnectionUnreachable, message);
        }
        Connection::Pending => conditions.keep(kind),
    }
}

/// Does not reveal whether a connection in another namespace exists; the message names what a grant has to cover. Only a binding
/// with a hook, which had a grant, is told when the hook is removed.
fn not_permitted(facts: &Facts) -> String {
    let removal = facts.kept_until().map(|until| format!("; its webhook is removed at {} unless a grant allows it by then", told(until)));
    let removal = removal.unwrap_or_default();
    let name = &facts.snapshot.object.spec.connection_ref.name;
    if let Grant::Refused { lacking: Some(lacking) } = &facts.snapshot.grant.spec {
        return format!("connection {name} does not allow this binding: {lacking}{removal}");
    }
    let url = facts.snapshot.object.custom_url();
    let destination = url.map(|url| format!(" and, for webhook.url, {} in destinationHosts", url.host_str().unwrap_or_default()));
    format!(
        "connection {name} does not exist in that namespace or does not allow this binding; ask its owner for a ConnectionGrant \
         that covers this namespace, the repository{}{removal}",
        destination.unwrap_or_default()
    )
}

fn set(conditions: &mut Conditions<'_>, kind: ConditionType, finding: &Finding) {
    conditions.set(kind, finding.status, finding.reason, finding.message.clone());
}

fn repository(conditions: &mut Conditions<'_>, plan: &Plan) {
    match &plan.repository {
        Some(finding) => set(conditions, ConditionType::RepositoryFound, finding),
        None => conditions.keep(ConditionType::RepositoryFound),
    }
}

fn webhook_in_sync(
    conditions: &mut Conditions<'_>,
    facts: &Facts,
    plan: &Plan,
    outcome: &Outcome,
    before: &RepoBindingStatus,
    webhook: Option<&WebhookStatus>,
) {
    let kind = ConditionType::WebhookInSync;
    if facts.snapshot.object.spec.webhook.is_none() {
        return;
    }
    if let Some(finding) = outcome.failure.as_ref().and_then(refusal) {
        return set(conditions, kind, &finding);
    }
    if conditions::find(&before.conditions, kind).is_some()
        && let Some(finding) = withheld(facts, webhook)
    {
        return set(conditions, kind, &finding);
    }
    match &plan.webhook {
        Some(finding) if outcome.failure.is_none() && finding.status == ConditionStatus::True && !outcome.unrepaired.is_empty() => {
            let message = outcome.unrepaired.iter().map(|finding| finding.message.as_str()).collect::<Vec<_>>().join("; ");
            conditions.set(kind, ConditionStatus::False, Reason::RepairDidNotLast, message);
        }
        Some(finding) if outcome.failure.is_none() => set(conditions, kind, finding),
        _ => conditions.keep(kind),
    }
}

/// The finding for a requested hook that is being removed or was removed.
fn withheld(facts: &Facts, webhook: Option<&WebhookStatus>) -> Option<Finding> {
    let holds = webhook.is_some_and(|webhook| !webhook.hooks.is_empty() || !webhook.former_targets.is_empty());
    let (reason, why) = match facts.withheld() {
        Some(withheld) => withheld,
        None if matches!(facts.snapshot.connection, Connection::NotFound) && !holds => {
            (Reason::ConnectionNotFound, "the connection does not exist in this namespace")
        }
        None => return None,
    };
    // The hook stays while writing is forbidden or the binding is suspended.
    let stays = holds && (facts.snapshot.observe_only || facts.snapshot.suspended) && facts.snapshot.grant.withdrawn.is_empty();
    let message = match (holds, stays, facts.kept_until()) {
        (true, _, Some(until)) => format!("the hook is removed at {} unless a grant allows it by then: {why}", told(until)),
        (true, true, None) => format!("the hook is no longer requested, but stays while changes are disabled: {why}"),
        (true, false, None) => format!("the hook is being removed: {why}"),
        (false, ..) => format!("there is no hook: {why}"),
    };
    Some(Finding { status: ConditionStatus::False, reason, message })
}

/// The finding for a provider's refusal of a hook; `None` if the error does not concern the hook.
fn refusal(failure: &Failure) -> Option<Finding> {
    let (reason, remedy) = match failure.error.kind {
        _ if failure.clearing => return None,
        kind if is_refusal(kind) => {
            (Reason::PermissionMissing, "; give the credential's account the permission to manage hooks of the repository")
        }
        ErrorKind::LimitReached => (Reason::HookLimitReached, "; remove hooks at the provider that are no longer needed"),
        ErrorKind::TargetRefused => {
            (Reason::PublicURLRefused, "; use an address that the provider accepts, or ask its administrator to allow this one")
        }
        ErrorKind::Archived => (Reason::RepositoryArchived, "; unarchive the repository or remove webhook"),
        // The provider's message contains the remedy.
        ErrorKind::Rejected => (Reason::RequestRejected, ""),
        _ => return None,
    };
    Some(Finding { status: ConditionStatus::False, reason, message: format!("{}{remedy}", failure.error) })
}

fn cleanup(conditions: &mut Conditions<'_>, plan: &Plan, outcome: &Outcome) {
    let message = match (&plan.blocked, &outcome.failure) {
        (Some((why, until)), _) => format!("hooks cannot be removed: {why}; recorded as leftover hooks and released at {until}"),
        (None, Some(failure)) if failure.clearing => format!("hooks cannot be removed: {}; retrying", failure.error),
        _ => return,
    };
    conditions.set(ConditionType::CleanupBlocked, ConditionStatus::True, Reason::Progressing, message);
}

/// Sets `Ready`, `Reconciling` and `Stalled` from the other conditions.
fn ready(conditions: &mut Conditions<'_>, facts: &Facts, plan: &Plan, outcome: &Outcome) {
    if facts.snapshot.object.is_being_deleted() {
        conditions.set(ConditionType::Reconciling, ConditionStatus::True, Reason::Progressing, "being deleted");
        return conditions.set(ConditionType::Ready, ConditionStatus::False, Reason::Progressing, "being deleted");
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
    let needed = order.into_iter().filter(|kind| *kind != ConditionType::WebhookInSync || facts.snapshot.object.spec.webhook.is_some());
    let unsettled = |kind: &ConditionType| match conditions.get(*kind) {
        None => true,
        Some(condition) => *kind == ConditionType::WebhookInSync && condition.status == "Unknown",
    };
    let unknown = needed.filter(unsettled).count() > 0;
    if facts.snapshot.suspended {
        return conditions.set(
            ConditionType::Ready,
            ConditionStatus::False,
            Reason::Suspended,
            "suspended; set spec.suspend to false here and on the connection to continue",
        );
    }
    if !is_seen(facts, plan) {
        conditions.keep(ConditionType::Ready);
        return conditions.set(ConditionType::Reconciling, ConditionStatus::True, Reason::Progressing, progress(facts, plan, outcome));
    }
    if let Some(condition) = lowering {
        return lowered(conditions, &condition);
    }
    if unknown {
        let message = progress(facts, plan, outcome);
        conditions.set(ConditionType::Reconciling, ConditionStatus::True, Reason::Progressing, &message);
        return conditions.set(ConditionType::Ready, ConditionStatus::Unknown, Reason::Progressing, message);
    }
    let failed = outcome.failure.is_some() && plan.webhook.is_some() && conditions.get(ConditionType::CleanupBlocked).is_none();
    if failed || plan.pending_create.is_some() {
        conditions.set(ConditionType::Reconciling, ConditionStatus::True, Reason::Progressing, progress(facts, plan, outcome));
    }
    if let Some(observing) = observing {
        return conditions.set(ConditionType::Ready, ConditionStatus::True, Reason::Observing, observing.message);
    }
    let message = match &facts.snapshot.object.spec.webhook {
        Some(_) => "the repository exists and its hooks match the spec",
        None => "the repository exists",
    };
    conditions.succeed(ConditionType::Ready, message);
}

fn lowered(conditions: &mut Conditions<'_>, condition: &Condition) {
    let reason = Reason::ALL.iter().copied().find(|reason| reason.as_str() == condition.reason).unwrap_or(Reason::Progressing);
    if waits_for_a_person(reason) {
        conditions.set(ConditionType::Stalled, ConditionStatus::True, reason, &condition.message);
    } else {
        conditions.set(ConditionType::Reconciling, ConditionStatus::True, reason, &condition.message);
    }
    conditions.set(ConditionType::Ready, ConditionStatus::False, reason, &condition.message);
}

/// Whether only a person can fix the problem. A missing Secret, connection or repository may be created later, so none of them is
/// stalled.
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

fn progress(facts: &Facts, plan: &Plan, outcome: &Outcome) -> String {
    let probe = facts.probe.as_ref();
    let error = outcome
        .failure
        .as_ref()
        .map(|failure| failure.error.to_string())
        .or_else(|| probe.and_then(|probe| probe.repository.error()).map(ToString::to_string))
        .or_else(|| probe.and_then(|probe| probe.hooks.as_ref()).and_then(|hooks| hooks.as_ref().err()).map(ToString::to_string));
    match (error, &facts.snapshot.connection) {
        (Some(error), _) => format!("{error}; retrying"),
        (None, _) if plan.pending_create.is_some() => AMBIGUOUS_CREATE.to_owned(),
        (None, Connection::Unreachable(_)) => "waiting for the connection's provider".to_owned(),
        (None, _) => "waiting for the connection to be checked".to_owned(),
    }
}

fn repository_status(facts: &Facts, plan: &Plan) -> Option<RepositoryStatus> {
    let replaced = plan.repository.as_ref().is_some_and(|finding| finding.reason == Reason::RepositoryReplaced);
    facts.found_status().filter(|_| !replaced)
}

/// Status of the repository that was last found. If the connection no longer grants its path, only id, path and request remain:
/// later probes and the removal of hooks need them, and the other details must not be shown.
fn known_repository(facts: &Facts, before: &RepoBindingStatus) -> Option<RepositoryStatus> {
    let known = before.repository.clone()?;
    if !facts.snapshot.grant.refuses_known_path {
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

fn last_handled(facts: &Facts, plan: &Plan, outcome: &Outcome, before: &RepoBindingStatus) -> Option<LastHandled> {
    let annotation = |name: &str| facts.snapshot.object.annotations().get(name).cloned();
    let old = before.last_handled.clone().unwrap_or_default();
    let has_webhook = facts.snapshot.object.spec.webhook.is_some();
    let probed = facts.probe.is_some() && outcome.failure.is_none() && !probe_failed(facts);
    // After a start it is not known yet whether the connection works: the request waits.
    let nothing_to_probe = facts.probe.is_none() && !matches!(facts.snapshot.connection, Connection::Pending);
    // A request is acknowledged once it was handled, or if there is nothing to handle.
    let rotated = probed && (plan.rotated || plan.secret_version.is_none() || !facts.snapshot.requests.rotate) || !has_webhook;
    let revoked = probed || !has_webhook;
    let handled = LastHandled {
        reconcile: if probed || facts.snapshot.suspended || nothing_to_probe { annotation(RECONCILE_REQUESTED_AT) } else { old.reconcile },
        rotate_secret: if rotated { annotation(ROTATE_REQUESTED_AT) } else { old.rotate_secret },
        rotate_secret_of_connection: if rotated { facts.snapshot.rotation_of_connection.clone() } else { old.rotate_secret_of_connection },
        revoke_secret: if revoked { annotation(REVOKE_REQUESTED_AT) } else { old.revoke_secret },
        catalog: None,
        redeliver: redelivered(facts).or(old.redeliver),
        revoke_secret_of_connection: if revoked {
            facts.snapshot.revocation_of_connection.clone()
        } else {
            old.revoke_secret_of_connection
        },
    };
    (handled != LastHandled::default()).then_some(handled)
}

/// The request to send dead letters again, once every receiver has carried it out.
fn redelivered(facts: &Facts) -> Option<String> {
    let asked = facts.snapshot.object.annotations().get(REDELIVER_REQUESTED_AT)?;
    let done = facts.snapshot.memory.evidence.as_ref()?.redelivered.as_ref()?;
    (asked == done).then(|| asked.clone())
}

fn events(before: &RepoBindingStatus, now: &[Condition], webhook: Option<&WebhookStatus>) -> Vec<EventRecord> {
    let mut events = Vec::new();
    let old = conditions::find(&before.conditions, ConditionType::Ready);
    if let Some(new) = conditions::find(now, ConditionType::Ready)
        && old.is_none_or(|old| old.status != new.status || old.reason != new.reason)
    {
        match new.status.as_str() {
            "True" => events.push(EventRecord::normal("Ready", &new.message)),
            "False" if new.reason != Reason::Suspended.as_str() => events.push(EventRecord::warning(&new.reason, &new.message)),
            _ => {}
        }
    }
    let rotated = before.webhook.as_ref().and_then(|webhook| webhook.secret_version.as_ref());
    let present = webhook.and_then(|webhook| webhook.secret_version.as_ref());
    if rotated.is_some() && present.is_some() && rotated != present {
        events.push(EventRecord::normal(
            "SecretRotated",
            "the webhook secret was replaced; the previous one is accepted while deliveries may still use it",
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
            events.push(EventRecord::warning(kind.as_str(), &condition.message));
        }
    }
    events
}

/// The event for orphaned hooks, once when they are first seen.
fn orphaned_hooks_event(facts: &Facts, before: &RepoBindingStatus, now: &[Condition]) -> Option<EventRecord> {
    let orphaned_hooks = &facts.probe.as_ref().filter(|probe| !probe.orphaned_hooks.is_empty())?.orphaned_hooks;
    let message = |conditions: &[Condition]| {
        conditions::find(conditions, ConditionType::WebhookInSync).map(|condition| condition.message.clone()).unwrap_or_default()
    };
    let text = left_behind(orphaned_hooks);
    let news = message(now).contains(&text) && !message(&before.conditions).contains(&text);
    news.then(|| EventRecord::warning("HooksLeftBehind", text))
}

/// Events for hooks that could not be removed, also for a deleted object. Targets without a grant are left out.
pub fn leftover_events(facts: &Facts, outcome: &Outcome) -> Vec<EventRecord> {
    let hidden = |target: &HookTarget| facts.targets.iter().any(|cleanup_target| !cleanup_target.told && cleanup_target.target == *target);
    let told = |targets: &[HookTarget]| targets.iter().filter(|target| !hidden(target)).cloned().collect::<Vec<_>>();
    let (recorded, unrecorded) = (told(&outcome.recorded), told(&outcome.unrecorded));
    let named = |targets: &mut dyn Iterator<Item = &HookTarget>| {
        targets.map(|cleanup_target| format!("{} (to {})", cleanup_target.repository, cleanup_target.host)).collect::<Vec<_>>().join(", ")
    };
    let mut events = Vec::new();
    if recorded.len() > unrecorded.len() {
        let text = format!(
            "hooks could not be removed and were recorded in the operator's namespace: {}; Forgebind removes them when their \
             connection works again, or remove them at the provider by hand",
            named(&mut recorded.iter().filter(|cleanup_target| !unrecorded.contains(cleanup_target)))
        );
        events.push(EventRecord::warning("HooksLeftBehind", text));
    }
    if !unrecorded.is_empty() {
        let text = format!(
            "hooks could not be removed, and there is no room to record them; remove them at the provider by hand: {}",
            named(&mut unrecorded.iter())
        );
        events.push(EventRecord::warning("HooksLeftBehind", text));
    }
    events
}
