//! No secret appears in anything that people and machines read: log, status, events, metrics, ConfigMaps.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use forgebind::api::v1alpha1::ROTATE_REQUESTED_AT;
use forgebind::protocol::keys::{InstallKey, secret_text};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use secrecy::ExposeSecret as _;
use serde_json::json;

use testkit::gitea::OPERATOR_SCOPES;
use testkit::operator::Operator;
use testkit::plain_http;
use testkit::sink::Behavior;
use testkit::test_env::{SOON, TestEnv, install_key};
use testkit::wait::{Seen, wait_until};

const BROUGHT: &str = "canary-of-a-webhook-secret-0123456789";

/// Texts that must not appear anywhere, each with a name for the failure message.
#[derive(Default)]
struct Canaries(Vec<(String, String)>);

impl Canaries {
    fn add(&mut self, name: &str, value: &str) {
        assert!(value.len() >= 8, "{name} is so short that it could occur by chance");
        self.0.push((name.to_owned(), value.to_owned()));
        self.0.push((format!("{name} as base64"), STANDARD.encode(value)));
    }

    fn absent_from(&self, place: &str, text: &str) {
        for (name, value) in &self.0 {
            assert!(!text.contains(value.as_str()), "{name} is in {place}: {}", around(text, value));
        }
    }
}

fn around<'a>(text: &'a str, value: &str) -> &'a str {
    text.lines().find(|line| line.contains(value)).unwrap_or_default()
}

async fn config_maps(env: &TestEnv, namespace: &str) -> Result<Vec<ConfigMap>> {
    let api: Api<ConfigMap> = Api::namespaced(env.cluster().client()?, namespace);
    Ok(api.list(&ListParams::default()).await?.items)
}

/// Everything in this environment that can be read without the right to read Secrets.
async fn readable(env: &TestEnv, operator: &Operator) -> Result<Vec<(&'static str, String)>> {
    let client = env.cluster().client()?;
    let events: Api<Event> = Api::namespaced(client.clone(), &env.namespace);
    let own_events: Api<Event> = Api::namespaced(client, operator.options().namespace());
    let all = ListParams::default();
    Ok(vec![
        ("the log", operator.log()),
        ("the metrics", operator.metrics().await?),
        ("a connection", serde_json::to_string(&env.connections.list(&all).await?.items)?),
        ("a binding", serde_json::to_string(&env.bindings.list(&all).await?.items)?),
        ("an event", serde_json::to_string(&events.list(&all).await?.items)?),
        ("an event of its own namespace", serde_json::to_string(&own_events.list(&all).await?.items)?),
        ("a ConfigMap of its own namespace", serde_json::to_string(&config_maps(env, operator.options().namespace()).await?)?),
        ("a ConfigMap", serde_json::to_string(&config_maps(env, &env.namespace).await?)?),
    ])
}

/// Adds the secrets of the present hooks: the unguessable part of their URLs and their derived secrets.
async fn learn(canaries: &mut Canaries, env: &TestEnv, operator: &Operator, key: &[u8]) -> Result<()> {
    let receiver = InstallKey::new(key)?.receiver();
    for hook in env.hooks_at(&operator.url()).await? {
        let path = hook.config.url.split_once("/hooks/").context("a path")?.1;
        let (id, secret_version) = path.split_once('/').context("an id and a secret version")?;
        canaries.add("the unguessable part of a delivery URL", id);
        for name in ["shop", "brought"] {
            let secret = secret_text(&receiver.webhook_secret(env.hook_owner(name), secret_version));
            canaries.add("a derived secret", secret.expose_secret());
        }
    }
    Ok(())
}

