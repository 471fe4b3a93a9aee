//! The worker of one sink of one binding: sends the first of its queue until it is accepted.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures::FutureExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::client::SinkError;
use super::job::Job;
use super::{Dispatcher, QueueKey, SinkLimits, cloud_events};
use crate::network::Purpose;
use crate::receiver::routes::SinkState;

/// Pause after a new delivery before a failing sink is tried again ahead of its schedule.
const WAKE_PAUSE: Duration = Duration::from_secs(1);

/// The result of one step of a job.
enum Step {
    /// The job is finished; continue with the next.
    Done,
    /// The job must be tried again.
    Again,
}

fn backoff(limits: &SinkLimits) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(limits.least_pause)
        .with_max_delay(limits.longest_pause)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

impl Dispatcher {
    /// Processes the queue until it is empty.
    pub(super) async fn work(self: Arc<Self>, key: QueueKey, wake: Arc<Notify>) {
        let mut schedule = backoff(&self.limits);
        while let Some(job) = self.front(&key) {
            // A panic must not leave a queue without a worker.
            let step = AssertUnwindSafe(self.step(&job)).catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!(namespace = job.delivery.namespace, name = job.delivery.name, sink = key.1, "a sink's worker panicked");
                self.failed(&job, Purpose::ServiceSink, SinkError::Internal)
            });
            match step {
                Step::Done => {
                    self.pop(&key);
                    schedule = backoff(&self.limits);
                }
                Step::Again if self.stopping.is_cancelled() => return self.drain(&key),
                Step::Again => self.pause(schedule.next().unwrap_or(self.limits.longest_pause), &wake).await,
            }
        }
    }

    /// The first job. Removes the queue when it has none.
    fn front(&self, key: &QueueKey) -> Option<Arc<Job>> {
        let mut queues = self.queues.lock();
        let job = queues.get(key).and_then(|queue| queue.jobs.front()).cloned();
        if job.is_none() {
            queues.remove(key);
        }
        job
    }

    fn pop(&self, key: &QueueKey) {
        if let Some(queue) = self.queues.lock().get_mut(key) {
            queue.jobs.pop_front();
        }
    }

    async fn step(&self, job: &Arc<Job>) -> Step {
        let delivery = &job.delivery;
        while let Some(position) = job.next() {
            if job.is_cancelled() {
                return Step::Done;
            }
            let Some(event) = delivery.events.get(position) else { return self.settle(job) };
            // An earlier attempt at the same delivery may have succeeded.
            if delivery.entry.has_accepted(&job.part.sink, position) {
                self.accepted(job);
                continue;
            }
            let target = match self.routes.sink(&delivery.uid, &job.part.sink) {
                SinkState::At(target) => target,
                SinkState::Held => return self.failed(job, Purpose::ServiceSink, SinkError::Held),
                SinkState::Gone => return self.give_up(job, "the sink was removed"),
            };
            let id = cloud_events::event_id(&delivery.id, position, delivery.events.len());
            let headers = cloud_events::headers(&id, &delivery.source, event, delivery.at);
            let purpose = target.purpose;
            let begun = Instant::now();
            let result = self.clients.send(target, headers, delivery.payload.clone()).await;
            self.metrics.attempt(purpose, result.map_or_else(SinkError::label, |()| "accepted"), begun.elapsed());
            match result {
                Ok(()) => {
                    delivery.entry.accept(&job.part.sink, position);
                    self.accepted(job);
                }
                Err(error) => return self.failed(job, purpose, error),
            }
        }
        self.settle(job)
    }

    fn accepted(&self, job: &Job) {
        let (delivery, sink) = (&job.delivery, &job.part.sink);
        if job.advance() {
            self.evidence.sink_pending(&delivery.uid, sink, -1);
            tracing::info!(namespace = delivery.namespace, name = delivery.name, sink, delivery = delivery.id, "pending event accepted");
        }
        if self.evidence.sink_accepted(&delivery.uid, sink) {
            tracing::info!(namespace = delivery.namespace, name = delivery.name, sink, "sink accepts again");
        }
    }

    fn failed(&self, job: &Job, purpose: Purpose, error: SinkError) -> Step {
        let (delivery, sink) = (&job.delivery, &job.part.sink);
        let now = self.routes.clock().now();
        if self.evidence.sink_failed(&delivery.uid, sink, now, error.to_string()) {
            let kind = super::super::metrics::sink_kind(purpose);
            tracing::warn!(namespace = delivery.namespace, name = delivery.name, sink, kind, %error, "sink does not accept");
        }
        let age = delivery.arrived.elapsed();
        if job.is_cancelled() {
            return Step::Done;
        }
        if age > self.limits.give_up || (error.is_about_the_event() && age > self.limits.give_up_malformed) {
            return self.give_up(job, "the sink did not accept the event in time");
        }
        Step::Again
    }

    fn give_up(&self, job: &Job, reason: &'static str) -> Step {
        let (delivery, sink) = (&job.delivery, &job.part.sink);
        tracing::warn!(namespace = delivery.namespace, name = delivery.name, sink, delivery = delivery.id, reason, "event given up");
        self.metrics.given_up();
        self.settle(job)
    }

    fn settle(&self, job: &Job) -> Step {
        let delivery = &job.delivery;
        if let Some(pending) = job.settle() {
            self.evidence.sink_pending(&delivery.uid, &job.part.sink, -i64::try_from(pending).unwrap_or(i64::MAX));
            if delivery.settle_part() {
                delivery.entry.complete();
                self.evidence.settled(&delivery.uid, delivery.entry.number(), delivery.at);
            }
        }
        Step::Done
    }

    /// Waits until the pause ends, a new job arrives, or the receiver stops.
    async fn pause(&self, pause: Duration, wake: &Notify) {
        let something_new = async {
            wake.notified().await;
            tokio::time::sleep(WAKE_PAUSE).await;
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => (),
            () = something_new => (),
            () = self.stopping.cancelled() => (),
        }
    }

    fn drain(&self, key: &QueueKey) {
        let Some(queue) = self.queues.lock().remove(key) else { return };
        let lost = queue.jobs.iter().filter(|job| !job.is_cancelled()).count();
        if let Some(job) = queue.jobs.front() {
            let delivery = &job.delivery;
            tracing::warn!(
                namespace = delivery.namespace,
                name = delivery.name,
                sink = key.1,
                deliveries = lost,
                "stopped; pending deliveries are lost"
            );
        }
    }
}
