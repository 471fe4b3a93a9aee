//! Timeouts for the header phase and the idle phase of a connection.
//!
//! hyper's own header timeout also runs while a kept-alive connection is idle, so the two phases cannot have separate limits.
//! This wrapper distinguishes them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A new connection, or one on which a header has started.
const HEADER: u8 = 0;
/// Between an answer and the next header.
const IDLE: u8 = 1;
/// A request is being processed, which has limits of its own.
const BUSY: u8 = 2;

/// The phase of a connection.
#[derive(Clone, Debug)]
pub(super) struct ConnectionState(Arc<AtomicU8>);

impl ConnectionState {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(HEADER)))
    }

    /// Records that a header is complete.
    pub(super) fn busy(&self) {
        self.0.store(BUSY, Ordering::Release);
    }

    /// Records that the answer is ready.
    pub(super) fn idle(&self) {
        self.0.store(IDLE, Ordering::Release);
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }
}

/// A stream that fails when the peer takes too long.
#[derive(Debug)]
pub(super) struct TimeoutStream<S> {
    stream: S,
    state: ConnectionState,
    header: Duration,
    idle: Duration,
    /// The phase for which the timer was set.
    armed: Option<u8>,
    timer: Pin<Box<Sleep>>,
}

impl<S> TimeoutStream<S> {
    pub(super) fn new(stream: S, state: ConnectionState, header: Duration, idle: Duration) -> Self {
        Self { stream, state, header, idle, armed: Some(HEADER), timer: Box::pin(sleep(header)) }
    }

    /// Ready when the limit of the phase has passed.
    fn expired(&mut self, context: &mut Context<'_>, state: u8) -> Poll<()> {
        if state == BUSY {
            self.armed = None;
            return Poll::Pending;
        }
        if self.armed != Some(state) {
            self.armed = Some(state);
            let limit = if state == HEADER { self.header } else { self.idle };
            self.timer.as_mut().reset(Instant::now() + limit);
        }
        self.timer.as_mut().poll(context)
    }

    /// Sets the timer for the idle phase after an answer. hyper started to wait for the next header before the answer, and does
    /// not read again by itself.
    fn answered(&mut self, context: &mut Context<'_>) {
        if self.state.get() == IDLE {
            // If the limit has passed already, the read that the timer wakes reports it.
            let _ = self.expired(context, IDLE);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let state = this.state.get();
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            if state == IDLE && buffer.filled().len() > before {
                this.state.0.store(HEADER, Ordering::Release);
                // Each header and each idle phase has its own limit, even if no read was pending in between.
                this.armed = None;
            }
            return Poll::Ready(result);
        }
        ready!(this.expired(context, state));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_write(context, data) {
            this.answered(context);
            return Poll::Ready(result);
        }
        // A peer that does not read our answers is idle.
        ready!(this.expired(context, IDLE));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_write_vectored(context, data) {
            this.answered(context);
            return Poll::Ready(result);
        }
        ready!(this.expired(context, IDLE));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
