//! The cost of a delivery in the receiver, compared with a bare server that only verifies it. Each server has a core of its own;
//! the load generator has the others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::serve::ListenerExt as _;
use http::{HeaderMap, StatusCode, Uri};
use ring::hmac;
use tokio::net::TcpStream;

use crate::Progress;
use crate::deliveries::{Answers, Deliveries, Load, Shape, Target};
use crate::figures::Figures;
use crate::process::{peak, pid, processor_seconds};
use testkit::components::output_of;
use testkit::control_plane::ControlPlane;
use testkit::operator::{Operator, Options};
use testkit::port::free_port;
use testkit::process::{Process, Program};
use testkit::scratch::Scratch;
use testkit::wait::{Seen, wait_until};

/// The argument with which this program runs as the bare server.
pub const BARE: &str = "bare-receiver";
/// Deliveries of one round, which takes one or two seconds of one core.
const COUNT: usize = 16_000;
/// Deliveries before the measurement.
const WARM_UP: usize = 4_000;
/// Rounds at full speed, and as many at half of it. Because other programs also use the machine, the two servers take turns, and
/// a ratio compares two consecutive rounds.
const ROUNDS: usize = 5;
/// The lengths of bodies, in bytes.
const LENGTHS: [(usize, &str); 3] = [(256, "256 B"), (8 * 1024, "8 KiB"), (25 * 1024, "25 KiB")];
/// Concurrent connections at full speed.
const CONNECTIONS: usize = 32;
/// As fast as the server answers.
pub const FULL: Load = Load { connections: CONNECTIONS, pace: None, expected: &[200, 202] };
/// Ten times as many open requests, of which the server may turn some away.
const OVERLOAD: Load = Load { connections: 10 * CONNECTIONS, pace: None, expected: &[200, 202, 503] };
/// Peak memory with so many open requests.
const OVERLOAD_MEMORY: u64 = 128 * 1024 * 1024;

/// What is measured.
pub struct Subject<'a> {
    pub plane: &'a ControlPlane,
    pub program: &'a Path,
    pub options: Options,
    pub targets: Vec<Target>,
}

/// Signs deliveries. None is sent twice, because a duplicate costs less.
pub struct Signer<'a> {
    targets: &'a [Target],
    next: usize,
}

impl<'a> Signer<'a> {
    /// For these targets, with commits numbered from `first`.
    pub const fn new(targets: &'a [Target], first: usize) -> Self {
        Self { targets, next: first }
    }

    /// Signs `count` deliveries that were not sent before.
    ///
    /// # Errors
    ///
    /// When there is no target.
    pub fn sign(&mut self, count: usize, shape: Shape) -> Result<Arc<Deliveries>> {
        let first = self.next;
        self.next += count;
        Deliveries::sign(self.targets, count, first, shape).map(Arc::new)
    }

    /// The deliveries of several rounds.
    ///
    /// # Errors
    ///
    /// When there is no target.
    pub fn rounds(&mut self, rounds: usize, count: usize, shape: Shape) -> Result<Vec<Arc<Deliveries>>> {
        (0..rounds).map(|_| self.sign(count, shape)).collect()
    }
}

/// A server to measure.
pub struct Server {
    process: u32,
    pub address: SocketAddr,
}

/// The result of one round.
pub struct Round {
    pub answers: Answers,
    /// The seconds of its core that it used.
    processor: f64,
}

impl Round {
    /// Deliveries per second of its core. Time in which other processes used the core does not count.
    pub fn rate(&self) -> f64 {
        self.answers.rate() * self.answers.taken.as_secs_f64() / self.processor
    }

    fn p99(&self) -> f64 {
        milliseconds(self.answers.p99())
    }
}

/// A duration in milliseconds.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

impl Server {
    /// Delivers, and measures the processor time.
    ///
    /// # Errors
    ///
    /// When an answer has an unexpected status.
    pub async fn round(&self, deliveries: &Arc<Deliveries>, load: Load) -> Result<Round> {
        let before = processor_seconds(self.process)?;
        let answers = deliveries.send(self.address, load).await?;
        Ok(Round { answers, processor: processor_seconds(self.process)? - before })
    }
}

