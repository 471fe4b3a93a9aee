//! The whole chain on real parts: connection, binding, hook, delivery, rotation, removal.

use anyhow::Result;
use forgebind::api::v1alpha1::ROTATE_REQUESTED_AT;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use testkit::operator::Operator;
use testkit::wait::{Seen, wait_until};
use testkit::world::{OVERLAPPED, SOON, World, binding_condition};

#[tokio::test]
async fn controller_and_receiver_work_as_processes_of_their_own() -> Result<()> {
    let world = World::new("apart").await?;
    let options = world.options().await?;
    let controller = options.beside()?.only("controller").with("receivers", &options.admin_url());
    // The receiver reads its part of the key from where the controller puts it at its first start.
    let _controller = Operator::start(controller).await?;
    let receiver = Operator::start(options.only("receiver")).await?;
    world.create_connection(world.connection_spec()).await?;
    world.create_binding("shop", world.binding_spec()).await?;
    world.binding_ready("shop").await?;
    world.push("first").await?;
    world.sink.wait_for(1, SOON).await?;
    world.binding_says("shop", "Receiving", "True/Succeeded").await?;
    let log = receiver.log();
    assert!(!log.contains("leading"), "a receiver reconciles nothing: {log}");
    let evidence = reqwest::get(format!("{}/evidence", receiver.admin_url())).await?;
    assert_eq!(evidence.status(), 401, "evidence is for the controller only");
    Ok(())
}

#[tokio::test]
async fn df_02_dt_20_several_connections_of_one_provider_coexist_carry_labels_and_show_that_they_are_ready() -> Result<()> {
    let world = World::new("several").await?;
    let operator = Operator::start(world.options().await?).await?;
    for environment in ["staging", "production"] {
        world.create_connection_named(environment, world.connection_spec()).await?;
        let labels = json!({"metadata": {"labels": {"environment": environment}}});
        world.connections.patch(environment, &PatchParams::default(), &Patch::Merge(labels)).await?;
        let mut spec = world.binding_spec();
        spec["connectionRef"]["name"] = json!(environment);
        world.create_binding(environment, spec).await?;
    }
    for environment in ["staging", "production"] {
        world.binding_ready(environment).await?;
    }
    let selected = ["get", "gpc", "-n", &world.namespace, "-l", "environment=production", "-o", "jsonpath={.items[*].metadata.name}"];
    assert_eq!(world.cluster().kubectl(&selected).await?.trim(), "production");
    let table = world.cluster().kubectl(&["get", "gpc", "-n", &world.namespace]).await?;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().take(4).collect()).collect();
    let (headings, shown) = rows.split_first().expect("a table has headings");
    assert_eq!(*headings, ["NAME", "READY", "REASON", "PROVIDER"]);
    assert_eq!(shown, [["production", "True", "Succeeded", "Gitea"], ["staging", "True", "Succeeded", "Gitea"]]);
    assert_eq!(world.hooks_at(&operator.url()).await?.len(), 2, "each binding has a hook of its own");
    Ok(())
}

#[tokio::test]
async fn df_21_one_repository_is_bound_for_staging_and_production_and_each_gets_its_branch() -> Result<()> {
    let world = World::new("environments").await?;
    let _operator = Operator::start(world.options().await?).await?;
    world.create_connection(world.connection_spec()).await?;
    world.gitea.push_commit(&world.account, &world.repository, "develop", "the branch of staging").await?;
    for (environment, branch) in [("staging", "develop"), ("production", "main")] {
        let mut spec = world.binding_spec();
        spec["branch"] = json!(branch);
        spec["sinks"][0]["service"]["path"] = json!(format!("/{environment}"));
        world.create_binding(environment, spec).await?;
        world.patch_binding(environment, json!({"metadata": {"labels": {"app": "shop", "environment": environment}}})).await?;
    }
    for environment in ["staging", "production"] {
        world.binding_ready(environment).await?;
    }
    let selected =
        ["get", "repob", "-n", &world.namespace, "-l", "app=shop,environment=production", "-o", "jsonpath={.items[*].spec.branch}"];
    assert_eq!(world.cluster().kubectl(&selected).await?.trim(), "main");

    let released = world.push("a release").await?;
    world.sink.wait_for(1, SOON).await?;
    // The other hook was told of the release as well, before it is told of this.
    let developed = world.gitea.push_commit(&world.account, &world.repository, "develop", "a change").await?;
    let arrived = world.sink.wait_for(2, SOON).await?;
    // Each binding heard of both pushes, and handed on its own.
    for environment in ["staging", "production"] {
        world.binding_says(environment, "Receiving", "True/Succeeded").await?;
    }
    let told: Vec<_> =
        arrived.iter().map(|event| (event.path.as_str(), event.header("ce-subject"), event.json()["after"].clone())).collect();
    let expected = [("/production", "refs/heads/main", json!(released)), ("/staging", "refs/heads/develop", json!(developed))];
    assert_eq!(told, expected);
    assert_eq!(world.sink.deliveries().len(), expected.len(), "a push to one branch triggers nothing for the other");
    Ok(())
}

#[tokio::test]
async fn dv_02_dv_22_a_push_arrives_as_a_cloud_event_and_nothing_is_left_in_the_end() -> Result<()> {
    let world = World::new("chain").await?;
    let operator = Operator::start(world.options().await?).await?;
    world.create_connection(world.connection_spec()).await?;
    world.create_binding("shop", world.binding_spec()).await?;
    let connection = world.connection_ready().await?;
    let status = connection.status.unwrap_or_default();
    assert_eq!(status.identity.and_then(|identity| identity.name).as_deref(), Some(world.account.name.as_str()));
    assert_eq!(status.server.map(|server| server.flavor).as_deref(), Some("Gitea"));
    let binding = world.binding_ready("shop").await?;
    assert_eq!(binding_condition(&binding, "Receiving"), "Unknown/AwaitingFirstDelivery");
    let hooks = world.hooks_at(&operator.url()).await?;
    assert_eq!(hooks.len(), 1, "{hooks:?}");

    let commit = world.push("first").await?;
    let delivered = world.sink.wait_for(1, SOON).await?;
    let event = &delivered[0];
    assert_eq!(event.header("ce-type"), "dev.forgebind.push");
    assert_eq!(event.header("ce-subject"), "refs/heads/main");
    assert_eq!(event.header("ce-specversion"), "1.0");
    assert_eq!(event.json()["after"], json!(commit));
    assert_eq!(event.path, "/events");
    let binding = world.binding_says("shop", "Receiving", "True/Succeeded").await?;
    assert!(binding.status.and_then(|status| status.webhook?.last_delivery).is_some());

    world.annotate_binding("shop", ROTATE_REQUESTED_AT, "once").await?;
    let rotated = wait_until("the old hook to be gone", OVERLAPPED, async || {
        let present = world.hooks_at(&operator.url()).await?;
        let replaced = present.len() == 1 && present[0].id != hooks[0].id;
        Ok(if replaced { Seen::Done(present) } else { Seen::NotYet(format!("{present:?}")) })
    })
    .await?;
    assert_ne!(rotated[0].config.url, hooks[0].config.url, "the URL tells the generation of the secret");
    world.push("second").await?;
    world.sink.wait_for(2, SOON).await?;

    world.delete_binding("shop").await?;
    world.binding_gone("shop", SOON).await?;
    assert!(world.hooks_at(&operator.url()).await?.is_empty());
    Ok(())
}
