//! Watches the Secrets with users' webhook secrets and what sinks need by name, and only those that some binding needs, because a receiver is never
//! granted the right to list Secrets.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};
use parking_lot::Mutex;
use tracing::{info, warn};

use super::watching::Watched;
use crate::api::v1alpha1::RepoBinding;
use crate::controllers::Context;
use crate::k8s::watch::{self, Change};
use crate::protocol::webhook_secrets::{self, UserSecrets};
use crate::text::wording;

/// Called with the prepared secrets of a shard, at first and after every change.
pub(super) type Hears = Arc<dyn Fn(u8, &BTreeMap<String, UserSecrets>) + Send + Sync>;

/// The watched shards.
pub(super) struct Shards {
    client: Client,
    namespace: String,
    hears: Hears,
    watched: Mutex<HashSet<u8>>,
}

impl Shards {
    pub(super) fn new(client: &Client, namespace: &str, hears: Hears) -> Self {
        Self { client: client.clone(), namespace: namespace.to_owned(), hears, watched: Mutex::default() }
    }

    pub(super) fn watch_for(&self, binding: &RepoBinding) {
        let Some(uid) = binding.uid().filter(|_| brings_secret(binding) || binding.sinks_need_secrets()) else { return };
        let shard = webhook_secrets::shard(&uid);
        if self.watched.lock().insert(shard) {
            let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
            // Runs until the process ends.
            tokio::spawn(follow(secrets, shard, Arc::clone(&self.hears)));
        }
    }
}

/// Whether a binding has its own secret for deliveries to our receiver.
fn brings_secret(binding: &RepoBinding) -> bool {
    binding.spec.webhook.as_ref().is_some_and(|webhook| webhook.secret_ref.is_some() && webhook.url.is_none())
}

/// Follows one of these Secrets. Logs failures as every other watch does; the answers of the API server are counted in the
/// client.
async fn follow(secrets: Api<Secret>, shard: u8, hears: Hears) {
    let name = webhook_secrets::secret_name(shard);
    let mut states = pin!(watch::object(secrets, &name));
    let mut failing = false;
    while let Some(state) = states.next().await {
        match state {
            Ok(secret) => {
                if std::mem::take(&mut failing) {
                    info!(kind = "Secret", name, "watch works again");
                }
                let data = secret.and_then(|secret| secret.data).unwrap_or_default();
                let (entries, unreadable) = webhook_secrets::read_shard(&data);
                for uid in unreadable {
                    warn!(shard, uid, "prepared webhook secret cannot be read");
                }
                hears(shard, &entries);
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(kind = "Secret", name, error = wording::of_watch(&error), "watch failed, retrying");
                }
            }
        }
    }
}

/// Triggers bindings whose prepared secret was deleted, because their reconciliation prepares it again. Until then the
/// receivers refuse their deliveries.
pub(super) fn renew(watched: &mut Watched, context: &Arc<Context>) {
    let prepared: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let (context, known) = (Arc::clone(context), Arc::clone(&prepared));
    let (client, namespace) = (context.client.clone(), context.view.settings.namespace.clone());
    let hears: Hears = Arc::new(move |shard, entries| {
        let gone = gone(&known.lock(), shard, entries);
        for binding in context.view.bindings.state_filter(|binding| binding.uid().is_some_and(|uid| gone.contains(&uid))) {
            info!(
                namespace = binding.namespace(),
                name = binding.name_any(),
                "the prepared webhook secret was deleted; preparing it again"
            );
            context.view.memory.probe_next(&binding.uid().unwrap_or_default());
            context.view.memory.publish_next(&binding.uid().unwrap_or_default());
            context.view.triggers.binding(&binding);
        }
    });
    let shards = Shards::new(&client, &namespace, hears);
    watched.on_bindings(Box::new(move |change| match change {
        Change::Applied(binding) => {
            let mut prepared = prepared.lock();
            let uid = binding.uid().unwrap_or_default();
            // Only a prepared secret can be lost: the first reconciliation of a binding prepares it before the status contains
            // a secret version.
            let needs = brings_secret(binding) || binding.sinks_need_secrets();
            if !needs || binding.metadata.deletion_timestamp.is_some() {
                prepared.remove(&uid);
            } else if binding.status.as_ref().and_then(|status| status.webhook.as_ref()?.secret_version.as_ref()).is_some() {
                prepared.insert(uid);
            }
            drop(prepared);
            shards.watch_for(binding);
        }
        Change::Deleted(binding) => drop(prepared.lock().remove(&binding.uid().unwrap_or_default())),
        Change::Invalid(_) | Change::Ready => {}
    }));
}

/// The UIDs whose secrets were prepared in a shard and are missing now.
fn gone(prepared: &BTreeSet<String>, shard: u8, entries: &BTreeMap<String, UserSecrets>) -> BTreeSet<String> {
    prepared.iter().filter(|uid| webhook_secrets::shard(uid) == shard && !entries.contains_key(*uid)).cloned().collect()
}

#[cfg(test)]
mod tests;
