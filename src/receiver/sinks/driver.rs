//! The task of one sink: sends the events of its queue until the queue is empty.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::bodies::BodyPermit;
use super::client::SinkError;
use super::delivery::{Body, Delivery, Noted, Payload, Status};
use super::queue::{Attempt, Change, EventKey, Next, Parked};
use super::{Dispatcher, SinkKey, cloud_events};
use crate::receiver::outbox::{BodyError, DeadLetterCause, EventState};
use crate::receiver::routes::SinkState;

/// What the task of a sink does next.
enum Step {
    Send(EventKey, Arc<Delivery>),
    Wait(Option<Instant>),
    /// The queue is empty, or the receiver stops.
    End,
}

/// What a driver does about new events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// The receiver stops, and what is pending is lost with it: one after the other is sent until one fails.
    LastAttempts,
    /// The receiver stops: the attempts under way may finish.
    Ending,
}

/// The end of an attempt.
struct Done {
    key: EventKey,
    delivery: Arc<Delivery>,
    result: Result<Success, Failure>,
}

/// How the sink accepted an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Success {
    Accepted,
    /// It had accepted it in an earlier attempt of the provider, so nothing was sent.
    Earlier,
}

/// Why an event was not accepted.
enum Failure {
    /// The sink did not accept it.
    Sink(SinkError),
    /// Nothing was sent, for this reason.
    Held(SinkError),
    /// The binding or the sink is gone, or the binding lost its grant.
    Gone,
    /// The record has lost its room.
    Dropped,
}

/// A body that is being sent. What it is read from counts it as long.
enum Sending {
    Arrived(Arc<Payload>),
    Read { bytes: Bytes, _permit: BodyPermit },
    Own(Bytes),
}

impl Sending {
    fn bytes(&self) -> Bytes {
        match self {
            Self::Arrived(payload) => payload.bytes.clone(),
            Self::Read { bytes, .. } | Self::Own(bytes) => bytes.clone(),
        }
    }
}

