//! Tests of the hand-over of an outbox, both sides, over HTTP.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use prometheus_client::registry::Registry;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::super::outbox::{Broken, DeadLetterCause, EventState, Outbox, Record, Storage, on_storage};
use super::super::{OutboxConfig, OutboxIntake, OutboxKind, Peers};
use super::harness::*;
use crate::telemetry::admin::{self, Admin, OutboxEndpoint};

const CONTENT_TYPE: &str = "application/vnd.forgebind.outbox.v1";

/// A directory for an outbox.
fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn on_disk(directory: &Path) -> OutboxConfig {
    OutboxConfig::new(OutboxKind::Disk(directory.to_owned()))
}

/// What is stored in a directory that no receiver uses any more.
async fn stored(directory: &Path) -> Vec<Record> {
    let (outbox, stored) = Outbox::open(&on_disk(directory)).await.unwrap();
    outbox.close().await;
    stored.into_iter().map(|(_, record)| record).collect()
}

/// A receiver of the binding `team/shop` with the sink `a`, which stops within 4 s.
async fn receiver(peers: Option<Peers>, outbox: OutboxConfig, sink: &Sink) -> Harness {
    receiver_within(Duration::from_secs(4), peers, outbox, sink).await
}

/// The same with another limit of its shutdown.
async fn receiver_within(shutdown: Duration, peers: Option<Peers>, outbox: OutboxConfig, sink: &Sink) -> Harness {
    let harness = start_with(None, peers, |config, _| {
        config.outbox = outbox;
        config.limits.shutdown = shutdown;
    })
    .await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("a", sink.port)])));
    harness
}

fn peers(urls: &[&Url]) -> Peers {
    let urls: Vec<Url> = urls.iter().map(|url| (*url).clone()).collect();
    Arc::new(move || urls.clone())
}

/// Serves the admin port of a receiver. `dies` gets the number of the request, from 1: at which the process ends before or after
/// it has taken the deliveries.
async fn admin_port(intake: &OutboxIntake, dies: Dies) -> Url {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let (intake, requests) = (intake.clone(), Arc::new(AtomicUsize::new(0)));
    let accept = move |request| {
        let (intake, number) = (intake.clone(), requests.fetch_add(1, Ordering::SeqCst) + 1);
        async move {
            assert!(number < dies.before, "ends, as the test requests");
            let answer = intake.accept(request).await.map(axum::body::Body::new);
            assert!(number < dies.after, "ends, as the test requests");
            answer
        }
        .boxed()
    };
    let admin = Admin {
        registry: Registry::default(),
        refresh: Vec::new(),
        live: Vec::new(),
        ready: Vec::new(),
        evidence: None,
        outbox: Some(OutboxEndpoint { accept: Box::new(accept), token: key().outbox_token() }),
    };
    tokio::spawn(admin::serve(listener, admin, CancellationToken::new()));
    url
}

/// The numbers of the requests from which on a peer dies.
#[derive(Clone, Copy)]
struct Dies {
    before: usize,
    after: usize,
}

const NEVER: Dies = Dies { before: usize::MAX, after: usize::MAX };

/// A push with a body of about this many bytes.
fn long_push(id: &str, length: usize) -> Shot {
    let mut body: Value = serde_json::from_slice(&push_body(7, "acme/shop", "refs/heads/main", id)).unwrap();
    body["filler"] = json!("x".repeat(length));
    Shot::new(id, body.to_string().into_bytes())
}

fn lost(harness_metrics: &str) -> bool {
    !harness_metrics.contains("forgebind_receiver_lost_deliveries_total 0")
}

/// The value of a metric after the receiver has ended.
fn metrics_of(harness: Harness) -> (impl Future<Output = ()>, impl FnOnce() -> String) {
    let registry = Arc::new(std::sync::Mutex::new(String::new()));
    let written = Arc::clone(&registry);
    let stopping = async move {
        let Harness { stop, server, registry, .. } = harness;
        stop.unwrap().send(()).unwrap();
        tokio::time::timeout(DEADLINE, server).await.expect("it ends").unwrap().unwrap();
        prometheus_client::encoding::text::encode(&mut *written.lock().unwrap(), &registry).unwrap();
    };
    (stopping, move || registry.lock().unwrap().clone())
}

/// Stops a receiver and returns its last metrics.
async fn stop(harness: Harness) -> String {
    let (stopping, metrics) = metrics_of(harness);
    stopping.await;
    metrics()
}

