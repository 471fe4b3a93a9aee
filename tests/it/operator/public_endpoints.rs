//! Several public endpoints: named addresses of the receiver, chosen by connections. Behind each address except the default, a
//! proxy records what arrives there.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::RepoBinding;
use http::Method;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use testkit::fault_proxy::{Exchange, Fault, FaultProxy};
use testkit::gitea::Hook;
use testkit::operator::{Operator, Options};
use testkit::test_env::{SOON, TestEnv, binding_condition, binding_message};

/// An environment with two public endpoints: the operator's own address is the default, a proxy in front of it is `internal`.
struct Ways {
    env: TestEnv,
    options: Options,
    default: String,
    internal: FaultProxy,
}

impl Ways {
    async fn new(name: &str) -> Result<Self> {
        let env = TestEnv::new(name).await?;
        let options = env.options().await?;
        let default = options.public_url();
        let internal = FaultProxy::before_receiver(&default).await?;
        let options = options.with("public-url", &format!("{default},internal={}", internal.url()));
        Ok(Self { env, options, default, internal })
    }

    /// Creates a connection with this name and a binding of the same name that uses it.
    async fn create(&self, name: &str, receiver: Value) -> Result<()> {
        let mut spec = self.env.connection_spec();
        spec["receiver"] = receiver;
        self.env.create_connection_named(name, spec).await?;
        self.bind(name, name).await
    }

    async fn bind(&self, name: &str, connection: &str) -> Result<()> {
        let mut spec = self.env.binding_spec();
        spec["connectionRef"] = json!({"name": connection});
        self.env.create_binding(name, spec).await?;
        Ok(())
    }

