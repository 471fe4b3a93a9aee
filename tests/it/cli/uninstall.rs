//! What `forgebind uninstall` leaves behind, what it never touches, and which keys and Secrets it uses.

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
use testkit::test_env::{SINK, SOON, TestEnv};

/// Runs `forgebind uninstall` for an operator's installation, as the cluster's administrator.
async fn uninstall(env: &TestEnv, operator: &Operator, more: &[&str]) -> Result<String> {
    let mut command = Command::new(executable()?);
    command.arg("uninstall").args(["--namespace", operator.options().namespace()]).args(more);
    command.args(["--watch-namespaces", &env.namespace]).env("KUBECONFIG", env.cluster().kubeconfig());
    output_of(command).await
}

async fn finalizers(env: &TestEnv, name: &str) -> Result<Vec<String>> {
    Ok(env.bindings.get(name).await?.finalizers().to_vec())
}

#[tokio::test]
async fn uninstall_removes_the_finalizers_of_its_own_objects_only_and_lists_the_hooks_that_stay() -> Result<()> {
    let env = TestEnv::new("uninstall").await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    let hooks = env.hooks_at(&operator.url()).await?;
    operator.kill();
    // An object of another installation, and one with a finalizer of somebody else.
    env.create_binding("theirs", env.binding_spec()).await?;
    env.patch_binding("theirs", json!({"metadata": {"finalizers": [FINALIZER]}})).await?;
    let foreign = json!({"status": {"installation": "0badf00d"}});
    env.bindings.patch_status("theirs", &PatchParams::default(), &Patch::Merge(foreign)).await?;
    env.patch_binding("shop", json!({"metadata": {"finalizers": ["acme.io/audit", FINALIZER]}})).await?;

    let printed = uninstall(&env, &operator, &[]).await?;
    ensure!(printed.contains(&format!("binding {}/shop: released; webhook {} stays at", env.namespace, hooks[0].id)), "{printed}");
    ensure!(!printed.contains("theirs") && printed.contains("2 objects released"), "{printed}");
    assert_eq!(finalizers(&env, "shop").await?, ["acme.io/audit"]);
    assert_eq!(finalizers(&env, "theirs").await?, [FINALIZER]);
    assert!(env.connections.get("git").await?.finalizers().is_empty());
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1);
    let again = uninstall(&env, &operator, &[]).await?;
    ensure!(again.contains("0 objects released"), "{again}");
    env.patch_binding("shop", json!({"metadata": {"finalizers": []}})).await.map(drop)
}

#[tokio::test]
async fn uninstall_changes_nothing_without_the_key_and_gives_up_when_no_operator_removes_hooks() -> Result<()> {
    let env = TestEnv::new("keyless").await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    operator.kill();
    let namespace = operator.options().namespace().to_owned();
    let refused = uninstall(&env, &operator, &["--install-key-secret", "other"]).await.unwrap_err();
    ensure!(format!("{refused:#}").contains(&format!("Secret {namespace}/other is missing")), "{refused:#}");
    assert_eq!(finalizers(&env, "shop").await?, [FINALIZER]);

    let late = uninstall(&env, &operator, &["--hooks", "delete", "--timeout", "3s"]).await.unwrap_err();
    ensure!(format!("{late:#}").contains("not deleted in time") && format!("{late:#}").contains("/shop"), "{late:#}");
    operator.restart().await?;
    let printed = uninstall(&env, &operator, &["--hooks", "delete", "--timeout", "60s"]).await?;
    ensure!(printed.contains("1 binding deleted, each with its webhook"), "{printed}");
    assert!(env.bindings.get_opt("shop").await?.is_none());
    assert!(env.hooks_at(&operator.url()).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn uninstall_lists_the_hooks_that_could_not_be_deleted() -> Result<()> {
    let env = TestEnv::new("given-up").await?;
    let operator = Operator::start(env.options().await?.with("cleanup-timeout", "1s")).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    let hook = env.hooks_at(&operator.url()).await?.remove(0).id;
    env.cluster().apply_secret(&env.namespace, "credential", &[("token", "rejected")]).await?;
    env.connection_says("Ready", "False/CredentialRejected").await?;
    // Only a restart loses the last working credential, which the operator would use otherwise.
    operator.kill();
    operator.restart().await?;
    let printed = uninstall(&env, &operator, &["--hooks", "delete", "--timeout", "60s"]).await?;
    let told = format!("binding {}/shop, deleted: webhook {hook} stays at {}, because ", env.namespace, env.repository);
    ensure!(printed.contains(&told) && printed.contains("1 binding deleted, but some webhooks remain"), "{printed}");
    assert_eq!(env.hooks_at(&operator.url()).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn uninstall_reads_secrets_only_where_the_chart_allows_and_uses_the_users_own_key() -> Result<()> {
    let plane = shared::control_plane().await?;
    let (env, installation, port) = (TestEnv::new("limited").await?, Installation::new(plane).await?, free_port()?);
    let values = json!({
        "mode": "Single", "publicURL": format!("http://127.0.0.1:{port}"), "installKey": {"existingSecret": "acme-key"},
        "watchNamespaces": [env.namespace],
        "allow": {"insecureHTTP": true, "cidrs": ["127.0.0.0/8"]}, "log": {"format": "text"},
        "crds": {"install": false}, "rbac": {"userRoles": false},
    });
    let notes = installation.install(&chart::folder(), &values).await?;
    ensure!(notes.contains(&format!("may be read in {}.", installation.namespace)), "{notes}");
    let resolve = [format!("--resolve={}", env.sink.resolve(SINK, &env.namespace))];
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
    assert!(secrets.get_opt("forgebind-install-key").await?.is_none(), "no second key is created");
    env.create_connection(env.connection_spec()).await?;
    env.connection_says("Authenticated", "False/SecretForbidden").await?;
    drop(operator);

    let namespaces = json!({"secretNamespaces": [env.namespace]});
    installation.upgrade(&chart::folder(), &namespaces).await?;
    let operator = Operator::start(installation.options("operator", port, &resolve).await?).await?;
    let connection = env.connection_ready().await?;
    let fingerprint = forgebind::protocol::keys::InstallKey::new(&[7; 32]).context("32 bytes")?.fingerprint();
    assert_eq!(connection.status.and_then(|status| status.installation), Some(fingerprint));
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    env.push("with a key of our own").await?;
    env.sink.wait_for(1, SOON).await?;
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    env.connections.delete("git", &DeleteParams::default()).await?;
    drop(operator);
    Ok(())
}
