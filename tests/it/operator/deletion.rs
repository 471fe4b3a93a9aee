//! Deletions when something that they need is gone: the Secret, the credential, the connection, the namespace.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use serde_json::{Value, json};

use testkit::gitea::OPERATOR_SCOPES;
use testkit::operator::Operator;
use testkit::test_env::{CONNECTION, SOON, TestEnv, binding_condition, connection_condition, connection_message, leftovers};
use testkit::wait::{Seen, stays, wait_until};

/// How long a test waits for a namespace to disappear.
const NAMESPACE: Duration = Duration::from_secs(180);

async fn namespace_gone(env: &TestEnv) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(env.cluster().client()?);
    wait_until("the namespace to be gone", NAMESPACE, async || {
        Ok(match namespaces.get_opt(&env.namespace).await? {
            None => Seen::Done(()),
            Some(namespace) => Seen::NotYet(format!("{:?}", namespace.status.and_then(|status| status.conditions))),
        })
    })
    .await
}

/// An environment with a Ready connection and a Ready binding.
async fn settled(name: &str, cleanup_timeout: Option<&str>) -> Result<(TestEnv, Operator)> {
    let env = TestEnv::new(name).await?;
    let mut options = env.options().await?;
    if let Some(timeout) = cleanup_timeout {
        options = options.with("cleanup-timeout", timeout);
    }
    let operator = Operator::start(options).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    Ok((env, operator))
}

