//! Sends one request, reads the response, and classifies network errors.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::byte_budget::{ByteBudget, Reserved, UNRESERVED};
use super::call::Call;
use super::classify::is_html;
use crate::network::Refusal;
use crate::providers::{ErrorKind, ProviderError};

/// Bytes that are read of the body of a refusal, a redirect or a web page: enough for the provider's message.
const REFUSAL_LIMIT: usize = 64 * 1024;
/// Base time limit for a body that needs a reservation, and the extra time for each MiB of its maximum size. The reservation is
/// not kept for a server that has stopped sending.
const LARGE_BODY_WITHIN: Duration = Duration::from_secs(10);
const LARGE_BODY_PER_MIB: Duration = Duration::from_secs(1);

/// A response as it was received.
pub(super) struct RawResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Complete for a success; at most the beginning otherwise.
    pub(super) body: Bytes,
    /// The reservation for the body, if it is large.
    pub(super) reserved: Option<Reserved>,
}

/// Sends a request to a URL that was checked before, and reads the response.
pub(super) async fn send_once(
    http: &reqwest::Client,
    call: &Call,
    url: &Url,
    headers: HeaderMap,
    proxied: bool,
    budget: &ByteBudget,
) -> Result<RawResponse, ProviderError> {
    let mut request = http.request(call.method.clone(), url.clone()).headers(headers);
    if let Some(body) = &call.body {
        request = request.body(body.clone());
    }
    let broken = |error| network_error(call, url, error, proxied);
    let mut response = request.send().await.map_err(broken)?;
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    if !status.is_success() || is_html(&headers) {
        let body = beginning(&mut response).await.map_err(broken)?;
        return Ok(RawResponse { status, headers, body, reserved: None });
    }
    let (body, reserved) = whole(&mut response, call, budget, &broken).await?;
    Ok(RawResponse { status, headers, body, reserved })
}

/// Reads the beginning of a body of which only the provider's message matters.
async fn beginning(response: &mut reqwest::Response) -> Result<Bytes, reqwest::Error> {
    let mut body = BytesMut::new();
    while body.len() < REFUSAL_LIMIT
        && let Some(mut chunk) = response.chunk().await?
    {
        chunk.truncate(REFUSAL_LIMIT - body.len());
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Reads a whole body. A body above the size that needs no reservation waits for one.
async fn whole(
    response: &mut reqwest::Response,
    call: &Call,
    budget: &ByteBudget,
    broken: &impl Fn(reqwest::Error) -> ProviderError,
) -> Result<(Bytes, Option<Reserved>), ProviderError> {
    let too_long = || {
        let message = format!("the answer is longer than {} bytes", call.body_limit);
        ProviderError::new(ErrorKind::ResponseInvalid, call.operation.as_str(), message)
    };
    let announced = response.content_length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced.is_some_and(|length| length > call.body_limit) {
        return Err(too_long());
    }
    let most = announced.unwrap_or(call.body_limit);
    let (mut body, mut reserved, mut until) = (BytesMut::new(), None, None);
    while let Some(chunk) = next_chunk(response, call, until, broken).await? {
        if chunk.len() > call.body_limit.saturating_sub(body.len()) {
            return Err(too_long());
        }
        if reserved.is_none() && body.len() + chunk.len() > UNRESERVED {
            reserved = budget.reserve(most).await;
            until = Some(Instant::now() + patience(most));
            // Allocates once: growing a buffer needs both the old and the new one at the same time.
            body.reserve(most.saturating_sub(body.len()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body.freeze(), reserved))
}

fn patience(bytes: usize) -> Duration {
    let mebibytes = u32::try_from(bytes / (1024 * 1024)).unwrap_or(u32::MAX);
    LARGE_BODY_WITHIN.saturating_add(LARGE_BODY_PER_MIB.saturating_mul(mebibytes))
}

async fn next_chunk(
    response: &mut reqwest::Response,
    call: &Call,
    until: Option<Instant>,
    broken: &impl Fn(reqwest::Error) -> ProviderError,
) -> Result<Option<Bytes>, ProviderError> {
    let Some(until) = until else { return response.chunk().await.map_err(broken) };
    tokio::time::timeout_at(until, response.chunk()).await.map_or_else(
        |_| {
            let message = "a large response was too slow and was cancelled";
            Err(ProviderError::new(ErrorKind::Transient, call.operation.as_str(), message))
        },
        |chunk| chunk.map_err(broken),
    )
}

/// Converts an error without a response.
fn network_error(call: &Call, url: &Url, error: reqwest::Error, proxied: bool) -> ProviderError {
    let error = error.without_url();
    let host = url.host_str().unwrap_or_default();
    let (kind, message) = match cause(&error) {
        Some(Cause::Refusal(refusal)) if refusal.is_insecure() => (ErrorKind::InsecureUrl, refusal.to_string()),
        Some(Cause::Refusal(refusal)) => (ErrorKind::HostNotAllowed, refusal.to_string()),
        Some(Cause::Tls(error)) => (ErrorKind::Tls, untrusted(host, &error)),
        None if error.is_connect() && proxied => (ErrorKind::Proxy, format!("the proxy does not connect to {host}: {}", innermost(&error))),
        None if error.is_connect() => (ErrorKind::Unreachable, format!("{host} does not answer: {}", innermost(&error))),
        None if error.is_builder() => (ErrorKind::EndpointInvalid, format!("cannot create a request to {host}: {}", innermost(&error))),
        None => (ErrorKind::Transient, format!("the connection to {host} failed before the response was complete: {}", innermost(&error))),
    };
    ProviderError { source: Some(Box::new(error)), ..ProviderError::new(kind, call.operation.as_str(), message) }
}

enum Cause {
    Refusal(Refusal),
    Tls(rustls::Error),
}

/// Describes which of the two sides does not trust the other.
fn untrusted(host: &str, error: &rustls::Error) -> String {
    use rustls::AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown, DecryptError,
        UnknownCA, UnsupportedCertificate,
    };
    match error {
        rustls::Error::InvalidCertificate(_) => format!("the certificate of {host} is not trusted: {error}"),
        rustls::Error::AlertReceived(CertificateRequired) => format!("{host} requires a client certificate"),
        rustls::Error::AlertReceived(
            AccessDenied
            | BadCertificate
            | CertificateExpired
            | CertificateRevoked
            | CertificateUnknown
            | DecryptError
            | UnknownCA
            | UnsupportedCertificate,
        ) => format!("{host} does not accept the client certificate: {error}"),
        _ => format!("no trusted connection to {host}: {error}"),
    }
}

/// The most specific cause, which says more than `connection failed`, from anywhere in the chain.
fn cause(error: &reqwest::Error) -> Option<Cause> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            return Some(Cause::Refusal(refusal.clone()));
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(Cause::Tls(error.clone()));
        }
        // An I/O error does not return the error that it wraps from `source`.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = wrapped.map(|error| error as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    None
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
