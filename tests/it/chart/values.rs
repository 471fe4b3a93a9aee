//! Values of the chart: which are refused and with which message, where each is explained, and the metadata for Artifact Hub.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use forgebind::api::crd;
use forgebind::api::v1alpha1::ProviderKind;
use forgebind::providers::registry;
use serde_json::{Value, json};

use testkit::chart;
use testkit::chart::rendered;
use testkit::generated::compare;
use testkit::samples;

fn file(name: &str) -> Result<String> {
    std::fs::read_to_string(chart::folder().join(name)).with_context(|| name.to_owned())
}

fn defaults() -> Result<Value> {
    Ok(serde_saphyr::from_str(&file("values.yaml")?)?)
}

fn schema() -> Result<Value> {
    Ok(serde_json::from_str(&file("values.schema.json")?)?)
}

#[tokio::test]
async fn values_that_are_unknown_or_wrong_are_refused() -> Result<()> {
    let cases = [
        (json!({"publicUrl": "https://hooks.acme.io"}), "publicUrl"),
        (json!({"publicURL": "hooks.acme.io"}), "publicURL"),
        (json!({"publicURL": "https://hooks.acme.io?a=b"}), "publicURL"),
        (json!({"publicURL": "https://hooks.acme.io,https://hooks.acme.corp"}), "publicURL"),
        (json!({"publicURLs": {"internal": "hooks.acme.corp"}}), "publicURLs"),
        (json!({"publicURLs": {"Internal": "https://hooks.acme.corp"}}), "publicURLs"),
        (json!({"publicURLs": {"default": "https://hooks.acme.corp"}}), "publicURLs"),
        (json!({"mode": "Both"}), "mode"),
        (json!({"providers": {"sourceforge": {"enabled": true}}}), "sourceforge"),
        (json!({"providers": {"gitea": {"enabled": "yes"}}}), "enabled"),
        (json!({"providers": {"gitea": true}}), "gitea"),
        (json!({"allow": {"providerHosts": ["https://git.acme.io"]}}), "providerHosts"),
        (json!({"allow": {"proxyHosts": ["http://proxy.acme.io:3128"]}}), "proxyHosts"),
        (json!({"allow": {"cidrs": ["everything"]}}), "cidrs"),
        (json!({"cleanupTimeout": "soon"}), "cleanupTimeout"),
        (json!({"missingGrantTimeout": "soon"}), "missingGrantTimeout"),
        (json!({"watchNamespaces": ["Team"]}), "watchNamespaces"),
        (json!({"secretNamespaces": "platform"}), "secretNamespaces"),
        (json!({"uninstall": {"hooks": "keep"}}), "uninstall"),
        (json!({"receiver": {"replicas": "2"}}), "replicas"),
        (json!({"receiver": {"replica": 2}}), "replica"),
        (json!({"receiver": {"outbox": {"limit": "1GB"}}}), "limit"),
        (json!({"receiver": {"outbox": {"store": "memory"}}}), "store"),
        (json!({"receiver": {"drainSeconds": "1m"}}), "drainSeconds"),
        (json!({"receiver": {"persistence": {"accessModes": ["ReadOnlyMany"]}}}), "accessModes"),
        (json!({"image": {"digest": "latest"}}), "digest"),
        (json!({"log": {"format": "xml"}}), "format"),
        // Rules that a schema cannot express are in a template.
        (json!({"ingress": {"enabled": true}}), "publicURL: required for an Ingress"),
        (json!({"ingress": {"enabled": true}, "publicURL": "https://acme.io/git"}), "cannot remove a path"),
        (json!({"ingress": {"enabled": true}, "publicURLs": {"internal": "https://acme.corp/git"}}), "cannot remove a path"),
        (json!({"httpRoute": {"enabled": true}, "publicURL": "https://acme.io"}), "parentRefs"),
        (json!({"rbac": {"scope": "Namespaced"}}), "watchNamespaces"),
        (json!({"rbac": {"scope": "Namespaced"}, "watchNamespaces": ["a"], "secretNamespaces": ["*"]}), "secretNamespaces"),
        (json!({"caBundle": {"configMap": "a", "secret": "b"}}), "caBundle"),
        (json!({"receiver": {"outbox": {"limit": "63Mi"}}}), "receiver.outbox.limit: 63Mi is too small; set at least 64Mi"),
        (json!({"receiver": {"replicas": 1, "persistence": {"enabled": true}}}), "receiver.persistence requires at least 2, not 1"),
        (json!({"receiver": {"outbox": {"limit": "2Gi"}, "persistence": {"enabled": true}}}), "requires at least 2560Mi"),
        (json!({"receiver": {"extraArgs": ["--outbox=memory"]}}), "receiver.extraArgs: --outbox=memory is not allowed"),
        (json!({"mode": "Single", "controller": {"extraArgs": ["--outbox-dir=/tmp"]}}), "controller.extraArgs"),
    ];
    for (values, named) in cases {
        let refusal = rendered(&values).await.err().with_context(|| format!("{values} is accepted"))?;
        ensure!(format!("{refusal:#}").contains(named), "{values}: {refusal:#}");
    }
    Ok(())
}

