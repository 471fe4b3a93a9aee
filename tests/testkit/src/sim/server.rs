//! The server around a simulated provider.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::Method;
use http::header::AUTHORIZATION;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use jiff::Timestamp;

use super::clock::ProviderClock;
use super::contents::{ProviderEvent, UserAction};
use super::control::{self, Asked};
use super::delivery::{self, Delivery, Retry, Sent};
use super::facts::Facts;
use super::faults::{self, Fault, Order, Wire};
use super::message::{Request, Response};
use super::parameters;
use super::simulated_provider::{SeedData, Settings, SimulatedProvider};
use crate::http_server::{Body, HttpServer};
use crate::port::free_port;

/// A request and its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub request: Request,
    /// The status of the answer; `None` if there is none, or none yet.
    pub status: Option<u16>,
    /// When the request arrived.
    pub at: Instant,
    number: u64,
}

impl Exchange {
    /// Whether the request may change something. Queries by POST do not.
    pub fn is_write(&self) -> bool {
        let is_query = self.request.path.to_lowercase().ends_with("query");
        !matches!(self.request.method, Method::GET | Method::HEAD | Method::OPTIONS) && !is_query
    }
}

#[derive(Default)]
struct Journal {
    arrivals: u64,
    exchanges: Vec<Exchange>,
    sent: Vec<Sent>,
    /// Attempts that the provider will make, with their times, in the order in which they were planned.
    retries: Vec<(Timestamp, Delivery)>,
    orders: Vec<(Order, usize)>,
    answers: HashMap<String, Response>,
    deviations: Vec<String>,
}

impl Journal {
    fn arrived(&mut self, request: &Request) -> u64 {
        self.arrivals += 1;
        let number = self.arrivals;
        self.exchanges.push(Exchange { request: request.clone(), status: None, at: Instant::now(), number });
        number
    }

    /// The time of the next retry.
    fn next_retry(&self) -> Option<Timestamp> {
        self.retries.iter().map(|(due, _)| *due).min()
    }

    /// Removes and returns the first retry that is due.
    fn take_due(&mut self, now: Timestamp) -> Option<Delivery> {
        let (position, _) = self.retries.iter().enumerate().filter(|(_, (due, _))| *due <= now).min_by_key(|(_, (due, _))| *due)?;
        Some(self.retries.remove(position).1)
    }

    fn answered(&mut self, number: u64, status: Option<u16>) {
        if let Some(exchange) = self.exchanges.iter_mut().find(|exchange| exchange.number == number) {
            exchange.status = status;
        }
    }
}

struct Shared {
    product: Box<dyn SimulatedProvider>,
    url: String,
    clock: ProviderClock,
    client: reqwest::Client,
    journal: Mutex<Journal>,
    /// Serialises the deliveries: those of one action precede those of the next.
    sending: tokio::sync::Mutex<()>,
}

/// A running simulator. It ends when it is dropped.
///
/// When it is dropped in a test that has not failed for another reason, it fails the test if a request or an answer deviated from
/// the official description.
pub struct Simulator {
    shared: Arc<Shared>,
    server: HttpServer,
}

impl fmt::Debug for Simulator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Simulator({}, {})", self.shared.product.kind(), self.shared.url)
    }
}

