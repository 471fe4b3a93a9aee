//! Upgrades and rollbacks of the chart: objects, webhooks and values survive, and a repeated upgrade changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::RepoBinding;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use testkit::chart;
use testkit::components::{component, output_of};
use testkit::control_plane::OwnControlPlane;
use testkit::installation::Installation;
use testkit::operator::Operator;
use testkit::port::free_port;
use testkit::scratch::copy;
use testkit::shared;
use testkit::test_env::{SINK, SOON, TestEnv};
use testkit::wait::{Seen, wait_until};

const SPEC_FIELDS: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";

/// The chart as it was before bindings had the field `branch` and pods could have extra variables.
fn earlier_chart(folder: &Path) -> Result<PathBuf> {
    let chart = folder.join("forgebind");
    copy(&chart::folder(), &chart)?;
    let rewrite = |name: &str, change: &dyn Fn(&mut Value) -> Result<()>| -> Result<()> {
        let path = chart.join(name);
        let mut value: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path)?)?;
        change(&mut value)?;
        Ok(std::fs::write(&path, value.to_string())?)
    };
    let remove = |value: &mut Value, pointer: &str, name: &str| -> Result<()> {
        let members = value.pointer_mut(pointer).and_then(Value::as_object_mut).with_context(|| pointer.to_owned())?;
        members.remove(name).map(drop).with_context(|| format!("{pointer}/{name}"))
    };
    rewrite("files/crds/repobindings.yaml", &|definition| remove(definition, SPEC_FIELDS, "branch"))?;
    for component in ["controller", "receiver"] {
        rewrite("values.yaml", &|values| remove(values, &format!("/{component}"), "extraEnv"))?;
        rewrite("values.schema.json", &|schema| remove(schema, &format!("/properties/{component}/properties"), "extraEnv"))?;
    }
    rewrite("Chart.yaml", &|about| {
        about["version"] = json!("0.0.1");
        Ok(())
    })?;
    Ok(chart)
}

/// The resourceVersions of all objects of the release in the cluster.
async fn versions(installation: &Installation) -> Result<BTreeMap<String, String>> {
    let manifest = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(manifest.path(), installation.helm(&["get", "manifest", &installation.release]).await?)?;
    let path = manifest.path().to_str().context("UTF-8")?;
    let listed = installation.plane.cluster().kubectl(&["get", "--output=json", "-f", path]).await?;
    let listed: Value = serde_json::from_str(&listed)?;
    let objects = listed["items"].as_array().context("items")?.iter();
    let about =
        |object: &Value| (format!("{} {}", object["kind"], object["metadata"]["name"]), object["metadata"]["resourceVersion"].to_string());
    Ok(objects.map(about).collect())
}

/// The parts of a binding that must not change: its identity, its spec, and what the status says of its hook.
fn substance(binding: &RepoBinding) -> Value {
    let webhook = binding.status.as_ref().and_then(|status| status.webhook.as_ref());
    let hooks: Vec<_> = webhook.iter().flat_map(|webhook| &webhook.hooks).map(|hook| &hook.id).collect();
    json!({"uid": binding.uid(), "generation": binding.metadata.generation, "finalizers": binding.finalizers(), "spec": binding.spec, "hooks": hooks})
}

async fn admits_branch(env: &TestEnv, wanted: bool) -> Result<()> {
    wait_until(&format!("the field branch to be known: {wanted}"), SOON, async || {
        let definition = env.cluster().kubectl(&["get", "crd", "repobindings.forgebind.dev", "--output=json"]).await?;
        let definition: Value = serde_json::from_str(&definition)?;
        let known = definition.pointer(SPEC_FIELDS).is_some_and(|fields| fields["branch"].is_object());
        Ok(if known == wanted { Seen::Done(()) } else { Seen::NotYet(format!("{known}")) })
    })
    .await
}

