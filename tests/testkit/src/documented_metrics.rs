//! The metrics that `src/docs/guide/reference/metrics.md` describes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};

use crate::components::repository_root;

pub const METRICS: &str = "src/docs/guide/reference/metrics.md";

/// The heading that ends our own metrics and begins those of kube-state-metrics.
const OBJECTS: &str = "\n## Each object by kube-state-metrics\n";

/// A metric: its type, labels and meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    pub kind: String,
    pub labels: BTreeSet<String>,
    pub meaning: String,
}

/// Our own metrics.
pub fn documented() -> Result<BTreeMap<String, Metric>> {
    tables(read()?.split_once(OBJECTS).context("no part about kube-state-metrics")?.0)
}

/// The metrics of kube-state-metrics.
pub fn documented_objects() -> Result<BTreeMap<String, Metric>> {
    tables(read()?.split_once(OBJECTS).context("no part about kube-state-metrics")?.1)
}

fn tables(text: &str) -> Result<BTreeMap<String, Metric>> {
    let is_row = |line: &&str| ["| `forgebind_", "| `process_"].iter().any(|begin| line.starts_with(begin));
    let rows = text.lines().filter(is_row).map(|line| {
        let cells = cells(line);
        ensure!(cells.len() == 4, "{METRICS}: not four cells: {line}");
        let labels = cells[2].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        Ok((cells[0].trim_matches('`').to_owned(), Metric { kind: cells[1].to_owned(), labels, meaning: cells[3].to_owned() }))
    });
    rows.collect()
}

/// The cells of a row of a table.
pub fn cells(row: &str) -> Vec<&str> {
    row.trim().trim_matches('|').split('|').map(str::trim).collect()
}

fn read() -> Result<String> {
    std::fs::read_to_string(repository_root().join(METRICS)).with_context(|| METRICS.to_owned())
}
