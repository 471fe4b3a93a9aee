//! Calls the Azure DevOps API as one account of an organization or collection.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;

use super::permission::{Proven, SUBSCRIPTIONS};
use super::subscription::HookLocation;
use super::version::ApiVersion;
use super::{convert, error, permission, subscription, wire};
use crate::api::v1alpha1::{EventKind, Permission};
use crate::protocol::secret::WebhookSecret;
use crate::providers::address::with_segments;
use crate::providers::listing::{self, Extent};
use crate::providers::model::{
    Deletion, Endpoint, GitProbe, Hook, HookRelease, HookRequest, HookShape, Inspection, Repository, RepositoryPath,
};
use crate::providers::transport::{Answer, Call, Operation, Transport};
use crate::providers::{Client, Credential, ErrorKind, ListedRepository, PermissionFinding, ProviderError, authorization, git};

/// Header that makes the server return an error instead of a redirect to its sign-in page.
const NO_SIGN_IN: (HeaderName, HeaderValue) = (HeaderName::from_static("x-tfs-fedauthredirect"), HeaderValue::from_static("Suppress"));
/// Name of the query parameter with the API version, which every call has.
const API_VERSION: &str = "api-version";
/// Header with the position of the next page of a list.
const CONTINUATION: &str = "x-ms-continuationtoken";
/// Requested page size for references.
const REFERENCES: &str = "100";
/// Maximum size in bytes of a list of repositories. The API returns all repositories of an organization in one answer,
/// about 1 KiB for each.
const LIST_LIMIT: usize = 24 * 1024 * 1024;
/// The security namespace of service hooks.
const SERVICE_HOOKS: &str = "cb594ebe-87dd-4fc9-ac2c-6a10a4c92046";
/// The required bits of the namespace, with their names in the documentation of service hooks. An account that may edit
/// subscriptions may still lack the permission to delete them, and hooks would then never be removed.
const SUBSCRIPTION_BITS: [(u8, &str); 3] = [(VIEW, "View subscriptions"), (2, "Edit subscriptions"), (4, "Delete subscriptions")];
const VIEW: u8 = 1;
pub(super) const ALL_BITS: u8 = 7;

pub(super) struct AzureDevOpsClient {
    pub(super) endpoint: Endpoint,
    pub(super) account: Account,
    pub(super) transport: Transport,
    pub(super) version: ApiVersion,
    /// What the last inspection proved.
    proven: Mutex<Proven>,
}

/// The part of the credential that is used after connecting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Account {
    Anonymous,
    Token,
    Basic { username: String },
}

impl AzureDevOpsClient {
    pub(super) fn connect(endpoint: Endpoint, credential: &Credential, transport: Transport) -> Result<Arc<dyn Client>, ProviderError> {
        let transport = transport.classified_by(error::classify);
        let (account, transport) = match credential {
            Credential::Anonymous => (Account::Anonymous, transport),
            // A token is sent as a password; the server accepts any user name with it.
            Credential::Token(token) => (Account::Token, authorized(transport, "", token)?),
            Credential::BasicAuth { username, password } => {
                (Account::Basic { username: username.clone() }, authorized(transport, username, password)?)
            }
            Credential::EmailToken { .. } | Credential::GitHubApp { .. } => {
                let message = "Azure DevOps takes a token, or username and password";
                return Err(ProviderError::new(ErrorKind::CredentialKindNotAccepted, "connect", message));
            }
        };
        Ok(Arc::new(Self { endpoint, account, transport, version: ApiVersion::default(), proven: Mutex::default() }))
    }

    pub(super) fn proven(&self) -> Proven {
        *self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn prove(&self, proven: Proven) {
        *self.proven.lock().unwrap_or_else(PoisonError::into_inner) = proven;
    }

    /// Builds a URL below the organization's address. Each item becomes exactly one path segment.
    pub(super) fn api<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        with_segments(&self.endpoint.api, segments)
    }

    /// URL of the list of repositories: those of the project, if one is given, otherwise those of the organization.
    pub(super) fn repositories_url(&self, project: Option<&str>) -> Url {
        self.api(project.into_iter().chain(["_apis", "git", "repositories"]))
    }

    pub(super) fn project(&self) -> Option<&str> {
        self.endpoint.scope.as_ref().map(|scope| scope.path.as_str())
    }

    pub(super) const fn is_anonymous(&self) -> bool {
        matches!(self.account, Account::Anonymous)
    }

