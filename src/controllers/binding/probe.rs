//! Performs every read at the provider: the repository, its branch, its hooks, and our hooks at cleanup targets. Failures are kept
//! as data.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt as _;

use super::obstacle::{Obstacle, UNTOLD};
use super::ownership::HookIdentity;
use super::requested::{is_as_requested, is_same_repository};
use super::snapshot::{Connection, Snapshot};
use super::{conflicts, orphaned_hooks};
use crate::api::v1alpha1::EventKind;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};
use crate::api::v1alpha1::connection::PermissionState;
use crate::controllers::gate::{ActiveClient, CleanupPermit, OutOfReach, OwnedHooks, RepositoryLookup, UsePermit};
use crate::controllers::{View, foreign_owner_message};
use crate::providers::{ErrorKind, Hook, PermissionFinding, ProviderError};

/// Results of a probe of the repository.
pub struct Probe {
    pub repository: RepositoryLookup,
    /// Whether the branch exists; `None` if the spec names none, the repository is empty, or the credential does not work for
    /// the API.
    pub branch: Option<Result<bool, ProviderError>>,
    /// Hooks of the repository; `None` if none are wanted.
    pub hooks: Option<Result<Vec<Hook>, ProviderError>>,
    /// Whether the credential may manage hooks.
    pub manage_webhooks: PermissionFinding,
    /// Ids of orphaned hooks: they deliver to this installation's public URL and belong to none of its bindings, or the status
    /// names them and they belong to another installation. This installation does not remove them.
    pub orphaned_hooks: Vec<String>,
    /// Events of the other bindings that request a hook on the same repository.
    pub siblings: Vec<BTreeSet<EventKind>>,
}

impl Probe {
    /// A probe that found no repository.
    pub fn without_repository(repository: RepositoryLookup) -> Self {
        let manage_webhooks = PermissionFinding::granted();
        Self { repository, branch: None, hooks: None, manage_webhooks, orphaned_hooks: Vec::new(), siblings: Vec::new() }
    }
}

/// Our own hooks at a cleanup target, as they were listed.
pub struct Listing {
    /// The hooks, or the obstacle to reading them.
    pub hooks: Result<Arc<OwnedHooks>, Obstacle>,
    /// Whether the list failed in a way that concerns the connection, which worked at its last inspection.
    pub connection_failed: bool,
}

impl From<Obstacle> for Listing {
    fn from(obstacle: Obstacle) -> Self {
        Self { hooks: Err(obstacle), connection_failed: false }
    }
}

/// Why the repository is out of reach although the spec names a granted path: it was renamed or transferred, or the grant for its
/// present path was withdrawn.
pub fn out_of_reach(snapshot: &Snapshot, probe: Option<&Probe>) -> Option<OutOfReach> {
    match probe.map(|probe| &probe.repository) {
        Some(RepositoryLookup::Found(_)) => None,
        Some(RepositoryLookup::OutOfReach(out_of_reach)) => Some(*out_of_reach),
        _ => snapshot.grant.refuses_known_path.then_some(OutOfReach::WithoutGrant),
    }
}

/// Probes the repository that the spec names; `None` if the connection does not lead to it.
pub async fn probe(view: &View, snapshot: &Snapshot) -> Option<Probe> {
    let Connection::Ready { active_client, permit, path, .. } = &snapshot.connection else { return None };
    if active_client.scope().is_some_and(|scope| !scope.contains(path)) {
        return None;
    }
    let (object, api) = (&snapshot.object, &active_client.endpoint.api);
    // Only an unchanged path follows a rename; a new path in the spec means another repository. A status without our seal is
    // ignored: otherwise the connection's credential would look up an id that anybody could have written.
    let known = object.known_repository();
    let known = known.filter(|known| is_as_requested(object, api, path, known) && snapshot.seal.is_on_repository(known));
    let repository = permit.find(view, object, known).await;
    let RepositoryLookup::Found(found) = &repository else { return Some(Probe::without_repository(repository)) };
    let branch = match object.spec.branch_name() {
        Some(branch) if !found.empty && active_client.inspection.capabilities.api => Some(found.branch_exists(branch).await),
        _ => None,
    };
    let manage_webhooks = worse(active_client.hook_permission(&object.hook_events()), found.manage_webhooks.clone());
    let may = manage_webhooks.state != PermissionState::Missing;
    let wanted = object.spec.webhook.is_some() && may && is_same_repository(object, api, path, found);
    let hooks = if wanted { Some(found.hooks().await) } else { None };
    let orphaned_hooks = match &hooks {
        Some(Ok(hooks)) => orphaned_hooks::orphaned_hooks(view, object, &snapshot.identity, hooks),
        _ => Vec::new(),
    };
    let siblings = conflicts::siblings(view, object, active_client, found);
    Some(Probe { repository, branch, hooks, manage_webhooks, orphaned_hooks, siblings })
}

