//! Arithmetic with moments, which saturates. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Unit};

/// The moment that lies a pause after another one.
#[must_use]
pub fn after(now: Timestamp, pause: Duration) -> Timestamp {
    now.checked_add(SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

/// The duration until a moment; zero if it has passed.
#[must_use]
pub fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

/// A moment as shown to users: rounded to the second.
#[must_use]
pub fn told(at: Timestamp) -> Timestamp {
    at.round(Unit::Second).unwrap_or(at)
}
