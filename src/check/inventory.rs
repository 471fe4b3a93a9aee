//! Collects the objects to check (those of the manifests over those of the cluster) and the objects that they refer to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::manifests::{InputError, Location, Manifest};
use super::schema::{KINDS, Schema, Violation, nearest};
use crate::api::v1alpha1::connection::ProviderSpec;
use crate::api::v1alpha1::{ConnectionGrant, GROUP, GitProviderConnection, RepoBinding};
use crate::text::sanitize;

/// Namespace and name.
pub(super) type Key = (String, String);

/// One of our objects and its source.
#[derive(Clone, Debug)]
pub(super) struct Subject<K> {
    pub(super) object: Arc<K>,
    /// Location of its manifest; `None` for an object that is only in the cluster.
    pub(super) location: Option<Location>,
}

/// An object that admission would refuse, or that the cluster has stored although it does not match the schema.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) kind: String,
    pub(super) key: Key,
    /// What is wrong, with the location in a manifest.
    pub(super) violations: Vec<(Option<Location>, String)>,
}

/// All objects that were read.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) connections: BTreeMap<Key, Subject<GitProviderConnection>>,
    pub(super) grants: BTreeMap<Key, Subject<ConnectionGrant>>,
    pub(super) bindings: BTreeMap<Key, Subject<RepoBinding>>,
    pub(super) refused: Vec<Refused>,
    pub(super) secrets: HashMap<Key, Secret>,
    pub(super) config_maps: HashMap<Key, ConfigMap>,
    /// Services of manifests.
    pub(super) services: HashMap<Key, Service>,
    /// Index of the `-f` argument that a connection or a Secret came from. Objects of the cluster are in neither map.
    pub(super) connection_sources: BTreeMap<Key, usize>,
    pub(super) secret_sources: BTreeMap<Key, usize>,
    /// Connections of manifests with the provider, TLS, proxy and credential of the connection of that name in the cluster.
    pub(super) unmoved: BTreeSet<Key>,
    /// Metadata of namespaces by name.
    pub(super) namespaces: BTreeMap<String, ObjectMeta>,
    /// Secrets that something else creates from objects in Git: sealed, encrypted or stored elsewhere.
    pub(super) externally_managed: BTreeSet<Key>,
    /// Number of objects of other kinds, by kind.
    pub(super) ignored: BTreeMap<String, usize>,
}

impl Inventory {
    /// Adds the objects of manifests, over those of the cluster that were added before.
    pub(super) fn add(&mut self, manifests: Vec<Manifest>, default_namespace: &str, now: Timestamp) -> Result<(), InputError> {
        let [connection, grant, binding] = KINDS.map(Schema::of);
        let mut seen: BTreeMap<(String, Key), Location> = BTreeMap::new();
        for manifest in manifests {
            let key = (manifest.namespace().unwrap_or(default_namespace).to_owned(), manifest.name().to_owned());
            let location = manifest.location();
            let ours = manifest.api_version().split('/').next() == Some(GROUP);
            if ours && let Some(first) = seen.insert((manifest.kind().to_owned(), key.clone()), location.clone()) {
                let message = format!(
                    "is defined twice, first at {}:{}; remove one of the two, because one would overwrite the other",
                    first.file, first.line
                );
                self.refuse(&manifest, &key, vec![(Some(location), message)]);
                continue;
            }
            match (manifest.api_version(), manifest.kind(), &connection, &grant, &binding) {
                ("forgebind.dev/v1alpha1", "GitProviderConnection", Some(schema), ..) => {
                    if let Some(object) = self.typed::<GitProviderConnection>(&manifest, &key, schema, now) {
                        self.put_connection(key, manifest.source, location, object);
                    }
                }
                ("forgebind.dev/v1alpha1", "ConnectionGrant", _, Some(schema), _) => {
                    if let Some(object) = self.typed::<ConnectionGrant>(&manifest, &key, schema, now) {
                        let known = self.grants.remove(&key);
                        let object = over(known.map(|known| known.object), object, |new, old| new.spec == old.spec);
                        self.grants.insert(key, Subject { object: Arc::new(object), location: Some(location) });
                    }
                }
                ("forgebind.dev/v1alpha1", "RepoBinding", .., Some(schema)) => {
                    if let Some(object) = self.typed::<RepoBinding>(&manifest, &key, schema, now) {
                        let known = self.bindings.remove(&key);
                        let object = over(known.map(|known| known.object), object, |new, old| new.spec == old.spec);
                        self.bindings.insert(key, Subject { object: Arc::new(object), location: Some(location) });
                    }
                }
                _ if ours => self.refuse_unknown(&manifest, &key),
                ("v1", "Secret", ..) => self.put_secret(&manifest, key)?,
                ("v1", "ConfigMap", ..) => {
                    self.config_maps.insert(key, parse(&manifest)?);
                }
                ("v1", "Service", ..) => {
                    self.services.insert(key, parse(&manifest)?);
                }
                ("v1", "Namespace", ..) => {
                    let namespace: Namespace = parse(&manifest)?;
                    self.namespaces.insert(namespace.name_any(), named(namespace.metadata));
                }
                _ => self.put_other(&manifest, key),
            }
        }
        Ok(())
    }

