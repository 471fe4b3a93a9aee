//! Finds standalone receivers, and reads evidence from them over their admin ports.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, future, stream};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::runtime::{WatchStreamExt as _, reflector, reflector::Store, watcher};
use kube::{Api, Client};
use secrecy::{ExposeSecret as _, SecretString};
use tracing::warn;
use url::Url;

use crate::k8s::watch::{self, WATCH_SECONDS};
use crate::protocol::evidence::{Ask, Collected, Cursors, Evidence, EvidenceSource};
use crate::protocol::keys::ReceiverKey;
use crate::text::json::{self, JsonError};

/// Timeout for one receiver.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of one receiver's answer, in bytes: several times what it reports about 10,000 bindings.
const LONGEST_ANSWER: usize = 32 * 1024 * 1024;
/// How many receivers are polled at once. As many answers are in memory.
const AT_ONCE: usize = 4;
/// Name of the admin port in the receivers' Service.
const PORT: &str = "admin";

/// Standalone receivers.
pub(super) struct Remote {
    discovery: Discovery,
    token: SecretString,
    http: Option<reqwest::Client>,
}

/// Where receivers are found.
pub(super) enum Discovery {
    Urls(Vec<Url>),
    Slices(Store<EndpointSlice>),
}

impl Discovery {
    /// Receivers behind a Service, and the watch that discovers them.
    pub(super) fn behind(client: Client, namespace: &str, service: &str) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (store, writer) = reflector::store();
        let slices: Api<EndpointSlice> = Api::namespaced(client, namespace);
        let config = watcher::Config::default().labels(&format!("kubernetes.io/service-name={service}")).timeout(WATCH_SECONDS);
        let watch = watcher(slices, config).backoff(watch::backoff()).reflect(writer).for_each(|_| future::ready(()));
        (Self::Slices(store), watch)
    }

    /// The admin URLs of the receivers whose endpoint fits. URLs that were given always fit.
    pub(super) fn urls(&self, fits: impl Fn(&Endpoint) -> bool) -> Vec<Url> {
        match self {
            Self::Urls(urls) => urls.clone(),
            Self::Slices(slices) => slices.state().iter().flat_map(|slice| addresses(slice, &fits)).collect(),
        }
    }
}

impl Remote {
    /// Receivers at known admin URLs.
    pub(super) fn at(urls: Vec<Url>, key: &ReceiverKey) -> Self {
        Self::new(Discovery::Urls(urls), key)
    }

    /// Receivers behind a Service, and the watch that discovers them.
    pub(super) fn behind(
        client: Client,
        namespace: &str,
        service: &str,
        key: &ReceiverKey,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (discovery, watch) = Discovery::behind(client, namespace, service);
        (Self::new(discovery, key), watch)
    }

    fn new(discovery: Discovery, key: &ReceiverKey) -> Self {
        // Receivers are our own and in the cluster: no proxy, no redirects.
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(TIMEOUT).build();
        Self { discovery, token: key.evidence_token(), http: http.ok() }
    }

    /// Asks a receiver for what changed after a cursor.
    async fn ask(&self, http: &reqwest::Client, base: Url, room: usize, after: Option<String>) -> Option<(Url, Evidence)> {
        let mut url = base.join("evidence").ok()?;
        url.query_pairs_mut().append_pair("room", &room.to_string()).extend_pairs(after.map(|after| ("after", after)));
        let answer = http.get(url).bearer_auth(self.token.expose_secret()).send().await.and_then(reqwest::Response::error_for_status);
        let evidence = match answer {
            Ok(answer) => read(answer, room).await,
            Err(error) => Err(Unread::Http(error.without_url())),
        };
        let evidence = evidence.map_err(|error| warn!(receiver = %base, %error, "cannot read the evidence of a receiver")).ok()?;
        Some((base, evidence))
    }
}

/// Why an answer is not used. The messages do not repeat its content.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Http(reqwest::Error),
    #[error("the answer is larger than {} MiB", LONGEST_ANSWER >> 20)]
    TooLong,
    #[error("the answer is not what a receiver tells: {0}")]
    Malformed(JsonError),
}

/// Reads an answer of bounded length. A receiver is exposed to the internet, so its answer is not trusted to be short.
async fn read(mut answer: reqwest::Response, room: usize) -> Result<Evidence, Unread> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| Unread::Http(error.without_url()))? {
        if body.len().saturating_add(chunk.len()) > LONGEST_ANSWER {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    json::read::<Evidence>(&body).map(|evidence| evidence.bounded(room)).map_err(Unread::Malformed)
}

fn addresses(slice: &EndpointSlice, fits: impl Fn(&Endpoint) -> bool) -> Vec<Url> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let Some(port) = ports.iter().find(|port| port.name.as_deref() == Some(PORT)).and_then(|port| port.port) else { return Vec::new() };
    let addresses = slice.endpoints.iter().filter(|endpoint| fits(endpoint)).flat_map(|endpoint| &endpoint.addresses);
    let bracketed = addresses.map(|address| if address.contains(':') { format!("[{address}]") } else { address.clone() });
    bracketed.filter_map(|address| Url::parse(&format!("http://{address}:{port}/")).ok()).collect()
}

