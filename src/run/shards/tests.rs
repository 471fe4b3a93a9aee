//! Tests of the log lines about a failing watch.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::json;
use tower::{Layer as _, service_fn};

use super::*;
use crate::telemetry::freshness::WatchHealth;

/// Collects the log of this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An API server that forbids the first two requests, then lists nothing, and never answers a watch.
async fn answer(request: Request<Body>, asked: Arc<AtomicUsize>) -> Result<Response<Body>, Infallible> {
    if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
        std::future::pending::<()>().await;
    }
    let (status, body) = if asked.fetch_add(1, Ordering::Relaxed) < 2 {
        let message = "secrets \"forgebind-receiver-secrets-7\" is forbidden";
        (StatusCode::FORBIDDEN, json!({"kind": "Status", "status": "Failure", "message": message, "reason": "Forbidden", "code": 403}))
    } else {
        (StatusCode::OK, json!({"kind": "SecretList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}))
    };
    let mut response = Response::new(Body::from(serde_json::to_vec(&body).unwrap()));
    *response.status_mut() = status;
    Ok(response)
}

#[tokio::test(start_paused = true)]
async fn a_failing_watch_of_prepared_secrets_is_logged_once_and_counted_and_so_is_its_recovery() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    // With a single subscriber, the threads of other tests, which have none, would disable call sites permanently.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    let _guard = tracing::subscriber::set_default(subscriber);

    let (health, asked) = (WatchHealth::default(), Arc::new(AtomicUsize::new(0)));
    let service = health.layer(service_fn(move |request| answer(request, Arc::clone(&asked))));
    let secrets = Api::namespaced(Client::new(service, "system"), "system");
    let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let hears: Hears = Arc::new(move |shard, _, entries| {
        let _ = told.send((shard, entries.len()));
    });
    tokio::select! {
        () = follow(secrets, 7, hears) => panic!("it never ends"),
        first = tokio::time::timeout(Duration::from_secs(60), hear.recv()) => assert_eq!(first.unwrap(), Some((7, 0))),
    }

    let text = String::from_utf8(log.0.lock().clone()).unwrap();
    let of = |message: &str| text.lines().filter(|line| line.contains(message)).map(str::to_owned).collect::<Vec<_>>();
    let (fails, works) = (of("watch failed, retrying"), of("watch works again"));
    assert_eq!((fails.len(), works.len()), (1, 1), "{text}");
    for word in [r#""kind":"Secret""#, r#""name":"forgebind-receiver-secrets-7""#, "is forbidden (403)"] {
        assert!(fails.concat().contains(word), "{fails:?}");
    }
    let metrics = health.scraped();
    assert!(metrics.contains(r#"forgebind_kubernetes_requests_total{method="GET",code="403"} 2"#), "{metrics}");
}
