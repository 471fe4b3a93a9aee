//! How requests reach a provider.

pub mod network;

use std::time::Duration;

/// How long this process may still act as the leader.
pub trait Lease: Send + Sync {
    /// For how long calls may still run; `None` while another process leads or nobody knows.
    fn remaining(&self) -> Option<Duration>;
}

/// A process that needs no lease, such as one started with `--leader-election=false`.
#[derive(Clone, Copy, Debug)]
pub struct Unleased;

impl Lease for Unleased {
    fn remaining(&self) -> Option<Duration> {
        Some(Duration::MAX)
    }
}

/// What a [`Client`](super::Client) talks through.
#[derive(Clone, Debug)]
pub struct Transport {}
