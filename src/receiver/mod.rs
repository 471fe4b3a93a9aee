//! Receives webhook deliveries, verifies them, and hands them to sinks.
//!
//! The checks are ordered by cost: limits of the connection, method and path, the table of routes, the size, the rate of the
//! route, a proof in a header, the body and its signature, the repository, duplicates, filters, sinks. A missing secret never
//! means "accept".
//!
//! Status codes are part of the protocol, because providers act on them:
//!
//! | answer | when |
//! | --- | --- |
//! | 200 | authentic, whether or not a sink selects it |
//! | 202 | authentic, and pending for a sink: it is retried from memory |
//! | 401 | missing or wrong proof, a secret that is no longer valid, and any unknown path, all alike |
//! | 405, 415 | not POST, a content encoding; the same for every path |
//! | 413 | a body over the provider's limit |
//! | 431 | a header over 16 KiB, answered by the HTTP library |
//! | 503 with Retry-After | our own failure or doubt, or more connections of one peer than its share: never 500, 404 or 410 |
//!
//! Doubt includes an unknown hook while a cluster may be in the middle of its restore.

mod dedupe;
mod deliver;
mod evidence;
mod filter;
mod handler;
mod io_timeout;
mod metrics;
mod peers;
mod refusal;
mod route;
mod routes;
mod server;
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

pub use evidence::EvidenceStore;
pub use routes::{Freshness, Routes, RoutesConfig};
pub use server::{BoundReceiver, ServerLimits};
pub use sinks::SinkLimits;

use crate::network::NetworkPolicy;
use crate::network::listen;
use dedupe::Dedupe;
use deliver::Delivering;
use handler::Handler;
use metrics::Metrics;
use sinks::Dispatcher;
use verify::{ByteBudget, Verifier};

/// The settings of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverConfig {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Limits of connections.
    pub limits: ServerLimits,
    /// Timeouts, backoff and limits for sinks.
    pub sinks: SinkLimits,
}

impl ReceiverConfig {
    /// The default limits.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, limits: ServerLimits::default(), sinks: SinkLimits::default() }
    }
}

/// The webhook receiver.
pub struct Receiver {
    config: ReceiverConfig,
    handler: Handler,
    dispatcher: Arc<Dispatcher>,
    evidence: EvidenceStore,
    metrics: Metrics,
    routes: Routes,
    freshness: Arc<dyn Freshness>,
}

impl Receiver {
    /// A receiver for these routes. Its metrics are registered under the prefix `forgebind_receiver`.
    ///
    /// # Errors
    /// When the HTTP client for the sinks cannot be made.
    pub fn new(
        config: ReceiverConfig,
        routes: &Routes,
        policy: &Arc<NetworkPolicy>,
        freshness: Arc<dyn Freshness>,
        registry: &mut Registry,
    ) -> reqwest::Result<Self> {
        let metrics = Metrics::new(registry);
        let evidence = EvidenceStore::new(routes.clone());
        let dispatcher = Dispatcher::new(routes.clone(), policy, config.sinks, evidence.clone(), metrics.clone())?;
        let verifier = Verifier {
            routes: routes.clone(),
            freshness: Arc::clone(&freshness),
            budget: ByteBudget::new(config.limits.bytes_in_flight, metrics.clone()),
            body_timeout: config.limits.body,
        };
        let delivering =
            Delivering { dispatcher: dispatcher.clone(), dedupe: Dedupe::new(), evidence: evidence.clone(), metrics: metrics.clone() };
        let handler = Handler::new(verifier, Arc::new(delivering), evidence.clone(), metrics.clone());
        Ok(Self { config, handler, dispatcher, evidence, metrics, routes: routes.clone(), freshness })
    }

    /// The evidence for the controller. It is read in process or served on the admin port.
    #[must_use]
    pub fn evidence(&self) -> EvidenceStore {
        self.evidence.clone()
    }

    /// Returns a function that updates the metrics of the present state. Call it before the metrics are read.
    pub fn refresh(&self) -> impl Fn() + Send + Sync + use<> {
        let (routes, freshness) = (self.routes.clone(), Arc::clone(&self.freshness));
        let (evidence, metrics) = (self.evidence.clone(), self.metrics.clone());
        move || metrics.state(routes.len(), freshness.is_fresh(), evidence.failing_sinks())
    }

    /// Binds the port.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(self) -> io::Result<BoundReceiver> {
        let Self { config, handler, dispatcher, metrics, .. } = self;
        let listener = listen::bind(config.listen).await?;
        Ok(BoundReceiver { listener, limits: config.limits, handler, dispatcher, metrics })
    }
}
