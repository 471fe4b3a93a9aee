//! A temporary folder that is removed even when this process is killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

/// Keeps the folders of a run for looking into them.
const KEEP: &str = "FORGEBIND_TEST_KEEP";

/// Waits until its standard input closes, which happens at the latest when its parent ends. Processes that die of the
/// same cause may still be writing: it tries more than once.
const REMOVE: &str = r#"read -r _; for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$0" 2>/dev/null && exit; sleep 0.2; done"#;

/// A temporary folder.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    remover: Option<Child>,
}

impl Scratch {
    /// A new, empty folder.
    ///
    /// # Errors
    ///
    /// When it cannot be made or `sh` cannot be started.
    pub fn new(name: &str) -> Result<Self> {
        let path = tempfile::Builder::new().prefix(&format!("forgebind-{name}-")).tempdir()?.keep();
        if std::env::var_os(KEEP).is_some() {
            eprintln!("{KEEP}: {name} keeps {}", path.display());
            return Ok(Self { path, remover: None });
        }
        let remover = Command::new("sh")
            .args(["-c", REMOVE])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("sh cannot be started")?;
        Ok(Self { path, remover: Some(remover) })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(mut remover) = self.remover.take() {
            drop(remover.stdin.take());
            let _ = remover.wait();
        }
    }
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
