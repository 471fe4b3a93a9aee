//! Inspects a credential: its identity, and whether the API, only git, or neither accepts it.

use std::time::Duration;

use url::Url;

use super::client::{Account, AzureDevOpsClient};
use super::organization::is_services;
use super::permission::{CODE_READ, Proven};
use super::wire;
use crate::api::v1alpha1::connection::IdentityKind;
use crate::providers::address::with_segments;
use crate::providers::model::{Capabilities, Identity, Inspection};
use crate::providers::permission::Grants;
use crate::providers::transport::{Answer, Operation};
use crate::providers::{ErrorKind, ProviderError, git};

const SERVICES_FLAVOR: &str = "AzureDevOpsServices";
const SERVER_FLAVOR: &str = "AzureDevOpsServer";
/// Header with the ID and the name of the recognized account, separated by a colon.
const USER_DATA: &str = "x-vss-userdata";
/// The ID of an unauthenticated caller.
const ANONYMOUS: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";
/// Timeout of the check for access to other organizations, which only produces a warning.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Name of a repository for testing a login by git. It need not exist: a valid login gets a not-found error.
const NO_REPOSITORY: &str = "forgebind-asks-whether-git-takes-this-login";
/// Maximum number of organizations that a warning names.
const MOST_NAMED: usize = 5;

/// The account that the server recognized.
fn recognised(answer: &Answer) -> Option<String> {
    let (id, name) = answer.headers().get(USER_DATA)?.to_str().ok()?.split_once(':')?;
    (!id.is_empty() && id != ANONYMOUS).then(|| name.to_owned())
}

impl AzureDevOpsClient {
    pub(super) async fn inspect_credential(&self) -> Result<Inspection, ProviderError> {
        let mut warnings = Vec::new();
        let mut answer = self.list_of_repositories(self.project()).await?;
        let hidden = matches!(answer.refusal(), Some(ErrorKind::NotFound | ErrorKind::PermissionDenied));
        if let Some(project) = self.project().filter(|_| hidden) {
            // A project that cannot be read proves nothing about the credential. Its organization does.
            warnings.push(format!("project {project} does not exist, or the credential cannot see it"));
            answer = self.list_of_repositories(None).await?;
        }
        if self.is_anonymous() {
            return self.anonymous(&answer, warnings).await;
        }
        match answer.refusal() {
            None => {}
            Some(ErrorKind::PermissionDenied) if recognised(&answer).is_some() => {}
            Some(ErrorKind::Unauthenticated) => return self.without_api(&answer).await,
            Some(kind) => return Err(self.no_organization(&answer, kind)),
        }
        let code = answer.refusal().is_none();
        let name = match recognised(&answer) {
            Some(name) => Some(name),
            None => match self.connected(&self.api([])).await? {
                Some(name) => name,
                None => return Err(not_signed_in(&answer)),
            },
        };
        self.prove(Proven { code, projects: self.may_list_projects().await? });
        warnings.extend(tokio::time::timeout(TIMEOUT, self.warning_of_other_organizations()).await.ok().flatten());
        Ok(self.inspection(Some(Identity { name, kind: IdentityKind::User }), true, warnings))
    }

    async fn list_of_repositories(&self, project: Option<&str>) -> Result<Answer, ProviderError> {
        self.read(Operation::InspectCredential, &self.repositories_url(project), None).await
    }

    fn no_organization(&self, answer: &Answer, kind: ErrorKind) -> ProviderError {
        let error = answer.refused(kind);
        if answer.status() != http::StatusCode::NOT_FOUND {
            return error;
        }
        let message = format!("no organization or collection of Azure DevOps answers at {} ({})", self.endpoint.api, error.message);
        ProviderError { message, ..error }
    }

    /// Inspects a connection without a credential. Public projects are visible if the organization allows them.
    async fn anonymous(&self, answer: &Answer, warnings: Vec<String>) -> Result<Inspection, ProviderError> {
        match answer.refusal() {
            None => {}
            Some(ErrorKind::Unauthenticated | ErrorKind::PermissionDenied) => {
                let shows_nothing = self.may_list_projects().await? == Some(false);
                return if shows_nothing {
                    Err(answer.refused(ErrorKind::Unauthenticated))
                } else {
                    Ok(self.inspection(None, true, warnings))
                };
            }
            Some(kind) => return Err(self.no_organization(answer, kind)),
        }
        Ok(self.inspection(None, true, warnings))
    }

    /// Inspects a credential that the API refused: it may be a token without the scope for code, or a login that works only
    /// for git.
    async fn without_api(&self, answer: &Answer) -> Result<Inspection, ProviderError> {
        if self.connected(&self.api([])).await?.is_some() {
            let error = answer.refused(ErrorKind::PermissionDenied);
            let message = format!("the token is valid, but lacks the scope {CODE_READ}");
            return Err(ProviderError { message, ..error });
        }
        let Account::Basic { username } = &self.account else { return Err(not_signed_in(answer)) };
        let project = self.project().into_iter();
        let url = with_segments(&self.endpoint.web, project.chain(["_git", NO_REPOSITORY]));
        match git::probe(&self.transport, &url, None).await.map_err(|error| error.kind) {
            Ok(_) | Err(ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::Archived) => {
                let identity = Identity { name: Some(username.clone()), kind: IdentityKind::User };
                Ok(self.inspection(Some(identity), false, Vec::new()))
            }
            Err(_) => Err(not_signed_in(answer)),
        }
    }

