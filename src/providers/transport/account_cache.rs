//! Caches what a provider keeps across clients: every inspection creates a new client.

use std::any::{Any, TypeId};
use std::sync::Arc;

use moka::sync::Cache;

/// The owner of cached data: API origin, identity and network path. A response that came through a connection's own proxy, or
/// that its own certificate authority vouches for, is shared only with connections that use the same network path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bucket {
    pub(super) origin: String,
    pub(super) identity: String,
    pub(super) way: [u8; 32],
}

/// Owner, name and type of a cached value.
type Key = (Bucket, String, TypeId);

/// All cached values, by owner. One for each process.
pub(super) type SharedCache = Cache<Key, Arc<dyn Any + Send + Sync>>;

/// The cached values of one API origin, identity and network path.
pub(super) struct AccountCache {
    all: SharedCache,
    bucket: Bucket,
}

impl AccountCache {
    pub(super) const fn new(all: SharedCache, bucket: Bucket) -> Self {
        Self { all, bucket }
    }

    pub(super) fn get<T: Send + Sync + 'static>(&self, name: &str, init: impl Fn() -> T) -> Arc<T> {
        let key = (self.bucket.clone(), name.to_owned(), TypeId::of::<T>());
        let cached = self.all.get_with(key, || Arc::new(init()));
        // The type is part of the key.
        cached.downcast().unwrap_or_else(|_| Arc::new(init()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_belongs_to_one_identity_and_name() {
        let cache: SharedCache = Cache::new(10);
        let cached = |identity: &str| {
            let bucket = Bucket { origin: "https://api.acme.io".into(), identity: identity.into(), way: [0; 32] };
            AccountCache::new(cache.clone(), bucket)
        };
        let first = cached("ada").get("token", || 1);
        assert!(Arc::ptr_eq(&first, &cached("ada").get("token", || 2)), "a second client finds it");
        assert_eq!(*cached("bob").get("token", || 3), 3);
        assert_eq!(*cached("ada").get("tags", || 4), 4);
        assert_eq!(*cached("ada").get("token", || "another type"), "another type");
    }
}
