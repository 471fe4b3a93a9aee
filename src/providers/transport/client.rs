//! The transport of one connection: the layers around an exchange, in the order that the module documentation lists.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::Lease;
use super::account_cache::AccountCache;
use super::answer::Answer;
use super::byte_budget::{ByteBudget, Reserved};
use super::call::{Access, Call};
use super::classify::{self, Classifier, Failure};
use super::documents::Documents;
use super::limits::RateMarks;
use super::metrics::{Metrics, failure_label};
use super::origin::Origins;
use super::rate_limiter::RateLimiter;
use super::redact::Redactor;
use super::send_once::{RawResponse, send_once};
use super::timings::Timings;
use crate::api::v1alpha1::ProviderKind;
use crate::clock::SharedClock;
use crate::network::{NetworkPolicy, Purpose};
use crate::providers::{ErrorKind, ProviderError};
use crate::telemetry::code_label;

/// Maximum number of redirects that a read follows.
const MOST_REDIRECTS: usize = 3;
/// Maximum number of retries of a read.
const MOST_RETRIES: usize = 2;

/// Sends the requests of a [`Client`](crate::providers::Client). Clones share the connections.
#[derive(Clone)]
pub struct Transport {
    pub(super) shared: Arc<Shared>,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) redactor: Redactor,
    pub(super) classifier: Classifier,
}

/// The parts of a transport that do not depend on the credential.
pub(super) struct Shared {
    pub(super) kind: ProviderKind,
    pub(super) request_id_headers: &'static [&'static str],
    pub(super) http: reqwest::Client,
    pub(super) policy: Arc<NetworkPolicy>,
    pub(super) lease: Arc<dyn Lease>,
    pub(super) clock: SharedClock,
    pub(super) limiter: Arc<RateLimiter>,
    pub(super) cached: AccountCache,
    pub(super) documents: Documents,
    pub(super) byte_budget: ByteBudget,
    pub(super) metrics: Metrics,
    pub(super) origins: Origins,
    pub(super) timings: Timings,
    pub(super) proxied: bool,
}

impl fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Transport({})", self.shared.kind)
    }
}

/// The result of an attempt that requires a retry.
enum Attempt {
    Answered(Box<Answer>),
    Failed(ProviderError),
}

