//! What is known of a delivery beside its body and its sinks.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::providers::webhook::Event;

/// The facts about a delivery that are the same for every sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Envelope {
    /// The UID of the binding.
    pub(super) uid: String,
    /// The namespace of the binding.
    pub(super) namespace: String,
    /// The name of the binding.
    pub(super) name: String,
    /// The provider's id of the delivery.
    pub(super) delivery: String,
    /// The id of its events, as far as they share it: the provider's, or a derived one while several webhooks report the same
    /// events.
    pub(super) id: String,
    /// The `CloudEvents` source.
    pub(super) source: String,
    /// The provider's id of the repository.
    pub(super) repository_id: String,
    /// The time of arrival.
    pub(super) at: Timestamp,
    /// The events of the delivery.
    pub(super) events: Vec<Event>,
}

/// What identifies a delivery over receivers.
pub(super) type Identity = (String, String, Timestamp);

impl Envelope {
    /// What identifies the delivery at every receiver that has it.
    pub(super) fn identity(&self) -> Identity {
        (self.uid.clone(), self.delivery.clone(), self.at)
    }

    /// The id of the event at a position. The events of a delivery are numbered when there are several.
    pub(super) fn event_id(&self, position: usize) -> String {
        if self.events.len() > 1 { format!("{}/{}", self.id, position + 1) } else { self.id.clone() }
    }

    /// What has to be kept in the order of arrival at a sink: the subject of the event at a position.
    pub(super) fn subject(&self, position: usize) -> String {
        self.events.get(position).map(Event::subject).unwrap_or_default()
    }
}

#[cfg(test)]
impl Envelope {
    /// The envelope of a delivery with this id to `team/shop`.
    pub(super) fn sample(delivery: &str, id: &str, events: Vec<Event>) -> Self {
        Self {
            uid: "uid".into(),
            namespace: "team".into(),
            name: "shop".into(),
            delivery: delivery.into(),
            id: id.into(),
            source: "https://git.acme.io/acme/shop".into(),
            repository_id: "7".into(),
            at: Timestamp::UNIX_EPOCH,
            events,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::webhook::Change;

    #[test]
    fn ids_are_numbered_only_when_there_are_several() {
        let push = |name: &str| Event::of_reference(name, Change::Updated).unwrap();
        let mut envelope = Envelope::sample("d", "d", vec![push("refs/heads/main")]);
        assert_eq!(envelope.event_id(0), "d");
        envelope.events.push(push("refs/heads/next"));
        assert_eq!([envelope.event_id(0), envelope.event_id(1)], ["d/1", "d/2"]);
        assert_eq!([envelope.subject(1), envelope.subject(2)], ["refs/heads/next", ""]);
    }
}
