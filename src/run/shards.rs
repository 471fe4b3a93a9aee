//! Watches the Secrets with users' webhook secrets and what sinks need by name, and only those that some binding needs, because a receiver is never
//! granted the right to list Secrets.

use std::collections::{BTreeMap, HashSet};
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
use crate::controllers::binding::shard_store;
use crate::k8s::watch::{self, Change};
use crate::protocol::webhook_secrets::{self, UserSecrets};
use crate::text::wording;

/// Called with the number of a shard, the version of its Secret and what it contains, at first and after every change. The version
/// is `None` if there is no such Secret.
pub(super) type Hears = Arc<dyn Fn(u8, Option<u64>, &BTreeMap<String, UserSecrets>) + Send + Sync>;

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
                let version = secret.as_ref().and_then(|secret| secret.resource_version()?.parse().ok());
                let data = secret.and_then(|secret| secret.data).unwrap_or_default();
                let (entries, unreadable) = webhook_secrets::read_shard(&data);
                for uid in unreadable {
                    warn!(shard, uid, "prepared webhook secret cannot be read");
                }
                hears(shard, version, &entries);
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(kind = "Secret", name, error = wording::of_watch(&error), "watch failed, retrying");
                }
            }
        }
    }
}

/// Watches what is prepared, so that what somebody deletes is prepared again.
pub(super) fn renew(watched: &mut Watched, context: &Arc<Context>) {
    let (client, namespace) = (context.client.clone(), context.view.settings.namespace.clone());
    let context = Arc::clone(context);
    let hears: Hears = Arc::new(move |shard, version, entries| {
        shard_store::renew(&context.view, &context.view.prepared.see(shard, version, entries));
    });
    let shards = Shards::new(&client, &namespace, hears);
    watched.on_bindings(Box::new(move |change| {
        if let Change::Applied(binding) = change {
            shards.watch_for(binding);
        }
    }));
}

#[cfg(test)]
mod tests;
