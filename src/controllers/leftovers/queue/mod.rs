//! Works off what was left behind: each entry at its own time, with pauses that grow while it cannot be done. In memory; a term
//! begins with what is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::{Leftover, OF_A_NAMESPACE, Stored, forget, listed, stored};
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::{ManagementPolicy, RepoBinding};
use crate::controllers::binding::hooks::{self, HookAction};
use crate::controllers::binding::ownership::HookIdentity;
use crate::controllers::gate::{self, ActiveClient, CleanupPermit, OwnedHooks};
use crate::controllers::metrics::Resolution;
use crate::controllers::runtime::backoff::growing_pause;
use crate::controllers::{Context, locked};
use crate::providers::{Deletion, ErrorKind, HookRelease, ProviderError};

/// How long an entry is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// The pause before the first attempt.
const FIRST: SignedDuration = SignedDuration::from_secs(5);
/// The pause before the entries are read again, where they could not be read.
const READ_PAUSE: Duration = Duration::from_secs(60);
/// Connections whose entries are worked on at once, one entry of each.
const AT_ONCE: usize = 4;
/// No entry is worked on for longer at a time: a server that hangs must not keep the others waiting.
const MAX_DURATION: Duration = Duration::from_secs(60);
/// How often it is looked whether an entry is due, unless something changes.
const REST: Duration = Duration::from_secs(5);

/// One entry, and when it is its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Due {
    namespace: String,
    connection: ConnectionTarget,
    since: Timestamp,
    attempts: usize,
    next: Timestamp,
}

impl Due {
    fn of(entry: Leftover, next: Timestamp) -> Self {
        let Leftover { namespace, connection, since, .. } = entry;
        Self { namespace, connection, since, attempts: 0, next }
    }
}

/// The entries that are recorded and when each of them is tried again.
#[derive(Debug, Default)]
pub struct Pending {
    entries: Mutex<BTreeMap<String, Due>>,
    /// Whether the recorded entries were read in this term.
    complete: AtomicBool,
    changed: Notify,
}

impl Pending {
    /// Notes an entry that was recorded. The first attempt is made in a moment: what stood against the removal may be over.
    pub(super) fn add(&self, key: &str, entry: &Leftover, now: Timestamp) {
        let due = Due::of(entry.clone(), now.checked_add(FIRST).unwrap_or(now));
        locked(&self.entries).insert(key.to_owned(), due);
        self.changed.notify_one();
    }

    pub(super) fn remove(&self, key: &str) {
        locked(&self.entries).remove(key);
    }

    /// How many entries there are.
    pub(super) fn count(&self) -> i64 {
        i64::try_from(locked(&self.entries).len()).unwrap_or(i64::MAX)
    }

    /// Whether a namespace may have an entry under this key, beside those that it has.
    pub(super) async fn has_room(&self, context: &Context, key: &str, namespace: &str) -> kube::Result<bool> {
        if !self.complete.load(Ordering::Acquire) {
            self.fill(listed(context).await?, context.view.clock.now());
        }
        let entries = locked(&self.entries);
        Ok(entries.contains_key(key) || entries.values().filter(|due| due.namespace == namespace).count() < OF_A_NAMESPACE)
    }

    fn fill(&self, recorded: BTreeMap<String, Leftover>, now: Timestamp) {
        let mut entries = locked(&self.entries);
        for (key, entry) in recorded {
            entries.entry(key).or_insert_with(|| Due::of(entry, now));
        }
        self.complete.store(true, Ordering::Release);
    }

    fn clear(&self) {
        locked(&self.entries).clear();
        self.complete.store(false, Ordering::Release);
    }

    /// Asks for the entries of a connection that works again.
    pub fn try_now(&self, connection: &ConnectionTarget) {
        let mut entries = locked(&self.entries);
        for due in entries.values_mut().filter(|due| due.connection == *connection) {
            due.attempts = 0;
            due.next = Timestamp::UNIX_EPOCH;
        }
        drop(entries);
        self.changed.notify_one();
    }

    /// The entries whose turn it is: one of each connection, those that wait longest first.
    fn due(&self, now: Timestamp) -> Vec<String> {
        let entries = locked(&self.entries);
        let mut due: Vec<(&String, &Due)> = entries.iter().filter(|(_, due)| due.next <= now).collect();
        due.sort_by_key(|(_, due)| due.next);
        let mut connections = BTreeSet::new();
        due.retain(|(_, due)| connections.insert(&due.connection));
        due.into_iter().map(|(key, _)| key.clone()).collect()
    }

    /// Notes an attempt before it is made: one that is cut off has its pause, and nothing is lost of it or of any other.
    fn begin(&self, key: &str, now: Timestamp) -> Option<Due> {
        let mut entries = locked(&self.entries);
        let due = entries.get_mut(key)?;
        due.attempts = due.attempts.saturating_add(1);
        due.next = after(now, due.attempts);
        Some(due.clone())
    }

    /// Puts the entries of a connection off that cannot be worked off at present, each by its own pause.
    fn put_off(&self, connection: &ConnectionTarget, now: Timestamp) {
        for due in locked(&self.entries).values_mut().filter(|due| due.connection == *connection && due.next <= now) {
            due.attempts = due.attempts.saturating_add(1);
            due.next = after(now, due.attempts);
        }
    }
}

