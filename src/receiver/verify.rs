//! Verifies requests: runs the checks in the order of their cost and defines the answer of each refusal.

use std::borrow::Cow;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use jiff::Timestamp;
use tokio::task::JoinError;

use super::bytes_in_flight::{ByteReservation, BytesInFlight};
use super::refusal::Refusal;
use super::route::{Route, SecretChoice};
use super::routes::{Freshness, Routes, parse_path};
use crate::api::v1alpha1::ProviderKind;
use crate::protocol::secret::WebhookSecret;
use crate::providers::Webhook;
use crate::providers::webhook::{Content, ContentError, Rejection};

/// How many bytes over the limit of a body are read, so that a sender that only just exceeds it can read the answer.
const LINGER: usize = 64 * 1024;

/// Maximum number of bytes that are reserved before a body arrives: a sender can declare any length at no cost.
const RESERVED: usize = 256 * 1024;

/// Maximum size of a body that is verified and read in the task that received it. That of a longer one takes milliseconds, in which no
/// other delivery of this thread would be answered: it gets a thread for it.
const AT_ONCE: usize = 256 * 1024;

/// A refusal, and the route if the path identifies one.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) route: Option<Arc<Route>>,
    /// The path, if it is unknown.
    pub(super) unknown_path: Option<String>,
}

impl Refused {
    /// A refusal without a route.
    pub(super) const fn of(refusal: Refusal) -> Self {
        Self { refusal, route: None, unknown_path: None }
    }
}

/// A verified delivery.
pub(super) struct VerifiedDelivery {
    pub(super) route: Arc<Route>,
    pub(super) kind: ProviderKind,
    pub(super) secret_version: String,
    pub(super) content: Result<Content, ContentError>,
    pub(super) payload: Bytes,
    pub(super) at: Timestamp,
    /// Reserves the bytes of the body as long as it is in memory.
    pub(super) reservation: ByteReservation,
}

/// Verifies requests.
pub(super) struct Verifier {
    pub(super) routes: Routes,
    pub(super) freshness: Arc<dyn Freshness>,
    pub(super) bytes: BytesInFlight,
    pub(super) body_timeout: Duration,
}

impl Verifier {
    /// Verifies a request and returns its delivery, or the refusal.
    pub(super) async fn verify<B>(&self, request: Request<B>) -> Result<VerifiedDelivery, Refused>
    where
        B: Body<Data = Bytes> + Send,
    {
        let (parts, body) = request.into_parts();
        if parts.method != Method::POST {
            return Err(Refused::of(Refusal::Method));
        }
        // Checked before the look-up, so that the answer is the same for every path.
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
        let secret_version = secret_version.to_owned();
        Ok(VerifiedDelivery { kind, secret_version, content, payload, at, reservation, route: route.clone() })
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
        if request.route.has_too_many_failures() {
            return Err(Refusal::RateLimited);
        }
        let secrets = self.secrets(request)?;
        if rules.proof_in_header {
            request.webhook.verify(&secrets, request.headers, &[]).map_err(|rejection| request.rejected(rejection))?;
        }
        let mut reservation = self.bytes.reserve(&request.route.config.namespace);
        // A verified body is read to its end, however long it is: the sender may not see an answer in the middle of a body.
        let linger = if oversized { usize::MAX } else { LINGER };
        let reading = read(body, Bounds { declared, limit: rules.body_limit, linger }, &mut reservation);
        let read = tokio::time::timeout(self.body_timeout, reading).await.map_err(|_| Refusal::SlowBody)?;
        let body = read.map_err(|refusal| if oversized && refusal == Refusal::TooLarge { Refusal::Oversized } else { refusal })?;
        let proof = Proof { webhook: request.webhook, secrets, body, at: request.at };
        let proven = if proof.body.len() > AT_ONCE {
            let headers = request.headers.clone();
            let judging = tokio::task::spawn_blocking(move || proof.judge(&headers));
            match judging.await.map_err(JoinError::try_into_panic) {
                Ok(proven) => proven,
                Err(Ok(panic)) => resume_unwind(panic),
                // The process ends.
                Err(Err(_)) => return Err(Refusal::Overloaded),
            }
        } else {
            proof.judge(request.headers)
        };
        let Proven { content, payload, decoded } = proven.map_err(|rejection| request.rejected(rejection))?;
        if decoded {
            reservation.change_to(payload.len());
        }
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

/// A request that was read completely.
struct Proof {
    webhook: &'static dyn Webhook,
    secrets: Vec<WebhookSecret>,
    body: Bytes,
    at: Timestamp,
}

/// What a verified request contains.
struct Proven {
    content: Result<Content, ContentError>,
    payload: Bytes,
    /// Whether the payload takes the place of the body in memory.
    decoded: bool,
}

impl Proof {
    /// Verifies the request and reads its content.
    fn judge(self, headers: &HeaderMap) -> Result<Proven, Rejection> {
        let verified = self.webhook.verify(&self.secrets, headers, &self.body)?;
        if !verified.is_timely(self.at) {
            return Err(Rejection::ProofStale);
        }
        let content = self.webhook.read(&verified);
        let (payload, decoded) = match verified.into_payload() {
            // Usually the payload is the body, which need not be copied then.
            Cow::Borrowed(payload) => (self.body.slice_ref(payload), false),
            // A form contains its document in encoded form. The decoded document counts in place of the body, which is dropped
            // now.
            Cow::Owned(payload) => (Bytes::from(payload), true),
        };
        Ok(Proven { content, payload, decoded })
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
    /// A wrong proof right after a change of the secret may be caused by our own delay; a missing proof never is.
    fn rejected(&self, rejection: Rejection) -> Refusal {
        self.route.count_failure();
        if rejection == Rejection::ProofWrong && self.route.is_recently_rotated(self.at) {
            return Refusal::SecretRecentlyRotated;
        }
        Refusal::Proof(rejection)
    }
}

/// The length that a request declares.
pub(super) fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The limits for reading a body.
struct Bounds {
    /// The length that the sender declares.
    declared: Option<usize>,
    /// Maximum length that is kept.
    limit: usize,
    /// How many bytes over the limit are read and discarded.
    linger: usize,
}

/// Reads a body of at most `limit` bytes. Reads and discards up to `linger` further bytes of a longer one.
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
        reservation.grow(data.len()).map_err(|_| Refusal::Overloaded)?;
        if first.is_empty() && whole.is_empty() {
            // The usual case of a single frame needs no copy.
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
