//! The process ends at any step of its work with the disk.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What a run was told before it ended.
#[derive(Default)]
struct Told {
    /// Records whose `keep` returned, with their bodies.
    stored: BTreeMap<Sequence, Bytes>,
    /// Records whose removal began.
    removed: BTreeSet<Sequence>,
    /// Records whose removal is on the disk.
    removed_for_sure: BTreeSet<Sequence>,
    /// The record whose state is on the disk.
    noted: Option<Sequence>,
}

/// Stores, notes and removes, until the disk ends.
async fn run(storage: &Storage) -> Option<Told> {
    let mut told = Told::default();
    // Without memory, everything that is stored is on the disk.
    let config = OutboxConfig { memory: 0, ..config() };
    let timing = Timing { changes: Duration::from_secs(3600), retry: Duration::from_secs(3600) };
    let (outbox, _) = open_on(storage, &config, timing).await.ok()?;
    for length in [0, 100, 70_000] {
        store(&outbox, length, &mut told).await;
    }
    if let Some(sequence) = told.stored.keys().next().copied() {
        outbox.note(sequence, 1, 1, DEAD);
        if outbox.flush().await {
            told.noted = Some(sequence);
        }
    }
    if let Some(sequence) = told.stored.keys().nth(1).copied() {
        told.removed.insert(sequence);
        outbox.remove(sequence);
        store(&outbox, 5_000, &mut told).await;
        if outbox.flush().await {
            told.removed_for_sure.insert(sequence);
        }
    }
    let together = futures::future::join_all([1, 2, 3].map(|length| outbox.keep(record("team", "uid"), body(length)))).await;
    for (length, kept) in (1..).zip(together) {
        told.add(length, &kept);
    }
    outbox.close().await;
    Some(told)
}

async fn store(outbox: &Outbox, length: usize, told: &mut Told) {
    told.add(length, &outbox.keep(record("team", "uid"), body(length)).await);
}

impl Told {
    fn add(&mut self, length: usize, kept: &Kept) {
        if let Ok(place) = kept.result {
            assert!(place.durable);
            self.stored.insert(place.sequence, body(length));
        }
    }

    /// What was told is true of this disk.
    async fn check(&self, storage: &Storage, cut: usize) {
        let (outbox, stored) = open_on(storage, &config(), TIMING).await.unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        let found = export(&outbox).await;
        assert_eq!(found.iter().map(|(sequence, record, _)| (*sequence, record.clone())).collect::<Vec<_>>(), stored);
        for (sequence, expected) in &self.stored {
            let of_record: Vec<_> = found.iter().filter(|(found, ..)| found == sequence).collect();
            match of_record.as_slice() {
                [(_, record, body)] => {
                    assert!(body == expected && !self.removed_for_sure.contains(sequence), "cut at {cut}");
                    assert!(self.noted != Some(*sequence) || record.sinks[1].events[1].1 == DEAD, "cut at {cut}");
                }
                other => assert!(other.is_empty() && self.removed.contains(sequence), "cut at {cut}: record {sequence} is lost"),
            }
        }
        // A record whose `keep` did not return may be there, but not in part.
        for (_, record, found) in &found {
            assert!(record.envelope.uid == "uid" && *found == body(found.len()), "cut at {cut}");
        }
        let next = keep(&outbox, record("team", "uid"), body(1)).await;
        assert!(self.stored.keys().all(|sequence| *sequence < next), "cut at {cut}");
    }
}

#[tokio::test]
async fn whatever_was_acknowledged_is_there_after_a_crash_at_any_step() {
    // How a new file comes into being is not redb's work alone: see `a_file_that_was_created_in_part_is_created_again`.
    let new = Storage::default();
    open_on(&new, &config(), TIMING).await.unwrap().0.close().await;
    let whole = new.after_crash();
    let told = run(&whole).await.unwrap();
    assert_eq!((told.stored.len(), told.removed_for_sure.len()), (7, 1));
    told.check(&whole.after_crash(), usize::MAX).await;
    let steps = whole.steps();
    assert!(steps > 50, "{steps} steps");
    for cut in 0..steps {
        let storage = new.after_crash();
        storage.cut_after(cut);
        let told = run(&storage).await.unwrap_or_default();
        told.check(&storage.after_crash(), cut).await;
        for seed in 1..=3 {
            told.check(&storage.after_torn_crash(seed * 7919 + cut as u64), cut).await;
        }
    }
}