impl Transport {
    /// Authenticates every call with this header. The secrets are redacted from every error.
    #[must_use]
    pub fn authorized<'a>(mut self, mut header: HeaderValue, secrets: impl IntoIterator<Item = &'a str>) -> Self {
        header.set_sensitive(true);
        self.authorization = Some(header);
        self.redactor = self.redactor.with(secrets);
        self
    }

    /// Classifies responses with a provider's own table before the default one.
    #[must_use]
    pub fn classified_by(mut self, classifier: Classifier) -> Self {
        self.classifier = classifier;
        self
    }

    /// A value that a provider keeps for this API and identity beyond the life of one client, such as minted tokens. It is shared
    /// by all connections with the same identity, created if absent, and dropped after hours without use.
    #[must_use]
    pub fn cached<T: Send + Sync + 'static>(&self, name: &str, init: impl Fn() -> T) -> Arc<T> {
        self.shared.cached.get(name, init)
    }

    /// Cached documents of this API and identity, for providers that support conditional requests. All documents of the process
    /// share one limit in bytes; the least recently used are evicted.
    #[must_use]
    pub fn documents(&self) -> &Documents {
        &self.shared.documents
    }

    /// Reserves room for this many bytes of a list assembled from several responses; `None` if there is none now.
    pub(in crate::providers) fn try_reserve(&self, bytes: usize) -> Option<Reserved> {
        self.shared.byte_budget.try_reserve(bytes)
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        self.shared.clock.now()
    }

    /// Whether this installation allows providers to be reached and to deliver over http: for local development and tests.
    #[must_use]
    pub fn allows_http(&self) -> bool {
        self.shared.policy.insecure_http
    }

    /// Rewrites a link from a response to the API's own address; `None` if it cannot belong to the API.
    #[must_use]
    pub fn rebase(&self, answer: &Answer, link: &str) -> Option<Url> {
        self.shared.origins.rebase(&answer.url, link)
    }

    /// Sends a call and returns the response, including refusals.
    ///
    /// # Errors
    /// If there is no response from the provider: see [`ErrorKind`]. After `Transient` the call may have been carried out
    /// nevertheless.
    pub async fn send(&self, call: Call) -> Result<Answer, ProviderError> {
        let started = Instant::now();
        let redactor = self.redactor.with(call.concealed.iter().map(String::as_str));
        let result = self.within_deadline(&call, &redactor).await.map_err(|mut error| {
            error.message = redactor.clean(&error.message);
            error
        });
        let (status, kind) = match &result {
            Ok(answer) => (Some(answer.status.as_u16()), answer.refusal),
            Err(error) => (None, Some(error.kind)),
        };
        tracing::debug!(
            provider = self.shared.kind.flag(),
            operation = call.operation.as_str(),
            host = call.url.host_str(),
            status,
            kind = kind.map(tracing::field::debug),
            milliseconds = started.elapsed().as_millis(),
            "called the provider"
        );
        result
    }

    /// The time limit of the call, from its own limit and the lease.
    fn allowance(&self, call: &Call) -> Result<Duration, ProviderError> {
        let timings = &self.shared.timings;
        let left = self.shared.lease.remaining().unwrap_or_default().saturating_sub(timings.lease_margin);
        if left < timings.least {
            let message = "the lease of this process expires too soon; nothing was sent";
            return Err(ProviderError::new(ErrorKind::NotLeading, call.operation.as_str(), message));
        }
        Ok(left.min(timings.call))
    }

    async fn within_deadline(&self, call: &Call, redactor: &Redactor) -> Result<Answer, ProviderError> {
        let allowance = self.allowance(call)?;
        let sent = AtomicBool::new(false);
        match tokio::time::timeout(allowance, self.with_retries(call, redactor, &sent)).await {
            Ok(result) => result,
            Err(_) if sent.load(Ordering::Relaxed) => {
                let message = format!("no answer within {} s", allowance.as_secs_f32().ceil());
                Err(ProviderError::new(ErrorKind::Transient, call.operation.as_str(), message))
            }
            Err(_) => Err(self.limited(call, self.now())),
        }
    }

    async fn with_retries(&self, call: &Call, redactor: &Redactor, sent: &AtomicBool) -> Result<Answer, ProviderError> {
        let retries = if call.access == Access::Read { MOST_RETRIES } else { 0 };
        let pauses = ExponentialBuilder::default().with_min_delay(self.shared.timings.pause).with_max_times(retries).with_jitter();
        let attempt = || async {
            let answer = self.attempt(call, redactor, sent).await.map_err(Attempt::Failed)?;
            // If the response gives a retry time, the caller waits for it.
            let again = answer.refusal == Some(ErrorKind::Transient) && answer.retry_at.is_none();
            if again { Err(Attempt::Answered(Box::new(answer))) } else { Ok(answer) }
        };
        let worth_it = |attempt: &Attempt| match attempt {
            Attempt::Answered(_) => true,
            Attempt::Failed(error) => error.kind.may_pass_at_once(),
        };
        match attempt.retry(pauses).sleep(tokio::time::sleep).when(worth_it).await {
            Ok(answer) => Ok(answer),
            Err(Attempt::Answered(answer)) => Ok(*answer),
            Err(Attempt::Failed(error)) => Err(error),
        }
    }

    /// Passes the rate limiter once and follows the redirects of a read.
    async fn attempt(&self, call: &Call, redactor: &Redactor, sent: &AtomicBool) -> Result<Answer, ProviderError> {
        let entered = self.shared.limiter.enter(call.access, call.operation, self.shared.timings.max_wait).await;
        let _permit = entered.map_err(|refused| self.limited(call, refused.retry_at))?;
        let mut url = call.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            sent.store(true, Ordering::Relaxed);
            let raw = self.send_once(call, &url).await?;
            match self.redirect(call, &url, &raw)? {
                Some(next) => url = next,
                None => return Ok(self.answer(call, url, raw, redactor)),
            }
        }
        Err(ProviderError::new(ErrorKind::ResponseInvalid, call.operation.as_str(), "the provider redirects in a loop"))
    }

    fn limited(&self, call: &Call, retry_at: jiff::Timestamp) -> ProviderError {
        self.shared.metrics.limited(self.shared.kind);
        let message = format!("the rate limit is exhausted until {retry_at:.0}; nothing was sent");
        ProviderError { retry_at: Some(retry_at), ..ProviderError::new(ErrorKind::RateLimited, call.operation.as_str(), message) }
    }

    /// Checks the origin, sends, and counts. A credential is only sent to the origins of its connection.
    async fn send_once(&self, call: &Call, url: &Url) -> Result<RawResponse, ProviderError> {
        let refused = |kind, message: String| ProviderError::new(kind, call.operation.as_str(), message);
        if !self.shared.origins.contain(url) {
            let host = url.host_str().unwrap_or_default();
            return Err(refused(ErrorKind::HostNotAllowed, format!("{host} is not a host of this connection; nothing was sent")));
        }
        self.shared.policy.check(Purpose::Provider, url).map_err(|refusal| {
            let kind = if refusal.is_insecure() { ErrorKind::InsecureUrl } else { ErrorKind::HostNotAllowed };
            refused(kind, refusal.to_string())
        })?;
        let mut headers = call.headers.clone();
        if let Some(authorization) = call.authorization.as_ref().or(self.authorization.as_ref()) {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let started = Instant::now();
        let result = send_once(&self.shared.http, call, url, headers, self.shared.proxied, &self.shared.byte_budget).await;
        let code = result.as_ref().map_or_else(|error| failure_label(error.kind), |raw| code_label(raw.status));
        self.shared.metrics.sent(self.shared.kind, call.operation, code, started.elapsed());
        result
    }

    /// The target of a redirect. Writes follow none: some HTTP clients turn a redirected POST into a GET.
    fn redirect(&self, call: &Call, from: &Url, raw: &RawResponse) -> Result<Option<Url>, ProviderError> {
        let follows = call.access == Access::Read
            && matches!(
                raw.status,
                StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
            );
        let Some(location) = raw.headers.get(LOCATION).filter(|_| follows) else { return Ok(None) };
        // A redirect that the provider's own table classifies, such as one to a sign-in page, is a response and not followed.
        let (status, is_html) = (raw.status, classify::is_html(&raw.headers));
        let failure = Failure {
            operation: call.operation,
            access: call.access,
            status,
            headers: &raw.headers,
            body: &raw.body,
            message: "",
            is_html,
        };
        if (self.classifier)(&failure).is_some() {
            return Ok(None);
        }
        let location = location.to_str().unwrap_or_default();
        match self.shared.origins.rebase(from, location) {
            Some(url) if self.shared.origins.contain(&url) => Ok(Some(url)),
            _ => {
                let target = from.join(location).ok();
                let host = target.as_ref().and_then(Url::host_str).unwrap_or("no address");
                let message = format!("redirected to {host}, which is not followed; correct the address of the connection");
                Err(ProviderError::new(ErrorKind::ResponseInvalid, call.operation.as_str(), message))
            }
        }
    }

    /// Classifies a response and updates the rate limiter from it.
    fn answer(&self, call: &Call, url: Url, raw: RawResponse, redactor: &Redactor) -> Answer {
        let RawResponse { status, headers, body, reserved } = raw;
        let marks = RateMarks::read(&headers, self.now());
        let is_html = classify::is_html(&headers);
        let message = if status == StatusCode::OK && !is_html { String::new() } else { classify::message(&headers, &body) };
        let refusal = {
            let failure = Failure {
                operation: call.operation,
                access: call.access,
                status,
                headers: &headers,
                body: &body,
                message: &message,
                is_html,
            };
            match (self.classifier)(&failure) {
                Some(kind) => Some(kind),
                None => classify::default_kind(&failure, &marks),
            }
        };
        let retry_at = self.learn(marks, refusal);
        Answer {
            operation: call.operation,
            status,
            url,
            headers,
            request_id_headers: self.shared.request_id_headers,
            body,
            refusal,
            message,
            retry_at,
            redactor: redactor.clone(),
            body_limit: call.body_limit,
            reserved,
        }
    }

    /// Updates the rate limiter. A response to a rejected credential carries the limits of anonymous calls, and a response of a
    /// broken server says nothing about rates.
    fn learn(&self, marks: RateMarks, refusal: Option<ErrorKind>) -> Option<jiff::Timestamp> {
        match refusal {
            Some(ErrorKind::Unauthenticated) => None,
            Some(ErrorKind::Transient) => marks.retry_at,
            _ => {
                let until = self.shared.limiter.learn(marks, refusal == Some(ErrorKind::RateLimited));
                until.filter(|_| refusal == Some(ErrorKind::RateLimited))
            }
        }
    }
}
