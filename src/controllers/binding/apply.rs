//! Executes the plan of a binding: its steps in order, up to the first failure.

use std::sync::Arc;

use kube::ResourceExt as _;
use tracing::{info, warn};

use super::cause::Cause;
use super::facts::Facts;
use super::hooks::{ExistingHook, HookAction, HookFinding, HookIntent, did_not_last};
use super::outcome::{Failure, Outcome};
use super::plan::{FinalizerStep, Plan, PlanStep};
use super::snapshot::Snapshot;
use super::{cleanup, shard_store, sink_secrets, user_secret};
use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::HookTarget;
use crate::controllers::gate::{GrantedRepository, OwnedHooks};
use crate::controllers::leftovers::{self, Leftover, Noted};
use crate::controllers::metrics::HookChange;
use crate::controllers::runtime::status;
use crate::controllers::{Context, Error};
use crate::k8s::finalizer;
use crate::providers::{Deletion, ErrorKind, Hook, HookRelease, HookRequest, ProviderError};

/// Executes the steps in order. Errors of a provider are in the outcome.
pub async fn apply(context: &Context, facts: &Facts, plan: &Plan) -> Result<Outcome, Error> {
    let object = &facts.snapshot.object;
    let mut outcome = Outcome::nothing(Arc::clone(object));
    if plan.finalizer_step == FinalizerStep::Add {
        let held = finalizer::add(&context.client, &*outcome.object).await?;
        context.writes.note(&held);
        outcome.object = Arc::new(held);
    }
    for step in &plan.steps {
        if let Err(failure) = execute(context, facts, step, &mut outcome).await? {
            warn!(
                namespace = object.namespace(),
                name = object.name_any(),
                error = %failure.error,
                kind = ?failure.error.kind,
                "provider refused"
            );
            outcome.failure = Some(failure.for_binding());
            break;
        }
    }
    if outcome.failure.is_none() {
        let listed = facts.targets.iter().filter(|cleanup_target| cleanup_target.is_listed());
        outcome.cleared.extend(listed.map(|cleanup_target| cleanup_target.target.clone()));
        remove_finalizer(context, plan, &mut outcome).await?;
    }
    for target in outcome.surplus_targets(object, plan) {
        // Drops a target that somebody else wrote into the status, without a leftover entry.
        if !facts.snapshot.seal.is_on(&target) {
            outcome.cleared.push(target);
            continue;
        }
        let why = "the binding moved so often that its status has no room for this target";
        record(context, &facts.snapshot, &target, why, &mut outcome).await?;
    }
    Ok(outcome)
}

async fn remove_finalizer(context: &Context, plan: &Plan, outcome: &mut Outcome) -> Result<(), Error> {
    match plan.finalizer_step {
        FinalizerStep::Keep | FinalizerStep::Add => {}
        FinalizerStep::RemoveAndForget => {
            finalizer::remove(&context.client, &*outcome.object).await?;
            outcome.gone = true;
            info!(namespace = outcome.object.namespace(), name = outcome.object.name_any(), "binding released");
        }
        FinalizerStep::Remove => match finalizer::remove(&context.client, &*outcome.object).await? {
            Some(object) => {
                context.writes.note(&object);
                outcome.object = Arc::new(object);
            }
            None => outcome.gone = true,
        },
    }
    Ok(())
}

/// Executes one step. The outer error is the API server's, the inner one a provider's.
async fn execute(context: &Context, facts: &Facts, step: &PlanStep, outcome: &mut Outcome) -> Result<Result<(), Failure>, Error> {
    let snapshot = &facts.snapshot;
    let uid = snapshot.object.uid().unwrap_or_default();
    Ok(match step {
        PlanStep::PublishSecret(secret, accepted) => {
            let namespace = snapshot.object.namespace().unwrap_or_default();
            let published = user_secret::publish(context, &namespace, &uid, secret, accepted).await?;
            published.map_err(|error| Failure { error, clearing: false, told: true })
        }
        PlanStep::PublishSinkSecrets => {
            // Too little room is a finding of these sinks: hooks and webhook secrets do not wait for it.
            outcome.without_room = sink_secrets::publish(context, &snapshot.object, &snapshot.prepared_sinks).await?;
            Ok(())
        }
        PlanStep::WithdrawSecret => {
            shard_store::withdraw(context, &uid).await?;
            Ok(())
        }
        PlanStep::Announce(target) => {
            outcome.object = announce(context, facts, &outcome.object, target).await?;
            outcome.announced = Some(target.clone());
            Ok(())
        }
        PlanStep::Hook { repository, action } => {
            let cause = Cause::of(action, &snapshot.object, false);
            let changed = apply_hook_action(context, snapshot, At::Present(repository), action, cause, outcome).await;
            changed.map_err(|error| Failure { error, clearing: false, told: true })
        }
        PlanStep::Clear { hooks, told, action } => {
            let cause = Cause::of(action, &snapshot.object, true);
            let changed = apply_hook_action(context, snapshot, At::Former(hooks), action, cause, outcome).await;
            changed.map_err(|error| Failure { error, clearing: true, told: *told })
        }
        PlanStep::Record { target, why } => {
            record(context, snapshot, target, why, outcome).await?;
            Ok(())
        }
    })
}

