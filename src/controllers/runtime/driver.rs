//! Runs the controllers while this process leads.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{self, BoxFuture};
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use kube::runtime::controller::{Action, Config, Error as ControllerError, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt as _};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::queue_metrics::QueueMetrics;
use super::turns::Turns;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::{ConnectionGrant, GitProviderConnection, RepoBinding};
use crate::controllers::metrics::{KINDS, Kind, Outcome, Running};
use crate::controllers::{Context, Error, binding, catalog, connection, grant, leftovers, public_endpoints};
use crate::protocol::evidence::EvidenceSource;

/// How many objects of one kind are reconciled at once. One namespace gets at most three quarters of them.
const CONNECTIONS_AT_ONCE: usize = 8;
const GRANTS_AT_ONCE: usize = 4;
const BINDINGS_AT_ONCE: usize = 32;
/// Changes of one object within this time cause one reconciliation.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Time limit of a reconciliation. The calls in it have deadlines of their own; this one covers what they miss.
const MAX_DURATION: Duration = Duration::from_secs(120);
/// How long running reconciliations may take to finish when the process stops.
const GRACE: Duration = Duration::from_secs(20);

/// Receiving ends of the requests for reconciliations.
#[derive(Debug)]
pub struct Requests {
    /// Requests for connections.
    pub connections: UnboundedReceiver<ObjectRef<GitProviderConnection>>,
    /// Requests for grants.
    pub grants: UnboundedReceiver<ObjectRef<ConnectionGrant>>,
    /// Requests for bindings.
    pub bindings: UnboundedReceiver<ObjectRef<RepoBinding>>,
    /// Connections whose session changed. Their bindings are requested.
    pub sessions: UnboundedReceiver<ConnectionTarget>,
}

/// Runs the controllers whenever this process leads, until the token is cancelled. Running reconciliations may finish then.
pub async fn run(
    context: Arc<Context>,
    mut requests: Requests,
    mut leading: watch::Receiver<bool>,
    evidence: Arc<dyn EvidenceSource>,
    stop: CancellationToken,
) {
    while wait_to_lead(&mut requests, &mut leading, &stop).await {
        info!("became the leader; reconciling");
        context.view.memory.begin_term();
        context.view.prepared.begin();
        context.metrics.leading.set(1);
        let term = stop.child_token();
        tokio::select! {
            () = lead(&context, &mut requests, &*evidence, &term) => {}
            () = lost(&mut leading) => warn!("no longer the leader; reconciliations in progress are cancelled"),
        }
        context.view.prepared.end();
        context.metrics.leading.set(0);
    }
}

