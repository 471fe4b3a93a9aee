//! Judges the webhook and plans its hooks. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::crowding;
use super::model::{Finding, Plan, PlanStep, described};
use super::repository::is_refusal;
use crate::api::v1alpha1::binding::{HookTarget, WebhookSpec};
use crate::api::v1alpha1::connection::PermissionState;
use crate::api::v1alpha1::{EventKind, Permission, Reason, RepoBinding};
use crate::controllers::binding::cleanup::{FORMER_TARGETS, present_target, same_target};
use crate::controllers::binding::conflicts;
use crate::controllers::binding::hooks::{self, Destination, HookAction, HookFinding, Wanted, WantedSecret};
use crate::controllers::binding::probe::Probe;
use crate::controllers::binding::secret_version;
use crate::controllers::binding::snapshot::{Connection, Snapshot};
use crate::controllers::gate::{ActiveClient, GrantedRepository, RepositoryLookup};
use crate::k8s::conditions::ConditionStatus;
use crate::protocol::secret::{DerivedSecret, WebhookSecret};
use crate::providers::{Hook, ProviderError, Repository};
use crate::text::wording;

/// Message while a hook whose creation had no answer may still appear.
pub const AMBIGUOUS_CREATE: &str = "the response to the creation of a hook was lost; Forgebind lists the hooks again before it \
                                    creates another one";

const IN_ORDER: &str = "the hooks match the spec";

pub fn left_behind(orphaned_hooks: &[String]) -> String {
    let (hooks, belong, them, uses) = match orphaned_hooks {
        [one] => (format!("hook {one} was"), "belongs", "it", "uses it"),
        several => (format!("hooks {} were", wording::enumerated(several)), "belong", "them", "uses them"),
    };
    format!(
        "in addition, {hooks} made by Forgebind and {belong} to no binding of this installation: made with another install key, \
         or by a binding that no longer exists; remove {them} at the provider unless another installation {uses}"
    )
}

fn hooks_refused(active_client: &ActiveClient, error: &ProviderError) -> Finding {
    let needs = active_client.provider.permission_words(Permission::ManageWebhooks).map(|words| format!(", which needs {words}"));
    let needs = needs.unwrap_or_default();
    Finding::bad(
        Reason::PermissionMissing,
        format!("ManageWebhooks: the credential cannot list the hooks of the repository{needs} ({error})"),
    )
}

pub(super) fn webhook(plan: &mut Plan, snapshot: &Snapshot, found: &Probe) {
    let Some(spec) = &snapshot.object.spec.webhook else { return };
    let (Connection::Ready { active_client, .. }, RepositoryLookup::Found(repository)) = (&snapshot.connection, &found.repository) else {
        return;
    };
    match obstacle_to_hooks(snapshot, found, spec, active_client, repository) {
        Some(finding) => plan.webhook = Some(finding),
        None => match &found.hooks {
            Some(Ok(hooks)) => plan_hooks(plan, snapshot, found, spec, active_client, repository, hooks),
            Some(Err(error)) if is_refusal(error.kind) => plan.webhook = Some(hooks_refused(active_client, error)),
            _ => {}
        },
    }
}

/// Prepares the user's own secret again that the hooks carry, if somebody deleted what was prepared, also while nothing runs. No probe
/// is needed for it.
pub(super) fn prepare_again(plan: &mut Plan, snapshot: &Snapshot) {
    let object = &snapshot.object;
    let Some(Ok(secret)) = &snapshot.user_secret else { return };
    let is_carried = object.webhook_status().and_then(|webhook| webhook.secret_version.as_ref()) == Some(&secret.version);
    if is_carried && snapshot.prepared_entry.lacks_webhook_secrets() && object.custom_url().is_none() && !snapshot.observe_only {
        plan.steps.push(PlanStep::PublishSecret(secret.clone(), accepted_secret_versions(object)));
    }
}

/// The first obstacle to having any hook at all.
fn obstacle_to_hooks(
    snapshot: &Snapshot,
    found: &Probe,
    spec: &WebhookSpec,
    active_client: &ActiveClient,
    repository: &Repository,
) -> Option<Finding> {
    let custom = snapshot.object.custom_url();
    let unknown: Vec<EventKind> =
        spec.events.iter().copied().filter(|event| !active_client.provider.profile().events.contains(event)).collect();
    if !unknown.is_empty() {
        let (event, them) = if unknown.len() == 1 { ("event", "it") } else { ("events", "them") };
        let names = wording::enumerated(&unknown.iter().map(|event| event.as_str()).collect::<Vec<_>>());
        let message = format!("{} has no {event} {names}; remove {them} from webhook.events", active_client.provider.kind());
        return Some(Finding::bad(Reason::EventNotSupported, message));
    }
    if let (None, Err(missing)) = (&custom, &snapshot.public_url) {
        return Some(Finding::bad(Reason::PublicURLMissing, missing.to_string()));
    }
    if let Some(Err(failure)) = &snapshot.user_secret {
        return Some(Finding::bad(failure.reason, failure.message.clone()));
    }
    if found.manage_webhooks.state == PermissionState::Missing {
        let message =
            format!("ManageWebhooks: {}", found.manage_webhooks.message.as_deref().unwrap_or("the credential may not manage hooks"));
        return Some(Finding::bad(Reason::PermissionMissing, message));
    }
    if custom.is_some() && conflicts::loses_conflict(&snapshot.object, &snapshot.seal, repository, active_client.server(), &snapshot.claims)
    {
        let message = "another binding already uses this repository and webhook.url; delete one of the two or use another url";
        return Some(Finding::bad(Reason::ClaimedByAnother, message));
    }
    None
}

