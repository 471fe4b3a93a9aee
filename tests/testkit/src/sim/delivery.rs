//! Deliveries of hooks.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// How long a delivery waits for its answer, unless it says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A request that a hook sends.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Path of the repository.
    pub repository: String,
    /// Id of the hook.
    pub hook: String,
    /// Where it goes.
    pub url: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// How long it waits for its answer.
    pub patience: Duration,
    /// How often it was sent before.
    pub attempt: u32,
}

impl Delivery {
    /// A JSON document for a hook.
    pub fn json(repository: &str, hook: &str, url: &str, document: &Value) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let (repository, hook, url) = (repository.to_owned(), hook.to_owned(), url.to_owned());
        Self { repository, hook, url, headers, body: document.to_string().into(), patience: TIMEOUT, attempt: 0 }
    }

    /// The delivery with a header more.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered with this status.
    Answered(u16),
    /// It was not answered; the text tells why.
    Failed(String),
}

impl Outcome {
    /// Whether it was accepted.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Answered(200..=299))
    }
}

/// A delivery that was sent, for the journal.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The delivery.
    pub delivery: Delivery,
    /// What became of it.
    pub outcome: Outcome,
    /// When its answer came.
    pub at: Instant,
}

/// Sends a delivery once. Redirects are not followed.
pub async fn send(client: &reqwest::Client, delivery: &Delivery) -> Outcome {
    let request = client.post(&delivery.url).headers(delivery.headers.clone()).body(delivery.body.clone()).timeout(delivery.patience);
    match request.send().await {
        Ok(answer) => Outcome::Answered(answer.status().as_u16()),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}
