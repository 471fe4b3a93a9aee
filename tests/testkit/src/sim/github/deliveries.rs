//! The deliveries of hooks.

use jiff::Timestamp;
use ring::hmac;
use serde_json::{Value, json};

use super::hooks::{Attempt, Hook};
use super::state::{Repository, State};
use super::{Release, with};
use crate::sim::contents::{Change, ProviderEvent, PullRequest, PullRequestState, ZERO};
use crate::sim::delivery::{Delivery, Outcome};

/// The length of a hook's log; the real one keeps deliveries for days.
const LOG_LENGTH: usize = 200;
/// Used instead of a hook's id for the App's own webhook.
const OF_THE_APP: &str = "app";

/// An event and its body.
struct Message {
    event: &'static str,
    body: Value,
}

/// The target of a delivery, and its secret.
struct Target<'a> {
    hook: &'a str,
    url: &'a str,
    secret: Option<&'a str>,
    form: bool,
    kind: &'static str,
    of: u64,
}

impl State {
    /// The deliveries of an event: those of the repository's hooks, and that of the App's own webhook where it is installed.
    pub fn deliveries(&mut self, repository: &str, provider_event: &ProviderEvent) -> Vec<Delivery> {
        let Some(position) = self.repository_position(repository) else { return Vec::new() };
        let messages = self.messages(&self.repositories[position], provider_event);
        let (path, hooks) = (self.repositories[position].path(), self.repositories[position].hooks.clone());
        let mut deliveries = Vec::new();
        for message in &messages {
            for hook in hooks.iter().filter(|hook| hook.wants(message.event)) {
                deliveries.push(self.hook_delivery(position, hook, message));
            }
            deliveries.extend(self.app_delivery(position, &path, message));
        }
        deliveries
    }

    fn hook_delivery(&mut self, position: usize, hook: &Hook, message: &Message) -> Delivery {
        let (guid, found) = (self.guid(), &self.repositories[position]);
        let id = hook.id.to_string();
        let config = &hook.config;
        let target = Target {
            hook: &id,
            url: &config.url,
            secret: config.secret.as_deref(),
            form: config.content_type == "form",
            kind: "repository",
            of: found.id,
        };
        self.delivery(&found.path(), &target, message.event, &guid, &message.body)
    }

    fn app_delivery(&mut self, position: usize, path: &str, message: &Message) -> Option<Delivery> {
        let (url, secret) = self.app.webhook.clone().filter(|(url, _)| !url.is_empty())?;
        let found = &self.repositories[position];
        let installation =
            self.installations.iter().find(|installation| installation.suspended_at.is_none() && installation.covers(found))?;
        if !self.app.events.contains(&message.event) {
            return None;
        }
        let body =
            with(message.body.clone(), json!({"installation": {"id": installation.id, "node_id": format!("I_{}", installation.id)}}));
        let (guid, of) = (self.guid(), self.app.id);
        let target = Target { hook: OF_THE_APP, url: &url, secret: secret.as_deref(), form: false, kind: "integration", of };
        Some(self.delivery(path, &target, message.event, &guid, &body))
    }

    fn delivery(&self, path: &str, target: &Target<'_>, event: &str, guid: &str, body: &Value) -> Delivery {
        let mut delivery = Delivery::json(path, target.hook, target.url, body);
        if target.form {
            let text = body.to_string();
            delivery.body = url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", &text).finish().into();
            delivery = delivery.with("content-type", "application/x-www-form-urlencoded");
        }
        let delivery = delivery
            .with("accept", "*/*")
            .with("user-agent", "GitHub-Hookshot/044aadd")
            .with("x-github-delivery", guid)
            .with("x-github-event", event)
            .with("x-github-hook-id", target.hook)
            .with("x-github-hook-installation-target-id", &target.of.to_string())
            .with("x-github-hook-installation-target-type", target.kind);
        let delivery = match self.release {
            Release::Server(version) => delivery
                .with("x-github-enterprise-version", version)
                .with("x-github-enterprise-host", self.web.split("://").nth(1).unwrap_or_default()),
            Release::Cloud => delivery,
        };
        match target.secret {
            Some(secret) => proven(delivery, secret),
            None => delivery,
        }
    }

    /// The first delivery to a new hook.
    pub fn ping(&mut self, position: usize, hook: &Hook) -> Delivery {
        let found = &self.repositories[position];
        let body = json!({
            "zen": "Keep it logically awesome.", "hook_id": hook.id, "hook": hook.document(&self.api_url(), &found.path()),
            "repository": self.delivered_repository(found), "sender": self.owner_document("ada"),
        });
        self.hook_delivery(position, hook, &Message { event: "ping", body })
    }

