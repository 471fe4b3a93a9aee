//! What a credential is and may do. A token describes itself whatever its scopes are; everything else needs a scope, and a
//! refusal for want of one proves that the token is valid.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::client::{GitLabClient, TokenUser};
use super::permission::{self, API, READ_API};
use super::{error, wire};
use crate::api::v1alpha1::connection::IdentityKind;
use crate::providers::model::{Capabilities, Identity, Inspection, Scope};
use crate::providers::permission::Grants;
use crate::providers::transport::Operation;
use crate::providers::{ErrorKind, ProviderError};

const FLAVOR: &str = "GitLab";
/// What `scopes` of a fine-grained token says.
const FINE_GRAINED: &str = "granular";
/// Who may see accounts and the version.
const READ_USER: &str = "read_user";

/// Major and minor.
pub(super) type VersionNumber = (u64, u64);
/// The first version with a log of deliveries.
const DELIVERY_LOG: VersionNumber = (17, 3);
/// The first version that sends a delivery again when asked.
const RESEND: VersionNumber = (17, 4);
/// The first version with signing tokens.
const SIGNATURE: VersionNumber = (19, 0);
/// A version with everything.
pub(super) const NEWEST: VersionNumber = SIGNATURE;

/// What can be done. `api`: whether the API answers this credential; `told`: whether it tells its scopes and its end.
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

/// Major and minor of `19.1.2-ee`; `None` for what is no version.
pub(super) fn version_number(text: &str) -> Option<VersionNumber> {
    let mut parts = text.split(|character: char| !character.is_ascii_digit());
    let mut next = || parts.next().and_then(|part| part.parse::<u64>().ok());
    Some((next()?, next()?))
}

/// What a token tells of itself.
enum TokenInfo {
    /// All of it.
    Token(Box<wire::Token>),
    /// Nothing, and why.
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

/// Whether the scopes may allow something that takes one of these. What is not known may.
fn may(grants: &Grants, scopes: &[&str]) -> bool {
    match grants {
        Grants::Known(granted) => permission::has_any(granted, scopes),
        Grants::Unknown(_) => true,
    }
}

/// `None` where the credential may not see it.
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

    /// Without a credential the version is hidden, and the refusal tells that a GitLab answers.
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

    /// Fails where the server shows not even its public projects to anybody who is not signed in.
    async fn shows_something(&self) -> Result<(), ProviderError> {
        let mut url = self.api(["projects"]);
        url.query_pairs_mut().extend_pairs([("visibility", "public"), ("simple", "true"), ("per_page", "1")]);
        let answer = self.get(Operation::InspectCredential, url).await?;
        match answer.refusal() {
            Some(ErrorKind::Unauthenticated | ErrorKind::PermissionDenied) => Err(answer.refused(ErrorKind::Unauthenticated)),
            _ => Ok(()),
        }
    }

    /// The token's own description. Every classic scope may read it.
    async fn token(&self) -> Result<TokenInfo, ProviderError> {
        let answer = self.get(Operation::InspectCredential, self.api(["personal_access_tokens", "self"])).await?;
        match answer.refusal() {
            None => Ok(TokenInfo::Token(Box::new(answer.json()?))),
            Some(ErrorKind::PermissionDenied) if error::is_about_scopes(&answer) => {
                Ok(TokenInfo::Nothing("the token is fine-grained and may not read itself"))
            }
            // Blocked, or terms that have to be accepted: every call ends so.
            Some(ErrorKind::PermissionDenied) => Err(answer.refused(ErrorKind::Unauthenticated)),
            Some(ErrorKind::Rejected) => Ok(TokenInfo::Nothing("it is an OAuth token, which does not tell its scopes here")),
            // Before 15.5; and everything that is no GitLab.
            Some(ErrorKind::NotFound) => match self.user().await {
                Err(error) if error.kind == ErrorKind::NotFound => Err(answer.invalid("no GitLab answers at this address")),
                Err(error) => Err(error),
                Ok(_) => Ok(TokenInfo::Nothing("this version of GitLab does not tell a token's scopes")),
            },
            Some(kind) => Err(answer.refused(kind)),
        }
    }

    /// `None` where the token may not see its account.
    async fn user(&self) -> Result<Option<wire::User>, ProviderError> {
        let answer = self.get(Operation::InspectCredential, self.api(["user"])).await?;
        match answer.refusal() {
            // An account that may not act: the token describes itself all the same.
            Some(ErrorKind::PermissionDenied) if !error::is_about_scopes(&answer) => Err(answer.refused(ErrorKind::Unauthenticated)),
            _ => unless_refused(answer.json()),
        }
    }

    async fn version(&self) -> Result<Option<String>, ProviderError> {
        let answer = self.get(Operation::ReadVersion, self.api(["version"])).await?;
        Ok(unless_refused(answer.json::<wire::Version>())?.map(|version| version.version))
    }

    /// The group with the path that the server gives it.
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
                let message = format!("there is no {given}, or it is hidden from this token; name the group by its path instead");
                return Err(ProviderError { message, ..answer.refused(ErrorKind::NotFound) });
            }
            Some(ErrorKind::NotFound) => {
                return Ok(self.unresolved("it is not there, or hidden from this token, or the namespace of a user"));
            }
            Some(ErrorKind::PermissionDenied | ErrorKind::Unauthenticated) => return Ok(self.unresolved("the token may not see it")),
            Some(kind) => return Err(answer.refused(kind)),
        }
        let path = answer.json::<wire::Group>()?.full_path;
        if !number && !path.eq_ignore_ascii_case(&given.path) {
            let message = format!("the {given} is now called {path}; correct gitlab.group");
            return Err(ProviderError::new(ErrorKind::EndpointInvalid, Operation::InspectCredential.as_str(), message));
        }
        Ok(Group { scope: Some(Scope { path, ..given.clone() }), warning: None })
    }

    /// A group that could not be looked up. Its path holds bindings all the same; of a number nobody knows what lies in it.
    fn unresolved(&self, reason: &str) -> Group {
        let warning = self.endpoint.scope.as_ref().map(|scope| {
            let advice = if is_number(&scope.path) { "; name the group by its path, or nothing lies in it" } else { "" };
            format!("the {scope} could not be looked up: {reason}{advice}")
        });
        Group { scope: None, warning }
    }
}

/// What was found of the group that the spec names.
#[derive(Default)]
struct Group {
    scope: Option<Scope>,
    warning: Option<String>,
}

fn is_number(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_digit())
}

/// Who the token is. Project and group access tokens belong to bots that are made with them; service accounts to people's
/// groups.
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

/// The first second of the day on which a token ends, in UTC.
fn end(date: &str) -> Option<Timestamp> {
    if let Ok(moment) = date.parse::<Timestamp>() {
        return Some(moment);
    }
    let date: Date = date.parse().ok()?;
    date.to_zoned(TimeZone::UTC).ok().map(|midnight| midnight.timestamp())
}

#[cfg(test)]
mod tests;
