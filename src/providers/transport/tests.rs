//! Tests the transport against a server with scripted faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::StreamExt as _;
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use prometheus_client::registry::Registry;
use url::Url;

use super::test_server::{Server, TOKEN, answer, authorized, factory, json, local_policy, settings};
use super::*;
use crate::clock::{Clock, SystemClock};
use crate::providers::listing::Entries;
use crate::providers::{Endpoint, ErrorKind};

fn read(url: Url) -> Call {
    Call::read(Operation::ListHooks, Method::GET, url)
}

fn write(url: Url) -> Call {
    Call::write(Operation::CreateHook, Method::POST, url).json(&serde_json::json!({"a": 1}))
}

async fn refusal(response: Response) -> crate::providers::ProviderError {
    let server = Server::start([response]).await;
    server.transport().send(write(server.url("/api/v1/x"))).await.unwrap().success().unwrap_err()
}

#[tokio::test]
async fn refusals_carry_the_providers_words_without_its_secrets() {
    let error = refusal(answer(
        401,
        &[("content-type", "application/json"), ("x-request-id", "r-1")],
        &format!(r#"{{"message":"bad\ntoken {TOKEN} at https://a:b@host/x?token={TOKEN}"}}"#),
    ))
    .await;
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    assert_eq!(error.message, "HTTP 401 Unauthorized: bad token … at https://host/x");
    assert_eq!(error.request_id.as_deref(), Some("r-1"));
    assert_eq!(refusal(json(403, "{}")).await.kind, ErrorKind::PermissionDenied);
    assert_eq!(refusal(json(404, "{}")).await.kind, ErrorKind::NotFound);
    assert_eq!(refusal(json(422, "{}")).await.kind, ErrorKind::Rejected);
    assert_eq!(refusal(answer(403, &[("content-type", "text/html")], "<h1>Blocked</h1>")).await.kind, ErrorKind::ResponseInvalid);
}

#[tokio::test]
async fn what_a_call_conceals_is_in_no_error() {
    let server = Server::start([json(422, r#"{"message":"Invalid url: https://in.acme.io/hooks/unguessable/1"}"#)]).await;
    let call = write(server.url("/api/v1/x")).conceal("https://in.acme.io/hooks/unguessable/1");
    let error = server.transport().send(call).await.unwrap().success().unwrap_err();
    assert_eq!(error.message, "HTTP 422 Unprocessable Entity: Invalid url: …");
}

#[tokio::test]
async fn a_rate_limit_names_its_end_and_stops_everyone_of_the_same_identity() {
    let now = SystemClock.now();
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&(now + SignedDuration::from_secs(120))).unwrap();
    let epoch = (now + SignedDuration::from_secs(120)).as_second().to_string();
    for (status, headers) in [
        (429, vec![("retry-after", "120")]),
        (429, vec![("retry-after", date.as_str())]),
        (429, vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", epoch.as_str())]),
        (429, vec![("ratelimit-remaining", "0"), ("ratelimit-reset", "120")]),
        (403, vec![("retry-after", "120")]),
    ] {
        let server = Server::start([answer(status, &headers, "Retry later")]).await;
        let factory = factory(Arc::new(Unleased));
        let first = server.transport_with(&factory, None);
        let error = first.send(read(server.url("/api/v1/x"))).await.unwrap().success().unwrap_err();
        assert_eq!(error.kind, ErrorKind::RateLimited, "{headers:?}");
        let about = |time: Timestamp| (118..=180).contains(&time.duration_since(now).as_secs());
        assert!(error.retry_at.is_some_and(about), "{headers:?}: {:?}", error.retry_at);

        let second = server.transport_with(&factory, None);
        let error = second.send(read(server.url("/api/v1/x"))).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::RateLimited);
        assert!(error.retry_at.is_some_and(about));
        assert_eq!(server.lines().len(), 1, "the second call was not sent");
    }
}

#[tokio::test]
async fn a_rate_limit_without_a_time_waits_a_minute() {
    let error = refusal(answer(429, &[], "")).await;
    let wait = error.retry_at.unwrap().duration_since(SystemClock.now()).as_secs();
    assert!((1..=60).contains(&wait), "{wait}");
}

#[tokio::test]
async fn reads_are_sent_again_and_writes_are_not() {
    let server = Server::start([json(502, "{}"), answer(503, &[], ""), json(200, "[]")]).await;
    server.transport().send(read(server.url("/api/v1/x"))).await.unwrap().success().unwrap();
    assert_eq!(server.lines().len(), 3);

    let server = Server::start([json(502, "{}"), json(502, "{}"), json(502, "{}"), json(200, "[]")]).await;
    let error = server.transport().send(read(server.url("/api/v1/x"))).await.unwrap().success().unwrap_err();
    assert_eq!((error.kind, server.lines().len()), (ErrorKind::Transient, 3));

    let server = Server::start([json(502, "{}"), json(201, "{}")]).await;
    let error = server.transport().send(write(server.url("/api/v1/x"))).await.unwrap().success().unwrap_err();
    assert_eq!((error.kind, server.lines().len()), (ErrorKind::Transient, 1));
    assert!(error.kind.is_ambiguous());
}

#[tokio::test]
async fn a_page_or_a_broken_document_is_no_answer() {
    for response in
        [answer(200, &[("content-type", "text/html; charset=utf-8")], "<html>Sign in</html>"), json(200, "{\"secret\": "), json(200, "")]
    {
        let server = Server::start([response]).await;
        let answer = server.transport().send(read(server.url("/api/v1/x"))).await.unwrap();
        let error = answer.json::<Vec<String>>().unwrap_err();
        assert_eq!(error.kind, ErrorKind::ResponseInvalid, "{error}");
        assert!(!error.message.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let announced = Response::builder().header("content-type", "application/json").body(Body::from(vec![b' '; 5 * 1024 * 1024])).unwrap();
    let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 64 * 1024]))).take(1600);
    let streamed = Response::builder().header("content-type", "application/json").body(Body::from_stream(chunks)).unwrap();
    for response in [announced, streamed] {
        let server = Server::start([response]).await;
        let error = server.transport().send(read(server.url("/api/v1/x"))).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ResponseInvalid);
        assert!(error.message.contains("longer than 4194304 bytes"), "{error}");
    }
}

