//! Protects credentials that do not come from the manifest that chooses where they are sent.
//!
//! A check runs in the CI of a repository, where the author of a merge request writes the manifests and thereby chooses hosts,
//! proxies and certificate authorities. The author must not obtain a token from the environment, a Secret of the cluster or one
//! from another `-f`, so such a credential is sent only to the known clouds and to hosts that the operator of the check allows.

use std::collections::BTreeMap;
use std::sync::Arc;

use url::Url;

use super::CheckSettings;
use super::inventory::{Inventory, Key, Subject, credential};
use crate::api::v1alpha1::GitProviderConnection;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::network::NetworkPolicy;
use crate::providers::Endpoint;
use crate::providers::transport::ProxySettings;

/// The connections led by a manifest whose credential comes from elsewhere.
pub(super) struct Outside {
    /// Source of the credential, by connection.
    origins: BTreeMap<Key, &'static str>,
    network: Arc<NetworkPolicy>,
}

impl Outside {
    pub(super) fn new(settings: &CheckSettings, inventory: &Inventory, network: &Arc<NetworkPolicy>) -> Self {
        let connections = inventory.connections.iter().filter(|(key, subject)| is_led_by_a_manifest(inventory, key, subject));
        let origins = connections.filter_map(|(key, subject)| Some((key.clone(), origin(settings, inventory, key, subject)?)));
        Self { origins: origins.collect(), network: Arc::clone(network) }
    }

    /// Checks whether the credential of a connection may be sent to the addresses in its manifest.
    ///
    /// # Errors
    /// The host that would receive it, and the flag that allows it.
    pub(super) fn admit(&self, connection: &ConnectionTarget, endpoint: &Endpoint, proxy: Option<&ProxySettings>) -> Result<(), String> {
        let Some(origin) = self.origins.get(&(connection.namespace.clone(), connection.name.clone())) else { return Ok(()) };
        let refused = |what: &str, url: Option<&Url>| {
            let host = url.and_then(Url::host_str).unwrap_or_default();
            format!(
                "the credential comes from {origin}, but the {what} {host} from a manifest, so the credential was not sent; to send it to \
                 {host}, run this check with --allow-provider-hosts {host}"
            )
        };
        let mut addresses = [&endpoint.web, &endpoint.api].into_iter().chain(&endpoint.further_origins);
        // Over http, the host name of a cloud proves nothing: anyone on the network path can read the credential.
        let may = |url: &Url| self.network.is_listed(url) || (url.scheme() == "https" && self.network.is_cloud_or_listed(url));
        if let Some(url) = addresses.find(|url| !may(url)) {
            return Err(refused("host", Some(url)));
        }
        let proxy = proxy.map(|proxy| Url::parse(&proxy.address).ok());
        match proxy {
            Some(url) if !url.as_ref().is_some_and(|url| self.network.is_listed(url)) => Err(refused("proxy", url.as_ref())),
            _ => Ok(()),
        }
    }
}

/// Whether a manifest determines where a connection leads: the connection's own manifest, unless the cluster's connection leads
/// to the same place, or the manifest of its proxy or certificate authority.
fn is_led_by_a_manifest(inventory: &Inventory, key: &Key, subject: &Subject<GitProviderConnection>) -> bool {
    let spec = &subject.object.spec;
    let credential = credential(subject, &key.0).map(|(_, name)| name);
    let of = |name: &str| (key.0.clone(), name.to_owned());
    let on_the_way = spec.secret_names().filter(|name| Some(*name) != credential.as_deref());
    let by_secret = on_the_way.map(of).any(|key| inventory.secrets.contains_key(&key));
    let by_map = spec.config_map_name().map(of).is_some_and(|key| inventory.config_maps.contains_key(&key));
    let by_itself = subject.location.is_some() && !inventory.unmoved.contains(key);
    by_itself || by_secret || by_map
}

/// The source of a connection's credential; `None` if it comes from the same `-f` as the connection, or if there is none.
fn origin(settings: &CheckSettings, inventory: &Inventory, key: &Key, subject: &Subject<GitProviderConnection>) -> Option<&'static str> {
    let secret = credential(subject, &key.0)?;
    if settings.tokens.iter().any(|named| named.is_for(key)) {
        return Some("--token-env");
    }
    match inventory.secret_sources.get(&secret) {
        Some(source) if inventory.connection_sources.get(key) == Some(source) => None,
        Some(_) => Some("another -f"),
        None if settings.from_cluster => Some("the cluster"),
        None => settings.token.is_some().then_some("--token-env"),
    }
}
