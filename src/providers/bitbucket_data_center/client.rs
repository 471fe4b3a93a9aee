//! Calls the Bitbucket Data Center API as one account.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use http::Method;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::convert::Surroundings;
use super::page::Pages;
use super::{convert, error, permission, wire};
use crate::api::v1alpha1::{EventKind, Permission};
use crate::protocol::secret::WebhookSecret;
use crate::providers::address::with_segments;
use crate::providers::listing::Extent;
use crate::providers::model::{
    Deletion, Endpoint, GitProbe, Hook, HookRelease, HookRequest, HookShape, Inspection, Repository, RepositoryPath,
};
use crate::providers::transport::{Answer, Call, Operation, Transport};
use crate::providers::{Client, Credential, ErrorKind, ListedRepository, PermissionFinding, ProviderError, authorization, git, listing};

/// Requested page size for a list that must be complete, so that it fits on one page if the server allows it, and for long lists.
pub(super) const LONG_PAGE: u32 = 1000;
/// Requested page size for a list of which only a few entries are needed.
const PAGE: u32 = 100;
/// Prefix of HTTP access tokens.
const TOKEN_PREFIX: &str = "BBDC-";
/// User name for basic authentication of git with a project or repository token as the password.
const TOKEN_USER: &str = "x-token-auth";

pub(super) struct BitbucketDataCenterClient {
    pub(super) endpoint: Endpoint,
    pub(super) account: Account,
    pub(super) transport: Transport,
    /// Whether the server refused the password. Each further attempt brings the account closer to a CAPTCHA, which also
    /// locks out its owner.
    refused: AtomicBool,
    /// Whether the repositories could be listed: those of the connection's project, or all.
    lists: AtomicBool,
}

/// The kind of the credential. The transport holds its secret part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    Anonymous,
    Token,
    Basic,
}

impl BitbucketDataCenterClient {
    pub(super) fn connect(endpoint: Endpoint, credential: Credential, transport: Transport) -> Result<Arc<dyn Client>, ProviderError> {
        let transport = transport.classified_by(error::classify);
        let (account, transport) = match credential {
            Credential::Anonymous => (Account::Anonymous, transport),
            Credential::Token(token) => (Account::Token, bearing(transport, &token)?),
            // The password key holds a token. As a bearer token it does not depend on the user name and never counts as a
            // failed log-in.
            Credential::BasicAuth { username, password } if is_token(&username, &password) => {
                (Account::Token, bearing(transport, &password)?)
            }
            Credential::BasicAuth { username, password } => {
                let header = authorization::basic(&username, &password)?;
                (Account::Basic, transport.authorized(header.clone(), [password.expose_secret(), authorization::encoded(&header)]))
            }
            Credential::EmailToken { .. } | Credential::GitHubApp { .. } => {
                let message = "Bitbucket Data Center takes an HTTP access token, or username and password";
                return Err(ProviderError::new(ErrorKind::CredentialKindNotAccepted, "connect", message));
            }
        };
        Ok(Arc::new(Self { endpoint, account, transport, refused: AtomicBool::new(false), lists: AtomicBool::new(false) }))
    }

