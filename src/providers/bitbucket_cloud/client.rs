//! Calls the Bitbucket Cloud API as one account.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use http::Method;
use secrecy::ExposeSecret as _;
use url::Url;

use super::account::Account;
use super::page::Pages;
use super::{convert, error, permission, wire};
use crate::api::v1alpha1::{EventKind, Permission};
use crate::providers::address::with_segments;
use crate::providers::listing::Extent;
use crate::providers::model::{
    Deletion, Endpoint, GitProbe, Hook, HookRelease, HookRequest, HookShape, Inspection, Repository, RepositoryPath,
};
use crate::providers::permission::judge_anonymous;
use crate::providers::transport::{Answer, Call, Operation, Transport};
use crate::providers::{Client, Credential, ErrorKind, ListedRepository, PermissionFinding, ProviderError, git, listing};

/// Maximum length of a hook's secret in characters.
const LONGEST_SECRET: usize = 128;

pub(super) struct BitbucketCloudClient {
    pub(super) endpoint: Endpoint,
    pub(super) account: Account,
    pub(super) transport: Transport,
}

impl BitbucketCloudClient {
    pub(super) fn connect(endpoint: Endpoint, credential: Credential, transport: Transport) -> Result<Arc<dyn Client>, ProviderError> {
        let account = Account::new(credential)?;
        let transport = account.authorize(transport.classified_by(error::classify))?;
        Ok(Arc::new(Self { endpoint, account, transport }))
    }

    /// Builds a URL below the API's base address. Each item becomes exactly one path segment.
    pub(super) fn api<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        with_segments(&self.endpoint.api, segments)
    }

    pub(super) async fn get(&self, operation: Operation, url: Url) -> Result<Answer, ProviderError> {
        self.transport.send(Call::read(operation, Method::GET, url)).await
    }

    /// Builds a URL below a repository, which is given by its UUID because UUIDs survive renames.
    fn repository_url<'a>(&self, repository: &'a Repository, rest: impl IntoIterator<Item = &'a str>) -> Url {
        let path = repository.path.as_str();
        let workspace = path.split_once('/').map_or(path, |(workspace, _)| workspace);
        self.api(["repositories", workspace, &repository.id].into_iter().chain(rest))
    }

    /// URL of the list of repositories: those of the connection's project, if it has one, otherwise those of the workspace.
    pub(super) fn repositories_url(&self) -> Option<Url> {
        let scope = self.endpoint.scope.as_ref()?;
        let mut url = self.api(["repositories", &scope.path]);
        if let Some(key) = &scope.project {
            let quoted = key.replace('\\', r"\\").replace('"', "\\\"");
            url.query_pairs_mut().append_pair("q", &format!("project.key=\"{quoted}\""));
        }
        Some(url)
    }

    pub(super) fn converted(&self, repository: wire::Repository) -> Repository {
        convert::repository(repository, self.account.is_anonymous())
    }

    /// Reads the list once. Returns `None` if the list changed during the read.
    async fn hooks_once(&self, repository: &Repository) -> Result<Option<Vec<wire::Hook>>, ProviderError> {
        let mut pages = Pages::new(self.repository_url(repository, ["hooks"]), Extent::kept(Operation::ListHooks));
        let mut hooks: Vec<wire::Hook> = Vec::new();
        while let Some(url) = pages.next_url() {
            let answer = self.get(Operation::ListHooks, url).await?;
            hooks.extend(pages.take(&self.transport, answer, |hook: &wire::Hook| &hook.uuid)?);
        }
        Ok((!pages.has_shifted()).then_some(hooks))
    }

    /// Sends a request that creates or changes a hook.
    async fn write(
        &self,
        (operation, method): (Operation, Method),
        repository: &Repository,
        url: Url,
        request: &HookRequest<'_>,
        present: Option<&wire::Hook>,
    ) -> Result<Hook, ProviderError> {
        let secret = request.secret.text();
        let document = convert::document(request.url, request.shape, Some(secret.expose_secret()), present);
        let call = Call::write(operation, method, url).conceal(request.url.expose()).conceal(secret.expose_secret()).json(&document);
        let answer = self.transport.send(call).await?;
        let is_meant = |hook: &Hook| match present {
            Some(present) => hook.id == present.uuid,
            None => hook.url == *request.url,
        };
        listing::written(answer, convert::hook, self.hooks(repository), is_meant).await
    }
}

