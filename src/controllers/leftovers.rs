//! Hooks that could not be removed: recorded in `ConfigMap`s of the operator's namespace, and worked off when the connection
//! works again. What is recorded here was given up nowhere else.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{ListParams, PostParams};
use kube::runtime::reflector::ObjectRef;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::backoff::stable_hash;
use super::binding::ownership::Ownership;
use super::metrics::Resolution;
use super::sessions::Working;
use super::{Context, locked};
use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::providers::{Deletion, ErrorKind, ProviderError, Repository};

/// How many `ConfigMap`s share the entries.
const SHARDS: u64 = 16;
/// How long an entry is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Marks the `ConfigMap`s with entries.
pub const LABEL: &str = "forgebind.dev/leftover-hooks";
/// How often a change is tried when somebody else changed the ConfigMap meanwhile.
const TRIES: u32 = 5;
/// The pause before the entries are counted again, where they could not be read.
const COUNT_PAUSE: Duration = Duration::from_secs(60);

/// One binding whose hooks were left. No URL path and no secret stands in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leftover {
    /// Namespace of the binding.
    pub namespace: String,
    /// Name of the binding.
    pub name: String,
    /// The connection through which the hooks were made.
    pub connection: ConnectionTarget,
    /// The repository's path.
    pub repository: String,
    /// The repository's stable id.
    #[serde(rename = "repositoryID")]
    pub repository_id: String,
    /// The hooks.
    pub hooks: Vec<LeftoverHook>,
    /// Why they were left.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftoverHook {
    /// Its id at the provider.
    pub id: String,
    /// The host to which it delivers.
    pub host: String,
}

/// What is known of the entries without reading them. In memory.
#[derive(Debug, Default)]
pub struct Pending {
    /// The connections with entries that could not be worked off yet. The first success after a start looks anyhow.
    connections: Mutex<HashSet<ConnectionTarget>>,
    /// The keys of all entries, for their number.
    keys: Mutex<BTreeSet<String>>,
}

impl Pending {
    fn note(&self, connection: &ConnectionTarget) {
        locked(&self.connections).insert(connection.clone());
    }

    /// Whether entries of a connection are there to be tried again.
    #[must_use]
    pub fn of(&self, connection: &ConnectionTarget) -> bool {
        locked(&self.connections).contains(connection)
    }

    fn forget(&self, connection: &ConnectionTarget) {
        locked(&self.connections).remove(connection);
    }

    /// Changes the keys that are known, and answers how many there are.
    fn keys(&self, change: impl FnOnce(&mut BTreeSet<String>)) -> i64 {
        let mut keys = locked(&self.keys);
        change(&mut keys);
        i64::try_from(keys.len()).unwrap_or(i64::MAX)
    }
}

fn shard(uid: &str) -> String {
    format!("forgebind-leftover-hooks-{}", stable_hash(uid) % SHARDS)
}

fn api(context: &Context) -> Api<ConfigMap> {
    Api::namespaced(context.client.clone(), &context.view.settings.namespace)
}

/// Records an entry under a key: the UID of the binding, with a suffix where it has several targets.
///
/// # Errors
/// What the API server said. The finalizer must not go before this has succeeded.
pub async fn record(context: &Context, key: &str, entry: &Leftover) -> kube::Result<()> {
    let text = serde_json::to_string(entry).map_err(kube::Error::SerdeError)?;
    change(context, key, |data| {
        data.insert(key.to_owned(), text.clone());
    })
    .await?;
    context.metrics.leftovers_recorded.inc();
    context.leftovers.note(&entry.connection);
    context.metrics.leftovers.set(context.leftovers.keys(|keys| {
        keys.insert(key.to_owned());
    }));
    warn!(
        namespace = entry.namespace,
        name = entry.name,
        repository = entry.repository,
        reason = entry.reason,
        "hooks left behind, recorded"
    );
    Ok(())
}

async fn forget(context: &Context, key: &str) -> kube::Result<()> {
    change(context, key, |data| {
        data.remove(key);
    })
    .await?;
    context.metrics.leftovers.set(context.leftovers.keys(|keys| {
        keys.remove(key);
    }));
    Ok(())
}

