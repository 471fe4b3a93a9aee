//! Whether the watches work: told by when the API server last opened each of them.
//!
//! A watch that brings nothing may be quiet or dead. Each one is opened anew every [`WATCH_SECONDS`], so a path that was not
//! answered for longer than [`STALE_AFTER`] is one that the API server does not serve us.
//!
//! [`WATCH_SECONDS`]: crate::watches::WATCH_SECONDS

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::time::Instant;
use tower::{Layer, Service};

/// After this long without an answer, a watch counts as dead.
pub const STALE_AFTER: Duration = Duration::from_secs(60);

/// Notes when watches are answered. Clones share what they note.
#[derive(Clone, Debug, Default)]
pub struct WatchHealth(Arc<Mutex<HashMap<String, Instant>>>);

impl WatchHealth {
    /// Whether every watch whose path ends with one of these was answered lately. One that was never answered was not.
    #[must_use]
    pub fn is_fresh(&self, endings: &[&str]) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        endings.iter().all(|ending| {
            let mut watches = seen.iter().filter(|(path, _)| path.ends_with(ending)).peekable();
            watches.peek().is_some() && watches.all(|(_, at)| at.elapsed() < STALE_AFTER)
        })
    }

    fn note(&self, path: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path, Instant::now());
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
        let health = self.health.clone();
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await?;
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
}
