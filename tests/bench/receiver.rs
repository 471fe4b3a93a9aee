//! What a delivery costs the receiver, beside a bare server that does nothing but prove it. Each has one core for itself; the
//! load has the others.

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
use crate::support::components::output_of;
use crate::support::control_plane::ControlPlane;
use crate::support::operator::{Operator, Options};
use crate::support::port::free_port;
use crate::support::process::{Process, Program};
use crate::support::scratch::Scratch;
use crate::support::wait::{Seen, wait_until};

/// The argument with which this program is the bare server.
pub const BARE: &str = "bare-receiver";
/// Deliveries of one run: a few seconds of one core.
const COUNT: usize = 40_000;
/// How many are sent before it counts.
const WARM_UP: usize = 4_000;

/// What one server did.
struct Measured {
    full: Answers,
    half: Answers,
    /// The share of its core that it used at full speed.
    busy: f64,
}

/// Measures the receiver alone, and the bare server at the same load.
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
    let runs = [signed(WARM_UP)?, signed(COUNT)?, signed(COUNT)?];

    progress.say("delivering to the receiver");
    let operator = Operator::start(options.beside()?.only("receiver")).await?;
    // For these seconds its routes are what they are.
    plane.hold_still()?;
    let receiver = run(pid(program)?, operator.url().trim_start_matches("http://").parse()?, &runs, None).await?;
    progress.say("delivering to the bare server");
    let (server, address) = start_bare(targets).await?;
    let bare = run(pid(&std::env::current_exe()?)?, address, &runs, Some(receiver.full.rate() / 2.0)).await?;
    drop(server);
    plane.go_on()?;
    ensure!(operator.terminate(Duration::from_secs(30)).await?.success(), "it did not stop well");

    figures.note("deliveries a second of 8 KiB, one core", format!("{:.0}", receiver.full.rate()));
    figures.note("by a bare server with HMAC", format!("{:.0}", bare.full.rate()));
    figures.note("share of the core in use meanwhile", format!("{:.0} % and {:.0} %", receiver.busy * 100.0, bare.busy * 100.0));
    figures.at_least("ratio to the bare server", receiver.full.rate() / bare.full.rate(), 0.7);
    let (p99, bare_p99) = (milliseconds(receiver.half.p99()), milliseconds(bare.half.p99()));
    figures.note("p99 at half load", format!("{p99:.2} ms"));
    figures.note("p99 of the bare server at that load", format!("{bare_p99:.2} ms"));
    figures.at_most("p99 above the bare server's", p99 - bare_p99, " ms", 3.0);
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Full speed, then the pace, or half of that speed.
async fn run(server: u32, address: SocketAddr, runs: &[Arc<Deliveries>; 3], pace: Option<f64>) -> Result<Measured> {
    let [warm_up, full, half] = runs;
    let others = others()?;
    pin(server, "0").await?;
    pin(std::process::id(), &others).await?;
    warm_up.send(address, None).await?;
    let before = processor_seconds(server)?;
    let full = full.send(address, None).await?;
    let busy = (processor_seconds(server)? - before) / full.taken.as_secs_f64();
    let half = half.send(address, Some(pace.unwrap_or(full.rate() / 2.0))).await?;
    pin(std::process::id(), &format!("0,{others}")).await?;
    Ok(Measured { full, half, busy })
}

/// Every core but the first.
fn others() -> Result<String> {
    let cores = std::thread::available_parallelism()?.get();
    ensure!(cores > 1, "with one core the load and the server cannot be told apart");
    Ok(if cores == 2 { "1".to_owned() } else { format!("1-{}", cores - 1) })
}

/// Puts every thread of a process on these cores.
async fn pin(process: u32, cores: &str) -> Result<()> {
    let mut command = Command::new("taskset");
    command.args(["--all-tasks", "--pid", "--cpu-list", cores, &process.to_string()]);
    output_of(command).await.map(drop)
}

/// Starts this program again as the bare server. It ends when what is answered is dropped.
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

/// Serves as the bare server: finds the secret by the path, takes the body and proves it.
///
/// # Errors
///
/// When the address or the secrets cannot be used.
pub async fn serve_bare(address: &str, secrets: &str) -> Result<()> {
    let table: HashMap<String, String> = serde_json::from_slice(&std::fs::read(secrets)?)?;
    let key = |secret: String| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let keys: Keys = Arc::new(table.into_iter().map(|(path, secret)| (path, key(secret))).collect());
    // As the receiver does: else an answer waits for the acknowledgement of the one before it.
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
