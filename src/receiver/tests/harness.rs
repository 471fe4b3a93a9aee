//! Test harness: a receiver on a loopback port, a clock that is set by hand, and sinks with scripted answers.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use ring::hmac;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::super::outbox::Outbox;
use super::super::{EvidenceStore, OutboxConfig, OutboxIntake, OutboxKind, Peers, Receiver, ReceiverConfig, Routes, RoutesConfig};
use crate::api::v1alpha1::connection::Access;
use crate::api::v1alpha1::{ConnectionGrant, GitProviderConnection, ProviderKind, RepoBinding};
use crate::clock::Clock;
use crate::network::NetworkPolicy;
use crate::protocol::evidence::BindingEvidence;
use crate::protocol::keys::{self, ConnectedBinding, InstallKey};
use crate::protocol::secret::WebhookSecret;
use crate::protocol::sink_service::{ServiceAddress, ServiceFacts};
use crate::providers::webhook::{Content, ContentError, DeliveryRules, Event, Rejection, Verified};
use crate::providers::{
    Client, Credential, Endpoint, PathError, Provider, ProviderError, RepositoryPath, Webhook, registry, transport::Transport,
};

pub const NOW: &str = "2026-11-20T10:00:00Z";
pub const SECRET_CANARY: &str = "canary-of-a-users-own-secret";
pub const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    pub fn at(now: &str) -> Self {
        Self(Mutex::new(now.parse().unwrap()))
    }

    pub fn set(&self, now: &str) {
        *self.0.lock().unwrap() = now.parse().unwrap();
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

pub struct Harness {
    pub address: SocketAddr,
    pub routes: Routes,
    pub evidence: EvidenceStore,
    pub clock: Arc<ManualClock>,
    pub registry: Registry,
    pub refresh: Box<dyn Fn() + Send + Sync>,
    pub fresh: Arc<AtomicBool>,
    pub intake: OutboxIntake,
    pub client: reqwest::Client,
    pub server: JoinHandle<std::io::Result<()>>,
    pub stop: Option<oneshot::Sender<()>>,
}

pub fn key() -> crate::protocol::keys::ReceiverKey {
    InstallKey::new(&[7; 32]).unwrap().receiver()
}

pub fn now_second() -> i64 {
    NOW.parse::<Timestamp>().unwrap().as_second()
}

/// Resolves the Services `sink-a` and `sink-b` of namespace `team` to this machine.
pub fn policy() -> NetworkPolicy {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    NetworkPolicy {
        allow_cidrs: vec!["127.0.0.0/8".parse().unwrap()],
        resolve: [(("sink-a.team.svc".to_owned(), 80), local), (("sink-b.team.svc".to_owned(), 80), local)].into(),
        ..NetworkPolicy::default()
    }
}

/// A Service with every port, because the sinks of tests have any.
pub fn service(uid: &str, address: &str) -> ServiceFacts {
    let address = ServiceAddress::At([address.parse().unwrap()].into());
    ServiceFacts { uid: uid.into(), address, ports: (1..=u16::MAX).collect(), deliver_from: None }
}

pub async fn start(adjust: impl FnOnce(&mut ReceiverConfig, &mut RoutesConfig)) -> Harness {
    start_with(None, None, adjust).await
}

/// Starts a receiver with this outbox, if there is one, that hands it to these peers when it stops.
pub async fn start_with(
    outbox: Option<Outbox>,
    peers: Option<Peers>,
    adjust: impl FnOnce(&mut ReceiverConfig, &mut RoutesConfig),
) -> Harness {
    let harness = unlisted_with(outbox, peers, adjust).await;
    harness.routes.grants_are_listed();
    harness
}

/// Starts a receiver that has not listed the grants yet.
pub async fn unlisted(adjust: impl FnOnce(&mut ReceiverConfig, &mut RoutesConfig)) -> Harness {
    unlisted_with(None, None, adjust).await
}

async fn unlisted_with(
    outbox: Option<Outbox>,
    peers: Option<Peers>,
    adjust: impl FnOnce(&mut ReceiverConfig, &mut RoutesConfig),
) -> Harness {
    let clock = Arc::new(ManualClock::at(NOW));
    let mut routes = RoutesConfig::new(key(), clock.clone(), Arc::new(policy()));
    let mut config = ReceiverConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), OutboxConfig::new(OutboxKind::Memory));
    routes.providers = Arc::new(|kind| if kind == ProviderKind::GitHub { Some(&TEST_PROVIDER) } else { registry::provider(kind) });
    adjust(&mut config, &mut routes);
    let policy = routes.policy.clone();
    let routes = Routes::new(routes);
    for name in ["sink-a", "sink-b"] {
        routes.apply_service("team".to_owned(), name.to_owned(), service("uid", "10.96.0.7"));
    }
    routes.services_are_listed();
    let fresh = Arc::new(AtomicBool::new(true));
    let freshness = {
        let fresh = fresh.clone();
        Arc::new(move || fresh.load(Ordering::Relaxed))
    };
    let mut registry = Registry::default();
    let mut receiver = match outbox {
        Some(outbox) => Receiver::with_outbox((outbox, Vec::new()), config, &routes, &policy, freshness, &mut registry),
        None => Receiver::open(config, &routes, &policy, freshness, &mut registry).await,
    }
    .unwrap();
    if let Some(peers) = peers {
        receiver.hand_over_to(peers, key().outbox_token()).unwrap();
    }
    let intake = receiver.intake();
    let evidence = receiver.evidence();
    let refresh = Box::new(receiver.refresh());
    let bound = receiver.bind().await.unwrap();
    let address = bound.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(bound.serve(async { drop(stopped.await) }));
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).pool_max_idle_per_host(0).build().unwrap();
    Harness { address, routes, evidence, clock, registry, refresh, fresh, intake, client, server, stop: Some(stop) }
}

