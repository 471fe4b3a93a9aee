//! Deliveries of hooks.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::SignedDuration;
use serde_json::Value;

/// The default timeout of a delivery.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A request that a hook sends.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub repository: String,
    pub hook: String,
    /// The target.
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The timeout of the answer.
    pub patience: Duration,
    /// The number of earlier attempts.
    pub attempt: u32,
}

impl Delivery {
    /// A JSON delivery of a hook.
    pub fn json(repository: &str, hook: &str, url: &str, document: &Value) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let (repository, hook, url) = (repository.to_owned(), hook.to_owned(), url.to_owned());
        Self { repository, hook, url, headers, body: document.to_string().into(), patience: TIMEOUT, attempt: 0 }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }
}

/// The result of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered with this status.
    Answered(u16),
    /// There was no answer; the text says why.
    Failed(String),
}

impl Outcome {
    /// Whether the receiver accepted it.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Answered(200..=299))
    }
}

/// Another attempt at a delivery, by the provider itself.
#[derive(Clone, Debug)]
pub struct Retry {
    pub delivery: Delivery,
    /// The time until then, by the provider's clock.
    pub after: SignedDuration,
}

/// A sent delivery, in the journal.
#[derive(Clone, Debug)]
pub struct Sent {
    pub delivery: Delivery,
    pub outcome: Outcome,
    /// When the answer arrived, by the machine's clock.
    pub at: Instant,
}

/// Sends a delivery once, without following redirects.
pub async fn send(client: &reqwest::Client, delivery: &Delivery) -> Outcome {
    let request = client.post(&delivery.url).headers(delivery.headers.clone()).body(delivery.body.clone()).timeout(delivery.patience);
    match request.send().await {
        Ok(answer) => Outcome::Answered(answer.status().as_u16()),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}
