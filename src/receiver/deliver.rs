//! Processes an authentic delivery: checks its repository, drops duplicates and hands it to the sinks.

use std::sync::Arc;

use ring::digest;

use super::dedupe::{Begin, Dedupe, DeliveryResult, Identity};
use super::envelope::Envelope;
use super::evidence::{Arrival, EvidenceStore};
use super::metrics::Metrics;
use super::recent::{self, DeliveryKey};
use super::route::{RepositoryMatch, RouteConfig, Sink};
use super::sinks::{Arrived, Dispatcher, Part};
use super::verify::VerifiedDelivery;
use crate::api::v1alpha1::EventKind;
use crate::api::v1alpha1::deliveries::{DeliveryOutcome, RecentDelivery, SinkAnswer, SinkAnswerState};
use crate::protocol::evidence::DEPARTED;
use crate::protocol::sink_target::NotServed;
use crate::providers::webhook::{Content, Event};
use crate::text::sanitize::is_hidden;

/// Maximum length of a shown or forwarded delivery id, and of a shown reference, in characters.
const SHOWN_LENGTH: usize = 128;
/// Number of bytes of a digest that make an id.
const DERIVED_LENGTH: usize = 16;
/// Maximum number of events of one delivery for one sink.
const EVENTS: usize = 100;
/// Maximum number of references of one delivery that are logged.
const SHOWN_REFS: usize = 5;
/// Number of characters of a commit's id that are logged.
const SHORT_COMMIT: usize = 8;

/// The outcome of a delivery, for the answer, the log and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every sink accepted it.
    Accepted,
    /// At least one sink has not accepted it yet.
    Pending,
    /// A sink that selects it is not served, so it was not sent there.
    NotServed,
    /// The sink or its grant went away while it was being sent.
    Discarded,
    /// It was received before.
    Duplicate,
    /// It is a ping or a test.
    Ping,
    /// Neither the binding nor a sink selects any of its events.
    Unwanted,
    /// It is about another repository.
    Foreign,
    /// Its content is not what the provider documents.
    Unreadable,
    /// It could neither be delivered nor be kept, or the same was true of the earlier delivery that it duplicates.
    Overloaded,
    /// Its repository cannot be judged yet.
    Undecided,
}

impl Outcome {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Pending => "pending",
            Self::NotServed => "not_served",
            Self::Discarded => "discarded",
            Self::Duplicate => "duplicate",
            Self::Ping => "ping",
            Self::Unwanted => "unwanted",
            Self::Foreign => "foreign_repository",
            Self::Unreadable => "unreadable",
            Self::Overloaded => "overloaded",
            Self::Undecided => "undecided",
        }
    }
}

/// Processes deliveries.
pub(super) struct Delivering {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) dedupe: Arc<Dedupe>,
    pub(super) evidence: EvidenceStore,
    pub(super) metrics: Metrics,
}

impl Delivering {
    /// Processes a delivery and logs its outcome in one line.
    pub(super) async fn deliver(&self, verified: VerifiedDelivery) -> Outcome {
        let route_config = verified.route.config.clone();
        let kind = verified.kind;
        let (id, events, refs) = match &verified.content {
            Ok(content) => {
                let kinds = content.events.iter().map(|event| event.kind).collect();
                (plain_id(&content.delivery_id), kinds, refs(&content.events))
            }
            Err(error) => {
                tracing::warn!(namespace = route_config.namespace, name = route_config.name, %error, "delivery cannot be read");
                (String::new(), Vec::new(), String::new())
            }
        };
        let at = verified.at;
        let seen = verified.content.as_ref().ok().map(|content| recent::arrived(at, &id, &content.events));
        let outcome = self.conclude(verified, &id, &events, seen.as_ref()).await;
        self.remember(DeliveryKey { uid: &route_config.uid, at, id: &id }, seen, outcome);
        self.metrics.delivery(kind, outcome.label());
        tracing::info!(
            namespace = route_config.namespace,
            name = route_config.name,
            delivery = id,
            events = ?events,
            refs,
            outcome = outcome.label(),
            "delivery"
        );
        outcome
    }