pub fn connection(provider: &Value) -> GitProviderConnection {
    serde_json::from_value(json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection",
        "metadata": {"namespace": "team", "name": "acme", "uid": "connection"},
        "spec": {"provider": provider},
    }))
    .unwrap()
}

pub fn gitea() -> GitProviderConnection {
    connection(&json!({"gitea": {"url": "https://git.acme.io", "organization": "acme"}}))
}

/// A grant of the connections `acme` of a namespace.
pub fn grant(namespace: &str, name: &str, rule: &Value) -> ConnectionGrant {
    serde_json::from_value(json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "ConnectionGrant", "metadata": {"namespace": namespace, "name": name},
        "spec": {"connectionRef": {"name": "acme"}, "namespaces": rule["namespaces"], "repositories": {"include": rule["repositories"]}},
    }))
    .unwrap()
}

/// A connection of [`TestProvider`], which supports what the real provider does not.
pub fn other() -> GitProviderConnection {
    connection(&json!({"github": {"organization": "acme"}}))
}

/// A binding `team/shop` of repository 7, `acme/shop`, whose secret version is the present second.
pub fn binding(change: impl FnOnce(&mut Value)) -> RepoBinding {
    let mut object = json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
        "metadata": {"namespace": "team", "name": "shop", "uid": "uid-shop", "generation": 1},
        "spec": {"connectionRef": {"name": "acme"}, "repository": "acme/shop", "webhook": {"events": ["Push", "Tag", "PullRequest"]}},
        "status": {
            "observedGeneration": 1,
            "repository": {"id": "7", "path": "acme/shop", "webURL": "https://git.acme.io/acme/shop"},
            "webhook": {"secretVersion": secret_version(0)},
        },
    });
    change(&mut object);
    serde_json::from_value(object).unwrap()
}

/// The secret version `ago` seconds before the present.
pub fn secret_version(ago: i64) -> String {
    (now_second() - ago).to_string()
}

pub fn service_sink(name: &str, port: u16) -> Value {
    json!({"name": name, "service": {"name": format!("sink-{name}"), "port": port, "path": "/events"}})
}

/// A delivery to `team/shop`.
#[derive(Clone)]
pub struct Shot {
    pub path: String,
    pub id: String,
    pub secret: String,
    pub body: Vec<u8>,
    pub headers: Vec<(&'static str, String)>,
}

/// The owner of the hooks of a binding that were made through the connection `acme` of its own namespace.
pub fn owner<'a>(namespace: &'a str, name: &'a str) -> ConnectedBinding<'a> {
    ConnectedBinding { namespace, name, connection: (namespace, "acme") }
}

pub fn path_of(namespace: &str, name: &str, secret_version: &str) -> String {
    format!("/hooks/{}/{secret_version}", key().hook_id(owner(namespace, name)))
}

pub fn secret_of(namespace: &str, name: &str, secret_version: &str) -> String {
    keys::secret_text(&key().webhook_secret(owner(namespace, name), secret_version)).expose_secret().to_owned()
}

pub fn sign(secret: &str, body: &[u8]) -> String {
    hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body))
}

impl Shot {
    /// An authentic delivery with the present secret version.
    pub fn new(id: &str, body: Vec<u8>) -> Self {
        Self::with_secret_version(&secret_version(0), id, body)
    }

    pub fn with_secret_version(secret_version: &str, id: &str, body: Vec<u8>) -> Self {
        let (path, secret) = (path_of("team", "shop", secret_version), secret_of("team", "shop", secret_version));
        Self { path, id: id.into(), secret, body, headers: vec![("x-gitea-event", "push".into())] }
    }

