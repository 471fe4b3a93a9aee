//! Webhooks of a repository: their documents, validation, and the results of their deliveries.

use std::collections::BTreeSet;

use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::super::message::{Request, Response};
use super::super::targets;
use super::breaker::Breaker;
use super::state::{Repository, State};
use super::{deliveries, documents};

/// The events that version 9.4 knows.
const EVENTS: [&str; 24] = [
    "mirror:repo_synchronized",
    "pr:comment:added",
    "pr:comment:deleted",
    "pr:comment:edited",
    "pr:declined",
    "pr:deleted",
    "pr:from_ref_updated",
    "pr:merged",
    "pr:modified",
    "pr:opened",
    "pr:reviewer:approved",
    "pr:reviewer:changes_requested",
    "pr:reviewer:needs_work",
    "pr:reviewer:unapproved",
    "pr:reviewer:updated",
    "pr:to_ref_updated",
    "project:modified",
    "repo:comment:added",
    "repo:comment:deleted",
    "repo:comment:edited",
    "repo:forked",
    "repo:modified",
    "repo:refs_changed",
    "repo:secret_detected",
];
const LONGEST_SECRET: usize = 255;
const NOW: i64 = 1_795_176_000_000;

#[derive(Clone, Debug)]
pub struct Hook {
    pub id: u64,
    pub name: String,
    pub url: String,
    pub active: bool,
    pub events: Vec<String>,
    pub configuration: Map<String, Value>,
    pub credentials: Option<(String, String)>,
    pub verifies_certificates: bool,
    pub breaker: Breaker,
    pub log: Log,
}

/// The results of the deliveries of a webhook.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub successes: u64,
    pub failures: u64,
    pub errors: u64,
    /// The latest of each outcome.
    pub latest: Vec<Invocation>,
}

/// A delivery in the log.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub id: u64,
    pub at: Timestamp,
    pub event: String,
    /// `SUCCESS`, `FAILURE` or `ERROR`.
    pub outcome: &'static str,
    pub description: String,
    pub url: String,
}

impl Hook {
    /// A webhook that a person created.
    pub fn of_somebody_else(id: u64, url: &str) -> Self {
        let document = json!({"name": "ci", "url": url, "events": ["repo:refs_changed"], "configuration": {"secret": "theirs-alone"}});
        Self::from_document(id, &document).unwrap()
    }

    /// The secret that deliveries are signed with.
    pub fn secret(&self) -> Option<&str> {
        self.configuration.get("secret").and_then(Value::as_str)
    }

    fn from_document(id: u64, document: &Value) -> Result<Self, Box<Response>> {
        let invalid = |context: &str, message: &str| Err(Box::new(documents::error(400, Some(context), None, message)));
        let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
        let (name, url) = (text("name"), text("url"));
        if name.is_empty() {
            return invalid("name", "A name is required.");
        }
        if !targets::is_web_address(&url) {
            return invalid("url", "The URL is not valid.");
        }
        let events: BTreeSet<&str> = document["events"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if events.is_empty() {
            return invalid("events", "At least one event is required.");
        }
        if let Some(unknown) = events.iter().find(|event| !EVENTS.contains(event)) {
            return invalid("events", &format!("{unknown} is not a known event."));
        }
        let configuration = document["configuration"].as_object().cloned().unwrap_or_default();
        match configuration.get("secret").and_then(Value::as_str) {
            Some("") => return Err(Box::new(documents::error(500, None, None, "An error occurred while processing the request."))),
            Some(secret) if secret.chars().count() > LONGEST_SECRET => return invalid("configuration", "The secret is too long."),
            _ => {}
        }
        let credential = |name: &str| document["credentials"][name].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            id,
            name,
            url,
            // An update replaces the whole webhook, so an omitted field gets the value of a new one.
            active: document["active"].as_bool().unwrap_or(true),
            events: events.into_iter().map(str::to_owned).collect(),
            configuration,
            credentials: document["credentials"].is_object().then(|| (credential("username"), credential("password"))),
            verifies_certificates: document["sslVerificationRequired"].as_bool().unwrap_or(true),
            breaker: Breaker::default(),
            log: Log::default(),
        })
    }

    fn document(&self, with_statistics: bool) -> Value {
        let mut document = json!({
            "id": self.id, "name": self.name, "createdDate": NOW, "updatedDate": NOW, "events": self.events,
            "configuration": self.configuration, "url": self.url, "active": self.active, "scopeType": "repository",
            "sslVerificationRequired": self.verifies_certificates,
        });
        if let Some((username, _)) = &self.credentials {
            document["credentials"] = json!({"username": username});
        }
        if with_statistics {
            document["statistics"] = self.log.summary();
        }
        document
    }
}

