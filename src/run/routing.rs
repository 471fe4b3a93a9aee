//! Feeds the receiver's routes from the watches, and from the Secrets in which the controller prepares what users brought.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, ResourceExt as _};
use tracing::warn;

use super::watching::Watched;
use crate::api::v1alpha1::RepoBinding;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::keys::ReceiverKey;
use crate::providers::registry;
use crate::providers::transport::network::NetworkPolicy;
use crate::receiver::{Routes, RoutesConfig};
use crate::receiver_secrets;
use crate::watches::{self, Change};

/// The routes of this process.
pub(super) fn routes(
    config: &Config,
    key: ReceiverKey,
    installation: Option<String>,
    key_since: Option<Timestamp>,
    clock: SharedClock,
    policy: Arc<NetworkPolicy>,
) -> Routes {
    let served = config.providers.clone();
    let providers = Arc::new(move |kind| registry::provider(kind).filter(|_| served.contains(&kind)));
    Routes::new(RoutesConfig { installation, key_since, providers, ..RoutesConfig::new(key, clock, policy) })
}

/// Whether the routes are complete.
#[derive(Clone, Default)]
pub(super) struct Synced {
    connections: Arc<AtomicBool>,
    bindings: Arc<AtomicBool>,
}

impl Synced {
    pub(super) fn all(&self) -> bool {
        self.connections.load(Ordering::Acquire) && self.bindings.load(Ordering::Acquire)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.all() { Ok(()) } else { Err("not read yet".to_owned()) }
    }
}

/// Lets the routes follow the watches.
pub(super) fn follow(routes: &Routes, watched: &mut Watched, client: &Client, namespace: &str) -> Synced {
    let synced = Synced::default();
    let (table, complete) = (routes.clone(), Arc::clone(&synced.connections));
    watched.on_connections(Box::new(move |change| match change {
        Change::Applied(connection) => table.apply_connection(connection),
        Change::Deleted(connection) => table.remove_connection(&connection.namespace().unwrap_or_default(), &connection.name_any()),
        Change::Ready => complete.store(true, Ordering::Release),
        Change::Invalid(_) => {}
    }));
    let (table, complete) = (routes.clone(), Arc::clone(&synced.bindings));
    let shards = Shards { client: client.clone(), namespace: namespace.to_owned(), routes: routes.clone(), watched: Mutex::default() };
    watched.on_bindings(Box::new(move |change| match change {
        Change::Applied(binding) => {
            table.apply_binding(binding);
            shards.watch_for(binding);
        }
        Change::Deleted(binding) => {
            table.remove_binding(&binding.namespace().unwrap_or_default(), &binding.name_any(), &binding.uid().unwrap_or_default());
        }
        Change::Ready => complete.store(true, Ordering::Release),
        Change::Invalid(_) => {}
    }));
    synced
}

/// Watches the Secrets with users' webhook secrets by name, and only those that some binding needs: a receiver is never
/// given the right to list Secrets.
struct Shards {
    client: Client,
    namespace: String,
    routes: Routes,
    watched: Mutex<HashSet<u8>>,
}

impl Shards {
    fn watch_for(&self, binding: &RepoBinding) {
        let brought = binding.spec.webhook.as_ref().is_some_and(|webhook| webhook.secret_ref.is_some() && webhook.url.is_none());
        let Some(uid) = binding.uid().filter(|_| brought) else { return };
        let shard = receiver_secrets::shard(&uid);
        if self.watched.lock().unwrap_or_else(PoisonError::into_inner).insert(shard) {
            let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
            // Ends with the process.
            tokio::spawn(follow_shard(secrets, shard, self.routes.clone()));
        }
    }
}

async fn follow_shard(secrets: Api<Secret>, shard: u8, routes: Routes) {
    let name = receiver_secrets::secret_name(shard);
    let mut states = watch_object(secrets, &name).backoff(watches::pauses()).boxed();
    let mut failing = false;
    while let Some(state) = states.next().await {
        match state {
            Ok(secret) => {
                failing = false;
                let data = secret.and_then(|secret| secret.data).unwrap_or_default();
                let (entries, unreadable) = receiver_secrets::read_shard(&data);
                for uid in unreadable {
                    warn!(shard, uid, "prepared webhook secret is not readable");
                }
                routes.apply_user_secrets(shard, &entries);
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(shard, error = %error, "prepared webhook secrets cannot be watched, trying again");
                }
            }
        }
    }
}
