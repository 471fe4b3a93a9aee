//! What every controller runs on: the loop that calls reconcilers, the lease, pauses after failures, whose turn it is, status
//! writes and the metrics of the queue. Knows nothing of connections and bindings but their types.

pub mod backoff;
pub mod driver;
pub mod lease;
pub mod queue_metrics;
pub mod status;
pub mod turns;
pub mod writes;
