//! Fuzz targets: what holds for every input that others write, stated as assertions. Compiled for tests and for `make fuzz`, never
//! into the binary.
//!
//! A target takes bytes and panics when its property does not hold. `tests.rs` replays the corpus of each
//! (`tests/fuzz/corpus/`) with some mutations; `tests/fuzz/` hands them to libFuzzer. Targets of private code are beside that
//! code, in files called `fuzz.rs`, so that nothing becomes visible for them.

mod patterns;
#[cfg(test)]
mod tests;

use crate::api::v1alpha1::ProviderKind;
use crate::providers::fuzz as providers;
use crate::receiver::fuzz as receiver;

/// Panics when its property does not hold for the input.
type Target = fn(&[u8]);

/// The targets and their names, without those of [`WEBHOOK`].
const TARGETS: &[(&str, Target)] = &[
    ("cloud_events", receiver::cloud_events),
    ("glob", patterns::glob),
    ("hook_path", receiver::hook_path),
    ("host_pattern", patterns::host_pattern),
    ("outbox_file", receiver::outbox_file),
    ("outbox_rows", receiver::outbox_rows),
    ("repository_path", providers::repository_path),
];

/// End of the names of the targets that every provider has: its verifier and its reader.
const WEBHOOK: &str = "_webhook";

/// The names of all targets.
#[must_use]
pub fn names() -> Vec<String> {
    let webhooks = ProviderKind::ALL.into_iter().map(|kind| format!("{}{WEBHOOK}", folder_of(kind)));
    TARGETS.iter().map(|(name, _)| (*name).to_owned()).chain(webhooks).collect()
}

/// Runs the target of this name.
///
/// # Panics
/// The target's property does not hold for this input, or there is no such target.
pub fn run(name: &str, data: &[u8]) {
    if let Some((_, target)) = TARGETS.iter().find(|(target, _)| *target == name) {
        return target(data);
    }
    let kind = name.strip_suffix(WEBHOOK).and_then(|folder| ProviderKind::ALL.into_iter().find(|kind| folder_of(*kind) == folder));
    providers::webhook(kind.unwrap_or_else(|| panic!("there is no fuzz target {name}")), data);
}

/// The name of a provider in the names of folders.
fn folder_of(kind: ProviderKind) -> String {
    kind.flag().replace('-', "_")
}
