//! Reads former hook locations and what blocks their cleanup.

use kube::ResourceExt as _;
use url::Url;

use super::Facts;
use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};
use crate::controllers::binding::ownership::{HookIdentity, host_of};
use crate::controllers::binding::plan;
use crate::controllers::gate::{self, ActiveClient, CleanupPermit, OwnedHooks, RepositoryLookup, UsePermit};
use crate::controllers::sessions::ConditionFailure;
use crate::controllers::{View, foreign_owner_message};
use crate::providers::{Disposition, ErrorKind, ProviderError};

/// Message about a removal for a binding without a grant for the target, whatever the obstacle is.
pub const UNTOLD: &str = "the connection no longer allows this binding, and its hook could not be removed yet";

/// A target with hooks that must be removed.
pub struct CleanupTarget {
    /// The target.
    pub target: HookTarget,
    /// Whether this installation sealed the target, because hooks exist there or were about to be created. Only then may hooks be
    /// recorded as leftovers.
    pub held: bool,
    /// Whether the binding may see errors from the target.
    pub told: bool,
    /// The binding's own hooks at the target, or the obstacle to reading them.
    pub hooks: Result<OwnedHooks, Obstacle>,
}

/// Obstacle to the removal of hooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The connection was not inspected yet.
    Pending,
    /// There is no credential that works, for this reason.
    Credential(String),
    /// The provider is out of reach, for this reason.
    Outage(String),
    /// The repository no longer exists, according to its owner's list.
    Gone(String),
    /// An obstacle that the binding may not see, because it has no grant for the target.
    Untold,
    /// Nothing shows that this installation ever held a hook there, so the provider is not asked.
    NotHeld,
}

impl Obstacle {
    /// Maps a provider error to an obstacle. A 404 does not prove anything: a repository that is hidden from a credential looks
    /// like one that is gone.
    #[must_use]
    pub fn of(error: &ProviderError) -> Self {
        Self::by(error.kind.disposition(), error.to_string())
    }

    /// Maps the failure of a connection without a client to an obstacle.
    fn of_failure(failure: &ConditionFailure) -> Self {
        Self::by(failure.disposition, failure.message.clone())
    }

    fn by(disposition: Disposition, why: String) -> Self {
        match disposition {
            Disposition::NotAsked => Self::Pending,
            Disposition::Outage | Disposition::RateLimited | Disposition::ReadOnly | Disposition::ProbeAgain => Self::Outage(why),
            Disposition::CredentialRefused
            | Disposition::CredentialUnusable
            | Disposition::Hidden
            | Disposition::Refused
            | Disposition::Misconfigured => Self::Credential(why),
        }
    }
}

/// Reads a cleanup target with the last working client of its connection.
pub(super) async fn read(view: &View, facts: &Facts, target: HookTarget) -> CleanupTarget {
    let held = facts.seal.is_on(&target);
    let told = facts.out_of_reach().is_none() && gate::may_be_reported(view, &facts.object, &target);
    let hooks = match hooks(view, facts, &target, told).await {
        // The obstacle of the last removal attempt counts even if the list can be read.
        Ok(hooks) => match facts.memory.as_ref().and_then(|memory| memory.obstacle.clone()) {
            Some(_) if !told => {
                let over = plan::cleanup::is_past_bound(facts, &Obstacle::Credential(String::new()));
                if over { Err(Obstacle::Untold) } else { Ok(hooks) }
            }
            Some(obstacle) if plan::cleanup::is_past_bound(facts, &obstacle) => Err(obstacle),
            _ => Ok(hooks),
        },
        Err(Obstacle::Credential(_) | Obstacle::Outage(_)) if !told => Err(Obstacle::Untold),
        Err(obstacle) => Err(obstacle),
    };
    CleanupTarget { target, held, told, hooks }
}

