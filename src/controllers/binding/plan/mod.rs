//! Plans the reconciliation of a binding. Pure: no call, no clock.

pub mod cleanup;
pub mod crowding;
pub mod due;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Unit};
use url::Url;

use super::conflicts;
use super::hooks::recreation::{self, Recreated};
use super::hooks::repair::Repair;
use super::hooks::{self, Destination, ExistingHook, HookAction, PendingCreate, Wanted, WantedSecret};
use super::observe::{self, Connection, Facts, Probe};
use super::secret_version;
use super::user_secret::UserSecret;
use crate::api::v1alpha1::binding::{HookTarget, PlannedAction, RepositoryStatus, WebhookSource, WebhookSpec, WebhookStatus};
use crate::api::v1alpha1::connection::PermissionState;
use crate::api::v1alpha1::{EventKind, Permission, Reason, RepoBinding};
use crate::controllers::gate::{ActiveClient, OutOfReach, RepositoryLookup};
use crate::k8s::conditions::ConditionStatus;
use crate::k8s::finalizer;
use crate::protocol::secret::{DerivedSecret, WebhookSecret};
use crate::providers::model::Scope;
use crate::providers::{Disposition, ErrorKind, Hook, PathError, ProviderError, Repository, RepositoryPath};
use crate::text::wording;

/// Pause between probes while the binding waits for a change at the provider.
const SLOW_PROBE: Duration = Duration::from_secs(300);

/// Message while a hook whose creation had no answer may still appear.
pub const AMBIGUOUS_CREATE: &str = "the answer to the creation of a hook was lost; it is looked for again before another one is made";

/// Message for hooks in order.
const IN_ORDER: &str = "the hooks are as they should be";

/// Message about orphaned hooks.
#[must_use]
pub fn left_behind(orphaned_hooks: &[String]) -> String {
    let (hooks, belong, them, uses) = match orphaned_hooks {
        [one] => (format!("hook {one} was"), "belongs", "it", "uses it"),
        several => (format!("hooks {} were", wording::enumerated(several)), "belong", "them", "uses them"),
    };
    format!(
        "beside them, {hooks} made by Forgebind and {belong} to no binding of this installation: made under another install key, or by a \
         binding that is gone; remove {them} at the provider unless another installation {uses}"
    )
}

/// One action of the plan.
#[derive(Clone, Debug)]
pub enum Action {
    /// Publish a user's own secret to the receivers, beside the secret versions that are still accepted.
    PublishSecret(UserSecret, BTreeSet<String>),
    /// Record under our seal where a first hook is about to be created, so that it can be removed whatever happens next.
    Announce(HookTarget),
    /// Change a hook of the repository that the spec names.
    Hook(HookAction),
    /// Remove a hook at the cleanup target with this index in `Facts::targets`.
    Clear(usize, HookAction),
    /// Record leftover hooks at the cleanup target with this index, and the reason.
    Record(usize, String),
    /// Remove a user's own secret from the receivers.
    WithdrawSecret,
}

/// Change of the finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalizerAction {
    /// No change.
    Keep,
    /// Add it before any change at a provider.
    Add,
    /// Remove it after all actions, and forget the object: its deletion may complete.
    RemoveAndForget,
    /// Remove it after all actions from an object that stays: no hook of ours is left at any provider.
    Remove,
}

/// Wanted state of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Status of the condition.
    pub status: ConditionStatus,
    /// Reason of the condition.
    pub reason: Reason,
    /// Message: what is wrong and what to do.
    pub message: String,
}

impl Finding {
    fn good(message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::True, reason: Reason::Succeeded, message: message.into() }
    }

    fn bad(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::False, reason, message: message.into() }
    }
}

