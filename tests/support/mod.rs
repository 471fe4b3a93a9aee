//! Real parts for tests and the quickstart: a Kubernetes control plane, a Gitea, the operator's own binary, and what
//! stands between them and watches.
//!
//! Everything that is started dies with the process that started it, also when that process is killed
//! ([`process::Process`]). Parts are found by `tests/controlplane/build --find`; what is missing is an error that names
//! `make tools`.

pub mod audit;
pub mod chart;
pub mod cluster;
pub mod components;
pub mod container;
pub mod control_plane;
pub mod elf;
pub mod fault_proxy;
pub mod forward_proxy;
pub mod gitea;
pub mod http_server;
pub mod image;
pub mod operator;
pub mod plain_http;
pub mod port;
pub mod process;
pub mod scratch;
pub mod shared;
pub mod sink;
pub mod tls_proxy;
pub mod wait;

/// Makes TLS work in this process. Harmless when called again.
pub fn install_crypto() {
    // The only error is that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
