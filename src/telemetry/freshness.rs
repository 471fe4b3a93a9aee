//! Observes the API server's responses: records when each watch was last opened, which shows whether the watches work, and counts
//! all other requests by status.
//!
//! A watch without events may be idle or broken. Every watch is reopened every [`WATCH_SECONDS`], so if a path had no response
//! for longer than [`STALE_AFTER`], the API server does not serve that watch.
//!
//! [`WATCH_SECONDS`]: crate::k8s::watch::WATCH_SECONDS

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;
use tower::{Layer, Service};

use super::code_label;

/// A watch without a response for this long counts as broken.
pub const STALE_AFTER: Duration = Duration::from_secs(60);

/// Watched resources, as they occur at the end of a path. Any other is labelled `other`.
const RESOURCES: [&str; 8] =
    ["gitproviderconnections", "connectiongrants", "repobindings", "namespaces", "secrets", "configmaps", "endpointslices", "services"];

/// Labels of a request to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    code: &'static str,
}

/// Labels of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    resource: &'static str,
}

/// Records the responses of the API server. Clones share the records.
#[derive(Clone, Debug, Default)]
pub struct WatchHealth {
    seen: Arc<Mutex<HashMap<String, Instant>>>,
    requests: Family<RequestLabels, Counter>,
    answered: Family<WatchLabels, Gauge>,
}

impl WatchHealth {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("forgebind_kubernetes_requests", "Requests to the API server, by method and status code", self.requests.clone());
        registry.register_with_unit(
            "forgebind_watch_last_answer_timestamp",
            "Time of the last response to the oldest watch of this resource",
            Unit::Seconds,
            self.answered.clone(),
        );
    }

    /// Updates the registered metrics.
    pub fn refresh(&self, now: Timestamp) {
        let seen = self.seen.lock();
        let mut oldest: HashMap<&'static str, Duration> = HashMap::new();
        for (path, at) in seen.iter() {
            let silent = oldest.entry(resource(path)).or_default();
            *silent = at.elapsed().max(*silent);
        }
        drop(seen);
        for (resource, silent) in oldest {
            let at = SignedDuration::try_from(silent).ok().and_then(|silent| now.checked_sub(silent).ok());
            self.answered.get_or_create(&WatchLabels { resource }).set(at.unwrap_or(now).as_second());
        }
    }

    /// Whether every watch whose path has one of these endings had a recent response. A watch that never had a response is not
    /// fresh.
    #[must_use]
    pub fn is_fresh(&self, endings: &[&str]) -> bool {
        let seen = self.seen.lock();
        endings.iter().all(|ending| {
            let mut watches = seen.iter().filter(|(path, _)| path.ends_with(ending)).peekable();
            watches.peek().is_some() && watches.all(|(_, at)| at.elapsed() < STALE_AFTER)
        })
    }

    /// How long the watch of this path has had no response; `None` if it never had one.
    #[must_use]
    pub fn silent_for(&self, path: &str) -> Option<Duration> {
        self.seen.lock().get(path).map(Instant::elapsed)
    }

    /// The metrics as text, for tests.
    #[cfg(test)]
    pub(crate) fn scraped(&self) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.register(&mut registry);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    fn note(&self, path: String) {
        self.seen.lock().insert(path, Instant::now());
    }

    fn count(&self, method: &'static str, code: &'static str) {
        self.requests.get_or_create(&RequestLabels { method, code }).inc();
    }
}

/// The resource of a collection's path.
fn resource(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    // A watch of a single object has the object's name after the collection.
    let collection = path.rsplit('/').nth(1).unwrap_or_default();
    RESOURCES.into_iter().find(|known| *known == name || *known == collection).unwrap_or("other")
}

fn method_label(method: &Method, watch: bool) -> &'static str {
    match *method {
        _ if watch => "WATCH",
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

impl<S> Layer<S> for WatchHealth {
    type Service = Noting<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Noting { inner, health: self.clone() }
    }
}

/// Middleware that records the responses to requests.
#[derive(Clone, Debug)]
pub struct Noting<S> {
    inner: S,
    health: WatchHealth,
}

impl<S, B, C> Service<Request<B>> for Noting<S>
where
    S: Service<Request<B>, Response = Response<C>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let watch = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
        let path = watch.then(|| request.uri().path().to_owned());
        let method = method_label(request.method(), watch);
        let health = self.health.clone();
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            health.count(method, answer.as_ref().map_or("unanswered", |answer| code_label(answer.status())));
            let answer = answer?;
            if let (Some(path), true) = (path, answer.status().is_success()) {
                health.note(path);
            }
            Ok(answer)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_is_fresh_while_its_last_answer_is_recent() {
        let health = WatchHealth::default();
        assert!(!health.is_fresh(&["/repobindings"]), "never answered");
        health.note("/apis/forgebind.dev/v1alpha1/repobindings".to_owned());
        health.note("/apis/forgebind.dev/v1alpha1/namespaces/a/repobindings".to_owned());
        assert!(health.is_fresh(&["/repobindings"]));
        assert!(!health.is_fresh(&["/repobindings", "/gitproviderconnections"]));
        tokio::time::advance(Duration::from_secs(50)).await;
        health.note("/apis/forgebind.dev/v1alpha1/repobindings".to_owned());
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(!health.is_fresh(&["/repobindings"]), "one of the two was not answered");
        assert_eq!(health.silent_for("/apis/forgebind.dev/v1alpha1/repobindings"), Some(Duration::from_secs(20)));
        assert_eq!(health.silent_for("/apis/forgebind.dev/v1alpha1/namespaces/b/repobindings"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_silent_watch_is_reported_by_resource_and_never_by_path() {
        let health = WatchHealth::default();
        for namespace in 0..100 {
            health.note(format!("/apis/forgebind.dev/v1alpha1/namespaces/team-{namespace}/repobindings"));
        }
        tokio::time::advance(Duration::from_secs(30)).await;
        health.note("/apis/forgebind.dev/v1alpha1/namespaces/team-0/repobindings".to_owned());
        health.note("/api/v1/namespaces/secrets/secrets/forgebind-receiver-secrets-0".to_owned());
        let now: Timestamp = "2026-11-20T12:00:30Z".parse().unwrap();
        health.refresh(now);
        let text = health.scraped();
        let series: Vec<&str> = text.lines().filter(|line| line.starts_with("forgebind_watch")).collect();
        let expected = |resource: &str, at: &str| {
            let at: Timestamp = at.parse().unwrap();
            format!("forgebind_watch_last_answer_timestamp_seconds{{resource=\"{resource}\"}} {}", at.as_second())
        };
        assert_eq!(series.len(), 2, "{series:?}");
        assert!(series.contains(&expected("repobindings", "2026-11-20T12:00:00Z").as_str()), "{series:?}");
        assert!(series.contains(&expected("secrets", "2026-11-20T12:00:30Z").as_str()), "{series:?}");
    }
}