    /// Sends a read in the newest version that the server accepts. `body` is the query of a read by POST.
    pub(super) async fn read(&self, operation: Operation, url: &Url, body: Option<&Value>) -> Result<Answer, ProviderError> {
        loop {
            let version = self.version.get();
            let answer = self.send_read(operation, versioned(url, version), body).await?;
            let too_new = answer.status() == StatusCode::BAD_REQUEST && self.version.step_down(version, answer.message());
            if !too_new {
                return Ok(answer);
            }
        }
    }

    /// Sends a read for a resource that has never left its preview version.
    pub(super) async fn read_preview(&self, operation: Operation, url: &Url) -> Result<Answer, ProviderError> {
        self.send_read(operation, versioned(url, &format!("{}-preview", self.version.get())), None).await
    }

    async fn send_read(&self, operation: Operation, url: Url, body: Option<&Value>) -> Result<Answer, ProviderError> {
        let call = match body {
            None => Call::read(operation, Method::GET, url),
            Some(question) => Call::read(operation, Method::POST, url).json(question),
        };
        // All other answers concern a single object or one page.
        let call = if operation == Operation::ListRepositories { call.body_limit(LIST_LIMIT) } else { call };
        self.transport.send(call.header(NO_SIGN_IN.0, NO_SIGN_IN.1)).await
    }

    /// Sends a write once, in the version that earlier reads settled on.
    async fn write(
        &self,
        operation: Operation,
        method: Method,
        url: &Url,
        request: &HookRequest<'_>,
        location: &HookLocation,
    ) -> Result<Answer, ProviderError> {
        let document = subscription::document(location, request.url, request.shape, request.secret, operation)?;
        self.refuse_plain_http(operation, request)?;
        let secret = request.secret.text();
        let call = Call::write(operation, method, versioned(url, self.version.get()))
            .json(&document)
            .conceal(request.url.expose())
            .conceal(secret.expose_secret())
            .header(NO_SIGN_IN.0, NO_SIGN_IN.1);
        self.transport.send(call).await
    }

    /// Refuses a plain http address, because every delivery contains the password or the token.
    fn refuse_plain_http(&self, operation: Operation, request: &HookRequest<'_>) -> Result<(), ProviderError> {
        let is_http = Url::parse(request.url.expose()).is_ok_and(|url| url.scheme() == "http");
        if is_http && !self.transport.allows_http() {
            let message = "Azure DevOps sends a password or a token with each delivery, so the address must be https";
            return Err(ProviderError::new(ErrorKind::TargetRefused, operation.as_str(), message));
        }
        Ok(())
    }

