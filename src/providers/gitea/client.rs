//! Calls the Gitea or Forgejo API as one account.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use http::Method;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

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
use crate::providers::{Client, Credential, ErrorKind, ListedRepository, PermissionFinding, ProviderError, authorization, git, listing};

/// User name for basic authentication with a token as the password. The server accepts any name.
const ANY_USER: &str = "forgebind";

pub(super) struct GiteaClient {
    pub(super) endpoint: Endpoint,
    pub(super) account: Account,
    pub(super) transport: Transport,
}

/// The part of the credential that is used after connecting.
pub(super) enum Account {
    Anonymous,
    Token(SecretString),
    Basic { username: String, password: SecretString },
}

impl GiteaClient {
    pub(super) fn connect(endpoint: Endpoint, credential: Credential, transport: Transport) -> Result<Arc<dyn Client>, ProviderError> {
        let account = match credential {
            Credential::Anonymous => Account::Anonymous,
            Credential::Token(token) => Account::Token(token),
            Credential::BasicAuth { username, password } => Account::Basic { username, password },
            Credential::EmailToken { .. } | Credential::GitHubApp { .. } => {
                let message = "Gitea takes a token, or username and password";
                return Err(ProviderError::new(ErrorKind::CredentialKindNotAccepted, "connect", message));
            }
        };
        let transport = transport.classified_by(error::classify);
        let transport = match &account {
            Account::Anonymous => transport,
            Account::Token(token) => {
                let as_password = authorization::basic(ANY_USER, token)?;
                transport.authorized(authorization::token(token)?, [token.expose_secret(), authorization::encoded(&as_password)])
            }
            Account::Basic { username, password } => {
                let header = authorization::basic(username, password)?;
                transport.authorized(header.clone(), [password.expose_secret(), authorization::encoded(&header)])
            }
        };
        Ok(Arc::new(Self { endpoint, account, transport }))
    }

    /// Builds a URL below the API's base address. Each item becomes exactly one path segment.
    pub(super) fn api<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        with_segments(&self.endpoint.api, segments)
    }

    fn repository_url<'a>(&self, path: &'a str, rest: impl IntoIterator<Item = &'a str>) -> Url {
        self.api(["repos"].into_iter().chain(path.split('/')).chain(rest))
    }

    fn hook_url(&self, repository: &Repository, id: &str) -> Url {
        self.repository_url(repository.path.as_str(), ["hooks", id])
    }

    pub(super) async fn get(&self, operation: Operation, url: Url) -> Result<Answer, ProviderError> {
        self.transport.send(Call::read(operation, Method::GET, url)).await
    }

    pub(super) const fn is_anonymous(&self) -> bool {
        matches!(self.account, Account::Anonymous)
    }

    fn converted(&self, repository: wire::Repository) -> Repository {
        convert::repository(repository, self.is_anonymous())
    }

    /// Reads the list once. Returns `None` if the list changed during the read.
    async fn hooks_once(&self, repository: &Repository) -> Result<Option<Vec<wire::Hook>>, ProviderError> {
        let mut pages = Pages::new(self.repository_url(repository.path.as_str(), ["hooks"]), Extent::kept(Operation::ListHooks));
        let mut hooks: Vec<wire::Hook> = Vec::new();
        let mut total = None;
        while let Some(url) = pages.next_url() {
            let answer = self.get(Operation::ListHooks, url).await?.success()?;
            let told = pages.total(&answer);
            let page: Vec<wire::Hook> = pages.take(&self.transport, answer)?;
            if hooks.is_empty() {
                total = told;
            }
            if told != total {
                return Ok(None);
            }
            hooks.extend(page);
        }
        let whole = listing::are_distinct(hooks.iter().map(|hook| hook.id.as_str())) && total.is_none_or(|total| total == hooks.len());
        Ok(whole.then_some(hooks))
    }

    fn write(operation: Operation, method: Method, url: Url, request: &HookRequest<'_>) -> Call {
        let secret = request.secret.text();
        Call::write(operation, method, url).conceal(request.url.expose()).conceal(secret.expose_secret())
    }
}

#[async_trait]
impl Client for GiteaClient {
    async fn inspect(&self) -> Result<Inspection, ProviderError> {
        self.inspect_credential().await
    }

    fn permission(&self, inspection: &Inspection, permission: Permission) -> PermissionFinding {
        if self.is_anonymous() {
            return judge_anonymous(permission, permission::PUBLIC);
        }
        let organization = self.endpoint.scope.as_ref().is_some_and(|scope| scope.word == super::path::ORGANIZATION);
        permission::judge(&inspection.grants, permission, organization)
    }

