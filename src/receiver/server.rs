//! The HTTP server: limits and timeouts of connections, and a graceful shutdown.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use super::hand_over::{Giver, OutboxIntake};
use super::handler::Handler;
use super::io_timeout::{ConnectionState, TimeoutStream};
use super::metrics::Metrics;
use super::peers::{PeerSlot, Peers};
use super::refusal::Refusal;
use super::sinks::Dispatcher;

/// Maximum size of a header, in bytes.
const HEADER_LENGTH: usize = 16 * 1024;
/// The answer to a peer that exceeds its share of connections, as far as the peer still reads.
const PEER_ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 10\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// The pause after a failed accept, for example when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Limits and timeouts of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Timeout for receiving a header; default 5 s.
    pub header: Duration,
    /// Timeout for receiving a body; default 10 s.
    pub body: Duration,
    /// How long a connection may be idle between requests; default 30 s.
    pub idle: Duration,
    /// Maximum number of connections; further ones wait to be accepted; default 1,024.
    pub connections: usize,
    /// Maximum number of connections of one peer; further ones are answered 503; default 768. Behind an Ingress, the Ingress is
    /// the peer.
    pub per_peer: usize,
    /// Maximum bytes of all bodies that are being received or delivered; default 64 MiB.
    pub bytes_in_flight: usize,
    /// Time limit of the shutdown, including the last attempt at pending deliveries and their hand-over; default 60 s.
    pub shutdown: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(5),
            body: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            connections: 1_024,
            per_peer: 768,
            bytes_in_flight: 64 * 1024 * 1024,
            shutdown: Duration::from_secs(60),
        }
    }
}

/// A receiver that is bound to its port.
pub struct BoundReceiver {
    pub(super) listener: TcpListener,
    pub(super) limits: ServerLimits,
    pub(super) handler: Handler,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) intake: OutboxIntake,
    pub(super) giver: Option<Giver>,
    pub(super) metrics: Metrics,
}

impl BoundReceiver {
    /// The local address of the listener.
    ///
    /// # Errors
    /// When the system cannot report the address.
    #[cfg(test)]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` is ready. Then finishes the requests and the attempts in flight and hands over what is pending, if
    /// its outbox is deleted.
    ///
    /// # Errors
    /// None at present: a failed connection does not affect the others.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let peers = Peers::new(self.limits.per_peer);
        tokio::spawn(Arc::clone(&self.dispatcher).look_after());
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &places) => accepted,
                () = &mut shutdown => break,
            };
            match accepted {
                Ok((stream, peer, slot)) => match peers.take(peer.ip()) {
                    Some(share) => self.spawn(stream, (slot, share), &graceful),
                    None => self.refuse(&stream),
                },
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        let now = Instant::now();
        let deadline = now + self.limits.shutdown;
        // A sink that does not answer must not take the time of the hand-over. What no sink holds up is given at once.
        let attempts = if self.giver.is_some() { now + self.limits.shutdown / 2 } else { deadline };
        let in_flight = async {
            graceful.shutdown().await;
            self.handler.finish().await;
        };
        if timeout_at(attempts, futures::future::join(in_flight, self.intake.stop(attempts))).await.is_err() {
            tracing::warn!("stopped before all deliveries were answered");
        }
        match &self.giver {
            Some(giver) => {
                self.dispatcher.end_attempts();
                giver.give(attempts, deadline).await;
            }
            None => self.dispatcher.stop(attempts).await,
        }
        self.dispatcher.close(self.giver.is_some()).await;
        Ok(())
    }

    /// Refuses a connection of a peer that exceeds its share, without waiting.
    fn refuse(&self, stream: &TcpStream) {
        self.metrics.refusal(Refusal::PeerShare.label());
        let _ = stream.try_write(PEER_ANSWER);
    }

    fn spawn(&self, stream: TcpStream, slot: (OwnedSemaphorePermit, PeerSlot), graceful: &GracefulShutdown) {
        let state = ConnectionState::new();
        let handler = self.handler.clone();
        let service = service_fn({
            let state = state.clone();
            move |request| {
                state.busy();
                let (handler, state) = (handler.clone(), state.clone());
                async move {
                    let response = handler.handle(request).await;
                    state.idle();
                    response
                }
            }
        });
        let io = TokioIo::new(TimeoutStream::new(stream, state, self.limits.header, self.limits.idle));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // See `TimeoutStream`.
            .header_read_timeout(None)
            .max_buf_size(HEADER_LENGTH)
            .serve_connection(io, service);
        let connection = graceful.watch(connection);
        let metrics = self.metrics.clone();
        metrics.connections(1);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            metrics.connections(-1);
            drop(slot);
        });
    }
}

/// Accepts one connection when the limit permits it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Answers are small; waiting to fill a packet only delays them. If the connection is closed already, the next read fails.
    let _ = stream.set_nodelay(true);
    Ok((stream, peer, slot))
}
