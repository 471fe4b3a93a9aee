//! How the API server answers: whether the watches work, told by when it last opened each of them, and what it says to all
//! other requests.
//!
//! A watch that brings nothing may be quiet or dead. Each one is opened anew every [`WATCH_SECONDS`], so a path that was not
//! answered for longer than [`STALE_AFTER`] is one that the API server does not serve us.
//!
//! [`WATCH_SECONDS`]: crate::k8s::watch::WATCH_SECONDS

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use jiff::{SignedDuration, Timestamp};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;
use tower::{Layer, Service};

use super::code_label;

/// After this long without an answer, a watch counts as dead.
pub const STALE_AFTER: Duration = Duration::from_secs(60);

/// Resources that are watched, as they end a path. Any other would be told as `other`.
const RESOURCES: [&str; 6] = ["gitproviderconnections", "repobindings", "namespaces", "secrets", "configmaps", "endpointslices"];

/// What was asked of the API server and how it answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    code: &'static str,
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    resource: &'static str,
}

/// Notes how the API server answers. Clones share what they note.
#[derive(Clone, Debug, Default)]
pub struct WatchHealth {
    seen: Arc<Mutex<HashMap<String, Instant>>>,
    requests: Family<RequestLabels, Counter>,
    answered: Family<WatchLabels, Gauge>,
}

impl WatchHealth {
    /// Registers what is counted.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("forgebind_kubernetes_requests", "Requests to the API server, by how it answered", self.requests.clone());
        registry.register_with_unit(
            "forgebind_watch_last_answer_timestamp",
            "Time of the last answer to the oldest watch of this resource",
            Unit::Seconds,
            self.answered.clone(),
        );
    }

    /// Brings what was registered up to date.
    pub fn refresh(&self, now: Timestamp) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Whether every watch whose path ends with one of these was answered lately. One that was never answered was not.
    #[must_use]
    pub fn is_fresh(&self, endings: &[&str]) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        endings.iter().all(|ending| {
            let mut watches = seen.iter().filter(|(path, _)| path.ends_with(ending)).peekable();
            watches.peek().is_some() && watches.all(|(_, at)| at.elapsed() < STALE_AFTER)
        })
    }

    /// The figures as they are scraped.
    #[cfg(test)]
    pub(crate) fn scraped(&self) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.register(&mut registry);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    fn note(&self, path: String) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(path, Instant::now());
    }

    fn count(&self, method: &'static str, code: &'static str) {
        self.requests.get_or_create(&RequestLabels { method, code }).inc();
    }
}

/// The resource that a path of a collection is about.
fn resource(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    // One object is watched by its name in the collection.
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

/// Passes requests through and notes the answers to watches.
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
    async fn a_watch_is_fresh_for_as_long_as_it_was_answered_lately() {
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
    }

    #[tokio::test(start_paused = true)]
    async fn the_watch_that_is_silent_for_longest_is_told_by_resource_and_never_by_path() {
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
