//! Executes the plan of a binding: in order, stopping at the first failure.

use std::sync::Arc;

use kube::ResourceExt as _;
use tracing::{info, warn};

use super::cause::Cause;
use super::hooks::repair::did_not_last;
use super::hooks::{ExistingHook, HookAction, HookFinding, HookIntent};
use super::observe::{CleanupTarget, Facts, Obstacle, UNTOLD};
use super::plan::{Action, FinalizerAction, Plan};
use super::{report, user_secret};
use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::{HookStatus, HookTarget};
use crate::controllers::gate::{GrantedRepository, OwnedHooks};
use crate::controllers::leftovers::{self, Leftover, LeftoverHook, Noted};
use crate::controllers::metrics::HookChange;
use crate::controllers::runtime::status;
use crate::controllers::{Context, Error, locked};
use crate::k8s::finalizer;
use crate::providers::{Deletion, ErrorKind, Hook, HookRelease, HookRequest, ProviderError};

/// Result of executing a plan.
pub struct Outcome {
    /// The object after the changes.
    pub object: Arc<RepoBinding>,
    /// Whether the finalizer was removed or the object no longer exists: there is nothing more to do for this object.
    pub gone: bool,
    /// Target of a first hook, once it was recorded in the status before the creation.
    pub announced: Option<HookTarget>,
    /// Hooks that were created or updated. An entry replaces the existing hook with the same id.
    pub present: Vec<ExistingHook>,
    /// Variants of the hooks that were created.
    pub created: Vec<String>,
    /// Variants whose creation had an ambiguous answer: the hook may exist.
    pub ambiguous_creates: Vec<String>,
    /// Variants of the hooks that were updated.
    pub updated: Vec<String>,
    /// Findings for hooks that still differ from the request although the provider accepted the update.
    pub unrepaired: Vec<HookFinding>,
    /// Ids of hooks that were deleted or released.
    pub absent: Vec<String>,
    /// Targets where no hook of ours is left.
    pub cleared: Vec<HookTarget>,
    /// Targets whose hooks were left behind. They are recorded as leftovers as far as there was room.
    pub recorded: Vec<HookTarget>,
    /// The subset of `recorded` for which there was no room.
    pub unrecorded: Vec<HookTarget>,
    /// The first failure at a provider.
    pub failure: Option<Failure>,
    /// Whether any hook was changed at a provider.
    pub changed_hooks: bool,
}

impl Outcome {
    /// An outcome without any change.
    #[must_use]
    pub const fn nothing(object: Arc<RepoBinding>) -> Self {
        Self {
            object,
            gone: false,
            announced: None,
            present: Vec::new(),
            created: Vec::new(),
            ambiguous_creates: Vec::new(),
            updated: Vec::new(),
            unrepaired: Vec::new(),
            absent: Vec::new(),
            cleared: Vec::new(),
            recorded: Vec::new(),
            unrecorded: Vec::new(),
            failure: None,
            changed_hooks: false,
        }
    }
}

/// A failure at a provider.
#[derive(Debug)]
pub struct Failure {
    /// The provider's error.
    pub error: ProviderError,
    /// Whether it occurred while hooks at a cleanup target were removed.
    pub clearing: bool,
    /// Whether the binding may see the provider's error.
    pub told: bool,
}

impl Failure {
    /// Replaces the error's text if the binding may not see it.
    fn for_binding(mut self) -> Self {
        if !self.told {
            let retry_at = self.error.retry_at;
            self.error = ProviderError { retry_at, ..ProviderError::new(self.error.kind, "remove hook", UNTOLD) };
        }
        self
    }
}