    /// The account that the server recognizes at an address: its name, if it has one. `None` if the caller is not
    /// authenticated.
    async fn connected(&self, base: &Url) -> Result<Option<Option<String>>, ProviderError> {
        let url = with_segments(base, ["_apis", "connectionData"]);
        let answer = self.read_preview(Operation::InspectCredential, &url).await?;
        match answer.refusal() {
            None => {}
            Some(kind) if kind.leaves_open() => return Err(answer.refused(kind)),
            Some(_) => return Ok(None),
        }
        let told = recognised(&answer);
        let data: wire::ConnectionData = answer.json()?;
        let user = data.authenticated_user.filter(|user| !user.id.is_empty() && user.id != ANONYMOUS);
        Ok(user.map(|user| told.or(user.provider_display_name).filter(|name| !name.is_empty())))
    }

    /// Whether the token has the scope for projects. `None` if the answer does not show it.
    async fn may_list_projects(&self) -> Result<Option<bool>, ProviderError> {
        let mut url = self.api(["_apis", "projects"]);
        url.query_pairs_mut().append_pair("$top", "1");
        let answer = self.read(Operation::InspectCredential, &url, None).await?;
        Ok(match answer.refusal() {
            None => Some(true),
            Some(ErrorKind::Unauthenticated | ErrorKind::PermissionDenied) => Some(false),
            Some(_) => None,
        })
    }

    /// Warns about a token for all organizations, recognized by its access to the accounts service. Such tokens stop
    /// working on 1 December 2026.
    async fn warning_of_other_organizations(&self) -> Option<String> {
        let accounts = self.endpoint.further_origins.first()?;
        self.connected(accounts).await.ok()??;
        let names = self.organizations(accounts).await.unwrap_or_default();
        let shown = names.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let which = match names.len() {
            0 => String::new(),
            length if length > MOST_NAMED => format!(" ({shown} and {} more)", length - MOST_NAMED),
            _ => format!(" ({shown})"),
        };
        Some(format!(
            "the token is for all accessible organizations{which}; such tokens stop working on 1 December 2026; replace it with \
             a token of this organization"
        ))
    }

    /// The organizations of the account, if the token has the scope for its profile.
    async fn organizations(&self, accounts: &Url) -> Result<Vec<String>, ProviderError> {
        let url = with_segments(accounts, ["_apis", "profile", "profiles", "me"]);
        let profile: wire::Profile = self.read(Operation::InspectCredential, &url, None).await?.json()?;
        let mut url = with_segments(accounts, ["_apis", "accounts"]);
        url.query_pairs_mut().append_pair("memberId", &profile.public_alias);
        let list: wire::List<wire::Organization> = self.read(Operation::InspectCredential, &url, None).await?.json()?;
        let mut names: Vec<_> = list.value.0.into_iter().map(|organization| organization.account_name).collect();
        names.sort();
        Ok(names)
    }

    fn inspection(&self, identity: Option<Identity>, api: bool, warnings: Vec<String>) -> Inspection {
        let reason = match (&identity, api) {
            (None, _) => "there is no credential",
            (_, true) => "Azure DevOps does not report a token's scopes",
            (_, false) => "the credential works for git only",
        };
        Inspection {
            flavor: if is_services(&self.endpoint.web) { SERVICES_FLAVOR } else { SERVER_FLAVOR }.to_owned(),
            // Neither product reports its own version, so this is the REST API version in use.
            version: api.then(|| self.version.get().to_owned()),
            identity,
            credential_name: None,
            expires_at: None,
            grants: Grants::Unknown(reason.to_owned()),
            capabilities: capabilities(api),
            scope: None,
            warnings,
        }
    }
}

/// The error for a refused credential. The sign-in page contains no message for it.
fn not_signed_in(answer: &Answer) -> ProviderError {
    let error = answer.refused(ErrorKind::Unauthenticated);
    if !answer.message().trim().is_empty() && answer.status() != http::StatusCode::OK {
        return error;
    }
    let message = format!(
        "HTTP {}: Azure DevOps asks to sign in: the credential is wrong, expired, revoked or of another organization",
        answer.status()
    );
    ProviderError { message, ..error }
}

/// Capabilities of a connection. `api`: whether the API accepts the credential, or only git does.
pub(super) fn capabilities(api: bool) -> Capabilities {
    if !api {
        return Capabilities { one_event_per_hook: true, ..Capabilities::default() };
    }
    Capabilities {
        api: true,
        one_event_per_hook: true,
        update_sets_secret: true,
        lookup_by_id: true,
        delivery_log: true,
        ..Capabilities::default()
    }
}

#[cfg(test)]
mod tests;