/// The plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Change of the finalizer.
    pub finalizer_action: FinalizerAction,
    /// Actions in order.
    pub actions: Vec<Action>,
    /// Actions that are suppressed because writing is forbidden.
    pub would: Vec<PlannedAction>,
    /// `RepositoryFound`; `None` if it cannot be judged now.
    pub repository: Option<Finding>,
    /// `WebhookInSync`; `None` if it cannot be judged now.
    pub webhook: Option<Finding>,
    /// Target of the hooks; `None` if none are wanted or the target is not known now.
    pub target: Option<HookTarget>,
    /// Our hooks at the target, before any action; `None` if they were not listed.
    pub existing: Option<Vec<ExistingHook>>,
    /// Version of the secret that the hooks must carry.
    pub secret_version: Option<String>,
    /// Whether that version is new because of a rotation.
    pub rotated: bool,
    /// Why a removal waits, and its deadline.
    pub blocked: Option<(String, Timestamp)>,
    /// A creation whose answer was lost: its hook is looked for before another one is created.
    pub pending_create: Option<PendingCreate>,
    /// Recreations of hooks that the provider switched off.
    pub recreated: Vec<Recreated>,
    /// Repairs by variant; `None` for a hook that was found in order.
    pub repairs: BTreeMap<String, Option<Repair>>,
    /// Notes for the user although nothing is wrong.
    pub notes: Vec<String>,
    /// Time of the next probe.
    pub next_probe: Option<Timestamp>,
    /// Latest time of the next probe, which delivery evidence cannot postpone because it is needed for more than drift: the end
    /// of an overlap or a rotation.
    pub not_after: Option<Timestamp>,
    /// Time of the next reconciliation although nothing changes.
    pub wake: Option<Timestamp>,
}

impl Plan {
    const fn nothing() -> Self {
        Self {
            finalizer_action: FinalizerAction::Keep,
            actions: Vec::new(),
            would: Vec::new(),
            repository: None,
            webhook: None,
            target: None,
            existing: None,
            secret_version: None,
            rotated: false,
            blocked: None,
            pending_create: None,
            recreated: Vec::new(),
            repairs: BTreeMap::new(),
            notes: Vec::new(),
            next_probe: None,
            not_after: None,
            wake: None,
        }
    }

    /// Whether the probe found everything in order. Without a probe, true.
    #[must_use]
    pub fn is_good(&self, facts: &Facts) -> bool {
        let is_true = |finding: &Option<Finding>| finding.as_ref().is_some_and(|finding| finding.status == ConditionStatus::True);
        let probed = facts.probe.is_some();
        !probed || (is_true(&self.repository) && (facts.object.spec.webhook.is_none() || is_true(&self.webhook)))
    }

    /// The actions at providers, including suppressed ones, as shown in `status.plan`.
    #[must_use]
    pub fn at_providers(&self, facts: &Facts) -> Vec<PlannedAction> {
        let here = facts.probe.as_ref().and_then(|probe| probe.repository.found());
        let actions = self.actions.iter().filter_map(|action| match action {
            Action::Hook(action) => Some(described(action, here?.path.as_str(), self.existing.as_deref().unwrap_or_default())),
            Action::Clear(position, action) => {
                let ours = facts.targets.get(*position)?.hooks.as_ref().ok()?;
                Some(described(action, ours.path(), &[]))
            }
            Action::PublishSecret(..) | Action::Announce(_) | Action::Record(..) | Action::WithdrawSecret => None,
        });
        self.would.iter().cloned().chain(actions).collect()
    }

    fn wake_at(&mut self, at: Option<Timestamp>) {
        self.wake = [self.wake, at].into_iter().flatten().min();
    }
}

fn webhook_status(object: &RepoBinding) -> Option<&WebhookStatus> {
    object.status.as_ref()?.webhook.as_ref()
}

/// A moment as shown to users: rounded to the second.
#[must_use]
pub fn told(at: Timestamp) -> Timestamp {
    at.round(Unit::Second).unwrap_or(at)
}

