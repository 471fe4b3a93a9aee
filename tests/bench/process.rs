//! What the kernel knows about the operator's process.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Resident memory in bytes of the one process that runs this program.
///
/// # Errors
///
/// When there is none.
pub fn resident(program: &Path) -> Result<u64> {
    let status = std::fs::read_to_string(folder(program)?.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

/// The processor time that it has used so far, in seconds: of the user and of the system, in ticks of which every Linux tells
/// 100 a second.
///
/// # Errors
///
/// When there is none.
pub fn processor_seconds(program: &Path) -> Result<f64> {
    let stat = std::fs::read_to_string(folder(program)?.join("stat"))?;
    // The name in parentheses may hold anything; fields 14 and 15 are the 12th and 13th after it.
    let fields: Vec<&str> = stat.rsplit_once(") ").context("no name")?.1.split(' ').collect();
    let ticks: f64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

fn folder(program: &Path) -> Result<PathBuf> {
    let program = program.canonicalize()?;
    for entry in std::fs::read_dir("/proc")? {
        let folder = entry?.path();
        if std::fs::read_link(folder.join("exe")).is_ok_and(|executable| executable == program) {
            return Ok(folder);
        }
    }
    anyhow::bail!("nothing runs {}", program.display())
}
