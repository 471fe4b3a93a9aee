//! The deliveries of webhooks ("Event payloads"), and their retries.

use jiff::SignedDuration;
use ring::hmac;
use serde_json::{Value, json};

use super::super::contents::{Change, ProviderEvent, PullRequest};
use super::super::delivery::{Delivery, Outcome, Retry};
use super::hooks::Hook;
use super::state::{Repository, State};

/// The maximum length of a body, in bytes; a larger one is silently not sent.
const LONGEST_BODY: usize = 256 * 1024;
/// The number of retries after an answer 5xx; a delivery without an answer is not retried
/// (<https://support.atlassian.com/bitbucket-cloud/docs/troubleshoot-webhooks/>).
const RETRIES: u32 = 2;
/// The time before a retry. The present documentation does not state it; this is that of an earlier edition
/// (<https://confluence.atlassian.com/bitbucket/troubleshoot-webhooks-757727842.html>).
const BEFORE_RETRY: SignedDuration = SignedDuration::from_mins(1);
const ATTEMPT: &str = "x-attempt-number";
const ACTOR: &str = "ada";

/// The deliveries of an event by a repository's webhooks. References that were pushed together share one delivery, at the place
/// of the first.
pub fn of(state: &mut State, path: &str, provider_event: &ProviderEvent) -> Vec<Delivery> {
    let Some(provider_events) = told_with(state, provider_event) else { return Vec::new() };
    let (workspace, name) = path.split_once('/').unwrap_or_default();
    let Some(repository) = state.repository(workspace, name) else { return Vec::new() };
    let Some((event, body)) = told(state, repository, &provider_events) else { return Vec::new() };
    let subscribed = |hook: &&Hook| hook.active && hook.events.iter().any(|found| found == event);
    let (path, hooks): (String, Vec<Hook>) = (repository.path(), repository.hooks.iter().filter(subscribed).cloned().collect());
    let deliveries = hooks.iter().map(|hook| signed(state, &path, hook, event, &body));
    deliveries.filter(|delivery| delivery.body.len() <= LONGEST_BODY).collect()
}

/// The events of one delivery; `None` for a reference that an earlier delivery contained.
fn told_with(state: &mut State, provider_event: &ProviderEvent) -> Option<Vec<ProviderEvent>> {
    let Some(position) = state.together.iter().position(|together| together.contains(provider_event)) else {
        return Some(vec![provider_event.clone()]);
    };
    let together = state.together.get(position)?.clone();
    if together.last() == Some(provider_event) {
        state.together.remove(position);
    }
    (together.first() == Some(provider_event)).then_some(together)
}

/// The retry of a delivery that failed because the receiver did not work.
pub fn again(delivery: &Delivery, outcome: &Outcome) -> Option<Retry> {
    let failed = matches!(outcome, Outcome::Answered(500..=599)) && delivery.attempt < RETRIES;
    let again = || delivery.clone().with(ATTEMPT, &(delivery.attempt + 2).to_string());
    failed.then(|| Retry { delivery: again(), after: BEFORE_RETRY })
}

fn signed(state: &mut State, path: &str, hook: &Hook, event: &str, body: &Value) -> Delivery {
    let delivery = Delivery::json(path, &hook.uuid, &hook.url, body)
        .with("content-type", "application/json; charset=UTF-8")
        .with("user-agent", "Bitbucket-Webhooks/2.0")
        .with("x-event-key", event)
        .with("x-hook-uuid", hook.uuid.trim_matches(['{', '}']))
        .with("x-request-uuid", &state.bare_uuid())
        .with(ATTEMPT, "1");
    let Some(secret) = &hook.secret else { return delivery };
    let digest = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), &delivery.body);
    delivery.with("x-hub-signature", &format!("sha256={}", hex::encode(digest)))
}

/// The event key and the document of events.
fn told(state: &State, repository: &Repository, provider_events: &[ProviderEvent]) -> Option<(&'static str, Value)> {
    let actor = state.users.iter().find(|user| user.name == ACTOR).map(|user| state.user_document(user))?;
    let mut body = json!({"actor": actor, "repository": state.repository_document(repository)});
    match provider_events.first()? {
        ProviderEvent::Reference { .. } => {
            let changes: Vec<Value> =
                provider_events.iter().filter_map(|provider_event| changed(state, repository, provider_event)).collect();
            body["push"] = json!({"changes": changes});
            Some(("repo:push", body))
        }
        ProviderEvent::PullRequest { pull_request, change } => {
            let event = about_pull_request(state, repository, pull_request, change, &mut body);
            Some((event, body))
        }
    }
}

fn changed(state: &State, repository: &Repository, provider_event: &ProviderEvent) -> Option<Value> {
    let ProviderEvent::Reference { reference, before, after, message } = provider_event else { return None };
    let (kind, name) = match reference.strip_prefix("refs/tags/") {
        Some(tag) => ("tag", tag),
        None => ("branch", reference.strip_prefix("refs/heads/")?),
    };
    let commit = |hash: &String, message: &str| state.commit_document(repository, hash, message);
    let (old, new) = (before.as_ref().map(|hash| commit(hash, "")), after.as_ref().map(|hash| commit(hash, message)));
    let end = |target: &Option<Value>| target.as_ref().map(|target| state.reference_document(repository, kind, name, target));
    Some(json!({
        "old": end(&old), "new": end(&new), "created": before.is_none(), "closed": after.is_none(),
        "forced": false, "truncated": false, "commits": new.iter().collect::<Vec<_>>(), "links": {},
    }))
}

fn about_pull_request(
    state: &State,
    repository: &Repository,
    pull_request: &PullRequest,
    change: &Change,
    body: &mut Value,
) -> &'static str {
    let actor = body["actor"].clone();
    let mut document = state.pull_request_document(repository, pull_request, &actor);
    let event = match change {
        Change::Opened => "pullrequest:created",
        // Both have the same message, and nothing in it tells them apart.
        Change::SourceMoved(_) | Change::Edited => "pullrequest:updated",
        Change::Merged(commit) => {
            document["merge_commit"] = json!({"type": "commit", "hash": &commit[..12]});
            document["closed_by"] = actor;
            "pullrequest:fulfilled"
        }
        Change::Closed => {
            document["closed_by"] = actor;
            "pullrequest:rejected"
        }
        Change::Commented(text) => {
            body["comment"] = json!({
                "type": "pullrequest_comment", "id": 41, "user": actor, "deleted": false, "pending": false,
                "content": {"type": "rendered", "raw": text, "markup": "markdown", "html": format!("<p>{text}</p>")},
                "pullrequest": {"type": "pullrequest", "id": pull_request.number, "title": pull_request.title},
            });
            "pullrequest:comment_created"
        }
    };
    body["pullrequest"] = document;
    event
}
