//! The API: the routes.

use http::Method;
use serde_json::{Value, json};

use super::accounts::{ANY, Need, READ, READ_USER, Token, WRITE, token_document, unauthorized, user_document};
use super::hooks::{Hook, Rules, refused};
use super::state::{Project, State};
use crate::sim::message::{Request, Response};
use crate::sim::parameters;

const READ_PROJECT: Need = Need { scopes: READ, permission: "read_project" };
const READ_GROUP: Need = Need { scopes: READ, permission: "read_group" };
const READ_HOOKS: Need = Need { scopes: READ, permission: "read_webhook" };
const WRITE_HOOKS: Need = Need { scopes: WRITE, permission: "write_webhook" };

type Answer = Result<Response, Response>;

fn message(status: u16, words: &str) -> Response {
    Response::json(status, &json!({"message": words}))
}

fn nothing() -> Response {
    message(404, "404 Not found")
}

impl State {
    /// Answers a request below the API's base.
    pub fn api(&mut self, request: &Request, path: &[String]) -> Response {
        let user = self.caller(request).ok().flatten().map_or_else(|| "nobody".to_owned(), |token| token.user.to_string());
        let now = self.now();
        let marks = match self.limits.request(&user, now) {
            Ok(marks) => marks,
            Err(refusal) => return refusal,
        };
        let answer = self.route(request, path).unwrap_or_else(|refusal| refusal);
        let id = self.uuid().replace('-', "").to_uppercase();
        marks.iter().fold(answer.with("x-request-id", &id[..26]), |answer, (name, value)| answer.with(name, value))
    }

    fn route(&mut self, request: &Request, path: &[String]) -> Answer {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match (&request.method, path.as_slice()) {
            (&Method::GET, ["personal_access_tokens", "self"]) => {
                let token = self.allowed(request, Need { scopes: ANY, permission: "read_personal_access_token" })?;
                Ok(Response::json(200, &token_document(token, false)))
            }
            (&Method::GET, ["user"]) => {
                let token = self.allowed(request, Need { scopes: READ_USER, permission: "read_user" })?;
                Ok(Response::json(200, &user_document(self.user(token.user), &self.web)))
            }
            (&Method::GET, ["version" | "metadata"]) => {
                self.allowed(request, Need { scopes: READ_USER, permission: "read_metadata" })?;
                Ok(Response::json(200, &self.release.document()))
            }
            (&Method::GET, ["groups", group]) => {
                let group = self.seen_group(request, group)?;
                Ok(Response::json(200, &self.group_document(group)))
            }
            (&Method::GET, ["groups", group, "projects"]) => self.group_projects(request, group),
            (&Method::GET, ["projects"]) => self.own_projects(request),
            (_, ["projects", project, rest @ ..]) => self.project(request, project, rest),
            _ => Err(Response::json(404, &json!({"error": "404 Not Found"}))),
        }
    }

    /// The caller, if there is one and it may read.
    fn reader(&self, request: &Request, need: Need) -> Result<Option<&Token>, Response> {
        match self.caller(request)? {
            None => Ok(None),
            Some(_) => self.allowed(request, need).map(Some),
        }
    }

    fn seen_group(&self, request: &Request, key: &str) -> Result<&super::state::Group, Response> {
        let reader = self.reader(request, READ_GROUP)?;
        let member = |path: &str, user: u64| {
            let inherited = self.group_role(&format!("{path}/."), user).is_some();
            inherited
                || self.projects.iter().any(|project| project.path.starts_with(&format!("{path}/")) && self.role(project, user).is_some())
        };
        let sees = |group: &super::state::Group| {
            !group.private || reader.is_some_and(|token| self.user(token.user).admin || member(&group.path, token.user))
        };
        self.group(key).filter(|group| sees(group)).ok_or_else(|| message(404, "404 Group Not Found"))
    }

