//! Deliveries that are prepared before the measurement, and the load generator that sends them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ring::hmac;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Placeholder that is replaced by a different commit in each delivery: an identical body is a duplicate, which costs less.
const COMMIT: &str = "0000000000000000000000000000000000000000";

/// A hook at the provider.
#[derive(Clone, Debug)]
pub struct Target {
    /// The path at the receiver.
    pub path: String,
    /// The key with which deliveries are signed.
    pub secret: String,
    pub id: i64,
    pub slug: String,
}

/// What the deliveries of one run have in common.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The length of each body, in bytes.
    pub length: usize,
    /// The branch that is pushed to.
    pub branch: &'static str,
    /// The number of branches that one delivery pushes to: `branch` and others like it.
    pub branches: usize,
}

/// How deliveries are sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The number of concurrent connections.
    pub connections: usize,
    /// Deliveries per second, regardless of answers. Without it, each is sent as soon as the previous one of its connection is
    /// answered.
    pub pace: Option<f64>,
    /// The statuses that are expected.
    pub expected: &'static [u16],
}

/// Every delivery of one run, signed.
#[derive(Debug)]
pub struct Deliveries {
    targets: Vec<(Target, Body)>,
    signatures: Vec<String>,
    first: usize,
    /// The index of the one to send next.
    next: AtomicUsize,
}

/// A body and the offset of its commit.
#[derive(Debug)]
struct Body {
    text: Vec<u8>,
    commit: usize,
}

/// The answers of a run.
#[derive(Debug)]
pub struct Answers {
    pub count: usize,
    /// From the first to the last.
    pub taken: Duration,
    /// From the time at which a delivery was due to its answer with 2xx, sorted.
    pub latencies: Vec<Duration>,
}

impl Answers {
    /// Answers per second.
    pub fn rate(&self) -> f64 {
        f64::from(u32::try_from(self.count).unwrap_or(u32::MAX)) / self.taken.as_secs_f64()
    }

    /// The 99th percentile of the latency.
    pub fn p99(&self) -> Duration {
        self.latencies.get(self.latencies.len() * 99 / 100).copied().unwrap_or_default()
    }
}

impl Body {
    /// A push in Data Center's form. It has only the members that a reader needs, so that it can be short.
    fn of(target: &Target, shape: Shape) -> Result<Self> {
        let change = |number: usize| {
            let suffix = if number == 0 { String::new() } else { format!("-{number}") };
            json!({
                "refId": format!("refs/heads/{}{suffix}", shape.branch),
                "fromHash": "ffffffffffffffffffffffffffffffffffffffff", "toHash": COMMIT, "type": "UPDATE",
            })
        };
        let changes: Vec<Value> = (0..shape.branches).map(change).collect();
        let document = |padding: &str| {
            json!({
                "actor": {"name": padding},
                "repository": {"slug": target.slug, "id": target.id, "project": {"key": "APP"}},
                "changes": changes,
            })
        };
        let missing = shape.length.saturating_sub(document("").to_string().len());
        let text = document(&"a".repeat(missing)).to_string();
        let commit = text.find(COMMIT).context("no commit in the body")?;
        Ok(Self { text: text.into_bytes(), commit })
    }

    /// The body of one delivery.
    fn number(&self, number: usize, into: &mut Vec<u8>) {
        let start = into.len();
        into.extend_from_slice(&self.text);
        into[start + self.commit..][..COMMIT.len()].copy_from_slice(format!("{number:040x}").as_bytes());
    }
}

impl Deliveries {
    /// Signs `count` deliveries, for one target after the other, with commits numbered from `first`.
    ///
    /// # Errors
    ///
    /// When there is no target.
    pub fn sign(targets: &[Target], count: usize, first: usize, shape: Shape) -> Result<Self> {
        ensure!(!targets.is_empty(), "no hook to deliver for");
        let targets: Vec<_> = targets.iter().map(|target| anyhow::Ok((target.clone(), Body::of(target, shape)?))).collect::<Result<_>>()?;
        let keys: Vec<_> = targets.iter().map(|(target, _)| hmac::Key::new(hmac::HMAC_SHA256, target.secret.as_bytes())).collect();
        let mut body = Vec::with_capacity(shape.length);
        let signatures = (0..count).map(|index| {
            body.clear();
            targets[index % targets.len()].1.number(first + index, &mut body);
            hex::encode(hmac::sign(&keys[index % keys.len()], &body))
        });
        let signatures = signatures.collect();
        Ok(Self { targets, signatures, first, next: AtomicUsize::new(0) })
    }

    /// Sends nothing more after the answers that are due.
    pub fn stop(&self) {
        self.next.store(self.signatures.len(), Ordering::Relaxed);
    }

