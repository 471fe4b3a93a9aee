//! Tests of the limits of connections and of the shutdown.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::harness::*;

/// Reads until the peer closes the connection.
async fn closed(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset also ends the connection.
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut text)).await.expect("the connection is closed");
    String::from_utf8_lossy(&text).into_owned()
}

async fn with_gitea(adjust: impl FnOnce(&mut super::super::ReceiverConfig)) -> Harness {
    let harness = start(|config, _| adjust(config)).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|_| ()));
    harness
}

#[tokio::test]
async fn load_balancers_may_ask_the_port_that_they_send_to() {
    let harness = start(|_, _| ()).await;
    for (method, path, code) in
        [("GET", "/", 200), ("HEAD", "/", 200), ("GET", "/healthz", 200), ("HEAD", "/healthz?a=b", 200), ("GET", "/hooks", 405)]
    {
        let request = harness.client.request(method.parse().unwrap(), format!("http://{}{path}", harness.address));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), code, "{method} {path}");
        let expected = match (method, code) {
            ("HEAD", _) => "",
            (_, 200) => "ok\n",
            _ => "only POST is allowed\n",
        };
        assert_eq!(answer.text().await.unwrap(), expected, "{method} {path}");
    }
    assert_eq!(harness.client.post(format!("http://{}/healthz", harness.address)).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn half_open_connections_are_closed_and_free_their_slots() {
    let harness = with_gitea(|config| {
        config.limits.header = Duration::from_millis(200);
        config.limits.connections = 10;
    })
    .await;
    let mut silent = Vec::new();
    for number in 0..10 {
        let mut stream = TcpStream::connect(harness.address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"POST /hooks/x/1 HTTP/1.1\r\nhost: x\r\n").await.unwrap();
        }
        silent.push(stream);
    }
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200, "a slot became free");
    for stream in &mut silent {
        assert_eq!(closed(stream).await, "");
    }
}

#[tokio::test]
async fn a_header_that_arrives_too_slowly_closes_the_connection() {
    let harness = with_gitea(|config| config.limits.header = Duration::from_millis(300)).await;
    let mut stream = TcpStream::connect(harness.address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
    let trickle = async {
        while stream.write_all(b"x: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, trickle).await.expect("a busy connection is closed too");
}

#[tokio::test]
async fn a_kept_alive_connection_may_be_idle_for_longer_than_a_header_may_take() {
    let harness = with_gitea(|config| {
        config.limits.header = Duration::from_millis(200);
        config.limits.idle = Duration::from_secs(4);
    })
    .await;
    let mut stream = TcpStream::connect(harness.address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut answer = [0; 12];
    for _ in 0..2 {
        stream.write_all(request).await.unwrap();
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        // Longer than the header timeout: the idle timeout is tested here.
        tokio::time::sleep(Duration::from_millis(500)).await;
        while stream.try_read(&mut [0; 1024]).is_ok() {}
    }
    closed(&mut stream).await;
    // The next header has its own limit again.
    let mut stream = TcpStream::connect(harness.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    stream.write_all(b"POST").await.unwrap();
    closed(&mut stream).await;
}

#[tokio::test]
async fn a_body_that_does_not_arrive_gets_503() {
    let harness = with_gitea(|config| config.limits.body = Duration::from_millis(200)).await;
    let mut stream = TcpStream::connect(harness.address).await.unwrap();
    let path = path_of("team", "shop", &secret_version(0));
    let header = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345");
    stream.write_all(header.as_bytes()).await.unwrap();
    assert!(closed(&mut stream).await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn an_endless_body_is_cut_off_near_the_limit() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&other());
    harness.routes.apply_binding(&binding(|_| ()));
    let mut stream = TcpStream::connect(harness.address).await.unwrap();
    let path = path_of("team", "shop", &secret_version(0));
    let header = format!("POST {path} HTTP/1.1\r\nhost: x\r\nx-token: right\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(header.as_bytes()).await.unwrap();
    let chunk = [b"1000\r\n".as_slice(), &[b'x'; 4096], b"\r\n"].concat();
    let endless = async { while stream.write_all(&chunk).await.is_ok() {} };
    tokio::time::timeout(DEADLINE, endless).await.expect("the connection is closed");
    assert!(harness.metrics().contains(r#"reason="body_too_large"} 1"#));
}

#[tokio::test]
async fn the_shutdown_tries_pending_events_once_more() {
    let sink = Sink::start(503).await;
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("a", sink.port)])));
    assert_eq!(harness.send(&Shot::push("pending", "main")).await, 202);
    assert_eq!(harness.send(&Shot::push("too", "dev")).await, 202);
    sink.usually(200);
    harness.stop().await;
    assert_eq!(sink.accepted_ids(), ["pending", "too"], "what is in memory is lost otherwise");
}

#[tokio::test]
async fn the_shutdown_waits_for_a_delivery_in_flight() {
    let sink = Sink::start(SILENT).await;
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("a", sink.port)])));
    let request = harness.request(&Shot::push("d-1", "main"));
    let sending = tokio::spawn(async move { request.send().await.map(|response| response.status().as_u16()) });
    until("the delivery is being processed", || harness.seen().last_delivery.is_some()).await;
    let address = harness.address;
    let release = async {
        until("no connection is accepted", || std::net::TcpStream::connect(address).is_err()).await;
        sink.usually(200);
    };
    futures::future::join(harness.stop(), release).await;
    assert_eq!(sending.await.unwrap().unwrap(), 200);
    assert_eq!(sink.accepted_ids(), ["d-1"]);
}

#[tokio::test]
async fn a_sink_that_stays_down_does_not_block_the_shutdown() {
    let sink = Sink::start(503).await;
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("a", sink.port)])));
    assert_eq!(harness.send(&Shot::push("pending", "main")).await, 202);
    harness.stop().await;
    assert_eq!(sink.accepted_ids(), Vec::<String>::new());
}

#[tokio::test]
async fn a_header_above_16_kib_is_refused_and_one_below_is_read() {
    let harness = with_gitea(|_| ()).await;
    let request = |length: usize| harness.request(&Shot::push("d-1", "main")).header("x-filling", "x".repeat(length));
    assert_eq!(request(15 * 1024).send().await.unwrap().status(), 200);
    let refused = request(17 * 1024).send().await;
    assert!(refused.is_err() || refused.unwrap().status() == 431, "a client that still reads gets the status");
    assert_eq!(harness.seen().last_delivery.unwrap().id, "d-1");
}

#[tokio::test]
async fn one_peer_gets_503_beyond_its_limit_of_connections() {
    let harness = with_gitea(|config| {
        config.limits.connections = 10;
        config.limits.per_peer = 3;
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(harness.address).await.unwrap());
    }
    until("they are accepted", || harness.metrics().contains("forgebind_receiver_connections 3")).await;
    let mut one_more = TcpStream::connect(harness.address).await.unwrap();
    assert!(closed(&mut one_more).await.starts_with("HTTP/1.1 503"));
    assert!(harness.metrics().contains(r#"forgebind_receiver_refusals_total{reason="peer_share"} 1"#));
    drop(held.pop());
    until("a place is free", || harness.metrics().contains("forgebind_receiver_connections 2")).await;
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
}

#[test]
fn the_default_limits_bound_the_memory_of_headers() {
    let limits = super::super::ServerLimits::default();
    assert_eq!((limits.connections, limits.per_peer, limits.bytes_in_flight), (1024, 768, 64 << 20));
}
