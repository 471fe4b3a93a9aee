//! Hooks at a real Gitea: the operator finds, repairs and removes its own, and touches no others.

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::RepoBinding;
use serde_json::{Value, json};

use testkit::fault_proxy::{Exchange, FaultProxy};
use testkit::gitea::Hook;
use testkit::operator::Operator;
use testkit::test_env::{CONNECTION, SOON, TestEnv, binding_condition, binding_message};

const OWN_SECRET: &str = "a-webhook-secret-of-the-user-0001";

/// The parts of hooks that stay the same between two probes when nobody changes the hooks.
fn seen(hooks: &[Hook]) -> Vec<String> {
    let sorted = hooks.iter().cloned().map(|mut hook| {
        // Gitea lists the events of a hook in any order.
        hook.events.sort();
        format!("{hook:?}")
    });
    let mut seen: Vec<String> = sorted.collect();
    seen.sort();
    seen
}

fn writes(proxy: &FaultProxy) -> Vec<String> {
    let exchanges = proxy.exchanges().into_iter().filter(Exchange::is_write);
    exchanges.map(|exchange| format!("{} {}", exchange.method, exchange.path)).collect()
}

fn hook_lists(proxy: &FaultProxy) -> usize {
    proxy.count(|exchange| exchange.method == http::Method::GET && exchange.path.contains("/hooks"))
}

fn planned(binding: &RepoBinding) -> Vec<String> {
    let plan = binding.status.as_ref().map(|status| status.plan.clone()).unwrap_or_default();
    plan.into_iter().map(|planned| planned.action).collect()
}

#[tokio::test]
async fn our_hook_is_found_behind_120_foreign_hooks_and_none_of_them_is_touched() -> Result<()> {
    let env = TestEnv::new("many").await?;
    for number in 0..120 {
        env.gitea.create_hook(&env.repository, &format!("http://127.0.0.1:9/of-others/{number}"), &["push"]).await?;
    }
    let before = seen(&env.gitea.hooks(&env.repository).await?);
    assert_eq!(before.len(), 120);
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    let ours = env.hooks_at(&operator.url()).await?;
    assert_eq!(ours.len(), 1, "{ours:?}");
    proxy.forget();

    env.wipe_status("shop").await?;
    let found = env.binding_ready("shop").await?;
    let hooks = found.status.context("a status")?.webhook.context("a webhook")?.hooks;
    assert_eq!(hooks.iter().map(|hook| hook.id.clone()).collect::<Vec<_>>(), [ours[0].id.to_string()]);
    assert!(hook_lists(&proxy) > 1, "the list has several pages");
    assert_eq!(writes(&proxy), [""; 0], "the hook was found, so none is created");

    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    assert_eq!(seen(&env.gitea.hooks(&env.repository).await?), before);
    Ok(())
}

/// A binding whose hook delivers to an endpoint outside Forgebind.
fn custom_spec(env: &TestEnv, url: &str, adopt: bool) -> Value {
    json!({
        "connectionRef": {"name": CONNECTION},
        "repository": env.repository,
        "webhook": {"events": ["Push"], "url": url, "secretRef": {"name": "own"}, "adopt": adopt},
    })
}

/// Creates a connection that allows hooks to the sink's address, and a Secret for them. Returns the address.
async fn allow_custom(env: &TestEnv) -> Result<String> {
    let host = format!("127.0.0.1:{}", env.sink.port());
    env.apply_grant("custom", json!({"destinationHosts": [host]})).await?;
    env.create_connection(env.connection_spec()).await?;
    env.cluster().apply_secret(&env.namespace, "own", &[("secret", OWN_SECRET)]).await?;
    Ok(format!("http://{host}/api/webhook"))
}

