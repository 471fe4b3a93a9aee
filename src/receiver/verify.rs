//! Which requests are deliveries: the checks in the order of their cost, and what each refusal answers.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use jiff::Timestamp;
use tokio::time::Instant;

use super::Freshness;
use super::metrics::Metrics;
use super::route::{Route, SecretChoice};
use super::routes::{Routes, parse_path};
use crate::api::v1alpha1::ProviderKind;
use crate::protocol::secret::WebhookSecret;
use crate::providers::Webhook;
use crate::providers::webhook::{Content, ContentError, Rejection};

/// How much of a body over the cap is read, so that a sender that only just exceeds it gets to read the answer.
const LINGER: usize = 64 * 1024;

/// The most that is reserved for a body before it comes: a length is only said, and costs nothing to say.
const RESERVED: usize = 256 * 1024;

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Method,
    Encoding,
    UnknownPath,
    TooLarge,
    /// Too large, proven, and from a provider that would stop delivering if it were refused.
    Oversized,
    Proof(Rejection),
    SecretRevoked,
    Stale,
    BindingUnknown,
    SecretRecentlyRotated,
    ConnectionUnknown,
    SecretUnknown,
    RateLimited,
    Overloaded,
    SlowBody,
    BrokenBody,
    /// More connections of one peer than its share. Refused before there is a request.
    PeerShare,
    Panic,
}

impl Refusal {
    /// Every refusal.
    pub(super) const ALL: [Self; 22] = [
        Self::Method,
        Self::Encoding,
        Self::UnknownPath,
        Self::TooLarge,
        Self::Oversized,
        Self::Proof(Rejection::ProofMissing),
        Self::Proof(Rejection::ProofWrong),
        Self::Proof(Rejection::ProofStale),
        Self::Proof(Rejection::Unreadable),
        Self::Proof(Rejection::UnsignedTest),
        Self::SecretRevoked,
        Self::Stale,
        Self::BindingUnknown,
        Self::SecretRecentlyRotated,
        Self::ConnectionUnknown,
        Self::SecretUnknown,
        Self::RateLimited,
        Self::Overloaded,
        Self::SlowBody,
        Self::BrokenBody,
        Self::PeerShare,
        Self::Panic,
    ];

    /// What it answers. Providers act on these: see the module's documentation.
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::UnknownPath
            | Self::Proof(Rejection::ProofMissing | Rejection::ProofWrong | Rejection::ProofStale | Rejection::Unreadable)
            | Self::SecretRevoked => StatusCode::UNAUTHORIZED,
            Self::Oversized | Self::Proof(Rejection::UnsignedTest) => StatusCode::OK,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Stale
            | Self::BindingUnknown
            | Self::SecretRecentlyRotated
            | Self::ConnectionUnknown
            | Self::SecretUnknown
            | Self::RateLimited
            | Self::Overloaded
            | Self::SlowBody
            | Self::BrokenBody
            | Self::PeerShare
            | Self::Panic => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// A word for metrics.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Encoding => "content_encoding",
            Self::UnknownPath => "unknown_path",
            Self::TooLarge | Self::Oversized => "body_too_large",
            Self::Proof(Rejection::ProofMissing) => "proof_missing",
            Self::Proof(Rejection::ProofWrong) => "proof_wrong",
            Self::Proof(Rejection::ProofStale) => "proof_stale",
            Self::Proof(Rejection::Unreadable) => "body_unreadable",
            Self::Proof(Rejection::UnsignedTest) => "unsigned_test",
            Self::SecretRevoked => "secret_revoked",
            Self::Stale => "watch_stale",
            Self::BindingUnknown => "binding_unknown",
            Self::SecretRecentlyRotated => "secret_recently_rotated",
            Self::ConnectionUnknown => "connection_unknown",
            Self::SecretUnknown => "secret_unknown",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::SlowBody => "body_slow",
            Self::BrokenBody => "body_broken",
            Self::PeerShare => "peer_share",
            Self::Panic => "panic",
        }
    }

    /// The words for a person, when the sender or its configuration is at fault; they go into the binding's evidence.
    pub(super) const fn fault(self) -> Option<&'static str> {
        match self {
            Self::TooLarge | Self::Oversized => Some("body over the size limit"),
            Self::Proof(Rejection::ProofMissing) => Some("no signature"),
            Self::Proof(Rejection::ProofWrong) => Some("wrong signature"),
            Self::Proof(Rejection::ProofStale) => Some("signature outside its time window"),
            Self::Proof(Rejection::Unreadable) => Some("body does not fit its content type"),
            Self::SecretRevoked => Some("its secret is no longer valid"),
            _ => None,
        }
    }
}