#[tokio::test]
async fn an_upgrade_keeps_objects_and_hooks_changes_nothing_when_repeated_and_can_be_rolled_back() -> Result<()> {
    let own = OwnControlPlane::start_bare().await?;
    let plane = own.plane();
    let installation = Installation::new(plane).await?;
    let folder = tempfile::tempdir()?;
    let earlier = earlier_chart(folder.path())?;
    let port = free_port()?;
    let env = TestEnv::on(plane, shared::gitea().await?, "platform").await?;
    let resolve = [format!("--resolve={}", env.sink.resolve(SINK, &env.namespace))];
    let values = json!({
        "mode": "Single",
        "publicURL": format!("http://127.0.0.1:{port}"),
        "secretNamespaces": [env.namespace],
        "allow": {"insecureHTTP": true, "cidrs": ["127.0.0.0/8"]},
        "log": {"format": "text", "filter": "forgebind=debug"},
    });
    installation.install(&earlier, &values).await?;
    admits_branch(&env, false).await?;
    let operator = Operator::start(installation.options("operator", port, &resolve).await?).await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let before = substance(&env.binding_ready("shop").await?);
    let hooks = env.hooks_at(&operator.url()).await?;

    // Upgrade: the operator is replaced as in a rollout, the earlier values stay, and the new field exists.
    installation.upgrade(&chart::folder(), &json!({})).await?;
    admits_branch(&env, true).await?;
    let given: Value = serde_json::from_str(&installation.helm(&["get", "values", &installation.release, "--output=json"]).await?)?;
    assert_eq!(given, values, "the earlier values");
    drop(operator);
    let operator = Operator::start(installation.options("operator", port, &resolve).await?).await?;
    env.look_again("shop").await?;
    let after = env.binding_ready("shop").await?;
    assert_eq!(substance(&after), before);
    env.patch_binding("shop", json!({"spec": {"branch": "main"}})).await?;
    let kept = |binding: &RepoBinding| binding.spec.branch.as_deref() == Some("main");
    env.binding_until("shop", "with a branch", SOON, kept).await?;
    env.push("after the upgrade").await?;
    env.sink.wait_for(1, SOON).await?;

    // A second upgrade changes nothing.
    let first = versions(&installation).await?;
    ensure!(first.len() > 8 && first.keys().any(|name| name.contains("CustomResourceDefinition")), "{first:?}");
    let manifest = installation.helm(&["get", "manifest", &installation.release]).await?;
    let chart = chart::folder();
    let arguments = ["upgrade", "--install", &installation.release, chart.to_str().context("UTF-8")?, "--reset-then-reuse-values"];
    installation.helm(&arguments).await?;
    assert_eq!(installation.helm(&["get", "manifest", &installation.release]).await?, manifest);
    assert_eq!(versions(&installation).await?, first, "the second upgrade writes nothing");

    // Rollback: the field is unknown again; the binding, its hook and its deliveries remain.
    installation.helm(&["rollback", &installation.release, "1"]).await?;
    admits_branch(&env, false).await?;
    drop(operator);
    let operator = Operator::start(installation.options("operator", port, &resolve).await?).await?;
    env.look_again("shop").await?;
    let back = env.binding_ready("shop").await?;
    assert_eq!(substance(&back)["uid"], before["uid"]);
    assert_eq!(substance(&back)["hooks"], before["hooks"]);
    assert_eq!(env.hooks_at(&operator.url()).await?.iter().map(|hook| hook.id).collect::<Vec<_>>(), [hooks[0].id]);
    env.push("after the way back").await?;
    env.sink.wait_for(2, SOON).await?;
    drop(operator);
    Ok(())
}

#[tokio::test]
async fn a_chart_can_be_rendered_without_a_cluster_and_without_helm_hooks() -> Result<()> {
    // A user who applies a rendering without helm must not apply the Jobs of an uninstallation.
    let mut command = std::process::Command::new(component("HELM")?);
    let folder = chart::folder();
    command.env_clear().env("HOME", "/nonexistent").env("KUBECONFIG", "/dev/null");
    command.args(["template", "forgebind", folder.to_str().context("UTF-8")?, "--no-hooks", "--set", "uninstall.hooks=Delete"]);
    let kinds: Vec<Value> = chart::objects(&output_of(command).await?)?.into_iter().map(|object| object["kind"].clone()).collect();
    ensure!(kinds.contains(&json!("Deployment")) && !kinds.contains(&json!("Job")), "{kinds:?}");
    Ok(())
}
