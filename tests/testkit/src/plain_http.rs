//! A client for servers on this machine without TLS.

use anyhow::Result;
use reqwest::{Client, ClientBuilder};

/// No proxy, and no certificates: reading those of the system takes longer than most requests of tests. Connections are not
/// reused, because they belong to the runtime of the test that opened them.
pub fn builder() -> ClientBuilder {
    super::install_crypto();
    Client::builder().no_proxy().tls_certs_only([]).pool_max_idle_per_host(0)
}

pub fn client() -> Result<Client> {
    Ok(builder().build()?)
}
