//! Why a reconciliation failed.

use std::time::Duration;

/// Why a reconciliation failed. Only failures at the API server are errors; a failure at a provider becomes a condition.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("API server: {}", crate::text::wording::of_api_server(.0))]
    Kubernetes(#[from] kube::Error),
    /// The reconciliation took too long.
    #[error("not finished within {0:?}")]
    TimedOut(Duration),
    /// A bug. Other objects are not affected.
    #[error("panicked")]
    Panicked,
}
