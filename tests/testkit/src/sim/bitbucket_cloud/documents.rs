//! The API's documents.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::super::contents::{PullRequest, PullRequestState};
use super::super::message::Response;
use super::API;
use super::hooks::Hook;
use super::state::{Repository, State, User};

/// A time in documents: with microseconds, which many clients demand.
const DATE: &str = "2026-11-20T12:00:00.123456+00:00";
/// A time of a webhook, which has another form.
const HOOK_DATE: &str = "2026-11-20T12:00:00.123456Z";
/// A time of a commit, which git records in seconds.
const COMMIT_DATE: &str = "2026-11-20T12:00:00+00:00";

/// The message for a repository that does not exist, and for a hidden one.
pub const HIDDEN: &str = "You may not have access to this repository or it no longer exists in this workspace. If you think this \
                          repository exists and you have access, make sure you are authenticated.";

pub fn error(status: u16, message: &str) -> Response {
    Response::json(status, &json!({"type": "error", "error": {"message": message}}))
}

/// The refusal of invalid input, with the field.
pub fn bad_request(field: &str, text: &str) -> Response {
    Response::json(400, &json!({"type": "error", "error": {"message": "Bad request", "fields": {field: [text]}}}))
}

pub fn token_invalid() -> Response {
    let challenge = "Basic realm=\"Bitbucket.org HTTP\"";
    error(401, "Token is invalid, expired, or not supported for this endpoint.").with("www-authenticate", challenge)
}

/// The refusal of a user name and password.
pub fn login_failed() -> Response {
    let text = "Login failed due to incorrect login credentials or method.";
    Response::text(401, "text/plain; charset=utf-8", text).with("www-authenticate", "Basic realm=\"Bitbucket.org HTTP\"")
}

/// The refusal of a credential that lacks scopes, with their names.
pub fn scopes_missing(required: &[&str], granted: &[String]) -> Response {
    let message = "Your credentials lack one or more required privilege scopes.";
    let detail = json!({"required": required, "granted": granted});
    Response::json(403, &json!({"type": "error", "error": {"message": message, "detail": detail}}))
}

/// The refusal to show a repository.
pub fn no_repository(status: u16) -> Response {
    error(status, HIDDEN)
}

/// The refusal of a removed operation.
pub fn removed() -> Response {
    let data = json!({"announcement_url": "https://developer.atlassian.com/cloud/bitbucket/changelog/#CHANGE-2770"});
    let error = json!({"message": "CHANGE-2770 - Functionality has been deprecated", "data": data});
    Response::json(410, &json!({"type": "error", "error": error}))
}

fn link(href: &str) -> Value {
    json!({"href": href})
}

/// A uuid in a path.
fn encoded(uuid: &str) -> String {
    utf8_percent_encode(uuid, NON_ALPHANUMERIC).to_string().replace("%2D", "-")
}

impl State {
    fn api(&self, path: &str) -> String {
        format!("{}{API}{path}", self.url)
    }

    pub fn user_document(&self, user: &User) -> Value {
        let uuid = encoded(&user.uuid);
        json!({
            "type": "user", "uuid": user.uuid, "account_id": format!("557058:{}", user.uuid.trim_matches(['{', '}'])),
            "username": user.name, "nickname": user.name, "display_name": user.name, "account_status": "active",
            "created_on": DATE,
            "links": {
                "self": link(&self.api(&format!("/users/{uuid}"))),
                "html": link(&format!("{}/{uuid}/", self.url)),
                "avatar": link(&format!("{}/avatar/{uuid}", self.url)),
                "repositories": link(&self.api(&format!("/repositories/{uuid}"))),
            },
        })
    }

    /// A workspace inside other documents.
    fn short_workspace_document(&self, slug: &str) -> Value {
        let uuid = self.workspace(slug).map(|workspace| workspace.uuid.clone()).unwrap_or_default();
        let links = json!({
            "self": link(&self.api(&format!("/workspaces/{slug}"))),
            "html": link(&format!("{}/{slug}/", self.url)),
            "avatar": link(&format!("{}/workspaces/{slug}/avatar/", self.url)),
        });
        json!({"type": "workspace", "uuid": uuid, "slug": slug, "name": slug, "links": links})
    }

    pub fn workspace_document(&self, slug: &str) -> Value {
        let mut document = self.short_workspace_document(slug);
        document["is_private"] = json!(true);
        document["created_on"] = json!(DATE);
        for name in ["members", "projects", "snippets"] {
            document["links"][name] = link(&self.api(&format!("/workspaces/{slug}/{name}")));
        }
        document["links"]["owners"] = link(&self.api(&format!("/workspaces/{slug}/members?q=permission%3D%22owner%22")));
        document["links"]["repositories"] = link(&self.api(&format!("/repositories/{slug}")));
        document
    }

    fn project_document(&self, repository: &Repository) -> Value {
        let (workspace, key) = (&repository.workspace, &repository.project);
        let found = self.workspace(workspace).and_then(|found| found.projects.iter().find(|project| project.key == *key));
        let html = format!("{}/{workspace}/workspace/projects/{key}", self.url);
        let links = json!({
            "self": link(&self.api(&format!("/workspaces/{workspace}/projects/{key}"))),
            "html": link(&html),
            "avatar": link(&format!("{html}/avatar/32")),
        });
        json!({"type": "project", "uuid": found.map(|project| project.uuid.as_str()), "key": key, "name": key, "links": links})
    }

    /// A repository inside other documents.
    pub fn short_repository_document(&self, repository: &Repository) -> Value {
        let path = repository.path();
        json!({
            "type": "repository", "uuid": repository.uuid, "name": repository.slug, "full_name": path,
            "links": {
                "self": link(&self.api(&format!("/repositories/{path}"))),
                "html": link(&format!("{}/{path}", self.url)),
                "avatar": link(&format!("{}/ravatar/{}", self.url, encoded(&repository.uuid))),
            },
        })
    }

