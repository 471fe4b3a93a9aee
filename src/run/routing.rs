//! Updates the receiver's routes from the watches, among them that of Services, and from the Secrets in which the controller prepares the users' own webhook
//! secrets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::{Client, Resource as _, ResourceExt as _};

use super::shards::Shards;
use super::watching::Watched;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::k8s::watch::{self, Change, PartChange, Scope};
use crate::network::NetworkPolicy;
use crate::protocol::keys::ReceiverKey;
use crate::protocol::sink_service::ServiceFacts;
use crate::providers::registry;
use crate::receiver::{Routes, RoutesConfig, ServiceWatch};
use crate::telemetry::freshness::WatchHealth;

/// The table of routes of this process.
pub(super) fn routes(
    config: &Config,
    key: ReceiverKey,
    installation: Option<String>,
    key_since: Option<Timestamp>,
    clock: SharedClock,
    policy: Arc<NetworkPolicy>,
    health: &WatchHealth,
) -> Routes {
    let served = config.providers.clone();
    let providers = Arc::new(move |kind| registry::provider(kind).filter(|_| served.contains(&kind)));
    let (namespaces, health) = (config.watch_namespaces.clone(), health.clone());
    let service_watch: ServiceWatch = Arc::new(move |namespace| health.silent_for(&services_path(namespace)));
    Routes::new(RoutesConfig { installation, key_since, providers, namespaces, service_watch, ..RoutesConfig::new(key, clock, policy) })
}

/// The path of the watch of Services of a namespace, or of all.
fn services_path(namespace: Option<&str>) -> String {
    Service::url_path(&(), namespace)
}

/// Tracks whether the first listings are complete.
#[derive(Clone, Default)]
pub(super) struct Synced {
    connections: Arc<AtomicBool>,
    grants: Arc<AtomicBool>,
    bindings: Arc<AtomicBool>,
    services: Arc<AtomicBool>,
}

impl Synced {
    pub(super) fn all(&self) -> bool {
        [&self.connections, &self.grants, &self.bindings].iter().all(|listed| listed.load(Ordering::Acquire))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.all() { Ok(()) } else { Err("not listed yet".to_owned()) }
    }

    /// Whether the Services are listed. Without them deliveries are taken in, but nothing is sent to a Service.
    pub(super) fn check_services(&self) -> Result<(), String> {
        if self.services.load(Ordering::Acquire) { Ok(()) } else { Err("not listed yet".to_owned()) }
    }

    /// Watches the Services that sinks may name, and keeps the table of routes up to date.
    pub(super) fn follow_services(&self, routes: &Routes, client: &Client, scope: Scope) -> impl Future<Output = ()> + Send + use<> {
        let (table, complete) = (routes.clone(), Arc::clone(&self.services));
        watch::parts::<Service, _>(client.clone(), scope, ServiceFacts::of, move |change| match change {
            PartChange::Applied(namespace, name, facts) => table.apply_service(namespace, name, facts),
            PartChange::Deleted(namespace, name) => table.remove_service(&namespace, &name),
            PartChange::Listed(namespace, listed) => table.keep_services(namespace.as_deref(), &listed),
            PartChange::Ready => {
                table.services_are_listed();
                complete.store(true, Ordering::Release);
            }
        })
    }
}

/// Connects the routes to the watches.
pub(super) fn follow(routes: &Routes, watched: &mut Watched, client: &Client, namespace: &str) -> Synced {
    let synced = Synced::default();
    let (table, complete) = (routes.clone(), Arc::clone(&synced.connections));
    watched.on_connections(Box::new(move |change| match change {
        Change::Applied(connection) => table.apply_connection(connection),
        Change::Deleted(connection) => table.remove_connection(&connection.namespace().unwrap_or_default(), &connection.name_any()),
        Change::Ready => complete.store(true, Ordering::Release),
        Change::Invalid(_) => {}
    }));
    let (table, complete) = (routes.clone(), Arc::clone(&synced.grants));
    watched.on_grants(Box::new(move |change| match change {
        Change::Applied(grant) => table.apply_grant(grant),
        Change::Deleted(grant) => table.remove_grant(&grant.namespace().unwrap_or_default(), &grant.name_any()),
        Change::Invalid(invalid) => {
            let metadata = &invalid.metadata;
            table.remove_grant(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
        }
        Change::Ready => {
            table.grants_are_listed();
            complete.store(true, Ordering::Release);
        }
    }));
    let (table, complete) = (routes.clone(), Arc::clone(&synced.bindings));
    let prepared = routes.clone();
    let shards = Shards::new(client, namespace, Arc::new(move |shard, _, entries| prepared.apply_user_secrets(shard, entries)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_watch_of_services_is_that_of_its_requests() {
        assert_eq!(services_path(None), "/api/v1/services");
        assert_eq!(services_path(Some("team")), "/api/v1/namespaces/team/services");
    }
}
