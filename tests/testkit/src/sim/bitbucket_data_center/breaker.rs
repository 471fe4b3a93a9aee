//! The circuit breaker of a webhook: after five failures in a row the webhook is skipped, first for 10 s and then for longer each
//! time, up to 10 h (<https://confluence.atlassian.com/bitbucketserver/troubleshooting-webhooks-969533223.html>, and
//! providers-gitlab-bitbucket-azure.md). That the pause doubles is not documented. The webhook's own document does not show it.

use jiff::{SignedDuration, Timestamp};

/// Failures in a row after which a webhook is skipped.
pub const THRESHOLD: u32 = 5;
const SHORTEST: SignedDuration = SignedDuration::from_secs(10);
const MAX: SignedDuration = SignedDuration::from_hours(10);

/// The state of the breaker.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    failures: u32,
    skipped_until: Option<Timestamp>,
}

impl Breaker {
    /// Until when the webhook is skipped; `None` if it is not.
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.skipped_until.filter(|until| now < *until)
    }

    /// Records the result of a delivery.
    pub fn hear(&mut self, success: bool, now: Timestamp) {
        if success {
            *self = Self::default();
            return;
        }
        self.failures += 1;
        if self.failures >= THRESHOLD {
            let doublings = (self.failures - THRESHOLD).min(12);
            self.skipped_until = Some(now + (SHORTEST * 2_i32.pow(doublings)).min(MAX));
        }
    }
}
