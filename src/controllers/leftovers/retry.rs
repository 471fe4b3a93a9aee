//! Retries leftover hooks: each entry at its own time, with pauses that grow while it fails. The schedule is in memory and
//! starts from the recorded entries when this process begins to lead.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use jiff::SignedDuration;
use kube::runtime::reflector::ObjectRef;
use tracing::{info, warn};

use super::entry::{Leftover, Stored};
use super::pending::Due;
use super::store::{forget, listed, stored};
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::{ManagementPolicy, RepoBinding};
use crate::controllers::Context;
use crate::controllers::binding::hooks::{self, HookAction};
use crate::controllers::binding::ownership::HookIdentity;
use crate::controllers::gate::{self, ActiveClient, CleanupPermit, OwnedHooks};
use crate::controllers::metrics::Resolution;
use crate::providers::{Deletion, ErrorKind, HookRelease, ProviderError};

/// How long an entry is kept before it is given up.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// The pause before a failed listing of the entries is repeated.
const READ_PAUSE: Duration = Duration::from_secs(60);
/// Number of connections that are processed at once, with one entry of each.
const AT_ONCE: usize = 4;
/// Time limit of one attempt: a server that hangs must not delay the other entries.
const MAX_DURATION: Duration = Duration::from_secs(60);
/// How often to check for due entries when nothing changes.
const REST: Duration = Duration::from_secs(5);

