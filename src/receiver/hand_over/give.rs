//! The receiver that stops: gives its deliveries to a peer, and to the next one if that fails.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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

/// Whether a status says that the peer cannot read the content of a batch.
fn is_about_content(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::INTERNAL_SERVER_ERROR | StatusCode::PAYLOAD_TOO_LARGE)
}

/// The deliveries that no peer takes, and how often each of the others could not be read.
#[derive(Default)]
struct SetAside(BTreeMap<Sequence, u32>);

impl SetAside {
    /// How often a delivery is read before it is set aside. The disk is opened again within five seconds.
    const READS: u32 = 20;

    fn insert(&mut self, sequence: Sequence) {
        self.0.insert(sequence, Self::READS);
    }

    /// Counts a failed read. Returns whether it is the first.
    fn count(&mut self, sequence: Sequence) -> bool {
        let reads = self.0.entry(sequence).or_default();
        *reads += 1;
        *reads == 1
    }

    fn has(&self, sequence: Sequence) -> bool {
        self.0.get(&sequence).is_some_and(|reads| *reads >= Self::READS)
    }
}

/// Deliveries that are sent together.
#[derive(Default)]
struct Batch {
    sequences: Vec<Sequence>,
    pieces: Vec<Bytes>,
    length: usize,
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

    /// Gives everything that is stored to ready peers, until the deadline; what an attempt is under way for, only when that has ended
    /// or after `attempts`. What is given is removed here.
    pub(in crate::receiver) async fn give(&self, attempts: Instant, deadline: Instant) {
        // The states that are not on the disk yet.
        let _ = timeout_at(deadline, self.outbox.flush()).await;
        let (mut set_aside, mut told) = (SetAside::default(), BTreeSet::new());
        loop {
            let now = Instant::now();
            if self.waiting(true, &set_aside).is_empty() || now >= deadline {
                break;
            }
            let waiting = self.waiting(now >= attempts, &set_aside);
            if waiting.is_empty() {
                sleep_until(deadline.min(now + PAUSE)).await;
                continue;
            }
            let peers = (self.peers)();
            if peers.is_empty() && told.insert(String::new()) {
                tracing::warn!(deliveries = waiting.len(), "no other receiver is ready to take the pending deliveries; waiting for one");
            }
            for peer in peers {
                match self.give_to(&peer, now >= attempts, &mut set_aside, deadline).await {
                    Ok(()) => break,
                    // Every peer is tried again and again, but its error is told once.
                    Err(error) if told.insert(format!("{peer} {error}")) => {
                        tracing::warn!(receiver = %peer, %error, "a receiver does not take the pending deliveries");
                    }
                    Err(_) => {}
                }
            }
            if !self.waiting(true, &set_aside).is_empty() {
                sleep_until(deadline.min(Instant::now() + PAUSE)).await;
            }
        }
        if !set_aside.0.is_empty() {
            tracing::warn!(deliveries = set_aside.0.len(), "pending deliveries are too large or cannot be read, and were not handed over");
        }
    }

    /// What is stored and can be given. A request that took too long may add to it.
    fn waiting(&self, also_under_way: bool, set_aside: &SetAside) -> VecDeque<Sequence> {
        self.dispatcher.to_hand_over(also_under_way).into_iter().filter(|sequence| !set_aside.has(*sequence)).collect()
    }

    /// Gives a peer everything, or as much as it takes.
    async fn give_to(&self, peer: &Url, also_under_way: bool, set_aside: &mut SetAside, deadline: Instant) -> Result<(), PeerError> {
        let mut waiting = self.waiting(also_under_way, set_aside);
        let (mut most, mut given) = (MOST_DELIVERIES, 0);
        let result = loop {
            let Ok(batch) = timeout_at(deadline, self.batch(&mut waiting, most, set_aside)).await else { break Err(PeerError::Late) };
            if batch.sequences.is_empty() {
                break Ok(());
            }
            let sequences = batch.sequences.clone();
            let sent = timeout_at(deadline.min(Instant::now() + TIMEOUT), self.send(peer, batch)).await;
            let taken = match sent.unwrap_or(Err(PeerError::Late)) {
                Ok(taken) => taken,
                // A peer of another version may read all but one of them.
                Err(PeerError::Status(status)) if is_about_content(status) && sequences.len() > 1 => {
                    most = 1;
                    sequences.into_iter().rev().for_each(|sequence| waiting.push_front(sequence));
                    continue;
                }
                Err(PeerError::Status(status)) if is_about_content(status) && most == 1 => continue,
                Err(error) => break Err(error),
            };
            let mut is_written = true;
            for (sequence, taken) in sequences.into_iter().zip(taken) {
                match taken {
                    Taken::Kept => {
                        self.dispatcher.handed_over(sequence);
                        given += 1;
                    }
                    Taken::TooLarge => set_aside.insert(sequence),
                    Taken::NotWritten => is_written = false,
                }
            }
            if !is_written {
                break Err(PeerError::NotWritten);
            }
        };
        if given > 0 {
            tracing::info!(receiver = %peer, deliveries = given, "pending deliveries handed over");
        }
        result
    }

    /// Reads the next deliveries. Their bodies are in memory until the batch is sent. It is empty when nothing is left.
    async fn batch(&self, waiting: &mut VecDeque<Sequence>, most: usize, set_aside: &mut SetAside) -> Batch {
        let mut batch = Batch::default();
        while batch.sequences.len() < most && batch.length < BATCH {
            let Some(sequence) = waiting.front().copied() else { break };
            // A large one is sent alone.
            let length = self.outbox.body_length(sequence).unwrap_or_default();
            if !batch.sequences.is_empty() && batch.length.saturating_add(length) > BATCH {
                break;
            }
            waiting.pop_front();
            let pieces = match self.outbox.delivery(sequence).await {
                Ok((record, body)) => wire::pieces(&record, body),
                Err(BodyError::Gone) => {
                    self.dispatcher.drop_stored(sequence);
                    continue;
                }
                // A disk with an error works again once the file was opened again.
                Err(BodyError::Unavailable(error)) => {
                    if set_aside.count(sequence) {
                        tracing::warn!(error, "a pending delivery cannot be read");
                    }
                    continue;
                }
            };
            let Some(pieces) = pieces else {
                set_aside.insert(sequence);
                continue;
            };
            batch.length += pieces.iter().map(Bytes::len).sum::<usize>();
            batch.sequences.push(sequence);
            batch.pieces.extend(pieces);
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
