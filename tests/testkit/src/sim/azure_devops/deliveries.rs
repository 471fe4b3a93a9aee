//! The deliveries of subscriptions, and the state of a subscription whose deliveries fail.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use serde_json::json;

use super::documents::{Documents, EventContext};
use super::state::{Notification, State, Subscription, guid};
use crate::sim::{Change, Delivery, Outcome, ProviderEvent, Retry};

/// The statuses of a transient failure. These and the following numbers:
/// <https://learn.microsoft.com/en-us/azure/devops/service-hooks/troubleshoot>. A delivery without an answer is not mentioned there;
/// here it counts as a transient failure.
const TRANSIENT: [u16; 4] = [408, 502, 503, 504];
/// The status of a terminal failure, which disables the subscription.
const TERMINAL: u16 = 410;
/// The seconds before each retry after a transient failure.
const RETRIES: [i64; 8] = [1, 2, 4, 8, 16, 32, 60, 60];
/// The minutes before each retry of the notification that put its subscription on probation. When the last one fails, the
/// subscription is disabled.
const PROBATION_RETRIES: [i64; 7] = [20, 40, 80, 160, 320, 640, 900];
const ENABLED: &str = "enabled";
const ON_PROBATION: &str = "onProbation";
const DISABLED: &str = "disabledBySystem";
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

/// The deliveries of an event. For a subscription on probation, new events are lost: they do not become notifications.
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
            .filter(|found| found.status == ENABLED && wants(found, (event_type, notification_type), place, provider_event))
            .cloned()
            .collect();
        for subscription in asked {
            let number = state.next_number();
            let mut body = event.clone();
            body["subscriptionId"] = json!(subscription.id);
            body["notificationId"] = json!(number);
            shorten(&mut body, &subscription);
            state.notifications.push(Notification {
                id: number,
                subscription: subscription.id.clone(),
                event: body.clone(),
                status: "requestInProgress",
                result: "pending",
                attempts: 0,
                response: String::new(),
                created: documents.now.clone(),
            });
            deliveries.push(delivery(path, &subscription, number, &body));
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
pub fn judged(state: &mut State, delivery: &Delivery, outcome: &Outcome) -> Option<Retry> {
    let number = number(delivery)?;
    let notification = state.notifications.iter_mut().find(|found| found.id == number)?;
    notification.attempts += 1;
    notification.response = format!("{outcome:?}");
    let subscription = state.subscriptions.iter_mut().find(|found| found.id == delivery.hook)?;
    let after = settled(subscription, number, delivery.attempt, outcome);
    (notification.status, notification.result) = match after {
        Some(_) => ("queuedForRetry", "pending"),
        None => ("completed", if outcome.is_success() { "succeeded" } else { "failed" }),
    };
    Some(Retry { delivery: delivery.clone(), after: after? })
}

/// Changes the state of a subscription by the answer to a notification. Returns the time until the next attempt.
fn settled(subscription: &mut Subscription, number: u64, attempt: u32, outcome: &Outcome) -> Option<SignedDuration> {
    let is_transient = match outcome {
        Outcome::Answered(status) => TRANSIENT.contains(status),
        Outcome::Failed(_) => true,
    };
    let retries = RETRIES.get(attempt as usize).filter(|_| is_transient).map(|seconds| SignedDuration::from_secs(*seconds));
    if outcome.is_success() {
        if subscription.status == ON_PROBATION {
            (subscription.status, subscription.on_probation_for, subscription.probation_retries) = (ENABLED, None, 0);
        }
        return None;
    }
    if *outcome == Outcome::Answered(TERMINAL) {
        subscription.status = DISABLED;
        return None;
    }
    if subscription.on_probation_for == Some(number) {
        subscription.probation_retries += 1;
        let next = probation_retry(subscription);
        if next.is_none() {
            subscription.status = DISABLED;
        }
        return next;
    }
    if retries.is_some() || subscription.status != ENABLED {
        return retries;
    }
    (subscription.status, subscription.on_probation_for, subscription.probation_retries) = (ON_PROBATION, Some(number), 0);
    probation_retry(subscription)
}

fn probation_retry(subscription: &Subscription) -> Option<SignedDuration> {
    PROBATION_RETRIES.get(subscription.probation_retries as usize).map(|minutes| SignedDuration::from_mins(*minutes))
}

/// Whether a retry that is due is still made: not by a subscription that is gone or disabled, and that of a probation not after its
/// end.
pub fn still_retries(state: &mut State, retry: &Delivery) -> bool {
    let Some(number) = number(retry) else { return false };
    let subscription = state.subscriptions.iter().find(|found| found.id == retry.hook);
    let is_made = subscription.is_some_and(|found| match found.status {
        ENABLED => (retry.attempt as usize) <= RETRIES.len() && found.on_probation_for != Some(number),
        ON_PROBATION => true,
        _ => false,
    });
    if let Some(notification) = state.notifications.iter_mut().find(|found| found.id == number).filter(|_| !is_made) {
        (notification.status, notification.result) = ("completed", "failed");
    }
    is_made
}

/// The number of the notification that a delivery sends.
fn number(delivery: &Delivery) -> Option<u64> {
    delivery.headers.get(NOTIFICATION)?.to_str().ok()?.parse().ok()
}
