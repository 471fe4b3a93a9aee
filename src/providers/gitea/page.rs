//! Lists by page number. Links are not followed: they are made from the address that the server believes itself to have.

use serde::de::DeserializeOwned;
use url::Url;

use crate::providers::ProviderError;
use crate::providers::listing::{Entries, Extent};
use crate::providers::transport::{Answer, Transport};

/// Entries that are asked for. The server gives fewer where its administrator says so.
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

    /// The address of the next page; `None` after the last.
    pub(super) fn next_url(&mut self) -> Option<Url> {
        if self.done {
            return None;
        }
        self.page += 1;
        let mut url = self.list.clone();
        url.query_pairs_mut().append_pair("page", &self.page.to_string()).append_pair("limit", &PAGE_SIZE.to_string());
        Some(url)
    }

    /// How many entries the list has, where the server tells.
    #[expect(clippy::unused_self, reason = "it is a question about the list")]
    pub(super) fn total(&self, answer: &Answer) -> Option<usize> {
        answer.headers().get("x-total-count")?.to_str().ok()?.parse().ok()
    }

    /// Reads a page and finds out whether it was the last: nothing on it, as many seen as there are, or, where the server
    /// does not tell how many, fewer than on the first. A first page that is short proves nothing: the server may
    /// give fewer than were asked for.
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
