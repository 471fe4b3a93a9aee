//! Authentication, API versions and all resources except subscriptions.

use http::Method;
use serde_json::{Value, json};

use super::documents::{Documents, list};
use super::errors;
use super::hooks;
use super::locations;
use super::state::{CODE, ORGANIZATION, PROFILE, PROJECTS, Project, Repository, State, Token, guid};
use crate::sim::git;
use crate::sim::{Request, Response};

/// The security namespace of service hooks, and that of git.
const SERVICE_HOOKS: &str = "cb594ebe-87dd-4fc9-ac2c-6a10a4c92046";
const GIT: &str = "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87";

#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub user: &'static str,
    scopes: &'static [&'static str],
}

impl Caller {
    pub fn has(&self, scope: &str) -> bool {
        self.scopes.contains(&scope)
    }
}

/// Whether the official description contains the path of a request.
pub fn is_described(request: &Request) -> bool {
    // The connection data is described below an organization, and is also served above all organizations.
    let segments = spelled(&request.segments());
    segments.iter().any(|segment| segment == "_apis") && segments != ["_apis", "connectionData"]
}

/// Words of paths, which are not case-sensitive.
const WORDS: [&str; 19] = [
    "_apis",
    "_git",
    "accounts",
    "connectionData",
    "git",
    "hooks",
    "me",
    "notifications",
    "permissions",
    "profile",
    "profiles",
    "projects",
    "refs",
    "repositories",
    "resourceAreas",
    "subscriptions",
    "subscriptionsquery",
    "Location",
    "core",
];

/// The segments with the words of the API in this spelling, from `_apis` or `_git` on; the segments before are names.
fn spelled(segments: &[String]) -> Vec<String> {
    let word = |segment: &String| WORDS.into_iter().find(|word| segment.eq_ignore_ascii_case(word));
    let begins = |segment: &String| word(segment).is_some_and(|word| word.starts_with('_'));
    let first = segments.iter().position(begins).unwrap_or(segments.len());
    let spell =
        |(position, segment): (usize, &String)| word(segment).filter(|_| position >= first).map_or_else(|| segment.clone(), str::to_owned);
    segments.iter().enumerate().map(spell).collect()
}

/// The version of the API in the Accept header, as official clients send it.
pub fn accepted_version(request: &Request) -> Option<&str> {
    let (_, version) = request.header("accept")?.split_once("api-version=")?;
    version.split([';', ',']).next().map(str::trim)
}

/// Answers a request.
pub fn answer(state: &mut State, documents: &Documents<'_>, request: &Request) -> Response {
    let segments = spelled(&request.segments());
    let names: Vec<&str> = segments.iter().map(String::as_str).collect();
    match names.as_slice() {
        ["_apis", rest @ ..] => accounts(state, documents, request, rest),
        [organization, rest @ ..] if organization.eq_ignore_ascii_case(ORGANIZATION) => match git::asked_for(request) {
            Some(path) => fetched(state, request, path.get(1..).unwrap_or_default()),
            None => organized(state, documents, request, rest),
        },
        _ => errors::no_such_address(),
    }
}

/// The token of a request, valid or not.
fn token(state: &State, request: &Request) -> Option<(String, Token)> {
    let (username, password) = request.basic()?;
    let found = state.tokens.iter().find(|token| token.secret == password)?;
    Some((username, found.clone()))
}

fn caller(state: &State, request: &Request) -> Result<Caller, Box<Response>> {
    let suppressed = request.header("x-tfs-fedauthredirect").is_some_and(|value| value.eq_ignore_ascii_case("suppress"));
    let reads = matches!(request.method, Method::GET | Method::POST);
    match token(state, request) {
        Some((_, token)) if token.expired => Err(errors::expired().into()),
        Some((_, token)) if token.git_only.is_none() => Ok(Caller { user: token.user, scopes: token.scopes }),
        _ => Err(errors::not_signed_in(suppressed, reads).into()),
    }
}

/// A parameter of the query; its name is not case-sensitive.
pub fn parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.query.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn number(request: &Request, name: &str) -> Option<usize> {
    parameter(request, name)?.parse().ok()
}

/// Checks the version of a request; `preview`: whether the resource is still a preview.
fn version(state: &State, request: &Request, preview: bool) -> Result<(), Box<Response>> {
    let asked = parameter(request, "api-version").or_else(|| accepted_version(request));
    let Some(asked) = asked else {
        let reads = matches!(request.method, Method::GET | Method::OPTIONS);
        return if reads { Ok(()) } else { Err(errors::version_missing(request.method.as_str()).into()) };
    };
    let number = asked.split('-').next().unwrap_or_default();
    let parsed = |text: &str| text.parse::<f64>().unwrap_or(f64::MAX);
    if parsed(number) > parsed(state.newest) {
        return Err(errors::version_too_new(asked, state.newest).into());
    }
    if preview && !asked.contains("-preview") { Err(errors::preview_missing(number).into()) } else { Ok(()) }
}

