//! Lists across projects: what an account can see, filtered by the parameters of the request.

use serde_json::Value;

use super::super::message::{Request, Response};
use super::accounts::{Caller, Level};
use super::documents;
use super::state::{Repository, State};

/// The projects that the caller can see: by its own permission, or by a repository in them.
pub fn projects(state: &State, caller: &Caller, request: &Request) -> Response {
    let least = match request.parameter("permission") {
        None | Some("PROJECT_VIEW" | "PROJECT_READ") => Level::Read,
        Some("PROJECT_WRITE") => Level::Write,
        Some("PROJECT_ADMIN") => Level::Admin,
        Some(_) => return documents::error(400, Some("permission"), None, "The permission is not a project permission."),
    };
    let named = |name: &str| contains(request, "name", name);
    let shown = state.projects.iter().filter(|project| named(&project.name)).filter(|project| {
        let holds = |repository: &&Repository| repository.project == project.key;
        let by_repository = || state.repositories.iter().filter(holds).any(|found| state.repository_level(caller, found) >= Level::Read);
        state.project_level(caller, &project.key) >= least || (least == Level::Read && by_repository())
    });
    let shown: Vec<Value> = shown.map(|project| state.project_document(&project.key)).collect();
    documents::page(&shown, request.number("start"), request.number("limit"))
}

/// The repositories of all projects that the caller may read; archived ones only on request.
pub fn repositories(state: &State, caller: &Caller, request: &Request) -> Response {
    let least = match request.parameter("permission") {
        None | Some("REPO_READ") => Level::Read,
        Some("REPO_WRITE") => Level::Write,
        Some("REPO_ADMIN") => Level::Admin,
        Some(_) => return documents::error(400, Some("permission"), None, "The permission is not a repository permission."),
    };
    let archived = match request.parameter("archived").unwrap_or("ACTIVE").to_uppercase().as_str() {
        "ACTIVE" => Some(false),
        "ARCHIVED" => Some(true),
        "ALL" => None,
        _ => return documents::error(400, Some("archived"), None, "The archived state is not known."),
    };
    let fits = |repository: &&Repository| {
        let project = state.project(&repository.project);
        state.repository_level(caller, repository) >= least
            && archived.is_none_or(|archived| repository.archived == archived)
            && contains(request, "name", &repository.name)
            && project.is_some_and(|project| contains(request, "projectname", &project.name))
            && request.parameter("projectkey").is_none_or(|key| repository.project.eq_ignore_ascii_case(key))
            && request.parameter("visibility").is_none_or(|visibility| repository.public == (visibility == "public"))
    };
    let shown: Vec<Value> = state.repositories.iter().filter(fits).map(|repository| state.repository_document(repository)).collect();
    documents::page(&shown, request.number("start"), request.number("limit"))
}

/// Whether a text contains the value of a parameter, without regard to case.
fn contains(request: &Request, parameter: &str, text: &str) -> bool {
    request.parameter(parameter).is_none_or(|wanted| text.to_lowercase().contains(&wanted.to_lowercase()))
}
