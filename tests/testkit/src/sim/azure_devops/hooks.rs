//! Subscriptions: created, queried, replaced and removed, and the log of their deliveries.

use http::Method;
use serde_json::{Map, Value, json};

use super::api::{Caller, parameter};
use super::documents::{Documents, list};
use super::errors;
use super::state::{DELETE, EDIT, Notification, State, Subscription, VIEW};
use crate::sim::{Request, Response, targets};

/// The events of the publisher, and the inputs that narrow each.
const EVENTS: [(&str, &[&str]); 5] = [
    ("git.push", &["branch", "pushedBy"]),
    ("git.pullrequest.created", &["branch", "pullrequestCreatedBy", "pullrequestReviewersContains"]),
    ("git.pullrequest.updated", &["branch", "pullrequestCreatedBy", "pullrequestReviewersContains", "notificationType"]),
    ("git.pullrequest.merged", &["branch", "pullrequestCreatedBy", "pullrequestReviewersContains", "mergeResult"]),
    ("ms.vss-code.git-pullrequest-comment-event", &["branch"]),
];
/// The kinds of updates of a pull request.
const NOTIFICATION_TYPES: [&str; 5] =
    ["", "PushNotification", "ReviewersUpdateNotification", "StatusUpdateNotification", "ReviewerVoteNotification"];
const CONSUMER_INPUTS: [&str; 8] = [
    "url",
    "httpHeaders",
    "basicAuthUsername",
    "basicAuthPassword",
    "acceptUntrustedCerts",
    "resourceDetailsToSend",
    "messagesToSend",
    "detailedMessagesToSend",
];
/// The fields of a subscription that a request may set.
const FIELDS: [&str; 7] =
    ["publisherId", "eventType", "resourceVersion", "consumerId", "consumerActionId", "publisherInputs", "consumerInputs"];
const LONGEST_PASSWORD: usize = 256;

pub fn answer(state: &mut State, documents: &Documents<'_>, request: &Request, caller: Caller, rest: &[&str]) -> Response {
    match (&request.method, rest) {
        (&Method::POST, ["subscriptionsquery"]) => query(state, documents, request, caller),
        (&Method::GET, ["subscriptions"]) => {
            let seen: Vec<Value> =
                seen(state, caller).filter(|found| fits(found, &parameters(request))).map(|found| documents.subscription(found)).collect();
            Response::json(200, &list(&seen))
        }
        (&Method::POST, ["subscriptions"]) => create(state, documents, request, caller),
        (&Method::GET, ["subscriptions", id]) => match position(state, caller, id) {
            Some(position) => Response::json(200, &documents.subscription(&state.subscriptions[position])),
            None => errors::no_subscription(id),
        },
        (&Method::PUT, ["subscriptions", id]) => replace(state, documents, request, caller, id),
        (&Method::DELETE, ["subscriptions", id]) => match position(state, caller, id) {
            Some(position) if !lets(state, &state.subscriptions[position], caller, DELETE) => {
                errors::forbidden(caller.user, "Delete subscriptions")
            }
            Some(position) => {
                state.subscriptions.remove(position);
                Response::empty(204)
            }
            None => errors::no_subscription(id),
        },
        (&Method::GET, ["subscriptions", id, "notifications", rest @ ..]) => notifications(state, request, caller, id, rest),
        _ => errors::no_such_address(),
    }
}

/// The subscriptions of the projects whose subscriptions the caller may view. The others are silently omitted.
fn seen(state: &State, caller: Caller) -> impl Iterator<Item = &Subscription> {
    state.subscriptions.iter().filter(move |subscription| lets(state, subscription, caller, VIEW))
}

/// Whether the caller has a permission for the subscriptions of a subscription's project.
fn lets(state: &State, subscription: &Subscription, caller: Caller, bit: u8) -> bool {
    let project = state.projects.iter().find(|project| project.id == subscription.publisher("projectId"));
    project.is_some_and(|project| project.lets(caller.user, bit))
}

fn position(state: &State, caller: Caller, id: &str) -> Option<usize> {
    let found = seen(state, caller).find(|found| found.id.eq_ignore_ascii_case(id))?.id.clone();
    state.subscriptions.iter().position(|subscription| subscription.id == found)
}