/// Adds a misspelt copy of each member to every object that the schema closes, and returns the places.
fn misspell(value: &mut Value, schema: &Value, path: &str, added: &mut Vec<(String, String)>) {
    if schema["additionalProperties"] != json!(false) {
        return;
    }
    let Some(members) = value.as_object_mut() else { return };
    for name in members.keys().cloned().collect::<Vec<_>>() {
        misspell(&mut members[&name], &schema["properties"][&name], &format!("{path}/{name}"), added);
        let twin = format!("{name}s");
        if !members.contains_key(&twin) {
            members.insert(twin.clone(), json!(true));
            added.push((path.to_owned(), twin));
        }
    }
}

#[tokio::test]
async fn every_misspelt_value_is_refused_with_its_name_and_place() -> Result<()> {
    let (mut values, mut added) = (defaults()?, Vec::new());
    misspell(&mut values, &schema()?, "", &mut added);
    ensure!(added.len() > 120, "{} values", added.len());
    let refusal = format!("{:#}", rendered(&values).await.err().context("every misspelt value is accepted")?);
    for (path, name) in added {
        let line = refusal.lines().find(|line| line.trim_start().starts_with(&format!("- at '{path}': additional properties")));
        ensure!(line.is_some_and(|line| line.contains(&format!("'{name}'")) && line.ends_with("not allowed")), "{path}/{name}: {refusal}");
    }
    // In lists too.
    for (values, path, name) in [
        (json!({"imagePullSecrets": [{"names": "a"}]}), "/imagePullSecrets/0", "names"),
        (json!({"controller": {"tolerations": [{"keys": "a"}]}}), "/controller/tolerations/0", "keys"),
        (json!({"receiver": {"topologySpreadConstraints": [{"maxSkews": 1}]}}), "/receiver/topologySpreadConstraints/0", "maxSkews"),
        (json!({"receiver": {"extraEnv": [{"name": "A", "values": "a"}]}}), "/receiver/extraEnv/0", "values"),
        (json!({"receiver": {"resources": {"limit": {}}}}), "/receiver/resources", "limit"),
        (json!({"httpRoute": {"parentRefs": [{"name": "a", "names": "b"}]}}), "/httpRoute/parentRefs/0", "names"),
        (json!({"networkPolicy": {"egress": [{"port": []}]}}), "/networkPolicy/egress/0", "port"),
        (json!({"networkPolicy": {"apiServer": [{"ipBlocks": {}}]}}), "/networkPolicy/apiServer/0", "ipBlocks"),
        (
            json!({"networkPolicy": {"metricsFrom": [{"podSelector": {"matchLabel": {}}}]}}),
            "/networkPolicy/metricsFrom/0/podSelector",
            "matchLabel",
        ),
    ] {
        let refusal = format!("{:#}", rendered(&values).await.err().with_context(|| format!("{values} is accepted"))?);
        let place = format!("at '{path}'");
        ensure!(refusal.contains(&place) && refusal.contains(&format!("'{name}'")), "{values}: {refusal}");
    }
    Ok(())
}

/// The path of every value of the chart; a list or an open map has one path.
fn leaves(value: &Value, schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let closed = schema["additionalProperties"] == json!(false);
    match value.as_object().filter(|_| closed) {
        Some(members) => {
            members.iter().for_each(|(name, member)| leaves(member, &schema["properties"][name], &format!("{path}.{name}"), found));
        }
        None => drop(found.insert(path.to_owned())),
    }
}