/// A refusal, and whose delivery it was as far as the path tells.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) route: Option<Arc<Route>>,
    /// The path, when nobody knows it.
    pub(super) unknown_path: Option<String>,
}

impl Refused {
    /// A refusal that is about no route.
    pub(super) const fn of(refusal: Refusal) -> Self {
        Self { refusal, route: None, unknown_path: None }
    }
}

/// An authentic delivery.
pub(super) struct VerifiedDelivery {
    pub(super) route: Arc<Route>,
    pub(super) kind: ProviderKind,
    pub(super) secret_version: String,
    pub(super) content: Result<Content, ContentError>,
    pub(super) payload: Bytes,
    pub(super) at: Timestamp,
    pub(super) arrived: Instant,
    pub(super) deadline: Instant,
    /// Counts the body until the delivery is answered.
    pub(super) reservation: ByteReservation,
}

/// The bytes of all bodies that are being received or delivered.
#[derive(Clone)]
pub(super) struct ByteBudget {
    used: Arc<AtomicUsize>,
    limit: usize,
    metrics: Metrics,
}

/// What one request holds of the budget.
pub(super) struct ByteReservation {
    budget: ByteBudget,
    bytes: usize,
}

impl ByteBudget {
    pub(super) fn new(limit: usize, metrics: Metrics) -> Self {
        Self { used: Arc::default(), limit, metrics }
    }

    fn reserve(&self) -> ByteReservation {
        ByteReservation { budget: self.clone(), bytes: 0 }
    }
}

impl ByteReservation {
    fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let used = self.budget.used.fetch_add(bytes, Ordering::AcqRel).saturating_add(bytes);
        self.bytes = self.bytes.saturating_add(bytes);
        self.budget.metrics.bytes_in_flight(used);
        if used > self.budget.limit { Err(Refusal::Overloaded) } else { Ok(()) }
    }

    /// Holds this many bytes from now on, which may be more than there is room for: they are there already.
    fn change_to(&mut self, bytes: usize) {
        let used = self.budget.used.fetch_add(bytes, Ordering::AcqRel).saturating_add(bytes);
        let before = std::mem::replace(&mut self.bytes, bytes);
        self.budget.used.fetch_sub(before, Ordering::AcqRel);
        self.budget.metrics.bytes_in_flight(used.saturating_sub(before));
    }
}

impl Drop for ByteReservation {
    fn drop(&mut self) {
        let before = self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
        self.budget.metrics.bytes_in_flight(before.saturating_sub(self.bytes));
    }
}

/// Judges requests.
pub(super) struct Verifier {
    pub(super) routes: Routes,
    pub(super) freshness: Arc<dyn Freshness>,
    pub(super) budget: ByteBudget,
    pub(super) body_timeout: Duration,
}