impl Simulator {
    /// Starts on a free port of 127.0.0.1 and delivers to local targets.
    pub async fn start(product: impl FnOnce(Settings) -> Box<dyn SimulatedProvider>) -> Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], free_port()?)), true, product).await
    }

    /// Starts at an address.
    pub async fn start_at(
        address: SocketAddr,
        allow_local_targets: bool,
        product: impl FnOnce(Settings) -> Box<dyn SimulatedProvider>,
    ) -> Result<Self> {
        crate::install_crypto();
        let url = format!("http://{address}");
        let clock = ProviderClock::default();
        let product = product(Settings { url: url.clone(), allow_local_targets, clock: clock.clone() });
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
        let shared = Arc::new(Shared { product, url, clock, client, journal: Mutex::default(), sending: tokio::sync::Mutex::new(()) });
        let state = Arc::clone(&shared);
        let server = HttpServer::start_at(address, move |request| serve(Arc::clone(&state), request)).await?;
        Ok(Self { shared, server })
    }

    /// The address without a trailing slash.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// The data with which it starts.
    pub fn seed_data(&self) -> SeedData {
        self.shared.product.seed_data()
    }

    pub fn product(&self) -> &dyn SimulatedProvider {
        self.shared.product.as_ref()
    }

    /// Performs a user's action and sends its deliveries. Returns after every delivery was answered or has failed.
    ///
    /// # Errors
    ///
    /// Why the action is impossible.
    pub async fn act(&self, act: &UserAction) -> Result<Vec<ProviderEvent>> {
        self.shared.act(act).await.map(|(provider_events, _)| provider_events)
    }

    /// The provider's clock.
    pub fn clock(&self) -> &ProviderClock {
        &self.shared.clock
    }

    /// Moves the provider's clock forward. Meanwhile the provider makes each retry at its time. Returns after each was answered or
    /// has failed.
    pub async fn advance(&self, by: Duration) {
        let _turn = self.shared.sending.lock().await;
        let end = self.shared.clock.now() + by;
        loop {
            let due = self.shared.journal().next_retry();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.shared.clock.advance_to(due);
            self.shared.retry_due().await;
        }
        self.shared.clock.advance_to(end);
    }

    /// Injects a fault.
    pub fn order(&self, order: Order) {
        self.shared.journal().orders.push((order, 0));
    }

    /// Removes every injected fault.
    pub fn behave(&self) {
        self.shared.journal().orders.clear();
    }

    /// How many times each fault has applied, in the order of injection.
    pub fn strikes(&self) -> Vec<usize> {
        self.shared.journal().orders.iter().map(|(order, seen)| seen.saturating_sub(order.skip).min(order.times)).collect()
    }

    /// Every request since the start or the last [`Self::forget`], without control endpoints.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.journal().exchanges.clone()
    }

    /// The number of requests that may have changed something.
    pub fn writes(&self) -> usize {
        self.shared.journal().exchanges.iter().filter(|exchange| exchange.is_write()).count()
    }

    /// Every delivery that was sent.
    pub fn sent(&self) -> Vec<Sent> {
        self.shared.journal().sent.clone()
    }

    /// Forgets requests and deliveries so far.
    pub fn forget(&self) {
        let mut journal = self.shared.journal();
        journal.exchanges.clear();
        journal.sent.clear();
    }

    /// Returns and removes the deviations from the official description so far, for a test that causes them on purpose.
    pub fn take_slips(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.journal().deviations)
    }

    /// Closes all connections, and each new one.
    pub fn cut(&self) {
        self.server.set_open(false);
    }

    /// Ends what [`Self::cut`] began.
    pub fn restore(&self) {
        self.server.set_open(true);
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let mut deviations = std::mem::take(&mut self.shared.journal().deviations);
        deviations.sort();
        deviations.dedup();
        let kind = self.shared.product.kind();
        assert!(
            deviations.is_empty() || std::thread::panicking(),
            "against the official description of {kind}:\n{}",
            deviations.join("\n")
        );
    }
}

impl Shared {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn act(self: &Arc<Self>, act: &UserAction) -> Result<(Vec<ProviderEvent>, usize)> {
        let provider_events = self.product.act(act).map_err(|error| anyhow!(error))?;
        let repository = act.repository().unwrap_or_default();
        let deliveries: Vec<_> =
            provider_events.iter().flat_map(|provider_event| self.product.deliveries(repository, provider_event)).collect();
        let count = deliveries.len();
        self.send(deliveries).await;
        Ok((provider_events, count))
    }

    /// Sends deliveries one after the other, and plans the retries that the provider makes of them.
    async fn send(self: &Arc<Self>, deliveries: Vec<Delivery>) {
        let _turn = self.sending.lock().await;
        for delivery in deliveries {
            self.send_one(delivery).await;
        }
    }

    /// Makes the retries that are due. The caller holds the turn.
    async fn retry_due(self: &Arc<Self>) {
        loop {
            let Some(delivery) = self.journal().take_due(self.clock.now()) else { return };
            if self.product.still_retries(&delivery) {
                self.send_one(delivery).await;
            }
        }
    }

    async fn send_one(self: &Arc<Self>, delivery: Delivery) {
        let outcome = delivery::send(&self.client, &delivery).await;
        if let Some(Retry { delivery: again, after }) = self.product.delivered(&delivery, &outcome) {
            let again = Delivery { attempt: delivery.attempt + 1, ..again };
            self.journal().retries.push((self.clock.now() + after, again));
            tokio::spawn(retry_in_time(Arc::downgrade(self), after.unsigned_abs()));
        }
        self.journal().sent.push(Sent { delivery, outcome, at: Instant::now() });
    }

    /// The fault that applies to a request.
    fn strike(&self, request: &Request) -> Option<Fault> {
        let mut journal = self.journal();
        let mut struck = None;
        for (order, seen) in journal.orders.iter_mut().filter(|(order, _)| order.fits(request)) {
            *seen += 1;
            if struck.is_none() && *seen > order.skip && *seen - order.skip <= order.times {
                struck = Some(order.fault.clone());
            }
        }
        struck
    }