    pub fn push(id: &str, branch: &str) -> Self {
        Self::new(id, push_body(7, "acme/shop", &format!("refs/heads/{branch}"), id))
    }
}

pub fn push_body(repository: i64, path: &str, reference: &str, commit: &str) -> Vec<u8> {
    let after = hex::encode(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, commit.as_bytes()));
    json!({"ref": reference, "before": "1".repeat(40), "after": after, "repository": {"id": repository, "full_name": path}})
        .to_string()
        .into_bytes()
}

/// A body for [`TestProvider`]: several pushes in one delivery.
pub fn pushes_body(branches: &[&str]) -> Vec<u8> {
    json!({"repository": "7", "branches": branches}).to_string().into_bytes()
}

impl Harness {
    /// Applies the connection `acme` of a namespace with grants that say the same as these rules, instead of those before. Null: the
    /// connection needs no grant for its own namespace.
    pub fn allow(&self, namespace: &str, rules: &Value) {
        let mut connection = gitea();
        connection.metadata.namespace = Some(namespace.to_owned());
        connection.spec.access = if rules.is_null() { Access::SameNamespace } else { Access::Granted };
        self.routes.apply_connection(&connection);
        for number in 0..4 {
            let name = format!("g{number}");
            match rules.get(number) {
                Some(rule) => self.routes.apply_grant(&grant(namespace, &name, rule)),
                None => self.routes.remove_grant(namespace, &name),
            }
        }
    }

    pub fn request(&self, shot: &Shot) -> reqwest::RequestBuilder {
        let mut request = self.client.post(format!("http://{}{}", self.address, shot.path)).body(shot.body.clone());
        request = request.header("content-type", "application/json").header("x-gitea-delivery", &shot.id);
        if !shot.secret.is_empty() {
            request = request.header("x-gitea-signature", sign(&shot.secret, &shot.body));
        }
        shot.headers.iter().fold(request, |request, (name, value)| request.header(*name, value))
    }

    pub async fn send(&self, shot: &Shot) -> u16 {
        self.request(shot).send().await.unwrap().status().as_u16()
    }

    pub fn seen(&self) -> BindingEvidence {
        self.evidence.snapshot().bindings.remove("uid-shop").unwrap_or_default()
    }

    pub fn metrics(&self) -> String {
        (self.refresh)();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    pub async fn stop(mut self) -> Duration {
        let begun = std::time::Instant::now();
        self.stop.take().unwrap().send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(40), &mut self.server).await.expect("it ends").unwrap().unwrap();
        begun.elapsed()
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !reached() {
        assert!(tokio::time::Instant::now() < deadline, "not reached: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A request that a sink received.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub accepted: bool,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A sink on a loopback port.
#[derive(Clone)]
pub struct Sink {
    pub port: u16,
    /// How many connections were made to it.
    pub connections: Arc<AtomicUsize>,
    /// Bytes of its answers beyond the usual text.
    pub verbosity: Arc<AtomicUsize>,
    received: Arc<Mutex<Vec<Received>>>,
    /// Status codes of the next answers. After them, `usual` applies.
    pub next: Arc<Mutex<VecDeque<u16>>>,
    usual: watch::Sender<u16>,
    /// Ids of events that get an answer of their own.
    special: Arc<Mutex<BTreeMap<String, u16>>>,
}

/// Used instead of a status code: no answer until another one is set.
pub const SILENT: u16 = 0;

impl Sink {
    pub async fn start(usual: u16) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0), usual).await
    }

    pub async fn start_at(address: (Ipv4Addr, u16), usual: u16) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (usual, special) = (watch::Sender::new(usual), Arc::default());
        let sink = Self {
            port,
            connections: Arc::default(),
            verbosity: Arc::default(),
            received: Arc::default(),
            next: Arc::default(),
            usual,
            special,
        };
        let serving = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::Relaxed);
                let sink = serving.clone();
                let service = service_fn(move |request| sink.clone().answer(request));
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        sink
    }

    pub fn usually(&self, status: u16) {
        self.usual.send_replace(status);
    }

    /// Answers an event always with this status.
    pub fn answers(&self, id: &str, status: u16) {
        self.special.lock().unwrap().insert(id.to_owned(), status);
    }

    async fn answer(self, request: http::Request<Incoming>) -> Result<http::Response<Full<Bytes>>, hyper::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let id = parts.headers.get("ce-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        let special = self.special.lock().unwrap().get(id).copied();
        let next = special.or_else(|| self.next.lock().unwrap().pop_front());
        let status = match next {
            Some(status) => status,
            None => *self.usual.subscribe().wait_for(|status| *status != SILENT).await.unwrap(),
        };
        let accepted = (200..300).contains(&status);
        let received = Received { path: parts.uri.path().to_owned(), headers: parts.headers, body, accepted };
        self.received.lock().unwrap().push(received);
        let text = format!("canary-of-a-sinks-answer{}", "x".repeat(self.verbosity.load(Ordering::Relaxed)));
        let mut response = http::Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        Ok(response)
    }

    pub fn accepted(&self) -> Vec<Received> {
        self.received.lock().unwrap().iter().filter(|received| received.accepted).cloned().collect()
    }

    pub fn accepted_ids(&self) -> Vec<String> {
        self.accepted().iter().map(|received| received.header("ce-id").to_owned()).collect()
    }

    pub fn attempts(&self) -> usize {
        self.received.lock().unwrap().len()
    }
}

