//! Creates transports, and holds what they share.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use prometheus_client::registry::Registry;
use ring::digest;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::Lease;
use super::account_cache::{AccountCache, Bucket, SharedCache};
use super::budget::RateBudget;
use super::byte_budget::ByteBudget;
use super::classify;
use super::client::{Shared, Transport};
use super::documents::{self, DocumentCache, Documents};
use super::metrics::Metrics;
use super::origin::Origins;
use super::rate_limiter::RateLimiter;
use super::redact::Redactor;
use super::timings::Timings;
use crate::api::v1alpha1::ProviderKind;
use crate::clock::SharedClock;
use crate::network::{NetworkPolicy, Purpose};
use crate::providers::{Endpoint, ErrorKind, ProviderError};

const OPERATION: &str = "prepare the connection";
/// Maximum number of cached rate limiters, and of cached account values.
const KEPT: u64 = 10_000;
/// Maximum number of cached HTTP clients. Each holds its parsed certificate authorities.
const KEPT_CLIENTS: u64 = 500;
const KEPT_FOR: Duration = Duration::from_secs(2 * 60 * 60);

/// A client certificate and its key, both PEM, for providers that require one.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// The certificate, with its chain.
    pub certificate: Vec<u8>,
    /// The private key.
    pub key: SecretString,
}

/// An HTTP proxy.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// Its address, such as `http://proxy.acme.io:3128`.
    pub address: String,
    /// User name and password for the proxy.
    pub login: Option<(String, SecretString)>,
}

/// How to reach one connection's provider. Contains no provider credential: that is an argument of
/// `connect`.
#[derive(Clone, Debug)]
pub struct TransportSettings<'a> {
    /// The kind of provider, for metrics and logs.
    pub kind: ProviderKind,
    /// What the provider limits without always telling it.
    pub rate_budget: RateBudget,
    /// The response headers that hold the id of a request.
    pub request_id_headers: &'static [&'static str],
    /// Its addresses. No other address is reached.
    pub endpoint: &'a Endpoint,
    /// Identifies the account whose rate limits apply, without revealing the credential: a keyed hash of it, for example.
    pub credential_identity: String,
    /// The only certificate authorities to trust, in PEM; `None` trusts the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// The client certificate for connecting to the provider.
    pub client_identity: Option<ClientIdentity>,
    /// The proxy to use.
    pub proxy: Option<ProxySettings>,
}

impl TransportSettings<'_> {
    /// Identifies the network path to the provider: its certificate authorities, client certificate and proxy. As secret as
    /// these.
    #[must_use]
    pub fn way(&self) -> SecretString {
        hex::encode(way(self.ca_pem.as_deref(), self.client_identity.as_ref(), self.proxy.as_ref())).into()
    }
}

/// Creates transports. One for each process: it shares rate limiters and connections.
#[derive(Clone)]
pub struct TransportFactory {
    policy: Arc<NetworkPolicy>,
    lease: Arc<dyn Lease>,
    clock: SharedClock,
    metrics: Metrics,
    timings: Timings,
    limiters: Cache<Bucket, (ProviderKind, Arc<RateLimiter>)>,
    clients: Cache<[u8; 32], reqwest::Client>,
    cached: SharedCache,
    documents: DocumentCache,
    byte_budget: ByteBudget,
}

impl std::fmt::Debug for TransportFactory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("TransportFactory")
    }
}

impl TransportFactory {
    /// Creates a factory and registers its metrics.
    #[must_use]
    pub fn new(policy: Arc<NetworkPolicy>, lease: Arc<dyn Lease>, clock: SharedClock, registry: &mut Registry) -> Self {
        Self {
            policy,
            lease,
            clock,
            metrics: Metrics::register(registry),
            timings: Timings::default(),
            limiters: Cache::builder().max_capacity(KEPT).time_to_idle(KEPT_FOR).build(),
            clients: Cache::builder().max_capacity(KEPT_CLIENTS).time_to_idle(KEPT_FOR).build(),
            cached: Cache::builder().max_capacity(KEPT).time_to_idle(KEPT_FOR).build(),
            documents: documents::cache(),
            byte_budget: ByteBudget::default(),
        }
    }

    /// Replaces the timings.
    #[must_use]
    pub fn with_timings(mut self, timings: Timings) -> Self {
        self.timings = timings;
        self
    }

    /// Replaces the budget for bytes of responses.
    #[cfg(test)]
    #[must_use]
    pub(super) fn with_byte_budget(mut self, bytes: usize) -> Self {
        self.byte_budget = ByteBudget::of(bytes);
        self
    }

    /// Updates the metrics of the accounts' rate limits.
    pub fn refresh_metrics(&self) {
        self.metrics.accounts(self.limiters.iter().map(|(_, (kind, limiter))| (kind, limiter.status())));
    }

