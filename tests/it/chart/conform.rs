//! Manifests against schemas: the real kubeconform checks everything that the chart and `deploy/` generate against strict forms
//! of the schemas that the real API server publishes, and that API server accepts the objects.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use testkit::chart::snapshot_values;
use testkit::chart::{self, objects};
use testkit::cluster::Cluster;
use testkit::components::component;
use testkit::shared;
use testkit::test_env::SOON;
use testkit::wait::{Seen, wait_until};

/// Groups of the examples for Flux and Argo CD, whose definitions are not among the tools: their kinds are skipped by name.
/// Another test renders the chart with the values in these examples.
const SKIPPED_GROUPS: [&str; 4] = ["argoproj.io", "source.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io", "kustomize.toolkit.fluxcd.io"];

/// The name of a skipped kind, in kubeconform's form.
fn skipped_kind(object: &Value) -> Option<String> {
    let (version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    SKIPPED_GROUPS.contains(&version.split('/').next()?).then(|| format!("{version}/{kind}"))
}

/// Installs the foreign kinds that the chart uses: Gateway API and the Prometheus operator.
pub async fn install_definitions_of_others(cluster: &Cluster) -> Result<()> {
    let folder = component("DEFINITIONS")?;
    let path = folder.to_str().context("UTF-8")?;
    cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", path]).await?;
    cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", path]).await.map(drop)
}

async fn get(cluster: &Cluster, path: &str) -> Result<Value> {
    Ok(cluster.client()?.request(http::Request::get(path).body(Vec::new())?).await?)
}

/// Closes every object of a schema that lists its fields, and translates `nullable` into JSON Schema. Alternatives (`oneOf` and
/// similar) describe only part of an object and stay open.
fn strict(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    let open = members.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true)) || members.contains_key("additionalProperties");
    if members.contains_key("properties") && !open {
        members.insert("additionalProperties".to_owned(), json!(false));
    }
    if members.remove("nullable") == Some(json!(true))
        && let Some(kind) = members.get("type").cloned().filter(Value::is_string)
    {
        members.insert("type".to_owned(), json!([kind, "null"]));
    }
    for fields in members.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        strict(fields);
    }
    for part in ["items", "additionalProperties"] {
        members.get_mut(part).into_iter().for_each(strict);
    }
}

/// The schemas of a group version as the API server publishes them, by kind; `None` until it publishes them.
fn schemas_of(document: &Value, kinds: &BTreeSet<String>) -> Option<BTreeMap<String, Value>> {
    let text = document["components"]["schemas"].to_string().replace("#/components/schemas/", "#/definitions/");
    let mut definitions: Map<String, Value> = serde_json::from_str(&text).ok()?;
    definitions.values_mut().for_each(strict);
    let name_of = |kind: &String| {
        let is_kind = |schema: &Value| {
            let named = schema["x-kubernetes-group-version-kind"].as_array();
            named.is_some_and(|named| named.iter().any(|named| named["kind"] == *kind)) && schema["properties"]["kind"].is_object()
        };
        definitions.iter().find(|(_, schema)| is_kind(schema)).map(|(name, _)| name.clone())
    };
    let schema = |kind: &String| {
        let reference = format!("#/definitions/{}", name_of(kind)?);
        Some((kind.clone(), json!({"$ref": reference, "definitions": definitions})))
    };
    kinds.iter().map(schema).collect()
}

