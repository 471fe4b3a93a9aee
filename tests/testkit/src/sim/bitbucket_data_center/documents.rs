//! The JSON documents.

use serde_json::{Value, json};

use super::super::contents::{PullRequest, PullRequestState};
use super::super::message::Response;
use super::state::{Repository, State};

/// The content type of every document.
const JSON: &str = "application/json;charset=UTF-8";
/// The default length of a page.
const PAGE: usize = 25;
/// The maximum length of a page that the administrator allows.
const LONGEST_PAGE: usize = 50;

pub fn answer(status: u16, document: &Value) -> Response {
    Response::text(status, JSON, &document.to_string())
}

pub fn error(status: u16, context: Option<&str>, exception: Option<&str>, message: &str) -> Response {
    let exception = exception.map(|name| format!("com.atlassian.{name}"));
    answer(status, &json!({"errors": [{"context": context, "message": message, "exceptionName": exception}]}))
}

pub fn wrong_password() -> Response {
    let message = "Authentication failed. Please check your credentials and try again.";
    error(401, None, Some("bitbucket.auth.IncorrectPasswordAuthenticationException"), message)
}

pub fn wrong_token() -> Response {
    let message = "Authentication failed. Please check your credentials and try again.";
    error(401, None, Some("bitbucket.auth.AuthenticationException"), message)
}

pub fn captcha(login: &str) -> Response {
    let message = "CAPTCHA required. Your Bitbucket account has been locked. To unlock it and log in again you must solve a CAPTCHA.";
    error(403, None, Some("bitbucket.auth.CaptchaRequiredAuthenticationException"), message)
        .with("x-authentication-denied-reason", &format!("CAPTCHA_CHALLENGE; login-url={login}"))
}

pub fn not_permitted() -> Response {
    error(401, None, Some("bitbucket.AuthorisationException"), "You are not permitted to access this resource")
}

pub fn no_repository(key: &str, slug: &str) -> Response {
    error(404, None, Some("bitbucket.repository.NoSuchRepositoryException"), &format!("Repository {key}/{slug} does not exist."))
}

pub fn no_project(key: &str) -> Response {
    error(404, None, Some("bitbucket.project.NoSuchProjectException"), &format!("Project {key} does not exist."))
}

pub fn no_webhook(id: &str) -> Response {
    error(404, None, Some("webhooks.NoSuchWebhookException"), &format!("Webhook with ID {id} does not exist"))
}

/// One page of a list.
pub fn page(entries: &[Value], start: Option<usize>, limit: Option<usize>) -> Response {
    let (start, limit) = (start.unwrap_or_default(), limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE));
    let values: Vec<&Value> = entries.iter().skip(start).take(limit).collect();
    let next = start + values.len();
    let is_last = next >= entries.len();
    let mut document = json!({"size": values.len(), "limit": limit, "isLastPage": is_last, "values": values, "start": start});
    if !is_last {
        document["nextPageStart"] = json!(next);
    }
    answer(200, &document)
}

impl State {
    pub fn user_document(&self, name: &str, id: u64) -> Value {
        json!({
            "name": name, "emailAddress": format!("{name}@acme.example"), "active": true, "displayName": name, "id": id, "slug": name,
            "type": "NORMAL", "links": {"self": [{"href": format!("{}/users/{name}", self.web)}]},
        })
    }

    pub fn project_document(&self, key: &str) -> Value {
        let project = self.project(key).unwrap();
        let kind = if key.starts_with('~') { "PERSONAL" } else { "NORMAL" };
        let page = key.strip_prefix('~').map_or_else(|| format!("projects/{key}"), |user| format!("users/{}", user.to_lowercase()));
        json!({
            "key": project.key, "id": project.id, "name": project.name, "public": false, "type": kind,
            "links": {"self": [{"href": format!("{}/{page}", self.web)}]},
        })
    }

    pub fn repository_document(&self, repository: &Repository) -> Value {
        let (key, slug) = (&repository.project, &repository.slug);
        let host = self.web.trim_start_matches("http://").split([':', '/']).next().unwrap_or_default();
        let project = self.project_document(key);
        let page = project["links"]["self"][0]["href"].as_str().unwrap_or_default().to_owned();
        json!({
            "slug": slug, "id": repository.id, "name": repository.name, "hierarchyId": "1f0c9a7e2b7d44105e1d", "scmId": "git",
            "state": "AVAILABLE", "statusMessage": "Available", "forkable": true, "project": project, "public": repository.public,
            "archived": repository.archived,
            "links": {
                "clone": [
                    {"href": format!("ssh://git@{host}:7999/{}/{slug}.git", key.to_lowercase()), "name": "ssh"},
                    {"href": format!("{}/scm/{}/{slug}.git", self.web, key.to_lowercase()), "name": "http"},
                ],
                "self": [{"href": format!("{page}/repos/{slug}/browse")}],
            },
        })
    }

    pub fn pull_request_document(&self, repository: &Repository, pull_request: &PullRequest, actor: &Value) -> Value {
        let document = self.repository_document(repository);
        let reference = |name: &str, commit: &str| json!({"id": format!("refs/heads/{name}"), "displayId": name, "latestCommit": commit, "type": "BRANCH", "repository": document});
        let state = match pull_request.state {
            PullRequestState::Open => "OPEN",
            PullRequestState::Merged => "MERGED",
            PullRequestState::Closed => "DECLINED",
        };
        let open = pull_request.state == PullRequestState::Open;
        let target = repository.contents.branch(&pull_request.target).unwrap_or_default();
        let page = format!("{}/projects/{}/repos/{}/pull-requests/{}", self.web, repository.project, repository.slug, pull_request.number);
        json!({
            "id": pull_request.number, "version": 1, "title": pull_request.title, "state": state, "open": open, "closed": !open,
            "draft": false, "createdDate": 1_795_176_000_000_i64, "updatedDate": 1_795_176_060_000_i64,
            "fromRef": reference(&pull_request.source, &pull_request.head), "toRef": reference(&pull_request.target, target),
            "locked": false, "author": {"user": actor, "role": "AUTHOR", "approved": false, "status": "UNAPPROVED"},
            "reviewers": [], "participants": [], "links": {"self": [{"href": page}]},
        })
    }
}

/// A branch as lists show it.
pub fn branch(name: &str, commit: &str, is_default: bool) -> Value {
    json!({
        "id": format!("refs/heads/{name}"), "displayId": name, "type": "BRANCH", "latestCommit": commit, "latestChangeset": commit,
        "isDefault": is_default,
    })
}
