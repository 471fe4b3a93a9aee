//! Makes HTTP clients that reach allowed addresses only.

use std::sync::Arc;
use std::time::Duration;

use super::policy::{NetworkPolicy, Purpose};
use super::resolver::VettedResolver;

/// Maximum duration of establishing a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that a server may send ahead on an HTTP/2 stream.
const WINDOW: u32 = 256 * 1024;

impl NetworkPolicy {
    /// A client builder that follows no redirects, ignores ambient proxies unless the installation enables them, and connects
    /// only to checked addresses. IP addresses in URLs are not resolved: check each URL with [`check`](Self::check) first.
    pub fn client_builder(self: &Arc<Self>, purpose: Purpose) -> reqwest::ClientBuilder {
        // Fails only if a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("forgebind/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            // What HTTP/2 lets a server send ahead, before it is read, counts in no memory budget.
            .http2_initial_stream_window_size(WINDOW)
            .http2_initial_connection_window_size(2 * WINDOW)
            .dns_resolver(VettedResolver::new(Arc::clone(self), purpose));
        if self.environment_proxy && purpose != Purpose::ServiceSink { builder } else { builder.no_proxy() }
    }
}