#[tokio::test]
async fn the_states_the_order_and_the_bodies_of_all_deliveries_survive_the_hand_over() {
    let (here, there, sink) = (directory(), directory(), Sink::start(200).await);
    let second = receiver(None, on_disk(there.path()), &sink).await;
    let admin = admin_port(&second.intake, NEVER).await;
    let first = receiver(Some(peers(&[&admin])), on_disk(here.path()), &sink).await;
    for (id, branch) in [("dead", "one"), ("parked", "two")] {
        sink.answers(id, 413);
        assert_eq!(first.send(&Shot::push(id, branch)).await, 202);
    }
    assert_eq!(first.send(&Shot::push("later", "one")).await, 200);
    until("it is a dead letter", || first.seen().sinks["a"].dead_letters == 1).await;
    sink.usually(503);
    for id in ["d-0", "d-1", "d-2"] {
        assert_eq!(first.send(&Shot::push(id, "main")).await, 202);
    }
    let attempts = sink.attempts();
    let metrics = stop(first).await;
    assert!(!lost(&metrics), "{metrics}");
    assert_eq!(stored(here.path()).await, [], "what was handed over is gone here");

    let seen = second.seen().sinks["a"].clone();
    assert_eq!((seen.pending, seen.dead_letters), (4, 1));
    assert!(second.metrics().contains("forgebind_receiver_taken_over_deliveries_total 5"));
    assert_eq!(second.send(&Shot::push("d-1", "main")).await, 200, "it is known as a duplicate");
    sink.usually(200);
    until("the pending events are accepted", || second.seen().sinks["a"].pending == 1).await;
    assert!(sink.attempts() > attempts);
    assert_eq!(sink.accepted_ids(), ["later", "d-0", "d-1", "d-2"]);
    assert_eq!(sink.accepted()[1].body, Shot::push("d-0", "main").body, "as it was received");
    second.stop().await;
    let left = stored(there.path()).await;
    let states: Vec<_> = left.iter().map(|record| (record.envelope.delivery.as_str(), &record.sinks[0].events[0].1)).collect();
    let [("parked", EventState::Parked { attempts: 1, .. }), ("dead", EventState::DeadLetter { reason, .. })] = states.as_slice() else {
        panic!("{states:?}")
    };
    assert_eq!(*reason, DeadLetterCause::Superseded);
}

#[tokio::test]
async fn when_a_peer_dies_in_the_middle_the_next_one_takes_the_rest_and_nothing_is_lost() {
    for dies in [Dies { before: 2, after: usize::MAX }, Dies { before: usize::MAX, after: 2 }] {
        let (directories, sink) = ([directory(), directory(), directory()], Sink::start(503).await);
        let one = receiver(None, on_disk(directories[1].path()), &sink).await;
        let other = receiver(None, on_disk(directories[2].path()), &sink).await;
        let urls = [admin_port(&one.intake, dies).await, admin_port(&other.intake, NEVER).await];
        let first = receiver(Some(peers(&[&urls[0], &urls[1]])), on_disk(directories[0].path()), &sink).await;
        // Each of them is a batch of its own.
        let ids = ["d-0", "d-1", "d-2", "d-3"];
        for id in ids {
            assert_eq!(first.send(&long_push(id, 700_000)).await, 202);
        }
        let metrics = stop(first).await;
        assert!(!lost(&metrics), "{metrics}");
        let pending = |harness: &Harness| harness.seen().sinks["a"].pending;
        let at_the_dead_one = if dies.before == 2 { 1 } else { 2 };
        assert_eq!((pending(&one), pending(&other)), (at_the_dead_one, 3), "the second one may be at both, under one id");
        sink.usually(200);
        until("everything is accepted", || pending(&one) == 0 && pending(&other) == 0).await;
        let mut accepted = sink.accepted_ids();
        accepted.sort_unstable();
        accepted.dedup();
        assert_eq!(accepted, ids);
    }
}

#[tokio::test]
async fn without_a_ready_peer_what_is_pending_is_counted_as_lost_and_a_peer_that_appears_in_time_takes_it() {
    let (here, there, sink) = (directory(), directory(), Sink::start(503).await);
    let first = receiver(Some(peers(&[])), on_disk(here.path()), &sink).await;
    assert_eq!(first.send(&Shot::push("d-1", "main")).await, 202);
    let metrics = stop(first).await;
    assert!(metrics.contains("forgebind_receiver_lost_deliveries_total 1"), "{metrics}");
    assert_eq!(stored(here.path()).await.len(), 1, "a process that opens the same directory has it");

    let second = receiver(None, on_disk(there.path()), &sink).await;
    let (admin, asked) = (admin_port(&second.intake, NEVER).await, AtomicUsize::new(0));
    let late: Peers = Arc::new(move || if asked.fetch_add(1, Ordering::SeqCst) == 0 { Vec::new() } else { vec![admin.clone()] });
    let metrics = stop(receiver(Some(late), on_disk(here.path()), &sink).await).await;
    assert!(!lost(&metrics), "{metrics}");
    assert_eq!(second.seen().sinks["a"].pending, 1);
}

