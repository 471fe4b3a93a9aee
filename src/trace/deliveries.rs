//! Judges the last deliveries of a binding and what its sinks made of them. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use serde::Serialize;

use super::chain::Link;
use super::conditions::{condition, remedy};
use crate::api::v1alpha1::binding::{SinkSpec, SinkState, SinkStatus, short_branch};
use crate::api::v1alpha1::deliveries::{DeliveryOutcome, RecentDelivery, SinkAnswer, SinkAnswerState};
use crate::api::v1alpha1::{ConditionType, EventKind, Reason, RepoBinding};
use crate::protocol::glob;

/// The last deliveries of one binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) repository: String,
    pub(super) deliveries: Vec<RecentDelivery>,
}

impl Listed {
    /// Whether every listed delivery reached the sinks that it is for.
    pub(super) fn is_fine(&self) -> bool {
        !self.deliveries.iter().any(|delivery| delivery.outcome.is_failure())
    }
}

pub(super) fn listed(binding: &RepoBinding) -> Listed {
    Listed {
        namespace: binding.namespace().unwrap_or_default(),
        name: binding.name_any(),
        repository: binding.known_repository().map_or_else(|| binding.spec.repository.clone(), |known| known.path.clone()),
        deliveries: known(binding).to_vec(),
    }
}

fn known(binding: &RepoBinding) -> &[RecentDelivery] {
    binding.status.as_ref().map(|status| status.recent_deliveries.as_slice()).unwrap_or_default()
}

/// A time as it is shown.
pub(super) fn shown(time: &Time) -> String {
    let Ok(time) = Timestamp::from_second(time.0.as_second()) else { return String::new() };
    time.to_string()
}

/// How far the judgement of deliveries reaches.
pub(super) fn basis(binding: &RepoBinding) -> String {
    match known(binding).len() {
        0 => "Deliveries are read from status.recentDeliveries, which is empty and is written within about a minute.".to_owned(),
        _ => "Deliveries are read from status.recentDeliveries: the last 10, written at most once a minute.".to_owned(),
    }
}

/// The links of a delivery and of every sink.
pub(super) fn links(binding: &RepoBinding, sha: Option<&str>) -> Vec<Link> {
    let (link, delivery) = delivery(binding, sha);
    let mut links = vec![link];
    if binding.spec.sinks.is_empty() {
        links.push(Link::skipped("sinks", "the binding has none: deliveries are verified, and sent nowhere"));
    }
    let nobody = delivery.is_some_and(|delivery| delivery.outcome == DeliveryOutcome::Unwanted);
    let unwanted_counts = nobody || sha.is_some();
    links.extend(binding.spec.sinks.iter().map(|spec| sink(&SinkFacts { binding, spec, delivery, unwanted_counts })));
    links
}

/// The delivery in question: the one with the commit, or the last one that is more than a test of the webhook.
fn delivery<'a>(binding: &'a RepoBinding, sha: Option<&str>) -> (Link, Option<&'a RecentDelivery>) {
    let all = known(binding);
    let mut verified = all.iter().filter(|delivery| !delivery.outcome.is_turned_away());
    let found = match sha {
        // A redelivery of the same commit counts for less than the delivery that was sent to the sinks.
        Some(sha) => {
            let mut with_sha: Vec<_> = verified.filter(|delivery| has(delivery, sha)).collect();
            with_sha.sort_by_key(|delivery| delivery.outcome == DeliveryOutcome::Duplicate);
            with_sha.into_iter().next()
        }
        None => verified.find(|delivery| !matches!(delivery.outcome, DeliveryOutcome::Ping | DeliveryOutcome::Duplicate)),
    };
    let refused = condition(binding, ConditionType::Receiving)
        .filter(|receiving| receiving.reason == Reason::DeliveriesRefused.as_str() && receiving.status == "False");
    match (found, refused) {
        (Some(found), None) => (arrived(found), Some(found)),
        (Some(found), Some(_)) if sha.is_some() => (arrived(found), Some(found)),
        (_, Some(refused)) => (turned_away(binding, &refused.message), None),
        (None, None) => (missing(binding, sha), None),
    }
}

/// Whether a delivery has a commit. Only the beginning of its commit is known.
fn has(delivery: &RecentDelivery, sha: &str) -> bool {
    delivery.sha.as_deref().is_some_and(|short| short.starts_with(sha) || sha.starts_with(short))
}