impl Verifier {
    /// Takes a request in, or says why not.
    pub(super) async fn verify<B>(&self, request: Request<B>) -> Result<VerifiedDelivery, Refused>
    where
        B: Body<Data = Bytes> + Send,
    {
        let arrived = Instant::now();
        let (parts, body) = request.into_parts();
        if parts.method != Method::POST {
            return Err(Refused::of(Refusal::Method));
        }
        // Before the look-up: the answer is the same for every path.
        if parts.headers.get_all(CONTENT_ENCODING).iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Refused::of(Refusal::Encoding));
        }
        let path = parts.uri.path();
        let strange = |refusal| Refused { refusal, route: None, unknown_path: Some(path.to_owned()) };
        let unknown = || strange(if self.freshness.is_fresh() { Refusal::UnknownPath } else { Refusal::Stale });
        let (hook, secret_version) = parse_path(path).ok_or_else(unknown)?;
        let absent = || if self.routes.may_be_incomplete(self.routes.clock().now()) { strange(Refusal::BindingUnknown) } else { unknown() };
        let route = self.routes.find(hook).ok_or_else(absent)?;
        let known = |refusal| Refused { refusal, route: Some(route.clone()), unknown_path: None };
        let (kind, webhook) = route.webhook().ok_or_else(|| known(Refusal::ConnectionUnknown))?;
        let at = self.routes.clock().now();
        let unverified = UnverifiedRequest { route: &route, secret_version, webhook, headers: &parts.headers, at };
        let (content, payload, reservation) = self.authenticate(&unverified, body).await.map_err(known)?;
        let deadline = arrived + webhook.rules().answer_within;
        let secret_version = secret_version.to_owned();
        Ok(VerifiedDelivery { kind, secret_version, content, payload, at, arrived, deadline, reservation, route: route.clone() })
    }

    async fn authenticate<B>(
        &self,
        request: &UnverifiedRequest<'_>,
        body: B,
    ) -> Result<(Result<Content, ContentError>, Bytes, ByteReservation), Refusal>
    where
        B: Body<Data = Bytes> + Send,
    {
        let rules = request.webhook.rules();
        let declared = content_length(request.headers);
        let oversized = request.webhook.accepts_oversized() && rules.proof_in_header;
        if !oversized && declared.is_some_and(|declared| declared > rules.body_limit.saturating_add(LINGER)) {
            return Err(Refusal::TooLarge);
        }
        if !request.route.admits() {
            return Err(Refusal::RateLimited);
        }
        let secrets = self.secrets(request)?;
        if rules.proof_in_header {
            request.webhook.verify(&secrets, request.headers, &[]).map_err(|rejection| request.rejected(rejection))?;
        }
        let mut reservation = self.budget.reserve();
        // What was proven is read to its end, however long it is: an answer in the middle of a body may not be seen.
        let linger = if oversized { usize::MAX } else { LINGER };
        let reading = read(body, Bounds { declared, limit: rules.body_limit, linger }, &mut reservation);
        let read = tokio::time::timeout(self.body_timeout, reading).await.map_err(|_| Refusal::SlowBody)?;
        let body = read.map_err(|refusal| if oversized && refusal == Refusal::TooLarge { Refusal::Oversized } else { refusal })?;
        let verified = request.webhook.verify(&secrets, request.headers, &body).map_err(|rejection| request.rejected(rejection))?;
        if !verified.is_timely(request.at) {
            return Err(request.rejected(Rejection::ProofStale));
        }
        let content = request.webhook.read(&verified);
        let payload = match verified.into_payload() {
            // Usually the payload is the body, which need not be copied then.
            Cow::Borrowed(payload) if payload.len() == body.len() => body.clone(),
            Cow::Borrowed(payload) => body.slice_ref(payload),
            // A form holds its document in a form of its own: it counts in place of the body, which goes now.
            Cow::Owned(payload) => {
                reservation.change_to(payload.len());
                Bytes::from(payload)
            }
        };
        Ok((content, payload, reservation))
    }

    fn secrets(&self, request: &UnverifiedRequest<'_>) -> Result<Vec<WebhookSecret>, Refusal> {
        match request.route.secrets(request.secret_version, self.routes.key(), request.at) {
            SecretChoice::Any(secrets) => Ok(secrets),
            SecretChoice::Refused => Err(Refusal::SecretRevoked),
            SecretChoice::Unknown => Err(Refusal::SecretUnknown),
        }
    }
}

struct UnverifiedRequest<'a> {
    route: &'a Arc<Route>,
    secret_version: &'a str,
    webhook: &'static dyn Webhook,
    headers: &'a HeaderMap,
    at: Timestamp,
}

impl UnverifiedRequest<'_> {
    /// A wrong proof right after the secret changed may be our own delay; a missing one never is.
    fn rejected(&self, rejection: Rejection) -> Refusal {
        if rejection == Rejection::ProofWrong && self.route.is_recently_rotated(self.at) {
            return Refusal::SecretRecentlyRotated;
        }
        Refusal::Proof(rejection)
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// How much of a body is read.
struct Bounds {
    /// How long the sender says that it is.
    declared: Option<usize>,
    /// The longest that is kept.
    limit: usize,
    /// How many bytes over the limit are read and thrown away.
    linger: usize,
}

/// Reads a body of at most `limit` bytes. Of a longer one, at most `linger` bytes more, which are thrown away.
async fn read<B>(body: B, bounds: Bounds, reservation: &mut ByteReservation) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Send,
{
    let Bounds { declared, limit, linger } = bounds;
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    let mut length: usize = 0;
    let keep = declared.is_none_or(|declared| declared <= limit);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::BrokenBody)?.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length > limit.saturating_add(linger) {
            return Err(Refusal::TooLarge);
        }
        if !keep || length > limit {
            continue;
        }
        reservation.grow(data.len())?;
        if first.is_empty() && whole.is_empty() {
            // One frame is the usual case: nothing to join.
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.reserve(declared.unwrap_or(length).min(RESERVED));
            whole.extend_from_slice(&first);
            first.clear();
        }
        whole.extend_from_slice(&data);
    }
    if length > limit {
        return Err(Refusal::TooLarge);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}