#[tokio::test]
async fn an_outbox_that_is_retained_is_not_lost_and_one_in_memory_is() {
    let (here, sink) = (directory(), Sink::start(503).await);
    for (outbox, count) in [(on_disk(here.path()), 0), (OutboxConfig::new(OutboxKind::Memory), 1)] {
        let first = receiver(None, outbox, &sink).await;
        assert_eq!(first.send(&Shot::push("d-1", "main")).await, 202);
        let metrics = stop(first).await;
        assert!(metrics.contains(&format!("forgebind_receiver_lost_deliveries_total {count}")), "{metrics}");
    }
}

#[tokio::test]
async fn a_peer_whose_outbox_is_in_memory_or_that_stops_takes_nothing() {
    let (here, there, sink) = (directory(), directory(), Sink::start(503).await);
    let in_memory = receiver(None, OutboxConfig::new(OutboxKind::Memory), &sink).await;
    let stopped = receiver(None, on_disk(there.path()), &sink).await;
    let urls = [admin_port(&in_memory.intake, NEVER).await, admin_port(&stopped.intake, NEVER).await];
    stopped.stop().await;
    let first = receiver(Some(peers(&[&urls[0], &urls[1]])), on_disk(here.path()), &sink).await;
    assert_eq!(first.send(&Shot::push("d-1", "main")).await, 202);
    let metrics = stop(first).await;
    assert!(metrics.contains("forgebind_receiver_lost_deliveries_total 1"), "{metrics}");
    assert_eq!(in_memory.seen().sinks.len(), 0);
    assert_eq!((stored(here.path()).await.len(), stored(there.path()).await.len()), (1, 0));
}

#[tokio::test]
async fn a_peer_with_a_broken_disk_takes_nothing() {
    let (here, sink, storage) = (directory(), Sink::start(503).await, Storage::default());
    let outbox = on_storage(&storage, &on_disk(Path::new("/"))).await;
    let broken = start_with(Some(outbox), None, |_, _| ()).await;
    storage.set_broken(Broken::Syncs);
    let admin = admin_port(&broken.intake, NEVER).await;
    let first = receiver(Some(peers(&[&admin])), on_disk(here.path()), &sink).await;
    assert_eq!(first.send(&Shot::push("d-1", "main")).await, 202);
    let metrics = stop(first).await;
    assert!(metrics.contains("forgebind_receiver_lost_deliveries_total 1"), "{metrics}");
    assert!(broken.metrics().contains("forgebind_receiver_pending_deliveries 0"), "memory there is no better place");
}

#[tokio::test]
async fn deliveries_that_neither_disk_nor_memory_can_store_are_refused_and_the_evidence_says_so_as_long_as_that_is_so() {
    let (sink, storage) = (Sink::start(503).await, Storage::default());
    let config = OutboxConfig { memory: 20_000, ..on_disk(Path::new("/")) };
    let harness = start_with(Some(on_storage(&storage, &config).await), None, |_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("a", sink.port)])));
    storage.set_broken(Broken::Everything);
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 202, "memory has room for it");
    assert_eq!(harness.seen().outbox_unavailable, None);
    assert_eq!(harness.send(&Shot::push("d-2", "main")).await, 503);
    assert_eq!(harness.seen().outbox_unavailable, Some(NOW.parse().unwrap()));
    storage.set_broken(Broken::Nothing);
    until("the outbox works again", || harness.seen().outbox_unavailable.is_none()).await;
    assert_eq!(harness.send(&Shot::push("d-2", "main")).await, 202);
}

#[tokio::test]
async fn a_delivery_of_the_greatest_length_is_handed_over() {
    let (here, there, sink) = (directory(), directory(), Sink::start(503).await);
    let second = receiver(None, on_disk(there.path()), &sink).await;
    let admin = admin_port(&second.intake, NEVER).await;
    let first = receiver_within(Duration::from_secs(30), Some(peers(&[&admin])), on_disk(here.path()), &sink).await;
    let shot = long_push("huge", 25 * 1024 * 1024 - 1024);
    assert_eq!(first.send(&shot).await, 202);
    let metrics = stop(first).await;
    assert!(!lost(&metrics), "{metrics}");
    sink.usually(200);
    until("it is accepted", || sink.accepted_ids() == ["huge"]).await;
    assert!(sink.accepted()[0].body == shot.body);
}