fn after(now: Timestamp, attempts: usize) -> Timestamp {
    now.checked_add(growing_pause(attempts)).unwrap_or(Timestamp::MAX)
}

/// Works off the entries for as long as this process leads, also those that an earlier one recorded. Never ends.
pub async fn work(context: &Context) {
    context.leftovers.clear();
    loop {
        match listed(context).await {
            Ok(recorded) => break context.leftovers.fill(recorded, context.view.clock.now()),
            Err(error) => warn!(error = %error, "leftover hooks not read, trying again"),
        }
        tokio::time::sleep(READ_PAUSE).await;
    }
    loop {
        context.metrics.leftovers.set(context.leftovers.count());
        let due = context.leftovers.due(context.view.clock.now());
        if due.is_empty() {
            // Whether it is woken or rested: what is due is looked up anew.
            let _ = tokio::time::timeout(REST, context.leftovers.changed.notified()).await;
        }
        stream::iter(due).for_each_concurrent(AT_ONCE, async |key| attempt(context, &key).await).await;
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing of it is left at the provider.
    Removed,
    /// It is too old.
    Expired,
    /// It is not recorded any more, or not so that it can be read.
    Withdrawn,
    /// It is tried again.
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
        // By a person who removed the hooks by hand, or by mistake: nobody else has the entry.
        Ok(End::Withdrawn) => warn!(key, "somebody took the entry of leftover hooks out of its ConfigMap; they are not removed any more"),
        Ok(End::Waits) => {}
        Err(error) => {
            warn!(key, error = %error, "leftover hooks not removed, trying again later");
            // Who does not answer for one of them does not answer for the others either.
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
    // Also where the connection is gone for good.
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

/// The client through which hooks of a connection may be removed now; `None` while it does not work or nothing may be written.
fn usable(context: &Context, connection: &ConnectionTarget) -> Option<ActiveClient> {
    let policy = context.view.connection(connection)?.spec.management_policy;
    let session = context.view.sessions.get(connection).filter(|session| session.failure.is_none())?;
    session.active_client.filter(|_| !context.view.settings.read_only && policy == ManagementPolicy::Manage)
}

/// Removes the hooks of an entry that still prove to be ours, but those of a binding of that name that lives. Adopted ones are handed
/// back. A repository that is gone, as its owner's list tells, has none.
async fn remove(context: &Context, active_client: &ActiveClient, entry: &Stored) -> Result<End, AttemptError> {
    let binding = context.view.bindings.get(&ObjectRef::new(&entry.name).within(&entry.namespace));
    // Another connection, or one that does not allow it, makes no hook at this target: who names a connection that never works would
    // else keep the entry for ever.
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

/// What is to be done about the hooks of an entry.
fn removal(entry: &Leftover, hooks: &[crate::providers::Hook], identity: &HookIdentity, hooks_in_use: &BTreeSet<&str>) -> Vec<HookAction> {
    let recorded: BTreeSet<&str> = entry.hooks.iter().map(|hook| hook.id.as_str()).collect();
    let adopted = |id: &str| entry.hand_back || entry.hooks.iter().any(|hook| hook.adopted && hook.id == id);
    let adopted = hooks.iter().filter(|hook| adopted(&hook.id)).map(|hook| hook.id.clone()).collect();
    let left = |id: &str| (recorded.is_empty() || recorded.contains(id)) && !hooks_in_use.contains(id);
    let actions = hooks::removal(hooks, identity, &adopted, "its binding is gone").actions;
    actions
        .into_iter()
        .filter(|action| matches!(action, HookAction::Delete { id, .. } | HookAction::Release { id, .. } if left(id)))
        .collect()
}

/// Whether it is done for certain.
async fn take(owned_hooks: &OwnedHooks, action: &HookAction) -> Result<bool, ProviderError> {
    match action {
        HookAction::Delete { id, .. } => Ok(owned_hooks.delete(id).await? != Deletion::Hidden),
        HookAction::Release { id, url, shape } => owned_hooks.release(id, &HookRelease { url, secret: None, shape }).await.map(|()| true),
        HookAction::Create(_) | HookAction::Update { .. } => Ok(true),
    }
}

/// The hooks that the binding of an entry's name has now, and sees to itself: a new one of that name has the same identity.
/// `None` while that cannot be told of one that may have made hooks at the target.
fn hooks_in_use(binding: Option<&RepoBinding>, may_make: impl Fn(&RepoBinding) -> bool) -> Option<BTreeSet<&str>> {
    // One that is being deleted is the entry's own, let go in a moment: its status names the very hooks that are to go.
    let Some(alive) = binding.filter(|binding| binding.metadata.deletion_timestamp.is_none()) else { return Some(BTreeSet::new()) };
    let webhook = alive.status.as_ref().and_then(|status| status.webhook.as_ref());
    // After a restore, and just before its first hook, the status may not tell yet which hooks it has: it is waited for.
    if webhook.is_none_or(|webhook| webhook.secret_version.is_none()) && alive.spec.webhook.is_some() && may_make(alive) {
        return None;
    }
    Some(webhook.iter().flat_map(|webhook| &webhook.hooks).map(|hook| hook.id.as_str()).collect())
}

fn absent<T>(error: ProviderError) -> Result<Option<T>, ProviderError> {
    if error.kind == ErrorKind::NotFound { Ok(None) } else { Err(error) }
}

#[cfg(test)]
mod tests;
