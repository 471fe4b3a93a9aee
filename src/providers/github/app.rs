//! Authenticates as a GitHub App: finds its installation at the owner and makes installation tokens.
//!
//! The App's key only proves the App's identity. All other calls use a token of an installation, which is valid for one
//! hour.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use http::Method;
use http::header::DATE;
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use ring::digest;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use url::Url;

use super::jwt::AppKey;
use super::{error, permission, wire};
use crate::providers::address::with_segments;
use crate::providers::model::{Endpoint, Scope};
use crate::providers::transport::{Answer, Call, Operation, Transport};
use crate::providers::{ErrorKind, ProviderError, authorization};

/// Minimum remaining lifetime of a token. One that expires sooner is replaced.
const REFRESHED_BEFORE: SignedDuration = SignedDuration::from_mins(5);
/// Minimum remaining lifetime of a token that is still used when GitHub cannot issue a new one.
const USED_UNTIL: SignedDuration = SignedDuration::from_secs(30);
/// Clock difference in seconds up to which a clock is not considered wrong.
const TOLERATED_SKEW: i64 = 5;

/// A GitHub App that is used for one owner.
pub(super) struct App {
    key: AppKey,
    api: Url,
    owner: Option<Scope>,
    /// The installation that the Secret names. It takes precedence over the owner's installation.
    named: Option<u64>,
    /// Whether the Secret holds the secret of the App's own webhook.
    pub(super) has_webhook: bool,
    /// Adds no authentication itself.
    transport: Transport,
    cached: Arc<Cached>,
}

/// State that outlives a client, because each inspection makes a new client.
#[derive(Default)]
struct Cached {
    /// Seconds by which GitHub's clock is ahead of the local clock.
    skew: AtomicI64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    installation: Option<Arc<wire::Installation>>,
    token: Option<Token>,
}

/// A token of an installation. It does not implement `Debug`, so it cannot be logged.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) secret: SecretString,
    expires_at: Timestamp,
}

impl App {
    /// Creates an App from the keys of its Secret. Sends nothing.
    ///
    /// # Errors
    /// `CredentialKindNotAccepted` if the private key or the installation ID is invalid.
    pub(super) fn read(
        endpoint: &Endpoint,
        issuer: &str,
        private_key: &SecretString,
        installation_id: Option<&str>,
        has_webhook: bool,
        transport: Transport,
    ) -> Result<Self, ProviderError> {
        let key = AppKey::read(issuer, private_key)?;
        let not_a_number = |_| {
            let message = "githubAppInstallationID is not a number; correct or remove it (without it, the installation is found \
                           from the owner)";
            ProviderError::new(ErrorKind::CredentialKindNotAccepted, "connect", message)
        };
        let named = installation_id.map(|id| id.trim().parse::<u64>().map_err(not_a_number)).transpose()?;
        let owner = endpoint.scope.clone();
        let at = match (named, &owner) {
            (Some(id), _) => format!("installation {id}"),
            (None, Some(owner)) => owner.to_string().to_lowercase(),
            (None, None) => String::new(),
        };
        let digest = digest::digest(&digest::SHA256, format!("{issuer}\0{}", private_key.expose_secret()).as_bytes());
        let cached = transport.cached(&format!("{at} of {}", hex::encode(digest)), Cached::default);
        Ok(Self { key, api: endpoint.api.clone(), owner, named, has_webhook, transport, cached })
    }

    /// Sends a call as the App itself. The call must be a read or make a token, because it may be sent twice: if GitHub
    /// rejects the times in the JWT, the clock offset is corrected from GitHub's `Date` header and the call is repeated
    /// once.
    pub(super) async fn send(&self, operation: Operation, method: Method, url: Url, body: Option<&Value>) -> Result<Answer, ProviderError> {
        let mut corrected = false;
        loop {
            let jwt = self.key.token(self.now())?;
            let call = super::call::api_call(Call::read(operation, method.clone(), url.clone()));
            let call = if let Some(body) = body { call.json(body) } else { call };
            let transport = self.transport.clone().authorized(authorization::bearer(&jwt)?, [jwt.expose_secret()]);
            let answer = transport.send(call).await?;
            let wrong_time = answer.refusal() == Some(ErrorKind::Unauthenticated) && error::is_about_the_clock(answer.message());
            if corrected || !wrong_time || !self.learn_time(&answer) {
                return Ok(answer);
            }
            corrected = true;
        }
    }

    /// GitHub's current time, according to the last known clock offset.
    fn now(&self) -> Timestamp {
        let skew = SignedDuration::from_secs(self.cached.skew.load(Ordering::Relaxed));
        self.transport.now().checked_add(skew).unwrap_or_else(|_| self.transport.now())
    }

    /// Updates the clock offset from an answer. Returns whether it changed by more than the tolerated skew.
    fn learn_time(&self, answer: &Answer) -> bool {
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(|date| rfc2822::parse(date).ok());
        let Some(date) = date else { return false };
        let skew = date.timestamp().as_second() - self.transport.now().as_second();
        let before = self.cached.skew.swap(skew, Ordering::Relaxed);
        (skew - before).abs() > TOLERATED_SKEW
    }

    /// Reads the App's installation from GitHub, bypassing the cache.
    ///
    /// # Errors
    /// `InstallationNotFound` and `InstallationSuspended`, in addition to network and API errors.
    pub(super) async fn read_installation(&self) -> Result<Arc<wire::Installation>, ProviderError> {
        let mut state = self.cached.state.lock().await;
        let found = self.find_installation(Operation::InspectCredential, &mut state).await?;
        match &found.suspended_at {
            None => Ok(found),
            Some(since) => {
                state.token = None;
                let message = format!("installation {} of the App is suspended since {since}", found.id);
                Err(ProviderError::new(ErrorKind::InstallationSuspended, Operation::InspectCredential.as_str(), message))
            }
        }
    }

