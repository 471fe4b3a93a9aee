//! A temporary folder that is removed even if this process is killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

/// If this variable is set, the folders of a run are kept for inspection.
const KEEP: &str = "FORGEBIND_TEST_KEEP";

/// Waits until its standard input closes, at the latest when its parent ends. Processes that end for the same reason may still be
/// writing, so it tries several times.
const REMOVE: &str = r#"read -r _; for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$0" 2>/dev/null && exit; sleep 0.2; done"#;

#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    remover: Option<Child>,
}

impl Scratch {
    /// Creates an empty folder.
    ///
    /// # Errors
    ///
    /// When it cannot be created or `sh` cannot be started.
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
