//! Where hooks were made that are to go: what is there, and what stands against their removal.

use futures::StreamExt as _;
use url::Url;

use super::{Observation, custom_url};
use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};
use crate::controllers::binding::ownership::host_of;
use crate::controllers::binding::plan;
use crate::controllers::sessions::{Trouble, Working};
use crate::controllers::{View, left_to_another};
use crate::providers::{Disposition, ErrorKind, Hook, PathError, ProviderError, Repository};

/// A place where hooks were made that are to go.
pub struct Place {
    /// Which place.
    pub target: HookTarget,
    /// The repository and its hooks.
    pub hooks: Result<(Repository, Vec<Hook>), Obstacle>,
    /// Its client.
    pub working: Option<Working>,
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
    let session = view.sessions.get(&target.connection);
    let working = session.as_ref().and_then(|session| session.working.clone());
    let hooks = match (&session, &working) {
        (None, _) => Err(missing_session(view, &target.connection)),
        (Some(session), None) => Err(session.trouble.as_ref().map_or(Obstacle::Pending, Obstacle::of_trouble)),
        (Some(session), Some(working)) => match list(working, &target).await {
            Ok(found) => Ok(found),
            Err(error) => {
                let news = error.kind.disposition().concerns_connection();
                if news && session.trouble.is_none() && view.sessions.suspect(&target.connection) {
                    view.triggers.connection(&target.connection);
                }
                let gone = error.kind == ErrorKind::NotFound && is_gone(working, &target).await;
                Err(if gone { Obstacle::Gone(error.to_string()) } else { Obstacle::of(&error) })
            }
        },
    };
    // What the last attempt at the removal itself met counts where the list alone shows nothing wrong.
    let hooks = match (&hooks, observation.memory.as_ref().and_then(|memory| memory.obstacle.clone())) {
        (Ok(_), Some(obstacle)) if plan::places::is_past_bound(observation, &obstacle) => Err(obstacle),
        _ => hooks,
    };
    Place { target, hooks, working }
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

async fn list(working: &Working, target: &HookTarget) -> Result<(Repository, Vec<Hook>), ProviderError> {
    let by_id = if target.repository_id.is_empty() || !working.inspection.capabilities.lookup_by_id {
        None
    } else {
        working.client.repository_by_id(&target.repository_id).await?
    };
    let repository = if let Some(repository) = by_id {
        repository
    } else {
        let gone = |error: PathError| ProviderError::new(ErrorKind::NotFound, "find repository", error.to_string());
        let path = working.provider.repository_path(&working.endpoint, &target.repository).map_err(gone)?;
        working.client.repository(&path).await?
    };
    let hooks = working.client.hooks(&repository).await?;
    Ok((repository, hooks))
}

/// Whether the owner's list, read to its end, tells that a repository is not there. A list that shows nothing at all tells
/// nothing: a credential that sees none of the owner's repositories gets the same one.
pub async fn is_gone(working: &Working, target: &HookTarget) -> bool {
    // Another repository under the same path is not the one that is meant.
    let is_meant = |repository: &Repository| match target.repository_id.as_str() {
        "" => repository.path.same_as(&target.repository),
        id => repository.id == id,
    };
    let mut pages = working.client.repositories();
    let mut shown = false;
    while let Some(page) = pages.next().await {
        match page {
            Ok(page) if page.iter().any(is_meant) => return false,
            Ok(page) => shown |= !page.is_empty(),
            Err(_) => return false,
        }
    }
    shown
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
    }
}
