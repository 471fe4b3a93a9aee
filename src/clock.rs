//! The only place that reads the wall clock.

use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;

/// A source of wall-clock time.
pub trait Clock: Debug + Send + Sync {
    /// The present time.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the place")]
        Timestamp::now()
    }
}

/// A clock that can be handed around.
pub type SharedClock = Arc<dyn Clock>;