    /// Remembers what became of a delivery. One that is being sent is remembered already.
    fn remember(&self, key: DeliveryKey<'_>, seen: Option<RecentDelivery>, outcome: Outcome) {
        // A delivery about another repository may name what the readers of this binding must not see.
        let (outcome, reason) = match outcome {
            Outcome::Foreign => (DeliveryOutcome::ForeignRepository, "it is about another repository"),
            Outcome::Unreadable => (DeliveryOutcome::Unreadable, "its content is not what the provider documents"),
            Outcome::Undecided => (DeliveryOutcome::Undecided, "its repository is not known yet"),
            Outcome::Accepted | Outcome::Pending => (DeliveryOutcome::Accepted, ""),
            Outcome::NotServed => (DeliveryOutcome::NotServed, ""),
            Outcome::Discarded => (DeliveryOutcome::Discarded, ""),
            Outcome::Duplicate => (DeliveryOutcome::Duplicate, ""),
            Outcome::Ping => (DeliveryOutcome::Ping, ""),
            Outcome::Unwanted => (DeliveryOutcome::Unwanted, ""),
            Outcome::Overloaded => (DeliveryOutcome::Overloaded, ""),
        };
        let recent = self.evidence.recent();
        match seen {
            Some(seen) if !outcome.is_turned_away() => {
                // What is or was being sent has its outcome from the answers of its sinks.
                let is_known = match outcome {
                    DeliveryOutcome::Accepted => recent.knows(key),
                    DeliveryOutcome::Duplicate => false,
                    _ => recent.conclude(key, outcome),
                };
                if !is_known {
                    recent.remember(key, RecentDelivery { outcome, ..seen });
                }
            }
            _ => self.evidence.turned_away(key.uid, key.at, outcome, reason),
        }
    }

    async fn conclude(&self, verified: VerifiedDelivery, id: &str, events: &[EventKind], seen: Option<&RecentDelivery>) -> Outcome {
        let VerifiedDelivery { route, secret_version, content, payload, at, reservation, .. } = verified;
        let Ok(content) = content else { return Outcome::Unreadable };
        match route.owns(&content) {
            RepositoryMatch::Ours => (),
            RepositoryMatch::Foreign => return Outcome::Foreign,
            RepositoryMatch::Departed => {
                // The controller reads the repository again because of this.
                self.evidence.refused(&route.config.uid, at, DEPARTED);
                return Outcome::Foreign;
            }
            RepositoryMatch::Unknown => return Outcome::Undecided,
        }
        let route_config = &route.config;
        self.evidence.arrived(&route_config.uid, &Arrival { at, secret_version: &secret_version, id, events });
        if content.ping {
            return Outcome::Ping;
        }
        let once: Option<Vec<_>> = content.events.iter().map(|event| event.once.as_ref()).collect();
        let repository_id = route.repository_id().or(content.repository_id.as_deref()).unwrap_or_default().to_owned();
        let several_hooks = route.may_have_several_hooks(&secret_version, at);
        let derived_id = several_hooks.then(|| derived_event_id(&route_config.uid, &repository_id, events, &payload));
        let identity = Identity {
            uid: &route_config.uid,
            id,
            hook: (&route_config.hook, &secret_version),
            derived_id: derived_id.as_deref(),
            events,
            once: once.as_deref().unwrap_or_default(),
            payload: &payload,
        };
        let claim = match self.dedupe.begin(&identity) {
            Begin::First(claim) => claim,
            Begin::Duplicate(pending) => {
                let answer = pending.answer().await;
                return if answer == DeliveryResult::Overloaded { Outcome::Overloaded } else { Outcome::Duplicate };
            }
        };
        let number = claim.entry().number();
        let assignments = assignments(route_config, &content);
        if let Some(seen) = seen.filter(|_| !route_config.sinks.is_empty()) {
            let sinks = assignments.iter().map(Assignment::answer).collect();
            self.evidence.recent().remember(DeliveryKey { uid: &route_config.uid, at, id }, RecentDelivery { sinks, ..seen.clone() });
        }
        let not_served: Vec<_> = assignments.iter().filter(|assignment| assignment.is_not_served()).map(|of| of.sink.to_owned()).collect();
        let parts: Vec<_> = assignments.into_iter().filter_map(Assignment::part).collect();
        if parts.is_empty() && !not_served.is_empty() {
            self.evidence.waiting(&route_config.uid, number, at);
            claim.finish(DeliveryResult::NotServed);
            return Outcome::NotServed;
        }
        if parts.is_empty() {
            self.evidence.settled(&route_config.uid, number, at);
            claim.finish(DeliveryResult::Unwanted);
            let is_only_counted = route_config.sinks.is_empty() && events.iter().any(|event| route_config.events.contains(event));
            return if is_only_counted { Outcome::Accepted } else { Outcome::Unwanted };
        }
        self.evidence.waiting(&route_config.uid, number, at);
        let envelope = Envelope {
            uid: route_config.uid.clone(),
            namespace: route_config.namespace.clone(),
            name: route_config.name.clone(),
            delivery: id.to_owned(),
            id: claim.entry().event_id().to_owned(),
            source: route.source(),
            repository_id,
            at,
            events: content.events,
        };
        let arrived = Arrived { envelope, entry: claim.entry().clone(), parts, not_served, payload, reservation };
        let answer = self.dispatcher.deliver(arrived).await;
        claim.finish(answer);
        match answer {
            DeliveryResult::Accepted => Outcome::Accepted,
            DeliveryResult::Unwanted => Outcome::Unwanted,
            DeliveryResult::NotServed => Outcome::NotServed,
            DeliveryResult::Discarded => Outcome::Discarded,
            DeliveryResult::Pending => Outcome::Pending,
            DeliveryResult::Overloaded => Outcome::Overloaded,
        }
    }
}

