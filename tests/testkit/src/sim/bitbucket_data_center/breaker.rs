//! The breaker of a webhook: one that fails five times in a row is skipped, for 10 s at first and for longer each time, up to
//! 10 h. Nothing in the webhook's own document tells of it.

use std::time::{Duration, Instant};

/// Failures in a row after which a webhook is skipped.
pub const THRESHOLD: u32 = 5;
const SHORTEST: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(10 * 60 * 60);

/// Whether a webhook is skipped, and how it came to that.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    failures: u32,
    skipped_until: Option<Instant>,
}

impl Breaker {
    /// Whether the webhook is skipped now.
    pub fn is_open(&self) -> bool {
        self.skipped_until.is_some_and(|until| Instant::now() < until)
    }

    /// Hears how a delivery ended.
    pub fn hear(&mut self, success: bool) {
        if success {
            *self = Self::default();
            return;
        }
        self.failures += 1;
        if self.failures >= THRESHOLD {
            let doublings = (self.failures - THRESHOLD).min(12);
            self.skipped_until = Some(Instant::now() + (SHORTEST * 2_u32.pow(doublings)).min(MAX));
        }
    }
}
