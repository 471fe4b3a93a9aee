//! What a provider keeps longer than one client lives: a client is made anew at each inspection.

use std::any::{Any, TypeId};
use std::sync::Arc;

use moka::sync::Cache;

/// Whose something is: API origin, identity, and the way there. An answer that came through somebody's own proxy or that somebody's
/// own authority vouches for counts for those who go the same way, and for nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bucket {
    pub(super) origin: String,
    pub(super) identity: String,
    pub(super) way: [u8; 32],
}

/// Whose, name and type.
type Key = (Bucket, String, TypeId);

/// All that is kept, by whom it belongs to. One for each process.
pub(super) type SharedCache = Cache<Key, Arc<dyn Any + Send + Sync>>;

/// What is kept for one API origin, identity and way.
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
