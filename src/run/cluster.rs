//! Connects to the cluster, checks that the kinds are installed, and finds the cluster's own addresses.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::ListParams;
use kube::client::ClientBuilder;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tracing::info;

use super::error::RunError;
use crate::api::v1alpha1::{ConnectionGrant, GitProviderConnection, RepoBinding, RepositorySlice};
use crate::k8s::config;
use crate::network::NetworkPolicy;
use crate::telemetry::freshness::WatchHealth;

/// Timeout for connecting to the API server.
const CONNECT: Duration = Duration::from_secs(5);

/// A client for the cluster of `KUBECONFIG` or of the pod.
pub(super) async fn client(health: &WatchHealth) -> Result<Client, RunError> {
    let mut config = config::infer().await.map_err(|error| RunError::NoCluster(error.to_string()))?;
    config.connect_timeout = Some(CONNECT);
    // The library would retry every verb up to 15 times over minutes, even one that has succeeded. Reconciliations retry by
    // themselves and read first.
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(health).build())
}

/// Checks that the cluster knows our kinds, with a clear error if not.
/// Only a controller may read slices.
pub(super) async fn check_definitions(client: &Client, namespaces: &[String], reconciles: bool) -> Result<(), RunError> {
    let [connections, grants, bindings] = kinds();
    if reconciles {
        check::<RepositorySlice>(client, namespaces, RepositorySlice::plural(&()).into_owned()).await?;
    }
    check::<GitProviderConnection>(client, namespaces, connections).await?;
    check::<ConnectionGrant>(client, namespaces, grants).await?;
    check::<RepoBinding>(client, namespaces, bindings).await
}

async fn check<K>(client: &Client, namespaces: &[String], name: String) -> Result<(), RunError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<DeserializeGuard<K>> = match namespaces.first() {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    match api.list_metadata(&ListParams::default().limit(1)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Err(RunError::NotInstalled(name)),
        Err(error) => Err(error.into()),
    }
}

/// Finds the cluster's own addresses, so that users cannot make us call them. If the cluster does not report its ranges, only
/// the addresses of the API server are known.
pub(super) async fn learn_networks(client: &Client, network: &NetworkPolicy) {
    let ranges: Vec<IpNet> = match Api::<ServiceCIDR>::all(client.clone()).list(&ListParams::default()).await {
        Ok(list) => list.items.into_iter().filter_map(|range| range.spec?.cidrs).flatten().filter_map(|range| range.parse().ok()).collect(),
        Err(error) => {
            info!(
                error = crate::text::wording::of_api_server(&error),
                "cannot read the cluster's service ranges; they are not blocked as destinations"
            );
            Vec::new()
        }
    };
    network.cluster.set(ranges, api_servers().await);
}

async fn api_servers() -> Vec<IpAddr> {
    let Ok(config) = config::infer().await else { return Vec::new() };
    let Some(host) = config.cluster_url.host() else { return Vec::new() };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = config.cluster_url.port_u16().unwrap_or(443);
    let addresses = tokio::net::lookup_host((host, port)).await;
    addresses.map(|addresses| addresses.map(|address| address.ip()).collect()).unwrap_or_default()
}

/// Plural names of the kinds, for messages.
pub(super) fn kinds() -> [String; 3] {
    [GitProviderConnection::plural(&()), ConnectionGrant::plural(&()), RepoBinding::plural(&())].map(std::borrow::Cow::into_owned)
}
