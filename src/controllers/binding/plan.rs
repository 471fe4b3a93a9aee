//! What to do about a binding. Pure: no call, no clock.

pub mod crowding;
pub mod due;
pub mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Unit};
use url::Url;

use super::generation;
use super::hooks::repair::Repair;
use super::hooks::revival::{self, Revived};
use super::hooks::{self, Awaited, Destination, HookAction, Kept, Wanted, WantedSecret};
use super::observe::{self, Connection, Found, Observation};
use super::rivals;
use super::user_secret::UserSecret;
use crate::api::v1alpha1::binding::{HookTarget, PlannedAction, RepositoryStatus, WebhookSource, WebhookSpec, WebhookStatus};
use crate::api::v1alpha1::connection::PermissionState;
use crate::api::v1alpha1::{EventKind, Permission, Reason, RepoBinding};
use crate::controllers::conditions::Verdict;
use crate::controllers::finalizer;
use crate::controllers::gate::{Departure, Sight, Working};
use crate::providers::model::Scope;
use crate::providers::webhook::{DerivedSecret, WebhookSecret};
use crate::providers::{Disposition, ErrorKind, Hook, PathError, ProviderError, Repository, RepositoryPath};
use crate::wording;

/// How often something that waits for a change at the provider is looked at.
const SLOW_PROBE: Duration = Duration::from_secs(300);

/// What is said while a creation whose answer was lost is waited for.
pub const UNANSWERED: &str = "the answer to the creation of a hook was lost; it is looked for again before another one is made";

/// What is said of hooks that are as they should be.
const IN_ORDER: &str = "the hooks are as they should be";

/// What is said of hooks beside them that nobody will remove.
#[must_use]
pub fn left_behind(strays: &[String]) -> String {
    let (hooks, belong, them, uses) = match strays {
        [one] => (format!("hook {one} was"), "belongs", "it", "uses it"),
        several => (format!("hooks {} were", wording::enumerated(several)), "belong", "them", "uses them"),
    };
    format!(
        "beside them, {hooks} made by Forgebind and {belong} to no binding of this installation: made under another install key, or by a \
         binding that is gone; remove {them} at the provider unless another installation {uses}"
    )
}

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Prepare a user's own secret for the receivers, beside the generations that are still accepted.
    PublishSecret(UserSecret, BTreeSet<String>),
    /// Write down under our seal where a first hook is about to be made, so that it can be removed whatever happens next.
    Announce(HookTarget),
    /// Change a hook of the repository that the spec names.
    Hook(HookAction),
    /// Remove a hook of a place that is to be cleared, by the position of that place.
    Clear(usize, HookAction),
    /// Write down that hooks are left at a place, by its position, and why.
    Record(usize, String),
    /// Take a user's own secret back from the receivers.
    WithdrawSecret,
}

/// What becomes of the finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It stays as it is.
    Keep,
    /// It is set before anything is done at a provider.
    Set,
    /// It is removed once everything was done: the object may go.
    Remove,
    /// It is removed once everything was done, and the object stays: nothing of ours is left at any provider.
    Release,
}

/// What is to be said of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its value.
    pub verdict: Verdict,
    /// Its reason.
    pub reason: Reason,
    /// What to do next.
    pub message: String,
}

impl Finding {
    fn good(message: impl Into<String>) -> Self {
        Self { verdict: Verdict::True, reason: Reason::Succeeded, message: message.into() }
    }

    fn bad(reason: Reason, message: impl Into<String>) -> Self {
        Self { verdict: Verdict::False, reason, message: message.into() }
    }
}