/// A receiver and the bare server on the first core, and this program on the others. The cluster stands still, so that no route
/// changes.
pub struct Servers {
    pub receiver: Server,
    pub bare: Server,
    operator: Operator,
    others: String,
    _bare: (Process, Scratch),
}

impl Servers {
    /// Starts both.
    ///
    /// # Errors
    ///
    /// When one of them does not start, or there is only one core.
    pub async fn start(subject: &Subject<'_>, options: Options) -> Result<Self> {
        let operator = Operator::start(options.only("receiver")).await?;
        let (bare_process, bare_address) = start_bare(&subject.targets).await?;
        let receiver = Server { process: pid(subject.program)?, address: operator.url().trim_start_matches("http://").parse()? };
        let bare = Server { process: pid(&std::env::current_exe()?)?, address: bare_address };
        subject.plane.hold_still()?;
        let others = others()?;
        pin(std::process::id(), &others).await?;
        for server in [&receiver, &bare] {
            pin(server.process, "0").await?;
        }
        Ok(Self { receiver, bare, operator, others, _bare: bare_process })
    }

    /// The receiver's peak memory in bytes.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn peak(&self) -> Result<u64> {
        peak(self.receiver.process).context("the receiver ended early")
    }

    /// Ends both, and lets the cluster go on. `kill` ends the receiver as a crash does.
    ///
    /// # Errors
    ///
    /// When the receiver fails while stopping.
    pub async fn stop(self, subject: &Subject<'_>, kill: bool) -> Result<()> {
        pin(std::process::id(), &format!("0,{}", self.others)).await?;
        subject.plane.go_on()?;
        if kill {
            self.operator.kill();
            return Ok(());
        }
        ensure!(self.operator.terminate(Duration::from_secs(30)).await?.success(), "the operator failed while stopping");
        Ok(())
    }

    /// Rounds of both servers in turn, with the same deliveries.
    ///
    /// # Errors
    ///
    /// When an answer has an unexpected status.
    pub async fn pairs(&self, rounds: &[Arc<Deliveries>], load: Load) -> Result<Vec<(Round, Round)>> {
        let mut pairs = Vec::with_capacity(rounds.len());
        for deliveries in rounds {
            pairs.push((self.receiver.round(deliveries, load).await?, self.bare.round(deliveries, load).await?));
        }
        Ok(pairs)
    }
}

/// Measures the receiver, and the bare server with the same load.
///
/// # Errors
///
/// When a server does not start or refuses a delivery.
pub async fn measure(subject: &Subject<'_>, figures: &mut Figures, progress: &Progress) -> Result<()> {
    progress.say("delivering to the receiver and to the bare server");
    let servers = Servers::start(subject, subject.options.beside()?).await?;
    let mut signer = Signer::new(&subject.targets, 0);
    // No sink wants this branch.
    let shape = |length| Shape { length, branch: "bench", branches: 1 };
    let warm_up = signer.sign(WARM_UP, shape(LENGTHS[1].0))?;
    for server in [&servers.receiver, &servers.bare] {
        server.round(&warm_up, FULL).await?;
    }
    for (length, name) in LENGTHS {
        progress.say(&format!("delivering bodies of {name}"));
        let rounds = signer.rounds(2 * ROUNDS, COUNT, shape(length))?;
        let (full, half) = rounds.split_at(ROUNDS);
        let full = servers.pairs(full, FULL).await?;
        let pace = median(full.iter().map(|(ours, _)| ours.answers.rate())) / 2.0;
        let half = servers.pairs(half, Load { pace: Some(pace), ..FULL }).await?;
        tell(figures, name, &full, &half);
    }
    progress.say("delivering with ten times as many open requests");
    let overload = servers.receiver.round(&signer.sign(3 * COUNT, shape(LENGTHS[1].0))?, OVERLOAD).await?;
    let accepted = overload.answers.latencies.len();
    figures.at_most(format!("p99 with {} open requests, accepted", OVERLOAD.connections), overload.p99(), " ms", 100.0);
    figures.note("accepted of these", format!("{accepted} of {}", overload.answers.count));
    figures.bytes("peak memory of the receiver until then", servers.peak()?, OVERLOAD_MEMORY);
    servers.stop(subject, false).await
}

