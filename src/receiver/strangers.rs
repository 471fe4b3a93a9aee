//! Logs requests to unknown paths, which reveal hooks of deleted bindings. Anyone can send such requests, so the log lines are
//! rate limited.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use ring::digest;

/// Maximum log lines per minute.
const LINES: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);
/// Length of the logged digest of a path, in bytes.
const DIGEST_LENGTH: usize = 8;

/// A rate-limited log of requests to unknown paths.
pub(super) struct Strangers {
    lines: DefaultDirectRateLimiter,
    /// Requests since the last line that were not logged.
    untold: AtomicU64,
}

impl Strangers {
    pub(super) fn new() -> Self {
        Self { lines: RateLimiter::direct(Quota::per_minute(LINES)), untold: AtomicU64::new(0) }
    }

    /// Logs one request, unless the limit is reached. The path may be the unguessable one of a hook, so only its digest is
    /// logged.
    pub(super) fn tell(&self, path: &str, reason: &'static str) {
        if self.lines.check().is_err() {
            self.untold.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let untold = self.untold.swap(0, Ordering::Relaxed);
        tracing::info!(path_sha256 = digest(path), reason, untold, "request to an unknown path refused");
    }
}

/// The digest that identifies a path: `printf %s "$path" | sha256sum | cut -c 1-16`.
fn digest(path: &str) -> String {
    let digest = digest::digest(&digest::SHA256, path.as_bytes());
    hex::encode(digest.as_ref().get(..DIGEST_LENGTH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_logged_as_the_beginning_of_its_sha256() {
        assert_eq!(digest("/hooks/x/1"), "5ebffea608727a4b");
    }
}
