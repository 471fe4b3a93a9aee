//! The deliveries of hooks.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::hmac;
use serde_json::{Value, json};

use super::hooks::{Attempt, Hook};
use super::state::{Project, State};
use crate::sim::contents::{Change, ProviderEvent, PullRequest, PullRequestState, ZERO};
use crate::sim::delivery::{Delivery, Outcome};

/// The length of a hook's log; the real one keeps deliveries for seven days.
const LOG_LENGTH: usize = 200;
const PERSON: &str = "Ada Example";

/// The event that requests it, its name in the header, and its body.
struct Message {
    event: &'static str,
    header: &'static str,
    branch: Option<String>,
    body: Value,
}

impl State {
    /// The deliveries of an event by a project's hooks. Disabled hooks silently send nothing.
    pub fn deliveries(&mut self, repository: &str, provider_event: &ProviderEvent) -> Vec<Delivery> {
        let Ok(project) = self.project_at(repository) else { return Vec::new() };
        let id = project.id;
        let Some(message) = self.message(id, provider_event) else { return Vec::new() };
        self.send_to_hooks(id, &message)
    }

    fn send_to_hooks(&mut self, project: u64, message: &Message) -> Vec<Delivery> {
        let (now, chain) = (self.now(), self.uuid());
        let project = self.projects.iter().find(|found| found.id == project).unwrap();
        let wants =
            |hook: &&Hook| hook.events[message.event] && takes(hook, message.branch.as_deref()) && hook.alert_status(now) == "executable";
        let (path, hooks): (String, Vec<Hook>) = (project.path.clone(), project.hooks.iter().filter(wants).cloned().collect());
        hooks.iter().map(|hook| self.delivery(&path, hook, message.header, &message.body, &chain)).collect()
    }

    /// The test delivery of an event, made from the project's data.
    pub fn trial(&mut self, project: u64, hook: &Hook, trigger: &str) -> Option<Delivery> {
        let found = self.projects.iter().find(|found| found.id == project)?;
        let (reference, commit) = found.contents.references.iter().next()?;
        let commit = commit.clone();
        let reference = if trigger == "tag_push_events" { "refs/tags/v1.0.0".to_owned() } else { reference.clone() };
        let provider_event =
            ProviderEvent::Reference { reference, before: Some(commit.clone()), after: Some(commit), message: String::new() };
        let (path, message) = (found.path.clone(), self.message(project, &provider_event)?);
        let chain = self.uuid();
        Some(self.delivery(&path, hook, message.header, &message.body, &chain))
    }

    fn delivery(&mut self, path: &str, hook: &Hook, event: &str, body: &Value, chain: &str) -> Delivery {
        let key = self.uuid();
        let body = match hook.template.as_deref().filter(|template| !template.is_empty()) {
            Some(template) => rendered(template, body),
            None => body.clone(),
        };
        let url = hook.url_variables.iter().fold(hook.url.clone(), |url, (name, value)| url.replace(&format!("{{{name}}}"), value));
        let own = hook
            .custom_headers
            .iter()
            .fold(Delivery::json(path, &hook.id.to_string(), &url, &body), |delivery, (name, value)| delivery.with(name, value));
        let delivery = own
            .with("user-agent", &format!("GitLab/{}", self.release.version))
            .with("x-gitlab-event", event)
            .with("x-gitlab-webhook-uuid", &hook.uuid)
            .with("x-gitlab-instance", &self.web)
            .with("x-gitlab-event-uuid", chain);
        self.proven(if self.release.is_at_least((17, 4)) { delivery.with("idempotency-key", &key) } else { delivery }, hook, &key)
    }

