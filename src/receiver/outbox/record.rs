//! What is stored of a delivery, beside its body.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::providers::webhook::Event;
use crate::receiver::envelope::Envelope;

/// Identifies a stored delivery. Ascends in the order of arrival, also over restarts.
pub(in crate::receiver) type Sequence = u64;

/// What a record costs of the limits beyond its content.
///
/// It pays for the rows of the record, for its entry in the index (about 300 bytes) and for what the dispatcher remembers of it
/// (about 1 KiB). It also bounds the number of records, whatever their size: 65,536 in 1 GiB, and 4,096 in the 64 MiB of a
/// binding. A receiver with a full outbox of empty bodies thus needs less than 100 MiB for all of them.
pub(super) const OVERHEAD: u64 = 16 * 1024;
/// What an event costs beyond its texts, and what its state at a sink costs with its place in the queue.
const EVENT_OVERHEAD: u64 = 256;

/// A stored delivery: all that is needed to send its events again, except the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::receiver) struct Record {
    /// What is the same for every sink.
    pub(in crate::receiver) envelope: Envelope,
    /// The sinks that did not accept all of their events at once.
    pub(in crate::receiver) sinks: Vec<SinkPart>,
    /// The sinks that select events of it and were not served when it arrived: they get nothing of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::receiver) not_served: Vec<String>,
}

/// The events of a delivery for one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::receiver) struct SinkPart {
    /// The name of the sink.
    pub(in crate::receiver) name: String,
    /// Positions in [`Envelope::events`], ascending, with the state of each. The position after the last stands for the event that
    /// says how many were omitted.
    pub(in crate::receiver) events: Vec<(usize, EventState)>,
    /// Number of events that the sink does not get because the delivery has too many.
    pub(in crate::receiver) omitted: usize,
}

/// The state of an event at one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::receiver) enum EventState {
    /// It waits for its next attempt.
    Pending,
    /// As [`Self::Pending`], after a request to send it again: it is marked as sent again.
    Redelivery,
    /// It is set aside, so that later events of its subject are sent.
    Parked {
        /// Attempts since it was parked.
        attempts: u32,
        /// The time of the next attempt.
        next: Timestamp,
        /// Whether it is sent again on request, and marked so.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        redelivered: bool,
    },
    /// The sink accepted it.
    Accepted,
    /// It is no longer attempted.
    DeadLetter {
        /// The time at which it became a dead letter.
        at: Timestamp,
        /// Why it became one.
        reason: DeadLetterCause,
    },
}

/// Why an event became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::receiver) enum DeadLetterCause {
    /// The sink did not accept it within 72 h.
    TooOld,
    /// A later event of its subject was accepted while it was parked.
    Superseded,
}

impl DeadLetterCause {
    /// Label in metrics and logs.
    pub(in crate::receiver) const fn label(self) -> &'static str {
        match self {
            Self::TooOld => "too_old",
            Self::Superseded => "superseded",
        }
    }
}

impl EventState {
    /// Whether it is still to be attempted.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Pending | Self::Redelivery | Self::Parked { .. })
    }

    /// Whether it is sent again on request.
    pub(in crate::receiver) const fn is_redelivered(&self) -> bool {
        matches!(self, Self::Redelivery | Self::Parked { redelivered: true, .. })
    }
}

impl Record {
    /// What the record and its body cost of the limits. It does not change with the states.
    pub(super) fn cost(&self, body: u64) -> u64 {
        let length = |text: &str| text.len() as u64;
        let Envelope { uid, namespace, name, delivery, id, source, repository_id, at: _, events } = &self.envelope;
        let texts = [uid, namespace, name, delivery, id, source, repository_id];
        let optional = |text: &Option<String>| text.as_deref().map_or(0, length);
        let event = |event: &Event| {
            let once = event.once.as_ref().map_or(0, |once| length(&once.subject) + length(&once.state));
            EVENT_OVERHEAD + optional(&event.reference) + optional(&event.commit) + optional(&event.before) + once
        };
        let sink = |sink: &SinkPart| length(&sink.name) + EVENT_OVERHEAD * sink.events.len() as u64;
        let content = texts.into_iter().map(|text| length(text)).sum::<u64>()
            + events.iter().map(event).sum::<u64>()
            + self.sinks.iter().map(sink).sum::<u64>()
            + self.not_served.iter().map(|sink| length(sink)).sum::<u64>();
        OVERHEAD.saturating_add(content).saturating_add(body)
    }

    /// The events that are still to be attempted: positions of the sink and of the event.
    pub(in crate::receiver) fn open_events(&self) -> Vec<(u32, u32)> {
        let of_sink = |(sink, part): (usize, &SinkPart)| {
            let open = part.events.iter().filter(|(_, state)| state.is_open());
            open.map(|(event, _)| (position(sink), position(*event))).collect::<Vec<_>>()
        };
        self.sinks.iter().enumerate().flat_map(of_sink).collect()
    }

    /// Sets the state of an event. Ignores positions that the record does not have.
    pub(super) fn set(&mut self, sink: u32, event: u32, state: EventState) {
        let part = usize::try_from(sink).ok().and_then(|sink| self.sinks.get_mut(sink));
        let slot = part.and_then(|part| part.events.iter_mut().find(|(found, _)| position(*found) == event));
        if let Some((_, slot)) = slot {
            *slot = state;
        }
    }
}

/// A position as it is stored. No delivery comes near the limit.
pub(super) fn position(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
