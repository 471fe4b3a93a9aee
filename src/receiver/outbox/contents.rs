//! What the outbox holds, as far as it is known without the disk: the index, the records in memory, and what waits for the
//! writer. It is behind one lock, which nobody holds while the disk works.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::memory::MemoryStore;
use super::record::{EventState, Record, Sequence, position};
use super::shares::{Claim, Shares};
use super::{Dropped, KeepError};

/// A record on its way to the disk.
#[derive(Debug)]
pub(super) struct Keep {
    pub(super) sequence: Sequence,
    pub(super) record: Record,
    pub(super) body: Bytes,
    /// Who waits for it. `None`: it is in memory, and moves to the disk.
    pub(super) answer: Option<Answer>,
}

/// Receives whether the record is durable.
pub(super) type Answer = oneshot::Sender<Result<bool, KeepError>>;

/// The state of an event at a sink, by positions.
pub(super) type NoteKey = (Sequence, u32, u32);

/// What the writer writes in one transaction: the records, then the states, then the removals.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) keeps: Vec<Keep>,
    pub(super) notes: BTreeMap<NoteKey, EventState>,
    pub(super) removals: BTreeSet<Sequence>,
    /// Who waits until all of it is on the disk.
    pub(super) flushes: Vec<oneshot::Sender<bool>>,
}

impl Batch {
    /// Whether somebody waits for it.
    pub(super) const fn is_urgent(&self) -> bool {
        !self.keeps.is_empty() || !self.flushes.is_empty()
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.notes.is_empty() || !self.removals.is_empty()
    }
}

/// How far a record has come whose `keep` has not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InFlight {
    Storing,
    /// It lost its room to a record that arrived later.
    Lost,
}

/// The result of asking for room.
pub(super) struct Intake {
    pub(super) dropped: Vec<Dropped>,
    pub(super) result: Result<TakenIn, KeepError>,
}

/// A record that has its room.
pub(super) enum TakenIn {
    /// It is in memory, and that is all.
    InMemory(Sequence),
    /// The writer answers when it is on the disk.
    Writing(Sequence, oneshot::Receiver<Result<bool, KeepError>>),
}

#[derive(Debug)]
pub(super) struct Contents {
    pub(super) shares: Shares,
    pub(super) memory: MemoryStore,
    pub(super) next: Sequence,
    /// Whether a disk belongs to the outbox.
    pub(super) has_disk: bool,
    /// The error of the disk, since when records go to memory.
    pub(super) disk_error: Option<String>,
    /// What waits for the writer.
    pub(super) waiting: Batch,
    pub(super) closing: bool,
    /// Number of transactions that the writer committed.
    pub(super) commits: u64,
    in_flight: HashMap<Sequence, InFlight>,
}

impl Contents {
    pub(super) fn new(shares: Shares, memory: MemoryStore, next: Sequence, has_disk: bool) -> Self {
        Self {
            shares,
            memory,
            next,
            has_disk,
            disk_error: None,
            waiting: Batch::default(),
            closing: false,
            commits: 0,
            in_flight: HashMap::new(),
        }
    }

    pub(super) const fn writes_to_disk(&self) -> bool {
        self.has_disk && self.disk_error.is_none()
    }

    /// Gives a record its room and its place in the order.
    pub(super) fn admit(&mut self, record: Record, body: Bytes) -> Intake {
        if self.closing {
            return Intake { dropped: Vec::new(), result: Err(KeepError::Closed) };
        }
        let claim = claim(&record, body.len() as u64);
        // While the disk is broken nothing is dropped in order to make room in memory: a provider that gets a refusal sends again.
        if self.disk_error.is_some() && !self.memory.has_room(claim.cost) {
            return Intake { dropped: Vec::new(), result: Err(KeepError::Full) };
        }
        let sequence = self.next;
        let removed = match self.shares.admit(sequence, claim) {
            Ok(removed) => removed,
            Err(too_large) => return Intake { dropped: Vec::new(), result: Err(KeepError::TooLarge { limit: too_large.limit }) },
        };
        self.next += 1;
        let dropped = removed.into_iter().filter_map(|(sequence, claim)| self.lose(sequence, claim)).collect();
        let admitted = if self.writes_to_disk() {
            let (answer, answered) = oneshot::channel();
            self.in_flight.insert(sequence, InFlight::Storing);
            self.waiting.keeps.push(Keep { sequence, record, body, answer: Some(answer) });
            TakenIn::Writing(sequence, answered)
        } else {
            self.memory.insert(sequence, record, body);
            TakenIn::InMemory(sequence)
        };
        Intake { dropped, result: Ok(admitted) }
    }