#[tokio::test]
async fn deleting_the_secret_and_then_the_namespace_removes_the_hook() -> Result<()> {
    let (env, operator) = settled("secret-first", None).await?;
    let secrets: Api<Secret> = Api::namespaced(env.cluster().client()?, &env.namespace);
    secrets.delete("credential", &DeleteParams::default()).await?;
    env.connection_says("Authenticated", "False/SecretNotFound").await?;
    let namespaces: Api<Namespace> = Api::all(env.cluster().client()?);
    let began = Instant::now();
    namespaces.delete(&env.namespace, &DeleteParams::default()).await?;
    namespace_gone(&env).await?;
    eprintln!("figure: a namespace whose Secret went first is gone after {:.2?}", began.elapsed());
    assert!(env.hooks_at(&operator.url()).await?.is_empty(), "the last working credential removed it");
    assert!(leftovers(&env, &operator).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_namespace_is_deleted_in_time_although_the_credential_is_unknown() -> Result<()> {
    let (env, operator) = settled("secret-unknown", None).await?;
    operator.kill();
    let secrets: Api<Secret> = Api::namespaced(env.cluster().client()?, &env.namespace);
    secrets.delete("credential", &DeleteParams::default()).await?;
    operator.restart().await?;
    env.connection_says("Authenticated", "False/SecretNotFound").await?;
    let namespaces: Api<Namespace> = Api::all(env.cluster().client()?);
    let began = Instant::now();
    namespaces.delete(&env.namespace, &DeleteParams::default()).await?;
    namespace_gone(&env).await?;
    eprintln!("figure: a namespace with a hook that cannot be removed is gone after {:.2?}", began.elapsed());
    let left = env.hooks_at(&operator.url()).await?;
    let entries = leftovers(&env, &operator).await?;
    assert_eq!(entries.len(), 1, "{entries:?}");
    let entry: Value = serde_json::from_str(&entries[0].1)?;
    assert_eq!(entry["hooks"][0]["id"], json!(left[0].id.to_string()));
    Ok(())
}

#[tokio::test]
async fn dt_24_an_emptied_token_is_reported_and_the_cached_credential_still_cleans_up() -> Result<()> {
    let (env, operator) = settled("emptied", None).await?;
    env.create_binding("second", env.binding_spec()).await?;
    env.binding_ready("second").await?;
    let hooks = async || -> Result<Vec<(i64, String)>> {
        Ok(env.hooks_at(&operator.url()).await?.into_iter().map(|hook| (hook.id, hook.config.url)).collect())
    };
    let before = hooks().await?;
    assert_eq!(before.len(), 2, "{before:?}");
    let put = async |token: &str| env.cluster().apply_secret(&env.namespace, "credential", &[("token", token)]).await;

    put("").await?;
    let connection = env.connection_says("Authenticated", "False/SecretInvalid").await?;
    assert_eq!(connection_condition(&connection, "Ready"), "False/SecretInvalid");
    let message = connection_message(&connection, "Ready");
    assert!(message.contains(&format!("Secret {}/credential", env.namespace)) && message.contains("the key token is empty"), "{message}");
    let binding = env.binding_says("shop", "Ready", "False/ConnectionNotReady").await?;
    assert_eq!(binding_condition(&binding, "CleanupBlocked"), "");
    // What works at the provider keeps working: the hooks stay, and their deliveries reach the sink.
    let commit = env.push("while the token is empty").await?;
    for event in env.sink.wait_for(2, SOON).await? {
        assert_eq!(event.json()["after"], json!(commit));
    }
    assert_eq!(hooks().await?, before);

    // The operator still has the last working credential, and uses it for removals only.
    env.delete_binding("second").await?;
    env.binding_gone("second", SOON).await?;
    let left = hooks().await?;
    assert!(left.len() == 1 && before.contains(&left[0]), "{left:?}");
    assert!(leftovers(&env, &operator).await?.is_empty());
    env.create_binding("third", env.binding_spec()).await?;
    env.binding_says("third", "Ready", "False/ConnectionNotReady").await?;
    assert_eq!(hooks().await?, left);

    put(&env.account.token).await?;
    env.connection_ready().await?;
    env.binding_ready("shop").await?;
    env.binding_ready("third").await?;
    let after = hooks().await?;
    assert!(after.len() == 2 && after.contains(&left[0]), "{after:?}");
    Ok(())
}

#[tokio::test]
async fn a_rejected_credential_records_the_hook_as_leftover_and_removes_it_later() -> Result<()> {
    let (env, operator) = settled("dead-credential", Some("5s")).await?;
    let uid = env.bindings.get("shop").await?.metadata.uid.context("a UID")?;
    let hook = env.hooks_at(&operator.url()).await?.remove(0);
    env.gitea.delete_token(&env.account, "operator").await?;
    env.delete_binding("shop").await?;
    wait_until("CleanupBlocked", SOON, async || {
        let binding = env.bindings.get("shop").await?;
        let seen = binding_condition(&binding, "CleanupBlocked");
        Ok(if seen.starts_with("True/") { Seen::Done(()) } else { Seen::NotYet(seen) })
    })
    .await?;
    env.binding_gone("shop", SOON).await?;
    let entries = leftovers(&env, &operator).await?;
    assert_eq!(entries.len(), 1, "{entries:?}");
    let (key, text) = &entries[0];
    assert!(key.starts_with(&format!("{uid}.")), "{key}: each target of the binding has its own entry");
    let path = hook.config.url.strip_prefix(&operator.url()).context("our hook")?;
    let id = path.split('/').nth(2).context("the unguessable part")?;
    for hidden in [path, id, &env.account.token, "/hooks/"] {
        assert!(!text.contains(hidden), "{text}");
    }
    let entry: Value = serde_json::from_str(text)?;
    assert_eq!(entry["namespace"], json!(env.namespace));
    assert_eq!(entry["name"], json!("shop"));
    assert_eq!(entry["connection"], json!({"namespace": env.namespace, "name": CONNECTION}));
    assert_eq!(entry["repository"], json!(env.repository));
    assert_eq!(entry["hooks"][0]["id"], json!(hook.id.to_string()));
    assert!(operator.url().ends_with(entry["hooks"][0]["host"].as_str().context("a host")?), "{entry}");
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1, "no credential could remove it");

    let token = env.gitea.create_token(&env.account, "second", OPERATOR_SCOPES).await?;
    env.cluster().apply_secret(&env.namespace, "credential", &[("token", &token)]).await?;
    env.connection_ready().await?;
    wait_until("the hook and its entry to be removed", SOON, async || {
        let (hooks, entries) = (env.hooks_at(&operator.url()).await?, leftovers(&env, &operator).await?);
        Ok(if hooks.is_empty() && entries.is_empty() { Seen::Done(()) } else { Seen::NotYet(format!("{hooks:?} {entries:?}")) })
    })
    .await
}

#[tokio::test]
async fn a_binding_with_the_policy_orphan_leaves_its_hook() -> Result<()> {
    let (env, operator) = settled("orphan", None).await?;
    env.patch_binding("shop", json!({"spec": {"deletionPolicy": "Orphan"}})).await?;
    env.binding_ready("shop").await?;
    let before = env.hooks_at(&operator.url()).await?.remove(0);
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    let after = env.hooks_at(&operator.url()).await?;
    assert_eq!(after.len(), 1);
    assert_eq!((after[0].id, &after[0].config.url), (before.id, &before.config.url));
    assert!(leftovers(&env, &operator).await?.is_empty(), "left on purpose");
    Ok(())
}

#[tokio::test]
async fn a_connection_waits_for_the_removal_of_hooks_created_through_it() -> Result<()> {
    let (env, operator) = settled("connection-first", None).await?;
    env.connections.delete(CONNECTION, &DeleteParams::default()).await?;
    wait_until("the connection to be gone", SOON, async || {
        Ok(match env.connections.get_opt(CONNECTION).await? {
            None => Seen::Done(()),
            Some(connection) => Seen::NotYet(connection_condition(&connection, "Ready")),
        })
    })
    .await?;
    assert!(env.hooks_at(&operator.url()).await?.is_empty(), "the hooks were removed before the connection");
    env.binding_says("shop", "ConnectionReady", "False/ConnectionNotFound").await?;
    // No hook of ours is left, so nothing holds the binding.
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    assert!(leftovers(&env, &operator).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_connection_and_its_binding_deleted_together_leave_nothing() -> Result<()> {
    let (env, operator) = settled("both-deleted", None).await?;
    env.connections.delete(CONNECTION, &DeleteParams::default()).await?;
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    wait_until("the connection to be gone", SOON, async || {
        Ok(match env.connections.get_opt(CONNECTION).await? {
            None => Seen::Done(()),
            Some(connection) => Seen::NotYet(connection_condition(&connection, "Ready")),
        })
    })
    .await?;
    assert!(env.hooks_at(&operator.url()).await?.is_empty());
    assert!(leftovers(&env, &operator).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn removing_the_webhook_from_the_spec_removes_its_hook_and_adding_it_recreates_the_hook() -> Result<()> {
    let (env, operator) = settled("webhook-removed", None).await?;
    env.patch_binding("shop", json!({"spec": {"webhook": null, "sinks": null}})).await?;
    wait_until("no hook", SOON, async || {
        let hooks = env.hooks_at(&operator.url()).await?;
        Ok(if hooks.is_empty() { Seen::Done(()) } else { Seen::NotYet(format!("{hooks:?}")) })
    })
    .await?;
    env.binding_ready("shop").await?;
    env.binding_until("shop", "free of our finalizer", SOON, |binding| binding.metadata.finalizers.is_none()).await?;
    env.patch_binding("shop", json!({"spec": {"webhook": {"events": ["Push"]}}})).await?;
    wait_until("a hook again", SOON, async || {
        let hooks = env.hooks_at(&operator.url()).await?;
        Ok(if hooks.len() == 1 { Seen::Done(()) } else { Seen::NotYet(format!("{hooks:?}")) })
    })
    .await?;
    let binding = env.binding_ready("shop").await?;
    assert!(binding.metadata.finalizers.is_some());
    stays("one hook", Duration::from_secs(2), async || {
        anyhow::ensure!(env.hooks_at(&operator.url()).await?.len() == 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn leftovers_of_a_deleted_repository_end_once_its_absence_is_proven() -> Result<()> {
    let (env, operator) = settled("repository-first", None).await?;
    env.gitea.create_repository(&env.organization, "other", false).await?;
    let (status, _) = env.gitea.call(Method::DELETE, &format!("/repos/{}", env.repository), None).await?;
    assert_eq!(status, StatusCode::NO_CONTENT);
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    wait_until("the leftover entry to be removed, which would otherwise alert for 90 days", SOON, async || {
        let resolved = operator.metrics().await?.lines().any(|line| line == "forgebind_leftovers_resolved_total{result=\"removed\"} 1");
        let entries = leftovers(&env, &operator).await?;
        Ok(if resolved && entries.is_empty() { Seen::Done(()) } else { Seen::NotYet(format!("{entries:?}")) })
    })
    .await
}

/// Fills the space for leftover entries in the namespace of the operator: every shard completely, or the share of one namespace.
async fn fill(env: &TestEnv, operator: &Operator, share_of: Option<&str>) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(env.cluster().client()?, operator.options().namespace());
    let entry = |namespace: &str| {
        let connection = json!({"namespace": namespace, "name": "elsewhere"});
        json!({"namespace": namespace, "name": "x", "connection": connection, "repository": "x/x", "repositoryID": "1", "hooks": [],
            "reason": "of a test", "since": "2999-01-01T00:00:00Z"})
        .to_string()
    };
    for shard in 0..16 {
        let data = match share_of {
            None => [("filler".to_owned(), "x".repeat(1_048_000))].into(),
            Some(namespace) if shard == 0 => (0..500).map(|number| (format!("uid-{number}"), entry(namespace))).collect(),
            Some(_) => continue,
        };
        let metadata = ObjectMeta {
            name: Some(format!("forgebind-leftover-hooks-{shard}")),
            labels: Some([("forgebind.dev/leftover-hooks".to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        };
        maps.create(&PostParams::default(), &ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_deletion_ends_with_an_event_where_there_is_no_room_to_record_its_hooks() -> Result<()> {
    for (name, own_share) in [("store-full", false), ("share-used-up", true)] {
        let (env, operator) = settled(name, Some("5s")).await?;
        operator.kill();
        fill(&env, &operator, own_share.then_some(env.namespace.as_str())).await?;
        operator.restart().await?;
        env.connection_ready().await?;
        env.gitea.delete_token(&env.account, "operator").await?;
        env.delete_binding("shop").await?;
        env.binding_gone("shop", SOON).await?;
        let events: Api<Event> = Api::namespaced(env.cluster().client()?, &env.namespace);
        wait_until("the event", SOON, async || {
            let notes: Vec<_> = events.list(&ListParams::default()).await?.items.into_iter().filter_map(|event| event.message).collect();
            let told = notes.iter().any(|note| note.contains("no room") && note.contains(&env.repository));
            Ok(if told { Seen::Done(()) } else { Seen::NotYet(format!("{notes:?}")) })
        })
        .await?;
        assert!(operator.log().contains("no room to record them"), "{name}");
        assert!(leftovers(&env, &operator).await?.iter().all(|(_, text)| !text.contains(&env.repository)), "{name}");
    }
    Ok(())
}