    async fn repository(&self, path: &RepositoryPath) -> Result<Repository, ProviderError> {
        let url = self.repository_url(path.as_str(), []);
        let found: wire::Repository = self.get(Operation::LookUpRepository, url).await?.json()?;
        Ok(self.converted(found))
    }

    async fn repository_by_id(&self, id: &str) -> Result<Option<Repository>, ProviderError> {
        let url = self.api(["repositories", id]);
        let found: wire::Repository = self.get(Operation::LookUpRepository, url).await?.json()?;
        Ok(Some(self.converted(found)))
    }

    async fn branch_exists(&self, repository: &Repository, branch: &str) -> Result<bool, ProviderError> {
        let segments = ["branches"].into_iter().chain(branch.split('/'));
        let answer = self.get(Operation::LookUpBranch, self.repository_url(repository.path.as_str(), segments)).await?;
        if answer.refusal() == Some(ErrorKind::NotFound) {
            return Ok(false);
        }
        // A server on a case-insensitive file system also finds branches that differ in case.
        let found: wire::Branch = answer.json()?;
        Ok(found.name == branch)
    }

    async fn probe_git(&self, path: &RepositoryPath) -> Result<GitProbe, ProviderError> {
        let url = with_segments(&self.endpoint.web, format!("{path}.git").split('/'));
        let authorization = match &self.account {
            Account::Token(token) => Some(authorization::basic(ANY_USER, token)?),
            Account::Anonymous | Account::Basic { .. } => None,
        };
        git::probe(&self.transport, &url, authorization).await
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
        let url = self.repository_url(repository.path.as_str(), ["hooks"]);
        let secret = request.secret.text();
        let document = convert::creation(request.url, request.shape, secret.expose_secret());
        let call = Self::write(Operation::CreateHook, Method::POST, url, request).json(&document);
        let answer = self.transport.send(call).await?;
        listing::written(answer, convert::hook, self.hooks(repository), |hook| hook.url == *request.url).await
    }

    async fn update_hook(&self, repository: &Repository, id: &str, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        let url = self.hook_url(repository, id);
        let document = convert::update(request.url, request.shape);
        let call = Self::write(Operation::UpdateHook, Method::PATCH, url, request).json(&document);
        let answer = self.transport.send(call).await?;
        let hook = listing::written(answer, convert::hook, self.hooks(repository), |hook| hook.id == id).await?;
        match convert::foreign_type(&hook, request.shape) {
            None => Ok(hook),
            Some(kind) => {
                let message = format!("the hook is of type {kind}, which cannot be changed; delete it at the provider");
                Err(ProviderError::new(ErrorKind::Rejected, Operation::UpdateHook.as_str(), message))
            }
        }
    }

    /// Keeps the secret, because an update cannot change it.
    async fn release_hook(&self, repository: &Repository, id: &str, release: &HookRelease<'_>) -> Result<(), ProviderError> {
        let call = Call::write(Operation::UpdateHook, Method::PATCH, self.hook_url(repository, id)).conceal(release.url.expose());
        self.transport.send(call.json(&convert::update(release.url, release.shape))).await?.success().map(drop)
    }

