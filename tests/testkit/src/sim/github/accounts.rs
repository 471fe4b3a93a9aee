//! Callers and their permissions: people, organizations, tokens, the App and its installations.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::apps;
use super::documents::error;
use super::state::{Repository, State};
use crate::sim::message::{Request, Response};

/// A role in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Read,
    Write,
    Admin,
}

#[derive(Clone, Debug)]
pub struct User {
    pub id: u64,
    pub login: String,
}

#[derive(Clone, Debug)]
pub struct Organization {
    pub id: u64,
    pub login: String,
    /// The members by login, and whether they are owners.
    pub members: BTreeMap<String, bool>,
    /// Whether tokens of members need authorization for it.
    pub single_sign_on: bool,
}

/// The keys and levels of an App, an installation or a fine-grained token.
pub type Permissions = BTreeMap<&'static str, &'static str>;

/// A person's token.
#[derive(Clone, Debug)]
pub struct Token {
    pub value: &'static str,
    pub user: &'static str,
    pub grant: Grant,
    /// In the form of the header.
    pub expires_at: Option<&'static str>,
    /// Organizations with single sign-on for which its owner authorized it.
    pub authorized_for: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub enum Grant {
    Classic(BTreeSet<&'static str>),
    /// For the repositories of one owner.
    FineGrained {
        owner: &'static str,
        permissions: Permissions,
    },
}

/// The only registered App.
#[derive(Clone, Debug, Default)]
pub struct SimulatedApp {
    pub id: u64,
    pub client_id: String,
    pub permissions: Permissions,
    pub events: Vec<&'static str>,
    /// Target and secret of its own webhook, if it has one.
    pub webhook: Option<(String, Option<String>)>,
}

#[derive(Clone, Debug)]
pub struct Installation {
    pub id: u64,
    pub account: String,
    /// Names of the selected repositories; `None` for all.
    pub selection: Option<Vec<&'static str>>,
    pub permissions: Permissions,
    pub suspended_at: Option<Timestamp>,
}

impl Installation {
    pub fn covers(&self, repository: &Repository) -> bool {
        let chosen = |names: &Vec<&str>| names.iter().any(|name| name.eq_ignore_ascii_case(&repository.name));
        repository.owner.eq_ignore_ascii_case(&self.account) && self.selection.as_ref().is_none_or(chosen)
    }
}

#[derive(Clone, Debug)]
pub struct InstallationToken {
    pub value: String,
    pub installation: u64,
    pub permissions: Permissions,
    /// Names of the repositories to which it is restricted.
    pub repositories: Option<Vec<String>>,
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug)]
pub enum Caller {
    Nobody,
    Person(Token),
    App,
    Installation(InstallationToken, Installation),
}

impl Caller {
    /// The account whose rate limit counts.
    pub fn account(&self) -> String {
        match self {
            Self::Nobody => "nobody".to_owned(),
            Self::Person(token) => token.user.to_owned(),
            Self::App => "the App".to_owned(),
            Self::Installation(_, installation) => format!("installation {}", installation.id),
        }
    }

    pub fn scopes(&self) -> Option<&BTreeSet<&'static str>> {
        match self {
            Self::Person(Token { grant: Grant::Classic(scopes), .. }) => Some(scopes),
            _ => None,
        }
    }

    /// The permissions by key; `None` for a caller without keys.
    fn permissions(&self) -> Option<&Permissions> {
        match self {
            Self::Person(Token { grant: Grant::FineGrained { permissions, .. }, .. })
            | Self::Installation(InstallationToken { permissions, .. }, _) => Some(permissions),
            _ => None,
        }
    }

    fn has_scope(&self, wanted: &[&str]) -> bool {
        self.scopes().is_some_and(|scopes| wanted.iter().any(|scope| scopes.contains(scope)))
    }
}

fn level(text: &str) -> u8 {
    match text {
        "read" => 1,
        "write" => 2,
        _ => 3,
    }
}

pub fn suffices(permissions: &Permissions, key: &str, wanted: &str) -> bool {
    key == "metadata" || permissions.get(key).is_some_and(|found| level(found) >= level(wanted))
}

/// The scopes of a classic token that an operation on hooks needs, any of them.
pub const READ_HOOKS: &[&str] = &["admin:repo_hook", "write:repo_hook", "read:repo_hook", "repo"];
pub const WRITE_HOOKS: &[&str] = &["admin:repo_hook", "write:repo_hook", "repo"];
pub const DELETE_HOOKS: &[&str] = &["admin:repo_hook", "repo"];

