//! Finds the receivers to which this one may hand its outbox.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::Endpoint;
use kube::Client;
use url::{Host, Url};

use super::receivers::Discovery;
use crate::config::{Config, Receivers};
use crate::receiver;

/// The other receivers of `--receivers`, as they are when they are asked for.
pub(super) fn of(config: &Config, client: &Client) -> receiver::Peers {
    let discovery = match &config.receivers {
        Receivers::Urls(urls) => Discovery::Urls(urls.clone()),
        Receivers::Service(name) => {
            let (discovery, watch) = Discovery::behind(client.clone(), &config.namespace, name);
            // Not a task of the app: these end when the process is asked to stop, and the peers are needed after that.
            tokio::spawn(watch);
            discovery
        }
    };
    let own = Own { admin: config.admin_listen, addresses: config.pod_ips.clone() };
    Arc::new(move || {
        let mut peers = discovery.urls(is_ready);
        peers.retain(|peer| !own.is_at(peer));
        // Receivers that stop at the same time should not all choose the same one.
        fastrand::shuffle(&mut peers);
        peers
    })
}

/// Whether an endpoint is ready and stays. The Service publishes addresses that are not ready, so `ready` is always true there,
/// and `serving` tells.
fn is_ready(endpoint: &Endpoint) -> bool {
    let Some(conditions) = &endpoint.conditions else { return true };
    conditions.serving.or(conditions.ready).unwrap_or(true) && !conditions.terminating.unwrap_or(false)
}

/// The admin port of this process.
struct Own {
    admin: SocketAddr,
    /// The addresses of its pod.
    addresses: Vec<IpAddr>,
}

impl Own {
    fn is_at(&self, url: &Url) -> bool {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) | None => return false,
        };
        url.port_or_known_default() == Some(self.admin.port()) && (self.addresses.contains(&address) || self.admin.ip() == address)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::discovery::v1::EndpointConditions;

    use super::*;

    #[test]
    fn only_endpoints_that_serve_and_do_not_terminate_are_peers() {
        let endpoint = |ready, serving, terminating| Endpoint {
            conditions: Some(EndpointConditions { ready, serving, terminating }),
            ..Endpoint::default()
        };
        let (yes, no) = (Some(true), Some(false));
        assert!(is_ready(&endpoint(yes, yes, no)));
        assert!(!is_ready(&endpoint(yes, no, no)), "the Service publishes addresses that are not ready");
        assert!(!is_ready(&endpoint(yes, yes, yes)), "it stops itself");
        assert!(is_ready(&endpoint(yes, None, None)) && !is_ready(&endpoint(no, None, None)), "without `serving`, `ready` tells");
        assert!(is_ready(&Endpoint::default()), "unknown is ready, as the API says");
    }

    #[test]
    fn the_process_itself_is_no_peer() {
        let own = Own { admin: "[::]:9090".parse().unwrap(), addresses: vec!["10.1.2.3".parse().unwrap(), "fd00::3".parse().unwrap()] };
        let is_own = |own: &Own, url: &str| own.is_at(&url.parse().unwrap());
        assert!(is_own(&own, "http://10.1.2.3:9090/") && is_own(&own, "http://[fd00::3]:9090/"));
        assert!(!is_own(&own, "http://10.1.2.4:9090/") && !is_own(&own, "http://[fd00::4]:9090/"));
        let local = Own { admin: "127.0.0.1:9091".parse().unwrap(), addresses: Vec::new() };
        assert!(is_own(&local, "http://127.0.0.1:9091/") && !is_own(&local, "http://127.0.0.1:9092/"));
    }
}
