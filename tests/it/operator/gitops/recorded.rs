//! Statuses as the real API server holds them, after what really happened. `make generate` records them anew.

use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::RECONCILE_REQUESTED_AT;
use forgebind::clock::{Clock as _, SystemClock};
use http::StatusCode;
use jiff::SignedDuration;
use kube::api::DeleteParams;
use regex::Regex;
use serde_json::{Value, json};

use super::{BINDING_KIND, CONNECTION_KIND, raw, recorded_folder};
use testkit::fault_proxy::{Fault, FaultProxy};
use testkit::operator::Operator;
use testkit::sink::Behavior;
use testkit::wait::{Seen, wait_until};
use testkit::world::{CONNECTION, SOON, World, binding_condition, connection_says_now};

const DEAD_TOKEN: &str = "0123456789abcdef0123456789abcdef01234567";
/// What differs from run to run, and what stands for it.
const TIME: &str = "2026-01-01T00:00:00Z";
const FIXED: &[(&str, &str)] = &[
    ("/status/bindings", "1"),
    ("/status/credential/secretResourceVersion", "\"1000\""),
    ("/status/heads/hash", "\"0123456789abcdef\""),
    ("/status/installation", "\"1f0c9a7e\""),
    ("/status/repository/id", "\"7\""),
    ("/status/webhook/hooks/0/id", "\"31415\""),
    ("/status/webhook/lastDelivery/id", "\"5d1f\""),
    ("/status/webhook/secretGeneration", "\"1767225600\""),
    ("/status/webhook/target/repositoryID", "\"7\""),
];

struct Scene {
    world: World,
    proxy: FaultProxy,
    operator: Option<Operator>,
}

impl Scene {
    /// A connection and its binding at a Gitea behind a proxy. No operator runs yet.
    async fn new(name: &str) -> Result<Self> {
        let world = World::new(name).await?;
        let proxy = FaultProxy::before_gitea(world.gitea).await?;
        let scene = Self { world, proxy, operator: None };
        scene.world.create_connection(scene.connection()).await?;
        scene.world.create_binding("shop", scene.world.binding_spec()).await?;
        Ok(scene)
    }

    /// The same with an operator, and Ready.
    async fn ready(name: &str) -> Result<Self> {
        let mut scene = Self::new(name).await?;
        scene.start().await?;
        scene.world.connection_ready().await?;
        scene.world.binding_ready("shop").await?;
        Ok(scene)
    }

    fn connection(&self) -> Value {
        let mut spec = self.world.connection_spec_at(&self.proxy.url());
        let host = format!("127.0.0.1:{}", self.world.sink.port());
        spec["allowedBindings"] = json!([{"namespaces": {"from": "Same"}, "destinationHosts": [host]}]);
        spec
    }

    async fn start(&mut self) -> Result<()> {
        self.operator = Some(self.world.operator().await?);
        Ok(())
    }

    async fn put_token(&self, token: &str) -> Result<()> {
        self.world.cluster().apply_secret(&self.world.namespace, "credential", &[("token", token)]).await.map(drop)
    }

    async fn record_connection(&self, state: &str) -> Result<()> {
        self.record("connection", CONNECTION_KIND, CONNECTION, state).await
    }

    async fn record_binding(&self, state: &str) -> Result<()> {
        self.record("binding", BINDING_KIND, "shop", state).await
    }

