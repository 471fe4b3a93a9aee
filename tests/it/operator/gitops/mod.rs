//! How the objects fit the tools of GitOps: what these make of recorded statuses, by their own rules and with the scripts that
//! are shipped for them, and that nobody fights over a field.

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

/// The kinds as the recorded files and kubectl name them.
const CONNECTION_KIND: &str = "gitproviderconnection";
const BINDING_KIND: &str = "repobinding";

/// Where recorded statuses are.
fn recorded_folder() -> PathBuf {
    repository_root().join("tests/fixtures/statuses")
}

/// An object as the API server gives it out, with everything that our own types would leave out.
async fn raw(cluster: &Cluster, namespace: &str, kind: &str, name: &str) -> Result<Value> {
    let arguments = ["get", kind, name, "--namespace", namespace, "--output", "json", "--show-managed-fields"];
    serde_json::from_str(&cluster.kubectl(&arguments).await?).context("JSON")
}
