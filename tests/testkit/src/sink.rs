//! A sink that records the events it receives.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::watch;

use super::http_server::{Body, HttpServer, answer};
use super::port::free_port;
use super::wait::{Seen, wait_until};

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub path: String,
    /// The attributes of a `CloudEvents` event are headers `ce-…`.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// When it arrived.
    pub at: Instant,
    /// Whether the sink accepted it.
    pub accepted: bool,
}

impl Delivery {
    /// A header as text; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// How the sink answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    /// With 204.
    Accept,
    /// With this status.
    Fail(StatusCode),
    /// Not until the behavior changes.
    Hang,
    /// By closing the connection.
    Close,
}

/// The sink. It ends when it is dropped.
#[derive(Debug)]
pub struct SinkServer {
    server: HttpServer,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
    behavior: watch::Sender<Behavior>,
}

impl SinkServer {
    /// Starts a sink on a free port that accepts everything.
    pub async fn start() -> Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], free_port()?))).await
    }

    /// The same at any address of this machine.
    pub async fn start_at(address: SocketAddr) -> Result<Self> {
        let deliveries = Arc::new(Mutex::new(Vec::new()));
        let (behavior, behaves) = watch::channel(Behavior::Accept);
        let shared = Arc::clone(&deliveries);
        let server = HttpServer::start_at(address, move |request| record(Arc::clone(&shared), behaves.clone(), request)).await?;
        Ok(Self { server, deliveries, behavior })
    }

    /// Its port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// The value of `--resolve` with which the Service `name` of `namespace` leads to this sink. The Service's port is
    /// [`Self::port`].
    pub fn resolve(&self, name: &str, namespace: &str) -> String {
        format!("{name}.{namespace}.svc:{}=127.0.0.1", self.port())
    }

    /// Changes how it answers from now on.
    pub fn behave(&self, behavior: Behavior) {
        self.behavior.send_replace(behavior);
    }

    /// Every delivery that arrived, accepted or not, in order.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The accepted deliveries.
    pub fn accepted(&self) -> Vec<Delivery> {
        self.deliveries().into_iter().filter(|delivery| delivery.accepted).collect()
    }

    /// The accepted deliveries, which are then forgotten with all others.
    pub fn take(&self) -> Vec<Delivery> {
        let taken = std::mem::take(&mut *self.deliveries.lock().unwrap_or_else(PoisonError::into_inner));
        taken.into_iter().filter(|delivery| delivery.accepted).collect()
    }

    /// Waits until it has accepted `count` deliveries and returns them.
    ///
    /// # Errors
    ///
    /// When they do not arrive within the deadline.
    pub async fn wait_for(&self, count: usize, deadline: Duration) -> Result<Vec<Delivery>> {
        wait_until(&format!("{count} events at the sink"), deadline, async || {
            let accepted = self.accepted();
            let seen = format!("{} accepted of {} that arrived", accepted.len(), self.deliveries().len());
            Ok(if accepted.len() >= count { Seen::Done(accepted) } else { Seen::NotYet(seen) })
        })
        .await
    }
}

async fn record(
    deliveries: Arc<Mutex<Vec<Delivery>>>,
    mut behaves: watch::Receiver<Behavior>,
    request: Request<Incoming>,
) -> Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let behavior = *behaves.borrow_and_update();
    let delivery = Delivery {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body,
        at: Instant::now(),
        accepted: behavior == Behavior::Accept,
    };
    deliveries.lock().unwrap_or_else(PoisonError::into_inner).push(delivery);
    match behavior {
        Behavior::Accept => Ok(answer(StatusCode::NO_CONTENT, "")),
        Behavior::Fail(status) => Ok(answer(status, "failing on order")),
        Behavior::Close => bail!("closed as requested by the test"),
        Behavior::Hang => {
            // An error means that the sink was dropped; the connection is closed either way.
            let _ = behaves.wait_for(|behavior| *behavior != Behavior::Hang).await;
            bail!("hung as requested by the test")
        }
    }
}
