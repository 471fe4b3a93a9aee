//! A proxy in front of the API server or of Gitea that forwards and counts every request, and fails when told to.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures::TryStreamExt as _;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::watch;

use super::control_plane::ControlPlane;
use super::gitea::Gitea;
use super::http_server::{Body, HttpServer, answer};
use super::plain_http;
use super::port::free_port;

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub method: Method,
    /// Path and query.
    pub path: String,
    pub body: Bytes,
    /// When it arrived.
    pub at: Instant,
}

impl Exchange {
    /// Whether the request may change something.
    pub fn is_write(&self) -> bool {
        !matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }
}

/// An answer of the server, whether or not the client received it.
#[derive(Clone, Debug)]
pub struct Answered {
    pub exchange: Exchange,
    pub status: StatusCode,
    pub body: Bytes,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server receives and performs the request; the proxy closes the connection instead of answering.
    LoseAnswer,
    /// The server never receives the request; the proxy closes the connection.
    LoseRequest,
    /// The server never receives the request; the proxy answers with this status.
    Answer(StatusCode),
    /// The server receives and performs the request; the proxy holds its answer until [`Injection::release`].
    HoldAnswer,
    /// The proxy holds the request until [`Injection::release`].
    HoldRequest,
}

type Predicate = dyn Fn(&Exchange) -> bool + Send + Sync;

struct Rule {
    matches: Box<Predicate>,
    fault: Fault,
    /// Matching requests that pass first.
    skip: usize,
    /// Matching requests that fail after those.
    times: usize,
    seen: usize,
    hits: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

/// An injected fault. Dropping it ends the fault and releases held requests and answers.
#[derive(Debug)]
pub struct Injection {
    hits: watch::Receiver<usize>,
    released: watch::Sender<bool>,
}

impl Injection {
    /// Waits until the fault has applied `count` times. For [`Fault::HoldAnswer`], the server has answered by then.
    ///
    /// # Errors
    ///
    /// When that does not happen within the deadline.
    pub async fn struck(&mut self, count: usize, deadline: Duration) -> Result<()> {
        let reached = tokio::time::timeout(deadline, self.hits.wait_for(|hits| *hits >= count)).await.is_ok();
        ensure!(reached, "waited {deadline:?} for a request to fail; it happened {} of {count} times", *self.hits.borrow());
        Ok(())
    }

    /// The number of times the fault has applied.
    pub fn hits(&self) -> usize {
        *self.hits.borrow()
    }

    /// Releases whatever is held, and everything that matches later.
    pub fn release(&self) {
        self.released.send_replace(true);
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.release();
    }
}

struct State {
    upstream: String,
    client: reqwest::Client,
    exchanges: Mutex<Vec<Exchange>>,
    /// Recorded answers; `None` in front of an API server, because watches do not end.
    answers: Option<Mutex<Vec<Answered>>>,
    rules: Mutex<Vec<Rule>>,
}

/// The proxy. It ends when it is dropped.
pub struct FaultProxy {
    state: Arc<State>,
    server: HttpServer,
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FaultProxy").field("url", &self.url()).field("upstream", &self.state.upstream).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FaultProxy {
    /// A proxy in front of an API server, with plain http for the client. Pass its URL to [`ControlPlane::kubeconfig_for`].
    pub async fn before_control_plane(plane: &ControlPlane) -> Result<Self> {
        let authority = reqwest::Certificate::from_pem(&std::fs::read(plane.authority())?)?;
        let builder = reqwest::Client::builder().tls_certs_only([authority]);
        Self::start(plane.server_url(), builder, None).await
    }

    /// A proxy in front of a Gitea. Use its URL as the connection's `url`; Gitea's answers still contain its real address.
    pub async fn before_gitea(gitea: &Gitea) -> Result<Self> {
        Self::start(gitea.url(), plain_http::builder(), Some(Mutex::default())).await
    }

    /// A proxy in front of an operator's receiver: another public endpoint, used only by clients that know its address.
    pub async fn before_receiver(url: &str) -> Result<Self> {
        Self::start(url, plain_http::builder(), None).await
    }

    async fn start(upstream: &str, builder: reqwest::ClientBuilder, answers: Option<Mutex<Vec<Answered>>>) -> Result<Self> {
        super::install_crypto();
        let client = builder.no_proxy().redirect(reqwest::redirect::Policy::none()).http1_only().build()?;
        let (upstream, exchanges, rules) = (upstream.to_owned(), Mutex::default(), Mutex::default());
        let state = Arc::new(State { upstream, client, exchanges, answers, rules });
        let shared = Arc::clone(&state);
        let server = HttpServer::start(free_port()?, move |request| pass(Arc::clone(&shared), request)).await?;
        Ok(Self { state, server })
    }

    /// The address without a trailing slash.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Every request since the start or the last [`Self::forget`], in the order of arrival.
    pub fn exchanges(&self) -> Vec<Exchange> {
        lock(&self.state.exchanges).clone()
    }

