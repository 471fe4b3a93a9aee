//! Users, tokens and roles: callers and their permissions.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::state::{Project, State, Visibility};
use crate::sim::message::{Request, Response};

pub const GUEST: u64 = 10;
pub const REPORTER: u64 = 20;
pub const DEVELOPER: u64 = 30;
pub const MAINTAINER: u64 = 40;
pub const OWNER: u64 = 50;

/// An account.
#[derive(Clone, Debug)]
pub struct User {
    pub id: u64,
    pub name: String,
    /// Whether it was created for a token of a project or a group.
    pub bot: bool,
    pub admin: bool,
    pub blocked: bool,
}

/// A personal, project or group access token: all are rows of one table, the last two with a bot user.
#[derive(Clone, Debug)]
pub struct Token {
    pub id: u64,
    pub value: String,
    pub name: String,
    pub scopes: Vec<&'static str>,
    /// For a fine-grained token.
    pub permissions: Vec<&'static str>,
    pub user: u64,
    /// It expires at the beginning of this day.
    pub expires_at: Option<Date>,
    pub revoked: bool,
}

/// The requirements of a call on its token.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Any of these scopes; with none, every token is accepted.
    pub scopes: &'static [&'static str],
    /// The permission of a fine-grained token.
    pub permission: &'static str,
}

/// The scopes for reading the API.
pub const READ: &[&str] = &["api", "read_api"];
pub const WRITE: &[&str] = &["api"];
pub const READ_USER: &[&str] = &["api", "read_api", "read_user"];
pub const ANY: &[&str] = &[];
const GIT: &[&str] = &["api", "read_api", "read_repository", "write_repository"];
const FINE_GRAINED: &str = "granular";

impl State {
    pub fn add_user(&mut self, name: &str) -> u64 {
        let id = self.next_id();
        self.users.push(User { id, name: name.to_owned(), bot: false, admin: false, blocked: false });
        id
    }

    /// Adds a bot user for a project or group access token, named after the token.
    pub fn add_bot(&mut self, holder: &str, holder_id: u64) -> u64 {
        let digits = self.uuid().replace('-', "");
        let id = self.add_user(&format!("{holder}_{holder_id}_bot_{digits}"));
        self.users.last_mut().unwrap().bot = true;
        id
    }

