//! What runs on GitHub: the workflows of `.github/`, checked as far as possible without running them, and the parts of a release,
//! built here with the same scripts.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use testkit::components::{component, output_of, repository_root};
use testkit::scratch::Scratch;
use testkit::{chart, shared};

/// The write permissions of each job. Every other permission is read at most.
const WRITES: &[(&str, &str, &[&str])] =
    &[("release.yml", "image", &["packages"]), ("release.yml", "release", &["attestations", "contents", "id-token", "packages"])];

fn workflows() -> Result<Vec<(String, PathBuf, Value)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(repository_root().join(".github/workflows"))? {
        let path = entry?.path();
        let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
        let document = serde_saphyr::from_str(&std::fs::read_to_string(&path)?).with_context(|| name.clone())?;
        found.push((name, path, document));
    }
    Ok(found)
}

fn jobs(workflow: &Value) -> impl Iterator<Item = (&String, &Value)> {
    workflow["jobs"].as_object().into_iter().flatten()
}

fn steps(workflow: &Value) -> impl Iterator<Item = &Value> {
    jobs(workflow).flat_map(|(_, job)| job["steps"].as_array().into_iter().flatten())
}

#[tokio::test]
async fn actionlint_accepts_the_workflows() -> Result<()> {
    let workflows = workflows()?;
    ensure!(workflows.len() >= 2, "{workflows:?}");
    let mut command = Command::new(component("ACTIONLINT")?);
    // Without the linters for shell and Python: they are not installed everywhere, so results would differ between machines.
    command.args(["-shellcheck=", "-pyflakes="]).args(workflows.iter().map(|(_, path, _)| path));
    output_of(command).await.map(drop)
}

#[test]
fn actions_are_pinned_and_jobs_have_only_the_permissions_that_they_need() -> Result<()> {
    let mut writers = BTreeSet::new();
    let mut actions = 0;
    for (name, path, workflow) in workflows()? {
        ensure!(
            workflow["permissions"].as_object().is_some_and(serde_json::Map::is_empty),
            "{name}: the default permissions are not empty"
        );
        for (job, settings) in jobs(&workflow) {
            let permissions = settings["permissions"].as_object().with_context(|| format!("{name}: {job} names no permissions"))?;
            let written: Vec<&str> = permissions.iter().filter(|(_, right)| *right == "write").map(|(what, _)| what.as_str()).collect();
            if !written.is_empty() {
                writers.insert((name.clone(), job.clone(), written.join(" ")));
            }
        }
        let text = std::fs::read_to_string(path)?;
        for line in text.lines().filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix("uses: ")) {
            actions += 1;
            if let Some(local) = line.strip_prefix("./") {
                ensure!(repository_root().join(local).is_file(), "{name}: {local}");
                continue;
            }
            let (commit, version) = line.split_once('@').and_then(|(_, rest)| rest.split_once(" # v")).with_context(|| line.to_owned())?;
            ensure!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}: {line}");
            ensure!(version.split('.').count() == 3, "{name}: {line}");
        }
    }
    ensure!(actions > 5, "{actions} actions");
    let wanted = WRITES.iter().map(|(workflow, job, rights)| ((*workflow).to_owned(), (*job).to_owned(), rights.join(" ")));
    assert_eq!(writers, wanted.collect());
    Ok(())
}

#[tokio::test]
async fn workflows_call_existing_scripts_with_commands_that_they_know() -> Result<()> {
    let mut called = BTreeSet::new();
    for (_, _, workflow) in workflows()? {
        for run in steps(&workflow).filter_map(|step| step["run"].as_str()) {
            for line in run.lines().filter_map(|line| line.trim_start().strip_prefix(".ci/")) {
                let mut words = line.split_whitespace();
                let script = words.next().context("a script")?.to_owned();
                called.insert((script, words.next().unwrap_or_default().to_owned()));
            }
        }
    }
    assert_eq!(
        called.iter().map(|(script, command)| format!("{script} {command}")).collect::<Vec<_>>(),
        ["release check", "release files", "release notes", "run "]
    );
    for (script, command) in called {
        let text = std::fs::read_to_string(repository_root().join(".ci").join(&script))?;
        ensure!(command.is_empty() || text.contains(&format!("\n{command}() {{\n")), "{script} {command}");
    }
    Ok(())
}

