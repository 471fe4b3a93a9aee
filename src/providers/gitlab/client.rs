//! Calls the GitLab API as one account. Known projects are addressed by ID, because IDs survive renames and transfers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use http::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use url::Url;

use super::page::Pages;
use super::signing::{Proof, Signing, signing_token};
use super::{convert, error, permission, role, wire};
use crate::api::v1alpha1::{EventKind, Permission};
use crate::protocol::secret::WebhookSecret;
use crate::providers::address::with_segments;
use crate::providers::lenient::Id;
use crate::providers::listing::{Entries, Extent};
use crate::providers::model::{
    Deletion, Endpoint, GitProbe, Hook, HookRelease, HookRequest, HookShape, Inspection, Repository, RepositoryPath,
};
use crate::providers::permission::judge_anonymous;
use crate::providers::transport::{Answer, Call, Operation, Transport};
use crate::providers::{Client, Credential, ErrorKind, ListedRepository, PermissionFinding, ProviderError, authorization, git, listing};

/// User name for basic authentication with a token as the password. GitLab accepts any name with an access token, but an
/// OAuth token requires this one.
const ANY_USER: &str = "oauth2";
/// Maximum number of disabled hooks in one list for which the delivery log is read.
const MOST_CAUSES: usize = 5;

pub(super) struct GitLabClient {
    pub(super) endpoint: Endpoint,
    pub(super) account: Account,
    pub(super) transport: Transport,
    pub(super) signing: Signing,
    /// The account behind the token, cached after the first successful lookup.
    pub(super) token_user: Mutex<Option<TokenUser>>,
}

/// The part of the credential that is used after connecting.
pub(super) enum Account {
    Anonymous,
    /// The user name is for git only; the API takes the token alone.
    Token {
        username: String,
        token: SecretString,
    },
}

/// The account behind the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenUser {
    pub(super) user_id: Id,
    /// Whether the account is an administrator of the whole server.
    pub(super) is_admin: bool,
}

impl GitLabClient {
    pub(super) fn connect(endpoint: Endpoint, credential: Credential, transport: Transport) -> Result<Arc<dyn Client>, ProviderError> {
        let account = match credential {
            Credential::Anonymous => Account::Anonymous,
            Credential::Token(token) => Account::Token { username: ANY_USER.to_owned(), token },
            // The API does not accept passwords: the password key holds a token.
            Credential::BasicAuth { username, password } => Account::Token { username, token: password },
            Credential::EmailToken { .. } | Credential::GitHubApp { .. } => {
                let message = "GitLab takes a token, or username and password with the token as password";
                return Err(ProviderError::new(ErrorKind::CredentialKindNotAccepted, "connect", message));
            }
        };
        let transport = transport.classified_by(error::classify);
        let transport = match &account {
            Account::Anonymous => transport,
            Account::Token { username, token } => {
                let as_password = authorization::basic(username, token)?;
                transport.authorized(authorization::bearer(token)?, [token.expose_secret(), authorization::encoded(&as_password)])
            }
        };
        Ok(Arc::new(Self { endpoint, account, transport, signing: Signing::new(), token_user: Mutex::new(None) }))
    }

