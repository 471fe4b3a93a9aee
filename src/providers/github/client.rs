//! Calls the GitHub API as one account.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use http::header::{ETAG, IF_NONE_MATCH};
use http::{Method, StatusCode};
use ring::digest;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use url::Url;

use super::app::App;
use super::call::api_call;
use super::convert::Viewer;
use super::{convert, error, permission, wire};
use crate::api::v1alpha1::binding::Visibility;
use crate::api::v1alpha1::{EventKind, Permission};
use crate::providers::address::with_segments;
use crate::providers::listing::{Entries, Extent};
use crate::providers::model::{
    Deletion, Endpoint, GitProbe, Hook, HookRelease, HookRequest, HookShape, Inspection, Repository, RepositoryPath,
};
use crate::providers::transport::{Answer, Call, Document, Operation, Transport};
use crate::providers::{Client, Credential, ErrorKind, ListedRepository, PermissionFinding, ProviderError, authorization, git, listing};

/// Requested page size: the maximum that GitHub allows.
const PAGE_SIZE: &str = "100";
/// User name for basic authentication with a token as the password. GitHub accepts any name, but installation tokens
/// require this one.
const TOKEN_USER: &str = "x-access-token";

pub(super) struct GitHubClient {
    pub(super) endpoint: Endpoint,
    pub(super) account: Account,
    pub(super) transport: Transport,
    /// Part of the cache keys. GitHub binds entity tags to the token that they were read with, so a new installation token
    /// starts with an empty cache.
    credential: String,
}

/// The part of the credential that is used after connecting.
pub(super) enum Account {
    Anonymous,
    /// A token of a person or a service user, from either key of the Secret.
    Token(SecretString),
    App(Box<App>),
}

impl GitHubClient {
    pub(super) fn connect(endpoint: Endpoint, credential: Credential, transport: Transport) -> Result<Arc<dyn Client>, ProviderError> {
        let transport = transport.classified_by(error::classify);
        let identity = digest::digest(&digest::SHA256, credential.identifying_text().expose_secret().as_bytes());
        let account = match credential {
            Credential::Anonymous => Account::Anonymous,
            // The API does not accept passwords: the password key holds a token.
            Credential::Token(token) | Credential::BasicAuth { password: token, .. } => Account::Token(token),
            Credential::GitHubApp { issuer, private_key, installation_id, webhook_secret } => {
                let (id, has_webhook) = (installation_id.as_deref(), webhook_secret.is_some());
                Account::App(Box::new(App::read(&endpoint, &issuer, &private_key, id, has_webhook, transport.clone())?))
            }
            Credential::EmailToken { .. } => {
                let message = "GitHub takes a token, username and password, or the keys of a GitHub App";
                return Err(ProviderError::new(ErrorKind::CredentialKindNotAccepted, "connect", message));
            }
        };
        let transport = match &account {
            Account::Token(token) => {
                let as_password = authorization::basic(TOKEN_USER, token)?;
                transport.authorized(authorization::bearer(token)?, [token.expose_secret(), authorization::encoded(&as_password)])
            }
            Account::Anonymous | Account::App(_) => transport,
        };
        Ok(Arc::new(Self { endpoint, account, transport, credential: hex::encode(identity) }))
    }