/// Executes the actions in order.
///
/// # Errors
/// Errors of the API server. Errors of a provider are in the outcome.
pub async fn apply(context: &Context, facts: &Facts, plan: &Plan) -> Result<Outcome, Error> {
    let mut outcome = Outcome::nothing(Arc::clone(&facts.object));
    if plan.finalizer_action == FinalizerAction::Add {
        let held = finalizer::add(&context.client, &*outcome.object).await?;
        context.writes.note(&held);
        outcome.object = Arc::new(held);
    }
    for action in &plan.actions {
        if let Err(failure) = execute(context, facts, action, &mut outcome).await? {
            warn!(
                namespace = facts.object.namespace(),
                name = facts.object.name_any(),
                error = %failure.error,
                kind = ?failure.error.kind,
                "provider refused"
            );
            outcome.failure = Some(failure.for_binding());
            break;
        }
    }
    if outcome.failure.is_none() {
        finish(context, facts, plan, &mut outcome).await?;
    }
    for target in report::surplus_targets(facts, plan, &outcome) {
        // Drops a target that somebody else wrote into the status, without a leftover entry.
        if !facts.seal.is_on(&target) {
            outcome.cleared.push(target);
            continue;
        }
        record(context, facts, &target, "the binding moved so often that its status has no room for this target", &mut outcome).await?;
    }
    Ok(outcome)
}

async fn finish(context: &Context, facts: &Facts, plan: &Plan, outcome: &mut Outcome) -> Result<(), Error> {
    let listed = facts.targets.iter().filter(|cleanup_target| matches!(cleanup_target.hooks, Ok(_) | Err(Obstacle::NotHeld)));
    let listed = listed.map(|cleanup_target| cleanup_target.target.clone());
    outcome.cleared.extend(listed);
    match plan.finalizer_action {
        FinalizerAction::Keep | FinalizerAction::Add => {}
        FinalizerAction::RemoveAndForget => {
            finalizer::remove(&context.client, &*outcome.object).await?;
            outcome.gone = true;
            let uid = facts.object.uid().unwrap_or_default();
            locked(&context.view.probes).remove(&uid);
            locked(&context.view.evidence).remove(&uid);
            locked(&context.view.attempts).remove(&uid);
            context.writes.forget(&uid);
            context.backoff.succeed(&uid);
            info!(namespace = facts.object.namespace(), name = facts.object.name_any(), "binding let go");
        }
        FinalizerAction::Remove => match finalizer::remove(&context.client, &*outcome.object).await? {
            Some(object) => {
                context.writes.note(&object);
                outcome.object = Arc::new(object);
            }
            None => outcome.gone = true,
        },
    }
    Ok(())
}

/// Executes one action. The outer error is the API server's, the inner one a provider's.
async fn execute(context: &Context, facts: &Facts, action: &Action, outcome: &mut Outcome) -> Result<Result<(), Failure>, Error> {
    let uid = facts.object.uid().unwrap_or_default();
    Ok(match action {
        Action::PublishSecret(secret, accepted) => {
            let namespace = facts.object.namespace().unwrap_or_default();
            let published = user_secret::publish(context, &namespace, &uid, secret, accepted).await?;
            published.map_err(|error| Failure { error, clearing: false, told: true })
        }
        Action::WithdrawSecret => {
            user_secret::withdraw(context, &uid).await?;
            Ok(())
        }
        Action::Announce(target) => {
            outcome.object = announce(context, facts, &outcome.object, target).await?;
            outcome.announced = Some(target.clone());
            Ok(())
        }
        Action::Hook(action) => match current_target(facts) {
            Some(repository) => {
                let cause = Cause::of(action, &facts.object, false);
                let changed = apply_hook_action(context, facts, At::Present(repository), action, cause, outcome).await;
                changed.map_err(|error| Failure { error, clearing: false, told: true })
            }
            None => Ok(()),
        },
        Action::Clear(position, action) => match cleanup_target(facts, *position) {
            Some((cleanup_target, owned_hooks)) => {
                let cause = Cause::of(action, &facts.object, true);
                let changed = apply_hook_action(context, facts, At::Former(owned_hooks), action, cause, outcome).await;
                changed.map_err(|error| Failure { error, clearing: true, told: cleanup_target.told })
            }
            None => Ok(()),
        },
        Action::Record(position, why) => {
            if let Some(cleanup_target) = facts.targets.get(*position).filter(|cleanup_target| cleanup_target.held) {
                record(context, facts, &cleanup_target.target, why, outcome).await?;
            }
            Ok(())
        }
    })
}

