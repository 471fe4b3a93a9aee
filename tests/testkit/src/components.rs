//! Finds the programs that tests run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The programs, ready to run.
#[derive(Clone, Debug)]
pub struct Components {
    pub etcd: PathBuf,
    pub kube_apiserver: PathBuf,
    pub kube_controller_manager: PathBuf,
    pub kubectl: PathBuf,
    pub gitea: PathBuf,
    /// Gitea's templates, options and public files.
    pub gitea_static_root: PathBuf,
}

/// The root of the repository.
pub fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

impl Components {
    /// Asks the build script, which builds nothing when called like this.
    ///
    /// # Errors
    ///
    /// When a component is neither given by the environment nor built; the error says to run `make tools`.
    pub fn find() -> Result<Self> {
        let named = named()?;
        let assets = path(&named, "KUBEBUILDER_ASSETS")?;
        Ok(Self {
            etcd: assets.join("etcd"),
            kube_apiserver: assets.join("kube-apiserver"),
            kubectl: assets.join("kubectl"),
            kube_controller_manager: path(&named, "KUBE_CONTROLLER_MANAGER")?,
            gitea: path(&named, "GITEA")?,
            gitea_static_root: path(&named, "GITEA_STATIC_ROOT")?,
        })
    }
}

/// A program that only tests need, by the environment variable that names it, such as `HELM`.
///
/// # Errors
///
/// When it is neither given by the environment nor built; the error says to run `make tools`.
pub fn component(variable: &str) -> Result<PathBuf> {
    path(&named()?, variable)
}

fn path(named: &BTreeMap<String, PathBuf>, variable: &str) -> Result<PathBuf> {
    named.get(variable).cloned().with_context(|| format!("the program of {variable} is not built yet; run `make tools`"))
}

/// What the build script finds, by environment variable.
fn named() -> Result<BTreeMap<String, PathBuf>> {
    let script = repository_root().join("tests/controlplane/build");
    // A shell prints the values, so that only the shell has to parse the quotes.
    let print = r#"lines=$("$0" --find) && eval "$lines" && while IFS=' =' read -r _ name _; do printf '%s %s\n' "$name" "${!name}"; done <<<"$lines""#;
    let output = Command::new("bash").arg("-c").arg(print).arg(&script).output().context("bash cannot be started")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the real components are missing: {}", complaint.trim());
    let answer = String::from_utf8(output.stdout).context("a path is not UTF-8")?;
    Ok(answer.lines().filter_map(|line| line.split_once(' ')).map(|(name, path)| (name.to_owned(), PathBuf::from(path))).collect())
}

/// Runs a program to its end without blocking the runtime and returns its output.
///
/// # Errors
///
/// When it cannot be started or fails; the error contains its output.
pub async fn output_of(mut command: Command) -> Result<String> {
    tokio::task::spawn_blocking(move || {
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        let output = command.output().with_context(|| format!("{name} cannot be started"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name} {arguments} failed with {}: {}", output.status, said.trim());
        String::from_utf8(output.stdout).with_context(|| format!("{name} printed something that is not UTF-8"))
    })
    .await?
}
