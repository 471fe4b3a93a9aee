//! Makes HTTP clients that reach allowed addresses only.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::pinned::PinnedResolver;
use super::policy::{NetworkPolicy, Purpose};
use super::resolver::VettedResolver;

/// Maximum duration of establishing a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that a server may send ahead on an HTTP/2 stream.
const WINDOW: u32 = 256 * 1024;

impl NetworkPolicy {
    /// A client builder that follows no redirects, ignores ambient proxies unless the installation enables them, and connects
    /// only to checked addresses. IP addresses in URLs are not resolved: check each URL with [`check`](Self::check) first. A client
    /// for `service` sinks reaches pinned hosts only: see [`pinned_host`](super::pinned_host).
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
            .http2_initial_connection_window_size(2 * WINDOW);
        match purpose {
            Purpose::ServiceSink => builder.dns_resolver(PinnedResolver::new(Arc::clone(self), purpose)).no_proxy(),
            Purpose::Provider | Purpose::HttpSink | Purpose::PublicEndpoint => {
                let builder = builder.dns_resolver(VettedResolver::new(Arc::clone(self), purpose));
                if self.environment_proxy { builder } else { builder.no_proxy() }
            }
        }
    }
}

/// The certificates of a PEM bundle of authorities; `None` unless it has some and all are usable.
#[must_use]
pub fn authorities(pem: &[u8]) -> Option<Vec<reqwest::Certificate>> {
    let (mut store, mut certificates) = (RootCertStore::empty(), Vec::new());
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.ok()?;
        certificates.push(reqwest::Certificate::from_der(&certificate).ok()?);
        store.add(certificate).ok()?;
    }
    (!certificates.is_empty()).then_some(certificates)
}