/// What one sink gets of a delivery.
struct Assignment<'a> {
    sink: &'a str,
    share: Share<'a>,
}

enum Share<'a> {
    Events(Part),
    /// It selects events, and gets none: it is not served, for this reason.
    NotServed(&'a NotServed),
    /// It selects none.
    Nothing,
}

/// Assigns events to sinks. A sink whose spec names no usable address gets none; the controller reports it.
fn assignments<'a>(route_config: &'a RouteConfig, content: &Content) -> Vec<Assignment<'a>> {
    let wanted: Vec<_> = content.events.iter().enumerate().filter(|(_, event)| route_config.events.contains(&event.kind)).collect();
    let assign = |sink: &'a Sink| {
        let selected: Vec<_> = wanted.iter().filter(|(_, event)| sink.filter.wants(event)).map(|(position, _)| *position).collect();
        let share = match &sink.target {
            _ if selected.is_empty() => Share::Nothing,
            Ok(_) => Share::Events(part(&sink.name, selected, content.events.len())),
            Err(refusal) => Share::NotServed(refusal),
        };
        Assignment { sink: &sink.name, share }
    };
    route_config.sinks.iter().map(assign).collect()
}

impl Assignment<'_> {
    /// What the sink makes of the delivery, before anything is sent.
    fn answer(&self) -> SinkAnswer {
        let (state, error) = match &self.share {
            Share::Events(_) => (SinkAnswerState::Pending, None),
            Share::NotServed(refusal) => (SinkAnswerState::NotServed, Some(refusal.message.clone())),
            Share::Nothing => (SinkAnswerState::Unwanted, None),
        };
        SinkAnswer { name: self.sink.to_owned(), state, time: None, error }
    }

    const fn is_not_served(&self) -> bool {
        matches!(self.share, Share::NotServed(_))
    }

    fn part(self) -> Option<Part> {
        if let Share::Events(part) = self.share { Some(part) } else { None }
    }
}

/// The events of a delivery for one sink, which selects these of all events. If they are too many, the last one says how many
/// were omitted; it has the position after all others.
fn part(sink: &str, mut events: Vec<usize>, all: usize) -> Part {
    let omitted = events.len().saturating_sub(EVENTS);
    if omitted > 0 {
        events.truncate(EVENTS);
        events.push(all);
    }
    Part { sink: sink.to_owned(), events, omitted }
}

