//! Webhooks of repositories ("Webhooks" of the REST API).

use http::Method;
use serde_json::Value;

use super::super::message::{Request, Response};
use super::super::targets;
use super::credentials::{Caller, Scopes};
use super::repositories::shown;
use super::state::{Level, State};
use super::{MOST_HOOKS, api, documents};

/// The maximum length of a secret, in characters.
const LONGEST_SECRET: usize = 128;

/// The repository events that a webhook may have.
const EVENTS: [&str; 26] = [
    "pullrequest:approved",
    "pullrequest:changes_request_created",
    "pullrequest:changes_request_removed",
    "pullrequest:comment_created",
    "pullrequest:comment_deleted",
    "pullrequest:comment_reopened",
    "pullrequest:comment_resolved",
    "pullrequest:comment_updated",
    "pullrequest:created",
    "pullrequest:fulfilled",
    "pullrequest:push",
    "pullrequest:rejected",
    "pullrequest:unapproved",
    "pullrequest:updated",
    "project:updated",
    "pipeline:span_created",
    "repo:commit_comment_created",
    "repo:commit_status_created",
    "repo:commit_status_updated",
    "repo:created",
    "repo:deleted",
    "repo:fork",
    "repo:imported",
    "repo:push",
    "repo:transfer",
    "repo:updated",
];

#[derive(Clone, Debug)]
pub struct Hook {
    pub uuid: String,
    pub url: String,
    pub description: String,
    pub active: bool,
    pub events: Vec<String>,
    pub secret: Option<String>,
    pub skip_cert_verification: bool,
}

impl Hook {
    /// A webhook that a person created.
    pub fn of_somebody_else(uuid: String, url: &str) -> Self {
        Self {
            uuid,
            url: url.to_owned(),
            description: "CI".to_owned(),
            active: true,
            events: vec!["repo:push".to_owned()],
            secret: None,
            skip_cert_verification: false,
        }
    }
}

/// A requested change of a webhook's secret.
enum SecretWish {
    Keep,
    Remove,
    Set(String),
}

/// A requested webhook.
struct Wish {
    url: String,
    description: Option<String>,
    active: Option<bool>,
    events: Vec<String>,
    secret: SecretWish,
    skip_cert_verification: Option<bool>,
}

impl Wish {
    fn read(document: &Value, allow_local_targets: bool) -> Result<Self, Box<Response>> {
        let url = document["url"].as_str().ok_or_else(|| Box::new(documents::bad_request("url", "This field is required.")))?;
        if !targets::is_web_address(url) {
            return Err(documents::bad_request("url", "Enter a valid URL.").into());
        }
        if !allow_local_targets && targets::is_private(url) {
            return Err(documents::bad_request("url", "The URL must be publicly resolvable.").into());
        }
        let events: Vec<String> = serde_json::from_value(document["events"].clone()).unwrap_or_default();
        if events.is_empty() {
            return Err(documents::bad_request("events", "This field is required.").into());
        }
        if !events.iter().all(|event| EVENTS.contains(&event.as_str())) {
            return Err(documents::bad_request("events", "Value is not a valid choice.").into());
        }
        let secret = match document.get("secret") {
            None => SecretWish::Keep,
            Some(secret) => match secret.as_str().filter(|secret| !secret.is_empty()) {
                None => SecretWish::Remove,
                Some(secret) if secret.chars().count() > LONGEST_SECRET => {
                    return Err(documents::bad_request("secret", "Ensure this field has no more than 128 characters.").into());
                }
                Some(secret) => SecretWish::Set(secret.to_owned()),
            },
        };
        if document.get("skip_cert_verification").is_some_and(Value::is_null) {
            return Err(documents::bad_request("skip_cert_verification", "This field may not be null.").into());
        }
        Ok(Self {
            url: url.to_owned(),
            description: document["description"].as_str().map(str::to_owned),
            active: document["active"].as_bool(),
            events,
            secret,
            skip_cert_verification: document["skip_cert_verification"].as_bool(),
        })
    }

    /// The scopes that the events need.
    fn scopes(&self) -> Scopes {
        if self.events.iter().any(|event| event.starts_with("pullrequest:")) {
            Scopes { access_token: &["repository", "pullrequest"], api_token: &["read:repository:bitbucket", "read:pullrequest:bitbucket"] }
        } else {
            Scopes { access_token: &["repository"], api_token: &["read:repository:bitbucket"] }
        }
    }