/// Counts the entries when a term begins, also those that an earlier process wrote. Never ends.
pub async fn count(context: &Context) {
    context.leftovers.keys(BTreeSet::clear);
    while let Err(error) = listed(context).await {
        warn!(error = %error, "leftover hooks not counted, trying again");
        tokio::time::sleep(COUNT_PAUSE).await;
    }
    std::future::pending::<()>().await;
}

/// Every entry with its key. What is known of them is brought up to date.
async fn listed(context: &Context) -> kube::Result<BTreeMap<String, String>> {
    let known = locked(&context.leftovers.keys).clone();
    let maps = api(context).list(&ListParams::default().labels(LABEL)).await?;
    let entries: BTreeMap<String, String> = maps.items.into_iter().filter_map(|map| map.data).flatten().collect();
    // What was recorded while the list was read stays known.
    let count = context.leftovers.keys(|keys| {
        keys.retain(|key| entries.contains_key(key) || !known.contains(key));
        keys.extend(entries.keys().cloned());
    });
    context.metrics.leftovers.set(count);
    Ok(entries)
}

async fn change(context: &Context, key: &str, edit: impl Fn(&mut BTreeMap<String, String>)) -> kube::Result<()> {
    let api = api(context);
    let name = shard(key.split('.').next().unwrap_or(key));
    let mut tries = 0;
    loop {
        tries += 1;
        let present = api.get_opt(&name).await?;
        let exists = present.is_some();
        let mut map = present.unwrap_or_else(|| empty(&name));
        edit(map.data.get_or_insert_default());
        let result =
            if exists { api.replace(&name, &PostParams::default(), &map).await } else { api.create(&PostParams::default(), &map).await };
        match result {
            Err(kube::Error::Api(status)) if tries < TRIES && (status.is_conflict() || status.is_already_exists()) => {}
            result => return result.map(|_| ()),
        }
    }
}

fn empty(name: &str) -> ConfigMap {
    let labels = BTreeMap::from([(LABEL.to_owned(), "true".to_owned())]);
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() },
        ..ConfigMap::default()
    }
}

/// Works off what was left behind of one connection, now that it works. Trouble is logged; the next time comes.
pub async fn work_off(context: &Context, connection: &ConnectionTarget, working: &Working) {
    // Before the list is read: what is recorded while it is read is for the next time.
    context.leftovers.forget(connection);
    let entries = match listed(context).await {
        Ok(entries) => entries,
        Err(error) => {
            context.leftovers.note(connection);
            return warn!(error = %error, "leftover hooks not read");
        }
    };
    for (key, text) in entries {
        let Ok(entry) = serde_json::from_str::<Leftover>(&text) else {
            warn!(key, "leftover entry is not readable, left as it is");
            continue;
        };
        let given_up = entry.since.checked_add(KEPT).is_ok_and(|end| end < context.view.clock.now());
        let done = if given_up {
            warn!(namespace = entry.namespace, name = entry.name, repository = entry.repository, "leftover hooks given up after 90 days");
            true
        } else {
            entry.connection == *connection && remove(context, working, &entry).await
        };
        let removed = if done { forget(context, &key).await } else { Ok(()) };
        match &removed {
            Err(error) => warn!(key, error = %error, "leftover entry not removed"),
            Ok(()) if done => {
                let result = if given_up { "given_up" } else { "removed" };
                context.metrics.leftovers_resolved.get_or_create(&Resolution { result }).inc();
            }
            Ok(()) => {}
        }
        if entry.connection == *connection && (!done || removed.is_err()) {
            context.leftovers.note(connection);
        }
    }
}

async fn remove(context: &Context, working: &Working, entry: &Leftover) -> bool {
    match try_remove(context, working, entry).await {
        Ok(true) => {
            info!(namespace = entry.namespace, name = entry.name, repository = entry.repository, "leftover hooks removed");
            true
        }
        Ok(false) => false,
        Err(error) => {
            warn!(namespace = entry.namespace, name = entry.name, error = %error, "leftover hooks not removed, trying again later");
            false
        }
    }
}

