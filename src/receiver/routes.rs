//! Maps hook paths to bindings. Updated by the watches of the API server; read by every delivery without any call.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::RwLock;

use super::destination::{self, Destination, PreparedSink};
use super::route::{Connection, FailureLimit, Route, RouteConfig, Sink, UserSecrets};
pub use super::services::ServiceWatch;
use super::services::Services;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::{ConnectionGrant, GitProviderConnection, ProviderKind, RepoBinding};
use crate::clock::SharedClock;
use crate::network::NetworkPolicy;
use crate::protocol::grant::{Changed, Grants};
use crate::protocol::keys::{HOOK_ID_LENGTH, ReceiverKey};
use crate::protocol::sink_service::ServiceFacts;
use crate::protocol::sink_target::NotServed;
use crate::protocol::webhook_secrets;
use crate::providers::{Provider, registry};

/// Returns the implementation of a provider: the registry without the providers that an installation disables.
pub type ProviderLookup = Arc<dyn Fn(ProviderKind) -> Option<&'static dyn Provider> + Send + Sync>;

/// Reports whether the routes match the objects at the API server.
pub trait Freshness: Send + Sync {
    /// False until every watch has been read once, and while one of them is silent for too long. Unknown paths are answered 503
    /// then, because the API server may have bindings for them.
    fn is_fresh(&self) -> bool;
}

impl<F: Fn() -> bool + Send + Sync> Freshness for F {
    fn is_fresh(&self) -> bool {
        self()
    }
}

/// How long after its key was created in a cluster a receiver assumes that bindings may still be missing.
const RESTORING: SignedDuration = SignedDuration::from_hours(1);

/// The settings of a table of routes.
#[derive(Clone)]
pub struct RoutesConfig {
    /// Derives hook ids and webhook secrets.
    pub key: ReceiverKey,
    /// Used to decide which secrets are still valid.
    pub clock: SharedClock,
    /// Used to check the sinks.
    pub policy: Arc<NetworkPolicy>,
    /// Our fingerprint: bindings whose status names another installation have no route. `None` disables the check.
    pub installation: Option<String>,
    /// Creation time of the key's Secret in this cluster; `None` when this process created it, so that no hook can be older.
    pub key_since: Option<Timestamp>,
    /// Returns the enabled providers.
    pub providers: ProviderLookup,
    /// Limit of the failed proofs of each route.
    pub failures: FailureLimit,
    /// The watched namespaces; empty for all.
    pub namespaces: Vec<String>,
    /// Tells whether the watch of Services works.
    pub service_watch: ServiceWatch,
}

impl RoutesConfig {
    /// Serves every provider of this build, any installation and every namespace, with 200 failed proofs at once and 50 a second, and a
    /// watch of Services that always works.
    #[must_use]
    pub fn new(key: ReceiverKey, clock: SharedClock, policy: Arc<NetworkPolicy>) -> Self {
        let count = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let failures = FailureLimit { per_second: count(50), at_once: count(200) };
        let providers = Arc::new(registry::provider);
        let service_watch: ServiceWatch = Arc::new(|_| Some(Duration::ZERO));
        let namespaces = Vec::new();
        Self { key, clock, policy, installation: None, key_since: None, providers, failures, namespaces, service_watch }
    }
}

/// The table of routes. Cheap to clone; all clones share the table.
#[derive(Clone)]
pub struct Routes(Arc<Inner>);

struct Inner {
    config: RoutesConfig,
    table: RwLock<Table>,
    grants: Grants,
    services: RwLock<Services>,
}

#[derive(Default)]
struct Table {
    /// Open routes by hook id. The map's hash is keyed, so that look-ups reveal nothing about the ids.
    by_hook: HashMap<String, Arc<Route>>,
    /// Every binding, including those with a closed route.
    by_uid: HashMap<String, Arc<Route>>,
    by_name: HashMap<(String, String), String>,
    connections: HashMap<ConnectionTarget, Arc<Connection>>,
    user_secrets: HashMap<String, UserSecrets>,
    sink_secrets: HashMap<String, HashMap<String, PreparedSink>>,
}

/// The present state of a sink.
pub(super) enum SinkState {
    /// The sink can be sent to.
    At(Box<Destination>),
    /// Temporarily unavailable: the route is closed, or the sink is not served, for this reason.
    Held(Option<NotServed>),
    /// The binding or the sink no longer exists, or the binding may no longer receive anything: its events are discarded.
    Gone,
}

