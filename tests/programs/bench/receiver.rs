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
use crate::deliveries::{Answers, Deliveries, Target};
use crate::figures::Figures;
use crate::process::{pid, processor_seconds};
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

/// A server to measure.
struct Server {
    process: u32,
    address: SocketAddr,
}

/// The result of one round.
struct Round {
    answers: Answers,
    /// The seconds of its core that it used.
    processor: f64,
}

impl Round {
    /// Deliveries per second of its core. Time in which other processes used the core does not count.
    fn rate(&self) -> f64 {
        self.answers.rate() * self.answers.taken.as_secs_f64() / self.processor
    }

    fn p99(&self) -> f64 {
        self.answers.p99().as_secs_f64() * 1000.0
    }
}

/// Measures the receiver, and the bare server with the same load.
///
/// # Errors
///
/// When a server does not start or refuses a delivery.
pub async fn measure(
    plane: &ControlPlane,
    program: &Path,
    options: &Options,
    targets: &[Target],
    figures: &mut Figures,
    progress: &Progress,
) -> Result<()> {
    progress.say("signing deliveries");
    let mut first = 0;
    let mut signed = |count: usize| {
        first += count;
        Deliveries::sign(targets, count, first - count).map(Arc::new)
    };
    let warm_up = signed(WARM_UP)?;
    // No delivery is sent twice, because a duplicate costs less.
    let rounds = (0..2 * ROUNDS).map(|_| signed(COUNT)).collect::<Result<Vec<_>>>()?;
    let (full, half) = rounds.split_at(ROUNDS);

    progress.say("delivering to the receiver and to the bare server");
    let operator = Operator::start(options.beside()?.only("receiver")).await?;
    let (_bare, bare_address) = start_bare(targets).await?;
    let receiver = Server { process: pid(program)?, address: operator.url().trim_start_matches("http://").parse()? };
    let bare = Server { process: pid(&std::env::current_exe()?)?, address: bare_address };
    // During these seconds its routes do not change.
    plane.hold_still()?;
    let others = others()?;
    pin(std::process::id(), &others).await?;
    for server in [&receiver, &bare] {
        pin(server.process, "0").await?;
        server.round(&warm_up, None).await?;
    }
    let full = pairs(&receiver, &bare, full, None).await?;
    let pace = median(full.iter().map(|(ours, _)| ours.answers.rate())) / 2.0;
    let half = pairs(&receiver, &bare, half, Some(pace)).await?;
    pin(std::process::id(), &format!("0,{others}")).await?;
    plane.go_on()?;
    ensure!(operator.terminate(Duration::from_secs(30)).await?.success(), "the operator failed while stopping");
    tell(figures, &full, &half);
    Ok(())
}

fn tell(figures: &mut Figures, full: &[(Round, Round)], half: &[(Round, Round)]) {
    let rates = (median(full.iter().map(|(ours, _)| ours.rate())), median(full.iter().map(|(_, bare)| bare.rate())));
    figures.note("deliveries of 8 KiB per second and core", format!("{:.0}", rates.0));
    figures.note("the same by a bare server with HMAC", format!("{:.0}", rates.1));
    let ratios: Vec<f64> = full.iter().map(|(ours, bare)| ours.rate() / bare.rate()).collect();
    let (least, most) = ratios.iter().fold((f64::MAX, 0.0_f64), |(least, most), ratio| (least.min(*ratio), most.max(*ratio)));
    figures.at_least("ratio to the bare server", median(ratios), 0.7);
    figures.note("smallest and largest ratio of a round", format!("{least:.2} and {most:.2}"));
    figures.note("p99 at half load", format!("{:.2} ms", median(half.iter().map(|(ours, _)| ours.p99()))));
    figures.note("p99 of the bare server at half load", format!("{:.2} ms", median(half.iter().map(|(_, bare)| bare.p99()))));
    let more = median(half.iter().map(|(ours, bare)| ours.p99() - bare.p99()));
    figures.at_most("p99 above the bare server's", more, " ms", 3.0);
}

/// Rounds of both servers in turn, with the same deliveries.
async fn pairs(receiver: &Server, bare: &Server, rounds: &[Arc<Deliveries>], pace: Option<f64>) -> Result<Vec<(Round, Round)>> {
    let mut pairs = Vec::with_capacity(rounds.len());
    for deliveries in rounds {
        pairs.push((receiver.round(deliveries, pace).await?, bare.round(deliveries, pace).await?));
    }
    Ok(pairs)
}

impl Server {
    /// Delivers as fast as possible, or at a pace.
    async fn round(&self, deliveries: &Arc<Deliveries>, pace: Option<f64>) -> Result<Round> {
        let before = processor_seconds(self.process)?;
        let answers = deliveries.send(self.address, pace).await?;
        Ok(Round { answers, processor: processor_seconds(self.process)? - before })
    }
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
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
