//! Reads and changes the Secrets with the prepared entries of bindings, and keeps [`PreparedEntries`](super::prepared) up to date.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use tracing::{info, warn};

use super::prepared::{Held, Room};
use crate::controllers::{Context, View};
use crate::protocol::webhook_secrets::{self, UserSecrets};
use crate::text::wording;

/// Attempts at a change that conflicts with another writer of the Secret.
const TRIES: u32 = 5;

fn api(context: &Context) -> Api<Secret> {
    Api::namespaced(context.client.clone(), &context.view.settings.namespace)
}

/// Reads the shard of a binding, if its contents are not known yet: an earlier leader may have prepared something that the spec no
/// longer names. At most once for each shard while this process leads.
pub async fn read_once(context: &Context, uid: &str) -> kube::Result<()> {
    let (prepared, shard) = (&context.view.prepared, webhook_secrets::shard(uid));
    if prepared.needs_no_read(shard) {
        return Ok(());
    }
    // One after the other: many bindings of one shard begin at the same time.
    let _reading = prepared.reading.lock().await;
    if prepared.needs_no_read(shard) {
        return Ok(());
    }
    let name = webhook_secrets::secret_name(shard);
    match api(context).get_opt(&name).await {
        Ok(secret) => {
            see(&context.view, shard, secret.as_ref(), None);
            Ok(())
        }
        // A Role that was granted by hand may lack this right. Without it, only what an earlier leader prepared is not withdrawn.
        Err(error @ kube::Error::Api(_)) if is_forbidden(&error) => {
            warn!(kind = "Secret", name, error = wording::of_api_server(&error), "what is prepared for the receivers cannot be read");
            prepared.refuse(shard);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_forbidden())
}

/// Takes in the state of a shard. `own` is the binding whose entry this process just wrote.
fn see(view: &View, shard: u8, secret: Option<&Secret>, own: Option<&str>) {
    let version = secret.and_then(|secret| secret.resource_version()?.parse().ok());
    let data = secret.and_then(|secret| secret.data.as_ref());
    let entries = data.map(|data| webhook_secrets::read_shard(data).0).unwrap_or_default();
    let mut lost = view.prepared.see(shard, version, &entries);
    lost.retain(|uid| Some(uid.as_str()) != own);
    renew(view, &lost);
}

/// Triggers the bindings whose entries are gone, by UID: their reconciliation prepares them again. Until then the receivers refuse
/// their deliveries, or hold the events of their sinks.
pub fn renew(view: &View, lost: &[String]) {
    if lost.is_empty() {
        return;
    }
    for binding in view.bindings.state_filter(|binding| binding.uid().is_some_and(|uid| lost.contains(&uid))) {
        info!(
            namespace = binding.namespace(),
            name = binding.name_any(),
            "what was prepared for the receivers was deleted; preparing it again"
        );
        view.triggers.binding(&binding);
    }
}

/// Removes a binding's entry.
pub async fn withdraw(context: &Context, uid: &str) -> kube::Result<()> {
    change(context, "", uid, |_| None, |_, _, _| true).await.map(|_| ())
}

/// Changes a binding's entry. `has_room` judges an entry by its size and by what all bindings of the namespace have prepared for
/// their sinks, this entry included. Returns `false`, without a change, if there is no room for the entry.
pub async fn change(
    context: &Context,
    namespace: &str,
    uid: &str,
    edit: impl Fn(UserSecrets) -> Option<UserSecrets>,
    has_room: impl Fn(Room, usize, usize) -> bool,
) -> kube::Result<bool> {
    let (api, shard) = (api(context), webhook_secrets::shard(uid));
    let name = webhook_secrets::secret_name(shard);
    let mut tries = 0;
    loop {
        tries += 1;
        let present = api.get_opt(&name).await?;
        let exists = present.is_some();
        let mut secret = present.unwrap_or_else(|| empty(&name));
        let data = secret.data.get_or_insert_default();
        let known = data.get(uid).and_then(|entry| UserSecrets::from_json(&entry.0).ok()).unwrap_or_default();
        let wanted = edit(known).and_then(|secrets| Some((ByteString(secrets.to_json().ok()?), Held::of(&secrets).sink_bytes)));
        if wanted.as_ref().map(|(entry, _)| entry) == data.get(uid) {
            see(&context.view, shard, exists.then_some(&secret), Some(uid));
            return Ok(true);
        }
        if let Some((entry, sink_bytes)) = &wanted
            && !fits(context, namespace, uid, data, (entry.0.len(), *sink_bytes), &has_room)
        {
            see(&context.view, shard, exists.then_some(&secret), Some(uid));
            return Ok(false);
        }
        let _leaving = wanted.is_none().then(|| context.view.prepared.leave(uid));
        match wanted {
            Some((entry, _)) => data.insert(uid.to_owned(), entry),
            None => data.remove(uid),
        };
        let result = if exists {
            api.replace(&name, &PostParams::default(), &secret).await
        } else {
            api.create(&PostParams::default(), &secret).await
        };
        match result {
            Err(kube::Error::Api(status)) if tries < TRIES && (status.is_conflict() || status.is_already_exists()) => {}
            Err(error) => return Err(error),
            Ok(written) => {
                see(&context.view, shard, Some(&written), Some(uid));
                return Ok(true);
            }
        }
    }
}

/// Only a changed entry is measured: with thousands of bindings the list of the namespace is slow.
fn fits(
    context: &Context,
    namespace: &str,
    uid: &str,
    data: &BTreeMap<String, ByteString>,
    (size, sink_bytes): (usize, usize),
    has_room: &impl Fn(Room, usize, usize) -> bool,
) -> bool {
    let of_namespace = context.view.bindings.state_filter(|binding| binding.namespace().as_deref() == Some(namespace));
    let uids: BTreeSet<String> = of_namespace.iter().filter_map(|binding| binding.uid()).collect();
    let sinks = context.view.prepared.sink_bytes(uids.iter().filter(|other| *other != uid)) + sink_bytes;
    has_room(Room::beside(uid, data, |entry| entry.0.len(), &uids), size, sinks)
}

fn empty(name: &str) -> Secret {
    let labels = BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "forgebind".to_owned())]);
    Secret { metadata: ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() }, ..Secret::default() }
}
