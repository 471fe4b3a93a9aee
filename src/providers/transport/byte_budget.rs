//! Limits how many bytes of responses the whole process holds in memory at once.
//!
//! Every response may have a small body without a reservation. A larger one waits until the process has room for it, so that
//! servers that send the maximum size cannot exhaust the memory of the controller, however many there are.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a body that need no reservation. Each concurrent call may hold that many, so the number of workers bounds the total.
pub(in crate::providers) const UNRESERVED: usize = 128 * 1024;
/// Bytes that all larger responses and lists may take together, including what is parsed from them.
const ALL: usize = 48 * 1024 * 1024;
/// The data parsed from a body takes about as much memory as the body itself.
const COPIES: usize = 2;
/// Bytes for each permit of the semaphore.
const UNIT: usize = 1024;

/// A memory budget. Clones share it.
#[derive(Clone)]
pub(super) struct ByteBudget {
    free: Arc<Semaphore>,
    all: usize,
}

/// Bytes reserved in the budget until this is dropped.
pub(in crate::providers) struct Reserved(OwnedSemaphorePermit);

impl Default for ByteBudget {
    fn default() -> Self {
        Self::of(ALL)
    }
}

impl ByteBudget {
    pub(super) fn of(bytes: usize) -> Self {
        let all = bytes.div_ceil(UNIT);
        Self { free: Arc::new(Semaphore::new(all)), all }
    }

    /// Waits until there is room for a body of this length and the data parsed from it. `None` only if the semaphore is closed,
    /// which never happens. A holder must never wait for a second reservation: two holders doing so would deadlock.
    pub(super) async fn reserve(&self, body: usize) -> Option<Reserved> {
        Arc::clone(&self.free).acquire_many_owned(self.units(body)).await.ok().map(Reserved)
    }

    /// As [`reserve`](Self::reserve), without waiting; `None` if there is no room now.
    pub(super) fn try_reserve(&self, body: usize) -> Option<Reserved> {
        Arc::clone(&self.free).try_acquire_many_owned(self.units(body)).ok().map(Reserved)
    }

    /// The permits for a body. A body larger than the budget takes all of it, so it is held alone.
    fn units(&self, body: usize) -> u32 {
        let units = body.saturating_mul(COPIES).div_ceil(UNIT).min(self.all);
        u32::try_from(units).unwrap_or(u32::MAX)
    }
}

impl Reserved {
    /// Merges two reservations.
    pub(in crate::providers) fn and(mut self, other: Self) -> Self {
        self.0.merge(other.0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_large_answer_waits_until_another_one_is_read() {
        let budget = ByteBudget::of(8 * UNIT);
        let first = budget.reserve(3 * UNIT).await.unwrap();
        assert!(budget.try_reserve(2 * UNIT).is_none(), "6 of 8 are taken");
        let both = first.and(budget.try_reserve(UNIT).unwrap());
        let mut second = std::pin::pin!(budget.reserve(UNIT));
        assert!(futures::poll!(&mut second).is_pending());
        drop(both);
        assert!(futures::poll!(&mut second).is_ready());
    }

    #[tokio::test]
    async fn what_is_larger_than_the_budget_is_held_alone() {
        let budget = ByteBudget::of(8 * UNIT);
        let alone = budget.reserve(usize::MAX).await;
        assert!(alone.is_some() && budget.try_reserve(1).is_none());
    }
}
