//! Reports progress of slow checks on standard error.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long a check runs before it reports progress.
const GRACE_PERIOD: Duration = Duration::from_secs(3);
/// Interval between progress reports.
const INTERVAL: Duration = Duration::from_secs(5);

/// Counts checked objects.
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

    /// Runs `work`, and reports progress on standard error if it takes long.
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
            () = tell => unreachable!("the loop never ends"),
        }
    }
}
