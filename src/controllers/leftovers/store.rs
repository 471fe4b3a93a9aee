//! The records of leftover hooks in `ConfigMap`s of the operator's namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{ListParams, PostParams};
use tracing::{info, warn};

use super::entry::{Leftover, Stored};
use crate::controllers::Context;
use crate::protocol::hash::stable_hash;

/// Number of `ConfigMap`s over which the entries are distributed.
const SHARDS: u64 = 16;
/// Limit for the keys and entries in one `ConfigMap`, in bytes. The API server accepts 1 MiB.
const SHARD_BYTES: usize = 900 * 1024;
/// Label of the `ConfigMap`s with entries.
pub const LABEL: &str = "forgebind.dev/leftover-hooks";
/// Attempts at a change when another client changes the `ConfigMap` at the same time.
const TRIES: u32 = 5;

/// The result of recording an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// The entry was written.
    Written,
    /// There is no space for the entry. Its hooks are only in the log.
    NoRoom,
}

fn shard(key: &str) -> String {
    let uid = key.split('.').next().unwrap_or(key);
    format!("forgebind-leftover-hooks-{}", stable_hash(uid) % SHARDS)
}

fn api(context: &Context) -> Api<ConfigMap> {
    Api::namespaced(context.client.clone(), &context.view.settings.namespace)
}

/// Records an entry under a [`Leftover::key`]. If there is no space, only logs it: an object must not be blocked forever by
/// others.
///
/// # Errors
/// The error of the API server. The finalizer must not be removed before this has succeeded.
pub async fn record(context: &Context, key: &str, entry: &Leftover) -> kube::Result<Noted> {
    let entry = &entry.bounded();
    let text = serde_json::to_string(entry).map_err(kube::Error::SerdeError)?;
    if !context.leftovers.is_complete() {
        context.leftovers.fill(listed(context).await?, context.view.clock.now());
    }
    let noted = if context.leftovers.has_room(key, &entry.namespace) {
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

/// Removes a finished entry.
pub(super) async fn forget(context: &Context, key: &str) -> kube::Result<()> {
    change(context, key, |data| {
        data.remove(key);
        true
    })
    .await?;
    context.leftovers.remove(key);
    context.metrics.leftovers.set(context.leftovers.count());
    Ok(())
}

/// Lists the entries by key. Skips unreadable ones and leaves them unchanged.
pub(super) async fn listed(context: &Context) -> kube::Result<BTreeMap<String, Leftover>> {
    let maps = api(context).list(&ListParams::default().labels(LABEL)).await?;
    let entries = maps.items.into_iter().filter_map(|map| map.data).flatten();
    Ok(entries.filter_map(|(key, text)| Some((key.clone(), read(&key, &text)?))).collect())
}

/// Reads one entry; `None` when it no longer exists or is unreadable.
pub(super) async fn stored(context: &Context, key: &str) -> kube::Result<Option<Stored>> {
    let map = api(context).get_opt(&shard(key)).await?;
    Ok(map.and_then(|map| map.data).and_then(|mut data| data.remove(key)).and_then(|text| read(key, &text)).map(Stored::new))
}

fn read(key: &str, text: &str) -> Option<Leftover> {
    let entry = crate::text::json::read_text(text).ok();
    if entry.is_none() {
        info!(key, "leftover entry cannot be read, ignored");
    }
    entry
}

/// Edits the `ConfigMap` of a key. `edit` returns whether the result may be written.
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
    use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};

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
}
