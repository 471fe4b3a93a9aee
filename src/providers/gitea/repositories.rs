//! Lists the repositories of an organization or a user.

use std::collections::BTreeSet;

use futures::stream::{self, BoxStream, StreamExt as _};

use super::client::GiteaClient;
use super::page::Pages;
use super::{convert, wire};
use crate::providers::lenient::Id;
use crate::providers::listing::{Extent, next_link};
use crate::providers::transport::Operation;
use crate::providers::{ErrorKind, ListedRepository, ProviderError};

/// What was read of the list. Its pages are cut by position, so an entry that is removed meanwhile hides another one.
struct Reading {
    pages: Pages,
    seen: BTreeSet<Id>,
    /// The number of entries, as the first page states it.
    total: Option<usize>,
    begun: bool,
}

impl GiteaClient {
    pub(super) fn listed_repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        let Some(scope) = &self.endpoint.scope else { return stream::empty().boxed() };
        let owners = if scope.word == super::path::ORGANIZATION { "orgs" } else { "users" };
        let pages = Pages::new(self.api([owners, &scope.path, "repos"]), Extent::passing(Operation::ListRepositories));
        let begin = Reading { pages, seen: BTreeSet::new(), total: None, begun: false };
        stream::try_unfold(begin, move |mut reading| async move {
            let page = self.page_of_repositories(&mut reading).await?;
            Ok(page.map(|page| (page, reading)))
        })
        .boxed()
    }

    async fn page_of_repositories(&self, reading: &mut Reading) -> Result<Option<Vec<ListedRepository>>, ProviderError> {
        let Some(url) = reading.pages.next_url() else {
            let whole = reading.total.is_none_or(|total| total == reading.seen.len());
            return if whole { Ok(None) } else { Err(unsettled()) };
        };
        let answer = self.get(Operation::ListRepositories, url).await?.success()?;
        let total = reading.pages.total(&answer);
        let is_followed = next_link(answer.headers()).is_some();
        let page: Vec<wire::Repository> = reading.pages.take(&self.transport, answer)?;
        // The server leaves out what the account may not see after it has cut the pages, and counts it in the total.
        let ends = page.is_empty() && !is_followed;
        if page.is_empty() && is_followed {
            reading.pages.go_on();
        }
        if std::mem::replace(&mut reading.begun, true) && total != reading.total {
            return Err(unsettled());
        }
        reading.total = total;
        if !page.iter().all(|found| reading.seen.insert(found.id.clone())) {
            return Err(unsettled());
        }
        Ok((!ends).then(|| page.into_iter().map(|found| entry(found, self.is_anonymous())).collect()))
    }
}

fn entry(mut found: wire::Repository, anonymous: bool) -> ListedRepository {
    let topics = found.topics.take();
    ListedRepository { topics, ..ListedRepository::of(convert::repository(found, anonymous)) }
}

fn unsettled() -> ProviderError {
    ProviderError::new(ErrorKind::Transient, Operation::ListRepositories.as_str(), "the list changed while it was read")
}
