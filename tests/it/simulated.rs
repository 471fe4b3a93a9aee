//! The contract suite against each simulator. What a provider has of its own is in a file of its own beside this one.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use forgebind::api::v1alpha1::ProviderKind;
use forgebind::clock::SystemClock;
use forgebind::providers::credential::DeclaredCredential;
use forgebind::providers::transport::network::NetworkPolicy;
use forgebind::providers::transport::{Timings, TransportFactory, TransportSettings, Unleased};
use forgebind::providers::{Client, Endpoint, Provider, RepositoryPath, registry};
use prometheus_client::registry::Registry;

use crate::contract_suite::{ByHand, Subject};
use crate::sim::{self, Act, Simulator, Welcome};

/// A simulator, and the provider that talks to it.
pub struct Simulated {
    pub simulator: Arc<Simulator>,
    pub provider: &'static dyn Provider,
    pub endpoint: Endpoint,
    pub welcome: Welcome,
    factory: TransportFactory,
}

impl Simulated {
    pub async fn new(kind: ProviderKind) -> Result<Self> {
        let maker = sim::registry::maker(kind).with_context(|| format!("there is no simulator of {kind}"))?;
        Self::with(Simulator::start(maker).await?, Timings::default())
    }

    /// Talks to a simulator with other deadlines than the operator's.
    pub fn with(simulator: Simulator, timings: Timings) -> Result<Self> {
        let welcome = simulator.welcome();
        let kind = simulator.product().kind();
        let provider = registry::provider(kind).with_context(|| format!("{kind} is not served"))?;
        let endpoint = provider.endpoint(&serde_json::from_value(welcome.provider.clone())?)?;
        let allow_cidrs = vec!["127.0.0.0/8".parse()?];
        let policy = Arc::new(NetworkPolicy { insecure_http: true, allow_cidrs, ..NetworkPolicy::default() });
        let factory = TransportFactory::new(policy, Arc::new(Unleased), Arc::new(SystemClock), &mut Registry::default());
        let factory = factory.with_timings(timings);
        Ok(Self { simulator: Arc::new(simulator), provider, endpoint, welcome, factory })
    }

    /// A client with the credential that a Secret with this data holds.
    pub fn client(&self, data: &[(&'static str, String)]) -> Arc<dyn Client> {
        self.client_at(&self.endpoint, data)
    }

    /// The same at another endpoint.
    pub fn client_at(&self, endpoint: &Endpoint, data: &[(&'static str, String)]) -> Arc<dyn Client> {
        let settings = TransportSettings {
            kind: self.provider.kind(),
            endpoint,
            credential_identity: format!("{data:?}"),
            ca_pem: None,
            client_identity: None,
            proxy: None,
        };
        let data: std::collections::BTreeMap<_, _> =
            data.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into_bytes())).collect();
        let declared = DeclaredCredential::from_secret(&data).unwrap();
        self.provider.connect(endpoint.clone(), declared.credential, self.factory.transport(settings).unwrap()).unwrap()
    }

    /// The client that may do everything.
    pub fn operator(&self) -> Arc<dyn Client> {
        self.client(&self.welcome.credential)
    }

    /// A path in the port's form.
    pub fn path(&self, text: &str) -> RepositoryPath {
        self.provider.repository_path(&self.endpoint, text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// What the contract suite is asked about.
    pub fn subject(&self) -> Subject {
        let welcome = self.welcome.clone();
        let unknown = format!("{}-of-nobody", welcome.repository);
        Subject {
            provider: self.provider,
            endpoint: self.endpoint.clone(),
            client: self.operator(),
            rejected: self.client(&welcome.rejected),
            outsider: self.client(&welcome.outsider),
            anonymous: self.client(&[]),
            account: welcome.account,
            repository: welcome.repository,
            clone_urls: welcome.spellings,
            branch: welcome.branch,
            empty: welcome.empty,
            archived: welcome.archived,
            unknown,
            renamed: welcome.renamed,
            crowded: welcome.crowded,
            repositories: welcome.repositories,
            has_pages: welcome.has_pages,
            tells_version: welcome.tells_version,
            can_pause: welcome.can_pause,
            target: "https://hooks.acme.example".to_owned(),
            by_hand: Box::new(AtSimulator(Arc::clone(&self.simulator))),
        }
    }
}

struct AtSimulator(Arc<Simulator>);

#[async_trait]
impl ByHand for AtSimulator {
    async fn pause(&self, repository: &RepositoryPath, hook: &str) {
        let act = Act::PauseHook { repository: repository.as_str().to_owned(), hook: hook.to_owned() };
        self.0.act(&act).await.unwrap();
    }

    fn writes(&self) -> usize {
        self.0.writes()
    }
}
