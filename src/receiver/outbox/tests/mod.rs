//! Tests of the outbox: one contract for both stores, and what only a disk can do.

mod contract;
mod crash;
mod disk;
mod model;
mod shares;
mod storage;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::disk::{Opener, builder};
use super::*;
use crate::api::v1alpha1::EventKind;
use crate::providers::webhook::{Change, Event};
use crate::receiver::envelope::Envelope;
pub(in crate::receiver) use storage::{Broken, Storage};

/// An empty outbox on this storage, for tests of what uses it.
pub(in crate::receiver) async fn on_storage(storage: &Storage, config: &OutboxConfig) -> Outbox {
    open_on(storage, config, TIMING).await.unwrap().0
}

const TIMING: Timing = Timing { changes: Duration::from_millis(5), retry: Duration::from_millis(5) };
const TIME: Timestamp = Timestamp::UNIX_EPOCH;
const DEAD: EventState = EventState::DeadLetter { at: TIME, reason: DeadLetterCause::TooOld };

/// A delivery of two events: the first goes to the sinks `a` and `b`, the second to `b`.
fn record(namespace: &str, uid: &str) -> Record {
    let push = Event::of_reference("refs/heads/main", Change::Updated).unwrap().at(Some("2b7d44102b7d44102b7d44102b7d44102b7d4410"));
    let comment = Event::of_pull_request(EventKind::PullRequestComment, Some(1), None).once("pull request 1", "open");
    let part = |name: &str, events: &[usize]| SinkPart {
        name: name.to_owned(),
        omitted: 0,
        events: events.iter().map(|event| (*event, EventState::Pending)).collect(),
    };
    let envelope = Envelope {
        uid: uid.to_owned(),
        namespace: namespace.to_owned(),
        name: "shop".to_owned(),
        delivery: "delivery".to_owned(),
        id: "delivery".to_owned(),
        source: "https://git.example/acme/shop".to_owned(),
        repository_id: "7".to_owned(),
        at: TIME,
        events: vec![push, comment],
    };
    Record { envelope, sinks: vec![part("a", &[0]), part("b", &[0, 1])], not_served: vec!["c".to_owned()] }
}

/// The cost of a delivery with a body of this length.
fn cost(body: u64) -> u64 {
    record("team", "uid").cost(body)
}

fn body(length: usize) -> Bytes {
    (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

fn config() -> OutboxConfig {
    OutboxConfig::new(OutboxKind::Memory)
}

/// Opens a disk store on this storage.
async fn open_on(storage: &Storage, config: &OutboxConfig, timing: Timing) -> Result<(Outbox, Vec<(Sequence, Record)>), OpenError> {
    let storage = storage.clone();
    let opener = Opener::new(PathBuf::from("outbox.redb"), move || Ok(builder().create_with_backend(storage.clone())?));
    let config = OutboxConfig { kind: OutboxKind::Disk(PathBuf::new()), ..config.clone() };
    Outbox::on_disk(&config, opener, timing).await
}

async fn keep(outbox: &Outbox, record: Record, body: Bytes) -> Sequence {
    let kept = outbox.keep(record, body).await;
    assert_eq!(kept.dropped, []);
    kept.result.unwrap().sequence
}

/// Everything that is stored, in order.
async fn export(outbox: &Outbox) -> Vec<(Sequence, Record, Bytes)> {
    let mut found = Vec::new();
    let sequences: Vec<_> = outbox.shared.lock().shares.sequences().collect();
    for sequence in sequences {
        let (record, body) = outbox.delivery(sequence).await.unwrap();
        found.push((sequence, record, body));
    }
    found
}

/// What one binding holds.
fn held_by(outbox: &Outbox, namespace: &str, uid: &str) -> Held {
    outbox.shared.lock().shares.of_binding(namespace, uid)
}

fn sequences(dropped: &[Dropped]) -> Vec<Sequence> {
    dropped.iter().map(|dropped| dropped.sequence).collect()
}

/// Waits until the outbox says that it is, or is not, healthy.
async fn until_healthy(outbox: &Outbox, healthy: bool) {
    while outbox.state().healthy != healthy {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