    fn subscriptions_url<'a>(&self, rest: impl IntoIterator<Item = &'a str>) -> Url {
        self.api(["_apis", "hooks", "subscriptions"].into_iter().chain(rest))
    }

    /// Converts the answer to a lookup. Without a credential, a private repository is reported as not found, because there
    /// is no account that could sign in.
    fn look_up(&self, answer: Answer) -> Result<wire::Repository, ProviderError> {
        if self.is_anonymous() && answer.refusal() == Some(ErrorKind::Unauthenticated) {
            return Err(answer.refused(ErrorKind::NotFound));
        }
        answer.json()
    }

    async fn found(&self, url: &Url) -> Result<Repository, ProviderError> {
        let found = self.look_up(self.read(Operation::LookUpRepository, url, None).await?)?;
        let finding = self.manage_webhooks(&found.project).await?;
        Ok(convert::repository(found, finding))
    }

    /// Whether the account may change the subscriptions of a project. No scope shows this, so the permission itself is
    /// queried.
    async fn manage_webhooks(&self, project: &wire::Project) -> Result<PermissionFinding, ProviderError> {
        if self.is_anonymous() {
            return Ok(PermissionFinding::needs_credential());
        }
        let needs = |permissions: &str| format!("needs the {permissions} in project {}", project.name);
        let all = format!("permissions {SUBSCRIPTIONS}");
        Ok(match self.has_permission(Operation::LookUpRepository, ALL_BITS, &project.id).await? {
            Some(true) => PermissionFinding::granted(),
            Some(false) => {
                let missing = self.missing_permissions(&project.id).await?;
                PermissionFinding::missing(format!("{}, as its administrators have; no scope of a token gives it", needs(&missing)))
            }
            None => PermissionFinding::unknown(format!("{}; the server does not report whether the account has them", needs(&all))),
        })
    }

    /// Names the subscription permissions that the account lacks. Each is queried separately, because a query for several
    /// has a single result.
    async fn missing_permissions(&self, project: &str) -> Result<String, ProviderError> {
        let mut missing = Vec::new();
        for (bit, name) in SUBSCRIPTION_BITS {
            if self.has_permission(Operation::LookUpRepository, bit, project).await? == Some(false) {
                missing.push(name);
            }
        }
        Ok(match missing.as_slice() {
            [] => format!("permissions {SUBSCRIPTIONS}"),
            [one] => format!("permission {one}"),
            several => format!("permissions {}", crate::text::wording::enumerated(several)),
        })
    }

    /// Whether the account has a permission for the service hooks of a project. `None` if it may not query permissions.
    pub(super) async fn has_permission(&self, operation: Operation, bit: u8, project: &str) -> Result<Option<bool>, ProviderError> {
        let mut url = self.api(["_apis", "permissions", SERVICE_HOOKS, &bit.to_string()]);
        url.query_pairs_mut().append_pair("tokens", &format!("PublisherSecurity/{project}"));
        let answer = self.read(operation, &url, None).await?;
        match answer.refusal() {
            None => Ok(answer.json::<wire::List<bool>>()?.value.0.first().copied()),
            Some(kind) if kind.leaves_open() => Err(answer.refused(kind)),
            Some(_) => Ok(None),
        }
    }

    /// Fails unless the account may see the subscriptions. An account that may not see them gets an empty list, so this
    /// must be known before their absence means anything.
    async fn may_see_subscriptions(&self, location: &HookLocation) -> Result<(), ProviderError> {
        match self.has_permission(Operation::ListHooks, VIEW, &location.project).await? {
            Some(true) => Ok(()),
            Some(false) => {
                let message = "the account lacks the permission View subscriptions for the project";
                Err(ProviderError::new(ErrorKind::PermissionDenied, Operation::ListHooks.as_str(), message))
            }
            None => {
                let url = self.api([location.project.as_str(), "_apis", "git", "repositories", &location.repository]);
                self.read(Operation::ListHooks, &url, None).await?.success().map(|_| ())
            }
        }
    }

    /// Reads the subscriptions of a location once. Returns `None` if an answer contains a subscription twice, which happens
    /// if the list changed during the read.
    async fn subscriptions_once(&self, location: &HookLocation) -> Result<Option<Vec<wire::Subscription>>, ProviderError> {
        let url = self.api(["_apis", "hooks", "subscriptionsquery"]);
        let found: wire::SubscriptionsQuery = self.read(Operation::ListHooks, &url, Some(&location.query())).await?.json()?;
        let found = found.results.map_or_else(Vec::new, |results| results.0);
        Ok(listing::are_distinct(found.iter().map(|subscription| subscription.id.as_str())).then_some(found))
    }
}

/// Returns a transport that authenticates with this login and removes the password from errors.
fn authorized(transport: Transport, username: &str, password: &SecretString) -> Result<Transport, ProviderError> {
    let header = authorization::basic(username, password)?;
    Ok(transport.authorized(header.clone(), [password.expose_secret(), authorization::encoded(&header)]))
}

fn versioned(url: &Url, version: &str) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut().append_pair(API_VERSION, version);
    url
}

#[async_trait]
impl Client for AzureDevOpsClient {
    async fn inspect(&self) -> Result<Inspection, ProviderError> {
        self.inspect_credential().await
    }

    fn permission(&self, inspection: &Inspection, permission: Permission) -> PermissionFinding {
        if self.is_anonymous() {
            permission::judge_anonymous(permission)
        } else if inspection.capabilities.api {
            permission::judge(self.proven(), permission)
        } else {
            permission::judge_git_only(permission)
        }
    }

    async fn repository(&self, path: &RepositoryPath) -> Result<Repository, ProviderError> {
        let (project, name) = path.as_str().split_once('/').unwrap_or(("", path.as_str()));
        self.found(&self.api([project, "_apis", "git", "repositories", name])).await
    }

    async fn repository_by_id(&self, id: &str) -> Result<Option<Repository>, ProviderError> {
        // The API would also accept a name here.
        if !subscription::is_guid(id) {
            return Ok(None);
        }
        self.found(&self.api(["_apis", "git", "repositories", id])).await.map(Some)
    }