/// What was decided.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What becomes of the finalizer.
    pub hold: Hold,
    /// What to do, in order.
    pub actions: Vec<Action>,
    /// What would be done, where nothing may be written.
    pub would: Vec<PlannedAction>,
    /// `RepositoryFound`; `None` when it could not be seen now.
    pub repository: Option<Finding>,
    /// `WebhookInSync`; `None` when it could not be seen now.
    pub webhook: Option<Finding>,
    /// Where the hooks are to be; `None` when none are wanted or that is not known now.
    pub target: Option<HookTarget>,
    /// Our hooks there, before any action; `None` when they were not listed.
    pub kept: Option<Vec<Kept>>,
    /// Generation of the secret that they are to carry.
    pub generation: Option<String>,
    /// Whether that is a new one because somebody asked.
    pub rotated: bool,
    /// Why a removal waits, and until when.
    pub blocked: Option<(String, Timestamp)>,
    /// A hook whose creation was not answered, and that is looked for before another one is made.
    pub awaits: Option<Awaited>,
    /// Hooks that are brought back after the provider switched them off.
    pub revived: Vec<Revived>,
    /// Hooks that are repaired, by part, and those that were found in order: `None`.
    pub repairs: BTreeMap<String, Option<Repair>>,
    /// What a person should know although nothing is wrong.
    pub notes: Vec<String>,
    /// When the repository is to be looked at again.
    pub next_look: Option<Timestamp>,
    /// What of that evidence cannot put off, because more than drift is looked for: the end of an overlap, a rotation.
    pub not_after: Option<Timestamp>,
    /// When to reconcile again although nothing changes.
    pub wake: Option<Timestamp>,
}

impl Plan {
    const fn nothing() -> Self {
        Self {
            hold: Hold::Keep,
            actions: Vec::new(),
            would: Vec::new(),
            repository: None,
            webhook: None,
            target: None,
            kept: None,
            generation: None,
            rotated: false,
            blocked: None,
            awaits: None,
            revived: Vec::new(),
            repairs: BTreeMap::new(),
            notes: Vec::new(),
            next_look: None,
            not_after: None,
            wake: None,
        }
    }

    /// Whether a look found everything as it should be; nothing to find counts as such.
    #[must_use]
    pub fn is_good(&self, observation: &Observation) -> bool {
        let is_true = |finding: &Option<Finding>| finding.as_ref().is_some_and(|finding| finding.verdict == Verdict::True);
        let looked = observation.look.is_some();
        !looked || (is_true(&self.repository) && (observation.object.spec.webhook.is_none() || is_true(&self.webhook)))
    }

