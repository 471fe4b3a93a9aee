//! Reads lists of providers: a list is complete or an error. Also evaluates a 404 to a deletion by reading the list.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use http::HeaderMap;
use http::header::LINK;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, SeqAccess, Visitor};

use super::model::{Deletion, Hook};
use super::transport::{Answer, Operation, Reserved, Transport, UNRESERVED};
use super::{Disposition, ErrorKind, ProviderError};

/// Maximum number of reads of a list that changes while it is being read.
const MOST_READINGS: usize = 3;
/// A list with more pages is treated as endless.
pub(super) const MOST_PAGES: usize = 1000;
/// Maximum number of entries of one page: as many as any provider returns at once.
const PAGE: usize = 1000;
/// Maximum number of entries of a list assembled in memory: several times as many hooks as any provider allows for a repository.
const MOST_KEPT: usize = 2000;
/// Maximum size of such a list in bytes.
const MOST_KEPT_BYTES: usize = 4 * 1024 * 1024;
/// Maximum number of entries of a list that is streamed page by page.
const MOST_PASSED: usize = 100_000;

/// The entries of one page. Deserialization fails if there are more than a page can hold, so that a short document with millions
/// of entries is never expanded in memory.
pub(super) struct Entries<T, const MOST: usize = PAGE>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Entries<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(EntriesVisitor::<T, MOST>(PhantomData))
    }
}