    /// Builds a URL below the API's base address. Each item becomes exactly one path segment.
    pub(super) fn api<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        with_segments(&self.endpoint.api, segments)
    }

    /// Builds a URL below a project, which is given by its ID or its path. A path is encoded as one segment.
    fn project_url<'a>(&self, project: &'a str, rest: impl IntoIterator<Item = &'a str>) -> Url {
        self.api(["projects", project].into_iter().chain(rest))
    }

    pub(super) async fn get(&self, operation: Operation, url: Url) -> Result<Answer, ProviderError> {
        self.transport.send(Call::read(operation, Method::GET, url)).await
    }

    pub(super) const fn is_anonymous(&self) -> bool {
        matches!(self.account, Account::Anonymous)
    }

    pub(super) fn remember(&self, token_user: TokenUser) {
        *self.token_user.lock().unwrap_or_else(PoisonError::into_inner) = Some(token_user);
    }

    /// The account behind the token. `None` if the token may not read it.
    pub(super) async fn token_user(&self) -> Result<Option<TokenUser>, ProviderError> {
        let known = self.token_user.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_some() {
            return Ok(known);
        }
        let answer = self.get(Operation::InspectCredential, self.api(["user"])).await?;
        match answer.refusal() {
            None => {
                let user: wire::User = answer.json()?;
                let token_user = TokenUser { user_id: user.id, is_admin: user.is_admin };
                self.remember(token_user.clone());
                Ok(Some(token_user))
            }
            Some(ErrorKind::PermissionDenied) => Ok(None),
            Some(kind) => Err(answer.refused(kind)),
        }
    }

    async fn look_up(&self, project: &str) -> Result<Repository, ProviderError> {
        let mut answer = self.get(Operation::LookUpRepository, self.project_url(project, [])).await?;
        if project.contains('/') && error::has_no_such_address(&answer) {
            let id = self.listed_id(project).await?;
            answer = self.get(Operation::LookUpRepository, self.project_url(&id, [])).await?;
        }
        let found: wire::Project = answer.json()?;
        let finding = self.role(&found).await?;
        Ok(convert::repository(found, finding))
    }

    /// Finds the ID of a project whose encoded path does not reach GitLab as one segment, by a list with the path as a
    /// query parameter.
    async fn listed_id(&self, path: &str) -> Result<String, ProviderError> {
        let mut list = self.api(["projects"]);
        list.query_pairs_mut().extend_pairs([("search", path), ("search_namespaces", "true"), ("simple", "true")]);
        let mut pages = Pages::new(list, Extent::passing(Operation::LookUpRepository));
        while let Some(url) = pages.next_url() {
            let page: Vec<wire::Project> = pages.take(&self.transport, self.get(Operation::LookUpRepository, url).await?)?;
            if let Some(found) = page.iter().find(|project| project.path_with_namespace.eq_ignore_ascii_case(path)) {
                return Ok(found.id.to_string());
            }
        }
        let message = format!("no list contains a project with this path. {}", error::DECODED);
        Err(ProviderError::new(ErrorKind::NotFound, Operation::LookUpRepository.as_str(), message))
    }

    /// Whether a branch is in the list of the branches with this prefix.
    async fn lists_branch(&self, project: &str, branch: &str) -> Result<bool, ProviderError> {
        let mut list = self.project_url(project, ["repository", "branches"]);
        list.query_pairs_mut().append_pair("search", &format!("^{branch}"));
        let mut pages = Pages::new(list, Extent::passing(Operation::LookUpBranch));
        while let Some(url) = pages.next_url() {
            let page: Vec<wire::Branch> = pages.take(&self.transport, self.get(Operation::LookUpBranch, url).await?)?;
            if page.iter().any(|found| found.name == branch) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Evaluates whether the account's role may manage the project's hooks. A project shows only memberships in the
    /// project and its groups; memberships through invited groups appear only in the list of members.
    async fn role(&self, project: &wire::Project) -> Result<PermissionFinding, ProviderError> {
        let shown = role::shown(project.permissions.as_ref());
        if self.is_anonymous() {
            return Ok(PermissionFinding::needs_credential());
        }
        if role::suffices(shown) {
            return Ok(PermissionFinding::granted());
        }
        let Some(token_user) = self.token_user().await? else {
            return Ok(PermissionFinding::unknown("the token cannot read its own account, so its role is not known"));
        };
        let answer = self
            .get(Operation::LookUpRepository, self.project_url(project.id.as_str(), ["members", "all", token_user.user_id.as_str()]))
            .await?;
        match answer.refusal() {
            None => Ok(role::judge_member(&answer.json()?)),
            Some(ErrorKind::NotFound) if token_user.is_admin => {
                Ok(PermissionFinding::unknown("allowed for an administrator, unless Admin Mode requires the scope admin_mode"))
            }
            Some(ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(role::judge(shown)),
            Some(kind) => Err(answer.refused(kind)),
        }
    }

    /// Reads the list once. Returns `None` if the list changed during the read.
    async fn hooks_once(&self, project: &str) -> Result<Option<Vec<wire::Hook>>, ProviderError> {
        let mut pages = Pages::new(self.project_url(project, ["hooks"]), Extent::kept(Operation::ListHooks));
        let mut hooks: Vec<wire::Hook> = Vec::new();
        while let Some(url) = pages.next_url() {
            let answer = self.get(Operation::ListHooks, url).await?;
            hooks.extend(pages.take::<wire::Hook>(&self.transport, answer)?);
            if !pages.is_settled() {
                return Ok(None);
            }
        }
        Ok(listing::are_distinct(hooks.iter().map(|hook| hook.id.as_str())).then_some(hooks))
    }

    /// Returns why deliveries of a hook failed, according to its log, which exists since 17.3 and covers seven days.
    /// Returns `None` if the log cannot be read or does not state the reason.
    async fn cause(&self, project: &str, hook: &str) -> Option<String> {
        let mut url = self.project_url(project, ["hooks", hook, "events"]);
        url.query_pairs_mut().append_pair("per_page", "1");
        let Entries::<wire::HookEvent>(events) = self.get(Operation::ListHooks, url).await.ok()?.json().ok()?;
        convert::last_answer(events.first()?)
    }

    async fn send_hook(&self, write: HookWrite<'_>, proof: Proof) -> Result<wire::Hook, ProviderError> {
        let HookWrite { operation, method, url, project, request, mut document } = write;
        proof.write(&mut document, request.secret, operation == Operation::UpdateHook);
        let token = request.secret.text();
        let call = Call::write(operation, method, url).conceal(request.url.expose()).conceal(token.expose_secret());
        let call = match signing_token(request.secret) {
            Some(signing) => call.conceal(signing.expose_secret()),
            None => call,
        };
        let answer = self.transport.send(call.json(&Value::Object(document))).await?.success()?;
        let hook = if answer.body().is_empty() { self.unshown(project, &answer, request).await? } else { answer.json()? };
        self.signing.learn_hook(&hook);
        Ok(hook)
    }

    /// Finds the written hook in the list, for an answer that does not contain it.
    async fn unshown(&self, project: &str, answer: &Answer, request: &HookRequest<'_>) -> Result<wire::Hook, ProviderError> {
        let hooks = listing::settled(Operation::ListHooks, || self.hooks_once(project)).await?;
        let found = hooks.into_iter().rfind(|hook| hook.url == request.url.expose());
        found.ok_or_else(|| answer.invalid(listing::UNSHOWN))
    }

    fn change<'a>(&self, project: &'a str, id: &str, request: &'a HookRequest<'a>) -> HookWrite<'a> {
        let document = convert::update(request.url, request.shape);
        let url = self.project_url(project, ["hooks", id]);
        HookWrite { operation: Operation::UpdateHook, method: Method::PUT, url, project, request, document }
    }

    /// Sends a hook with the strongest proof that the server supports and checks which one the server stored. Signing
    /// tokens are sent only to servers that report whether they stored one, so that a hook without a secret is noticed even
    /// if the second write fails.
    async fn write_hook(&self, project: &str, write: HookWrite<'_>) -> Result<wire::Hook, ProviderError> {
        let request = write.request;
        let proof = Proof::of(request.secret, self.signing.support());
        let made = self.send_hook(write, proof).await?;
        if proof == Proof::Signature && made.signing_token_present != Some(true) {
            self.signing.refused();
            return self.send_hook(self.change(project, made.id.as_str(), request), Proof::Token).await;
        }
        Ok(made)
    }

    /// Removes entries that the shape does not have and that an update cannot remove.
    async fn remove_surplus(&self, project: &str, hook: &mut wire::Hook, shape: &HookShape) -> Result<(), ProviderError> {
        let id = hook.id.to_string();
        for (list, key) in convert::surplus(hook, shape) {
            let url = self.project_url(project, ["hooks", &id, list, &key]);
            let answer = self.transport.send(Call::write(Operation::UpdateHook, Method::DELETE, url)).await?;
            if let Some(kind) = answer.refusal().filter(|kind| *kind != ErrorKind::NotFound) {
                return Err(answer.refused(kind));
            }
            let entries = if list == convert::URL_VARIABLES { &mut hook.url_variables } else { &mut hook.custom_headers };
            if let Some(entries) = entries {
                entries.retain(|entry| entry.key != key);
            }
        }
        Ok(())
    }
}

