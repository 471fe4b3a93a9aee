//! An installation by kustomize: applied, run, deleted and uninstalled, while the webhooks stay in place.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use testkit::cluster::Cluster;
use testkit::control_plane::OwnControlPlane;
use testkit::deploy;
use testkit::installation::Installation;
use testkit::operator::Operator;
use testkit::port::free_port;
use testkit::shared;
use testkit::test_env::{SINK, SOON, TestEnv};
use testkit::wait::{Seen, wait_until};

const NAMESPACE: &str = "forgebind-system";
/// The namespace that the overlay watches.
const WATCHED: &str = "team-shop";

async fn kustomization(cluster: &Cluster, verb: &[&str], folder: &std::path::Path) -> Result<String> {
    let arguments = [verb, &["-k", folder.to_str().context("UTF-8")?]].concat();
    cluster.kubectl(&arguments).await
}

/// A local overlay on a kustomization of this tree, which sets as variables what only this machine needs.
fn overlay(base: &str, folder: &std::path::Path, port: u16) -> Result<()> {
    // kustomize accepts paths that lead out of a folder, but no absolute ones.
    let up = "../".repeat(folder.components().count() - 1);
    let base = deploy::folder().join(base);
    let variable = |name: &str, value: &str| json!({"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": name, "value": value}});
    let patch = json!([
        variable("FORGEBIND_PUBLIC_URL", &format!("http://127.0.0.1:{port}")),
        variable("FORGEBIND_ALLOW_INSECURE_HTTP", "true"),
        variable("FORGEBIND_ALLOW_CIDRS", "127.0.0.0/8"),
    ]);
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [format!("{up}{}", base.strip_prefix("/")?.display())],
        "patches": [{"target": {"kind": "Deployment"}, "patch": patch.to_string()}],
    });
    Ok(std::fs::write(folder.join("kustomization.yaml"), kustomization.to_string())?)
}

#[tokio::test]
async fn deleting_a_kustomization_deletes_no_hook_and_its_uninstall_removes_the_finalizers() -> Result<()> {
    let own = OwnControlPlane::start_bare().await?;
    let plane = own.plane();
    let cluster = plane.cluster();
    let (folder, port) = (tempfile::tempdir()?, free_port()?);
    overlay("overlays/namespaced", folder.path(), port)?;
    kustomization(cluster, &["apply", "--server-side"], &deploy::folder().join("definitions")).await?;
    let definitions = ["gitproviderconnections.forgebind.dev", "repobindings.forgebind.dev"].map(|name| format!("crd/{name}"));
    cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &definitions[0], &definitions[1]]).await?;
    cluster.create_namespace_named(WATCHED).await?;
    kustomization(cluster, &["apply", "--server-side"], folder.path()).await?;
    let installation = Installation::named(plane, NAMESPACE, "forgebind")?;

    let env = TestEnv::on(plane, shared::gitea().await?, "elsewhere").await?.within(WATCHED)?;
    cluster.apply_secret(WATCHED, "credential", &[("token", &env.account.token)]).await?;
    let resolve = format!("--resolve={}", env.sink.resolve(SINK, WATCHED));
    let operator = Operator::start(installation.options("operator", port, &[resolve]).await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    env.push("by kustomize").await?;
    env.sink.wait_for(1, SOON).await?;
    let hooks = env.hooks_at(&operator.url()).await?;
    assert_eq!(hooks.len(), 1);

    // A pod may run for a while longer: the program still runs while everything around it is deleted.
    kustomization(cluster, &["delete", "--wait=false"], folder.path()).await?;
    env.push("the receiver still works").await?;
    env.sink.wait_for(2, SOON).await?;
    drop(operator);
    for object in [env.bindings.get("shop").await?.metadata, env.connections.get("git").await?.metadata] {
        ensure!(
            object.deletion_timestamp.is_none() && object.finalizers.is_some_and(|finalizers| finalizers.len() == 1),
            "{:?}",
            object.name
        );
    }
    let address = format!("http://127.0.0.1:{port}");
    assert_eq!(env.hooks_at(&address).await?.len(), 1);

    // The output lists what stays, and no finalizer is left.
    let release = deploy::folder().join("overlays/namespaced/uninstall");
    kustomization(cluster, &["apply", "--server-side"], &release).await?;
    let jobs: Api<Job> = Api::namespaced(cluster.client()?, NAMESPACE);
    let printed = installation.run_job(&jobs, &jobs.get("forgebind-uninstall").await?).await?;
    ensure!(printed.contains(&format!("webhook {} stays at", hooks[0].id)), "{printed}");
    let complete =
        cluster.kubectl(&["-n", NAMESPACE, "wait", "--for=condition=Complete", "--timeout=30s", "job/forgebind-uninstall"]).await?;
    ensure!(complete.contains("condition met"), "{complete}");
    kustomization(cluster, &["delete", "--wait=false"], &release).await?;
    ensure!(env.bindings.get("shop").await?.finalizers().is_empty(), "released");

    // Applied again, the operator recognises its hook by the install key that stayed.
    kustomization(cluster, &["apply", "--server-side"], folder.path()).await?;
    let resolve = format!("--resolve={}", env.sink.resolve(SINK, WATCHED));
    let operator = Operator::start(installation.options("operator", port, &[resolve]).await?).await?;
    env.look_again("shop").await?;
    env.binding_ready("shop").await?;
    assert_eq!(env.hooks_at(&address).await?.iter().map(|hook| hook.id).collect::<Vec<_>>(), [hooks[0].id], "no second hook");
    env.delete_binding("shop").await?;
    wait_until("the hook of the deleted binding to be removed", SOON, async || {
        let left = env.hooks_at(&address).await?;
        Ok(if left.is_empty() { Seen::Done(()) } else { Seen::NotYet(format!("{left:?}")) })
    })
    .await?;
    drop(operator);
    Ok(())
}