impl fmt::Debug for Routes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Routes").field("bindings", &self.len()).finish_non_exhaustive()
    }
}

impl Routes {
    /// An empty table.
    #[must_use]
    pub fn new(config: RoutesConfig) -> Self {
        let services = RwLock::new(Services::of(&config.namespaces, Arc::clone(&config.service_watch)));
        Self(Arc::new(Inner { config, table: RwLock::default(), grants: Grants::default(), services }))
    }

    /// Number of known bindings, with an open or a closed route.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.table.read().by_uid.len()
    }

    /// Whether no binding is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds or updates a binding. A binding under deletion keeps its route until it no longer exists.
    pub fn apply_binding(&self, binding: &RepoBinding) {
        if let Some(route_config) = self.route_config(binding) {
            self.0.table.write().put(route_config, self.0.config.failures);
        }
    }

    /// Removes a binding that no longer exists, but not one of the same name and another UID.
    pub fn remove_binding(&self, namespace: &str, name: &str, uid: &str) {
        let mut table = self.0.table.write();
        if table.by_uid.get(uid).is_some_and(|route| route.config.namespace == namespace && route.config.name == name) {
            table.remove(uid);
        }
    }

    /// Adds or updates a connection.
    pub fn apply_connection(&self, connection: &GitProviderConnection) {
        let (Some(namespace), Some(name)) = (connection.metadata.namespace.clone(), connection.metadata.name.clone()) else { return };
        let target = ConnectionTarget { namespace, name };
        // Within the lock, so that a grant that changes meanwhile is followed afterwards.
        let mut table = self.0.table.write();
        let known = self.connection(connection);
        // Nearly every event changes only the status, which affects no route.
        if table.connections.get(&target).is_some_and(|before| before.is_same(&known)) {
            return;
        }
        table.connections.insert(target.clone(), Arc::new(known));
        table.refresh(|route_config| route_config.is_about(&target));
    }

    /// Removes a connection that no longer exists. Deliveries to its bindings are answered 503 until it is restored.
    pub fn remove_connection(&self, namespace: &str, name: &str) {
        let target = ConnectionTarget { namespace: namespace.to_owned(), name: name.to_owned() };
        let mut table = self.0.table.write();
        if table.connections.remove(&target).is_some() {
            table.refresh(|route_config| route_config.is_about(&target));
        }
    }

    /// Adds or updates a grant. Only the routes that it may concern are rebuilt.
    pub fn apply_grant(&self, grant: &ConnectionGrant) {
        if let Some(changed) = self.0.grants.apply(grant) {
            self.follow_grant(&changed);
        }
    }

    /// Removes a grant that no longer exists.
    pub fn remove_grant(&self, namespace: &str, name: &str) {
        if let Some(changed) = self.0.grants.remove(namespace, name) {
            self.follow_grant(&changed);
        }
    }

    /// Records that every existing grant is known. Before that no route closes for want of a grant, and nothing that needs one is
    /// sent.
    pub fn grants_are_listed(&self) {
        self.0.grants.listed();
        self.follow_grants(|_| true, |_| true);
    }

    fn follow_grant(&self, changed: &Changed) {
        self.follow_grants(|connection| connection.is_affected(changed), |namespace| changed.may_cover(namespace));
    }

    /// A route outside of the covered namespaces keeps the former rules of its connection, which say the same about it.
    fn follow_grants(&self, is_affected: impl Fn(&Connection) -> bool, is_covered: impl Fn(&str) -> bool) {
        let mut table = self.0.table.write();
        let affected = table.connections.iter().filter(|(_, connection)| is_affected(connection));
        let present = affected.map(|(target, known)| (target.clone(), known, known.with_rules(&self.0.grants)));
        let changed: HashMap<_, _> =
            present.filter(|(_, known, present)| !known.is_same(present)).map(|(target, _, present)| (target, Arc::new(present))).collect();
        if changed.is_empty() {
            return;
        }
        table.connections.extend(changed.clone());
        table.refresh(|route_config| is_covered(&route_config.namespace) && changed.keys().any(|target| route_config.is_about(target)));
    }

    /// Replaces the users' own secrets, and what the sinks need, of every binding of a shard. Pass an empty map when the Secret of the shard no longer
    /// exists.
    pub fn apply_user_secrets(&self, shard: u8, entries: &BTreeMap<String, webhook_secrets::UserSecrets>) {
        let mut table = self.0.table.write();
        table.user_secrets.retain(|uid, _| webhook_secrets::shard(uid) != shard);
        table.sink_secrets.retain(|uid, _| webhook_secrets::shard(uid) != shard);
        for (uid, secrets) in entries {
            // An entry may have been made for the sinks alone. It says nothing about the webhook's secret then.
            if !secrets.secrets.is_empty() {
                table.user_secrets.insert(uid.clone(), Arc::new(secrets.pairs()));
            }
            if !secrets.sinks.is_empty() {
                let sinks = secrets.sinks.iter().map(|(name, secrets)| (name.clone(), PreparedSink::of(secrets))).collect();
                table.sink_secrets.insert(uid.clone(), sinks);
            }
        }
        table.refresh(|route_config| webhook_secrets::shard(&route_config.uid) == shard);
    }

    /// Adds or updates a Service.
    pub fn apply_service(&self, namespace: String, name: String, facts: ServiceFacts) {
        self.0.services.write().apply(namespace, name, facts);
    }

    /// Removes a Service that no longer exists.
    pub fn remove_service(&self, namespace: &str, name: &str) {
        self.0.services.write().remove(namespace, name);
    }

    /// Removes the Services of a namespace, or of all, that a complete listing did not find.
    pub fn keep_services(&self, namespace: Option<&str>, listed: &HashSet<(String, String)>) {
        self.0.services.write().keep(namespace, listed);
    }

    /// Records that every Service of the watched namespaces was listed once. Nothing is sent to a Service before.
    pub fn services_are_listed(&self) {
        self.0.services.write().complete();
    }

    /// The open route of a hook id; `None` if there is none.
    pub(super) fn find(&self, hook: &str) -> Option<Arc<Route>> {
        self.0.table.read().by_hook.get(hook).cloned()
    }

    /// Whether some bindings may be missing temporarily, as during the restore of a cluster: the key was in this cluster before
    /// this process started, and either there are no bindings at all or the key is new to the cluster.
    pub(super) fn may_be_incomplete(&self, now: Timestamp) -> bool {
        self.0.config.key_since.is_some_and(|since| self.is_empty() || now.duration_since(since) < RESTORING)
    }

    pub(super) fn knows(&self, uid: &str) -> bool {
        self.0.table.read().by_uid.contains_key(uid)
    }

    /// A binding's sinks; `None` when the binding is not known.
    pub(super) fn sinks(&self, uid: &str) -> Option<Arc<[Sink]>> {
        Some(Arc::clone(&self.0.table.read().by_uid.get(uid)?.config.sinks))
    }

    /// The requests to send dead letters again that are not recorded as carried out, by the UID of the binding.
    pub(super) fn redelivery_requests(&self) -> Vec<(String, String)> {
        let table = self.0.table.read();
        let requests = table.by_uid.iter().filter_map(|(uid, route)| Some((uid.clone(), route.config.redelivery.clone()?)));
        requests.collect()
    }

    /// Where the events of a sink may be sent now.
    pub(super) fn sink(&self, uid: &str, name: &str) -> SinkState {
        let table = self.0.table.read();
        let Some(route) = table.by_uid.get(uid) else { return SinkState::Gone };
        let Some(sink) = route.config.sinks.iter().find(|sink| sink.name == name) else { return SinkState::Gone };
        if route.is_over() {
            return SinkState::Gone;
        }
        // Pending events may have been received through a former connection.
        if !route.may_send() || !route.former(&table.connections).iter().all(Route::may_send) {
            return SinkState::Held(None);
        }
        let destination = sink.target.clone().and_then(|target| {
            let services = self.0.services.read();
            let destination = Destination::of(&target, &route.config.namespace, &services, &self.0.config.policy)?;
            let prepared = table.sink_secrets.get(uid).and_then(|sinks| sinks.get(name));
            destination.with_secrets(&target.needs, prepared)
        });
        match destination {
            Ok(destination) => SinkState::At(Box::new(destination)),
            Err(refusal) => SinkState::Held(Some(refusal)),
        }
    }

    /// The sinks to whose Service nothing may be sent now, as UID of the binding, name and reason. None before the Services are
    /// listed. Holds no lock for longer than the judgement of one binding: a change that waits for a lock holds up every delivery.
    pub(super) fn unserved_services(&self) -> Vec<(String, String, NotServed)> {
        if !self.0.services.read().is_complete() {
            return Vec::new();
        }
        let routes: Vec<Arc<Route>> = self.0.table.read().by_uid.values().cloned().collect();
        let mut unserved = Vec::new();
        for RouteConfig { uid, namespace, sinks, .. } in routes.iter().map(|route| &*route.config) {
            let services = self.0.services.read();
            for Sink { name, target, .. } in sinks.iter() {
                let Ok(target) = target else { continue };
                if let Err(refusal) = destination::check_service(target, namespace, &services, &self.0.config.policy) {
                    unserved.push((uid.clone(), name.clone(), refusal));
                }
            }
        }
        unserved
    }

    pub(super) fn key(&self) -> &ReceiverKey {
        &self.0.config.key
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.0.config.clock
    }

    fn route_config(&self, binding: &RepoBinding) -> Option<RouteConfig> {
        let config = &self.0.config;
        RouteConfig::read(binding, &config.key, config.installation.as_deref(), &config.policy)
    }

    fn connection(&self, connection: &GitProviderConnection) -> Connection {
        let provider = connection.spec.provider.kind().and_then(|kind| (self.0.config.providers)(kind));
        Connection::new(connection, provider, &self.0.grants)
    }
}

