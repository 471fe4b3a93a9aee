//! Why a process does not start, or stops with an error.

use crate::controllers::install::InstallKeyError;
use crate::receiver::ReceiverError;
use crate::telemetry::logs;

/// Why a server does not start or stops with an error.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The log filter is invalid.
    #[error("--log-filter: {0}")]
    LogFilter(#[from] logs::FilterError),
    /// No cluster is configured.
    #[error("no cluster is configured: {0}; set KUBECONFIG or run in a pod")]
    NoCluster(String),
    /// The custom resource definitions are not installed.
    #[error("{0} are not installed in the cluster; install the CRDs: forgebind crd | kubectl apply --server-side -f -")]
    NotInstalled(String),
    /// The install key cannot be used.
    #[error(transparent)]
    InstallKey(#[from] InstallKeyError),
    /// As [`Self::InstallKey`], probably caused by a wrong namespace.
    #[error("{doubt}; {error}")]
    Namespace {
        /// Why the namespace is probably wrong.
        doubt: String,
        /// The error about the key.
        error: InstallKeyError,
    },
    /// An address cannot be listened on.
    #[error("--{flag} {address}: {source}")]
    Listen {
        /// The flag.
        flag: &'static str,
        /// The address.
        address: std::net::SocketAddr,
        /// Error of the system.
        source: std::io::Error,
    },
    /// An HTTP client cannot be made.
    #[error("cannot create an HTTP client: {0}")]
    HttpClient(#[from] reqwest::Error),
    /// The receiver cannot be started.
    #[error(transparent)]
    Receiver(#[from] ReceiverError),
    /// Leader election failed to start.
    #[error("leader election: {0}")]
    Lease(#[from] kube_lease_manager::LeaseManagerError),
    /// The API server refused or did not answer.
    #[error("API server: {}", crate::text::wording::of_api_server(.0))]
    Kubernetes(#[from] kube::Error),
    /// Some objects could not be released or deleted in time.
    #[error("{0}")]
    NotUninstalled(String),
    /// A task that runs as long as the process has ended.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}