    fn group_projects(&self, request: &Request, key: &str) -> Answer {
        let group = self.seen_group(request, key)?;
        let reader = self.reader(request, READ_GROUP)?;
        let subgroups = request.parameter("include_subgroups") == Some("true");
        let below = format!("{}/", group.path);
        let least = request.number("min_access_level");
        let has_role = |project: &Project| {
            let role = reader.and_then(|token| self.role(project, token.user));
            least.is_none_or(|least| role.is_some_and(|role| role >= least as u64))
        };
        let inside = |project: &&Project| {
            let rest = project.path.strip_prefix(&below);
            rest.is_some_and(|rest| subgroups || !rest.contains('/'))
                && self.sees(project, reader)
                && has_role(project)
                && passes(project, request)
        };
        let mut found: Vec<_> = self.projects.iter().filter(inside).collect();
        sort(&mut found, request);
        let entries: Vec<_> = found.into_iter().map(|project| self.project_document(project)).collect();
        Ok(self.page(request, &entries))
    }

    fn own_projects(&self, request: &Request) -> Answer {
        let reader = self.reader(request, READ_PROJECT)?;
        let membership = request.parameter("membership") == Some("true");
        let by_key = request.parameter("pagination") == Some("keyset");
        if by_key && request.parameter("order_by") != Some("id") {
            return Err(Response::json(405, &json!({"error": "Keyset pagination is not yet available for this type of request"})));
        }
        let least = request.number("min_access_level");
        let fits = |project: &&Project| {
            let role = reader.and_then(|token| self.role(project, token.user));
            let belongs = if membership && reader.is_some() { role.is_some() } else { self.sees(project, reader) };
            belongs && least.is_none_or(|least| role.is_some_and(|role| role >= least as u64)) && passes(project, request)
        };
        let mut found: Vec<_> = self.projects.iter().filter(fits).collect();
        sort(&mut found, request);
        let entries: Vec<_> = found.into_iter().map(|project| self.project_with_role(project, reader)).collect();
        Ok(if by_key { self.by_key(request, &entries) } else { self.page(request, &entries) })
    }

    fn project(&mut self, request: &Request, key: &str, rest: &[&str]) -> Answer {
        let need = if rest.first() == Some(&"hooks") { READ_HOOKS } else { READ_PROJECT };
        let reader = self.reader(request, need)?.cloned();
        let hidden = || if reader.is_none() { unauthorized() } else { message(404, "404 Project Not Found") };
        let position = self.project_position(key).filter(|position| self.sees(&self.projects[*position], reader.as_ref()));
        let position = position.ok_or_else(|| if rest.is_empty() { message(404, "404 Project Not Found") } else { hidden() })?;
        let project = &self.projects[position];
        if key.contains('/') && !project.path.eq_ignore_ascii_case(key) {
            return Err(self.moved(request, project, rest));
        }
        match (&request.method, rest) {
            (&Method::GET, []) => Ok(Response::json(200, &self.project_with_role(project, reader.as_ref()))),
            (&Method::GET, ["members", "all", user]) => {
                let user: u64 = user.parse().map_err(|_| Response::json(400, &json!({"error": "user_id is invalid"})))?;
                let known = self.users.iter().any(|found| found.id == user);
                let level = self.role(project, user).filter(|_| known).ok_or_else(nothing)?;
                Ok(Response::json(200, &self.member_document(user, level)))
            }
            (&Method::GET, ["repository", "branches"]) => {
                let branches = project.contents.branches();
                let entries: Vec<_> =
                    branches.iter().map(|name| self.branch_document(project, name, project.contents.branch(name).unwrap())).collect();
                Ok(self.page(request, &entries))
            }
            (&Method::GET, ["repository", "branches", name]) => {
                let commit = project.contents.branch(name).ok_or_else(|| message(404, "404 Branch Not Found"))?;
                Ok(Response::json(200, &self.branch_document(project, name, commit)))
            }
            (_, ["hooks", rest @ ..]) => {
                let token = reader.ok_or_else(unauthorized)?;
                if request.method != Method::GET {
                    self.allowed(request, WRITE_HOOKS)?;
                }
                if !self.maintains(&self.projects[position], &token) {
                    return Err(message(403, "403 Forbidden"));
                }
                self.hooks(request, position, &token, rest)
            }
            _ => Err(Response::json(404, &json!({"error": "404 Not Found"}))),
        }
    }

