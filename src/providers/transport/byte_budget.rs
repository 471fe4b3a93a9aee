//! How many bytes of answers the whole process holds in memory at once.
//!
//! Every answer may have a small body for nothing. A larger one waits until the process has room for it, so that any number of
//! servers that answer with as much as they are allowed to cannot exhaust the memory of the controller.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a body that need no reservation: as many calls as there are workers may hold them at the same time.
pub(in crate::providers) const UNRESERVED: usize = 128 * 1024;
/// Bytes that all larger answers and lists may take together, with what is made of them.
const ALL: usize = 48 * 1024 * 1024;
/// What is made of a body takes about as much memory as the body.
const COPIES: usize = 2;
/// A permit of the semaphore stands for so many bytes.
const UNIT: usize = 1024;

/// The budget. Clones share it.
#[derive(Clone)]
pub(super) struct ByteBudget {
    free: Arc<Semaphore>,
    all: usize,
}

/// Bytes that are taken from the budget until this is dropped.
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

    /// Waits until there is room for a body of this length and what is made of it. `None` only if the budget was closed,
    /// which nobody does. A holder must never wait for a second reservation: two that do so would wait for each other.
    pub(super) async fn reserve(&self, body: usize) -> Option<Reserved> {
        Arc::clone(&self.free).acquire_many_owned(self.units(body)).await.ok().map(Reserved)
    }

    /// The same without waiting; `None` where there is no room now.
    pub(super) fn try_reserve(&self, body: usize) -> Option<Reserved> {
        Arc::clone(&self.free).try_acquire_many_owned(self.units(body)).ok().map(Reserved)
    }

    /// A body that is larger than the budget takes all of it and is held alone.
    fn units(&self, body: usize) -> u32 {
        let units = body.saturating_mul(COPIES).div_ceil(UNIT).min(self.all);
        u32::try_from(units).unwrap_or(u32::MAX)
    }
}

impl Reserved {
    /// Both reservations as one.
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
