//! The objects of one test and their environment: a namespace of its own, a sink, and an operator that watches only this
//! namespace. Independent of the provider.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use forgebind::api::v1alpha1::{ConnectionGrant, GitProviderConnection, RECONCILE_REQUESTED_AT, RepoBinding};
use forgebind::check::schema::Schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::control_plane::ControlPlane;
use crate::operator::{Operator, Options};
use crate::sink::SinkServer;
use crate::wait::{Seen, wait_until};

/// How long a test waits for a state that is expected within seconds.
pub const SOON: Duration = Duration::from_secs(60);
/// How long a test waits for the end of the overlap of two hooks.
pub const OVERLAPPED: Duration = Duration::from_secs(240);

/// The name of the Service that leads to the sink.
pub const SINK: &str = "ci";
/// The name of the connection.
pub const CONNECTION: &str = "git";

#[derive(Clone)]
pub struct TestNamespace {
    pub plane: &'static ControlPlane,
    pub namespace: String,
    pub sink: Arc<SinkServer>,
    pub connections: Api<GitProviderConnection>,
    pub grants: Api<ConnectionGrant>,
    pub bindings: Api<RepoBinding>,
}

impl TestNamespace {
    /// Creates a namespace and a sink.
    pub async fn new(plane: &'static ControlPlane, name: &str) -> Result<Self> {
        let namespace = plane.cluster().create_namespace(name).await?;
        let objects = Self::within(plane, &namespace, Arc::new(SinkServer::start().await?))?;
        objects.create_sink_service().await?;
        Ok(objects)
    }

    /// Creates the Service that leads to the sink, unless it exists.
    pub async fn create_sink_service(&self) -> Result<()> {
        self.cluster().create_service(&self.namespace, SINK, self.sink.port()).await
    }

    /// Uses an existing namespace and a sink that is known in it.
    pub fn within(plane: &'static ControlPlane, namespace: &str, sink: Arc<SinkServer>) -> Result<Self> {
        let client = plane.cluster().client()?;
        Ok(Self {
            plane,
            namespace: namespace.to_owned(),
            sink,
            connections: Api::namespaced(client.clone(), namespace),
            grants: Api::namespaced(client.clone(), namespace),
            bindings: Api::namespaced(client, namespace),
        })
    }

    pub fn cluster(&self) -> &Cluster {
        self.plane.cluster()
    }

    /// The options of an operator for this environment, with the sink's Service resolved.
    pub async fn options(&self) -> Result<Options> {
        self.options_through(None).await
    }

    /// The same with another address of the API server.
    pub async fn options_through(&self, server: Option<&str>) -> Result<Options> {
        let options = Options::on(self.plane, &[&self.namespace], server).await?;
        Ok(options.with("resolve", &self.sink.resolve(SINK, &self.namespace)))
    }

    /// Starts an operator for this environment.
    pub async fn operator(&self) -> Result<Operator> {
        Operator::start(self.options().await?).await
    }

    /// Starts an operator for this namespace and others; the sink is known in each.
    pub async fn operator_for(&self, others: &[&str]) -> Result<Operator> {
        Operator::start(self.options_for(others).await?).await
    }

    /// The options of an operator for this namespace and others; the sink is known in each.
    pub async fn options_for(&self, others: &[&str]) -> Result<Options> {
        let namespaces: Vec<&str> = std::iter::once(self.namespace.as_str()).chain(others.iter().copied()).collect();
        let services: Vec<String> = namespaces.iter().map(|namespace| self.sink.resolve(SINK, namespace)).collect();
        Ok(self.options().await?.watching(self.plane, &namespaces).await?.with("resolve", &services.join(",")))
    }

    /// Requests a probe of a binding's repository and waits until it is done.
    pub async fn look_again(&self, name: &str) -> Result<RepoBinding> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let request = format!("look-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        self.annotate_binding(name, RECONCILE_REQUESTED_AT, &request).await?;
        let handled = |binding: &RepoBinding| binding.status.as_ref()?.last_handled.as_ref()?.reconcile.clone();
        self.binding_until(name, "probed again", SOON, |binding| handled(binding).as_ref() == Some(&request)).await
    }

