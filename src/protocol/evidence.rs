//! Evidence of deliveries: the format in which receivers report it to the controller. Types only.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::deliveries::{REASONS, RecentReport, TurnedAway};
use crate::api::v1alpha1::EventKind;
pub use crate::api::v1alpha1::binding::SinkState;
use crate::protocol::sink_target::NotServed;

/// The reason for refusing deliveries of a repository that was renamed or moved to a place that its connection does not allow.
pub const DEPARTED: &str = "the repository moved to a path for which the connection does not allow this binding";

/// The report of one receiver, by UID of the binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// One entry for each binding with activity since the receiver started.
    pub bindings: BTreeMap<String, BindingEvidence>,
    /// The last deliveries of some bindings whose list changed.
    #[serde(default)]
    pub recent: RecentReport,
}

/// The report of one receiver about one binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BindingEvidence {
    /// Time of the last authentic delivery for each secret version in its URL.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_versions: BTreeMap<String, Timestamp>,
    /// Time of the last authentic delivery for each event.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<EventKind, Timestamp>,
    /// The last authentic delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivery: Option<Delivery>,
    /// Refused deliveries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusals: Option<Refusals>,
    /// Deliveries that were turned away, whether or not the sender is at fault, by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turned_away: Vec<TurnedAway>,
    /// Pending events that were dropped because the outbox needed their room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Dropped>,
    /// Since when deliveries are refused because the outbox cannot store them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbox_unavailable: Option<Timestamp>,
    /// The last request to send dead letters again that was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redelivered: Option<String>,
    /// The sinks to which anything was sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sinks: BTreeMap<String, SinkEvidence>,
    /// Every sink has accepted everything that arrived up to this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_until: Option<Timestamp>,
}

/// One authentic delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// When it arrived.
    pub at: Timestamp,
    /// Its event; absent for a ping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventKind>,
    /// Its id at the provider.
    pub id: String,
}

/// Refused deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    /// Number since the receiver started.
    pub count: u64,
    /// When the last one arrived.
    pub last: Timestamp,
    /// Why the last one was refused. Safe to show.
    pub reason: String,
}

/// Pending events that were dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Number since the receiver started.
    pub count: u64,
    /// Time of the last one.
    pub last: Timestamp,
}

/// The state of one sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkEvidence {
    /// The last error, while the sink does not accept events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Since when the sink has not accepted events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// Whether it accepts events.
    #[serde(default)]
    pub state: SinkState,
    /// Since when it accepts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_since: Option<Timestamp>,
    /// Number of pending events.
    pub pending: u64,
    /// Number of events that are no longer attempted.
    #[serde(default)]
    pub dead_letters: u64,
    /// Why nothing may be sent to the sink's Service at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_served: Option<NotServed>,
}

/// The reports of all receivers from one collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// The evidence of each receiver that answered.
    pub evidence: Vec<Evidence>,
    /// Number of receivers that did not answer.
    pub silent: usize,
}

/// How far the lists of deliveries of each receiver were collected. Whoever keeps the lists keeps these with them: lists that are lost
/// are collected again by the cursors of a new collection, which are none.
pub type Cursors = HashMap<String, ReceiverCursors>;

/// Collects evidence from every receiver in turn.
#[async_trait]
pub trait EvidenceSource: Send + Sync {
    /// Returns the evidence of each receiver that answers, with the lists of deliveries that were asked for, and moves the cursors. A
    /// receiver that does not answer is counted and logged.
    async fn collect(&self, ask: Ask, cursors: &mut Cursors) -> Collected;
}

/// Which changed lists of deliveries a receiver reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Of how many bindings at most.
    pub room: usize,
    /// Whether to report ahead of the order. The same is reported again later in its order.
    pub ahead: bool,
}

/// Where the reports of one receiver continue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiverCursors {
    order: Option<String>,
    ahead: Option<String>,
    was_ahead: bool,
}