/// Retries the entries while this process leads, including those that an earlier leader recorded. Never returns.
pub async fn work(context: &Context) {
    context.leftovers.clear();
    loop {
        match listed(context).await {
            Ok(recorded) => break context.leftovers.fill(recorded, context.view.clock.now()),
            Err(error) => warn!(error = %error, "leftover hooks could not be read, retrying"),
        }
        tokio::time::sleep(READ_PAUSE).await;
    }
    loop {
        context.metrics.leftovers.set(context.leftovers.count());
        let due = context.leftovers.due(context.view.clock.now());
        if due.is_empty() {
            // After a notification or a timeout, the loop looks for due entries again.
            let _ = tokio::time::timeout(REST, context.leftovers.changed()).await;
        }
        stream::iter(due).for_each_concurrent(AT_ONCE, async |key| attempt(context, &key).await).await;
    }
}

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// None of the hooks remains at the provider.
    Removed,
    /// The entry is too old.
    Expired,
    /// The entry was removed from its `ConfigMap` or is unreadable.
    Withdrawn,
    /// The entry is retried later.
    Waits,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("{0}")]
    Provider(#[from] ProviderError),
    #[error("API server: {0}")]
    Kubernetes(#[from] kube::Error),
    #[error("not finished within {MAX_DURATION:?}")]
    TimedOut,
}

async fn attempt(context: &Context, key: &str) {
    let now = context.view.clock.now();
    let Some(due) = context.leftovers.begin(key, now) else { return };
    let worked = tokio::time::timeout(MAX_DURATION, retry_leftovers(context, key, &due)).await;
    let ended = match worked.unwrap_or(Err(AttemptError::TimedOut)) {
        Ok(End::Waits) => return,
        Ok(End::Withdrawn) => return context.leftovers.remove(key),
        Ok(end) => forget(context, key).await.map(|()| end).map_err(AttemptError::from),
        Err(error) => Err(error),
    };
    match ended {
        Ok(End::Expired) => drop(context.metrics.leftovers_resolved.get_or_create(&Resolution { result: "expired" }).inc()),
        Ok(End::Removed) => drop(context.metrics.leftovers_resolved.get_or_create(&Resolution { result: "removed" }).inc()),
        // Removed by a person who deleted the hooks by hand, or by mistake. No other copy of the entry exists.
        Ok(End::Withdrawn) => warn!(
            key,
            "an entry of leftover hooks was deleted from its ConfigMap; Forgebind no longer tries \
                                          to remove them"
        ),
        Ok(End::Waits) => {}
        Err(error) => {
            warn!(key, error = %error, "leftover hooks could not be removed, retrying later");
            // A server that does not answer for one entry will not answer for the others of its connection either.
            let silent =
                matches!(&error, AttemptError::TimedOut) || matches!(&error, AttemptError::Provider(error) if error.kind.is_outage());
            if silent {
                context.leftovers.put_off(&due.connection, context.view.clock.now());
            }
        }
    }
}

async fn retry_leftovers(context: &Context, key: &str, due: &Due) -> Result<End, AttemptError> {
    let now = context.view.clock.now();
    // Also when the connection no longer exists.
    if due.since.checked_add(KEPT).is_ok_and(|end| end < now) {
        warn!(key, namespace = due.namespace, "leftover hooks given up after 90 days");
        return Ok(End::Expired);
    }
    let Some(active_client) = usable(context, &due.connection) else {
        context.leftovers.put_off(&due.connection, now);
        return Ok(End::Waits);
    };
    let Some(entry) = stored(context, key).await? else { return Ok(End::Withdrawn) };
    let (namespace, name, repository) = (&entry.namespace, &entry.name, &entry.repository);
    let end = remove(context, &active_client, &entry).await?;
    if end == End::Removed {
        info!(namespace, name, repository, "leftover hooks removed");
    }
    Ok(end)
}

/// The client to delete hooks with; `None` while the connection does not work or writes are not allowed.
fn usable(context: &Context, connection: &ConnectionTarget) -> Option<ActiveClient> {
    let policy = context.view.connection(connection)?.spec.management_policy;
    let session = context.view.sessions.get(connection).filter(|session| session.failure.is_none())?;
    session.active_client.filter(|_| !context.view.settings.read_only && policy == ManagementPolicy::Manage)
}

/// Deletes the hooks of an entry that are still provably ours, except those in use by an existing binding of that name. Adopted
/// hooks are handed back. A repository that no longer exists, according to its owner's list, has no hooks.
async fn remove(context: &Context, active_client: &ActiveClient, entry: &Stored) -> Result<End, AttemptError> {
    let binding = context.view.bindings.get(&ObjectRef::new(&entry.name).within(&entry.namespace));
    // A binding makes no hook at this target through another connection, or through one that does not allow it. Without this
    // check, a binding that refers to a connection that never works would keep the entry forever.
    let may_make = |binding: &RepoBinding| {
        let connection = context.view.connection(&entry.connection).filter(|_| binding.connection_target() == entry.connection);
        connection.is_some_and(|connection| gate::permits(&context.view, binding, &connection, Some(&entry.repository)) != Some(false))
    };
    let Some(hooks_in_use) = hooks_in_use(binding.as_deref(), may_make) else { return Ok(End::Waits) };
    let identity = HookIdentity::new(&context.view.keys, &context.view.settings, None, (&entry.namespace, &entry.name), &entry.connection);
    let cleanup = CleanupPermit::left(entry, identity.clone());
    let Some(owned_hooks) = cleanup.list(active_client).await.map(Some).or_else(absent)? else {
        return Ok(if cleanup.is_gone(active_client).await { End::Removed } else { End::Waits });
    };
    for action in removal(entry, owned_hooks.hooks(), &identity, &hooks_in_use) {
        if !take(&owned_hooks, &action).await? {
            return Ok(End::Waits);
        }
    }
    Ok(End::Removed)
}

/// The actions for the hooks of an entry.
pub(super) fn removal(
    entry: &Leftover,
    hooks: &[crate::providers::Hook],
    identity: &HookIdentity,
    hooks_in_use: &BTreeSet<&str>,
) -> Vec<HookAction> {
    let recorded: BTreeSet<&str> = entry.hooks.iter().map(|hook| hook.id.as_str()).collect();
    let adopted = |id: &str| entry.hand_back || entry.hooks.iter().any(|hook| hook.adopted && hook.id == id);
    let adopted = hooks.iter().filter(|hook| adopted(&hook.id)).map(|hook| hook.id.clone()).collect();
    let left = |id: &str| (recorded.is_empty() || recorded.contains(id)) && !hooks_in_use.contains(id);
    let actions = hooks::removal(hooks, identity, &adopted, "its binding no longer exists").actions;
    actions
        .into_iter()
        .filter(|action| matches!(action, HookAction::Delete { id, .. } | HookAction::Release { id, .. } if left(id)))
        .collect()
}

/// Carries out one action. Returns whether it is certainly done.
async fn take(owned_hooks: &OwnedHooks, action: &HookAction) -> Result<bool, ProviderError> {
    match action {
        HookAction::Delete { id, .. } => Ok(owned_hooks.delete(id).await? != Deletion::Hidden),
        HookAction::Release { id, url, shape } => owned_hooks.release(id, &HookRelease { url, secret: None, shape }).await.map(|()| true),
        HookAction::Create(_) | HookAction::Update { .. } => Ok(true),
    }
}

/// The hooks that the present binding of the entry's name manages itself: a new binding of that name has the same identity.
/// `None` while these are unknown for a binding that may have made hooks at the target.
pub(super) fn hooks_in_use(binding: Option<&RepoBinding>, may_make: impl Fn(&RepoBinding) -> bool) -> Option<BTreeSet<&str>> {
    // A binding under deletion is the one recorded here, about to lose its finalizer; its status names the hooks to delete.
    let Some(alive) = binding.filter(|binding| binding.metadata.deletion_timestamp.is_none()) else { return Some(BTreeSet::new()) };
    let webhook = alive.status.as_ref().and_then(|status| status.webhook.as_ref());
    // After a restore, and just before its first hook, the status may not list the binding's hooks yet. Wait for it.
    if webhook.is_none_or(|webhook| webhook.secret_version.is_none()) && alive.spec.webhook.is_some() && may_make(alive) {
        return None;
    }
    Some(webhook.iter().flat_map(|webhook| &webhook.hooks).map(|hook| hook.id.as_str()).collect())
}

fn absent<T>(error: ProviderError) -> Result<Option<T>, ProviderError> {
    if error.kind == ErrorKind::NotFound { Ok(None) } else { Err(error) }
}
