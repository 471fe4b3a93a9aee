//! Reads lists that are paged by start index. The server states where the next page begins, because it may skip entries
//! that the account may not see.

use serde::de::DeserializeOwned;
use url::Url;

use super::wire;
use crate::providers::ProviderError;
use crate::providers::listing::Extent;
use crate::providers::transport::{Answer, Transport};

pub(super) struct Pages {
    list: Url,
    limit: u32,
    next: Option<u64>,
    read: usize,
    extent: Extent,
}

impl Pages {
    /// Starts a list with the requested page size. The server's administrator may limit pages to fewer entries.
    pub(super) const fn new(list: Url, limit: u32, extent: Extent) -> Self {
        Self { list, limit, next: Some(0), read: 0, extent }
    }

    /// URL of the next page. `None` after the last page.
    pub(super) fn next_url(&self) -> Option<Url> {
        let start = self.next?;
        let mut url = self.list.clone();
        url.query_pairs_mut().append_pair("start", &start.to_string()).append_pair("limit", &self.limit.to_string());
        Some(url)
    }

    pub(super) const fn are_several(&self) -> bool {
        self.read > 1
    }

    pub(super) fn take<T: DeserializeOwned>(&mut self, transport: &Transport, answer: Answer) -> Result<Vec<T>, ProviderError> {
        let answer = answer.success()?;
        let page: wire::Page<T> = answer.read()?;
        self.extent.add(transport, page.values.0.len(), answer.body().len())?;
        let start = self.next.unwrap_or_default();
        self.read += 1;
        self.next = match (page.is_last, page.next_start) {
            (true, _) => None,
            (false, Some(next)) if next > start => Some(next),
            (false, _) => return Err(answer.invalid("the list has a next page, but does not say where")),
        };
        Ok(page.values.0)
    }
}