#[tokio::test]
async fn the_share_of_a_binding_holds_for_what_is_taken_over() {
    let (here, there, sink) = (directory(), directory(), Sink::start(503).await);
    let small = OutboxConfig { per_binding: 3 * 20_000, ..on_disk(there.path()) };
    let second = receiver(None, small, &sink).await;
    let admin = admin_port(&second.intake, NEVER).await;
    let first = receiver(Some(peers(&[&admin])), on_disk(here.path()), &sink).await;
    for number in 0..5 {
        assert_eq!(first.send(&Shot::push(&format!("d-{number}"), "main")).await, 202);
    }
    let metrics = stop(first).await;
    assert!(!lost(&metrics), "{metrics}");
    assert!(second.metrics().contains("forgebind_receiver_dropped_events_total 2"), "{}", second.metrics());
    assert_eq!(second.seen().dropped.map(|dropped| dropped.count), Some(2));
    sink.usually(200);
    until("the rest is accepted", || second.seen().sinks["a"].pending == 0).await;
    assert_eq!(sink.accepted_ids(), ["d-2", "d-3", "d-4"], "the oldest lost their room");
}

async fn post(url: &Url, token: Option<&SecretString>, kind: &str, body: Vec<u8>) -> u16 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.post(url.join("outbox").unwrap()).header("content-type", kind).body(body);
    if let Some(token) = token {
        request = request.bearer_auth(token.expose_secret());
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn only_the_token_for_the_hand_over_is_accepted_and_garbage_stores_nothing() {
    let (there, sink) = (directory(), Sink::start(503).await);
    let second = receiver(None, on_disk(there.path()), &sink).await;
    let admin = admin_port(&second.intake, NEVER).await;
    let (right, wrong) = (key().outbox_token(), SecretString::from("wrong"));
    for token in [None, Some(&wrong), Some(&key().evidence_token())] {
        assert_eq!(post(&admin, token, CONTENT_TYPE, b"x".to_vec()).await, 401, "who may read evidence must not add deliveries");
    }
    assert_eq!(second.client.get(admin.join("outbox").unwrap()).send().await.unwrap().status(), 405);
    assert_eq!(post(&admin, Some(&right), "application/json", Vec::new()).await, 415, "another version of the format");
    let cut = [&9_u32.to_be_bytes(), b"{\"uid\":".as_slice()].concat();
    let no_record = [&2_u32.to_be_bytes(), b"{}".as_slice(), &0_u32.to_be_bytes()].concat();
    for garbage in [b"garbage".to_vec(), cut, no_record, u32::MAX.to_be_bytes().to_vec(), vec![0xff; 100_000]] {
        assert_eq!(post(&admin, Some(&right), CONTENT_TYPE, garbage).await, 400);
    }
    assert_eq!(post(&admin, Some(&right), CONTENT_TYPE, Vec::new()).await, 200, "an empty batch");
    assert!(second.metrics().contains("forgebind_receiver_pending_deliveries 0"));
}

#[tokio::test]
async fn an_endless_batch_is_cut_off_and_without_the_token_it_is_not_even_read() {
    let (there, sink) = (directory(), Sink::start(503).await);
    let second = receiver(None, on_disk(there.path()), &sink).await;
    let admin = admin_port(&second.intake, NEVER).await;
    let address = (admin.host_str().unwrap(), admin.port().unwrap());
    let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 65536], b"\r\n"].concat();
    for (token, status, most) in [("wrong", "401", 16 << 20), (key().outbox_token().expose_secret(), "413", 96 << 20)] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let header = format!(
            "POST /outbox HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: {CONTENT_TYPE}\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        stream.write_all(header.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let endless = async {
            let mut sent = 0;
            while write.write_all(&chunk).await.is_ok() {
                sent += chunk.len();
                assert!(sent < most, "{sent} bytes were read of {status}");
            }
        };
        let mut answer = Vec::new();
        let answered = async { while read.read_buf(&mut answer).await.is_ok_and(|length| length > 0) {} };
        tokio::time::timeout(DEADLINE, futures::future::join(endless, answered)).await.expect("the connection is closed");
        assert!(String::from_utf8_lossy(&answer).starts_with(&format!("HTTP/1.1 {status}")), "{}", String::from_utf8_lossy(&answer));
    }
    let too_long = format!(
        "POST /outbox HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: {CONTENT_TYPE}\r\ncontent-length: 1000000000\r\n\r\n",
        key().outbox_token().expose_secret()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(too_long.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413", "before anything of it arrives");
}