    async fn choose(&self, connection: &str, name: Value) -> Result<()> {
        let patch = json!({"spec": {"receiver": {"publicURL": name}}});
        self.env.connections.patch(connection, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Waits until a binding is Ready with its one hook below an address, and returns the hook.
    async fn delivers_to(&self, name: &str, address: &str) -> Result<Hook> {
        let expected = format!("{address}/hooks/…");
        let there = |binding: &RepoBinding| url(binding) == expected && binding_condition(binding, "Ready") == "True/Succeeded";
        let binding = self.env.binding_until(name, &format!("delivering to {address}"), SOON, there).await?;
        let status = binding.status.and_then(|status| status.webhook).context("a webhook")?;
        ensure!(status.hooks.len() == 1 && status.former_targets.is_empty(), "{status:?}");
        ensure!(address.ends_with(&status.target.context("a target")?.host), "the status names the delivery URL");
        let hooks = self.env.gitea.hooks(&self.env.repository).await?;
        let found = hooks.iter().find(|hook| hook.id.to_string() == status.hooks[0].id).with_context(|| format!("{hooks:?}"))?;
        ensure!(found.config.url.starts_with(&format!("{address}/hooks/")), "{found:?}");
        Ok(found.clone())
    }

    /// The number of requests that arrived through the proxy.
    fn by_internal(&self) -> usize {
        self.internal.count(|exchange| exchange.path.starts_with("/hooks/"))
    }

    /// All hooks of the repository.
    async fn hooks(&self) -> Result<BTreeSet<(i64, String)>> {
        let hooks = self.env.gitea.hooks(&self.env.repository).await?;
        Ok(hooks.into_iter().map(|hook| (hook.id, hook.config.url)).collect())
    }

    /// The commits of the first `count` deliveries that the sink accepts.
    async fn commits(&self, count: usize) -> Result<BTreeSet<String>> {
        let deliveries = self.env.sink.wait_for(count, SOON).await?;
        Ok(deliveries.iter().map(|delivery| delivery.json()["after"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// Waits until a binding reports, with these texts, that its connection has no address.
    async fn is_missing(&self, name: &str, says: &[&str]) -> Result<RepoBinding> {
        let missing = |binding: &RepoBinding| {
            let message = binding_message(binding, "WebhookInSync");
            binding_condition(binding, "WebhookInSync") == "False/PublicURLMissing" && says.iter().all(|words| message.contains(words))
        };
        let binding = self.env.binding_until(name, &format!("PublicURLMissing {says:?}"), SOON, missing).await?;
        assert_eq!(binding_condition(&binding, "Ready"), "False/PublicURLMissing");
        assert_eq!(binding_condition(&binding, "Stalled"), "True/PublicURLMissing");
        Ok(binding)
    }
}

/// The delivery URL in the status.
fn url(binding: &RepoBinding) -> String {
    binding.status.as_ref().and_then(|status| status.webhook.as_ref()?.url.clone()).unwrap_or_default()
}

/// The unguessable part of a hook's URL and the version of its secret.
fn route(hook: &Hook) -> Option<&str> {
    hook.config.url.split_once("/hooks/").map(|(_, route)| route)
}

#[tokio::test]
async fn each_connection_has_its_own_public_endpoint_and_a_changed_choice_moves_the_hook_without_a_gap() -> Result<()> {
    let ways = Ways::new("ways").await?;
    let env = &ways.env;
    let provider = FaultProxy::before_gitea(env.gitea).await?;
    let operator = Operator::start(ways.options.clone()).await?;
    ways.create("public", json!({})).await?;
    let mut spec = env.connection_spec_at(&provider.url());
    spec["receiver"] = json!({"publicURL": "internal"});
    env.create_connection_named("inside", spec).await?;
    ways.bind("inside", "inside").await?;
    let outer = ways.delivers_to("public", &ways.default).await?;
    let inner = ways.delivers_to("inside", &ways.internal.url()).await?;
    assert_eq!(ways.hooks().await?.len(), 2);
    assert!(operator.log().contains("internal="), "the log lists the public endpoints at the start");

    let commit = env.push("by both ways").await?;
    assert_eq!(ways.commits(2).await?, BTreeSet::from([commit]));
    assert_eq!(ways.by_internal(), 1, "one of the two deliveries arrived through the proxy");

    // Pushes continue while the choice changes, and none may be missing. The provider sends each once.
    let mut commits = BTreeSet::new();
    let pushing = async {
        for number in 0..8 {
            commits.insert(env.push(&format!("during the move {number}")).await?);
        }
        anyhow::Ok(())
    };
    let (all_pushed, chosen) = tokio::join!(pushing, ways.choose("inside", Value::Null));
    all_pushed.and(chosen)?;
    let moved = ways.delivers_to("inside", &ways.default).await?;
    assert_eq!((moved.id, route(&moved)), (inner.id, route(&inner)), "the same hook with the same secret");
    assert_eq!(ways.hooks().await?.len(), 2, "and no second one");
    let before = ways.by_internal();
    commits.insert(env.push("after the move").await?);
    let seen = ways.commits(2 + 2 * 9).await?;
    assert!(seen.is_superset(&commits), "lost: {:?}", commits.difference(&seen));
    assert_eq!(ways.by_internal(), before, "no delivery uses the former endpoint");

    // The answer to the update that moves the hook back is lost; an operator that restarts in the middle completes the move.
    let mut lost =
        provider.inject(Fault::LoseAnswer, |exchange: &Exchange| exchange.method == Method::PATCH && exchange.path.contains("/hooks/"));
    ways.choose("inside", json!("internal")).await?;
    lost.struck(1, SOON).await?;
    operator.kill();
    operator.restart().await?;
    let back = ways.delivers_to("inside", &ways.internal.url()).await?;
    assert_eq!((back.id, route(&back)), (inner.id, route(&inner)));
    assert_eq!(ways.delivers_to("public", &ways.default).await?.config.url, outer.config.url, "the other's hook was never touched");
    assert_eq!(ways.hooks().await?.len(), 2);

    for name in ["public", "inside"] {
        env.delete_binding(name).await?;
        env.binding_gone(name, SOON).await?;
    }
    assert!(ways.hooks().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_unknown_endpoint_name_is_reported_and_loses_nothing() -> Result<()> {
    let ways = Ways::new("unknown").await?;
    let env = &ways.env;
    let _operator = Operator::start(ways.options.clone()).await?;
    ways.create("git", json!({"publicURL": "internal"})).await?;
    let hook = ways.delivers_to("git", &ways.internal.url()).await?;

    ways.choose("git", json!("intern")).await?;
    let says = ["spec.receiver.publicURL is intern", "--public-url has only the names internal", "intern=URL"];
    let binding = ways.is_missing("git", &says).await?;
    assert_eq!(url(&binding), format!("{}/hooks/…", ways.internal.url()), "the status still names the delivery URL");
    assert_eq!(ways.hooks().await?, BTreeSet::from([(hook.id, hook.config.url.clone())]));
    let commit = env.push("while the name is unknown").await?;
    assert_eq!(ways.commits(1).await?, BTreeSet::from([commit]));
    // The operator creates no hook for a new binding, and removes the old one with its binding.
    ways.bind("late", "git").await?;
    ways.is_missing("late", &says).await?;
    assert_eq!(ways.hooks().await?.len(), 1);
    env.delete_binding("git").await?;
    env.binding_gone("git", SOON).await?;
    assert!(ways.hooks().await?.is_empty());

    ways.choose("git", json!("internal")).await?;
    ways.delivers_to("late", &ways.internal.url()).await?;
    assert_eq!(ways.hooks().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_changed_list_of_endpoint_names_at_a_restart_is_applied_or_reported() -> Result<()> {
    let ways = Ways::new("renamed-ways").await?;
    let env = &ways.env;
    let operator = Operator::start(ways.options.clone()).await?;
    ways.create("plain", json!({})).await?;
    ways.create("inside", json!({"publicURL": "internal"})).await?;
    let plain = ways.delivers_to("plain", &ways.default).await?;
    let inside = ways.delivers_to("inside", &ways.internal.url()).await?;
    operator.terminate(SOON).await?;

    // One named address only: the connection without a choice has no endpoint, and the name of the other one is gone.
    let dmz = FaultProxy::before_receiver(&ways.default).await?;
    let operator = Operator::start(ways.options.clone().with("public-url", &format!("dmz={}", dmz.url()))).await?;
    ways.is_missing("plain", &["every URL of --public-url has a name (dmz)", "selects none"]).await?;
    ways.is_missing("inside", &["is internal", "only the names dmz"]).await?;
    let both = ways.hooks().await?;
    assert_eq!(both, BTreeSet::from([(plain.id, plain.config.url.clone()), (inside.id, inside.config.url.clone())]));
    let commit = env.push("under another list").await?;
    assert_eq!(ways.commits(2).await?, BTreeSet::from([commit]), "a receiver accepts deliveries at every address");

    // After a new choice, the hook at an address that is not declared as a former one is left alone.
    ways.choose("inside", json!("dmz")).await?;
    let binding = env.binding_says("inside", "WebhookInSync", "False/HookUnderAnotherHost").await?;
    assert!(binding_message(&binding, "WebhookInSync").contains("--former-public-urls"));
    assert_eq!(ways.hooks().await?, both);
    operator.terminate(SOON).await?;

    let list = format!("{},dmz={}", ways.default, dmz.url());
    let former = ways.options.clone().with("public-url", &list).with("former-public-urls", &ways.internal.url());
    let _operator = Operator::start(former).await?;
    let moved = ways.delivers_to("inside", &dmz.url()).await?;
    assert_eq!((moved.id, route(&moved)), (inside.id, route(&inside)));
    assert_eq!(ways.delivers_to("plain", &ways.default).await?.config.url, plain.config.url);
    env.push("by the new list").await?;
    ways.commits(4).await?;
    assert_eq!(dmz.count(|exchange| exchange.path.starts_with("/hooks/")), 1);
    Ok(())
}
