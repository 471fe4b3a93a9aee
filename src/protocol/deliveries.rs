//! The last deliveries of each binding: the format in which receivers report them, and the limits of their texts. Types only.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::deliveries::{DeliveryOutcome, RECENT_DELIVERIES, RecentDelivery, SinkAnswer};
use crate::text::sanitize;

/// Maximum length of a reference, a delivery id and an error, in characters.
const REFERENCE_LENGTH: usize = 128;
const ID_LENGTH: usize = 80;
const ERROR_LENGTH: usize = 120;
/// Maximum length of the name of a sink, as in the schema.
const NAME_LENGTH: usize = 63;
/// Maximum number of sinks, as in the schema.
const SINKS: usize = 8;
/// Number of characters of a commit that are shown.
const SHA_LENGTH: usize = 8;
/// Maximum number of reasons for which deliveries of one binding are turned away: more than there are.
pub const REASONS: usize = 32;

/// What a controller asks of a receiver: lists that changed after an earlier report, for at most this many bindings. A receiver
/// reports the rest later, so that neither side ever has all lists in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentQuery {
    /// Maximum number of bindings.
    #[serde(default)]
    pub room: usize,
    /// The cursor of the last report from this receiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// The lists that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentReport {
    /// What to ask with next time. A cursor of another process of the receiver means everything.
    #[serde(default)]
    pub cursor: String,
    /// The last deliveries, newest first, by UID of the binding.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bindings: BTreeMap<String, Vec<RecentDelivery>>,
}

/// Deliveries of one binding that were turned away for the same reason. Nothing of their content is known or kept: they may be
/// forged, or about a repository of somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnedAway {
    /// How they were turned away.
    pub outcome: DeliveryOutcome,
    /// Why; one of a fixed set of texts.
    pub reason: String,
    /// Number since the receiver started.
    pub count: u64,
    /// When the last one arrived.
    pub last: Timestamp,
}

impl RecentReport {
    /// Limits what a receiver, which is exposed to the internet, may have the controller write.
    #[must_use]
    pub fn bounded(self, room: usize) -> Self {
        let cursor = sanitize::line(&self.cursor, ID_LENGTH);
        let lists = self.bindings.into_iter().take(room);
        let bounded = |list: Vec<RecentDelivery>| {
            let verified = list.into_iter().filter(|delivery| !delivery.outcome.is_turned_away());
            verified.take(RECENT_DELIVERIES).map(presentable).collect()
        };
        Self { cursor, bindings: lists.map(|(uid, list)| (uid, bounded(list))).collect() }
    }
}

impl TurnedAway {
    /// The same with limited texts.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self { reason: sanitize::line(&self.reason, ERROR_LENGTH), ..self }
    }
}

/// Makes the texts of a delivery presentable: on one line each, without hidden characters, and of limited length. The name of a
/// reference comes from anyone who may push, and an id from a header that no signature covers.
#[must_use]
pub fn presentable(delivery: RecentDelivery) -> RecentDelivery {
    let shown = |text: Option<String>, most| text.map(|text| sanitize::line(&text, most));
    let answer = |answer: SinkAnswer| SinkAnswer {
        name: sanitize::line(&answer.name, NAME_LENGTH),
        error: shown(answer.error, ERROR_LENGTH),
        ..answer
    };
    RecentDelivery {
        reference: shown(delivery.reference, REFERENCE_LENGTH),
        sha: delivery.sha.and_then(|sha| short_sha(&sha)),
        id: shown(delivery.id, ID_LENGTH),
        reason: shown(delivery.reason, ERROR_LENGTH),
        sinks: delivery.sinks.into_iter().take(SINKS).map(answer).collect(),
        ..delivery
    }
}

/// The beginning of a commit's id; `None` for a text that is none.
#[must_use]
pub fn short_sha(commit: &str) -> Option<String> {
    let short: String = commit.chars().take(SHA_LENGTH).collect();
    let is_id = short.len() >= 7 && short.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| short.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::v1alpha1::deliveries::SinkAnswerState;

    #[test]
    fn what_a_receiver_reports_is_limited_and_has_no_hidden_characters() {
        let sink = SinkAnswer { name: "x".repeat(500), state: SinkAnswerState::Pending, time: None, error: Some("e".repeat(5000)) };
        let delivery = RecentDelivery {
            time: Time(Timestamp::UNIX_EPOCH),
            event: None,
            reference: Some(format!("refs/heads/a\n\u{1b}[2J\u{202e}{}", "b".repeat(5000))),
            sha: Some("<b>not hex</b>".to_owned()),
            events: None,
            id: Some("i".repeat(5000)),
            outcome: DeliveryOutcome::Pending,
            reason: None,
            count: None,
            sinks: vec![sink; 100],
        };
        let forged = RecentDelivery { outcome: DeliveryOutcome::Refused, ..delivery.clone() };
        let lists =
            (0..50).map(|number| (number.to_string(), (0..100).flat_map(|_| [delivery.clone(), forged.clone()]).collect::<Vec<_>>()));
        let report = RecentReport { cursor: "c".repeat(5000), bindings: lists.collect() }.bounded(20);
        assert_eq!((report.bindings.len(), report.bindings["0"].len()), (20, RECENT_DELIVERIES));
        let kept = &report.bindings["0"][0];
        assert!(kept.reference.as_deref().unwrap().starts_with("refs/heads/a [2Jbbb"), "{kept:?}");
        assert_eq!((kept.sha.as_deref(), kept.sinks.len()), (None, SINKS));
        assert!(report.bindings["0"].iter().all(|delivery| !delivery.outcome.is_turned_away()));
        assert!(serde_json::to_vec(&report).unwrap().len() < 20 * RECENT_DELIVERIES * 3000);
    }

    #[test]
    fn a_commit_is_shown_by_its_first_digits() {
        assert_eq!(short_sha("9F1C2ABD00112233").as_deref(), Some("9f1c2abd"));
        assert_eq!(short_sha("9f1c2ab").as_deref(), Some("9f1c2ab"));
        for text in ["", "9f1", "not-a-commit", "ü9f1c2abd"] {
            assert_eq!(short_sha(text), None, "{text}");
        }
    }
}