/// A hook to be written, without its secret.
struct HookWrite<'a> {
    operation: Operation,
    method: Method,
    url: Url,
    project: &'a str,
    request: &'a HookRequest<'a>,
    document: Map<String, Value>,
}

#[async_trait]
impl Client for GitLabClient {
    async fn inspect(&self) -> Result<Inspection, ProviderError> {
        self.inspect_credential().await
    }

    fn permission(&self, inspection: &Inspection, permission: Permission) -> PermissionFinding {
        if self.is_anonymous() {
            return judge_anonymous(permission, permission::PUBLIC);
        }
        permission::judge(&inspection.grants, permission)
    }

    async fn repository(&self, path: &RepositoryPath) -> Result<Repository, ProviderError> {
        self.look_up(path.as_str()).await
    }

    async fn repository_by_id(&self, id: &str) -> Result<Option<Repository>, ProviderError> {
        self.look_up(id).await.map(Some)
    }

    async fn branch_exists(&self, repository: &Repository, branch: &str) -> Result<bool, ProviderError> {
        let url = self.project_url(&repository.id, ["repository", "branches", branch]);
        let answer = self.get(Operation::LookUpBranch, url).await?;
        if branch.contains('/') && error::has_no_such_address(&answer) {
            return self.lists_branch(&repository.id, branch).await;
        }
        if answer.refusal() == Some(ErrorKind::NotFound) {
            return Ok(false);
        }
        let found: wire::Branch = answer.json()?;
        Ok(found.name == branch)
    }