fn after(now: Timestamp, pause: Duration) -> Timestamp {
    now.checked_add(SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

/// Whether the spec still names the known repository as it did when the repository was found: same connection, same server and
/// same path. Ids and paths of another server do not count.
#[must_use]
pub fn is_as_requested(object: &RepoBinding, api: &Url, path: &RepositoryPath, known: &RepositoryStatus) -> bool {
    match &known.requested {
        Some(requested) => {
            // The status of an earlier version does not contain the server.
            let same_server = requested.api.as_ref().is_none_or(|known| known == api.as_str());
            same_server && requested.connection == object.connection_target() && path.same_as(&requested.path)
        }
        None => path.same_as(&known.path),
    }
}

/// Whether a repository that was found is the one that the binding is bound to.
#[must_use]
pub fn is_same_repository(object: &RepoBinding, api: &Url, path: &RepositoryPath, found: &Repository) -> bool {
    let known = object.status.as_ref().and_then(|status| status.repository.as_ref());
    known.is_none_or(|known| known.id == found.id || !is_as_requested(object, api, path, known))
}

fn wants_own_hook(object: &RepoBinding) -> Option<&WebhookSpec> {
    object.spec.webhook.as_ref().filter(|webhook| webhook.source == WebhookSource::Repository)
}

/// Plans the reconciliation of a binding.
#[must_use]
pub fn plan(facts: &Facts) -> Plan {
    let mut plan = Plan::nothing();
    if facts.object.metadata.deletion_timestamp.is_some() {
        cleanup::delete(&mut plan, facts);
        return plan;
    }
    if let Some(found) = &facts.probe {
        repository(&mut plan, facts, found);
        webhook(&mut plan, facts, found);
    } else {
        without_probe(&mut plan, facts);
    }
    cleanup::clear(&mut plan, facts);
    // Hooks in order may exist without a finalizer, for example after an uninstallation that removed the finalizers.
    let has_hooks = !facts.observe_only && plan.existing.as_ref().is_some_and(|existing| !existing.is_empty());
    plan.finalizer_action = match finalizer::is_present(&*facts.object) {
        false if has_hooks || !plan.actions.is_empty() => FinalizerAction::Add,
        true if cleanup::is_rid_of_everything(facts) => FinalizerAction::Remove,
        _ => FinalizerAction::Keep,
    };
    due::next_probe(&mut plan, facts);
    plan
}

/// Judges what is known without a probe.
fn without_probe(plan: &mut Plan, facts: &Facts) {
    let object = &facts.object;
    match &facts.connection {
        Connection::Path(error) => plan.repository = Some(no_repository(&object.spec.repository, error)),
        Connection::Ready { active_client, path, .. } => {
            if let Some(scope) = active_client.scope().filter(|scope| !scope.contains(path)) {
                plan.repository = Some(out_of_scope(path.as_str(), scope));
            }
        }
        _ => {}
    }
    if plan.repository.is_none() && facts.out_of_reach().is_some() {
        plan.repository = Some(out_of_reach_finding(&object.spec.repository, OutOfReach::WithoutGrant, None));
    }
    if object.spec.webhook.is_some() && wants_own_hook(object).is_none() {
        plan.webhook = Some(Finding::bad(Reason::SourceNotServed, "this build does not serve webhook.source App; use Repository"));
    }
}

/// The finding for a text that is not a repository of the connection.
fn no_repository(text: &str, error: &PathError) -> Finding {
    match error {
        PathError::AnotherHost { .. } => Finding::bad(Reason::OutOfScope, error.to_string()),
        PathError::Password => Finding::bad(Reason::SpecInvalid, error.to_string()),
        PathError::Malformed(form) => {
            Finding::bad(Reason::SpecInvalid, format!("repository is {}, which can be none: {form}", wording::quoted(text)))
        }
    }
}

fn out_of_scope(path: &str, scope: &Scope) -> Finding {
    Finding::bad(Reason::OutOfScope, format!("{path} lies outside the {scope} of the connection; use a connection of its owner"))
}

/// The finding for a repository that is out of reach. It never shows the present path.
fn out_of_reach_finding(path: &str, out_of_reach: OutOfReach, scope: Option<&Scope>) -> Finding {
    let message = match (out_of_reach, scope) {
        (OutOfReach::OutOfScope, Some(scope)) => {
            format!("{path} leads to a repository outside the {scope} of the connection: it was moved; use a connection of its owner")
        }
        _ => format!(
            "{path} leads to a repository for which the connection has no grant: it was renamed or moved; ask the connection's owner for a \
             rule in allowedBindings that covers its present path"
        ),
    };
    Finding::bad(Reason::RepositoryMovedOutOfScope, message)
}

/// Judges the repository and the branch.
fn repository(plan: &mut Plan, facts: &Facts, found: &Probe) {
    let Connection::Ready { active_client, path, .. } = &facts.connection else { return };
    let object = &facts.object;
    let repository = match &found.repository {
        RepositoryLookup::Found(repository) => repository,
        RepositoryLookup::OutOfReach(out_of_reach) => {
            plan.repository = Some(out_of_reach_finding(path.as_str(), *out_of_reach, active_client.scope()));
            return;
        }
        RepositoryLookup::Failed(error) => {
            let reason = match error.kind {
                ErrorKind::NotInstalled => Reason::NotInstalled,
                ErrorKind::AccessPolicy => {
                    let message = format!(
                        "{path}: {error}; have an administrator of the owner allow the addresses of the cluster or the credential's account"
                    );
                    plan.repository = Some(Finding::bad(Reason::AccessPolicyRefused, message));
                    return;
                }
                kind if is_refusal(kind) => Reason::NotFoundOrHidden,
                _ => return,
            };
            let remedy = match reason {
                Reason::NotInstalled => "correct repository, or add it to the App's installation",
                _ => "correct repository, or give the credential's account read access",
            };
            let message = format!("{path} does not exist, or the credential has no read access to its contents ({error}); {remedy}");
            plan.repository = Some(Finding::bad(reason, message));
            return;
        }
    };
    plan.repository = Some(if is_same_repository(object, &active_client.endpoint.api, path, repository) {
        match (object.spec.branch_name(), &found.branch) {
            (Some(branch), Some(Ok(false))) => {
                let message = format!("{} has no branch {branch}; correct branch, remove it, or push the branch", repository.path);
                Finding::bad(Reason::BranchNotFound, message)
            }
            (Some(branch), Some(Err(error))) if is_refusal(error.kind) => Finding::bad(
                Reason::NotFoundOrHidden,
                format!("branch {branch} of {} cannot be read: the credential needs read access to contents ({error})", repository.path),
            ),
            (_, Some(Err(_))) => return,
            _ if repository.empty => Finding::good(format!("{} is there and has no commit yet", repository.path)),
            _ => Finding::good(format!("{} is there", repository.path)),
        }
    } else {
        let message = format!(
            "{path} now leads to another repository; delete this binding and create it again if that one is meant, else correct repository"
        );
        Finding::bad(Reason::RepositoryReplaced, message)
    });
}

/// Whether a provider's answer means that something is missing or hidden, and not that the call failed.
#[must_use]
pub fn is_refusal(kind: ErrorKind) -> bool {
    kind.disposition() == Disposition::Hidden
}

fn hooks_refused(active_client: &ActiveClient, error: &ProviderError) -> Finding {
    let needs = active_client.provider.permission_words(Permission::ManageWebhooks).map(|words| format!(", which needs {words}"));
    let needs = needs.unwrap_or_default();
    Finding::bad(
        Reason::PermissionMissing,
        format!("ManageWebhooks: the hooks of the repository are not shown to the credential{needs} ({error})"),
    )
}

/// Judges the webhook and plans its hooks.
fn webhook(plan: &mut Plan, facts: &Facts, found: &Probe) {
    let Some(spec) = &facts.object.spec.webhook else { return };
    let (Connection::Ready { active_client, .. }, RepositoryLookup::Found(repository)) = (&facts.connection, &found.repository) else {
        return;
    };
    match obstacle_to_hooks(facts, found, spec, active_client, repository) {
        Some(finding) => plan.webhook = Some(finding),
        None => match &found.hooks {
            Some(Ok(hooks)) => plan_hooks(plan, facts, spec, active_client, repository, hooks),
            Some(Err(error)) if is_refusal(error.kind) => plan.webhook = Some(hooks_refused(active_client, error)),
            _ => {}
        },
    }
}

/// The first obstacle to having any hook at all.
fn obstacle_to_hooks(
    facts: &Facts,
    found: &Probe,
    spec: &WebhookSpec,
    active_client: &ActiveClient,
    repository: &Repository,
) -> Option<Finding> {
    let custom = observe::custom_url(&facts.object);
    let unknown: Vec<EventKind> =
        spec.events.iter().copied().filter(|event| !active_client.provider.profile().events.contains(event)).collect();
    if spec.source != WebhookSource::Repository {
        return Some(Finding::bad(Reason::SourceNotServed, "this build does not serve webhook.source App; use Repository"));
    }
    if !unknown.is_empty() {
        let (event, them) = if unknown.len() == 1 { ("event", "it") } else { ("events", "them") };
        let names = wording::enumerated(&unknown.iter().map(|event| event.as_str()).collect::<Vec<_>>());
        let message = format!("{} has no {event} {names}; remove {them} from webhook.events", active_client.provider.kind());
        return Some(Finding::bad(Reason::EventNotSupported, message));
    }
    if let (None, Err(missing)) = (&custom, &facts.public_url) {
        return Some(Finding::bad(Reason::PublicURLMissing, missing.to_string()));
    }
    if let Some(Err(failure)) = &facts.user_secret {
        return Some(Finding::bad(failure.reason, failure.message.clone()));
    }
    if found.manage_webhooks.state == PermissionState::Missing {
        let message =
            format!("ManageWebhooks: {}", found.manage_webhooks.message.as_deref().unwrap_or("the credential may not manage hooks"));
        return Some(Finding::bad(Reason::PermissionMissing, message));
    }
    if custom.is_some() && conflicts::loses_conflict(&facts.object, &facts.seal, repository, active_client.server(), &facts.claims) {
        let message = "another binding has this repository and webhook.url already; delete one of them or use another url";
        return Some(Finding::bad(Reason::ClaimedByAnother, message));
    }
    None
}

fn plan_hooks(plan: &mut Plan, facts: &Facts, spec: &WebhookSpec, active_client: &ActiveClient, repository: &Repository, hooks: &[Hook]) {
    let object = &facts.object;
    let destination = observe::custom_url(object).map_or(Destination::Receiver, Destination::Custom);
    let events: BTreeSet<EventKind> = spec.events.iter().copied().collect();
    let shapes = active_client.hook_shapes(&events);
    let (secret, rotated) = wanted_secret(facts, spec, hooks, &destination);
    let mut adopted = cleanup::adopted(object);
    if spec.adopt && !cleanup::tells_of_hooks(object) {
        // If the status was lost, the adopted hooks are unknown: all count as adopted, so that a foreign hook is not deleted as
        // ours.
        adopted.extend(hooks.iter().filter(|hook| facts.identity.is_ours(&hook.url)).map(|hook| hook.id.clone()));
    }
    let target = cleanup::present_target(facts);
    let wanted = Wanted {
        destination,
        shapes,
        secret: secret.clone(),
        adopt: spec.adopt,
        update_sets_secret: active_client.inspection.capabilities.update_sets_secret,
        revoke: facts.requests.revoke,
        history: recreation_history(facts, target.as_ref()),
        pending_creates: target.as_ref().map(|target| facts.attempts.pending_creates(target, facts.now)).unwrap_or_default(),
    };
    let planned = hooks::plan(hooks, &facts.identity, &wanted, &adopted, facts.now);
    plan.target = target;
    plan.pending_create = planned.pending_create;
    plan.recreated = planned.recreated;
    plan.repairs = planned.repairs;
    plan.notes = planned.notes;
    plan.notes.extend(crowding::note(facts, active_client, repository, hooks));
    plan.existing = Some(planned.existing);
    plan.secret_version = Some(secret.version);
    plan.rotated = rotated;
    plan.next_probe = planned.wake;
    let changes = !planned.actions.is_empty();
    plan.webhook = Some(match planned.finding {
        Some(finding) => Finding::bad(finding.reason, finding.message),
        None if planned.pending_create.is_some_and(|pending_creates| pending_creates.lacks) => {
            Finding { status: ConditionStatus::Unknown, reason: Reason::Progressing, message: AMBIGUOUS_CREATE.to_owned() }
        }
        None if changes && repository.archived => Finding::bad(
            Reason::RepositoryArchived,
            format!("{} is archived, so its hooks cannot be changed; unarchive it or remove webhook", repository.path),
        ),
        None if changes && facts.observe_only => {
            let existing = plan.existing.as_deref().unwrap_or_default();
            plan.would = planned.actions.iter().map(|action| described(action, repository.path.as_str(), existing)).collect();
            Finding::bad(
                Reason::Observing,
                format!(
                    "nothing is written; status.plan lists what would be done: {} (managementPolicy Manage, here and on the connection, \
                     and a start without --read-only do it)",
                    plan.would.iter().map(|planned| planned.action.as_str()).collect::<Vec<_>>().join(", ")
                ),
            )
        }
        None => {
            let orphaned_hooks =
                facts.probe.as_ref().map(|probe| probe.orphaned_hooks.as_slice()).filter(|orphaned_hooks| !orphaned_hooks.is_empty());
            let further = orphaned_hooks.map(left_behind).into_iter().chain(plan.notes.iter().cloned());
            Finding::good(std::iter::once(IN_ORDER.to_owned()).chain(further).collect::<Vec<_>>().join("; "))
        }
    });
    let is_good = plan.webhook.as_ref().is_some_and(|finding| finding.status == ConditionStatus::True);
    if let Some(failure) = facts.key_failure.as_ref().filter(|_| changes && is_good) {
        let message = format!("no hook is made or changed now, because it might not be known again after a restart: {failure}");
        plan.webhook = Some(Finding::bad(Reason::InstallKeyNotStored, message));
    }
    // Published before any hook carries it, and again at every probe, because the receivers' copy may have been lost.
    if let Some(Ok(secret)) = &facts.user_secret
        && wanted.destination == Destination::Receiver
        && !facts.observe_only
    {
        plan.actions.push(Action::PublishSecret(secret.clone(), accepted_secret_versions(object)));
    }
    if changes && !facts.observe_only && !repository.archived && facts.key_failure.is_none() {
        plan.actions.extend(cleanup::to_announce(plan, facts, &planned.actions).map(Action::Announce));
        plan.actions.extend(planned.actions.into_iter().map(Action::Hook));
    }
}

/// Earlier recreations and repairs, and the deliveries that decide about another recreation.
fn recreation_history(facts: &Facts, target: Option<&HookTarget>) -> recreation::RecreationHistory {
    let seen = facts.evidence.as_ref();
    let last = seen.and_then(|seen| seen.last_delivery.as_ref()).map(|delivery| delivery.at);
    let refusals = seen.and_then(|seen| seen.refusals.as_ref());
    recreation::RecreationHistory {
        recreations: target.map(|target| facts.attempts.recreations(target)).unwrap_or_default(),
        repairs: target.map(|target| facts.attempts.repairs(target)).unwrap_or_default(),
        last_delivery: seen.map(|seen| seen.events.clone()).unwrap_or_default(),
        refused: refusals.is_some_and(|refusals| last.is_none_or(|last| last < refusals.last)),
    }
}

/// Secret versions that are still accepted beside a new one.
fn accepted_secret_versions(object: &RepoBinding) -> BTreeSet<String> {
    let Some(webhook) = webhook_status(object) else { return BTreeSet::new() };
    webhook.previous_secrets.iter().map(|previous| previous.version.clone()).chain(webhook.secret_version.clone()).collect()
}

fn wanted_secret(facts: &Facts, spec: &WebhookSpec, hooks: &[Hook], destination: &Destination) -> (WantedSecret, bool) {
    let object = &facts.object;
    let status = webhook_status(object);
    if let Some(Ok(secret)) = &facts.user_secret {
        let same = status.and_then(|status| status.secret_version.as_ref()) == Some(&secret.version);
        let since = status.filter(|_| same).and_then(|status| status.secret_changed_at.as_ref()).map_or(facts.now, |time| time.0);
        return (WantedSecret { version: secret.version.clone(), value: secret.value.clone(), since }, false);
    }
    let carried = hooks::secret_versions(hooks, &facts.identity, destination);
    let carried: Vec<&str> = carried.iter().map(String::as_str).collect();
    // Hooks at our receiver carry a derived secret; a version of another kind in the status is ignored.
    let known = status.and_then(|status| status.secret_version.as_deref());
    let settled = carried.iter().all(|secret_version| Some(*secret_version) == carried.first().copied())
        && !hooks::any_inactive(hooks, &facts.identity)
        && !facts.observe_only;
    let (secret_version, new) = secret_version::derived(secret_version::Derived {
        status: known,
        hooks: &carried,
        requested: facts.requests.rotate,
        interval: spec.rotation_interval.as_ref().map(crate::api::v1alpha1::Interval::length),
        settled,
        now: facts.now,
    });
    let value = WebhookSecret::Derived(DerivedSecret::new(facts.derive(&secret_version)));
    let since =
        secret_version::second(&secret_version, facts.now).and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(facts.now);
    (WantedSecret { version: secret_version, value, since }, new)
}

fn described(action: &HookAction, repository: &str, existing: &[ExistingHook]) -> PlannedAction {
    let (action, target, reason) = match action {
        HookAction::Create(intent) => ("CreateHook", repository.to_owned(), intent.why.to_owned()),
        HookAction::Update { id, adopted: true, .. } if !existing.iter().any(|hook| hook.id == *id) => {
            ("AdoptHook", format!("{repository} hook {id}"), "webhook.adopt takes it over from somebody else".to_owned())
        }
        HookAction::Update { id, drift, .. } => {
            ("UpdateHook", format!("{repository} hook {id}"), format!("differs in {}", drift.join(", ")))
        }
        HookAction::Delete { id, why } => ("DeleteHook", format!("{repository} hook {id}"), (*why).to_owned()),
        HookAction::Release { id, .. } => ("ReleaseHook", format!("{repository} hook {id}"), "it was somebody else's".to_owned()),
    };
    PlannedAction { action: action.to_owned(), target, reason }
}