    pub fn add_token(&mut self, value: &str, name: &str, user: u64, scopes: &[&'static str]) -> &mut Token {
        let id = self.next_id();
        self.tokens.push(Token {
            id,
            value: value.to_owned(),
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            permissions: Vec::new(),
            user,
            expires_at: Some("2099-03-01".parse().unwrap()),
            revoked: false,
        });
        self.tokens.last_mut().unwrap()
    }

    pub fn user(&self, id: u64) -> &User {
        self.users.iter().find(|user| user.id == id).unwrap()
    }

    fn is_over(&self, token: &Token) -> bool {
        token.expires_at.is_some_and(|date| date.to_zoned(TimeZone::UTC).unwrap().timestamp() <= self.now())
    }

    /// The caller; `None` for an anonymous one.
    pub fn caller(&self, request: &Request) -> Result<Option<&Token>, Response> {
        let private = request.header("private-token").or_else(|| request.parameter("private_token"));
        let Some(value) = private.or_else(|| request.bearer()).or_else(|| request.parameter("access_token")) else {
            return if request.header("authorization").is_some() { Err(unauthorized()) } else { Ok(None) };
        };
        let found = self.tokens.iter().find(|token| token.value == value);
        let invalid = |words: &str| Response::json(401, &json!({"error": "invalid_token", "error_description": words}));
        match found {
            None if private.is_some() => Err(unauthorized()),
            None => Err(invalid("Token was revoked. You have to re-authorize from the user.")),
            Some(token) if token.revoked => Err(invalid("Token was revoked. You have to re-authorize from the user.")),
            Some(token) if self.is_over(token) => Err(invalid("Token is expired. You can either do re-authorization or token refresh.")),
            Some(token) if self.user(token.user).blocked => {
                Err(Response::json(403, &json!({"message": "403 Forbidden - Your account has been blocked."})))
            }
            Some(token) => Ok(Some(token)),
        }
    }

    /// The caller, if its token satisfies the requirements.
    pub fn allowed(&self, request: &Request, need: Need) -> Result<&Token, Response> {
        let token = self.caller(request)?.ok_or_else(unauthorized)?;
        allows(token, need)?;
        Ok(token)
    }

    /// The role by memberships of the project itself.
    pub fn direct_role(project: &Project, user: u64) -> Option<u64> {
        project.members.get(&user).copied()
    }

    /// The role by the project's groups.
    pub fn group_role(&self, path: &str, user: u64) -> Option<u64> {
        let groups = self.groups.iter().filter(|group| is_below(path, &group.path));
        groups.filter_map(|group| group.members.get(&user).copied()).max()
    }

    /// The role by memberships of the project, of its groups and of invited groups.
    pub fn role(&self, project: &Project, user: u64) -> Option<u64> {
        let invited = project.invited.iter().filter_map(|(group, most)| {
            let role = self.group(group)?.members.get(&user).copied()?;
            Some(role.min(*most))
        });
        [Self::direct_role(project, user), self.group_role(&project.path, user)].into_iter().flatten().chain(invited).max()
    }

    /// Whether a caller can see a project.
    pub fn sees(&self, project: &Project, token: Option<&Token>) -> bool {
        let user = token.map(|token| token.user);
        match project.visibility {
            Visibility::Public => true,
            Visibility::Internal if user.is_some() => true,
            _ => user.is_some_and(|user| self.user(user).admin || self.role(project, user).is_some()),
        }
    }

    /// Whether a caller may manage the project: its settings and hooks.
    pub fn maintains(&self, project: &Project, token: &Token) -> bool {
        self.user(token.user).admin || self.role(project, token.user).is_some_and(|role| role >= MAINTAINER)
    }

    /// Whether git accepts this user name and password for the project.
    pub fn git_access(&self, request: &Request, project: Option<&Project>) -> Result<(), Response> {
        let plain = |status, words: &str| Response::text(status, "text/plain; charset=utf-8", words);
        let challenge = || {
            plain(401, "HTTP Basic: Access denied. If a password was provided for Git authentication, the password was incorrect.\n")
                .with("www-authenticate", "Basic realm=\"GitLab\"")
        };
        let public = project.is_some_and(|project| project.visibility == Visibility::Public);
        let Some((_, password)) = request.basic() else { return if public { Ok(()) } else { Err(challenge()) } };
        let token = self.tokens.iter().find(|token| token.value == password && !token.revoked && !self.is_over(token));
        let token = token.filter(|token| !self.user(token.user).blocked).ok_or_else(challenge)?;
        let hidden = || plain(404, "The project you were looking for could not be found or you don't have permission to view it.\n");
        let project = project.filter(|project| self.sees(project, Some(token))).ok_or_else(hidden)?;
        let reads = public || self.user(token.user).admin || self.role(project, token.user).is_some_and(|role| role >= REPORTER);
        let fits = token.scopes.iter().any(|scope| GIT.contains(scope));
        if reads && fits { Ok(()) } else { Err(plain(403, "You are not allowed to download code from this project.\n")) }
    }
}

/// Whether a path lies in a group or below it.
fn is_below(path: &str, group: &str) -> bool {
    path.get(..group.len()).is_some_and(|start| start.eq_ignore_ascii_case(group)) && path[group.len()..].starts_with('/')
}

fn allows(token: &Token, need: Need) -> Result<(), Response> {
    if token.scopes.contains(&FINE_GRAINED) {
        if token.permissions.contains(&need.permission) {
            return Ok(());
        }
        let words = format!("Access denied: Your Personal Access Token lacks the required permissions: [{}].", need.permission);
        return Err(Response::json(403, &json!({"error": "insufficient_granular_scope", "error_description": words})));
    }
    if need.scopes.is_empty() || token.scopes.iter().any(|scope| need.scopes.contains(scope)) {
        return Ok(());
    }
    let words = "The request requires higher privileges than provided by the access token.";
    let scope = need.scopes.join(" ");
    Err(Response::json(403, &json!({"error": "insufficient_scope", "error_description": words, "scope": scope})))
}

pub fn unauthorized() -> Response {
    Response::json(401, &json!({"message": "401 Unauthorized"}))
}

pub fn token_document(token: &Token, over: bool) -> Value {
    let mut document = json!({
        "id": token.id, "name": token.name, "description": null, "revoked": token.revoked, "created_at": "2026-06-01T08:00:00.000Z",
        "scopes": token.scopes, "user_id": token.user, "last_used_at": null, "active": !token.revoked && !over,
        "expires_at": token.expires_at.map(|date| date.to_string()),
    });
    if token.scopes.contains(&FINE_GRAINED) {
        document["granular_scopes"] = json!([{"access": "all_memberships", "permissions": token.permissions}]);
    }
    document
}

pub fn user_document(user: &User, web: &str) -> Value {
    let mut document = json!({
        "id": user.id, "username": user.name, "name": user.name, "state": if user.blocked { "blocked" } else { "active" },
        "bot": user.bot, "web_url": format!("{web}/{}", user.name),
    });
    if user.admin {
        document["is_admin"] = json!(true);
    }
    document
}
