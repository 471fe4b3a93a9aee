//! What a command answers.

/// The output of a command, and whether everything is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The text for standard output.
    pub text: String,
    /// Whether no link is broken.
    pub ok: bool,
}

/// Why a command could not run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TraceError(pub String);
