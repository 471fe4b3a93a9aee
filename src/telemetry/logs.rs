//! Writes structured logs: one line for each event, without hidden characters and of limited length.

use std::borrow::Cow;
use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::text::sanitize;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: plain text.
    #[default]
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// The default filter. Silences retries that the libraries log, because our watches log them already.
pub const DEFAULT_FILTER: &str = "info,kube_runtime=error,kube_client=error,kube_lease_manager=warn";

/// The error for an invalid filter.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(String);

/// Starts logging to standard error. A second call has no effect.
///
/// # Errors
/// The filter is invalid.
pub fn start(format: LogFormat, filter: &str) -> Result<(), FilterError> {
    let filter = EnvFilter::try_new(filter).map_err(|error| FilterError(error.to_string()))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| OneLine(std::io::stderr()))
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    // A logger that is installed already belongs to a test.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    Ok(())
}

/// Maximum length of a line in bytes. Our own lines are far shorter; a longer one contains something that should not be in a log.
const MAX_LENGTH: usize = 32 * 1024;
/// Characters that are kept of a longer line.
const SHOWN: usize = 2000;

/// Writes each event as exactly one line: untrusted text can neither start a new line nor control a terminal that shows it.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let mut line = as_line(text.strip_suffix('\n').unwrap_or(&text)).into_owned();
        line.push('\n');
        // One write: between two, another thread's line could come.
        self.0.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn as_line(event: &str) -> Cow<'_, str> {
    if event.len() <= MAX_LENGTH {
        return sanitize::escaped(event);
    }
    let beginning: String = event.chars().take(SHOWN).collect();
    let message = format!("a line of {} bytes was cut", event.len());
    if event.starts_with('{') {
        return sanitize::escaped(&serde_json::json!({"level": "WARN", "message": message, "beginning": beginning}).to_string())
            .into_owned()
            .into();
    }
    format!("{}… ({message})", sanitize::escaped(&beginning)).into()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, words: &str) -> String {
        let written = Written::default();
        let writer = written.clone();
        let builder = tracing_subscriber::fmt().with_writer(move || OneLine(writer.clone()));
        let tell = || tracing::warn!(id = %words, "it said {words}");
        match format {
            LogFormat::Text => tracing::subscriber::with_default(builder.with_ansi(false).finish(), tell),
            LogFormat::Json => tracing::subscriber::with_default(builder.json().flatten_event(true).finish(), tell),
        }
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn foreign_text_can_neither_begin_a_line_nor_control_a_terminal_in_either_format() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format, "a\n2026-11-20 ERROR forged\u{1b}[2J\u{202e}\u{e0041}b");
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            assert!(sanitize::is_plain(text.trim_end()) && text.contains("forged"), "{text}");
            if format == LogFormat::Json {
                let line: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(line["id"].as_str().unwrap().chars().filter(|character| *character == '\u{202e}').count(), 1);
            }
        }
    }

    #[test]
    fn the_length_of_a_line_is_limited() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format, &"x\u{202e}".repeat(4_000_000));
            assert!(text.len() < MAX_LENGTH && text.ends_with('\n') && text.contains("bytes was cut"), "{}", text.len());
            assert!(format == LogFormat::Text || serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        }
    }
}