    async fn delete_hook(&self, repository: &Repository, id: &str) -> Result<Deletion, ProviderError> {
        let answer = self.transport.send(Call::delete(Operation::DeleteHook, self.hook_url(repository, id))).await?;
        listing::deletion(answer, id, self.hooks(repository)).await
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;
    use crate::providers::Provider;
    use crate::providers::model::Scope;
    use crate::providers::transport::test_server::{Server, TOKEN, answer, json};

    fn client(server: &Server) -> Arc<dyn Client> {
        <dyn Provider>::connect(&super::super::Gitea, server.endpoint(), Credential::Token(TOKEN.into()), server.transport()).unwrap()
    }

    fn repository() -> Repository {
        let document = serde_json::json!({"id": 1, "full_name": "acme/shop"});
        convert::repository(serde_json::from_value(document).unwrap(), false)
    }

    fn hooks(ids: std::ops::Range<i64>, total: Option<&str>) -> axum::response::Response {
        let hooks: Vec<_> = ids.map(|id| serde_json::json!({"id": id, "type": "gitea", "config": {}, "events": []})).collect();
        let body = serde_json::to_string(&hooks).unwrap();
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(total.map(|total| ("x-total-count", total)));
        answer(200, &headers, &body)
    }

    #[tokio::test]
    async fn a_list_ends_where_the_server_says_and_not_at_a_short_page() {
        for (pages, expected) in [
            (vec![hooks(0..50, Some("73")), hooks(50..73, Some("73"))], 73),
            (vec![hooks(0..10, Some("25")), hooks(10..20, Some("25")), hooks(20..25, Some("25"))], 25),
            (vec![hooks(0..10, None), hooks(10..20, None), hooks(20..24, None)], 24),
            (vec![hooks(0..10, None), hooks(10..20, None), hooks(0..0, None)], 20),
            (vec![hooks(0..0, Some("0"))], 0),
        ] {
            let calls = pages.len();
            let server = Server::start(pages).await;
            assert_eq!(client(&server).hooks(&repository()).await.unwrap().len(), expected);
            assert_eq!(server.lines().len(), calls);
        }
    }

    #[tokio::test]
    async fn an_empty_page_of_repositories_does_not_end_a_list_that_goes_on() {
        let page = |ids: std::ops::Range<i64>, next: bool| {
            let found: Vec<_> = ids.map(|id| serde_json::json!({"id": id, "full_name": format!("acme/r{id}")})).collect();
            let mut headers = vec![("content-type", "application/json"), ("x-total-count", "120")];
            headers.extend(next.then_some(("link", r#"<https://git.example.com/api/v1/orgs/acme/repos?page=9>; rel="next""#)));
            answer(200, &headers, &serde_json::to_string(&found).unwrap())
        };
        let server = Server::start([page(0..50, true), page(0..0, true), page(50..60, false), page(0..0, false)]).await;
        let endpoint = Endpoint {
            scope: Some(Scope { word: super::super::path::ORGANIZATION, path: "acme".into(), project: None }),
            ..server.endpoint()
        };
        let client = <dyn Provider>::connect(&super::super::Gitea, endpoint, Credential::Token(TOKEN.into()), server.transport()).unwrap();
        let pages: Vec<_> = client.repositories().try_collect().await.unwrap();
        assert_eq!((pages.iter().map(Vec::len).sum::<usize>(), server.lines().len()), (60, 4));
    }

    #[tokio::test]
    async fn a_list_that_changes_while_it_is_read_is_read_anew() {
        let moved = || [hooks(0..50, Some("60")), hooks(51..60, Some("59"))];
        let server = Server::start(moved().into_iter().chain([hooks(0..50, Some("59")), hooks(50..59, Some("59"))])).await;
        assert_eq!(client(&server).hooks(&repository()).await.unwrap().len(), 59);
        let server = Server::start(moved().into_iter().chain(moved()).chain(moved())).await;
        assert_eq!(client(&server).hooks(&repository()).await.unwrap_err().kind, ErrorKind::Transient, "never a short list");
    }

    #[tokio::test]
    async fn a_404_is_absence_only_with_the_list_at_hand() {
        let gone = || json(404, r#"{"message":"not found"}"#);
        let delete = async |answers: Vec<axum::response::Response>| {
            let server = Server::start(answers).await;
            client(&server).delete_hook(&repository(), "7").await
        };
        assert_eq!(delete(vec![answer(204, &[], "")]).await.unwrap(), Deletion::Deleted);
        assert_eq!(delete(vec![gone(), hooks(0..5, Some("5"))]).await.unwrap(), Deletion::Absent);
        assert_eq!(delete(vec![gone(), gone()]).await.unwrap(), Deletion::Hidden);
        assert_eq!(delete(vec![gone(), json(403, "{}")]).await.unwrap(), Deletion::Hidden);
        assert_eq!(delete(vec![gone(), hooks(0..9, Some("9"))]).await.unwrap_err().kind, ErrorKind::PermissionDenied);
        let broken = || json(500, "{}");
        assert_eq!(delete(vec![gone(), broken(), broken(), broken()]).await.unwrap_err().kind, ErrorKind::Transient);
        assert_eq!(delete(vec![json(401, "{}")]).await.unwrap_err().kind, ErrorKind::Unauthenticated);
    }

    #[tokio::test]
    async fn a_renamed_repository_is_looked_up_again_before_a_write() {
        let moved = answer(307, &[("location", "/api/v1/repos/acme/new/hooks/7")], "");
        let server = Server::start([moved]).await;
        let error = client(&server).delete_hook(&repository(), "7").await.unwrap_err();
        assert_eq!((error.kind, server.lines().len()), (ErrorKind::Conflict, 1));
    }

    #[tokio::test]
    async fn names_stay_one_segment_each() {
        let server = Server::start([json(404, "{}"), json(404, "{}")]).await;
        let client = client(&server);
        assert!(!client.branch_exists(&repository(), "release/1.0?x#y%2F").await.unwrap());
        assert_eq!(server.lines(), ["GET /api/v1/repos/acme/shop/branches/release/1.0%3Fx%23y%252F"]);
    }
}
