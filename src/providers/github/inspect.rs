//! Inspects a credential: server, identity, expiry and permissions, as far as GitHub reports them.

use http::HeaderMap;
use http::Method;
use jiff::Timestamp;
use jiff::fmt::strtime;

use super::app::App;
use super::client::{Account, GitHubClient};
use super::{convert, error, permission, wire};
use crate::api::v1alpha1::EventKind;
use crate::api::v1alpha1::connection::IdentityKind;
use crate::providers::model::{Capabilities, Identity, Inspection};
use crate::providers::permission::Grants;
use crate::providers::transport::{Answer, Operation};
use crate::providers::webhook::header_text;
use crate::providers::{ErrorKind, ProviderError};
use crate::text::wording;

const CLOUD: &str = "GitHub";
const DATA_RESIDENCY: &str = "GitHubEnterpriseCloud";
const SERVER: &str = "GitHubEnterpriseServer";
/// Header with the version. Enterprise Server sends it in every answer.
const SERVER_VERSION: &str = "x-github-enterprise-version";
/// Header with the scopes of a classic token. It is present in every answer to a classic token, empty for a token without
/// scopes, and absent for all other credentials.
const SCOPES: &str = "x-oauth-scopes";
/// Header with the expiry of the token. Absent if the token does not expire.
const EXPIRATION: &str = "github-authentication-token-expiration";

/// Event that reports renames and transfers of repositories to Apps.
const MOVES: &str = "repository";
/// Event that reports branches and tags created on the web pages, in addition to `push`.
const CREATIONS: &str = "create";

/// The product that answered.
struct Server {
    flavor: &'static str,
    version: Option<String>,
}

/// Capabilities of a connection. `scopes`, `expiry`: whether GitHub reports them for the credential.
pub(super) fn capabilities(scopes: bool, expiry: bool) -> Capabilities {
    Capabilities {
        api: true,
        update_sets_secret: true,
        lookup_by_id: true,
        delivery_log: true,
        resend: true,
        signature: true,
        scope_introspection: scopes,
        expiry_introspection: expiry,
        ..Capabilities::default()
    }
}

impl GitHubClient {
    pub(super) async fn inspect_credential(&self) -> Result<Inspection, ProviderError> {
        match &self.account {
            Account::Anonymous => self.inspect_nobody().await,
            Account::Token(_) => self.inspect_token().await,
            Account::App(app) => self.inspect_app(app).await,
        }
    }

    /// Determines the product from an answer. Requests the version if the host is not one of GitHub's own and the answer
    /// does not state it.
    async fn server(&self, headers: &HeaderMap) -> Result<Server, ProviderError> {
        let version = |text: &str| Some(text.trim_start_matches("enterprise-server@").to_owned());
        if let Some(told) = header_text(headers, SERVER_VERSION) {
            return Ok(Server { flavor: SERVER, version: version(told) });
        }
        match self.endpoint.api.host_str().unwrap_or_default() {
            "api.github.com" => Ok(Server { flavor: CLOUD, version: None }),
            host if host.ends_with(".ghe.com") => Ok(Server { flavor: DATA_RESIDENCY, version: None }),
            _ => {
                let answer = self.get(Operation::ReadVersion, self.api(["meta"])).await?;
                match answer.refusal() {
                    None => {
                        let installed = answer.json::<wire::Meta>()?.installed_version;
                        let flavor = if installed.is_some() { SERVER } else { CLOUD };
                        Ok(Server { flavor, version: installed })
                    }
                    Some(ErrorKind::PermissionDenied | ErrorKind::NotFound) => Ok(Server { flavor: CLOUD, version: None }),
                    Some(kind) => Err(answer.refused(kind)),
                }
            }
        }
    }

    /// Inspects a connection without a credential. Uses the one call that does not count against the limit of 60
    /// unauthenticated calls per hour for an IP address.
    async fn inspect_nobody(&self) -> Result<Inspection, ProviderError> {
        let answer = self.get(Operation::ReadVersion, self.api(["rate_limit"])).await?;
        match answer.refusal() {
            None => {}
            // Enterprise Server has no rate limits unless its administrator sets them.
            Some(ErrorKind::NotFound) if is_github(&answer) => {}
            Some(ErrorKind::NotFound) => return Err(no_github(&answer)),
            Some(kind) => return Err(answer.refused(kind)),
        }
        let server = self.server(answer.headers()).await?;
        let grants = Grants::Unknown("there is no credential".into());
        Ok(inspection(server, None, grants, None, Vec::new()))
    }

    async fn inspect_token(&self) -> Result<Inspection, ProviderError> {
        let answer = self.get(Operation::InspectCredential, self.api(["user"])).await?;
        let server = match answer.refusal() {
            // An installation token has no account but is valid.
            Some(ErrorKind::PermissionDenied) if error::is_installation_token(answer.message()) => self.server(answer.headers()).await?,
            Some(ErrorKind::NotFound) => return Err(no_github(&answer)),
            Some(kind) => return Err(answer.refused(kind)),
            None => self.server(answer.headers()).await?,
        };
        let (grants, expires_at) = (grants(answer.headers()), expiration(answer.headers()));
        let identity = if answer.refusal().is_some() {
            Identity { name: None, kind: IdentityKind::Token }
        } else {
            Identity { name: Some(answer.json::<wire::User>()?.login), kind: IdentityKind::User }
        };
        let warnings = self.owner_refusal().await?.into_iter().collect();
        Ok(inspection(server, Some(identity), grants, expires_at, warnings))
    }