/// The filters of a list.
fn parameters(request: &Request) -> Value {
    let told = ["publisherId", "eventType", "consumerId", "consumerActionId"];
    told.iter().filter_map(|name| Some(((*name).to_owned(), json!(parameter(request, name)?)))).collect::<Map<_, _>>().into()
}

fn fits(subscription: &Subscription, wanted: &Value) -> bool {
    ["publisherId", "eventType", "consumerId", "consumerActionId"]
        .iter()
        .all(|name| wanted[*name].as_str().is_none_or(|wanted| wanted.is_empty() || subscription.text(name).eq_ignore_ascii_case(wanted)))
}

/// Whether a subscription satisfies all conditions of one of the filters.
fn passes(filters: &Value, input: impl Fn(&str) -> String) -> bool {
    let holds = |condition: &Value| {
        let (found, wanted) =
            (input(condition["inputId"].as_str().unwrap_or_default()), condition["inputValue"].as_str().unwrap_or_default());
        let same = if condition["caseSensitive"] == json!(true) { found == wanted } else { found.eq_ignore_ascii_case(wanted) };
        same == (condition["operator"] != json!("notEquals"))
    };
    let filters = filters.as_array().filter(|filters| !filters.is_empty());
    filters.is_none_or(|filters| filters.iter().any(|filter| filter["conditions"].as_array().into_iter().flatten().all(holds)))
}

fn query(state: &State, documents: &Documents<'_>, request: &Request, caller: Caller) -> Response {
    let mut question = request.json();
    let results: Vec<Value> = seen(state, caller)
        .filter(|found| fits(found, &question))
        .filter(|found| passes(&question["publisherInputFilters"], |name| found.publisher(name).to_owned()))
        .filter(|found| passes(&question["consumerInputFilters"], |name| found.consumer(name).to_owned()))
        .map(|found| documents.subscription(found))
        .collect();
    question["results"] = json!(results);
    Response::json(200, &question)
}

/// Checks a sent subscription and returns the document to store.
fn judged(state: &State, request: &Request, caller: Caller) -> Result<Map<String, Value>, Box<Response>> {
    let sent = request.json();
    let input = |message: String| Err(errors::input(&message).into());
    let document: Map<String, Value> = FIELDS.iter().filter_map(|name| Some(((*name).to_owned(), sent.get(*name)?.clone()))).collect();
    let subscription = Subscription {
        id: String::new(),
        document,
        status: "enabled",
        creator: caller.user.to_owned(),
        created: state.now(),
        modified: state.now(),
        on_probation_for: None,
        probation_retries: 0,
    };
    if (subscription.text("publisherId"), subscription.text("consumerId"), subscription.text("consumerActionId"))
        != ("tfs", "webHooks", "httpRequest")
    {
        return input("There is no such publisher, consumer or action.".to_owned());
    }
    let Some((_, inputs)) = EVENTS.iter().find(|(event, _)| *event == subscription.text("eventType")) else {
        return input(format!("There is no registered event type {}.", subscription.text("eventType")));
    };
    let known = |name: &str| ["projectId", "repository", "tfsSubscriptionId"].contains(&name) || inputs.contains(&name);
    let names = |group: &str| -> Vec<String> { sent[group].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect() };
    if let Some(name) = names("publisherInputs").into_iter().find(|name| !known(name)) {
        return input(format!("Subscription input '{name}' is not supported for this event."));
    }
    if let Some(name) = names("consumerInputs").into_iter().find(|name| !CONSUMER_INPUTS.contains(&name.as_str())) {
        return input(format!("Subscription input '{name}' is not supported for this action."));
    }
    if !NOTIFICATION_TYPES.contains(&subscription.publisher("notificationType")) {
        return input("Subscription input 'notificationType' is not valid.".to_owned());
    }
    judge_place(state, &subscription, caller)?;
    judge_target(&subscription, state.allow_local_targets)?;
    Ok(subscription.document)
}

fn judge_place(state: &State, subscription: &Subscription, caller: Caller) -> Result<(), Box<Response>> {
    let id = subscription.publisher("projectId");
    let project = state.projects.iter().find(|project| project.id.eq_ignore_ascii_case(id) && project.is_seen_by(caller.user));
    let Some(project) = project else { return Err(errors::input(&format!("Subscription input 'projectId' is not valid: {id}")).into()) };
    if !project.lets(caller.user, EDIT) {
        return Err(errors::forbidden(caller.user, "Edit subscriptions").into());
    }
    let repository = subscription.publisher("repository");
    // An empty input matches everything.
    let found = repository.is_empty()
        || state.repositories.iter().any(|found| found.id.eq_ignore_ascii_case(repository) && found.project == project.id);
    if found { Ok(()) } else { Err(errors::input(&format!("Subscription input 'repository' is not valid: {repository}")).into()) }
}

