//! How the objects work with GitOps tools: what the tools report for recorded statuses, by their own rules and with the scripts
//! shipped for them, and that no two writers fight over a field.

mod apply;
mod reapply;
mod recorded;
mod verdicts;
mod wait;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;

use testkit::cluster::Cluster;
use testkit::components::repository_root;

/// The kinds as recorded files and kubectl name them.
const CONNECTION_KIND: &str = "gitproviderconnection";
const GRANT_KIND: &str = "connectiongrant";
const BINDING_KIND: &str = "repobinding";

/// The folder of the recorded statuses.
fn recorded_folder() -> PathBuf {
    repository_root().join("tests/fixtures/statuses")
}

/// An object as the API server returns it, with fields that our own types would leave out.
async fn raw(cluster: &Cluster, namespace: &str, kind: &str, name: &str) -> Result<Value> {
    let arguments = ["get", kind, name, "--namespace", namespace, "--output", "json", "--show-managed-fields"];
    serde_json::from_str(&cluster.kubectl(&arguments).await?).context("JSON")
}
