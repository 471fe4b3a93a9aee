//! Lists by `next`: the address of the following page is opaque and is followed as it is, on the API's own address.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use url::Url;

use super::wire::Page;
use crate::providers::ProviderError;
use crate::providers::listing::Extent;
use crate::providers::transport::{Answer, Transport};

/// Entries that are asked for: the most that the API gives.
const PAGE_LENGTH: &str = "100";

/// The way through a list.
pub(super) struct Pages {
    next: Option<Url>,
    read: usize,
    /// How many entries the first page said that there are.
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

    /// The address of the next page; `None` after the last.
    pub(super) fn next_url(&self) -> Option<Url> {
        self.next.clone()
    }

    /// Reads a page. `id` tells entries apart.
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

    /// Whether the list changed while it was read: an entry stood twice, or their number was another. Asked after the last page.
    pub(super) fn has_shifted(&self) -> bool {
        self.shifted || self.seen.len() != self.entries || self.size.is_some_and(|size| size != self.entries)
    }
}
