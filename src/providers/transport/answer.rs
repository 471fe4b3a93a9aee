//! Responses of a provider.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use url::Url;

use super::byte_budget::Reserved;
use super::call::Operation;
use super::redact::Redactor;
use crate::providers::{ErrorKind, ProviderError};
use crate::text::json;

/// Minimum average size of a value in a document, in bytes. A document with shorter values would take many times its length in
/// memory.
const LEAST_VALUE: usize = 24;
/// Maximum length of a request id in characters.
const REQUEST_ID_LENGTH: usize = 64;

/// A response of a provider: a success, or a classified refusal.
pub struct Answer {
    pub(super) operation: Operation,
    pub(super) status: StatusCode,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) request_id_headers: &'static [&'static str],
    pub(super) body: Bytes,
    /// `None` for a success.
    pub(super) refusal: Option<ErrorKind>,
    pub(super) message: String,
    pub(super) retry_at: Option<Timestamp>,
    pub(super) redactor: Redactor,
    pub(super) body_limit: usize,
    /// The reservation for the body, held until this is dropped.
    #[expect(dead_code, reason = "held for its drop")]
    pub(super) reserved: Option<Reserved>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Answer({}, {})", self.operation.as_str(), self.status)
    }
}

impl Answer {
    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The response headers.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body: complete for a success, the beginning for a refusal.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The final URL, after redirects.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// The kind of refusal; `None` for a success.
    #[must_use]
    pub const fn refusal(&self) -> Option<ErrorKind> {
        self.refusal
    }

    /// The provider's complete message in a refusal. Not safe to show.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the response if it is a success.
    ///
    /// # Errors
    /// The refusal.
    pub fn success(self) -> Result<Self, ProviderError> {
        match self.refusal {
            None => Ok(self),
            Some(kind) => Err(self.refused(kind)),
        }
    }

    /// Reads the body of a success.
    ///
    /// # Errors
    /// The refusal, or `ResponseInvalid` for an unexpected body.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, ProviderError> {
        self.success()?.read()
    }

    /// Reads the body, whatever the status.
    ///
    /// # Errors
    /// `ResponseInvalid` for an unexpected body.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ProviderError> {
        if !json::has_at_most(self.body_limit / LEAST_VALUE, &self.body) {
            return Err(self.invalid("the answer holds more values than any answer of the API"));
        }
        json::read(&self.body).map_err(|error| self.invalid(&format!("the answer is not what the API documents: {error}")))
    }

    /// Converts this response to an error of a kind, with the provider's message.
    #[must_use]
    pub fn refused(&self, kind: ErrorKind) -> ProviderError {
        let words = match self.message.trim() {
            "" if super::classify::is_html(&self.headers) => "a web page, not an API response",
            "" => "no reason given",
            words => words,
        };
        self.error(kind, &format!("HTTP {}: {words}", self.status))
    }

    /// Converts this response to `ResponseInvalid`, with this reason.
    #[must_use]
    pub fn invalid(&self, reason: &str) -> ProviderError {
        self.error(ErrorKind::ResponseInvalid, reason)
    }

    fn error(&self, kind: ErrorKind, message: &str) -> ProviderError {
        ProviderError {
            request_id: self.request_id(),
            retry_at: self.retry_at,
            ..ProviderError::new(kind, self.operation.as_str(), self.redactor.clean(message))
        }
    }

    fn request_id(&self) -> Option<String> {
        let id = self.request_id_headers.iter().find_map(|name| self.headers.get(*name)?.to_str().ok())?;
        let id: String = self.redactor.clean(id).chars().take(REQUEST_ID_LENGTH).collect();
        Some(id).filter(|id| !id.is_empty())
    }
}
