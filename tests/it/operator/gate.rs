//! Who may use a credential, and what others learn about it: at a real API server and a real Gitea.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::{FINALIZER, RepoBinding};
use http::Method;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use testkit::fault_proxy::{Exchange, Fault, FaultProxy};
use testkit::gitea::Hook;
use testkit::operator::Operator;
use testkit::test_env::{CONNECTION, SOON, TestEnv, binding_condition, binding_message, connection_condition, event_on, leftovers};
use testkit::wait::{Seen, stays, wait_until};

/// Part of a name that no binding here may learn.
const CANARY: &str = "canary";

fn asks_for_repository(exchange: &Exchange) -> bool {
    exchange.path.contains("/repos/") || exchange.path.contains("/orgs/") || exchange.path.contains("/repositories/")
}

fn asks_for_hooks(exchange: &Exchange) -> bool {
    exchange.path.contains("/hooks")
}

/// The name of the grant of the tests.
const GRANT: &str = "shops";

/// Creates a connection, and a grant for the binding's own namespace and repositories whose names begin with `sh`.
async fn connect_with_grant(env: &TestEnv, mut spec: Value) -> Result<()> {
    spec["access"] = json!("Granted");
    env.apply_grant(GRANT, json!({"repositories": {"include": [format!("{}/sh*", env.organization)]}})).await?;
    env.create_connection(spec).await?;
    Ok(())
}

/// Starts an operator for which a missing grant counts as withdrawn at once.
async fn impatient_operator(env: &TestEnv) -> Result<Operator> {
    Operator::start(env.options().await?.with("missing-grant-timeout", "0s")).await
}

async fn rename(env: &TestEnv, from: &str, to: &str) -> Result<()> {
    env.gitea.edit_repository(&format!("{}/{from}", env.organization), &json!({"name": to})).await
}

fn tells(binding: &RepoBinding, word: &str) -> bool {
    serde_json::to_string(&binding.status).is_ok_and(|status| status.contains(word))
}

#[tokio::test]
async fn a_finalizer_set_by_a_user_causes_no_call_blocks_nothing_and_reveals_nothing() -> Result<()> {
    let platform = TestEnv::new("preset").await?;
    let team_namespace = format!("{}-team", platform.namespace);
    platform.cluster().create_namespace_named(&team_namespace).await?;
    let team = platform.within(&team_namespace)?;
    let proxy = FaultProxy::before_gitea(platform.gitea).await?;
    let operator = platform.operator_for(&[&team_namespace]).await?;
    // A token that can only read, so that a webhook that counted would change the connection's conditions.
    let reader = platform.gitea.create_token(&platform.account, "reader", &["read:repository", "read:user", "read:organization"]).await?;
    platform.cluster().apply_secret(&platform.namespace, "credential", &[("token", &reader)]).await?;
    platform.create_connection(platform.connection_spec_at(&proxy.url())).await?;
    platform.connection_ready().await?;
    proxy.forget();

    let create = async |name: &str, connection: &str, repository: &str| -> Result<()> {
        let mut spec = team.binding_spec();
        spec["connectionRef"] = json!({"name": connection, "namespace": platform.namespace});
        spec["repository"] = json!(repository);
        let object = json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
            "metadata": {"name": name, "namespace": team_namespace, "finalizers": [FINALIZER]}, "spec": spec,
        });
        team.bindings.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(())
    };
    let names = ["there", "no-repository", "no-connection"];
    for round in ["released", "deleted"] {
        create("there", CONNECTION, &platform.repository).await?;
        create("no-repository", CONNECTION, "acme/there-is-none").await?;
        create("no-connection", "there-is-none", &platform.repository).await?;
        let mut told = Vec::new();
        for name in names {
            if round == "released" {
                let binding = team.binding_says(name, "Ready", "False/RefNotPermitted").await?;
                // The message contains only the name that the binding's own spec has.
                let message = binding_message(&binding, "Ready").replace("there-is-none", CONNECTION);
                told.push((message, binding_condition(&binding, "CleanupBlocked")));
                team.binding_until(name, "free of the finalizer", SOON, |binding| binding.metadata.finalizers.is_none()).await?;
            }
            team.delete_binding(name).await?;
            team.binding_gone(name, Duration::from_secs(15)).await?;
        }
        told.dedup();
        ensure!(told.len() <= 1, "they look alike: {told:?}");
    }
    assert_eq!(proxy.count(|_| true), 0, "{:?}", proxy.exchanges());
    assert!(leftovers(&platform, &operator).await?.is_empty());

    // A binding that only names the connection does not count as using it.
    create("waits", CONNECTION, &platform.repository).await?;
    team.binding_says("waits", "Ready", "False/RefNotPermitted").await?;
    stays("the connection as it was", Duration::from_secs(5), async || {
        let connection = platform.connections.get(CONNECTION).await?;
        let bindings = connection.status.as_ref().and_then(|status| status.bindings);
        ensure!(connection_condition(&connection, "Ready") == "True/Succeeded" && bindings == Some(0), "{:?}", connection.status);
        Ok(())
    })
    .await?;
    platform.connections.delete(CONNECTION, &DeleteParams::default()).await?;
    wait_until("the connection to be gone", Duration::from_secs(15), async || {
        let left = platform.connections.get_opt(CONNECTION).await?;
        Ok(left.map_or(Seen::Done(()), |left| Seen::NotYet(connection_condition(&left, "Ready"))))
    })
    .await
}

