//! Random work on both stores, compared with a plain list.

use proptest::prelude::*;
use proptest::sample::Index;

use super::shares::{Naive, NaiveRecord};
use super::*;

#[derive(Clone, Debug)]
enum Operation {
    Keep { binding: u8, length: usize },
    Note { record: Index, place: usize, state: u8 },
    Remove(Index),
    Reopen,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        4 => (0_u8..4, prop_oneof![0_usize..100, 0_usize..70_000]).prop_map(|(binding, length)| Operation::Keep { binding, length }),
        3 => (any::<Index>(), 0_usize..3, 0_u8..4).prop_map(|(record, place, state)| Operation::Note { record, place, state }),
        1 => any::<Index>().prop_map(Operation::Remove),
        1 => Just(Operation::Reopen),
    ];
    prop::collection::vec(operation, 1..40)
}

/// The positions of the events in a test's record.
const PLACES: [(usize, usize); 3] = [(0, 0), (1, 0), (1, 1)];

struct Model {
    shares: Naive,
    stored: Vec<(Sequence, Record, Bytes)>,
}

impl Model {
    fn keep(&mut self, sequence: Sequence, record: Record, body: Bytes) -> Option<Vec<Sequence>> {
        let new = NaiveRecord {
            sequence,
            namespace: record.envelope.namespace.clone(),
            uid: record.envelope.uid.clone(),
            cost: record.cost(body.len() as u64),
            is_dead: false,
        };
        let removed = self.shares.admit(new)?;
        self.stored.retain(|(sequence, ..)| !removed.contains(sequence));
        self.stored.push((sequence, record, body));
        Some(removed)
    }

    fn note(&mut self, chosen: usize, place: usize, state: EventState) {
        let (sequence, record, _) = &mut self.stored[chosen];
        let (sink, event) = PLACES[place];
        record.set(u32::try_from(sink).unwrap(), u32::try_from(event).unwrap(), state);
        let is_dead = record.open_events().is_empty();
        for share in self.shares.records.iter_mut().filter(|share| share.sequence == *sequence) {
            share.is_dead = is_dead;
        }
    }
}

fn state(number: u8) -> EventState {
    match number {
        0 => EventState::Pending,
        1 => EventState::Parked { attempts: 1, next: TIME, redelivered: true },
        2 => EventState::Accepted,
        _ => DEAD,
    }
}

/// Both stores do the same as the model. Only the one on the disk is opened again.
async fn compare(operations: Vec<Operation>) {
    let total = 5 * cost(40_000);
    let config = OutboxConfig { memory: total, limit: total, per_binding: 2 * cost(40_000), ..config() };
    let storage = Storage::default();
    let (in_memory, _) = Outbox::open(&config).await.unwrap();
    let (mut on_disk, _) = open_on(&storage, &config, TIMING).await.unwrap();
    let mut model = Model { shares: Naive::new(config.share_limits()), stored: Vec::new() };
    let mut next = 1;
    for operation in operations {
        let choose = |index: Index| (!model.stored.is_empty()).then(|| index.index(model.stored.len()));
        match operation {
            Operation::Keep { binding, length } => {
                let record = record(&format!("team-{}", binding % 2), &format!("uid-{binding}"));
                let expected = model.keep(next, record.clone(), body(length));
                for outbox in [&in_memory, &on_disk] {
                    let kept = outbox.keep(record.clone(), body(length)).await;
                    assert_eq!(kept.result.ok().map(|place| place.sequence), expected.as_ref().map(|_| next));
                    assert_eq!(sequences(&kept.dropped), expected.clone().unwrap_or_default());
                }
                next += u64::from(expected.is_some());
            }
            Operation::Note { record, place, state: number } => {
                let Some(chosen) = choose(record) else { continue };
                for outbox in [&in_memory, &on_disk] {
                    outbox.note(model.stored[chosen].0, PLACES[place].0, PLACES[place].1, state(number));
                }
                model.note(chosen, place, state(number));
            }
            Operation::Remove(record) => {
                let Some(chosen) = choose(record) else { continue };
                let (sequence, ..) = model.stored.remove(chosen);
                model.shares.records.retain(|record| record.sequence != sequence);
                for outbox in [&in_memory, &on_disk] {
                    outbox.remove(sequence);
                }
            }
            Operation::Reopen => {
                on_disk.close().await;
                let (opened, stored) = open_on(&storage, &config, TIMING).await.unwrap();
                on_disk = opened;
                assert_eq!(stored.len(), model.stored.len());
            }
        }
    }
    for outbox in [&in_memory, &on_disk] {
        assert!(outbox.flush().await);
        assert!(export(outbox).await == model.stored);
    }
    assert_eq!(on_disk.state().held, in_memory.state().held);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_stores_do_the_same_as_a_plain_list(operations in operations()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(compare(operations));
    }
}