/// An endless body, and the number of bytes read from it.
fn endless(status: u16, content_type: &str) -> (Response, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let chunks = futures::stream::repeat_with(move || {
        counted.fetch_add(16 * 1024, Ordering::Relaxed);
        Ok::<_, std::io::Error>(Bytes::from(vec![b'['; 16 * 1024]))
    });
    let response = Response::builder().status(status).header("content-type", content_type).body(Body::from_stream(chunks)).unwrap();
    (response, taken)
}

#[tokio::test]
async fn of_a_refusal_a_redirect_and_a_web_page_only_the_beginning_is_read() {
    for (status, content_type, kind) in [
        (400, "application/json", ErrorKind::Rejected),
        (401, "application/json", ErrorKind::Unauthenticated),
        (404, "text/plain", ErrorKind::NotFound),
        (500, "application/json", ErrorKind::Transient),
        (302, "application/json", ErrorKind::ResponseInvalid),
        (200, "text/html", ErrorKind::ResponseInvalid),
    ] {
        let (response, taken) = endless(status, content_type);
        let server = Server::start([response]).await;
        let answer = server.transport().send(write(server.url("/api/v1/x"))).await.unwrap();
        assert_eq!((answer.refusal(), answer.body().len()), (Some(kind), 64 * 1024), "{status}");
        drop(answer);
        // The sockets' buffers in the kernel hold the rest.
        assert!(taken.load(Ordering::Relaxed) < 16 * 1024 * 1024, "{status}: {taken:?}");
    }
    let announced = Response::builder().status(500).body(Body::from(vec![b'x'; 5 * 1024 * 1024])).unwrap();
    let server = Server::start([announced]).await;
    let error = server.transport().send(write(server.url("/api/v1/x"))).await.unwrap().success().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient, "its length does not matter: {error}");
    assert!(error.message.chars().count() <= 300, "{error}");
}

#[tokio::test]
async fn large_answers_of_all_servers_share_one_budget_and_small_ones_need_none() {
    let large = || json(200, &format!("\"{}\"", "x".repeat(1024 * 1024)));
    let server = Server::start([large(), json(200, "[]"), large()]).await;
    let factory = factory(Arc::new(Unleased)).with_byte_budget(3 * 1024 * 1024);
    let (one, other) = (server.transport_with(&factory, None), server.transport_with(&factory, None));
    let first = one.send(read(server.url("/api/v1/1"))).await.unwrap();
    assert!(other.send(read(server.url("/api/v1/2"))).await.is_ok(), "a small one goes beside it");
    let mut second = std::pin::pin!(other.send(read(server.url("/api/v1/3"))));
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut second).await.is_err(), "there is no room while the first is held");
    assert_eq!(first.json::<String>().unwrap().len(), 1024 * 1024);
    assert_eq!(second.await.unwrap().body().len(), 1024 * 1024 + 2);
}