#[tokio::test]
async fn a_foreign_hook_with_the_same_url_is_left_alone_and_adopted_only_when_asked() -> Result<()> {
    let env = TestEnv::new("foreign").await?;
    let _operator = env.operator().await?;
    let url = allow_custom(&env).await?;
    let theirs = env.gitea.create_hook(&env.repository, &url, &["push", "issues_only"]).await?;
    let before = seen(&env.gitea.hooks(&env.repository).await?);

    env.create_binding("shop", custom_spec(&env, &url, false)).await?;
    let binding = env.binding_says("shop", "WebhookInSync", "False/ForeignHook").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "False/ForeignHook");
    assert_eq!(binding_condition(&binding, "Stalled"), "True/ForeignHook");
    let message = binding_message(&binding, "Ready");
    assert!(message.contains(&theirs.to_string()) && message.contains("webhook.adopt"), "{message}");
    env.look_again("shop").await?;
    assert_eq!(seen(&env.gitea.hooks(&env.repository).await?), before);
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    assert_eq!(seen(&env.gitea.hooks(&env.repository).await?), before);

    env.create_binding("shop", custom_spec(&env, &url, true)).await?;
    let binding = env.binding_ready("shop").await?;
    let hooks = binding.status.context("a status")?.webhook.context("a webhook")?.hooks;
    assert!(hooks.len() == 1 && hooks[0].adopted && hooks[0].id == theirs.to_string(), "{hooks:?}");
    let marked = env.gitea.hooks(&env.repository).await?;
    assert!(marked.len() == 1 && marked[0].config.url.contains("forgebind="), "{marked:?}");
    assert!(!marked[0].events.contains(&"issues_only".to_owned()), "the adopted hook has the events of the binding: {marked:?}");

    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    let left = env.gitea.hooks(&env.repository).await?;
    assert_eq!(left.iter().map(|hook| (hook.id, hook.config.url.clone())).collect::<Vec<_>>(), [(theirs, url)]);
    Ok(())
}

#[tokio::test]
async fn an_adopted_hook_gets_its_exact_url_with_the_query_back_although_its_secret_is_gone() -> Result<()> {
    let env = TestEnv::new("query").await?;
    let _operator = env.operator().await?;
    let url = format!("{}?job=a%20b&token=x%2Fy", allow_custom(&env).await?);
    let theirs = env.gitea.create_hook(&env.repository, &url, &["push"]).await?;
    env.create_binding("shop", custom_spec(&env, &url, true)).await?;
    let binding = env.binding_ready("shop").await?;
    let webhook = binding.status.context("a status")?.webhook.context("a webhook")?;
    assert_eq!(webhook.url.as_deref(), Some(url.as_str()));
    assert!(webhook.hooks.len() == 1 && webhook.hooks[0].adopted, "{:?}", webhook.hooks);
    let marked = env.gitea.hooks(&env.repository).await?;
    assert!(marked[0].config.url.starts_with(&format!("{url}&forgebind=")), "{marked:?}");
    env.look_again("shop").await?;
    assert_eq!(seen(&env.gitea.hooks(&env.repository).await?), seen(&marked), "in order");

    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> = kube::Api::namespaced(env.cluster().client()?, &env.namespace);
    secrets.delete("own", &kube::api::DeleteParams::default()).await?;
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    let left = env.gitea.hooks(&env.repository).await?;
    assert_eq!(left.iter().map(|hook| (hook.id, hook.config.url.clone())).collect::<Vec<_>>(), [(theirs, url)]);
    Ok(())
}

