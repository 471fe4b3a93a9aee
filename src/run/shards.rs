//! Watches the Secrets with users' webhook secrets by name, and only those that some binding needs: a receiver is never given the
//! right to list Secrets.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::pin::pin;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};
use tracing::{info, warn};

use super::watching::Watched;
use crate::api::v1alpha1::RepoBinding;
use crate::controllers::{Context, locked};
use crate::receiver_secrets::{self, UserSecrets};
use crate::watches::{self, Change};
use crate::wording;

/// Hears what is prepared in a shard, at first and after every change.
pub(super) type Hears = Arc<dyn Fn(u8, &BTreeMap<String, UserSecrets>) + Send + Sync>;

/// The shards that are watched.
pub(super) struct Shards {
    client: Client,
    namespace: String,
    hears: Hears,
    watched: Mutex<HashSet<u8>>,
}

impl Shards {
    pub(super) fn new(client: &Client, namespace: &str, hears: Hears) -> Self {
        Self { client: client.clone(), namespace: namespace.to_owned(), hears, watched: Mutex::default() }
    }

    pub(super) fn watch_for(&self, binding: &RepoBinding) {
        let Some(uid) = binding.uid().filter(|_| brings_secret(binding)) else { return };
        let shard = receiver_secrets::shard(&uid);
        if locked(&self.watched).insert(shard) {
            let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
            // Ends with the process.
            tokio::spawn(follow(secrets, shard, Arc::clone(&self.hears)));
        }
    }
}

/// Whether a binding brings a secret of its own for deliveries to our receiver.
fn brings_secret(binding: &RepoBinding) -> bool {
    binding.spec.webhook.as_ref().is_some_and(|webhook| webhook.secret_ref.is_some() && webhook.url.is_none())
}

/// Follows one of these Secrets. Its trouble is told as that of any other watch; how the API server answers is counted where all
/// requests are.
async fn follow(secrets: Api<Secret>, shard: u8, hears: Hears) {
    let name = receiver_secrets::secret_name(shard);
    let mut states = pin!(watches::object(secrets, &name));
    let mut failing = false;
    while let Some(state) = states.next().await {
        match state {
            Ok(secret) => {
                if std::mem::take(&mut failing) {
                    info!(kind = "Secret", name, "watch works again");
                }
                let data = secret.and_then(|secret| secret.data).unwrap_or_default();
                let (entries, unreadable) = receiver_secrets::read_shard(&data);
                for uid in unreadable {
                    warn!(shard, uid, "prepared webhook secret is not readable");
                }
                hears(shard, &entries);
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(kind = "Secret", name, error = wording::of_watch(&error), "watch fails, trying again");
                }
            }
        }
    }
}

/// Has bindings looked at again whose prepared secret somebody deleted, because a look prepares it: until then the receivers would
/// refuse what arrives.
pub(super) fn renew(watched: &mut Watched, context: &Arc<Context>) {
    let prepared: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let (context, known) = (Arc::clone(context), Arc::clone(&prepared));
    let (client, namespace) = (context.client.clone(), context.view.settings.namespace.clone());
    let hears: Hears = Arc::new(move |shard, entries| {
        let gone = gone(&locked(&known), shard, entries);
        for binding in context.view.bindings.state_filter(|binding| binding.uid().is_some_and(|uid| gone.contains(&uid))) {
            info!(namespace = binding.namespace(), name = binding.name_any(), "the prepared webhook secret is gone; it is prepared again");
            locked(&context.view.looks).entry(binding.uid().unwrap_or_default()).or_default().next = None;
            context.view.triggers.binding(&binding);
        }
    });
    let shards = Shards::new(&client, &namespace, hears);
    watched.on_bindings(Box::new(move |change| match change {
        Change::Applied(binding) => {
            let mut prepared = locked(&prepared);
            let uid = binding.uid().unwrap_or_default();
            // Only what was prepared can be lost: the first look of a binding prepares it before the status tells a generation.
            if !brings_secret(binding) || binding.metadata.deletion_timestamp.is_some() {
                prepared.remove(&uid);
            } else if binding.status.as_ref().and_then(|status| status.webhook.as_ref()?.secret_generation.as_ref()).is_some() {
                prepared.insert(uid);
            }
            drop(prepared);
            shards.watch_for(binding);
        }
        Change::Deleted(binding) => drop(locked(&prepared).remove(&binding.uid().unwrap_or_default())),
        Change::Invalid(_) | Change::Ready => {}
    }));
}

/// The UIDs that were prepared in a shard and are not any more.
fn gone(prepared: &BTreeSet<String>, shard: u8, entries: &BTreeMap<String, UserSecrets>) -> BTreeSet<String> {
    prepared.iter().filter(|uid| receiver_secrets::shard(uid) == shard && !entries.contains_key(*uid)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use http::{Request, Response, StatusCode};
    use kube::client::Body;
    use prometheus_client::registry::Registry;
    use serde_json::json;
    use tower::{Layer as _, service_fn};

    use super::*;
    use crate::telemetry::freshness::WatchHealth;

    /// Collects what is logged on this thread.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            locked(&self.0).extend_from_slice(bytes);
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
    async fn a_prepared_secret_that_cannot_be_watched_is_logged_once_and_counted_and_so_is_that_it_works_again() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        // With a single subscriber, other tests' threads, which have none, would switch call sites off for good.
        let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
        let _guard = tracing::subscriber::set_default(subscriber);

        let (health, asked) = (WatchHealth::default(), Arc::new(AtomicUsize::new(0)));
        let service = health.layer(service_fn(move |request| answer(request, Arc::clone(&asked))));
        let secrets = Api::namespaced(Client::new(service, "system"), "system");
        let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
        let hears: Hears = Arc::new(move |shard, entries| {
            let _ = told.send((shard, entries.len()));
        });
        tokio::select! {
            () = follow(secrets, 7, hears) => panic!("it never ends"),
            heard = tokio::time::timeout(Duration::from_secs(60), hear.recv()) => assert_eq!(heard.unwrap(), Some((7, 0))),
        }

        let text = String::from_utf8(locked(&log.0).clone()).unwrap();
        let of = |message: &str| text.lines().filter(|line| line.contains(message)).map(str::to_owned).collect::<Vec<_>>();
        let (fails, works) = (of("watch fails, trying again"), of("watch works again"));
        assert_eq!((fails.len(), works.len()), (1, 1), "{text}");
        for word in [r#""kind":"Secret""#, r#""name":"forgebind-receiver-secrets-7""#, "is forbidden (403)"] {
            assert!(fails.concat().contains(word), "{fails:?}");
        }
        let mut registry = Registry::default();
        health.register(&mut registry);
        let mut metrics = String::new();
        prometheus_client::encoding::text::encode(&mut metrics, &registry).unwrap();
        assert!(metrics.contains(r#"forgebind_kubernetes_requests_total{method="GET",code="403"} 2"#), "{metrics}");
    }
}
