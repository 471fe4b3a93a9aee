//! Reading the guides: README and the pages of `src/docs/`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::components::repository_root;

/// README and the guides, with their paths from the root.
pub fn guides() -> Result<Vec<(PathBuf, String)>> {
    let root = repository_root();
    let mut paths = files(&root.join("src/docs"), ".md")?;
    paths.push(root.join("README.md"));
    let guides = paths.into_iter().map(|path| Ok((path.strip_prefix(&root)?.to_owned(), std::fs::read_to_string(&path)?)));
    guides.collect()
}

/// The fences of a text, each with its language, and the rest of the text.
pub fn split(text: &str) -> (Vec<(String, String)>, String) {
    let (mut blocks, mut prose) = (Vec::new(), String::new());
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, block))) => block.extend([line, "\n"]),
            (None, None) => prose.extend([line, "\n"]),
        }
    }
    (blocks, prose)
}

/// The here documents of shell commands: the lines between `<<'EOF'` and `EOF`.
pub fn here_documents(commands: &str) -> Vec<String> {
    let (mut found, mut open): (Vec<String>, Option<String>) = (Vec::new(), None);
    for line in commands.lines() {
        match &mut open {
            None if line.contains("<<'EOF'") => open = Some(String::new()),
            None => {}
            Some(_) if line == "EOF" => found.extend(open.take()),
            Some(text) => text.extend([line, "\n"]),
        }
    }
    found
}

/// The texts between single backticks.
pub fn code_spans(prose: &str) -> Vec<&str> {
    prose.split('`').skip(1).step_by(2).collect()
}

/// Every file below a folder whose name has this ending.
pub fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, ending)?);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
