//! Git below `/scm`.

use super::super::git::{advertisement, asked_for};
use super::super::message::{Request, Response};
use super::CONTEXT;
use super::accounts::{Caller, Level};
use super::state::State;

/// Whether git sent a request.
pub fn is_asked(request: &Request) -> bool {
    request.path.starts_with(&format!("{CONTEXT}/scm/"))
}

/// The refusal of a git credential: a web page. The header of a CAPTCHA stays.
pub fn unauthorized(refusal: &Response) -> Response {
    let response = Response::page(refusal.status.as_u16(), "Authentication failed");
    let response = response.with("www-authenticate", "Basic realm=\"Atlassian Bitbucket\"");
    match refusal.headers.get("x-authentication-denied-reason").and_then(|value| value.to_str().ok()) {
        Some(reason) => response.with("x-authentication-denied-reason", reason),
        None => response,
    }
}

pub fn answer(state: &State, caller: &Caller, request: &Request) -> Response {
    let segments = asked_for(request).unwrap_or_default();
    let segments: Vec<&str> = segments.iter().skip(2).map(String::as_str).collect();
    let [key, slug] = segments.as_slice() else { return Response::page(404, "Not found") };
    let path = format!("{key}/{}", slug.trim_end_matches(".git"));
    let Some(found) = state.repository(&path) else { return Response::page(404, "Repository not found") };
    if state.repository_level(caller, found) >= Level::Read {
        return advertisement(&found.contents);
    }
    match caller.name {
        Some(_) => Response::page(403, "You do not have permission to access this repository"),
        None => unauthorized(&Response::empty(401)),
    }
}
