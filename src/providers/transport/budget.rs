//! Documented rate limits: not every response has rate limit headers. Which a provider has is in its profile.

use std::time::Duration;

use super::call::{Access, Operation};

/// The documented budget of one identity at one API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateBudget {
    /// Whether writes are sent one at a time.
    pub serial_writes: bool,
    /// Minimum time between two writes.
    pub write_spacing: Duration,
    /// Counted limits, all of which apply.
    pub rules: &'static [RateRule],
}

impl RateBudget {
    /// Only what the responses tell.
    pub const UNLIMITED: Self = Self { serial_writes: false, write_spacing: Duration::ZERO, rules: &[] };
}

/// A maximum number of calls in a time window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateRule {
    /// The calls that it counts.
    pub counts: Counts,
    /// How many there may be.
    pub limit: usize,
    /// The length of the window.
    pub window: Duration,
}

/// Which calls a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Every write.
    Writes,
    /// These operations.
    Only(&'static [Operation]),
}

impl RateRule {
    pub(super) fn counts(&self, access: Access, operation: Operation) -> bool {
        match self.counts {
            Counts::Writes => access != Access::Read,
            Counts::Only(operations) => operations.contains(&operation),
        }
    }

    /// Number of calls reserved for deletes, so that everything created can be removed.
    pub(super) const fn reserve(&self) -> usize {
        if self.limit < 20 { 1 } else { self.limit / 10 }
    }
}

/// A window of a rate rule.
pub(in crate::providers) const MINUTE: Duration = Duration::from_secs(60);
/// A window of a rate rule.
pub(in crate::providers) const HOUR: Duration = Duration::from_secs(60 * 60);
