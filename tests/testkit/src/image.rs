//! The image of this tree: the layout that `.ci/image` creates, and the image that a build engine creates.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::components::{output_of, repository_root};
use super::container::Image;
use super::scratch::Scratch;

/// The user and the group of the image, as in the Dockerfile.
pub const USER: (u32, u32) = (65_532, 65_532);

static ROOT: OnceCell<(Scratch, Image)> = OnceCell::const_new();

/// Cargo's profile of the binary, unless `PROFILE` names one: the tests do not need the optimisation, which takes minutes.
const PROFILE: &str = "trial";

/// `.ci/image` with arguments.
fn script(arguments: &[&str]) -> Command {
    let mut command = Command::new(repository_root().join(".ci/image"));
    command.env("PROFILE", std::env::var("PROFILE").unwrap_or_else(|_| PROFILE.to_owned()));
    // Cargo sets variables for its children that would change the build.
    for variable in ["RUSTC", "RUSTDOC", "RUSTC_WRAPPER", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(variable);
    }
    command.args(arguments);
    command
}

/// Why this machine cannot build the image; `None` if it can.
///
/// # Errors
///
/// When the script cannot be started.
pub fn obstacle() -> Result<Option<String>> {
    let output = script(&["possible"]).output().context(".ci/image cannot be started")?;
    Ok(if output.status.success() { None } else { Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()) })
}

/// The image as the Dockerfile lays it out, without a build engine. Built once in a process.
///
/// # Errors
///
/// When it cannot be built; the error contains the script's output.
pub async fn image() -> Result<&'static Image> {
    let make = async || {
        let scratch = Scratch::new("image")?;
        let folder = scratch.path().to_str().context("UTF-8")?.to_owned();
        output_of(script(&["root", &folder])).await?;
        let image = Image { root: folder.into(), entrypoint: vec!["/forgebind".to_owned()], user: USER };
        anyhow::Ok((scratch, image))
    };
    Ok(&ROOT.get_or_try_init(make).await?.1)
}

/// The result of a build engine: an unpacked OCI layout.
#[derive(Debug)]
pub struct Built {
    /// What a container starts.
    pub image: Image,
    /// The image's configuration: user, entry point, ports and labels.
    pub config: Value,
    /// The digest of its manifest.
    pub digest: String,
    /// The size in a registry and of a pull, compressed, in bytes.
    pub size: u64,
    _scratch: Scratch,
}

/// Whether a build engine exists.
pub fn has_engine() -> bool {
    Command::new("buildah").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Builds the Dockerfile's last stage with the build engine.
///
/// # Errors
///
/// When the build fails, or its result is not an image with one manifest for this machine.
pub async fn build() -> Result<Built> {
    let scratch = Scratch::new("layout")?;
    let (layout, root) = (scratch.path().join("layout"), scratch.path().join("root"));
    output_of(script(&["build", layout.to_str().context("UTF-8")?])).await?;
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json"))?)?;
    let digest = text(&index, "/manifests/0/digest")?.to_owned();
    let manifest: Value = serde_json::from_slice(&blob(&layout, &digest)?)?;
    let whole: Value = serde_json::from_slice(&blob(&layout, text(&manifest, "/config/digest")?)?)?;
    let layers = manifest.get("layers").and_then(Value::as_array).context("no layers")?;
    let size = layers.iter().filter_map(|layer| layer.get("size")?.as_u64()).sum();
    std::fs::create_dir(&root)?;
    for layer in layers {
        let status = Command::new("tar").arg("-C").arg(&root).arg("-xf").arg(blob_path(&layout, text(layer, "/digest")?)?).status()?;
        ensure!(status.success(), "a layer cannot be unpacked");
    }
    let config = whole.get("config").cloned().context("no configuration")?;
    let entrypoint = serde_json::from_value(config.get("Entrypoint").cloned().unwrap_or_default()).context("no entry point")?;
    let (user, group) = text(&config, "/User")?.split_once(':').context("a user and a group")?;
    let user = (user.parse().context("the user is no number")?, group.parse().context("the group is no number")?);
    Ok(Built { image: Image { root, entrypoint, user }, config, digest, size, _scratch: scratch })
}

fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no {pointer} in {value}"))
}

fn blob_path(layout: &Path, digest: &str) -> Result<PathBuf> {
    let hash = digest.strip_prefix("sha256:").context("not SHA-256")?;
    Ok(layout.join("blobs/sha256").join(hash))
}

fn blob(layout: &Path, digest: &str) -> Result<Vec<u8>> {
    Ok(std::fs::read(blob_path(layout, digest)?)?)
}
