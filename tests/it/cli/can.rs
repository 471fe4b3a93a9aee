//! `forgebind can`: from manifests and from a cluster.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use testkit::scratch::Scratch;
use testkit::shared;
use testkit::test_namespace::grant;

/// The exit code, standard output and standard error.
async fn can(arguments: &[&str], kubeconfig: Option<&std::path::Path>) -> Result<(i32, String, String)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forgebind"));
    command.arg("can").args(arguments).env_remove("KUBECONFIG").stdin(Stdio::null());
    if let Some(path) = kubeconfig {
        command.env("KUBECONFIG", path);
    }
    let output = command.output().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status.code().context("an exit code")?, text(output.stdout), text(output.stderr)))
}

fn connection(access: &str) -> Value {
    json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection", "metadata": {"name": "acme", "namespace": "platform"},
        "spec": {"provider": {"github": {"organization": "acme"}}, "access": access},
    })
}

fn namespace(name: &str, team: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}}})
}

fn shops() -> Value {
    json!({
        "namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}},
        "repositories": {"include": ["acme/shop-*"], "exclude": ["acme/shop-secret"]}, "destinationHosts": ["argocd.acme.io"],
    })
}

#[tokio::test]
async fn names_the_grant_that_allows_it_or_what_the_nearest_one_lacks() -> Result<()> {
    let scratch = Scratch::new("can")?;
    let file = scratch.path().join("objects.json");
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        connection("SameNamespace"), grant("platform", "shops", "acme", &shops()), grant("platform", "tools", "acme", &json!({"repositories": {"include": ["acme/tools"]}})),
        grant("elsewhere", "all", "acme", &json!({"namespaces": {"from": "All"}})), namespace("team-shop", "shop"), namespace("team-cart", "cart"),
    ]});
    std::fs::write(&file, objects.to_string())?;
    let file = file.to_str().context("UTF-8")?;
    let argocd = ["--webhook-url", "https://argocd.acme.io/api/webhook"];
    let cases: Vec<(&str, &str, &[&str], i32, &str)> = vec![
        ("team-shop", "acme/shop-cart", &[], 0, "yes: ConnectionGrant platform/shops allows it"),
        ("team-shop", "https://github.com/ACME/Shop-Cart.git", &[], 0, "yes: ConnectionGrant platform/shops"),
        ("team-shop", "acme/shop-cart", &argocd, 0, "yes: ConnectionGrant platform/shops"),
        (
            "team-shop",
            "acme/shop-cart",
            &["--webhook-url", "https://ci.acme.io"],
            1,
            "shops, but its destinationHosts does not list ci.acme.io",
        ),
        ("team-shop", "acme/shop-secret", &[], 1, "shops, but its repositories.exclude has acme/shop-secret"),
        ("team-shop", "acme/cart", &[], 1, "shops, but its repositories.include (acme/shop-*) does not match \"acme/cart\""),
        ("team-cart", "acme/shop-cart", &[], 1, "shops, but its namespaces.selector does not match the labels of namespace team-cart"),
        ("team-new", "acme/shop-cart", &[], 1, "unknown: it depends on the labels of namespace team-new"),
        ("platform", "acme/anything", &[], 0, "yes: no grant is needed"),
        ("platform", "acme/anything", &argocd, 1, "no: the nearest ConnectionGrant is"),
        ("team-shop", "other/shop-cart", &[], 1, "no: other/shop-cart is outside the organization acme"),
        ("team-shop", "not a path", &[], 1, "no: connection platform/acme has no such repository"),
    ];
    for (namespace, repository, more, code, words) in cases {
        let arguments = [&[namespace, "bind", repository, "-c", "platform/acme", "-f", file], more].concat();
        let (found, said, complaint) = can(&arguments, None).await?;
        ensure!(found == code && said.contains(words), "{arguments:?}: {found} {said}{complaint}");
        let (found, said, _) = can(&[&arguments[..], &["-o", "json"]].concat(), None).await?;
        let answer: Value = serde_json::from_str(&said)?;
        ensure!(found == code && answer["allowed"] == json!(code == 0) && answer["version"] == 1, "{answer}");
        ensure!(answer["decided"] == json!(!words.starts_with("unknown")), "{answer}");
    }
    let (code, said, _) = can(&["team-shop", "bind", "acme/a", "-c", "platform/none", "-f", file], None).await?;
    ensure!(code == 1 && said.contains("connection platform/none does not exist; add its manifest"), "{said}");
    for verb in ["create", "replace", "Bind"] {
        let (code, said, complaint) = can(&["team-shop", verb, "acme/a", "-c", "platform/acme", "-f", file], None).await?;
        ensure!(code == 2 && said.is_empty() && complaint.contains("is not a verb; the only verb is bind"), "{complaint}");
    }
    Ok(())
}

#[tokio::test]
async fn reads_the_grants_of_a_cluster() -> Result<()> {
    let plane = shared::control_plane().await?;
    let objects = testkit::test_namespace::TestNamespace::new(plane, "can").await?;
    objects.create_connection(json!({"provider": {"github": {"organization": "acme"}}})).await?;
    objects
        .apply_grant(
            "by-name",
            json!({
                "namespaces": {"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}},
                "repositories": {"include": ["acme/shop"]},
            }),
        )
        .await?;
    let connection = format!("{}/{}", objects.namespace, testkit::test_namespace::CONNECTION);
    let config = plane.cluster().kubeconfig();
    let (code, said, complaint) = can(&["default", "bind", "acme/shop", "-c", &connection], Some(config)).await?;
    ensure!(code == 0 && said.contains("by-name allows it"), "{said}{complaint}");
    let (code, said, _) = can(&["kube-system", "bind", "acme/shop", "-c", &connection], Some(config)).await?;
    ensure!(code == 1 && said.contains("does not match the labels of namespace kube-system"), "{said}");
    Ok(())
}
