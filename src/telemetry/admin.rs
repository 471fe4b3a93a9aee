//! Serves the admin port: livez, readyz, metrics, the evidence of a receiver, and the hand-over of an outbox.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::network::listen;
use crate::protocol::deliveries::RecentQuery;
use crate::protocol::evidence::Evidence;

/// A named health check. The error says what is wrong and is safe to show.
pub type Check = (&'static str, Box<dyn Fn() -> Result<(), String> + Send + Sync>);

/// Updates metrics that show a state rather than count events. Called before each scrape, so it must be quick.
pub type Refresh = Box<dyn Fn() + Send + Sync>;

/// The evidence of a receiver, and the token required to read it.
pub struct EvidenceEndpoint {
    /// Creates the current evidence.
    pub report: Box<dyn Fn(&RecentQuery) -> Evidence + Send + Sync>,
    /// The required bearer token.
    pub token: SecretString,
}

/// What takes over the outbox of another receiver, and the token required for it.
pub struct OutboxEndpoint {
    /// Answers a request that is authentic.
    pub accept: Box<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>,
    /// The required bearer token.
    pub token: SecretString,
}

/// The contents of the admin port.
pub struct Admin {
    /// The metrics registry.
    pub registry: Registry,
    /// Called before each scrape.
    pub refresh: Vec<Refresh>,
    /// Liveness checks: if one fails, the process should be restarted.
    pub live: Vec<Check>,
    /// Readiness checks: if one fails, the process should receive no traffic.
    pub ready: Vec<Check>,
    /// The evidence, if a receiver runs in this process.
    pub evidence: Option<EvidenceEndpoint>,
    /// The hand-over, if a receiver runs in this process.
    pub outbox: Option<OutboxEndpoint>,
}

/// Serves the admin port until the token is cancelled.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) -> io::Result<()> {
    let admin = Arc::new(admin);
    let scrape = Router::new().route("/metrics", get(metrics)).with_state((Arc::clone(&admin), Arc::default()));
    let router = Router::new()
        .route("/livez", get(|State(admin): State<Arc<Admin>>| async move { report(&admin.live) }))
        .route("/readyz", get(|State(admin): State<Arc<Admin>>| async move { report(&admin.ready) }))
        .route("/evidence", get(evidence))
        .route("/outbox", post(outbox))
        .with_state(admin)
        .merge(scrape);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// Binds the listener of the admin port.
///
/// # Errors
/// The address cannot be bound.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    listen::bind(address).await
}

fn report(checks: &[Check]) -> Response {
    let mut lines = String::new();
    let mut status = StatusCode::OK;
    for (name, check) in checks {
        match check() {
            Ok(()) => lines.extend(["[+] ", name, " ok\n"]),
            Err(problem) => {
                status = StatusCode::SERVICE_UNAVAILABLE;
                lines.extend(["[-] ", name, " failed: ", &problem, "\n"]);
            }
        }
    }
    (status, lines).into_response()
}

async fn metrics(State((admin, scrape)): State<(Arc<Admin>, Arc<Mutex<()>>)>) -> Response {
    let mut text = String::new();
    let encoded = {
        // Concurrent scrapes would see each other's incomplete refresh.
        let _alone = scrape.lock();
        admin.refresh.iter().for_each(|refresh| refresh());
        encode(&mut text, &admin.registry)
    };
    match encoded {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn evidence(State(admin): State<Arc<Admin>>, Query(query): Query<RecentQuery>, headers: HeaderMap) -> Response {
    let Some(endpoint) = &admin.evidence else { return StatusCode::NOT_FOUND.into_response() };
    if shows(&headers, &endpoint.token) {
        return Json((endpoint.report)(&query)).into_response();
    }
    StatusCode::UNAUTHORIZED.into_response()
}

async fn outbox(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    let Some(endpoint) = &admin.outbox else { return StatusCode::NOT_FOUND.into_response() };
    // Before anything of the body is read.
    if shows(request.headers(), &endpoint.token) {
        return (endpoint.accept)(request).await;
    }
    StatusCode::UNAUTHORIZED.into_response()
}

/// Whether a request shows a token.
fn shows(headers: &HeaderMap, token: &SecretString) -> bool {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
    shown.is_some_and(|shown| same(shown, token.expose_secret()))
}

/// Compares in constant time, by comparing keyed hashes of both texts.
fn same(one: &str, other: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, other.as_bytes());
    hmac::verify(&key, one.as_bytes(), hmac::sign(&key, other.as_bytes()).as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_reported_by_name() {
        let checks: Vec<Check> = vec![("one", Box::new(|| Ok(()))), ("two", Box::new(|| Err("no watch".to_owned())))];
        assert_eq!(report(&checks).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(report(&[]).status(), StatusCode::OK);
    }

    #[test]
    fn tokens_must_be_equal_as_a_whole() {
        assert!(same("abc", "abc"));
        assert!(!same("ab", "abc"));
        assert!(!same("", "abc"));
    }
}