    /// Deletes a record that has lost its room. It is reported by the `keep` that needed the room, or by its own while that has
    /// not returned: nobody else knows its number.
    fn lose(&mut self, sequence: Sequence, claim: Claim) -> Option<Dropped> {
        self.delete(sequence);
        if let Some(state) = self.in_flight.get_mut(&sequence) {
            *state = InFlight::Lost;
            return None;
        }
        Some(Dropped { sequence, uid: claim.uid })
    }

    /// Ends a `keep`. Returns whether the record has lost its room meanwhile.
    pub(super) fn finish(&mut self, sequence: Sequence) -> bool {
        self.in_flight.remove(&sequence) == Some(InFlight::Lost)
    }

    /// Removes a record.
    pub(super) fn remove(&mut self, sequence: Sequence) {
        if self.shares.remove(sequence).is_some() {
            self.delete(sequence);
        }
    }

    fn delete(&mut self, sequence: Sequence) {
        let on_disk = self.memory.remove(sequence).unwrap_or(self.has_disk);
        if on_disk {
            self.waiting.removals.insert(sequence);
            // States of a record that is removed anyway need not be written.
            self.drop_notes(sequence);
        }
    }

    fn drop_notes(&mut self, sequence: Sequence) {
        let noted: Vec<_> = self.waiting.notes.range(of(sequence)).map(|(key, _)| *key).collect();
        for key in noted {
            self.waiting.notes.remove(&key);
        }
    }

    /// Records the state of an event. Ignores records that are not held.
    pub(super) fn note(&mut self, sequence: Sequence, sink: usize, event: usize, state: EventState) {
        if self.shares.get(sequence).is_none() {
            return;
        }
        let (sink, event) = (position(sink), position(event));
        self.shares.note(sequence, (sink, event), state.is_open());
        let on_disk = self.memory.set(sequence, sink, event, state.clone()).unwrap_or(self.has_disk);
        if on_disk {
            self.waiting.notes.insert((sequence, sink, event), state);
        }
    }

    /// Everything that waits for the writer.
    pub(super) fn take_waiting(&mut self) -> Batch {
        std::mem::take(&mut self.waiting)
    }

    /// Adds what is in memory to what waits for the writer.
    pub(super) fn move_memory_to_disk(&mut self) {
        let moves = self.memory.begin_moving();
        // The copies have the present states. What waits from an earlier move that failed may be older.
        for (sequence, ..) in &moves {
            self.drop_notes(*sequence);
        }
        self.waiting.keeps.extend(moves.into_iter().map(|(sequence, record, body)| Keep { sequence, record, body, answer: None }));
    }

    /// The batch is on the disk.
    pub(super) fn written(&mut self, batch: Batch) {
        self.commits += 1;
        for keep in batch.keeps {
            match keep.answer {
                // Who does not wait any more removes the record as well.
                Some(answer) => drop(answer.send(Ok(true))),
                None => drop(self.memory.remove(keep.sequence)),
            }
        }
        for flush in batch.flushes {
            let _ = flush.send(true);
        }
    }

    /// The batch may or may not be on the disk. Its records go to memory as far as there is room; its changes wait again.
    pub(super) fn not_written(&mut self, batch: Batch, error: String) {
        self.disk_error = Some(error);
        let later = self.take_waiting();
        self.waiting.notes = batch.notes;
        self.waiting.removals = batch.removals;
        self.waiting.notes.extend(later.notes);
        self.waiting.removals.extend(later.removals);
        let Batch { notes, removals, .. } = &mut self.waiting;
        notes.retain(|(sequence, ..), _| !removals.contains(sequence));
        for keep in batch.keeps.into_iter().chain(later.keeps) {
            let Some(answer) = keep.answer else {
                self.memory.stop_moving(keep.sequence);
                continue;
            };
            let _ = answer.send(self.keep_in_memory(keep.sequence, keep.record, keep.body));
        }
        for flush in batch.flushes.into_iter().chain(later.flushes) {
            let _ = flush.send(false);
        }
    }

    /// Returns that the record is not durable.
    fn keep_in_memory(&mut self, sequence: Sequence, record: Record, body: Bytes) -> Result<bool, KeepError> {
        if self.shares.get(sequence).is_none() {
            // It has lost its room; its `keep` reports that.
            return Ok(false);
        }
        if self.memory.has_room(record.cost(body.len() as u64)) {
            self.memory.insert(sequence, record, body);
            Ok(false)
        } else {
            self.shares.remove(sequence);
            Err(KeepError::Full)
        }
    }
}

/// What a record asks for.
pub(super) fn claim(record: &Record, body: u64) -> Claim {
    Claim {
        uid: Arc::from(record.envelope.uid.as_str()),
        namespace: Arc::from(record.envelope.namespace.as_str()),
        cost: record.cost(body),
        body,
        open: record.open_events(),
    }
}

/// All notes of a record.
pub(super) const fn of(sequence: Sequence) -> std::ops::RangeInclusive<NoteKey> {
    (sequence, 0, 0)..=(sequence, u32::MAX, u32::MAX)
}