    /// Builds a URL below the API's base address. Each item becomes exactly one path segment.
    pub(super) fn api<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        with_segments(&self.endpoint.api, segments)
    }

    fn repository_url<'a>(&self, path: &'a str, rest: impl IntoIterator<Item = &'a str>) -> Url {
        self.api(["repos"].into_iter().chain(path.split('/')).chain(rest))
    }

    fn hooks_url(&self, repository: &Repository) -> Url {
        self.repository_url(repository.path.as_str(), ["hooks"])
    }

    fn hook_url(&self, repository: &Repository, id: &str) -> Url {
        self.repository_url(repository.path.as_str(), ["hooks", id])
    }

    pub(super) fn viewer(&self) -> Viewer {
        match self.account {
            Account::Anonymous => Viewer::Anonymous,
            Account::Token(_) => Viewer::Account,
            Account::App(_) => Viewer::App,
        }
    }

    /// Sends a call as this account.
    async fn send(&self, call: Call) -> Result<Answer, ProviderError> {
        let Account::App(app) = &self.account else { return self.transport.send(api_call(call)).await };
        let token = app.token().await?;
        let transport = self.transport.clone().authorized(authorization::bearer(&token.secret)?, [token.secret.expose_secret()]);
        let answer = transport.send(api_call(call)).await?;
        if answer.refusal() == Some(ErrorKind::Unauthenticated) {
            app.forget(&token).await;
        }
        Ok(answer)
    }

    /// Sends a call that only reads. If GitHub rejects an installation token before its expiry, the call is repeated once
    /// with a new token.
    async fn read(&self, call: Call) -> Result<Answer, ProviderError> {
        let answer = self.send(call.clone()).await?;
        let again = matches!(self.account, Account::App(_)) && answer.refusal() == Some(ErrorKind::Unauthenticated);
        if again { self.send(call).await } else { Ok(answer) }
    }

    pub(super) async fn get(&self, operation: Operation, url: Url) -> Result<Answer, ProviderError> {
        self.read(Call::read(operation, Method::GET, url)).await
    }

    /// Reads a document. Reuses the cached one if GitHub confirms that it is unchanged.
    async fn document<T: DeserializeOwned + wire::Weighed + Send + Sync + 'static>(
        &self,
        operation: Operation,
        url: Url,
    ) -> Result<Arc<Document<T>>, ProviderError> {
        let documents = self.transport.documents();
        let known = documents.get::<T>(&self.credential, &url);
        let call = Call::read(operation, Method::GET, url.clone());
        let call = match known.as_ref().and_then(|known| known.tag.clone()) {
            Some(tag) => call.header(IF_NONE_MATCH, tag),
            None => call,
        };
        let answer = self.read(call).await?;
        if answer.refusal().is_some() {
            documents.forget::<T>(&self.credential, &url);
        }
        let answer = answer.success()?;
        if answer.status() == StatusCode::NOT_MODIFIED {
            return known.ok_or_else(|| answer.invalid("it says that nothing changed, although nothing was known"));
        }
        let (tag, next) = (answer.headers().get(ETAG).cloned(), self.next(&answer)?);
        let content: T = answer.json()?;
        let document = Arc::new(Document { weight: content.weight(), content, next, tag });
        documents.remember(&self.credential, &url, &document);
        Ok(document)
    }

    /// URL of the next page. GitHub's own base address in the link is replaced by the connection's.
    pub(super) fn next(&self, answer: &Answer) -> Result<Option<Url>, ProviderError> {
        let Some(link) = listing::next_link(answer.headers()) else { return Ok(None) };
        let next = self.transport.rebase(answer, link).filter(|next| next != answer.url());
        next.map(Some).ok_or_else(|| answer.invalid("the next page of the list is not at an address of this API"))
    }

    /// Converts a repository document and adds whether the repository is empty, which the document does not state.
    async fn described(&self, found: &wire::Repository) -> Result<Repository, ProviderError> {
        let empty = found.size == 0 && self.has_no_branch(&found.full_name).await?;
        Ok(convert::repository(found.clone(), self.viewer(), empty))
    }

    /// Called only if the size is zero, which is ambiguous. Returns `false` if the account may not read the contents.
    async fn has_no_branch(&self, path: &str) -> Result<bool, ProviderError> {
        let mut url = self.repository_url(path, ["branches"]);
        url.query_pairs_mut().append_pair("per_page", "1");
        let answer = self.get(Operation::LookUpRepository, url).await?;
        match answer.refusal() {
            None => Ok(answer.json::<Entries<wire::Branch>>()?.0.is_empty()),
            Some(ErrorKind::PermissionDenied | ErrorKind::NotFound) => Ok(false),
            Some(kind) => Err(answer.refused(kind)),
        }
    }

    /// Reads the list once. Returns `None` if the list changed during the read: pages are cut by position, so an entry that
    /// is removed during the read hides another one. Re-reading an unchanged page costs nothing.
    async fn hooks_once(&self, repository: &Repository) -> Result<Option<Vec<wire::Hook>>, ProviderError> {
        let mut pages: Vec<(Url, Arc<Document<Entries<wire::Hook>>>)> = Vec::new();
        let mut extent = Extent::kept(Operation::ListHooks);
        let mut next = Some(first_page(self.hooks_url(repository)));
        while let Some(url) = next.take() {
            let page = self.document::<Entries<wire::Hook>>(Operation::ListHooks, url.clone()).await?;
            extent.add(&self.transport, page.content.0.len(), page.weight)?;
            next.clone_from(&page.next);
            pages.push((url, page));
        }
        let ids = |page: &[wire::Hook]| page.iter().map(|hook| hook.id.clone()).collect::<Vec<_>>();
        if let Some((_, earlier)) = pages.split_last() {
            for (url, page) in earlier {
                let again = self.document::<Entries<wire::Hook>>(Operation::ListHooks, url.clone()).await?;
                if ids(&again.content.0) != ids(&page.content.0) || again.next != page.next {
                    return Ok(None);
                }
            }
        }
        let hooks: Vec<_> = pages.iter().flat_map(|(_, page)| page.content.0.iter().cloned()).collect();
        Ok(listing::are_distinct(hooks.iter().map(|hook| hook.id.as_str())).then_some(hooks))
    }

    fn write(operation: Operation, method: Method, url: Url, request: &HookRequest<'_>) -> Call {
        let secret = request.secret.text();
        Call::write(operation, method, url).conceal(request.url.expose()).conceal(secret.expose_secret())
    }
}