    /// The latest push again, for a hook with the event push.
    pub fn test_push(&mut self, path: &str, hook: &Hook) -> Option<Delivery> {
        let position = self.repository_position(path)?;
        let found = &self.repositories[position];
        let commit = found.contents.branch("main").filter(|_| hook.wants("push"))?.to_owned();
        let message = self.push(found, "refs/heads/main", Some(&commit), Some(&commit), "A test");
        Some(self.hook_delivery(position, hook, &message))
    }

    /// A delivery of the log again, with the same id.
    pub fn again(path: &str, hook: &Hook, attempt: &Attempt) -> Delivery {
        let mut delivery = Delivery::json(path, &hook.id.to_string(), &hook.config.url, &attempt.payload);
        for (name, value) in attempt.headers.as_object().into_iter().flatten() {
            delivery = delivery.with(name, value.as_str().unwrap_or_default());
        }
        delivery.attempt = 1;
        match &hook.config.secret {
            Some(secret) => proven(delivery, secret),
            None => delivery,
        }
    }

    fn sender(&self, repository: &Repository) -> Value {
        let mut surroundings = json!({"repository": self.delivered_repository(repository), "sender": self.owner_document("ada")});
        if self.organizations.iter().any(|found| found.login == repository.owner) {
            surroundings["organization"] = self.owner_document(&repository.owner);
        }
        surroundings
    }

    fn messages(&self, repository: &Repository, provider_event: &ProviderEvent) -> Vec<Message> {
        match provider_event {
            ProviderEvent::Reference { reference, before, after, message } => {
                let push = self.push(repository, reference, before.as_deref(), after.as_deref(), message);
                let named = self.named(repository, reference, before.is_none(), after.is_none());
                named.into_iter().chain([push]).collect()
            }
            ProviderEvent::PullRequest { pull_request, change } => vec![self.about_pull_request(repository, pull_request, change)],
        }
    }

    /// A new or deleted branch or tag has a second event of its own.
    fn named(&self, repository: &Repository, reference: &str, is_new: bool, is_gone: bool) -> Option<Message> {
        let (kind, name) = match reference.strip_prefix("refs/heads/") {
            Some(name) => ("branch", name),
            None => ("tag", reference.strip_prefix("refs/tags/")?),
        };
        let event = match (is_new, is_gone) {
            (true, false) => "create",
            (_, true) => "delete",
            (false, false) => return None,
        };
        let mut body = json!({"ref": name, "ref_type": kind, "pusher_type": "user"});
        if event == "create" {
            body = with(body, json!({"master_branch": "main", "description": null}));
        }
        Some(Message { event, body: with(body, self.sender(repository)) })
    }

    fn push(&self, repository: &Repository, reference: &str, before: Option<&str>, after: Option<&str>, message: &str) -> Message {
        let web = format!("{}/{}", self.web, repository.path());
        let (old, new) = (before.unwrap_or(ZERO), after.unwrap_or(ZERO));
        let person = json!({"name": "ada", "email": "ada@acme.example", "username": "ada"});
        let commit = after.map(|after| {
            json!({
                "id": after, "tree_id": after, "distinct": true, "message": message, "timestamp": "2026-06-01T00:00:00Z",
                "url": format!("{web}/commit/{after}"), "author": person, "committer": person, "added": [], "removed": [], "modified": ["README.md"],
            })
        });
        let commits: Vec<_> = if reference.starts_with("refs/heads/") { commit.clone().into_iter().collect() } else { Vec::new() };
        let body = json!({
            "ref": reference, "before": old, "after": new, "pusher": {"name": "ada", "email": "ada@acme.example"}, "created": before.is_none(),
            "deleted": after.is_none(), "forced": false, "base_ref": null, "compare": format!("{web}/compare/{}...{}", &old[..12], &new[..12]),
            "commits": commits, "head_commit": commit,
        });
        let mut body = with(body, self.sender(repository));
        body["repository"] = self.pushed_repository(repository);
        Message { event: "push", body }
    }

    /// A repository in the form that only pushes have: two of its times are numbers, and its owner has a name.
    fn pushed_repository(&self, repository: &Repository) -> Value {
        let mut document = self.delivered_repository(repository);
        for time in ["created_at", "pushed_at"] {
            let seconds = document[time].as_str().and_then(|text| text.parse::<Timestamp>().ok()).map(Timestamp::as_second);
            document[time] = json!(seconds);
        }
        document["owner"]["name"] = json!(repository.owner);
        document["owner"]["email"] = Value::Null;
        with(document, json!({"master_branch": "main", "stargazers": 0}))
    }