/// Records the target and the repository in the status before a hook is created, because the hook's first delivery may arrive
/// before the next status write. The first status that an installation writes also claims the object.
async fn announce(context: &Context, facts: &Facts, object: &Arc<RepoBinding>, target: &HookTarget) -> Result<Arc<RepoBinding>, Error> {
    let mut announced = facts.object.status.clone().unwrap_or_default();
    announced.installation = Some(facts.fingerprint.clone());
    announced.repository = report::found_repository(facts).or(announced.repository);
    announced.webhook.get_or_insert_default().former_targets.push(target.clone());
    Ok(status::put(context, &**object, &announced).await?.map_or_else(|| Arc::clone(object), Arc::new))
}

fn current_target(facts: &Facts) -> Option<&GrantedRepository> {
    facts.probe.as_ref()?.repository.found()
}

fn cleanup_target(facts: &Facts, position: usize) -> Option<(&CleanupTarget, &OwnedHooks)> {
    let cleanup_target = facts.targets.get(position)?;
    Some((cleanup_target, cleanup_target.hooks.as_ref().ok()?))
}

/// Location of a hook change, with the permit for it.
#[derive(Clone, Copy)]
enum At<'a> {
    /// The repository that the spec names.
    Present(&'a GrantedRepository),
    /// A cleanup target.
    Former(&'a OwnedHooks),
}

impl At<'_> {
    fn path(&self) -> &str {
        match self {
            Self::Present(repository) => repository.path.as_str(),
            Self::Former(owned_hooks) => owned_hooks.path(),
        }
    }

    async fn create(&self, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        match self {
            Self::Present(repository) => repository.create_hook(request).await,
            Self::Former(_) => Err(ProviderError::new(ErrorKind::Rejected, "create hook", "nothing is made at a target that is left")),
        }
    }

    async fn update(&self, id: &str, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        match self {
            Self::Present(repository) => repository.update_hook(id, request).await,
            Self::Former(_) => Err(ProviderError::new(ErrorKind::Rejected, "update hook", "nothing is kept at a target that is left")),
        }
    }

    async fn release(&self, id: &str, release: &HookRelease<'_>) -> Result<(), ProviderError> {
        match self {
            Self::Present(repository) => repository.release_hook(id, release).await,
            Self::Former(owned_hooks) => owned_hooks.release(id, release).await,
        }
    }

    async fn delete(&self, id: &str) -> Result<Deletion, ProviderError> {
        match self {
            Self::Present(repository) => repository.delete_hook(id).await,
            Self::Former(owned_hooks) => owned_hooks.delete(id).await,
        }
    }
}

