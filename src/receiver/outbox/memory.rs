//! Records with their bodies in memory: all of them without a disk, and what arrives while the disk is broken.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::record::{EventState, Record, Sequence};

/// A record in memory.
#[derive(Clone, Debug)]
pub(super) struct InMemory {
    pub(super) record: Record,
    pub(super) body: Bytes,
    cost: u64,
    /// Whether the writer is moving it to the disk: until it has, both places may hold it.
    moving: bool,
}

/// Records in memory, within a budget.
#[derive(Debug)]
pub(super) struct MemoryStore {
    budget: u64,
    used: u64,
    records: BTreeMap<Sequence, InMemory>,
}

impl MemoryStore {
    pub(super) const fn new(budget: u64) -> Self {
        Self { budget, used: 0, records: BTreeMap::new() }
    }

    pub(super) const fn has_room(&self, cost: u64) -> bool {
        self.used.saturating_add(cost) <= self.budget
    }

    pub(super) const fn used(&self) -> u64 {
        self.used
    }

    /// The numbers of the records.
    pub(super) fn sequences(&self) -> BTreeSet<Sequence> {
        self.records.keys().copied().collect()
    }

    pub(super) fn insert(&mut self, sequence: Sequence, record: Record, body: Bytes) {
        let cost = record.cost(body.len() as u64);
        self.used = self.used.saturating_add(cost);
        self.records.insert(sequence, InMemory { record, body, cost, moving: false });
    }

    /// Removes a record. Returns whether the disk may hold it as well.
    pub(super) fn remove(&mut self, sequence: Sequence) -> Option<bool> {
        let removed = self.records.remove(&sequence)?;
        self.used = self.used.saturating_sub(removed.cost);
        Some(removed.moving)
    }

    pub(super) fn get(&self, sequence: Sequence) -> Option<&InMemory> {
        self.records.get(&sequence)
    }

    /// Sets the state of an event. Returns whether the disk may hold the record as well; `None` if the record is not here.
    pub(super) fn set(&mut self, sequence: Sequence, sink: u32, event: u32, state: EventState) -> Option<bool> {
        let found = self.records.get_mut(&sequence)?;
        found.record.set(sink, event, state);
        Some(found.moving)
    }

    /// Begins to move all records to the disk, and returns copies of them in order. The bodies are shared with the copies.
    pub(super) fn begin_moving(&mut self) -> Vec<(Sequence, Record, Bytes)> {
        let copies = self.records.iter_mut().map(|(sequence, found)| {
            found.moving = true;
            (*sequence, found.record.clone(), found.body.clone())
        });
        copies.collect()
    }

    /// Records that a move failed: the record is here alone.
    pub(super) fn stop_moving(&mut self, sequence: Sequence) {
        if let Some(found) = self.records.get_mut(&sequence) {
            found.moving = false;
        }
    }
}