/// Writes a schema for every kind of these objects where kubeconform expects it.
async fn write_schemas(cluster: &Cluster, objects: &[Value], folder: &Path) -> Result<()> {
    let mut kinds: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for object in objects {
        let (version, kind) = (object["apiVersion"].as_str().context("apiVersion")?, object["kind"].as_str().context("kind")?);
        if skipped_kind(object).is_none() {
            kinds.entry(version.to_owned()).or_default().insert(kind.to_owned());
        }
    }
    for (version, kinds) in kinds {
        let path = if version.contains('/') { format!("apis/{version}") } else { format!("api/{version}") };
        // The API server publishes the schemas shortly after a definition is established.
        let schemas = wait_until(&format!("the schemas of {version}"), SOON, async || {
            let index = get(cluster, "/openapi/v3").await?;
            let Some(address) = index["paths"][&path]["serverRelativeURL"].as_str() else { return Ok(Seen::NotYet("no path".to_owned())) };
            let document = get(cluster, address).await?;
            Ok(schemas_of(&document, &kinds).map_or_else(|| Seen::NotYet(format!("{kinds:?}")), Seen::Done))
        })
        .await?;
        let name = version.replace('/', "-");
        for (kind, schema) in schemas {
            // For the core group, kubeconform uses the version as the group.
            let group = if version.contains('/') { name.clone() } else { format!("{name}-{name}") };
            std::fs::write(folder.join(format!("{}-{group}.json", kind.to_lowercase())), schema.to_string())?;
        }
    }
    Ok(())
}

/// Runs kubeconform over a stream of manifests. Returns its summary.
async fn kubeconform(schemas: &Path, name: &str, stream: &str) -> Result<Value> {
    let skip: BTreeSet<_> = objects(stream)?.iter().filter_map(skipped_kind).collect();
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(file.path(), stream)?;
    let location = format!("{}/{{{{.ResourceKind}}}}-{{{{.Group}}}}-{{{{.ResourceAPIVersion}}}}.json", schemas.display());
    let mut command = Command::new(component("KUBECONFORM")?);
    command.args(["-strict", "-summary", "-output", "json", "-schema-location", &location]);
    if !skip.is_empty() {
        command.args(["-skip", &skip.into_iter().collect::<Vec<_>>().join(",")]);
    }
    command.arg(file.path());
    // It reports errors on standard output.
    command.env_clear();
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let report = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{name}: {report} {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_str::<Value>(&report)?["summary"].clone())
}

/// Every rendering of the chart and every kustomization, by name.
async fn streams(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let mut streams = BTreeMap::new();
    for name in ["default", "all", "minimal"] {
        let rendered = chart::render(&chart::folder(), "forgebind", "forgebind-system", &snapshot_values(name)?, &[]).await?;
        streams.insert(name.to_owned(), rendered);
    }
    for name in testkit::deploy::kustomizations()? {
        let folder = testkit::deploy::folder().join(&name);
        streams.insert(name, cluster.kubectl(&["kustomize", folder.to_str().context("UTF-8")?]).await?);
    }
    Ok(streams)
}

#[tokio::test]
async fn manifests_conform_to_strict_schemas_of_the_api_server() -> Result<()> {
    let cluster = shared::control_plane().await?.cluster();
    install_definitions_of_others(cluster).await?;
    let (folder, streams) = (tempfile::tempdir()?, streams(cluster).await?);
    let mut all = Vec::new();
    for stream in streams.values() {
        all.extend(objects(stream)?);
    }
    write_schemas(cluster, &all, folder.path()).await?;
    for (name, stream) in &streams {
        let objects = objects(stream)?;
        let skipped = objects.iter().filter_map(skipped_kind).count();
        ensure!(skipped == 0 || name.starts_with("gitops/"), "{name} skips {skipped}");
        let summary = kubeconform(folder.path(), name, stream).await?;
        assert_eq!(summary["valid"], json!(objects.len() - skipped), "{name}: {summary}");
        assert_eq!(summary["skipped"], json!(skipped), "{name}: {summary}");
    }
    let kinds: BTreeSet<_> = all.iter().filter_map(|object| object["kind"].as_str()).collect();
    for kind in
        ["HTTPRoute", "Gateway", "ServiceMonitor", "PrometheusRule", "ValidatingAdmissionPolicy", "NetworkPolicy", "Job", "StatefulSet"]
    {
        ensure!(kinds.contains(kind), "no set of values renders a {kind}");
    }

    // Checks the check: a misspelt field, a wrong type and an unknown field fail.
    let deployment = all.iter().find(|object| object["kind"] == "Deployment").context("a Deployment")?;
    let container = "/spec/template/spec/containers/0";
    let spoilt = |place: &str, name: &str, value: Value| -> Result<String> {
        let mut object = deployment.clone();
        object.pointer_mut(place).context("a place")?[name] = value;
        Ok(object.to_string())
    };
    let route = all.iter().find(|object| object["kind"] == "HTTPRoute").context("a route")?;
    let mut route = route.clone();
    route["spec"]["hostname"] = json!("acme.io");
    for (what, manifest) in [
        ("a misspelt field", spoilt(container, "arg", json!(["run"]))?),
        ("a misspelt field of a list", spoilt(&format!("{container}/ports/0"), "containerport", json!(1))?),
        ("a wrong type", spoilt("/spec", "replicas", json!("two"))?),
        ("a misspelt field of a kind of others", route.to_string()),
        ("an unknown kind", spoilt("", "kind", json!("Deploymint"))?),
    ] {
        ensure!(kubeconform(folder.path(), what, &manifest).await.is_err(), "{what} passes");
    }
    Ok(())
}