    async fn control(self: &Arc<Self>, asked: Result<Asked, Response>) -> Response {
        match asked {
            Err(refusal) => refusal,
            Ok(Asked::Describe) => {
                let sent = self.journal().sent.clone();
                let sent: Vec<_> =
                    sent.into_iter().map(|sent| (sent.delivery.repository, sent.delivery.hook, format!("{:?}", sent.outcome))).collect();
                control::describe(&self.product.seed_data(), &sent)
            }
            Ok(Asked::UserAction(act)) => match self.act(&act).await {
                Ok((provider_events, deliveries)) => control::done(&provider_events, deliveries),
                Err(error) => Response::json(422, &serde_json::json!({"error": error.to_string()})),
            },
        }
    }

    /// Answers a request to the provider, and keeps the answer for [`Fault::Stale`].
    fn answer(&self, request: &Request, stale: bool) -> Response {
        let key =
            format!("{} {} {:?} {:?} {:?}", request.method, request.path, request.query, request.headers.get(AUTHORIZATION), request.body);
        if stale && let Some(response) = self.journal().answers.get(&key) {
            return response.clone();
        }
        let response = self.product.answer(request);
        self.journal().answers.insert(key, response.clone());
        response
    }

    /// Records deviations of a request or its answer from the official description.
    fn hold_to_the_description(&self, request: &Request, response: &Response) {
        let Some(path) = self.product.api_path(request) else { return };
        let facts = Facts::of(self.product.kind());
        let status = response.status.as_u16();
        let body = if facts.takes_forms() { parameters::of_body(request) } else { Some(request.json()).filter(|body| !body.is_null()) };
        let query = self.product.query(request);
        let answered = Some(response.document()).filter(|document| !document.is_null());
        let mut deviations = facts.request(&request.method, path, &query, body.as_ref());
        deviations.extend(facts.answer(&request.method, path, status, answered.as_ref()));
        let line = |slip: String| format!("{} {path} {status}: {slip}", request.method);
        self.journal().deviations.extend(deviations.into_iter().map(line));
    }

    /// The answer as it is sent.
    async fn respond(self: &Arc<Self>, request: &Request) -> Result<Wire> {
        let struck = self.strike(request);
        if let Some(fault) = &struck {
            if let Some(wire) = faults::instead(fault, self.product.as_ref(), &self.url, request) {
                return Ok(wire);
            }
            match fault {
                Fault::Slow(pause) => tokio::time::sleep(*pause).await,
                Fault::Meanwhile(act) => drop(self.act(act).await?),
                _ => {}
            }
        }
        let response = self.answer(request, struck == Some(Fault::Stale));
        self.hold_to_the_description(request, &response);
        let pending = self.product.pending();
        if !pending.is_empty() {
            let shared = Arc::clone(self);
            tokio::spawn(async move { shared.send(pending).await });
        }
        let wire = match &struck {
            Some(fault) => faults::afterwards(fault, &self.url, response),
            None => Wire::Whole(response),
        };
        Ok(wire)
    }
}

/// Makes the retries that are due after a time: the clock may run with the machine's. If a test holds or moves the clock, there may
/// be none.
fn retry_in_time(shared: Weak<Shared>, after: Duration) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        tokio::time::sleep(after).await;
        if let Some(shared) = shared.upgrade() {
            let _turn = shared.sending.lock().await;
            shared.retry_due().await;
        }
    })
}

async fn serve(shared: Arc<Shared>, request: http::Request<Incoming>) -> Result<http::Response<Body>> {
    let request = read(request).await?;
    if let Some(asked) = control::read(&request) {
        let response = shared.control(asked).await;
        return Wire::Whole(response).into_http().context("an answer of a control endpoint");
    }
    let number = shared.journal().arrived(&request);
    // In a task of its own: the provider finishes the request even if the client disconnects.
    let (worker, asked) = (Arc::clone(&shared), request);
    let wire = tokio::spawn(async move { worker.respond(&asked).await }).await??;
    let status = match &wire {
        Wire::Whole(response) | Wire::Cut(response) => Some(response.status.as_u16()),
        Wire::Huge => Some(200),
        Wire::Nothing => None,
    };
    shared.journal().answered(number, status);
    wire.into_http().context("the connection is closed by an injected fault")
}

async fn read(request: http::Request<Incoming>) -> Result<Request> {
    let (head, body) = request.into_parts();
    let body: Bytes = body.collect().await?.to_bytes();
    let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    Ok(Request { method: head.method, path: head.uri.path().to_owned(), query, headers: head.headers, body })
}
