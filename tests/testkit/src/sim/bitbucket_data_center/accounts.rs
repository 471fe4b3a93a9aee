//! Who calls, and what they may do.

use super::super::message::{Request, Response};
use super::state::{Repository, State};
use super::{LOG_INS_BEFORE_CAPTCHA, documents};

/// What somebody may do with a project or a repository; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    None,
    /// Read.
    Read,
    /// Read and push.
    Write,
    /// Everything.
    Admin,
}

/// A person's or a service's account.
pub struct User {
    pub name: String,
    pub id: u64,
    pub password: String,
    pub failed: u32,
    /// Projects by key, and what the user may do in them.
    pub grants: Vec<(String, Level)>,
}

/// Whose right a token carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Of a user: never more than the user may.
    User(String),
    /// Of a project, by key.
    Project(String),
    /// Of a repository, by id.
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

/// Who a request is from.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The name in `X-AUSERNAME`; `None` for nobody.
    pub name: Option<String>,
    pub id: u64,
    /// What limits the user's own rights; `None` for a password.
    pub token: Option<Token>,
}

impl Caller {
    /// Nobody.
    pub const fn anonymous() -> Self {
        Self { name: None, id: 0, token: None }
    }
}

impl State {
    /// Who a request is from, or the refusal of its credential.
    pub fn caller(&mut self, request: &Request) -> Result<Caller, Box<Response>> {
        if let Some(token) = request.bearer() {
            return self.token(token).ok_or_else(|| Box::new(documents::wrong_token()));
        }
        match request.basic() {
            None => Ok(Caller::anonymous()),
            // A token stands for a password; it is never a failed log-in.
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
            // A user of its own, who is in no directory.
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
            // The right password too, until somebody solves it in a browser.
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

    /// What a caller may do with a project itself.
    pub fn project_level(&self, caller: &Caller, key: &str) -> Level {
        match (&caller.token, &caller.name) {
            (Some(Token { holder: Holder::Project(project), project: level, .. }), _) if project == key => *level,
            (Some(Token { holder: Holder::User(user), project: level, .. }), _) => self.granted(user, key).min(*level),
            (None, Some(name)) => self.granted(name, key),
            _ => Level::None,
        }
    }

    /// What a caller may do with a repository.
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