    /// A former path redirects reads to the id; writes fail.
    fn moved(&self, request: &Request, project: &Project, rest: &[&str]) -> Response {
        if request.method != Method::GET {
            return message(405, "Non GET methods are not allowed for moved projects");
        }
        let rest: Vec<_> =
            rest.iter().map(|part| percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string()).collect();
        let mut location = format!("{}/api/v4/projects/{}", self.web, project.id);
        for part in rest {
            location = format!("{location}/{part}");
        }
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&request.query).finish();
        let location = if query.is_empty() { location } else { format!("{location}?{query}") };
        message(301, "Moved").with("location", &location)
    }

    fn hooks(&mut self, request: &Request, position: usize, token: &Token, rest: &[&str]) -> Answer {
        let project = self.projects[position].id;
        let now = self.now();
        match (&request.method, rest) {
            (&Method::GET, []) => {
                let hooks = &self.projects[position].hooks;
                let entries: Vec<_> = hooks.iter().map(|hook| hook.document(project, &self.release, now)).collect();
                return Ok(self.page(request, &entries));
            }
            (&Method::POST, []) => return self.create_hook(request, position),
            _ => {}
        }
        let [id, rest @ ..] = rest else { return Err(nothing()) };
        let place = self.projects[position].hooks.iter().position(|hook| hook.id.to_string() == *id).ok_or_else(nothing)?;
        let hook = self.projects[position].hooks[place].clone();
        match (&request.method, rest) {
            (&Method::GET, []) => Ok(Response::json(200, &hook.document(project, &self.release, now))),
            (&Method::PUT, []) => {
                let mut changed = hook;
                changed.change(&parameters::gathered(request), &self.rules())?;
                let document = changed.document(project, &self.release, now);
                self.projects[position].hooks[place] = changed;
                Ok(Response::json(200, &document))
            }
            (&Method::DELETE, []) => {
                self.projects[position].hooks.remove(place);
                Ok(Response::empty(204))
            }
            (&Method::DELETE, [list @ ("url_variables" | "custom_headers"), key]) => {
                let hook = &mut self.projects[position].hooks[place];
                let entries = if *list == "url_variables" { &mut hook.url_variables } else { &mut hook.custom_headers };
                entries.remove(*key).map(|_| Response::empty(204)).ok_or_else(nothing)
            }
            (&Method::PUT, [list @ ("url_variables" | "custom_headers"), key]) => {
                let value = parameters::gathered(request)["value"].as_str().map(str::to_owned);
                let value = value.ok_or_else(|| Response::json(400, &json!({"error": "value is missing"})))?;
                let hook = &mut self.projects[position].hooks[place];
                let entries = if *list == "url_variables" { &mut hook.url_variables } else { &mut hook.custom_headers };
                entries.insert((*key).to_owned(), value);
                Ok(Response::empty(204))
            }
            (&Method::GET, ["events"]) if self.release.is_at_least((17, 3)) => Ok(self.log(request, &hook)),
            (&Method::POST, ["events", event, "resend"]) if self.release.is_at_least((17, 4)) => self.resend(position, &hook, token, event),
            (&Method::POST, ["test", trigger]) if self.release.is_at_least((16, 11)) => {
                self.limits.trial(project, token.user, now)?;
                let delivery = self.trial(project, &hook, trigger);
                let delivery = delivery.ok_or_else(|| message(422, "Ensure the project has at least one commit."))?;
                self.pending.push(delivery);
                Ok(Response::json(201, &json!({"message": "201 Created"})))
            }
            _ => Err(Response::json(404, &json!({"error": "404 Not Found"}))),
        }
    }

    const fn rules(&self) -> Rules<'_> {
        Rules { allow_local_targets: self.allow_local_targets, release: &self.release }
    }

    fn create_hook(&mut self, request: &Request, position: usize) -> Answer {
        let (id, uuid, now) = (self.next_id(), self.uuid(), self.now());
        let hook = Hook::create(id, uuid, now, &parameters::gathered(request), &self.rules())?;
        let project = &mut self.projects[position];
        if project.hooks.len() >= project.hook_limit {
            return Err(refused(&format!("Maximum number of project hooks ({}) exceeded", project.hook_limit)));
        }
        project.hooks.push(hook.clone());
        let project = project.id;
        Ok(Response::json(201, &hook.document(project, &self.release, now)))
    }

    fn log(&self, request: &Request, hook: &Hook) -> Response {
        let shown = |attempt: &super::hooks::Attempt| {
            json!({
                "id": attempt.id, "url": attempt.url, "trigger": attempt.trigger, "request_headers": attempt.headers,
                "request_data": attempt.body, "response_headers": {}, "response_body": "", "execution_duration": 0.1,
                "response_status": attempt.status,
            })
        };
        let wanted = |attempt: &&super::hooks::Attempt| match request.parameter("status") {
            None => true,
            Some("successful") => attempt.status.starts_with('2'),
            Some("client_failure") => attempt.status.starts_with('4'),
            Some("server_failure") => attempt.status.starts_with('5') || attempt.status == "internal error",
            Some(status) => attempt.status == status,
        };
        let entries: Vec<Value> = hook.log.iter().filter(wanted).map(shown).collect();
        self.page(request, &entries)
    }

    /// Sends a delivery of the log again. The real service waits for the answer; this simulator returns the result of the
    /// previous attempt.
    fn resend(&mut self, position: usize, hook: &Hook, token: &Token, event: &str) -> Answer {
        let now = self.now();
        self.limits.trial(hook.id, token.user, now)?;
        let attempt = hook.log.iter().find(|attempt| attempt.id.to_string() == *event).cloned().ok_or_else(nothing)?;
        if attempt.url != hook.url {
            return Err(message(422, "The hook URL has changed. The event cannot be resent."));
        }
        if hook.alert_status(now) != "executable" {
            return Err(message(422, "Hook disabled"));
        }
        let path = self.projects[position].path.clone();
        let delivery = self.again(&path, hook, &attempt);
        self.pending.push(delivery);
        Ok(Response::json(201, &json!({"response_status": attempt.status})))
    }
}

/// Whether a project satisfies the filters of a list.
fn passes(project: &Project, request: &Request) -> bool {
    let number = |name: &str| request.number(name).map(|number| number as u64);
    let flag = |name: &str| request.parameter(name).and_then(|text| parameters::flag(&json!(text)).ok().flatten());
    let name = project.path.rsplit('/').next().unwrap_or_default().to_lowercase();
    number("id_after").is_none_or(|id| project.id > id)
        && number("id_before").is_none_or(|id| project.id < id)
        && flag("archived").is_none_or(|archived| project.archived == archived)
        && request.parameter("visibility").is_none_or(|visibility| project.visibility.word() == visibility)
        && request.parameter("search").is_none_or(|text| name.contains(&text.to_lowercase()))
}

/// By id, which is the order of creation; newest first unless the request says otherwise.
fn sort(projects: &mut [&Project], request: &Request) {
    match request.parameter("order_by") {
        Some("name" | "path") => projects.sort_by(|one, other| one.path.rsplit('/').next().cmp(&other.path.rsplit('/').next())),
        _ => projects.sort_by_key(|project| project.id),
    }
    if request.parameter("sort") != Some("asc") {
        projects.reverse();
    }
}
