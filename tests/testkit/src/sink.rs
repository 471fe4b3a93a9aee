//! A receiver of events that remembers what it was sent.

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

/// One request that arrived.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its path.
    pub path: String,
    /// Its headers; the attributes of a `CloudEvents` event are `ce-…`.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// When it arrived.
    pub at: Instant,
    /// Whether the sink accepted it.
    pub accepted: bool,
}

impl Delivery {
    /// A header as text; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// How the sink answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    /// 204.
    Accept,
    /// This status.
    Fail(StatusCode),
    /// Not at all, until the behavior changes.
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
    /// Starts one on a port of its own that accepts everything.
    ///
    /// # Errors
    ///
    /// When no port is free.
    pub async fn start() -> Result<Self> {
        let deliveries = Arc::new(Mutex::new(Vec::new()));
        let (behavior, behaves) = watch::channel(Behavior::Accept);
        let shared = Arc::clone(&deliveries);
        let server = HttpServer::start(free_port()?, move |request| take(Arc::clone(&shared), behaves.clone(), request)).await?;
        Ok(Self { server, deliveries, behavior })
    }

    /// Its port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// What `--resolve` needs so that the Service `name` of `namespace` is this sink. The Service's port is
    /// [`Self::port`].
    pub fn resolve(&self, name: &str, namespace: &str) -> String {
        format!("{name}.{namespace}.svc:{}=127.0.0.1", self.port())
    }

    /// How it answers from now on.
    pub fn behave(&self, behavior: Behavior) {
        self.behavior.send_replace(behavior);
    }

    /// Everything that arrived, accepted or not, in the order of arrival.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it accepted.
    pub fn accepted(&self) -> Vec<Delivery> {
        self.deliveries().into_iter().filter(|delivery| delivery.accepted).collect()
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

async fn take(
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
        Behavior::Close => bail!("closed on order"),
        Behavior::Hang => {
            // An error means that the sink is gone; either way the connection is closed.
            let _ = behaves.wait_for(|behavior| *behavior != Behavior::Hang).await;
            bail!("hung on order")
        }
    }
}
