//! The watches of a process: one for each kind, shared by all listeners.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::PartialObjectMeta;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt as _};
use tokio::sync::Notify;
use tracing::error;

use super::app::App;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::grant::NamespacesFrom;
use crate::api::v1alpha1::{ConnectionGrant, GitProviderConnection, RepoBinding};
use crate::config::Config;
use crate::controllers::metrics::Kind;
use crate::controllers::{Context, Triggers};
use crate::k8s::watch::{self, Change, Listener, Scope};
use crate::protocol::grant::{Changed, Grants};

type Metadata<K> = PartialObjectMeta<K>;

/// A watch to be started: its store, the writer and the listeners.
type Watch<K> = (Store<K>, Writer<K>, Vec<Listener<K>>);

/// The watches to be started, with their stores and listeners.
pub(super) struct Watched {
    connections: Watch<GitProviderConnection>,
    grants: Watch<ConnectionGrant>,
    /// The grants as they decide, for the controllers.
    rules: Grants,
    bindings: Watch<RepoBinding>,
    namespaces: Watch<Metadata<Namespace>>,
    secrets: Vec<Listener<Metadata<Secret>>>,
    config_maps: Vec<Listener<Metadata<ConfigMap>>>,
}

impl Default for Watched {
    fn default() -> Self {
        let (connections, connection_writer) = reflector::store();
        let (grants, grant_writer) = reflector::store();
        let (bindings, binding_writer) = reflector::store();
        let (namespaces, namespace_writer) = reflector::store();
        Self {
            connections: (connections, connection_writer, Vec::new()),
            grants: (grants, grant_writer, Vec::new()),
            rules: Grants::default(),
            bindings: (bindings, binding_writer, Vec::new()),
            namespaces: (namespaces, namespace_writer, Vec::new()),
            secrets: Vec::new(),
            config_maps: Vec::new(),
        }
    }
}

/// The watched namespaces.
pub(super) struct Scopes {
    /// Scope of connections, grants, bindings and the Services of sinks.
    pub(super) objects: Scope,
    /// Scope of the Secrets and `ConfigMap`s that they refer to.
    references: Scope,
}

impl Scopes {
    pub(super) fn of(config: &Config) -> Self {
        let scope = |namespaces: &[String]| if namespaces.is_empty() { Scope::All } else { Scope::Namespaces(namespaces.to_vec()) };
        let objects = scope(&config.watch_namespaces);
        let references = if config.secret_namespaces.is_empty() { objects.clone() } else { scope(&config.secret_namespaces) };
        Self { objects, references }
    }
}

impl Watched {
    pub(super) fn connections(&self) -> Store<GitProviderConnection> {
        self.connections.0.clone()
    }

    pub(super) fn grants(&self) -> Store<ConnectionGrant> {
        self.grants.0.clone()
    }

    pub(super) fn rules(&self) -> Grants {
        self.rules.clone()
    }

    pub(super) fn bindings(&self) -> Store<RepoBinding> {
        self.bindings.0.clone()
    }

    pub(super) fn namespaces(&self) -> Store<Metadata<Namespace>> {
        self.namespaces.0.clone()
    }

    pub(super) fn on_connections(&mut self, listener: Listener<GitProviderConnection>) {
        self.connections.2.push(listener);
    }

    pub(super) fn on_grants(&mut self, listener: Listener<ConnectionGrant>) {
        self.grants.2.push(listener);
    }

    pub(super) fn on_bindings(&mut self, listener: Listener<RepoBinding>) {
        self.bindings.2.push(listener);
    }

    /// Makes every change trigger the affected reconciliations. The result is notified when the usage of connections and grants may
    /// have changed.
    pub(super) fn trigger(&mut self, triggers: &Triggers) -> Arc<Notify> {
        let changed = Arc::new(Notify::new());
        self.trigger_by_connections(triggers);
        self.trigger_by_grants(triggers, Arc::clone(&changed));
        self.trigger_by_bindings(triggers, Arc::clone(&changed));
        self.trigger_by_references(triggers);
        self.trigger_by_namespaces(triggers, Arc::clone(&changed));
        changed
    }