    /// What is to be done at providers, or would be where nothing may be written, in the words of `status.plan`.
    #[must_use]
    pub fn at_providers(&self, observation: &Observation) -> Vec<PlannedAction> {
        let here = observation.look.as_ref().and_then(|found| found.repository.here());
        let actions = self.actions.iter().filter_map(|action| match action {
            Action::Hook(action) => Some(described(action, here?.path.as_str(), self.kept.as_deref().unwrap_or_default())),
            Action::Clear(position, action) => {
                let ours = observation.places.get(*position)?.hooks.as_ref().ok()?;
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

/// A moment as people are told it.
#[must_use]
pub fn told(at: Timestamp) -> Timestamp {
    at.round(Unit::Second).unwrap_or(at)
}

fn after(now: Timestamp, pause: Duration) -> Timestamp {
    now.checked_add(SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

/// Whether the spec names what it named when the known repository was found: through the same connection, which leads to the same
/// server, the same path. Ids and paths of another server tell nothing of it.
#[must_use]
pub fn is_as_requested(object: &RepoBinding, api: &Url, path: &RepositoryPath, known: &RepositoryStatus) -> bool {
    match &known.requested {
        Some(requested) => {
            // A status of an earlier version does not say which server it was.
            let same_server = requested.api.as_ref().is_none_or(|known| known == api.as_str());
            same_server && requested.connection == object.connection_target() && path.same_as(&requested.path)
        }
        None => path.same_as(&known.path),
    }
}

/// Whether a repository that was found is the one that the binding stands for.
#[must_use]
pub fn is_same_repository(object: &RepoBinding, api: &Url, path: &RepositoryPath, found: &Repository) -> bool {
    let known = object.status.as_ref().and_then(|status| status.repository.as_ref());
    known.is_none_or(|known| known.id == found.id || !is_as_requested(object, api, path, known))
}

fn wants_own_hook(object: &RepoBinding) -> Option<&WebhookSpec> {
    object.spec.webhook.as_ref().filter(|webhook| webhook.source == WebhookSource::Repository)
}

/// Decides.
#[must_use]
pub fn plan(observation: &Observation) -> Plan {
    let mut plan = Plan::nothing();
    if observation.object.metadata.deletion_timestamp.is_some() {
        places::delete(&mut plan, observation);
        return plan;
    }
    if let Some(found) = &observation.look {
        repository(&mut plan, observation, found);
        webhook(&mut plan, observation, found);
    } else {
        without_look(&mut plan, observation);
    }
    places::clear(&mut plan, observation);
    // A hook that is in order may be there without a finalizer: after a removal of the operator that let the object go.
    let has_hooks = !observation.observe_only && plan.kept.as_ref().is_some_and(|kept| !kept.is_empty());
    plan.hold = match finalizer::is_present(&*observation.object) {
        false if has_hooks || !plan.actions.is_empty() => Hold::Set,
        true if places::is_rid_of_everything(observation) => Hold::Release,
        _ => Hold::Keep,
    };
    due::next_look(&mut plan, observation);
    plan
}

/// What can be said although the repository was not looked at.
fn without_look(plan: &mut Plan, observation: &Observation) {
    let object = &observation.object;
    match &observation.connection {
        Connection::Path(error) => plan.repository = Some(no_repository(&object.spec.repository, error)),
        Connection::Ready { working, path, .. } => {
            if let Some(scope) = working.scope().filter(|scope| !scope.contains(path)) {
                plan.repository = Some(out_of_scope(path.as_str(), scope));
            }
        }
        _ => {}
    }
    if plan.repository.is_none() && observation.departure().is_some() {
        plan.repository = Some(departed(&object.spec.repository, Departure::WithoutGrant, None));
    }
    if object.spec.webhook.is_some() && wants_own_hook(object).is_none() {
        plan.webhook = Some(Finding::bad(Reason::SourceNotServed, "this build does not serve webhook.source App; use Repository"));
    }
}

/// What is said of a text that is no repository of the connection.
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

/// What is said of a repository that is out of reach: never where it is.
fn departed(path: &str, departure: Departure, scope: Option<&Scope>) -> Finding {
    let message = match (departure, scope) {
        (Departure::OutOfScope, Some(scope)) => {
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
fn repository(plan: &mut Plan, observation: &Observation, found: &Found) {
    let Connection::Ready { working, path, .. } = &observation.connection else { return };
    let object = &observation.object;
    let repository = match &found.repository {
        Sight::Here(repository) => repository,
        Sight::Departed(departure) => {
            plan.repository = Some(departed(path.as_str(), *departure, working.scope()));
            return;
        }
        Sight::Failed(error) => {
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
    plan.repository = Some(if is_same_repository(object, &working.endpoint.api, path, repository) {
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

/// Whether a provider's answer says that something is not there or not shown, and not that it failed.
#[must_use]
pub fn is_refusal(kind: ErrorKind) -> bool {
    kind.disposition() == Disposition::Hidden
}

fn hooks_refused(working: &Working, error: &ProviderError) -> Finding {
    let needs = working.provider.permission_words(Permission::ManageWebhooks).map(|words| format!(", which needs {words}"));
    let needs = needs.unwrap_or_default();
    Finding::bad(
        Reason::PermissionMissing,
        format!("ManageWebhooks: the hooks of the repository are not shown to the credential{needs} ({error})"),
    )
}

/// Judges the webhook and plans its hooks.
fn webhook(plan: &mut Plan, observation: &Observation, found: &Found) {
    let Some(spec) = &observation.object.spec.webhook else { return };
    let (Connection::Ready { working, .. }, Sight::Here(repository)) = (&observation.connection, &found.repository) else { return };
    match obstacle_to_hooks(observation, found, spec, working, repository) {
        Some(finding) => plan.webhook = Some(finding),
        None => match &found.hooks {
            Some(Ok(hooks)) => plan_hooks(plan, observation, spec, working, repository, hooks),
            Some(Err(error)) if is_refusal(error.kind) => plan.webhook = Some(hooks_refused(working, error)),
            _ => {}
        },
    }
}

/// The first thing that stands against any hook at all.
fn obstacle_to_hooks(
    observation: &Observation,
    found: &Found,
    spec: &WebhookSpec,
    working: &Working,
    repository: &Repository,
) -> Option<Finding> {
    let custom = observe::custom_url(&observation.object);
    let unknown: Vec<EventKind> = spec.events.iter().copied().filter(|event| !working.provider.events().contains(event)).collect();
    if spec.source != WebhookSource::Repository {
        return Some(Finding::bad(Reason::SourceNotServed, "this build does not serve webhook.source App; use Repository"));
    }
    if !unknown.is_empty() {
        let (event, them) = if unknown.len() == 1 { ("event", "it") } else { ("events", "them") };
        let names = wording::enumerated(&unknown.iter().map(|event| event.as_str()).collect::<Vec<_>>());
        let message = format!("{} has no {event} {names}; remove {them} from webhook.events", working.provider.kind());
        return Some(Finding::bad(Reason::EventNotSupported, message));
    }
    if let (None, Err(missing)) = (&custom, &observation.public_url) {
        return Some(Finding::bad(Reason::PublicURLMissing, missing.to_string()));
    }
    if let Some(Err(trouble)) = &observation.user_secret {
        return Some(Finding::bad(trouble.reason, trouble.message.clone()));
    }
    if found.manage_webhooks.state == PermissionState::Missing {
        let message =
            format!("ManageWebhooks: {}", found.manage_webhooks.message.as_deref().unwrap_or("the credential may not manage hooks"));
        return Some(Finding::bad(Reason::PermissionMissing, message));
    }
    if custom.is_some()
        && rivals::another_goes_first(&observation.object, &observation.seal, repository, working.server(), &observation.claims)
    {
        let message = "another binding has this repository and webhook.url already; delete one of them or use another url";
        return Some(Finding::bad(Reason::ClaimedByAnother, message));
    }
    None
}

fn plan_hooks(plan: &mut Plan, observation: &Observation, spec: &WebhookSpec, working: &Working, repository: &Repository, hooks: &[Hook]) {
    let object = &observation.object;
    let destination = observe::custom_url(object).map_or(Destination::Receiver, Destination::Custom);
    let events: BTreeSet<EventKind> = spec.events.iter().copied().collect();
    let shapes = working.hook_shapes(&events);
    let (secret, rotated) = wanted_secret(observation, spec, hooks, &destination);
    let mut adopted = places::adopted(object);
    if spec.adopt && !places::tells_of_hooks(object) {
        // With the status lost, nobody knows which hooks were adopted: a hook of somebody else must not be deleted as ours.
        adopted.extend(hooks.iter().filter(|hook| observation.ownership.is_ours(&hook.url)).map(|hook| hook.id.clone()));
    }
    let target = places::present_target(observation);
    let wanted = Wanted {
        destination,
        shapes,
        secret: secret.clone(),
        adopt: spec.adopt,
        update_sets_secret: working.inspection.capabilities.update_sets_secret,
        revoke: observation.requests.revoke,
        known: known_of_revivals(observation, target.as_ref()),
        awaited: target.as_ref().map(|target| observation.attempts.awaited(target, observation.now)).unwrap_or_default(),
    };
    let planned = hooks::plan(hooks, &observation.ownership, &wanted, &adopted, observation.now);
    plan.target = target;
    plan.awaits = planned.awaits;
    plan.revived = planned.revived;
    plan.repairs = planned.repairs;
    plan.notes = planned.notes;
    plan.notes.extend(crowding::note(observation, working, repository, hooks));
    plan.kept = Some(planned.kept);
    plan.generation = Some(secret.generation);
    plan.rotated = rotated;
    plan.next_look = planned.wake;
    let changes = !planned.actions.is_empty();
    plan.webhook = Some(match planned.finding {
        Some(finding) => Finding::bad(finding.reason, finding.message),
        None if planned.awaits.is_some_and(|awaited| awaited.lacks) => {
            Finding { verdict: Verdict::Unknown, reason: Reason::Progressing, message: UNANSWERED.to_owned() }
        }
        None if changes && repository.archived => Finding::bad(
            Reason::RepositoryArchived,
            format!("{} is archived, so its hooks cannot be changed; unarchive it or remove webhook", repository.path),
        ),
        None if changes && observation.observe_only => {
            let kept = plan.kept.as_deref().unwrap_or_default();
            plan.would = planned.actions.iter().map(|action| described(action, repository.path.as_str(), kept)).collect();
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
            let strays = observation.look.as_ref().map(|look| look.strays.as_slice()).filter(|strays| !strays.is_empty());
            let further = strays.map(left_behind).into_iter().chain(plan.notes.iter().cloned());
            Finding::good(std::iter::once(IN_ORDER.to_owned()).chain(further).collect::<Vec<_>>().join("; "))
        }
    });
    let is_good = plan.webhook.as_ref().is_some_and(|finding| finding.verdict == Verdict::True);
    if let Some(trouble) = observation.key_trouble.as_ref().filter(|_| changes && is_good) {
        let message = format!("no hook is made or changed now, because it might not be known again after a restart: {trouble}");
        plan.webhook = Some(Finding::bad(Reason::InstallKeyNotStored, message));
    }
    // Before any hook carries it, and again at every look: what receivers were given may have been lost meanwhile.
    if let Some(Ok(secret)) = &observation.user_secret
        && wanted.destination == Destination::Receiver
        && !observation.observe_only
    {
        plan.actions.push(Action::PublishSecret(secret.clone(), accepted_generations(object)));
    }
    if changes && !observation.observe_only && !repository.archived && observation.key_trouble.is_none() {
        plan.actions.extend(places::to_announce(plan, observation, &planned.actions).map(Action::Announce));
        plan.actions.extend(planned.actions.into_iter().map(Action::Hook));
    }
}

/// What decides about hooks that the provider switched off.
fn known_of_revivals(observation: &Observation, target: Option<&HookTarget>) -> revival::Known {
    let seen = observation.evidence.as_ref();
    let last = seen.and_then(|seen| seen.last_delivery.as_ref()).map(|delivery| delivery.at);
    let refusals = seen.and_then(|seen| seen.refusals.as_ref());
    revival::Known {
        revivals: target.map(|target| observation.attempts.revivals(target)).unwrap_or_default(),
        repairs: target.map(|target| observation.attempts.repairs(target)).unwrap_or_default(),
        heard: seen.map(|seen| seen.events.clone()).unwrap_or_default(),
        refused: refusals.is_some_and(|refusals| last.is_none_or(|last| last < refusals.last)),
    }
}

/// The generations that are still accepted beside a new one.
fn accepted_generations(object: &RepoBinding) -> BTreeSet<String> {
    let Some(webhook) = webhook_status(object) else { return BTreeSet::new() };
    webhook.previous_secrets.iter().map(|previous| previous.generation.clone()).chain(webhook.secret_generation.clone()).collect()
}

fn wanted_secret(observation: &Observation, spec: &WebhookSpec, hooks: &[Hook], destination: &Destination) -> (WantedSecret, bool) {
    let object = &observation.object;
    let status = webhook_status(object);
    if let Some(Ok(secret)) = &observation.user_secret {
        let same = status.and_then(|status| status.secret_generation.as_ref()) == Some(&secret.generation);
        let since = status.filter(|_| same).and_then(|status| status.secret_changed_at.as_ref()).map_or(observation.now, |time| time.0);
        return (WantedSecret { generation: secret.generation.clone(), value: secret.value.clone(), since }, false);
    }
    let carried = hooks::generations(hooks, &observation.ownership, destination);
    let carried: Vec<&str> = carried.iter().map(String::as_str).collect();
    // The hooks deliver to our receiver under a derived secret only; what the status knows of another kind does not count.
    let known = status.and_then(|status| status.secret_generation.as_deref());
    let settled = carried.iter().all(|generation| Some(*generation) == carried.first().copied())
        && !hooks::any_inactive(hooks, &observation.ownership)
        && !observation.observe_only;
    let (generation, new) = generation::derived(generation::Derived {
        status: known,
        hooks: &carried,
        requested: observation.requests.rotate,
        interval: spec.rotation_interval.as_ref().map(crate::api::v1alpha1::Interval::length),
        settled,
        now: observation.now,
    });
    let value = WebhookSecret::Derived(DerivedSecret::new(observation.derive(&generation)));
    let since =
        generation::second(&generation, observation.now).and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(observation.now);
    (WantedSecret { generation, value, since }, new)
}

fn described(action: &HookAction, repository: &str, kept: &[Kept]) -> PlannedAction {
    let (action, target, reason) = match action {
        HookAction::Create(intent) => ("CreateHook", repository.to_owned(), intent.why.to_owned()),
        HookAction::Update { id, adopted: true, .. } if !kept.iter().any(|hook| hook.id == *id) => {
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
