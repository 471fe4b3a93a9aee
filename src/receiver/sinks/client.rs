//! Sends one event to one sink.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::HOST;

use super::trusting::TrustingClients;
use crate::network::{self, NetworkPolicy, Purpose, Refusal};
use crate::protocol::sink_target::NotServed;
use crate::receiver::destination::Destination;

/// Timeout for connecting.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an unused connection is kept. Shorter than most servers do, so that none is closed by the server just as it is
/// used.
const IDLE: Duration = Duration::from_secs(4);

/// The HTTP clients, one for each purpose in the network policy.
#[derive(Clone)]
pub(super) struct Clients {
    service: reqwest::Client,
    http: reqwest::Client,
    /// The clients for endpoints with certificate authorities of their own.
    trusting: TrustingClients,
    policy: Arc<NetworkPolicy>,
    timeout: Duration,
}

/// How much of an answer is read, so that its connection can be used again, and for how long.
const ANSWER_BYTES: usize = 4096;
const ANSWER_TIME: Duration = Duration::from_millis(250);

/// Why a sink did not accept an event. Its text is safe to show: no body, no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SinkError {
    /// The sink answered with a status other than 2xx.
    Status(u16),
    /// The sink did not answer in time.
    Timeout(Duration),
    /// The host name does not resolve.
    Name,
    /// The connection was refused.
    Refused,
    /// The connection could not be made or was broken.
    Connection,
    /// The certificate is not trusted or the handshake failed.
    Tls,
    /// The network policy does not allow the address.
    Address,
    /// The sink is not served at present.
    Held,
    /// The sink is not served at present, for this reason.
    NotServed(NotServed),
    /// The outbox cannot be read at present.
    Outbox,
    /// A bug in the receiver.
    Internal,
}

impl fmt::Display for SinkError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(formatter, "answered {status}"),
            Self::Timeout(limit) => write!(formatter, "did not answer within {} s", limit.as_secs_f32()),
            Self::Name => formatter.write_str("name does not resolve"),
            Self::Refused => formatter.write_str("connection refused"),
            Self::Connection => formatter.write_str("connection failed"),
            Self::Tls => formatter.write_str("TLS handshake failed"),
            Self::Address => formatter.write_str("address is not allowed"),
            Self::NotServed(refusal) => write!(formatter, "{refusal}"),
            Self::Held => formatter.write_str("is not available at the moment"),
            Self::Outbox => formatter.write_str("not sent: the outbox cannot be read"),
            Self::Internal => formatter.write_str("internal error"),
        }
    }
}

impl SinkError {
    /// Label in the metrics.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Status(_) => "refused",
            Self::Timeout(_) => "timeout",
            _ => "unreachable",
        }
    }
}

impl Clients {
    pub(super) fn new(policy: &Arc<NetworkPolicy>, timeout: Duration) -> reqwest::Result<Self> {
        let client = |purpose| builder(policy, purpose).build();
        let trusting = TrustingClients::default();
        Ok(Self { service: client(Purpose::ServiceSink)?, http: client(Purpose::HttpSink)?, trusting, policy: policy.clone(), timeout })
    }

    /// The client for a destination of a binding in a namespace; `None` if its certificate authorities are unusable.
    async fn client(&self, namespace: &str, purpose: Purpose, authorities: Option<&Arc<str>>) -> Option<reqwest::Client> {
        match (purpose, authorities) {
            (Purpose::ServiceSink, _) => Some(self.service.clone()),
            (_, None) => Some(self.http.clone()),
            (_, Some(pem)) => {
                let policy = Arc::clone(&self.policy);
                let build = move |pem: &str| {
                    let authorities = network::authorities(pem.as_bytes())?;
                    builder(&policy, Purpose::HttpSink).tls_certs_only(authorities).build().ok()
                };
                self.trusting.get(namespace, pem, build).await
            }
        }
    }

    /// Sends one event of a binding in a namespace. Only a 2xx answer means acceptance; redirects are not followed.
    pub(super) async fn send(
        &self,
        namespace: &str,
        destination: Destination,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), SinkError> {
        let Destination { url, host, purpose, authorities, .. } = destination;
        // The connector does not check a literal address in a URL, and the cluster's own addresses become known only at run
        // time.
        self.policy.check(purpose, &url).map_err(|_| SinkError::Address)?;
        if let Some(host) = host {
            headers.insert(HOST, host);
        }
        let client = self.client(namespace, purpose, authorities.as_ref()).await.ok_or(SinkError::Tls)?;
        let request = client.post(url).headers(headers).body(payload).send();
        let response = tokio::time::timeout(self.timeout, request).await.map_err(|_| SinkError::Timeout(self.timeout))?;
        let response = response.map_err(|error| self.classify(&error))?;
        let status = response.status();
        // The status alone decides.
        let _ = tokio::time::timeout(ANSWER_TIME, read_up(response)).await;
        if status.is_success() { Ok(()) } else { Err(SinkError::Status(status.as_u16())) }
    }

    fn classify(&self, error: &reqwest::Error) -> SinkError {
        if error.is_timeout() {
            return SinkError::Timeout(if error.is_connect() { CONNECT } else { self.timeout });
        }
        let causes: Vec<_> = std::iter::successors(error.source(), |cause| behind(*cause)).collect();
        // Start with the innermost cause: the outer ones are less precise.
        causes.into_iter().rev().find_map(cause_of).unwrap_or(SinkError::Connection)
    }
}

fn builder(policy: &Arc<NetworkPolicy>, purpose: Purpose) -> reqwest::ClientBuilder {
    policy.client_builder(purpose).connect_timeout(CONNECT).pool_idle_timeout(IDLE)
}

/// Reads a short answer to its end, so that its connection can be used again. The connection of a longer one is closed.
async fn read_up(mut response: reqwest::Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > ANSWER_BYTES {
            return;
        }
    }
}

/// The next cause in a chain of errors. An I/O error exposes the error that it wraps only through its own method.
fn behind<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    wrapped.map(|wrapped| wrapped as &(dyn StdError + 'static)).or_else(|| cause.source())
}

/// Classifies one cause in a chain of errors.
fn cause_of(cause: &(dyn StdError + 'static)) -> Option<SinkError> {
    if cause.is::<Refusal>() {
        return Some(SinkError::Address);
    }
    if cause.is::<rustls::Error>() {
        return Some(SinkError::Tls);
    }
    if cause.downcast_ref::<io::Error>().is_some_and(|found| found.kind() == io::ErrorKind::ConnectionRefused) {
        return Some(SinkError::Refused);
    }
    (cause.to_string() == "dns error").then_some(SinkError::Name)
}
