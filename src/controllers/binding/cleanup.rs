//! Selects the targets whose hooks must be removed, and limits how long their removal is tried. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::obstacle::Obstacle;
use super::ownership::{endpoint_of_another, host_of};
use super::probe::{Listing, Probe, out_of_reach};
use super::snapshot::{Connection, Snapshot};
use super::time::after;
use crate::api::v1alpha1::binding::{HookStatus, HookTarget};
use crate::api::v1alpha1::{Reason, RepoBinding};
use crate::controllers::gate::{OutOfReach, OwnedHooks};
use crate::controllers::leftovers::{Leftover, LeftoverHook};
use crate::controllers::settings::{CREDENTIAL_BOUND, NAMESPACE_BOUND, OUTAGE_BOUND};
use crate::k8s::finalizer;

/// Maximum number of former targets in the status.
pub const FORMER_TARGETS: usize = 8;

/// A target with hooks that must be removed.
#[derive(Clone, Debug)]
pub struct CleanupTarget {
    pub target: HookTarget,
    /// Whether this installation sealed the target, because hooks exist there or were about to be created. Only then may hooks be
    /// recorded as leftovers.
    pub held: bool,
    /// Whether the binding may see errors from the target.
    pub told: bool,
    /// The binding's own hooks at the target, or the obstacle to removing them.
    pub hooks: Result<Arc<OwnedHooks>, Obstacle>,
    /// Whether the list failed in a way that concerns the connection, which worked at its last inspection.
    pub connection_failed: bool,
}

impl CleanupTarget {
    /// Judges what was listed at a target.
    pub fn new(snapshot: &Snapshot, target: HookTarget, told: bool, listing: Listing) -> Self {
        // The obstacle of the last removal attempt counts even if the list can be read.
        let last = snapshot.memory.obstacle.clone();
        let hooks = match (listing.hooks, last) {
            (Ok(_), Some(_)) if !told && is_past_bound(snapshot, &Obstacle::Credential(String::new())) => Err(Obstacle::Untold),
            (Ok(_), Some(obstacle)) if told && is_past_bound(snapshot, &obstacle) => Err(obstacle),
            (Err(Obstacle::Credential(_) | Obstacle::Outage(_)), _) if !told => Err(Obstacle::Untold),
            (hooks, _) => hooks,
        };
        Self { held: snapshot.seal.is_on(&target), target, told, hooks, connection_failed: listing.connection_failed }
    }

    /// Whether the hooks were listed, or there can be none.
    pub const fn is_listed(&self) -> bool {
        matches!(self.hooks, Ok(_) | Err(Obstacle::NotHeld))
    }
}

/// Targets whose hooks must be removed.
pub fn cleanup_targets(snapshot: &Snapshot, probe: Option<&Probe>) -> Vec<HookTarget> {
    let object = &snapshot.object;
    let webhook = object.webhook_status();
    // Targets without our seal do not count, as if the status were lost.
    let is_sealed = |target: &&HookTarget| snapshot.seal.is_on(target);
    let present = webhook.and_then(|webhook| webhook.target.as_ref()).filter(is_sealed).cloned();
    let former: Vec<_> = webhook.into_iter().flat_map(|webhook| &webhook.former_targets).filter(is_sealed).cloned().collect();
    if object.is_being_deleted() {
        if !finalizer::is_present(&**object) {
            return Vec::new();
        }
        let targets = present.or_else(|| target_by_grant(snapshot, &former)).into_iter().chain(former);
        return targets.filter(|cleanup_target| !is_left(snapshot, cleanup_target)).collect();
    }
    let withdrawn = || snapshot.grant.withdrawn.clone();
    if snapshot.suspended || snapshot.observe_only {
        return withdrawn();
    }
    if wants_none(snapshot, probe) {
        let targets = present.or_else(|| target_by_grant(snapshot, &former)).into_iter().chain(former);
        return targets.filter(|target| !is_kept(snapshot, probe, target)).collect();
    }
    // The wanted target is not known now: the old hooks stay.
    let Some(keeps) = present_target(snapshot, probe) else { return withdrawn() };
    present.into_iter().chain(former).filter(|target| !same_target(&keeps, target)).collect()
}

/// Whether no grant fits what the spec asks for or the repository that was found, although the connection is there to stay.
pub fn lacks_grant(snapshot: &Snapshot, probe: Option<&Probe>) -> bool {
    let found = || snapshot.grant.is_granted() && out_of_reach(snapshot, probe) == Some(OutOfReach::WithoutGrant);
    snapshot.grant.lacks_grant || found()
}

/// Whether hooks that are requested but withheld for want of a grant stay for now: a restore or a sync may bring the grant later.
/// Only where this installation recorded them.
fn is_kept(snapshot: &Snapshot, probe: Option<&Probe>, target: &HookTarget) -> bool {
    snapshot.object.spec.webhook.is_some()
        && snapshot.seal.is_on(target)
        && lacks_grant(snapshot, probe)
        && !snapshot.grant.withdrawn.contains(target)
        && snapshot.removal_at(target) > snapshot.now
}

/// Until when hooks stay for which a grant is missing; `None` if there are none, or if nothing may be changed then either.
pub fn kept_until(snapshot: &Snapshot, probe: Option<&Probe>) -> Option<Timestamp> {
    let rests = snapshot.suspended || snapshot.observe_only;
    let goes = |target: &&HookTarget| is_kept(snapshot, probe, target) && (!rests || snapshot.grant.refused.contains(target));
    snapshot.object.hook_targets().filter(goes).map(|target| snapshot.removal_at(target)).min()
}

