//! Resolves names to checked addresses only.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::policy::{NetworkPolicy, Purpose, Refusal};

pub(super) struct VettedResolver {
    policy: Arc<NetworkPolicy>,
    purpose: Purpose,
}

impl VettedResolver {
    pub(super) const fn new(policy: Arc<NetworkPolicy>, purpose: Purpose) -> Self {
        Self { policy, purpose }
    }
}

/// Keeps the allowed addresses. If none is allowed, returns the refusal of the first one.
pub(super) fn vet(policy: &NetworkPolicy, purpose: Purpose, host: &str, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Refusal> {
    let mut refusal = None;
    let mut vetted = Vec::with_capacity(addresses.len());
    for address in addresses {
        match policy.check_address(purpose, host, address) {
            Ok(()) => vetted.push(address),
            Err(reason) => refusal = refusal.or(Some(reason)),
        }
    }
    match refusal {
        Some(reason) if vetted.is_empty() => Err(reason),
        _ => Ok(vetted),
    }
}

impl Resolve for VettedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, purpose) = (Arc::clone(&self.policy), self.purpose);
        Box::pin(async move {
            let host = name.as_str().trim_end_matches('.').to_lowercase();
            let mut addresses = policy.overrides(&host);
            if addresses.is_empty() {
                addresses = tokio::net::lookup_host((name.as_str(), 0)).await?.map(|address| address.ip()).collect();
            }
            let vetted = vet(&policy, purpose, &host, addresses)?;
            // Port 0 leaves the choice of port to the URL.
            Ok(Box::new(vetted.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}