    /// Builds a URL below the API's base address. Each item becomes exactly one path segment.
    pub(super) fn api<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        with_segments(&self.endpoint.api, segments)
    }

    fn repository_url<'a>(&self, path: &'a str, rest: impl IntoIterator<Item = &'a str>) -> Url {
        let (project, slug) = path.split_once('/').unwrap_or((path, ""));
        self.api(["projects", project, "repos", slug].into_iter().chain(rest))
    }

    fn hook_url(&self, repository: &Repository, id: &str) -> Url {
        self.repository_url(repository.path.as_str(), ["webhooks", id])
    }

    /// URL of the list of repositories: those of the connection's project, if it has one, otherwise all that the account
    /// may read.
    pub(super) fn repositories_url(&self) -> Url {
        if let Some(scope) = &self.endpoint.scope {
            return self.api(["projects", &scope.path, "repos"]);
        }
        let mut url = self.api(["repos"]);
        // Without the parameter this list omits archived repositories. A project's list includes them.
        url.query_pairs_mut().append_pair("archived", "ALL");
        url
    }

    /// Records whether the repositories could be listed.
    pub(super) fn note_listing(&self, listed: bool) {
        self.lists.store(listed, Ordering::Relaxed);
    }

    pub(super) const fn is_anonymous(&self) -> bool {
        matches!(self.account, Account::Anonymous)
    }

    pub(super) async fn get(&self, operation: Operation, url: Url) -> Result<Answer, ProviderError> {
        self.send(operation, Call::read(operation, Method::GET, url)).await
    }

    /// Sends a call, unless the server has already refused the password.
    async fn send(&self, operation: Operation, call: Call) -> Result<Answer, ProviderError> {
        self.check_password(operation)?;
        let answer = self.transport.send(call).await?;
        if matches!(self.account, Account::Basic) && answer.refusal() == Some(ErrorKind::Unauthenticated) {
            self.refused.store(true, Ordering::Relaxed);
        }
        Ok(answer)
    }

    fn check_password(&self, operation: Operation) -> Result<(), ProviderError> {
        if !self.refused.load(Ordering::Relaxed) {
            return Ok(());
        }
        let message = "the server rejected the password before, so it is not sent again";
        Err(ProviderError::new(ErrorKind::Unauthenticated, operation.as_str(), message))
    }

    /// Reads what the repository document does not contain. Permission for webhooks is tested without a write: only
    /// administrators of the repository may list hooks.
    async fn surroundings(&self, path: &str) -> Result<Surroundings, ProviderError> {
        let (default_branch, empty, manage_webhooks) =
            futures::try_join!(self.default_branch(path), self.is_empty(path), self.manage_webhooks(Operation::LookUpRepository, path))?;
        Ok(Surroundings { default_branch, empty, manage_webhooks })
    }

    async fn default_branch(&self, path: &str) -> Result<Option<String>, ProviderError> {
        let answer = self.get(Operation::LookUpRepository, self.repository_url(path, ["default-branch"])).await?;
        if error::lacks_only_content(&answer) {
            return Ok(None);
        }
        let reference: wire::Reference = answer.json()?;
        Ok(Some(convert::branch_name(&reference).to_owned()))
    }

    async fn is_empty(&self, path: &str) -> Result<bool, ProviderError> {
        let mut url = self.repository_url(path, ["branches"]);
        url.query_pairs_mut().append_pair("limit", "1");
        let answer = self.get(Operation::LookUpRepository, url).await?;
        if error::lacks_only_content(&answer) {
            return Ok(true);
        }
        let page: wire::Page<wire::Reference> = answer.json()?;
        Ok(page.values.0.is_empty())
    }

    pub(super) async fn manage_webhooks(&self, operation: Operation, path: &str) -> Result<PermissionFinding, ProviderError> {
        if self.is_anonymous() {
            return Ok(convert::anonymous_finding());
        }
        let mut url = self.repository_url(path, ["webhooks"]);
        url.query_pairs_mut().append_pair("limit", "1");
        let answer = self.get(operation, url).await?;
        match answer.refusal() {
            None => Ok(permission::manage_webhooks(true)),
            Some(ErrorKind::PermissionDenied | ErrorKind::NotFound) => Ok(permission::manage_webhooks(false)),
            Some(kind) => Err(answer.refused(kind)),
        }
    }

    /// Reads the list once. Also returns whether it came on a single page.
    async fn hooks_once(&self, repository: &Repository) -> Result<(Vec<Hook>, bool), ProviderError> {
        let mut list = self.repository_url(repository.path.as_str(), ["webhooks"]);
        list.query_pairs_mut().append_pair("statistics", "true");
        let mut pages = Pages::new(list, LONG_PAGE, Extent::kept(Operation::ListHooks));
        let mut hooks: Vec<wire::Hook> = Vec::new();
        while let Some(url) = pages.next_url() {
            hooks.extend(pages.take::<wire::Hook>(&self.transport, self.get(Operation::ListHooks, url).await?)?);
        }
        let own = hooks.into_iter().filter(convert::is_of_repository).map(convert::hook).collect();
        Ok((own, !pages.are_several()))
    }

    /// Reads the list. Returns `None` if the list changed during the read. A list of several pages is read twice: if a hook
    /// is deleted between two pages, another hook moves to its position and is missed, and the pages do not show this.
    async fn hooks_if_settled(&self, repository: &Repository) -> Result<Option<Vec<Hook>>, ProviderError> {
        let (hooks, in_one_piece) = self.hooks_once(repository).await?;
        let settled = in_one_piece || self.hooks_once(repository).await?.0 == hooks;
        let distinct = listing::are_distinct(hooks.iter().map(|hook| hook.id.as_str()));
        Ok((settled && distinct).then_some(hooks))
    }

    fn write(operation: Operation, method: Method, url: Url, request: &HookRequest<'_>, secret: &SecretString) -> Call {
        Call::write(operation, method, url).conceal(request.url.expose()).conceal(secret.expose_secret())
    }
}

/// Adds the token to every call as a bearer token.
fn bearing(transport: Transport, token: &SecretString) -> Result<Transport, ProviderError> {
    Ok(transport.authorized(authorization::bearer(token)?, [token.expose_secret()]))
}

fn is_token(username: &str, password: &SecretString) -> bool {
    username == TOKEN_USER || password.expose_secret().starts_with(TOKEN_PREFIX)
}

/// Returns the secret of a request, or an error if the server would refuse it.
fn secret(operation: Operation, request: &HookRequest<'_>) -> Result<SecretString, ProviderError> {
    let secret = request.secret.text();
    if secret.expose_secret().chars().count() > convert::LONGEST_SECRET {
        let message = format!("Bitbucket Data Center takes webhook secrets of at most {} characters", convert::LONGEST_SECRET);
        return Err(ProviderError::new(ErrorKind::Rejected, operation.as_str(), message));
    }
    Ok(secret)
}