    /// One request as on the wire.
    fn request(&self, index: usize, into: &mut Vec<u8>) {
        let (target, body) = &self.targets[index % self.targets.len()];
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: hooks.acme.io\r\ncontent-type: application/json; charset=utf-8\r\nx-event-key: repo:refs_changed\r\n\
             x-request-id: {}\r\nx-hub-signature: sha256={}\r\ncontent-length: {}\r\n\r\n",
            target.path,
            self.first + index,
            self.signatures[index],
            body.text.len(),
        );
        into.clear();
        into.extend_from_slice(head.as_bytes());
        body.number(self.first + index, into);
    }

    /// Sends all deliveries. The latency of a delivery that starts late, because the one before it took long, counts from the time
    /// at which it was due.
    ///
    /// # Errors
    ///
    /// When an answer has an unexpected status.
    pub async fn send(self: &Arc<Self>, to: SocketAddr, load: Load) -> Result<Answers> {
        let deliveries = Arc::clone(self);
        let send = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                // Waking a sleeping sender costs the server more than many answers do, and a fast server would find no sleeping
                // sender.
                let awake = tokio::spawn(async {
                    loop {
                        tokio::task::yield_now().await;
                    }
                });
                let answers = deliveries.send_all(to, load).await;
                awake.abort();
                answers
            })
        };
        tokio::task::spawn_blocking(send).await?
    }

    async fn send_all(self: &Arc<Self>, to: SocketAddr, load: Load) -> Result<Answers> {
        self.next.store(0, Ordering::Relaxed);
        let began = Instant::now();
        let mut senders = JoinSet::new();
        for _ in 0..load.connections {
            senders.spawn(Arc::clone(self).send_some(to, began, load));
        }
        let (mut count, mut latencies) = (0, Vec::with_capacity(self.signatures.len()));
        while let Some(sent) = senders.join_next().await {
            let (answered, accepted) = sent??;
            count += answered;
            latencies.extend(accepted);
        }
        let taken = began.elapsed();
        latencies.sort();
        Ok(Answers { count, taken, latencies })
    }

    /// Sends what no other sender has taken, and returns the number of answers and the latencies of those with 2xx.
    async fn send_some(self: Arc<Self>, to: SocketAddr, began: Instant, load: Load) -> Result<(usize, Vec<Duration>)> {
        let mut stream = connect(to).await?;
        let (mut request, mut answer, mut count, mut latencies) = (Vec::new(), Vec::with_capacity(1024), 0, Vec::new());
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.signatures.len() {
                return Ok((count, latencies));
            }
            self.request(index, &mut request);
            let due = match load.pace {
                Some(pace) => began + Duration::from_secs_f64(f64::from(u32::try_from(index).unwrap_or(0)) / pace),
                None => Instant::now(),
            };
            if load.pace.is_some() {
                tokio::time::sleep_until(due.into()).await;
            }
            let status = match exchange(&mut stream, &request, &mut answer).await {
                // A body that is refused while it is being sent may end the connection before the answer is read.
                Err(_) if load.expected.contains(&503) => {
                    stream = connect(to).await?;
                    503
                }
                status => status?,
            };
            ensure!(load.expected.contains(&status), "delivery {index} was answered with {status}");
            count += 1;
            if status < 300 {
                latencies.push(due.elapsed());
            }
        }
    }
}

async fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn exchange(stream: &mut TcpStream, request: &[u8], answer: &mut Vec<u8>) -> Result<u16> {
    stream.write_all(request).await?;
    read_answer(stream, answer).await
}

/// Reads one answer with a length, and returns its status.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<u16> {
    answer.clear();
    loop {
        ensure!(stream.read_buf(answer).await? > 0, "the connection ended in an answer");
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&answer[..end])?.to_ascii_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length:")).map_or(Ok(0), |value| value.trim().parse::<usize>())?;
        while answer.len() < end + 4 + length {
            ensure!(stream.read_buf(answer).await? > 0, "the connection ended in a body");
        }
        return head.split(' ').nth(1).context("no status")?.parse().context("no status");
    }
}

/// The created hooks, from the requests that created them.
///
/// # Errors
///
/// When a request is not valid for Data Center.
pub fn targets<'a>(made: impl Iterator<Item = (&'a str, &'a [u8])>, ids: &BTreeMap<String, i64>) -> Result<Vec<Target>> {
    made.map(|(slug, body)| {
        let hook: Value = serde_json::from_slice(body)?;
        let url: url::Url = hook["url"].as_str().context("a hook without a URL")?.parse()?;
        let secret = hook["configuration"]["secret"].as_str().context("a hook without a secret")?.to_owned();
        let id = *ids.get(slug).with_context(|| format!("{slug} has no id"))?;
        Ok(Target { path: url.path().to_owned(), secret, id, slug: slug.to_owned() })
    })
    .collect()
}
