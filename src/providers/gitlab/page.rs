//! Reads lists that are paged by number or by key. The number of the next page is preferred to its link, because the link
//! contains the address that the server is configured with.

use serde::de::DeserializeOwned;
use url::Url;

use crate::providers::listing::{Entries, Extent, next_link};
use crate::providers::transport::{Answer, Transport};
use crate::providers::{ErrorKind, ProviderError};

/// Requested page size: the maximum that GitLab allows.
const PAGE_SIZE: usize = 100;
const NEXT_PAGE: &str = "x-next-page";
const TOTAL: &str = "x-total";

pub(super) struct Pages {
    list: Url,
    next: Option<Url>,
    read: usize,
    seen: usize,
    total: Option<usize>,
    changed: bool,
    extent: Extent,
}

impl Pages {
    pub(super) fn new(mut list: Url, extent: Extent) -> Self {
        list.query_pairs_mut().append_pair("per_page", &PAGE_SIZE.to_string());
        Self { next: Some(list.clone()), list, read: 0, seen: 0, total: None, changed: false, extent }
    }

    /// URL of the next page. `None` after the last page.
    pub(super) fn next_url(&mut self) -> Option<Url> {
        self.next.take()
    }

    /// Reads a page and determines the next one.
    pub(super) fn take<T: DeserializeOwned>(&mut self, transport: &Transport, answer: Answer) -> Result<Vec<T>, ProviderError> {
        let answer = answer.success()?;
        // Absent for lists with more than 10,000 entries.
        let total = answer.headers().get(TOTAL).and_then(|value| value.to_str().ok()?.parse().ok());
        self.changed |= self.read > 0 && total != self.total;
        self.total = total;
        self.read += 1;
        let next_page = answer.headers().get(NEXT_PAGE).map(|value| value.to_str().unwrap_or_default().to_owned());
        let link = match next_link(answer.headers()) {
            Some(link) if next_page.is_none() => {
                Some(transport.rebase(&answer, link).ok_or_else(|| answer.invalid("the next page has no usable address"))?)
            }
            _ => None,
        };
        let Entries(page) = answer.read::<Entries<T>>()?;
        self.extent.add(transport, page.len(), answer.body().len())?;
        self.seen += page.len();
        self.next = match (next_page, link) {
            (Some(number), _) if number.is_empty() => None,
            (Some(number), _) => Some(self.numbered(&number)),
            (None, Some(link)) => Some(link),
            // A proxy removed the headers. Keyset paging has no page number to continue with, so the list ends at the first
            // page without a link.
            (None, None) if page.len() >= PAGE_SIZE && !self.is_by_key() => Some(self.numbered(&(self.read + 1).to_string())),
            (None, None) => None,
        };
        Ok(page)
    }

    fn numbered(&self, number: &str) -> Url {
        let mut url = self.list.clone();
        url.query_pairs_mut().append_pair("page", number);
        url
    }

    fn is_by_key(&self) -> bool {
        self.list.query_pairs().any(|(name, value)| name == "pagination" && value == "keyset")
    }

    /// Whether the entries read so far are consistent: the total did not change and, after the last page, it equals the
    /// number of entries read.
    pub(super) fn is_settled(&self) -> bool {
        !self.changed && (self.next.is_some() || self.total.is_none_or(|total| total == self.seen))
    }

    /// The error for a list that changed during the read.
    pub(super) fn unsettled(operation: &'static str) -> ProviderError {
        ProviderError::new(ErrorKind::Transient, operation, "the list changed while it was read")
    }
}