    fn refuse(&mut self, manifest: &Manifest, key: &Key, violations: Vec<(Option<Location>, String)>) {
        self.refused.push(Refused { kind: manifest.kind().to_owned(), key: key.clone(), violations });
    }

    fn refuse_unknown(&mut self, manifest: &Manifest, key: &Key) {
        let message = if KINDS.contains(&manifest.kind()) {
            format!("apiVersion {} does not exist; use {GROUP}/v1alpha1", manifest.api_version())
        } else {
            let hint = nearest(manifest.kind(), KINDS.into_iter()).map(|known| format!("; did you mean {known}?"));
            format!("kind {} does not exist in {}{}", manifest.kind(), manifest.api_version(), hint.unwrap_or_default())
        };
        let location = manifest.location_of("/kind");
        self.refuse(manifest, key, vec![(Some(location), message)]);
    }

    /// Converts the manifest to our type if admission would accept it.
    fn typed<K>(&mut self, manifest: &Manifest, key: &Key, schema: &Schema, now: Timestamp) -> Option<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
    {
        let mut value = manifest.value.clone();
        // A status counts only for an object read from a cluster; applying a manifest drops it.
        if value.pointer("/metadata/uid").is_none()
            && let Some(object) = value.as_object_mut()
        {
            object.remove("status");
        }
        let mut violations: Vec<(Option<Location>, String)> = schema
            .validate(&mut value)
            .into_iter()
            .map(|Violation { pointer, message }| (Some(manifest.location_of(&pointer)), message))
            .collect();
        if violations.is_empty() {
            match serde_json::from_value::<K>(value) {
                Ok(mut object) => {
                    let kind = K::kind(&());
                    let metadata = object.meta_mut();
                    metadata.namespace = Some(key.0.clone());
                    metadata.uid.get_or_insert_with(|| format!("{kind} {}/{} of a manifest", key.0, key.1));
                    metadata.generation.get_or_insert(1);
                    metadata.creation_timestamp.get_or_insert(Time(now));
                    return Some(object);
                }
                Err(error) => violations.push((Some(manifest.location()), sanitize::line(&error.to_string(), 300))),
            }
        }
        self.refuse(manifest, key, violations);
        None
    }

    fn put_connection(&mut self, key: Key, source: usize, location: Location, object: GitProviderConnection) {
        let known = self.connections.remove(&key).map(|known| known.object);
        let used = known.as_ref().and_then(|known| known.status.as_ref()?.bindings).unwrap_or_default();
        let moved = known.as_ref().is_some_and(|known| fixed(&known.spec.provider) != fixed(&object.spec.provider));
        if used > 0 && moved {
            let message = "spec.provider cannot change (but for apiURL) while bindings use this connection; create a second connection and \
                           move the bindings to it";
            let violations = vec![(Some(location), message.to_owned())];
            self.refused.push(Refused { kind: "GitProviderConnection".to_owned(), key: key.clone(), violations });
            // The object in the cluster is kept.
            self.connections.extend(known.map(|object| (key, Subject { object, location: None })));
            return;
        }
        let leads = |object: &GitProviderConnection| {
            let spec = object.spec.clone();
            (spec.provider, spec.tls, spec.proxy_secret_ref, spec.credentials.map(|credentials| credentials.secret_ref))
        };
        if known.as_ref().is_some_and(|known| leads(known) == leads(&object)) {
            self.unmoved.insert(key.clone());
        }
        let object = over(known, object, |new, old| new.spec == old.spec);
        self.connection_sources.insert(key.clone(), source);
        self.connections.insert(key, Subject { object: Arc::new(object), location: Some(location) });
    }

