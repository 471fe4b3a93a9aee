//! Memory under hostile peers: a controller whose providers send the largest possible answers, and a receiver whose clients never
//! finish their headers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::{GitProviderConnection, RECONCILE_REQUESTED_AT};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Progress;
use crate::figures::Figures;
use crate::process::{peak, pid};
use testkit::control_plane::ControlPlane;
use testkit::operator::{Operator, Options};

/// Servers, each for a connection of its own.
const SERVERS: usize = 8;
/// How long the controller keeps requesting.
const ASKED: Duration = Duration::from_secs(60);
/// Sockets with endless headers.
const SOCKETS: usize = 2000;
/// The bytes of headers that each tries to send.
const HEADERS: usize = 64 * 1024;
/// How long the sockets stay open.
const HELD: Duration = Duration::from_secs(15);
/// The maximum memory of either process.
const GOAL: u64 = 128 * 1024 * 1024;
const MIB: usize = 1024 * 1024;

///
/// # Errors
///
/// When a process does not start or ends.
pub async fn measure(plane: &ControlPlane, program: &Path, options: &Options, figures: &mut Figures, progress: &Progress) -> Result<()> {
    progress.say(&format!("requesting from {SERVERS} hostile servers for {} s", ASKED.as_secs()));
    let (memory, answers) = controller(plane, program, options).await?;
    figures.bytes(format!("peak memory, {SERVERS} hostile servers"), memory, GOAL);
    figures.note("answers of the hostile servers", answers.to_string());
    progress.say(&format!("opening {SOCKETS} sockets with endless headers"));
    let (memory, open) = receiver(program, options).await?;
    figures.bytes(format!("peak memory, {SOCKETS} half-open sockets"), memory, GOAL);
    figures.note("sockets that the receiver kept open", open.to_string());
    Ok(())
}

/// The controller's peak memory, and the number of answers of the servers.
async fn controller(plane: &ControlPlane, program: &Path, options: &Options) -> Result<(u64, usize)> {
    let namespace = plane.cluster().create_namespace("hostile").await?;
    plane.cluster().apply_secret(&namespace, "credential", &[("token", "a-token-that-nobody-knows")]).await?;
    let connections: Api<GitProviderConnection> = Api::namespaced(plane.cluster().client()?, &namespace);
    let (answers, mut servers) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for number in 0..SERVERS {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        servers.spawn(serve(listener, number, Arc::clone(&answers)));
        let object = json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection", "metadata": {"name": format!("hostile-{number}")},
            "spec": {"provider": provider(number, &url), "credentials": {"secretRef": {"name": "credential"}}},
        });
        connections.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    }
    let operator = Operator::start(options.clone().watching(plane, &[&namespace]).await?).await?;
    let process = pid(program)?;
    let began = Instant::now();
    while began.elapsed() < ASKED {
        for number in 0..SERVERS {
            let asked = json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: format!("{:?}", began.elapsed())}}});
            connections.patch(&format!("hostile-{number}"), &PatchParams::default(), &Patch::Merge(asked)).await?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let memory = peak(process).context("the controller ended early")?;
    ensure!(operator.terminate(Duration::from_secs(60)).await?.success(), "the operator failed while stopping");
    Ok((memory, answers.load(Ordering::Relaxed)))
}

fn provider(number: usize, url: &str) -> Value {
    match number % 5 {
        0 => json!({"gitea": {"url": url, "organization": "acme"}}),
        1 => json!({"gitlab": {"url": url, "group": "acme"}}),
        2 => json!({"github": {"url": url, "organization": "acme"}}),
        3 => json!({"bitbucketDataCenter": {"url": url, "project": "ACME"}}),
        _ => json!({"azureDevOps": {"url": url, "organization": "acme"}}),
    }
}

/// Answers each request with the next of the hostile bodies.
async fn serve(listener: TcpListener, number: usize, answers: Arc<AtomicUsize>) {
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let body = number + answers.fetch_add(1, Ordering::Relaxed);
        open.spawn(answer(stream, body));
        while open.try_join_next().is_some() {}
    }
}

/// The peer may disconnect while the answer is written; that is ignored.
async fn answer(mut stream: TcpStream, number: usize) -> std::io::Result<()> {
    let mut request = [0; 8192];
    if stream.read(&mut request).await? == 0 {
        return Ok(());
    }
    let status = if (number / 6).is_multiple_of(2) { "500 Internal Server Error" } else { "200 OK" };
    let (piece, length): (String, Option<usize>) = match number % 6 {
        // Endless.
        0 => ("[".repeat(MIB), None),
        1 => (r#"{"id":1,"name":"a","login":"a"},"#.repeat(32 * 1024), None),
        // 60 MiB, with a content length.
        2 => (r#"{"a":"#.repeat(200 * 1024), Some(60 * MIB)),
        // As deep and as large as the limit allows.
        3 => (r#"{"a":"#.repeat(MIB / 5), Some(4 * MIB - 1024)),
        4 => (format!("[{}", "\"\",".repeat(MIB / 3)), Some(4 * MIB - 1024)),
        _ => (format!("[{}", "{\"id\":1},".repeat(MIB / 9)), None),
    };
    let framing = length.map_or_else(|| "transfer-encoding: chunked".to_owned(), |length| format!("content-length: {length}"));
    stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{framing}\r\n\r\n").as_bytes()).await?;
    let mut left = length.unwrap_or(usize::MAX);
    while left > 0 {
        let part = piece.as_bytes().get(..left.min(piece.len())).unwrap_or_default();
        if length.is_none() {
            stream.write_all(format!("{:x}\r\n", part.len()).as_bytes()).await?;
        }
        stream.write_all(part).await?;
        if length.is_none() {
            stream.write_all(b"\r\n").await?;
        }
        left -= part.len();
    }
    // Keeps the connection open: a client that waits for its end keeps waiting.
    std::future::pending().await
}

/// The receiver's peak memory, and the number of sockets that it kept open to the end.
async fn receiver(program: &Path, options: &Options) -> Result<(u64, usize)> {
    let operator = Operator::start(options.beside()?.only("receiver")).await?;
    let address: SocketAddr = operator.url().trim_start_matches("http://").parse()?;
    let process = pid(program)?;
    let mut sockets = JoinSet::new();
    for _ in 0..SOCKETS {
        sockets.spawn(half_open(address));
    }
    let mut open = 0;
    while let Some(held) = sockets.join_next().await {
        open += usize::from(held?);
    }
    let memory = peak(process).context("the receiver ended early")?;
    ensure!(operator.terminate(Duration::from_secs(60)).await?.success(), "the operator failed while stopping");
    Ok((memory, open))
}

/// Sends endless headers, and returns whether the socket was still open at the end.
async fn half_open(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let lines = "x-filler: ".to_owned() + &"x".repeat(1000) + "\r\n";
    let head = "POST /hooks/a/1 HTTP/1.1\r\nhost: a\r\n".to_owned() + &lines.repeat(HEADERS / lines.len());
    let send = async {
        stream.write_all(head.as_bytes()).await?;
        // An answer or the end of the connection means that the receiver gave up.
        stream.read(&mut [0; 1]).await
    };
    tokio::time::timeout(HELD, send).await.is_err()
}
