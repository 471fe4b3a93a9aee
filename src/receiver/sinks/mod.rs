//! Hands deliveries to sinks: in order for each sink, independently of other sinks, and each event once.
//!
//! Every sink with queued deliveries has one worker, which sends the first of its queue until it is accepted. A delivery waits
//! for its sinks until its deadline. After that it is pending: the provider is answered, and the worker continues.

mod client;
pub(super) mod cloud_events;
mod job;
mod pending;
mod worker;

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use client::Clients;
use job::Job;
pub(super) use job::{Delivery, Part, Tracking};
use pending::PendingBudget;
pub use pending::PendingLimits;

use super::dedupe::DeliveryResult;
use super::evidence::EvidenceStore;
use super::metrics::Metrics;
use super::routes::Routes;
use crate::network::NetworkPolicy;

/// Timeouts, backoff and limits for sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkLimits {
    /// Timeout of one attempt; default 10 s.
    pub attempt: Duration,
    /// First pause after a failure, which doubles with each further one; default 100 ms.
    pub least_pause: Duration,
    /// Longest pause; default 1 min.
    pub longest_pause: Duration,
    /// Time after which a pending event is given up; default 24 h.
    pub give_up: Duration,
    /// Time after which an event is given up that the sink rejects as malformed; default 15 min. Until then it blocks the other
    /// events of its sink.
    pub give_up_malformed: Duration,
    /// Limits of pending deliveries.
    pub pending: PendingLimits,
}

impl Default for SinkLimits {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(10),
            least_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(60),
            give_up: Duration::from_secs(24 * 60 * 60),
            give_up_malformed: Duration::from_secs(15 * 60),
            pending: PendingLimits::default(),
        }
    }
}

type QueueKey = (String, String);

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Arc<Job>>,
    /// Notified when a job was added.
    wake: Arc<Notify>,
}

/// Hands deliveries to sinks.
pub(super) struct Dispatcher {
    routes: Routes,
    clients: Clients,
    limits: SinkLimits,
    pending: PendingBudget,
    evidence: EvidenceStore,
    metrics: Metrics,
    /// A queue exists as long as it has a worker.
    queues: Mutex<HashMap<QueueKey, Queue>>,
    workers: TaskTracker,
    stopping: CancellationToken,
}

impl Dispatcher {
    pub(super) fn new(
        routes: Routes,
        policy: &Arc<NetworkPolicy>,
        limits: SinkLimits,
        evidence: EvidenceStore,
        metrics: Metrics,
    ) -> reqwest::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            routes,
            clients: Clients::new(policy, limits.attempt)?,
            limits,
            pending: PendingBudget::new(limits.pending, metrics.clone()),
            evidence,
            metrics,
            queues: Mutex::default(),
            workers: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }))
    }

    /// Hands a delivery to its sinks and waits for them until the deadline.
    pub(super) async fn deliver(self: &Arc<Self>, delivery: &Arc<Delivery>, parts: Vec<Part>, deadline: Instant) -> DeliveryResult {
        delivery.expect_parts(parts.len());
        let jobs: Vec<_> = parts.into_iter().map(|part| Job::new(delivery.clone(), part)).collect();
        // Do not wait behind a pending job: that sink is down.
        let waitable: Vec<_> = jobs.iter().filter(|job| !self.enqueue(job)).collect();
        let _ = timeout_at(deadline, join_all(waitable.into_iter().map(|job| job.wait()))).await;
        if jobs.iter().all(|job| job.is_settled()) {
            return DeliveryResult::Accepted;
        }
        let Some(permit) = self.pending.acquire(&delivery.uid, delivery.payload.len()) else {
            for job in &jobs {
                job.cancel();
                self.remove_cancelled(job);
            }
            return DeliveryResult::Overloaded;
        };
        delivery.hold(permit);
        for job in &jobs {
            if let Some(events) = job.defer() {
                self.evidence.sink_pending(&delivery.uid, &job.part.sink, i64::try_from(events).unwrap_or(i64::MAX));
            }
        }
        DeliveryResult::Pending
    }

    /// Makes one last attempt at pending deliveries, then stops. Lost deliveries are logged.
    pub(super) async fn stop(&self, deadline: Instant) {
        self.stopping.cancel();
        self.workers.close();
        if timeout_at(deadline, self.workers.wait()).await.is_err() {
            let left: usize = self.queues.lock().values().map(|queue| queue.jobs.len()).sum();
            tracing::warn!(deliveries = left, "stopped before all sinks answered");
        }
    }

    /// Adds a job to its sink's queue. Returns whether a pending job is before it.
    fn enqueue(self: &Arc<Self>, job: &Arc<Job>) -> bool {
        let key = (job.delivery.uid.clone(), job.part.sink.clone());
        match self.queues.lock().entry(key) {
            Slot::Occupied(mut queue) => {
                let queue = queue.get_mut();
                let behind = queue.jobs.iter().any(|job| job.is_pending());
                queue.jobs.push_back(job.clone());
                queue.wake.notify_one();
                behind
            }
            Slot::Vacant(slot) => {
                let key = slot.key().clone();
                let queue = slot.insert(Queue { jobs: VecDeque::from([job.clone()]), wake: Arc::default() });
                self.workers.spawn(self.clone().work(key, queue.wake.clone()));
                false
            }
        }
    }

    /// Removes cancelled jobs from a queue, so that the queue does not exceed the limits of pending deliveries. The first job
    /// belongs to the worker and stays.
    fn remove_cancelled(&self, job: &Job) {
        let key = (job.delivery.uid.clone(), job.part.sink.clone());
        if let Some(queue) = self.queues.lock().get_mut(&key) {
            let mut first = true;
            queue.jobs.retain(|job| std::mem::take(&mut first) || !job.is_cancelled());
            queue.wake.notify_one();
        }
    }
}
