//! The checked-in custom resource definitions, and how kubectl handles them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use forgebind::api::crd;

use testkit::components::{output_of, repository_root};
use testkit::control_plane::ControlPlane;
use testkit::shared;
use testkit::test_namespace::{object, untyped};

/// Compares the checked-in files with what the types generate. With `UPDATE=1` (`make generate`) it writes the files instead.
#[test]
fn checked_in_definitions_are_those_of_the_types() -> Result<()> {
    let folder = repository_root().join("crds");
    let mut expected = Vec::new();
    for definition in crd::custom_resource_definitions() {
        let path = folder.join(format!("{}.yaml", definition.spec.names.plural));
        expected.push((path, crd::document(&definition)?));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(&folder)?;
        for (path, content) in &expected {
            std::fs::write(path, content)?;
        }
    }
    for (path, content) in &expected {
        let present = std::fs::read_to_string(path).with_context(|| format!("{} is missing; run `make generate`", path.display()))?;
        ensure!(present == *content, "{} is out of date; run `make generate`", path.display());
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    expected.sort();
    ensure!(files == expected.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>(), "crds/ holds other files too: {files:?}");
    Ok(())
}

#[tokio::test]
async fn kubectl_applies_the_checked_in_files() -> Result<()> {
    let plane = ControlPlane::start_bare().await?;
    let folder = repository_root().join("crds");
    let folder = folder.to_str().context("the path is not UTF-8")?;
    plane.cluster().kubectl(&["apply", "--server-side", "-f", folder]).await?;
    plane.cluster().kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", folder]).await?;
    // The API server reports in conditions what it objects to but accepts.
    let conditions = "jsonpath={range .items[*]}{.status.conditions[?(@.type==\"NonStructuralSchema\")].message}{end}";
    assert_eq!(plane.cluster().kubectl(&["get", "-f", folder, "-o", conditions]).await?, "");
    // Also with client-side apply: the definitions must fit into its annotation.
    plane.cluster().kubectl(&["apply", "-f", folder]).await.map(drop)
}

#[tokio::test]
async fn kubectl_shows_short_names_the_category_columns_and_selects_by_connection() -> Result<()> {
    let cluster = shared::control_plane().await?.cluster();
    let namespace = cluster.create_namespace("visible").await?;
    let client = cluster.client()?;
    let parameters = kube::api::PostParams::default();
    let connections = untyped(client.clone(), &namespace, "GitProviderConnection");
    let spec = json!({ "provider": { "gitea": { "url": "https://git.acme.io", "organization": "acme" } } });
    connections.create(&parameters, &object("GitProviderConnection", "acme", &spec)?).await?;
    let bindings = untyped(client, &namespace, "RepoBinding");
    for (name, connection, elsewhere) in [("shop", "acme", None), ("till", "other", None), ("cart", "acme", Some("platform"))] {
        let mut spec = json!({ "connectionRef": { "name": connection }, "repository": format!("acme/{name}") });
        if let Some(elsewhere) = elsewhere {
            spec["connectionRef"]["namespace"] = json!(elsewhere);
        }
        bindings.create(&parameters, &object("RepoBinding", name, &spec)?).await?;
    }
    let status = json!({ "status": {
        "conditions": [{ "type": "Ready", "status": "False", "reason": "NotFoundOrHidden", "message": "no such repository",
            "lastTransitionTime": "2026-01-01T00:00:00Z" }],
        "webhook": { "hooks": [{ "id": "31415", "events": ["Push"], "adopted": false }] },
        "recentDeliveries": [{ "time": "2026-01-01T00:00:00Z", "id": "d-1", "event": "Push", "outcome": "Accepted" }],
    } });
    bindings.patch_status("shop", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(status)).await?;

    let get = async |arguments: &[&str]| cluster.kubectl(&[&["--namespace", &namespace, "get"], arguments].concat()).await;
    let table = get(&["gpc"]).await?;
    assert_eq!(columns(&table), ["NAME", "READY", "REASON", "PROVIDER", "IDENTITY", "BINDINGS", "AGE"]);
    let table = get(&["gpc", "-o", "wide"]).await?;
    assert_eq!(columns(&table), ["NAME", "READY", "REASON", "PROVIDER", "IDENTITY", "BINDINGS", "EXPIRES", "VERSION", "MESSAGE", "AGE"]);
    let table = get(&["repob"]).await?;
    assert_eq!(columns(&table), ["NAME", "READY", "REASON", "REPOSITORY", "CONNECTION", "LAST", "DELIVERY", "AGE"]);
    let shop = table.lines().find(|line| line.starts_with("shop ")).context("no row for shop")?;
    let cells: Vec<&str> = shop.split_whitespace().collect();
    assert_eq!(cells.get(..5), Some(&["shop", "False", "NotFoundOrHidden", "acme/shop", "acme"][..]), "{shop}");
    let table = get(&["repob", "shop", "-o", "wide"]).await?;
    assert!(table.contains("HOOK") && table.contains("31415") && table.contains("no such repository"), "{table}");

    let names = get(&["forgebind", "-o", "name"]).await?;
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "gitproviderconnection.forgebind.dev/acme",
            "repobinding.forgebind.dev/cart",
            "repobinding.forgebind.dev/shop",
            "repobinding.forgebind.dev/till"
        ]
    );
    let selected = get(&["repob", "--field-selector", "spec.connectionRef.name=acme", "-o", "name"]).await?;
    assert_eq!(selected, "repobinding.forgebind.dev/cart\nrepobinding.forgebind.dev/shop\n");
    let selector = "spec.connectionRef.name=acme,spec.connectionRef.namespace=platform";
    assert_eq!(get(&["repob", "--field-selector", selector, "-o", "name"]).await?, "repobinding.forgebind.dev/cart\n");
    Ok(())
}

fn columns(table: &str) -> Vec<&str> {
    table.lines().next().unwrap_or_default().split_whitespace().collect()
}

#[tokio::test]
async fn the_binary_prints_the_same_definitions() -> Result<()> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forgebind"));
    command.arg("crd");
    assert_eq!(output_of(command).await?, crd::to_yaml()?);
    Ok(())
}
