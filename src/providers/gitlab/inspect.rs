//! Inspects a credential: server, identity, expiry and permissions. A token can describe itself whatever its scopes are.
//! Everything else needs a scope, and an error about a missing scope proves that the token is valid.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::client::{GitLabClient, TokenUser};
use super::permission::{self, API, READ_API};
use super::wire::VersionNumber;
use super::{error, wire};
use crate::api::v1alpha1::connection::IdentityKind;
use crate::providers::model::{Capabilities, Identity, Inspection, Scope};
use crate::providers::permission::Grants;
use crate::providers::transport::Operation;
use crate::providers::{ErrorKind, ProviderError};

const FLAVOR: &str = "GitLab";
/// Value in the `scopes` of a fine-grained token.
const FINE_GRAINED: &str = "granular";
/// Scope that may read accounts and the version.
const READ_USER: &str = "read_user";

/// First version with a delivery log.
const DELIVERY_LOG: VersionNumber = (17, 3);
/// First version that can resend a delivery.
const RESEND: VersionNumber = (17, 4);
/// First version with signing tokens.
const SIGNATURE: VersionNumber = (19, 0);
/// A version with every capability.
pub(super) const NEWEST: VersionNumber = SIGNATURE;

/// Capabilities of a connection. `api`: whether the API accepts the credential; `told`: whether GitLab reports its scopes
/// and expiry.
pub(super) fn capabilities(version: Option<VersionNumber>, api: bool, told: bool) -> Capabilities {
    let since = |first: VersionNumber| version.is_some_and(|version| version >= first);
    Capabilities {
        api,
        update_sets_secret: true,
        lookup_by_id: api,
        delivery_log: since(DELIVERY_LOG),
        resend: since(RESEND),
        signature: since(SIGNATURE),
        scope_introspection: told,
        expiry_introspection: told,
        ..Capabilities::default()
    }
}

/// Parses the major and minor version of `19.1.2-ee`. `None` if the text is not a version.
pub(super) fn version_number(text: &str) -> Option<VersionNumber> {
    let mut parts = text.split(|character: char| !character.is_ascii_digit());
    let mut next = || parts.next().and_then(|part| part.parse::<u64>().ok());
    Some((next()?, next()?))
}

/// What GitLab reports about a token.
enum TokenInfo {
    /// The full description.
    Token(Box<wire::Token>),
    /// No description, and the reason.
    Nothing(&'static str),
}

impl TokenInfo {
    const fn token(&self) -> Option<&wire::Token> {
        match self {
            Self::Token(token) => Some(token),
            Self::Nothing(_) => None,
        }
    }

    fn grants(&self) -> Grants {
        match self {
            Self::Nothing(reason) => Grants::Unknown((*reason).to_owned()),
            Self::Token(token) if token.scopes.iter().any(|scope| scope == FINE_GRAINED) => {
                Grants::Unknown("the token is fine-grained: its permissions belong to single groups and projects".to_owned())
            }
            Self::Token(token) => {
                let mut scopes = token.scopes.clone();
                scopes.sort();
                scopes.dedup();
                Grants::Known(scopes)
            }
        }
    }
}

/// Whether the grants may include one of these scopes. Unknown grants may.
fn may(grants: &Grants, scopes: &[&str]) -> bool {
    match grants {
        Grants::Known(granted) => permission::has_any(granted, scopes),
        Grants::Unknown(_) => true,
    }
}

/// Returns `None` if the credential lacks permission.
fn unless_refused<T>(result: Result<T, ProviderError>) -> Result<Option<T>, ProviderError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

impl GitLabClient {
    pub(super) async fn inspect_credential(&self) -> Result<Inspection, ProviderError> {
        if self.is_anonymous() {
            return self.inspect_nothing().await;
        }
        let told = self.token().await?;
        let grants = told.grants();
        let sees_accounts = may(&grants, &[READ_USER, READ_API, API]);
        let user = if sees_accounts { self.user().await? } else { None };
        let version = if sees_accounts { self.version().await? } else { None };
        let api = may(&grants, &[READ_API, API]);
        let group = if api { self.group().await? } else { self.unresolved("the token has no scope for the API") };
        let user_id = user.as_ref().map(|user| user.id.clone()).or_else(|| told.token()?.user_id.clone());
        if let Some(user_id) = user_id {
            self.remember(TokenUser { user_id, is_admin: user.as_ref().is_some_and(|user| user.is_admin) });
        }
        let number = version.as_deref().and_then(version_number);
        self.signing.learn_version(number);
        let known = matches!(grants, Grants::Known(_));
        let capabilities = Capabilities { expiry_introspection: told.token().is_some(), ..capabilities(number, api, known) };
        Ok(Inspection {
            flavor: FLAVOR.to_owned(),
            version,
            identity: Some(identity(user)),
            credential_name: told.token().map(|token| token.name.clone()),
            expires_at: told.token().and_then(|token| end(token.expires_at.as_deref()?)),
            grants,
            capabilities,
            scope: group.scope,
            warnings: group.warning.into_iter().collect(),
        })
    }

