//! `forgebind repositories` against a real operator and a real Gitea.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use testkit::operator::executable;
use testkit::test_env::{CONNECTION, TestEnv};

/// What the command printed, and its exit code.
async fn run(arguments: &[&str], kubeconfig: &Path) -> Result<(i32, String)> {
    let mut command = Command::new(executable()?);
    command.arg("repositories").args(arguments).env_clear().env("KUBECONFIG", kubeconfig);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
    Ok((output.status.code().context("it was killed")?, text))
}

#[tokio::test]
async fn pk_17_the_repositories_of_a_connection_are_printed_and_those_without_a_binding() -> Result<()> {
    let env = TestEnv::new("cli-repositories").await?;
    env.gitea.create_repository(&env.organization, "cart", true).await?;
    let _operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    let administrator = env.cluster().kubeconfig();
    let listed = async |more: &[&str]| run(&[&["-n", env.namespace.as_str(), "-c", CONNECTION], more].concat(), administrator).await;
    let (code, text) = listed(&[]).await?;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("it keeps no catalogue; set spec.catalog"), "{text}");
    let (code, text) = run(&["-n", &env.namespace], administrator).await?;
    assert_eq!((code, text.contains("no connection in namespace")), (2, true), "{text}");

    env.patch_connection(json!({"spec": {"catalog": {}}})).await?;
    env.connection_says("Cataloged", "True/Succeeded").await?;
    let (code, text) = listed(&[]).await?;
    assert_eq!(code, 0, "{text}");
    let row = |name: &str| text.lines().find(|line| line.contains(&format!("{}/{name} ", env.organization))).map(str::to_owned);
    assert!(text.contains(&format!("\n{} (2)\n", env.organization)), "grouped by owner, where there are no projects: {text}");
    assert!(row("shop").context("shop")?.ends_with(&format!("{}/shop", env.namespace)), "{text}");
    assert!(row("cart").context("cart")?.contains("empty"), "{text}");
    let (_, unbound) = listed(&["--unbound"]).await?;
    assert!(unbound.contains("1 repository without a binding") && !unbound.contains("/shop "), "{unbound}");
    let (_, document) = listed(&["-o", "json"]).await?;
    let document: Value = serde_json::from_str(&document)?;
    let repositories = document["connections"][0]["repositories"].as_array().context("repositories")?;
    assert_eq!(repositories.iter().map(|found| found["webhooks"].clone()).collect::<Vec<_>>(), ["Granted", "Granted"]);

    // Somebody without rights learns nothing.
    let token = env.cluster().service_account_token(&env.namespace, "stranger").await?;
    let stranger = env.plane.kubeconfig_for(&format!("{}-stranger", env.namespace), &token, None)?;
    let (code, text) = run(&["-n", &env.namespace, "-c", CONNECTION], &stranger).await?;
    assert_eq!((code, text.contains("are not visible to you")), (2, true), "{text}");
    Ok(())
}