/// A permission needs both the credential's scope and the account's role: the worse finding counts.
fn worse(one: PermissionFinding, other: PermissionFinding) -> PermissionFinding {
    let badness = |finding: &PermissionFinding| match finding.state {
        PermissionState::Granted => 0,
        PermissionState::Unknown => 1,
        PermissionState::Missing => 2,
    };
    if badness(&other) <= badness(&one) {
        return one;
    }
    if other.state != PermissionState::Missing {
        return other;
    }
    let why = other.message.unwrap_or_default();
    PermissionFinding::missing(format!("at this repository the credential does not suffice: {why}"))
}

/// Lists our own hooks at a cleanup target with the last working client of its connection. `told`: whether the binding may see
/// errors from there.
pub async fn list(view: &View, snapshot: &Snapshot, target: &HookTarget, told: bool) -> Listing {
    let identity = identity(view, snapshot, &target.connection);
    let cleanup = CleanupPermit::held(&snapshot.seal, &identity, target);
    let is_over = !told && snapshot.memory.attempts.was_cleared(target, snapshot.now);
    if is_over || (cleanup.is_none() && !is_of_spec(snapshot, target)) {
        return Obstacle::NotHeld.into();
    }
    let Some(session) = view.sessions.get(&target.connection) else { return missing_session(view, &target.connection).into() };
    let Some(active_client) = &session.active_client else {
        return session.failure.as_ref().map_or(Obstacle::Pending, Obstacle::of_failure).into();
    };
    let listed = match &cleanup {
        Some(cleanup) => cleanup.list(active_client).await,
        None => match by_grant(view, snapshot, target, active_client).await {
            Ok(listed) => listed,
            Err(obstacle) => return obstacle.into(),
        },
    };
    let error = match listed {
        Ok(ours) => return Listing { hooks: Ok(Arc::new(ours)), connection_failed: false },
        Err(error) => error,
    };
    let connection_failed = error.kind.disposition().concerns_connection() && session.failure.is_none();
    // Without a grant the owner's list is not read: the hooks are treated as those of a missing repository and left for later.
    let gone = error.kind == ErrorKind::NotFound && (!told || is_gone(view, snapshot, target, active_client).await);
    let obstacle = match gone {
        true if told => Obstacle::Gone(error.to_string()),
        true => Obstacle::Gone(UNTOLD.to_owned()),
        false => Obstacle::of(&error),
    };
    Listing { hooks: Err(obstacle), connection_failed }
}

/// The binding's identity through a connection, as carried by the hooks made through it.
fn identity(view: &View, snapshot: &Snapshot, connection: &ConnectionTarget) -> HookIdentity {
    let (namespace, name) = (snapshot.object.namespace().unwrap_or_default(), snapshot.object.name_any());
    HookIdentity::new(&view.keys, &view.settings, snapshot.public_url.as_ref().ok(), (&namespace, &name), connection)
}

/// Whether a target is the one that the spec names and the binding has a grant for it.
fn is_of_spec(snapshot: &Snapshot, target: &HookTarget) -> bool {
    snapshot.grant.is_granted() && *target == snapshot.target_of_spec()
}

/// The permit for a target if the binding has a grant for it.
fn permit(view: &View, snapshot: &Snapshot, target: &HookTarget, active_client: &ActiveClient) -> Option<UsePermit> {
    let path = active_client.provider.repository_path(&active_client.endpoint, &target.repository).ok()?;
    UsePermit::granted(view, &snapshot.object, &target.connection, active_client, &path)
}

/// Lists the hooks at the target that the spec names. Without a grant for it, no hook of ours is there.
async fn by_grant(
    view: &View,
    snapshot: &Snapshot,
    target: &HookTarget,
    active_client: &ActiveClient,
) -> Result<Result<OwnedHooks, ProviderError>, Obstacle> {
    let permit = permit(view, snapshot, target, active_client).ok_or(Obstacle::NotHeld)?;
    match permit.find(view, &snapshot.object, None).await {
        RepositoryLookup::Found(repository) => Ok(repository.owned_hooks(target, &snapshot.identity).await),
        RepositoryLookup::OutOfReach(_) => Err(Obstacle::NotHeld),
        RepositoryLookup::Failed(error) => Ok(Err(error)),
    }
}

async fn is_gone(view: &View, snapshot: &Snapshot, target: &HookTarget, active_client: &ActiveClient) -> bool {
    match permit(view, snapshot, target, active_client) {
        Some(permit) => permit.is_gone(&target.repository_id).await,
        None => false,
    }
}

fn missing_session(view: &View, connection: &ConnectionTarget) -> Obstacle {
    let gone = || Obstacle::Credential("the connection and its credential no longer exist".to_owned());
    match view.connection(connection) {
        None => gone(),
        Some(connection) if foreign_owner_message(&*connection, &view.keys.fingerprint).is_some() => {
            Obstacle::Credential("another installation of Forgebind manages the connection".to_owned())
        }
        Some(_) => Obstacle::Pending,
    }
}