fn judge_target(subscription: &Subscription, allow_local: bool) -> Result<(), Box<Response>> {
    let (url, password) = (subscription.consumer("url"), subscription.consumer("basicAuthPassword"));
    if !targets::is_web_address(url) {
        return Err(errors::input("Subscription input 'url' is not a valid absolute URL.").into());
    }
    if !allow_local && targets::is_private(url) {
        return Err(errors::input("The URL must not point to localhost or to an address in a special IP range.").into());
    }
    if !allow_local && !password.is_empty() && url.starts_with("http://") {
        return Err(errors::input("Basic authentication needs an HTTPS URL.").into());
    }
    if password.chars().count() > LONGEST_PASSWORD || password.contains(char::is_whitespace) {
        return Err(errors::input("Subscription input 'basicAuthPassword' is not valid.").into());
    }
    Ok(())
}

fn create(state: &mut State, documents: &Documents<'_>, request: &Request, caller: Caller) -> Response {
    match judged(state, request, caller) {
        Ok(document) => {
            let made = state.subscribe(document, caller.user);
            Response::json(200, &documents.subscription(&made))
        }
        Err(refusal) => *refusal,
    }
}

/// Replaces a whole subscription. If the provider disabled it, it stays disabled.
fn replace(state: &mut State, documents: &Documents<'_>, request: &Request, caller: Caller, id: &str) -> Response {
    let Some(position) = position(state, caller, id) else { return errors::no_subscription(id) };
    let document = match judged(state, request, caller) {
        Ok(document) => document,
        Err(refusal) => return *refusal,
    };
    let now = state.now();
    let subscription = &mut state.subscriptions[position];
    subscription.document = document;
    subscription.modified = now;
    match (request.json()["status"].as_str(), subscription.status) {
        (Some("enabled"), "disabledByUser") => subscription.status = "enabled",
        (Some("disabledByUser"), "enabled") => subscription.status = "disabledByUser",
        _ => {}
    }
    Response::json(200, &documents.subscription(subscription))
}

fn notifications(state: &State, request: &Request, caller: Caller, id: &str, rest: &[&str]) -> Response {
    let Some(position) = position(state, caller, id) else { return errors::no_subscription(id) };
    let subscription = &state.subscriptions[position];
    let wanted = |name: &str, found: &str| parameter(request, name).is_none_or(|wanted| wanted.eq_ignore_ascii_case(found));
    // Newest first.
    let mut found = state.notifications.iter().rev().filter(|notification| notification.subscription == subscription.id);
    match rest {
        [] => {
            let most = request.number("maxResults").unwrap_or(usize::MAX);
            let found = found.filter(|notification| wanted("status", notification.status) && wanted("result", notification.result));
            let found: Vec<Value> = found.take(most).map(|notification| document(subscription, notification)).collect();
            Response::json(200, &list(&found))
        }
        [id] => match found.find(|notification| notification.id.to_string() == **id) {
            Some(notification) => Response::json(200, &document(subscription, notification)),
            None => errors::refused(404, "NotificationNotFoundException", &format!("VS403305: The notification {id} cannot be found.")),
        },
        _ => errors::no_such_address(),
    }
}

fn document(subscription: &Subscription, notification: &Notification) -> Value {
    let mut event = notification.event.clone();
    if let Some(fields) = event.as_object_mut() {
        fields.retain(|name, _| name != "subscriptionId" && name != "notificationId");
    }
    json!({
        "id": notification.id, "subscriptionId": subscription.id, "eventId": event["id"], "status": notification.status,
        "result": notification.result, "createdDate": notification.created, "modifiedDate": notification.created,
        "details": {
            "eventType": subscription.text("eventType"), "event": event, "publisherId": "tfs", "consumerId": "webHooks",
            "consumerActionId": "httpRequest", "requestAttempts": notification.attempts, "response": notification.response,
            "queuedDate": notification.created,
        },
    })
}
