//! The manifests of `deploy/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::components::repository_root;

/// The folder of the kustomizations.
pub fn folder() -> PathBuf {
    repository_root().join("deploy")
}

/// Every kustomization of the tree, by its path.
pub fn kustomizations() -> Result<BTreeSet<String>> {
    fn search(folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                search(&path, found)?;
            } else if path.ends_with("kustomization.yaml") {
                let relative = folder.strip_prefix(self::folder())?;
                found.insert(relative.to_str().context("UTF-8")?.to_owned());
            }
        }
        Ok(())
    }
    let mut found = BTreeSet::new();
    search(&folder(), &mut found)?;
    ensure!(INSTALLATIONS.iter().all(|name| found.contains(*name)), "{found:?}");
    Ok(found)
}

/// A rendered chart as kustomize uses it: either without helm hooks, because applying their Jobs would run them at once, or only
/// the hooks, without the annotations that make them hooks.
pub fn without_helm(stream: &str, hooks: bool) -> String {
    let is_hook = |document: &str| document.contains("\n    helm.sh/hook: ");
    let documents = stream.split("---\n").filter(|document| !document.trim().is_empty() && is_hook(document) == hooks);
    let kept = documents.map(|document| {
        let of_helm = |line: &str| ["helm.sh/chart: ", "helm.sh/hook"].iter().any(|start| line.trim_start().starts_with(start));
        let annotations = |line: &str| hooks && line == "  annotations:";
        let lines = document.lines().filter(|line| !line.starts_with("# Source: ") && !of_helm(line) && !annotations(line));
        let text = lines.collect::<Vec<_>>().join("\n").trim().to_owned();
        text.replace("app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kustomize")
    });
    format!("# Rendered from the chart by `make generate`.\n---\n{}\n", kept.collect::<Vec<_>>().join("\n---\n"))
}

/// Each of these is a complete installation.
pub const INSTALLATIONS: [&str; 3] = ["base", "overlays/namespaced", "overlays/two-receivers"];