    fn put_secret(&mut self, manifest: &Manifest, key: Key) -> Result<(), InputError> {
        if manifest.value.get("sops").is_some() {
            self.externally_managed.insert(key);
            return Ok(());
        }
        let mut secret: Secret = parse(manifest)?;
        for (name, text) in secret.string_data.take().unwrap_or_default() {
            secret.data.get_or_insert_default().insert(name, ByteString(text.into_bytes()));
        }
        self.secret_sources.insert(key.clone(), manifest.source);
        self.secrets.insert(key, secret);
        Ok(())
    }

    fn put_other(&mut self, manifest: &Manifest, key: Key) {
        let text = |pointer: &str| manifest.value.pointer(pointer).and_then(Value::as_str);
        match (manifest.api_version().split('/').next(), manifest.kind()) {
            (Some("bitnami.com"), "SealedSecret") => {
                let name = text("/spec/template/metadata/name").map(str::to_owned);
                self.externally_managed.insert((key.0, name.unwrap_or(key.1)));
            }
            (Some("external-secrets.io"), "ExternalSecret") => {
                let name = text("/spec/target/name").map(str::to_owned);
                self.externally_managed.insert((key.0, name.unwrap_or(key.1)));
            }
            _ => *self.ignored.entry(manifest.qualified_kind()).or_default() += 1,
        }
    }
}

/// Parses an object of a core kind. The error contains no value, because it may be secret.
fn parse<K: DeserializeOwned>(manifest: &Manifest) -> Result<K, InputError> {
    serde_json::from_value(manifest.value.clone()).map_err(|_| {
        let location = manifest.location();
        let what = format!("{} {}", manifest.kind(), manifest.name());
        InputError(format!("{}:{}: {what} has a field of the wrong type (the values of data must be base64)", location.file, location.line))
    })
}

/// The label that the API server sets on every namespace.
pub(super) const NAME_LABEL: &str = "kubernetes.io/metadata.name";

fn named(mut metadata: ObjectMeta) -> ObjectMeta {
    let name = metadata.name.clone().unwrap_or_default();
    metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
    metadata
}

/// The object as it would be after applying a manifest over the cluster's object: the manifest's spec, labels and annotations
/// with the identity and status of the existing object.
fn over<K: Resource + Overlay>(known: Option<Arc<K>>, new: K, same: impl Fn(&K, &K) -> bool) -> K {
    let Some(known) = known else { return new };
    let mut result = new.with_status_of(&known);
    let unchanged = same(&result, &known);
    let written = std::mem::replace(result.meta_mut(), known.meta().clone());
    let metadata = result.meta_mut();
    metadata.labels.get_or_insert_default().extend(written.labels.unwrap_or_default());
    metadata.annotations.get_or_insert_default().extend(written.annotations.unwrap_or_default());
    if !unchanged {
        metadata.generation = metadata.generation.map(|generation| generation + 1);
    }
    result
}

/// A kind whose status is kept when its spec changes.
trait Overlay {
    fn with_status_of(self, known: &Self) -> Self;
}

impl Overlay for GitProviderConnection {
    fn with_status_of(self, known: &Self) -> Self {
        Self { status: known.status.clone(), ..self }
    }
}

impl Overlay for ConnectionGrant {
    fn with_status_of(self, known: &Self) -> Self {
        Self { status: known.status.clone(), ..self }
    }
}

impl Overlay for RepoBinding {
    fn with_status_of(self, known: &Self) -> Self {
        Self { status: known.status.clone(), ..self }
    }
}

/// The part of a provider that must not change while bindings use it: everything except the API's URL.
fn fixed(provider: &ProviderSpec) -> Value {
    let mut value = serde_json::to_value(provider).unwrap_or_default();
    for member in value.as_object_mut().into_iter().flat_map(|members| members.values_mut()).filter_map(Value::as_object_mut) {
        member.remove("apiURL");
    }
    value
}

/// The key of the Secret with a connection's credential.
pub(super) fn credential(connection: &Subject<GitProviderConnection>, namespace: &str) -> Option<Key> {
    let credentials = connection.object.spec.credentials.as_ref()?;
    Some((namespace.to_owned(), credentials.secret_ref.name.clone()))
}
