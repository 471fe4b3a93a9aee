//! Classifies addresses that must not be reached through a configured URL.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::RwLock;

/// The cluster's own addresses: its service ranges and its API servers. Clones share the data.
#[derive(Clone, Debug, Default)]
pub struct ClusterNetworks(Arc<RwLock<Known>>);

#[derive(Debug, Default)]
struct Known {
    service_ranges: Vec<IpNet>,
    api_servers: Vec<IpAddr>,
}

impl ClusterNetworks {
    /// Replaces the known addresses of the cluster.
    pub fn set(&self, service_ranges: impl IntoIterator<Item = IpNet>, api_servers: impl IntoIterator<Item = IpAddr>) {
        let api_servers = api_servers.into_iter().map(unwrap_embedded).collect();
        *self.0.write() = Known { service_ranges: service_ranges.into_iter().collect(), api_servers };
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let known = self.0.read();
        known.api_servers.contains(&address) || known.service_ranges.iter().any(|network| network.contains(&address))
    }

    pub(super) fn is_api_server(&self, address: IpAddr) -> bool {
        self.0.read().api_servers.contains(&address)
    }
}

/// Metadata services that are not link-local.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether an address is loopback, link-local, unspecified, multicast, reserved, or that of a metadata service. Private ranges
/// are not special: providers on premises use them.
pub(super) fn is_special(address: IpAddr) -> bool {
    METADATA.contains(&address)
        || match address {
            IpAddr::V4(address) => {
                let [first, ..] = address.octets();
                // 0.0.0.0/8 reaches this machine on Linux; 240.0.0.0/4 is reserved and includes the broadcast address.
                first == 0 || first >= 240 || address.is_loopback() || address.is_link_local() || address.is_multicast()
            }
            IpAddr::V6(address) => {
                address.is_unspecified() || address.is_loopback() || address.is_unicast_link_local() || address.is_multicast()
            }
        }
}

/// The IPv4 address that an IPv6 address embeds (mapped, compatible, NAT64 and 6to4); other addresses are returned unchanged.
pub(super) fn unwrap_embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // `::` and `::1` have this form but embed no IPv4 address.
        [0, 0, 0, 0, 0, 0, high, low] if high > 0 || low > 1 => embedded(high, low),
        _ => address,
    }
}