fn schema_leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    match schema["properties"].as_object().filter(|_| schema["additionalProperties"] == json!(false)) {
        Some(members) => members.iter().for_each(|(name, member)| schema_leaves(member, &format!("{path}.{name}"), found)),
        None => drop(found.insert(path.to_owned())),
    }
}

/// The explanations in values.yaml: path and sentence, in order. Members of an explained value may have none.
fn explanations() -> Result<Vec<(String, String)>> {
    let (mut found, mut path, mut comment) = (Vec::new(), Vec::<(usize, String)>::new(), Vec::new());
    for line in file("values.yaml")?.lines() {
        let text = line.trim_start();
        if let Some(words) = text.strip_prefix("# ") {
            comment.push(words.to_owned());
            continue;
        }
        if let Some((name, _)) = text.split_once(':') {
            let depth = line.len() - text.len();
            path.retain(|(of_parent, _)| *of_parent < depth);
            path.push((depth, name.to_owned()));
            if !comment.is_empty() {
                found.push((path.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join("."), comment.join(" ")));
            }
        }
        comment.clear();
    }
    Ok(found)
}

#[test]
fn every_value_has_a_default_a_schema_and_an_explanation() -> Result<()> {
    let (schema, mut present, mut known) = (schema()?, BTreeSet::new(), BTreeSet::new());
    leaves(&defaults()?, &schema, "", &mut present);
    schema_leaves(&schema, "", &mut known);
    // Helm passes `global` to every chart, and a parent chart enables this one by `enabled`.
    known.remove(".global");
    known.remove(".enabled");
    assert_eq!(present, known, "values.yaml and values.schema.json");
    let explained: BTreeSet<String> = explanations()?.into_iter().map(|(path, _)| format!(".{path}")).collect();
    for path in &present {
        // One explanation covers both parts of resources.
        let whole = path.strip_suffix(".requests").or_else(|| path.strip_suffix(".limits")).unwrap_or(path);
        ensure!(explained.contains(whole), "{path} has no explanation");
    }
    Ok(())
}

/// The table of values of the chart's own page.
fn table() -> Result<String> {
    let (defaults, schema) = (defaults()?, schema()?);
    let mut rows = vec!["| value | default | what it is |".to_owned(), "| --- | --- | --- |".to_owned()];
    for (path, sentence) in explanations()? {
        let value = defaults.pointer(&format!("/{}", path.replace('.', "/"))).with_context(|| path.clone())?;
        let of_schema = schema.pointer(&format!("/properties/{}", path.replace('.', "/properties/"))).with_context(|| path.clone())?;
        let section = of_schema["additionalProperties"] == json!(false) && !path.ends_with(".resources");
        let (path, value) = if section { (format!("**{path}**"), String::new()) } else { (format!("`{path}`"), format!("`{value}`")) };
        rows.push(format!("| {path} | {value} | {} |", sentence.replace('|', "\\|")));
    }
    Ok(rows.join("\n"))
}

#[test]
fn the_checked_in_page_of_the_chart_lists_its_values() -> Result<()> {
    const MARKS: [&str; 2] = ["<!-- The table is made from values.yaml by `make generate`. -->\n", "\n<!-- The end of the table. -->"];
    let page = file("README.md")?;
    let (before, rest) = page.split_once(MARKS[0]).context("the table's beginning")?;
    let (_, after) = rest.split_once(MARKS[1]).context("the table's end")?;
    compare(&chart::folder().join("README.md"), &[before, MARKS[0], &table()?, MARKS[1], after].concat())
}

#[tokio::test]
async fn a_rendering_depends_on_its_values_alone() -> Result<()> {
    for entry in std::fs::read_dir(chart::folder().join("templates"))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        for word in [
            "lookup ",
            "rand",
            "genCA",
            "genSelfSigned",
            "genPrivateKey",
            "genSignedCert",
            "uuidv4",
            "now ",
            ".Capabilities",
            ".Release.IsUpgrade",
            ".Release.Revision",
        ] {
            let used = text.lines().filter(|line| line.contains("{{")).any(|line| line.contains(word));
            ensure!(!used, "{} uses {word}: the second `helm upgrade` would differ from the first", path.display());
        }
    }
    let values = testkit::chart::snapshot_values("all")?;
    assert_eq!(rendered(&values).await?, rendered(&values).await?);
    Ok(())
}

