//! Classifies GitLab's error responses where they differ from the default table.

use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;

use crate::providers::ErrorKind;
use crate::providers::transport::{Answer, Failure, Operation};
use crate::text::json;

pub(super) fn classify(failure: &Failure<'_>) -> Option<ErrorKind> {
    let words = failure.message.to_lowercase();
    let writes_hook = matches!(failure.operation, Operation::CreateHook | Operation::UpdateHook);
    match failure.status.as_u16() {
        403 if is_ban(failure) => Some(ErrorKind::RateLimited),
        403 if words.contains("archived") => Some(ErrorKind::Archived),
        400 | 404 | 422 if writes_hook && words.contains("maximum number of") && words.contains("exceeded") => {
            Some(ErrorKind::LimitReached)
        }
        400 | 422 if writes_hook && is_about_target(&words) => Some(ErrorKind::TargetRefused),
        _ => None,
    }
}

/// Whether an IP address is banned after too many failed authentications. The body is the bare word from the layer in front
/// of GitLab, not GitLab's JSON.
fn is_ban(failure: &Failure<'_>) -> bool {
    let content_type = failure.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    failure.message.trim() == "Forbidden" && !content_type.starts_with("application/json")
}

/// Matches `Invalid url given` and the reasons in validation errors, such as
/// `Requests to the local network are not allowed`.
fn is_about_target(words: &str) -> bool {
    words.contains("invalid url given") || words.contains("is blocked") || words.contains("local network")
}

/// An error in the format of OAuth 2.0.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// Whether a 403 is about the token's scopes or, for a fine-grained token, its permissions. The token is then valid. A
/// blocked account gets the same status.
pub(super) fn is_about_scopes(answer: &Answer) -> bool {
    let refusal = crate::text::json::read::<Refusal>(answer.body());
    answer.status() == StatusCode::FORBIDDEN
        && refusal.is_ok_and(|refusal| matches!(refusal.error.as_str(), "insufficient_scope" | "insufficient_granular_scope"))
}

/// Advice if a proxy in front of GitLab decodes `%2F` in URLs to a slash.
pub(super) const DECODED: &str = "GitLab does not receive encoded slashes: a proxy in front of it decodes %2F in addresses; configure it to pass them on (nginx: proxy_pass without a path; Apache: AllowEncodedSlashes NoDecode and nocanon), or set gitlab.apiURL to an address \
     without it";

/// Whether the URL is unknown to GitLab because an encoded slash in it arrived decoded. GitLab uses another message if the
/// project, group or branch does not exist.
pub(super) fn has_no_such_address(answer: &Answer) -> bool {
    let refusal = json::read::<Refusal>(answer.body());
    answer.status() == StatusCode::NOT_FOUND && refusal.is_ok_and(|refusal| refusal.error == "404 Not Found")
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::providers::transport::test_server::Server;
    use crate::providers::transport::{Access, Call};

    fn kind(status: u16, operation: Operation, message: &str, content_type: &'static str) -> Option<ErrorKind> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        let status = StatusCode::from_u16(status).unwrap();
        classify(&Failure { operation, access: Access::Write, status, headers: &headers, message, body: b"", is_html: false })
    }

    #[test]
    fn refusals_of_hooks_have_their_kind() {
        let json = |status, message| kind(status, Operation::CreateHook, message, "application/json");
        assert_eq!(json(422, "Invalid url given"), Some(ErrorKind::TargetRefused));
        assert_eq!(json(422, r#"{"url":["is blocked: Requests to localhost are not allowed"]}"#), Some(ErrorKind::TargetRefused));
        assert_eq!(json(422, r#"{"base":["Maximum number of project hooks (100) exceeded"]}"#), Some(ErrorKind::LimitReached));
        assert_eq!(json(422, "Maximum number of project hooks (100) exceeded"), Some(ErrorKind::LimitReached));
        assert_eq!(json(422, "Invalid branch filter given"), None);
        assert_eq!(json(403, "403 Forbidden"), None);
        assert_eq!(json(403, "403 Forbidden - Project is archived"), Some(ErrorKind::Archived));
        assert_eq!(kind(422, Operation::ListHooks, "Invalid url given", "application/json"), None);
    }

    #[test]
    fn a_ban_is_about_the_rate_and_not_about_the_credential() {
        assert_eq!(kind(403, Operation::ProbeGit, "Forbidden", "text/plain"), Some(ErrorKind::RateLimited));
        assert_eq!(kind(403, Operation::ProbeGit, "Forbidden", "application/json"), None);
        assert_eq!(kind(403, Operation::ProbeGit, "You are not allowed to download code from this project.", "text/plain"), None);
    }

    /// A GitLab answer for each kind of error response, with the expected classification.
    #[derive(Deserialize)]
    struct Fixture {
        kind: String,
        operation: String,
        status: u16,
        headers: std::collections::BTreeMap<String, String>,
        body: serde_json::Value,
    }

    impl Fixture {
        fn answer(&self) -> axum::response::Response {
            let body = self.body.as_str().map_or_else(|| self.body.to_string(), str::to_owned);
            let headers = self
                .headers
                .iter()
                .fold(http::Response::builder().status(self.status), |response, (name, value)| response.header(name, value));
            headers.body(axum::body::Body::from(body)).unwrap()
        }

        fn operation(&self) -> Operation {
            use Operation::{CreateHook, InspectCredential, ListHooks, LookUpRepository, ProbeGit, UpdateHook};
            let all = [CreateHook, InspectCredential, ListHooks, LookUpRepository, ProbeGit, UpdateHook];
            all.into_iter().find(|operation| operation.as_str() == self.operation).unwrap()
        }
    }

    #[tokio::test]
    async fn every_recorded_refusal_has_its_kind() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gitlab");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if !path.file_name().unwrap().to_string_lossy().starts_with("error-") {
                continue;
            }
            let fixture: Fixture = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let server = Server::start([fixture.answer()]).await;
            let call = Call::write(fixture.operation(), http::Method::PUT, server.url("/api/v4/x"));
            let answer = server.transport().classified_by(classify).send(call).await.unwrap();
            assert_eq!(answer.refusal().map(|kind| format!("{kind:?}")).as_deref(), Some(fixture.kind.as_str()), "{}", path.display());
            assert_eq!(is_about_scopes(&answer), path.to_string_lossy().contains("error-insufficient"), "{}", path.display());
            seen += 1;
        }
        assert!(seen >= 15, "{seen}");
    }
}
