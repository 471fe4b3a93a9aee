//! `status.recentDeliveries` of a binding: what became of the last deliveries.
//!
//! Everyone who can read the binding can read it. Its texts come from people who may push to the repository, so whoever fills it
//! sanitizes and truncates them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::EventKind;

/// Maximum number of entries in `status.recentDeliveries`.
pub const RECENT_DELIVERIES: usize = 10;

/// Delivery that reached Forgebind, or several that were turned away for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecentDelivery {
    /// Time at which the delivery arrived; of several, the last one.
    pub time: Time,
    /// Event that the delivery reported. Absent for a ping, with which a provider tests a new webhook, for an event that
    /// Forgebind does not know, and for what was turned away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EventKind")]
    pub event: Option<EventKind>,
    /// Full name of the branch or tag, or the target branch of a pull request.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// First 8 digits of the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// Number of events of the delivery, if there are several; `event`, `ref` and `sha` are then those of the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// Id of the delivery at the provider. Absent for what was turned away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What became of the delivery. Accepted by every sink that it is for. Pending: sent again. `DeadLetter`: no longer sent by
    /// itself. Dropped: the outbox needed its room. Discarded: the sink was removed. `NotServed`: a sink has no usable address.
    /// Duplicate: it arrived before. Ping: a test. Unwanted: no filter selects it. Overloaded: it could not be kept, and the
    /// provider was asked to send it again. Turned away: Refused (no valid signature, or not acceptable), `ForeignRepository`
    /// (about another one), Unreadable (not what the provider documents), Undecided (its repository was not known yet).
    pub outcome: DeliveryOutcome,
    /// Why the delivery was turned away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Number of deliveries that this entry stands for, counted since the receivers started. Absent for a single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What each sink made of the delivery.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<SinkAnswer>,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DeliveryOutcome {
    /// Every sink that it is for accepted it.
    Accepted,
    /// A sink has not accepted it yet.
    Pending,
    /// A sink did not accept it, and it is no longer sent by itself.
    DeadLetter,
    /// It was pending, and the outbox needed its room.
    Dropped,
    /// The sink was removed before it accepted it.
    Discarded,
    /// A sink that it is for has no usable address, so it was not sent there.
    NotServed,
    /// It arrived before.
    Duplicate,
    /// It only tests the webhook.
    Ping,
    /// Nothing selects it.
    Unwanted,
    /// It could not be kept.
    Overloaded,
    /// It has no valid proof, or could not be judged at the time.
    Refused,
    /// It is about another repository.
    ForeignRepository,
    /// Its content is not what the provider documents.
    Unreadable,
    /// Its repository was not known yet.
    Undecided,
}

impl DeliveryOutcome {
    /// Whether the delivery was turned away: nothing of its content is kept, and several of them are one entry.
    #[must_use]
    pub const fn is_turned_away(self) -> bool {
        matches!(self, Self::Refused | Self::ForeignRepository | Self::Unreadable | Self::Undecided)
    }

    /// Whether the delivery did not reach every sink that it is for.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        !matches!(self, Self::Accepted | Self::Duplicate | Self::Ping | Self::Unwanted)
    }
}

/// What a sink made of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkAnswer {
    /// Name of the sink, as in `spec.sinks`.
    pub name: String,
    /// Accepted: it answered 2xx. Pending: it has not accepted it yet. Parked: it does not accept this event, while it accepts
    /// others; it is sent again less often. `DeadLetter`: it is no longer sent by itself. Dropped: the outbox needed its room.
    /// Discarded: the sink was removed. Unwanted: the sink's `events` or `branches` do not select it. `NotServed`: the sink has
    /// no usable address.
    pub state: SinkAnswerState,
    /// Time at which the sink accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Why the sink did not accept it at the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The state of a delivery at a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SinkAnswerState {
    /// The sink answered 2xx.
    Accepted,
    /// The sink has not accepted it yet.
    Pending,
    /// The sink accepts others, but not this one.
    Parked,
    /// It is no longer sent by itself.
    DeadLetter,
    /// The outbox needed its room.
    Dropped,
    /// The sink was removed.
    Discarded,
    /// The filter of the sink does not select it.
    Unwanted,
    /// The sink has no usable address.
    NotServed,
}

/// What became of a delivery, by the answers of its sinks; the worst one counts.
#[must_use]
pub fn outcome_of(sinks: &[SinkAnswer]) -> DeliveryOutcome {
    let any = |state| sinks.iter().any(|sink| sink.state == state);
    if any(SinkAnswerState::Pending) || any(SinkAnswerState::Parked) {
        DeliveryOutcome::Pending
    } else if any(SinkAnswerState::DeadLetter) {
        DeliveryOutcome::DeadLetter
    } else if any(SinkAnswerState::Dropped) {
        DeliveryOutcome::Dropped
    } else if any(SinkAnswerState::Discarded) {
        DeliveryOutcome::Discarded
    } else if any(SinkAnswerState::NotServed) {
        DeliveryOutcome::NotServed
    } else {
        DeliveryOutcome::Accepted
    }
}
