//! The view: everything that `observe` reads. Nothing in it writes, neither at the API server nor at a provider, so code that
//! has only a view can observe and plan but change nothing.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::PartialObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::catalog::state::Catalogs;
use super::public_endpoints::PublicEndpoints;
use super::{Keys, Sessions, Settings, Triggers, binding, install};
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::{ConnectionGrant, GitProviderConnection, RepoBinding};
use crate::clock::SharedClock;
use crate::network::NetworkPolicy;
use crate::protocol::grant::Grants;
use crate::providers::transport::{ProxySettings, Transport, TransportFactory};
use crate::providers::{Client, Credential, Endpoint, Provider, ProviderError};

/// Everything that `observe` reads. Its locks know no poisoning: every critical section is one map operation, so the data is still
/// consistent after a panic.
pub struct View {
    /// Reads the Secrets and `ConfigMap`s that objects refer to.
    pub references: Arc<dyn ObjectReader>,
    /// Source of the current time.
    pub clock: SharedClock,
    /// The administrator's settings.
    pub settings: Settings,
    /// Values derived from the install key.
    pub keys: Keys,
    /// What is wrong with the Secret of the install key.
    pub key_failure: install::KeyFailure,
    /// Makes the clients of the connections.
    pub clients: Arc<dyn ClientFactory>,
    /// Makes the transports of the connections.
    pub transports: TransportFactory,
    /// Decides which hosts may be called.
    pub network: Arc<NetworkPolicy>,
    /// The sessions of the connections.
    pub sessions: Sessions,
    /// Cache of the connections.
    pub connections: Store<GitProviderConnection>,
    /// Cache of the bindings.
    pub bindings: Store<RepoBinding>,
    /// Cache of the grants, for their own controller.
    pub grant_objects: Store<ConnectionGrant>,
    /// The grants, as they decide who may use a connection.
    pub grants: Grants,
    /// Cache of the namespaces' metadata.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// What is remembered of each binding.
    pub memory: binding::memory::Memories,
    /// What the Secrets with the prepared entries of bindings contain.
    pub prepared: binding::prepared::PreparedEntries,
    /// Whether the public URLs of the receiver answer.
    pub public_endpoints: PublicEndpoints,
    /// What is remembered of the connections' catalogues.
    pub catalogs: Catalogs,
    /// Whether messages may mention that a connection depends on labels which cannot be read. Only for a reader who has the
    /// connection's manifest.
    pub shows_connections: bool,
    /// Requests reconciliations.
    pub triggers: Triggers,
}

impl View {
    /// The connection from the cache; `None` when it does not exist.
    #[must_use]
    pub fn connection(&self, connection: &ConnectionTarget) -> Option<Arc<GitProviderConnection>> {
        self.connections.get(&ObjectRef::new(&connection.name).within(&connection.namespace))
    }

    /// The bindings that refer to a connection or may have a hook that was made through it.
    #[must_use]
    pub fn bindings_of(&self, connection: &ConnectionTarget) -> Vec<Arc<RepoBinding>> {
        self.bindings.state_filter(|binding| binding.is_about(connection))
    }

    /// Whether a namespace is being deleted. `false` when namespaces cannot be read.
    #[must_use]
    pub fn is_terminating(&self, namespace: &str) -> bool {
        self.namespaces.get(&ObjectRef::new(namespace)).is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }
}

/// Makes provider clients. A client is the only way from the controllers to a provider.
pub trait ClientFactory: Send + Sync {
    /// Checks whether the credential of a connection may be sent to the endpoint and proxy of its spec. The default allows it,
    /// because both come from the same namespace; a check may get them from different authors.
    ///
    /// # Errors
    /// A message that names who would receive the credential and how to allow it.
    fn admit(&self, connection: &ConnectionTarget, endpoint: &Endpoint, proxy: Option<&ProxySettings>) -> Result<(), String> {
        let _ = (connection, endpoint, proxy);
        Ok(())
    }

    /// Makes a client for one account. Sends nothing.
    ///
    /// # Errors
    /// As `connect` of the [`Provider`].
    fn connect(
        &self,
        provider: &'static dyn Provider,
        endpoint: Endpoint,
        credential: Credential,
        transport: Transport,
    ) -> Result<Arc<dyn Client>, ProviderError>;
}

/// The real clients of the providers.
#[derive(Clone, Copy, Debug)]
pub struct ProviderClients;

impl ClientFactory for ProviderClients {
    fn connect(
        &self,
        provider: &'static dyn Provider,
        endpoint: Endpoint,
        credential: Credential,
        transport: Transport,
    ) -> Result<Arc<dyn Client>, ProviderError> {
        provider.connect(endpoint, credential, transport)
    }
}

/// Reads the Secrets and `ConfigMap`s that objects refer to. They are read when needed and never cached.
#[async_trait]
pub trait ObjectReader: Send + Sync {
    /// A Secret; `None` if it does not exist.
    async fn secret(&self, namespace: &str, name: &str) -> kube::Result<Option<Secret>>;

    /// A `ConfigMap`; `None` if it does not exist.
    async fn config_map(&self, namespace: &str, name: &str) -> kube::Result<Option<ConfigMap>>;
}

/// Reads from the API server of a cluster.
#[derive(Clone)]
pub struct ClusterObjects(pub kube::Client);

impl ClusterObjects {
    async fn get<K>(&self, namespace: &str, name: &str) -> kube::Result<Option<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        Api::<K>::namespaced(self.0.clone(), namespace).get_opt(name).await
    }
}

#[async_trait]
impl ObjectReader for ClusterObjects {
    async fn secret(&self, namespace: &str, name: &str) -> kube::Result<Option<Secret>> {
        self.get(namespace, name).await
    }

    async fn config_map(&self, namespace: &str, name: &str) -> kube::Result<Option<ConfigMap>> {
        self.get(namespace, name).await
    }
}
