//! Growing pauses after failures, by object.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::SignedDuration;
use parking_lot::Mutex;

use crate::protocol::hash::stable_hash;

/// The pause after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause, before jitter.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// The pauses after the first, the second, … attempt at an operation that may not succeed for days: the removal of leftover
/// hooks, repairs that do not last, and the recreation of hooks that the provider disables.
const GROWING: [SignedDuration; 6] = [
    SignedDuration::from_mins(1),
    SignedDuration::from_mins(5),
    SignedDuration::from_mins(30),
    SignedDuration::from_hours(2),
    SignedDuration::from_hours(6),
    SignedDuration::from_hours(24),
];

/// The pause after this many attempts at an operation that may not succeed for days.
#[must_use]
pub fn growing_pause(attempts: usize) -> SignedDuration {
    let position = attempts.saturating_sub(1).min(GROWING.len() - 1);
    GROWING.get(position).copied().unwrap_or_default()
}

/// Counts consecutive failures, keyed by UID.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<String, u32>>);

impl Backoff {
    /// Records a failure and returns the pause before the next attempt. The pause doubles with each failure and has a jitter of
    /// up to a quarter of it, so that objects that failed together do not retry together.
    #[must_use]
    pub fn fail(&self, uid: &str) -> Duration {
        let mut failures = self.0.lock();
        let count = failures.entry(uid.to_owned()).or_insert(0);
        let pause = FIRST.saturating_mul(2_u32.saturating_pow(*count)).min(MAX_PAUSE);
        *count = count.saturating_add(1);
        pause + jitter(uid, pause / 4)
    }

    /// Forgets every object that is not in `present`.
    pub fn keep(&self, present: &HashSet<String>) {
        self.0.lock().retain(|uid, _| present.contains(uid));
    }

    /// Forgets the failures of an object.
    pub fn succeed(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

/// A part of `span` derived from the UID: the same at every call, and evenly distributed over objects.
#[must_use]
pub fn jitter(uid: &str, span: Duration) -> Duration {
    let thousandths = u32::try_from(stable_hash(uid) % 1000).unwrap_or_default();
    span.saturating_mul(thousandths) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_start_again() {
        let backoff = Backoff::default();
        let pauses: Vec<_> = (0..12).map(|_| backoff.fail("uid")).collect();
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
        assert!(pauses[11] <= MAX_PAUSE + MAX_PAUSE / 4);
        backoff.succeed("uid");
        assert!(backoff.fail("uid") < Duration::from_secs(2));
    }

    #[test]
    fn failures_of_objects_that_are_gone_are_forgotten() {
        let backoff = Backoff::default();
        let pause = backoff.fail("gone");
        let _ = (backoff.fail("gone"), backoff.fail("here"));
        backoff.keep(&["here".to_owned()].into());
        assert_eq!((backoff.fail("gone"), backoff.0.lock().len()), (pause, 2));
    }

    #[test]
    fn objects_are_spread() {
        let jitter: std::collections::HashSet<_> =
            (0..100).map(|number| jitter(&format!("uid-{number}"), Duration::from_secs(3600))).collect();
        assert!(jitter.len() > 80);
    }
}
