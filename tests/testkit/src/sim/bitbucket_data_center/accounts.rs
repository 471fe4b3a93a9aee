//! Callers and their permissions.

use super::super::message::{Request, Response};
use super::state::{Repository, State};
use super::{LOG_INS_BEFORE_CAPTCHA, documents};

/// A permission for a project or a repository; each includes the previous ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    None,
    /// Read.
    Read,
    /// Read and push.
    Write,
    Admin,
}

/// The account of a person or a service.
pub struct User {
    pub name: String,
    pub id: u64,
    pub password: String,
    pub failed: u32,
    /// Permissions by the key of the project.
    pub grants: Vec<(String, Level)>,
}

/// The owner of a token, which defines its permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A user: never more than the user's own permissions.
    User(String),
    /// A project, by key.
    Project(String),
    /// A repository, by id.
    Repository(u64),
}

/// An HTTP access token.
#[derive(Clone, Debug)]
pub struct Token {
    pub text: String,
    pub holder: Holder,
    pub project: Level,
    pub repository: Level,
}

/// The caller of a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The name in `X-AUSERNAME`; `None` for an anonymous caller.
    pub name: Option<String>,
    pub id: u64,
    /// Restricts the user's own permissions; `None` for a password.
    pub token: Option<Token>,
}

impl Caller {
    /// An anonymous caller.
    pub const fn anonymous() -> Self {
        Self { name: None, id: 0, token: None }
    }
}

impl State {
    /// The caller of a request, or the refusal of its credential.
    pub fn caller(&mut self, request: &Request) -> Result<Caller, Box<Response>> {
        if let Some(token) = request.bearer() {
            return self.token(token).ok_or_else(|| Box::new(documents::wrong_token()));
        }
        match request.basic() {
            None => Ok(Caller::anonymous()),
            // A token used as a password never counts as a failed log-in.
            Some((_, password)) if password.starts_with("BBDC-") => {
                self.token(&password).ok_or_else(|| Box::new(documents::wrong_password()))
            }
            Some((name, password)) => self.log_in(&name, &password),
        }
    }

    fn token(&self, text: &str) -> Option<Caller> {
        let token = self.tokens.iter().find(|token| token.text == text)?.clone();
        let (name, id) = match &token.holder {
            Holder::User(name) => (name.clone(), self.users.iter().find(|user| user.name == *name)?.id),
            // A separate user, who is in no directory.
            Holder::Project(key) => (format!("access-token-user/1/{key}"), 901),
            Holder::Repository(id) => (format!("access-token-user/2/{id}"), 902),
        };
        Some(Caller { name: Some(name), id, token: Some(token) })
    }

    fn log_in(&mut self, name: &str, password: &str) -> Result<Caller, Box<Response>> {
        let login = format!("{}/login", self.web);
        let user = self.users.iter_mut().find(|user| user.name.eq_ignore_ascii_case(name));
        let user = user.ok_or_else(|| Box::new(documents::wrong_password()))?;
        if user.failed >= LOG_INS_BEFORE_CAPTCHA {
            // Even the right password is refused until the user solves the CAPTCHA in a browser.
            return Err(Box::new(documents::captcha(&login)));
        }
        if user.password != password {
            user.failed += 1;
            return Err(Box::new(documents::wrong_password()));
        }
        user.failed = 0;
        Ok(Caller { name: Some(user.name.clone()), id: user.id, token: None })
    }

    fn granted(&self, name: &str, key: &str) -> Level {
        if key.strip_prefix('~').is_some_and(|owner| owner.eq_ignore_ascii_case(name)) {
            return Level::Admin;
        }
        let user = self.users.iter().find(|user| user.name == name);
        user.and_then(|user| user.grants.iter().find(|(project, _)| project == key)).map_or(Level::None, |(_, level)| *level)
    }

    /// A caller's permission for a project itself.
    pub fn project_level(&self, caller: &Caller, key: &str) -> Level {
        match (&caller.token, &caller.name) {
            (Some(Token { holder: Holder::Project(project), project: level, .. }), _) if project == key => *level,
            (Some(Token { holder: Holder::User(user), project: level, .. }), _) => self.granted(user, key).min(*level),
            (None, Some(name)) => self.granted(name, key),
            _ => Level::None,
        }
    }

    /// A caller's permission for a repository.
    pub fn repository_level(&self, caller: &Caller, repository: &Repository) -> Level {
        let own = match (&caller.token, &caller.name) {
            (Some(Token { holder: Holder::Project(project), repository: level, .. }), _) if *project == repository.project => *level,
            (Some(Token { holder: Holder::Repository(id), repository: level, .. }), _) if *id == repository.id => *level,
            (Some(Token { holder: Holder::User(user), repository: level, .. }), _) => self.granted(user, &repository.project).min(*level),
            (None, Some(name)) => self.granted(name, &repository.project),
            _ => Level::None,
        };
        if repository.public { own.max(Level::Read) } else { own }
    }
}
