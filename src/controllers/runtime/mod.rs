//! Shared runtime of the controllers: the loop that calls reconcilers, the lease, backoff, fair scheduling, status writes and
//! queue metrics. It depends on connections and bindings only by their types.

pub mod backoff;
pub mod driver;
pub mod error;
pub mod lease;
pub mod queue_metrics;
pub mod status;
pub mod turns;
pub mod writes;
