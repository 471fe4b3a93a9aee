//! Hooks that could not be removed: recorded in `ConfigMap`s of the operator's namespace, and worked off when the connection
//! works again. What is recorded here was given up nowhere else.

mod queue;

use std::collections::BTreeMap;
use std::ops::Deref;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::Context;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};
use crate::controllers::runtime::backoff::stable_hash;

pub use queue::{Pending, work};

/// How many `ConfigMap`s share the entries.
const SHARDS: u64 = 16;
/// Bytes of keys and entries in one of them: the API server takes 1 MiB.
const SHARD_BYTES: usize = 900 * 1024;
/// Entries of one namespace: no tenant may fill the room of all.
const OF_A_NAMESPACE: usize = 500;
/// Characters of the reason that are kept.
const REASON_LENGTH: usize = 300;
/// Hooks of one entry that are kept by their ids; an entry without any stands for all that the binding has there.
const HOOKS: usize = 64;
/// Marks the `ConfigMap`s with entries.
pub const LABEL: &str = "forgebind.dev/leftover-hooks";
/// How often a change is tried when somebody else changed the ConfigMap meanwhile.
const TRIES: u32 = 5;

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
    /// Whether nobody knows any more which of the hooks were adopted, so that all are handed back and none is deleted.
    #[serde(default)]
    pub hand_back: bool,
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
    /// Whether it was somebody else's, so that it is handed back and not deleted.
    #[serde(default)]
    pub adopted: bool,
}

/// An entry as it was read from the operator's own namespace, which only the operator writes: what is built otherwise is none.
#[derive(Clone, Debug)]
pub struct Stored(Leftover);

impl Deref for Stored {
    type Target = Leftover;

    fn deref(&self) -> &Leftover {
        &self.0
    }
}

#[cfg(test)]
impl Stored {
    pub(in crate::controllers) const fn of_test(entry: Leftover) -> Self {
        Self(entry)
    }
}

/// What became of an entry that was to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is written down.
    Written,
    /// There is no room for it. The hooks are in the log and nowhere else.
    NoRoom,
}

impl Leftover {
    /// The key of the entry of a binding at a target: each target of a binding has its own.
    #[must_use]
    pub fn key(uid: &str, target: &HookTarget) -> String {
        let HookTarget { connection, repository_id, repository, .. } = target;
        let target = [&connection.namespace, &connection.name, repository_id, repository].map(String::as_str).join("\n");
        format!("{uid}.{:016x}", stable_hash(&target))
    }

    fn bounded(&self) -> Self {
        let mut entry = self.clone();
        entry.reason = entry.reason.chars().take(REASON_LENGTH).collect();
        entry.hooks.truncate(HOOKS);
        entry
    }
}

fn shard(key: &str) -> String {
    let uid = key.split('.').next().unwrap_or(key);
    format!("forgebind-leftover-hooks-{}", stable_hash(uid) % SHARDS)
}

fn api(context: &Context) -> Api<ConfigMap> {
    Api::namespaced(context.client.clone(), &context.view.settings.namespace)
}

/// Records an entry under a [`Leftover::key`]. Where there is no room for it, the log has it: an object must not wait for ever
/// because of others.
///
/// # Errors
/// What the API server said. The finalizer must not go before this has succeeded.
pub async fn record(context: &Context, key: &str, entry: &Leftover) -> kube::Result<Noted> {
    let entry = &entry.bounded();
    let text = serde_json::to_string(entry).map_err(kube::Error::SerdeError)?;
    let noted = if context.leftovers.has_room(context, key, &entry.namespace).await? {
        change(context, key, |data| {
            data.insert(key.to_owned(), text.clone());
            size(data) <= SHARD_BYTES
        })
        .await?
    } else {
        Noted::NoRoom
    };
    let hooks: Vec<&str> = entry.hooks.iter().map(|hook| hook.id.as_str()).collect();
    let (namespace, name, repository, reason) = (&entry.namespace, &entry.name, &entry.repository, &entry.reason);
    if noted == Noted::NoRoom {
        warn!(namespace, name, repository, reason, ?hooks, "hooks left behind, and no room to record them: remove them by hand");
        return Ok(noted);
    }
    context.metrics.leftovers_recorded.inc();
    context.leftovers.add(key, entry, context.view.clock.now());
    context.metrics.leftovers.set(context.leftovers.count());
    warn!(namespace, name, repository, reason, ?hooks, "hooks left behind, recorded");
    Ok(noted)
}

