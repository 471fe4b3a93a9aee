//! The clock of a simulated provider. Everything that the provider does by time reads it: pauses, retries, limits, expiries and
//! dates. A test moves it, so that hours of an outage pass at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The clock. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ProviderClock(Arc<Mutex<Reading>>);

#[derive(Clone, Copy, Debug)]
enum Reading {
    /// As the machine's clock, this much ahead of it.
    Running(SignedDuration),
    /// Stands still until a test moves it.
    Held(Timestamp),
}

impl Default for Reading {
    fn default() -> Self {
        Self::Running(SignedDuration::ZERO)
    }
}

impl Reading {
    fn now(self) -> Timestamp {
        match self {
            Self::Running(ahead) => Timestamp::now() + ahead,
            Self::Held(at) => at,
        }
    }

    fn moved(self, by: SignedDuration) -> Self {
        match self {
            Self::Running(ahead) => Self::Running(ahead + by),
            Self::Held(at) => Self::Held(at + by),
        }
    }
}

impl ProviderClock {
    pub fn now(&self) -> Timestamp {
        self.reading().now()
    }

    /// Stops the clock at a time before the machine's. If a test then advances it by as much, the provider and the operator, whose
    /// clock is the machine's, agree about the time again.
    pub fn hold(&self, behind: Duration) {
        *self.reading() = Reading::Held(Timestamp::now() - signed(behind));
    }

    /// Moves the clock forward to a time, unless that is past. A test calls
    /// [`Simulator::advance`](super::Simulator::advance), which makes the retries that become due.
    pub(super) fn advance_to(&self, at: Timestamp) {
        let mut reading = self.reading();
        let by = at.duration_since(reading.now());
        if by.is_positive() {
            *reading = reading.moved(by);
        }
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap()
}
