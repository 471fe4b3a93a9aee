//! A test environment: a [`TestNamespace`], and an organization with a repository at the real Gitea. All its names are unique, so
//! that tests can share the servers.

use std::ops::Deref;

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::GitProviderConnection;
use forgebind::protocol::keys::ConnectedBinding;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::gitea::{Account, Gitea, Hook, OPERATOR_SCOPES};
use crate::operator::Operator;
use crate::shared;
use crate::test_namespace::TestNamespace;
pub use crate::test_namespace::{
    CONNECTION, OVERLAPPED, SINK, SOON, binding_condition, binding_message, connection_condition, connection_message, grant,
    grant_condition,
};
use crate::wait::{Seen, wait_until};

#[derive(Clone)]
pub struct TestEnv {
    objects: TestNamespace,
    pub gitea: &'static Gitea,
    pub account: Account,
    pub organization: String,
    /// Path of the first repository.
    pub repository: String,
}

/// An environment has the objects of its namespace.
impl Deref for TestEnv {
    type Target = TestNamespace;

    fn deref(&self) -> &TestNamespace {
        &self.objects
    }
}

impl TestEnv {
    /// Creates a namespace with the Secret of the credential, an organization with a private repository that has a commit, and a
    /// sink. No operator runs yet, and no connection or binding exists.
    pub async fn new(name: &str) -> Result<Self> {
        let (plane, gitea) = (shared::control_plane().await?, shared::gitea().await?);
        Self::on(plane, gitea, name).await
    }

    pub async fn on(plane: &'static ControlPlane, gitea: &'static Gitea, name: &str) -> Result<Self> {
        let objects = TestNamespace::new(plane, name).await?;
        let account = gitea.create_user(&Gitea::unique_name(&format!("{name}-bot")), OPERATOR_SCOPES).await?;
        let organization = Gitea::unique_name(&format!("{name}-org"));
        gitea.create_organization(&account, &organization).await?;
        gitea.create_repository(&organization, "shop", false).await?;
        plane.cluster().apply_secret(&objects.namespace, "credential", &[("token", &account.token)]).await?;
        Ok(Self { objects, gitea, repository: format!("{organization}/shop"), account, organization })
    }

    /// The same environment in another cluster, in which no object exists yet.
    pub fn in_cluster(&self, plane: &'static ControlPlane) -> Result<Self> {
        let objects = TestNamespace::within(plane, &self.namespace, self.sink.clone())?;
        Ok(Self { objects, ..self.clone() })
    }

    /// The same environment from another namespace: connections and bindings are created there.
    pub fn within(&self, namespace: &str) -> Result<Self> {
        let objects = TestNamespace::within(self.plane, namespace, self.sink.clone())?;
        Ok(Self { objects, ..self.clone() })
    }

    /// Waits until the hooks of a repository that deliver below an address fit.
    pub async fn hooks_until(&self, repository: &str, address: &str, what: &str, fits: impl Fn(&[Hook]) -> bool) -> Result<Vec<Hook>> {
        wait_until(&format!("the hooks of {repository}: {what}"), SOON, async || {
            let hooks = self.hooks_of(repository, address).await?;
            Ok(if fits(&hooks) { Seen::Done(hooks) } else { Seen::NotYet(format!("{hooks:?}")) })
        })
        .await
    }

    /// The hooks of a repository that deliver below an address.
    pub async fn hooks_of(&self, repository: &str, address: &str) -> Result<Vec<Hook>> {
        Ok(self.gitea.hooks(repository).await?.into_iter().filter(|hook| hook.config.url.starts_with(address)).collect())
    }

    /// The spec of a connection to the organization.
    pub fn connection_spec(&self) -> Value {
        self.connection_spec_at(self.gitea.url())
    }

    /// The same with another address, for a proxy in front of Gitea.
    pub fn connection_spec_at(&self, url: &str) -> Value {
        json!({
            "provider": {"gitea": {"url": url, "organization": self.organization}},
            "credentials": {"secretRef": {"name": "credential"}},
        })
    }

    /// The spec of a binding to the first repository with a hook for pushes, and the sink.
    pub fn binding_spec(&self) -> Value {
        json!({
            "connectionRef": {"name": CONNECTION},
            "repository": self.repository,
            "webhook": {"events": ["Push"]},
            "sinks": [{"name": "ci", "service": {"name": SINK, "port": self.sink.port(), "path": "/events"}}],
        })
    }

    /// The owner of the hooks of a binding.
    pub fn hook_owner<'a>(&'a self, name: &'a str) -> ConnectedBinding<'a> {
        ConnectedBinding { namespace: &self.namespace, name, connection: (&self.namespace, CONNECTION) }
    }

    /// The hooks of the first repository that deliver to an operator.
    pub async fn hooks_at(&self, operator_url: &str) -> Result<Vec<Hook>> {
        self.hooks_of(&self.repository, operator_url).await
    }

    /// Pushes a commit to `main` of the first repository.
    pub async fn push(&self, message: &str) -> Result<String> {
        self.gitea.push_commit(&self.account, &self.repository, "main", message).await.context("push")
    }
}

/// The key from which an operator derives all others.
pub async fn install_key(env: &TestEnv, operator: &Operator) -> Result<Vec<u8>> {
    let secrets: Api<Secret> = Api::namespaced(env.cluster().client()?, operator.options().namespace());
    let data = secrets.get("forgebind-install-key").await?.data.unwrap_or_default();
    Ok(data.get("key").context("the key")?.0.clone())
}

/// Waits until a condition of the connection is `status/reason` for the present generation.
pub async fn connection_says_now(env: &TestEnv, condition: &str, expected: &str) -> Result<GitProviderConnection> {
    let what = format!("{condition} {expected} for its present generation");
    let fits = |connection: &GitProviderConnection| {
        let observed = connection.status.as_ref().and_then(|status| status.observed_generation);
        connection_condition(connection, condition) == expected && observed == connection.metadata.generation
    };
    env.connection_until(&what, SOON, fits).await
}

/// Waits for an event on an object and returns its note.
pub async fn event_on(env: &TestEnv, object: &str, reason: &str) -> Result<String> {
    let events: Api<Event> = Api::namespaced(env.cluster().client()?, &env.namespace);
    wait_until(&format!("an event {reason} on {object}"), SOON, async || {
        let list = events.list(&ListParams::default()).await?.items;
        let on_object: Vec<_> =
            list.into_iter().filter(|event| event.regarding.as_ref().is_some_and(|on| on.name.as_deref() == Some(object))).collect();
        let found = on_object.iter().find(|event| event.reason.as_deref() == Some(reason));
        Ok(match found {
            Some(event) => Seen::Done(event.note.clone().unwrap_or_default()),
            None => Seen::NotYet(format!("{:?}", on_object.iter().map(|event| &event.reason).collect::<Vec<_>>())),
        })
    })
    .await
}

/// The leftover entries in the operator's namespace.
pub async fn leftovers(env: &TestEnv, operator: &Operator) -> Result<Vec<(String, String)>> {
    let maps: Api<ConfigMap> = Api::namespaced(env.cluster().client()?, operator.options().namespace());
    let maps = maps.list(&ListParams::default()).await?.items;
    let ours =
        maps.into_iter().filter(|map| map.metadata.name.as_deref().is_some_and(|name| name.starts_with("forgebind-leftover-hooks-")));
    Ok(ours.filter_map(|map| map.data).flatten().collect())
}
