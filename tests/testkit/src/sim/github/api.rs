//! The API: the routes, and the headers of every answer.

use http::Method;
use ring::digest;
use serde_json::{Value, json};

use super::Release;
use super::accounts::{Caller, Token};
use super::documents::error;
use super::state::State;
use crate::sim::message::{Request, Response};

/// The versions of the API, oldest first.
const VERSIONS: [&str; 2] = ["2022-11-28", "2026-03-10"];
/// The oldest version applies without a header.
pub const DEFAULT_VERSION: &str = VERSIONS[0];
const DEFAULT_LENGTH: usize = 30;
const GREATEST_LENGTH: usize = 100;

type Answer = Result<Response, Response>;

/// The API version of a request; `None` if it does not exist.
fn version(request: &Request) -> Option<&'static str> {
    match request.header("x-github-api-version") {
        None => Some(DEFAULT_VERSION),
        Some(asked) => VERSIONS.into_iter().find(|version| *version == asked),
    }
}

impl State {
    /// Answers a request below the API's base.
    pub fn api(&mut self, request: &Request, path: &[String]) -> Response {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let now = self.now();
        let version = version(request).unwrap_or(DEFAULT_VERSION);
        let caller = match self.caller(request) {
            Ok(caller) => caller,
            // Requests with an invalid credential count as anonymous.
            Err(refusal) => {
                let refusal = self.marked(refusal, version);
                return self.limits.mark(refusal, "nobody", now);
            }
        };
        let account = caller.account();
        let free = path == ["rate_limit"];
        let answer = if free { Ok(()) } else { self.limits.call(&account, now) };
        let answer = answer.and_then(|()| self.checked(request, &caller, &path)).unwrap_or_else(|refusal| refusal);
        let answer = self.conditional(request, answer, &account);
        let answer = self.marked(Self::told(answer, &caller, &path), version);
        self.limits.mark(answer, &account, now)
    }

    fn checked(&mut self, request: &Request, caller: &Caller, path: &[&str]) -> Answer {
        if !request.headers.contains_key("user-agent") {
            return Err(error(403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header"));
        }
        if version(request).is_none() {
            return Err(error(400, "The API version that was asked for is not supported"));
        }
        let writes = !matches!(request.method, Method::GET | Method::HEAD) && path.last() != Some(&"access_tokens");
        if writes {
            let now = self.now();
            self.limits.write(&caller.account(), now)?;
        }
        if request.body.is_empty() || request.method == Method::GET || !request.json().is_null() {
            self.route(request, caller, path)
        } else {
            Err(error(400, "Problems parsing JSON"))
        }
    }

    fn route(&mut self, request: &Request, caller: &Caller, path: &[&str]) -> Answer {
        match (request.method.as_str(), path) {
            ("GET", ["rate_limit"]) => {
                let now = self.now();
                let mut document = self.limits.document(&caller.account(), now);
                if version(request) != Some(DEFAULT_VERSION)
                    && let Some(members) = document.as_object_mut()
                {
                    // Version 2026-03-10 has only `resources.core`.
                    members.remove("rate");
                }
                Ok(Response::json(200, &document))
            }
            ("GET", ["versions"]) => Ok(Response::json(200, &json!(VERSIONS))),
            ("GET", ["meta"]) => Ok(Response::json(200, &self.meta())),
            ("GET", ["user"]) => match caller {
                Caller::Person(token) => Ok(Response::json(200, &self.account_document(token.user))),
                Caller::Installation(..) => Err(error(403, "Resource not accessible by integration")),
                Caller::Nobody | Caller::App => Err(error(401, "Requires authentication")),
            },
            ("GET", ["user", "repos"]) => self.own_repositories(request, caller),
            ("GET", ["users" | "user", login, "repos"]) => self.user_repositories(request, caller, login),
            ("GET", ["orgs", login]) => self.look_up_organization(caller, login),
            ("GET", ["orgs" | "organizations", login, "repos"]) => self.organization_repositories(request, caller, login),
            ("GET", ["orgs" | "users", login, "installation"]) => {
                self.find_installation(caller, |found| found.account.eq_ignore_ascii_case(login))
            }
            ("GET", ["installation", "repositories"]) => self.installation_repositories(request, caller),
            ("DELETE", ["installation", "token"]) => {
                let Caller::Installation(token, _) = caller else { return Err(error(403, "Resource not accessible")) };
                self.installation_tokens.retain(|found| found.value != token.value);
                Ok(Response::empty(204))
            }
            (_, ["app", rest @ ..]) => self.app(request, caller, rest),
            (_, ["repos", owner, name, rest @ ..]) => {
                let position = self.repository_position(&format!("{owner}/{name}")).ok_or_else(|| error(404, "Not Found"))?;
                self.repository(request, caller, position, Some(&format!("{owner}/{name}")), rest)
            }
            (_, ["repositories", id, rest @ ..]) => {
                let position =
                    self.repositories.iter().position(|found| found.id.to_string() == *id).ok_or_else(|| error(404, "Not Found"))?;
                self.repository(request, caller, position, None, rest)
            }
            _ => Err(error(404, "Not Found")),
        }
    }

    /// Answers requests for a repository, or redirects to its new place.
    fn repository(&mut self, request: &Request, caller: &Caller, position: usize, asked: Option<&str>, rest: &[&str]) -> Answer {
        if rest == ["installation"] {
            let found = &self.repositories[position];
            return self.find_installation(caller, |installation| installation.covers(found));
        }
        if !self.shows(caller, &self.repositories[position])? {
            return Err(error(404, "Not Found"));
        }
        let found = &self.repositories[position];
        if asked.is_some_and(|asked| !found.path().eq_ignore_ascii_case(asked)) {
            let mut url = format!("{}/repositories/{}", self.api_url(), found.id);
            for part in rest {
                url = format!("{url}/{part}");
            }
            let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&request.query).finish();
            let url = if query.is_empty() { url } else { format!("{url}?{query}") };
            let status = if request.method == Method::GET { 301 } else { 307 };
            let document = json!({"message": "Moved Permanently", "url": url, "documentation_url": "https://docs.github.com/rest"});
            return Ok(Response::json(status, &document).with("location", &url));
        }
        self.below_repository(request, caller, position, rest)
    }

    fn look_up_organization(&self, caller: &Caller, login: &str) -> Answer {
        let found =
            self.organizations.iter().find(|found| found.login.eq_ignore_ascii_case(login)).ok_or_else(|| error(404, "Not Found"))?;
        if let Caller::Person(token) = caller {
            self.signed_on(token, &found.login)?;
        }
        Ok(Response::json(200, &self.organization_document(&found.login)))
    }

    fn meta(&self) -> Value {
        match self.release {
            Release::Server(version) => json!({"verifiable_password_authentication": true, "installed_version": version}),
            Release::Cloud => json!({"verifiable_password_authentication": false, "hooks": ["192.0.2.0/24"]}),
        }
    }

    /// A page of a list. Links contain the id of the repository or organization instead of its name.
    pub fn page(&self, request: &Request, entries: &[Value], path: &str) -> Response {
        let length = request.number("per_page").unwrap_or(DEFAULT_LENGTH).clamp(1, GREATEST_LENGTH);
        let number = request.number("page").unwrap_or(1).max(1);
        let last = entries.len().div_ceil(length).max(1);
        let shown: Vec<_> = entries.iter().skip((number - 1) * length).take(length).cloned().collect();
        let link = |rel: &str, number: usize| {
            let kept = request.query.iter().filter(|(name, _)| name != "page");
            let query =
                url::form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).append_pair("page", &number.to_string()).finish();
            format!("<{}{path}?{query}>; rel=\"{rel}\"", self.web)
        };
        let mut links = Vec::new();
        if number > 1 {
            links.extend([link("prev", number - 1), link("first", 1)]);
        }
        if number < last {
            links.extend([link("next", number + 1), link("last", last)]);
        }
        let response = Response::json(200, &shown.into());
        if links.is_empty() { response } else { response.with("link", &links.join(", ")) }
    }

