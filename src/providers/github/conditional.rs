//! Conditional requests: what was read is remembered with its entity tag, and an answer that it still holds costs nothing
//! of the rate limit.
//!
//! GitHub binds tags to the token that they were read with, so a new installation token begins anew.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use moka::sync::Cache;
use url::Url;

use super::wire;

/// What is remembered of each kind.
const MOST: u64 = 10_000;
/// Hooks are looked at once a day at least.
const FOR: Duration = Duration::from_secs(25 * 60 * 60);

/// What was read with one credential. In the few fields that are used, not in the many that GitHub sends.
pub(super) struct Memory {
    pub(super) repositories: Cache<Url, Arc<Document<wire::Repository>>>,
    pub(super) hooks: Cache<Url, Arc<Document<Vec<wire::Hook>>>>,
}

/// One answer, read.
pub(super) struct Document<T> {
    pub(super) content: T,
    /// Where a list goes on.
    pub(super) next: Option<Url>,
    pub(super) tag: Option<HeaderValue>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            repositories: Cache::builder().max_capacity(MOST).time_to_idle(FOR).build(),
            hooks: Cache::builder().max_capacity(MOST).time_to_idle(FOR).build(),
        }
    }
}