#[tokio::test]
async fn a_hook_that_was_deleted_or_changed_by_hand_is_repaired_without_a_new_secret() -> Result<()> {
    let env = TestEnv::new("repair").await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    let made = env.hooks_at(&operator.url()).await?.remove(0);

    env.gitea.delete_hook(&env.repository, made.id).await?;
    let binding = env.look_again("shop").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "True/Succeeded");
    let again = env.hooks_at(&operator.url()).await?;
    assert_eq!(again.len(), 1, "{again:?}");
    assert_ne!(again[0].id, made.id);
    assert_eq!(again[0].config.url, made.config.url);

    env.gitea.edit_hook(&env.repository, again[0].id, &json!({"events": ["issues"], "branch_filter": "none"})).await?;
    let changed = env.hooks_at(&operator.url()).await?.remove(0);
    assert!(!changed.events.contains(&"push".to_owned()), "{changed:?}");
    let binding = env.look_again("shop").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "True/Succeeded");
    let repaired = env.hooks_at(&operator.url()).await?;
    assert_eq!(seen(&repaired), seen(&again));
    env.push("after the repair").await?;
    env.sink.wait_for(1, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn events_that_gitea_returns_under_other_names_are_not_repaired_endlessly() -> Result<()> {
    let env = TestEnv::new("words").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    let mut spec = env.binding_spec();
    spec["webhook"]["events"] = json!(["Push", "Tag", "PullRequest", "PullRequestMerged", "PullRequestClosed", "PullRequestComment"]);
    env.create_binding("shop", spec).await?;
    let binding = env.binding_ready("shop").await?;
    let hooks = binding.status.context("a status")?.webhook.context("a webhook")?.hooks;
    assert_eq!(hooks[0].events.len(), 6, "{hooks:?}");
    let before = seen(&env.hooks_at(&operator.url()).await?);
    proxy.forget();
    for _ in 0..2 {
        let binding = env.look_again("shop").await?;
        assert_eq!(binding_condition(&binding, "Ready"), "True/Succeeded");
    }
    assert!(hook_lists(&proxy) >= 2, "{:?}", proxy.exchanges());
    assert_eq!(writes(&proxy), [""; 0]);
    assert_eq!(seen(&env.hooks_at(&operator.url()).await?), before);
    Ok(())
}

#[tokio::test]
async fn a_hook_that_a_person_disabled_stays_disabled_and_is_reported() -> Result<()> {
    let env = TestEnv::new("paused").await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    let hook = env.hooks_at(&operator.url()).await?.remove(0);

    env.gitea.edit_hook(&env.repository, hook.id, &json!({"active": false, "events": ["push", "delete"]})).await?;
    let binding = env.look_again("shop").await?;
    assert_eq!(binding_condition(&binding, "WebhookInSync"), "False/PausedAtProvider");
    assert_eq!(binding_condition(&binding, "Ready"), "False/PausedAtProvider");
    let paused = env.hooks_at(&operator.url()).await?;
    assert!(paused.len() == 1 && !paused[0].active, "{paused:?}");
    // Neither a changed spec nor another secret enables the hook.
    env.cluster().apply_secret(&env.namespace, "own", &[("secret", OWN_SECRET)]).await?;
    env.patch_binding("shop", json!({"spec": {"webhook": {"secretRef": {"name": "own"}}}})).await?;
    let binding = env.look_again("shop").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "False/PausedAtProvider");
    assert_eq!(seen(&env.hooks_at(&operator.url()).await?), seen(&paused));
    env.patch_binding("shop", json!({"spec": {"webhook": {"secretRef": null}}})).await?;

    env.gitea.edit_hook(&env.repository, hook.id, &json!({"active": true, "events": ["push", "delete"]})).await?;
    env.look_again("shop").await?;
    env.binding_ready("shop").await?;
    assert_eq!(seen(&env.hooks_at(&operator.url()).await?), seen(&[hook]));
    Ok(())
}

/// Checks that the status shows a plan and keeps it, and that the operator wrote nothing.
async fn observes(env: &TestEnv, proxy: &FaultProxy) -> Result<()> {
    let binding = env.binding_says("shop", "WebhookInSync", "False/Observing").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "True/Observing");
    let binding = env.look_again("shop").await?;
    assert_eq!(planned(&binding), ["CreateHook"]);
    // A reconciliation without a probe keeps the plan.
    env.patch_binding("shop", json!({"spec": {"suspend": true}})).await?;
    let binding = env.binding_says("shop", "Ready", "False/Suspended").await?;
    assert_eq!(planned(&binding), ["CreateHook"]);
    env.patch_binding("shop", json!({"spec": {"suspend": false}})).await?;
    env.binding_says("shop", "Ready", "True/Observing").await?;
    assert_eq!(writes(proxy), [""; 0]);
    assert!(env.gitea.hooks(&env.repository).await?.is_empty());
    Ok(())
}