impl ReceiverCursors {
    /// The cursor after which to report.
    #[must_use]
    pub fn after(&self, ask: Ask) -> Option<String> {
        let ahead = self.ahead.as_ref().filter(|_| ask.ahead);
        ahead.or(self.order.as_ref()).cloned()
    }

    /// Notes the cursor of a report. Two reports in a row in their order mean that nobody waits any more: the next one ahead begins
    /// where these ended.
    pub fn reached(&mut self, ask: Ask, cursor: String) {
        if ask.ahead {
            self.ahead = Some(cursor);
        } else {
            self.order = Some(cursor);
            self.ahead = self.ahead.take().filter(|_| self.was_ahead);
        }
        self.was_ahead = ask.ahead;
    }
}

/// Maximum number of secret versions in the report about one binding: more than the current one and the eight previous ones that
/// the status can hold.
pub const SECRET_VERSIONS: usize = 16;
/// Maximum number of sinks in the report about one binding.
const SINKS: usize = 64;
/// Maximum length of any text in a report, in characters.
const TEXT_LENGTH: usize = 400;

impl Evidence {
    /// Truncates everything that is longer than a receiver has reason to report.
    #[must_use]
    pub fn bounded(mut self, room: usize) -> Self {
        self.recent = self.recent.bounded(room);
        for evidence in self.bindings.values_mut() {
            while evidence.secret_versions.len() > SECRET_VERSIONS {
                evidence.secret_versions.pop_first();
            }
            while evidence.sinks.len() > SINKS {
                evidence.sinks.pop_last();
            }
            evidence.turned_away.truncate(REASONS);
            evidence.turned_away = std::mem::take(&mut evidence.turned_away).into_iter().map(TurnedAway::bounded).collect();
            let texts = evidence.sinks.values_mut().flat_map(|sink| {
                let not_served = sink.not_served.as_mut().map(|refusal| &mut refusal.message);
                sink.last_error.as_mut().into_iter().chain(not_served)
            });
            let texts = texts.chain(evidence.last_delivery.as_mut().map(|delivery| &mut delivery.id));
            for text in texts.chain(evidence.refusals.as_mut().map(|refusals| &mut refusals.reason)) {
                if let Some((at, _)) = text.char_indices().nth(TEXT_LENGTH) {
                    text.truncate(at);
                }
            }
        }
        self
    }
}

impl BindingEvidence {
    /// Forgets that nothing could be sent to Services, when no receiver reports the binding any more. Returns whether anything
    /// changed.
    pub fn serve_again(&mut self) -> bool {
        let unserved = self.sinks.values_mut().filter(|sink| sink.not_served.is_some());
        unserved.map(|sink| *sink = SinkEvidence::default()).count() > 0
    }