/// Rejects a secret that the API would refuse, before anything is sent.
fn check_secret(operation: Operation, request: &HookRequest<'_>) -> Result<(), ProviderError> {
    if request.secret.text().expose_secret().chars().count() <= LONGEST_SECRET {
        return Ok(());
    }
    let message = format!("a webhook secret has at most {LONGEST_SECRET} characters at Bitbucket Cloud; use a shorter one");
    Err(ProviderError::new(ErrorKind::Rejected, operation.as_str(), message))
}

#[async_trait]
impl Client for BitbucketCloudClient {
    async fn inspect(&self) -> Result<Inspection, ProviderError> {
        self.inspect_credential().await
    }

    fn permission(&self, inspection: &Inspection, permission: Permission) -> PermissionFinding {
        if self.account.is_anonymous() {
            return judge_anonymous(permission, permission::PUBLIC);
        }
        permission::judge(&inspection.grants, permission)
    }

    fn hook_permission(&self, inspection: &Inspection, events: &BTreeSet<EventKind>) -> PermissionFinding {
        if self.account.is_anonymous() {
            return judge_anonymous(Permission::ManageWebhooks, permission::PUBLIC);
        }
        permission::judge_hooks(&inspection.grants, events)
    }

    async fn repository(&self, path: &RepositoryPath) -> Result<Repository, ProviderError> {
        let url = self.api(["repositories"].into_iter().chain(path.as_str().split('/')));
        let found: wire::Repository = self.get(Operation::LookUpRepository, url).await?.json()?;
        Ok(self.converted(found))
    }

    async fn repository_by_id(&self, id: &str) -> Result<Option<Repository>, ProviderError> {
        let Some(scope) = &self.endpoint.scope else { return Ok(None) };
        let url = self.api(["repositories", &scope.path, id]);
        let found: wire::Repository = self.get(Operation::LookUpRepository, url).await?.json()?;
        Ok(Some(self.converted(found)))
    }

    async fn branch_exists(&self, repository: &Repository, branch: &str) -> Result<bool, ProviderError> {
        let segments = ["refs", "branches"].into_iter().chain(branch.split('/'));
        let answer = self.get(Operation::LookUpBranch, self.repository_url(repository, segments)).await?;
        if answer.refusal() == Some(ErrorKind::NotFound) {
            return Ok(false);
        }
        let found: wire::Branch = answer.json()?;
        Ok(found.name == branch)
    }

    async fn probe_git(&self, path: &RepositoryPath) -> Result<GitProbe, ProviderError> {
        let url = with_segments(&self.endpoint.web, format!("{path}.git").split('/'));
        git::probe(&self.transport, &url, self.account.git_authorization()?).await
    }

    fn repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        self.listed_repositories()
    }

    fn hook_shapes(&self, events: &BTreeSet<EventKind>) -> Vec<HookShape> {
        convert::shapes(events)
    }

    async fn hooks(&self, repository: &Repository) -> Result<Vec<Hook>, ProviderError> {
        let hooks = listing::settled(Operation::ListHooks, || self.hooks_once(repository)).await?;
        Ok(hooks.into_iter().map(convert::hook).collect())
    }

    async fn create_hook(&self, repository: &Repository, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        check_secret(Operation::CreateHook, request)?;
        let url = self.repository_url(repository, ["hooks"]);
        self.write((Operation::CreateHook, Method::POST), repository, url, request, None).await
    }

    /// Reads the hook first, because an update replaces the whole hook and a pause set by a person must be kept.
    async fn update_hook(&self, repository: &Repository, id: &str, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        check_secret(Operation::UpdateHook, request)?;
        let url = self.repository_url(repository, ["hooks", id]);
        let present: wire::Hook = self.get(Operation::UpdateHook, url.clone()).await?.json()?;
        self.write((Operation::UpdateHook, Method::PUT), repository, url, request, Some(&present)).await
    }

    /// Keeps the secret, because the API does not change a secret that is left out.
    async fn release_hook(&self, repository: &Repository, id: &str, release: &HookRelease<'_>) -> Result<(), ProviderError> {
        let url = self.repository_url(repository, ["hooks", id]);
        let present: wire::Hook = self.get(Operation::UpdateHook, url.clone()).await?.json()?;
        let document = convert::document(release.url, release.shape, None, Some(&present));
        let call = Call::write(Operation::UpdateHook, Method::PUT, url).conceal(release.url.expose()).json(&document);
        self.transport.send(call).await?.success().map(drop)
    }

    async fn delete_hook(&self, repository: &Repository, id: &str) -> Result<Deletion, ProviderError> {
        let url = self.repository_url(repository, ["hooks", id]);
        let answer = self.transport.send(Call::delete(Operation::DeleteHook, url)).await?;
        listing::deletion(answer, id, self.hooks(repository)).await
    }
}

#[cfg(test)]
mod tests;