    /// Adds the proofs for which the hook has secrets: token, signature or both.
    fn proven(&self, delivery: Delivery, hook: &Hook, id: &str) -> Delivery {
        let delivery = match &hook.token {
            Some(token) => delivery.with("x-gitlab-token", token),
            None => delivery,
        };
        let Some(key) = hook.signing_key.as_ref().filter(|_| self.release.takes_signing_tokens()) else { return delivery };
        // By the machine's clock, as the receiver judges it: a test moves the provider's clock alone.
        let time = Timestamp::now().as_second();
        let signed = [format!("{id}.{time}.").as_bytes(), &delivery.body].concat();
        let signature = STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &signed));
        delivery.with("webhook-id", id).with("webhook-timestamp", &time.to_string()).with("webhook-signature", &format!("v1,{signature}"))
    }

    /// A delivery of the log again, with the same idempotency key.
    pub fn again(&mut self, project: &str, hook: &Hook, attempt: &Attempt) -> Delivery {
        let event = attempt.headers.get("x-gitlab-event").cloned().unwrap_or_default();
        let chain = attempt.headers.get("x-gitlab-event-uuid").cloned().unwrap_or_default();
        let delivery = self.delivery(project, hook, &event, &attempt.body, &chain);
        match attempt.headers.get("idempotency-key") {
            Some(key) => self.proven(delivery.with("idempotency-key", key), hook, key),
            None => delivery,
        }
    }

    /// Records the result of a delivery.
    pub fn delivered(&mut self, delivery: &Delivery, outcome: &Outcome) {
        let (id, now) = (self.next_id(), self.now());
        let Some(hook) = self.projects.iter_mut().flat_map(|project| &mut project.hooks).find(|hook| hook.id.to_string() == delivery.hook)
        else {
            return;
        };
        let header = |name: &str| delivery.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let redact = |name: &str| matches!(name, "x-gitlab-token" | "webhook-signature") || hook.custom_headers.contains_key(name);
        let headers: BTreeMap<_, _> = (delivery.headers.keys())
            .map(|name| (name.to_string(), if redact(name.as_str()) { "[REDACTED]".to_owned() } else { header(name.as_str()) }))
            .collect();
        let (status, success) = match outcome {
            Outcome::Answered(status) => (status.to_string(), matches!(status, 200..=399)),
            Outcome::Failed(_) => ("internal error".to_owned(), false),
        };
        let trigger = header("x-gitlab-event").to_lowercase().replace(" hook", "").replace(' ', "_") + "_hooks";
        let body = serde_json::from_slice(&delivery.body).unwrap_or_default();
        hook.log.insert(0, Attempt { id, url: delivery.url.clone(), trigger, headers, body, status });
        hook.log.truncate(LOG_LENGTH);
        hook.heard(success, now);
    }

    fn message(&self, project: u64, provider_event: &ProviderEvent) -> Option<Message> {
        let project = self.projects.iter().find(|found| found.id == project)?;
        let described = self.described(project);
        Some(match provider_event {
            ProviderEvent::Reference { reference, before, after, message } => {
                let tag = reference.starts_with("refs/tags/");
                let (event, header, kind) =
                    if tag { ("tag_push_events", "Tag Push Hook", "tag_push") } else { ("push_events", "Push Hook", "push") };
                let commits: Vec<_> = after.iter().filter(|_| !tag).map(|commit| self.commit(project, commit, message)).collect();
                let body = json!({
                    "object_kind": kind, "event_name": kind, "before": before.as_deref().unwrap_or(ZERO), "after": after.as_deref().unwrap_or(ZERO),
                    "ref": reference, "ref_protected": false, "checkout_sha": after, "message": null, "user_id": 2, "user_name": PERSON,
                    "user_username": "ada", "user_email": null, "user_avatar": null, "project_id": project.id, "project": described,
                    "commits": commits, "total_commits_count": commits.len(), "push_options": {}, "repository": repository(&described),
                });
                Message { event, header, branch: reference.strip_prefix("refs/heads/").map(str::to_owned), body }
            }
            ProviderEvent::PullRequest { pull_request, change: Change::Commented(text) } => {
                Message { event: "note_events", header: "Note Hook", branch: None, body: self.note(project, pull_request, text) }
            }
            ProviderEvent::PullRequest { pull_request, change } => {
                let body = self.merge_request(project, pull_request, change);
                Message { event: "merge_requests_events", header: "Merge Request Hook", branch: None, body }
            }
        })
    }

    fn described(&self, project: &Project) -> Value {
        let (namespace, name) = project.path.rsplit_once('/').unwrap_or_default();
        let web = format!("{}/{}", self.web, project.path);
        let (http, ssh) = (format!("{web}.git"), self.ssh_url(project));
        let level = match project.visibility.word() {
            "public" => 20,
            "internal" => 10,
            _ => 0,
        };
        let branch = project.contents.branches().first().map(|_| "main");
        json!({
            "id": project.id, "name": name, "description": null, "web_url": web, "avatar_url": null, "git_ssh_url": ssh, "git_http_url": http,
            "namespace": namespace.rsplit('/').next(), "visibility_level": level, "path_with_namespace": project.path,
            "default_branch": branch, "ci_config_path": null, "homepage": web, "url": ssh, "ssh_url": ssh, "http_url": http,
        })
    }

    fn commit(&self, project: &Project, id: &str, message: &str) -> Value {
        json!({
            "id": id, "message": message, "title": message.lines().next(), "timestamp": self.now().strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string(),
            "url": format!("{}/{}/-/commit/{id}", self.web, project.path), "author": {"name": PERSON, "email": "[REDACTED]"},
            "added": [], "modified": [], "removed": [],
        })
    }

    fn attributes(&self, project: &Project, request: &PullRequest) -> Value {
        let state = match request.state {
            PullRequestState::Open => "opened",
            PullRequestState::Merged => "merged",
            PullRequestState::Closed => "closed",
        };
        let described = self.described(project);
        json!({
            "id": 1000 + request.number, "iid": request.number, "target_branch": request.target, "source_branch": request.source,
            "source_project_id": project.id, "target_project_id": project.id, "author_id": 2, "title": request.title, "description": "",
            "state": state, "draft": false, "merge_status": "can_be_merged", "source": described, "target": described,
            "last_commit": self.commit(project, &request.head, ""),
            "url": format!("{}/{}/-/merge_requests/{}", self.web, project.path, request.number),
        })
    }

    fn merge_request(&self, project: &Project, request: &PullRequest, change: &Change) -> Value {
        let mut attributes = self.attributes(project, request);
        let mut changes = json!({});
        let action = match change {
            Change::Opened => "open",
            Change::SourceMoved(before) => {
                attributes["oldrev"] = json!(before);
                "update"
            }
            Change::Edited | Change::Commented(_) => {
                changes["title"] = json!({"previous": "", "current": request.title});
                "update"
            }
            Change::Merged(commit) => {
                attributes["merge_commit_sha"] = json!(commit);
                "merge"
            }
            Change::Closed => "close",
        };
        attributes["action"] = json!(action);
        let described = self.described(project);
        json!({
            "object_kind": "merge_request", "event_type": "merge_request", "user": person(), "project": described,
            "object_attributes": attributes, "labels": [], "changes": changes, "repository": repository(&described),
        })
    }

    fn note(&self, project: &Project, request: &PullRequest, text: &str) -> Value {
        let described = self.described(project);
        let url = format!("{}/{}/-/merge_requests/{}#note_1", self.web, project.path, request.number);
        json!({
            "object_kind": "note", "event_type": "note", "user": person(), "project_id": project.id, "project": described,
            "object_attributes": {
                "id": 1, "note": text, "noteable_type": "MergeRequest", "noteable_id": 1000 + request.number, "author_id": 2,
                "project_id": project.id, "system": false, "action": "create", "url": url,
            },
            "merge_request": self.attributes(project, request), "repository": repository(&described),
        })
    }
}