    fn trigger_by_connections(&mut self, triggers: &Triggers) {
        let (triggers, bindings, rules) = (triggers.clone(), self.bindings(), self.rules());
        let mut specs: HashMap<ObjectRef<GitProviderConnection>, ConnectionFacts> = HashMap::new();
        self.on_connections(Box::new(move |change| {
            let (Change::Applied(connection) | Change::Deleted(connection)) = change else { return };
            let key = ObjectRef::from_obj(&**connection);
            let facts = ConnectionFacts::of(connection);
            let gone = matches!(change, Change::Deleted(_));
            let known = if gone { specs.remove(&key) } else { specs.insert(key.clone(), facts.clone()) };
            if !gone {
                let _ = triggers.connections.send(key);
            }
            // Bindings learn about changes of the status by the session. What decides who may use it and requests are passed on here.
            if gone || known.is_none_or(|known| known != facts) {
                let target = ConnectionTarget::of(connection);
                for rule in rules.within(&target.namespace) {
                    triggers.grant(&rule.namespace, &rule.name);
                }
                for binding in bindings.state_filter(|binding| binding.is_about(&target)) {
                    triggers.binding(&binding);
                }
            }
        }));
    }

    /// A grant triggers its own controller, and the bindings of its connections in the namespaces that it covers or covered.
    fn trigger_by_grants(&mut self, triggers: &Triggers, usage_changed: Arc<Notify>) {
        let (triggers, rules) = (triggers.clone(), self.rules());
        let (connections, bindings, namespaces) = (self.connections(), self.bindings(), self.namespaces());
        self.on_grants(Box::new(move |change| {
            let changed = match change {
                Change::Applied(grant) => {
                    triggers.grant(&grant.namespace().unwrap_or_default(), &grant.name_any());
                    rules.apply(grant)
                }
                Change::Deleted(grant) => rules.remove(&grant.namespace().unwrap_or_default(), &grant.name_any()),
                Change::Invalid(invalid) => {
                    let metadata = &invalid.metadata;
                    rules.remove(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
                }
                // What needs a grant was undecided until now.
                Change::Ready => {
                    rules.listed();
                    bindings.state().iter().for_each(|binding| triggers.binding(binding));
                    None
                }
            };
            let Some(changed) = changed else { return };
            usage_changed.notify_one();
            for binding in affected(&changed, &connections, &bindings, &namespaces) {
                triggers.binding(&binding);
            }
        }));
    }

    fn trigger_by_bindings(&mut self, triggers: &Triggers, changed: Arc<Notify>) {
        let (triggers, bindings) = (triggers.clone(), self.bindings());
        self.on_bindings(Box::new(move |change| match change {
            Change::Applied(binding) => {
                triggers.binding(binding);
                changed.notify_one();
            }
            Change::Deleted(binding) => {
                changed.notify_one();
                // A binding that waits for the same custom URL may use it now.
                let url = binding.spec.webhook.as_ref().and_then(|webhook| webhook.url.as_ref());
                if url.is_some() {
                    for other in
                        bindings.state_filter(|other| other.spec.webhook.as_ref().is_some_and(|webhook| webhook.url.as_ref() == url))
                    {
                        triggers.binding(&other);
                    }
                }
            }
            Change::Invalid(_) | Change::Ready => {}
        }));
    }

    /// Secrets and `ConfigMap`s trigger the connections and bindings that refer to them.
    fn trigger_by_references(&mut self, triggers: &Triggers) {
        let (on_secret, connections, bindings) = (triggers.clone(), self.connections(), self.bindings());
        self.secrets.push(Box::new(move |change| {
            let (Change::Applied(secret) | Change::Deleted(secret)) = change else { return };
            let (namespace, name) = (secret.namespace(), secret.name_any());
            for connection in connections
                .state_filter(|connection| connection.namespace() == namespace && connection.spec.secret_names().any(|known| known == name))
            {
                let _ = on_secret.connections.send(ObjectRef::from_obj(&*connection));
            }
            let names = |binding: &RepoBinding| binding.secret_names().any(|known| known == name);
            for binding in bindings.state_filter(|binding| binding.namespace() == namespace && names(binding)) {
                on_secret.binding(&binding);
            }
        }));
        let (on_map, connections, bindings) = (triggers.clone(), self.connections(), self.bindings());
        self.config_maps.push(Box::new(move |change| {
            let (Change::Applied(map) | Change::Deleted(map)) = change else { return };
            let (namespace, name) = (map.namespace(), map.name_any());
            for connection in connections
                .state_filter(|connection| connection.namespace() == namespace && connection.spec.config_map_name() == Some(&name))
            {
                let _ = on_map.connections.send(ObjectRef::from_obj(&*connection));
            }
            let names = |binding: &RepoBinding| binding.config_map_names().any(|known| known == name);
            for binding in bindings.state_filter(|binding| binding.namespace() == namespace && names(binding)) {
                on_map.binding(&binding);
            }
        }));
    }

    /// A namespace whose labels change, or become known after its bindings, may gain or lose a grant. The deletion of a
    /// namespace shortens waiting times.
    fn trigger_by_namespaces(&mut self, triggers: &Triggers, usage_changed: Arc<Notify>) {
        let (triggers, connections, bindings, rules) = (triggers.clone(), self.connections(), self.bindings(), self.rules());
        let mut known: HashMap<String, (Option<BTreeMap<String, String>>, bool)> = HashMap::new();
        let mut listed = false;
        self.namespaces.2.push(Box::new(move |change| {
            let namespace = match change {
                Change::Applied(namespace) => namespace,
                Change::Deleted(namespace) => {
                    known.remove(&namespace.name_any());
                    return;
                }
                // No labels could be read until now, so every grant by labels was undecided.
                Change::Ready => {
                    listed = true;
                    let by_labels = |binding: &RepoBinding| {
                        let target = binding.connection_target();
                        let connection = connections.get(&ObjectRef::new(&target.name).within(&target.namespace));
                        let grants = connection.and_then(|connection| rules.of(&connection).grants).unwrap_or_default();
                        grants.iter().any(|rule| rule.spec.namespaces.from == NamespacesFrom::Selector)
                    };
                    usage_changed.notify_one();
                    for binding in bindings.state_filter(by_labels) {
                        triggers.binding(&binding);
                    }
                    return;
                }
                Change::Invalid(_) => return,
            };
            let facts = (namespace.metadata.labels.clone(), namespace.metadata.deletion_timestamp.is_some());
            let name = namespace.name_any();
            // During the first listing nothing is triggered here; `Change::Ready` follows it.
            let is_news = known.insert(name.clone(), facts.clone()).map_or(listed, |before| before != facts);
            if !is_news {
                return;
            }
            usage_changed.notify_one();
            for binding in bindings.state_filter(|binding| binding.namespace().as_ref() == Some(&name)) {
                triggers.binding(&binding);
            }
            for connection in connections.state_filter(|connection| connection.namespace().as_ref() == Some(&name)) {
                let _ = triggers.connections.send(ObjectRef::from_obj(&*connection));
            }
        }));
    }

    /// Counts the changes of Secrets and `ConfigMap`s that bindings name. Before the triggers, so that the reconciliation that a change
    /// triggers reads the object again.
    pub(super) fn count_references(&mut self, context: &Arc<Context>) {
        let on_secret = Arc::clone(context);
        let of_secrets: Listener<Metadata<Secret>> = Box::new(move |change| {
            let (Change::Applied(secret) | Change::Deleted(secret)) = change else { return };
            let name = secret.name_any();
            count(&on_secret, secret.metadata.namespace.as_deref(), |binding| binding.secret_names().any(|known| known == name));
        });
        let on_map = Arc::clone(context);
        let of_maps: Listener<Metadata<ConfigMap>> = Box::new(move |change| {
            let (Change::Applied(map) | Change::Deleted(map)) = change else { return };
            let name = map.name_any();
            count(&on_map, map.metadata.namespace.as_deref(), |binding| binding.config_map_names().any(|known| known == name));
        });
        self.secrets.insert(0, of_secrets);
        self.config_maps.insert(0, of_maps);
    }

    /// Removes the state of connections and grants that no longer exist.
    pub(super) fn forget_gone(&mut self, of_connections: &Arc<Context>) {
        let context = Arc::clone(of_connections);
        self.on_connections(Box::new(move |change| {
            if let Change::Deleted(connection) = change {
                crate::controllers::connection::gone(&context, connection);
            }
        }));
        let context = Arc::clone(of_connections);
        self.on_grants(Box::new(move |change| {
            if let Change::Deleted(grant) = change {
                crate::controllers::grant::gone(&context, grant);
            }
        }));
    }

    /// Reports objects that do not parse. They affect nothing else.
    pub(super) fn report_invalid(&mut self, context: &Arc<Context>) {
        let of_connections = Arc::clone(context);
        self.on_connections(Box::new(move |change| invalid(&of_connections, "GitProviderConnection", change)));
        let of_grants = Arc::clone(context);
        self.on_grants(Box::new(move |change| invalid(&of_grants, "ConnectionGrant", change)));
        let of_bindings = Arc::clone(context);
        self.on_bindings(Box::new(move |change| invalid(&of_bindings, "RepoBinding", change)));
    }

    /// Starts the watches. Those of namespaces, Secrets and `ConfigMap`s are only for the controllers.
    pub(super) fn start(self, client: &Client, scopes: &Scopes, reconciles: bool, app: &mut App) {
        let Self { mut connections, mut grants, mut bindings, namespaces, secrets, config_maps, .. } = self;
        app.ready.push(("connections", filled(&mut connections.2)));
        app.ready.push(("grants", filled(&mut grants.2)));
        app.ready.push(("bindings", filled(&mut bindings.2)));
        let client = || client.clone();
        app.spawn("the watch of connections", watch::objects(client(), scopes.objects.clone(), connections.1, connections.2, |_| {}));
        app.spawn("the watch of grants", watch::objects(client(), scopes.objects.clone(), grants.1, grants.2, |_| {}));
        let of_bindings = watch::objects(client(), scopes.objects.clone(), bindings.1, bindings.2, without_deliveries);
        app.spawn("the watch of bindings", of_bindings);
        if reconciles {
            app.spawn("the watch of namespaces", watch::cluster_metadata::<Namespace>(Api::all(client()), namespaces.1, namespaces.2));
            app.spawn("the watch of Secrets", watch::namespaced_metadata::<Secret>(client(), scopes.references.clone(), secrets));
            app.spawn("the watch of ConfigMaps", watch::namespaced_metadata::<ConfigMap>(client(), scopes.references.clone(), config_maps));
        }
    }
}

/// The last deliveries of 10,000 bindings take more memory than everything else of them, and are read from the API server when they
/// are merged.
fn without_deliveries(binding: &mut RepoBinding) {
    if let Some(status) = &mut binding.status {
        status.recent_deliveries = Vec::new();
    }
}

/// Counts a change of an object for the bindings of its namespace that name it.
fn count(context: &Context, namespace: Option<&str>, names: impl Fn(&RepoBinding) -> bool) {
    for binding in context.view.bindings.state_filter(|binding| binding.metadata.namespace.as_deref() == namespace && names(binding)) {
        context.view.memory.references_changed(&binding.uid().unwrap_or_default());
    }
}

/// The bindings that a change of a grant may affect: those of its connections, in the namespaces that it covers or covered, as far
/// as their labels are known.
fn affected(
    changed: &Changed,
    connections: &Store<GitProviderConnection>,
    bindings: &Store<RepoBinding>,
    namespaces: &Store<Metadata<Namespace>>,
) -> Vec<Arc<RepoBinding>> {
    let is_about = |connection: &GitProviderConnection| {
        let name = connection.metadata.name.as_deref().unwrap_or_default();
        changed.rules().any(|rule| {
            connection.namespace().as_ref() == Some(&rule.namespace) && rule.is_about(name, connection.metadata.labels.as_ref())
        })
    };
    let concerned: HashSet<_> = connections.state_filter(is_about).iter().map(|connection| ConnectionTarget::of(connection)).collect();
    let mut covered: HashMap<String, bool> = HashMap::new();
    let mut is_covered = |namespace: String| {
        *covered.entry(namespace).or_insert_with_key(|namespace| {
            let known = namespaces.get(&ObjectRef::new(namespace));
            let labels = known.as_ref().map(|known| known.metadata.labels.clone().unwrap_or_default());
            changed.rules().any(|rule| rule.covers_namespace(namespace, labels.as_ref()) != Some(false))
        })
    };
    let of_connections = |binding: &RepoBinding| concerned.iter().any(|connection| binding.is_about(connection));
    let found = bindings.state_filter(of_connections);
    found.into_iter().filter(|binding| is_covered(binding.namespace().unwrap_or_default())).collect()
}

/// The facts of a connection that affect its bindings and grants.
#[derive(Clone, PartialEq)]
struct ConnectionFacts {
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    deleting: bool,
    /// The bindings follow the connection to the installation that manages it.
    installation: Option<String>,
    rotation: Option<String>,
    revocation: Option<String>,
}

impl ConnectionFacts {
    fn of(connection: &GitProviderConnection) -> Self {
        Self {
            generation: connection.metadata.generation,
            labels: connection.metadata.labels.clone(),
            deleting: connection.metadata.deletion_timestamp.is_some(),
            installation: connection.status.as_ref().and_then(|status| status.installation.clone()),
            rotation: connection.annotations().get(crate::api::v1alpha1::ROTATE_REQUESTED_AT).cloned(),
            revocation: connection.annotations().get(crate::api::v1alpha1::REVOKE_REQUESTED_AT).cloned(),
        }
    }
}

/// A check that succeeds once the first listing is complete.
fn filled<K: 'static>(listeners: &mut Vec<Listener<K>>) -> Box<dyn Fn() -> Result<(), String> + Send + Sync> {
    let filled = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&filled);
    listeners.push(Box::new(move |change| {
        if matches!(change, Change::Ready) {
            seen.store(true, Ordering::Release);
        }
    }));
    Box::new(move || if filled.load(Ordering::Acquire) { Ok(()) } else { Err("not listed yet".to_owned()) })
}

