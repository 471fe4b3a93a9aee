//! A simulator, and the provider's own client for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::ProviderKind;
use forgebind::clock::SystemClock;
use forgebind::network::NetworkPolicy;
use forgebind::providers::credential::DeclaredCredential;
use forgebind::providers::transport::{Timings, TransportFactory, Unleased};
use forgebind::providers::{Client, Credential, Endpoint, Provider, RepositoryPath, registry};
use prometheus_client::registry::Registry;

use super::registry::maker;
use super::server::Simulator;
use super::simulated_provider::SeedData;

/// A simulator, and a factory of clients for it.
#[derive(Clone)]
pub struct Simulated {
    pub simulator: Arc<Simulator>,
    pub provider: &'static dyn Provider,
    pub endpoint: Endpoint,
    pub seed_data: SeedData,
    pub factory: Arc<TransportFactory>,
}

impl Simulated {
    pub async fn new(kind: ProviderKind) -> Result<Self> {
        let maker = maker(kind).with_context(|| format!("there is no simulator of {kind}"))?;
        Self::with(Simulator::start(maker).await?, Timings::default())
    }

    /// A client factory with other timeouts than the operator's.
    pub fn with(simulator: Simulator, timings: Timings) -> Result<Self> {
        let seed_data = simulator.seed_data();
        let kind = simulator.product().kind();
        let provider = registry::provider(kind).with_context(|| format!("{kind} is not supported"))?;
        let endpoint = provider.endpoint(&serde_json::from_value(seed_data.provider.clone())?)?;
        Ok(Self { simulator: Arc::new(simulator), provider, endpoint, seed_data, factory: Self::factory(timings) })
    }

    /// A factory of transports, with its own rate limiters.
    pub fn factory(timings: Timings) -> Arc<TransportFactory> {
        let allow_cidrs = vec!["127.0.0.0/8".parse().unwrap()];
        let policy = Arc::new(NetworkPolicy { insecure_http: true, allow_cidrs, ..NetworkPolicy::default() });
        let factory = TransportFactory::new(policy, Arc::new(Unleased), Arc::new(SystemClock), &mut Registry::default());
        Arc::new(factory.with_timings(timings))
    }

    /// A client with the credential in the data of a Secret; anonymous without data.
    pub fn client(&self, data: &[(&'static str, String)]) -> Arc<dyn Client> {
        self.client_at(&self.endpoint, data)
    }

    /// The same at another endpoint.
    pub fn client_at(&self, endpoint: &Endpoint, data: &[(&'static str, String)]) -> Arc<dyn Client> {
        let settings = self.provider.profile().transport_settings(endpoint, format!("{data:?}"));
        let data: BTreeMap<_, _> = data.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into_bytes())).collect();
        let credential = if data.is_empty() { Credential::Anonymous } else { DeclaredCredential::from_secret(&data).unwrap().credential };
        self.provider.connect(endpoint.clone(), credential, self.factory.transport(settings).unwrap()).unwrap()
    }

    /// The client that may do everything.
    pub fn operator(&self) -> Arc<dyn Client> {
        self.client(&self.seed_data.credential)
    }

    /// A path in the port's form.
    pub fn path(&self, text: &str) -> RepositoryPath {
        self.provider.repository_path(&self.endpoint, text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }
}