fn arrived(delivery: &RecentDelivery) -> Link {
    let link = "delivery";
    let text = described(delivery);
    match delivery.outcome {
        DeliveryOutcome::Overloaded => Link::fail(
            link,
            format!("{text}, verified, but there was no room for it"),
            "The provider was asked to send it again. If it does not, redeliver it at the provider; see forgebind_receiver_outbox_healthy.",
        ),
        DeliveryOutcome::Unwanted if delivery.event.is_none() => Link::fail(
            link,
            format!("{text}: it reports no event that Forgebind knows"),
            "Push a commit, or redeliver a push at the provider.",
        ),
        DeliveryOutcome::Duplicate => Link::ok(link, format!("{text}, verified; it arrived before")),
        _ => Link::ok(link, format!("{text}, verified")),
    }
}

/// A delivery in one line.
pub(super) fn described(delivery: &RecentDelivery) -> String {
    let event = delivery.event.map(|event| format!(" {event:?}")).unwrap_or_default();
    let reference = delivery.reference.as_ref().map(|reference| format!(" {reference}")).unwrap_or_default();
    let sha = delivery.sha.as_ref().map(|sha| format!(" {sha}")).unwrap_or_default();
    let more = delivery.events.map(|events| format!(" and {} more events", events.saturating_sub(1))).unwrap_or_default();
    let id = delivery.id.as_ref().map(|id| format!(", id {id}")).unwrap_or_default();
    format!("{}{event}{reference}{sha}{more}{id}", shown(&delivery.time))
}

/// Deliveries are refused at present.
fn turned_away(binding: &RepoBinding, message: &str) -> Link {
    let last = known(binding).iter().find(|delivery| delivery.outcome == DeliveryOutcome::Refused);
    let counted = last.map(|last| {
        let reason = last.reason.as_deref().unwrap_or_default();
        format!("refused {} times, last at {}: {reason}", last.count.unwrap_or(1), shown(&last.time))
    });
    let text = counted.unwrap_or_else(|| message.to_owned());
    let (namespace, name) = (binding.namespace().unwrap_or_default(), binding.name_any());
    let rotate = format!("kubectl -n {namespace} annotate repob {name} --overwrite forgebind.dev/rotate-requested-at=\"$(date +%s)\"");
    Link::fail("delivery", text, format!("{} The command: {rotate}", remedy(Reason::DeliveriesRefused.as_str())))
}

/// No delivery is known that could be judged.
fn missing(binding: &RepoBinding, sha: Option<&str>) -> Link {
    let link = "delivery";
    let all = known(binding);
    let (namespace, name) = (binding.namespace().unwrap_or_default(), binding.name_any());
    let other = all.iter().find(|delivery| delivery.outcome.is_turned_away());
    let other = other.map(|other| {
        let reason = other.reason.as_deref().unwrap_or_default();
        format!("; turned away {} times, last at {}: {reason}", other.count.unwrap_or(1), shown(&other.time))
    });
    let other = other.unwrap_or_default();
    let at_provider = format!(
        "Look at the deliveries of the webhook at the provider. The push is there: redeliver it. It is not there: push again. The \
         webhook itself is not there: somebody deleted it, and kubectl -n {namespace} annotate repob {name} --overwrite \
         forgebind.dev/reconcile-requested-at=\"$(date +%s)\" makes it anew."
    );
    let Some(sha) = sha else {
        let pinged = all.iter().any(|delivery| delivery.outcome == DeliveryOutcome::Ping);
        let text = if pinged { "only the provider's test has arrived, and no event" } else { "no delivery has arrived yet" };
        return Link::fail(link, format!("{text}{other}"), format!("Push a commit. {at_provider}"));
    };
    let verified: Vec<_> = all.iter().filter(|delivery| !delivery.outcome.is_turned_away()).collect();
    let Some(oldest) = verified.last() else {
        return Link::fail(link, format!("no delivery with this commit ({sha}) was seen, and none at all is known{other}"), at_provider);
    };
    let several = verified.iter().filter(|delivery| delivery.events.is_some()).count();
    let several = if several > 0 { format!("; of {several} of them only the first commit is known") } else { String::new() };
    let reach = match verified.len() {
        1 => "only the last delivery is known, of".to_owned(),
        number => format!("only the last {number} are known, since"),
    };
    let text = format!("no delivery with this commit ({sha}) was seen; {reach} {}{several}{other}", shown(&oldest.time));
    Link::fail(link, text, at_provider)
}