    fn settle(self, hook: &mut Hook) {
        hook.url = self.url;
        hook.events = self.events;
        hook.description = self.description.unwrap_or_else(|| std::mem::take(&mut hook.description));
        hook.active = self.active.unwrap_or(hook.active);
        match self.secret {
            SecretWish::Keep => {}
            SecretWish::Remove => hook.secret = None,
            SecretWish::Set(secret) => hook.secret = Some(secret),
        }
        hook.skip_cert_verification = self.skip_cert_verification.unwrap_or(hook.skip_cert_verification);
    }
}

/// Answers requests for the webhooks of a repository, or one of them.
pub fn answer(state: &mut State, caller: &Caller, request: &Request, (workspace, name): (&str, &str), rest: &[&str]) -> Response {
    let path = match shown(state, caller, workspace, name) {
        Err(refusal) => return *refusal,
        Ok(found) if state.level(caller, found) < Level::Admin => {
            return documents::error(403, "Access denied. You must have admin access.");
        }
        Ok(found) => found.path(),
    };
    match (&request.method, rest) {
        (&Method::GET, []) => list(state, request, &path),
        (&Method::POST, []) => create(state, caller, request, &path),
        (&Method::GET, [uuid]) => look_up(state, &path, uuid, 200),
        (&Method::PUT, [uuid]) => update(state, caller, request, &path, uuid),
        (&Method::DELETE, [uuid]) => delete(state, &path, uuid),
        _ => documents::error(405, "Method not allowed"),
    }
}

fn no_hook() -> Response {
    documents::error(404, "The requested webhook does not exist.")
}

fn list(state: &mut State, request: &Request, path: &str) -> Response {
    let (workspace, name) = path.split_once('/').unwrap_or_default();
    let Some(found) = state.repository(workspace, name) else { return no_hook() };
    let documents: Vec<Value> = found.hooks.iter().map(|hook| state.hook_document(found, hook)).collect();
    api::page(state, request, &documents)
}

fn look_up(state: &State, path: &str, uuid: &str, status: u16) -> Response {
    let (workspace, name) = path.split_once('/').unwrap_or_default();
    let Some(found) = state.repository(workspace, name) else { return no_hook() };
    let Some(hook) = found.hooks.iter().find(|hook| hook.uuid == uuid) else { return no_hook() };
    let document = state.hook_document(found, hook);
    let own = document["links"]["self"]["href"].as_str().unwrap_or_default().to_owned();
    let response = Response::json(status, &document);
    if status == 201 { response.with("location", &own) } else { response }
}

fn wish(state: &State, caller: &Caller, request: &Request) -> Result<Wish, Box<Response>> {
    let wish = Wish::read(&request.json(), state.allow_local_targets)?;
    match caller.lacks(wish.scopes()) {
        Some(refusal) => Err(refusal.into()),
        None => Ok(wish),
    }
}

fn create(state: &mut State, caller: &Caller, request: &Request, path: &str) -> Response {
    let wish = match wish(state, caller, request) {
        Ok(wish) => wish,
        Err(refusal) => return *refusal,
    };
    let uuid = state.uuid();
    let Some(repository) = state.at(path) else { return no_hook() };
    if repository.hooks.len() >= MOST_HOOKS {
        return documents::error(400, &format!("A repository can have at most {MOST_HOOKS} webhooks."));
    }
    let mut hook = Hook { description: String::new(), ..Hook::of_somebody_else(uuid.clone(), "") };
    wish.settle(&mut hook);
    repository.hooks.push(hook);
    look_up(state, path, &uuid, 201)
}

fn update(state: &mut State, caller: &Caller, request: &Request, path: &str, uuid: &str) -> Response {
    let wish = match wish(state, caller, request) {
        Ok(wish) => wish,
        Err(refusal) => return *refusal,
    };
    let found = state.at(path).and_then(|repository| repository.hooks.iter_mut().find(|hook| hook.uuid == uuid));
    let Some(hook) = found else { return no_hook() };
    wish.settle(hook);
    look_up(state, path, uuid, 200)
}

fn delete(state: &mut State, path: &str, uuid: &str) -> Response {
    let Some(repository) = state.at(path) else { return no_hook() };
    let before = repository.hooks.len();
    repository.hooks.retain(|hook| hook.uuid != uuid);
    if repository.hooks.len() < before { Response::empty(204) } else { no_hook() }
}
