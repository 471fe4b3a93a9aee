//! Checks once a minute whether the public URLs of the receiver answer, as seen from inside the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use parking_lot::Mutex;
use reqwest::{Client, StatusCode};
use rustls::CertificateError;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use url::Url;

use super::binding::time::after;
use super::metrics::OfEndpoint;
use super::runtime::backoff::jitter;
use super::{Context, View};
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::network::{NetworkPolicy, Purpose};
use crate::providers::registry;

/// Pause between two checks of one URL.
const INTERVAL: Duration = Duration::from_secs(60);
/// Timeout of one check.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Failures in a row after which a URL counts as unreachable.
const FAILURES: u32 = 3;
/// How long a verified delivery proves more than a failed check: the provider may reach what the cluster does not.
const PROVEN: SignedDuration = SignedDuration::from_mins(10);
/// How long the error of a URL that does not answer stays the same at least.
const STEADY: SignedDuration = SignedDuration::from_mins(10);
/// Time over which the bindings are spread that are probed once a URL answers again.
const PROBED_AGAIN: Duration = Duration::from_secs(10 * 60);
/// The path that the receiver answers at the port of deliveries.
const PATH: &str = "healthz";

/// What is known of the public URLs.
#[derive(Default)]
pub struct PublicEndpoints(Mutex<BTreeMap<Url, Endpoint>>);

/// What is known of one public URL.
#[derive(Clone, Debug, Default)]
struct Endpoint {
    /// Failures since the last success.
    failures: u32,
    /// The first of these failures, and the message of the last.
    failing: Option<Unreachable>,
    /// When the error was last replaced.
    told_at: Option<Timestamp>,
    /// The last verified delivery there.
    delivered_at: Option<Timestamp>,
}

/// Why a URL counts as unreachable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// Time of the first failure.
    pub since: Timestamp,
    /// The error of the last check, or of one within the ten minutes before it. Safe to show.
    pub error: String,
}

/// Whether a URL answers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reachability {
    /// It has not been checked, or has not failed often enough.
    Unknown,
    Answers,
    Unreachable(Unreachable),
}

impl PublicEndpoints {
    /// Why a URL counts as unreachable; `None` while it answers, or while nothing is known.
    #[must_use]
    pub fn unreachable(&self, url: &Url, now: Timestamp) -> Option<Unreachable> {
        match self.0.lock().get(url)?.reachability(now) {
            Reachability::Unreachable(unreachable) => Some(unreachable),
            Reachability::Unknown | Reachability::Answers => None,
        }
    }

    /// Records the result of a check, and the last verified delivery. Returns the reachability.
    fn record(&self, url: &Url, result: Result<(), String>, delivered_at: Option<Timestamp>, now: Timestamp) -> Reachability {
        let mut endpoints = self.0.lock();
        let endpoint = endpoints.entry(url.clone()).or_default();
        endpoint.delivered_at = endpoint.delivered_at.max(delivered_at);
        match result {
            Ok(()) => (endpoint.failures, endpoint.failing) = (0, None),
            Err(error) => {
                endpoint.failures = endpoint.failures.saturating_add(1);
                let since = endpoint.failing.as_ref().map_or(now, |failing| failing.since);
                // An error that alternates must not change the conditions at each check.
                let is_steady = endpoint.failures > FAILURES && now.duration_since(endpoint.told_at.unwrap_or(now)) < STEADY;
                match &mut endpoint.failing {
                    Some(_) if is_steady => {}
                    failing => (*failing, endpoint.told_at) = (Some(Unreachable { since, error }), Some(now)),
                }
            }
        }
        endpoint.reachability(now)
    }
}

impl Endpoint {
    fn reachability(&self, now: Timestamp) -> Reachability {
        let is_proven = self.delivered_at.is_some_and(|at| now.duration_since(at) < PROVEN);
        match &self.failing {
            None => Reachability::Answers,
            Some(_) if is_proven => Reachability::Answers,
            Some(failing) if self.failures >= FAILURES => Reachability::Unreachable(failing.clone()),
            Some(_) => Reachability::Unknown,
        }
    }
}