    /// Every answer of a Gitea since the start, in order, including those to forgotten requests.
    pub fn answers(&self) -> Vec<Answered> {
        self.state.answers.as_ref().map(|answers| lock(answers).clone()).unwrap_or_default()
    }

    /// The number of matching requests.
    pub fn count(&self, matches: impl Fn(&Exchange) -> bool) -> usize {
        lock(&self.state.exchanges).iter().filter(|exchange| matches(exchange)).count()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        lock(&self.state.exchanges).clear();
    }

    /// Closes all connections, and each new one.
    pub fn cut(&self) {
        self.server.set_open(false);
    }

    /// Ends what [`Self::cut`] began.
    pub fn restore(&self) {
        self.server.set_open(true);
    }

    /// Injects a fault for the next matching request.
    pub fn inject(&self, fault: Fault, matches: impl Fn(&Exchange) -> bool + Send + Sync + 'static) -> Injection {
        self.inject_nth(fault, 0, 1, matches)
    }

    /// Injects a fault: `skip` matching requests pass, then the next `times` fail.
    pub fn inject_nth(
        &self,
        fault: Fault,
        skip: usize,
        times: usize,
        matches: impl Fn(&Exchange) -> bool + Send + Sync + 'static,
    ) -> Injection {
        let (hits, hit) = watch::channel(0);
        let (released, _) = watch::channel(false);
        let injection = Injection { hits: hit, released: released.clone() };
        lock(&self.state.rules).push(Rule { matches: Box::new(matches), fault, skip, times, seen: 0, hits, released });
        injection
    }
}

/// A fault that applies to the present request.
struct Strike {
    fault: Fault,
    hits: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

impl Strike {
    fn count(&self) {
        self.hits.send_modify(|hits| *hits += 1);
    }

    async fn hold(&self) {
        self.count();
        // An error means that the sender is gone and nobody can release it any more.
        let _ = self.released.subscribe().wait_for(|released| *released).await;
    }
}

fn strike(state: &State, exchange: &Exchange) -> Option<Strike> {
    let mut rules = lock(&state.rules);
    rules.retain(|rule| !*rule.released.borrow());
    for rule in rules.iter_mut().filter(|rule| (rule.matches)(exchange)) {
        rule.seen += 1;
        if rule.seen > rule.skip && rule.seen <= rule.skip + rule.times {
            return Some(Strike { fault: rule.fault, hits: rule.hits.clone(), released: rule.released.clone() });
        }
    }
    None
}

async fn pass(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let exchange = Exchange { method: head.method, path, body: body.collect().await?.to_bytes(), at: Instant::now() };
    lock(&state.exchanges).push(exchange.clone());
    let strike = strike(&state, &exchange);
    match strike.as_ref().map(|strike| (strike, strike.fault)) {
        Some((strike, Fault::LoseRequest)) => {
            strike.count();
            bail!("lost by an injected fault");
        }
        Some((strike, Fault::Answer(status))) => {
            strike.count();
            return Ok(answer(status, "refused on order"));
        }
        Some((strike, Fault::HoldRequest)) => strike.hold().await,
        Some((_, Fault::LoseAnswer | Fault::HoldAnswer)) | None => {}
    }
    // In a task of its own: the server finishes the request even if the client disconnects.
    let response = tokio::spawn(forward(state, exchange, head.headers)).await??;
    match strike.as_ref().map(|strike| (strike, strike.fault)) {
        Some((strike, Fault::LoseAnswer)) => {
            strike.count();
            bail!("lost by an injected fault");
        }
        Some((strike, Fault::HoldAnswer)) => strike.hold().await,
        _ => {}
    }
    Ok(response)
}

async fn forward(state: Arc<State>, exchange: Exchange, mut headers: HeaderMap) -> Result<Response<Body>> {
    for name in [HOST, CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH, UPGRADE] {
        headers.remove(name);
    }
    let url = format!("{}{}", state.upstream, exchange.path);
    let request = state.client.request(exchange.method.clone(), url).headers(headers).body(exchange.body.clone());
    let answer = request.send().await.context("upstream")?;
    let mut response = Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        headers.extend(answer.headers().clone());
        headers.remove(CONNECTION);
        headers.remove(TRANSFER_ENCODING);
    }
    if let Some(answers) = &state.answers {
        let (status, body) = (answer.status(), answer.bytes().await.context("upstream")?);
        lock(answers).push(Answered { exchange, status, body: body.clone() });
        return Ok(response.body(Full::new(body).map_err(|never| match never {}).boxed_unsync())?);
    }
    // Watches stream, so pieces are forwarded as they arrive.
    let body = StreamBody::new(answer.bytes_stream().map_ok(Frame::data).map_err(anyhow::Error::from));
    Ok(response.body(body.boxed_unsync())?)
}
