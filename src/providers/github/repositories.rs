//! Lists the owner's repositories.

use std::collections::BTreeSet;

use futures::stream::{self, BoxStream, StreamExt as _};
use http::HeaderMap;
use secrecy::ExposeSecret as _;
use url::Url;

use super::client::{Account, GitHubClient, first_page};
use super::{convert, wire};
use crate::api::v1alpha1::connection::PermissionState;
use crate::providers::lenient::Id;
use crate::providers::listing::{Entries, Extent};
use crate::providers::transport::Operation;
use crate::providers::{ErrorKind, ListedRepository, ProviderError};

/// Header of a list from which GitHub left out the organizations for which the token is not authorized.
const SINGLE_SIGN_ON: &str = "x-github-sso";
/// The beginning of a fine-grained token.
const FINE_GRAINED: &str = "github_pat_";
/// Order of a list: a repository created during the read comes last, and one page ends where the next begins.
const OLDEST_FIRST: [(&str, &str); 2] = [("sort", "created"), ("direction", "asc")];

/// Position in the lists of the owner's repositories.
struct Pagination {
    lists: Vec<Url>,
    next: Option<Url>,
    extent: Extent,
    seen: BTreeSet<Id>,
    /// Whether GitHub left repositories out.
    partial: bool,
}

fn is_partial(headers: &HeaderMap) -> bool {
    headers.get(SINGLE_SIGN_ON).and_then(|value| value.to_str().ok()).is_some_and(|value| value.trim().starts_with("partial-results"))
}

fn left_out() -> ProviderError {
    let message = "GitHub left repositories out of the list: the token is not authorized for the single sign-on of every organization; \
                   authorize it at GitHub under Settings, Developer settings, Configure SSO";
    ProviderError::new(ErrorKind::SingleSignOnRequired, Operation::ListRepositories.as_str(), message)
}

/// Converts an entry. A list does not state whether a repository is empty: a size of zero is also that of a small or new one. The
/// role that it states is the account's, and GitHub does not report what a fine-grained token lets the account do.
fn entry(found: wire::Repository, client: &GitHubClient) -> ListedRepository {
    let topics = found.topics.clone();
    let listed = ListedRepository::of(convert::repository(found, client.viewer(), false));
    let is_open = listed.webhooks == PermissionState::Granted && client.has_fine_grained_token();
    let webhooks = if is_open { PermissionState::Unknown } else { listed.webhooks };
    ListedRepository { empty: None, topics, webhooks, ..listed }
}

impl GitHubClient {
    fn has_fine_grained_token(&self) -> bool {
        matches!(&self.account, Account::Token(token) if token.expose_secret().starts_with(FINE_GRAINED))
    }

    pub(super) fn listed_repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        let mut lists = self.repository_lists();
        lists.reverse();
        let extent = Extent::passing(Operation::ListRepositories);
        let pagination = Pagination { lists, next: None, extent, seen: BTreeSet::new(), partial: false };
        stream::try_unfold(pagination, move |pagination| self.next_repositories(pagination)).boxed()
    }

    /// URLs of the lists that contain the owner's repositories.
    fn repository_lists(&self) -> Vec<Url> {
        let scope = self.endpoint.scope.as_ref();
        let [sort, direction] = OLDEST_FIRST;
        let with = |segments: &[&str], parameters: &[(&str, &str)]| {
            let mut url = first_page(self.api(segments.iter().copied()));
            url.query_pairs_mut().extend_pairs(parameters);
            url
        };
        match (&self.account, scope) {
            (Account::App(_), _) => vec![with(&["installation", "repositories"], &[])],
            (_, None) => Vec::new(),
            (_, Some(scope)) if scope.word == super::path::ORGANIZATION => {
                vec![with(&["orgs", &scope.path, "repos"], &[("type", "all"), sort, direction])]
            }
            (Account::Anonymous, Some(scope)) => vec![with(&["users", &scope.path, "repos"], &[("type", "owner"), sort, direction])],
            // A user's own list contains public repositories only. Private ones appear in the account's list, among others.
            (Account::Token(_), Some(scope)) => vec![
                with(&["user", "repos"], &[("affiliation", "owner,collaborator"), sort, direction]),
                with(&["users", &scope.path, "repos"], &[("type", "owner"), sort, direction]),
            ],
        }
    }

    async fn page_of_repositories(&self, url: Url) -> Result<(Vec<wire::Repository>, Option<Url>, bool), ProviderError> {
        let answer = self.get(Operation::ListRepositories, url).await?.success()?;
        let (next, partial) = (self.next(&answer)?, is_partial(answer.headers()));
        let page = match self.account {
            Account::App(_) => answer.json::<wire::InstallationRepositories>()?.repositories.0,
            Account::Anonymous | Account::Token(_) => answer.json::<Entries<_>>()?.0,
        };
        Ok((page, next, partial))
    }

    /// Returns the next non-empty page of the remaining lists. A list that is not complete ends with an error, after its entries.
    async fn next_repositories(&self, mut pagination: Pagination) -> Result<Option<(Vec<ListedRepository>, Pagination)>, ProviderError> {
        while let Some(url) = pagination.next.take().or_else(|| pagination.lists.pop()) {
            let (page, next, partial) = self.page_of_repositories(url).await?;
            pagination.extent.add(&self.transport, page.len(), 0)?;
            pagination.next = next;
            pagination.partial |= partial;
            let page = page.into_iter().filter(|repository| pagination.seen.insert(repository.id.clone()));
            let page = page.map(|found| entry(found, self));
            let page: Vec<_> = page.filter(|found| self.endpoint.scope.as_ref().is_none_or(|scope| scope.contains(&found.path))).collect();
            if !page.is_empty() {
                return Ok(Some((page, pagination)));
            }
        }
        if pagination.partial { Err(left_out()) } else { Ok(None) }
    }
}