    async fn record(&self, short: &str, kind: &str, name: &str, state: &str) -> Result<()> {
        let object = raw(self.world.cluster(), &self.world.namespace, kind, name).await?;
        let object = self.without_chance(object)?;
        let path = recorded_folder().join(format!("{short}-{state}.yaml"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(recorded_folder())?;
            let text = serde_saphyr::to_string(&object)?;
            std::fs::write(&path, format!("# Recorded by `make generate` from an object in a real API server.\n{text}"))?;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("{} is missing; run `make generate`", path.display()))?;
        let recorded: Value = serde_saphyr::from_str(&text)?;
        assert_eq!(essence(&object), essence(&recorded), "{} is out of date; run `make generate`", path.display());
        Ok(())
    }

    /// An object without what is another one in every run.
    fn without_chance(&self, mut object: Value) -> Result<Value> {
        static TIMES: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)").expect("an expression"));
        static IDS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b(hook|hooks) \d+").expect("an expression"));
        let metadata = object["metadata"].as_object_mut().context("metadata")?;
        metadata.retain(|key, _| !matches!(key.as_str(), "uid" | "resourceVersion" | "managedFields"));
        for (pointer, value) in FIXED {
            if let Some(found) = object.pointer_mut(pointer) {
                *found = serde_json::from_str(value)?;
            }
        }
        let mut text = object.to_string();
        let world = &self.world;
        let host = |url: &str| url.trim_start_matches("http://").to_owned();
        let mut names = vec![
            (self.proxy.url(), "https://git.acme.io".to_owned()),
            (host(&self.proxy.url()), "git.acme.io".to_owned()),
            (world.gitea.url().to_owned(), "https://git.acme.io".to_owned()),
            (host(world.gitea.url()), "git.acme.io".to_owned()),
            (format!("http://127.0.0.1:{}", world.sink.port()), "https://argocd.acme.io".to_owned()),
            (format!("127.0.0.1:{}", world.sink.port()), "argocd.acme.io".to_owned()),
            (format!("\"port\":{}", world.sink.port()), "\"port\":80".to_owned()),
            (world.account.name.clone(), "acme-bot".to_owned()),
            (world.organization.clone(), "acme".to_owned()),
            (world.namespace.clone(), "team-shop".to_owned()),
        ];
        if let Some(operator) = &self.operator {
            names.insert(0, (operator.url(), "https://hooks.acme.io".to_owned()));
            names.insert(1, (host(&operator.url()), "hooks.acme.io".to_owned()));
        }
        for (found, stands_for_it) in names {
            text = text.replace(&found, &stands_for_it);
        }
        let text = TIMES.replace_all(&text, TIME);
        let text = IDS.replace_all(&text, "$1 31415");
        Ok(serde_json::from_str(&text)?)
    }
}

/// What is judged: the generations, whether it is being deleted, and the conditions without their words.
fn essence(object: &Value) -> Value {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten().map(|condition| {
        let fields = ["type", "status", "reason", "observedGeneration"];
        fields.map(|field| condition[field].clone())
    });
    json!({
        "generation": object["metadata"]["generation"],
        "deleted": object["metadata"]["deletionTimestamp"].is_string(),
        "finalizers": object["metadata"]["finalizers"],
        "observed": object["status"]["observedGeneration"],
        "conditions": conditions.collect::<Vec<_>>(),
    })
}

#[tokio::test]
async fn checked_in_statuses_of_the_first_minutes_are_those_of_a_real_run() -> Result<()> {
    let mut scene = Scene::new("recorded-first").await?;
    scene.record_connection("never-reconciled").await?;
    scene.record_binding("never-reconciled").await?;

    let held = scene.proxy.inject_nth(Fault::HoldRequest, 0, usize::MAX, |_| true);
    scene.start().await?;
    scene.world.binding_says("shop", "Reconciling", "True/Progressing").await?;
    scene.record_binding("reconciling").await?;
    held.release();
    drop(held);

    let world = &scene.world;
    world.connection_ready().await?;
    world.binding_ready("shop").await?;
    let permissions = |connection: &forgebind::api::v1alpha1::GitProviderConnection| {
        connection.status.as_ref().is_some_and(|status| status.bindings == Some(1) && !status.permissions.is_empty())
    };
    world.connection_until("its binding counted", SOON, permissions).await?;
    scene.record_connection("ready").await?;
    scene.record_binding("ready").await?;

    world.sink.behave(Behavior::Fail(StatusCode::SERVICE_UNAVAILABLE));
    world.push("to a sink that is down").await?;
    world.binding_says("shop", "Delivering", "False/SinkFailing").await?;
    scene.record_binding("sink-failing").await?;
    world.sink.behave(Behavior::Accept);
    world.sink.wait_for(1, SOON).await?;
    world.binding_says("shop", "Delivering", "True/Succeeded").await?;

    scene.operator.as_ref().context("an operator")?.kill();
    world.patch_connection(json!({"spec": {"interval": "20m"}})).await?;
    world.patch_binding("shop", json!({"spec": {"interval": "2h"}})).await?;
    scene.record_connection("stale-generation").await?;
    scene.record_binding("stale-generation").await
}

#[tokio::test]
async fn checked_in_statuses_of_a_credential_are_those_of_a_real_run() -> Result<()> {
    let scene = Scene::ready("recorded-credential").await?;
    let world = &scene.world;
    let end = (SystemClock.now() + SignedDuration::from_hours(48)).to_string();
    world.patch_connection(json!({"spec": {"credentials": {"expiresAt": end}}})).await?;
    connection_says_now(world, "CredentialExpiring", "True/ExpiresSoon").await?;
    scene.record_connection("credential-expiring").await?;
    world.patch_connection(json!({"spec": {"credentials": {"expiresAt": null}}})).await?;
    connection_says_now(world, "CredentialExpiring", "").await?;

    scene.put_token(DEAD_TOKEN).await?;
    world.connection_says("Ready", "False/CredentialRejected").await?;
    world.binding_says("shop", "Ready", "False/ConnectionNotReady").await?;
    scene.record_connection("credential-rejected").await?;
    scene.record_binding("credential-rejected").await?;

    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> = kube::Api::namespaced(world.cluster().client()?, &world.namespace);
    secrets.delete("credential", &DeleteParams::default()).await?;
    world.connection_says("Ready", "False/SecretNotFound").await?;
    scene.record_connection("secret-not-found").await
}

