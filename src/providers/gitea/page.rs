//! Reads lists that are paged by number. Links are not followed, because they contain the address that the server is
//! configured with.

use serde::de::DeserializeOwned;
use url::Url;

use crate::providers::ProviderError;
use crate::providers::listing::{Entries, Extent};
use crate::providers::transport::{Answer, Transport};

/// Requested page size. The server's administrator may limit pages to fewer entries.
const PAGE_SIZE: usize = 50;

pub(super) struct Pages {
    list: Url,
    page: usize,
    seen: usize,
    first_length: usize,
    done: bool,
    extent: Extent,
}

impl Pages {
    pub(super) const fn new(list: Url, extent: Extent) -> Self {
        Self { list, page: 0, seen: 0, first_length: 0, done: false, extent }
    }

    /// URL of the next page. `None` after the last page.
    pub(super) fn next_url(&mut self) -> Option<Url> {
        if self.done {
            return None;
        }
        self.page += 1;
        let mut url = self.list.clone();
        url.query_pairs_mut().append_pair("page", &self.page.to_string()).append_pair("limit", &PAGE_SIZE.to_string());
        Some(url)
    }

    /// Continues after an empty page, because the server says that another one follows.
    pub(super) const fn go_on(&mut self) {
        self.done = false;
    }

    /// Number of entries in the whole list, if the server reports it.
    #[expect(clippy::unused_self, reason = "it is a question about the list")]
    pub(super) fn total(&self, answer: &Answer) -> Option<usize> {
        answer.headers().get("x-total-count")?.to_str().ok()?.parse().ok()
    }

    /// Reads a page and determines whether it was the last: it is empty, all entries have been seen, or, if the server does
    /// not report their number, it has fewer entries than the first page. A short first page proves nothing, because the
    /// server may limit pages to fewer entries than requested.
    pub(super) fn take<T: DeserializeOwned>(&mut self, transport: &Transport, answer: Answer) -> Result<Vec<T>, ProviderError> {
        let total = self.total(&answer);
        let answer = answer.success()?;
        let Entries(page) = answer.read::<Entries<T>>()?;
        self.extent.add(transport, page.len(), answer.body().len())?;
        self.seen += page.len();
        if self.page == 1 {
            self.first_length = page.len();
        }
        let whole = match total {
            Some(total) => self.seen >= total,
            None => self.page > 1 && page.len() < self.first_length,
        };
        self.done = page.is_empty() || whole;
        Ok(page)
    }
}