#[tokio::test]
async fn a_grant_withdrawn_while_the_credential_is_rejected_ends_at_once_after_a_restart() -> Result<()> {
    let env = TestEnv::new("dead-withdrawn").await?;
    let operator = impatient_operator(&env).await?;
    connect_with_grant(&env, env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    env.push("granted").await?;
    env.sink.wait_for(1, SOON).await?;
    env.cluster().apply_secret(&env.namespace, "credential", &[("token", "0000000000000000000000000000000000000000")]).await?;
    env.connection_says("Authenticated", "False/CredentialRejected").await?;
    operator.kill();
    env.delete_grant(GRANT).await?;
    operator.restart().await?;
    let binding = env.binding_says("shop", "Ready", "False/RefNotPermitted").await?;
    assert_eq!(binding_condition(&binding, "WebhookInSync"), "False/RefNotPermitted");
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1, "no credential could remove it");
    env.push("withdrawn").await?;
    stays("nothing is handed on", Duration::from_secs(5), async || {
        ensure!(env.sink.deliveries().len() == 1, "{:?}", env.sink.deliveries());
        Ok(())
    })
    .await?;
    // With a working credential again, the operator removes the hook by itself.
    env.cluster().apply_secret(&env.namespace, "credential", &[("token", &env.account.token)]).await?;
    env.hooks_until(&env.repository, &operator.url(), "gone", <[Hook]>::is_empty).await?;
    env.binding_until("shop", "free of our finalizer", SOON, |binding| binding.metadata.finalizers.is_none()).await?;
    Ok(())
}

#[tokio::test]
async fn a_repository_renamed_out_of_the_grant_or_transferred_to_another_owner_loses_route_and_hook() -> Result<()> {
    let env = TestEnv::new("departs").await?;
    let operator = impatient_operator(&env).await?;
    connect_with_grant(&env, env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    env.push("granted").await?;
    env.sink.wait_for(1, SOON).await?;
    let delivered = async |count: usize| {
        stays("nothing more is handed on", Duration::from_secs(3), async || {
            ensure!(env.sink.deliveries().len() == count, "{:?}", env.sink.deliveries());
            Ok(())
        })
        .await
    };

    // Renamed: the first delivery under the new name reaches no sink and triggers a probe.
    rename(&env, "shop", CANARY).await?;
    let canary = format!("{}/{CANARY}", env.organization);
    env.gitea.push_commit(&env.account, &canary, "main", "renamed").await?;
    let binding = env.binding_says("shop", "Ready", "False/RepositoryMovedOutOfScope").await?;
    env.hooks_until(&canary, &operator.url(), "gone", <[Hook]>::is_empty).await?;
    let binding = match binding_condition(&binding, "WebhookInSync").as_str() {
        "False/RepositoryMovedOutOfScope" => binding,
        _ => env.binding_says("shop", "WebhookInSync", "False/RepositoryMovedOutOfScope").await?,
    };
    ensure!(!tells(&binding, CANARY), "{:?}", binding.status);
    env.gitea.push_commit(&env.account, &canary, "main", "still renamed").await?;
    delivered(1).await?;

    rename(&env, CANARY, "shop").await?;
    env.look_again("shop").await?;
    env.binding_ready("shop").await?;
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1, "the returned repository gets its hook again");

    // Transferred to another owner that the same credential can reach.
    let other = format!("{}-{CANARY}", env.organization);
    env.gitea.create_organization(&env.account, &other).await?;
    let (status, answer) =
        env.gitea.call(Method::POST, &format!("/repos/{}/transfer", env.repository), Some(&json!({"new_owner": other}))).await?;
    ensure!(status.is_success(), "{status} {answer}");
    let moved = format!("{other}/shop");
    env.look_again("shop").await?;
    let binding = env.binding_says("shop", "Ready", "False/RepositoryMovedOutOfScope").await?;
    env.hooks_until(&moved, &operator.url(), "gone", <[Hook]>::is_empty).await?;
    ensure!(!tells(&binding, CANARY), "{:?}", binding.status);
    delivered(1).await
}