    /// Creates the transport of one connection. Sends nothing.
    ///
    /// # Errors
    /// `Tls` for unusable certificates or keys, `Proxy` for an unusable proxy, `HostNotAllowed` for a proxy that may not be
    /// reached.
    pub fn transport(&self, settings: TransportSettings<'_>) -> Result<Transport, ProviderError> {
        let TransportSettings { kind, rate_budget, request_id_headers, endpoint, credential_identity, ca_pem, client_identity, proxy } =
            settings;
        let proxied = proxy.is_some();
        let way = way(ca_pem.as_deref(), client_identity.as_ref(), proxy.as_ref());
        let http = if let Some(http) = self.clients.get(&way) {
            http
        } else {
            let http = self.http(ca_pem.as_deref(), client_identity.as_ref(), proxy.as_ref())?;
            self.clients.insert(way, http.clone());
            http
        };
        let bucket = Bucket { origin: endpoint.api.origin().ascii_serialization(), identity: credential_identity, way };
        let cached = AccountCache::new(self.cached.clone(), bucket.clone());
        let documents = Documents::new(self.documents.clone(), bucket.clone());
        let (_, limiter) = self.limiters.get_with(bucket, || (kind, Arc::new(RateLimiter::new(rate_budget, self.clock.clone()))));
        let redactor = match &proxy {
            Some(ProxySettings { login: Some((_, password)), .. }) => Redactor::default().with([password.expose_secret()]),
            _ => Redactor::default(),
        };
        let shared = Shared {
            kind,
            request_id_headers,
            http,
            policy: Arc::clone(&self.policy),
            lease: Arc::clone(&self.lease),
            clock: self.clock.clone(),
            limiter,
            cached,
            documents,
            byte_budget: self.byte_budget.clone(),
            metrics: self.metrics.clone(),
            origins: Origins::new(endpoint),
            timings: self.timings,
            proxied,
        };
        Ok(Transport { shared: Arc::new(shared), authorization: None, redactor, classifier: classify::no_differences })
    }

    fn http(
        &self,
        ca: Option<&[u8]>,
        identity: Option<&ClientIdentity>,
        proxy: Option<&ProxySettings>,
    ) -> Result<reqwest::Client, ProviderError> {
        let tls = |message: &str| ProviderError::new(ErrorKind::Tls, OPERATION, message);
        let mut builder = self.policy.client_builder(Purpose::Provider);
        if let Some(pem) = ca {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).ok().filter(|certificates| !certificates.is_empty());
            builder = builder.tls_certs_only(certificates.ok_or_else(|| tls("the certificate authority is not a PEM certificate"))?);
        }
        if let Some(identity) = identity {
            let pem = [&identity.certificate, b"\n".as_slice(), identity.key.expose_secret().as_bytes()].concat();
            let identity = reqwest::Identity::from_pem(&pem).map_err(|_| tls("the client certificate or its key is not PEM"))?;
            builder = builder.identity(identity);
        }
        if let Some(proxy) = proxy {
            builder = builder.proxy(self.proxy(proxy)?);
        }
        builder.build().map_err(|error| ProviderError {
            source: Some(Box::new(error.without_url())),
            ..tls("the certificates cannot be used: the key may not match the certificate, or the system has no trusted roots")
        })
    }

    fn proxy(&self, settings: &ProxySettings) -> Result<reqwest::Proxy, ProviderError> {
        let invalid = || {
            ProviderError::new(
                ErrorKind::Proxy,
                OPERATION,
                "the proxy's address is invalid; it must be like \
                                                                          http://proxy.acme.io:3128",
            )
        };
        let url = Url::parse(&settings.address).ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(invalid)?;
        let refused = |refusal| ProviderError::new(ErrorKind::HostNotAllowed, OPERATION, format!("the proxy of proxySecretRef: {refusal}"));
        self.policy.check_proxy(&url).map_err(refused)?;
        let proxy = reqwest::Proxy::all(url).map_err(|_| invalid())?;
        Ok(match &settings.login {
            Some((username, password)) => proxy.basic_auth(username, password.expose_secret()),
            None => proxy,
        })
    }
}

/// Identifies the network path to a provider by its settings: connections with the same settings share an HTTP client and the
/// cached data of the account.
fn way(ca: Option<&[u8]>, identity: Option<&ClientIdentity>, proxy: Option<&ProxySettings>) -> [u8; 32] {
    let login = proxy.and_then(|proxy| proxy.login.as_ref());
    let parts = [
        ca,
        identity.map(|identity| identity.certificate.as_slice()),
        identity.map(|identity| identity.key.expose_secret().as_bytes()),
        proxy.map(|proxy| proxy.address.as_bytes()),
        login.map(|(username, _)| username.as_bytes()),
        login.map(|(_, password)| password.expose_secret().as_bytes()),
    ];
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        context.update(part.unwrap_or_default());
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}
