//! Receives webhook deliveries, verifies them, and hands them to sinks.
//!
//! The checks are ordered by cost: limits of the connection, method and path, the table of routes, the size, the failed
//! proofs of the route, a proof in a header, the body and its signature, the repository, duplicates, filters, sinks. A missing secret never
//! means "accept".
//!
//! Status codes are part of the protocol, because providers act on them:
//!
//! | answer | when |
//! | --- | --- |
//! | 200 | authentic, whether or not a sink selects it |
//! | 202 | authentic, and pending for a sink: it is stored in the outbox and sent again |
//! | 401 | missing or wrong proof, a secret that is no longer valid, and any unknown path, all alike |
//! | 405, 415 | not POST, a content encoding; the same for every path but the two below |
//! | 413 | a body over the provider's limit |
//! | 431 | a header over 16 KiB, answered by the HTTP library |
//! | 503 with Retry-After | our own failure or doubt, or more connections of one peer than its share: never 500, 404 or 410 |
//!
//! GET and HEAD of `/` and `/healthz` are answered 200: load balancers ask the port that they send to.
//!
//! Doubt includes an unknown hook while a cluster may be in the middle of its restore.

mod bytes_in_flight;
mod dedupe;
mod deliver;
mod destination;
mod envelope;
mod evidence;
mod filter;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod hand_over;
mod handler;
mod io_timeout;
mod metrics;
mod outbox;
mod peers;
mod recent;
mod refusal;
mod route;
mod routes;
mod server;
mod services;
mod sinks;
mod strangers;
#[cfg(test)]
mod tests;
mod ttl_cache;
mod verify;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use secrecy::SecretString;

pub use evidence::EvidenceStore;
pub use hand_over::{OutboxIntake, Peers};
pub use outbox::{OpenError, OutboxConfig, OutboxKind};
pub use routes::{Freshness, Routes, RoutesConfig, ServiceWatch};
pub use server::{BoundReceiver, ServerLimits};
pub use sinks::SinkLimits;

use crate::network::NetworkPolicy;
use crate::network::listen;
use bytes_in_flight::BytesInFlight;
use dedupe::Dedupe;
use deliver::Delivering;
use hand_over::Giver;
use handler::Handler;
use metrics::Metrics;
use outbox::{Outbox, Record, Sequence};
use sinks::{Dispatcher, Parts};
use verify::Verifier;

/// The settings of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverConfig {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Limits of connections.
    pub limits: ServerLimits,
    /// Time limits of events and attempts.
    pub sinks: SinkLimits,
    /// Where deliveries wait that a sink has not accepted.
    pub outbox: OutboxConfig,
}

impl ReceiverConfig {
    /// The default limits.
    #[must_use]
    pub fn new(listen: SocketAddr, outbox: OutboxConfig) -> Self {
        Self { listen, limits: ServerLimits::default(), sinks: SinkLimits::default(), outbox }
    }
}