async fn hooks(view: &View, facts: &Facts, target: &HookTarget, told: bool) -> Result<OwnedHooks, Obstacle> {
    let identity = identity(view, facts, &target.connection);
    let cleanup = CleanupPermit::held(&facts.seal, &identity, target);
    let is_over = !told && facts.attempts.was_cleared(target, facts.now);
    if is_over || (cleanup.is_none() && !is_of_spec(facts, target)) {
        return Err(Obstacle::NotHeld);
    }
    let session = view.sessions.get(&target.connection).ok_or_else(|| missing_session(view, &target.connection))?;
    let active_client =
        session.active_client.as_ref().ok_or_else(|| session.failure.as_ref().map_or(Obstacle::Pending, Obstacle::of_failure))?;
    let listed = match &cleanup {
        Some(cleanup) => cleanup.list(active_client).await,
        None => by_grant(view, facts, target, active_client).await?,
    };
    let error = match listed {
        Ok(ours) => return Ok(ours),
        Err(error) => error,
    };
    let news = error.kind.disposition().concerns_connection();
    if news && session.failure.is_none() && view.sessions.request_inspection(&target.connection) {
        view.triggers.connection(&target.connection);
    }
    if error.kind == ErrorKind::NotFound {
        // Without a grant the owner's list is not read: the hooks are treated as those of a missing repository and left for
        // later.
        let gone = if told { is_gone(view, facts, target, active_client).await } else { true };
        if gone {
            return Err(Obstacle::Gone(if told { error.to_string() } else { UNTOLD.to_owned() }));
        }
    }
    Err(Obstacle::of(&error))
}

/// The binding's identity through a connection, as carried by the hooks made through it.
fn identity(view: &View, facts: &Facts, connection: &ConnectionTarget) -> HookIdentity {
    let object = &facts.object;
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    HookIdentity::new(&view.keys, &view.settings, facts.public_url.as_ref().ok(), (&namespace, &name), connection)
}

/// Whether a target is the one that the spec names and the binding has a grant for.
fn is_of_spec(facts: &Facts, target: &HookTarget) -> bool {
    let object = &facts.object;
    facts.granted == Some(true) && *target == target_of_spec(object, facts.public_url.as_ref().ok())
}

/// The permit for a target if the binding has a grant for it.
fn permit(view: &View, facts: &Facts, target: &HookTarget, active_client: &ActiveClient) -> Option<UsePermit> {
    let path = active_client.provider.repository_path(&active_client.endpoint, &target.repository).ok()?;
    UsePermit::granted(view, &facts.object, &target.connection, active_client, &path)
}

/// Lists the hooks at the target that the spec names. Without a grant for it, no hook of ours is there.
async fn by_grant(
    view: &View,
    facts: &Facts,
    target: &HookTarget,
    active_client: &ActiveClient,
) -> Result<Result<OwnedHooks, ProviderError>, Obstacle> {
    let permit = permit(view, facts, target, active_client).ok_or(Obstacle::NotHeld)?;
    match permit.find(view, &facts.object, None).await {
        RepositoryLookup::Found(repository) => Ok(repository.owned_hooks(target, &facts.identity).await),
        RepositoryLookup::OutOfReach(_) => Err(Obstacle::NotHeld),
        RepositoryLookup::Failed(error) => Ok(Err(error)),
    }
}

async fn is_gone(view: &View, facts: &Facts, target: &HookTarget, active_client: &ActiveClient) -> bool {
    match permit(view, facts, target, active_client) {
        Some(permit) => permit.is_gone(&target.repository_id).await,
        None => false,
    }
}

fn missing_session(view: &View, connection: &ConnectionTarget) -> Obstacle {
    let gone = || Obstacle::Credential("the connection is gone, and with it the credential".to_owned());
    match view.connection(connection) {
        None => gone(),
        Some(connection) if foreign_owner_message(&*connection, &view.keys.fingerprint).is_some() => {
            Obstacle::Credential("another installation of Forgebind manages the connection".to_owned())
        }
        Some(_) => Obstacle::Pending,
    }
}

/// The target according to the spec alone, for a binding whose status names none.
#[must_use]
pub fn target_of_spec(object: &RepoBinding, public_url: Option<&Url>) -> HookTarget {
    let url = object.custom_url().or_else(|| public_url.cloned());
    HookTarget {
        connection: object.connection_target(),
        repository_id: String::new(),
        repository: object.spec.repository.clone(),
        host: url.as_ref().map(host_of).unwrap_or_default(),
        seal: None,
    }
}
