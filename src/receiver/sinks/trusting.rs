//! The HTTP clients with certificate authorities of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// How long an unused client is kept.
const KEPT: Duration = Duration::from_secs(10 * 60);
/// Maximum number of clients of all namespaces together.
const MOST: usize = 64;

/// A client; `None` if its authorities are unusable.
type Slot = Arc<OnceCell<Option<reqwest::Client>>>;

/// The clients of one namespace by the digest of their authorities, the least recently used first.
type OfNamespace = LruCache<[u8; 32], (Instant, Slot)>;

/// The clients by the namespace of the bindings that use them. When there are too many, the namespace with most of them loses its
/// least recently used one: who names many bundles ends no connections of others.
#[derive(Clone, Default)]
pub(super) struct TrustingClients(Arc<Mutex<HashMap<String, OfNamespace>>>);

impl TrustingClients {
    /// The client for a bundle of certificate authorities, which `build` makes if there is none. It is built on a thread of its own and
    /// under no lock: who needs another client does not wait for it. `None` if the bundle is unusable.
    pub(super) async fn get(
        &self,
        namespace: &str,
        authorities: &Arc<str>,
        build: impl FnOnce(&str) -> Option<reqwest::Client> + Send + 'static,
    ) -> Option<reqwest::Client> {
        let slot = self.slot(namespace, digest(authorities));
        let authorities = Arc::clone(authorities);
        slot.get_or_init(async || tokio::task::spawn_blocking(move || build(&authorities)).await.ok().flatten()).await.clone()
    }

    fn slot(&self, namespace: &str, digest: [u8; 32]) -> Slot {
        let now = Instant::now();
        let mut namespaces = self.0.lock();
        let clients = namespaces.entry(namespace.to_owned()).or_insert_with(LruCache::unbounded);
        let slot = clients.get(&digest).map(|(_, slot)| Arc::clone(slot)).unwrap_or_default();
        clients.put(digest, (now, Arc::clone(&slot)));
        namespaces.retain(|_, clients| {
            while clients.peek_lru().is_some_and(|(_, (used, _))| now.duration_since(*used) >= KEPT) {
                clients.pop_lru();
            }
            !clients.is_empty()
        });
        while namespaces.values().map(LruCache::len).sum::<usize>() > MOST {
            let Some(largest) = namespaces.values_mut().max_by_key(|clients| clients.len()) else { break };
            largest.pop_lru();
        }
        slot
    }
}

fn digest(authorities: &str) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, authorities.as_bytes()).as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::network::{NetworkPolicy, Purpose};

    fn client() -> Option<reqwest::Client> {
        let policy = Arc::new(NetworkPolicy::default());
        policy.client_builder(Purpose::HttpSink).tls_certs_only([]).build().ok()
    }

    #[tokio::test]
    async fn a_namespace_with_many_bundles_loses_its_own_clients_and_no_others() {
        let (clients, built) = (TrustingClients::default(), Arc::new(AtomicUsize::new(0)));
        let get = async |namespace: &str, bundle: String| {
            let built = Arc::clone(&built);
            let count = move |_: &str| {
                built.fetch_add(1, Ordering::SeqCst);
                client()
            };
            assert!(clients.get(namespace, &Arc::from(bundle), count).await.is_some());
        };
        for team in ["team-a", "team-b"] {
            get(team, "ca".to_owned()).await;
        }
        for number in 0..3 * MOST {
            get("greedy", number.to_string()).await;
        }
        let before = built.load(Ordering::SeqCst);
        assert_eq!(before, 2 + 3 * MOST, "the same bundle in two namespaces has two clients");
        for team in ["team-a", "team-b"] {
            get(team, "ca".to_owned()).await;
        }
        assert_eq!(built.load(Ordering::SeqCst), before, "the clients of the others are still there");
        let kept: usize = clients.0.lock().values().map(LruCache::len).sum();
        assert_eq!(kept, MOST);
        get("greedy", (3 * MOST - 1).to_string()).await;
        assert_eq!(built.load(Ordering::SeqCst), before, "its latest one too");
    }

    #[tokio::test]
    async fn who_needs_another_client_does_not_wait_for_one_that_is_being_built() {
        let clients = TrustingClients::default();
        let (finish, finished) = mpsc::channel::<()>();
        let slow = tokio::spawn({
            let clients = clients.clone();
            async move {
                let build = move |_: &str| {
                    let _ = finished.recv();
                    client()
                };
                clients.get("team-a", &Arc::from("slow"), build).await
            }
        });
        while clients.0.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(clients.get("team-b", &Arc::from("quick"), |_| client()).await.is_some());
        assert!(clients.get("team-a", &Arc::from("unusable"), |_| None).await.is_none());
        assert!(!slow.is_finished(), "it is still being built");
        finish.send(()).unwrap();
        assert!(slow.await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_nobody_uses_is_dropped() {
        let clients = TrustingClients::default();
        for (namespace, pause) in [("team-a", KEPT / 2), ("team-b", KEPT / 2), ("team-c", Duration::ZERO)] {
            drop(clients.slot(namespace, [0; 32]));
            tokio::time::advance(pause).await;
        }
        let mut kept: Vec<_> = clients.0.lock().keys().cloned().collect();
        kept.sort_unstable();
        assert_eq!(kept, ["team-b", "team-c"]);
    }
}
