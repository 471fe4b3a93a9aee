//! Everything that a reconciliation needs.

use kube::Client;
use kube::runtime::events::Recorder;

use super::grant::CountTimes;
use super::leftovers::Pending;
use super::metrics::Metrics;
use super::runtime::backoff::Backoff;
use super::runtime::writes::WriteTracker;
use super::view::View;

/// Everything that a reconciliation needs: the view it reads and the means to write.
pub struct Context {
    /// Everything that `observe` reads.
    pub view: View,
    /// Client of the API server.
    pub client: Client,
    /// The connections that have leftover hooks to delete.
    pub leftovers: Pending,
    /// Our own writes that the caches have not seen yet.
    pub writes: WriteTracker,
    /// When the count of each grant was written last.
    pub grant_counts: CountTimes,
    /// Consecutive failures of each object.
    pub backoff: Backoff,
    /// Publishes Kubernetes events.
    pub recorder: Recorder,
    /// Metrics of the controllers.
    pub metrics: Metrics,
}
