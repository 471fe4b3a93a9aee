//! The kernel's data about a process.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Resident memory in bytes.
///
/// # Errors
///
/// When there is no such process.
pub fn resident(process: u32) -> Result<u64> {
    memory(process, "VmRSS:")
}

/// The peak of the resident memory, in bytes.
///
/// # Errors
///
/// When there is no such process.
pub fn peak(process: u32) -> Result<u64> {
    memory(process, "VmHWM:")
}

fn memory(process: u32, what: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)).with_context(|| format!("no {what}"))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

/// The processor time that a process has used so far, in seconds: user and system time, in ticks. Every Linux has 100 ticks per
/// second.
///
/// # Errors
///
/// When there is no such process.
pub fn processor_seconds(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may contain any character; fields 14 and 15 are the 12th and 13th after it.
    let fields: Vec<&str> = stat.rsplit_once(") ").context("no name")?.1.split(' ').collect();
    let ticks: f64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

/// The only other process that runs this program.
///
/// # Errors
///
/// When none does.
pub fn pid(program: &Path) -> Result<u32> {
    let program = program.canonicalize()?;
    for entry in std::fs::read_dir("/proc")? {
        let folder = entry?.path();
        let number = folder.file_name().and_then(|name| name.to_str()?.parse().ok());
        let runs_it = std::fs::read_link(folder.join("exe")).is_ok_and(|executable| executable == program);
        if let Some(number) = number.filter(|number| runs_it && *number != std::process::id()) {
            return Ok(number);
        }
    }
    anyhow::bail!("no process runs {}", program.display())
}
