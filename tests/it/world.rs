//! A small world for one test: a namespace, an organization with a repository at the real Gitea, a sink, and an operator that
//! watches only this namespace. Everything in it has names of its own, so that tests can share the servers.

use std::time::Duration;

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::{GitProviderConnection, RepoBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::support::cluster::Cluster;
use crate::support::control_plane::ControlPlane;
use crate::support::gitea::{Account, Gitea, Hook, OPERATOR_SCOPES};
use crate::support::operator::Options;
use crate::support::shared;
use crate::support::sink::SinkServer;
use crate::support::wait::{Seen, wait_until};

/// How long a test waits for a state that is due within seconds.
pub const SOON: Duration = Duration::from_secs(60);
/// How long a test waits for what needs the overlap of two hooks.
pub const OVERLAPPED: Duration = Duration::from_secs(240);

/// The Service name under which the sink is known in the namespace.
pub const SINK: &str = "ci";
/// The name of the connection.
pub const CONNECTION: &str = "gitea";

pub struct World {
    pub plane: &'static ControlPlane,
    pub gitea: &'static Gitea,
    pub namespace: String,
    pub account: Account,
    pub organization: String,
    /// Path of the first repository.
    pub repository: String,
    pub sink: SinkServer,
    pub connections: Api<GitProviderConnection>,
    pub bindings: Api<RepoBinding>,
}

impl World {
    /// A namespace with the credential's Secret, an organization with a private repository that has a commit, and a sink.
    /// No operator runs yet and no object is there.
    pub async fn new(name: &str) -> Result<Self> {
        let (plane, gitea) = (shared::control_plane().await?, shared::gitea().await?);
        Self::on(plane, gitea, name).await
    }

    pub async fn on(plane: &'static ControlPlane, gitea: &'static Gitea, name: &str) -> Result<Self> {
        let cluster = plane.cluster();
        let namespace = cluster.create_namespace(name).await?;
        let account = gitea.create_user(&Gitea::unique_name(&format!("{name}-bot")), OPERATOR_SCOPES).await?;
        let organization = Gitea::unique_name(&format!("{name}-org"));
        gitea.create_organization(&account, &organization).await?;
        gitea.create_repository(&organization, "shop", false).await?;
        cluster.apply_secret(&namespace, "credential", &[("token", &account.token)]).await?;
        let client: Client = cluster.client()?;
        Ok(Self {
            plane,
            gitea,
            repository: format!("{organization}/shop"),
            account,
            organization,
            sink: SinkServer::start().await?,
            connections: Api::namespaced(client.clone(), &namespace),
            bindings: Api::namespaced(client, &namespace),
            namespace,
        })
    }

    pub fn cluster(&self) -> &Cluster {
        self.plane.cluster()
    }

    /// How an operator for this world is started: it resolves the sink's Service.
    pub async fn options(&self) -> Result<Options> {
        self.options_through(None).await
    }

    /// The same with another address for the API server.
    pub async fn options_through(&self, server: Option<&str>) -> Result<Options> {
        let options = Options::on(self.plane, &[&self.namespace], server).await?;
        Ok(options.with("resolve", &self.sink.resolve(SINK, &self.namespace)))
    }

    /// The spec of a connection to the organization.
    pub fn connection_spec(&self) -> Value {
        self.connection_spec_at(self.gitea.url())
    }

    /// The same through another address, for a proxy before Gitea.
    pub fn connection_spec_at(&self, url: &str) -> Value {
        json!({
            "provider": {"gitea": {"url": url, "organization": self.organization}},
            "credentials": {"secretRef": {"name": "credential"}},
        })
    }

    pub async fn create_connection(&self, spec: Value) -> Result<GitProviderConnection> {
        let object = json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection",
            "metadata": {"name": CONNECTION, "namespace": self.namespace}, "spec": spec,
        });
        Ok(self.connections.create(&PostParams::default(), &serde_json::from_value(object)?).await?)
    }

    /// The spec of a binding to the first repository with a hook for pushes and the sink.
    pub fn binding_spec(&self) -> Value {
        json!({
            "connectionRef": {"name": CONNECTION},
            "repository": self.repository,
            "webhook": {"events": ["Push"]},
            "sinks": [{"name": "ci", "service": {"name": SINK, "port": self.sink.port(), "path": "/events"}}],
        })
    }

    pub async fn create_binding(&self, name: &str, spec: Value) -> Result<RepoBinding> {
        let object = json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": spec,
        });
        Ok(self.bindings.create(&PostParams::default(), &serde_json::from_value(object)?).await?)
    }

    pub async fn patch_binding(&self, name: &str, patch: Value) -> Result<RepoBinding> {
        Ok(self.bindings.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?)
    }

    pub async fn annotate_binding(&self, name: &str, annotation: &str, value: &str) -> Result<RepoBinding> {
        self.patch_binding(name, json!({"metadata": {"annotations": {annotation: value}}})).await
    }

    pub async fn patch_connection(&self, patch: Value) -> Result<GitProviderConnection> {
        Ok(self.connections.patch(CONNECTION, &PatchParams::default(), &Patch::Merge(patch)).await?)
    }

    pub async fn delete_binding(&self, name: &str) -> Result<()> {
        self.bindings.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits until a binding is gone.
    pub async fn binding_gone(&self, name: &str, deadline: Duration) -> Result<()> {
        wait_until(&format!("binding {name} to be gone"), deadline, async || {
            Ok(match self.bindings.get_opt(name).await? {
                None => Seen::Done(()),
                Some(binding) => Seen::NotYet(describe(&binding.status.unwrap_or_default().conditions)),
            })
        })
        .await
    }

    /// Waits until the connection fits.
    pub async fn connection_until(
        &self,
        what: &str,
        deadline: Duration,
        fits: impl Fn(&GitProviderConnection) -> bool,
    ) -> Result<GitProviderConnection> {
        wait_until(&format!("the connection: {what}"), deadline, async || {
            let connection = self.connections.get(CONNECTION).await?;
            let seen = describe(&connection.status.clone().unwrap_or_default().conditions);
            Ok(if fits(&connection) { Seen::Done(connection) } else { Seen::NotYet(seen) })
        })
        .await
    }

    /// Waits until a binding fits.
    pub async fn binding_until(
        &self,
        name: &str,
        what: &str,
        deadline: Duration,
        fits: impl Fn(&RepoBinding) -> bool,
    ) -> Result<RepoBinding> {
        wait_until(&format!("binding {name}: {what}"), deadline, async || {
            let binding = self.bindings.get(name).await?;
            let seen = describe(&binding.status.clone().unwrap_or_default().conditions);
            Ok(if fits(&binding) { Seen::Done(binding) } else { Seen::NotYet(seen) })
        })
        .await
    }

    /// Waits until the connection is Ready.
    pub async fn connection_ready(&self) -> Result<GitProviderConnection> {
        self.connection_until("Ready", SOON, |connection| connection_condition(connection, "Ready") == "True/Succeeded").await
    }

    /// Waits until a binding is Ready for its present generation.
    pub async fn binding_ready(&self, name: &str) -> Result<RepoBinding> {
        let fits = |binding: &RepoBinding| {
            let observed = binding.status.as_ref().and_then(|status| status.observed_generation);
            binding_condition(binding, "Ready") == "True/Succeeded" && observed == binding.metadata.generation
        };
        self.binding_until(name, "Ready", SOON, fits).await
    }

    /// Waits until a condition of a binding reads `status/reason`.
    pub async fn binding_says(&self, name: &str, condition: &str, expected: &str) -> Result<RepoBinding> {
        let what = format!("{condition} {expected}");
        self.binding_until(name, &what, SOON, |binding| binding_condition(binding, condition) == expected).await
    }

    /// Waits until a condition of the connection reads `status/reason`.
    pub async fn connection_says(&self, condition: &str, expected: &str) -> Result<GitProviderConnection> {
        let what = format!("{condition} {expected}");
        self.connection_until(&what, SOON, |connection| connection_condition(connection, condition) == expected).await
    }

    /// The hooks of the first repository that deliver to an operator.
    pub async fn hooks_at(&self, operator_url: &str) -> Result<Vec<Hook>> {
        Ok(self.gitea.hooks(&self.repository).await?.into_iter().filter(|hook| hook.config.url.starts_with(operator_url)).collect())
    }

    /// Pushes a commit to `main` of the first repository.
    pub async fn push(&self, message: &str) -> Result<String> {
        self.gitea.push_commit(&self.account, &self.repository, "main", message).await.context("push")
    }
}

/// A condition of a binding as `status/reason`; empty when it is absent.
pub fn binding_condition(binding: &RepoBinding, kind: &str) -> String {
    binding.status.as_ref().map(|status| condition(&status.conditions, kind)).unwrap_or_default()
}

/// A condition of a connection as `status/reason`; empty when it is absent.
pub fn connection_condition(connection: &GitProviderConnection, kind: &str) -> String {
    connection.status.as_ref().map(|status| condition(&status.conditions, kind)).unwrap_or_default()
}

/// The message of a condition of a binding.
pub fn binding_message(binding: &RepoBinding, kind: &str) -> String {
    let conditions = binding.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    conditions.into_iter().find(|condition| condition.type_ == kind).map(|condition| condition.message).unwrap_or_default()
}

fn condition(conditions: &[Condition], kind: &str) -> String {
    conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .map(|condition| format!("{}/{}", condition.status, condition.reason))
        .unwrap_or_default()
}

fn describe(conditions: &[Condition]) -> String {
    let lines =
        conditions.iter().map(|condition| format!("{}={}/{} ({})", condition.type_, condition.status, condition.reason, condition.message));
    lines.collect::<Vec<_>>().join(", ")
}