    /// Merges another receiver's report about the same binding.
    pub fn merge(&mut self, other: Self) {
        for (secret_version, at) in other.secret_versions {
            let mine = self.secret_versions.entry(secret_version).or_insert(at);
            *mine = at.max(*mine);
        }
        for (event, at) in other.events {
            let mine = self.events.entry(event).or_insert(at);
            *mine = at.max(*mine);
        }
        if self.last_delivery.as_ref().map(|delivery| delivery.at) < other.last_delivery.as_ref().map(|delivery| delivery.at) {
            self.last_delivery = other.last_delivery;
        }
        self.refusals = match (self.refusals.take(), other.refusals) {
            (Some(mine), Some(theirs)) => {
                let count = mine.count.saturating_add(theirs.count);
                let latest = if mine.last < theirs.last { theirs } else { mine };
                Some(Refusals { count, ..latest })
            }
            (mine, theirs) => mine.or(theirs),
        };
        for theirs in other.turned_away {
            let same = |mine: &&mut TurnedAway| (mine.outcome, &mine.reason) == (theirs.outcome, &theirs.reason);
            match self.turned_away.iter_mut().find(same) {
                Some(mine) => {
                    mine.count = mine.count.saturating_add(theirs.count);
                    mine.last = mine.last.max(theirs.last);
                }
                None => self.turned_away.push(theirs),
            }
        }
        self.turned_away.sort_by(|one, other| (one.outcome, &one.reason).cmp(&(other.outcome, &other.reason)));
        self.dropped = match (self.dropped.take(), other.dropped) {
            (Some(mine), Some(theirs)) => {
                Some(Dropped { count: mine.count.saturating_add(theirs.count), last: mine.last.max(theirs.last) })
            }
            (mine, theirs) => mine.or(theirs),
        };
        self.outbox_unavailable = [self.outbox_unavailable, other.outbox_unavailable].into_iter().flatten().min();
        // A request is carried out when every receiver has carried it out.
        if self.redelivered != other.redelivered {
            self.redelivered = None;
        }
        for (name, theirs) in other.sinks {
            let mine = self.sinks.entry(name).or_default();
            mine.pending = mine.pending.saturating_add(theirs.pending);
            mine.dead_letters = mine.dead_letters.saturating_add(theirs.dead_letters);
            mine.state = mine.state.max(theirs.state);
            mine.not_served = mine.not_served.take().or(theirs.not_served);
            mine.down_since = [mine.down_since, theirs.down_since].into_iter().flatten().min();
            if theirs.last_error.is_some() {
                mine.last_error = theirs.last_error;
                mine.failing_since = match (mine.failing_since, theirs.failing_since) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
            }
        }
        // Each receiver reports only on what it received itself, so the earlier time holds for both.
        self.accepted_until = match (self.accepted_until, other.accepted_until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_ahead_go_on_while_many_wait_and_the_order_misses_nothing() {
        let (order, ahead) = (Ask { room: 10, ahead: false }, Ask { room: 5, ahead: true });
        let mut cursors = ReceiverCursors::default();
        assert_eq!((cursors.after(order), cursors.after(ahead)), (None, None));
        for (ask, from, to) in [
            (order, None, "7-10"),
            (ahead, Some("7-10"), "7-15"),
            (order, Some("7-10"), "7-12"),
            (ahead, Some("7-15"), "7-20"),
            (order, Some("7-12"), "7-14"),
            (order, Some("7-14"), "7-30"),
            (ahead, Some("7-30"), "7-35"),
        ] {
            assert_eq!(cursors.after(ask).as_deref(), from);
            cursors.reached(ask, to.to_owned());
        }
    }

    #[test]
    fn the_evidence_of_a_receiver_is_limited_in_number_and_length() {
        let long = "ü".repeat(5000);
        let sink = SinkEvidence { last_error: Some(long.clone()), ..SinkEvidence::default() };
        let seen = BindingEvidence {
            secret_versions: (0..1000).map(|number| (format!("{number:04}"), Timestamp::UNIX_EPOCH)).collect(),
            sinks: (0..1000).map(|number| (format!("{number:04}"), sink.clone())).collect(),
            last_delivery: Some(Delivery { at: Timestamp::UNIX_EPOCH, event: None, id: long.clone() }),
            refusals: Some(Refusals { count: 1, last: Timestamp::UNIX_EPOCH, reason: long }),
            ..BindingEvidence::default()
        };
        let bounded = Evidence { bindings: [("uid".to_owned(), seen)].into(), recent: RecentReport::default() }.bounded(0);
        assert!(serde_json::to_vec(&bounded).unwrap().len() < 64 * 1024);
        let seen = &bounded.bindings["uid"];
        assert_eq!((seen.secret_versions.len(), seen.sinks.len()), (SECRET_VERSIONS, SINKS));
        assert!(seen.secret_versions.contains_key("0999"), "the latest are kept");
        assert_eq!(seen.refusals.as_ref().unwrap().reason, "ü".repeat(TEXT_LENGTH));
    }
}
