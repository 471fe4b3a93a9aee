//! Parses untrusted JSON without repeating it in errors: serde's own errors quote the value that does not match, which may be a
//! secret or megabytes long.

use serde::Deserialize;
use serde_json::error::Category;

/// A parse error: the position and the kind of mistake, and nothing of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at line {line} column {column}")]
pub struct JsonError {
    what: &'static str,
    line: usize,
    column: usize,
}

impl From<&serde_json::Error> for JsonError {
    fn from(error: &serde_json::Error) -> Self {
        let what = match error.classify() {
            Category::Data => "a field is missing or has the wrong type",
            Category::Eof => "the document is truncated",
            Category::Syntax | Category::Io => "the document is not JSON, or is nested too deeply",
        };
        Self { what, line: error.line(), column: error.column() }
    }
}

/// Parses a document. Accepts a leading byte order mark, which some servers send.
///
/// # Errors
/// The document is not of the expected form.
pub fn read<'a, T: Deserialize<'a>>(document: &'a [u8]) -> Result<T, JsonError> {
    let document = document.strip_prefix("\u{feff}".as_bytes()).unwrap_or(document);
    serde_json::from_slice(document).map_err(|error| JsonError::from(&error))
}

/// As [`read`], for text.
///
/// # Errors
/// The document is not of the expected form.
pub fn read_text<'a, T: Deserialize<'a>>(document: &'a str) -> Result<T, JsonError> {
    read(document.as_bytes())
}

/// Whether a document has at most this many values: once parsed, small values take many times their length in memory.
#[must_use]
pub fn has_at_most(values: usize, document: &[u8]) -> bool {
    let (mut found, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in document {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => found += 1,
            _ => {}
        }
    }
    found <= values
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Ignoring {
        #[expect(dead_code, reason = "what is asked for is not there")]
        wanted: u8,
    }

    #[test]
    fn df_20_an_error_contains_the_position_and_nothing_of_the_document() {
        let long = format!(r#"{{"token": "canary{}"}}"#, "x".repeat(10_000_000));
        for document in [long.as_str(), r#"{"token": canary}"#, r#"{"token": 1, "canary"#, r#"["canary"]"#] {
            let error = read_text::<BTreeMap<String, u8>>(document).unwrap_err().to_string();
            assert!(!error.contains("canary") && error.len() < 100 && error.contains(" at line 1 column "), "{error}");
        }
        assert_eq!(read_text("\u{feff}[1]"), Ok(vec![1]));
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_stack_overflow() {
        for opening in ["[", r#"{"a":"#] {
            let document = opening.repeat(4_000_000);
            assert!(read_text::<serde_json::Value>(&document).is_err());
            assert!(read_text::<Ignoring>(&document).is_err());
        }
    }

    #[test]
    fn punctuation_inside_strings_is_not_counted_as_values() {
        assert!(has_at_most(3, br#"[{"a":"[,{\"[","b":1}]"#) && !has_at_most(2, br#"[{"a":"[,{\"[","b":1}]"#));
        assert!(!has_at_most(1000, "[0".repeat(1001).as_bytes()));
    }
}