/// Converts the error for a repository that an App limited to selected repositories cannot see.
fn not_installed(path: &str, error: ProviderError) -> ProviderError {
    let message = format!("the App's installation does not cover {path}, or it does not exist; {}", error.message);
    ProviderError { kind: ErrorKind::NotInstalled, message, ..error }
}

pub(super) fn first_page(mut url: Url) -> Url {
    url.query_pairs_mut().append_pair("per_page", PAGE_SIZE);
    url
}

#[async_trait]
impl Client for GitHubClient {
    async fn inspect(&self) -> Result<Inspection, ProviderError> {
        self.inspect_credential().await
    }

    fn permission(&self, inspection: &Inspection, permission: Permission) -> PermissionFinding {
        match &self.account {
            Account::Anonymous => permission::judge_anonymous(permission),
            Account::Token(_) => permission::judge_token(&inspection.grants, permission),
            Account::App(_) => permission::judge_app(&permission::keys(&inspection.grants), permission),
        }
    }

    fn hook_permission(&self, inspection: &Inspection, events: &BTreeSet<EventKind>) -> PermissionFinding {
        match &self.account {
            Account::App(_) => permission::judge_app_hooks(&permission::keys(&inspection.grants), events),
            Account::Anonymous | Account::Token(_) => self.permission(inspection, Permission::ManageWebhooks),
        }
    }

    async fn repository(&self, path: &RepositoryPath) -> Result<Repository, ProviderError> {
        let url = self.repository_url(path.as_str(), []);
        let found = self.document::<wire::Repository>(Operation::LookUpRepository, url).await;
        let Account::App(app) = &self.account else { return self.described(&found?.content).await };
        match found {
            Err(error) if error.kind == ErrorKind::NotFound && app.is_selective().await => Err(not_installed(path.as_str(), error)),
            Err(error) => Err(error),
            Ok(found) => {
                let found = self.described(&found.content).await?;
                // Public repositories are visible to every App, even where it is not installed.
                let in_doubt = found.visibility == Some(Visibility::Public) && app.is_selective().await;
                if in_doubt && !app.is_installed_on(found.path.as_str()).await? {
                    let operation = Operation::LookUpRepository.as_str();
                    return Err(not_installed(found.path.as_str(), ProviderError::new(ErrorKind::NotInstalled, operation, "it is public")));
                }
                Ok(found)
            }
        }
    }