/// What is known of one sink.
struct SinkFacts<'a> {
    binding: &'a RepoBinding,
    spec: &'a SinkSpec,
    delivery: Option<&'a RecentDelivery>,
    /// Whether it is a failure that the sink does not want the delivery: somebody asks about this commit, or no sink wants it.
    unwanted_counts: bool,
}

impl SinkFacts<'_> {
    fn link(&self) -> String {
        format!("sink {}", self.spec.name)
    }

    fn answer(&self) -> Option<&SinkAnswer> {
        self.delivery?.sinks.iter().find(|answer| answer.name == self.spec.name)
    }

    fn status(&self) -> Option<&SinkStatus> {
        self.binding.status.as_ref()?.sinks.iter().find(|status| status.name == self.spec.name)
    }

    /// The binding, as an argument of a command.
    fn argument(&self) -> String {
        format!("{}/{}", self.binding.namespace().unwrap_or_default(), self.binding.name_any())
    }
}

fn sink(facts: &SinkFacts<'_>) -> Link {
    let link = facts.link();
    let delivering = condition(facts.binding, ConditionType::Delivering).filter(|delivering| delivering.status == "False");
    let mentions = |text: &str| text.contains(&format!("sink {}:", facts.spec.name));
    let unserved = delivering.filter(|delivering| {
        let is = |reason: Reason| delivering.reason == reason.as_str();
        [Reason::SinkNotAllowed, Reason::SinkInvalid, Reason::SecretNotFound].into_iter().any(is) && mentions(&delivering.message)
    });
    if let Some(unserved) = unserved {
        return Link::fail(link, format!("{}: {}", unserved.reason, unserved.message), remedy(&unserved.reason));
    }
    match (facts.answer(), facts.delivery) {
        (Some(answer), _) => answered(facts, answer),
        (None, Some(delivery)) if delivery.outcome == DeliveryOutcome::Unwanted => unwanted(facts),
        (None, Some(delivery)) if delivery.outcome == DeliveryOutcome::Accepted && !delivery.sinks.is_empty() => {
            Link::unknown(link, "the binding did not have this sink yet when the delivery arrived")
        }
        _ => at_rest(facts),
    }
}

/// A sink without an answer to the delivery in question.
fn at_rest(facts: &SinkFacts<'_>) -> Link {
    let link = facts.link();
    match facts.status() {
        Some(status) if status.state == SinkState::Down => Link::fail(link, down(status), repair()),
        Some(status) if status.state == SinkState::Retrying => {
            let error = status.last_error.as_deref().unwrap_or("unknown");
            Link::fail(link, format!("did not accept the last event: {error}; {} pending", status.pending), repair())
        }
        Some(status) if status.dead_letters > 0 => {
            Link::unknown(link, format!("accepts events; {} dead letters: forgebind redeliver {}", status.dead_letters, facts.argument()))
        }
        Some(_) => Link::ok(link, "accepts events"),
        None => Link::unknown(link, "nothing was sent yet"),
    }
}

fn down(status: &SinkStatus) -> String {
    let since = status.down_since.as_ref().map(|since| format!(" since {}", shown(since))).unwrap_or_default();
    let error = status.last_error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    format!("down{since}{error}; {} pending", status.pending)
}

fn repair() -> String {
    "Repair the sink; pending events are then sent without intervention, in their order.".to_owned()
}