fn plan_hooks(
    plan: &mut Plan,
    snapshot: &Snapshot,
    found: &Probe,
    spec: &WebhookSpec,
    active_client: &ActiveClient,
    repository: &Arc<GrantedRepository>,
    hooks: &[Hook],
) {
    let object = &snapshot.object;
    let destination = object.custom_url().map_or(Destination::Receiver, Destination::Custom);
    let shapes = active_client.hook_shapes(&object.hook_events());
    let (secret, rotated) = wanted_secret(snapshot, spec, hooks, &destination);
    let mut adopted = object.adopted_hooks();
    if spec.adopt && !object.tells_of_hooks() {
        // If the status was lost, the adopted hooks are unknown: all count as adopted, so that a foreign hook is not deleted as
        // ours.
        adopted.extend(hooks.iter().filter(|hook| snapshot.identity.is_ours(&hook.url)).map(|hook| hook.id.clone()));
    }
    let target = present_target(snapshot, Some(found));
    let wanted = Wanted {
        destination,
        shapes,
        secret: secret.clone(),
        adopt: spec.adopt,
        update_sets_secret: active_client.inspection.capabilities.update_sets_secret,
        revoke: snapshot.requests.revoke,
        history: recreation_history(snapshot, target.as_ref()),
        pending_creates: target.as_ref().map(|target| snapshot.memory.attempts.pending_creates(target, snapshot.now)).unwrap_or_default(),
    };
    let planned = hooks::plan(hooks, &snapshot.identity, &wanted, &adopted, snapshot.now);
    plan.target = target;
    plan.pending_create = planned.pending_create;
    plan.recreated = planned.recreated;
    plan.repairs = planned.repairs;
    plan.notes = planned.notes;
    plan.notes.extend(crowding::note(object, &found.siblings, active_client, repository, hooks));
    plan.existing = Some(planned.existing);
    plan.secret_version = Some(secret.version);
    plan.rotated = rotated;
    plan.next_probe = planned.wake;
    plan.webhook = Some(judge_hooks(plan, snapshot, found, repository, &planned.actions, planned.finding));
    let changes = !planned.actions.is_empty();
    // Published before any hook carries it, and again at every probe, because the receivers' copy may have been lost.
    if let Some(Ok(secret)) = &snapshot.user_secret
        && wanted.destination == Destination::Receiver
        && !snapshot.observe_only
    {
        plan.steps.push(PlanStep::PublishSecret(secret.clone(), accepted_secret_versions(object)));
    }
    if changes && !snapshot.observe_only && !repository.archived && snapshot.key_failure.is_none() {
        plan.steps.extend(to_announce(plan, object, &planned.actions).map(PlanStep::Announce));
        plan.steps.extend(planned.actions.into_iter().map(|action| PlanStep::Hook { repository: Arc::clone(repository), action }));
    }
}

/// The finding for the hooks. While nothing is written, what would be done is added to the plan.
fn judge_hooks(
    plan: &mut Plan,
    snapshot: &Snapshot,
    found: &Probe,
    repository: &Repository,
    actions: &[HookAction],
    finding: Option<HookFinding>,
) -> Finding {
    let changes = !actions.is_empty();
    match finding {
        Some(finding) => Finding::bad(finding.reason, finding.message),
        None if plan.pending_create.is_some_and(|pending_creates| pending_creates.lacks) => {
            Finding { status: ConditionStatus::Unknown, reason: Reason::Progressing, message: AMBIGUOUS_CREATE.to_owned() }
        }
        None if changes && repository.archived => Finding::bad(
            Reason::RepositoryArchived,
            format!("{} is archived, so its hooks cannot be changed; unarchive it or remove webhook", repository.path),
        ),
        None if changes && snapshot.observe_only => {
            let existing = plan.existing.as_deref().unwrap_or_default();
            plan.would = actions.iter().map(|action| described(action, repository.path.as_str(), existing)).collect();
            Finding::bad(
                Reason::Observing,
                format!(
                    "nothing is changed; status.plan lists what would be done: {} (to apply it, set managementPolicy to Manage \
                     here and on the connection, and start without --read-only)",
                    plan.would.iter().map(|planned| planned.action.as_str()).collect::<Vec<_>>().join(", ")
                ),
            )
        }
        None => {
            if let Some(failure) = snapshot.key_failure.as_ref().filter(|_| changes) {
                let message = format!("no hook is created or changed now, because it might not be recognised after a restart: {failure}");
                return Finding::bad(Reason::InstallKeyNotStored, message);
            }
            let orphaned = Some(found.orphaned_hooks.as_slice()).filter(|orphaned_hooks| !orphaned_hooks.is_empty()).map(left_behind);
            let further = orphaned.into_iter().chain(plan.notes.iter().cloned());
            Finding::good(std::iter::once(IN_ORDER.to_owned()).chain(further).collect::<Vec<_>>().join("; "))
        }
    }
}