impl Table {
    fn put(&mut self, route_config: RouteConfig, failures: FailureLimit) {
        let route_config = match self.by_uid.get(&route_config.uid) {
            Some(known) => Arc::new(route_config.after(&known.config)),
            None => Arc::new(route_config),
        };
        let name = (route_config.namespace.clone(), route_config.name.clone());
        // A binding of the same name and another UID was deleted and created again.
        if let Some(former) = self.by_name.insert(name, route_config.uid.clone()).filter(|former| *former != route_config.uid) {
            self.hide(&former);
        }
        let connection = self.connections.get(&route_config.connection).cloned();
        let user_secrets = self.user_secrets.get(&route_config.uid).cloned();
        let route = match self.by_uid.get(&route_config.uid) {
            Some(known) => known.with(route_config, connection, user_secrets),
            None => Route::new(route_config, connection, user_secrets, failures),
        };
        self.show(Arc::new(route));
    }

    fn show(&mut self, route: Arc<Route>) {
        self.hide(&route.config.uid);
        let former = route.former(&self.connections).into_iter().filter(Route::may_have_events).map(Arc::new);
        for route in former.chain(Some(Arc::clone(&route)).filter(|route| route.is_open())) {
            self.by_hook.insert(route.config.hook.clone(), route);
        }
        self.by_uid.insert(route.config.uid.clone(), route);
    }

