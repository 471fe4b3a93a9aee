//! Classifies refusals. One table serves all providers; each provider's own table takes precedence.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::call::{Access, Operation};
use super::limits::RateMarks;
use crate::providers::ErrorKind;
use crate::text::json;

/// Maximum number of values in the document of a refusal: more than any provider needs for its explanation.
const MOST_VALUES: usize = 2000;

/// A response that may be a refusal: the input of a provider's own table.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// The operation of the call.
    pub operation: Operation,
    /// Whether the call changes something.
    pub access: Access,
    /// The HTTP status.
    pub status: StatusCode,
    /// The response headers.
    pub headers: &'a HeaderMap,
    /// The body: complete for a success, otherwise at most its beginning.
    pub body: &'a [u8],
    /// The provider's message, not yet safe to show; empty if there is none.
    pub message: &'a str,
    /// Whether the body is a web page.
    pub is_html: bool,
}

/// A provider's own table: `None` leaves the response to the default table. It is called for every response, including 2xx.
pub type Classifier = fn(&Failure<'_>) -> Option<ErrorKind>;

/// The table of a provider without differences from the default.
pub(super) const fn no_differences(_: &Failure<'_>) -> Option<ErrorKind> {
    None
}

/// The default table. `None` is a success.
pub(super) fn default_kind(failure: &Failure<'_>, marks: &RateMarks) -> Option<ErrorKind> {
    use ErrorKind::{Conflict, NotFound, PermissionDenied, Proxy, RateLimited, Rejected, ResponseInvalid, Transient, Unauthenticated};
    let kind = match failure.status.as_u16() {
        407 | 511 => Proxy,
        429 => RateLimited,
        501 | 505 => ResponseInvalid,
        500.. | 408 | 421 | 425 => Transient,
        // A web page in place of the API: a login, a firewall, another product.
        _ if failure.is_html => ResponseInvalid,
        200..=299 => return None,
        // The response to a conditional request: the cached document is still valid.
        304 if failure.access == Access::Read => return None,
        401 => Unauthenticated,
        403 if marks.tell_of_exhaustion() => RateLimited,
        402 | 403 | 451 => PermissionDenied,
        404 | 410 => NotFound,
        ..400 | 405 | 406 | 426 => ResponseInvalid,
        409 | 412 => Conflict,
        400.. => Rejected,
    };
    Some(kind)
}

pub(super) fn is_html(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("text/html") || essence.eq_ignore_ascii_case("application/xhtml+xml")
}

/// The provider's own message in the body of a refusal: from the usual fields, else plain text.
pub(super) fn message(headers: &HeaderMap, body: &[u8]) -> String {
    if is_html(headers) {
        return String::new();
    }
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        // Only the beginning of a long body was read, so a character may be truncated.
        Err(error) if error.error_len().is_none() => {
            body.get(..error.valid_up_to()).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
        }
        Err(_) => return String::new(),
    };
    let document = if json::has_at_most(MOST_VALUES, body) { json::read_text::<Value>(text).ok() } else { None };
    match document {
        Some(document) => in_document(&document).unwrap_or_default(),
        None => text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned(),
    }
}

fn in_document(document: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
    let first = |value: &Value| value.as_array().and_then(|items| items.iter().find_map(|item| text(item).or_else(|| in_document(item))));
    let at = |name: &str| document.get(name);
    let message =
        at("message").and_then(|value| text(value).or_else(|| in_document(value)).or_else(|| value.is_object().then(|| value.to_string())));
    let details = at("errors").and_then(first);
    match (message, details) {
        (Some(message), Some(details)) if message != details => Some(format!("{message}: {details}")),
        (Some(message), _) => Some(message),
        (None, Some(details)) => Some(details),
        (None, None) => {
            at("error_description").and_then(text).or_else(|| at("error").and_then(|value| text(value).or_else(|| explained(value))))
        }
    }
}