#[tokio::test]
async fn a_redirect_from_a_granted_name_does_not_reveal_its_target() -> Result<()> {
    let env = TestEnv::new("redirect").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = env.operator().await?;
    rename(&env, "shop", CANARY).await?;
    connect_with_grant(&env, env.connection_spec_at(&proxy.url())).await?;
    env.connection_ready().await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let binding = env.binding_says("shop", "Ready", "False/RepositoryMovedOutOfScope").await?;
    ensure!(!tells(&binding, CANARY), "{:?}", binding.status);
    assert_eq!(binding.status.and_then(|status| status.repository), None);
    assert!(proxy.count(asks_for_repository) > 0, "the repository was looked up");
    assert_eq!(proxy.count(asks_for_hooks), 0, "{:?}", proxy.exchanges());
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    assert!(leftovers(&env, &operator).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_grant_withdrawn_between_the_creation_of_a_hook_and_its_status_removes_the_hook() -> Result<()> {
    let env = TestEnv::new("announced").await?;
    let proxy = FaultProxy::before_gitea(env.gitea).await?;
    let operator = impatient_operator(&env).await?;
    connect_with_grant(&env, env.connection_spec_at(&proxy.url())).await?;
    env.connection_ready().await?;
    let mut held = proxy.inject(Fault::HoldAnswer, |exchange| exchange.method == Method::POST && exchange.path.ends_with("/hooks"));
    env.create_binding("shop", env.binding_spec()).await?;
    held.struck(1, SOON).await?;
    operator.kill();
    drop(held);
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1);
    let before = env.bindings.get("shop").await?.status.and_then(|status| status.webhook).context("the target is recorded")?;
    assert!(before.hooks.is_empty() && before.former_targets.len() == 1, "{before:?}");
    env.delete_grant(GRANT).await?;
    operator.restart().await?;
    env.binding_says("shop", "Ready", "False/RefNotPermitted").await?;
    env.hooks_until(&env.repository, &operator.url(), "gone", <[Hook]>::is_empty).await?;
    env.binding_until("shop", "free of our finalizer", SOON, |binding| binding.metadata.finalizers.is_none()).await?;
    assert!(leftovers(&env, &operator).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn deleting_a_connection_reports_that_the_hooks_of_its_bindings_are_removed() -> Result<()> {
    let env = TestEnv::new("goes-along").await?;
    let operator: Operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    env.connection_until("one binding", SOON, |connection| connection.status.as_ref().and_then(|status| status.bindings) == Some(1))
        .await?;
    env.connections.delete(CONNECTION, &DeleteParams::default()).await?;
    let message = event_on(&env, CONNECTION, "HooksGoWithConnection").await?;
    assert!(message.contains("the hook of 1 binding that was made through it is removed"), "{message}");
    env.hooks_until(&env.repository, &operator.url(), "gone", <[Hook]>::is_empty).await?;
    let binding = env.binding_says("shop", "WebhookInSync", "False/ConnectionNotFound").await?;
    assert!(binding_message(&binding, "WebhookInSync").starts_with("there is no hook"), "{:?}", binding.status);
    // As the event says: with a connection again, the hook is created again.
    env.create_connection(env.connection_spec()).await?;
    env.binding_ready("shop").await?;
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1);
    Ok(())
}
