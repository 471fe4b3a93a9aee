//! `forgebind check`: reports what the controllers would do, and writes nothing anywhere.
//!
//! Runs the same observe, plan and report steps as the controllers, over manifests, a cluster, or manifests over a cluster. The
//! steps see only the objects of a view; their clients refuse to write, and plans are reported instead of applied.

mod can;
mod checker;
mod clients;
mod cluster;
mod inventory;
mod layered_secrets;
mod manifests;
mod outside;
mod progress;
pub mod result;
pub mod schema;
mod services;
mod settings;
mod spanned_yaml;
mod summary;
mod table;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::Resource;
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher;
use prometheus_client::registry::Registry;
use secrecy::SecretString;
use tokio::sync::mpsc;

use crate::api::v1alpha1::RepoBinding;
use crate::clock::{SharedClock, SystemClock};
use crate::controllers::binding::memory::Memories;
use crate::controllers::binding::prepared::PreparedEntries;
use crate::controllers::catalog::state::Catalogs;
use crate::controllers::public_endpoints::PublicEndpoints;
use crate::controllers::view::{ClientFactory, ClusterObjects};
use crate::controllers::{Keys, Sessions, Settings, Triggers, View, install};
use crate::protocol::grant::{Grants, Rule};
use crate::protocol::keys::InstallKey;
use crate::providers::transport::{TransportFactory, Unleased};
pub use can::{CanAnswer, can};
use checker::Checker;
use inventory::{Inventory, Key, NAME_LABEL, Subject, credential};
use layered_secrets::LayeredSecrets;
pub use manifests::InputError;
use outside::Outside;
use progress::Progress;
use result::{CheckResult, Finding, Level, Row};
use services::Services;
pub use settings::CheckSettings;
pub use table::{Style, table};

/// The default of the flag `--missing-grant-timeout`, as a check finds no flags of the installation.
const MISSING_GRANT_TIMEOUT: Duration = Duration::from_secs(3600);
/// Number of objects that are checked concurrently.
const AT_ONCE: usize = 8;

/// Runs a check.
///
/// # Errors
/// Unusable input: nothing was checked.
pub async fn run(settings: CheckSettings, standard_input: &mut (dyn Read + Send)) -> Result<CheckResult, InputError> {
    let clock: SharedClock = Arc::new(SystemClock);
    let read = manifests::read(&settings.paths, standard_input)?;
    let mut notes: Vec<String> = read.unreadable.iter().map(|file| format!("{file} is not valid YAML and was ignored")).collect();
    let (mut inventory, client, found_key) = if settings.from_cluster {
        let cluster = cluster::read(&settings.installation).await?;
        notes.extend(cluster.notes);
        (cluster.inventory, Some(cluster.client), cluster.install_key)
    } else {
        (Inventory::default(), None, None)
    };
    inventory.add(read.objects, &settings.default_namespace, clock.now())?;
    if !settings.paths.is_empty() && inventory.is_empty_of_ours() {
        return Err(InputError(
            "nothing to check: the input has no GitProviderConnection, no ConnectionGrant and no RepoBinding".to_owned(),
        ));
    }
    let with_hooks = inventory.bindings.values().any(|binding| binding.object.spec.webhook.is_some());
    if with_hooks && !settings.offline && settings.install_key.is_none() && found_key.is_none() {
        notes.push("without --install-key-file, existing hooks of the installation are not recognised".to_owned());
    }
    let ignored = std::mem::take(&mut inventory.ignored);
    let fail_on_plan = settings.fail_on_plan;
    let checker = checker(settings, inventory, client, found_key, clock)?;
    let rows = check_all(&checker).await;
    Ok(CheckResult::of(rows, notes, ignored, fail_on_plan))
}

impl Inventory {
    fn is_empty_of_ours(&self) -> bool {
        self.connections.is_empty() && self.grants.is_empty() && self.bindings.is_empty() && self.refused.is_empty()
    }
}