/// The message of an error object, with its details on single fields and required scopes.
fn explained(error: &Value) -> Option<String> {
    let fields = error.get("fields").and_then(Value::as_object).into_iter().flatten();
    let fields = fields.flat_map(|(name, texts)| texts.as_array().into_iter().flatten().map(move |text| (name.as_str(), text)));
    let fields = fields.filter_map(|(name, text)| Some(format!("{name}: {}", text.as_str()?)));
    let detail = error.get("detail");
    let text = detail.and_then(Value::as_str).map(str::to_owned);
    let required = detail.and_then(|detail| detail.get("required")?.as_array()).into_iter().flatten();
    let required = required.filter_map(|scope| Some(format!("required: {}", scope.as_str()?)));
    let parts: Vec<_> = in_document(error).into_iter().chain(fields).chain(text).chain(required).collect();
    Some(parts.join("; ")).filter(|parts| !parts.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn kind(status: u16, pairs: &[(&'static str, &'static str)]) -> Option<ErrorKind> {
        kind_of(Access::Read, status, pairs)
    }

    fn kind_of(access: Access, status: u16, pairs: &[(&'static str, &'static str)]) -> Option<ErrorKind> {
        let headers: HeaderMap =
            pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        let failure = Failure {
            operation: Operation::ListHooks,
            access,
            status: StatusCode::from_u16(status).unwrap(),
            headers: &headers,
            body: b"",
            message: "",
            is_html: is_html(&headers),
        };
        default_kind(&failure, &RateMarks::read(&headers, "2026-11-20T12:00:00Z".parse().unwrap()))
    }

    #[test]
    fn every_status_has_its_kind() {
        for status in 100..=599 {
            let expected = match status {
                200..=299 | 304 => None,
                100..=399 | 405 | 406 | 426 | 501 | 505 => Some(ErrorKind::ResponseInvalid),
                401 => Some(ErrorKind::Unauthenticated),
                402 | 403 | 451 => Some(ErrorKind::PermissionDenied),
                404 | 410 => Some(ErrorKind::NotFound),
                407 | 511 => Some(ErrorKind::Proxy),
                409 | 412 => Some(ErrorKind::Conflict),
                429 => Some(ErrorKind::RateLimited),
                408 | 421 | 425 | 500.. => Some(ErrorKind::Transient),
                _ => Some(ErrorKind::Rejected),
            };
            assert_eq!(kind(status, &[]), expected, "{status}");
        }
        assert_eq!(kind_of(Access::Delete, 304, &[]), Some(ErrorKind::ResponseInvalid), "no write is conditional");
    }

    #[test]
    fn a_page_for_people_is_no_answer_of_the_api() {
        let html = [("content-type", "Text/HTML; charset=utf-8")];
        for status in [200, 203, 302, 400, 401, 403, 404, 422] {
            assert_eq!(kind(status, &html), Some(ErrorKind::ResponseInvalid), "{status}");
        }
        assert_eq!(kind(429, &html), Some(ErrorKind::RateLimited));
        assert_eq!(kind(502, &html), Some(ErrorKind::Transient));
        assert_eq!(kind(407, &html), Some(ErrorKind::Proxy));
    }

    #[test]
    fn a_refusal_with_rate_marks_is_about_the_rate() {
        assert_eq!(kind(403, &[("retry-after", "5")]), Some(ErrorKind::RateLimited));
        assert_eq!(kind(403, &[("x-ratelimit-remaining", "0")]), Some(ErrorKind::RateLimited));
        assert_eq!(kind(403, &[("x-ratelimit-remaining", "1")]), Some(ErrorKind::PermissionDenied));
        assert_eq!(kind(404, &[("retry-after", "5")]), Some(ErrorKind::NotFound));
    }

    #[test]
    fn the_providers_words_are_found_where_providers_put_them() {
        let read = |body: &str| message(&HeaderMap::new(), body.as_bytes());
        for (body, expected) in [
            (r#"{"message":"Invalid url","url":"https://x"}"#, "Invalid url"),
            (r#"{"message":"Validation Failed","errors":[{"message":"Hook already exists"}]}"#, "Validation Failed: Hook already exists"),
            (r#"{"error":"insufficient_scope","error_description":"needs api"}"#, "needs api"),
            (r#"{"error":"Invalid url given"}"#, "Invalid url given"),
            (r#"{"type":"error","error":{"message":"lack scopes"}}"#, "lack scopes"),
            (r#"{"error":{"message":"Bad request","fields":{"url":["Enter a valid URL."]}}}"#, "Bad request; url: Enter a valid URL."),
            (r#"{"error":{"message":"lack scopes","detail":{"required":["webhook"]}}}"#, "lack scopes; required: webhook"),
            (r#"{"error":{"message":"Not found","detail":"no such hook"}}"#, "Not found; no such hook"),
            (r#"{"errors":[{"context":null,"message":"not permitted"}]}"#, "not permitted"),
            (r#"{"message":{"base":["too many"]}}"#, r#"{"base":["too many"]}"#),
            ("\u{feff}{\"message\":\"TF400813\"}", "TF400813"),
            ("\n Retry later \n more", "Retry later"),
            ("[]", ""),
            ("", ""),
        ] {
            assert_eq!(read(body), expected, "{body}");
        }
        let html = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/html"))]);
        assert_eq!(message(&html, b"<h1>Sign in</h1>"), "");
        assert_eq!(message(&HeaderMap::new(), b"\xff\xfe"), "");
    }
}
