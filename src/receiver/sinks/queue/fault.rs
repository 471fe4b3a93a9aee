//! Whether an event that is not accepted is at fault or its sink, and what follows for the sink.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Attempt, Change, EventKey, FAILURES, Mode, Queue, pause_after};

impl Queue {
    /// Decides whether the event or the sink is at fault.
    pub(super) fn judge(
        &mut self,
        key: EventKey,
        subject: &Arc<str>,
        attempt: Attempt,
        is_at_fault: bool,
        now: Instant,
        jitter: f64,
    ) -> Option<Change> {
        let mut parked = None;
        let waiting = self.events.get(&key);
        let is_pending = waiting.is_some_and(|waiting| waiting.parked.is_none());
        let failures = waiting.map_or(0, |waiting| waiting.failures);
        match (self.mode, attempt) {
            (Mode::Trial(blocked), Attempt::Accepted) => {
                self.mode = Mode::Accepting;
                let of_blocked = self.events.get(&blocked).map(|waiting| Arc::clone(&waiting.subject));
                if let Some(of_blocked) = of_blocked.filter(|of_blocked| of_blocked != subject) {
                    self.change(&of_blocked, |queue| parked = Some(queue.park(blocked, now)));
                }
            }
            (Mode::Down { .. }, Attempt::Accepted) => {
                self.mode = Mode::Accepting;
                self.hurry(now);
            }
            (Mode::Accepting, Attempt::Failed) if is_pending && failures >= FAILURES && is_at_fault => {
                self.change(subject, |queue| parked = Some(queue.park(key, now)));
            }
            (Mode::Accepting, Attempt::Failed) if is_pending && failures >= FAILURES => {
                self.mode = Mode::Trial(key);
                if self.in_flight == 0 && self.head_of_another(key).is_none() {
                    self.go_down(key, now, jitter);
                }
            }
            // The failure of a parked event says nothing of the sink, and neither does one that began before the sink was down.
            (Mode::Trial(_), Attempt::Failed) if is_pending => self.go_down(key, now, jitter),
            (Mode::Down { .. }, Attempt::Failed) if self.in_flight == 0 => self.go_down(key, now, jitter),
            (_, Attempt::Held) => self.go_down(key, now, jitter),
            (Mode::Accepting | Mode::Trial(_) | Mode::Down { .. }, Attempt::Failed)
            | (Mode::Accepting, Attempt::Accepted)
            | (_, Attempt::TooLarge) => {}
        }
        self.settle_mode();
        parked
    }

    fn go_down(&mut self, last: EventKey, now: Instant, jitter: f64) {
        let attempts = if let Mode::Down { attempts, .. } = self.mode { attempts.saturating_add(1) } else { FAILURES };
        self.mode = Mode::Down { attempts, tried_at: now, due: now + pause_after(attempts, jitter), last };
    }

    /// Ends a state that has no reason any more: a trial whose event is gone, or a sink that is down without a pending event.
    pub(super) fn settle_mode(&mut self) {
        let ends = match self.mode {
            Mode::Accepting => false,
            Mode::Trial(blocked) => !self.events.contains_key(&blocked),
            Mode::Down { .. } => self.in_flight == 0 && self.heads.is_empty(),
        };
        if ends {
            self.mode = Mode::Accepting;
        }
        if let Mode::Trial(blocked) = self.mode
            && self.in_flight == 0
            && self.head_of_another(blocked).is_none()
            && let Some(due) = self.events.get(&blocked).map(|waiting| waiting.due)
        {
            self.mode = Mode::Down { attempts: FAILURES, tried_at: due, due, last: blocked };
        }
    }

    /// Makes every pending event due: the sink accepts again.
    fn hurry(&mut self, now: Instant) {
        let subjects: Vec<_> = self.subjects.keys().cloned().collect();
        for subject in subjects {
            self.change(&subject, |queue| {
                let Some(head) = queue.subjects.get(&subject).and_then(|known| known.pending.first().copied()) else { return };
                if let Some(waiting) = queue.events.get_mut(&head) {
                    waiting.due = waiting.due.min(now);
                    // What failed while the sink was down says nothing of the event.
                    waiting.failures = 0;
                }
            });
        }
    }

    /// The first pending event of another subject than this event's.
    pub(super) fn head_of_another(&self, blocked: EventKey) -> Option<EventKey> {
        let subject = &self.events.get(&blocked)?.subject;
        // Each subject has one head, so the second one is of another subject at the latest.
        self.heads.iter().find(|head| self.events.get(head).is_some_and(|waiting| waiting.subject != *subject)).copied()
    }
}
