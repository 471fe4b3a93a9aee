//! The current user, workspaces, repositories and branches.

use serde_json::Value;

use super::super::message::{Request, Response};
use super::credentials::Caller;
use super::state::{Holder, Level, Repository, State};
use super::{api, documents};

pub fn current_user(state: &State, caller: &Caller) -> Response {
    match &caller.holder {
        Some(Holder::User(name)) => match state.users.iter().find(|user| user.name == *name) {
            Some(user) => Response::json(200, &state.user_document(user)),
            None => documents::token_invalid(),
        },
        Some(_) => documents::error(403, "Forbidden"),
        None => documents::token_invalid(),
    }
}

pub fn workspace(state: &State, caller: &Caller, name: &str) -> Response {
    let Some(found) = state.workspace(name) else { return no_workspace(name) };
    let member = match &caller.holder {
        Some(Holder::User(user)) => found.members.iter().any(|(member, _)| member == user),
        Some(Holder::Workspace(slug) | Holder::Project(slug, _)) => *slug == found.slug,
        Some(Holder::Repository(uuid)) => {
            state.repositories.iter().any(|repository| repository.uuid == *uuid && repository.workspace == found.slug)
        }
        None => false,
    };
    if member { Response::json(200, &state.workspace_document(&found.slug)) } else { no_workspace(name) }
}

fn no_workspace(name: &str) -> Response {
    documents::error(404, &format!("No workspace with identifier '{name}'."))
}

/// The repositories of a workspace that the caller can see. Access tokens of a repository or a project must name a project.
pub fn list(state: &State, caller: &Caller, request: &Request, name: &str) -> Response {
    let Some(workspace) = state.workspace(name) else { return no_workspace(name) };
    let project = match request.parameter("q").map(project_of) {
        Some(None) => return documents::error(400, "Invalid query"),
        Some(Some(key)) => Some(key),
        None => None,
    };
    if project.is_none() && matches!(caller.holder, Some(Holder::Repository(_) | Holder::Project(..))) {
        return documents::error(403, "Forbidden");
    }
    let least = match request.parameter("role") {
        None | Some("member") => Level::Read,
        Some("contributor") => Level::Write,
        Some("admin") => Level::Admin,
        Some(_) => return documents::error(400, "Invalid role"),
    };
    let shown = |found: &&Repository| {
        let in_project = project.as_ref().is_none_or(|key| found.project == *key);
        found.workspace == workspace.slug && in_project && state.level(caller, found) >= least
    };
    let mut found: Vec<_> = state.repositories.iter().filter(shown).collect();
    match request.parameter("sort").unwrap_or("full_name") {
        "created_on" => found.sort_by_key(|repository| repository.number),
        "-created_on" => found.sort_by_key(|repository| std::cmp::Reverse(repository.number)),
        "name" | "full_name" => found.sort_by_key(|repository| repository.path()),
        _ => return documents::error(400, "Invalid field name"),
    }
    let documents: Vec<Value> = found.into_iter().map(|repository| state.repository_document(repository)).collect();
    api::page(state, request, &documents)
}

/// The key in `project.key="KEY"`, the only supported filter.
fn project_of(query: &str) -> Option<String> {
    let key = query.strip_prefix("project.key")?.trim_start().strip_prefix('=')?.trim();
    Some(key.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

/// A repository that the caller can see. The status differs between a private repository and one that does not exist.
pub fn shown<'a>(state: &'a State, caller: &Caller, workspace: &str, name: &str) -> Result<&'a Repository, Box<Response>> {
    let found = state.repository(workspace, name).ok_or_else(|| Box::new(documents::no_repository(404)))?;
    if state.level(caller, found) >= Level::Read { Ok(found) } else { Err(documents::no_repository(403).into()) }
}

pub fn look_up(state: &State, caller: &Caller, workspace: &str, name: &str) -> Response {
    match shown(state, caller, workspace, name) {
        Ok(found) => Response::json(200, &state.repository_document(found)),
        Err(refusal) => *refusal,
    }
}

pub fn branches(state: &State, caller: &Caller, request: &Request, workspace: &str, name: &str) -> Response {
    match shown(state, caller, workspace, name) {
        Ok(found) => {
            let branches = found.contents.branches();
            let documents: Vec<Value> = branches.into_iter().filter_map(|branch| state.branch_document(found, branch)).collect();
            api::page(state, request, &documents)
        }
        Err(refusal) => *refusal,
    }
}

pub fn branch(state: &State, caller: &Caller, workspace: &str, name: &str, branch: &str) -> Response {
    match shown(state, caller, workspace, name) {
        Ok(found) => match state.branch_document(found, branch) {
            Some(document) => Response::json(200, &document),
            None => documents::error(404, &format!("Branch \"{branch}\" does not exist")),
        },
        Err(refusal) => *refusal,
    }
}
