//! Reads lists that are paged by `next`: the opaque URL of the next page is followed unchanged, at the API's configured address.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use url::Url;

use super::wire::Page;
use crate::providers::ProviderError;
use crate::providers::listing::Extent;
use crate::providers::transport::{Answer, Transport};

/// Requested page size: the maximum that the API allows.
const PAGE_LENGTH: &str = "100";

pub(super) struct Pages {
    next: Option<Url>,
    read: usize,
    /// Number of entries in the whole list, according to the first page.
    size: Option<usize>,
    seen: BTreeSet<String>,
    entries: usize,
    shifted: bool,
    extent: Extent,
}

impl Pages {
    pub(super) fn new(mut list: Url, extent: Extent) -> Self {
        list.query_pairs_mut().append_pair("pagelen", PAGE_LENGTH);
        Self { next: Some(list), read: 0, size: None, seen: BTreeSet::new(), entries: 0, shifted: false, extent }
    }

    /// URL of the next page. `None` after the last page.
    pub(super) fn next_url(&self) -> Option<Url> {
        self.next.clone()
    }

    /// Reads a page. `id` returns the unique ID of an entry.
    pub(super) fn take<T: DeserializeOwned>(
        &mut self,
        transport: &Transport,
        answer: Answer,
        id: impl Fn(&T) -> &str,
    ) -> Result<Vec<T>, ProviderError> {
        let answer = answer.success()?;
        self.read += 1;
        let page: Page<T> = answer.read()?;
        self.extent.add(transport, page.values.0.len(), answer.body().len())?;
        if self.read == 1 {
            self.size = page.size;
        }
        self.shifted |= page.size.is_some_and(|size| self.size != Some(size));
        let values = page.values.0;
        self.entries += values.len();
        self.seen.extend(values.iter().map(|value| id(value).to_owned()));
        self.next = match &page.next {
            Some(link) => {
                Some(transport.rebase(&answer, link).ok_or_else(|| answer.invalid("the link to the next page leads out of the API"))?)
            }
            None => None,
        };
        Ok(values)
    }

    /// Whether the list changed during the read: an entry appeared twice, or the number of entries differs. Call it after
    /// the last page.
    pub(super) fn has_shifted(&self) -> bool {
        self.shifted || self.seen.len() != self.entries || self.size.is_some_and(|size| size != self.entries)
    }
}
