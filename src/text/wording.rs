//! Formats values and errors for messages to users.

use kube::runtime::watcher;

use crate::text::json::JsonError;

/// Maximum length of a user's value in a message, in characters.
const LONGEST_QUOTE: usize = 120;

/// Quotes a user's value for a message: on one line, truncated, and without the part before an `@`, which may contain a password.
#[must_use]
pub fn quoted(value: &str) -> String {
    let shown = value.rsplit_once('@').map_or_else(|| value.to_owned(), |(_, rest)| format!("…@{rest}"));
    let end = if shown.chars().count() > LONGEST_QUOTE { "…" } else { "" };
    format!("{:?}", shown.chars().take(LONGEST_QUOTE).chain(end.chars()).collect::<String>())
}

/// Joins names for a sentence: `a`, `a and b`, `a, b and c`.
#[must_use]
pub fn enumerated<T: AsRef<str>>(names: &[T]) -> String {
    match names {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first = first.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
            format!("{first} and {}", last.as_ref())
        }
    }
}

/// The API server's own message. kube's text dumps all fields of the response, or quotes an object that it could not parse, which
/// may be a Secret.
#[must_use]
pub fn of_api_server(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => format!("{} ({})", status.message, status.code),
        kube::Error::Api(status) => format!("{} ({})", status.reason, status.code),
        kube::Error::SerdeError(error) => format!("the API server's answer could not be read: {}", JsonError::from(error)),
        other => other.to_string(),
    }
}

/// The API server's own message for a failed watch.
#[must_use]
pub fn of_watch(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
            of_api_server(error)
        }
        watcher::Error::WatchError(status) if !status.message.is_empty() => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}

/// A count with its noun in the right number: `1 binding`, `2 bindings`.
#[must_use]
pub fn pluralize(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_value_is_short_and_contains_no_password_and_no_line_break() {
        assert_eq!(quoted("no-path"), "\"no-path\"");
        assert_eq!(quoted("a\nb\u{1b}[31m"), "\"a\\nb\\u{1b}[31m\"");
        assert_eq!(quoted("https://ada:canary@acme.io:x/y"), "\"…@acme.io:x/y\"");
        assert_eq!(quoted(&"a".repeat(200)).chars().count(), LONGEST_QUOTE + 3);
    }

    #[test]
    fn names_are_joined_as_in_a_sentence() {
        assert_eq!([enumerated(&["a"]), enumerated(&["a", "b"]), enumerated(&["a", "b", "c"])], ["a", "a and b", "a, b and c"]);
    }

    #[test]
    fn an_error_of_the_api_server_is_reported_by_its_message() {
        let status = kube::core::Status::failure("secrets \"key\" not found", "NotFound").with_code(404);
        let text = of_api_server(&kube::Error::Api(Box::new(status)));
        assert_eq!(text, "secrets \"key\" not found (404)");
    }

    #[test]
    fn df_20_a_secret_that_the_api_server_sends_in_another_form_is_not_quoted() {
        let secret = r#"{"apiVersion":"v1","kind":"Secret","data":"canary"}"#;
        let error = serde_json::from_str::<k8s_openapi::api::core::v1::Secret>(secret).unwrap_err();
        assert!(error.to_string().contains("canary"), "the error of serde contains the secret");
        assert!(!of_api_server(&kube::Error::SerdeError(error)).contains("canary"));
    }
}