/// Waits until this process leads. Drops requests that arrive meanwhile, because a new leader reconciles every object.
async fn wait_to_lead(requests: &mut Requests, leading: &mut watch::Receiver<bool>, stop: &CancellationToken) -> bool {
    let drain = async {
        loop {
            tokio::select! {
                Some(_) = requests.connections.recv() => {}
                Some(_) = requests.grants.recv() => {}
                Some(_) = requests.bindings.recv() => {}
                Some(_) = requests.sessions.recv() => {}
                else => future::pending().await,
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        led = leading.wait_for(|leading| *leading) => led.is_ok(),
        () = drain => false,
    }
}

async fn lost(leading: &mut watch::Receiver<bool>) {
    if leading.wait_for(|leading| !*leading).await.is_err() {
        future::pending::<()>().await;
    }
}

async fn lead(context: &Arc<Context>, requests: &mut Requests, evidence: &dyn EvidenceSource, stop: &CancellationToken) {
    // A connection or a grant that the cache has not seen yet looks deleted, and hooks would be deleted.
    let view = &context.view;
    let filled = async {
        view.connections.wait_until_ready().await.is_ok()
            && view.grant_objects.wait_until_ready().await.is_ok()
            && view.bindings.wait_until_ready().await.is_ok()
    };
    tokio::select! {
        filled = filled => if !filled { return },
        () = stop.cancelled() => return,
    }
    let Requests { connections, grants, bindings, sessions } = requests;
    let [connection_kind, grant_kind, binding_kind] = KINDS;
    let connections =
        drive(context, connection_kind, context.view.connections.clone(), connections, CONNECTIONS_AT_ONCE, stop, connection::reconcile);
    let grants = drive(context, grant_kind, context.view.grant_objects.clone(), grants, GRANTS_AT_ONCE, stop, grant::reconcile);
    let bindings = drive(context, binding_kind, context.view.bindings.clone(), bindings, BINDINGS_AT_ONCE, stop, binding::reconcile);
    let relay = async {
        while let Some(connection) = sessions.recv().await {
            for binding in context.view.bindings_of(&connection) {
                context.view.triggers.binding(&binding);
            }
        }
    };
    let work = future::join3(connections, grants, bindings);
    tokio::select! {
        _ = work => {}
        () = relay => {}
        () = binding::evidence::follow(context, evidence) => {}
        () = leftovers::work(context) => {}
        () = public_endpoints::follow(context) => {}
        () = catalog::follow(context) => {}
    }
}

type Reconciler<K> = fn(Arc<K>, Arc<Context>) -> BoxFuture<'static, Result<Action, Error>>;

async fn drive<K>(
    context: &Arc<Context>,
    kind: &'static str,
    store: Store<K>,
    requests: &mut UnboundedReceiver<ObjectRef<K>>,
    at_once: usize,
    stop: &CancellationToken,
    reconciler: Reconciler<K>,
) where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let everything: Vec<_> = store.state().iter().map(|object| ObjectRef::from_obj(&**object)).collect();
    let queue_metrics = Arc::new(QueueMetrics::new(kind, context.metrics.clone()));
    let (enqueued, started) = (Arc::clone(&queue_metrics), Arc::clone(&queue_metrics));
    let queue = stream::iter(everything)
        .chain(stream::poll_fn(|polling| requests.poll_recv(polling)))
        .take_until(stop.clone().cancelled_owned())
        .inspect(move |object| enqueued.enqueued(object))
        .map(Ok::<_, std::convert::Infallible>);
    // No concurrency limit here: `Turns` limits and schedules below.
    let config = Config::default().concurrency(0).debounce(DEBOUNCE);
    let (turns, objects, stopped) = (Turns::new(at_once), store.clone(), stop.clone());
    let reconcile = move |object: Arc<K>, context| {
        let (turns, objects, started, stopped) = (Arc::clone(&turns), objects.clone(), Arc::clone(&started), stopped.clone());
        async move {
            let namespace = object.namespace().unwrap_or_default();
            let _turn = tokio::select! {
                turn = turns.take(&namespace) => turn,
                // The next leader reconciles what has not started.
                () = stopped.cancelled() => return Ok(Action::await_change()),
            };
            let reference = ObjectRef::from_obj(&*object);
            started.started(&reference);
            // The object may have changed while it waited.
            let Some(object) = objects.get(&reference) else { return Ok(Action::await_change()) };
            guard(kind, reconciler, object, context).await
        }
        .boxed()
    };
    let policy = |object: Arc<K>, error: &Error, context: Arc<Context>| after_error(kind, &*object, error, &context);
    let results = applier(reconcile, policy, Arc::clone(context), store, queue, config);
    finish(results, &queue_metrics, stop).await;
}

/// Follows the results until the stream ends, and after the stop for at most [`GRACE`].
async fn finish<K>(
    results: impl Stream<Item = Result<(ObjectRef<K>, Action), ControllerError<Error, std::convert::Infallible>>>,
    queue_metrics: &QueueMetrics,
    stop: &CancellationToken,
) where
    K: Resource<DynamicType = ()>,
{
    let follow = results.for_each(|result| {
        if let Err(ControllerError::ObjectNotFound(object)) = result {
            queue_metrics.dropped(&*object);
        }
        future::ready(())
    });
    let too_long = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = follow => {}
        () = too_long => warn!("reconciliations in progress did not finish in time"),
    }
}

/// Runs one reconciliation with its time limit and metrics, and catches panics: one faulty object must not stop the others.
fn guard<K>(
    kind: &'static str,
    reconciler: Reconciler<K>,
    object: Arc<K>,
    context: Arc<Context>,
) -> impl Future<Output = Result<Action, Error>>
where
    K: Resource<DynamicType = ()> + Send + Sync + 'static,
{
    let started = Instant::now();
    let running = Running::begin(&context.metrics, kind);
    async move {
        let _running = running;
        let reconciliation = AssertUnwindSafe(reconciler(object, Arc::clone(&context))).catch_unwind();
        let result = match tokio::time::timeout(MAX_DURATION, reconciliation).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Panicked),
            Err(_) => Err(Error::TimedOut(MAX_DURATION)),
        };
        context.metrics.seconds.get_or_create(&Kind { kind }).observe(started.elapsed().as_secs_f64());
        let label = if result.is_ok() { "success" } else { "error" };
        context.metrics.reconciliations.get_or_create(&Outcome { kind, result: label }).inc();
        result
    }
}

fn after_error<K>(kind: &'static str, object: &K, cause: &Error, context: &Context) -> Action
where
    K: Resource<DynamicType = ()>,
{
    let pause = context.backoff.fail(&object.uid().unwrap_or_default());
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    match cause {
        // Another client wrote between our read and our write. The watch delivers that change.
        Error::Kubernetes(kube::Error::Api(status)) if status.is_conflict() => {}
        Error::Panicked => error!(kind, namespace, name, "reconciliation panicked"),
        cause => warn!(kind, namespace, name, error = %cause, pause = ?pause, "reconciliation failed"),
    }
    Action::requeue(pause)
}
