//! No secret in anything that people and machines read: log, status, events, metrics, ConfigMaps.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use forgebind::api::v1alpha1::ROTATE_REQUESTED_AT;
use forgebind::keys::{InstallKey, secret_text};
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
use testkit::wait::{Seen, wait_until};
use testkit::world::{SOON, World, install_key};

const BROUGHT: &str = "canary-of-a-webhook-secret-0123456789";

/// What must never be read anywhere, by a name for the failure.
#[derive(Default)]
struct Canaries(Vec<(String, String)>);

impl Canaries {
    fn add(&mut self, name: &str, value: &str) {
        assert!(value.len() >= 8, "{name} is too short to be told from chance");
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

async fn config_maps(world: &World, namespace: &str) -> Result<Vec<ConfigMap>> {
    let api: Api<ConfigMap> = Api::namespaced(world.cluster().client()?, namespace);
    Ok(api.list(&ListParams::default()).await?.items)
}

/// Everything that can be read of this world without the right to read Secrets.
async fn readable(world: &World, operator: &Operator) -> Result<Vec<(&'static str, String)>> {
    let client = world.cluster().client()?;
    let events: Api<Event> = Api::namespaced(client.clone(), &world.namespace);
    let own_events: Api<Event> = Api::namespaced(client, operator.options().namespace());
    let all = ListParams::default();
    Ok(vec![
        ("the log", operator.log()),
        ("the metrics", operator.metrics().await?),
        ("a connection", serde_json::to_string(&world.connections.list(&all).await?.items)?),
        ("a binding", serde_json::to_string(&world.bindings.list(&all).await?.items)?),
        ("an event", serde_json::to_string(&events.list(&all).await?.items)?),
        ("an event of its own namespace", serde_json::to_string(&own_events.list(&all).await?.items)?),
        ("a ConfigMap of its own namespace", serde_json::to_string(&config_maps(world, operator.options().namespace()).await?)?),
        ("a ConfigMap", serde_json::to_string(&config_maps(world, &world.namespace).await?)?),
    ])
}

/// Adds what the hooks of the moment carry: the unguessable part of their URLs and their derived secrets.
async fn learn(canaries: &mut Canaries, world: &World, operator: &Operator, key: &[u8]) -> Result<()> {
    let receiver = InstallKey::new(key)?.receiver();
    for hook in world.hooks_at(&operator.url()).await? {
        let path = hook.config.url.split_once("/hooks/").context("a path")?.1;
        let (id, generation) = path.split_once('/').context("an id and a generation")?;
        canaries.add("the unguessable part of a delivery URL", id);
        for name in ["shop", "brought"] {
            let secret = secret_text(&receiver.webhook_secret(world.hook_owner(name), generation));
            canaries.add("a derived secret", secret.expose_secret());
        }
    }
    Ok(())
}

#[tokio::test]
async fn df_20_no_secret_is_in_a_log_a_status_an_event_a_metric_or_a_config_map() -> Result<()> {
    let world = World::new("canary").await?;
    let options = world.options().await?.with("log-filter", "trace").with("cleanup-timeout", "5s");
    let operator = Operator::start(options).await?;
    let key = install_key(&world, &operator).await?;
    let mut canaries = Canaries::default();
    canaries.add("the token", &world.account.token);
    canaries.add("the password", &world.account.password);
    canaries.add("the secret that was brought", BROUGHT);
    canaries.add("the install key", &URL_SAFE_NO_PAD.encode(&key));
    canaries.0.push(("the install key as base64".to_owned(), STANDARD.encode(&key)));

    // A whole story: a password, a token, hooks, deliveries good and bad, a rotation, a sink that fails, a dead token.
    let basic = [("username", world.account.name.as_str()), ("password", world.account.password.as_str())];
    world.cluster().apply_secret(&world.namespace, "credential", &basic).await?;
    world.create_connection(world.connection_spec()).await?;
    world.connection_ready().await?;
    world.cluster().apply_secret(&world.namespace, "credential", &[("token", &world.account.token)]).await?;
    world.cluster().apply_secret(&world.namespace, "hook", &[("secret", BROUGHT)]).await?;
    world.create_binding("shop", world.binding_spec()).await?;
    let mut spec = world.binding_spec();
    spec["webhook"]["secretRef"] = json!({"name": "hook"});
    world.create_binding("brought", spec).await?;
    for name in ["shop", "brought"] {
        world.binding_ready(name).await?;
    }
    learn(&mut canaries, &world, &operator, &key).await?;
    world.push("to both").await?;
    world.sink.wait_for(2, SOON).await?;
    let client = plain_http::client()?;
    for hook in world.hooks_at(&operator.url()).await? {
        client.post(&hook.config.url).header("X-Gitea-Signature", "00".repeat(32)).body("{}").send().await?;
        client.post(&hook.config.url).body("{}").send().await?;
    }
    world.sink.behave(Behavior::Fail(http::StatusCode::BAD_GATEWAY));
    world.push("to a sink that fails").await?;
    world.annotate_binding("shop", ROTATE_REQUESTED_AT, "once").await?;
    wait_until("the hooks of a rotation", SOON, async || {
        let hooks = world.hooks_at(&operator.url()).await?;
        Ok(if hooks.len() == 3 { Seen::Done(()) } else { Seen::NotYet(format!("{hooks:?}")) })
    })
    .await?;
    learn(&mut canaries, &world, &operator, &key).await?;
    world.binding_says("shop", "Delivering", "False/SinkFailing").await?;
    world.sink.behave(Behavior::Accept);
    world.sink.wait_for(4, SOON).await?;
    for (place, text) in readable(&world, &operator).await? {
        canaries.absent_from(place, &text);
    }

    world.gitea.delete_token(&world.account, "operator").await?;
    world.patch_connection(json!({"metadata": {"annotations": {forgebind::api::v1alpha1::RECONCILE_REQUESTED_AT: "dead"}}})).await?;
    world.connection_says("Authenticated", "False/CredentialRejected").await?;
    for name in ["shop", "brought"] {
        world.delete_binding(name).await?;
        world.binding_gone(name, SOON).await?;
    }
    let leftovers = config_maps(&world, operator.options().namespace()).await?;
    let written: usize = leftovers
        .iter()
        .filter(|map| map.metadata.name.as_deref().is_some_and(|name| name.starts_with("forgebind-leftover")))
        .filter_map(|map| map.data.as_ref())
        .map(std::collections::BTreeMap::len)
        .sum();
    assert_eq!(written, 2, "what was left behind is written down: {leftovers:?}");
    // With the token back the leftovers are worked off.
    let next = world.gitea.create_token(&world.account, "next", OPERATOR_SCOPES).await?;
    canaries.add("the next token", &next);
    world.cluster().apply_secret(&world.namespace, "credential", &[("token", &next)]).await?;
    wait_until("the leftover hooks to be gone", SOON, async || {
        let hooks = world.hooks_at(&operator.url()).await?;
        Ok(if hooks.is_empty() { Seen::Done(()) } else { Seen::NotYet(format!("{hooks:?}")) })
    })
    .await?;
    for (place, text) in readable(&world, &operator).await? {
        canaries.absent_from(place, &text);
    }
    assert!(operator.log().contains("delivery refused"), "the log does tell what happened");
    Ok(())
}