/// Records the target and the repository in the status before a hook is created, because the hook's first delivery may arrive
/// before the next status write. The first status that an installation writes also claims the object.
async fn announce(context: &Context, facts: &Facts, object: &Arc<RepoBinding>, target: &HookTarget) -> Result<Arc<RepoBinding>, Error> {
    let mut announced = facts.snapshot.object.status.clone().unwrap_or_default();
    announced.installation = Some(facts.snapshot.fingerprint.clone());
    announced.repository = facts.found_status().or(announced.repository);
    announced.webhook.get_or_insert_default().former_targets.push(target.clone());
    Ok(status::put(context, &**object, &announced).await?.map_or_else(|| Arc::clone(object), Arc::new))
}

async fn record(context: &Context, snapshot: &Snapshot, target: &HookTarget, why: &str, outcome: &mut Outcome) -> Result<(), Error> {
    let key = Leftover::key(&snapshot.object.uid().unwrap_or_default(), target);
    if leftovers::record(context, &key, &cleanup::leftover(snapshot, target, why)).await? == Noted::NoRoom {
        outcome.unrecorded.push(target.clone());
    }
    outcome.recorded.push(target.clone());
    Ok(())
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
            Self::Former(_) => Err(ProviderError::new(
                ErrorKind::Rejected,
                "create \
                                                                            hook",
                "no hook is created at a target that the binding has left",
            )),
        }
    }

    async fn update(&self, id: &str, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        match self {
            Self::Present(repository) => repository.update_hook(id, request).await,
            Self::Former(_) => Err(ProviderError::new(
                ErrorKind::Rejected,
                "update \
                                                                            hook",
                "no hook is updated at a target that the binding has left",
            )),
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
    snapshot: &Snapshot,
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
            outcome.present.push(existing(snapshot, &hook, intent, false));
            ("create", hook.id)
        }
        HookAction::Update { id, intent, adopted, .. } => {
            let hook = at.update(id, &request(intent)).await?;
            outcome.updated.push(intent.shape.variant.clone());
            outcome.unrepaired.extend(differs_still(&hook, intent));
            outcome.present.push(existing(snapshot, &hook, intent, *adopted));
            ("update", hook.id)
        }
        HookAction::Delete { id, .. } => {
            if at.delete(id).await? == Deletion::Hidden {
                let message = "the provider hides the hook from this credential, so it is not known whether it was deleted";
                return Err(ProviderError::new(ErrorKind::PermissionDenied, "delete hook", message));
            }
            outcome.absent.push(id.clone());
            ("delete", id.clone())
        }
        HookAction::Release { id, url, shape } => {
            let released = at.release(id, &HookRelease { url, secret: snapshot.secret_to_hand_back(url), shape }).await;
            released.map_err(|error| naming_own_secret(error, &snapshot.object))?;
            outcome.absent.push(id.clone());
            ("update", id.clone())
        }
    };
    outcome.changed_hooks = true;
    context.metrics.hook_changes.get_or_create(&HookChange { action: label, cause: cause.label() }).inc();
    info!(
        namespace = snapshot.object.namespace(),
        name = snapshot.object.name_any(),
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
    (!fields.is_empty()).then(|| did_not_last(&hook.id, &fields, 1, "it is repaired again, with increasing delays"))
}

/// The hook as the provider returned it. It may deliver more events than requested, which the next probe finds too.
fn existing(snapshot: &Snapshot, hook: &Hook, intent: &HookIntent, adopted: bool) -> ExistingHook {
    let address = snapshot.identity.masked_url(&intent.url);
    ExistingHook { id: hook.id.clone(), events: hook.shape.events.clone(), secret_version: intent.secret_version.clone(), adopted, address }
}
