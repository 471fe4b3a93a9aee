//! Code that the integration tests (`tests/it/`) and the programs (`tests/programs/`) share. Compiled once.
//!
//! - Servers: a Kubernetes control plane ([`control_plane`]), a Gitea ([`gitea`]), the operator's own binary ([`operator`]),
//!   sinks ([`sink`]) and proxies that fail on request ([`fault_proxy`]). Each ends with the process that started it, even if
//!   that process is killed ([`process::Process`]). `tests/controlplane/build --find` finds the programs; if one is missing,
//!   the error names `make tools`.
//! - Simulators of the other Git providers ([`sim`]).
//! - The contract that each provider's client and webhook must fulfil ([`contract`]).
//! - Environments for one test: a namespace with its objects ([`test_namespace`]), with a repository at Gitea ([`test_env`]), with a
//!   simulator ([`provider_env`]), or an installation by Helm ([`installation`]).

// A test fails by an error or a panic, and the text of either says what happened.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc
)]
// Tests read the real clock and the environment.
#![allow(clippy::disallowed_methods)]
// Not published: only the tests use it, and their names document it.
#![allow(missing_docs, clippy::must_use_candidate, clippy::return_self_not_must_use)]

pub mod audit;
pub mod chart;
pub mod cluster;
pub mod components;
pub mod container;
pub mod contract;
pub mod control_plane;
pub mod deploy;
pub mod documented_metrics;
pub mod elf;
pub mod fault_proxy;
pub mod forward_proxy;
pub mod generated;
pub mod gitea;
pub mod guides;
pub mod http_server;
pub mod image;
pub mod installation;
pub mod operator;
pub mod plain_http;
pub mod port;
pub mod process;
pub mod provider_env;
pub mod restore;
pub mod samples;
pub mod scratch;
pub mod shared;
pub mod sim;
pub mod sink;
pub mod test_env;
pub mod test_namespace;
pub mod tls_proxy;
pub mod wait;

/// Initialises TLS for this process. Harmless when called again.
pub fn install_crypto() {
    // The only possible error: a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
