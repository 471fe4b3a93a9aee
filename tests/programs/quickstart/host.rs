//! The provider of the quickstart's repository: a real Gitea, or the simulator of another provider.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use forgebind::api::v1alpha1::ProviderKind;
use forgebind::clock::SystemClock;
use forgebind::network::NetworkPolicy;
use forgebind::providers::credential::DeclaredCredential;
use forgebind::providers::transport::{TransportFactory, Unleased};
use forgebind::providers::{Client, Endpoint, Hook, Provider, registry};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use testkit::gitea::{ADMIN, ADMIN_PASSWORD, Account, Gitea, OPERATOR_SCOPES};
use testkit::sim::{self, ProviderEvent, Simulator, UserAction, control};

/// The server of the provider.
enum Server {
    Real { gitea: Box<Gitea>, account: Account },
    Simulated(Simulator),
}

/// A provider with a repository.
pub struct Host {
    server: Server,
    provider: &'static dyn Provider,
    endpoint: Endpoint,
    client: Arc<dyn Client>,
    /// The member `provider` of the connection's spec.
    pub spec: Value,
    /// The data of the connection's Secret.
    pub credential: Vec<(&'static str, String)>,
    pub repository: String,
}

/// The provider in `PROVIDER`; Gitea by default.
///
/// # Errors
///
/// When the name is unknown.
pub fn chosen() -> Result<ProviderKind> {
    let name = std::env::var("PROVIDER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "gitea".to_owned());
    let found = ProviderKind::ALL.into_iter().find(|kind| kind.flag() == name);
    let names = ProviderKind::ALL.map(ProviderKind::flag).join(", ");
    found.with_context(|| format!("PROVIDER={name} is unknown; set one of {names}"))
}

/// The name of a provider in the output, which says if it is a simulator.
pub fn name(kind: ProviderKind) -> String {
    if sim::registry::maker(kind).is_some() { format!("the simulated {kind}") } else { kind.to_string() }
}

impl Host {
    /// Starts the server and prepares its repository.
    ///
    /// # Errors
    ///
    /// When the server does not start.
    pub async fn start(kind: ProviderKind) -> Result<Self> {
        match sim::registry::maker(kind) {
            None => Self::real().await,
            Some(maker) => Self::simulated(Simulator::start(maker).await?),
        }
    }

    async fn real() -> Result<Self> {
        let gitea = Box::new(Gitea::start().await?);
        let account = gitea.create_user("ada", OPERATOR_SCOPES).await?;
        gitea.create_organization(&account, "acme").await?;
        gitea.create_repository("acme", "shop", true).await?;
        let spec = json!({ "gitea": { "url": gitea.url(), "organization": "acme" } });
        let credential = vec![("token", account.token.clone())];
        Self::new(ProviderKind::Gitea, Server::Real { gitea, account }, spec, credential, "acme/shop".to_owned())
    }

    fn simulated(simulator: Simulator) -> Result<Self> {
        let (kind, seed_data) = (simulator.product().kind(), simulator.seed_data());
        Self::new(kind, Server::Simulated(simulator), seed_data.provider, seed_data.credential, seed_data.repository)
    }

    fn new(kind: ProviderKind, server: Server, spec: Value, credential: Vec<(&'static str, String)>, repository: String) -> Result<Self> {
        let provider = registry::provider(kind).with_context(|| format!("{kind} is not supported"))?;
        let endpoint = provider.endpoint(&serde_json::from_value(spec.clone())?)?;
        let policy = NetworkPolicy { insecure_http: true, allow_cidrs: vec!["127.0.0.0/8".parse()?], ..NetworkPolicy::default() };
        let factory = TransportFactory::new(Arc::new(policy), Arc::new(Unleased), Arc::new(SystemClock), &mut Registry::default());
        let transport = factory.transport(provider.profile().transport_settings(&endpoint, "the story's own eyes"))?;
        let data = credential.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into_bytes())).collect();
        let client = provider.connect(endpoint.clone(), DeclaredCredential::from_secret(&data)?.credential, transport)?;
        Ok(Self { server, provider, endpoint, client, spec, credential, repository })
    }

    /// The name in the output, which says if it is a simulator.
    pub fn name(&self) -> String {
        name(self.provider.kind())
    }

    /// Whether the server is real.
    pub const fn is_real(&self) -> bool {
        matches!(self.server, Server::Real { .. })
    }

    /// The address at which the server listens.
    pub fn url(&self) -> &str {
        match &self.server {
            Server::Real { gitea, .. } => gitea.url(),
            Server::Simulated(simulator) => simulator.url(),
        }
    }

    /// Pushes a commit to `main`, with git or by a simulator's control endpoint. Returns the commit's id.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub async fn push(&self, message: &str) -> Result<String> {
        match &self.server {
            Server::Real { gitea, account } => gitea.push_commit(account, &self.repository, "main", message).await,
            Server::Simulated(simulator) => {
                let (repository, branch) = (self.repository.clone(), "main".to_owned());
                let happened = simulator.act(&UserAction::Push { repository, branch, message: message.to_owned() }).await?;
                match happened.into_iter().next() {
                    Some(ProviderEvent::Reference { after: Some(commit), .. }) => Ok(commit),
                    other => bail!("the simulator reported {other:?} instead of a push"),
                }
            }
        }
    }

    /// The webhooks of the repository, as the provider lists them.
    ///
    /// # Errors
    ///
    /// When the provider does not answer.
    pub async fn hooks(&self) -> Result<Vec<Hook>> {
        let path = self.provider.repository_path(&self.endpoint, &self.repository)?;
        Ok(self.client.hooks(&self.client.repository(&path).await?).await?)
    }

    /// Whether the provider can change the secret of an existing hook.
    ///
    /// # Errors
    ///
    /// When the provider does not answer.
    pub async fn update_sets_secret(&self) -> Result<bool> {
        Ok(self.client.inspect().await?.capabilities.update_sets_secret)
    }

    /// Instructions for continuing by hand.
    pub fn hints(&self) -> Vec<String> {
        match &self.server {
            Server::Real { gitea, account } => vec![format!(
                "Gitea: {}  login {ADMIN}, password {ADMIN_PASSWORD} (or {}, {})",
                gitea.url(),
                account.name,
                account.password
            )],
            Server::Simulated(simulator) => {
                let mut lines =
                    vec![format!("{} listens on {}. Control endpoints for what people and git do:", self.name(), simulator.url())];
                lines.extend(control::usage(simulator.url()).into_iter().map(|line| format!("  {line}")));
                lines
            }
        }
    }
}
