//! A delivery in progress and its part for one sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::pending::PendingPermit;
use crate::providers::webhook::Event;
use crate::receiver::dedupe::Entry;

/// The content of a delivery, which is the same for every sink.
pub(in crate::receiver) struct Delivery {
    pub(in crate::receiver) uid: String,
    pub(in crate::receiver) namespace: String,
    pub(in crate::receiver) name: String,
    pub(in crate::receiver) id: String,
    pub(in crate::receiver) source: String,
    pub(in crate::receiver) events: Vec<Event>,
    pub(in crate::receiver) payload: Bytes,
    pub(in crate::receiver) at: Timestamp,
    pub(in crate::receiver) arrived: Instant,
    pub(in crate::receiver) entry: Arc<Entry>,
    pub(in crate::receiver) tracking: Tracking,
}

/// The progress of a delivery.
#[derive(Default)]
pub(in crate::receiver) struct Tracking {
    /// Number of parts that are not settled.
    open: AtomicUsize,
    /// Held as long as any part of the delivery is pending.
    pending: Mutex<Option<PendingPermit>>,
}

/// The events of a delivery for one sink, as positions in [`Delivery::events`].
pub(in crate::receiver) struct Part {
    pub(in crate::receiver) sink: String,
    pub(in crate::receiver) events: Vec<usize>,
}

pub(super) struct Job {
    pub(super) delivery: Arc<Delivery>,
    pub(super) part: Part,
    progress: Mutex<Progress>,
    settled: watch::Sender<bool>,
}

#[derive(Clone, Copy)]
struct Progress {
    state: State,
    next: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The request waits for it.
    Waiting,
    /// The provider was answered, and the job is retried until it is accepted.
    Pending,
    /// The provider was answered with a refusal, so the job need not continue.
    Cancelled,
    /// Accepted or given up.
    Settled,
}

impl Delivery {
    pub(super) fn expect_parts(&self, count: usize) {
        self.tracking.open.store(count, Ordering::Release);
    }

    /// Records that one part is settled. Returns whether it was the last one.
    pub(super) fn settle_part(&self) -> bool {
        self.tracking.open.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(super) fn hold(&self, permit: PendingPermit) {
        *self.tracking.pending.lock() = Some(permit);
    }
}

impl Job {
    pub(super) fn new(delivery: Arc<Delivery>, part: Part) -> Arc<Self> {
        let progress = Mutex::new(Progress { state: State::Waiting, next: 0 });
        Arc::new(Self { delivery, part, progress, settled: watch::Sender::new(false) })
    }

    /// The position of the next event to send.
    pub(super) fn next(&self) -> Option<usize> {
        self.part.events.get(self.progress.lock().next).copied()
    }

    /// Records that one more event was accepted. Returns whether the job was pending.
    pub(super) fn advance(&self) -> bool {
        let mut progress = self.progress.lock();
        progress.next += 1;
        progress.state == State::Pending
    }

    /// Makes the job pending. Returns how many events become pending; `None` when the job is already settled.
    pub(super) fn defer(&self) -> Option<usize> {
        let mut progress = self.progress.lock();
        (progress.state == State::Waiting).then(|| {
            progress.state = State::Pending;
            self.part.events.len().saturating_sub(progress.next)
        })
    }

    pub(super) fn cancel(&self) {
        let mut progress = self.progress.lock();
        if progress.state == State::Waiting {
            progress.state = State::Cancelled;
        }
    }

    /// Settles the job. Returns how many events were pending; `None` when it was cancelled or already settled.
    pub(super) fn settle(&self) -> Option<usize> {
        let mut progress = self.progress.lock();
        let pending = match progress.state {
            State::Pending => self.part.events.len().saturating_sub(progress.next),
            State::Waiting => 0,
            State::Cancelled | State::Settled => return None,
        };
        progress.state = State::Settled;
        drop(progress);
        self.settled.send_replace(true);
        Some(pending)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.progress.lock().state == State::Settled
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.progress.lock().state == State::Cancelled
    }

    pub(super) fn is_pending(&self) -> bool {
        self.progress.lock().state == State::Pending
    }

    pub(super) async fn wait(&self) {
        // `wait_for` cannot fail: `self` holds the sender.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }
}
