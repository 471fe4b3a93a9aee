//! Where hooks were made that are to go: what is there, and what stands against their removal.

use kube::ResourceExt as _;
use url::Url;

use super::{Observation, custom_url};
use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};
use crate::controllers::binding::ownership::{Ownership, host_of};
use crate::controllers::binding::plan;
use crate::controllers::gate::{self, Cleanup, Ours, Sight, Use, Working};
use crate::controllers::sessions::Trouble;
use crate::controllers::{View, left_to_another};
use crate::providers::{Disposition, ErrorKind, ProviderError};

/// What is said of a removal to a binding that has no grant for the place, whatever stands against it.
pub const UNTOLD: &str = "the connection no longer allows this binding, and its hook could not be removed yet";

/// A place where hooks were made that are to go.
pub struct Place {
    /// Which place.
    pub target: HookTarget,
    /// Whether this installation wrote down that hooks are there, or were about to be made. Only then they may be left behind.
    pub held: bool,
    /// Whether what is met there may be told to the binding.
    pub told: bool,
    /// The binding's own hooks there.
    pub hooks: Result<Ours, Obstacle>,
}

/// Why a hook cannot be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Nothing is known of the connection yet.
    Pending,
    /// There is no credential that works.
    Credential(String),
    /// The provider is out of reach.
    Outage(String),
    /// The repository is not there any more, as far as its owner's list tells.
    Gone(String),
    /// Something of which the binding may not be told, because it has no grant for the place.
    Untold,
    /// Nothing shows that this installation ever held a hook there, so nobody looks.
    NotHeld,
}

impl Obstacle {
    /// What an error means for a removal. A 404 tells nothing by itself: what is hidden from a credential looks like what is
    /// gone.
    #[must_use]
    pub fn of(error: &ProviderError) -> Self {
        Self::by(error.kind.disposition(), error.to_string())
    }

    /// What the trouble of a connection that has no client means for a removal.
    fn of_trouble(trouble: &Trouble) -> Self {
        Self::by(trouble.disposition, trouble.message.clone())
    }

    fn by(disposition: Disposition, why: String) -> Self {
        match disposition {
            Disposition::NotAsked => Self::Pending,
            Disposition::Outage | Disposition::RateLimited | Disposition::ReadOnly | Disposition::LookAgain => Self::Outage(why),
            Disposition::CredentialRefused
            | Disposition::CredentialUnusable
            | Disposition::Hidden
            | Disposition::Refused
            | Disposition::Misconfigured => Self::Credential(why),
        }
    }
}

/// Looks at a place that is to be cleared, through whatever client of its connection worked last.
pub(super) async fn place(view: &View, observation: &Observation, target: HookTarget) -> Place {
    let held = observation.seal.is_on(&target);
    let told = observation.departure().is_none() && gate::may_be_told(view, &observation.object, &target);
    let hooks = match hooks(view, observation, &target, told).await {
        // What the last attempt at the removal itself met counts where the list alone shows nothing wrong.
        Ok(hooks) => match observation.memory.as_ref().and_then(|memory| memory.obstacle.clone()) {
            Some(_) if !told => {
                let over = plan::places::is_past_bound(observation, &Obstacle::Credential(String::new()));
                if over { Err(Obstacle::Untold) } else { Ok(hooks) }
            }
            Some(obstacle) if plan::places::is_past_bound(observation, &obstacle) => Err(obstacle),
            _ => Ok(hooks),
        },
        Err(Obstacle::Credential(_) | Obstacle::Outage(_)) if !told => Err(Obstacle::Untold),
        Err(obstacle) => Err(obstacle),
    };
    Place { target, held, told, hooks }
}