impl Log {
    fn summary(&self) -> Value {
        let last = |outcome: &str| self.latest.iter().find(|found| found.outcome == outcome).map(Invocation::document);
        json!({
            "lastSuccess": last("SUCCESS"), "lastFailure": last("FAILURE"), "lastError": last("ERROR"),
            "counts": {
                "successes": self.successes, "failures": self.failures, "errors": self.errors,
                "window": {"start": NOW, "duration": 86_400_000_i64},
            },
        })
    }

    fn latest(&self, event: Option<&str>, outcome: Option<&str>) -> Option<&Invocation> {
        let fits = |found: &&Invocation| event.is_none_or(|event| found.event == event) && outcome.is_none_or(|name| found.outcome == name);
        self.latest.iter().filter(fits).max_by_key(|found| found.id)
    }
}

impl Invocation {
    fn document(&self) -> Value {
        let start = self.at.as_millisecond();
        json!({
            "id": self.id, "event": self.event, "eventScope": {"type": "repository", "id": "1"}, "start": start, "finish": start + 20,
            "duration": 20, "request": {"method": "POST", "url": self.url},
            "result": {"description": self.description, "outcome": self.outcome},
        })
    }
}

/// Answers below `…/webhooks`. The caller may administer the repository with this path.
pub fn answer(state: &mut State, path: &str, rest: &[&str], request: &Request) -> Response {
    match (&request.method, rest) {
        (&Method::GET, []) => list(state.repository(path).unwrap(), request),
        (&Method::POST, []) => {
            let id = state.number();
            match Hook::from_document(id, &request.json()) {
                Ok(hook) => {
                    let document = hook.document(false);
                    state.repository_mut(path).unwrap().hooks.push(hook);
                    documents::answer(200, &document)
                }
                Err(refusal) => *refusal,
            }
        }
        (&Method::POST, ["test"]) => test(state, path, request),
        (method, [id, rest @ ..]) => one(state.repository_mut(path).unwrap(), method, id, rest, request),
        _ => documents::error(405, None, None, "Method not allowed"),
    }
}

fn list(repository: &Repository, request: &Request) -> Response {
    let told = |hook: &&Hook| request.parameter("event").is_none_or(|event| hook.events.iter().any(|found| found == event));
    let with_statistics = request.parameter("statistics") == Some("true");
    let documents: Vec<_> = repository.hooks.iter().filter(told).map(|hook| hook.document(with_statistics)).collect();
    documents::page(&documents, request.number("start"), request.number("limit"))
}

fn one(repository: &mut Repository, method: &Method, id: &str, rest: &[&str], request: &Request) -> Response {
    let Some(position) = repository.hooks.iter().position(|hook| hook.id.to_string() == id) else { return documents::no_webhook(id) };
    let hook = &mut repository.hooks[position];
    match (method, rest) {
        (&Method::GET, []) => documents::answer(200, &hook.document(request.parameter("statistics") == Some("true"))),
        (&Method::PUT, []) => match Hook::from_document(hook.id, &request.json()) {
            Ok(changed) => {
                *hook = Hook { breaker: hook.breaker.clone(), log: hook.log.clone(), ..changed };
                documents::answer(200, &hook.document(false))
            }
            Err(refusal) => *refusal,
        },
        (&Method::DELETE, []) => {
            repository.hooks.remove(position);
            Response::empty(204)
        }
        (&Method::GET, ["latest"]) => match hook.log.latest(request.parameter("event"), request.parameter("outcome")) {
            Some(found) => documents::answer(200, &found.document()),
            None => Response::empty(204),
        },
        (&Method::GET, ["statistics"]) => documents::answer(200, &hook.log.summary()),
        _ => documents::error(405, None, None, "Method not allowed"),
    }
}

/// Sends the test delivery, which is unsigned even if the webhook has a secret.
fn test(state: &mut State, path: &str, request: &Request) -> Response {
    let hooks = &state.repository(path).unwrap().hooks;
    let known = request.parameter("webhookId").and_then(|id| hooks.iter().find(|hook| hook.id.to_string() == id));
    let url = request.parameter("url").map(str::to_owned).or_else(|| known.map(|hook| hook.url.clone()));
    let Some(url) = url.filter(|url| targets::is_web_address(url)) else {
        return documents::error(400, Some("url"), None, "The URL is not valid.");
    };
    let id = known.map(|hook| hook.id.to_string()).unwrap_or_default();
    let ping = deliveries::ping(state, path, &id, &url);
    state.pending.push(ping);
    documents::answer(200, &json!({}))
}
