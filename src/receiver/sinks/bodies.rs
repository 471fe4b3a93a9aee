//! Limits the bodies that are read from the outbox at the same time, so that sinks that do not answer cannot fill the memory.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All bodies at the same time, in KiB.
const TOTAL: u32 = 32 * 1024;
/// The bodies of one namespace, so that it cannot hold up the others.
const OF_NAMESPACE: u32 = 12 * 1024;
/// What an attempt counts at least: it has a connection too.
const LEAST: u32 = 16;

/// The room for bodies.
pub(super) struct BodyBudget {
    total: Arc<Semaphore>,
    namespaces: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// The room of one body.
pub(super) struct BodyPermit {
    _of_namespace: OwnedSemaphorePermit,
    _total: OwnedSemaphorePermit,
}

impl BodyBudget {
    pub(super) fn new() -> Self {
        Self { total: semaphore(TOTAL), namespaces: Mutex::default() }
    }

    /// Waits for the room of a body. A body that is larger than what a namespace may have takes all of it.
    pub(super) async fn acquire(&self, namespace: &str, bytes: usize) -> Option<BodyPermit> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(LEAST, OF_NAMESPACE);
        let of_namespace = self.of(namespace).acquire_many_owned(kib).await.ok()?;
        let total = Arc::clone(&self.total).acquire_many_owned(kib).await.ok()?;
        Some(BodyPermit { _of_namespace: of_namespace, _total: total })
    }

    fn of(&self, namespace: &str) -> Arc<Semaphore> {
        let mut namespaces = self.namespaces.lock();
        // A namespace without an attempt under way needs no entry.
        namespaces.retain(|_, room| Arc::strong_count(room) > 1);
        Arc::clone(namespaces.entry(namespace.to_owned()).or_insert_with(|| semaphore(OF_NAMESPACE)))
    }
}

fn semaphore(kib: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(kib).unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_namespace_cannot_take_all_room() {
        let budget = BodyBudget::new();
        let mib = 1024 * 1024;
        let first = budget.acquire("a", 10 * mib).await.unwrap();
        assert!(budget.acquire("a", 10 * mib).now_or_never().is_none(), "it waits for its own body");
        let _other = budget.acquire("b", 25 * mib).now_or_never().flatten().unwrap();
        drop(first);
        budget.acquire("a", 10 * mib).now_or_never().flatten().unwrap();
    }
}
