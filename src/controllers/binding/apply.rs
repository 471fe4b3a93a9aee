//! Does what was planned for a binding: in order, stopping at the first failure.

use std::sync::Arc;

use kube::ResourceExt as _;
use tracing::{info, warn};

use super::cause::Cause;
use super::hooks::repair::did_not_last;
use super::hooks::{HookAction, HookFinding, HookIntent, Kept};
use super::observe::{Connection, Observation};
use super::plan::{Action, Hold, Plan};
use super::{report, user_secret};
use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::{HookStatus, HookTarget};
use crate::controllers::leftovers::{self, Leftover, LeftoverHook, Noted};
use crate::controllers::metrics::HookChange;
use crate::controllers::{Context, Error, finalizer, locked};
use crate::providers::{Client, Deletion, ErrorKind, Hook, HookRelease, HookRequest, ProviderError, Repository};

/// What came of it.
pub struct Outcome {
    /// The object as it is now.
    pub object: Arc<RepoBinding>,
    /// Whether our part of it is over.
    pub gone: bool,
    /// Hooks that are there beside the kept ones, or in their place.
    pub present: Vec<Kept>,
    /// Parts for which a hook was created.
    pub created: Vec<String>,
    /// Parts for which the answer to a creation was lost.
    pub unanswered: Vec<String>,
    /// Parts whose hook was changed.
    pub updated: Vec<String>,
    /// What is said of hooks that the provider did not make what it was asked for, although it accepted the change.
    pub unrepaired: Vec<HookFinding>,
    /// Ids of hooks that are gone.
    pub absent: Vec<String>,
    /// Places where nothing of ours is left.
    pub cleared: Vec<HookTarget>,
    /// Places whose hooks were left behind: written down, as far as there was room.
    pub recorded: Vec<HookTarget>,
    /// Those of them for which there was no room.
    pub unrecorded: Vec<HookTarget>,
    /// The first failure.
    pub failure: Option<Failure>,
    /// Whether anything was changed at a provider.
    pub changed_hooks: bool,
}