async fn release(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(repository_root().join(".ci/release"));
    command.args(arguments).env("HELM", component("HELM")?).env("KUBECTL", component("KUBEBUILDER_ASSETS")?.join("kubectl"));
    output_of(command).await
}

#[tokio::test]
async fn a_tag_that_names_another_version_is_refused_as_a_release() -> Result<()> {
    release(&["check", concat!("v", env!("CARGO_PKG_VERSION"))]).await?;
    let refused = release(&["check", "v999.0.0"]).await.unwrap_err();
    ensure!(format!("{refused:#}").contains("the tag is v999.0.0"), "{refused:#}");
    let notes = release(&["notes", "HEAD"]).await?;
    ensure!(notes.starts_with("## Changes") && notes.lines().any(|line| line.starts_with("- ")), "{notes}");
    Ok(())
}

/// The crates that `cargo tree` reports for the binary of the image, as `name version`.
async fn linked() -> Result<BTreeSet<String>> {
    let mut command = Command::new("cargo");
    command.args(["tree", "--locked", "--offline", "--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe"]);
    command.args(["--target", "x86_64-unknown-linux-musl"]).current_dir(repository_root());
    let printed = output_of(command).await?;
    let crates = printed.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some(format!("{} {}", words.next()?, words.next()?.strip_prefix('v')?))
    });
    Ok(crates.collect())
}

#[tokio::test]
async fn a_release_contains_chart_manifests_and_a_complete_bill_of_materials_with_matching_checksums() -> Result<()> {
    let folder = Scratch::new("release")?;
    let path = folder.path().to_str().context("UTF-8")?;
    release(&["files", path]).await?;
    let mut sums = Command::new("sha256sum");
    sums.args(["--check", "--strict", "SHA256SUMS"]).current_dir(folder.path());
    let agreed = output_of(sums).await?;
    let version = env!("CARGO_PKG_VERSION");
    let files: BTreeSet<String> = agreed.lines().filter_map(|line| line.strip_suffix(": OK")).map(str::to_owned).collect();
    let package = format!("forgebind-{version}.tgz");
    let wanted = [package.as_str(), "forgebind-crds.yaml", "forgebind.yaml", "forgebind.cdx.json"];
    assert_eq!(files, wanted.map(str::to_owned).into());

    let cluster = shared::control_plane().await?.cluster();
    for file in ["forgebind-crds.yaml", "forgebind.yaml"] {
        let text = std::fs::read_to_string(folder.path().join(file))?;
        ensure!(!chart::objects(&text)?.is_empty(), "{file}");
    }
    let definitions = folder.path().join("forgebind-crds.yaml");
    cluster
        .kubectl(&["apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", definitions.to_str().context("UTF-8")?])
        .await?;
    chart::render(&folder.path().join(&package), "forgebind", "forgebind-system", &serde_json::json!({}), &[]).await?;

    let bill = std::fs::read_to_string(folder.path().join("forgebind.cdx.json"))?;
    ensure!(!bill.contains(repository_root().to_str().context("UTF-8")?), "the release contains the path of its build folder");
    let bill: Value = serde_json::from_str(&bill)?;
    assert_eq!((bill["bomFormat"].as_str(), bill["metadata"]["component"]["version"].as_str()), (Some("CycloneDX"), Some(version)));
    let mut named = BTreeSet::from([format!("forgebind {version}")]);
    for part in bill["components"].as_array().context("no components")? {
        let (name, version) = (part["name"].as_str().context("a name")?, part["version"].as_str().context("a version")?);
        assert_eq!(part["purl"], format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")).as_str());
        ensure!(part["licenses"].as_array().is_some_and(|licenses| !licenses.is_empty()), "{name}: no licence");
        ensure!(part["hashes"][0]["alg"] == "SHA-256", "{name}: no checksum");
        named.insert(format!("{name} {version}"));
    }
    let linked = linked().await?;
    ensure!(linked.len() > 100, "{} crates", linked.len());
    let missing: Vec<_> = linked.difference(&named).collect();
    ensure!(missing.is_empty(), "missing in the bill of materials: {missing:?}");
    ensure!(!named.iter().any(|name| name.starts_with("proptest ")), "the bill of materials contains crates that only tests use");
    Ok(())
}
