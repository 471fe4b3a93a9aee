//! The format of a batch of deliveries. Both ends may be of different versions, as a stored record may be of an earlier one.
//!
//! Each delivery is the length of its record as four bytes, the record as JSON, the length of its body, and the body as it was
//! received. Lengths are big-endian.

use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::receiver::outbox::Record;
use crate::text::json::{self, JsonError};

/// The content type of a batch. It changes with the format.
pub(super) const CONTENT_TYPE: &str = "application/vnd.forgebind.outbox.v1";
/// Maximum length of a batch in bytes: the share of one binding, which one delivery may fill, and what JSON adds.
pub(super) const LONGEST_BATCH: usize = 72 * 1024 * 1024;
/// Maximum number of deliveries in a batch.
pub(super) const MOST_DELIVERIES: usize = 256;
/// Maximum length of an answer in bytes.
pub(super) const LONGEST_ANSWER: usize = 64 * 1024;

/// The answer to a batch: what became of each delivery, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) deliveries: Vec<Taken>,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Taken {
    /// It is synced to the disk.
    Kept,
    /// It exceeds a limit, which it would do again.
    TooLarge,
    /// It could not be written.
    NotWritten,
}

/// Why a batch cannot be read. The messages do not repeat its content.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("a record cannot be read: {0}")]
    Record(JsonError),
    #[error("it ends in the middle of a delivery")]
    Cut,
    #[error("it has more than {MOST_DELIVERIES} deliveries")]
    TooMany,
}

/// The pieces of a delivery. The body is not copied. `None` if it exceeds what a batch may have.
pub(super) fn pieces(record: &Record, body: Bytes) -> Option<[Bytes; 2]> {
    let record = serde_json::to_vec(record).ok()?;
    let (of_record, of_body) = (u32::try_from(record.len()).ok()?, u32::try_from(body.len()).ok()?);
    let mut head = BytesMut::with_capacity(record.len() + 8);
    head.extend_from_slice(&of_record.to_be_bytes());
    head.extend_from_slice(&record);
    head.extend_from_slice(&of_body.to_be_bytes());
    (head.len() + body.len() <= LONGEST_BATCH).then(|| [head.freeze(), body])
}

/// Reads a whole batch. Nothing of it is used if any of it cannot be read.
pub(super) fn parse(mut batch: Bytes) -> Result<Vec<(Record, Bytes)>, WireError> {
    let mut deliveries = Vec::new();
    while !batch.is_empty() {
        if deliveries.len() >= MOST_DELIVERIES {
            return Err(WireError::TooMany);
        }
        let record = piece(&mut batch)?;
        let body = piece(&mut batch)?;
        deliveries.push((json::read(&record).map_err(WireError::Record)?, body));
    }
    Ok(deliveries)
}

fn piece(batch: &mut Bytes) -> Result<Bytes, WireError> {
    let length = batch.try_get_u32().map_err(|_| WireError::Cut)?;
    let length = usize::try_from(length).map_err(|_| WireError::Cut)?;
    if length > batch.len() {
        return Err(WireError::Cut);
    }
    Ok(batch.split_to(length))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::providers::webhook::{Change, Event};
    use crate::receiver::envelope::Envelope;
    use crate::receiver::outbox::{DeadLetterCause, EventState, SinkPart};

    fn record(id: &str) -> Record {
        let at = Timestamp::UNIX_EPOCH;
        let states = [
            EventState::Pending,
            EventState::Redelivery,
            EventState::Parked { attempts: 3, next: at, redelivered: false },
            EventState::Parked { attempts: 1, next: at, redelivered: true },
            EventState::Accepted,
            EventState::DeadLetter { at, reason: DeadLetterCause::Superseded },
        ];
        let envelope = Envelope {
            uid: "uid".to_owned(),
            namespace: "team".to_owned(),
            name: "shop".to_owned(),
            delivery: id.to_owned(),
            id: id.to_owned(),
            source: "https://git.example/acme/shop".to_owned(),
            repository_id: "7".to_owned(),
            at,
            events: vec![Event::of_reference("refs/heads/main", Change::Updated).unwrap(); 6],
        };
        let sinks = vec![SinkPart { name: "a".to_owned(), events: states.into_iter().enumerate().collect(), omitted: 0 }];
        Record { envelope, sinks, not_served: vec!["b".to_owned()] }
    }

    fn batch(deliveries: &[(Record, Bytes)]) -> Bytes {
        deliveries.iter().flat_map(|(record, body)| pieces(record, body.clone()).unwrap()).flatten().collect()
    }

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        let deliveries = [(record("1"), Bytes::from_static(b"\0{}")), (record("2"), Bytes::new()), (record("3"), vec![7; 100_000].into())];
        assert_eq!(parse(batch(&deliveries)).unwrap(), deliveries);
        assert_eq!(parse(Bytes::new()).unwrap(), []);
    }

    #[test]
    fn a_batch_that_was_cut_off_or_is_too_long_is_not_read_in_part() {
        let whole = batch(&[(record("1"), Bytes::from_static(b"{}")), (record("2"), Bytes::from_static(b"{}"))]);
        let second = batch(&[(record("1"), Bytes::from_static(b"{}"))]).len();
        for cut in (1..whole.len()).filter(|cut| *cut != second) {
            assert!(parse(whole.slice(..cut)).is_err(), "{cut}");
        }
        let many = vec![(record("1"), Bytes::new()); MOST_DELIVERIES + 1];
        assert!(matches!(parse(batch(&many)), Err(WireError::TooMany)));
        assert!(pieces(&record("1"), vec![0; LONGEST_BATCH].into()).is_none());
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_that_does_not_repeat_it(garbage in proptest::collection::vec(any::<u8>(), 1..200)) {
            prop_assert!(parse(garbage.into()).is_err());
        }
    }
}