    async fn find_installation(&self, operation: Operation, state: &mut State) -> Result<Arc<wire::Installation>, ProviderError> {
        let before = state.installation.take();
        let named = self.named.map(|id| id.to_string());
        let url = match (&named, &self.owner) {
            (Some(id), _) => with_segments(&self.api, ["app", "installations", id]),
            (None, Some(owner)) if owner.word == super::path::ORGANIZATION => {
                with_segments(&self.api, ["orgs", &owner.path, "installation"])
            }
            (None, Some(owner)) => with_segments(&self.api, ["users", &owner.path, "installation"]),
            (None, None) => return Err(self.no_installation(operation, "no owner is given")),
        };
        let answer = self.send(operation, Method::GET, url, None).await?;
        if answer.refusal() == Some(ErrorKind::NotFound) {
            state.token = None;
            let refused = answer.refused(ErrorKind::InstallationNotFound);
            let message = format!("{}; {}", self.not_installed(), refused.message);
            return Err(ProviderError { message, ..refused });
        }
        let found: wire::Installation = answer.json()?;
        let at = found.account.as_ref().and_then(|account| account.login.as_deref());
        if let (Some(owner), Some(at)) = (&self.owner, at)
            && !owner.path.eq_ignore_ascii_case(at)
        {
            return Err(self.no_installation(operation, &format!("installation {} is at {at}", found.id)));
        }
        if before.is_none_or(|before| before.id != found.id || before.permissions != found.permissions) {
            state.token = None;
        }
        Ok(Arc::clone(state.installation.insert(Arc::new(found))))
    }

    fn not_installed(&self) -> String {
        match (&self.named, &self.owner) {
            (Some(id), Some(owner)) => format!("the App has no installation {id} at {owner}"),
            (None, Some(owner)) => format!("the App is not installed at {owner}"),
            (_, None) => "the App is not installed".to_owned(),
        }
    }

    fn no_installation(&self, operation: Operation, reason: &str) -> ProviderError {
        let message = format!("{}: {reason}", self.not_installed());
        ProviderError::new(ErrorKind::InstallationNotFound, operation.as_str(), message)
    }

    /// Returns a token of the installation: the cached one while it is valid, otherwise a new one. Concurrent callers share
    /// one request.
    pub(super) async fn token(&self) -> Result<Token, ProviderError> {
        let mut state = self.cached.state.lock().await;
        let lasts = |token: &Token, beyond| token.expires_at.duration_since(self.now()) > beyond;
        if let Some(token) = state.token.as_ref().filter(|token| lasts(token, REFRESHED_BEFORE)) {
            return Ok(token.clone());
        }
        match self.make_token(&mut state).await {
            Ok(token) => Ok(state.token.insert(token).clone()),
            Err(error) if error.kind.is_outage() => state.token.clone().filter(|token| lasts(token, USED_UNTIL)).ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// Removes a rejected token from the cache, unless another token has already replaced it.
    pub(super) async fn forget(&self, refused: &Token) {
        let mut state = self.cached.state.lock().await;
        state.token.take_if(|token| token.secret.expose_secret() == refused.secret.expose_secret());
    }

    /// Makes a token that is limited to the permissions this client needs. The cached installation may be outdated: it is
    /// read again if GitHub rejects the request because of it.
    async fn make_token(&self, state: &mut State) -> Result<Token, ProviderError> {
        let mut known = state.installation.clone();
        loop {
            let fresh = known.is_none();
            let installation = match known.take() {
                Some(installation) => installation,
                None => self.find_installation(Operation::MakeToken, state).await?,
            };
            let url = with_segments(&self.api, ["app", "installations", installation.id.as_str(), "access_tokens"]);
            let body = json!({"permissions": permission::narrowed(&installation.permissions)});
            let answer = self.send(Operation::MakeToken, Method::POST, url, Some(&body)).await?;
            let outdated = match answer.refusal() {
                None => return read_token(answer),
                Some(ErrorKind::NotFound) => true,
                Some(_) => error::is_about_granted_permissions(answer.message()),
            };
            if fresh || !outdated {
                let refused =
                    if answer.refusal() == Some(ErrorKind::NotFound) { Some(ErrorKind::InstallationNotFound) } else { answer.refusal() };
                return Err(answer.refused(refused.unwrap_or(ErrorKind::Rejected)));
            }
        }
    }

    /// Whether the installation covers selected repositories only. `false` while no installation is cached.
    pub(super) async fn is_selective(&self) -> bool {
        self.cached.state.lock().await.installation.as_ref().is_some_and(|installation| installation.is_selective())
    }

    /// Whether the App is installed on a repository.
    pub(super) async fn is_installed_on(&self, path: &str) -> Result<bool, ProviderError> {
        let url = with_segments(&self.api, ["repos"].into_iter().chain(path.split('/')).chain(["installation"]));
        let answer = self.send(Operation::LookUpRepository, Method::GET, url, None).await?;
        match answer.refusal() {
            None => Ok(true),
            Some(ErrorKind::NotFound) => Ok(false),
            Some(kind) => Err(answer.refused(kind)),
        }
    }
}

fn read_token(answer: Answer) -> Result<Token, ProviderError> {
    let invalid = answer.invalid("the token's end is no time");
    let made: wire::InstallationToken = answer.json()?;
    let expires_at = made.expires_at.parse().map_err(|_| invalid)?;
    Ok(Token { secret: made.token.into(), expires_at })
}

#[cfg(test)]
mod tests;
