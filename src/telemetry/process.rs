//! Metrics of the process: its version and role, and the resources that it uses.

use std::fs;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::clock::SharedClock;

/// The version and role of this process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    role: &'static str,
}

/// The standard process metrics, under the names that Prometheus' own clients use. What the system does not provide stays 0.
#[derive(Clone, Debug)]
pub struct ProcessMetrics {
    build: Family<BuildLabels, Gauge>,
    start_time: Gauge,
    resident_memory: Gauge,
    open_files: Gauge,
    most_files: Gauge,
}

impl ProcessMetrics {
    /// Registers the metrics for a process that starts now. `role` is `controller`, `receiver` or `run`.
    pub fn register(registry: &mut Registry, role: &'static str, clock: &SharedClock) -> Self {
        let metrics = Self {
            build: Family::default(),
            start_time: Gauge::default(),
            resident_memory: Gauge::default(),
            open_files: Gauge::default(),
            most_files: Gauge::default(),
        };
        registry.register("forgebind_build_info", "Always 1, the labels describe the process", metrics.build.clone());
        registry.register_with_unit(
            "process_start_time",
            "Start time of the process in seconds since 1970",
            Unit::Seconds,
            metrics.start_time.clone(),
        );
        registry.register_with_unit("process_resident_memory", "Resident memory", Unit::Bytes, metrics.resident_memory.clone());
        registry.register("process_open_fds", "Open file descriptors, including connections", metrics.open_files.clone());
        registry.register("process_max_fds", "Maximum number of open file descriptors", metrics.most_files.clone());
        metrics.build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION"), role }).set(1);
        metrics.start_time.set(clock.now().as_second());
        metrics
    }

    /// Updates the metrics from `/proc`.
    pub fn refresh(&self) {
        if let Some(kibibytes) = figure("/proc/self/status", "VmRSS:") {
            self.resident_memory.set(kibibytes.saturating_mul(1024));
        }
        if let Some(most) = figure("/proc/self/limits", "Max open files") {
            self.most_files.set(most);
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is the handle of this directory.
            self.open_files.set(i64::try_from(open.count()).unwrap_or(i64::MAX).saturating_sub(1));
        }
    }
}

/// The first number after a name at the start of a line.
fn figure(path: &str, name: &str) -> Option<i64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_process_exports_its_start_time_and_its_resource_usage() {
        let clock: SharedClock = Arc::new(SystemClock);
        let before = clock.now().as_second();
        let metrics = ProcessMetrics::register(&mut Registry::default(), "controller", &clock);
        metrics.refresh();
        assert!(metrics.start_time.get() >= before);
        assert!(metrics.resident_memory.get() > 1024 * 1024, "{metrics:?}");
        assert!(metrics.open_files.get() > 0 && metrics.open_files.get() < metrics.most_files.get(), "{metrics:?}");
    }
}