/// Resources above all organizations, which accept only a token for all organizations.
fn accounts(state: &State, documents: &Documents<'_>, request: &Request, rest: &[&str]) -> Response {
    let caller = match caller(state, request) {
        Ok(caller) if token(state, request).is_some_and(|(_, token)| token.everywhere) => caller,
        Ok(_) => return errors::unauthorized(),
        Err(refusal) => return *refusal,
    };
    if let Err(refusal) = version(state, request, rest == ["connectionData"]) {
        return *refusal;
    }
    let id = guid(&format!("user {}", caller.user));
    let account = |name: &str| json!({"accountId": guid(name), "accountName": name, "accountUri": format!("{}/{name}", documents.url)});
    let answer = match rest {
        ["connectionData"] => connection_data(state, documents, caller),
        ["profile", "profiles", _] | ["accounts"] if !caller.has(PROFILE) => errors::scope_missing(),
        ["profile", "profiles", "me"] => {
            let document = json!({"id": id, "publicAlias": id, "displayName": caller.user, "emailAddress": caller.user, "coreRevision": 1});
            Response::json(200, &document)
        }
        ["accounts"] if parameter(request, "memberId") == Some(&id) => {
            Response::json(200, &list(&[account(ORGANIZATION), account("umbrella")]))
        }
        ["accounts"] => errors::input("A memberId or an ownerId must be specified."),
        _ => errors::no_such_address(),
    };
    recognised(answer, caller)
}

fn recognised(answer: Response, caller: Caller) -> Response {
    answer.with("x-vss-userdata", &format!("{}:{}", guid(&format!("user {}", caller.user)), caller.user))
}

fn connection_data(state: &State, documents: &Documents<'_>, caller: Caller) -> Response {
    let user = json!({"id": documents.identity(caller.user)["id"], "providerDisplayName": caller.user, "isActive": true});
    let document = json!({
        "authenticatedUser": user, "authorizedUser": user, "instanceId": guid("instance"), "deploymentId": guid("deployment"),
        "deploymentType": if state.is_hosted { "hosted" } else { "onPremises" },
    });
    Response::json(200, &document)
}

/// Resources within the organization.
fn organized(state: &mut State, documents: &Documents<'_>, request: &Request, rest: &[&str]) -> Response {
    let caller = match caller(state, request) {
        Ok(caller) => caller,
        Err(refusal) => return *refusal,
    };
    let preview = matches!(rest, ["_apis", "connectionData"] | ["_apis", "resourceAreas", ..]);
    let answer = match version(state, request, preview) {
        Err(refusal) => *refusal,
        Ok(()) => within(state, documents, request, caller, rest),
    };
    recognised(answer, caller)
}

fn within(state: &mut State, documents: &Documents<'_>, request: &Request, caller: Caller, rest: &[&str]) -> Response {
    match (&request.method, rest) {
        (&Method::OPTIONS, ["_apis", area @ ..]) if area.len() < 2 => locations::answer(state.newest, area.first().copied()),
        (&Method::GET, ["_apis", "resourceAreas", rest @ ..]) => locations::areas(state.is_hosted, documents, rest),
        (&Method::GET, ["_apis", "connectionData"]) => connection_data(state, documents, caller),
        (&Method::GET, ["_apis", "projects", rest @ ..]) => projects(state, documents, request, caller, rest),
        (&Method::GET, ["_apis", "permissions", namespace, bits]) => permissions(state, request, caller, namespace, bits),
        (_, ["_apis", "hooks", rest @ ..]) => {
            // Any of three scopes is enough.
            if caller.has(CODE) || caller.has(super::state::WORK) {
                hooks::answer(state, documents, request, caller, rest)
            } else {
                errors::scope_missing()
            }
        }
        (_, ["_apis", "git", ..] | [_, "_apis", "git", ..]) if !caller.has(CODE) => errors::scope_missing(),
        (&Method::GET, ["_apis", "git", "repositories", rest @ ..]) => repositories(state, documents, request, caller, None, rest),
        (&Method::GET, [project, "_apis", "git", "repositories", rest @ ..]) => match state.project(project) {
            Some(found) if found.is_seen_by(caller.user) => {
                let project = found.clone();
                repositories(state, documents, request, caller, Some(&project), rest)
            }
            _ => errors::no_project(project),
        },
        _ => errors::no_such_address(),
    }
}