    pub fn repository_document(&self, repository: &Repository) -> Value {
        let path = repository.path();
        let authority = self.url.trim_start_matches("http://");
        let host = authority.split(':').next().unwrap_or_default();
        let created = format!("2026-01-01T{:02}:{:02}:00.654321+00:00", repository.number / 60, repository.number % 60);
        let workspace = self.workspace(&repository.workspace).map(|workspace| workspace.uuid.clone());
        let slug = &repository.workspace;
        let links = json!({
            "self": link(&self.api(&format!("/workspaces/{slug}"))), "html": link(&format!("{}/{slug}/", self.url)),
            "avatar": link(&format!("{}/workspaces/{slug}/avatar/", self.url)),
        });
        let owner = json!({"type": "team", "uuid": workspace, "display_name": slug, "username": slug, "links": links});
        let mut document = self.short_repository_document(repository);
        let mainbranch = if repository.contents.is_empty() { Value::Null } else { json!({"type": "branch", "name": "main"}) };
        let more = json!({
            "slug": repository.slug, "is_private": repository.private, "scm": "git", "description": "", "language": "",
            "size": if repository.contents.is_empty() { 0 } else { 12345 }, "has_issues": false, "has_wiki": false,
            "fork_policy": "no_public_forks", "created_on": created, "updated_on": DATE, "website": null, "parent": null,
            "mainbranch": mainbranch, "owner": owner, "project": self.project_document(repository),
            "workspace": self.short_workspace_document(&repository.workspace),
        });
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        for name in ["commits", "downloads", "forks", "hooks", "pullrequests", "watchers"] {
            document["links"][name] = link(&self.api(&format!("/repositories/{path}/{name}")));
        }
        // The clone address contains the caller's name; here it is always the same account.
        document["links"]["clone"] = json!([
            {"name": "https", "href": format!("http://forgebind@{authority}/{path}.git")},
            {"name": "ssh", "href": format!("git@{host}:{path}.git")},
        ]);
        document
    }

    pub fn hook_document(&self, repository: &Repository, hook: &Hook) -> Value {
        let own = self.api(&format!("/repositories/{}/hooks/{}", repository.path(), encoded(&hook.uuid)));
        json!({
            "type": "webhook_subscription", "uuid": hook.uuid, "url": hook.url, "description": hook.description,
            "subject_type": "repository", "subject": self.short_repository_document(repository), "active": hook.active,
            "created_at": HOOK_DATE, "events": hook.events, "secret_set": hook.secret.is_some(),
            "skip_cert_verification": hook.skip_cert_verification, "history_enabled": false, "read_only": null, "source": null,
            "links": {"self": link(&own)},
        })
    }

    pub fn commit_document(&self, repository: &Repository, hash: &str, message: &str) -> Value {
        let path = repository.path();
        json!({
            "type": "commit", "hash": hash, "date": COMMIT_DATE, "message": message,
            "author": {"type": "author", "raw": "Ada <ada@acme.example>"},
            "parents": [],
            "links": {
                "self": link(&self.api(&format!("/repositories/{path}/commit/{hash}"))),
                "html": link(&format!("{}/{path}/commits/{hash}", self.url)),
            },
        })
    }

    /// A branch or a tag, for the API and for pushes.
    pub fn reference_document(&self, repository: &Repository, kind: &str, name: &str, target: &Value) -> Value {
        let path = repository.path();
        let (list, page) = if kind == "tag" { ("tags", "commits/tag") } else { ("branches", "branch") };
        json!({
            "type": kind, "name": name, "target": target,
            "links": {
                "self": link(&self.api(&format!("/repositories/{path}/refs/{list}/{name}"))),
                "html": link(&format!("{}/{path}/{page}/{name}", self.url)),
            },
        })
    }

    pub fn branch_document(&self, repository: &Repository, name: &str) -> Option<Value> {
        let hash = repository.contents.branch(name)?;
        let mut target = self.commit_document(repository, hash, "");
        target.as_object_mut()?.remove("links");
        Some(self.reference_document(repository, "branch", name, &target))
    }

    pub fn pull_request_document(&self, repository: &Repository, pull_request: &PullRequest, author: &Value) -> Value {
        let path = repository.path();
        let end = |branch: &str, hash: Option<&str>| {
            // This document has the first twelve digits of a commit.
            let commit = hash.map(|hash| json!({"type": "commit", "hash": &hash[..12]}));
            json!({"branch": {"name": branch}, "commit": commit, "repository": self.short_repository_document(repository)})
        };
        let state = match pull_request.state {
            PullRequestState::Open => "OPEN",
            PullRequestState::Merged => "MERGED",
            PullRequestState::Closed => "DECLINED",
        };
        json!({
            "type": "pullrequest", "id": pull_request.number, "title": pull_request.title, "description": "", "state": state,
            "draft": false, "author": author, "merge_commit": null, "close_source_branch": false, "closed_by": null, "reason": "",
            "source": end(&pull_request.source, Some(&pull_request.head)),
            "destination": end(&pull_request.target, repository.contents.branch(&pull_request.target)),
            "comment_count": 0, "task_count": 0, "participants": [], "reviewers": [], "created_on": DATE, "updated_on": DATE,
            "links": {
                "self": link(&self.api(&format!("/repositories/{path}/pullrequests/{}", pull_request.number))),
                "html": link(&format!("{}/{path}/pull-requests/{}", self.url, pull_request.number)),
            },
        })
    }
}