fn person() -> Value {
    json!({"id": 2, "name": PERSON, "username": "ada", "avatar_url": null, "email": "[REDACTED]"})
}

fn repository(described: &Value) -> Value {
    let names = ["name", "url", "description", "homepage", "git_http_url", "git_ssh_url", "visibility_level"];
    names.into_iter().map(|name| (name.to_owned(), described[name].clone())).collect::<serde_json::Map<_, _>>().into()
}

/// Whether a hook's branch filter accepts a push.
fn takes(hook: &Hook, branch: Option<&str>) -> bool {
    let (Some(branch), Some(filter)) = (branch, hook.branch_filter.as_deref().filter(|filter| !filter.is_empty())) else { return true };
    match (hook.branch_strategy.as_str(), filter.split_once('*')) {
        ("wildcard", Some((start, end))) => branch.starts_with(start) && branch.ends_with(end),
        ("wildcard", None) => branch == filter,
        // Enough of regular expressions for a filter that a person sets.
        _ => branch.contains(filter.trim_start_matches('^').trim_end_matches('$')),
    }
}

/// A template with its `{{a.b}}` replaced; a result that is not JSON is sent as text.
fn rendered(template: &str, body: &Value) -> Value {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, tail) = after.split_once("}}").unwrap_or((after, ""));
        let value = body.pointer(&format!("/{}", name.trim().replace('.', "/"))).cloned().unwrap_or_default();
        text += before;
        text += &value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        rest = tail;
    }
    serde_json::from_str(&(text + rest)).unwrap_or_else(|_| json!({"text": template}))
}