#[tokio::test]
async fn the_metadata_for_artifact_hub_is_correct() -> Result<()> {
    let about: Value = serde_saphyr::from_str(&file("Chart.yaml")?)?;
    assert_eq!((&about["appVersion"], &about["version"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(env!("CARGO_PKG_VERSION"))));
    let annotations = about["annotations"].as_object().context("annotations")?;
    let of = |name: &str| -> Result<Value> {
        Ok(serde_saphyr::from_str(annotations.get(&format!("artifacthub.io/{name}")).and_then(Value::as_str).context(name.to_owned())?)?)
    };
    // The annotations of Artifact Hub that this chart uses. One for a signing key follows once there is a key.
    let known = ["license", "category", "operator", "operatorCapabilities", "prerelease", "crds", "crdsExamples", "images", "changes"];
    let known: BTreeSet<String> = known.iter().map(|name| format!("artifacthub.io/{name}")).collect();
    assert_eq!(annotations.keys().cloned().collect::<BTreeSet<_>>(), known);
    assert_eq!(of("license")?, env!("CARGO_PKG_LICENSE"));
    assert_eq!((of("category")?, of("operator")?), (json!("integration-delivery"), json!(true)));
    assert_eq!(of("prerelease")?, json!(env!("CARGO_PKG_VERSION").contains('-')));
    let levels = ["basic install", "seamless upgrades", "full lifecycle", "deep insights", "auto pilot"];
    ensure!(levels.iter().any(|level| of("operatorCapabilities").is_ok_and(|given| given == *level)), "{}", of("operatorCapabilities")?);

    let definitions = crd::custom_resource_definitions();
    let kinds = |list: &Value| list.as_array().into_iter().flatten().map(|entry| entry["kind"].clone()).collect::<Vec<_>>();
    for (entry, definition) in of("crds")?.as_array().context("crds")?.iter().zip(&definitions) {
        let version = &definition.spec.versions[0].name;
        assert_eq!(entry["kind"], definition.spec.names.kind);
        assert_eq!((&entry["version"], &entry["name"]), (&json!(version), &json!(definition.metadata.name)));
        ensure!(["displayName", "description"].iter().all(|field| entry[*field].is_string()), "{entry}");
    }
    assert_eq!(kinds(&of("crds")?).len(), definitions.len());
    assert_eq!(kinds(&of("crdsExamples")?), kinds(&of("crds")?));
    let images: BTreeSet<String> =
        of("images")?.as_array().into_iter().flatten().filter_map(|image| image["image"].as_str().map(str::to_owned)).collect();
    let rendered = chart::objects(&rendered(&json!({})).await?)?;
    let used = rendered.iter().filter_map(|object| object.pointer("/spec/template/spec/containers/0/image")?.as_str());
    assert_eq!(images, used.map(str::to_owned).collect());
    for change in of("changes")?.as_array().context("changes")? {
        let kind = change["kind"].as_str().unwrap_or_default();
        ensure!(["added", "changed", "deprecated", "removed", "fixed", "security"].contains(&kind), "{change}");
        ensure!(change["description"].is_string(), "{change}");
    }
    Ok(())
}

/// What the templates need to know of each provider, from the providers' profiles.
#[test]
fn the_chart_knows_the_generated_facts_of_every_provider() -> Result<()> {
    let lines = ProviderKind::ALL.into_iter().map(|kind| {
        let hosts = registry::provider(kind).map_or(&[][..], |provider| provider.profile().cloud_hosts);
        json!({"member": samples::of(kind).member, "flag": kind.flag(), "cloudHosts": hosts}).to_string()
    });
    compare(&chart::folder().join("files/providers.json"), &format!("[\n{}\n]\n", lines.collect::<Vec<_>>().join(",\n")))
}

#[test]
fn every_provider_has_a_switch_that_the_schema_knows() -> Result<()> {
    let (values, schema) = (defaults()?, schema()?);
    for member in samples::all().map(|samples| samples.member) {
        ensure!(values["providers"][&member]["enabled"] == true, "values.yaml has no providers.{member}.enabled");
        let described = &schema["properties"]["providers"]["properties"][&member]["properties"]["enabled"];
        ensure!(described["type"] == "boolean", "values.schema.json has no providers.{member}.enabled");
    }
    Ok(())
}