    /// Inspects a connection without a credential. GitLab hides the version then, but the error response proves that a
    /// GitLab server answers.
    async fn inspect_nothing(&self) -> Result<Inspection, ProviderError> {
        let answer = self.get(Operation::ReadVersion, self.api(["version"])).await?;
        let version = match answer.refusal() {
            None => Some(answer.json::<wire::Version>()?.version),
            Some(ErrorKind::Unauthenticated | ErrorKind::PermissionDenied) => None,
            Some(ErrorKind::NotFound) => return Err(answer.invalid("no GitLab answers at this address")),
            Some(kind) => return Err(answer.refused(kind)),
        };
        let group = self.group().await?;
        if version.is_none() && group.scope.is_none() {
            self.shows_something().await?;
        }
        let number = version.as_deref().and_then(version_number);
        Ok(Inspection {
            flavor: FLAVOR.to_owned(),
            version,
            identity: None,
            credential_name: None,
            expires_at: None,
            grants: Grants::Unknown("there is no credential".to_owned()),
            capabilities: capabilities(number, true, false),
            scope: group.scope,
            warnings: group.warning.into_iter().collect(),
        })
    }

    /// Fails if the server hides even public projects from anonymous users.
    async fn shows_something(&self) -> Result<(), ProviderError> {
        let mut url = self.api(["projects"]);
        url.query_pairs_mut().extend_pairs([("visibility", "public"), ("simple", "true"), ("per_page", "1")]);
        let answer = self.get(Operation::InspectCredential, url).await?;
        match answer.refusal() {
            Some(ErrorKind::Unauthenticated | ErrorKind::PermissionDenied) => Err(answer.refused(ErrorKind::Unauthenticated)),
            _ => Ok(()),
        }
    }

    /// Reads the token's own description. Every classic scope permits this.
    async fn token(&self) -> Result<TokenInfo, ProviderError> {
        let answer = self.get(Operation::InspectCredential, self.api(["personal_access_tokens", "self"])).await?;
        match answer.refusal() {
            None => Ok(TokenInfo::Token(Box::new(answer.json()?))),
            Some(ErrorKind::PermissionDenied) if error::is_about_scopes(&answer) => {
                Ok(TokenInfo::Nothing("the token is fine-grained and cannot read itself"))
            }
            // The account is blocked or has to accept terms: every call fails this way.
            Some(ErrorKind::PermissionDenied) => Err(answer.refused(ErrorKind::Unauthenticated)),
            Some(ErrorKind::Rejected) => Ok(TokenInfo::Nothing("it is an OAuth token, whose scopes the server does not report")),
            // GitLab before 15.5, or a server that is not GitLab.
            Some(ErrorKind::NotFound) => match self.user().await {
                Err(error) if error.kind == ErrorKind::NotFound => Err(answer.invalid("no GitLab answers at this address")),
                Err(error) => Err(error),
                Ok(_) => Ok(TokenInfo::Nothing("this version of GitLab does not report a token's scopes")),
            },
            Some(kind) => Err(answer.refused(kind)),
        }
    }

