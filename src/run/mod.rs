//! The composition root: connects all parts of the process and runs them.

mod app;
mod cluster;
mod error;
mod peers;
mod receivers;
mod role;
mod routing;
mod shards;
mod uninstall;
mod watching;

use std::sync::Arc;

use futures::FutureExt as _;
use jiff::Timestamp;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::clock::{SharedClock, SystemClock};
use crate::config::{self, Config, Receivers};
use crate::controllers::binding::memory::Memories;
use crate::controllers::binding::prepared::PreparedEntries;
use crate::controllers::catalog::state::Catalogs;
use crate::controllers::install::guard::Guarded;
use crate::controllers::install::{self, InstallKeyError, KeyFailure};
use crate::controllers::public_endpoints::PublicEndpoints;
use crate::controllers::runtime::backoff::Backoff;
use crate::controllers::runtime::driver::{self, Requests};
use crate::controllers::runtime::lease::{LeaderElection, LeaseDeadline};
use crate::controllers::runtime::writes::WriteTracker;
use crate::controllers::view::{ClusterObjects, ProviderClients};
use crate::controllers::{self, Context, Keys, Sessions, Settings, Triggers, View};
use crate::network::NetworkPolicy;
use crate::protocol::deliveries::RecentQuery;
use crate::protocol::evidence::{Ask, Collected, Cursors, EvidenceSource};
use crate::protocol::keys::ReceiverKey;
use crate::providers::transport::{Lease, TransportFactory, Unleased};
use crate::receiver::{EvidenceStore, OutboxConfig, OutboxKind, Receiver, ReceiverConfig};
use crate::telemetry::admin::{self, EvidenceEndpoint, OutboxEndpoint};
use crate::telemetry::freshness::WatchHealth;
use crate::telemetry::logs;
use app::App;
pub use error::RunError;
pub use role::Role;
pub use uninstall::uninstall;
use watching::Watched;

/// Runs a server until SIGTERM or Ctrl-C.
///
/// # Errors
/// See [`RunError`].
pub async fn serve(role: Role, config: Config) -> Result<(), RunError> {
    logs::start(config.log_format, &config.log_filter)?;
    // Another part of the process may have installed the same provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let stop = stop_signal();
    let health = WatchHealth::default();
    let client = cluster::client(&health).await?;
    let admin_listener = admin::bind(config.admin_listen).await.map_err(|source| RunError::Listen {
        flag: "admin-listen",
        address: config.admin_listen,
        source,
    })?;
    cluster::check_definitions(&client, &config.watch_namespaces, role.reconciles()).await?;
    let keys = match load_keys(role, &client, &config, &stop).await {
        Ok(keys) => keys,
        Err(error) => return Err(doubted(&client, &config.namespace, error).await),
    };
    info!(
        version = env!("CARGO_PKG_VERSION"),
        ?role,
        namespace = config.namespace,
        installation = keys.fingerprint.as_deref(),
        public_url = %config.public_urls,
        "starting"
    );
    let network = Arc::new(config.network.clone());
    cluster::learn_networks(&client, &network).await;

    let clock: SharedClock = Arc::new(SystemClock);
    let mut app = App::new(role, health, stop.clone(), &clock);
    let mut watched = Watched::default();
    let evidence =
        if role.receives() { Some(start_receiver(&mut app, &config, &client, &keys, &network, &clock, &mut watched).await?) } else { None };
    let election = if role.reconciles() {
        start_controllers(&mut app, &config, &client, keys, network, clock, &mut watched, evidence).await?
    } else {
        None
    };
    watched.start(&client, &watching::Scopes::of(&config), role.reconciles(), &mut app);
    let end = app.run(admin_listener).await;
    if let Some(election) = election {
        election.resign().await;
    }
    info!("stopped");
    end
}

/// The keys of a role. A standalone receiver never gets the install key.
#[derive(Clone)]
struct RoleKeys {
    fingerprint: Option<String>,
    /// Creation time of the key's Secret in this cluster; `None` when this process created it.
    since: Option<Timestamp>,
    receiver: ReceiverKey,
    controller: Option<crate::protocol::keys::ControllerKey>,
    /// The Secrets of the keys, which the controller guards.
    guarded: Vec<Guarded>,
}