#[tokio::test]
async fn df_20_no_secret_appears_in_a_log_a_status_an_event_a_metric_or_a_config_map() -> Result<()> {
    let env = TestEnv::new("canary").await?;
    let options = env.options().await?.with("log-filter", "trace").with("cleanup-timeout", "5s");
    let operator = Operator::start(options).await?;
    let key = install_key(&env, &operator).await?;
    let mut canaries = Canaries::default();
    canaries.add("the token", &env.account.token);
    canaries.add("the password", &env.account.password);
    canaries.add("the secret that was brought", BROUGHT);
    canaries.add("the install key", &URL_SAFE_NO_PAD.encode(&key));
    canaries.0.push(("the install key as base64".to_owned(), STANDARD.encode(&key)));

    // Everything once: a password, a token, hooks, good and bad deliveries, a rotation, a failing sink, a rejected token.
    let basic = [("username", env.account.name.as_str()), ("password", env.account.password.as_str())];
    env.cluster().apply_secret(&env.namespace, "credential", &basic).await?;
    env.create_connection(env.connection_spec()).await?;
    env.connection_ready().await?;
    env.cluster().apply_secret(&env.namespace, "credential", &[("token", &env.account.token)]).await?;
    env.cluster().apply_secret(&env.namespace, "hook", &[("secret", BROUGHT)]).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let mut spec = env.binding_spec();
    spec["webhook"]["secretRef"] = json!({"name": "hook"});
    env.create_binding("brought", spec).await?;
    for name in ["shop", "brought"] {
        env.binding_ready(name).await?;
    }
    learn(&mut canaries, &env, &operator, &key).await?;
    env.push("to both").await?;
    env.sink.wait_for(2, SOON).await?;
    let client = plain_http::client()?;
    for hook in env.hooks_at(&operator.url()).await? {
        client.post(&hook.config.url).header("X-Gitea-Signature", "00".repeat(32)).body("{}").send().await?;
        client.post(&hook.config.url).body("{}").send().await?;
    }
    env.sink.behave(Behavior::Fail(http::StatusCode::BAD_GATEWAY));
    env.push("to a sink that fails").await?;
    env.annotate_binding("shop", ROTATE_REQUESTED_AT, "once").await?;
    wait_until("the hooks of a rotation", SOON, async || {
        let hooks = env.hooks_at(&operator.url()).await?;
        Ok(if hooks.len() == 3 { Seen::Done(()) } else { Seen::NotYet(format!("{hooks:?}")) })
    })
    .await?;
    learn(&mut canaries, &env, &operator, &key).await?;
    env.binding_says("shop", "Delivering", "False/SinkFailing").await?;
    env.sink.behave(Behavior::Accept);
    env.sink.wait_for(4, SOON).await?;
    for (place, text) in readable(&env, &operator).await? {
        canaries.absent_from(place, &text);
    }

    env.gitea.delete_token(&env.account, "operator").await?;
    env.patch_connection(json!({"metadata": {"annotations": {forgebind::api::v1alpha1::RECONCILE_REQUESTED_AT: "dead"}}})).await?;
    env.connection_says("Authenticated", "False/CredentialRejected").await?;
    for name in ["shop", "brought"] {
        env.delete_binding(name).await?;
        env.binding_gone(name, SOON).await?;
    }
    let leftovers = config_maps(&env, operator.options().namespace()).await?;
    let written: usize = leftovers
        .iter()
        .filter(|map| map.metadata.name.as_deref().is_some_and(|name| name.starts_with("forgebind-leftover")))
        .filter_map(|map| map.data.as_ref())
        .map(std::collections::BTreeMap::len)
        .sum();
    assert_eq!(written, 2, "the leftover hooks are recorded: {leftovers:?}");
    // With a working token again, the operator removes the leftover hooks.
    let next = env.gitea.create_token(&env.account, "next", OPERATOR_SCOPES).await?;
    canaries.add("the next token", &next);
    env.cluster().apply_secret(&env.namespace, "credential", &[("token", &next)]).await?;
    wait_until("the leftover hooks to be gone", SOON, async || {
        let hooks = env.hooks_at(&operator.url()).await?;
        Ok(if hooks.is_empty() { Seen::Done(()) } else { Seen::NotYet(format!("{hooks:?}")) })
    })
    .await?;
    for (place, text) in readable(&env, &operator).await? {
        canaries.absent_from(place, &text);
    }
    assert!(operator.log().contains("delivery refused"), "the log reports what happened");
    Ok(())
}
