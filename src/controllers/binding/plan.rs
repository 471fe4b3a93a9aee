//! What to do about a binding. Pure: no call, no clock.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::generation;
use super::hooks::{self, Destination, HookAction, Kept, Wanted, WantedSecret};
use super::observe::{self, Connection, Found, Observation, Obstacle, Place};
use super::ownership::host_of;
use super::rivals;
use super::user_secret::UserSecret;
use crate::api::v1alpha1::binding::{HookTarget, PlannedAction, RepositoryStatus, WebhookSource, WebhookSpec, WebhookStatus};
use crate::api::v1alpha1::connection::PermissionState;
use crate::api::v1alpha1::{ConditionType, EventKind, Reason, RepoBinding};
use crate::controllers::backoff::spread;
use crate::controllers::conditions::{self, Verdict};
use crate::controllers::finalizer;
use crate::controllers::sessions::Working;
use crate::providers::model::Scope;
use crate::providers::webhook::{DerivedSecret, WebhookSecret};
use crate::providers::{ErrorKind, Hook, ProviderError, Repository, RepositoryPath};

/// How long a removal waits for a credential that works.
const CREDENTIAL_BOUND: Duration = Duration::from_secs(3600);
/// How long it waits for a provider that is out of reach.
const OUTAGE_BOUND: Duration = Duration::from_secs(24 * 3600);
/// How long it waits in a namespace that is being deleted.
const NAMESPACE_BOUND: Duration = Duration::from_secs(20);
/// Evidence stretches the time between two looks to this at most.
const LONGEST_STRETCH: SignedDuration = SignedDuration::from_hours(24);
/// How often something that waits for a change at the provider is looked at.
const SLOW_PROBE: Duration = Duration::from_secs(300);
/// When to look again after what may have been done twice.
const SECOND_LOOK: Duration = Duration::from_secs(60);

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Prepare a user's own secret for the receivers, beside the generations that are still accepted.
    PublishSecret(UserSecret, BTreeSet<String>),
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

    fn wake_at(&mut self, at: Option<Timestamp>) {
        self.wake = [self.wake, at].into_iter().flatten().min();
    }
}

fn webhook_status(object: &RepoBinding) -> Option<&WebhookStatus> {
    object.status.as_ref()?.webhook.as_ref()
}

