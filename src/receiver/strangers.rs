//! Requests to paths that nobody knows, in the log: a hook of a deleted binding is found there. Anybody can send them, so that
//! only so many are told of.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use ring::digest;

/// Lines of the log in a minute.
const LINES: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);
/// Bytes of a path's digest that are told.
const DIGEST_LENGTH: usize = 8;

/// Tells of requests to unknown paths.
pub(super) struct Strangers {
    lines: DefaultDirectRateLimiter,
    /// Requests since the last line that were not told of.
    untold: AtomicU64,
}

impl Strangers {
    pub(super) fn new() -> Self {
        Self { lines: RateLimiter::direct(Quota::per_minute(LINES)), untold: AtomicU64::new(0) }
    }

    /// Tells of one request, unless there were too many of late. The path may be the unguessable one of a hook, so that only its
    /// digest is told.
    pub(super) fn tell(&self, path: &str, reason: &'static str) {
        if self.lines.check().is_err() {
            self.untold.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let untold = self.untold.swap(0, Ordering::Relaxed);
        tracing::info!(path_sha256 = digest(path), reason, untold, "request to an unknown path refused");
    }
}

/// What stands for a path: `printf %s "$path" | sha256sum | cut -c 1-16`.
fn digest(path: &str) -> String {
    let digest = digest::digest(&digest::SHA256, path.as_bytes());
    hex::encode(digest.as_ref().get(..DIGEST_LENGTH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_by_the_beginning_of_its_sha256() {
        assert_eq!(digest("/hooks/x/1"), "5ebffea608727a4b");
    }
}
