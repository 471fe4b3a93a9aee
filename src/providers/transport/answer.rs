//! What came back.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use url::Url;

use super::call::Operation;
use super::redact::Redactor;
use crate::providers::{ErrorKind, ProviderError};

/// Where providers put the id of a request.
const REQUEST_IDS: [&str; 5] = ["x-github-request-id", "x-request-id", "x-arequestid", "x-vss-e2eid", "activityid"];
/// Characters of a request id that are kept.
const REQUEST_ID_LENGTH: usize = 64;

/// An answer of a provider: a success, or a refusal that was classified.
pub struct Answer {
    pub(super) operation: Operation,
    pub(super) status: StatusCode,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// `None` for a success.
    pub(super) refusal: Option<ErrorKind>,
    pub(super) message: String,
    pub(super) retry_at: Option<Timestamp>,
    pub(super) redactor: Redactor,
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Answer({}, {})", self.operation.as_str(), self.status)
    }
}

impl Answer {
    /// The status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body, complete.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Where the answer came from in the end.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// What kind of refusal it is; `None` for a success.
    #[must_use]
    pub const fn refusal(&self) -> Option<ErrorKind> {
        self.refusal
    }

    /// The provider's words in a refusal, whole and not safe to show.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The answer if it is a success.
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
    /// The refusal, or `ResponseInvalid` for a body that is not what was expected.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, ProviderError> {
        let answer = self.success()?;
        // Some servers put a byte order mark before their documents.
        let body = answer.body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&answer.body);
        serde_json::from_slice(body).map_err(|error| {
            // serde's own text quotes values.
            let place = format!("line {} column {}", error.line(), error.column());
            answer.invalid(&format!("the answer is not what the API documents ({place})"))
        })
    }

    /// This answer as an error of a kind, with the provider's words.
    #[must_use]
    pub fn refused(&self, kind: ErrorKind) -> ProviderError {
        let words = match self.message.trim() {
            "" if super::classify::is_html(&self.headers) => "a web page, not the API",
            "" => "no reason given",
            words => words,
        };
        self.error(kind, &format!("HTTP {}: {words}", self.status))
    }

    /// This answer as `ResponseInvalid`, because of what it holds.
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
        let id = REQUEST_IDS.iter().find_map(|name| self.headers.get(*name)?.to_str().ok())?;
        let id: String = self.redactor.clean(id).chars().take(REQUEST_ID_LENGTH).collect();
        Some(id).filter(|id| !id.is_empty())
    }
}
