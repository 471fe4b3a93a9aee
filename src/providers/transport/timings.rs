//! Time limits of calls.

use std::time::Duration;

/// Time limits of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Limit of a whole call, including its waits and retries. 30 s.
    pub call: Duration,
    /// Time of the lease that must be left when a call ends. 2 s.
    pub lease_margin: Duration,
    /// If less time than this is left for a call, nothing is sent. 1 s.
    pub least: Duration,
    /// The longest wait for a rate limit inside a call; a longer wait is refused with a retry time. 10 s.
    pub max_wait: Duration,
    /// The backoff before the first retry of a read. 200 ms.
    pub pause: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(30),
            lease_margin: Duration::from_secs(2),
            least: Duration::from_secs(1),
            max_wait: Duration::from_secs(10),
            pause: Duration::from_millis(200),
        }
    }
}
