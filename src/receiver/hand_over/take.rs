//! The receiver that takes deliveries over: reads a batch, stores it, and continues with it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::wire::{self, Answer, LONGEST_BATCH, Taken, WireError};
use crate::receiver::dedupe::Dedupe;
use crate::receiver::metrics::Metrics;
use crate::receiver::outbox::{KeepError, Outbox, Record};
use crate::receiver::sinks::Dispatcher;
use crate::receiver::verify::content_length;

/// Timeout for a batch: for its turn, and again for its arrival.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Takes over the deliveries of receivers that stop. Cheap to clone.
#[derive(Clone)]
pub struct OutboxIntake(Arc<Inner>);

struct Inner {
    dispatcher: Arc<Dispatcher>,
    outbox: Arc<Outbox>,
    dedupe: Arc<Dedupe>,
    metrics: Metrics,
    /// One batch at a time, so that its length bounds the memory.
    turn: Arc<Semaphore>,
    stopping: CancellationToken,
}

/// Why a batch is not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("this receiver stops")]
    Stopping,
    #[error("the outbox of this receiver is in memory")]
    InMemory,
    #[error("the disk of the outbox does not work")]
    Broken,
    #[error("other batches take too long")]
    Busy,
    #[error("the content type is not {}", wire::CONTENT_TYPE)]
    OtherFormat,
    #[error("the batch is larger than {} MiB", LONGEST_BATCH >> 20)]
    TooLarge,
    #[error("the batch did not arrive in time")]
    Slow,
    #[error("the batch did not arrive as a whole")]
    Interrupted,
    #[error("the batch cannot be read: {0}")]
    Malformed(WireError),
}

impl Refusal {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Stopping | Self::InMemory | Self::Broken | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::OtherFormat => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Interrupted | Self::Malformed(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl OutboxIntake {
    pub(in crate::receiver) fn new(dispatcher: Arc<Dispatcher>, outbox: Arc<Outbox>, dedupe: Arc<Dedupe>, metrics: Metrics) -> Self {
        let (turn, stopping) = (Arc::new(Semaphore::new(1)), CancellationToken::new());
        Self(Arc::new(Inner { dispatcher, outbox, dedupe, metrics, turn, stopping }))
    }

    /// Takes the deliveries of a request over and answers when they are on the disk. Whether the request is authentic must have
    /// been checked.
    pub async fn accept<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send,
    {
        let (status, text) = match self.take(request).await {
            Ok(answer) => (StatusCode::OK, serde_json::to_vec(&answer).unwrap_or_default()),
            Err(refusal) => {
                tracing::warn!(error = %refusal, "deliveries of another receiver not taken over");
                (refusal.status(), format!("{refusal}\n").into_bytes())
            }
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
    }

    /// Takes nothing any more, and waits until what was taken before is stored. Until then the outbox may get further records.
    pub(in crate::receiver) async fn stop(&self, deadline: Instant) {
        self.0.stopping.cancel();
        let _ = timeout_at(deadline, self.0.turn.acquire()).await;
        self.0.turn.close();
    }

    async fn take<B>(&self, request: Request<B>) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes> + Send,
    {
        if request.headers().get(CONTENT_TYPE).is_none_or(|kind| kind != wire::CONTENT_TYPE) {
            return Err(Refusal::OtherFormat);
        }
        self.check()?;
        let turn = timeout(TIMEOUT, Arc::clone(&self.0.turn).acquire_owned()).await.map_err(|_| Refusal::Busy)?;
        let turn = turn.map_err(|_| Refusal::Stopping)?;
        let reading = self.0.stopping.run_until_cancelled(timeout(TIMEOUT, read(request)));
        let batch = reading.await.ok_or(Refusal::Stopping)?.map_err(|_| Refusal::Slow)??;
        self.check()?;
        let deliveries = wire::parse(batch).map_err(Refusal::Malformed)?;
        // A sender that disconnects must not leave records behind that are stored and that nobody sends.
        let inner = Arc::clone(&self.0);
        let storing = tokio::spawn(async move {
            let answer = inner.store(deliveries).await;
            drop(turn);
            answer
        });
        storing.await.map_err(|_| Refusal::Interrupted)
    }

    fn check(&self) -> Result<(), Refusal> {
        if self.0.stopping.is_cancelled() {
            return Err(Refusal::Stopping);
        }
        if self.0.outbox.is_in_memory() {
            return Err(Refusal::InMemory);
        }
        if self.0.outbox.state().healthy { Ok(()) } else { Err(Refusal::Broken) }
    }
}

impl Inner {
    /// Stores deliveries, all of them in few transactions, and continues with what is on the disk.
    async fn store(&self, deliveries: Vec<(Record, Bytes)>) -> Answer {
        // A sender that got no answer sends a batch again.
        let known = self.dispatcher.identities();
        let storing = deliveries.into_iter().map(|(record, body)| async {
            if known.contains(&record.envelope.identity()) {
                return (record, Err(Taken::Kept));
            }
            // Dead letters must not push out what is pending.
            if record.open_events().is_empty() && !self.outbox.has_room(&record, body.len()) {
                return (record, Err(Taken::TooLarge));
            }
            let kept = self.outbox.keep(record.clone(), body).await;
            (record, Ok(kept))
        });
        let mut taken = Vec::new();
        for (record, kept) in join_all(storing).await {
            let kept = match kept {
                Ok(kept) => kept,
                Err(without_storing) => {
                    taken.push(without_storing);
                    continue;
                }
            };
            taken.push(match kept.result {
                Ok(place) if place.durable => {
                    self.dispatcher.continue_with(place.sequence, record, &self.dedupe);
                    Taken::Kept
                }
                Ok(place) => {
                    self.outbox.remove(place.sequence);
                    Taken::NotWritten
                }
                Err(KeepError::TooLarge { .. }) => Taken::TooLarge,
                Err(KeepError::Full | KeepError::Closed) => Taken::NotWritten,
            });
            // One of them may be the record itself.
            for dropped in kept.dropped {
                self.dispatcher.drop_stored(dropped.sequence);
            }
        }
        let kept = taken.iter().filter(|taken| **taken == Taken::Kept).count();
        self.metrics.taken_over(kept);
        tracing::info!(deliveries = kept, "deliveries of another receiver taken over");
        Answer { deliveries: taken }
    }
}

/// Reads a body of bounded length.
async fn read<B>(request: Request<B>) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Send,
{
    let (parts, body) = request.into_parts();
    let declared = content_length(&parts.headers);
    if declared.is_some_and(|declared| declared > LONGEST_BATCH) {
        return Err(Refusal::TooLarge);
    }
    let mut body = pin!(body);
    let mut whole = BytesMut::with_capacity(declared.unwrap_or_default());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::Interrupted)?.into_data() else { continue };
        if whole.len().saturating_add(data.len()) > LONGEST_BATCH {
            return Err(Refusal::TooLarge);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}