/// Earlier recreations and repairs, and the deliveries that decide about another recreation.
fn recreation_history(snapshot: &Snapshot, target: Option<&HookTarget>) -> hooks::RecreationHistory {
    let seen = snapshot.memory.evidence.as_ref();
    let last = seen.and_then(|seen| seen.last_delivery.as_ref()).map(|delivery| delivery.at);
    let refusals = seen.and_then(|seen| seen.refusals.as_ref());
    hooks::RecreationHistory {
        recreations: target.map(|target| snapshot.memory.attempts.recreations(target)).unwrap_or_default(),
        repairs: target.map(|target| snapshot.memory.attempts.repairs(target)).unwrap_or_default(),
        last_delivery: seen.map(|seen| seen.events.clone()).unwrap_or_default(),
        refused: refusals.is_some_and(|refusals| last.is_none_or(|last| last < refusals.last)),
    }
}

/// Secret versions that are still accepted beside a new one.
fn accepted_secret_versions(object: &RepoBinding) -> BTreeSet<String> {
    let Some(webhook) = object.webhook_status() else { return BTreeSet::new() };
    webhook.previous_secrets.iter().map(|previous| previous.version.clone()).chain(webhook.secret_version.clone()).collect()
}

fn wanted_secret(snapshot: &Snapshot, spec: &WebhookSpec, hooks: &[Hook], destination: &Destination) -> (WantedSecret, bool) {
    let object = &snapshot.object;
    let status = object.webhook_status();
    if let Some(Ok(secret)) = &snapshot.user_secret {
        let same = status.and_then(|status| status.secret_version.as_ref()) == Some(&secret.version);
        let since = status.filter(|_| same).and_then(|status| status.secret_changed_at.as_ref()).map_or(snapshot.now, |time| time.0);
        return (WantedSecret { version: secret.version.clone(), value: secret.value.clone(), since }, false);
    }
    let carried = hooks::secret_versions(hooks, &snapshot.identity, destination);
    let carried: Vec<&str> = carried.iter().map(String::as_str).collect();
    // Hooks at our receiver carry a derived secret; a version of another kind in the status is ignored.
    let known = status.and_then(|status| status.secret_version.as_deref());
    let settled = carried.iter().all(|secret_version| Some(*secret_version) == carried.first().copied())
        && !hooks::any_inactive(hooks, &snapshot.identity)
        && !snapshot.observe_only;
    let (secret_version, new) = secret_version::derived(secret_version::Derived {
        status: known,
        hooks: &carried,
        requested: snapshot.requests.rotate,
        interval: spec.rotation_interval.as_ref().map(crate::api::v1alpha1::Interval::length),
        settled,
        now: snapshot.now,
    });
    let value = WebhookSecret::Derived(DerivedSecret::new(snapshot.derive(&secret_version)));
    let since = secret_version::second(&secret_version, snapshot.now)
        .and_then(|second| Timestamp::from_second(second).ok())
        .unwrap_or(snapshot.now);
    (WantedSecret { version: secret_version, value, since }, new)
}

/// The target to record before its first hook is created, because a crash or the withdrawal of a grant may come before the hook
/// is in the status.
fn to_announce(plan: &Plan, object: &RepoBinding, actions: &[HookAction]) -> Option<HookTarget> {
    let makes = |action: &HookAction| matches!(action, HookAction::Create(_) | HookAction::Update { adopted: true, .. });
    let target = plan.target.as_ref().filter(|_| actions.iter().any(makes))?;
    let webhook = object.webhook_status();
    let former = webhook.map(|webhook| webhook.former_targets.as_slice()).unwrap_or_default();
    let is_known = webhook
        .and_then(|webhook| webhook.target.as_ref())
        .into_iter()
        .chain(former)
        .any(|known| same_target(known, target) && known.seal == target.seal);
    (!is_known && former.len() < FORMER_TARGETS).then(|| target.clone())
}