async fn apply_hook_action(
    context: &Context,
    facts: &Facts,
    at: At<'_>,
    action: &HookAction,
    cause: Cause,
    outcome: &mut Outcome,
) -> Result<(), ProviderError> {
    let (label, id) = match action {
        HookAction::Create(intent) => {
            let answer = at.create(&request(intent)).await;
            if answer.as_ref().is_err_and(|error| error.kind.is_ambiguous()) {
                outcome.ambiguous_creates.push(intent.shape.variant.clone());
            }
            let hook = answer?;
            outcome.created.push(intent.shape.variant.clone());
            outcome.present.push(existing(facts, &hook, intent, false));
            ("create", hook.id)
        }
        HookAction::Update { id, intent, adopted, .. } => {
            let hook = at.update(id, &request(intent)).await?;
            outcome.updated.push(intent.shape.variant.clone());
            outcome.unrepaired.extend(differs_still(&hook, intent));
            outcome.present.push(existing(facts, &hook, intent, *adopted));
            ("update", hook.id)
        }
        HookAction::Delete { id, .. } => {
            if at.delete(id).await? == Deletion::Hidden {
                let message = "the provider hides the hook from this credential, so nobody knows whether it is gone";
                return Err(ProviderError::new(ErrorKind::PermissionDenied, "delete hook", message));
            }
            outcome.absent.push(id.clone());
            ("delete", id.clone())
        }
        HookAction::Release { id, url, shape } => {
            let released = at.release(id, &HookRelease { url, secret: facts.secret_to_hand_back(url), shape }).await;
            released.map_err(|error| naming_own_secret(error, &facts.object))?;
            outcome.absent.push(id.clone());
            ("update", id.clone())
        }
    };
    outcome.changed_hooks = true;
    context.metrics.hook_changes.get_or_create(&HookChange { action: label, cause: cause.label() }).inc();
    info!(
        namespace = facts.object.namespace(),
        name = facts.object.name_any(),
        repository = at.path(),
        hook = id,
        action = label,
        cause = cause.label(),
        "hook changed"
    );
    Ok(())
}

/// Replaces the placeholder for the owner's Secret in an error by that Secret's name.
fn naming_own_secret(mut error: ProviderError, object: &RepoBinding) -> ProviderError {
    if let Some(reference) = object.spec.webhook.as_ref().and_then(|webhook| webhook.secret_ref.as_ref()) {
        let named = format!("Secret {}/{} (webhook.secretRef)", object.namespace().unwrap_or_default(), reference.name);
        error.message = error.message.replace(HookRelease::SECRET, &named);
    }
    error
}

const fn request(intent: &HookIntent) -> HookRequest<'_> {
    HookRequest { url: &intent.url, secret: &intent.secret, shape: &intent.shape }
}

/// Returns a finding if the provider's answer to an update shows that the hook still differs from the intent.
fn differs_still(hook: &Hook, intent: &HookIntent) -> Option<HookFinding> {
    let mut fields = hook.drift(&intent.shape);
    if hook.url != intent.url {
        fields.push("url");
    }
    (!fields.is_empty()).then(|| did_not_last(&hook.id, &fields, 1, "it is repaired again, with growing pauses"))
}

/// The hook as the provider returned it. It may deliver more events than requested, which the next probe finds too.
fn existing(facts: &Facts, hook: &Hook, intent: &HookIntent, adopted: bool) -> ExistingHook {
    let address = facts.identity.masked_url(&intent.url);
    ExistingHook { id: hook.id.clone(), events: hook.shape.events.clone(), secret_version: intent.secret_version.clone(), adopted, address }
}

async fn record(context: &Context, facts: &Facts, target: &HookTarget, why: &str, outcome: &mut Outcome) -> Result<(), Error> {
    let object = &facts.object;
    let webhook = object.webhook_status();
    let hooks =
        webhook.filter(|webhook| webhook.target.as_ref() == Some(target)).map(|webhook| webhook.hooks.as_slice()).unwrap_or_default();
    let left = |hook: &HookStatus| LeftoverHook { id: hook.id.clone(), host: target.host.clone(), adopted: hook.adopted };
    let entry = Leftover {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        connection: target.connection.clone(),
        repository: target.repository.clone(),
        repository_id: target.repository_id.clone(),
        hooks: hooks.iter().map(left).collect(),
        hand_back: !object.tells_of_hooks() && object.spec.webhook.as_ref().is_some_and(|webhook| webhook.adopt),
        reason: why.to_owned(),
        since: facts.now,
    };
    let key = Leftover::key(&object.uid().unwrap_or_default(), target);
    if leftovers::record(context, &key, &entry).await? == Noted::NoRoom {
        outcome.unrecorded.push(target.clone());
    }
    outcome.recorded.push(target.clone());
    Ok(())
}