#[tokio::test]
async fn checked_in_statuses_of_a_webhook_are_those_of_a_real_run() -> Result<()> {
    let mut scene = Scene::new("recorded-webhook").await?;
    // Gitea tells the scopes of a token that lacks the one for reading its own account, while it refuses.
    let reader = scene.world.gitea.create_token(&scene.world.account, "reader", &["read:repository"]).await?;
    scene.put_token(&reader).await?;
    scene.start().await?;
    let world = &scene.world;
    world.binding_says("shop", "Ready", "False/PermissionMissing").await?;
    world.connection_says("Ready", "False/PermissionMissing").await?;
    scene.record_connection("permission-missing").await?;
    scene.record_binding("permission-missing").await?;
    scene.put_token(&world.account.token).await?;
    world.binding_ready("shop").await?;
    world.delete_binding("shop").await?;
    world.binding_gone("shop", SOON).await?;

    let url = format!("http://127.0.0.1:{}/api/webhook", world.sink.port());
    world.gitea.create_hook(&world.repository, &url, &["push"]).await?;
    let mut spec = world.binding_spec();
    spec["webhook"] = json!({"events": ["Push"], "url": url, "secretRef": {"name": "own"}});
    spec.as_object_mut().context("an object")?.remove("sinks");
    world.create_binding("shop", spec).await?;
    world.binding_says("shop", "Ready", "False/SecretNotFound").await?;
    scene.record_binding("secret-not-found").await?;
    world.cluster().apply_secret(&world.namespace, "own", &[("secret", "at least sixteen bytes")]).await?;
    world.binding_says("shop", "Ready", "False/ForeignHook").await?;
    scene.record_binding("foreign-hook").await
}

#[tokio::test]
async fn checked_in_statuses_of_what_a_person_holds_back_are_those_of_a_real_run() -> Result<()> {
    let scene = Scene::ready("recorded-held").await?;
    let world = &scene.world;
    world.patch_connection(json!({"spec": {"suspend": true}})).await?;
    world.patch_binding("shop", json!({"spec": {"suspend": true}})).await?;
    connection_says_now(world, "Ready", "False/Suspended").await?;
    let suspended = |binding: &forgebind::api::v1alpha1::RepoBinding| {
        let observed = binding.status.as_ref().and_then(|status| status.observed_generation);
        binding_condition(binding, "Ready") == "False/Suspended" && observed == binding.metadata.generation
    };
    world.binding_until("shop", "suspended", SOON, suspended).await?;
    scene.record_connection("suspended").await?;
    scene.record_binding("suspended").await?;

    // First the connection: what it forbids is known when the binding goes on.
    world.patch_connection(json!({"spec": {"suspend": false, "managementPolicy": "Observe"}})).await?;
    connection_says_now(world, "Ready", "True/Succeeded").await?;
    world.patch_binding("shop", json!({"spec": {"suspend": false, "webhook": {"events": ["Push", "PullRequest"]}}})).await?;
    world.binding_says("shop", "Ready", "True/Observing").await?;
    scene.record_connection("observing").await?;
    scene.record_binding("observing").await
}

#[tokio::test]
async fn checked_in_statuses_of_an_outage_are_those_of_a_real_run() -> Result<()> {
    let scene = Scene::ready("recorded-outage").await?;
    let world = &scene.world;
    scene.proxy.cut();
    world.patch_connection(json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: "now"}}})).await?;
    world.connection_says("Ready", "False/Unreachable").await?;
    world.binding_says("shop", "ConnectionReady", "Unknown/ConnectionUnreachable").await?;
    scene.record_connection("provider-unreachable").await?;
    scene.record_binding("provider-unreachable").await?;

    world.delete_binding("shop").await?;
    world.connections.delete(CONNECTION, &DeleteParams::default()).await?;
    wait_until("the binding's hook to be in the way", SOON, async || {
        let seen = binding_condition(&world.bindings.get("shop").await?, "CleanupBlocked");
        Ok(if seen == "True/Progressing" { Seen::Done(()) } else { Seen::NotYet(seen) })
    })
    .await?;
    world.connection_says("Ready", "False/Progressing").await?;
    world.binding_says("shop", "ConnectionReady", "False/ConnectionNotReady").await?;
    scene.record_connection("deleting").await?;
    scene.record_binding("deleting").await
}