    async fn repository_by_id(&self, id: &str) -> Result<Option<Repository>, ProviderError> {
        let found = self.document::<wire::Repository>(Operation::LookUpRepository, self.api(["repositories", id])).await?;
        Ok(Some(self.described(&found.content).await?))
    }

    async fn branch_exists(&self, repository: &Repository, branch: &str) -> Result<bool, ProviderError> {
        let segments = ["branches"].into_iter().chain(branch.split('/'));
        let answer = self.get(Operation::LookUpBranch, self.repository_url(repository.path.as_str(), segments)).await?;
        if answer.refusal() == Some(ErrorKind::NotFound) {
            return Ok(false);
        }
        // GitHub answers a request for a renamed branch under the new name.
        let found: wire::Branch = answer.json()?;
        Ok(found.name == branch)
    }

    async fn probe_git(&self, path: &RepositoryPath) -> Result<GitProbe, ProviderError> {
        let url = with_segments(&self.endpoint.web, format!("{path}.git").split('/'));
        let probe = async |token: &SecretString| {
            let header = authorization::basic(TOKEN_USER, token)?;
            let encoded = authorization::encoded(&header).to_owned();
            let transport = self.transport.clone().authorized(header, [token.expose_secret(), &encoded]);
            git::probe(&transport, &url, None).await
        };
        match &self.account {
            Account::Anonymous => git::probe(&self.transport, &url, None).await,
            Account::Token(token) => probe(token).await,
            Account::App(app) => {
                let token = app.token().await?;
                match probe(&token.secret).await {
                    Err(error) if error.kind == ErrorKind::Unauthenticated => {
                        app.forget(&token).await;
                        probe(&app.token().await?.secret).await
                    }
                    result => result,
                }
            }
        }
    }

    fn repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        self.listed_repositories()
    }

    fn hook_shapes(&self, events: &BTreeSet<EventKind>) -> Vec<HookShape> {
        convert::shapes(events)
    }

    async fn hooks(&self, repository: &Repository) -> Result<Vec<Hook>, ProviderError> {
        let hooks = listing::settled(Operation::ListHooks, || self.hooks_once(repository)).await?;
        Ok(hooks.iter().map(convert::hook).collect())
    }

    async fn create_hook(&self, repository: &Repository, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        let secret = request.secret.text();
        let document = convert::creation(request.url, request.shape, secret.expose_secret());
        let call = Self::write(Operation::CreateHook, Method::POST, self.hooks_url(repository), request).json(&document);
        let answer = self.send(call).await?;
        let made = |hook: &Hook| hook.url == *request.url;
        listing::written(answer, |hook: wire::Hook| convert::hook(&hook), self.hooks(repository), made).await
    }

    async fn update_hook(&self, repository: &Repository, id: &str, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        let secret = request.secret.text();
        let document = convert::update(request.url, request.shape, secret.expose_secret());
        let call = Self::write(Operation::UpdateHook, Method::PATCH, self.hook_url(repository, id), request).json(&document);
        let answer = self.send(call).await?;
        listing::written(answer, |hook: wire::Hook| convert::hook(&hook), self.hooks(repository), |hook| hook.id == id).await
    }

    /// Changes only the URL in the configuration. An update of the hook itself replaces the whole configuration, and a
    /// secret that is left out of it is deleted.
    async fn release_hook(&self, repository: &Repository, id: &str, release: &HookRelease<'_>) -> Result<(), ProviderError> {
        let url = self.repository_url(repository.path.as_str(), ["hooks", id, "config"]);
        let call = Call::write(Operation::UpdateHook, Method::PATCH, url).conceal(release.url.expose());
        self.send(call.json(&serde_json::json!({"url": release.url.expose()}))).await?.success().map(drop)
    }

    async fn delete_hook(&self, repository: &Repository, id: &str) -> Result<Deletion, ProviderError> {
        let answer = self.send(Call::delete(Operation::DeleteHook, self.hook_url(repository, id))).await?;
        listing::deletion(answer, id, self.hooks(repository)).await
    }
}

#[cfg(test)]
mod tests;
