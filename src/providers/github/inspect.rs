//! What a credential is and may do, as far as GitHub tells.

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
/// Every answer of an Enterprise Server names its version here.
const SERVER_VERSION: &str = "x-github-enterprise-version";
/// The scopes of a classic token: in every answer to one, empty where it has none, absent for every other credential.
const SCOPES: &str = "x-oauth-scopes";
/// When a token ends; absent where it does not.
const EXPIRATION: &str = "github-authentication-token-expiration";

/// GitHub tells a repository's renames and transfers to Apps by this event.
const MOVES: &str = "repository";
/// And branches and tags that somebody makes on a page, beside `push`.
const CREATIONS: &str = "create";

/// Which product answers.
struct Server {
    flavor: &'static str,
    version: Option<String>,
}

/// What can be done at GitHub. `scopes`, `expiry`: whether the credential tells them.
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

    /// Which product gave an answer. A server behind an address of its own that does not name its version is asked.
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

    /// The one question that costs nothing of the 60 calls an hour that an address without a credential has.
    async fn inspect_nobody(&self) -> Result<Inspection, ProviderError> {
        let answer = self.get(Operation::ReadVersion, self.api(["rate_limit"])).await?;
        match answer.refusal() {
            None => {}
            // Enterprise Servers have no rate limits unless their administrator sets some.
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
            // An installation's token has no account, and is valid all the same.
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

    /// Asks for the organization: a token that works can be one that the organization does not let in. What it says other than
    /// that is a warning: not to see an owner is no failure.
    async fn owner_refusal(&self) -> Result<Option<String>, ProviderError> {
        let Some(scope) = self.endpoint.scope.as_ref().filter(|scope| scope.word == super::ORGANIZATION) else { return Ok(None) };
        let answer = self.get(Operation::InspectCredential, self.api(["orgs", &scope.path])).await?;
        match answer.refusal() {
            None => Ok(None),
            Some(ErrorKind::NotFound) => Ok(Some(format!("{scope} is not there, or is hidden from this credential"))),
            Some(ErrorKind::PermissionDenied) => {
                let refused = answer.refused(ErrorKind::PermissionDenied);
                Ok(Some(format!("{scope} refuses this credential: {}", refused.message)))
            }
            Some(kind) => Err(answer.refused(kind)),
        }
    }

    /// An App is judged by its installation at the owner. It has no account: asking for one is refused.
    async fn inspect_app(&self, app: &App) -> Result<Inspection, ProviderError> {
        let answer = app.send(Operation::InspectCredential, Method::GET, self.api(["app"]), None).await?;
        match answer.refusal() {
            None => {}
            // The key signs, and belongs to no App of this id.
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

/// Names the events that an App's own webhook does not carry although something is made of them. They are chosen where the
/// App is registered; no call of the API changes them.
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
        return Grants::Unknown("a fine-grained token does not tell its permissions".into());
    };
    let mut scopes: Vec<_> = scopes.split(',').map(str::trim).filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
    scopes.sort();
    scopes.dedup();
    Grants::Known(scopes)
}

/// When the token ends. GitHub writes `2026-11-20 12:00:00 UTC` or an offset in the place of the name.
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