    /// Removes a binding's routes from the table.
    fn hide(&mut self, uid: &str) -> Option<Arc<Route>> {
        let route = self.by_uid.remove(uid)?;
        for route_config in route.config.former.iter().chain([&route.config]) {
            self.by_hook.remove(&route_config.hook);
        }
        Some(route)
    }

    fn remove(&mut self, uid: &str) {
        if let Some(route) = self.hide(uid) {
            self.by_name.remove(&(route.config.namespace.clone(), route.config.name.clone()));
        }
    }

    /// Rebuilds the routes of the bindings whose connection or secrets changed.
    fn refresh(&mut self, concerned: impl Fn(&RouteConfig) -> bool) {
        let routes: Vec<_> = self.by_uid.values().filter(|route| concerned(&route.config)).cloned().collect();
        for route in routes {
            let connection = self.connections.get(&route.config.connection).cloned();
            let user_secrets = self.user_secrets.get(&route.config.uid).cloned();
            self.show(Arc::new(route.with(route.config.clone(), connection, user_secrets)));
        }
    }
}

/// Splits `/hooks/<id>/<secret version>`; `None` for anything else.
pub(super) fn parse_path(path: &str) -> Option<(&str, &str)> {
    let (hook, secret_version) = path.strip_prefix("/hooks/")?.split_once('/')?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    let shaped = hook.len() == HOOK_ID_LENGTH && (1..=32).contains(&secret_version.len());
    (shaped && plain(hook) && plain(secret_version)).then_some((hook, secret_version))
}
