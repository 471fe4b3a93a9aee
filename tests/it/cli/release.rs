//! What an installation leaves when it goes, what it never touches, and whose keys and Secrets it takes.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::FINALIZER;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use testkit::chart;
use testkit::components::output_of;
use testkit::installation::Installation;
use testkit::operator::{Operator, executable};
use testkit::port::free_port;
use testkit::shared;
use testkit::world::{SINK, SOON, World};

/// Runs `forgebind release` for an operator's installation, as the cluster's administrator.
async fn release(world: &World, operator: &Operator, more: &[&str]) -> Result<String> {
    let mut command = Command::new(executable()?);
    command.arg("release").args(["--namespace", operator.options().namespace()]).args(more);
    command.args(["--watch-namespaces", &world.namespace]).env("KUBECONFIG", world.cluster().kubeconfig());
    output_of(command).await
}

async fn finalizers(world: &World, name: &str) -> Result<Vec<String>> {
    Ok(world.bindings.get(name).await?.finalizers().to_vec())
}

#[tokio::test]
async fn release_lets_go_of_its_own_objects_alone_and_names_the_hooks_that_stay() -> Result<()> {
    let world = World::new("release").await?;
    let operator = world.operator().await?;
    world.create_connection(world.connection_spec()).await?;
    world.create_binding("shop", world.binding_spec()).await?;
    world.binding_ready("shop").await?;
    let hooks = world.hooks_at(&operator.url()).await?;
    operator.kill();
    // Of another installation, and one that also somebody else holds.
    world.create_binding("theirs", world.binding_spec()).await?;
    world.patch_binding("theirs", json!({"metadata": {"finalizers": [FINALIZER]}})).await?;
    let foreign = json!({"status": {"installation": "0badf00d"}});
    world.bindings.patch_status("theirs", &PatchParams::default(), &Patch::Merge(foreign)).await?;
    world.patch_binding("shop", json!({"metadata": {"finalizers": ["acme.io/audit", FINALIZER]}})).await?;

    let printed = release(&world, &operator, &[]).await?;
    ensure!(printed.contains(&format!("binding {}/shop: released; webhook {} stays at", world.namespace, hooks[0].id)), "{printed}");
    ensure!(!printed.contains("theirs") && printed.contains("2 objects released"), "{printed}");
    assert_eq!(finalizers(&world, "shop").await?, ["acme.io/audit"]);
    assert_eq!(finalizers(&world, "theirs").await?, [FINALIZER]);
    assert!(world.connections.get("git").await?.finalizers().is_empty());
    assert_eq!(world.hooks_at(&operator.url()).await?.len(), 1);
    let again = release(&world, &operator, &[]).await?;
    ensure!(again.contains("0 objects released"), "{again}");
    world.patch_binding("shop", json!({"metadata": {"finalizers": []}})).await.map(drop)
}

