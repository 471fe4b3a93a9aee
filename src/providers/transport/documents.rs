//! Caches documents with their entity tags: a conditional request for an unchanged document does not count against the rate
//! limit.
//!
//! The cache is limited in bytes for the whole process, because the server decides how large its responses are.

use std::any::{Any, TypeId};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use moka::sync::Cache;
use url::Url;

use super::account_cache::Bucket;

/// Maximum bytes of all documents together: about those of 10,000 repositories and their hooks.
const ALL: u64 = 16 * 1024 * 1024;
/// Maximum bytes of one document. Larger ones are not cached.
const LARGEST: usize = 64 * 1024;
/// Bytes that an entry takes in addition to its key and document.
const ENTRY: usize = 256;
/// Hooks are read at least once a day.
const KEPT_FOR: Duration = Duration::from_secs(25 * 60 * 60);

/// Owner, the credential at its provider, URL and type.
type Key = (Bucket, String, Url, TypeId);

/// All documents, each with its weight. One for each process.
pub(super) type DocumentCache = Cache<Key, (u32, Arc<dyn Any + Send + Sync>)>;

pub(super) fn cache() -> DocumentCache {
    Cache::builder().weigher(|_, (weight, _): &(u32, _)| *weight).max_capacity(ALL).time_to_idle(KEPT_FOR).build()
}

/// One parsed response.
#[derive(Debug)]
pub struct Document<T> {
    /// The used fields only, not the many that a provider sends.
    pub content: T,
    /// URL of the next page of a list.
    pub next: Option<Url>,
    /// The entity tag of the response.
    pub tag: Option<HeaderValue>,
    /// Memory that the content takes, in bytes.
    pub weight: usize,
}

/// The documents of one API origin, identity and network path.
pub struct Documents {
    all: DocumentCache,
    bucket: Bucket,
}

impl Documents {
    pub(super) const fn new(all: DocumentCache, bucket: Bucket) -> Self {
        Self { all, bucket }
    }

    fn key<T: 'static>(&self, credential: &str, url: &Url) -> Key {
        (self.bucket.clone(), credential.to_owned(), url.clone(), TypeId::of::<T>())
    }

    /// The cached document of a URL for this credential.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self, credential: &str, url: &Url) -> Option<Arc<Document<T>>> {
        self.all.get(&self.key::<T>(credential, url))?.1.downcast().ok()
    }

    /// Caches a document, unless it has no tag or is too large.
    pub fn remember<T: Send + Sync + 'static>(&self, credential: &str, url: &Url, document: &Arc<Document<T>>) {
        let tag = document.tag.as_ref().map_or(0, HeaderValue::len);
        let next = document.next.as_ref().map_or(0, |next| next.as_str().len());
        let Bucket { origin, identity, way } = &self.bucket;
        let key = origin.len() + identity.len() + way.len() + credential.len() + url.as_str().len();
        let weight = ENTRY + key + document.weight + tag + next;
        if tag == 0 || weight > LARGEST {
            return self.forget::<T>(credential, url);
        }
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        self.all.insert(self.key::<T>(credential, url), (weight, Arc::<Document<T>>::clone(document)));
    }

    /// Removes the cached document of a URL.
    pub fn forget<T: Send + Sync + 'static>(&self, credential: &str, url: &Url) {
        self.all.invalidate(&self.key::<T>(credential, url));
    }
}

impl std::fmt::Debug for Documents {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Documents")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(cache: &DocumentCache, way: u8) -> Documents {
        let bucket = Bucket { origin: "https://api.acme.io".into(), identity: "anonymous".into(), way: [way; 32] };
        Documents::new(cache.clone(), bucket)
    }

    fn document(length: usize) -> Arc<Document<String>> {
        let content = "x".repeat(length);
        Arc::new(Document { content, next: None, tag: Some(HeaderValue::from_static("\"1\"")), weight: length })
    }

    fn url(name: &str) -> Url {
        format!("https://api.acme.io/{name}").parse().unwrap()
    }

    #[test]
    fn documents_are_bounded_by_their_bytes_and_not_by_their_number() {
        let cache = cache();
        let documents = documents(&cache, 0);
        for number in 0..2000 {
            documents.remember("", &url(&number.to_string()), &document(60_000));
        }
        cache.run_pending_tasks();
        assert!(cache.weighted_size() <= ALL && cache.entry_count() <= ALL / 60_000, "{}", cache.entry_count());
        assert!(cache.entry_count() > 200);
        documents.remember("", &url("large"), &document(LARGEST));
        assert!(documents.get::<String>("", &url("large")).is_none());
    }

    #[test]
    fn a_document_counts_for_the_way_on_which_it_came_and_for_its_credential() {
        let cache = cache();
        documents(&cache, 1).remember("ada", &url("a"), &document(1));
        assert!(documents(&cache, 1).get::<String>("ada", &url("a")).is_some());
        assert!(documents(&cache, 2).get::<String>("ada", &url("a")).is_none(), "through another proxy");
        assert!(documents(&cache, 1).get::<String>("bob", &url("a")).is_none());
        assert!(documents(&cache, 1).get::<u8>("ada", &url("a")).is_none());
    }
}