/// Checks the public URLs once a minute. Never returns.
pub async fn follow(context: &Context) {
    let view = &context.view;
    // What an earlier term of this leader found says nothing of now.
    view.public_endpoints.0.lock().clear();
    context.metrics.public_endpoints.clear();
    let client = match client(&view.network) {
        Ok(client) => client,
        Err(error) => {
            warn!(%error, "the public URLs are not checked");
            return std::future::pending().await;
        }
    };
    let mut rounds = interval(INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let asked = endpoints(view).into_iter().map(async |(name, url)| (name, url, ask(&client, url).await));
        for (name, url, result) in join_all(asked).await {
            conclude(context, name, url, result);
        }
    }
}

/// The current public URLs with their names. Nothing has to answer at former ones any more.
fn endpoints(view: &View) -> Vec<(Option<&str>, &Url)> {
    let urls = &view.settings.public_urls;
    let named = urls.named.iter().map(|(name, url)| (Some(name.as_str()), url));
    urls.default.iter().map(|url| (None, url)).chain(named).collect()
}

/// Records the result of a check, and tells the connections that use the URL when what they report of it changes.
fn conclude(context: &Context, name: Option<&str>, url: &Url, result: Result<(), String>) {
    let view = &context.view;
    let now = view.clock.now();
    let users = users(view, name);
    let before = view.public_endpoints.unreachable(url, now);
    let delivered_at = result.is_err().then(|| last_delivery(view, &users)).flatten();
    let reachability = view.public_endpoints.record(url, result, delivered_at, now);
    let label = OfEndpoint { endpoint: name.unwrap_or("default").to_owned() };
    if reachability != Reachability::Unknown {
        let answers = i64::from(reachability == Reachability::Answers);
        context.metrics.public_endpoints.get_or_create(&label).set(answers);
    }
    let after = match reachability {
        Reachability::Unreachable(unreachable) => Some(unreachable),
        Reachability::Unknown | Reachability::Answers => None,
    };
    match (&before, &after) {
        (None, Some(Unreachable { error, .. })) => warn!(%url, error, "the public URL does not answer, as seen from inside the cluster"),
        (Some(_), None) => {
            info!(%url, "the public URL answers again, or a delivery has arrived there");
            probe_soon(view, &users, now);
        }
        _ => {}
    }
    // While the URL does not answer, the conditions are checked each minute: the proof of a delivery ends between two checks.
    if before.is_some() || after.is_some() {
        for user in users {
            view.triggers.connection(&user);
        }
    }
}

/// Probes the bindings of these connections after an outage, if the provider may have disabled their hooks meanwhile: what happens
/// until they are replaced is never delivered.
fn probe_soon(view: &View, users: &BTreeSet<ConnectionTarget>, now: Timestamp) {
    let disables = |target: &&ConnectionTarget| {
        let kind = view.connection(target).and_then(|connection| connection.spec.provider.kind());
        kind.and_then(registry::provider).is_some_and(|provider| provider.profile().disables_failing_hooks)
    };
    let affected: BTreeSet<&ConnectionTarget> = users.iter().filter(disables).collect();
    for binding in view.bindings.state_filter(|binding| affected.contains(&binding.connection_target())) {
        let Some(uid) = binding.uid() else { continue };
        view.memory.probe_by(&uid, after(now, jitter(&uid, PROBED_AGAIN)));
        view.triggers.binding(&binding);
    }
}

/// The connections that choose a URL.
fn users(view: &View, name: Option<&str>) -> BTreeSet<ConnectionTarget> {
    let users = view.connections.state_filter(|connection| connection.spec.public_url_name() == name);
    users.iter().map(|connection| ConnectionTarget::of(connection)).collect()
}

/// Time of the last verified delivery to a binding of these connections.
fn last_delivery(view: &View, users: &BTreeSet<ConnectionTarget>) -> Option<Timestamp> {
    let bindings = view.bindings.state_filter(|binding| users.contains(&binding.connection_target()));
    let seen = |uid: String| Some(view.memory.get(&uid).evidence?.last_delivery?.at);
    bindings.iter().filter_map(|binding| binding.uid()).filter_map(seen).max()
}

