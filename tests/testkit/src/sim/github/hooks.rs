//! Hooks of a repository: their documents, creation, changes and logs.

use std::collections::BTreeSet;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::accounts::{Caller, DELETE_HOOKS, READ_HOOKS, WRITE_HOOKS};
use super::apps::refused;
use super::documents::error;
use super::state::State;
use crate::sim::message::{Request, Response};
use crate::sim::targets::{is_private, is_web_address};

/// Events that a hook of a repository may have.
pub const EVENTS: [&str; 24] = [
    "*",
    "check_run",
    "commit_comment",
    "create",
    "delete",
    "deployment",
    "fork",
    "issue_comment",
    "issues",
    "label",
    "member",
    "meta",
    "milestone",
    "page_build",
    "public",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "push",
    "release",
    "repository",
    "star",
    "status",
    "watch",
];
/// The placeholder for a secret that is set.
const MASK: &str = "********";

type Answer = Result<Response, Response>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub url: String,
    pub content_type: String,
    pub insecure_ssl: String,
    pub secret: Option<String>,
}

/// A delivery in a hook's log.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub id: u64,
    pub guid: String,
    pub event: String,
    pub at: Timestamp,
    pub status: u16,
    pub redelivery: bool,
    pub headers: Value,
    pub payload: Value,
    pub url: String,
}

#[derive(Clone, Debug)]
pub struct Hook {
    pub id: u64,
    pub active: bool,
    pub events: BTreeSet<String>,
    pub config: Config,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Latest first.
    pub log: Vec<Attempt>,
}

/// The `config` of a request. It replaces the previous one as a whole: omitted fields are lost.
fn read_config(document: &Value) -> Config {
    let text = |name: &str| match &document[name] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    Config {
        url: text("url").unwrap_or_default(),
        content_type: text("content_type").unwrap_or_else(|| "form".to_owned()),
        insecure_ssl: text("insecure_ssl").unwrap_or_else(|| "0".to_owned()),
        secret: text("secret").filter(|secret| !secret.is_empty()),
    }
}

fn read_events(document: &Value) -> Result<BTreeSet<String>, Response> {
    let events: BTreeSet<String> =
        document.as_array().into_iter().flatten().filter_map(|event| event.as_str().map(str::to_owned)).collect();
    match events.iter().find(|event| !EVENTS.contains(&event.as_str())) {
        Some(unknown) => Err(refused(&format!("{unknown} is not a valid event"))),
        None if events.is_empty() => Ok(["push".to_owned()].into()),
        None => Ok(events),
    }
}

impl Hook {
    pub fn of_somebody(id: u64, url: &str, event: &str, now: Timestamp) -> Self {
        let config = Config { url: url.to_owned(), content_type: "json".to_owned(), insecure_ssl: "0".to_owned(), secret: None };
        Self { id, active: true, events: [event.to_owned()].into(), config, created_at: now, updated_at: now, log: Vec::new() }
    }

    pub fn wants(&self, event: &str) -> bool {
        self.active && (self.events.contains(event) || self.events.contains("*"))
    }

    pub fn document(&self, api: &str, path: &str) -> Value {
        let url = format!("{api}/repos/{path}/hooks/{}", self.id);
        let response = match self.log.first() {
            None => json!({"code": null, "status": "unused", "message": null}),
            Some(Attempt { status: 0, .. }) => json!({"code": 0, "status": "timeout", "message": "timed out"}),
            Some(Attempt { status, .. }) if (200..300).contains(status) => json!({"code": status, "status": "active", "message": "OK"}),
            Some(Attempt { status, .. }) => json!({"code": status, "status": null, "message": format!("Invalid HTTP Response: {status}")}),
        };
        json!({
            "type": "Repository", "id": self.id, "name": "web", "active": self.active, "events": self.events, "config": self.config.document(),
            "updated_at": format!("{:.0}", self.updated_at), "created_at": format!("{:.0}", self.created_at), "url": url,
            "test_url": format!("{url}/test"), "ping_url": format!("{url}/pings"), "deliveries_url": format!("{url}/deliveries"),
            "last_response": response,
        })
    }
}