impl State {
    /// The caller of a request.
    pub fn caller(&self, request: &Request) -> Result<Caller, Response> {
        let bad = || error(401, "Bad credentials");
        let token = match (request.bearer(), request.basic()) {
            (Some(token), _) => token.to_owned(),
            (None, Some((_, password))) => password,
            (None, None) if request.headers.contains_key("authorization") => return Err(bad()),
            (None, None) => return Ok(Caller::Nobody),
        };
        if token.starts_with("eyJ") {
            return apps::verify(self, &token).map(|()| Caller::App);
        }
        if let Some(found) = self.tokens.iter().find(|found| found.value == token) {
            return Ok(Caller::Person(found.clone()));
        }
        let found = self.installation_tokens.iter().find(|found| found.value == token && found.expires_at > self.now());
        let found = found.ok_or_else(bad)?;
        let installation = self.installations.iter().find(|installation| installation.id == found.installation).ok_or_else(bad)?;
        match installation.suspended_at {
            Some(_) => Err(error(403, "This installation has been suspended")),
            None => Ok(Caller::Installation(found.clone(), installation.clone())),
        }
    }

    /// The role of an account in a repository, independent of its token.
    pub fn role(&self, login: &str, repository: &Repository) -> Option<Role> {
        if repository.owner.eq_ignore_ascii_case(login) {
            return Some(Role::Admin);
        }
        let organization = self.organizations.iter().find(|found| found.login == repository.owner);
        // Members may read, owners may do everything.
        let by_membership =
            organization.and_then(|found| found.members.get(login)).map(|owns| if *owns { Role::Admin } else { Role::Read });
        by_membership.max(repository.collaborators.get(login).copied())
    }

    /// Whether a caller can see a repository. If not, it does not exist for the caller.
    pub fn shows(&self, caller: &Caller, repository: &Repository) -> Result<bool, Response> {
        if repository.public {
            return Ok(true);
        }
        Ok(match caller {
            Caller::Nobody | Caller::App => false,
            Caller::Person(token) => {
                let reaches = match &token.grant {
                    Grant::Classic(scopes) => scopes.contains("repo"),
                    Grant::FineGrained { owner, .. } => repository.owner.eq_ignore_ascii_case(owner),
                };
                let shown = reaches && self.role(token.user, repository).is_some();
                if shown {
                    self.signed_on(token, &repository.owner)?;
                }
                shown
            }
            Caller::Installation(token, installation) => {
                let narrowed = token.repositories.as_ref().is_none_or(|names| names.contains(&repository.name));
                narrowed && installation.covers(repository)
            }
        })
    }

    /// Whether an organization accepts a token of one of its members.
    pub fn signed_on(&self, token: &Token, owner: &str) -> Result<(), Response> {
        let demands = self.organizations.iter().any(|found| found.login.eq_ignore_ascii_case(owner) && found.single_sign_on);
        if !demands || token.authorized_for.contains(owner) {
            return Ok(());
        }
        let words =
            "Resource protected by organization SAML enforcement. You must grant your Personal Access token access to this organization.";
        let url = format!("required; url={}/orgs/{owner}/sso?authorization_request=AAAA", self.web);
        Err(error(403, words).with("x-github-sso", &url))
    }

    /// Whether a caller who can see a repository may manage its hooks.
    pub fn may_manage(&self, caller: &Caller, repository: &Repository, level: &str, scopes: &[&str]) -> Result<(), Response> {
        if let Some(permissions) = caller.permissions() {
            let (named, reached) = match caller {
                Caller::Installation(_, installation) => ("integration", installation.covers(repository)),
                Caller::Person(token) => ("personal access token", self.role(token.user, repository) == Some(Role::Admin)),
                Caller::Nobody | Caller::App => ("", false),
            };
            return if reached && suffices(permissions, "repository_hooks", level) {
                Ok(())
            } else {
                Err(lacks(named, "repository_hooks", level))
            };
        }
        let Caller::Person(token) = caller else { return Err(error(404, "Not Found")) };
        let reaches = caller.has_scope(scopes) || (repository.public && caller.has_scope(&["public_repo"]));
        let admin = self.role(token.user, repository) == Some(Role::Admin);
        if reaches && admin { self.signed_on(token, &repository.owner) } else { Err(error(404, "Not Found")) }
    }

    /// Whether a caller who can see a repository may read its contents.
    pub fn may_read_contents(caller: &Caller, repository: &Repository) -> Result<(), Response> {
        let Some(permissions) = caller.permissions().filter(|_| !repository.public) else { return Ok(()) };
        let named = if matches!(caller, Caller::Installation(..)) { "integration" } else { "personal access token" };
        if suffices(permissions, "contents", "read") { Ok(()) } else { Err(lacks(named, "contents", "read")) }
    }
}

/// The refusal of a valid credential that lacks a permission.
fn lacks(named: &str, key: &str, level: &str) -> Response {
    error(403, &format!("Resource not accessible by {named}")).with("x-accepted-github-permissions", &format!("{key}={level}"))
}
