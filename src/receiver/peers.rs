//! Limits the connections of one peer, so that no peer takes all of them.
//!
//! Behind an Ingress every delivery comes from the Ingress's own addresses. So the share of a peer is most of all connections,
//! and the rest remains for other peers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts the connections of each peer. Cheap to clone; all clones share the counts.
#[derive(Clone, Debug)]
pub(super) struct Peers {
    share: usize,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection of a peer. Dropping it frees the slot.
#[derive(Debug)]
pub(super) struct PeerSlot {
    peers: Peers,
    peer: IpAddr,
}

impl Peers {
    pub(super) fn new(share: usize) -> Self {
        Self { share, held: Arc::default() }
    }

    /// Takes a slot for one more connection of a peer; `None` when the peer has its share.
    pub(super) fn take(&self, address: IpAddr) -> Option<PeerSlot> {
        let peer = peer(address);
        let mut held = self.held.lock();
        let count = held.entry(peer).or_insert(0);
        if *count >= self.share {
            return None;
        }
        *count += 1;
        drop(held);
        Some(PeerSlot { peers: self.clone(), peer })
    }
}

/// The peer of an address. For IPv6 it is the /64 network, because a peer can use any address in its network.
fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

impl Drop for PeerSlot {
    fn drop(&mut self) {
        let mut held = self.peers.held.lock();
        if let Some(count) = held.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(peers: &Peers, address: &str) -> Option<PeerSlot> {
        peers.take(address.parse().unwrap())
    }

    #[test]
    fn each_peer_has_its_own_limit_of_connections() {
        let peers = Peers::new(2);
        let first = take(&peers, "10.0.0.1").unwrap();
        let _second = take(&peers, "::ffff:10.0.0.1").unwrap();
        assert!(take(&peers, "10.0.0.1").is_none());
        let _other = take(&peers, "10.0.0.2").unwrap();
        drop(first);
        assert!(take(&peers, "10.0.0.1").is_some());
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_count_as_one_peer() {
        let peers = Peers::new(1);
        let _one = take(&peers, "2001:db8:1:2::1").unwrap();
        assert!(take(&peers, "2001:db8:1:2:ffff::9").is_none());
        assert!(take(&peers, "2001:db8:1:3::1").is_some());
    }

    #[test]
    fn a_peer_without_connections_is_forgotten() {
        let peers = Peers::new(1);
        for number in 0..100_u8 {
            drop(peers.take(IpAddr::from([10, 0, 0, number])));
        }
        assert!(peers.held.lock().is_empty());
    }
}
