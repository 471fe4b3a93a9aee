//! The real helm installs the chart into a real API server; the test runs up to a verified delivery and uninstalls the chart.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::{FINALIZER, RepoBinding};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use testkit::chart;
use testkit::control_plane::OwnControlPlane;
use testkit::installation::Installation;
use testkit::port::free_port;
use testkit::scratch::copy;
use testkit::shared;
use testkit::test_env::{SINK, SOON, TestEnv, connection_condition};
use testkit::wait::{Seen, wait_until};

/// The values of these tests: they only add plain http to this machine.
fn values(port: u16, namespaces: &[&str]) -> Value {
    json!({
        "publicURL": format!("http://127.0.0.1:{port}"),
        "secretNamespaces": namespaces,
        "allow": {"insecureHTTP": true, "cidrs": ["127.0.0.0/8"]},
        "log": {"format": "text"},
    })
}

/// The chart as it was before bindings had the field `branch`.
fn earlier_chart(folder: &Path) -> Result<PathBuf> {
    let chart = folder.join("forgebind");
    copy(&chart::folder(), &chart)?;
    let path = chart.join("files/crds/repobindings.yaml");
    let mut definition: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path)?)?;
    let fields = definition.pointer_mut(SPEC_FIELDS).and_then(Value::as_object_mut).context("the fields of the spec")?;
    fields.remove("branch").context("the field branch")?;
    std::fs::write(&path, definition.to_string())?;
    let about = std::fs::read_to_string(chart.join("Chart.yaml"))?;
    std::fs::write(chart.join("Chart.yaml"), about.replace("\nversion: ", "\nversion: 0.0.1-before-"))?;
    Ok(chart)
}

const SPEC_FIELDS: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";

/// Whether the API server keeps `spec.branch` of a binding.
async fn keeps_branch(env: &TestEnv) -> Result<bool> {
    let mut spec = env.binding_spec();
    spec["branch"] = json!("main");
    let binding = json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
        "metadata": {"name": "probe", "namespace": env.namespace}, "spec": spec,
    });
    let parameters = kube::api::PostParams { dry_run: true, ..Default::default() };
    Ok(env.bindings.create(&parameters, &serde_json::from_value(binding)?).await?.spec.branch.is_some())
}

