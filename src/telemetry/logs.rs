//! Structured logs: one line for each thing that happened.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// What is logged when nothing else is asked for. The libraries below tell of retries that the watches tell of already.
pub const DEFAULT_FILTER: &str = "info,kube_runtime=error,kube_client=error,kube_lease_manager=warn";

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(String);

/// Starts logging to standard error. A second call changes nothing.
///
/// # Errors
/// A filter that cannot be read.
pub fn start(format: LogFormat, filter: &str) -> Result<(), FilterError> {
    let filter = EnvFilter::try_new(filter).map_err(|error| FilterError(error.to_string()))?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_span_events(FmtSpan::NONE).with_target(false);
    // A logger that is there already is the one of a test.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    Ok(())
}