/// Checks that the hook exists and no plan is left.
async fn managed(env: &TestEnv, operator: &Operator) -> Result<()> {
    let binding = env.binding_ready("shop").await?;
    assert_eq!(planned(&binding), [""; 0]);
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn observe_on_the_binding_plans_and_writes_nothing_until_the_policy_is_manage() -> Result<()> {
    let env = TestEnv::new("observe").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    let mut spec = env.binding_spec();
    spec["managementPolicy"] = json!("Observe");
    env.create_binding("shop", spec).await?;
    observes(&env, &proxy).await?;
    env.patch_binding("shop", json!({"spec": {"managementPolicy": "Manage"}})).await?;
    managed(&env, &operator).await
}

#[tokio::test]
async fn observe_on_the_connection_applies_to_its_bindings_and_their_deletion() -> Result<()> {
    let env = TestEnv::new("watching").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = env.operator().await?;
    let mut spec = env.connection_spec_at(&proxy.url());
    spec["managementPolicy"] = json!("Observe");
    env.create_connection(spec).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    observes(&env, &proxy).await?;
    env.patch_connection(json!({"spec": {"managementPolicy": "Manage"}})).await?;
    managed(&env, &operator).await?;

    env.patch_connection(json!({"spec": {"managementPolicy": "Observe"}})).await?;
    let generation = env.connections.get(CONNECTION).await?.metadata.generation;
    let observed = |connection: &forgebind::api::v1alpha1::GitProviderConnection| {
        connection.status.as_ref().is_some_and(|status| status.observed_generation == generation)
    };
    env.connection_until("observing", SOON, observed).await?;
    proxy.forget();
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    assert_eq!(writes(&proxy), [""; 0], "nothing is written while observing, so the hook stays and is recorded as leftover");
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1);
    env.patch_connection(json!({"spec": {"managementPolicy": "Manage"}})).await?;
    env.hooks_until(&env.repository, &operator.url(), "leftover removed", <[Hook]>::is_empty).await?;
    Ok(())
}

#[tokio::test]
async fn read_only_plans_and_writes_nothing_until_the_flag_is_removed() -> Result<()> {
    let env = TestEnv::new("read-only").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let options = env.options().await?;
    let operator = Operator::start(options.clone().with("read-only", "true")).await?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    observes(&env, &proxy).await?;
    operator.terminate(SOON).await?;
    let operator = Operator::start(options).await?;
    managed(&env, &operator).await
}

#[tokio::test]
async fn dt_26_bindings_of_one_repository_have_separate_hooks_and_cannot_share_a_custom_url() -> Result<()> {
    let env = TestEnv::new("conflicts").await?;
    let operator = env.operator().await?;
    let url = allow_custom(&env).await?;
    for name in ["one", "two"] {
        env.create_binding(name, env.binding_spec()).await?;
    }
    for name in ["one", "two"] {
        env.binding_ready(name).await?;
    }
    let own = env.hooks_at(&operator.url()).await?;
    assert!(own.len() == 2 && own[0].config.url != own[1].config.url, "{own:?}");

    env.create_binding("first", custom_spec(&env, &url, false)).await?;
    env.create_binding("second", custom_spec(&env, &url, false)).await?;
    env.binding_ready("first").await?;
    let waiting = env.binding_says("second", "Ready", "False/ClaimedByAnother").await?;
    let message = binding_message(&waiting, "Ready");
    assert!(!message.contains("first"), "names of other objects are not in the message: {message}");
    let held = env.hooks_of(&env.repository, &url).await?;
    assert_eq!(held.len(), 1, "{held:?}");
    env.delete_binding("first").await?;
    env.binding_gone("first", SOON).await?;
    env.binding_ready("second").await?;
    let handed = env.hooks_of(&env.repository, &url).await?;
    assert!(handed.len() == 1 && handed[0].config.url != held[0].config.url, "{handed:?}");
    Ok(())
}

