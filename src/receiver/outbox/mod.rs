//! Stores deliveries that wait for a sink, in the order of arrival, until they are removed.
//!
//! On a disk a delivery is stored once it is synced: one writer commits what arrived during the last commit, so that many
//! deliveries share one sync. The states of events and removals travel along, or follow within a second; a crash before that
//! means that an event is sent again, with the same id. While the disk is broken, records stay in memory within a budget and
//! move to the disk when it works again.
//!
//! Nothing here knows sinks, routes or time: the dispatcher decides what is sent when, and what an event's state is.

mod contents;
mod disk;
#[cfg(any(test, fuzzing))]
pub(in crate::receiver) mod fuzz;
mod memory;
mod record;
mod shares;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use contents::{Contents, TakenIn, claim};
pub use disk::OpenError;
use disk::{Disk, DiskError, Opener, Stored};
use memory::MemoryStore;
pub(super) use record::{DeadLetterCause, EventState, Record, Sequence, SinkPart};
pub(super) use shares::Held;
use shares::{ShareLimits, Shares};
#[cfg(test)]
pub(super) use tests::{Broken, Storage, on_storage};
use writer::{Shared, Timing, Writer};

/// Where deliveries wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxKind {
    /// In memory: nothing is left after a restart.
    Memory,
    /// In a file of this directory, which is created if it is missing.
    Disk(PathBuf),
}

/// The settings of an outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxConfig {
    /// Where deliveries wait.
    pub kind: OutboxKind,
    /// Maximum cost of all records on a disk in bytes; default 1 GiB.
    pub limit: u64,
    /// Maximum cost of the records of one binding; default 64 MiB.
    pub per_binding: u64,
    /// Maximum cost of the records in memory: of all without a disk, and of those that arrive while the disk is broken; default
    /// 64 MiB.
    pub memory: u64,
}

impl OutboxConfig {
    /// The default limits.
    #[must_use]
    pub const fn new(kind: OutboxKind) -> Self {
        const MIB: u64 = 1024 * 1024;
        Self { kind, limit: 1024 * MIB, per_binding: 64 * MIB, memory: 64 * MIB }
    }

    fn share_limits(&self) -> ShareLimits {
        let total = match self.kind {
            OutboxKind::Memory => self.memory,
            OutboxKind::Disk(_) => self.limit,
        };
        ShareLimits { total, per_binding: self.per_binding.min(total) }
    }
}

/// The result of storing a record.
#[derive(Debug)]
pub(super) struct Kept {
    /// Records that lost their room, whatever the result: their events are no longer sent. One of them may be the record itself,
    /// if deliveries that arrived during the same commit needed its room.
    pub(super) dropped: Vec<Dropped>,
    /// The record's place in the order.
    pub(super) result: Result<Place, KeepError>,
}

/// A record that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The record's place in the order.
    pub(super) sequence: Sequence,
    /// Whether it is on the disk, and not in memory alone.
    pub(super) durable: bool,
}

/// A record that has lost its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) sequence: Sequence,
    /// The UID of its binding.
    pub(super) uid: Arc<str>,
}

/// Why a record was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeepError {
    /// It exceeds what one binding may hold.
    #[error("the delivery needs more room than the {limit} bytes that one binding may hold")]
    TooLarge { limit: u64 },
    /// The disk is broken, and the memory for this case is full.
    #[error("the disk of the outbox is broken and its memory is full")]
    Full,
    /// The outbox is closed.
    #[error("the outbox is closed")]
    Closed,
}

/// Why there is no body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// The record was removed or has lost its room.
    #[error("the delivery is no longer stored")]
    Gone,
    /// The disk cannot be read at present.
    #[error("the outbox cannot be read: {0}")]
    Unavailable(String),
}

/// The state of an outbox, for metrics and readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutboxState {
    /// Whether records are stored where the settings say.
    pub(super) healthy: bool,
    /// The error of the disk.
    pub(super) error: Option<String>,
    /// All records and their cost.
    pub(super) held: Held,
    /// The limit of that cost.
    pub(super) limit: u64,
    /// The cost of the records in memory.
    pub(super) in_memory: u64,
    /// The same for each namespace that holds any.
    pub(super) namespaces: BTreeMap<Arc<str>, Held>,
    /// Number of transactions that were committed since the start.
    pub(super) commits: u64,
}