    /// Empties a binding's status, as a restore from a backup without status does.
    pub async fn wipe_status(&self, name: &str) -> Result<()> {
        self.bindings.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({"status": null}))).await?;
        Ok(())
    }

    pub async fn create_connection(&self, spec: Value) -> Result<GitProviderConnection> {
        self.create_connection_named(CONNECTION, spec).await
    }

    pub async fn create_connection_named(&self, name: &str, spec: Value) -> Result<GitProviderConnection> {
        let object = json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": spec,
        });
        Ok(self.connections.create(&PostParams::default(), &serde_json::from_value(object)?).await?)
    }

    /// Applies a grant of the connection [`CONNECTION`] with these fields. The others allow every repository to the own namespace.
    pub async fn apply_grant(&self, name: &str, fields: Value) -> Result<ConnectionGrant> {
        let object = grant(&self.namespace, name, CONNECTION, &fields);
        Ok(self.grants.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await?)
    }

    pub async fn delete_grant(&self, name: &str) -> Result<()> {
        self.grants.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits until the status of a grant fits.
    pub async fn grant_until(&self, name: &str, what: &str, fits: impl Fn(&ConnectionGrant) -> bool) -> Result<ConnectionGrant> {
        wait_until(&format!("grant {name}: {what}"), SOON, async || {
            let grant = self.grants.get(name).await?;
            let seen = format!("{:?}", grant.status);
            Ok(if fits(&grant) { Seen::Done(grant) } else { Seen::NotYet(seen) })
        })
        .await
    }

    /// Creates a binding, and before it the Services of its sinks that do not exist.
    pub async fn create_binding(&self, name: &str, spec: Value) -> Result<RepoBinding> {
        for service in spec["sinks"].as_array().into_iter().flatten().filter_map(|sink| sink.get("service")) {
            let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok());
            if let (Some(service), Some(port), None) = (service["name"].as_str(), port, service.get("namespace")) {
                self.cluster().create_service(&self.namespace, service, port).await?;
            }
        }
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

    /// Waits until a binding no longer exists.
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

    /// Waits until a condition of a binding is `status/reason`.
    pub async fn binding_says(&self, name: &str, condition: &str, expected: &str) -> Result<RepoBinding> {
        let what = format!("{condition} {expected}");
        self.binding_until(name, &what, SOON, |binding| binding_condition(binding, condition) == expected).await
    }

    /// Waits until a condition of the connection is `status/reason`.
    pub async fn connection_says(&self, condition: &str, expected: &str) -> Result<GitProviderConnection> {
        let what = format!("{condition} {expected}");
        self.connection_until(&what, SOON, |connection| connection_condition(connection, condition) == expected).await
    }
}

/// A grant of a connection with these fields; null removes one. The others allow every repository to the own namespace.
pub fn grant(namespace: &str, name: &str, connection: &str, fields: &Value) -> Value {
    let mut spec = json!({"connectionRef": {"name": connection}, "namespaces": {"from": "Same"}, "repositories": {"include": ["**"]}});
    for (field, value) in fields.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "ConnectionGrant",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    })
}

/// A condition of a grant as `status/reason`; empty when it is absent.
pub fn grant_condition(grant: &ConnectionGrant, kind: &str) -> String {
    grant.status.as_ref().map(|status| condition(&status.conditions, kind)).unwrap_or_default()
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

/// The message of a condition of a connection.
pub fn connection_message(connection: &GitProviderConnection, kind: &str) -> String {
    let conditions = connection.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    conditions.into_iter().find(|condition| condition.type_ == kind).map(|condition| condition.message).unwrap_or_default()
}

/// An API for objects that may not fit the Rust types.
pub fn untyped(client: Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("forgebind.dev", "v1alpha1", kind));
    Api::namespaced_with(client, namespace, &resource)
}

/// An object of a kind with this spec.
pub fn object(kind: &str, name: &str, spec: &Value) -> Result<DynamicObject> {
    let value = json!({ "apiVersion": "forgebind.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    Ok(serde_json::from_value(value)?)
}

/// The violations that the offline check finds in a spec.
pub fn judged_offline(kind: &str, spec: &Value) -> Vec<String> {
    let mut object = json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": kind,
        "metadata": {"name": "case", "namespace": "default"}, "spec": spec,
    });
    let schema = Schema::of(kind).expect("one of our kinds");
    schema.validate(&mut object).into_iter().map(|violation| violation.message).collect()
}