impl Outcome {
    /// Nothing was done yet, or nothing is to be done.
    #[must_use]
    pub const fn nothing(object: Arc<RepoBinding>) -> Self {
        Self {
            object,
            gone: false,
            present: Vec::new(),
            created: Vec::new(),
            unanswered: Vec::new(),
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
    /// What the provider said.
    pub error: ProviderError,
    /// Whether it was met while hooks of another place were removed.
    pub clearing: bool,
}

/// Takes the actions in order.
///
/// # Errors
/// What the API server said. What a provider said is in the outcome.
pub async fn apply(context: &Context, observation: &Observation, plan: &Plan) -> Result<Outcome, Error> {
    let mut outcome = Outcome::nothing(Arc::clone(&observation.object));
    if plan.hold == Hold::Set {
        let held = finalizer::add(&context.client, &*outcome.object).await?;
        context.writes.note(&held);
        outcome.object = Arc::new(held);
    }
    for action in &plan.actions {
        if let Err(failure) = take(context, observation, action, &mut outcome).await? {
            warn!(
                namespace = observation.object.namespace(),
                name = observation.object.name_any(),
                error = %failure.error,
                kind = ?failure.error.kind,
                "provider refused"
            );
            outcome.failure = Some(failure);
            break;
        }
    }
    if outcome.failure.is_none() {
        finish(context, observation, plan, &mut outcome).await?;
    }
    for target in report::surplus_targets(observation, plan, &outcome) {
        record(context, observation, &target, "the binding moved so often that its status has no room for this place", &mut outcome)
            .await?;
    }
    Ok(outcome)
}

async fn finish(context: &Context, observation: &Observation, plan: &Plan, outcome: &mut Outcome) -> Result<(), Error> {
    let listed = observation.places.iter().filter(|place| place.hooks.is_ok()).map(|place| place.target.clone());
    outcome.cleared.extend(listed);
    match plan.hold {
        Hold::Keep | Hold::Set => {}
        Hold::Remove => {
            finalizer::remove(&context.client, &*outcome.object).await?;
            outcome.gone = true;
            let uid = observation.object.uid().unwrap_or_default();
            locked(&context.view.looks).remove(&uid);
            locked(&context.view.evidence).remove(&uid);
            locked(&context.view.attempts).remove(&uid);
            context.writes.forget(&uid);
            context.backoff.succeed(&uid);
            info!(namespace = observation.object.namespace(), name = observation.object.name_any(), "binding let go");
        }
        Hold::Release => match finalizer::remove(&context.client, &*outcome.object).await? {
            Some(object) => {
                context.writes.note(&object);
                outcome.object = Arc::new(object);
            }
            None => outcome.gone = true,
        },
    }
    Ok(())
}

/// Takes one action. The outer error is the API server's, the inner one a provider's.
async fn take(context: &Context, observation: &Observation, action: &Action, outcome: &mut Outcome) -> Result<Result<(), Failure>, Error> {
    let uid = observation.object.uid().unwrap_or_default();
    Ok(match action {
        Action::PublishSecret(secret, accepted) => {
            user_secret::publish(context, &uid, secret, accepted).await?;
            Ok(())
        }
        Action::WithdrawSecret => {
            user_secret::withdraw(context, &uid).await?;
            Ok(())
        }
        Action::Hook(action) => match here(observation) {
            Some((client, repository)) => {
                let cause = Cause::of(action, &observation.object, false);
                let changed = change(context, observation, client, repository, action, cause, outcome).await;
                changed.map_err(|error| Failure { error, clearing: false })
            }
            None => Ok(()),
        },
        Action::Clear(position, action) => match there(observation, *position) {
            Some((client, repository)) => {
                let cause = Cause::of(action, &observation.object, true);
                let changed = change(context, observation, client, repository, action, cause, outcome).await;
                changed.map_err(|error| Failure { error, clearing: true })
            }
            None => Ok(()),
        },
        Action::Record(position, why) => {
            if let Some(place) = observation.places.get(*position) {
                record(context, observation, &place.target, why, outcome).await?;
            }
            Ok(())
        }
    })
}

fn here(observation: &Observation) -> Option<(&dyn Client, &Repository)> {
    let Connection::Ready { working, .. } = &observation.connection else { return None };
    let repository = observation.look.as_ref()?.repository.as_ref().ok()?;
    Some((&*working.client, repository))
}

fn there(observation: &Observation, position: usize) -> Option<(&dyn Client, &Repository)> {
    let place = observation.places.get(position)?;
    let (repository, _) = place.hooks.as_ref().ok()?;
    Some((&*place.working.as_ref()?.client, repository))
}

async fn change(
    context: &Context,
    observation: &Observation,
    client: &dyn Client,
    repository: &Repository,
    action: &HookAction,
    cause: Cause,
    outcome: &mut Outcome,
) -> Result<(), ProviderError> {
    let (label, id) = match action {
        HookAction::Create(intent) => {
            let answer = client.create_hook(repository, &request(intent)).await;
            if answer.as_ref().is_err_and(|error| error.kind.is_ambiguous()) {
                outcome.unanswered.push(intent.shape.part.clone());
            }
            let hook = answer?;
            outcome.created.push(intent.shape.part.clone());
            outcome.present.push(kept(observation, &hook, intent, false));
            ("create", hook.id)
        }
        HookAction::Update { id, intent, adopted, .. } => {
            let hook = client.update_hook(repository, id, &request(intent)).await?;
            outcome.updated.push(intent.shape.part.clone());
            outcome.unrepaired.extend(differs_still(&hook, intent));
            outcome.present.push(kept(observation, &hook, intent, *adopted));
            ("update", hook.id)
        }
        HookAction::Delete { id, .. } => {
            if client.delete_hook(repository, id).await? == Deletion::Hidden {
                let message = "the provider hides the hook from this credential, so nobody knows whether it is gone";
                return Err(ProviderError::new(ErrorKind::PermissionDenied, "delete hook", message));
            }
            outcome.absent.push(id.clone());
            ("delete", id.clone())
        }
        HookAction::Release { id, url, shape } => {
            client.release_hook(repository, id, &HookRelease { url, secret: observation.brought_secret(), shape }).await?;
            outcome.absent.push(id.clone());
            ("update", id.clone())
        }
    };
    outcome.changed_hooks = true;
    context.metrics.hook_changes.get_or_create(&HookChange { action: label, cause: cause.label() }).inc();
    info!(
        namespace = observation.object.namespace(),
        name = observation.object.name_any(),
        repository = %repository.path,
        hook = id,
        action = label,
        cause = cause.label(),
        "hook changed"
    );
    Ok(())
}

const fn request(intent: &HookIntent) -> HookRequest<'_> {
    HookRequest { url: &intent.url, secret: &intent.secret, shape: &intent.shape }
}

/// What is said of a hook that is not what it was to become, as the answer to its update shows it.
fn differs_still(hook: &Hook, intent: &HookIntent) -> Option<HookFinding> {
    let mut fields = hook.drift(&intent.shape);
    if hook.url != intent.url {
        fields.push("url");
    }
    (!fields.is_empty()).then(|| did_not_last(&hook.id, &fields, 1, "it is repaired again, with growing pauses"))
}

/// A hook as the provider answered that it is now: it may deliver more than was asked for, which the next look finds, too.
fn kept(observation: &Observation, hook: &Hook, intent: &HookIntent, adopted: bool) -> Kept {
    let address = observation.ownership.masked_url(&intent.url);
    Kept { id: hook.id.clone(), events: hook.shape.events.clone(), generation: intent.generation.clone(), adopted, address }
}

async fn record(context: &Context, observation: &Observation, target: &HookTarget, why: &str, outcome: &mut Outcome) -> Result<(), Error> {
    let object = &observation.object;
    let webhook = object.status.as_ref().and_then(|status| status.webhook.as_ref());
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
        hand_back: webhook.is_none() && object.spec.webhook.as_ref().is_some_and(|webhook| webhook.adopt),
        reason: why.to_owned(),
        since: observation.now,
    };
    let key = Leftover::key(&object.uid().unwrap_or_default(), target);
    if leftovers::record(context, &key, &entry).await? == Noted::NoRoom {
        outcome.unrecorded.push(target.clone());
    }
    outcome.recorded.push(target.clone());
    Ok(())
}