fn projects(state: &State, documents: &Documents<'_>, request: &Request, caller: Caller, rest: &[&str]) -> Response {
    if !caller.has(PROJECTS) {
        return errors::scope_missing();
    }
    let seen = state.projects.iter().filter(|project| project.is_seen_by(caller.user));
    match rest {
        [] => {
            let (skip, top) = (number(request, "$skip").unwrap_or(0), number(request, "$top").unwrap_or(100));
            let seen: Vec<Value> = seen.skip(skip).take(top).map(|project| documents.project(project)).collect();
            Response::json(200, &list(&seen))
        }
        [name] => match state.project(name).filter(|project| project.is_seen_by(caller.user)) {
            Some(project) => Response::json(200, &documents.project(project)),
            None => errors::no_project(name),
        },
        _ => errors::no_such_address(),
    }
}

/// Whether the caller has permissions, with one answer for each security token.
fn permissions(state: &State, request: &Request, caller: Caller, namespace: &str, bits: &str) -> Response {
    let project = |token: &str| state.projects.iter().find(|project| token.contains(&project.id)).cloned();
    let tokens = parameter(request, "tokens").unwrap_or_default();
    let wants_hooks = match namespace.to_lowercase().as_str() {
        SERVICE_HOOKS => true,
        GIT => false,
        _ => return errors::refused(404, "InvalidSecurityNamespaceException", &format!("There is no security namespace {namespace}.")),
    };
    let Ok(bits) = bits.parse::<u8>() else { return errors::input("The permissions are no number.") };
    let judged = tokens.split(',').map(|token| {
        let found = project(token);
        found.is_some_and(|project| if wants_hooks { project.lets(caller.user, bits) } else { project.is_seen_by(caller.user) })
    });
    Response::json(200, &list(&judged.map(Value::Bool).collect::<Vec<_>>()))
}

fn repositories(
    state: &State,
    documents: &Documents<'_>,
    request: &Request,
    caller: Caller,
    project: Option<&Project>,
    rest: &[&str],
) -> Response {
    let seen = |repository: &&Repository| {
        let holder = state.projects.iter().find(|found| found.id == repository.project);
        holder.is_some_and(|holder| holder.is_seen_by(caller.user)) && project.is_none_or(|project| project.id == repository.project)
    };
    let document = |repository: &Repository| {
        let holder = state.projects.iter().find(|found| found.id == repository.project);
        holder.map(|holder| documents.repository(repository, holder)).unwrap_or_default()
    };
    let mut visible = state.repositories.iter().filter(seen);
    let [name, rest @ ..] = rest else {
        let all: Vec<Value> = visible.map(document).collect();
        return Response::json(200, &list(&all));
    };
    let named = |repository: &&Repository| {
        repository.id.eq_ignore_ascii_case(name) || (project.is_some() && repository.name.eq_ignore_ascii_case(name))
    };
    let Some(found) = visible.find(named) else { return errors::no_repository(name) };
    match rest {
        [] => Response::json(200, &document(found)),
        ["refs"] if found.disabled => errors::disabled_repository(name),
        ["refs"] => references(documents, request, found),
        _ => errors::no_such_address(),
    }
}

/// The references whose name begins with the filter, page by page.
fn references(documents: &Documents<'_>, request: &Request, repository: &Repository) -> Response {
    let beginning = format!("refs/{}", parameter(request, "filter").unwrap_or_default());
    let from = parameter(request, "continuationToken").unwrap_or_default();
    let top = number(request, "$top").unwrap_or(usize::MAX);
    let found = repository.contents.references.iter().filter(|(name, _)| name.starts_with(&beginning) && name.as_str() >= from);
    let found: Vec<_> = found.collect();
    let page: Vec<Value> = found.iter().take(top).map(|(name, object)| documents.reference(repository, name, object)).collect();
    let answer = Response::json(200, &list(&page));
    match found.get(top) {
        Some((next, _)) => answer.with("x-ms-continuationtoken", next),
        None => answer,
    }
}

/// `info/refs` of `Project/_git/repository`, or of `_git/repository`.
fn fetched(state: &mut State, request: &Request, path: &[String]) -> Response {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    let user = match token(state, request) {
        Some((username, token))
            if token.git_only.is_none_or(|generated| generated == username) && !token.expired && token.scopes.contains(&CODE) =>
        {
            token.user
        }
        _ => {
            return Response::text(401, "text/plain", "Authentication failed")
                .with("www-authenticate", r#"Basic realm="https://dev.azure.com/""#);
        }
    };
    let (project, name) = match names.as_slice() {
        ["_git", name] => (*name, *name),
        [project, "_git", name] => (*project, *name),
        _ => return errors::no_such_address(),
    };
    let missing = || {
        Response::text(
            404,
            "text/plain; charset=utf-8",
            &format!(
                "TF401019: The Git repository with name or identifier {name} does not exist or you do not have permissions for the operation you are attempting."
            ),
        )
    };
    if !state.project(project).is_some_and(|project| project.is_seen_by(user)) {
        return missing();
    }
    match state.by_name(project, name) {
        Some(found) if !found.disabled => git::advertisement(&found.contents),
        _ => missing(),
    }
}