/// Adds to an error about a key why the namespace is probably wrong, if it is.
async fn doubted(client: &Client, namespace: &str, error: InstallKeyError) -> RunError {
    let elsewhere = match &error {
        InstallKeyError::Missing { .. } | InstallKeyError::ExternalKeyMissing { .. } => true,
        InstallKeyError::Kubernetes(kube::Error::Api(status)) => status.is_not_found() || status.is_forbidden(),
        _ => false,
    };
    match if elsewhere { install::doubt_of_namespace(client, namespace).await } else { None } {
        Some(doubt) => RunError::Namespace { doubt, error },
        None => error.into(),
    }
}

/// The pause before a receiver tries to load its key again.
const KEY_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// Waits for the key that the controller creates at its first start: a receiver may start earlier.
async fn awaited_receiver_key(
    client: &Client,
    namespace: &str,
    stop: &CancellationToken,
) -> Result<install::LoadedKey<ReceiverKey>, InstallKeyError> {
    let mut told = false;
    loop {
        match install::receiver_key(client, namespace).await {
            Err(InstallKeyError::Kubernetes(kube::Error::Api(status))) if status.is_not_found() && !stop.is_cancelled() => {
                if !std::mem::replace(&mut told, true) {
                    let doubt = install::doubt_of_namespace(client, namespace).await;
                    info!(secret = install::RECEIVER_KEY, namespace, doubt, "waiting until the controller has created the receivers' key");
                }
                tokio::select! {
                    () = tokio::time::sleep(KEY_PAUSE) => {}
                    () = stop.cancelled() => {}
                }
            }
            result => return result,
        }
    }
}

async fn load_keys(role: Role, client: &Client, config: &Config, stop: &CancellationToken) -> Result<RoleKeys, InstallKeyError> {
    if !role.reconciles() {
        let held = awaited_receiver_key(client, &config.namespace, stop).await?;
        let (fingerprint, since, receiver) = (held.fingerprint, held.since, held.key);
        return Ok(RoleKeys { fingerprint, since, receiver, controller: None, guarded: Vec::new() });
    }
    let install::LoadedKey { key: install_key, since, .. } = match &config.install_key_secret {
        Some(name) => install::load_external(client, &config.namespace, name).await?,
        None => install::find_or_create(client, &config.namespace, &config.watch_namespaces, config.new_install_key).await?,
    };
    let receiver = install_key.receiver();
    let fingerprint = install_key.fingerprint();
    install::publish_receiver_key(client, &config.namespace, &receiver, &fingerprint).await?;
    let guarded = vec![
        Guarded::install_key(&config.namespace, &install_key, config.install_key_secret.as_deref()),
        Guarded::receiver_key(&config.namespace, &receiver, &fingerprint),
    ];
    Ok(RoleKeys { fingerprint: Some(fingerprint), since, receiver, controller: Some(install_key.controller()), guarded })
}

