//! Statuses of the real API server, recorded after real events. `make generate` records them again.

use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::RECONCILE_REQUESTED_AT;
use forgebind::clock::{Clock as _, SystemClock};
use http::StatusCode;
use jiff::SignedDuration;
use kube::api::DeleteParams;
use regex::Regex;
use serde_json::{Value, json};

use super::{BINDING_KIND, CONNECTION_KIND, GRANT_KIND, raw, recorded_folder};
use testkit::fault_proxy::{Fault, FaultProxy};
use testkit::operator::Operator;
use testkit::sink::Behavior;
use testkit::test_env::{CONNECTION, SOON, TestEnv, binding_condition, connection_says_now, grant_condition};
use testkit::wait::{Seen, wait_until};

const DEAD_TOKEN: &str = "0123456789abcdef0123456789abcdef01234567";
/// Values that differ from run to run, and their replacements.
const TIME: &str = "2026-01-01T00:00:00Z";
const FIXED: &[(&str, &str)] = &[
    ("/status/bindings", "1"),
    ("/status/credential/secretResourceVersion", "\"1000\""),
    ("/status/installation", "\"1f0c9a7e\""),
    ("/status/repository/id", "\"7\""),
    ("/status/webhook/hooks/0/id", "\"31415\""),
    ("/status/webhook/secretVersion", "\"1767225600\""),
    ("/status/webhook/target/repositoryID", "\"7\""),
];

struct Scene {
    env: TestEnv,
    proxy: FaultProxy,
    operator: Option<Operator>,
}

impl Scene {
    /// A connection and its binding at a Gitea behind a proxy, without an operator.
    async fn new(name: &str) -> Result<Self> {
        let env = TestEnv::new(name).await?;
        let proxy = FaultProxy::before_gitea(env.gitea).await?;
        let scene = Self { env, proxy, operator: None };
        scene.env.create_connection(scene.connection()).await?;
        scene.env.apply_grant("custom", json!({"destinationHosts": [format!("127.0.0.1:{}", scene.env.sink.port())]})).await?;
        scene.env.create_binding("shop", scene.env.binding_spec()).await?;
        Ok(scene)
    }

    /// The same with an operator and Ready objects.
    async fn ready(name: &str) -> Result<Self> {
        let mut scene = Self::new(name).await?;
        scene.start().await?;
        scene.env.connection_ready().await?;
        scene.env.binding_ready("shop").await?;
        Ok(scene)
    }

    fn connection(&self) -> Value {
        self.env.connection_spec_at(&self.proxy.url())
    }

    async fn start(&mut self) -> Result<()> {
        self.operator = Some(self.env.operator().await?);
        Ok(())
    }

    async fn put_token(&self, token: &str) -> Result<()> {
        self.env.cluster().apply_secret(&self.env.namespace, "credential", &[("token", token)]).await.map(drop)
    }

    async fn record_connection(&self, state: &str) -> Result<()> {
        self.record("connection", CONNECTION_KIND, CONNECTION, state).await
    }

    async fn record_binding(&self, state: &str) -> Result<()> {
        self.record("binding", BINDING_KIND, "shop", state).await
    }

    async fn record_grant(&self, name: &str, state: &str) -> Result<()> {
        self.record("grant", GRANT_KIND, name, state).await
    }