/// Builds the view on which the controllers' code runs.
fn checker(
    settings: CheckSettings,
    mut inventory: Inventory,
    client: Option<kube::Client>,
    found_key: Option<InstallKey>,
    clock: SharedClock,
) -> Result<Checker, InputError> {
    let no_randomness = || InputError("the system provides no random bytes".to_owned());
    let chance = InstallKey::random_bytes().ok_or_else(no_randomness)?;
    let key = settings.install_key.clone().or(found_key);
    let knows_key = key.is_some();
    let key = key.map_or_else(|| InstallKey::new(&chance).map_err(|_| no_randomness()), Ok)?;
    let from_cluster = client.is_some();
    if settings.offline {
        without_missing(&mut inventory);
    }
    if !from_cluster {
        let names = inventory.bindings.keys().map(|(namespace, _)| namespace.clone()).collect();
        name_namespaces(&mut inventory, names);
    }
    let services = Services::new(std::mem::take(&mut inventory.services), client.clone());
    let references = layered_secrets(&settings, &inventory, client, hex::encode(chance).into())?;
    let network = Arc::new(settings.installation.network.clone());
    let outside = Outside::new(&settings, &inventory, &network);
    // The receivers are dropped: every object is checked once, in order.
    let (connections, _) = mpsc::unbounded_channel();
    let (grants, _) = mpsc::unbounded_channel();
    let (bindings, _) = mpsc::unbounded_channel();
    let (sessions, _) = mpsc::unbounded_channel();
    let clients: Arc<dyn ClientFactory> =
        if settings.offline { Arc::new(clients::OfflineClients) } else { Arc::new(clients::ReadOnlyClients(outside)) };
    let view = View {
        references: Arc::new(references),
        clients,
        transports: TransportFactory::new(Arc::clone(&network), Arc::new(Unleased), clock.clone(), &mut Registry::default()),
        clock,
        settings: Settings {
            public_urls: settings.installation.public_urls,
            namespace: settings.installation.namespace,
            providers: settings.installation.providers,
            read_only: false,
            cleanup_timeout: None,
            missing_grant_timeout: MISSING_GRANT_TIMEOUT,
        },
        keys: Keys { fingerprint: key.fingerprint(), receiver: key.receiver(), controller: key.controller() },
        key_failure: install::KeyFailure::default(),
        network,
        sessions: Sessions::new(sessions),
        connections: store(inventory.connections.values().map(|subject| (*subject.object).clone())),
        bindings: store(inventory.bindings.values().map(|subject| (*subject.object).clone())),
        grant_objects: store(inventory.grants.values().map(|subject| (*subject.object).clone())),
        grants: Grants::listing(inventory.grants.values().map(|subject| &*subject.object)),
        namespaces: store(
            inventory
                .namespaces
                .values()
                .map(|metadata| PartialObjectMeta::<Namespace> { metadata: metadata.clone(), ..PartialObjectMeta::default() }),
        ),
        memory: Memories::default(),
        prepared: PreparedEntries::default(),
        public_endpoints: PublicEndpoints::default(),
        catalogs: Catalogs::default(),
        shows_connections: true,
        triggers: Triggers { connections, grants, bindings },
    };
    Ok(Checker { view, inventory, services, offline: settings.offline, from_cluster, knows_key })
}

/// A store with a fixed set of objects.
fn store<K>(objects: impl Iterator<Item = K>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&watcher::Event::Init);
    for object in objects {
        writer.apply_watcher_event(&watcher::Event::InitApply(object));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
    store
}

fn layered_secrets(
    settings: &CheckSettings,
    inventory: &Inventory,
    client: Option<kube::Client>,
    placeholder: SecretString,
) -> Result<LayeredSecrets, InputError> {
    let mut tokens = HashMap::new();
    for named in &settings.tokens {
        let mut concerned = inventory.connections.iter().filter(|(key, _)| named.is_for(key)).peekable();
        if concerned.peek().is_none() {
            return Err(InputError(format!("--token-env: there is no connection {}", named.name())));
        }
        tokens.extend(concerned.filter_map(|(key, subject)| Some((credential(subject, &key.0)?, named.token.clone()))));
    }
    let credentials: BTreeSet<Key> = inventory.connections.iter().filter_map(|(key, subject)| credential(subject, &key.0)).collect();
    let assumed: BTreeSet<Key> = if settings.offline {
        let of_webhooks = inventory.bindings.iter().filter_map(|(key, subject)| {
            let reference = subject.object.spec.webhook.as_ref()?.secret_ref.as_ref()?;
            Some((key.0.clone(), reference.name.clone()))
        });
        credentials.iter().cloned().chain(of_webhooks).collect()
    } else {
        // An unreadable credential is not replaced: nothing could be said about its connection.
        inventory.externally_managed.difference(&credentials).cloned().collect()
    };
    Ok(LayeredSecrets {
        secrets: inventory.secrets.clone(),
        config_maps: inventory.config_maps.clone(),
        tokens,
        token: settings.token.clone(),
        credentials,
        assumed,
        placeholder,
        cluster: client.map(ClusterObjects),
    })
}

/// Removes TLS and proxy settings with missing references: without contacting a provider, they are no reason to fail.
fn without_missing(inventory: &mut Inventory) {
    let Inventory { connections, secrets, config_maps, .. } = inventory;
    for ((namespace, _), subject) in connections {
        let there = |name: &str| secrets.contains_key(&(namespace.clone(), name.to_owned()));
        let spec = &subject.object.spec;
        let map_there = spec.config_map_name().is_none_or(|name| config_maps.contains_key(&(namespace.clone(), name.to_owned())));
        let credential = spec.credentials.as_ref().map(|credentials| credentials.secret_ref.name.as_str());
        let secrets_there = spec.secret_names().filter(|name| Some(*name) != credential).all(there);
        if !map_there || !secrets_there {
            let mut object = (*subject.object).clone();
            object.spec.tls = None;
            object.spec.proxy_secret_ref = None;
            subject.object = Arc::new(object);
        }
    }
}

