//! The content of `deploy/`: rendered from the chart where possible, built by the real kustomize, and admitted by a real API
//! server.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use forgebind::cli::{Cli, Command};
use forgebind::config::{Config, HooksOnUninstall, UninstallConfig};
use serde_json::{Value, json};

use testkit::chart::{self, objects, render};
use testkit::deploy::{INSTALLATIONS, folder, without_helm};
use testkit::generated::compare;
use testkit::shared;

const NAMESPACE: &str = "forgebind-system";
/// Folders that are rendered from the chart with the values beside them. Each has a folder `uninstall` with the Job that removes
/// the finalizers of its objects.
const RENDERED: [&str; 2] = ["base", "overlays/namespaced"];

#[tokio::test]
async fn checked_in_manifests_match_the_chart() -> Result<()> {
    for name in RENDERED {
        let folder = folder().join(name);
        let mut values: Value = serde_saphyr::from_str(&std::fs::read_to_string(folder.join("values.yaml"))?)?;
        values["crds"] = json!({"install": false});
        let rendered = render(&chart::folder(), "forgebind", NAMESPACE, &values, &[]).await?;
        compare(&folder.join("forgebind.yaml"), &without_helm(&rendered, false))?;
        compare(&folder.join("uninstall/forgebind.yaml"), &without_helm(&rendered, true))?;
    }
    let definitions = render(&chart::folder(), "forgebind", NAMESPACE, &json!({}), &["templates/crds.yaml"]).await?;
    compare(&folder().join("definitions/crds.yaml"), &without_helm(&definitions, false))
}

async fn built(name: &str) -> Result<(String, Vec<Value>)> {
    let folder = folder().join(name);
    let cluster = shared::control_plane().await?.cluster();
    let stream = cluster.kubectl(&["kustomize", folder.to_str().context("UTF-8")?]).await?;
    let objects = objects(&stream)?;
    Ok((stream, objects))
}

fn kinds(objects: &[Value]) -> BTreeSet<&str> {
    objects.iter().filter_map(|object| object["kind"].as_str()).collect()
}

#[tokio::test]
async fn kustomize_builds_installations_that_the_api_server_admits() -> Result<()> {
    let cluster = shared::control_plane().await?.cluster();
    for namespace in [NAMESPACE, "team-shop"] {
        cluster.create_namespace_named(namespace).await?;
    }
    for name in INSTALLATIONS {
        let (stream, objects) = built(name).await?;
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        std::fs::write(file.path(), &stream)?;
        let path = file.path().to_str().context("UTF-8")?;
        let arguments = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", path];
        cluster.kubectl(&arguments).await.context(name)?;
        let kinds = kinds(&objects);
        // Deleting an installation must not delete every object with the definitions, nor the install key with its namespace.
        let kept = ["CustomResourceDefinition", "Namespace", "Job"].iter().any(|kind| kinds.contains(kind));
        ensure!(kinds.contains("Deployment") && !kept, "{name}: {kinds:?}");
        for deployment in objects.iter().filter(|object| object["kind"] == "Deployment") {
            let arguments: Vec<String> = serde_json::from_value(deployment["spec"]["template"]["spec"]["containers"][0]["args"].clone())?;
            let command = Cli::try_parse_from(std::iter::once("forgebind".to_owned()).chain(arguments))?.command;
            let (Command::Controller(flags) | Command::Receiver(flags) | Command::Run(flags)) = command else {
                anyhow::bail!("{name}: no server")
            };
            assert_eq!(Config::try_from(flags)?.namespace, NAMESPACE);
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_definitions_and_the_namespace_of_the_install_key_are_never_pruned() -> Result<()> {
    let (_, objects) = built("definitions").await?;
    assert_eq!(kinds(&objects), BTreeSet::from(["CustomResourceDefinition", "Namespace"]));
    for object in objects {
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(annotations["kustomize.toolkit.fluxcd.io/prune"], "disabled", "{object}");
        assert_eq!(annotations["argocd.argoproj.io/sync-options"], "Prune=false,Delete=false", "{object}");
    }
    Ok(())
}

#[tokio::test]
async fn an_uninstall_keeps_hooks_and_needs_no_helm() -> Result<()> {
    for name in RENDERED {
        let (stream, objects) = built(&format!("{name}/uninstall")).await?;
        ensure!(!stream.contains("helm.sh"), "{name}: {stream}");
        let jobs: Vec<_> = objects.iter().filter(|object| object["kind"] == "Job").collect();
        let [job] = jobs.as_slice() else { anyhow::bail!("{name}: {} Jobs", jobs.len()) };
        let arguments: Vec<String> = serde_json::from_value(job["spec"]["template"]["spec"]["containers"][0]["args"].clone())?;
        let Command::Uninstall(flags) = Cli::try_parse_from(std::iter::once("forgebind".to_owned()).chain(arguments))?.command else {
            anyhow::bail!("{name}: no uninstall")
        };
        assert_eq!(UninstallConfig::try_from(flags)?.hooks, HooksOnUninstall::Keep);
    }
    Ok(())
}

#[tokio::test]
async fn the_namespaced_overlay_grants_no_cluster_wide_rights() -> Result<()> {
    for name in ["overlays/namespaced", "overlays/namespaced/uninstall"] {
        let (_, objects) = built(name).await?;
        let kinds = kinds(&objects);
        ensure!(!kinds.contains("ClusterRole") && !kinds.contains("ClusterRoleBinding") && kinds.contains("Role"), "{name}: {kinds:?}");
    }
    Ok(())
}

#[tokio::test]
async fn two_receivers_know_their_address_and_are_not_drained_together() -> Result<()> {
    let (_, objects) = built("overlays/two-receivers").await?;
    let receiver = objects.iter().find(|object| object["kind"] == "Deployment" && object["metadata"]["name"] == "forgebind-receiver");
    let spec = &receiver.context("a receiver")?["spec"];
    assert_eq!(spec["replicas"], 2);
    let environment = spec["template"]["spec"]["containers"][0]["env"].as_array().context("variables")?;
    assert!(environment.iter().any(|variable| variable["name"] == "FORGEBIND_PUBLIC_URL"), "{environment:?}");
    let budget = objects.iter().find(|object| object["kind"] == "PodDisruptionBudget").context("a budget")?;
    let selector = budget["spec"]["selector"]["matchLabels"].as_object().context("labels")?;
    let labels = &spec["template"]["metadata"]["labels"];
    assert!(selector.iter().all(|(name, value)| labels[name] == *value), "{selector:?} {labels}");
    Ok(())
}

#[tokio::test]
async fn examples_for_flux_and_argo_cd_install_this_chart_with_valid_values() -> Result<()> {
    for (name, kind, values) in
        [("gitops/flux", "HelmRelease", "/spec/values"), ("gitops/argocd", "Application", "/spec/source/helm/valuesObject")]
    {
        let (_, objects) = built(name).await?;
        let object = objects.iter().find(|object| object["kind"] == kind).with_context(|| format!("{name} has no {kind}"))?;
        let values = object.pointer(values).context("values")?;
        render(&chart::folder(), "forgebind", NAMESPACE, values, &[]).await.context(name)?;
    }
    Ok(())
}