/// Whether the hooks at a target stay when the object is deleted, according to its deletion policy. The policy does not apply to
/// a connection of another namespace that no longer allows the binding. It does not apply either where the connection's owner
/// could not end the deliveries later: our receiver refuses deliveries without a grant, a custom endpoint accepts them for ever.
/// Both the spec and the recorded endpoint count, because a hook is not changed any more once its grant is missing.
fn is_left(snapshot: &Snapshot, cleanup_target: &HookTarget) -> bool {
    let object = &snapshot.object;
    let is_own = object.metadata.namespace.as_ref() == Some(&cleanup_target.connection.namespace);
    let may_stay = is_own || (object.custom_url().is_none() && !delivers_to_another(object, cleanup_target));
    object.orphans() && may_stay && !snapshot.grant.withdrawn.contains(cleanup_target)
}

/// Whether the status records that the hooks at a target deliver to an endpoint that is not a Forgebind receiver.
fn delivers_to_another(object: &RepoBinding, target: &HookTarget) -> bool {
    let webhook = object.webhook_status().filter(|webhook| webhook.target.as_ref() == Some(target));
    webhook.and_then(|webhook| webhook.url.as_deref()).and_then(endpoint_of_another).is_some()
}

/// The target that the spec names, for a binding whose status was lost and names none: the finalizer means that a hook may exist
/// there. Anybody can set a finalizer, so the target is read only with a grant.
fn target_by_grant(snapshot: &Snapshot, former: &[HookTarget]) -> Option<HookTarget> {
    let lost = finalizer::is_present(&*snapshot.object) && former.is_empty();
    (lost && snapshot.grant.is_granted()).then(|| snapshot.target_of_spec())
}

/// Why a requested hook must not exist: the connection is not available to this binding any more.
pub fn withheld(snapshot: &Snapshot, probe: Option<&Probe>) -> Option<(Reason, &'static str)> {
    match &snapshot.connection {
        Connection::NotPermitted => Some((Reason::RefNotPermitted, "the connection does not exist or does not allow this binding")),
        Connection::NotReady(failure) if failure.reason == Reason::ConnectionNotReady => {
            Some((Reason::ConnectionNotReady, "the connection is being deleted"))
        }
        _ => out_of_reach(snapshot, probe).map(|_| {
            (
                Reason::RepositoryMovedOutOfScope,
                "the repository moved to a path for which the connection does not \
                                                          allow this binding",
            )
        }),
    }
}

/// Whether no hook must exist anywhere: none is requested, or it is withheld.
pub fn wants_none(snapshot: &Snapshot, probe: Option<&Probe>) -> bool {
    snapshot.object.spec.webhook.is_none() || withheld(snapshot, probe).is_some()
}

/// Whether two targets are the same repository through the same connection.
pub fn same_target(one: &HookTarget, other: &HookTarget) -> bool {
    one.connection == other.connection && one.repository_id == other.repository_id
}

/// Target of the hooks, as far as this probe found it.
pub fn present_target(snapshot: &Snapshot, probe: Option<&Probe>) -> Option<HookTarget> {
    let found = probe?;
    let repository = found.repository.found().filter(|_| matches!(found.hooks, Some(Ok(_))))?;
    let host = match snapshot.object.custom_url() {
        Some(url) => host_of(&url),
        None => snapshot.public_url.as_ref().ok().map(host_of)?,
    };
    Some(repository.target(&snapshot.seal, host))
}

/// Whether the deadline of an obstacle has passed.
pub fn is_past_bound(snapshot: &Snapshot, obstacle: &Obstacle) -> bool {
    deadline(snapshot, obstacle).is_some_and(|deadline| deadline <= snapshot.now)
}

/// Deadline for a blocked cleanup. `None` before the first attempt: after a restart the deletion may be old, and giving up would
/// leave hooks that the first attempt could remove.
pub fn deadline(snapshot: &Snapshot, obstacle: &Obstacle) -> Option<Timestamp> {
    let deleted = snapshot.object.metadata.deletion_timestamp.as_ref()?.0;
    let bound = match obstacle {
        Obstacle::Pending | Obstacle::NotHeld => return None,
        // Waiting would reveal which obstacle it is.
        Obstacle::Untold => Duration::ZERO,
        _ if snapshot.terminating => NAMESPACE_BOUND,
        Obstacle::Credential(_) | Obstacle::Gone(_) => snapshot.settings.cleanup_timeout.unwrap_or(CREDENTIAL_BOUND),
        Obstacle::Outage(_) => snapshot.settings.cleanup_timeout.unwrap_or(OUTAGE_BOUND),
    };
    Some(after(deleted, bound))
}

/// The record of hooks that are left at a target, to be removed once its connection works again.
pub fn leftover(snapshot: &Snapshot, target: &HookTarget, why: &str) -> Leftover {
    let object = &snapshot.object;
    let webhook = object.webhook_status().filter(|webhook| webhook.target.as_ref() == Some(target));
    let hooks = webhook.map(|webhook| webhook.hooks.as_slice()).unwrap_or_default();
    let left = |hook: &HookStatus| LeftoverHook { id: hook.id.clone(), host: target.host.clone(), adopted: hook.adopted };
    Leftover {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        connection: target.connection.clone(),
        repository: target.repository.clone(),
        repository_id: target.repository_id.clone(),
        hooks: hooks.iter().map(left).collect(),
        hand_back: !object.tells_of_hooks() && object.spec.webhook.as_ref().is_some_and(|webhook| webhook.adopt),
        reason: why.to_owned(),
        since: snapshot.now,
    }
}
