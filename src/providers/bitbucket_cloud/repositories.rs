//! Lists the repositories of a workspace or a project.

use std::collections::BTreeSet;

use futures::stream::{self, BoxStream, StreamExt as _};
use url::Url;

use super::account::Account;
use super::client::BitbucketCloudClient;
use super::page::Pages;
use super::wire;
use crate::api::v1alpha1::connection::PermissionState;
use crate::providers::listing::Extent;
use crate::providers::transport::Operation;
use crate::providers::{ErrorKind, ListedRepository, ProviderError};

/// The repositories that the account administers, by their UUIDs; `None` if the API does not tell.
type Administered = Option<BTreeSet<String>>;

impl BitbucketCloudClient {
    pub(super) fn listed_repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        let Some(mut url) = self.repositories_url() else { return stream::empty().boxed() };
        // Oldest first, so that repositories created during the read come last.
        url.query_pairs_mut().append_pair("sort", "created_on");
        let pages = Pages::new(url.clone(), Extent::passing(Operation::ListRepositories));
        stream::try_unfold((pages, url, None), move |(mut pages, list, administered)| async move {
            let administered = match administered {
                Some(administered) => administered,
                None => self.administered(&list).await?,
            };
            let Some(page) = self.page_of_repositories(&mut pages).await? else { return Ok(None) };
            let page: Vec<_> = page.into_iter().map(|found| self.entry(found, &administered)).collect();
            Ok(Some((page, (pages, list, Some(administered)))))
        })
        .boxed()
    }

    /// Reads which repositories of a list the account administers. Only users have roles: the list of an access token's own
    /// repositories says nothing about its scopes.
    async fn administered(&self, list: &Url) -> Result<Administered, ProviderError> {
        if !matches!(self.account, Account::ApiToken { .. }) {
            return Ok(None);
        }
        let mut list = list.clone();
        list.query_pairs_mut().append_pair("role", "admin");
        let mut pages = Pages::new(list, Extent::passing(Operation::ListRepositories));
        let mut ids = BTreeSet::new();
        while let Some(page) = self.page_of_repositories(&mut pages).await? {
            ids.extend(page.into_iter().map(|found| found.uuid));
        }
        Ok(Some(ids))
    }

    async fn page_of_repositories(&self, pages: &mut Pages) -> Result<Option<Vec<wire::Repository>>, ProviderError> {
        let Some(url) = pages.next_url() else { return Ok(None) };
        let answer = self.get(Operation::ListRepositories, url).await?;
        let page = pages.take(&self.transport, answer, |repository: &wire::Repository| &repository.uuid)?;
        if pages.next_url().is_none() && pages.has_shifted() {
            let message = "the list changed while it was read";
            return Err(ProviderError::new(ErrorKind::Transient, Operation::ListRepositories.as_str(), message));
        }
        Ok(Some(page))
    }

    /// Converts an entry. The API tells neither topics nor whether a repository is archived.
    fn entry(&self, found: wire::Repository, administered: &Administered) -> ListedRepository {
        let webhooks = administered
            .as_ref()
            .map(|ids| ids.contains(&found.uuid))
            .map(|granted| if granted { PermissionState::Granted } else { PermissionState::Missing });
        let found = ListedRepository::of(self.converted(found));
        ListedRepository { archived: None, webhooks: webhooks.unwrap_or(found.webhooks), ..found }
    }
}
