//! The listener: limits and timeouts of connections, and an end that finishes what is in flight.

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

use super::handler::Handler;
use super::io_timeout::{ConnectionState, TimeoutStream};
use super::metrics::Metrics;
use super::peers::{PeerSlot, Peers};
use super::sinks::Dispatcher;
use super::verify::Refusal;

/// The largest header that is read.
const HEADER_LENGTH: usize = 16 * 1024;
/// What a peer is answered that has its share of the connections, as far as it still reads.
const PEER_ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 10\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// The pause after an accept that failed for want of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The limits of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// How long a header may take; default 5 s.
    pub header: Duration,
    /// How long a body may take; default 10 s.
    pub body: Duration,
    /// How long a connection may rest between requests; default 30 s.
    pub idle: Duration,
    /// How many connections there are at most; further ones wait to be accepted; default 1,024.
    pub connections: usize,
    /// How many of them one peer holds at most; further ones of it are answered 503; default 768. Behind an Ingress that is what
    /// the Ingress may hold.
    pub per_peer: usize,
    /// The bytes of all bodies that are being received; default 64 MiB.
    pub bytes_in_flight: usize,
    /// How long the end may take, what is pending included; default 20 s.
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
            shutdown: Duration::from_secs(20),
        }
    }
}

/// A receiver that has its port.
pub struct BoundReceiver {
    pub(super) listener: TcpListener,
    pub(super) limits: ServerLimits,
    pub(super) handler: Handler,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) metrics: Metrics,
}

impl BoundReceiver {
    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` is ready, then finishes what is in flight and gives what is pending one last try.
    ///
    /// # Errors
    /// None at present: a connection that fails concerns nobody else.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let peers = Peers::new(self.limits.per_peer);
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
        let deadline = Instant::now() + self.limits.shutdown;
        drop(self.listener);
        let in_flight = async {
            graceful.shutdown().await;
            self.handler.finish().await;
        };
        if timeout_at(deadline, in_flight).await.is_err() {
            tracing::warn!("stopped before every delivery was answered");
        }
        self.dispatcher.stop(deadline).await;
        Ok(())
    }

    /// Answers a connection of a peer that has its share, as far as that goes without waiting.
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

/// One connection, when there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Answers are small; waiting to fill a packet only delays them. One that is gone already finds out when it is read.
    let _ = stream.set_nodelay(true);
    Ok((stream, peer, slot))
}
