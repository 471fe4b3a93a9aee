//! What receivers tell the controller about deliveries. Types only: the wire between the two.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::EventKind;

/// What one receiver saw, by UID of the binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// One entry for each binding that something happened to since the receiver started.
    pub bindings: BTreeMap<String, BindingEvidence>,
}

/// What one receiver saw of one binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BindingEvidence {
    /// The last authentic delivery for each generation of the secret in its URL.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub generations: BTreeMap<String, Timestamp>,
    /// The last authentic delivery for each event.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<EventKind, Timestamp>,
    /// The last authentic delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivery: Option<Delivery>,
    /// Deliveries that were refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusals: Option<Refusals>,
    /// The sinks that anything was sent to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sinks: BTreeMap<String, SinkEvidence>,
    /// Every sink accepted everything that arrived up to here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_until: Option<Timestamp>,
}

/// One authentic delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// When it arrived.
    pub at: Timestamp,
    /// What it told; absent for a ping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventKind>,
    /// Its id.
    pub id: String,
}

/// Deliveries that were refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    /// How many since the receiver started.
    pub count: u64,
    /// When the last one came.
    pub last: Timestamp,
    /// Why it was refused, in words that are safe to show.
    pub reason: String,
}

/// One sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkEvidence {
    /// Why it did not accept, while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Since when it has not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// How many events it is owed.
    pub owed: u64,
}

/// What all receivers told when they were asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What each receiver that answered saw.
    pub evidence: Vec<Evidence>,
    /// How many did not answer.
    pub silent: usize,
}

/// Where the controller gets evidence: every receiver in turn.
#[async_trait]
pub trait EvidenceSource: Send + Sync {
    /// What each receiver that answers saw. A receiver that does not answer is counted and logged.
    async fn collect(&self) -> Collected;
}

impl BindingEvidence {
    /// Adds what another receiver saw of the same binding.
    pub fn merge(&mut self, other: Self) {
        for (generation, at) in other.generations {
            let mine = self.generations.entry(generation).or_insert(at);
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
        for (name, theirs) in other.sinks {
            let mine = self.sinks.entry(name).or_default();
            mine.owed = mine.owed.saturating_add(theirs.owed);
            if theirs.last_error.is_some() {
                mine.last_error = theirs.last_error;
                mine.failing_since = match (mine.failing_since, theirs.failing_since) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
            }
        }
        // Each receiver vouches for what it received itself, so the earlier point holds for both.
        self.accepted_until = match (self.accepted_until, other.accepted_until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}
