//! Generated files that are checked in.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// Compares a generated file with the checked-in one. With `UPDATE=1` (`make generate`) it writes the file instead.
pub fn compare(path: &Path, content: &str) -> Result<()> {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        std::fs::write(path, content)?;
    }
    let present = std::fs::read_to_string(path).with_context(|| format!("{} is missing; run `make generate`", path.display()))?;
    let differs = present.lines().zip(content.lines()).position(|(present, wanted)| present != wanted);
    let at = differs.map_or_else(|| "its end".to_owned(), |line| format!("line {}", line + 1));
    ensure!(present == content, "{} is out of date at {at}; run `make generate`", path.display());
    Ok(())
}