fn after(now: Timestamp, pause: Duration) -> Timestamp {
    now.checked_add(SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

/// Whether the status says that all was well with the present spec, so that the first look after a start can wait its turn.
pub(super) fn is_settled(observation: &Observation) -> bool {
    let object = &observation.object;
    let Some(status) = &object.status else { return false };
    status.observed_generation == object.metadata.generation
        && status.installation.as_ref() == Some(&observation.fingerprint)
        && conditions::is_true(&status.conditions, ConditionType::Ready)
        && finalizer::is_present(&**object)
        && status.webhook.as_ref().is_none_or(|webhook| !is_under_way(webhook))
        && !rotation_is_due(observation)
}

/// Whether the secret is older than it may become. A predecessor may have begun to replace it.
fn rotation_is_due(observation: &Observation) -> bool {
    let generation = webhook_status(&observation.object).and_then(|webhook| webhook.secret_generation.as_deref());
    generation.and_then(|generation| rotation_due_at(observation, generation)).is_some_and(|due| due <= observation.now)
}

/// When the secret of a generation is to be replaced.
fn rotation_due_at(observation: &Observation, generation: &str) -> Option<Timestamp> {
    let interval = observation.object.spec.webhook.as_ref()?.rotation_interval.as_ref()?;
    let made = Timestamp::from_second(generation::second(generation, observation.now)?).ok()?;
    Some(after(made, interval.length()))
}

/// Whether a rotation or a move was begun and not finished: a hook with an earlier secret, or at an earlier place, is there.
fn is_under_way(webhook: &WebhookStatus) -> bool {
    !webhook.former_targets.is_empty() || webhook.previous_secrets.iter().any(|previous| previous.valid_until.is_none())
}

/// Whether the repository is to be looked at: something that the hooks depend on changed, somebody asks, or it is time.
#[must_use]
pub fn look_due(observation: &Observation) -> bool {
    let Connection::Ready { inspected_at, .. } = &observation.connection else { return false };
    let object = &observation.object;
    let requests = observation.requests;
    if requests.look || requests.rotate || requests.revoke || !public_url_is_known(observation) || status_is_lost(observation) {
        return true;
    }
    let Some(memory) = &observation.memory else { return !is_settled(observation) || user_secret_changed(observation) };
    if memory.generation != object.metadata.generation.unwrap_or_default()
        || memory.circumstances != observation.circumstances()
        || (!memory.good && memory.at.is_some_and(|at| at < *inspected_at))
    {
        return true;
    }
    memory.next.is_none_or(|next| stretched(observation, next) <= observation.now)
}

/// Whether somebody took out of the status what an earlier look put there: one that was restored or edited tells nothing.
fn status_is_lost(observation: &Observation) -> bool {
    let object = &observation.object;
    let Some(memory) = observation.memory.as_ref().filter(|memory| memory.at.is_some()) else { return false };
    let Some(status) = object.status.as_ref().filter(|status| status.observed_generation.is_some()) else { return true };
    let tells = |kind| conditions::find(&status.conditions, kind).is_some();
    let hooks_told = wants_own_hook(object).is_none() || (tells(ConditionType::WebhookInSync) && status.webhook.is_some());
    memory.good && !(tells(ConditionType::RepositoryFound) && hooks_told)
}

/// The next look, moved by evidence: a verified delivery under the present secret shows that the hook is there.
fn stretched(observation: &Observation, next: Timestamp) -> Timestamp {
    let Some(memory) = observation.memory.as_ref().filter(|memory| memory.good) else { return next };
    let Some(at) = memory.at else { return next };
    let generation = webhook_status(&observation.object).and_then(|webhook| webhook.secret_generation.as_ref());
    let seen = generation.and_then(|generation| observation.evidence.as_ref()?.generations.get(generation));
    let Some(seen) = seen else { return next };
    let latest = at.checked_add(LONGEST_STRETCH).unwrap_or(next);
    let stretched = after(*seen, observation.object.spec.interval.length()).min(latest).max(next);
    stretched.min(memory.not_after.unwrap_or(Timestamp::MAX))
}

fn public_url_is_known(observation: &Observation) -> bool {
    let Some(url) = webhook_status(&observation.object).and_then(|webhook| webhook.url.as_ref()) else { return true };
    observe::custom_url(&observation.object).is_some() || Some(url) == observation.ownership.masked_receiver_url().as_ref()
}

fn user_secret_changed(observation: &Observation) -> bool {
    let known = webhook_status(&observation.object).and_then(|webhook| webhook.secret_generation.as_ref());
    match &observation.user_secret {
        Some(Ok(secret)) => known != Some(&secret.generation),
        Some(Err(_)) => true,
        None => false,
    }
}

/// Whether the spec names what it named when the known repository was found.
#[must_use]
pub fn is_as_requested(object: &RepoBinding, path: &RepositoryPath, known: &RepositoryStatus) -> bool {
    match &known.requested {
        Some(requested) => requested.connection == object.connection_target() && path.same_as(&requested.path),
        None => path.same_as(&known.path),
    }
}

/// Whether a repository that was found is the one that the binding stands for.
#[must_use]
pub fn is_same_repository(object: &RepoBinding, path: &RepositoryPath, found: &Repository) -> bool {
    let known = object.status.as_ref().and_then(|status| status.repository.as_ref());
    known.is_none_or(|known| known.id == found.id || !is_as_requested(object, path, known))
}

/// The places whose hooks are to go.
#[must_use]
pub fn places_to_clear(observation: &Observation) -> Vec<HookTarget> {
    let object = &observation.object;
    let webhook = webhook_status(object);
    let present = webhook.and_then(|webhook| webhook.target.clone());
    let former = webhook.map(|webhook| webhook.former_targets.clone()).unwrap_or_default();
    if object.metadata.deletion_timestamp.is_some() {
        if observe::orphans(object) || !finalizer::is_present(&**object) {
            return Vec::new();
        }
        let present = present.or_else(|| Some(observe::place_of_spec(object, &observation.settings)));
        return present.into_iter().chain(former).collect();
    }
    if observation.suspended || observation.observe_only {
        return Vec::new();
    }
    if wants_none(observation) {
        // A status that names no place may be older than a hook: the finalizer tells that there may be one.
        let held = finalizer::is_present(&**object);
        let present = present.or_else(|| held.then(|| observe::place_of_spec(object, &observation.settings)));
        return present.into_iter().chain(former).collect();
    }
    // Where the hooks are to be cannot be seen now: the old ones stay.
    let Some(keeps) = present_target(observation) else { return Vec::new() };
    present.into_iter().chain(former).filter(|target| !same_place(&keeps, target)).collect()
}

/// Whether no hook is to be anywhere: none is asked for, or the connection is not there for this binding any more.
fn wants_none(observation: &Observation) -> bool {
    match &observation.connection {
        Connection::NotPermitted => true,
        Connection::NotReady(trouble) if trouble.reason == Reason::ConnectionNotReady => true,
        _ => wants_own_hook(&observation.object).is_none(),
    }
}

fn same_place(one: &HookTarget, other: &HookTarget) -> bool {
    one.connection == other.connection && one.repository_id == other.repository_id
}

fn wants_own_hook(object: &RepoBinding) -> Option<&WebhookSpec> {
    object.spec.webhook.as_ref().filter(|webhook| webhook.source == WebhookSource::Repository)
}

/// Where the hooks are to be, as far as this look shows it.
fn present_target(observation: &Observation) -> Option<HookTarget> {
    let found = observation.look.as_ref()?;
    let repository = found.repository.as_ref().ok().filter(|_| matches!(found.hooks, Some(Ok(_))))?;
    let host = match observe::custom_url(&observation.object) {
        Some(url) => host_of(&url),
        None => observation.settings.public_url.as_ref().map(host_of)?,
    };
    Some(HookTarget {
        connection: observation.object.connection_target(),
        repository_id: repository.id.clone(),
        repository: repository.path.as_str().to_owned(),
        host,
    })
}

/// Whether the time to wait for an obstacle is over.
#[must_use]
pub fn is_past_bound(observation: &Observation, obstacle: &Obstacle) -> bool {
    deadline(observation, obstacle).is_some_and(|deadline| deadline <= observation.now)
}

fn deadline(observation: &Observation, obstacle: &Obstacle) -> Option<Timestamp> {
    let deleted = observation.object.metadata.deletion_timestamp.as_ref()?.0;
    let bound = match obstacle {
        _ if observation.terminating => NAMESPACE_BOUND,
        Obstacle::Credential(_) | Obstacle::Gone(_) => observation.settings.cleanup_timeout.unwrap_or(CREDENTIAL_BOUND),
        Obstacle::Pending | Obstacle::Outage(_) => observation.settings.cleanup_timeout.unwrap_or(OUTAGE_BOUND),
    };
    Some(after(deleted, bound))
}

/// Decides.
#[must_use]
pub fn plan(observation: &Observation) -> Plan {
    let mut plan = Plan::nothing();
    if observation.object.metadata.deletion_timestamp.is_some() {
        delete(&mut plan, observation);
        return plan;
    }
    if let Some(found) = &observation.look {
        repository(&mut plan, observation, found);
        webhook(&mut plan, observation, found);
    } else {
        without_look(&mut plan, observation);
    }
    clear(&mut plan, observation);
    plan.hold = match finalizer::is_present(&*observation.object) {
        false if !plan.actions.is_empty() => Hold::Set,
        true if is_rid_of_everything(observation) => Hold::Release,
        _ => Hold::Keep,
    };
    next_look(&mut plan, observation);
    plan
}

/// Whether nothing of ours is left anywhere once the plan is carried out, and nothing is to come.
fn is_rid_of_everything(observation: &Observation) -> bool {
    let seen = |place: &Place| matches!(place.hooks, Ok(_) | Err(Obstacle::Gone(_)));
    let idle = observation.suspended || observation.observe_only;
    !idle && wants_none(observation) && !observation.places.is_empty() && observation.places.iter().all(seen)
}

fn adopted(object: &RepoBinding) -> BTreeSet<String> {
    let hooks = webhook_status(object).map(|webhook| webhook.hooks.as_slice()).unwrap_or_default();
    hooks.iter().filter(|hook| hook.adopted).map(|hook| hook.id.clone()).collect()
}

/// The adopted ones among the hooks that are to go. With the status lost, nobody knows which were adopted: where the spec
/// allows it, all count as adopted, because a hook of somebody else must not be deleted as ours.
fn adopted_at_places(observation: &Observation) -> BTreeSet<String> {
    let object = &observation.object;
    let may_be = object.spec.webhook.as_ref().is_some_and(|webhook| webhook.adopt);
    if !may_be || webhook_status(object).is_some() {
        return adopted(object);
    }
    let hooks = observation.places.iter().filter_map(|place| place.hooks.as_ref().ok()).flat_map(|(_, hooks)| hooks);
    hooks.filter(|hook| observation.ownership.is_ours(&hook.url)).map(|hook| hook.id.clone()).collect()
}

/// What can be said although the repository was not looked at.
fn without_look(plan: &mut Plan, observation: &Observation) {
    let object = &observation.object;
    match &observation.connection {
        Connection::Path(error) => {
            let reason = match error {
                crate::providers::PathError::AnotherHost { .. } => Reason::OutOfScope,
                _ => Reason::NotFoundOrHidden,
            };
            plan.repository = Some(Finding::bad(reason, error.to_string()));
        }
        Connection::Ready { working, path, .. } => {
            if let Some(scope) = working.scope().filter(|scope| !scope.contains(path)) {
                plan.repository = Some(out_of_scope(Reason::OutOfScope, path.as_str(), scope));
            }
        }
        _ => {}
    }
    if object.spec.webhook.is_some() && wants_own_hook(object).is_none() {
        plan.webhook = Some(Finding::bad(Reason::SourceNotServed, "this build does not serve webhook.source App; use Repository"));
    }
}

fn out_of_scope(reason: Reason, path: &str, scope: &Scope) -> Finding {
    Finding::bad(reason, format!("{path} lies outside the {scope} of the connection; use a connection of its owner"))
}

/// Judges the repository and the branch.
fn repository(plan: &mut Plan, observation: &Observation, found: &Found) {
    let Connection::Ready { working, path, .. } = &observation.connection else { return };
    let object = &observation.object;
    let repository = match &found.repository {
        Ok(repository) => repository,
        Err(error) => {
            let reason = match error.kind {
                ErrorKind::NotInstalled => Reason::NotInstalled,
                kind if is_refusal(kind) => Reason::NotFoundOrHidden,
                _ => return,
            };
            let message = format!("{path} does not exist, or the credential has no read access to its contents ({error})");
            plan.repository = Some(Finding::bad(reason, message));
            return;
        }
    };
    let moved_out = working.scope().filter(|scope| !scope.holds(repository));
    plan.repository = Some(if !is_same_repository(object, path, repository) {
        let message = format!("{path} now leads to another repository; delete this binding and create it again if that one is meant");
        Finding::bad(Reason::RepositoryReplaced, message)
    } else if let Some(scope) = moved_out {
        out_of_scope(Reason::RepositoryMovedOutOfScope, repository.path.as_str(), scope)
    } else if !found.granted {
        let message = format!("the repository moved to {}, for which the connection has no grant", repository.path);
        Finding::bad(Reason::RepositoryMovedOutOfScope, message)
    } else {
        match (&object.spec.branch, &found.branch) {
            (Some(branch), Some(Ok(false))) => Finding::bad(Reason::BranchNotFound, format!("{} has no branch {branch}", repository.path)),
            (Some(branch), Some(Err(error))) if is_refusal(error.kind) => Finding::bad(
                Reason::NotFoundOrHidden,
                format!("branch {branch} of {} cannot be read: the credential needs read access to contents ({error})", repository.path),
            ),
            (_, Some(Err(_))) => return,
            _ if repository.empty => Finding::good(format!("{} is there and has no commit yet", repository.path)),
            _ => Finding::good(format!("{} is there", repository.path)),
        }
    });
}

/// Whether a provider's answer says that something is not there or not shown, and not that it failed.
#[must_use]
pub const fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

fn hooks_refused(error: &ProviderError) -> Finding {
    Finding::bad(
        Reason::PermissionMissing,
        format!("ManageWebhooks: the hooks of the repository are not shown to the credential ({error})"),
    )
}

/// Judges the webhook and plans its hooks.
fn webhook(plan: &mut Plan, observation: &Observation, found: &Found) {
    let Some(spec) = &observation.object.spec.webhook else { return };
    let (Connection::Ready { working, .. }, Ok(repository)) = (&observation.connection, &found.repository) else { return };
    match obstacle_to_hooks(observation, found, spec, working, repository) {
        Some(finding) => plan.webhook = Some(finding),
        None => match &found.hooks {
            Some(Ok(hooks)) => plan_hooks(plan, observation, spec, working, repository, hooks),
            Some(Err(error)) if is_refusal(error.kind) => plan.webhook = Some(hooks_refused(error)),
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
        let message = format!("{} has no event {}; remove it from webhook.events", working.provider.kind(), join(&unknown));
        return Some(Finding::bad(Reason::EventNotSupported, message));
    }
    if custom.is_none() && observation.settings.public_url.is_none() {
        return Some(Finding::bad(
            Reason::PublicURLMissing,
            "Forgebind does not know where providers reach it; start it with --public-url",
        ));
    }
    if let Some(Err(trouble)) = &observation.user_secret {
        return Some(Finding::bad(trouble.reason, trouble.message.clone()));
    }
    if found.manage_webhooks.state == PermissionState::Missing {
        let message =
            format!("ManageWebhooks: {}", found.manage_webhooks.message.as_deref().unwrap_or("the credential may not manage hooks"));
        return Some(Finding::bad(Reason::PermissionMissing, message));
    }
    if custom.is_some() && rivals::another_goes_first(&observation.object, &repository.id, &observation.claims) {
        let message = "another binding has this repository and webhook.url already; delete one of them or use another url";
        return Some(Finding::bad(Reason::ClaimedByAnother, message));
    }
    None
}

fn join(events: &[EventKind]) -> String {
    events.iter().map(|event| event.as_str()).collect::<Vec<_>>().join(", ")
}

fn plan_hooks(plan: &mut Plan, observation: &Observation, spec: &WebhookSpec, working: &Working, repository: &Repository, hooks: &[Hook]) {
    let object = &observation.object;
    let destination = observe::custom_url(object).map_or(Destination::Receiver, Destination::Custom);
    let events: BTreeSet<EventKind> = spec.events.iter().copied().collect();
    let shapes = working.client.hook_shapes(&events);
    let (secret, rotated) = wanted_secret(observation, spec, hooks, &destination);
    let mut adopted = adopted(object);
    if spec.adopt && webhook_status(object).is_none() {
        // With the status lost, nobody knows which hooks were adopted: a hook of somebody else must not be deleted as ours.
        adopted.extend(hooks.iter().filter(|hook| observation.ownership.is_ours(&hook.url)).map(|hook| hook.id.clone()));
    }
    let wanted = Wanted {
        destination,
        shapes,
        secret: secret.clone(),
        adopt: spec.adopt,
        update_sets_secret: working.inspection.capabilities.update_sets_secret,
        revoke: observation.requests.revoke,
    };
    let planned = hooks::plan(hooks, &observation.ownership, &wanted, &adopted, observation.now);
    plan.target = present_target(observation);
    plan.kept = Some(planned.kept);
    plan.generation = Some(secret.generation);
    plan.rotated = rotated;
    plan.next_look = planned.wake;
    let changes = !planned.actions.is_empty();
    plan.webhook = Some(match planned.finding {
        Some(finding) => Finding::bad(finding.reason, finding.message),
        None if changes && repository.archived => Finding::bad(
            Reason::RepositoryArchived,
            format!("{} is archived, so its hooks cannot be changed; unarchive it or remove webhook", repository.path),
        ),
        None if changes && observation.observe_only => {
            plan.would = planned.actions.iter().map(|action| described(action, repository)).collect();
            Finding::bad(
                Reason::Observing,
                format!(
                    "status.plan lists what would be done; managementPolicy Manage, here and on the connection, and a start without \
                     --read-only do it (now: {})",
                    plan.would.iter().map(|planned| planned.action.as_str()).collect::<Vec<_>>().join(", ")
                ),
            )
        }
        None => Finding::good("the hooks are as they should be"),
    });
    // Before any hook carries it, and again at every look: what receivers were given may have been lost meanwhile.
    if let Some(Ok(secret)) = &observation.user_secret
        && wanted.destination == Destination::Receiver
        && !observation.observe_only
    {
        plan.actions.push(Action::PublishSecret(secret.clone(), accepted_generations(object)));
    }
    if changes && !observation.observe_only && !repository.archived {
        plan.actions.extend(planned.actions.into_iter().map(Action::Hook));
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
    let (namespace, name) = (object.metadata.namespace.as_deref().unwrap_or_default(), object.metadata.name.as_deref().unwrap_or_default());
    let value = WebhookSecret::Derived(DerivedSecret::new(observation.derive(namespace, name, &generation)));
    let since =
        generation::second(&generation, observation.now).and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(observation.now);
    (WantedSecret { generation, value, since }, new)
}

fn described(action: &HookAction, repository: &Repository) -> PlannedAction {
    let (action, target, reason) = match action {
        HookAction::Create(_) => ("CreateHook", repository.path.to_string(), "there is none".to_owned()),
        HookAction::Update { id, drift, .. } => {
            ("UpdateHook", format!("{} hook {id}", repository.path), format!("differs in {}", drift.join(", ")))
        }
        HookAction::Delete { id, why } => ("DeleteHook", format!("{} hook {id}", repository.path), (*why).to_owned()),
        HookAction::Release { id, .. } => ("ReleaseHook", format!("{} hook {id}", repository.path), "it was somebody else's".to_owned()),
    };
    PlannedAction { action: action.to_owned(), target, reason }
}

/// Plans the removal of hooks at places where they are no longer wanted. Their successors come first.
fn clear(plan: &mut Plan, observation: &Observation) {
    let waits = plan.webhook.as_ref().is_some_and(|finding| finding.verdict != Verdict::True);
    if waits && matches!(observation.connection, Connection::Ready { .. }) && wants_own_hook(&observation.object).is_some() {
        return;
    }
    let adopted = adopted_at_places(observation);
    for (position, place) in observation.places.iter().enumerate() {
        match &place.hooks {
            // The same place seen through another connection: what is there is what is wanted.
            Ok((repository, _)) if is_present_place(plan, observation, place, repository) => {}
            Ok((_, hooks)) => {
                let removal = hooks::removal(hooks, &observation.ownership, &adopted, "it is no longer wanted here");
                plan.actions.extend(removal.actions.into_iter().map(|action| Action::Clear(position, action)));
            }
            Err(Obstacle::Gone(why)) => plan.actions.push(Action::Record(position, why.clone())),
            Err(_) => {
                // Its successor is looked at again too: only beside it does the old one come up.
                let probe = after(observation.now, SLOW_PROBE);
                plan.next_look = Some(plan.next_look.map_or(probe, |next| next.min(probe)));
                plan.wake_at(Some(probe));
            }
        }
    }
}

/// Whether a place is the very repository in which the hooks are to be.
fn is_present_place(plan: &Plan, observation: &Observation, place: &Place, repository: &Repository) -> bool {
    let (Connection::Ready { working, .. }, Some(there), Some(target)) = (&observation.connection, &place.working, &plan.target) else {
        return false;
    };
    working.endpoint.api == there.endpoint.api && target.repository_id == repository.id
}

/// Plans the end: everything of ours goes, or is written down when its time is over.
fn delete(plan: &mut Plan, observation: &Observation) {
    let object = &observation.object;
    if !finalizer::is_present(&**object) {
        return;
    }
    let adopted = adopted_at_places(observation);
    let mut blocked: Option<(&Obstacle, Timestamp)> = None;
    for (position, place) in observation.places.iter().enumerate() {
        match &place.hooks {
            _ if observation.observe_only => {
                if held_hooks(object) {
                    plan.actions.push(Action::Record(position, "nothing is written at the provider while observing".to_owned()));
                }
            }
            Ok((_, hooks)) => {
                let removal = hooks::removal(hooks, &observation.ownership, &adopted, "its binding is being deleted");
                plan.actions.extend(removal.actions.into_iter().map(|action| Action::Clear(position, action)));
            }
            // A repository that nobody shows us has no hook that we could remove. Should it come back, the entry is worked off.
            Err(Obstacle::Gone(why)) if held_hooks(object) => plan.actions.push(Action::Record(position, why.clone())),
            Err(Obstacle::Gone(_)) => {}
            Err(obstacle) if is_past_bound(observation, obstacle) => plan.actions.push(Action::Record(position, text(obstacle))),
            Err(obstacle) => {
                let until = deadline(observation, obstacle).unwrap_or(observation.now);
                if blocked.as_ref().is_none_or(|(_, later)| *later < until) {
                    blocked = Some((obstacle, until));
                }
            }
        }
    }
    // Also without secretRef now: there may have been one before.
    let may_have_brought =
        webhook_status(object).is_some() || object.spec.webhook.as_ref().is_some_and(|webhook| webhook.secret_ref.is_some());
    if may_have_brought && blocked.is_none() {
        plan.actions.push(Action::WithdrawSecret);
    }
    plan.hold = if blocked.is_none() { Hold::Remove } else { Hold::Keep };
    // A wait that ends by something else than a change ends by its deadline; an outage is probed meanwhile.
    let probe = after(observation.now, Duration::from_secs(15));
    plan.wake_at(blocked.as_ref().map(|(_, until)| after(*until, Duration::from_secs(1)).min(probe)));
    // What is not known yet, after a start, is known in a moment: nothing to bother anybody with.
    plan.blocked = blocked.filter(|(obstacle, _)| **obstacle != Obstacle::Pending).map(|(obstacle, until)| (text(obstacle), until));
}

fn held_hooks(object: &RepoBinding) -> bool {
    webhook_status(object).is_some_and(|webhook| !webhook.hooks.is_empty())
}

fn text(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::Pending => "the connection was not examined yet".to_owned(),
        Obstacle::Credential(why) | Obstacle::Outage(why) | Obstacle::Gone(why) => why.clone(),
    }
}

/// Says when to look at the repository again.
fn next_look(plan: &mut Plan, observation: &Observation) {
    let object = &observation.object;
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let interval = object.spec.interval.length();
    let good = |finding: &Option<Finding>| finding.as_ref().is_none_or(|finding| finding.verdict == Verdict::True);
    plan.next_look = if observation.look.is_some() {
        // What was begun before, by a predecessor or without an answer, may still arrive at the provider after our list:
        // look once more, soon.
        let unanswered = observation.memory.as_ref().map_or_else(|| finalizer::is_present(&**object), |memory| !memory.good);
        let inherited = unanswered && !plan.actions.is_empty();
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