impl Config {
    fn document(&self) -> Value {
        let mut document = json!({"content_type": self.content_type, "insecure_ssl": self.insecure_ssl, "url": self.url});
        if self.secret.is_some() {
            document["secret"] = json!(MASK);
        }
        document
    }
}

impl Attempt {
    fn document(&self, repository: u64) -> Value {
        let ok = (200..300).contains(&self.status);
        let status = if ok { "OK".to_owned() } else { format!("Invalid HTTP Response: {}", self.status) };
        let action = self.payload["action"].clone();
        json!({
            "id": self.id, "guid": self.guid, "delivered_at": format!("{:.3}", self.at), "redelivery": self.redelivery, "duration": 0.1,
            "status": status, "status_code": self.status, "event": self.event, "action": action, "installation_id": null,
            "repository_id": repository, "throttled_at": null,
        })
    }

    fn whole(&self, repository: u64) -> Value {
        let mut document = self.document(repository);
        document["url"] = json!(self.url);
        document["request"] = json!({"headers": self.headers, "payload": self.payload});
        document["response"] = json!({"headers": {}, "payload": ""});
        document
    }
}

impl State {
    fn hook_document(&self, position: usize, hook: &Hook) -> Value {
        hook.document(&self.api_url(), &self.repositories[position].path())
    }

    /// Answers requests for a repository's hooks. A caller who may not manage them gets 404.
    pub fn hooks(&mut self, request: &Request, caller: &Caller, position: usize, rest: &[&str]) -> Answer {
        let (level, scopes) = match request.method {
            Method::GET => ("read", READ_HOOKS),
            Method::DELETE => ("write", DELETE_HOOKS),
            _ => ("write", WRITE_HOOKS),
        };
        let repository = &self.repositories[position];
        self.may_manage(caller, repository, level, scopes)?;
        if request.method != Method::GET && repository.archived {
            return Err(error(403, "Repository was archived so is read-only."));
        }
        let (id, list) = (repository.id, format!("{}/repositories/{}/hooks", self.release.prefix(), repository.id));
        match (request.method.as_str(), rest) {
            ("GET", []) => {
                let entries: Vec<_> = repository.hooks.iter().map(|hook| self.hook_document(position, hook)).collect();
                return Ok(self.page(request, &entries, &list));
            }
            ("POST", []) => return self.create_hook(&request.json(), position),
            _ => {}
        }
        let [number, rest @ ..] = rest else { return Err(error(404, "Not Found")) };
        let place = repository.hooks.iter().position(|hook| hook.id.to_string() == *number).ok_or_else(|| error(404, "Not Found"))?;
        match (request.method.as_str(), rest) {
            ("GET", []) => Ok(Response::json(200, &self.hook_document(position, &repository.hooks[place]))),
            ("PATCH", []) => self.change_hook(&request.json(), position, place),
            ("DELETE", []) => {
                self.repositories[position].hooks.remove(place);
                Ok(Response::empty(204))
            }
            ("GET", ["config"]) => Ok(Response::json(200, &repository.hooks[place].config.document())),
            ("PATCH", ["config"]) => {
                let mut config = repository.hooks[place].config.document();
                if let Some(secret) = &repository.hooks[place].config.secret {
                    config["secret"] = json!(secret);
                }
                let body = json!({"config": super::with(config, request.json())});
                self.change_hook(&body, position, place)?;
                Ok(Response::json(200, &self.repositories[position].hooks[place].config.document()))
            }
            ("POST", ["pings"]) => {
                let hook = repository.hooks[place].clone();
                let ping = self.ping(position, &hook);
                self.pending.push(ping);
                Ok(Response::empty(204))
            }
            ("POST", ["tests"]) => {
                let (path, hook) = (repository.path(), repository.hooks[place].clone());
                let test = self.test_push(&path, &hook);
                self.pending.extend(test);
                Ok(Response::empty(204))
            }
            ("GET", ["deliveries"]) => {
                let entries: Vec<_> = repository.hooks[place].log.iter().map(|attempt| attempt.document(id)).collect();
                Ok(self.page(request, &entries, &format!("{list}/{number}/deliveries")))
            }
            ("GET", ["deliveries", attempt]) => {
                let found = repository.hooks[place].log.iter().find(|found| found.id.to_string() == *attempt);
                found.map(|found| Response::json(200, &found.whole(id))).ok_or_else(|| error(404, "Not Found"))
            }
            ("POST", ["deliveries", attempt, "attempts"]) => {
                let (path, hook) = (repository.path(), repository.hooks[place].clone());
                let found = hook.log.iter().find(|found| found.id.to_string() == *attempt).ok_or_else(|| error(404, "Not Found"))?;
                let again = Self::again(&path, &hook, found);
                self.pending.push(again);
                Ok(Response::json(202, &json!({})))
            }
            _ => Err(error(404, "Not Found")),
        }
    }