/// Removes the hooks of an entry that still prove to be ours, but those of a binding of that name that lives.
async fn try_remove(context: &Context, working: &Working, entry: &Leftover) -> Result<bool, ProviderError> {
    let binding = context.view.bindings.get(&ObjectRef::new(&entry.name).within(&entry.namespace));
    let Some(spared) = spared(binding.as_deref()) else { return Ok(false) };
    let Some(repository) = find(working, entry).await? else { return Ok(false) };
    let ownership = Ownership::new(&context.view.keys, &context.view.settings, None, &entry.namespace, &entry.name);
    let recorded: BTreeSet<&str> = entry.hooks.iter().map(|hook| hook.id.as_str()).collect();
    for hook in working.client.hooks(&repository).await? {
        let left = recorded.is_empty() || recorded.contains(hook.id.as_str());
        let goes = ownership.is_ours(&hook.url) && left && !spared.contains(hook.id.as_str());
        if goes && working.client.delete_hook(&repository, &hook.id).await? == Deletion::Hidden {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The hooks that the binding of an entry's name has now, and sees to itself: a new one of that name has the same identity.
/// `None` while that cannot be told.
fn spared(binding: Option<&RepoBinding>) -> Option<BTreeSet<&str>> {
    // One that is being deleted is the entry's own, let go in a moment: its status names the very hooks that are to go.
    let Some(alive) = binding.filter(|binding| binding.metadata.deletion_timestamp.is_none()) else { return Some(BTreeSet::new()) };
    let webhook = alive.status.as_ref().and_then(|status| status.webhook.as_ref());
    // After a restore the status may not tell yet which hooks it has: it is waited for.
    if webhook.is_none() && alive.spec.webhook.is_some() {
        return None;
    }
    Some(webhook.iter().flat_map(|webhook| &webhook.hooks).map(|hook| hook.id.as_str()).collect())
}

async fn find(working: &Working, entry: &Leftover) -> Result<Option<Repository>, ProviderError> {
    let by_id =
        if entry.repository_id.is_empty() { None } else { working.client.repository_by_id(&entry.repository_id).await.or_else(absent)? };
    if by_id.is_some() {
        return Ok(by_id);
    }
    let Ok(path) = working.provider.repository_path(&working.endpoint, &entry.repository) else { return Ok(None) };
    let by_path = working.client.repository(&path).await.map(Some).or_else(absent)?;
    Ok(by_path.filter(|found| entry.repository_id.is_empty() || found.id == entry.repository_id))
}

fn absent<T>(error: ProviderError) -> Result<Option<T>, ProviderError> {
    if error.kind == ErrorKind::NotFound { Ok(None) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn binding(deleted: Option<&str>, spec: &Value, webhook: &Value) -> RepoBinding {
        serde_json::from_value(json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
            "metadata": {"name": "shop", "namespace": "team", "deletionTimestamp": deleted},
            "spec": {"connectionRef": {"name": "acme"}, "repository": "acme/shop", "webhook": spec},
            "status": {"webhook": webhook},
        }))
        .unwrap()
    }

    #[test]
    fn the_hooks_of_a_binding_that_lives_are_spared_and_those_of_one_that_goes_are_not() {
        let holds = json!({"hooks": [{"id": "31", "events": ["Push"], "adopted": false}]});
        let wants = json!({});
        let going = binding(Some("2026-01-01T00:00:00Z"), &wants, &holds);
        assert_eq!(spared(Some(&going)), Some(BTreeSet::new()), "it was recorded, and its finalizer goes next");
        assert_eq!(spared(Some(&binding(None, &wants, &holds))), Some(BTreeSet::from(["31"])));
        assert_eq!(spared(Some(&binding(None, &wants, &Value::Null))), None, "not told yet");
        assert_eq!(spared(Some(&binding(None, &Value::Null, &Value::Null))), Some(BTreeSet::new()));
        assert_eq!(spared(None), Some(BTreeSet::new()));
    }
}