async fn start_receiver(
    app: &mut App,
    config: &Config,
    client: &Client,
    keys: &RoleKeys,
    network: &Arc<NetworkPolicy>,
    clock: &SharedClock,
    watched: &mut Watched,
) -> Result<EvidenceStore, RunError> {
    let (fingerprint, network) = (keys.fingerprint.clone(), Arc::clone(network));
    let routes = routing::routes(config, keys.receiver.clone(), fingerprint, keys.since, clock.clone(), Arc::clone(&network), &app.health);
    let synced = routing::follow(&routes, watched, client, &config.namespace);
    let services = watching::Scopes::of(config).objects;
    app.spawn("the watch of Services", synced.follow_services(&routes, client, services));
    let listed = synced.clone();
    app.ready.push(("services", Box::new(move || listed.check_services())));
    let health = app.health.clone();
    let fresh = synced.clone();
    let freshness = move || fresh.all() && health.is_fresh(&["/repobindings", "/gitproviderconnections", "/connectiongrants"]);
    let mut receiver_config = ReceiverConfig::new(config.listen, outbox(&config.outbox));
    receiver_config.limits.shutdown = config.drain_timeout;
    let mut receiver = Receiver::open(receiver_config, &routes, &network, Arc::new(freshness), &mut app.registry).await?;
    let evidence = receiver.evidence();
    app.refresh.push(Box::new(receiver.refresh()));
    app.ready.push(("outbox", Box::new(receiver.outbox_check())));
    let (store, intake) = (evidence.clone(), receiver.intake());
    app.evidence = Some(EvidenceEndpoint { report: Box::new(move |query| store.report(query)), token: keys.receiver.evidence_token() });
    let accept = move |request| {
        let intake = intake.clone();
        async move { intake.accept(request).await.map(axum::body::Body::new) }.boxed()
    };
    app.outbox = Some(OutboxEndpoint { accept: Box::new(accept), token: keys.receiver.outbox_token() });
    if config.hand_over {
        receiver.hand_over_to(peers::of(config, client), keys.receiver.outbox_token())?;
    }
    let bound = receiver.bind().await.map_err(|source| RunError::Listen { flag: "listen", address: config.listen, source })?;
    info!(address = %config.listen, "receiving");
    app.ready.push(("routes", Box::new(move || synced.check())));
    let stop = app.stop.clone();
    let stopping = stop.clone();
    app.ready.push(("stopping", Box::new(move || if stopping.is_cancelled() { Err("the receiver stops".to_owned()) } else { Ok(()) })));
    app.tasks.spawn(async move {
        bound.serve(stop.cancelled_owned()).await.map_err(|source| RunError::Listen {
            flag: "listen",
            address: ([0, 0, 0, 0], 0).into(),
            source,
        })
    });
    Ok(evidence)
}