/// Stores deliveries.
pub(super) struct Outbox {
    shared: Arc<Shared>,
    limit: u64,
    /// `None` without a disk.
    disk: Option<Arc<Disk>>,
    writer: Mutex<Option<Writer>>,
}

impl Outbox {
    /// Opens the outbox. Returns what is stored, in order.
    ///
    /// # Errors
    /// The directory or the file cannot be used. Nothing is deleted then.
    pub(super) async fn open(config: &OutboxConfig) -> Result<(Self, Vec<(Sequence, Record)>), OpenError> {
        match &config.kind {
            OutboxKind::Memory => Ok((Self::in_memory(config), Vec::new())),
            OutboxKind::Disk(directory) => Self::on_disk(config, disk::file_opener(directory.clone()), Timing::default()).await,
        }
    }

    fn in_memory(config: &OutboxConfig) -> Self {
        let limits = config.share_limits();
        let contents = Contents::new(Shares::new(limits), MemoryStore::new(config.memory), 1, false);
        Self { shared: Arc::new(Shared::new(contents)), limit: limits.total, disk: None, writer: Mutex::new(None) }
    }

    async fn on_disk(config: &OutboxConfig, opener: Opener, timing: Timing) -> Result<(Self, Vec<(Sequence, Record)>), OpenError> {
        let (disk, Stored { next, records }) = off_runtime(move || Disk::open(opener)).await.unwrap_or(Err(OpenError::Interrupted))?;
        let limits = config.share_limits();
        let mut shares = Shares::new(limits);
        for stored in &records {
            shares.insert(stored.sequence, claim(&stored.record, stored.body));
        }
        let contents = Arc::new(Shared::new(Contents::new(shares, MemoryStore::new(config.memory), next, true)));
        let disk = Arc::new(disk);
        let writer = Writer::start(contents.clone(), disk.clone(), timing).map_err(OpenError::NoThread)?;
        let records = records.into_iter().map(|stored| (stored.sequence, stored.record)).collect();
        Ok((Self { shared: contents, limit: limits.total, disk: Some(disk), writer: Mutex::new(Some(writer)) }, records))
    }

    /// Stores a record and returns when it is durable, or when it is in memory because the disk is broken.
    ///
    /// Between the answer and the caller's own bookkeeping, another `keep` may report the record as dropped. Its body is then
    /// [`BodyError::Gone`].
    pub(super) async fn keep(&self, record: Record, body: Bytes) -> Kept {
        let uid: Arc<str> = Arc::from(record.envelope.uid.as_str());
        let admission = self.shared.lock().admit(record, body);
        let mut dropped = admission.dropped;
        let (sequence, answered) = match admission.result {
            Err(error) => return Kept { dropped, result: Err(error) },
            Ok(TakenIn::InMemory(sequence)) => return Kept { dropped, result: Ok(Place { sequence, durable: false }) },
            Ok(TakenIn::Writing(sequence, answered)) => (sequence, answered),
        };
        self.shared.wake();
        // A caller that no longer waits does not learn the number, so nobody would ever send the record.
        let mut unclaimed = Unclaimed { shared: &self.shared, sequence: Some(sequence), uid };
        let answer = answered.await.unwrap_or(Err(KeepError::Closed));
        dropped.extend(unclaimed.claim());
        Kept { dropped, result: answer.map(|durable| Place { sequence, durable }) }
    }

    /// Records the state of an event at a sink; both are positions, in [`Record::sinks`] and `Envelope::events`. It is durable
    /// within about a second.
    pub(super) fn note(&self, sequence: Sequence, sink: usize, event: usize, state: EventState) {
        self.shared.change(|contents| contents.note(sequence, sink, event, state));
    }

    /// Removes a record: every event was accepted, or they are discarded.
    pub(super) fn remove(&self, sequence: Sequence) {
        self.shared.change(|contents| contents.remove(sequence));
    }

    /// The body of a delivery.
    ///
    /// # Errors
    /// The record is no longer stored, or cannot be read at present.
    pub(super) async fn body(&self, sequence: Sequence) -> Result<Bytes, BodyError> {
        let length = {
            let contents = self.shared.lock();
            if let Some(found) = contents.memory.get(sequence) {
                return Ok(found.body.clone());
            }
            contents.shares.get(sequence).ok_or(BodyError::Gone)?.body
        };
        self.read(move |disk| disk.body(sequence, length)).await
    }