async fn hooks(view: &View, observation: &Observation, target: &HookTarget, told: bool) -> Result<Ours, Obstacle> {
    let ownership = ownership(view, observation, &target.connection);
    let cleanup = Cleanup::held(&observation.seal, &ownership, target);
    let is_over = !told && observation.attempts.was_cleared(target, observation.now);
    if is_over || (cleanup.is_none() && !is_of_spec(observation, target)) {
        return Err(Obstacle::NotHeld);
    }
    let session = view.sessions.get(&target.connection).ok_or_else(|| missing_session(view, &target.connection))?;
    let working = session.working.as_ref().ok_or_else(|| session.trouble.as_ref().map_or(Obstacle::Pending, Obstacle::of_trouble))?;
    let listed = match &cleanup {
        Some(cleanup) => cleanup.list(working).await,
        None => by_grant(view, observation, target, working).await?,
    };
    let error = match listed {
        Ok(ours) => return Ok(ours),
        Err(error) => error,
    };
    let news = error.kind.disposition().concerns_connection();
    if news && session.trouble.is_none() && view.sessions.suspect(&target.connection) {
        view.triggers.connection(&target.connection);
    }
    if error.kind == ErrorKind::NotFound {
        // Without a grant nobody reads the owner's list: it is left for later, like what is gone.
        let gone = if told { is_gone(view, observation, target, working).await } else { true };
        if gone {
            return Err(Obstacle::Gone(if told { error.to_string() } else { UNTOLD.to_owned() }));
        }
    }
    Err(Obstacle::of(&error))
}

/// The binding's identity through a connection: the one that its hooks have which were made through it.
fn ownership(view: &View, observation: &Observation, connection: &ConnectionTarget) -> Ownership {
    let object = &observation.object;
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    Ownership::new(&view.keys, &view.settings, observation.public_url.as_ref().ok(), (&namespace, &name), connection)
}

/// Whether a place is the one that the spec names, to a binding whose status knows of none, and that it is granted.
fn is_of_spec(observation: &Observation, target: &HookTarget) -> bool {
    let object = &observation.object;
    observation.granted == Some(true) && *target == place_of_spec(object, observation.public_url.as_ref().ok())
}

/// The permit for a place that a binding has a grant for.
fn permit(view: &View, observation: &Observation, target: &HookTarget, working: &Working) -> Option<Use> {
    let path = working.provider.repository_path(&working.endpoint, &target.repository).ok()?;
    Use::granted(view, &observation.object, &target.connection, working, &path)
}

/// The hooks at the place that the spec names. Where a grant does not lead there, nothing of ours is.
async fn by_grant(
    view: &View,
    observation: &Observation,
    target: &HookTarget,
    working: &Working,
) -> Result<Result<Ours, ProviderError>, Obstacle> {
    let permit = permit(view, observation, target, working).ok_or(Obstacle::NotHeld)?;
    match permit.find(view, &observation.object, None).await {
        Sight::Here(repository) => Ok(repository.ours(target, &observation.ownership).await),
        Sight::Departed(_) => Err(Obstacle::NotHeld),
        Sight::Failed(error) => Ok(Err(error)),
    }
}

async fn is_gone(view: &View, observation: &Observation, target: &HookTarget, working: &Working) -> bool {
    match permit(view, observation, target, working) {
        Some(permit) => permit.is_gone(&target.repository_id).await,
        None => false,
    }
}

fn missing_session(view: &View, connection: &ConnectionTarget) -> Obstacle {
    let gone = || Obstacle::Credential("the connection is gone, and with it the credential".to_owned());
    match view.connection(connection) {
        None => gone(),
        Some(connection) if left_to_another(&*connection, &view.keys.fingerprint).is_some() => {
            Obstacle::Credential("another installation of Forgebind manages the connection".to_owned())
        }
        Some(_) => Obstacle::Pending,
    }
}

/// The place that the spec alone names, for a binding whose status knows of none.
#[must_use]
pub fn place_of_spec(object: &RepoBinding, public_url: Option<&Url>) -> HookTarget {
    let url = custom_url(object).or_else(|| public_url.cloned());
    HookTarget {
        connection: object.connection_target(),
        repository_id: String::new(),
        repository: object.spec.repository.clone(),
        host: url.as_ref().map(host_of).unwrap_or_default(),
        seal: None,
    }
}
