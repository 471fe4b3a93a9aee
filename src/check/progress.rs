//! Signs of life for a check that takes longer than people wait without wondering.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long a check is silent.
const GRACE_PERIOD: Duration = Duration::from_secs(3);
/// How often it says how far it is from then on.
const INTERVAL: Duration = Duration::from_secs(5);

/// How far a check is.
#[derive(Debug)]
pub(super) struct Progress {
    total: usize,
    done: AtomicUsize,
}

impl Progress {
    pub(super) const fn new(total: usize) -> Self {
        Self { total, done: AtomicUsize::new(0) }
    }

    pub(super) fn step(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Does some work, and tells on standard error how far it is while it takes long.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let tell = async {
            tokio::time::sleep(GRACE_PERIOD).await;
            loop {
                eprintln!("forgebind: checked {} of {} objects; waiting for providers", self.done.load(Ordering::Relaxed), self.total);
                tokio::time::sleep(INTERVAL).await;
            }
        };
        tokio::select! {
            result = work => result,
            () = tell => unreachable!("it goes on for as long as the work does"),
        }
    }
}
