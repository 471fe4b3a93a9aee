//! The Helm chart, rendered and installed by the real helm, and the rights that it grants.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::cluster::{Cluster, accept_existing};
use super::components::{component, output_of, repository_root};

/// The chart of this tree.
pub fn folder() -> PathBuf {
    repository_root().join("charts/forgebind")
}

/// Runs helm and returns its output.
///
/// # Errors
///
/// When helm is missing or fails; the error contains its output.
pub async fn helm(kubeconfig: Option<&Path>, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(component("HELM")?);
    // Without a cluster, helm must not find one by its default settings.
    command.env("KUBECONFIG", kubeconfig.unwrap_or(Path::new("/dev/null"))).args(arguments);
    output_of(command).await
}

/// Renders a chart with values; `only` lists the templates to show, all when it is empty.
pub async fn render(chart: &Path, release: &str, namespace: &str, values: &Value, only: &[&str]) -> Result<String> {
    let file = values_file(values)?;
    let (chart, file) = (chart.to_str().context("the path is not UTF-8")?, file.path().to_str().context("the path is not UTF-8")?);
    let mut arguments = vec!["template", release, chart, "--namespace", namespace, "--values", file];
    arguments.extend(only.iter().flat_map(|template| ["--show-only", template]));
    helm(None, &arguments).await
}

/// The values as a file that is deleted when it is dropped.
pub fn values_file(values: &Value) -> Result<tempfile::NamedTempFile> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    // JSON is YAML.
    std::fs::write(file.path(), serde_json::to_vec(values)?)?;
    Ok(file)
}

/// The objects of a YAML stream.
///
/// # Errors
///
/// When a document is not valid YAML.
pub fn objects(stream: &str) -> Result<Vec<Value>> {
    let mut documents = vec![String::new()];
    for line in stream.lines() {
        if line == "---" {
            documents.push(String::new());
        } else if let Some(document) = documents.last_mut() {
            document.extend([line, "\n"]);
        }
    }
    let read = documents.iter().map(|document| serde_saphyr::from_str::<Value>(document).with_context(|| document.clone()));
    read.filter(|object| !matches!(object, Ok(Value::Null))).collect()
}

/// Creates an object unless it exists.
pub async fn create(cluster: &Cluster, object: &Value) -> Result<()> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("/kind")));
    let api: Api<DynamicObject> = match text("/metadata/namespace") {
        "" => Api::all_with(cluster.client()?, &kind),
        namespace => Api::namespaced_with(cluster.client()?, namespace, &kind),
    };
    let parsed: DynamicObject = serde_json::from_value(object.clone())?;
    accept_existing(api.create(&PostParams::default(), &parsed).await).with_context(|| object.to_string())
}

/// Placeholders in the rendered rights. They differ from every other text of the chart.
const OWN: &str = "own-namespace";
const WATCHED: &str = "watched-namespace";
const NAME: &str = "full-name";

/// The rights of `mode: Single`, rendered once.
async fn rights() -> Result<&'static Vec<Value>> {
    static RIGHTS: OnceCell<Vec<Value>> = OnceCell::const_new();
    let rendered = RIGHTS.get_or_try_init(async || {
        let values = json!({
            "mode": "Single", "fullnameOverride": NAME, "secretNamespaces": [WATCHED],
            "controller": {"serviceAccount": {"create": false, "name": super::operator::SERVICE_ACCOUNT}},
        });
        objects(&render(&folder(), NAME, OWN, &values, &["templates/rbac.yaml"]).await?)
    });
    rendered.await
}

/// Grants the operator of a namespace exactly what the chart grants it for these watched namespaces.
///
/// # Errors
///
/// When the chart cannot be rendered or the API server refuses.
pub async fn grant(cluster: &Cluster, own: &str, watched: &[&str]) -> Result<()> {
    for object in rights().await? {
        let text = object.to_string().replace(OWN, own).replace(NAME, own);
        if text.contains(WATCHED) {
            for namespace in watched {
                create(cluster, &serde_json::from_str(&text.replace(WATCHED, namespace))?).await?;
            }
        } else {
            create(cluster, &serde_json::from_str(&text)?).await?;
        }
    }
    Ok(())
}

/// One of the two files of a snapshot.
pub fn snapshot_path(name: &str, ending: &str) -> PathBuf {
    repository_root().join("tests/snapshots/chart").join(format!("{name}.{ending}"))
}

/// The release name of the renderings.
pub const RELEASE: &str = "forgebind";

/// The namespace of the renderings.
pub const NAMESPACE: &str = "forgebind-system";

/// The values of one snapshot.
pub fn snapshot_values(name: &str) -> Result<Value> {
    Ok(serde_saphyr::from_str(&std::fs::read_to_string(snapshot_path(name, "values.yaml"))?)?)
}

/// The chart rendered with values.
pub async fn rendered(values: &Value) -> Result<String> {
    render(&folder(), RELEASE, NAMESPACE, values, &[]).await
}
