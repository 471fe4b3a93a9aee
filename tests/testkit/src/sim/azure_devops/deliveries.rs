//! The deliveries of subscriptions, and the state of a subscription whose deliveries fail.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::documents::{Documents, EventContext, now};
use super::state::{Notification, State, Subscription, guid};
use crate::sim::{Change, Delivery, Outcome, ProviderEvent};

/// The number of further attempts after one of [`PASSING`].
const RETRIES: u32 = 8;
/// The statuses after which a delivery is sent again.
const PASSING: [u16; 4] = [408, 502, 503, 504];
/// The header with the id of the notification, for the log of this simulator.
const NOTIFICATION: &str = "x-simulated-notification";

/// The event types and notification types of an event, in order.
fn kinds(provider_event: &ProviderEvent) -> &'static [(&'static str, &'static str)] {
    match provider_event {
        ProviderEvent::Reference { .. } => &[("git.push", "")],
        ProviderEvent::PullRequest { change, .. } => match change {
            // Azure DevOps tries a merge at once, to see whether it would work.
            Change::Opened => &[("git.pullrequest.created", ""), ("git.pullrequest.merged", "")],
            Change::SourceMoved(_) => &[("git.pullrequest.updated", "PushNotification"), ("git.pullrequest.merged", "")],
            Change::Edited => &[("git.pullrequest.updated", "TitleDescriptionUpdatedNotification")],
            Change::Merged(_) => &[("git.pullrequest.merged", ""), ("git.pullrequest.updated", "StatusUpdateNotification")],
            Change::Closed => &[("git.pullrequest.updated", "StatusUpdateNotification")],
            Change::Commented(_) => &[("ms.vss-code.git-pullrequest-comment-event", "")],
        },
    }
}

/// The short name of the branch that filters compare; `None` for a tag.
fn branch(provider_event: &ProviderEvent) -> Option<&str> {
    match provider_event {
        ProviderEvent::Reference { reference, .. } => reference.strip_prefix("refs/heads/"),
        ProviderEvent::PullRequest { pull_request, .. } => Some(&pull_request.target),
    }
}

/// Whether a subscription is for an event of a repository.
fn wants(subscription: &Subscription, kind: (&str, &str), place: (&str, &str), provider_event: &ProviderEvent) -> bool {
    let any = |wanted: &str, found: Option<&str>| wanted.is_empty() || Some(wanted) == found;
    subscription.text("eventType") == kind.0
        && any(subscription.publisher("notificationType"), Some(kind.1))
        && subscription.publisher("projectId") == place.0
        && any(subscription.publisher("repository"), Some(place.1))
        && any(subscription.publisher("branch"), branch(provider_event))
}

/// The deliveries of an event. A subscription on probation sends nothing.
pub fn made(state: &mut State, documents: &Documents<'_>, path: &str, provider_event: &ProviderEvent) -> Vec<Delivery> {
    let Some(repository) = state.by_path(path).cloned() else { return Vec::new() };
    let Some(project) = state.projects.iter().find(|project| project.id == repository.project).cloned() else { return Vec::new() };
    let mut deliveries = Vec::new();
    for (event_type, notification_type) in kinds(provider_event) {
        let id = guid(&format!("event {}", state.next_number()));
        let event = documents.event(&EventContext { event_type, provider_event, repository: &repository, project: &project, id });
        let place = (project.id.as_str(), repository.id.as_str());
        let asked: Vec<_> = state
            .subscriptions
            .iter()
            .filter(|found| wants(found, (event_type, notification_type), place, provider_event))
            .cloned()
            .collect();
        for subscription in asked {
            let number = state.next_number();
            let mut body = event.clone();
            body["subscriptionId"] = json!(subscription.id);
            body["notificationId"] = json!(number);
            shorten(&mut body, &subscription);
            let sends = subscription.status == "enabled";
            if !sends && subscription.status != "onProbation" {
                continue;
            }
            state.notifications.push(Notification {
                id: number,
                subscription: subscription.id.clone(),
                event: body.clone(),
                status: if sends { "requestInProgress" } else { "queued" },
                result: "pending",
                attempts: 0,
                response: String::new(),
                created: now(),
            });
            if sends {
                deliveries.push(delivery(path, &subscription, number, &body));
            }
        }
    }
    deliveries
}

/// Removes the details that a subscription does not request.
fn shorten(body: &mut serde_json::Value, subscription: &Subscription) {
    for (input, field) in
        [("messagesToSend", "message"), ("detailedMessagesToSend", "detailedMessage"), ("resourceDetailsToSend", "resource")]
    {
        if subscription.consumer(input) == "none" {
            body[field] = serde_json::Value::Null;
        }
    }
}

fn delivery(path: &str, subscription: &Subscription, number: u64, body: &serde_json::Value) -> Delivery {
    let mut delivery = Delivery::json(path, &subscription.id, subscription.consumer("url"), body)
        .with("content-type", "application/json; charset=utf-8")
        .with("user-agent", "VSServices/19.255.36126.3 (w3wp.exe)")
        .with("x-vss-activityid", &guid(&format!("activity {number}")))
        .with("request-id", &guid(&format!("activity {number}")))
        .with(NOTIFICATION, &number.to_string());
    for line in subscription.consumer("httpHeaders").split(['\r', '\n']) {
        if let Some((name, value)) = line.split_once(':') {
            delivery = delivery.with(name.trim(), value.trim());
        }
    }
    let (username, password) = (subscription.consumer("basicAuthUsername"), subscription.consumer("basicAuthPassword"));
    if username.is_empty() && password.is_empty() {
        return delivery;
    }
    delivery.with("authorization", &format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

/// Updates the log, and changes the state of the subscription by its receiver's answer.
pub fn judged(state: &mut State, delivery: &Delivery, outcome: &Outcome) -> Option<Delivery> {
    let number = delivery.headers.get(NOTIFICATION)?.to_str().ok()?.parse::<u64>().ok()?;
    let notification = state.notifications.iter_mut().find(|found| found.id == number)?;
    notification.attempts += 1;
    notification.response = format!("{outcome:?}");
    let passing = match outcome {
        Outcome::Answered(status) => PASSING.contains(status),
        Outcome::Failed(_) => true,
    };
    if passing && delivery.attempt < RETRIES {
        notification.status = "queuedForRetry";
        return Some(delivery.clone());
    }
    notification.status = "completed";
    notification.result = if outcome.is_success() { "succeeded" } else { "failed" };
    let subscription = state.subscriptions.iter_mut().find(|found| found.id == delivery.hook)?;
    match outcome {
        Outcome::Answered(410) => subscription.status = "disabledBySystem",
        outcome if outcome.is_success() && subscription.status == "onProbation" => {
            subscription.status = "enabled";
            subscription.probation_retries = 0;
        }
        outcome if !outcome.is_success() && subscription.status == "enabled" => subscription.status = "onProbation",
        _ => {}
    }
    None
}
