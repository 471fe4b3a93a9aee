//! Reads a live cluster: its objects, namespaces and install key. Sends only get and list requests.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::ListParams;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::inventory::{Inventory, Refused, Subject};
use super::manifests::InputError;
use crate::api::v1alpha1::{ConnectionGrant, GitProviderConnection, RepoBinding};
use crate::config::Installation;
use crate::controllers::install::{INSTALL_KEY, KEY};
use crate::k8s::config;
use crate::protocol::keys::InstallKey;
use crate::text::wording;

/// Connect timeout for the API server.
const CONNECT: Duration = Duration::from_secs(10);
/// Page size of list requests.
const PAGE: u32 = 500;

/// A cluster and the objects read from it.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) inventory: Inventory,
    pub(super) install_key: Option<InstallKey>,
    /// What could not be read, and the consequences.
    pub(super) notes: Vec<String>,
}

fn failure(error: &kube::Error) -> InputError {
    InputError(format!("--from-cluster: API server: {}", wording::of_api_server(error)))
}

/// A client for the cluster of `KUBECONFIG` or of the pod's service account.
pub(super) async fn client() -> Result<Client, InputError> {
    let no_cluster = |error: String| InputError(format!("no cluster is configured: {error}; set KUBECONFIG"));
    let mut config = config::infer().await.map_err(|error| no_cluster(error.to_string()))?;
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).map_err(|error| no_cluster(error.to_string()))
}

/// Reads the cluster of `KUBECONFIG` or of the pod's service account.
pub(super) async fn read(installation: &Installation) -> Result<Cluster, InputError> {
    let client = client().await.map_err(|InputError(error)| InputError(format!("--from-cluster: {error}")))?;
    let mut cluster = Cluster { client, inventory: Inventory::default(), install_key: None, notes: Vec::new() };
    let namespaces = &installation.watch_namespaces;
    for object in cluster.list::<GitProviderConnection>(namespaces).await? {
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        cluster.inventory.connections.insert(key, Subject { object: Arc::new(object), location: None });
    }
    for object in cluster.list::<ConnectionGrant>(namespaces).await? {
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        cluster.inventory.grants.insert(key, Subject { object: Arc::new(object), location: None });
    }
    for object in cluster.list::<RepoBinding>(namespaces).await? {
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        cluster.inventory.bindings.insert(key, Subject { object: Arc::new(object), location: None });
    }
    cluster.read_namespaces().await;
    cluster.read_install_key(&installation.namespace).await;
    Ok(cluster)
}

impl Cluster {
    /// Lists every object of a kind. Records objects that do not match our types as refused, and continues.
    async fn list<K>(&mut self, namespaces: &[String]) -> Result<Vec<K>, InputError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let client = || self.client.clone();
        let apis: Vec<Api<DeserializeGuard<K>>> = if namespaces.is_empty() {
            vec![Api::all(client())]
        } else {
            namespaces.iter().map(|namespace| Api::namespaced(client(), namespace)).collect()
        };
        let mut objects = Vec::new();
        for api in apis {
            let mut parameters = ListParams::default().limit(PAGE);
            loop {
                let page = api.list(&parameters).await.map_err(|error| match &error {
                    kube::Error::Api(status) if status.is_not_found() => InputError(format!(
                        "--from-cluster: {} are not installed in the cluster; install the CRDs: forgebind crd \
                         | kubectl apply --server-side -f -",
                        K::plural(&())
                    )),
                    _ => failure(&error),
                })?;
                for DeserializeGuard(object) in page.items {
                    match object {
                        Ok(object) => objects.push(object),
                        Err(invalid) => self.inventory.refused.push(Refused {
                            kind: K::kind(&()).into_owned(),
                            key: (invalid.metadata.namespace.unwrap_or_default(), invalid.metadata.name.unwrap_or_default()),
                            violations: vec![(None, format!("the stored object does not match the schema: {}", invalid.error))],
                        }),
                    }
                }
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => parameters = parameters.continue_token(&token),
                    None => break,
                }
            }
        }
        Ok(objects)
    }

    async fn read_namespaces(&mut self) {
        match Api::<Namespace>::all(self.client.clone()).list_metadata(&ListParams::default()).await {
            Ok(list) => {
                let named = list.items.into_iter().map(|namespace| (namespace.name_any(), namespace.metadata));
                self.inventory.namespaces.extend(named);
            }
            Err(error) => {
                let error = wording::of_api_server(&error);
                self.notes.push(format!("namespaces cannot be read ({error}), so grants that select namespaces by label were not checked"));
            }
        }
    }

    async fn read_install_key(&mut self, namespace: &str) {
        let secret = Api::<Secret>::namespaced(self.client.clone(), namespace).get_opt(INSTALL_KEY).await;
        match secret {
            Ok(secret) => {
                let bytes = secret.and_then(|secret| secret.data?.remove(KEY));
                self.install_key = bytes.and_then(|bytes| InstallKey::new(&bytes.0).ok());
            }
            Err(error) => {
                let error = wording::of_api_server(&error);
                self.notes.push(format!(
                    "Secret {namespace}/{INSTALL_KEY} cannot be read ({error}), so existing hooks of the installation are not \
                     recognised; pass it with --install-key-file"
                ));
            }
        }
    }
}