#[tokio::test(start_paused = true)]
async fn room_is_not_kept_for_a_server_that_stops_to_send() {
    let chunks = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1024 * 1024]))]).chain(futures::stream::pending());
    let stuck = Response::builder().header("content-type", "application/json").body(Body::from_stream(chunks)).unwrap();
    let server = Server::start([stuck]).await;
    let started = tokio::time::Instant::now();
    let error = server.transport().send(write(server.url("/api/v1/x"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test]
async fn documents_that_unfold_in_memory_are_refused() {
    let entries = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    for body in [
        "[".repeat(3 * 1024 * 1024),
        r#"{"a":"#.repeat(800_000),
        format!("[{}]", vec!["0"; 1_000_000].join(",")),
        entries(500_000),
        format!(r#"[{{"events":[{}]}}]"#, vec!["\"\""; 1_000_000].join(",")),
    ] {
        let server = Server::start([json(200, &body)]).await;
        let answer = server.transport().send(read(server.url("/api/v1/x"))).await.unwrap();
        let error = answer.read::<serde_json::Value>().unwrap_err();
        assert_eq!(error.kind, ErrorKind::ResponseInvalid, "{error}");
        assert!(error.message.len() < 200, "{error}");
    }
    let read = |count: usize| crate::text::json::read::<Entries<std::collections::BTreeMap<String, u8>>>(entries(count).as_bytes()).is_ok();
    assert!(read(1000) && !read(1001), "no page holds more");
}

#[tokio::test]
async fn a_body_that_is_cut_is_ambiguous() {
    let cut = || {
        let chunks = [Ok(Bytes::from_static(b"[{\"id\":")), Err(std::io::Error::other("gone"))];
        Response::builder().header("content-type", "application/json").body(Body::from_stream(futures::stream::iter(chunks))).unwrap()
    };
    let server = Server::start([cut()]).await;
    let error = server.transport().send(write(server.url("/api/v1/x"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");
}

#[tokio::test]
async fn reads_follow_redirects_to_the_same_origin_only() {
    let moved = |status: u16, location: &str| answer(status, &[("location", location)], "");
    let server = Server::start([moved(301, "/api/v1/repos/acme/new?a=1"), moved(307, "/api/v1/third"), json(200, "[]")]).await;
    let answer = server.transport().send(read(server.url("/api/v1/repos/acme/old"))).await.unwrap();
    assert_eq!(answer.url().path(), "/api/v1/third");
    assert_eq!(server.lines(), ["GET /api/v1/repos/acme/old", "GET /api/v1/repos/acme/new?a=1", "GET /api/v1/third"]);

    let server = Server::start((0..9).map(|_| moved(302, "/api/v1/again"))).await;
    let error = server.transport().send(read(server.url("/api/v1/x"))).await.unwrap_err();
    assert_eq!((error.kind, server.lines().len()), (ErrorKind::ResponseInvalid, 4));

    let server = Server::start([moved(301, "/api/v1/y"), json(201, "{}")]).await;
    let error = server.transport().send(write(server.url("/api/v1/x"))).await.unwrap().success().unwrap_err();
    assert_eq!((error.kind, server.lines().len()), (ErrorKind::ResponseInvalid, 1), "a write follows nothing");
}

#[tokio::test]
async fn df_20_no_byte_of_the_credential_reaches_another_host() {
    let other = Server::start([json(200, "[]"), json(200, "[]")]).await;
    let location = other.url("/login").to_string();
    let server = Server::start([answer(302, &[("location", location.as_str())], "")]).await;
    let transport = server.transport();
    let error = transport.send(read(server.url("/api/v1/x"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ResponseInvalid);
    let error = transport.send(read(other.url("/api/v1/x"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::HostNotAllowed);
    assert!(other.seen.lock().unwrap().is_empty());
    assert!(server.seen.lock().unwrap()[0].head.contains("authorization"), "{:?}", server.seen.lock().unwrap()[0]);
}

#[tokio::test]
async fn a_link_to_the_host_behind_the_proxy_is_brought_back() {
    let server = Server::start([answer(301, &[("location", "http://git.internal:3000/api/v1/repos/acme/new")], ""), json(200, "[]")]).await;
    server.transport().send(read(server.url("/api/v1/x"))).await.unwrap();
    assert_eq!(server.lines(), ["GET /api/v1/x", "GET /api/v1/repos/acme/new"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_ambiguous() {
    let server = Server::start([]).await;
    let error = server.transport().send(write(server.url("/api/v1/x"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");
}

struct Remaining(Option<Duration>);

impl Lease for Remaining {
    fn remaining(&self) -> Option<Duration> {
        self.0
    }
}

#[tokio::test]
async fn nothing_is_sent_without_enough_of_the_lease() {
    let server = Server::start([json(200, "[]")]).await;
    for remaining in [None, Some(Duration::ZERO), Some(Duration::from_millis(2900))] {
        let transport = server.transport_with(&factory(Arc::new(Remaining(remaining))), None);
        let error = transport.send(read(server.url("/api/v1/x"))).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotLeading, "{remaining:?}");
    }
    assert!(server.lines().is_empty());
    let transport = server.transport_with(&factory(Arc::new(Remaining(Some(Duration::from_secs(10))))), None);
    assert!(transport.send(read(server.url("/api/v1/x"))).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_two_seconds_before_the_lease() {
    let server = Server::start([]).await;
    let transport = server.transport_with(&factory(Arc::new(Remaining(Some(Duration::from_secs(12))))), None);
    let started = tokio::time::Instant::now();
    let error = transport.send(write(server.url("/api/v1/x"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient);
    assert!(started.elapsed() <= Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_closed_port_and_an_unknown_name_are_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    for base in [format!("http://{closed}"), "http://no-such-host.invalid".to_owned()] {
        let url: Url = base.parse().unwrap();
        let endpoint = Endpoint { web: url.clone(), api: url.clone(), further_origins: Vec::new(), scope: None };
        let settings = settings(&endpoint, "");
        let error = factory(Arc::new(Unleased)).transport(settings).unwrap().send(write(url)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    }
}

#[tokio::test]
async fn a_proxy_is_used_and_its_refusals_are_its_own() {
    let login = Some(("ada".to_owned(), "proxy-canary".to_owned().into()));
    let proxy = Server::start([json(200, "[]"), answer(407, &[], "ask nicely")]).await;
    let settings = ProxySettings { address: proxy.url("").to_string(), login };
    let server = Server::start([]).await;
    let transport = server.transport_with(&factory(Arc::new(Unleased)), Some(settings));
    transport.send(read(server.url("/api/v1/x"))).await.unwrap().success().unwrap();
    assert_eq!(proxy.lines(), [format!("GET {}", server.url("/api/v1/x"))]);
    assert!(proxy.seen.lock().unwrap()[0].head.contains("proxy-authorization"));
    let error = transport.send(write(server.url("/api/v1/x"))).await.unwrap().success().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Proxy);
    assert!(server.lines().is_empty());

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let transport = server.transport_with(&factory(Arc::new(Unleased)), Some(ProxySettings { address, login: None }));
    let error = transport.send(write(server.url("/api/v1/x"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Proxy, "{error}");
}

/// Limits that one connection learns through its own proxy must not apply to connections that reach the provider directly.
#[tokio::test]
async fn rates_and_what_is_kept_belong_to_the_way_that_they_were_learnt_on() {
    let proxy = Server::start([answer(429, &[("retry-after", "3600")], "")]).await;
    let server = Server::start([json(200, "[]")]).await;
    let factory = factory(Arc::new(Unleased));
    let settings = Some(ProxySettings { address: proxy.url("").to_string(), login: None });
    let (through, straight) = (server.transport_with(&factory, settings), server.transport_with(&factory, None));
    let error = through.send(write(server.url("/api/v1/x"))).await.unwrap().success().unwrap_err();
    assert_eq!(error.kind, ErrorKind::RateLimited);
    assert_eq!(through.send(write(server.url("/api/v1/x"))).await.unwrap_err().kind, ErrorKind::RateLimited, "nothing is sent");
    assert!(straight.send(write(server.url("/api/v1/x"))).await.is_ok(), "the provider limited nobody");
    assert!(!Arc::ptr_eq(&through.cached("token", || 1), &straight.cached("token", || 1)));
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_apart() {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Synchronous rustls: one handshake and one response for each connection.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut connection = rustls::ServerConnection::new(Arc::new(config.clone())).unwrap();
            let mut stream = stream;
            let mut tls = rustls::Stream::new(&mut connection, &mut stream);
            let mut buffer = [0; 4096];
            if std::io::Read::read(&mut tls, &mut buffer).is_ok_and(|length| length > 0) {
                let _ = std::io::Write::write_all(
                    &mut tls,
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]",
                );
            }
        }
    });
    let url: Url = format!("https://{address}/").parse().unwrap();
    let endpoint = Endpoint { web: url.clone(), api: url.clone(), further_origins: Vec::new(), scope: None };
    let settings = |ca_pem| TransportSettings { ca_pem, ..settings(&endpoint, "") };
    let factory = factory(Arc::new(Unleased));
    let error = factory.transport(settings(None)).unwrap().send(read(url.clone())).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Tls, "{error}");
    let trusted = factory.transport(settings(Some(certified.cert.pem().into_bytes()))).unwrap();
    assert_eq!(trusted.send(read(url.clone())).await.unwrap().status(), StatusCode::OK);
    let another = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let error = factory.transport(settings(Some(another.cert.pem().into_bytes()))).unwrap().send(read(url.clone())).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Tls, "{error}");
    assert_eq!(factory.transport(settings(Some(b"nonsense".to_vec()))).unwrap_err().kind, ErrorKind::Tls);
}

#[tokio::test]
async fn http_and_forbidden_addresses_are_refused_before_sending() {
    let server = Server::start([json(200, "[]")]).await;
    let strict = Arc::new(crate::network::NetworkPolicy::default());
    let inside = Arc::new(crate::network::NetworkPolicy { insecure_http: true, ..crate::network::NetworkPolicy::default() });
    for (policy, kind) in [(strict, ErrorKind::InsecureUrl), (inside, ErrorKind::HostNotAllowed)] {
        let factory = TransportFactory::new(policy, Arc::new(Unleased), Arc::new(SystemClock), &mut Registry::default());
        let error = server.transport_with(&factory, None).send(read(server.url("/api/v1/x"))).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
    }
    assert!(server.lines().is_empty());
}

#[tokio::test]
async fn calls_are_counted_by_provider_operation_and_outcome() {
    let server =
        Server::start([json(502, "{}"), answer(200, &[("x-ratelimit-remaining", "41"), ("content-type", "application/json")], "[]")]).await;
    let mut registry = Registry::default();
    let factory = TransportFactory::new(local_policy(), Arc::new(Unleased), Arc::new(SystemClock), &mut registry);
    server.transport_with(&factory, None).send(read(server.url("/api/v1/x"))).await.unwrap();
    let text = shown(&factory, &registry);
    for line in [
        r#"forgebind_provider_requests_total{provider="gitea",operation="list_hooks",code="502"} 1"#,
        r#"forgebind_provider_requests_total{provider="gitea",operation="list_hooks",code="200"} 1"#,
        r#"forgebind_provider_request_duration_seconds_count{provider="gitea",operation="list_hooks"} 2"#,
        r#"forgebind_provider_rate_limit_remaining{provider="gitea"} 41"#,
        r#"forgebind_provider_accounts_resting{provider="gitea"} 0"#,
        r#"forgebind_provider_rate_limited_total{provider="gitea"} 0"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

fn shown(factory: &TransportFactory, registry: &Registry) -> String {
    factory.refresh_metrics();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

#[tokio::test]
async fn no_server_and_no_number_of_accounts_makes_series_at_will() {
    let statuses = [418, 419, 420, 421, 451, 499, 299, 218, 706, 999];
    let server = Server::start(statuses.map(|status| answer(status, &[("x-ratelimit-remaining", "7")], "[]"))).await;
    let mut registry = Registry::default();
    let factory = TransportFactory::new(local_policy(), Arc::new(Unleased), Arc::new(SystemClock), &mut registry);
    let endpoint = server.endpoint();
    for account in 0..statuses.len() {
        let settings = settings(&endpoint, format!("account-{account}"));
        // Reads are retried, and would consume the next scripted response.
        let _ = authorized(factory.transport(settings).unwrap()).send(write(server.url("/api/v1/x"))).await;
    }
    let text = shown(&factory, &registry);
    let codes: Vec<&str> = text.lines().filter(|line| line.starts_with("forgebind_provider_requests_total")).collect();
    let code = |code: &str, count: u32| {
        format!("forgebind_provider_requests_total{{provider=\"gitea\",operation=\"create_hook\",code=\"{code}\"}} {count}")
    };
    assert_eq!(codes.len(), 3, "{text}");
    for line in [code("4xx", 6), code("2xx", 2), code("other", 2)] {
        assert!(codes.contains(&line.as_str()), "{line} in {text}");
    }
    let remaining: Vec<&str> = text.lines().filter(|line| line.starts_with("forgebind_provider_rate_limit_remaining")).collect();
    assert_eq!(remaining, ["forgebind_provider_rate_limit_remaining{provider=\"gitea\"} 7"], "{text}");
}