#[async_trait]
impl EvidenceSource for Remote {
    async fn collect(&self, ask: Ask, cursors: &mut Cursors) -> Collected {
        // An endpoint that is not ready may still have evidence.
        let urls = self.discovery.urls(|_| true);
        let asked = urls.len();
        cursors.retain(|known, _| urls.iter().any(|url| url.as_str() == known));
        let room = ask.room / asked.max(1);
        let Some(http) = &self.http else { return Collected { evidence: Vec::new(), silent: asked } };
        let after = |url: &Url| cursors.get(url.as_str()).and_then(|known| known.after(ask));
        let questions: Vec<_> = urls.into_iter().map(|url| (after(&url), url)).collect();
        let answers = stream::iter(questions).map(|(after, url)| self.ask(http, url, room, after)).buffered(AT_ONCE);
        let answers: Vec<(Url, Evidence)> = answers.filter_map(future::ready).collect().await;
        for (url, evidence) in &answers {
            cursors.entry(url.to_string()).or_default().reached(ask, evidence.recent.cursor.clone());
        }
        let evidence: Vec<Evidence> = answers.into_iter().map(|(_, evidence)| evidence).collect();
        Collected { silent: asked.saturating_sub(evidence.len()), evidence }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::protocol::keys::InstallKey;

    /// A receiver that answers every request with this many copies of a text between a beginning and an end.
    async fn receiver(begin: &'static str, filling: &'static str, copies: usize, end: &'static str) -> Url {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                // Without a content length, so that the size is known only while the answer is read.
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
                let _ = stream.write_all(begin.as_bytes()).await;
                let chunk = filling.repeat(1024);
                for _ in 0..copies / 1024 {
                    if stream.write_all(chunk.as_bytes()).await.is_err() {
                        return;
                    }
                }
                let _ = stream.write_all(end.as_bytes()).await;
            }
        });
        url
    }

    const ASK: Ask = Ask { room: 100, ahead: false };

    async fn collected(urls: Vec<Url>) -> Collected {
        Remote::at(urls, &InstallKey::new(&[7; 32]).unwrap().receiver()).collect(ASK, &mut Cursors::default()).await
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut_off_and_the_other_receivers_count() {
        let endless = receiver("{\"bindings\":{\"a\":{}", " ", 1 << 30, "}}").await;
        let honest = receiver("{\"bindings\":{\"a\":{}", " ", 1024, "}}").await;
        let found = collected(vec![endless, honest]).await;
        assert_eq!((found.evidence.len(), found.silent), (1, 1));
        assert!(found.evidence[0].bindings.contains_key("a"));
    }

    /// A receiver that tells what it was asked, and has the cursor `c-1`.
    async fn telling() -> (Url, Arc<Mutex<Vec<String>>>) {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).await.unwrap_or_default();
                let line = String::from_utf8_lossy(&request[..read]).lines().next().unwrap_or_default().to_owned();
                told.lock().push(line);
                let body = r#"{"bindings":{},"recent":{"cursor":"c-1"}}"#;
                let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (url, asked)
    }

    #[tokio::test]
    async fn a_collection_that_begins_anew_asks_for_everything_again() {
        let (url, asked) = telling().await;
        let remote = Remote::at(vec![url], &InstallKey::new(&[7; 32]).unwrap().receiver());
        let mut cursors = Cursors::default();
        for _ in 0..2 {
            assert_eq!(remote.collect(ASK, &mut cursors).await.silent, 0);
        }
        // The lease was lost and regained: what was collected before went with the inbox.
        remote.collect(ASK, &mut Cursors::default()).await;
        let expected = ["room=100", "room=100&after=c-1", "room=100"].map(|query| format!("GET /evidence?{query} HTTP/1.1"));
        assert_eq!(*asked.lock(), expected);
    }

    #[tokio::test]
    async fn the_error_for_an_invalid_answer_does_not_quote_it() {
        let url = receiver("{\"bindings\": \"canary", "", 0, "").await;
        let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
        let error = read(answer, 1).await.unwrap_err().to_string();
        assert!(error.contains("not what a receiver tells") && !error.contains("canary"), "{error}");
    }
}
