//! The receiver that stops: gives its deliveries to a peer, and to the next one if that fails.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, sleep_until, timeout_at};
use url::Url;

use super::wire::{self, Answer, LONGEST_ANSWER, MOST_DELIVERIES, Taken};
use crate::receiver::outbox::{BodyError, Outbox, Sequence};
use crate::receiver::sinks::Dispatcher;
use crate::text::json;

/// The admin URLs of the receivers that are ready at present, without this one.
pub type Peers = Arc<dyn Fn() -> Vec<Url> + Send + Sync>;

/// Timeout for one batch. A peer that needs longer is passed over.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before the peers are tried again. One that starts in place of this receiver may become ready meanwhile.
const PAUSE: Duration = Duration::from_millis(500);
/// Length of a batch in bytes beyond which nothing is added to it. Only a single delivery makes a longer one.
const BATCH: usize = 1024 * 1024;

/// Gives deliveries to peers.
pub(in crate::receiver) struct Giver {
    peers: Peers,
    token: SecretString,
    http: reqwest::Client,
    dispatcher: Arc<Dispatcher>,
    outbox: Arc<Outbox>,
}

/// Why a peer takes no deliveries.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error("{}", chain(.0))]
    Http(reqwest::Error),
    #[error("it answered with status {0}")]
    Status(StatusCode),
    #[error("its answer is not that of a receiver")]
    Answer,
    #[error("it could not write them")]
    NotWritten,
    #[error("it did not answer in time")]
    Late,
}

/// The messages of an error and of what caused it.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.extend([": ", &error.to_string()]);
        cause = error.source();
    }
    text
}

/// Deliveries that are sent together.
#[derive(Default)]
struct Batch {
    sequences: Vec<Sequence>,
    pieces: Vec<Bytes>,
    length: usize,
}

/// What is left to give, by arrival, and what cannot be given.
struct Left {
    waiting: VecDeque<Sequence>,
    /// Too large, or not readable at present.
    set_aside: Vec<Sequence>,
    given: usize,
}

impl Giver {
    pub(in crate::receiver) fn new(
        peers: Peers,
        token: SecretString,
        dispatcher: Arc<Dispatcher>,
        outbox: Arc<Outbox>,
    ) -> reqwest::Result<Self> {
        // Receivers are our own and in the cluster: no proxy, no redirects.
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).connect_timeout(CONNECT_TIMEOUT);
        Ok(Self { peers, token, http: http.build()?, dispatcher, outbox })
    }

    /// Gives everything that is stored to ready peers, until the deadline. What is given is removed here.
    pub(in crate::receiver) async fn give(&self, deadline: Instant) {
        // The states that are not on the disk yet.
        self.outbox.flush().await;
        let mut left = Left { waiting: self.dispatcher.by_arrival().into(), set_aside: Vec::new(), given: 0 };
        let mut is_told = false;
        while !left.waiting.is_empty() && Instant::now() < deadline {
            let peers = (self.peers)();
            if peers.is_empty() && !std::mem::replace(&mut is_told, true) {
                tracing::warn!(
                    deliveries = left.waiting.len(),
                    "no other receiver is ready to take the pending deliveries; waiting for one"
                );
            }
            for peer in peers {
                let before = left.given;
                let result = self.give_to(&peer, &mut left, deadline).await;
                if left.given > before {
                    tracing::info!(receiver = %peer, deliveries = left.given - before, "pending deliveries handed over");
                }
                match result {
                    Ok(()) => break,
                    Err(error) => tracing::warn!(receiver = %peer, %error, "a receiver does not take the pending deliveries"),
                }
            }
            if !left.waiting.is_empty() {
                sleep_until(deadline.min(Instant::now() + PAUSE)).await;
            }
        }
        if !left.set_aside.is_empty() {
            tracing::warn!(
                deliveries = left.set_aside.len(),
                "pending deliveries are too large or cannot be read, and were not handed over"
            );
        }
    }

    async fn give_to(&self, peer: &Url, left: &mut Left, deadline: Instant) -> Result<(), PeerError> {
        while !left.waiting.is_empty() {
            let batch = self.batch(left).await;
            if batch.sequences.is_empty() {
                continue;
            }
            let sequences = batch.sequences.clone();
            let sent = timeout_at(deadline.min(Instant::now() + TIMEOUT), self.send(peer, batch)).await;
            let taken = match sent.unwrap_or(Err(PeerError::Late)) {
                Ok(taken) => taken,
                Err(error) => {
                    sequences.into_iter().rev().for_each(|sequence| left.waiting.push_front(sequence));
                    return Err(error);
                }
            };
            let mut not_written = Vec::new();
            for (sequence, taken) in sequences.into_iter().zip(taken) {
                match taken {
                    Taken::Kept => {
                        self.dispatcher.handed_over(sequence);
                        left.given += 1;
                    }
                    Taken::TooLarge => left.set_aside.push(sequence),
                    Taken::NotWritten => not_written.push(sequence),
                }
            }
            if !not_written.is_empty() {
                not_written.into_iter().rev().for_each(|sequence| left.waiting.push_front(sequence));
                return Err(PeerError::NotWritten);
            }
        }
        Ok(())
    }

    /// Reads the next deliveries. Their bodies are in memory until the batch is sent.
    async fn batch(&self, left: &mut Left) -> Batch {
        let mut batch = Batch::default();
        while batch.sequences.len() < MOST_DELIVERIES && batch.length < BATCH {
            let Some(sequence) = left.waiting.front().copied() else { break };
            // A large one is sent alone.
            let length = self.outbox.body_length(sequence).unwrap_or_default();
            if !batch.sequences.is_empty() && batch.length.saturating_add(length) > BATCH {
                break;
            }
            left.waiting.pop_front();
            let pieces = match self.outbox.delivery(sequence).await {
                Ok((record, body)) => wire::pieces(&record, body),
                Err(BodyError::Gone) => continue,
                Err(BodyError::Unavailable(error)) => {
                    tracing::warn!(error, "a pending delivery cannot be read");
                    None
                }
            };
            match pieces {
                Some(pieces) => {
                    batch.length += pieces.iter().map(Bytes::len).sum::<usize>();
                    batch.sequences.push(sequence);
                    batch.pieces.extend(pieces);
                }
                None => left.set_aside.push(sequence),
            }
        }
        batch
    }

    async fn send(&self, peer: &Url, batch: Batch) -> Result<Vec<Taken>, PeerError> {
        let url = peer.join("outbox").map_err(|_| PeerError::Answer)?;
        let count = batch.sequences.len();
        let body = reqwest::Body::wrap_stream(stream::iter(batch.pieces.into_iter().map(Ok::<_, Infallible>)));
        let request = self.http.post(url).bearer_auth(self.token.expose_secret()).header(CONTENT_TYPE, wire::CONTENT_TYPE);
        let answer = request.header(CONTENT_LENGTH, batch.length).body(body).send().await;
        let answer = answer.map_err(|error| PeerError::Http(error.without_url()))?;
        if answer.status() != StatusCode::OK {
            return Err(PeerError::Status(answer.status()));
        }
        let Answer { deliveries } = read(answer).await?;
        if deliveries.len() == count { Ok(deliveries) } else { Err(PeerError::Answer) }
    }
}

async fn read(mut answer: reqwest::Response) -> Result<Answer, PeerError> {
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| PeerError::Http(error.without_url()))? {
        if text.len().saturating_add(chunk.len()) > LONGEST_ANSWER {
            return Err(PeerError::Answer);
        }
        text.extend_from_slice(&chunk);
    }
    json::read(&text).map_err(|_| PeerError::Answer)
}