/// Why a receiver cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// The outbox cannot be opened.
    #[error(transparent)]
    Outbox(#[from] OpenError),
    /// The HTTP client for the sinks cannot be made.
    #[error("cannot create an HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// The webhook receiver.
pub struct Receiver {
    config: ReceiverConfig,
    handler: Handler,
    dispatcher: Arc<Dispatcher>,
    outbox: Arc<Outbox>,
    intake: OutboxIntake,
    giver: Option<Giver>,
    evidence: EvidenceStore,
    metrics: Metrics,
    routes: Routes,
    freshness: Arc<dyn Freshness>,
}

impl Receiver {
    /// A receiver for these routes. Its metrics are registered under the prefix `forgebind_receiver`.
    ///
    /// # Errors
    /// When the outbox cannot be opened, or the HTTP client for the sinks cannot be made.
    pub async fn open(
        config: ReceiverConfig,
        routes: &Routes,
        policy: &Arc<NetworkPolicy>,
        freshness: Arc<dyn Freshness>,
        registry: &mut Registry,
    ) -> Result<Self, ReceiverError> {
        let outbox = Outbox::open(&config.outbox).await?;
        Self::with_outbox(outbox, config, routes, policy, freshness, registry)
    }

    /// A receiver with an open outbox and what is stored there.
    fn with_outbox(
        (outbox, stored): (Outbox, Vec<(Sequence, Record)>),
        config: ReceiverConfig,
        routes: &Routes,
        policy: &Arc<NetworkPolicy>,
        freshness: Arc<dyn Freshness>,
        registry: &mut Registry,
    ) -> Result<Self, ReceiverError> {
        let metrics = Metrics::new(registry);
        let evidence = EvidenceStore::new(routes.clone());
        let outbox = Arc::new(outbox);
        let parts = Parts {
            routes: routes.clone(),
            freshness: Arc::clone(&freshness),
            outbox: Arc::clone(&outbox),
            evidence: evidence.clone(),
            metrics: metrics.clone(),
            limits: config.sinks,
        };
        let dispatcher = Dispatcher::new(parts, policy)?;
        let dedupe = Arc::new(Dedupe::new());
        if !stored.is_empty() {
            tracing::info!(deliveries = stored.len(), "continuing with the deliveries in the outbox");
        }
        dispatcher.resume(stored, &dedupe);
        let verifier = Verifier {
            routes: routes.clone(),
            freshness: Arc::clone(&freshness),
            bytes: BytesInFlight::new(config.limits.bytes_in_flight, metrics.clone()),
            body_timeout: config.limits.body,
        };
        let intake = OutboxIntake::new(dispatcher.clone(), outbox.clone(), dedupe.clone(), metrics.clone());
        let delivering = Delivering { dispatcher: dispatcher.clone(), dedupe, evidence: evidence.clone(), metrics: metrics.clone() };
        let handler = Handler::new(verifier, Arc::new(delivering), evidence.clone(), metrics.clone());
        Ok(Self { config, handler, dispatcher, outbox, intake, giver: None, evidence, metrics, routes: routes.clone(), freshness })
    }

    /// Hands what is pending when the receiver stops to a peer, because its outbox is deleted then. What no peer takes is lost.
    ///
    /// # Errors
    /// The HTTP client for the peers cannot be made.
    pub fn hand_over_to(&mut self, peers: Peers, token: SecretString) -> Result<(), ReceiverError> {
        self.giver = Some(Giver::new(peers, token, self.dispatcher.clone(), self.outbox.clone())?);
        Ok(())
    }

    /// Takes over the deliveries of other receivers. It is served on the admin port.
    #[must_use]
    pub fn intake(&self) -> OutboxIntake {
        self.intake.clone()
    }

    /// The evidence for the controller. It is read in process or served on the admin port.
    #[must_use]
    pub fn evidence(&self) -> EvidenceStore {
        self.evidence.clone()
    }

    /// Returns a function that tells why the outbox cannot store deliveries where it should; an error while it cannot.
    pub fn outbox_check(&self) -> impl Fn() -> Result<(), String> + Send + Sync + use<> {
        let outbox = Arc::clone(&self.outbox);
        move || match outbox.state().error {
            Some(error) => Err(format!("the disk of the outbox does not work: {error}")),
            None => Ok(()),
        }
    }

    /// Returns a function that updates the metrics of the present state. Call it before the metrics are read.
    pub fn refresh(&self) -> impl Fn() + Send + Sync + use<> {
        let (routes, freshness) = (self.routes.clone(), Arc::clone(&self.freshness));
        let (evidence, metrics, outbox) = (self.evidence.clone(), self.metrics.clone(), Arc::clone(&self.outbox));
        move || {
            metrics.state(routes.len(), freshness.is_fresh(), evidence.failing_sinks());
            metrics.outbox(&outbox.state());
        }
    }

    /// Binds the port.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(self) -> io::Result<BoundReceiver> {
        let Self { config, handler, dispatcher, intake, giver, metrics, .. } = self;
        let listener = listen::bind(config.listen).await?;
        Ok(BoundReceiver { listener, limits: config.limits, handler, dispatcher, intake, giver, metrics })
    }
}
