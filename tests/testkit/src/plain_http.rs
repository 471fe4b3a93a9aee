//! A client for what runs on this machine without TLS.

use anyhow::Result;
use reqwest::{Client, ClientBuilder};

/// No proxy, and no certificates: reading those of the system takes longer than most tests' requests. Connections are not
/// kept: they would belong to the runtime of the test that made them.
pub fn builder() -> ClientBuilder {
    super::install_crypto();
    Client::builder().no_proxy().tls_certs_only([]).pool_max_idle_per_host(0)
}

/// Such a client.
///
/// # Errors
///
/// When it cannot be made.
pub fn client() -> Result<Client> {
    Ok(builder().build()?)
}