    /// GitHub's reasons to refuse a hook: invalid addresses, duplicates, too many.
    fn check_hook(&self, position: usize, hook: &Hook) -> Result<(), Response> {
        if !is_web_address(&hook.config.url) {
            return Err(refused("config.url is not a valid URL"));
        }
        if !self.allow_local_targets && is_private(&hook.config.url) {
            let host = url::Url::parse(&hook.config.url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
            return Err(refused(&format!("url is not supported because it isn't reachable over the public Internet ({host})")));
        }
        let others: Vec<_> = self.repositories[position].hooks.iter().filter(|other| other.id != hook.id).collect();
        let same = |other: &&&Hook| {
            let config = |hook: &Hook| (hook.config.url.clone(), hook.config.content_type.clone(), hook.config.insecure_ssl.clone());
            config(other) == config(hook) && !other.events.is_disjoint(&hook.events)
        };
        if others.iter().any(|other| same(&other)) {
            return Err(refused("Hook already exists on this repository"));
        }
        let most = self.release.hooks_of_an_event();
        let full = hook.events.iter().find(|event| others.iter().filter(|other| other.events.contains(*event)).count() >= most);
        match full {
            Some(event) => Err(refused(&format!("The \"{event}\" event cannot have more than {most} hooks"))),
            None => Ok(()),
        }
    }

    fn create_hook(&mut self, body: &Value, position: usize) -> Answer {
        if body["name"].as_str().is_some_and(|name| name != "web") {
            return Err(refused("name must be web"));
        }
        let (id, now) = (self.next_id(), self.now());
        let hook = Hook {
            id,
            active: body["active"].as_bool().unwrap_or(true),
            events: read_events(&body["events"])?,
            config: read_config(&body["config"]),
            created_at: now,
            updated_at: now,
            log: Vec::new(),
        };
        self.check_hook(position, &hook)?;
        let document = self.hook_document(position, &hook);
        self.repositories[position].hooks.push(hook.clone());
        let ping = self.ping(position, &hook);
        self.pending.push(ping);
        let location = document["url"].as_str().unwrap_or_default().to_owned();
        Ok(Response::json(201, &document).with("location", &location))
    }

    /// Changes the named fields, but `config` as a whole: an omitted secret is lost.
    fn change_hook(&mut self, body: &Value, position: usize, place: usize) -> Answer {
        let mut hook = self.repositories[position].hooks[place].clone();
        if body["config"].is_object() {
            hook.config = read_config(&body["config"]);
        }
        if body["events"].is_array() {
            hook.events = read_events(&body["events"])?;
        }
        if body["add_events"].is_array() {
            hook.events.extend(read_events(&body["add_events"])?);
        }
        for event in body["remove_events"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            hook.events.remove(event);
        }
        hook.active = body["active"].as_bool().unwrap_or(hook.active);
        self.check_hook(position, &hook)?;
        hook.updated_at = self.now();
        let document = self.hook_document(position, &hook);
        self.repositories[position].hooks[place] = hook;
        Ok(Response::json(200, &document))
    }
}
