//! The simulator of one provider, the objects for it, and an operator.

use anyhow::Result;
use forgebind::api::v1alpha1::{EventKind, GitProviderConnection, ProviderKind};
use forgebind::providers::Hook;
use serde_json::{Value, json};

use crate::operator::Operator;
use crate::shared;
use crate::sim::{ProviderEvent, Simulated, UserAction};
use crate::test_namespace::{CONNECTION, SINK, SOON, TestNamespace, binding_condition};
use crate::wait::{Seen, wait_until};

/// The name of the binding.
pub const BINDING: &str = "shop";

pub struct ProviderEnv {
    pub objects: TestNamespace,
    pub simulated: Simulated,
    pub operator: Operator,
}

impl ProviderEnv {
    /// A new simulator with an operator that watches its own namespace. No connection or binding exists yet.
    pub async fn begin(kind: ProviderKind) -> Result<Self> {
        Self::begin_as(kind, kind.flag()).await
    }

    /// The same in a namespace with another name.
    pub async fn begin_as(kind: ProviderKind, name: &str) -> Result<Self> {
        Self::begin_with(Simulated::new(kind).await?, name).await
    }

    /// The same with an existing simulator.
    pub async fn begin_with(simulated: Simulated, name: &str) -> Result<Self> {
        let plane = shared::control_plane().await?;
        let objects = TestNamespace::new(plane, name).await?;
        let operator = objects.operator().await?;
        Ok(Self { objects, simulated, operator })
    }

    /// Stores the data of a credential in the connection's Secret.
    pub async fn store(&self, credential: &[(&'static str, String)]) -> Result<()> {
        let data: Vec<_> = credential.iter().map(|(key, value)| (*key, value.as_str())).collect();
        self.objects.cluster().apply_secret(&self.objects.namespace, "credential", &data).await.map(drop)
    }

    /// The spec of a connection to the simulator.
    pub fn connection_spec(&self) -> Value {
        json!({"provider": self.simulated.seed_data.provider, "credentials": {"secretRef": {"name": "credential"}}})
    }

    /// Creates the connection and waits until it is Ready.
    pub async fn connect(&self, credential: &[(&'static str, String)]) -> Result<GitProviderConnection> {
        self.store(credential).await?;
        self.objects.create_connection(self.connection_spec()).await?;
        self.objects.connection_ready().await
    }

    /// Creates the binding and waits until it is Ready and has its hooks.
    pub async fn bind(&self) -> Result<()> {
        let spec = json!({
            "connectionRef": {"name": CONNECTION},
            "repository": self.repository(),
            "branch": "main",
            "webhook": {"events": ["Push", "Tag", "PullRequest"]},
            "sinks": [{"name": "ci", "service": {"name": SINK, "port": self.objects.sink.port(), "path": "/events"},
                "branches": ["main", "topic", "v1"]}],
        });
        self.objects.create_binding(BINDING, spec).await?;
        let binding = self.objects.binding_ready(BINDING).await?;
        assert_eq!(binding_condition(&binding, "WebhookInSync"), "True/Succeeded");
        assert_eq!(self.hooks(&self.repository()).await?.len(), self.variants());
        Ok(())
    }

    /// The number of hooks for the wanted events.
    pub fn variants(&self) -> usize {
        let events = [EventKind::Push, EventKind::Tag, EventKind::PullRequest].into();
        self.simulated.operator().hook_shapes(&events).len()
    }

    /// Path of the first repository.
    pub fn repository(&self) -> String {
        self.simulated.seed_data.repository.clone()
    }

    /// Performs a user's action at the provider.
    pub async fn act(&self, act: UserAction) -> Result<Vec<ProviderEvent>> {
        self.simulated.simulator.act(&act).await
    }

    /// Pushes a commit.
    pub async fn push(&self, repository: &str, branch: &str) -> Result<()> {
        let (repository, branch) = (repository.to_owned(), branch.to_owned());
        self.act(UserAction::Push { repository, branch, message: "A commit".to_owned() }).await.map(drop)
    }

    /// The hooks of a repository that deliver to the operator.
    pub async fn hooks(&self, repository: &str) -> Result<Vec<Hook>> {
        let client = self.simulated.operator();
        let found = client.repository(&self.simulated.path(repository)).await?;
        let hooks = client.hooks(&found).await?;
        Ok(hooks.into_iter().filter(|hook| hook.url.expose().starts_with(&self.operator.url())).collect())
    }

    /// Waits until these hooks fit.
    pub async fn hooks_until(&self, repository: &str, what: &str, fits: impl Fn(&[Hook]) -> bool) -> Result<Vec<Hook>> {
        wait_until(&format!("the hooks of {repository}: {what}"), SOON, async || {
            let hooks = self.hooks(repository).await?;
            Ok(if fits(&hooks) { Seen::Done(hooks) } else { Seen::NotYet(format!("{hooks:?}")) })
        })
        .await
    }
}