fn tell(figures: &mut Figures, name: &str, full: &[(Round, Round)], half: &[(Round, Round)]) {
    let rates = (median(full.iter().map(|(ours, _)| ours.rate())), median(full.iter().map(|(_, bare)| bare.rate())));
    figures.note(format!("deliveries of {name} per second and core"), format!("{:.0}", rates.0));
    figures.note("the same by a bare server with HMAC", format!("{:.0}", rates.1));
    tell_ratio(figures, format!("ratio to the bare server, {name}"), full, 0.7);
    figures.note(format!("p99 at half load, {name}"), format!("{:.2} ms", median(half.iter().map(|(ours, _)| ours.p99()))));
    figures.note("p99 of the bare server at half load", format!("{:.2} ms", median(half.iter().map(|(_, bare)| bare.p99()))));
    let more = median(half.iter().map(|(ours, bare)| ours.p99() - bare.p99()));
    figures.at_most(format!("p99 above the bare server's, {name}"), more, " ms", 3.0);
}

/// Adds the ratio of our rate to the bare server's, with its smallest and largest value.
pub fn tell_ratio(figures: &mut Figures, what: String, pairs: &[(Round, Round)], goal: f64) {
    let ratios: Vec<f64> = pairs.iter().map(|(ours, bare)| ours.rate() / bare.rate()).collect();
    let (least, most) = ratios.iter().fold((f64::MAX, 0.0_f64), |(least, most), ratio| (least.min(*ratio), most.max(*ratio)));
    figures.at_least(what, median(ratios), goal);
    figures.note("smallest and largest ratio of a round", format!("{least:.2} and {most:.2}"));
}

/// The median of some values.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Every core except the first.
fn others() -> Result<String> {
    let cores = std::thread::available_parallelism()?.get();
    ensure!(cores > 1, "two cores are needed: one for the server, the others for the load");
    Ok(if cores == 2 { "1".to_owned() } else { format!("1-{}", cores - 1) })
}

/// Restricts every thread of a process to these cores.
async fn pin(process: u32, cores: &str) -> Result<()> {
    let mut command = Command::new("taskset");
    command.args(["--all-tasks", "--pid", "--cpu-list", cores, &process.to_string()]);
    output_of(command).await.map(drop)
}

/// Starts this program again as the bare server, which ends when the returned value is dropped.
async fn start_bare(targets: &[Target]) -> Result<((Process, Scratch), SocketAddr)> {
    let scratch = Scratch::new("bare")?;
    let (secrets, address) = (scratch.path().join("secrets.json"), SocketAddr::from(([127, 0, 0, 1], free_port()?)));
    let table: HashMap<_, _> = targets.iter().map(|target| (&target.path, &target.secret)).collect();
    std::fs::write(&secrets, serde_json::to_vec(&table)?)?;
    let program = Program::new("bare server", std::env::current_exe()?, scratch.path().join("log"));
    let process = program.argument(BARE).argument(address.to_string()).argument(&secrets).start()?;
    wait_until("the bare server to listen", Duration::from_secs(30), async || {
        Ok(if TcpStream::connect(address).await.is_ok() { Seen::Done(()) } else { Seen::NotYet(process.log_tail(5)) })
    })
    .await?;
    Ok(((process, scratch), address))
}

type Keys = Arc<HashMap<String, hmac::Key>>;

/// Runs the bare server: finds the secret by the path, reads the body and verifies it.
///
/// # Errors
///
/// When the address or the secrets cannot be used.
pub async fn serve_bare(address: &str, secrets: &str) -> Result<()> {
    let table: HashMap<String, String> = serde_json::from_slice(&std::fs::read(secrets)?)?;
    let key = |secret: String| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let keys: Keys = Arc::new(table.into_iter().map(|(path, secret)| (path, key(secret))).collect());
    // Like the receiver; otherwise an answer waits for the acknowledgement of the previous one.
    let listener = tokio::net::TcpListener::bind(address).await?.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, Router::new().fallback(prove).with_state(keys)).await.context("the bare server ended")
}

async fn prove(State(keys): State<Keys>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    let signature = headers.get("x-hub-signature").and_then(|value| hex::decode(value.to_str().ok()?.strip_prefix("sha256=")?).ok());
    match (keys.get(uri.path()), signature) {
        (Some(key), Some(signature)) if hmac::verify(key, &body, &signature).is_ok() => StatusCode::OK,
        _ => StatusCode::UNAUTHORIZED,
    }
}
