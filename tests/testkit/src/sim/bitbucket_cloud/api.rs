//! The API: the routes, the scope checks, and the pages of lists.

use http::Method;
use serde_json::{Value, json};

use super::super::message::{Request, Response};
use super::credentials::{Caller, Scopes};
use super::state::State;
use super::{API, documents, hooks, repositories};

/// The default length of a page.
const PAGE_LENGTH: usize = 10;
const LONGEST_PAGE: usize = 100;

const NOTHING: Scopes = Scopes { access_token: &[], api_token: &[] };
const ACCOUNT: Scopes = Scopes { access_token: &["account"], api_token: &["read:user:bitbucket"] };
const WORKSPACE: Scopes = Scopes { access_token: &[], api_token: &["read:workspace:bitbucket"] };
const REPOSITORY: Scopes = Scopes { access_token: &["repository"], api_token: &["read:repository:bitbucket"] };
const READ_HOOKS: Scopes = Scopes { access_token: &["webhook"], api_token: &["read:webhook:bitbucket"] };
const WRITE_HOOKS: Scopes = Scopes { access_token: &["webhook"], api_token: &["read:webhook:bitbucket", "write:webhook:bitbucket"] };
const DELETE_HOOKS: Scopes = Scopes { access_token: &["webhook"], api_token: &["delete:webhook:bitbucket"] };

/// Answers a request below the API's base.
pub fn answer(state: &mut State, request: &Request, segments: &[String]) -> Response {
    let caller = match state.caller(request) {
        Ok(caller) => caller,
        Err(refusal) => return *refusal,
    };
    if let Err(refusal) = state.limit.take(&caller.credential, state.clock.now()) {
        return caller.mark(*refusal, NOTHING);
    }
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let needed = needed(&request.method, &segments);
    let response = match caller.lacks(needed) {
        // An API token without this scope is refused like one that was never issued.
        Some(_) if segments == ["user"] && !caller.is_access_token() => return documents::token_invalid(),
        Some(_) if segments == ["user"] => documents::error(403, "Forbidden"),
        Some(refusal) => refusal,
        None => operate(state, &caller, request, &segments),
    };
    let response = caller.mark(response, needed);
    state.limit.mark(response, &caller.credential)
}

fn needed(method: &Method, segments: &[&str]) -> Scopes {
    match (method, segments) {
        (_, ["user"]) => ACCOUNT,
        (_, ["workspaces", _]) => WORKSPACE,
        (&Method::GET, ["repositories", _, _, "hooks", ..]) => READ_HOOKS,
        (&Method::DELETE, ["repositories", _, _, "hooks", ..]) => DELETE_HOOKS,
        (_, ["repositories", _, _, "hooks", ..]) => WRITE_HOOKS,
        (_, ["repositories", ..]) => REPOSITORY,
        _ => NOTHING,
    }
}

fn operate(state: &mut State, caller: &Caller, request: &Request, segments: &[&str]) -> Response {
    match (&request.method, segments) {
        (&Method::GET, ["user"]) => repositories::current_user(state, caller),
        (&Method::GET, ["repositories" | "workspaces"]) => documents::removed(),
        (&Method::GET, ["workspaces", workspace]) => repositories::workspace(state, caller, workspace),
        (&Method::GET, ["repositories", workspace]) => repositories::list(state, caller, request, workspace),
        (&Method::GET, ["repositories", workspace, name]) => repositories::look_up(state, caller, workspace, name),
        (&Method::GET, ["repositories", workspace, name, "refs", "branches"]) => {
            repositories::branches(state, caller, request, workspace, name)
        }
        (&Method::GET, ["repositories", workspace, name, "refs", "branches", branch @ ..]) => {
            repositories::branch(state, caller, workspace, name, &branch.join("/"))
        }
        (_, ["repositories", workspace, name, "hooks", rest @ ..]) => hooks::answer(state, caller, request, (workspace, name), rest),
        _ => documents::error(404, "Resource not found"),
    }
}

/// A page of a list.
pub fn page(state: &State, request: &Request, entries: &[Value]) -> Response {
    let length = request.number("pagelen").unwrap_or(PAGE_LENGTH);
    let number = request.number("page").unwrap_or(1);
    if length == 0 || length > LONGEST_PAGE {
        return documents::error(400, "Invalid pagelen");
    }
    if number == 0 {
        return documents::error(400, "Invalid page");
    }
    let values: Vec<_> = entries.iter().skip((number - 1) * length).take(length).collect();
    let mut document = json!({"values": values, "pagelen": length, "page": number, "size": entries.len()});
    let link = |number: usize| {
        let kept = request.query.iter().filter(|(name, _)| name != "page");
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(kept).append_pair("page", &number.to_string());
        let path = request.path.strip_prefix(API).unwrap_or_default();
        json!(format!("{}{API}{path}?{}", state.url, query.finish()))
    };
    if number * length < entries.len() {
        document["next"] = link(number + 1);
    }
    if number > 1 {
        document["previous"] = link(number - 1);
    }
    Response::json(200, &document)
}