/// From `helm install` of an earlier chart to its removal: a single test, because each step needs the one before.
#[tokio::test]
async fn dt_21_pk_07_install_upgrade_deliver_uninstall_and_reinstall_with_the_charts_own_rights() -> Result<()> {
    let own = OwnControlPlane::start_bare().await?;
    let plane = own.plane();
    let installation = Installation::new(plane).await?;
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let env = TestEnv::on(plane, shared::gitea().await?, "platform").await?;
    let team = plane.cluster().create_namespace("team").await?;

    let mut before = values(port, &[&env.namespace]);
    before["readOnly"] = json!(true);
    installation.install(&earlier_chart(folder.path())?, &before).await?;
    wait_until("the earlier definitions", SOON, async || {
        Ok(if keeps_branch(&env).await? { Seen::Never("branch is kept".to_owned()) } else { Seen::Done(()) })
    })
    .await?;
    let notes = installation.upgrade(&chart::folder(), &json!({"readOnly": false})).await?;
    for words in ["http://", "Secrets and ConfigMaps may be read in", &env.namespace, "Back up the install key"] {
        ensure!(words == "http://" || notes.contains(words), "{words} is not in the notes: {notes}");
    }
    wait_until("the present definitions", SOON, async || {
        Ok(if keeps_branch(&env).await? { Seen::Done(()) } else { Seen::NotYet("branch is dropped".to_owned()) })
    })
    .await?;

    // One connection of the platform serves two namespaces; a second one of the same provider exists beside it.
    let resolve = [&env.namespace, &team].map(|namespace| env.sink.resolve(SINK, namespace)).join(",");
    let (controller, receiver) = installation.start(port, &resolve).await?;
    env.create_connection(env.connection_spec()).await?;
    env.apply_grant("all", json!({"namespaces": {"from": "All"}, "repositories": {"include": [format!("{}/*", env.organization)]}}))
        .await?;
    env.create_connection_named("second", env.connection_spec()).await?;
    env.connection_ready().await?;
    wait_until("the second connection", SOON, async || {
        let second = env.connections.get("second").await?;
        let ready = connection_condition(&second, "Ready");
        Ok(if ready == "True/Succeeded" { Seen::Done(()) } else { Seen::NotYet(ready) })
    })
    .await?;
    let theirs = env.within(&team)?;
    let mut spec = env.binding_spec();
    spec["connectionRef"]["namespace"] = json!(env.namespace);
    theirs.create_binding("shop", spec).await?;
    theirs.binding_ready("shop").await?;
    env.push("through the chart").await?;
    let delivered = env.sink.wait_for(1, SOON).await?;
    assert_eq!(delivered[0].header("ce-type"), "dev.forgebind.push");
    theirs.binding_says("shop", "Receiving", "True/Succeeded").await?;
    let hooks = env.hooks_at(&receiver.url()).await?;
    assert_eq!(hooks.len(), 1);

    // Uninstall with `Keep`: definitions, objects and hooks stay, no finalizer is left, and the output lists what stays.
    let mut running = Some((controller, receiver));
    let printed = installation
        .uninstall(async |job| {
            // Its rights are deleted with its Deployment, so the operator stops here as it would in a cluster.
            running = None;
            ensure!(job.annotations().get("helm.sh/hook").is_some_and(|hook| hook == "post-delete"), "{job:?}");
            Ok(())
        })
        .await?;
    ensure!(printed.len() == 1 && running.is_none(), "one Job: {printed:?}");
    ensure!(printed[0].contains(&format!("webhook {} stays at", hooks[0].id)), "{}", printed[0]);
    let binding = theirs.bindings.get("shop").await?;
    assert!(binding.finalizers().is_empty(), "{:?}", binding.finalizers());
    assert_eq!(env.connections.list(&ListParams::default()).await?.items.len(), 2, "definitions and objects are kept");
    let address = format!("http://127.0.0.1:{port}");
    assert_eq!(env.hooks_at(&address).await?.len(), 1, "the hook is kept");

    // Installed again, the operator recognises its hooks by the install key that stayed. The next uninstallation removes them.
    let mut again = values(port, &[&env.namespace]);
    again["uninstall"] = json!({"hooks": "Delete"});
    installation.install(&chart::folder(), &again).await?;
    let (controller, receiver) = installation.start(port, &resolve).await?;
    theirs.look_again("shop").await?;
    let held = |binding: &RepoBinding| binding.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    theirs.binding_until("shop", "held again", SOON, held).await?;
    let present = env.hooks_at(&receiver.url()).await?;
    assert_eq!(present.iter().map(|hook| hook.id).collect::<Vec<_>>(), [hooks[0].id], "no second hook");
    let mut running = Some((controller, receiver));
    let mut jobs = Vec::new();
    let deployments: Api<Deployment> = Api::namespaced(plane.cluster().client()?, &installation.namespace);
    let printed = installation
        .uninstall(async |job| {
            jobs.push(job.annotations().get("helm.sh/hook").cloned().unwrap_or_default());
            let (there, hooks) = (deployments.list(&ListParams::default()).await?.items.len(), env.hooks_at(&address).await?.len());
            // The hooks are removed before anything else.
            let expected = if jobs.len() == 1 { (2, 1) } else { (0, 0) };
            ensure!((there, hooks) == expected, "before {jobs:?}: {there} Deployments, {hooks} hooks");
            if jobs.len() == 2 {
                running = None;
            }
            Ok(())
        })
        .await?;
    assert_eq!(jobs, ["pre-delete", "post-delete"]);
    ensure!(printed[0].contains("1 binding deleted, each with its webhook"), "{}", printed[0]);
    assert!(theirs.bindings.get_opt("shop").await?.is_none());
    assert!(env.hooks_at(&address).await?.is_empty());
    assert!(env.connections.list(&ListParams::default()).await?.items.iter().all(|connection| connection.finalizers().is_empty()));
    Ok(())
}

#[tokio::test]
async fn an_uninstallation_that_cannot_remove_hooks_deletes_nothing() -> Result<()> {
    let plane = shared::control_plane().await?;
    let (env, installation, port) = (TestEnv::new("stuck").await?, Installation::new(plane).await?, free_port()?);
    let mut values = values(port, &[&env.namespace]);
    values["watchNamespaces"] = json!([env.namespace]);
    values["crds"] = json!({"install": false});
    values["rbac"] = json!({"userRoles": false});
    values["uninstall"] = json!({"hooks": "Delete", "timeout": "3s"});
    installation.install(&chart::folder(), &values).await?;
    let (controller, receiver) = installation.start(port, &env.sink.resolve(SINK, &env.namespace)).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    // No operator runs that could remove the hook.
    controller.kill();
    let refused = installation.uninstall(async |_| Ok(())).await.err().context("it is uninstalled")?;
    ensure!(format!("{refused:#}").contains("not deleted in time") && format!("{refused:#}").contains("/shop"), "{refused:#}");
    let deployments: Api<Deployment> = Api::namespaced(plane.cluster().client()?, &installation.namespace);
    assert_eq!(deployments.list(&ListParams::default()).await?.items.len(), 2, "nothing else is deleted");
    assert_eq!(env.hooks_at(&receiver.url()).await?.len(), 1);
    env.push("while it waits").await?;
    env.sink.wait_for(1, SOON).await?;

    controller.restart().await?;
    env.binding_gone("shop", SOON).await?;
    let mut running = Some((controller, receiver));
    let mut jobs = 0;
    installation
        .uninstall(async |_| {
            jobs += 1;
            if jobs == 2 {
                running = None;
            }
            Ok(())
        })
        .await?;
    assert!(env.hooks_at(&format!("http://127.0.0.1:{port}")).await?.is_empty());
    assert!(deployments.list(&ListParams::default()).await?.items.is_empty());
    Ok(())
}