fn answered(facts: &SinkFacts<'_>, answer: &SinkAnswer) -> Link {
    let link = facts.link();
    let error = answer.error.as_deref().map(|error| format!(" ({error})")).unwrap_or_default();
    let redeliver = format!("Repair the sink, then: forgebind redeliver {}", facts.argument());
    let id = facts.delivery.and_then(|delivery| delivery.id.as_deref()).unwrap_or_default();
    let again = format!("It is not sent again by Forgebind. Redeliver {id} at the provider if it is needed.");
    match answer.state {
        SinkAnswerState::Accepted => {
            let accepted = answer.time.as_ref().map_or_else(|| "accepted".to_owned(), |time| format!("accepted at {}", shown(time)));
            match facts.status().filter(|status| status.state == SinkState::Down) {
                Some(status) => Link::fail(link, format!("{accepted}, but now {}", down(status)), repair()),
                None => Link::ok(link, accepted),
            }
        }
        SinkAnswerState::Pending => match facts.status() {
            Some(status) if status.state == SinkState::Down => Link::fail(link, format!("pending; the sink is {}", down(status)), repair()),
            // The list and the state of the sink are written at different times, and a receiver may be gone with its outbox.
            Some(status) if status.state == SinkState::Accepting && status.pending == 0 => {
                Link::unknown(link, format!("was pending{error}; nothing is pending now: accepted since, or lost with its receiver"))
            }
            _ => Link::fail(link, format!("pending{error}"), repair()),
        },
        SinkAnswerState::Parked => Link::fail(link, format!("parked{error}: the sink accepts other events, but not this one"), redeliver),
        SinkAnswerState::DeadLetter => Link::fail(link, format!("dead letter{error}: it is no longer sent by itself"), redeliver),
        SinkAnswerState::Dropped => {
            Link::fail(link, format!("dropped{error}: the binding's share of the outbox was full"), format!("Repair the sink. {again}"))
        }
        SinkAnswerState::Discarded => {
            Link::fail(link, format!("discarded{error}: the sink was removed, or its events grew too old"), again)
        }
        SinkAnswerState::Unwanted => unwanted(facts),
        SinkAnswerState::NotServed => Link::fail(
            link,
            format!("not sent: the sink had no usable address{error}"),
            "Read the condition Delivering; then redeliver at the provider.",
        ),
    }
}

/// The filter that does not select the delivery, as the spec is now.
fn unwanted(facts: &SinkFacts<'_>) -> Link {
    let (link, name) = (facts.link(), &facts.spec.name);
    let then = "then push again, or redeliver it at the provider.";
    let Some(delivery) = facts.delivery else { return Link::unknown(link, "nothing was sent") };
    let (text, fix) = match mismatch(facts, delivery) {
        Some(Mismatch::Webhook(event)) => (
            format!("not sent: {event:?} is not among the events of the webhook"),
            format!("Add {event:?} to spec.webhook.events of {}, {then}", facts.argument()),
        ),
        Some(Mismatch::Event(event, events)) => (
            format!("not sent: {event:?} is not among its events {}", list(&events)),
            format!("Add {event:?} to spec.sinks[name={name}].events of {}, {then}", facts.argument()),
        ),
        Some(Mismatch::Branch(branch, branches, field)) => (
            format!(
                "not sent: {branch} does not match {} {}",
                if field.ends_with("branch") { "the branch" } else { "branches" },
                list(&branches)
            ),
            format!("Add the branch to {field} of {}, {then}", facts.argument()),
        ),
        None => (
            "not sent: its filter did not select the delivery when it arrived; it would now".to_owned(),
            "Push again, or redeliver it at the provider.".to_owned(),
        ),
    };
    if facts.unwanted_counts { Link::fail(link, text, fix) } else { Link::skipped(link, text) }
}

/// Why a sink does not want a delivery.
enum Mismatch {
    Webhook(EventKind),
    Event(EventKind, Vec<String>),
    /// The branch, the patterns, and the field that has them.
    Branch(String, Vec<String>, String),
}

fn mismatch(facts: &SinkFacts<'_>, delivery: &RecentDelivery) -> Option<Mismatch> {
    let event = delivery.event?;
    if !facts.binding.hook_events().contains(&event) {
        return Some(Mismatch::Webhook(event));
    }
    if let Some(events) = facts.spec.events.as_ref().filter(|events| !events.contains(&event)) {
        return Some(Mismatch::Event(event, events.iter().map(|event| format!("{event:?}")).collect()));
    }
    let own = facts.spec.branches.clone().map(|branches| (branches, format!("spec.sinks[name={}].branches", facts.spec.name)));
    let default = || facts.binding.spec.branch.clone().map(|branch| (vec![branch], "spec.branch".to_owned()));
    let (branches, field) = own.or_else(default)?;
    let branch = short_branch(delivery.reference.as_deref()?);
    let matches = event == EventKind::Tag || branches.iter().any(|pattern| glob::matches(short_branch(pattern), branch));
    (!matches).then(|| Mismatch::Branch(branch.to_owned(), branches, field))
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.join(", "))
}
