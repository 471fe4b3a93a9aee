//! The REST API: callers, visibility and answers.

use http::Method;
use serde_json::{Value, json};

use super::super::message::{Request, Response};
use super::accounts::{Caller, Level};
use super::state::State;
use super::{CONTEXT, documents, git, hooks, lists};

pub fn answer(state: &mut State, request: &Request) -> Response {
    let caller = match state.caller(request) {
        Ok(caller) => caller,
        Err(refusal) if git::is_asked(request) => return git::unauthorized(&refusal),
        Err(refusal) => return state.marked(*refusal, &Caller::anonymous()),
    };
    let now = state.clock.now();
    let limited = state.limit.as_mut().and_then(|limit| limit.take(caller.id, now).err());
    let response = match limited {
        Some(refusal) => *refusal,
        None => by_path(state, &caller, request),
    };
    state.marked(response, &caller)
}

fn by_path(state: &mut State, caller: &Caller, request: &Request) -> Response {
    if git::is_asked(request) {
        return git::answer(state, caller, request);
    }
    let segments = request.below(CONTEXT).unwrap_or_default();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["rest", "api", "latest" | "1.0", rest @ ..] => resource(state, caller, request, rest),
        ["plugins", "servlet", "applinks", "whoami"] => who_asks(state, caller, request),
        ["login"] => Response::page(200, "Log in"),
        // All other pages are for people, who log in first.
        _ => Response::empty(302).with("location", &format!("{}/login?next={}", state.web, request.path)),
    }
}

/// The name of the caller, or nothing for an anonymous one: clients request this if they have no other way to learn it.
fn who_asks(state: &State, caller: &Caller, request: &Request) -> Response {
    match &caller.token {
        Some(_) if !state.release.takes_tokens_everywhere() && request.bearer().is_none() => documents::wrong_password(),
        Some(_) if !state.release.takes_tokens_everywhere() => {
            Response::empty(302).with("location", &format!("{}/login?next={}", state.web, request.path))
        }
        _ => Response::text(200, "text/plain;charset=UTF-8", caller.name.as_deref().unwrap_or_default()),
    }
}

fn resource(state: &mut State, caller: &Caller, request: &Request, rest: &[&str]) -> Response {
    match (&request.method, rest) {
        (&Method::GET, ["application-properties"]) => documents::answer(
            200,
            &json!({
                "version": state.release.version(), "buildNumber": state.release.build(), "buildDate": "1735000000000",
                "displayName": "Bitbucket",
            }),
        ),
        (&Method::GET, ["users", slug]) => user(state, caller, slug),
        // Personal projects have a second address.
        (_, ["users", user, "repos", rest @ ..]) => {
            let key = format!("~{}", user.trim_start_matches('~'));
            let below: Vec<&str> = ["projects", key.as_str(), "repos"].into_iter().chain(rest.iter().copied()).collect();
            resource(state, caller, request, &below)
        }
        (&Method::GET, ["projects"]) => lists::projects(state, caller, request),
        (&Method::GET, ["repos"]) => lists::repositories(state, caller, request),
        (&Method::GET, ["projects", key]) => project(state, caller, key, |state, key| documents::answer(200, &state.project_document(key))),
        (&Method::GET, ["projects", key, "repos"]) => project(state, caller, key, |state, key| {
            let repositories = state.repositories.iter().filter(|repository| repository.project == key);
            let documents: Vec<_> = repositories.map(|repository| state.repository_document(repository)).collect();
            documents::page(&documents, request.number("start"), request.number("limit"))
        }),
        (_, ["projects", key, "repos", slug, rest @ ..]) => repository(state, caller, request, &format!("{key}/{slug}"), rest),
        _ => documents::error(404, None, None, "null for uri"),
    }
}

fn user(state: &State, caller: &Caller, slug: &str) -> Response {
    if caller.name.is_none() {
        return documents::not_permitted();
    }
    match state.users.iter().find(|user| user.name == slug) {
        Some(user) => documents::answer(200, &state.user_document(&user.name, user.id)),
        None => documents::error(404, None, Some("bitbucket.user.NoSuchUserException"), &format!("User {slug} does not exist.")),
    }
}

fn project(state: &State, caller: &Caller, key: &str, show: impl Fn(&State, &str) -> Response) -> Response {
    let Some(project) = state.project(key) else { return documents::no_project(key) };
    if state.project_level(caller, &project.key) < Level::Read { documents::not_permitted() } else { show(state, &project.key) }
}

fn repository(state: &mut State, caller: &Caller, request: &Request, path: &str, rest: &[&str]) -> Response {
    let (key, slug) = path.split_once('/').unwrap_or_default();
    if state.project(key).is_none() {
        return documents::no_project(key);
    }
    let Some(found) = state.repository(path) else { return documents::no_repository(key, slug) };
    let level = state.repository_level(caller, found);
    if level < Level::Read {
        return documents::not_permitted();
    }
    match (&request.method, rest) {
        (&Method::GET, []) => documents::answer(200, &state.repository_document(found)),
        (&Method::GET, ["default-branch"]) => {
            let name = &found.default_branch;
            documents::answer(200, &json!({"id": format!("refs/heads/{name}"), "displayId": name, "type": "BRANCH"}))
        }
        (&Method::GET, ["branches", "default"]) => match found.contents.branch(&found.default_branch) {
            Some(commit) => documents::answer(200, &documents::branch(&found.default_branch, commit, true)),
            None if found.contents.is_empty() => Response::empty(204),
            None => documents::error(404, None, Some("bitbucket.repository.NoDefaultBranchException"), "No default branch is defined"),
        },
        (&Method::GET, ["branches"]) => {
            let documents = branches(found, request.parameter("filterText").unwrap_or_default());
            documents::page(&documents, request.number("start"), request.number("limit"))
        }
        (_, ["webhooks", ..]) if level < Level::Admin => documents::not_permitted(),
        (method, ["webhooks", rest @ ..]) => {
            if found.archived && *method != Method::GET {
                let message = format!("{path} is archived, and cannot be modified.");
                return documents::error(409, None, Some("bitbucket.repository.ArchivedRepositoryException"), &message);
            }
            let path = found.path();
            hooks::answer(state, &path, rest, request)
        }
        _ => documents::error(404, None, None, "null for uri"),
    }
}

/// The branches whose name contains a text, without regard to case.
fn branches(repository: &super::state::Repository, text: &str) -> Vec<Value> {
    let text = text.to_lowercase();
    let names = repository.contents.branches().into_iter().filter(|name| name.to_lowercase().contains(&text));
    let branch =
        |name: &str| documents::branch(name, repository.contents.branch(name).unwrap_or_default(), name == repository.default_branch);
    names.map(branch).collect()
}