    /// Adds an entity tag to an answer to a read, or answers 304. Tags belong to a credential.
    fn conditional(&mut self, request: &Request, answer: Response, account: &str) -> Response {
        if request.method != Method::GET || answer.status != 200 {
            return answer;
        }
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(request.header("authorization").unwrap_or_default().as_bytes());
        context.update(&answer.body);
        let tag = format!("W/\"{}\"", hex::encode(context.finish()));
        let known = request.header("if-none-match") == Some(tag.as_str());
        let answer = if known { Response::empty(304) } else { answer };
        if known {
            self.limits.give_back(account);
        }
        answer.with("etag", &tag).with("cache-control", "private, max-age=60, s-maxage=60").with("vary", "Accept, Authorization, Cookie")
    }

    /// Adds the headers by which every answer describes the token.
    fn told(answer: Response, caller: &Caller, path: &[&str]) -> Response {
        let Caller::Person(Token { expires_at, .. }) = caller else { return answer };
        let answer = match expires_at {
            Some(end) => answer.with("github-authentication-token-expiration", end),
            None => answer,
        };
        let Some(scopes) = caller.scopes() else { return answer };
        let scopes = scopes.iter().copied().collect::<Vec<_>>().join(", ");
        answer.with("x-oauth-scopes", &scopes).with("x-accepted-oauth-scopes", Self::accepted_scopes(path))
    }

    /// Adds the headers of every answer.
    pub fn marked(&self, answer: Response, version: &str) -> Response {
        let id = hex::encode_upper(&digest::digest(&digest::SHA256, &answer.body).as_ref()[..8]);
        let answer = answer
            .with("date", &self.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
            .with("x-github-media-type", "github.v3; format=json")
            .with("x-github-request-id", &format!("8C5A:{id}"))
            .with("x-github-api-version-selected", version);
        match self.release {
            Release::Server(version) => answer.with("x-github-enterprise-version", version),
            Release::Cloud => answer,
        }
    }
}
