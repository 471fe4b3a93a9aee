//! Arithmetic with moments, which saturates. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Unit};

pub fn after(now: Timestamp, pause: Duration) -> Timestamp {
    now.checked_add(SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

/// The duration until a moment; zero if it has passed.
pub fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

/// A moment as shown to users: rounded to the second.
pub fn told(at: Timestamp) -> Timestamp {
    at.round(Unit::Second).unwrap_or(at)
}
