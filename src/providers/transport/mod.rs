//! Sends requests to providers.
//!
//! A [`TransportFactory`] has everything needed to reach a provider: certificates, proxies, rate limiters, deadlines. It creates
//! one [`Transport`] for each connection, without a credential. The provider's `connect` decides how
//! to authenticate, gives the transport its header, and keeps the transport in its client.
//!
//! The layers of a call, from the outside in; each is one file:
//!
//! 1. trace and redaction (`client`, `redact`): one line for each call; everything that leaves this layer is safe to show.
//! 2. deadline (`client`): 30 s, and never later than 2 s before the lease ends; if too little time is left, nothing is sent.
//! 3. retry of reads (`client`): at most two, with increasing backoff, inside the deadline. Writes are sent once.
//! 4. rate limiter (`rate_limiter`, `budget`, `limits`): one for each API origin and identity, shared by all connections.
//! 5. redirects of reads (`client`, `origin`): at most three, handled here, to the same origin only.
//! 6. metrics and the exchange itself (`metrics`, `send_once`, `byte_budget`): checks the origin before sending anything, limits
//!    the size of each body and of all bodies together, and distinguishes network errors.
//! 7. classification (`classify`): one table for all providers, after the provider's own differences.

mod account_cache;
mod answer;
mod budget;
mod byte_budget;
mod call;
mod classify;
mod client;
mod documents;
mod factory;
mod limits;
mod metrics;
mod origin;
mod rate_limiter;
mod redact;
mod send_once;
#[cfg(test)]
pub(in crate::providers) mod test_server;
#[cfg(test)]
mod tests;
mod timings;

use std::time::Duration;

pub use answer::Answer;
pub use budget::{Counts, RateBudget, RateRule};
pub(in crate::providers) use budget::{HOUR, MINUTE};
pub(in crate::providers) use byte_budget::{Reserved, UNRESERVED};
pub use call::{Access, Call, Operation};
pub use classify::{Classifier, Failure};
pub use client::Transport;
pub use documents::{Document, Documents};
pub use factory::{ClientIdentity, ProxySettings, TransportFactory, TransportSettings};
pub use timings::Timings;

/// How long this process may still act as the leader.
pub trait Lease: Send + Sync {
    /// How long calls may still run; `None` if another process leads or the leader is unknown.
    fn remaining(&self) -> Option<Duration>;
}

/// For a process that needs no lease, such as one started with `--leader-election=false`.
#[derive(Clone, Copy, Debug)]
pub struct Unleased;

impl Lease for Unleased {
    fn remaining(&self) -> Option<Duration> {
        Some(Duration::MAX)
    }
}