    /// Checks access to the organization, because an organization can reject a token that is otherwise valid. Any other
    /// failure is a warning: a token may work without being able to see its owner.
    async fn owner_refusal(&self) -> Result<Option<String>, ProviderError> {
        let Some(scope) = self.endpoint.scope.as_ref().filter(|scope| scope.word == super::path::ORGANIZATION) else { return Ok(None) };
        let answer = self.get(Operation::InspectCredential, self.api(["orgs", &scope.path])).await?;
        match answer.refusal() {
            None => Ok(None),
            Some(ErrorKind::NotFound) => Ok(Some(format!("{scope} does not exist, or is hidden from this credential"))),
            Some(ErrorKind::PermissionDenied) => {
                let refused = answer.refused(ErrorKind::PermissionDenied);
                Ok(Some(format!("{scope} refuses this credential: {}", refused.message)))
            }
            Some(kind) => Err(answer.refused(kind)),
        }
    }

    /// Inspects an App by its installation at the owner. An App has no account, and GitHub refuses a request for one.
    async fn inspect_app(&self, app: &App) -> Result<Inspection, ProviderError> {
        let answer = app.send(Operation::InspectCredential, Method::GET, self.api(["app"]), None).await?;
        match answer.refusal() {
            None => {}
            // The JWT was signed, but the key belongs to no App with this ID.
            Some(ErrorKind::NotFound) if is_github(&answer) => return Err(answer.refused(ErrorKind::Unauthenticated)),
            Some(ErrorKind::NotFound) => return Err(no_github(&answer)),
            Some(kind) => return Err(answer.refused(kind)),
        }
        let headers = answer.headers().clone();
        let registered: wire::App = answer.json()?;
        let installation = app.read_installation().await?;
        app.token().await?;
        let server = self.server(&headers).await?;
        let identity = Identity { name: registered.slug.or_else(|| Some(registered.name.clone())), kind: IdentityKind::App };
        let missing = if app.has_webhook { missing_events(&installation.events) } else { None };
        let mut inspection =
            inspection(server, Some(identity), permission::grants(&installation.permissions), None, missing.into_iter().collect());
        inspection.credential_name = Some(registered.name);
        Ok(inspection)
    }
}

/// Names the required events that the App's own webhook does not subscribe to. They are set where the App is registered; no
/// API call can change them.
fn missing_events(subscribed: &[String]) -> Option<String> {
    let ours = EventKind::ALL.into_iter().flat_map(|event| convert::words(event).iter().copied());
    let mut missing: Vec<_> = ours.chain([CREATIONS, MOVES]).filter(|event| !subscribed.iter().any(|found| found == event)).collect();
    missing.sort_unstable();
    missing.dedup();
    let (event, them) = if missing.len() == 1 { ("event", "it") } else { ("events", "them") };
    let names = wording::enumerated(&missing);
    let text = format!("the App does not subscribe to the {event} {names}; subscribe to {them} where the App is registered");
    (!missing.is_empty()).then_some(text)
}

fn is_github(answer: &Answer) -> bool {
    answer.headers().keys().any(|name| name.as_str().starts_with("x-github-"))
}

fn no_github(answer: &Answer) -> ProviderError {
    answer.invalid("no GitHub answers at this address")
}

fn grants(headers: &HeaderMap) -> Grants {
    let Some(scopes) = headers.get(SCOPES).and_then(|scopes| scopes.to_str().ok()) else {
        return Grants::Unknown("GitHub does not report the permissions of a fine-grained token".into());
    };
    let mut scopes: Vec<_> = scopes.split(',').map(str::trim).filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
    scopes.sort();
    scopes.dedup();
    Grants::Known(scopes)
}

/// Parses the expiry of the token. GitHub writes `2026-11-20 12:00:00 UTC`, or an offset instead of the zone name.
fn expiration(headers: &HeaderMap) -> Option<Timestamp> {
    let text = header_text(headers, EXPIRATION)?.replace("UTC", "+0000");
    strtime::parse("%Y-%m-%d %H:%M:%S %z", text.trim()).and_then(|time| time.to_timestamp()).ok()
}

fn inspection(
    server: Server,
    identity: Option<Identity>,
    grants: Grants,
    expires_at: Option<Timestamp>,
    warnings: Vec<String>,
) -> Inspection {
    let capabilities = capabilities(matches!(grants, Grants::Known(_)), expires_at.is_some());
    Inspection {
        flavor: server.flavor.to_owned(),
        version: server.version,
        identity,
        credential_name: None,
        expires_at,
        grants,
        capabilities,
        scope: None,
        warnings,
    }
}

#[cfg(test)]
mod tests;