    async fn probe_git(&self, path: &RepositoryPath) -> Result<GitProbe, ProviderError> {
        let url = with_segments(&self.endpoint.web, format!("{path}.git").split('/'));
        let authorization = match &self.account {
            Account::Token { username, token } => Some(authorization::basic(username, token)?),
            Account::Anonymous => None,
        };
        git::probe(&self.transport, &url, authorization).await
    }

    fn repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        self.listed_projects()
    }

    fn hook_shapes(&self, events: &BTreeSet<EventKind>) -> Vec<HookShape> {
        convert::shapes(events)
    }

    async fn hooks(&self, repository: &Repository) -> Result<Vec<Hook>, ProviderError> {
        let hooks = listing::settled(Operation::ListHooks, || self.hooks_once(&repository.id)).await?;
        let mut converted = Vec::with_capacity(hooks.len());
        let mut causes = 0;
        for hook in hooks {
            self.signing.learn_hook(&hook);
            let asks = convert::is_disabled(&hook) && causes < MOST_CAUSES;
            causes += usize::from(asks);
            let cause = if asks { self.cause(&repository.id, hook.id.as_str()).await } else { None };
            converted.push(convert::hook(hook, cause));
        }
        Ok(converted)
    }

    async fn create_hook(&self, repository: &Repository, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        let document = convert::creation(request.url, request.shape);
        let url = self.project_url(&repository.id, ["hooks"]);
        let project = repository.id.as_str();
        let write = HookWrite { operation: Operation::CreateHook, method: Method::POST, url, project, request, document };
        let made = self.write_hook(&repository.id, write).await?;
        Ok(convert::hook(made, None))
    }

    async fn update_hook(&self, repository: &Repository, id: &str, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        let mut changed = self.write_hook(&repository.id, self.change(&repository.id, id, request)).await?;
        self.remove_surplus(&repository.id, &mut changed, request.shape).await?;
        Ok(convert::hook(changed, None))
    }

    /// GitLab clears the token of a hook when its URL changes, unless the request includes the token.
    async fn release_hook(&self, repository: &Repository, id: &str, release: &HookRelease<'_>) -> Result<(), ProviderError> {
        let operation = Operation::UpdateHook;
        let secret = release.secret.map(WebhookSecret::text).ok_or_else(|| HookRelease::would_lose_the_secret(operation.as_str()))?;
        let url = self.project_url(&repository.id, ["hooks", id]);
        let mut document = convert::update(release.url, release.shape);
        document.insert("token".to_owned(), secret.expose_secret().into());
        let call = Call::write(operation, Method::PUT, url).conceal(release.url.expose()).conceal(secret.expose_secret());
        self.transport.send(call.json(&Value::Object(document))).await?.success().map(drop)
    }

    async fn delete_hook(&self, repository: &Repository, id: &str) -> Result<Deletion, ProviderError> {
        let url = self.project_url(&repository.id, ["hooks", id]);
        let answer = self.transport.send(Call::delete(Operation::DeleteHook, url)).await?;
        listing::deletion(answer, id, self.hooks(repository)).await
    }
}

#[cfg(test)]
mod tests;