fn size(data: &BTreeMap<String, String>) -> usize {
    data.iter().map(|(key, entry)| key.len() + entry.len()).sum()
}

/// Removes an entry that is done.
async fn forget(context: &Context, key: &str) -> kube::Result<()> {
    change(context, key, |data| {
        data.remove(key);
        true
    })
    .await?;
    context.leftovers.remove(key);
    context.metrics.leftovers.set(context.leftovers.count());
    Ok(())
}

/// Every entry by its key. Those that cannot be read are left as they are.
async fn listed(context: &Context) -> kube::Result<BTreeMap<String, Leftover>> {
    let maps = api(context).list(&ListParams::default().labels(LABEL)).await?;
    let entries = maps.items.into_iter().filter_map(|map| map.data).flatten();
    Ok(entries.filter_map(|(key, text)| Some((key.clone(), read(&key, &text)?))).collect())
}

/// One entry; `None` when it is not there any more, or cannot be read.
async fn stored(context: &Context, key: &str) -> kube::Result<Option<Stored>> {
    let map = api(context).get_opt(&shard(key)).await?;
    Ok(map.and_then(|map| map.data).and_then(|mut data| data.remove(key)).and_then(|text| read(key, &text)).map(Stored))
}

fn read(key: &str, text: &str) -> Option<Leftover> {
    let entry = crate::text::json::read_text(text).ok();
    if entry.is_none() {
        info!(key, "leftover entry is not readable, left as it is");
    }
    entry
}

/// Changes the `ConfigMap` of a key; `edit` tells whether the result is to be written.
async fn change(context: &Context, key: &str, edit: impl Fn(&mut BTreeMap<String, String>) -> bool) -> kube::Result<Noted> {
    let api = api(context);
    let name = shard(key);
    let mut tries = 0;
    loop {
        tries += 1;
        let present = api.get_opt(&name).await?;
        let exists = present.is_some();
        let mut map = present.unwrap_or_else(|| empty(&name));
        let before = map.data.clone().unwrap_or_default();
        if !edit(map.data.get_or_insert_default()) {
            return Ok(Noted::NoRoom);
        }
        if map.data.as_ref() == Some(&before) {
            return Ok(Noted::Written);
        }
        let result =
            if exists { api.replace(&name, &PostParams::default(), &map).await } else { api.create(&PostParams::default(), &map).await };
        match result {
            Err(kube::Error::Api(status)) if tries < TRIES && (status.is_conflict() || status.is_already_exists()) => {}
            result => return result.map(|_| Noted::Written),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn target(repository: &str) -> HookTarget {
        let connection = ConnectionTarget { namespace: "platform".to_owned(), name: "acme".to_owned() };
        HookTarget { connection, repository_id: "7".to_owned(), repository: repository.to_owned(), host: String::new(), seal: None }
    }

    #[test]
    fn each_target_of_a_binding_has_an_entry_of_its_own_in_the_same_config_map() {
        let (one, other) = (Leftover::key("uid-1", &target("acme/shop")), Leftover::key("uid-1", &target("acme/store")));
        assert_ne!(one, other);
        assert_eq!(shard(&one), shard(&other));
        assert_eq!(shard(&one), shard("uid-1"));
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{one} is a key of a ConfigMap");
    }

    #[test]
    fn an_entry_is_bounded_however_much_there_is_to_tell() {
        let hook = |id: usize| LeftoverHook { id: id.to_string(), host: "hooks.acme.io".to_owned(), adopted: false };
        let entry = Leftover {
            namespace: "team".to_owned(),
            name: "shop".to_owned(),
            connection: target("").connection,
            repository: "acme/shop".to_owned(),
            repository_id: "7".to_owned(),
            hooks: (0..5000).map(hook).collect(),
            hand_back: false,
            reason: "é".repeat(1_000_000),
            since: Timestamp::UNIX_EPOCH,
        };
        let bounded = entry.bounded();
        assert_eq!((bounded.hooks.len(), bounded.reason.chars().count()), (HOOKS, REASON_LENGTH));
        assert!(serde_json::to_string(&bounded).unwrap().len() < 8 * 1024);
    }
}