#[tokio::test]
async fn release_touches_nothing_without_the_key_and_gives_up_where_nobody_removes_hooks() -> Result<()> {
    let world = World::new("keyless").await?;
    let operator = world.operator().await?;
    world.create_connection(world.connection_spec()).await?;
    world.create_binding("shop", world.binding_spec()).await?;
    world.binding_ready("shop").await?;
    operator.kill();
    let namespace = operator.options().namespace().to_owned();
    let refused = release(&world, &operator, &["--install-key-secret", "other"]).await.unwrap_err();
    ensure!(format!("{refused:#}").contains(&format!("Secret {namespace}/other is missing")), "{refused:#}");
    assert_eq!(finalizers(&world, "shop").await?, [FINALIZER]);

    let late = release(&world, &operator, &["--hooks", "delete", "--timeout", "3s"]).await.unwrap_err();
    ensure!(format!("{late:#}").contains("not deleted in time") && format!("{late:#}").contains("/shop"), "{late:#}");
    operator.restart().await?;
    let printed = release(&world, &operator, &["--hooks", "delete", "--timeout", "60s"]).await?;
    ensure!(printed.contains("1 binding deleted, each with its webhook"), "{printed}");
    assert!(world.bindings.get_opt("shop").await?.is_none());
    assert!(world.hooks_at(&operator.url()).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn release_names_the_hooks_that_could_not_be_deleted() -> Result<()> {
    let world = World::new("given-up").await?;
    let operator = Operator::start(world.options().await?.with("cleanup-timeout", "1s")).await?;
    world.create_connection(world.connection_spec()).await?;
    world.create_binding("shop", world.binding_spec()).await?;
    world.binding_ready("shop").await?;
    let hook = world.hooks_at(&operator.url()).await?.remove(0).id;
    world.cluster().apply_secret(&world.namespace, "credential", &[("token", "rejected")]).await?;
    world.connection_says("Ready", "False/CredentialRejected").await?;
    // Without a start the last working credential would be used.
    operator.kill();
    operator.restart().await?;
    let printed = release(&world, &operator, &["--hooks", "delete", "--timeout", "60s"]).await?;
    let told = format!("binding {}/shop, deleted: webhook {hook} stays at {}, because ", world.namespace, world.repository);
    ensure!(printed.contains(&told) && printed.contains("1 binding deleted, but not every webhook with them"), "{printed}");
    assert_eq!(world.hooks_at(&operator.url()).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn secrets_are_read_only_where_the_chart_says_and_a_key_that_was_brought_is_used() -> Result<()> {
    let plane = shared::control_plane().await?;
    let (world, installation, port) = (World::new("limited").await?, Installation::new(plane).await?, free_port()?);
    let values = json!({
        "mode": "Single", "publicURL": format!("http://127.0.0.1:{port}"), "installKey": {"existingSecret": "acme-key"},
        "watchNamespaces": [world.namespace],
        "allow": {"insecureHTTP": true, "cidrs": ["127.0.0.0/8"]}, "log": {"format": "text"},
        "crds": {"install": false}, "rbac": {"userRoles": false},
    });
    let notes = installation.install(&chart::folder(), &values).await?;
    ensure!(notes.contains(&format!("may be read in {}.", installation.namespace)), "{notes}");
    let resolve = [format!("--resolve={}", world.sink.resolve(SINK, &world.namespace))];
    let refused = Operator::start(installation.options("operator", port, &resolve).await?).await.expect_err("no key");
    ensure!(format!("{refused:#}").contains("acme-key, which --install-key-secret names, is missing"), "{refused:#}");

    let secrets: Api<Secret> = Api::namespaced(plane.cluster().client()?, &installation.namespace);
    let key = Secret {
        metadata: ObjectMeta { name: Some("acme-key".to_owned()), ..ObjectMeta::default() },
        data: Some([("key".to_owned(), ByteString(vec![7; 32]))].into()),
        ..Secret::default()
    };
    secrets.create(&PostParams::default(), &key).await?;
    let operator = Operator::start(installation.options("operator", port, &resolve).await?).await?;
    assert!(secrets.get_opt("forgebind-install-key").await?.is_none(), "none is made beside it");
    world.create_connection(world.connection_spec()).await?;
    world.connection_says("Authenticated", "False/SecretForbidden").await?;
    drop(operator);

    let namespaces = json!({"secretNamespaces": [world.namespace]});
    installation.upgrade(&chart::folder(), &namespaces).await?;
    let operator = Operator::start(installation.options("operator", port, &resolve).await?).await?;
    let connection = world.connection_ready().await?;
    let fingerprint = forgebind::keys::InstallKey::new(&[7; 32]).context("32 bytes")?.fingerprint();
    assert_eq!(connection.status.and_then(|status| status.installation), Some(fingerprint));
    world.create_binding("shop", world.binding_spec()).await?;
    world.binding_ready("shop").await?;
    world.push("with a key of our own").await?;
    world.sink.wait_for(1, SOON).await?;
    world.delete_binding("shop").await?;
    world.binding_gone("shop", SOON).await?;
    world.connections.delete("git", &DeleteParams::default()).await?;
    drop(operator);
    Ok(())
}