fn outbox(config: &config::Outbox) -> OutboxConfig {
    match config {
        config::Outbox::Memory => OutboxConfig::new(OutboxKind::Memory),
        config::Outbox::Disk { directory, limit } => {
            OutboxConfig { limit: *limit, ..OutboxConfig::new(OutboxKind::Disk(directory.clone())) }
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the composition root hands everything over once")]
async fn start_controllers(
    app: &mut App,
    config: &Config,
    client: &Client,
    keys: RoleKeys,
    network: Arc<NetworkPolicy>,
    clock: SharedClock,
    watched: &mut Watched,
    evidence: Option<EvidenceStore>,
) -> Result<Option<LeaderElection>, RunError> {
    let Some(controller) = keys.controller else { return Ok(None) };
    let deadline = Arc::new(LeaseDeadline::new(clock.clone()));
    let lease: Arc<dyn Lease> = if config.leader_election { deadline.clone() } else { Arc::new(Unleased) };
    let (connections, connection_requests) = mpsc::unbounded_channel();
    let (grants, grant_requests) = mpsc::unbounded_channel();
    let (bindings, binding_requests) = mpsc::unbounded_channel();
    let (sessions, session_changes) = mpsc::unbounded_channel();
    let triggers = Triggers { connections, grants, bindings };
    let usage_changed = watched.trigger(&triggers);
    let transports = TransportFactory::new(Arc::clone(&network), lease, clock.clone(), &mut app.registry);
    let reporter = Reporter { controller: "forgebind".to_owned(), instance: Some(config.replica.clone()) };
    let view = View {
        references: Arc::new(ClusterObjects(client.clone())),
        clock,
        settings: settings(config),
        key_failure: KeyFailure::default(),
        keys: Keys { fingerprint: keys.fingerprint.unwrap_or_default(), receiver: keys.receiver.clone(), controller },
        clients: Arc::new(ProviderClients),
        transports,
        network,
        sessions: Sessions::new(sessions),
        connections: watched.connections(),
        bindings: watched.bindings(),
        grant_objects: watched.grants(),
        grants: watched.rules(),
        namespaces: watched.namespaces(),
        memory: Memories::default(),
        prepared: PreparedEntries::default(),
        public_endpoints: PublicEndpoints::default(),
        catalogs: Catalogs::default(),
        shows_connections: false,
        triggers,
    };
    let context = Arc::new(Context {
        view,
        client: client.clone(),
        leftovers: controllers::leftovers::Pending::default(),
        writes: WriteTracker::default(),
        grant_counts: controllers::grant::CountTimes::default(),
        backoff: Backoff::default(),
        recorder: Recorder::new(client.clone(), reporter),
        metrics: controllers::metrics::Metrics::register(&mut app.registry),
    });
    watched.report_invalid(&context);
    watched.forget_gone(&context);
    watched.count_references(&context);
    shards::renew(watched, &context);
    let slices = controllers::catalog::watch(Arc::clone(&context), client.clone(), watching::Scopes::of(config).objects);
    app.spawn("the watch of RepositorySlices", slices);
    for guarded in keys.guarded {
        app.spawn("the watch of a key's Secret", install::guard::watch(Arc::clone(&context), guarded));
    }
    let counted = Arc::clone(&context);
    app.refresh.push(Box::new(move || {
        controllers::object_metrics::refresh(&counted);
        counted.view.transports.refresh_metrics();
    }));
    let source = evidence_source(config, client, &keys.receiver, evidence, app);
    let (election, leading) = start_election(config, client, deadline).await?;
    let requests =
        Requests { connections: connection_requests, grants: grant_requests, bindings: binding_requests, sessions: session_changes };
    let stop = app.stop.clone();
    app.tasks.spawn(async move {
        let usage = controllers::connection::usage::follow(&context.view, &usage_changed);
        tokio::select! {
            () = driver::run(Arc::clone(&context), requests, leading, source, stop) => Ok(()),
            () = usage => Err(RunError::Ended("the count of bindings")),
        }
    });
    Ok(election)
}

fn settings(config: &Config) -> Settings {
    Settings {
        public_urls: config.public_urls.clone(),
        namespace: config.namespace.clone(),
        providers: config.providers.clone(),
        read_only: config.read_only,
        cleanup_timeout: config.cleanup_timeout,
        missing_grant_timeout: config.missing_grant_timeout,
    }
}

async fn start_election(
    config: &Config,
    client: &Client,
    deadline: Arc<LeaseDeadline>,
) -> Result<(Option<LeaderElection>, watch::Receiver<bool>), RunError> {
    if !config.leader_election {
        let (always, leading) = watch::channel(true);
        // Keeps the channel open as long as the process runs.
        tokio::spawn(async move { always.closed().await });
        return Ok((None, leading));
    }
    let election = LeaderElection::start(client.clone(), &config.namespace, &config.replica, deadline).await?;
    let leading = election.leading();
    Ok((Some(election), leading))
}

/// The source of the controller's evidence: in process if this process also receives, else all receivers.
fn evidence_source(
    config: &Config,
    client: &Client,
    key: &ReceiverKey,
    evidence: Option<EvidenceStore>,
    app: &mut App,
) -> Arc<dyn EvidenceSource> {
    if let Some(store) = evidence {
        return Arc::new(InProcess(store));
    }
    match &config.receivers {
        Receivers::Urls(urls) => Arc::new(receivers::Remote::at(urls.clone(), key)),
        Receivers::Service(name) => {
            let (remote, watch) = receivers::Remote::behind(client.clone(), &config.namespace, name, key);
            app.spawn("the watch of the receivers", watch);
            Arc::new(remote)
        }
    }
}

struct InProcess(EvidenceStore);

/// The name of the only receiver among the cursors.
const IN_PROCESS: &str = "in process";

#[async_trait::async_trait]
impl EvidenceSource for InProcess {
    async fn collect(&self, ask: Ask, cursors: &mut Cursors) -> Collected {
        let known = cursors.entry(IN_PROCESS.to_owned()).or_default();
        let evidence = self.0.report(&RecentQuery { room: ask.room, after: known.after(ask) });
        known.reached(ask, evidence.recent.cursor.clone());
        Collected { evidence: vec![evidence], silent: 0 }
    }
}

/// A token that is cancelled by SIGTERM or Ctrl-C.
fn stop_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        let terminate = async {
            match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                Ok(mut signal) => signal.recv().await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        info!("stopping; requests in progress may finish");
        cancelled.cancel();
    });
    stop
}