struct EntriesVisitor<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for EntriesVisitor<T, MOST> {
    type Value = Entries<T, MOST>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at most {MOST} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = items.next_element()? {
            if entries.len() >= MOST {
                return Err(A::Error::invalid_length(entries.len() + 1, &self));
            }
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

/// Counts how much of a list was read. Every list is limited in pages and entries; one assembled in memory also in bytes.
pub(super) struct Extent {
    operation: Operation,
    pages: usize,
    entries: usize,
    bytes: usize,
    keeps: bool,
    reserved: Option<Reserved>,
}

impl Extent {
    /// For a list assembled in memory.
    pub(super) const fn kept(operation: Operation) -> Self {
        Self { operation, pages: 0, entries: 0, bytes: 0, keeps: true, reserved: None }
    }

    /// For a list that is streamed page by page.
    pub(super) const fn passing(operation: Operation) -> Self {
        Self { operation, pages: 0, entries: 0, bytes: 0, keeps: false, reserved: None }
    }

    /// Counts a page. `bytes` is the memory that it takes; a list assembled in memory reserves it.
    ///
    /// # Errors
    /// `ResponseInvalid` for a list longer than any list of the API, `Transient` if there is no room for it now.
    pub(super) fn add(&mut self, transport: &Transport, entries: usize, bytes: usize) -> Result<(), ProviderError> {
        self.pages += 1;
        self.entries += entries;
        self.bytes = self.bytes.saturating_add(bytes);
        let too_long = |what: String| Err(ProviderError::new(ErrorKind::ResponseInvalid, self.operation.as_str(), what));
        if self.pages > MOST_PAGES {
            return too_long(format!("the list has more than {MOST_PAGES} pages"));
        }
        let most = if self.keeps { MOST_KEPT } else { MOST_PASSED };
        if self.entries > most {
            return too_long(format!("the list has more than {most} entries"));
        }
        if !self.keeps {
            return Ok(());
        }
        if self.bytes > MOST_KEPT_BYTES {
            return too_long(format!("the list is longer than {MOST_KEPT_BYTES} bytes"));
        }
        if self.bytes > UNRESERVED {
            let Some(more) = transport.try_reserve(bytes) else {
                let message = "too many long lists are being read; this one is read later";
                return Err(ProviderError::new(ErrorKind::Transient, self.operation.as_str(), message));
            };
            self.reserved = Some(match self.reserved.take() {
                Some(reserved) => reserved.and(more),
                None => more,
            });
        }
        Ok(())
    }
}

/// Re-reads a list until it is stable: `read` returns `None` if pages changed while it was reading.
pub(super) async fn settled<T, Reading>(operation: Operation, mut read: impl FnMut() -> Reading) -> Result<Vec<T>, ProviderError>
where
    Reading: Future<Output = Result<Option<Vec<T>>, ProviderError>>,
{
    for _ in 0..MOST_READINGS {
        if let Some(list) = read().await? {
            return Ok(list);
        }
    }
    Err(ProviderError::new(ErrorKind::Transient, operation.as_str(), "the list kept changing while it was read"))
}

/// Whether no id occurs twice: if pages shift while the list is read, an entry appears again.
pub(super) fn are_distinct<T: Ord>(ids: impl ExactSizeIterator<Item = T>) -> bool {
    let length = ids.len();
    ids.collect::<BTreeSet<_>>().len() == length
}

/// The URL with `rel="next"` in a `Link` header (RFC 8288).
pub(super) fn next_link(headers: &HeaderMap) -> Option<&str> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let is_next = |parameter: &str| parameter.trim().eq_ignore_ascii_case(r#"rel="next""#) || parameter.trim() == "rel=next";
    // A URL may contain a comma, but not `>`.
    links.flat_map(|value| value.split('<').skip(1)).find_map(|link| {
        let (address, parameters) = link.split_once('>')?;
        parameters.trim_end_matches([',', ' ']).split(';').any(is_next).then_some(address)
    })
}

/// The error for a write where neither the response nor the list shows the hook.
pub(super) const UNSHOWN: &str = "the answer is empty, and the list of hooks does not show what was written";

/// The hook that a write created or changed: from the response or, if the server answers without a body, from the list.
///
/// # Errors
/// The refusal, and the errors of the list; `ResponseInvalid` if neither shows the hook.
pub(super) async fn written<T: DeserializeOwned>(
    answer: Answer,
    hook: impl FnOnce(T) -> Hook,
    list: impl Future<Output = Result<Vec<Hook>, ProviderError>>,
    is_meant: impl Fn(&Hook) -> bool,
) -> Result<Hook, ProviderError> {
    let answer = answer.success()?;
    if !answer.body().is_empty() {
        return Ok(hook(answer.json()?));
    }
    list.await?.into_iter().rfind(is_meant).ok_or_else(|| answer.invalid(UNSHOWN))
}

/// The result of a deletion. `list` reads the hooks of the repository with the same credential, because the provider also answers
/// 404 to a credential that may not see them.
///
/// # Errors
/// Every refusal except 404, and the errors of the list except a refusal to show it.
pub(super) async fn deletion(
    answer: Answer,
    id: &str,
    list: impl Future<Output = Result<Vec<Hook>, ProviderError>>,
) -> Result<Deletion, ProviderError> {
    match answer.refusal() {
        None => return Ok(Deletion::Deleted),
        Some(ErrorKind::NotFound) => {}
        Some(kind) => return Err(answer.refused(kind)),
    }
    match list.await {
        Ok(hooks) if hooks.iter().all(|hook| hook.id != id) => Ok(Deletion::Absent),
        Ok(_) => Err(answer.refused(ErrorKind::PermissionDenied)),
        Err(error) if error.kind.disposition() == Disposition::Hidden => Ok(Deletion::Hidden),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod endless;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_the_links() {
        let next = |text: &'static str| {
            let headers = HeaderMap::from_iter([(LINK, http::HeaderValue::from_static(text))]);
            next_link(&headers).map(str::to_owned)
        };
        let both = r#"<https://api.acme.io/hooks?page=1>; rel="prev", <https://api.acme.io/hooks?page=3,4>; rel="next""#;
        assert_eq!(next(both).unwrap(), "https://api.acme.io/hooks?page=3,4");
        assert_eq!(next(r#"<https://a/2>; title="x"; rel="next", <https://a/9>; rel="last""#).unwrap(), "https://a/2");
        assert_eq!(next(r#"<https://a/9>; rel="last""#), None);
        assert_eq!(next_link(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn a_list_that_never_settles_is_an_error() {
        let mut readings = 0;
        let error = settled::<u8, _>(Operation::ListHooks, || {
            readings += 1;
            async { Ok(None) }
        })
        .await
        .unwrap_err();
        assert_eq!((error.kind, readings), (ErrorKind::Transient, MOST_READINGS));
        assert_eq!(settled(Operation::ListHooks, || async { Ok(Some(vec![1])) }).await.unwrap(), [1]);
        assert!(are_distinct([1, 2].into_iter()) && !are_distinct([1, 1].into_iter()));
    }
}