fn client(network: &Arc<NetworkPolicy>) -> reqwest::Result<Client> {
    network.client_builder(Purpose::PublicEndpoint).timeout(TIMEOUT).pool_max_idle_per_host(0).build()
}

/// Asks a URL as a load balancer would. The error is safe to show, and the same as long as its cause is.
async fn ask(client: &Client, url: &Url) -> Result<(), String> {
    let mut address = url.clone();
    address.set_path(&format!("{}/{PATH}", url.path().trim_end_matches('/')));
    match client.head(address).send().await.map(|answer| answer.status()) {
        Ok(status) if status.is_success() => Ok(()),
        // Something admits only the addresses of providers.
        Ok(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Ok(()),
        Ok(status) => Err(format!("HEAD {}/{PATH} was answered {}", url.path().trim_end_matches('/'), status.as_u16())),
        Err(error) if error.is_timeout() => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        Err(error) => match causes(&error).find_map(tls_error) {
            Some(rustls::Error::InvalidCertificate(error)) => certificate(error),
            _ => Err(innermost(&error)),
        },
    }
}

/// What a certificate that is not accepted here means. The provider may trust an authority that the controller does not know.
fn certificate(error: &CertificateError) -> Result<(), String> {
    let told = match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "its certificate is not valid yet",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => "its certificate is for another name",
        _ => return Ok(()),
    };
    Err(told.to_owned())
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause: &&(dyn StdError + 'static)| (*cause).source())
}

/// The TLS error in a cause. An I/O error exposes the error that it wraps only through its own method.
fn tls_error<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let wrapped = || tls_error(cause.downcast_ref::<io::Error>()?.get_ref()?);
    cause.downcast_ref().or_else(wrapped)
}