impl Dispatcher {
    pub(super) async fn drive(self: Arc<Self>, sink_queue: SinkKey, wake: Arc<Notify>) {
        let mut running = FuturesUnordered::new();
        let mut phase = Phase::Running;
        loop {
            let until = match self.step(&sink_queue, running.is_empty(), phase) {
                Step::Send(key, delivery) => {
                    running.push(self.attempt(&sink_queue.1, key, delivery));
                    continue;
                }
                Step::Wait(until) => until,
                Step::End => return,
            };
            let pause = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(done) = running.next() => {
                    if phase == Phase::LastAttempts && done.result.is_err() {
                        phase = Phase::Ending;
                    }
                    self.conclude(&sink_queue, done);
                }
                () = wake.notified() => (),
                () = pause => (),
                () = self.stopping.cancelled(), if phase == Phase::Running => {
                    phase = if self.outbox.is_in_memory() { Phase::LastAttempts } else { Phase::Ending };
                }
            }
        }
    }

    fn step(&self, key: &SinkKey, is_idle: bool, phase: Phase) -> Step {
        let now = Instant::now();
        let mut queues = self.queues();
        let Some(sink_queue) = queues.get_mut(key) else { return Step::End };
        let expired: Vec<_> = sink_queue
            .queue
            .expire(now)
            .into_iter()
            .filter_map(|change| Some((change, sink_queue.deliveries.remove(&change.key())?)))
            .collect();
        let chosen = match phase {
            Phase::Running => sink_queue.queue.next(now),
            Phase::LastAttempts if is_idle => sink_queue.queue.oldest().map_or(Next::Wait(None), Next::Send),
            Phase::LastAttempts | Phase::Ending => Next::Wait(None),
        };
        let step = match chosen {
            Next::Send(event) => {
                if let Some(delivery) = sink_queue.deliveries.get(&event) {
                    Step::Send(event, Arc::clone(delivery))
                } else {
                    sink_queue.queue.settle(event);
                    Step::Wait(Some(now))
                }
            }
            Next::Wait(_) if is_idle && (phase != Phase::Running || sink_queue.queue.is_empty()) => {
                queues.remove(key);
                Step::End
            }
            Next::Wait(until) => Step::Wait(until),
        };
        drop(queues);
        for (change, delivery) in expired {
            self.change(&key.1, change, &delivery, now);
        }
        step
    }

    async fn attempt(&self, sink: &str, key: EventKey, delivery: Arc<Delivery>) -> Done {
        let under_way = delivery.attempt();
        let sending = AssertUnwindSafe(self.send(sink, key.event, &delivery));
        // A panic must not leave an event under way for ever.
        let result = sending.catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(namespace = delivery.envelope.namespace, name = delivery.envelope.name, sink, "an attempt at a sink panicked");
            Err(Failure::Sink(SinkError::Internal))
        });
        drop(under_way);
        Done { key, delivery, result }
    }

    async fn send(&self, sink: &str, position: usize, delivery: &Arc<Delivery>) -> Result<Success, Failure> {
        if delivery.entry.has_accepted(sink, position) {
            return Ok(Success::Earlier);
        }
        let sending = self.body(delivery, sink, position).await?;
        // Judged as late as possible: what it allows may have changed while the body was read.
        let destination = match self.routes.sink(&delivery.envelope.uid, sink) {
            SinkState::At(destination) => destination,
            SinkState::Gone if self.is_sure() => return Err(Failure::Gone),
            SinkState::Held(Some(refusal)) => return Err(Failure::Held(SinkError::NotServed(refusal))),
            SinkState::Held(None) | SinkState::Gone => return Err(Failure::Held(SinkError::Held)),
        };
        let mut headers = cloud_events::headers(&delivery.envelope, position, delivery.is_redelivered(sink, position));
        let payload = sending.bytes();
        destination.sign(&mut headers, self.routes.clock().now(), &payload);
        let (purpose, begun) = (destination.purpose, Instant::now());
        let result = self.clients.send(&delivery.envelope.namespace, *destination, headers, payload).await;
        self.metrics.attempt(purpose, result.as_ref().map_or_else(SinkError::label, |()| "accepted"), begun.elapsed());
        result.map(|()| Success::Accepted).map_err(Failure::Sink)
    }

    /// The body of an event: the provider's document, or our own of the event that says how many were omitted.
    async fn body(&self, delivery: &Delivery, sink: &str, position: usize) -> Result<Sending, Failure> {
        if position >= delivery.envelope.events.len() {
            return Ok(Sending::Own(cloud_events::omitted_body(delivery.omitted(sink))));
        }
        let sequence = match delivery.body() {
            Body::Memory(payload) => return Ok(Sending::Arrived(payload)),
            Body::Stored(sequence) => sequence,
            Body::Gone => return Err(Failure::Dropped),
        };
        let length = self.outbox.body_length(sequence).ok_or(Failure::Dropped)?;
        let permit = self.bodies.acquire(&delivery.envelope.namespace, length).await.ok_or(Failure::Held(SinkError::Internal))?;
        match self.outbox.body(sequence).await {
            Ok(bytes) => Ok(Sending::Read { bytes, _permit: permit }),
            Err(BodyError::Gone) => Err(Failure::Dropped),
            Err(BodyError::Unavailable(error)) => {
                tracing::warn!(
                    namespace = delivery.envelope.namespace,
                    name = delivery.envelope.name,
                    delivery = delivery.envelope.delivery,
                    error,
                    "delivery cannot be read"
                );
                Err(Failure::Held(SinkError::Outbox))
            }
        }
    }

    fn conclude(&self, key: &SinkKey, done: Done) {
        let Done { key: event, delivery, result } = done;
        let sink = &key.1;
        let now = Instant::now();
        if let Err(Failure::Gone) = result {
            return self.discard_all(key, event);
        }
        if let Err(Failure::Dropped) = result
            && let Some(sequence) = delivery.sequence()
        {
            self.drop_stored(sequence);
        }
        self.note_result(sink, &delivery, &result);
        if result.is_ok() {
            delivery.entry.accept(sink, event.event);
        }
        let attempt = match result {
            Ok(Success::Accepted) => Some(Attempt::Accepted),
            Err(Failure::Sink(SinkError::Status(413))) => Some(Attempt::TooLarge),
            Err(Failure::Sink(_)) => Some(Attempt::Failed),
            Err(Failure::Held(_)) => Some(Attempt::Held),
            Ok(Success::Earlier) | Err(Failure::Dropped | Failure::Gone) => None,
        };
        let mut queues = self.queues();
        let Some(sink_queue) = queues.get_mut(key) else { return };
        let changes = if let Some(attempt) = attempt {
            sink_queue.queue.finish(event, attempt, now, fastrand::f64())
        } else {
            sink_queue.queue.settle(event);
            if result.is_ok() { vec![Change::Accepted(event)] } else { Vec::new() }
        };
        if matches!(result, Err(Failure::Dropped)) {
            sink_queue.deliveries.remove(&event);
        }
        // Its room was needed while it was under way.
        if delivery.is_concluded() && sink_queue.queue.remove(event) {
            sink_queue.deliveries.remove(&event);
        }
        let state = sink_queue.queue.state();
        let changes: Vec<_> = changes
            .into_iter()
            .filter_map(|change| {
                let delivery = sink_queue.deliveries.get(&change.key()).cloned()?;
                if !matches!(change, Change::Parked(..)) {
                    sink_queue.deliveries.remove(&change.key());
                }
                Some((change, delivery))
            })
            .collect();
        drop(queues);
        self.evidence.sink_state(&key.0, sink, state, self.routes.clock().now());
        for (change, delivery) in changes {
            self.change(sink, change, &delivery, now);
        }
    }

    /// Tells of the first failure and of the first success after failures.
    fn note_result(&self, sink: &str, delivery: &Delivery, result: &Result<Success, Failure>) {
        let (namespace, name) = (&delivery.envelope.namespace, &delivery.envelope.name);
        match result {
            Ok(Success::Accepted) => {
                if self.evidence.sink_accepted(&delivery.envelope.uid, sink) {
                    tracing::info!(namespace, name, sink, "sink accepts again");
                }
            }
            Err(Failure::Sink(error) | Failure::Held(error)) => {
                self.evidence.recent().failed(delivery.recent_key(), sink, &error.to_string());
                if self.evidence.sink_failed(&delivery.envelope.uid, sink, self.routes.clock().now(), error.to_string()) {
                    tracing::warn!(namespace, name, sink, %error, "sink does not accept");
                }
            }
            Ok(Success::Earlier) | Err(Failure::Gone | Failure::Dropped) => {}
        }
    }

    /// Carries out what the queue decided about one event.
    fn change(&self, sink: &str, change: Change, delivery: &Arc<Delivery>, now: Instant) {
        let clock = self.routes.clock().now();
        let event = change.key().event;
        let dead = |reason| Status::DeadLetter(EventState::DeadLetter { at: clock, reason });
        let status = match change {
            Change::Accepted(_) => Status::Accepted,
            Change::Superseded(_) => dead(DeadLetterCause::Superseded),
            Change::Expired(_) => dead(DeadLetterCause::TooOld),
            Change::Parked(_, Parked { times, due }) => {
                let next = clock.saturating_add(due.saturating_duration_since(now)).unwrap_or(Timestamp::MAX);
                Status::Open(EventState::Parked { attempts: times, next, redelivered: delivery.is_redelivered(sink, event) })
            }
        };
        let Some(noted) = delivery.note(sink, event, status.clone()) else { return };
        self.remember(delivery);
        self.report(sink, delivery, &status, noted);
        self.settle(delivery, &status, event, noted);
    }

    /// Reports the new state of an event: evidence, metrics and log.
    fn report(&self, sink: &str, delivery: &Delivery, status: &Status, noted: Noted) {
        let (namespace, name, id) = (&delivery.envelope.namespace, &delivery.envelope.name, &delivery.envelope.delivery);
        if noted.stored.is_some() && !matches!(status, Status::Open(_)) {
            self.evidence.sink_pending(&delivery.envelope.uid, sink, -1);
        }
        match status {
            Status::DeadLetter(EventState::DeadLetter { reason, .. }) => {
                self.metrics.dead_letter(*reason);
                self.evidence.dead_letters(&delivery.envelope.uid, sink, 1);
                tracing::warn!(namespace, name, sink, delivery = id, reason = reason.label(), "event became a dead letter");
            }
            Status::Open(EventState::Parked { attempts: 1, .. }) => {
                tracing::warn!(namespace, name, sink, delivery = id, "event parked: the sink accepts others, but not this one");
            }
            Status::Accepted if noted.stored.is_some() => {
                tracing::info!(namespace, name, sink, delivery = id, "pending event accepted");
            }
            _ => {}
        }
    }

    /// Records the new state of an event in the outbox, and that of its delivery everywhere.
    fn settle(&self, delivery: &Arc<Delivery>, status: &Status, event: usize, noted: Noted) {
        if let Some(sequence) = noted.stored {
            if noted.finished {
                self.forget(sequence);
            } else {
                self.outbox.note(sequence, noted.part, event, status.stored());
            }
        }
        if noted.concluded {
            if delivery.is_for_all() {
                self.evidence.settled(&delivery.envelope.uid, delivery.entry.number(), delivery.envelope.at);
            }
            // What the provider sent again meanwhile is a delivery of its own, so a redelivery does not speak for it. A sink that was not
            // served gets what the provider sends again.
            if noted.accepted && delivery.is_for_all() && !delivery.has_redelivered() {
                delivery.entry.complete();
            } else {
                // The provider may send again what ended as a dead letter.
                delivery.entry.reopen();
            }
        }
    }

    /// Discards all events of a sink that is gone.
    fn discard_all(&self, key: &SinkKey, under_way: EventKey) {
        let mut queues = self.queues();
        let Some(sink_queue) = queues.get_mut(key) else { return };
        sink_queue.queue.settle(under_way);
        let waiting: Vec<_> = sink_queue.queue.keys().collect();
        let events = waiting.into_iter().filter(|event| sink_queue.queue.remove(*event)).chain([under_way]);
        let gone: Vec<_> = events.filter_map(|event| Some((event, sink_queue.deliveries.remove(&event)?))).collect();
        drop(queues);
        let mut discarded = 0;
        for (event, delivery) in &gone {
            let Some(noted) = delivery.note(&key.1, event.event, Status::Discarded) else { continue };
            discarded += 1;
            if noted.stored.is_some() {
                self.evidence.sink_pending(&delivery.envelope.uid, &key.1, -1);
            }
            self.remember(delivery);
            self.settle(delivery, &Status::Discarded, event.event, noted);
        }
        if let Some((_, delivery)) = gone.first() {
            self.metrics.discarded(discarded);
            tracing::info!(
                namespace = delivery.envelope.namespace,
                name = delivery.envelope.name,
                sink = key.1,
                events = discarded,
                "events discarded: the sink is gone, or its binding lost its grant"
            );
        }
    }
}