    fn about_pull_request(&self, repository: &Repository, found: &PullRequest, change: &Change) -> Message {
        if let Change::Commented(text) = change {
            return self.comment(repository, found, text);
        }
        let action = match change {
            Change::Opened => "opened",
            Change::SourceMoved(_) => "synchronize",
            Change::Edited => "edited",
            Change::Merged(_) | Change::Closed => "closed",
            Change::Commented(_) => "created",
        };
        let mut body = json!({"action": action, "number": found.number, "pull_request": self.pull_request(repository, found)});
        match change {
            Change::SourceMoved(before) => (body["before"], body["after"]) = (json!(before), json!(found.head)),
            Change::Edited => body["changes"] = json!({"title": {"from": "An earlier title"}}),
            _ => {}
        }
        Message { event: "pull_request", body: with(body, self.sender(repository)) }
    }

    fn pull_request(&self, repository: &Repository, found: &PullRequest) -> Value {
        let (path, merged) = (repository.path(), found.state == PullRequestState::Merged);
        let side = |name: &str, commit: &str| {
            let owner = self.owner_document(&repository.owner);
            json!({"label": format!("{}:{name}", repository.owner), "ref": name, "sha": commit, "user": owner, "repo": self.delivered_repository(repository)})
        };
        let over = (found.state != PullRequestState::Open).then_some("2026-06-01T00:00:00Z");
        json!({
            "url": format!("{}/repos/{path}/pulls/{}", self.api_url(), found.number), "id": 1_000_000 + found.number,
            "node_id": format!("PR_{}", found.number), "html_url": format!("{}/{path}/pull/{}", self.web, found.number), "number": found.number,
            "state": if over.is_some() { "closed" } else { "open" }, "locked": false, "title": found.title, "user": self.owner_document("ada"),
            "body": null, "created_at": "2026-06-01T00:00:00Z", "updated_at": "2026-06-01T00:00:00Z", "closed_at": over,
            "merged_at": over.filter(|_| merged), "merge_commit_sha": null, "draft": false, "labels": [], "merged": merged,
            "head": side(&found.source, &found.head), "base": side(&found.target, repository.contents.branch(&found.target).unwrap_or(ZERO)),
        })
    }

    /// A pull request is also an issue: a comment on the whole pull request is an issue comment.
    fn comment(&self, repository: &Repository, found: &PullRequest, text: &str) -> Message {
        let (path, ada) = (repository.path(), self.owner_document("ada"));
        let (api, web) = (format!("{}/repos/{path}", self.api_url()), format!("{}/{path}/pull/{}", self.web, found.number));
        let issue = json!({
            "url": format!("{api}/issues/{}", found.number), "id": 2_000_000 + found.number, "number": found.number, "title": found.title,
            "user": ada, "state": "open", "comments": 1, "labels": [],
            "pull_request": {"url": format!("{api}/pulls/{}", found.number), "html_url": web, "merged_at": null},
        });
        let comment = json!({
            "id": 1, "url": format!("{api}/issues/comments/1"), "html_url": format!("{web}#issuecomment-1"), "user": ada, "body": text,
            "created_at": "2026-06-01T00:00:00Z", "updated_at": "2026-06-01T00:00:00Z", "author_association": "MEMBER",
        });
        let body = json!({"action": "created", "issue": issue, "comment": comment});
        Message { event: "issue_comment", body: with(body, self.sender(repository)) }
    }

    /// Records the result of a delivery.
    pub fn delivered(&mut self, delivery: &Delivery, outcome: &Outcome) {
        let (id, at) = (self.next_id(), self.now());
        let hooks = self.repositories.iter_mut().flat_map(|found| &mut found.hooks);
        let Some(hook) = hooks.into_iter().find(|hook| hook.id.to_string() == delivery.hook) else { return };
        let header = |name: &str| delivery.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let shown = delivery.headers.keys().filter(|name| !name.as_str().starts_with("x-hub-signature"));
        let headers: serde_json::Map<_, _> = shown.map(|name| (name.to_string(), json!(header(name.as_str())))).collect();
        let payload = serde_json::from_slice(&delivery.body).unwrap_or_default();
        let status = match outcome {
            Outcome::Answered(status) => *status,
            Outcome::Failed(_) => 0,
        };
        let attempt = Attempt {
            id,
            guid: header("x-github-delivery"),
            event: header("x-github-event"),
            at,
            status,
            redelivery: delivery.attempt > 0,
            headers: headers.into(),
            payload,
            url: delivery.url.clone(),
        };
        hook.log.insert(0, attempt);
        hook.log.truncate(LOG_LENGTH);
    }
}

/// Adds both signatures of the body.
fn proven(delivery: Delivery, secret: &str) -> Delivery {
    let signed = |algorithm| hex::encode(hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), &delivery.body));
    let (sha256, sha1) = (signed(hmac::HMAC_SHA256), signed(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY));
    delivery.with("x-hub-signature-256", &format!("sha256={sha256}")).with("x-hub-signature", &format!("sha1={sha1}"))
}