    async fn record(&self, short: &str, kind: &str, name: &str, state: &str) -> Result<()> {
        let object = raw(self.env.cluster(), &self.env.namespace, kind, name).await?;
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

    /// The object with a fixed value in place of everything that differs from run to run.
    fn without_chance(&self, mut object: Value) -> Result<Value> {
        static TIMES: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)").expect("an expression"));
        static IDS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b(hook|hooks) \d+").expect("an expression"));
        let metadata = object["metadata"].as_object_mut().context("metadata")?;
        metadata.retain(|key, _| !matches!(key.as_str(), "uid" | "resourceVersion" | "managedFields"));
        // Written apart from the rest, and later; no tool judges by it.
        if let Some(status) = object["status"].as_object_mut() {
            status.remove("recentDeliveries");
        }
        for (pointer, value) in FIXED {
            if let Some(found) = object.pointer_mut(pointer) {
                *found = serde_json::from_str(value)?;
            }
        }
        let mut text = object.to_string();
        let env = &self.env;
        let host = |url: &str| url.trim_start_matches("http://").to_owned();
        let mut names = vec![
            (self.proxy.url(), "https://git.acme.io".to_owned()),
            (host(&self.proxy.url()), "git.acme.io".to_owned()),
            (env.gitea.url().to_owned(), "https://git.acme.io".to_owned()),
            (host(env.gitea.url()), "git.acme.io".to_owned()),
            (format!("http://127.0.0.1:{}", env.sink.port()), "https://argocd.acme.io".to_owned()),
            (format!("127.0.0.1:{}", env.sink.port()), "argocd.acme.io".to_owned()),
            (format!("\"port\":{}", env.sink.port()), "\"port\":80".to_owned()),
            (env.account.name.clone(), "acme-bot".to_owned()),
            (env.organization.clone(), "acme".to_owned()),
            (env.namespace.clone(), "team-shop".to_owned()),
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

/// The parts that the tools judge: the generations, whether the object is being deleted, and the conditions without their
/// messages.
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
    scene.env.binding_says("shop", "Reconciling", "True/Progressing").await?;
    scene.record_binding("reconciling").await?;
    held.release();
    drop(held);

    let env = &scene.env;
    env.connection_ready().await?;
    env.binding_ready("shop").await?;
    let permissions = |connection: &forgebind::api::v1alpha1::GitProviderConnection| {
        connection.status.as_ref().is_some_and(|status| status.bindings == Some(1) && !status.permissions.is_empty())
    };
    env.connection_until("its binding counted", SOON, permissions).await?;
    scene.record_connection("ready").await?;
    scene.record_binding("ready").await?;

    env.sink.behave(Behavior::Fail(StatusCode::SERVICE_UNAVAILABLE));
    env.push("to a sink that is down").await?;
    env.binding_says("shop", "Delivering", "False/SinkFailing").await?;
    scene.record_binding("sink-failing").await?;
    env.sink.behave(Behavior::Accept);
    env.sink.wait_for(1, SOON).await?;
    env.binding_says("shop", "Delivering", "True/Succeeded").await?;

    scene.operator.as_ref().context("an operator")?.kill();
    env.patch_connection(json!({"spec": {"interval": "20m"}})).await?;
    env.patch_binding("shop", json!({"spec": {"interval": "2h"}})).await?;
    scene.record_connection("stale-generation").await?;
    scene.record_binding("stale-generation").await
}

#[tokio::test]
async fn checked_in_statuses_of_a_credential_are_those_of_a_real_run() -> Result<()> {
    let scene = Scene::ready("recorded-credential").await?;
    let env = &scene.env;
    let end = (SystemClock.now() + SignedDuration::from_hours(48)).to_string();
    env.patch_connection(json!({"spec": {"credentials": {"expiresAt": end}}})).await?;
    connection_says_now(env, "CredentialExpiring", "True/ExpiresSoon").await?;
    scene.record_connection("credential-expiring").await?;
    env.patch_connection(json!({"spec": {"credentials": {"expiresAt": null}}})).await?;
    connection_says_now(env, "CredentialExpiring", "").await?;

    scene.put_token(DEAD_TOKEN).await?;
    env.connection_says("Ready", "False/CredentialRejected").await?;
    env.binding_says("shop", "Ready", "False/ConnectionNotReady").await?;
    scene.record_connection("credential-rejected").await?;
    scene.record_binding("credential-rejected").await?;

    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> = kube::Api::namespaced(env.cluster().client()?, &env.namespace);
    secrets.delete("credential", &DeleteParams::default()).await?;
    env.connection_says("Ready", "False/SecretNotFound").await?;
    scene.record_connection("secret-not-found").await
}

#[tokio::test]
async fn checked_in_statuses_of_a_webhook_are_those_of_a_real_run() -> Result<()> {
    let mut scene = Scene::new("recorded-webhook").await?;
    // When Gitea refuses a token without the scope for reading its own account, the refusal names the token's scopes.
    let reader = scene.env.gitea.create_token(&scene.env.account, "reader", &["read:repository"]).await?;
    scene.put_token(&reader).await?;
    scene.start().await?;
    let env = &scene.env;
    env.binding_says("shop", "Ready", "False/PermissionMissing").await?;
    env.connection_says("Ready", "False/PermissionMissing").await?;
    scene.record_connection("permission-missing").await?;
    scene.record_binding("permission-missing").await?;
    scene.put_token(&env.account.token).await?;
    env.binding_ready("shop").await?;
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;

    let url = format!("http://127.0.0.1:{}/api/webhook", env.sink.port());
    env.gitea.create_hook(&env.repository, &url, &["push"]).await?;
    let mut spec = env.binding_spec();
    spec["webhook"] = json!({"events": ["Push"], "url": url, "secretRef": {"name": "own"}});
    spec.as_object_mut().context("an object")?.remove("sinks");
    env.create_binding("shop", spec).await?;
    env.binding_says("shop", "Ready", "False/SecretNotFound").await?;
    scene.record_binding("secret-not-found").await?;
    env.cluster().apply_secret(&env.namespace, "own", &[("secret", "at least sixteen bytes")]).await?;
    env.binding_says("shop", "Ready", "False/ForeignHook").await?;
    scene.record_binding("foreign-hook").await
}

#[tokio::test]
async fn checked_in_statuses_of_suspended_and_observing_objects_are_those_of_a_real_run() -> Result<()> {
    let scene = Scene::ready("recorded-held").await?;
    let env = &scene.env;
    env.patch_connection(json!({"spec": {"suspend": true}})).await?;
    env.patch_binding("shop", json!({"spec": {"suspend": true}})).await?;
    connection_says_now(env, "Ready", "False/Suspended").await?;
    let suspended = |binding: &forgebind::api::v1alpha1::RepoBinding| {
        let observed = binding.status.as_ref().and_then(|status| status.observed_generation);
        binding_condition(binding, "Ready") == "False/Suspended" && observed == binding.metadata.generation
    };
    env.binding_until("shop", "suspended", SOON, suspended).await?;
    scene.record_connection("suspended").await?;
    scene.record_binding("suspended").await?;

    // First the connection, so that the binding meets the connection's policy when it resumes.
    env.patch_connection(json!({"spec": {"suspend": false, "managementPolicy": "Observe"}})).await?;
    connection_says_now(env, "Ready", "True/Succeeded").await?;
    env.patch_binding("shop", json!({"spec": {"suspend": false, "webhook": {"events": ["Push", "PullRequest"]}}})).await?;
    env.binding_says("shop", "Ready", "True/Observing").await?;
    scene.record_connection("observing").await?;
    scene.record_binding("observing").await
}

#[tokio::test]
async fn checked_in_statuses_of_an_outage_are_those_of_a_real_run() -> Result<()> {
    let scene = Scene::ready("recorded-outage").await?;
    let env = &scene.env;
    scene.proxy.cut();
    env.patch_connection(json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: "now"}}})).await?;
    env.connection_says("Ready", "False/Unreachable").await?;
    env.binding_says("shop", "ConnectionReady", "Unknown/ConnectionUnreachable").await?;
    scene.record_connection("provider-unreachable").await?;
    scene.record_binding("provider-unreachable").await?;

    env.delete_binding("shop").await?;
    env.connections.delete(CONNECTION, &DeleteParams::default()).await?;
    wait_until("the binding's hook to block the deletion", SOON, async || {
        let seen = binding_condition(&env.bindings.get("shop").await?, "CleanupBlocked");
        Ok(if seen == "True/Progressing" { Seen::Done(()) } else { Seen::NotYet(seen) })
    })
    .await?;
    env.connection_says("Ready", "False/Progressing").await?;
    env.binding_says("shop", "ConnectionReady", "False/ConnectionNotReady").await?;
    scene.record_connection("deleting").await?;
    scene.record_binding("deleting").await
}

#[tokio::test]
async fn checked_in_statuses_of_grants_are_those_of_a_real_run() -> Result<()> {
    let mut scene = Scene::new("recorded-grants").await?;
    let broken = json!({"matchExpressions": [{"key": "team", "operator": "Contains", "values": ["shop"]}]});
    scene.env.apply_grant("lonely", json!({"connectionRef": {"name": "there-is-none"}})).await?;
    scene.env.apply_grant("broken", json!({"namespaces": {"from": "Selector", "selector": broken}})).await?;
    scene.record_grant("custom", "never-reconciled").await?;
    scene.start().await?;
    scene.env.binding_ready("shop").await?;
    for (name, expected, state) in [
        ("custom", "True/Succeeded", "ready"),
        ("lonely", "False/ConnectionNotFound", "connection-not-found"),
        ("broken", "False/SelectorInvalid", "selector-invalid"),
    ] {
        scene.env.grant_until(name, expected, |grant| grant_condition(grant, "Ready") == expected).await?;
        scene.record_grant(name, state).await?;
    }
    Ok(())
}
