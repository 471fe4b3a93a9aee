//! One request and its answer, and what went wrong on the way.

use std::error::Error as StdError;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use url::Url;

use super::call::Call;
use super::network::Refusal;
use crate::providers::{ErrorKind, ProviderError};

/// An answer as the network gave it.
pub(super) struct Raw {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Sends a request to a URL that was judged before, and reads the whole answer.
pub(super) async fn exchange(
    http: &reqwest::Client,
    call: &Call,
    url: &Url,
    headers: HeaderMap,
    proxied: bool,
) -> Result<Raw, ProviderError> {
    let mut request = http.request(call.method.clone(), url.clone()).headers(headers);
    if let Some(body) = &call.body {
        request = request.body(body.clone());
    }
    let mut response = request.send().await.map_err(|error| network_error(call, url, error, proxied))?;
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let too_long = || {
        let message = format!("the answer is longer than {} bytes", call.body_limit);
        ProviderError::new(ErrorKind::ResponseInvalid, call.operation.as_str(), message)
    };
    if response.content_length().is_some_and(|length| usize::try_from(length).map_or(true, |length| length > call.body_limit)) {
        return Err(too_long());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| network_error(call, url, error, proxied))? {
        if body.len() + chunk.len() > call.body_limit {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Raw { status, headers, body: body.freeze() })
}

/// An error with no answer behind it, in our words.
fn network_error(call: &Call, url: &Url, error: reqwest::Error, proxied: bool) -> ProviderError {
    let error = error.without_url();
    let host = url.host_str().unwrap_or_default();
    let (kind, message) = match cause(&error) {
        Some(Cause::Refusal(refusal)) if refusal.is_insecure() => (ErrorKind::InsecureUrl, refusal.to_string()),
        Some(Cause::Refusal(refusal)) => (ErrorKind::HostNotAllowed, refusal.to_string()),
        Some(Cause::Tls(error)) => (ErrorKind::Tls, untrusted(host, &error)),
        None if error.is_connect() && proxied => {
            (ErrorKind::Proxy, format!("the proxy gives no connection to {host}: {}", innermost(&error)))
        }
        None if error.is_connect() => (ErrorKind::Unreachable, format!("{host} does not answer: {}", innermost(&error))),
        None if error.is_builder() => (ErrorKind::EndpointInvalid, format!("no request to {host} can be made: {}", innermost(&error))),
        None => (ErrorKind::Transient, format!("the connection to {host} broke before the answer was complete: {}", innermost(&error))),
    };
    ProviderError { source: Some(Box::new(error)), ..ProviderError::new(kind, call.operation.as_str(), message) }
}

enum Cause {
    Refusal(Refusal),
    Tls(rustls::Error),
}

/// Which of the two sides does not trust the other.
fn untrusted(host: &str, error: &rustls::Error) -> String {
    use rustls::AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown, DecryptError,
        UnknownCA, UnsupportedCertificate,
    };
    match error {
        rustls::Error::InvalidCertificate(_) => format!("the certificate of {host} is not trusted: {error}"),
        rustls::Error::AlertReceived(CertificateRequired) => format!("{host} asks for a client certificate"),
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

/// The cause that tells more than `connection failed`, wherever in the chain it is.
fn cause(error: &reqwest::Error) -> Option<Cause> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            return Some(Cause::Refusal(refusal.clone()));
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(Cause::Tls(error.clone()));
        }
        // An I/O error hides what it wraps from `source`.
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
