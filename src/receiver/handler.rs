//! Handles a request and returns the answer. Every outcome, even a panic, is answered as the protocol demands.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures::{FutureExt as _, poll};
use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::deliver::{Delivering, Outcome};
use super::evidence::EvidenceStore;
use super::metrics::Metrics;
use super::refusal::Refusal;
use super::strangers::Strangers;
use super::verify::{Refused, VerifiedDelivery, Verifier};
use crate::api::v1alpha1::deliveries::DeliveryOutcome;

/// `Retry-After` of a 503 answer, in seconds.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("10");

/// Answers requests. Cheap to clone.
#[derive(Clone)]
pub(super) struct Handler(Arc<Inner>);

struct Inner {
    verifier: Verifier,
    delivering: Arc<Delivering>,
    evidence: EvidenceStore,
    metrics: Metrics,
    deliveries: TaskTracker,
    strangers: Strangers,
}

impl Handler {
    pub(super) fn new(verifier: Verifier, delivering: Arc<Delivering>, evidence: EvidenceStore, metrics: Metrics) -> Self {
        Self(Arc::new(Inner { verifier, delivering, evidence, metrics, deliveries: TaskTracker::new(), strangers: Strangers::new() }))
    }

    pub(super) async fn handle<B>(self, request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible>
    where
        B: Body<Data = Bytes> + Send,
    {
        if is_probe(&request) {
            return Ok(answer(StatusCode::OK, "ok\n"));
        }
        let begun = Instant::now();
        let verified = AssertUnwindSafe(self.0.verifier.verify(request)).catch_unwind().await;
        let response = match verified {
            Ok(Ok(verified)) => self.deliver(verified).await,
            Ok(Err(refused)) => self.refuse(&refused),
            Err(_) => self.refuse(&Refused::of(Refusal::Panic)),
        };
        self.0.metrics.request(response.status(), begun.elapsed());
        Ok(response)
    }

    /// Waits until every accepted delivery is answered, including those whose sender has disconnected.
    pub(super) async fn finish(&self) {
        self.0.deliveries.close();
        self.0.deliveries.wait().await;
    }

    async fn deliver(&self, verified: VerifiedDelivery) -> Response<Full<Bytes>> {
        let delivering = self.0.delivering.clone();
        let mut work = AssertUnwindSafe(async move { delivering.deliver(verified).await }).catch_unwind().boxed();
        // Poll inline once. If pending, continue in a separate task, so that a client disconnect does not cancel the delivery.
        let outcome = match poll!(&mut work) {
            Poll::Ready(outcome) => outcome.ok(),
            Poll::Pending => self.0.deliveries.spawn(work).await.ok().and_then(Result::ok),
        };
        match outcome {
            Some(Outcome::Pending) => answer(StatusCode::ACCEPTED, "pending\n"),
            Some(Outcome::Overloaded | Outcome::Undecided) => answer(StatusCode::SERVICE_UNAVAILABLE, "try again later\n"),
            Some(_) => answer(StatusCode::OK, "ok\n"),
            None => self.refuse(&Refused::of(Refusal::Panic)),
        }
    }

    fn refuse(&self, refused: &Refused) -> Response<Full<Bytes>> {
        let reason = refused.refusal.label();
        self.0.metrics.refusal(reason);
        match (&refused.route, &refused.unknown_path) {
            (Some(route), _) => {
                let route_config = &route.config;
                tracing::warn!(namespace = route_config.namespace, name = route_config.name, reason, "delivery refused");
                let now = self.0.verifier.routes.clock().now();
                if let Some(fault) = refused.refusal.fault() {
                    self.0.evidence.refused(&route_config.uid, now, fault);
                }
                if let Some(shown) = refused.refusal.shown() {
                    self.0.evidence.turned_away(&route_config.uid, now, DeliveryOutcome::Refused, shown);
                }
            }
            (None, Some(path)) => self.0.strangers.tell(path, reason),
            (None, None) if refused.refusal == Refusal::Panic => tracing::error!(reason, "request refused"),
            (None, None) => tracing::debug!(reason, "request refused"),
        }
        let text = match refused.refusal.status() {
            StatusCode::OK => "ok\n",
            StatusCode::UNAUTHORIZED => "not authentic\n",
            StatusCode::PAYLOAD_TOO_LARGE => "too large\n",
            StatusCode::METHOD_NOT_ALLOWED => "only POST is allowed\n",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "content encodings are not supported\n",
            _ => "try again later\n",
        };
        answer(refused.refusal.status(), text)
    }
}

/// Whether a load balancer asks if the port is served. It cannot ask the admin port, which is not public.
fn is_probe<B>(request: &Request<B>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD) && matches!(request.uri().path(), "/" | "/healthz")
}

fn answer(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    match status {
        StatusCode::SERVICE_UNAVAILABLE => drop(response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS)),
        StatusCode::METHOD_NOT_ALLOWED => drop(response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"))),
        _ => (),
    }
    response
}
