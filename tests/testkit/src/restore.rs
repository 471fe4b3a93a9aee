//! Clusters that are restored or copied: the commands of the guide, and the identity of hooks and deliveries across clusters.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::RepoBinding;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::components::repository_root;
use crate::scratch::Scratch;
use crate::test_env::{CONNECTION, SOON, TestEnv};
use crate::wait::{Seen, wait_until};

/// A webhook secret of the user's own.
pub const BROUGHT_SECRET: &str = "a-webhook-secret-of-the-user-0001";

/// The shell scripts below a heading of the guide, in order.
pub fn guide(heading: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(repository_root().join("src/docs/guide/operate/backup-and-restore.md"))?;
    let (mut inside, mut open, mut scripts) = (false, false, Vec::<String>::new());
    for line in text.lines() {
        match line {
            "```" => open = false,
            "```sh" if inside => {
                open = true;
                scripts.push(String::new());
            }
            line if open => scripts.last_mut().context("a script")?.extend([line, "\n"]),
            line if line.starts_with('#') => inside = line == heading,
            _ => {}
        }
    }
    ensure!(!scripts.is_empty(), "the guide has no script below {heading}");
    Ok(scripts)
}

/// The version of the webhook secret in the status.
pub fn secret_version(binding: &RepoBinding) -> Option<String> {
    binding.status.as_ref()?.webhook.as_ref()?.secret_version.clone()
}

/// The identity of the hooks of the first repository: their ids and URLs.
pub async fn identities(env: &TestEnv) -> Result<BTreeMap<i64, String>> {
    Ok(env.gitea.hooks(&env.repository).await?.into_iter().map(|hook| (hook.id, hook.config.url)).collect())
}

/// A binding whose events arrive at the sink at a path of its own.
pub fn spec_of(env: &TestEnv, name: &str) -> Value {
    let mut spec = env.binding_spec();
    spec["sinks"][0]["service"]["path"] = json!(format!("/of/{name}"));
    spec
}

/// A binding whose hook delivers to an endpoint outside Forgebind, which is the sink.
pub fn spec_of_custom(env: &TestEnv) -> Value {
    json!({
        "connectionRef": {"name": CONNECTION}, "repository": env.repository,
        "webhook": {"events": ["Push"], "url": custom_url(env), "secretRef": {"name": "own"}},
    })
}

/// The address of the sink as an endpoint outside Forgebind.
pub fn custom_url(env: &TestEnv) -> String {
    format!("http://127.0.0.1:{}/api/webhook", env.sink.port())
}

/// Creates a connection that allows hooks to the sink's address, and a user's secret.
pub async fn connect(env: &TestEnv, spec: Value) -> Result<()> {
    env.apply_grant("custom", json!({"destinationHosts": [format!("127.0.0.1:{}", env.sink.port())]})).await?;
    env.cluster().apply_secret(&env.namespace, "own", &[("secret", BROUGHT_SECRET)]).await?;
    env.create_connection(spec).await.map(drop)
}

/// How many times each commit arrived, by the path at the sink.
pub fn arrived(env: &TestEnv) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for delivery in env.sink.accepted() {
        let commit = delivery.json()["after"].as_str().unwrap_or_default().to_owned();
        *counts.entry((delivery.path, commit)).or_default() += 1;
    }
    counts
}

/// Waits until a commit arrived exactly once under each of these paths.
pub async fn arrives_once(env: &TestEnv, commit: &str, paths: &[&str]) -> Result<()> {
    wait_until(&format!("{commit} at {paths:?}"), SOON, async || {
        let counts = arrived(env);
        let seen: Vec<usize> =
            paths.iter().map(|path| counts.get(&((*path).to_owned(), commit.to_owned())).copied().unwrap_or(0)).collect();
        Ok(match () {
            () if seen.iter().any(|count| *count > 1) => Seen::Never(format!("{seen:?}")),
            () if seen.iter().all(|count| *count == 1) => Seen::Done(()),
            () => Seen::NotYet(format!("{seen:?}")),
        })
    })
    .await
}

/// The events of a reason in a namespace.
pub async fn events(env: &TestEnv, reason: &str) -> Result<Vec<String>> {
    let events: Api<Event> = Api::namespaced(env.cluster().client()?, &env.namespace);
    let found = events.list(&ListParams::default().fields(&format!("reason={reason}"))).await?;
    Ok(found.into_iter().filter_map(|event| event.message).collect())
}

/// Runs the guide's commands by which a copy takes over its objects, in its own namespace.
pub async fn take_over(env: &TestEnv) -> Result<()> {
    let folder = Scratch::new("take-over")?;
    for script in guide("### Taking objects over")? {
        env.cluster().script(folder.path(), &script.replace(" -A ", &format!(" -n {} ", env.namespace))).await?;
    }
    Ok(())
}