/// The innermost cause of an error, which is the most precise.
fn innermost(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "the connection failed".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 60 * minute).unwrap()
    }

    fn url() -> Url {
        "https://hooks.acme.io/git".parse().unwrap()
    }

    fn refused() -> Result<(), String> {
        Err("connection refused".to_owned())
    }

    #[test]
    fn a_url_is_unreachable_after_three_failures_in_a_row_and_no_longer_after_a_success() {
        let endpoints = PublicEndpoints::default();
        assert_eq!(endpoints.unreachable(&url(), at(0)), None, "nothing is known");
        let unreachable = Reachability::Unreachable(Unreachable { since: at(2), error: "connection refused".to_owned() });
        let results = [(refused(), Reachability::Unknown), (Ok(()), Reachability::Answers), (refused(), Reachability::Unknown)];
        let more = [
            (refused(), Reachability::Unknown),
            (refused(), unreachable.clone()),
            (refused(), unreachable),
            (Ok(()), Reachability::Answers),
        ];
        for (minute, (result, expected)) in (0..).zip(results.into_iter().chain(more)) {
            assert_eq!(endpoints.record(&url(), result, None, at(minute)), expected, "minute {minute}");
        }
        assert_eq!(endpoints.unreachable(&url(), at(9)), None);
    }

    #[test]
    fn an_error_that_alternates_is_told_once_in_ten_minutes() {
        let endpoints = PublicEndpoints::default();
        let answered = |code: u16| Err(format!("answered {code}"));
        let mut told = Vec::new();
        for minute in 0..30 {
            endpoints.record(&url(), answered(if minute % 2 == 0 { 502 } else { 503 }), None, at(minute));
            told.extend(endpoints.unreachable(&url(), at(minute)).map(|unreachable| unreachable.error));
        }
        told.dedup();
        assert!((1..=4).contains(&told.len()), "{told:?}");
    }

    #[test]
    fn only_what_breaks_deliveries_is_told_of_a_certificate() {
        assert_eq!(certificate(&CertificateError::UnknownIssuer), Ok(()));
        assert_eq!(certificate(&CertificateError::BadSignature), Ok(()));
        for (error, says) in [
            (CertificateError::Expired, "has expired"),
            (CertificateError::NotValidYet, "not valid yet"),
            (CertificateError::NotValidForName, "another name"),
        ] {
            assert!(certificate(&error).unwrap_err().contains(says));
        }
    }

    #[tokio::test]
    async fn something_that_admits_only_providers_is_an_answer() {
        for status in ["401 Unauthorized", "403 Forbidden"] {
            let (url, _) = server(status).await;
            assert_eq!(ask(&client_for(&url), &url).await, Ok(()));
        }
    }

    #[test]
    fn a_verified_delivery_within_ten_minutes_overrules_failed_checks() {
        let endpoints = PublicEndpoints::default();
        for minute in 0..5 {
            assert_eq!(
                endpoints.record(&url(), refused(), Some(at(-6)), at(minute)) == Reachability::Answers,
                minute < 4,
                "minute {minute}"
            );
        }
        assert!(endpoints.unreachable(&url(), at(5)).is_some());
        assert_eq!(endpoints.record(&url(), refused(), Some(at(5)), at(6)), Reachability::Answers);
        assert_eq!(endpoints.unreachable(&url(), at(14)), None);
        assert!(endpoints.unreachable(&url(), at(15)).is_some(), "then the failures count again");
    }

    /// A server that answers every request with this status, and the first line of the last request.
    async fn server(status: &'static str) -> (Url, Arc<Mutex<String>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://hooks.acme.io:{}/git", listener.local_addr().unwrap().port()).parse().unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let line = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let length = stream.read(&mut request).await.unwrap_or_default();
                String::from_utf8_lossy(&request[..length]).lines().next().unwrap_or_default().clone_into(&mut line.lock());
                let _ = stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes()).await;
            }
        });
        (url, seen)
    }

    fn client_for(url: &Url) -> Client {
        let resolve = [(("hooks.acme.io".to_owned(), url.port_or_known_default().unwrap()), IpAddr::V4(Ipv4Addr::LOCALHOST))].into();
        client(&Arc::new(NetworkPolicy { resolve, ..NetworkPolicy::default() })).unwrap()
    }

    #[tokio::test]
    async fn the_receiver_is_asked_below_the_path_of_the_url_and_private_addresses_are_allowed() {
        let (url, seen) = server("200 OK").await;
        assert_eq!(ask(&client_for(&url), &url).await, Ok(()));
        assert_eq!(*seen.lock(), "HEAD /git/healthz HTTP/1.1");
    }

    #[tokio::test]
    async fn every_other_answer_and_no_answer_are_failures_with_their_cause() {
        for (status, says) in [("404 Not Found", "answered 404"), ("302 Found", "answered 302"), ("503 Unavailable", "answered 503")] {
            let (url, _) = server(status).await;
            let error = ask(&client_for(&url), &url).await.unwrap_err();
            assert!(error.contains(says) && error.contains("HEAD /git/healthz"), "{error}");
        }
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
        let url: Url = format!("http://hooks.acme.io:{closed}").parse().unwrap();
        let error = ask(&client_for(&url), &url).await.unwrap_err();
        assert!(error.to_lowercase().contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn a_certificate_of_an_unknown_authority_is_an_answer() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url: Url = format!("https://hooks.acme.io:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        // As `openssl req -x509` makes it.
        let mut parameters = rcgen::CertificateParams::new(["hooks.acme.io".to_owned()]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key_pair = rcgen::KeyPair::generate().unwrap();
        let made = parameters.self_signed(&key_pair).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key_pair.serialize_der()).unwrap();
        let client = client_for(&url);
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.der().clone()], key).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
            let mut hello = vec![0; 16 * 1024];
            let length = stream.read(&mut hello).await.unwrap();
            connection.read_tls(&mut &hello[..length]).unwrap();
            connection.process_new_packets().unwrap();
            let mut answer = Vec::new();
            while connection.wants_write() {
                connection.write_tls(&mut answer).unwrap();
            }
            stream.write_all(&answer).await.unwrap();
            // The client refuses the certificate and closes.
            let _ = stream.read(&mut hello).await;
        });
        assert_eq!(ask(&client, &url).await, Ok(()));
    }
}