    /// Returns `None` if the token may not read its account.
    async fn user(&self) -> Result<Option<wire::User>, ProviderError> {
        let answer = self.get(Operation::InspectCredential, self.api(["user"])).await?;
        match answer.refusal() {
            // The account may not act, although the token can still describe itself.
            Some(ErrorKind::PermissionDenied) if !error::is_about_scopes(&answer) => Err(answer.refused(ErrorKind::Unauthenticated)),
            _ => unless_refused(answer.json()),
        }
    }

    async fn version(&self) -> Result<Option<String>, ProviderError> {
        let answer = self.get(Operation::ReadVersion, self.api(["version"])).await?;
        Ok(unless_refused(answer.json::<wire::Version>())?.map(|version| version.version))
    }

    /// Reads the group, with its path as the server reports it.
    async fn group(&self) -> Result<Group, ProviderError> {
        let Some(given) = &self.endpoint.scope else { return Ok(Group::default()) };
        let mut url = self.api(["groups", &given.path]);
        url.query_pairs_mut().append_pair("with_projects", "false");
        let answer = self.get(Operation::InspectCredential, url).await?;
        let number = is_number(&given.path);
        match answer.refusal() {
            None => {}
            Some(ErrorKind::NotFound) if given.path.contains('/') && error::has_no_such_address(&answer) => {
                return Ok(self.unresolved(error::DECODED));
            }
            Some(ErrorKind::NotFound) if number => {
                let message = format!("{given} does not exist, or is hidden from this token; use the path of the group instead");
                return Err(ProviderError { message, ..answer.refused(ErrorKind::NotFound) });
            }
            Some(ErrorKind::NotFound) => {
                return Ok(self.unresolved("it does not exist, is hidden from this token, or is the namespace of a user"));
            }
            Some(ErrorKind::PermissionDenied | ErrorKind::Unauthenticated) => return Ok(self.unresolved("the token cannot see it")),
            Some(kind) => return Err(answer.refused(kind)),
        }
        let path = answer.json::<wire::Group>()?.full_path;
        if !number && !path.eq_ignore_ascii_case(&given.path) {
            let message = format!("the {given} is now called {path}; correct gitlab.group");
            return Err(ProviderError::new(ErrorKind::EndpointInvalid, Operation::InspectCredential.as_str(), message));
        }
        Ok(Group { scope: Some(Scope { path, ..given.clone() }), warning: None })
    }

    /// The result for a group that could not be looked up. A path still matches bindings. A number matches none, because
    /// the group's path is unknown.
    fn unresolved(&self, reason: &str) -> Group {
        let warning = self.endpoint.scope.as_ref().map(|scope| {
            let advice = if is_number(&scope.path) { "; use the path of the group, or no repository is in it" } else { "" };
            format!("the {scope} could not be looked up: {reason}{advice}")
        });
        Group { scope: None, warning }
    }
}

/// Result of looking up the group that the spec names.
#[derive(Default)]
struct Group {
    scope: Option<Scope>,
    warning: Option<String>,
}

fn is_number(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_digit())
}

/// The kind of identity. Project and group access tokens belong to bot users that are created with them; service accounts
/// belong to groups of people.
fn identity(user: Option<wire::User>) -> Identity {
    let Some(user) = user else { return Identity { name: None, kind: IdentityKind::Token } };
    let is_tokens_own = user.bot && ["project_", "group_"].iter().any(|prefix| user.username.starts_with(prefix));
    let kind = match user.username.as_str() {
        _ if is_tokens_own => IdentityKind::Token,
        name if user.bot || name.starts_with("service_account_") => IdentityKind::ServiceAccount,
        _ => IdentityKind::User,
    };
    Identity { name: Some(user.username), kind }
}

/// The expiry of a token: the first second of the given day, in UTC.
fn end(date: &str) -> Option<Timestamp> {
    if let Ok(moment) = date.parse::<Timestamp>() {
        return Some(moment);
    }
    let date: Date = date.parse().ok()?;
    date.to_zoned(TimeZone::UTC).ok().map(|midnight| midnight.timestamp())
}

#[cfg(test)]
mod tests;
