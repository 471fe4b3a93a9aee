//! What can be seen: everything that `observe` reads. Nothing in it writes, neither at the API server nor at a provider, so
//! that whoever holds a view alone can look and plan, and no more.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::PartialObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::{Keys, Sessions, Settings, Triggers, binding, connection, install};
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::{GitProviderConnection, RepoBinding};
use crate::clock::SharedClock;
use crate::network::NetworkPolicy;
use crate::protocol::evidence::BindingEvidence;
use crate::providers::transport::{ProxySettings, Transport, TransportFactory};
use crate::providers::{Client, Credential, Endpoint, Provider, ProviderError};

/// Everything that `observe` reads.
pub struct View {
    /// The Secrets and `ConfigMap`s that objects refer to.
    pub references: Arc<dyn ObjectReader>,
    /// The time.
    pub clock: SharedClock,
    /// What the administrator decided.
    pub settings: Settings,
    /// What is derived from the install key.
    pub keys: Keys,
    /// What is wrong with the Secret of that key.
    pub key_failure: install::guard::KeyFailure,
    /// Makes the clients of the connections.
    pub clients: Arc<dyn ClientFactory>,
    /// Makes their transports.
    pub transports: TransportFactory,
    /// Which hosts may be reached.
    pub network: Arc<NetworkPolicy>,
    /// What is known of the connections.
    pub sessions: Sessions,
    /// The connections.
    pub connections: Store<GitProviderConnection>,
    /// The bindings.
    pub bindings: Store<RepoBinding>,
    /// The namespaces, by their metadata.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// What receivers saw, by UID of the binding.
    pub evidence: Mutex<HashMap<String, BindingEvidence>>,
    /// When the binding's repository was probed last, by UID.
    pub probes: Mutex<HashMap<String, binding::ProbeRecord>>,
    /// What was tried for the binding and is not over, by UID.
    pub attempts: Mutex<HashMap<String, binding::attempts::Attempts>>,
    /// What the connections were told of their bindings.
    pub usages: connection::usage::ReportedUsage,
    /// Whether it may be told that a connection depends on labels which cannot be read: to whoever has its manifest.
    pub shows_connections: bool,
    /// Asks for reconciliations.
    pub triggers: Triggers,
}

impl View {
    /// A connection; `None` when it is not there.
    #[must_use]
    pub fn connection(&self, connection: &ConnectionTarget) -> Option<Arc<GitProviderConnection>> {
        self.connections.get(&ObjectRef::new(&connection.name).within(&connection.namespace))
    }

    /// The bindings that name a connection, or may have a hook made through it.
    #[must_use]
    pub fn bindings_of(&self, connection: &ConnectionTarget) -> Vec<Arc<RepoBinding>> {
        self.bindings.state_filter(|binding| binding.is_about(connection))
    }

    /// Whether a namespace is being deleted. `false` where namespaces cannot be read.
    #[must_use]
    pub fn is_terminating(&self, namespace: &str) -> bool {
        self.namespaces.get(&ObjectRef::new(namespace)).is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }
}

/// Makes clients from what was read. A client is the one way from here to a provider.
pub trait ClientFactory: Send + Sync {
    /// Whether the credential of a connection may be sent where its spec leads. It always may where both are of one namespace;
    /// a check may have the two from different hands.
    ///
    /// # Errors
    /// Who would get it, and what would allow that.
    fn admit(&self, connection: &ConnectionTarget, endpoint: &Endpoint, proxy: Option<&ProxySettings>) -> Result<(), String> {
        let _ = (connection, endpoint, proxy);
        Ok(())
    }

    /// A client for one account. Nothing is sent here.
    ///
    /// # Errors
    /// As [`Provider::connect`].
    fn connect(
        &self,
        provider: &'static dyn Provider,
        endpoint: Endpoint,
        credential: Credential,
        transport: Transport,
    ) -> Result<Arc<dyn Client>, ProviderError>;
}

/// The providers' own clients.
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

/// Where the Secrets and `ConfigMap`s are that objects refer to. Read when they are needed, never kept.
#[async_trait]
pub trait ObjectReader: Send + Sync {
    /// A Secret; `None` where there is none.
    async fn secret(&self, namespace: &str, name: &str) -> kube::Result<Option<Secret>>;

    /// A `ConfigMap`; `None` where there is none.
    async fn config_map(&self, namespace: &str, name: &str) -> kube::Result<Option<ConfigMap>>;
}

/// Those of a cluster.
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