#[tokio::test]
async fn a_move_to_another_repository_makes_the_new_hook_before_it_removes_the_old_one() -> Result<()> {
    let env = TestEnv::new("move").await?;
    env.gitea.create_repository(&env.organization, "cart", false).await?;
    let (cart, later) = (format!("{}/cart", env.organization), format!("{}/later", env.organization));
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    proxy.forget();
    env.patch_binding("shop", json!({"spec": {"repository": cart}})).await?;
    let moved = env.binding_ready("shop").await?;
    assert_eq!(moved.status.and_then(|status| status.repository).map(|repository| repository.path), Some(cart.clone()));
    env.hooks_until(&env.repository, &operator.url(), "gone", <[Hook]>::is_empty).await?;
    assert_eq!(env.hooks_of(&cart, &operator.url()).await?.len(), 1);
    let order: Vec<String> = proxy.exchanges().iter().filter(|one| one.is_write()).map(|one| one.method.to_string()).collect();
    assert_eq!(order, ["POST", "DELETE"]);

    // To a repository that does not exist yet: the old hook stays until the new one can be created.
    env.patch_binding("shop", json!({"spec": {"repository": later}})).await?;
    env.binding_says("shop", "Ready", "False/NotFoundOrHidden").await?;
    assert_eq!(env.hooks_of(&cart, &operator.url()).await?.len(), 1);
    env.gitea.create_repository(&env.organization, "later", false).await?;
    env.look_again("shop").await?;
    env.binding_ready("shop").await?;
    assert_eq!(env.hooks_of(&later, &operator.url()).await?.len(), 1);
    env.hooks_until(&cart, &operator.url(), "gone", <[Hook]>::is_empty).await?;
    Ok(())
}

#[tokio::test]
async fn a_move_to_another_connection_of_the_same_server_makes_the_new_hook_before_the_old_one_goes() -> Result<()> {
    let env = TestEnv::new("switch").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    env.create_connection_named("other", env.connection_spec_at(&proxy.url())).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    let before = env.hooks_at(&operator.url()).await?.remove(0);
    proxy.forget();
    env.patch_binding("shop", json!({"spec": {"connectionRef": {"name": "other"}}})).await?;
    let target = |binding: &RepoBinding| Some(binding.status.as_ref()?.webhook.as_ref()?.target.as_ref()?.connection.name.clone());
    let is_rid = |binding: &RepoBinding| {
        binding.status.as_ref().and_then(|status| status.webhook.as_ref()).is_some_and(|webhook| webhook.former_targets.is_empty())
    };
    let moved = |binding: &RepoBinding| target(binding).as_deref() == Some("other") && is_rid(binding);
    env.binding_until("shop", "moved", SOON, moved).await?;
    let binding = env.look_again("shop").await?;
    assert_eq!(binding_condition(&binding, "Ready"), "True/Succeeded");
    // A hook id from one connection proves nothing through another connection.
    let after = env.hooks_at(&operator.url()).await?;
    assert_eq!(after.len(), 1, "{after:?}");
    assert_ne!((after[0].id, &after[0].config.url), (before.id, &before.config.url));
    let order: Vec<String> = proxy.exchanges().iter().filter(|one| one.is_write()).map(|one| one.method.to_string()).collect();
    assert_eq!(order, ["POST", "DELETE"]);
    env.push("after the move").await?;
    env.sink.wait_for(1, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn a_suspended_binding_writes_nothing_and_its_deletion_still_cleans_up() -> Result<()> {
    let env = TestEnv::new("suspend").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec_at(&proxy.url())).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    proxy.forget();
    env.patch_binding("shop", json!({"spec": {"suspend": true, "webhook": {"events": ["Push", "Tag", "PullRequest"]}}})).await?;
    env.binding_says("shop", "Ready", "False/Suspended").await?;
    env.look_again("shop").await?;
    assert_eq!(writes(&proxy), [""; 0]);
    // The receiver still accepts deliveries for it.
    env.push("while suspended").await?;
    env.sink.wait_for(1, SOON).await?;
    assert_eq!(writes(&proxy), [""; 0]);

    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    assert!(env.hooks_at(&operator.url()).await?.is_empty());
    Ok(())
}