/// Verifies like the real provider, and reads its own format of bodies.
pub struct TestProvider;

static TEST_PROVIDER: TestProvider = TestProvider;

impl TestProvider {
    fn real() -> &'static dyn Provider {
        registry::provider(ProviderKind::Gitea).unwrap()
    }
}

impl Provider for TestProvider {
    fn profile(&self) -> &'static crate::providers::ProviderProfile {
        registry::provider(ProviderKind::GitHub).unwrap().profile()
    }

    fn capabilities(&self) -> crate::providers::Capabilities {
        Self::real().capabilities()
    }

    fn permission_words(&self, permission: crate::api::v1alpha1::Permission) -> Option<String> {
        Self::real().permission_words(permission)
    }

    fn event_words(&self, event: crate::api::v1alpha1::EventKind) -> &'static [&'static str] {
        Self::real().event_words(event)
    }

    fn endpoint(&self, _: &crate::api::v1alpha1::connection::ProviderSpec) -> Result<Endpoint, ProviderError> {
        Self::real().endpoint(&gitea().spec.provider)
    }

    fn version_address(&self, endpoint: &Endpoint) -> url::Url {
        Self::real().version_address(endpoint)
    }

    fn repository_path(&self, endpoint: &Endpoint, text: &str) -> Result<RepositoryPath, PathError> {
        Self::real().repository_path(endpoint, text)
    }

    fn client(&self, _: Endpoint, _: Credential, _: Transport) -> Result<Arc<dyn Client>, ProviderError> {
        unreachable!("a receiver never connects")
    }

    fn webhook(&self) -> &dyn Webhook {
        self
    }
}

impl Webhook for TestProvider {
    fn rules(&self) -> DeliveryRules {
        DeliveryRules { body_limit: 1024, proof_in_header: true, ..Self::real().webhook().rules() }
    }

    fn verify<'a>(&self, secrets: &[WebhookSecret], headers: &'a HeaderMap, body: &'a [u8]) -> Result<Verified<'a>, Rejection> {
        if !body.is_empty() {
            return Self::real().webhook().verify(secrets, headers, body);
        }
        // The check before the body is read uses its own header.
        let token = headers.get("x-token").ok_or(Rejection::ProofMissing)?;
        if token != "right" {
            return Err(Rejection::ProofWrong);
        }
        let mut signed = HeaderMap::new();
        signed.insert("x-gitea-signature", sign(secrets[0].text().expose_secret(), b"").parse().unwrap());
        Self::real().webhook().verify(secrets, Box::leak(Box::new(signed)), b"")
    }

    fn read(&self, verified: &Verified<'_>) -> Result<Content, ContentError> {
        let body: Value = serde_json::from_slice(verified.payload()).map_err(|error| ContentError(error.to_string()))?;
        assert!(body.get("panic").is_none(), "as the test requests");
        let once = body.get("once").map(|once| crate::providers::webhook::StateKey {
            subject: once["subject"].as_str().unwrap().to_owned(),
            state: once["state"].as_str().unwrap().to_owned(),
        });
        let push = |branch: &Value| {
            let reference = format!("refs/heads/{}", branch.as_str().unwrap());
            Event { once: once.clone(), ..Event::of_reference(&reference, crate::providers::webhook::Change::Updated).unwrap() }
        };
        Ok(Content {
            delivery_id: verified.headers()["x-gitea-delivery"].to_str().unwrap().to_owned(),
            repository_id: body["repository"].as_str().map(str::to_owned),
            repository_path: None,
            events: body["branches"].as_array().unwrap().iter().map(push).collect(),
            ping: false,
        })
    }

    fn pull_request_actions(&self) -> &'static [crate::providers::pull_request::ActionName] {
        &[]
    }
}