    async fn branch_exists(&self, repository: &Repository, branch: &str) -> Result<bool, ProviderError> {
        let project = repository.project.as_ref().map(|project| project.id.as_str());
        let list = self.api(project.into_iter().chain(["_apis", "git", "repositories", &repository.id, "refs"]));
        let wanted = format!("refs/heads/{branch}");
        let mut continuation: Option<String> = None;
        let mut extent = Extent::passing(Operation::LookUpBranch);
        loop {
            let mut url = list.clone();
            url.query_pairs_mut().append_pair("filter", &format!("heads/{branch}")).append_pair("$top", REFERENCES);
            if let Some(token) = &continuation {
                url.query_pairs_mut().append_pair("continuationToken", token);
            }
            let answer = self.read(Operation::LookUpBranch, &url, None).await?;
            if answer.refusal() == Some(ErrorKind::NotFound) {
                return Ok(false);
            }
            continuation = answer
                .headers()
                .get(CONTINUATION)
                .and_then(|value| value.to_str().ok())
                .filter(|token| !token.is_empty())
                .map(str::to_owned);
            // The filter matches the beginning of a name.
            let page: wire::List<wire::Reference> = answer.json()?;
            extent.add(&self.transport, page.value.0.len(), 0)?;
            if page.value.0.iter().any(|reference| reference.name == wanted) {
                return Ok(true);
            }
            if continuation.is_none() {
                return Ok(false);
            }
        }
    }

    async fn probe_git(&self, path: &RepositoryPath) -> Result<GitProbe, ProviderError> {
        let (project, name) = path.as_str().split_once('/').unwrap_or(("", path.as_str()));
        git::probe(&self.transport, &with_segments(&self.endpoint.web, [project, "_git", name]), None).await
    }

    fn repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        stream::once(self.listed()).boxed()
    }

    fn hook_shapes(&self, events: &BTreeSet<EventKind>) -> Vec<HookShape> {
        subscription::shapes(events)
    }

    async fn hooks(&self, repository: &Repository) -> Result<Vec<Hook>, ProviderError> {
        let location = HookLocation::of(repository, Operation::ListHooks)?;
        let found = listing::settled(Operation::ListHooks, || self.subscriptions_once(&location)).await?;
        let hooks: Vec<_> = found.iter().filter(|subscription| location.has(subscription)).map(subscription::hook).collect();
        if hooks.is_empty() {
            self.may_see_subscriptions(&location).await?;
        }
        Ok(hooks)
    }

    async fn create_hook(&self, repository: &Repository, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        let location = HookLocation::of(repository, Operation::CreateHook)?;
        let answer = self.write(Operation::CreateHook, Method::POST, &self.subscriptions_url([]), request, &location).await?;
        let made = |hook: &Hook| hook.url == *request.url && hook.shape.variant == request.shape.variant;
        listing::written(answer, |found| subscription::hook(&found), self.hooks(repository), made).await
    }

    async fn update_hook(&self, repository: &Repository, id: &str, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        let location = HookLocation::of(repository, Operation::UpdateHook)?;
        let answer = self.write(Operation::UpdateHook, Method::PUT, &self.subscriptions_url([id]), request, &location).await?;
        listing::written(answer, |found| subscription::hook(&found), self.hooks(repository), |hook| hook.id == id).await
    }

    /// An update replaces the whole subscription, and the API returns a mask instead of the password.
    async fn release_hook(&self, repository: &Repository, id: &str, release: &HookRelease<'_>) -> Result<(), ProviderError> {
        let operation = Operation::UpdateHook;
        let location = HookLocation::of(repository, operation)?;
        let url = self.subscriptions_url([id]);
        let present: wire::Subscription = self.read(operation, &url, None).await?.json()?;
        let document = subscription::released(&location, release, &present)?;
        let secret = release.secret.map(WebhookSecret::text).unwrap_or_default();
        let call = Call::write(operation, Method::PUT, versioned(&url, self.version.get()))
            .json(&document)
            .conceal(release.url.expose())
            .conceal(secret.expose_secret())
            .header(NO_SIGN_IN.0, NO_SIGN_IN.1);
        self.transport.send(call).await?.success().map(drop)
    }

    async fn delete_hook(&self, repository: &Repository, id: &str) -> Result<Deletion, ProviderError> {
        let url = versioned(&self.subscriptions_url([id]), self.version.get());
        let answer = self.transport.send(Call::delete(Operation::DeleteHook, url).header(NO_SIGN_IN.0, NO_SIGN_IN.1)).await?;
        listing::deletion(answer, id, self.hooks(repository)).await
    }
}

#[cfg(test)]
mod tests;