    /// The length of the body of a delivery; `None` if the record is no longer stored.
    pub(super) fn body_length(&self, sequence: Sequence) -> Option<usize> {
        let contents = self.shared.lock();
        let length = contents.shares.get(sequence)?.body;
        Some(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// Whether a record has room without removing another one.
    pub(super) fn has_room(&self, record: &Record, body: usize) -> bool {
        let contents = self.shared.lock();
        contents.shares.has_room(&claim(record, u64::try_from(body).unwrap_or(u64::MAX)))
    }

    /// Whether records are in memory by the settings.
    pub(super) const fn is_in_memory(&self) -> bool {
        self.disk.is_none()
    }

    /// A stored delivery with the present states of its events, and its body. Record no state meanwhile.
    ///
    /// # Errors
    /// The record is no longer stored, or cannot be read at present.
    pub(super) async fn delivery(&self, sequence: Sequence) -> Result<(Record, Bytes), BodyError> {
        if let Some(found) = self.shared.lock().memory.get(sequence) {
            return Ok((found.record.clone(), found.body.clone()));
        }
        let (mut record, body) = self.read(move |disk| disk.delivery(sequence)).await?;
        // What the disk does not have yet, as while it is broken.
        for ((_, sink, event), state) in self.shared.lock().waiting.notes.range(contents::of(sequence)) {
            record.set(*sink, *event, state.clone());
        }
        Ok((record, body))
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Disk) -> Result<Option<T>, DiskError> + Send + 'static,
    ) -> Result<T, BodyError> {
        let disk = self.disk.clone().ok_or(BodyError::Gone)?;
        let found = off_runtime(move || read(&disk)).await.ok_or_else(|| BodyError::Unavailable("the read was interrupted".to_owned()))?;
        found.map_err(|error| BodyError::Unavailable(error.to_string()))?.ok_or(BodyError::Gone)
    }

    /// Waits until everything that was stored, noted and removed so far is on the disk. Returns false if that failed.
    pub(super) async fn flush(&self) -> bool {
        let (flushed, answer) = oneshot::channel();
        {
            let mut contents = self.shared.lock();
            if !contents.has_disk {
                return true;
            }
            if contents.disk_error.is_some() || contents.closing {
                return false;
            }
            contents.waiting.flushes.push(flushed);
        }
        self.shared.wake();
        answer.await.unwrap_or(false)
    }

    /// Writes everything that waits and releases the file. Nothing can be stored or read afterwards.
    pub(super) async fn close(&self) {
        self.stop();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            off_runtime(move || writer.join()).await;
        }
    }

    fn stop(&self) {
        self.shared.lock().closing = true;
        self.shared.wake();
    }

    /// The present state.
    pub(super) fn state(&self) -> OutboxState {
        let contents = self.shared.lock();
        OutboxState {
            healthy: contents.disk_error.is_none(),
            error: contents.disk_error.clone(),
            held: contents.shares.held(),
            limit: self.limit,
            in_memory: contents.memory.used(),
            namespaces: contents.shares.of_namespaces(),
            commits: contents.commits,
        }
    }

    /// The records that are in memory alone. After [`close`](Self::close) these are lost with the process.
    pub(super) fn in_memory_alone(&self) -> BTreeSet<Sequence> {
        self.shared.lock().memory.sequences()
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A record whose `keep` has not returned. If that is cancelled, the record is removed.
struct Unclaimed<'a> {
    shared: &'a Shared,
    sequence: Option<Sequence>,
    uid: Arc<str>,
}

impl Unclaimed<'_> {
    /// The record belongs to the caller now. Returns it if it has lost its room meanwhile.
    fn claim(&mut self) -> Option<Dropped> {
        let sequence = self.sequence.take()?;
        let is_lost = self.shared.lock().finish(sequence);
        is_lost.then(|| Dropped { sequence, uid: self.uid.clone() })
    }
}

impl Drop for Unclaimed<'_> {
    fn drop(&mut self) {
        if let Some(sequence) = self.sequence {
            self.shared.change(|contents| {
                contents.finish(sequence);
                contents.remove(sequence);
            });
        }
    }
}

/// Runs work that blocks. `None` if it was interrupted because the runtime stops.
async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
