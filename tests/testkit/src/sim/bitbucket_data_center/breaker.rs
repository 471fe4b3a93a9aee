//! The circuit breaker of a webhook: after five failures in a row the webhook is skipped, first for 10 s and then for longer each
//! time, up to 10 h. The webhook's own document does not show it.

use std::time::{Duration, Instant};

/// Failures in a row after which a webhook is skipped.
pub const THRESHOLD: u32 = 5;
const SHORTEST: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(10 * 60 * 60);

/// The state of the breaker.
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

    /// Records the result of a delivery.
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