/// The id of a delivery as it is remembered, shown and forwarded. An id that cannot be shown, which no provider sends, is
/// replaced by its digest: it comes from a header that no signature covers.
fn plain_id(id: &str) -> String {
    if !id.is_empty() && shown(id) == id { id.to_owned() } else { derived_id(&[], id.as_bytes()) }
}

/// The id of the events of a delivery that may come by two webhooks: the same for both of them, and at every receiver.
fn derived_event_id(uid: &str, repository_id: &str, events: &[EventKind], payload: &[u8]) -> String {
    let kinds = events.iter().map(|event| event.cloud_event_type());
    derived_id(&[uid, repository_id].into_iter().chain(kinds).collect::<Vec<_>>(), payload)
}

/// An id that is derived from these texts and this content.
fn derived_id(texts: &[&str], content: &[u8]) -> String {
    let mut digest = digest::Context::new(&digest::SHA256);
    for part in texts.iter().map(|text| text.as_bytes()).chain([content]) {
        digest.update(&part.len().to_be_bytes());
        digest.update(part);
    }
    hex::encode(digest.finish().as_ref().get(..DERIVED_LENGTH).unwrap_or_default())
}

/// A text of a delivery, made safe for logs: anyone who may push chooses a reference.
fn shown(text: &str) -> String {
    text.chars().filter(|character| !is_hidden(*character)).take(SHOWN_LENGTH).collect()
}

/// The references of a delivery for the log, each with the beginning of its commit.
fn refs(events: &[Event]) -> String {
    let one = |event: &Event| {
        let reference = event.reference.as_deref().map_or_else(|| "-".to_owned(), shown);
        match event.commit.as_deref().and_then(|commit| commit.get(..SHORT_COMMIT)) {
            Some(commit) => format!("{reference}@{commit}"),
            None => reference,
        }
    };
    let shown = events.iter().take(SHOWN_REFS).map(one).collect::<Vec<_>>().join(" ");
    match events.len().saturating_sub(SHOWN_REFS) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::webhook::Change;

    #[test]
    fn of_too_many_events_the_first_are_sent_and_one_says_how_many_were_omitted() {
        assert_eq!(part("ci", (0..100).collect(), 3000), Part { sink: "ci".into(), events: (0..100).collect(), omitted: 0 });
        let cut = part("ci", (0..3000).step_by(2).collect(), 3000);
        assert_eq!((cut.events.len(), cut.omitted), (101, 1400));
        assert_eq!((cut.events[99], cut.events[100]), (198, 3000));
    }

    #[test]
    fn ids_that_cannot_be_shown_are_replaced_by_one_that_can() {
        for plain in ["5f0a2a3c-0000-4000-8000-000000000007", "a:b", &"x".repeat(128)] {
            assert_eq!(plain_id(plain), plain);
        }
        let replaced: std::collections::BTreeSet<_> =
            ["", "a\u{200b}", "a", &"x".repeat(129), &"x".repeat(130)].into_iter().map(plain_id).collect();
        assert_eq!(replaced.len(), 5, "they stay different");
        assert!(replaced.iter().all(|id| (1..=32).contains(&id.len())), "{replaced:?}");
        assert_ne!(derived_id(&["a", "b"], b"c"), derived_id(&["ab", ""], b"c"));
    }

    #[test]
    fn the_log_line_names_references_and_commits_and_has_a_limited_length() {
        let event = |reference: &str, commit| Event::of_reference(reference, Change::Updated).unwrap().at(commit);
        let push = event("refs/heads/main", Some("2b7d44102b7d44102b7d44102b7d44102b7d4410"));
        assert_eq!(refs(std::slice::from_ref(&push)), "refs/heads/main@2b7d4410");
        assert_eq!(refs(&[push, event("refs/tags/v1", None)]), "refs/heads/main@2b7d4410 refs/tags/v1");
        assert_eq!(refs(&[Event::of_pull_request(EventKind::PullRequestComment, Some(1), None)]), "-");
        assert_eq!(refs(&[event("refs/heads/a\nforged=1", None)]), "refs/heads/aforged=1");
        let many = vec![event(&format!("refs/heads/{}", "x".repeat(5000)), None); 3000];
        let line = refs(&many);
        assert!(line.len() < 1000 && line.ends_with(" and 2995 more"), "{line}");
    }
}
