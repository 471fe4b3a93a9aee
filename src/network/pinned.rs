//! Host names that stand for addresses which were found without DNS.
//!
//! An HTTP client keeps connections by the host of the URL. With the DNS name of a Service there, it would go on using a
//! connection to the former address after the Service was replaced; with the bare address, two Services that had the address one
//! after the other would share connections. A pinned host contains both an identity and the addresses, so a connection serves
//! only requests that mean the same Service at the same addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use ring::digest::{SHA256, digest};

use super::policy::{NetworkPolicy, Purpose};
use super::resolver::vet;

/// A suffix that no DNS server resolves (RFC 6761).
const SUFFIX: &str = ".pinned.invalid";
/// Bytes of the identity's digest in the name.
const IDENTITY: usize = 16;

/// The host for requests that mean `identity` at these addresses. Only a client for `service` sinks understands it.
#[must_use]
pub fn pinned_host(identity: &str, addresses: &[IpAddr]) -> String {
    let digest = digest(&SHA256, identity.as_bytes());
    let mut labels = vec![hex::encode(digest.as_ref().get(..IDENTITY).unwrap_or_default())];
    labels.extend(addresses.iter().map(|address| match address {
        IpAddr::V4(address) => hex::encode(address.octets()),
        IpAddr::V6(address) => hex::encode(address.octets()),
    }));
    labels.join(".") + SUFFIX
}

/// The addresses of a pinned host; empty for any other name.
fn addresses(host: &str) -> Vec<IpAddr> {
    let labels = host.strip_suffix(SUFFIX).into_iter().flat_map(|labels| labels.split('.').skip(1));
    let address = |label: &str| match label.len() {
        8 => u32::from_str_radix(label, 16).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
        32 => u128::from_str_radix(label, 16).ok().map(|bits| Ipv6Addr::from_bits(bits).into()),
        _ => None,
    };
    labels.filter_map(address).collect()
}

/// Resolves pinned hosts, and nothing else: no DNS query is made.
pub(super) struct PinnedResolver {
    policy: Arc<NetworkPolicy>,
    purpose: Purpose,
}

impl PinnedResolver {
    pub(super) const fn new(policy: Arc<NetworkPolicy>, purpose: Purpose) -> Self {
        Self { policy, purpose }
    }
}

impl Resolve for PinnedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let found = vet(&self.policy, self.purpose, name.as_str(), addresses(name.as_str()));
        Box::pin(async move {
            // Port 0 leaves the choice of port to the URL.
            Ok(Box::new(found?.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_pinned_host_is_read_back_and_differs_by_identity_and_by_address() {
        for list in [vec![ip("10.96.0.7")], vec![ip("fd00::7")], vec![ip("10.96.0.7"), ip("fd00::7")], vec![]] {
            let host = pinned_host("uid-1", &list);
            assert_eq!(addresses(&host), list);
            assert_eq!(url::Url::parse(&format!("http://{host}:80/")).unwrap().host_str(), Some(host.as_str()), "a valid host as it is");
        }
        let one = pinned_host("uid-1", &[ip("10.96.0.7")]);
        assert_ne!(one, pinned_host("uid-2", &[ip("10.96.0.7")]), "another owner of the address");
        assert_ne!(one, pinned_host("uid-1", &[ip("10.96.0.8")]), "another address");
    }

    #[tokio::test]
    async fn no_other_name_is_resolved() {
        let policy = Arc::new(NetworkPolicy { allow_cidrs: vec!["127.0.0.0/8".parse().unwrap()], ..NetworkPolicy::default() });
        let resolver = PinnedResolver::new(policy, Purpose::ServiceSink);
        for name in ["localhost", "ci.team.svc", "0a600007.invalid", "x.7f000001.example"] {
            assert_eq!(resolver.resolve(name.parse().unwrap()).await.unwrap().count(), 0, "{name}");
        }
        let host = pinned_host("uid-1", &[ip("127.0.0.1")]);
        let found: Vec<_> = resolver.resolve(host.parse().unwrap()).await.unwrap().collect();
        assert_eq!(found, ["127.0.0.1:0".parse().unwrap()]);
    }
}
