//! Callers and the permissions of credentials.

use super::super::message::{Request, Response};
use super::documents;
use super::state::{Holder, Level, Repository, State};

/// The user name that goes with an access token for git.
pub const ACCESS_TOKEN_USER: &str = "x-token-auth";
/// The user name that goes with an API token for git.
pub const API_TOKEN_USER: &str = "x-bitbucket-api-token-auth";

#[derive(Clone, Debug)]
pub struct Caller {
    /// `None` without a credential.
    pub holder: Option<Holder>,
    pub scopes: Vec<String>,
    /// The key of the rate limit.
    pub credential: String,
}

/// The scopes that an operation needs: for access tokens, and for API tokens.
#[derive(Clone, Copy, Debug)]
pub struct Scopes {
    pub access_token: &'static [&'static str],
    pub api_token: &'static [&'static str],
}

impl Caller {
    fn anonymous() -> Self {
        Self { holder: None, scopes: Vec::new(), credential: "anonymous".to_owned() }
    }

    /// Whether the credential is an access token: it belongs to no user.
    pub const fn is_access_token(&self) -> bool {
        matches!(self.holder, Some(Holder::Repository(_) | Holder::Project(..) | Holder::Workspace(_)))
    }

    /// The refusal of a credential that lacks a scope; an anonymous caller needs none.
    pub fn lacks(&self, needed: Scopes) -> Option<Response> {
        self.holder.as_ref()?;
        let missing: Vec<_> = self.of(needed).iter().copied().filter(|scope| !self.has(scope)).collect();
        (!missing.is_empty()).then(|| documents::scopes_missing(&missing, &self.scopes))
    }

    /// The needed scopes for this kind of credential.
    pub const fn of(&self, needed: Scopes) -> &'static [&'static str] {
        if self.is_access_token() { needed.access_token } else { needed.api_token }
    }

    /// Whether a scope is granted. Scopes of access tokens include others, those of API tokens do not.
    fn has(&self, scope: &str) -> bool {
        let including: &[&str] = match scope {
            "repository" => &["repository:write", "pullrequest", "pullrequest:write", "project"],
            "repository:write" | "pullrequest" => &["pullrequest:write"],
            _ => &[],
        };
        self.scopes.iter().any(|granted| granted == scope || including.contains(&granted.as_str()))
    }

    /// Adds the headers of every answer to a valid credential.
    pub fn mark(&self, response: Response, needed: Scopes) -> Response {
        let kind = match &self.holder {
            None => return response,
            Some(Holder::User(_)) => "api_token",
            Some(Holder::Repository(_)) => "repo_access_token",
            Some(Holder::Project(..)) => "project_access_token",
            Some(Holder::Workspace(_)) => "workspace_access_token",
        };
        response
            .with("x-credential-type", kind)
            .with("x-oauth-scopes", &self.scopes.join(", "))
            .with("x-accepted-oauth-scopes", &self.of(needed).join(", "))
    }
}

impl State {
    /// The caller of an API request. An API token needs the e-mail address of its account; access tokens are sent alone.
    pub fn caller(&self, request: &Request) -> Result<Caller, Box<Response>> {
        if let Some((username, password)) = request.basic() {
            let with_email = |holder: &Holder| matches!(holder, Holder::User(name) if self.email_of(name).eq_ignore_ascii_case(&username));
            let known = self.tokens.iter().any(|token| token.text == password);
            // An app password is refused like any password.
            let refusal = if known { documents::token_invalid } else { documents::login_failed };
            return self.holding(&password, with_email).ok_or_else(|| refusal().into());
        }
        if let Some(token) = request.bearer() {
            return self.holding(token, |holder| !matches!(holder, Holder::User(_))).ok_or_else(|| documents::token_invalid().into());
        }
        if request.header("authorization").is_some() { Err(documents::token_invalid().into()) } else { Ok(Caller::anonymous()) }
    }

    /// The caller of a git request; `None` for a credential that is not accepted. Git does not accept the e-mail address as a
    /// user name.
    pub fn git_caller(&self, request: &Request) -> Option<Caller> {
        let Some((username, password)) = request.basic() else {
            return request.header("authorization").is_none().then(Caller::anonymous);
        };
        self.holding(&password, |holder| match holder {
            Holder::User(name) => username == API_TOKEN_USER || username == *name,
            _ => username == ACCESS_TOKEN_USER,
        })
    }

    fn email_of(&self, name: &str) -> &str {
        self.users.iter().find(|user| user.name == name).map_or("", |user| user.email.as_str())
    }

    fn holding(&self, text: &str, fits: impl Fn(&Holder) -> bool) -> Option<Caller> {
        let token = self.tokens.iter().find(|token| token.text == text && fits(&token.holder))?;
        Some(Caller { holder: Some(token.holder.clone()), scopes: token.scopes.clone(), credential: token.text.clone() })
    }

    /// The permission for a repository, independent of scopes.
    pub fn level(&self, caller: &Caller, repository: &Repository) -> Level {
        let held = match &caller.holder {
            None => Level::None,
            Some(Holder::User(name)) => {
                let members = self.workspace(&repository.workspace).map(|workspace| workspace.members.as_slice()).unwrap_or_default();
                members.iter().find(|(member, _)| member == name).map_or(Level::None, |(_, level)| *level)
            }
            Some(Holder::Repository(uuid)) => admin_if(repository.uuid == *uuid),
            Some(Holder::Project(workspace, key)) => admin_if(repository.workspace == *workspace && repository.project == *key),
            Some(Holder::Workspace(slug)) => admin_if(repository.workspace == *slug),
        };
        if repository.private { held } else { held.max(Level::Read) }
    }
}

const fn admin_if(own: bool) -> Level {
    if own { Level::Admin } else { Level::None }
}
