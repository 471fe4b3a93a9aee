//! Looks after the stored deliveries: removes old dead letters and what belongs to bindings and sinks that are gone, and sends
//! dead letters again on request.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::delivery::{Delivery, Status};
use super::{Dispatcher, since, with_sink};
use crate::receiver::outbox::EventState;
use crate::receiver::routes::SinkState;

/// Pause between two rounds.
const ROUND: Duration = Duration::from_secs(5);

impl Dispatcher {
    /// Looks after the stored deliveries until the receiver stops.
    pub(in crate::receiver) async fn look_after(self: Arc<Self>) {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.stopping.run_until_cancelled(rounds.tick()).await.is_some() {
            self.look_after_once();
        }
    }

    pub(super) fn look_after_once(self: &Arc<Self>) {
        let stored: Vec<_> = self.stored().values().cloned().collect();
        let is_sure = self.is_sure();
        for delivery in &stored {
            self.remove_dead_letters(delivery, is_sure);
        }
        self.redeliver(&stored);
        if self.outbox.state().healthy {
            self.evidence.outbox_available();
        }
    }

    /// Removes the dead letters of a delivery that are too old, or whose binding or sink is gone. The attempts find the same out
    /// about events that are open.
    fn remove_dead_letters(&self, delivery: &Arc<Delivery>, is_sure: bool) {
        let clock = self.routes.clock().now();
        for (part, event, at) in delivery.dead_letters() {
            let Some(sink) = delivery.parts.get(part).map(|part| part.sink.as_str()) else { continue };
            let is_old = since(at, clock) >= self.limits.dead;
            let is_gone = || is_sure && matches!(self.routes.sink(&delivery.envelope.uid, sink), SinkState::Gone);
            if !is_old && !is_gone() {
                continue;
            }
            if !delivery.remove_dead_letter(part, event) {
                continue;
            }
            self.evidence.dead_letters(&delivery.envelope.uid, sink, -1);
            self.remember(delivery);
            match delivery.sequence() {
                Some(sequence) if delivery.is_finished() => self.forget(sequence),
                Some(sequence) => self.outbox.note(sequence, part, event, Status::Discarded.stored()),
                None => {}
            }
        }
    }

    /// Sends the parked events and the dead letters of every binding again whose request was not carried out yet.
    fn redeliver(self: &Arc<Self>, stored: &[Arc<Delivery>]) {
        let requests = self.routes.redelivery_requests();
        let new: HashSet<String> =
            requests.into_iter().filter(|(uid, value)| self.evidence.begin_redelivery(uid, value)).map(|(uid, _)| uid).collect();
        let now = Instant::now();
        for delivery in stored.iter().filter(|delivery| new.contains(&delivery.envelope.uid)) {
            for (part, event, _) in delivery.dead_letters() {
                with_sink(delivery, part, |sink| {
                    if !delivery.reopen(part, event) {
                        return;
                    }
                    self.evidence.dead_letters(&delivery.envelope.uid, sink, -1);
                    self.evidence.sink_pending(&delivery.envelope.uid, sink, 1);
                    if let Some(sequence) = delivery.sequence() {
                        self.outbox.note(sequence, part, event, EventState::Redelivery);
                    }
                    self.push_stored(delivery, sink, event, &EventState::Redelivery, now + self.limits.attempted);
                });
            }
            self.remember(delivery);
            self.hurry(delivery, now);
        }
    }

    /// Makes the parked events of a delivery due. Those that merely wait are not sent again, but for the first time.
    fn hurry(&self, delivery: &Delivery, now: Instant) {
        let mut queues = self.queues();
        for (part, event, _) in delivery.open() {
            with_sink(delivery, part, |sink| {
                let Some(sink_queue) = queues.get_mut(&(delivery.envelope.uid.clone(), sink.to_owned())) else { return };
                if !sink_queue.queue.hurry_parked(delivery.key(event), now) {
                    return;
                }
                if let (Some(sequence), Some(state)) = (delivery.sequence(), delivery.mark_redelivered(part, event)) {
                    self.outbox.note(sequence, part, event, state);
                }
                sink_queue.wake.notify_one();
            });
        }
    }
}
