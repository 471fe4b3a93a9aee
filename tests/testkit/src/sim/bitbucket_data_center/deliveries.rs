//! The deliveries of webhooks, and their results.

use ring::hmac;
use serde_json::{Value, json};

use super::super::contents::{Change, ProviderEvent, PullRequest, ZERO};
use super::super::delivery::{Delivery, Outcome};
use super::hooks::{Hook, Invocation};
use super::state::{Repository, State};

const DATE: &str = "2026-11-20T12:00:00+0000";
const EVENT: &str = "x-event-key";
const ACTOR: &str = "ada";

/// The deliveries of an event by a repository's webhooks. Paused ones and those whose breaker is open send nothing.
pub fn of(state: &mut State, path: &str, provider_event: &ProviderEvent) -> Vec<Delivery> {
    together(state, path, std::slice::from_ref(provider_event))
}

/// The same for several references of one push, which share a delivery. For pull requests, only the first event counts.
pub fn together(state: &mut State, path: &str, provider_events: &[ProviderEvent]) -> Vec<Delivery> {
    let Some(repository) = state.repository(path) else { return Vec::new() };
    let Some((event, body)) = told(state, repository, provider_events) else { return Vec::new() };
    let now = state.clock.now();
    let subscribed = |hook: &&Hook| hook.active && hook.events.iter().any(|found| found == event) && hook.breaker.open_until(now).is_none();
    let (path, hooks): (String, Vec<Hook>) = (repository.path(), repository.hooks.iter().filter(subscribed).cloned().collect());
    hooks.iter().map(|hook| signed(state, &path, hook, event, &body)).collect()
}

/// The test delivery, which is unsigned.
pub fn ping(state: &mut State, path: &str, hook: &str, url: &str) -> Delivery {
    let id = request_id(state);
    Delivery::json(path, hook, url, &json!({"test": true})).with(EVENT, "diagnostics:ping").with("x-request-id", &id)
}

fn request_id(state: &mut State) -> String {
    format!("5f6a7c1e-33c1-4d5e-8f3a-{:012x}", state.number())
}

fn signed(state: &mut State, path: &str, hook: &Hook, event: &str, body: &Value) -> Delivery {
    let delivery = Delivery::json(path, &hook.id.to_string(), &hook.url, body)
        .with("content-type", "application/json; charset=utf-8")
        .with(
            "user-agent",
            &format!("Atlassian HttpClient 4.0.2 / Bitbucket-{} ({}) / Default", state.release.version(), state.release.build()),
        )
        .with(EVENT, event)
        .with("x-request-id", &request_id(state));
    let Some(secret) = hook.secret() else { return delivery };
    let digest = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), &delivery.body);
    delivery.with("x-hub-signature", &format!("sha256={}", hex::encode(digest)))
}

/// The name and document of an event.
fn told(state: &State, repository: &Repository, provider_events: &[ProviderEvent]) -> Option<(&'static str, Value)> {
    let actor = state.users.iter().find(|user| user.name == ACTOR).map(|user| state.user_document(ACTOR, user.id))?;
    let (event, more) = match provider_events.first()? {
        ProviderEvent::Reference { .. } => ("repo:refs_changed", pushed(state, repository, provider_events)),
        ProviderEvent::PullRequest { pull_request, change } => about_pull_request(state, repository, pull_request, change, &actor),
    };
    let mut body = json!({"eventKey": event, "date": DATE, "actor": actor});
    body.as_object_mut()?.extend(more.as_object()?.clone());
    Some((event, body))
}

fn pushed(state: &State, repository: &Repository, provider_events: &[ProviderEvent]) -> Value {
    let changes: Vec<_> = provider_events.iter().filter_map(change).collect();
    let mut body = json!({"repository": state.repository_document(repository), "changes": changes});
    let person = json!({"name": ACTOR, "emailAddress": "ada@acme.example"});
    let commits: Vec<_> = provider_events.iter().filter_map(|provider_event| commit(provider_event, &person)).collect();
    if let Some(last) = commits.last() {
        body["toCommit"] = last.clone();
        body["commits"] = json!(commits);
    }
    body
}

/// The change of one reference by a push.
fn change(provider_event: &ProviderEvent) -> Option<Value> {
    let ProviderEvent::Reference { reference, before, after, .. } = provider_event else { return None };
    let (kind, name) = match reference.strip_prefix("refs/tags/") {
        Some(tag) => ("TAG", tag),
        None => ("BRANCH", reference.trim_start_matches("refs/heads/")),
    };
    let change = match (before, after) {
        (None, _) => "ADD",
        (_, None) => "DELETE",
        _ => "UPDATE",
    };
    let object = |object: &Option<String>| object.clone().unwrap_or_else(|| ZERO.to_owned());
    Some(json!({
        "ref": {"id": reference, "displayId": name, "type": kind}, "refId": reference, "fromHash": object(before),
        "toHash": object(after), "type": change,
    }))
}

/// The commit of a push to a branch.
fn commit(provider_event: &ProviderEvent, person: &Value) -> Option<Value> {
    let ProviderEvent::Reference { reference, after: Some(id), message, .. } = provider_event else { return None };
    let commit = json!({"id": id, "displayId": &id[..11], "author": person, "committer": person, "message": message, "parents": []});
    reference.starts_with("refs/heads/").then_some(commit)
}

fn about_pull_request(
    state: &State,
    repository: &Repository,
    pull_request: &PullRequest,
    change: &Change,
    actor: &Value,
) -> (&'static str, Value) {
    let mut body = json!({"pullRequest": state.pull_request_document(repository, pull_request, actor)});
    let event = match change {
        Change::Opened => "pr:opened",
        Change::SourceMoved(before) => {
            body["previousFromHash"] = json!(before);
            "pr:from_ref_updated"
        }
        Change::Edited => {
            body["previousTitle"] = json!("the title before");
            "pr:modified"
        }
        Change::Merged(commit) => {
            body["pullRequest"]["properties"] = json!({"mergeCommit": {"id": commit, "displayId": &commit[..11]}});
            "pr:merged"
        }
        Change::Closed => "pr:declined",
        Change::Commented(text) => {
            body["comment"] = json!({"id": 62, "version": 0, "text": text, "author": actor, "comments": [], "tasks": []});
            "pr:comment:added"
        }
    };
    (event, body)
}

/// Records the result of a delivery.
pub fn delivered(state: &mut State, delivery: &Delivery, outcome: &Outcome) {
    let (id, now) = (state.number(), state.clock.now());
    let found = state.repository_mut(&delivery.repository);
    let Some(hook) = found.and_then(|found| found.hooks.iter_mut().find(|hook| hook.id.to_string() == delivery.hook)) else { return };
    let (name, description, count) = match outcome {
        Outcome::Answered(status @ 200..=299) => ("SUCCESS", status.to_string(), &mut hook.log.successes),
        Outcome::Answered(status) => ("FAILURE", status.to_string(), &mut hook.log.failures),
        Outcome::Failed(reason) => ("ERROR", reason.clone(), &mut hook.log.errors),
    };
    *count += 1;
    let event = delivery.headers.get(EVENT).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    hook.log.latest.retain(|kept| kept.outcome != name || kept.event != event);
    hook.log.latest.push(Invocation { id, at: now, event, outcome: name, description, url: delivery.url.clone() });
    hook.breaker.hear(outcome.is_success(), now);
}