/// Adds namespaces without a manifest, with the name label. If no grant selects by another label, the name is all that is needed.
fn name_namespaces(inventory: &mut Inventory, names: BTreeSet<String>) {
    let by_name_alone = inventory.grants.values().all(|subject| {
        let Some(selector) = &subject.object.spec.namespaces.selector else { return true };
        let labels = selector.match_labels.iter().flat_map(BTreeMap::keys);
        labels.chain(selector.match_expressions.iter().flatten().map(|expression| &expression.key)).all(|label| label == NAME_LABEL)
    });
    if by_name_alone {
        for name in names {
            inventory.namespaces.entry(name.clone()).or_insert_with(|| {
                let labels = BTreeMap::from([(NAME_LABEL.to_owned(), name.clone())]);
                kube::api::ObjectMeta { name: Some(name), labels: Some(labels), ..kube::api::ObjectMeta::default() }
            });
        }
    }
}

/// Checks the requested objects: with manifests, these and the objects that they affect; otherwise all objects.
async fn check_all(checker: &Checker) -> Vec<Row> {
    let Inventory { connections, grants, bindings, .. } = &checker.inventory;
    let of_manifests = connections.values().any(|subject| subject.location.is_some())
        || grants.values().any(|subject| subject.location.is_some())
        || bindings.values().any(|subject| subject.location.is_some())
        || checker.inventory.refused.iter().any(|refused| refused.violations.iter().any(|(location, _)| location.is_some()));
    let target = |subject: &Subject<RepoBinding>| {
        let target = subject.object.connection_target();
        (target.namespace, target.name)
    };
    let new_rules: Vec<Rule> =
        grants.values().filter(|subject| subject.location.is_some()).filter_map(|subject| Rule::of(&subject.object)).collect();
    let is_regranted = |key: &Key, labels: Option<&BTreeMap<String, String>>| {
        new_rules.iter().any(|rule| rule.namespace == key.0 && rule.is_about(&key.1, labels))
    };
    let regranted: BTreeSet<Key> = connections
        .iter()
        .filter(|(key, subject)| is_regranted(key, subject.object.metadata.labels.as_ref()))
        .map(|(key, _)| key.clone())
        .collect();
    let wanted = |subject: &Subject<RepoBinding>| {
        let changed = connections.get(&target(subject)).is_some_and(|connection| connection.location.is_some());
        !of_manifests || subject.location.is_some() || changed || regranted.contains(&target(subject))
    };
    let bindings: Vec<_> = bindings.iter().filter(|(_, subject)| wanted(subject)).collect();
    let needed: BTreeSet<Key> = bindings.iter().map(|(_, subject)| target(subject)).collect();
    let connections: Vec<_> =
        connections.iter().filter(|(key, subject)| !of_manifests || subject.location.is_some() || needed.contains(key)).collect();
    let grants: Vec<_> = grants.iter().filter(|(_, subject)| !of_manifests || subject.location.is_some()).collect();
    let progress = Progress::new(connections.len() + bindings.len());
    let step = |row: Row| {
        progress.step();
        row
    };
    let looking = async {
        let of_connections = stream::iter(connections).map(async |(key, subject)| step(checker.connection(key, subject).await));
        let mut rows: Vec<Row> = of_connections.buffered(AT_ONCE).collect().await;
        let of_bindings = stream::iter(bindings).map(async |(key, subject)| step(checker.binding(key, subject).await));
        rows.extend(of_bindings.buffered(AT_ONCE).collect::<Vec<_>>().await);
        rows.extend(grants.into_iter().map(|(key, subject)| checker.grant(key, subject)));
        rows
    };
    let mut rows = progress.during(looking).await;
    rows.extend(checker.inventory.refused.iter().map(Row::refused));
    for row in rows.iter_mut().filter(|row| row.reason.is_none()) {
        row.findings.extend(assumptions(checker, row));
    }
    let rank = |kind: &str| schema::KINDS.iter().position(|known| *known == kind);
    rows.sort_by_cached_key(|row| (rank(&row.kind), row.namespace.clone(), row.name.clone()));
    for row in &mut rows {
        row.findings.sort_by_key(|finding| finding.level);
    }
    rows
}

/// A note about a Secret that was assumed to be valid because no provider was contacted.
fn assumptions(checker: &Checker, row: &Row) -> Option<Finding> {
    let key = (row.namespace.clone(), row.name.clone());
    let inventory = &checker.inventory;
    let secret = match row.kind.as_str() {
        "GitProviderConnection" => credential(inventory.connections.get(&key)?, &key.0)?,
        "ConnectionGrant" => return None,
        _ => (key.0.clone(), inventory.bindings.get(&key)?.object.spec.webhook.as_ref()?.secret_ref.as_ref()?.name.clone()),
    };
    let missing = !inventory.secrets.contains_key(&secret);
    missing.then(|| {
        Finding::plain(Level::Note, format!("Secret {}/{} is not among the manifests and was assumed to be valid", secret.0, secret.1))
    })
}
