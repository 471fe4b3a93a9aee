//! The whole chain on real parts: connection, binding, hook, delivery, rotation, removal.

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::{ROTATE_REQUESTED_AT, RepoBinding};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use testkit::operator::Operator;
use testkit::test_env::{OVERLAPPED, SOON, TestEnv, binding_condition};
use testkit::wait::{Seen, wait_until};

#[tokio::test]
async fn controller_and_receiver_work_as_separate_processes() -> Result<()> {
    let env = TestEnv::new("apart").await?;
    let options = env.options().await?;
    let controller = options.beside()?.only("controller").with("receivers", &options.admin_url());
    // The receiver reads its derived key from the Secret that the controller writes at its first start.
    let _controller = Operator::start(controller).await?;
    let receiver = Operator::start(options.only("receiver")).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    env.push("first").await?;
    env.sink.wait_for(1, SOON).await?;
    env.binding_says("shop", "Receiving", "True/Succeeded").await?;
    let log = receiver.log();
    assert!(!log.contains("leading"), "a receiver reconciles nothing: {log}");
    let evidence = reqwest::get(format!("{}/evidence", receiver.admin_url())).await?;
    assert_eq!(evidence.status(), 401, "only the controller may read evidence");
    Ok(())
}

#[tokio::test]
async fn df_02_dt_20_several_connections_of_one_provider_coexist_have_labels_and_show_that_they_are_ready() -> Result<()> {
    let env = TestEnv::new("several").await?;
    let operator = Operator::start(env.options().await?).await?;
    for environment in ["staging", "production"] {
        env.create_connection_named(environment, env.connection_spec()).await?;
        let labels = json!({"metadata": {"labels": {"environment": environment}}});
        env.connections.patch(environment, &PatchParams::default(), &Patch::Merge(labels)).await?;
        let mut spec = env.binding_spec();
        spec["connectionRef"]["name"] = json!(environment);
        env.create_binding(environment, spec).await?;
    }
    for environment in ["staging", "production"] {
        env.binding_ready(environment).await?;
    }
    let selected = ["get", "gpc", "-n", &env.namespace, "-l", "environment=production", "-o", "jsonpath={.items[*].metadata.name}"];
    assert_eq!(env.cluster().kubectl(&selected).await?.trim(), "production");
    let table = env.cluster().kubectl(&["get", "gpc", "-n", &env.namespace]).await?;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().take(4).collect()).collect();
    let (headings, shown) = rows.split_first().expect("a table has headings");
    assert_eq!(*headings, ["NAME", "READY", "REASON", "PROVIDER"]);
    assert_eq!(shown, [["production", "True", "Succeeded", "Gitea"], ["staging", "True", "Succeeded", "Gitea"]]);
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 2, "each binding has a hook of its own");
    Ok(())
}

#[tokio::test]
async fn df_21_one_repository_is_bound_for_staging_and_production_and_each_gets_its_branch() -> Result<()> {
    let env = TestEnv::new("environments").await?;
    let _operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.gitea.push_commit(&env.account, &env.repository, "develop", "the branch of staging").await?;
    for (environment, branch) in [("staging", "develop"), ("production", "main")] {
        let mut spec = env.binding_spec();
        spec["branch"] = json!(branch);
        spec["sinks"][0]["service"]["path"] = json!(format!("/{environment}"));
        env.create_binding(environment, spec).await?;
        env.patch_binding(environment, json!({"metadata": {"labels": {"app": "shop", "environment": environment}}})).await?;
    }
    for environment in ["staging", "production"] {
        env.binding_ready(environment).await?;
    }
    let selected =
        ["get", "repob", "-n", &env.namespace, "-l", "app=shop,environment=production", "-o", "jsonpath={.items[*].spec.branch}"];
    assert_eq!(env.cluster().kubectl(&selected).await?.trim(), "main");

    let released = env.push("a release").await?;
    env.sink.wait_for(1, SOON).await?;
    // The other hook also receives the release, before it receives this push.
    let developed = env.gitea.push_commit(&env.account, &env.repository, "develop", "a change").await?;
    let arrived = env.sink.wait_for(2, SOON).await?;
    // Each binding receives both pushes and hands on its own.
    for environment in ["staging", "production"] {
        env.binding_says(environment, "Receiving", "True/Succeeded").await?;
    }
    let told: Vec<_> =
        arrived.iter().map(|event| (event.path.as_str(), event.header("ce-subject"), event.json()["after"].clone())).collect();
    let expected = [("/production", "refs/heads/main", json!(released)), ("/staging", "refs/heads/develop", json!(developed))];
    assert_eq!(told, expected);
    assert_eq!(env.sink.deliveries().len(), expected.len(), "a push to one branch reaches only the binding of that branch");
    Ok(())
}

#[tokio::test]
async fn dv_02_dv_22_a_push_arrives_as_a_cloud_event_and_nothing_is_left_after_the_deletion() -> Result<()> {
    let env = TestEnv::new("chain").await?;
    let operator = Operator::start(env.options().await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let connection = env.connection_ready().await?;
    let status = connection.status.unwrap_or_default();
    assert_eq!(status.identity.and_then(|identity| identity.name).as_deref(), Some(env.account.name.as_str()));
    assert_eq!(status.server.map(|server| server.flavor).as_deref(), Some("Gitea"));
    let binding = env.binding_ready("shop").await?;
    assert_eq!(binding_condition(&binding, "Receiving"), "Unknown/AwaitingFirstDelivery");
    let hooks = env.hooks_at(&operator.url()).await?;
    assert_eq!(hooks.len(), 1, "{hooks:?}");

    let commit = env.push("first").await?;
    let delivered = env.sink.wait_for(1, SOON).await?;
    let event = &delivered[0];
    assert_eq!(event.header("ce-type"), "dev.forgebind.push");
    assert_eq!(event.header("ce-subject"), "refs/heads/main");
    assert_eq!(event.header("ce-specversion"), "1.0");
    assert_eq!(event.json()["after"], json!(commit));
    assert_eq!(event.path, "/events");
    env.binding_says("shop", "Receiving", "True/Succeeded").await?;
    let listed = |binding: &RepoBinding| binding.status.as_ref().is_some_and(|status| !status.recent_deliveries.is_empty());
    let binding = env.binding_until("shop", "a listed delivery", SOON, listed).await?;
    let delivery = &binding.status.context("a status")?.recent_deliveries[0];
    assert_eq!((delivery.reference.as_deref(), delivery.sha.as_deref()), (Some("refs/heads/main"), Some(&commit[..8])));

    env.annotate_binding("shop", ROTATE_REQUESTED_AT, "once").await?;
    let rotated = wait_until("the old hook to be gone", OVERLAPPED, async || {
        let present = env.hooks_at(&operator.url()).await?;
        let replaced = present.len() == 1 && present[0].id != hooks[0].id;
        Ok(if replaced { Seen::Done(present) } else { Seen::NotYet(format!("{present:?}")) })
    })
    .await?;
    assert_ne!(rotated[0].config.url, hooks[0].config.url, "the URL contains the version of the secret");
    env.push("second").await?;
    env.sink.wait_for(2, SOON).await?;

    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    assert!(env.hooks_at(&operator.url()).await?.is_empty());
    Ok(())
}