#[async_trait]
impl Client for BitbucketDataCenterClient {
    async fn inspect(&self) -> Result<Inspection, ProviderError> {
        self.inspect_credential().await
    }

    fn permission(&self, _: &Inspection, permission: Permission) -> PermissionFinding {
        if self.is_anonymous() {
            return permission::judge_anonymous(permission);
        }
        permission::judge(permission, self.lists.load(Ordering::Relaxed), self.untold())
    }

    async fn repository(&self, path: &RepositoryPath) -> Result<Repository, ProviderError> {
        let found: wire::Repository = self.get(Operation::LookUpRepository, self.repository_url(path.as_str(), [])).await?.json()?;
        let canonical = format!("{}/{}", found.project.key, found.slug);
        let surroundings = self.surroundings(&canonical).await?;
        Ok(convert::repository(&found, surroundings))
    }

    async fn repository_by_id(&self, _id: &str) -> Result<Option<Repository>, ProviderError> {
        Ok(None)
    }

    async fn branch_exists(&self, repository: &Repository, branch: &str) -> Result<bool, ProviderError> {
        let mut list = self.repository_url(repository.path.as_str(), ["branches"]);
        // The server searches for the text anywhere in a branch name, ignoring case. Exact matches come first.
        list.query_pairs_mut().append_pair("filterText", branch).append_pair("boostMatches", "true");
        let wanted = format!("refs/heads/{branch}");
        let mut pages = Pages::new(list, PAGE, Extent::passing(Operation::LookUpBranch));
        while let Some(url) = pages.next_url() {
            let answer = self.get(Operation::LookUpBranch, url).await?;
            if error::lacks_only_content(&answer) {
                return Ok(false);
            }
            let page: Vec<wire::Reference> = pages.take(&self.transport, answer)?;
            if page.iter().any(|reference| reference.id == wanted) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn probe_git(&self, path: &RepositoryPath) -> Result<GitProbe, ProviderError> {
        self.check_password(Operation::ProbeGit)?;
        let url = with_segments(&self.endpoint.web, ["scm"].into_iter().chain(format!("{path}.git").split('/')));
        // An error from git does not prove that the password is wrong, because it does not show whether the login or the
        // access was refused.
        git::probe(&self.transport, &url, None).await
    }

    fn repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        self.listed_repositories()
    }

    fn hook_shapes(&self, events: &BTreeSet<EventKind>) -> Vec<HookShape> {
        convert::shapes(events)
    }

    async fn hooks(&self, repository: &Repository) -> Result<Vec<Hook>, ProviderError> {
        listing::settled(Operation::ListHooks, || self.hooks_if_settled(repository)).await
    }

    async fn create_hook(&self, repository: &Repository, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        let operation = Operation::CreateHook;
        let secret = secret(operation, request)?;
        let url = self.repository_url(repository.path.as_str(), ["webhooks"]);
        let document = convert::creation(request.url, request.shape, secret.expose_secret());
        let call = Self::write(operation, Method::POST, url, request, &secret).json(&document);
        let answer = self.send(operation, call).await?;
        listing::written(answer, convert::hook, self.hooks(repository), |hook| hook.url == *request.url).await
    }

    async fn update_hook(&self, repository: &Repository, id: &str, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        let operation = Operation::UpdateHook;
        let secret = secret(operation, request)?;
        let url = self.hook_url(repository, id);
        // An update replaces the whole hook, so the name and the pause that a person set are read first and written back.
        let present: wire::Hook = self.get(operation, url.clone()).await?.json()?;
        let document = convert::update(present, request.url, request.shape, secret.expose_secret());
        let call = Self::write(operation, Method::PUT, url, request, &secret).json(&document);
        let answer = self.send(operation, call).await?;
        listing::written(answer, convert::hook, self.hooks(repository), |hook| hook.id == id).await
    }

    /// An update replaces the whole hook, and only some servers return the secret.
    async fn release_hook(&self, repository: &Repository, id: &str, release: &HookRelease<'_>) -> Result<(), ProviderError> {
        let operation = Operation::UpdateHook;
        let url = self.hook_url(repository, id);
        let present: wire::Hook = self.get(operation, url.clone()).await?.json()?;
        let known = release.secret.map(WebhookSecret::text);
        let secret = convert::shown_secret(&present)
            .map(SecretString::from)
            .or(known)
            .ok_or_else(|| HookRelease::would_lose_the_secret(operation.as_str()))?;
        let document = convert::update(present, release.url, release.shape, secret.expose_secret());
        let call = Call::write(operation, Method::PUT, url).conceal(release.url.expose()).conceal(secret.expose_secret());
        self.send(operation, call.json(&document)).await?.success().map(drop)
    }

    async fn delete_hook(&self, repository: &Repository, id: &str) -> Result<Deletion, ProviderError> {
        let operation = Operation::DeleteHook;
        let answer = self.send(operation, Call::delete(operation, self.hook_url(repository, id))).await?;
        listing::deletion(answer, id, self.hooks(repository)).await
    }
}

#[cfg(test)]
pub(super) mod tests;