/// The pod of a template, as an object of its own: for a Deployment whose pod is not restricted, the API server only warns. The
/// `StatefulSet` controller adds a volume for each claim.
fn pod_of(object: &Value, namespace: &str) -> Option<Value> {
    let mut spec = object.pointer("/spec/template/spec")?.clone();
    for claim in object["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
        let volume = json!({"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": "tried"}});
        match spec["volumes"].as_array_mut() {
            Some(volumes) => volumes.push(volume),
            None => spec["volumes"] = json!([volume]),
        }
    }
    Some(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tried", "namespace": namespace}, "spec": spec}))
}

#[tokio::test]
async fn pods_of_the_chart_are_restricted_and_its_objects_are_admitted() -> Result<()> {
    let cluster = shared::control_plane().await?.cluster();
    install_definitions_of_others(cluster).await?;
    let namespace = cluster.create_namespace("restricted").await?;
    cluster.kubectl(&["label", "namespace", &namespace, "pod-security.kubernetes.io/enforce=restricted"]).await?;
    let folder = tempfile::tempdir()?;
    for name in ["default", "all", "minimal"] {
        let rendered = chart::render(&chart::folder(), "forgebind", &namespace, &snapshot_values(name)?, &[]).await?;
        let mut pods = 0;
        let mut tried = Vec::new();
        for mut object in objects(&rendered)? {
            // Other tests apply the definitions.
            if object["kind"] == "CustomResourceDefinition" {
                continue;
            }
            for watched in ["platform", "team-shop"] {
                if object["metadata"]["namespace"] == json!(watched) {
                    object["metadata"]["namespace"] = json!(namespace);
                }
            }
            if let Some(pod) = pod_of(&object, &namespace) {
                pods += 1;
                tried.push(pod);
            }
            tried.push(object);
        }
        for (position, object) in tried.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{name}-{position}.yaml")), object.to_string())?;
        }
        ensure!(pods >= 2, "{name}: {pods} pods");
    }
    let path = folder.path().to_str().context("UTF-8")?;
    cluster.kubectl(&["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", path]).await.map(drop)
}

#[tokio::test]
async fn examples_in_the_metadata_of_the_chart_are_admitted() -> Result<()> {
    let cluster = shared::control_plane().await?.cluster();
    let about: Value = serde_saphyr::from_str(&std::fs::read_to_string(chart::folder().join("Chart.yaml"))?)?;
    let examples: Value = serde_saphyr::from_str(about["annotations"]["artifacthub.io/crdsExamples"].as_str().context("examples")?)?;
    let namespace = cluster.create_namespace("examples").await?;
    for example in examples.as_array().context("a list")? {
        let mut object = example.clone();
        object["metadata"]["namespace"] = json!(namespace);
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        std::fs::write(file.path(), object.to_string())?;
        let path = file.path().to_str().context("UTF-8")?;
        cluster.kubectl(&["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", path]).await?;
    }
    Ok(())
}
