//! Git at the web address.

use super::super::git::{advertisement, asked_for};
use super::super::message::{Request, Response};
use super::state::{Level, State};

pub fn answer(state: &State, request: &Request) -> Response {
    let segments = asked_for(request).unwrap_or_default();
    let [workspace, name] = segments.as_slice() else { return Response::page(404, "Not found") };
    let unauthorized = || {
        let text = "Login failed due to incorrect login credentials or method.";
        Response::text(401, "text/plain; charset=utf-8", text).with("www-authenticate", "Basic realm=\"Bitbucket.org HTTP\"")
    };
    let Some(caller) = state.git_caller(request) else { return unauthorized() };
    let found = state.repository(workspace, name.trim_end_matches(".git"));
    match found.filter(|found| state.level(&caller, found) >= Level::Read) {
        Some(found) => advertisement(&found.contents),
        // Anonymous callers get 401, whether or not the repository exists.
        None if caller.holder.is_none() => unauthorized(),
        None => Response::text(404, "text/plain; charset=utf-8", super::documents::HIDDEN),
    }
}