fn invalid<K: Resource<DynamicType = ()>>(context: &Arc<Context>, kind: &'static str, change: &Change<K>) {
    let Change::Invalid(object) = change else { return };
    context.metrics.invalid_objects.get_or_create(&Kind { kind }).inc();
    let InvalidObject { error, metadata } = &**object;
    error!(kind, namespace = metadata.namespace, name = metadata.name, error, "stored object does not match the schema; it is ignored");
    let (context, metadata, error) = (Arc::clone(context), metadata.clone(), error.clone());
    tokio::spawn(async move { crate::controllers::report_invalid::<K>(&context, metadata, &error).await });
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    fn of<K: serde::de::DeserializeOwned>(object: Value) -> K {
        serde_json::from_value(object).unwrap()
    }

    fn fill<K>(watch: &mut Watch<K>, objects: impl IntoIterator<Item = Value>)
    where
        K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + 'static,
    {
        watch.1.apply_watcher_event(&Event::Init);
        for object in objects {
            watch.1.apply_watcher_event(&Event::InitApply(of(object)));
        }
        watch.1.apply_watcher_event(&Event::InitDone);
    }

    fn connection(name: &str) -> Value {
        json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection",
            "metadata": {"name": name, "namespace": "platform"},
            "spec": {"provider": {"gitea": {"url": "https://gitea.acme.io", "organization": "acme"}}},
        })
    }

    fn grant(connection: &str, from: &Value) -> ConnectionGrant {
        of(json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "ConnectionGrant",
            "metadata": {"name": connection, "namespace": "platform"},
            "spec": {"connectionRef": {"name": connection}, "namespaces": from, "repositories": {"include": ["acme/*"]}},
        }))
    }

    fn of_team(team: &str) -> Value {
        json!({"from": "Selector", "selector": {"matchLabels": {"team": team}}})
    }

    fn binding(namespace: &str, name: &str, connection: &str) -> Value {
        json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"connectionRef": {"name": connection, "namespace": "platform"}, "repository": "acme/shop"},
        })
    }

    fn asked(bindings: &mut UnboundedReceiver<ObjectRef<RepoBinding>>) -> Vec<String> {
        let mut asked: Vec<_> = std::iter::from_fn(|| bindings.try_recv().ok())
            .map(|binding| format!("{}/{}", binding.namespace.unwrap_or_default(), binding.name))
            .collect();
        asked.sort_unstable();
        asked
    }

    type Kept = (UnboundedReceiver<ObjectRef<GitProviderConnection>>, UnboundedReceiver<ObjectRef<ConnectionGrant>>);

    fn triggers() -> (Triggers, UnboundedReceiver<ObjectRef<RepoBinding>>, Kept) {
        let (connections, of_connections) = unbounded_channel();
        let (grants, of_grants) = unbounded_channel();
        let (bindings, requests) = unbounded_channel();
        (Triggers { connections, grants, bindings }, requests, (of_connections, of_grants))
    }

    #[test]
    fn a_changed_grant_triggers_the_bindings_that_it_covers_or_covered_and_no_others() {
        let (triggers, mut requests, (_, mut of_grants)) = triggers();
        let mut watched = Watched::default();
        watched.trigger_by_grants(&triggers, Arc::default());
        fill(&mut watched.connections, [connection("acme"), connection("other")]);
        let labelled =
            |name: &str, team: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}}});
        fill(&mut watched.namespaces, [labelled("shop", "shop"), labelled("cart", "cart"), labelled("pay", "pay")]);
        let known =
            [("shop", "a", "acme"), ("shop", "b", "other"), ("cart", "a", "acme"), ("pay", "a", "acme"), ("unlabelled", "a", "acme")];
        fill(&mut watched.bindings, known.map(|(namespace, name, connection)| binding(namespace, name, connection)));
        let mut tell = |change: Change<ConnectionGrant>| watched.grants.2.iter_mut().for_each(|listener| listener(&change));

        tell(Change::Applied(Arc::new(grant("acme", &of_team("shop")))));
        // The labels of a namespace that was not seen yet may fit.
        assert_eq!(asked(&mut requests), ["shop/a", "unlabelled/a"]);
        let mut reported = grant("acme", &of_team("shop"));
        reported.status = Some(of(json!({"bindings": 1})));
        tell(Change::Applied(Arc::new(reported)));
        assert_eq!(asked(&mut requests), [""; 0], "only the status changed");
        tell(Change::Applied(Arc::new(grant("acme", &of_team("cart")))));
        assert_eq!(asked(&mut requests), ["cart/a", "shop/a", "unlabelled/a"]);
        tell(Change::Deleted(Arc::new(grant("acme", &of_team("cart")))));
        assert_eq!(asked(&mut requests), ["cart/a", "unlabelled/a"]);
        assert_eq!(std::iter::from_fn(|| of_grants.try_recv().ok()).count(), 3, "the grant's own controller sees each version");
        tell(Change::Ready);
        assert_eq!(asked(&mut requests).len(), known.len(), "nothing was decided before");
    }

    #[test]
    fn a_new_or_relabelled_namespace_triggers_its_bindings() {
        let (triggers, mut requests, _kept) = triggers();
        let mut watched = Watched::default();
        watched.trigger_by_namespaces(&triggers, Arc::default());
        fill(&mut watched.connections, [connection("by-labels"), connection("all")]);
        watched.rules.apply(&grant("by-labels", &of_team("shop")));
        watched.rules.apply(&grant("all", &json!({"from": "All"})));
        watched.rules.listed();
        let known = [("team", "shop", "by-labels"), ("team", "till", "all"), ("late", "shop", "by-labels"), ("late", "till", "all")];
        fill(&mut watched.bindings, known.map(|(namespace, name, connection)| binding(namespace, name, connection)));
        let mut tell = |change: Change<Metadata<Namespace>>| watched.namespaces.2.iter_mut().for_each(|listener| listener(&change));
        let namespace = |name: &str, team: &str| -> Arc<Metadata<Namespace>> {
            Arc::new(of(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}}})))
        };

        tell(Change::Applied(namespace("team", "shop")));
        assert_eq!(asked(&mut requests), [""; 0], "the labels are not known before the list is complete");
        tell(Change::Ready);
        assert_eq!(asked(&mut requests), ["late/shop", "team/shop"], "the bindings of grants by labels");
        tell(Change::Applied(namespace("team", "shop")));
        assert_eq!(asked(&mut requests), [""; 0], "nothing new");
        tell(Change::Applied(namespace("late", "shop")));
        assert_eq!(asked(&mut requests), ["late/shop", "late/till"], "a new namespace");
        tell(Change::Applied(namespace("late", "other")));
        assert_eq!(asked(&mut requests), ["late/shop", "late/till"], "other labels");
        tell(Change::Deleted(namespace("late", "other")));
        tell(Change::Applied(namespace("late", "other")));
        assert_eq!(asked(&mut requests), ["late/shop", "late/till"], "a recreated namespace");
    }

    #[test]
    fn the_cache_of_bindings_has_everything_but_the_list_of_deliveries() {
        let mut object = binding("team", "shop", "acme");
        object["status"] =
            json!({"recentDeliveries": [{"time": "2026-01-01T00:00:00Z", "outcome": "Accepted"}], "installation": "0a0b0c0d"});
        let mut binding: RepoBinding = of(object);
        without_deliveries(&mut binding);
        let status = binding.status.unwrap();
        assert!(status.recent_deliveries.is_empty());
        assert_eq!(status.installation.as_deref(), Some("0a0b0c0d"));
    }
}
