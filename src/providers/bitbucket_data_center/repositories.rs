//! Lists the repositories of a project, or all that the account may read.

use std::collections::BTreeSet;

use futures::stream::{self, BoxStream, StreamExt as _};
use url::Url;

use super::client::{BitbucketDataCenterClient, LONG_PAGE};
use super::page::Pages;
use super::permission::REPOSITORY_ADMINISTRATION;
use super::{convert, wire};
use crate::api::v1alpha1::connection::PermissionState;
use crate::providers::lenient::Id;
use crate::providers::listing::Extent;
use crate::providers::transport::Operation;
use crate::providers::{ListedRepository, ProviderError};

/// The repositories that the account administers, and what its credential lets it do there.
struct Administered {
    ids: BTreeSet<Id>,
    state: PermissionState,
}

impl BitbucketDataCenterClient {
    pub(super) fn listed_repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        let pages = Pages::new(self.repositories_url(), LONG_PAGE, Extent::passing(Operation::ListRepositories));
        stream::try_unfold((pages, None), move |(mut pages, administered)| async move {
            let administered = match administered {
                Some(administered) => administered,
                None => self.administered().await?,
            };
            let Some(page) = self.page_of_repositories(&mut pages).await? else { return Ok(None) };
            let page: Vec<_> = page.iter().map(|found| self.entry(found, &administered)).collect();
            Ok(Some((page, (pages, Some(administered)))))
        })
        .boxed()
    }

    /// Reads which repositories the account administers. The list tells the rights of the account, and a token may have fewer: the
    /// hooks of one of them show whether the token has this level, which is the same for all repositories that it covers.
    async fn administered(&self) -> Result<Administered, ProviderError> {
        let mut administered = Administered { ids: BTreeSet::new(), state: PermissionState::Missing };
        if self.is_anonymous() {
            return Ok(administered);
        }
        let mut pages = Pages::new(self.administered_url(), LONG_PAGE, Extent::passing(Operation::ListRepositories));
        let mut first = None;
        while let Some(page) = self.page_of_repositories(&mut pages).await? {
            first = first.or_else(|| page.first().map(|found| format!("{}/{}", found.project.key, found.slug)));
            administered.ids.extend(page.into_iter().map(|found| found.id));
        }
        if let Some(path) = first {
            administered.state = self.manage_webhooks(Operation::ListRepositories, &path).await?.state;
        }
        Ok(administered)
    }

    fn administered_url(&self) -> Url {
        let mut url = self.api(["repos"]);
        url.query_pairs_mut().append_pair("archived", "ALL").append_pair("permission", REPOSITORY_ADMINISTRATION);
        if let Some(scope) = &self.endpoint.scope {
            url.query_pairs_mut().append_pair("projectkey", &scope.path);
        }
        url
    }

    async fn page_of_repositories(&self, pages: &mut Pages) -> Result<Option<Vec<wire::Repository>>, ProviderError> {
        let Some(url) = pages.next_url() else { return Ok(None) };
        pages.take(&self.transport, self.get(Operation::ListRepositories, url).await?).map(Some)
    }

    /// Converts an entry. A list tells nothing about branches.
    fn entry(&self, found: &wire::Repository, administered: &Administered) -> ListedRepository {
        let webhooks = if administered.ids.contains(&found.id) { administered.state } else { PermissionState::Missing };
        let project = Some(found.project.key.clone());
        ListedRepository { empty: None, project, webhooks, ..ListedRepository::of(convert::listed(found, self.is_anonymous())) }
    }
}
