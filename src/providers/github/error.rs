//! Classifies GitHub's error responses where they differ from the default table.
//!
//! GitHub answers rate limits, single sign-on, suspension and missing permissions with 403. Only the message and the
//! headers distinguish them.

use http::HeaderMap;
use serde::Deserialize;

use crate::providers::ErrorKind;
use crate::providers::transport::{Access, Failure};

/// Header that is sent when a token is refused because of single sign-on. It names the page where the owner can authorize
/// the token.
const SINGLE_SIGN_ON: &str = "x-github-sso";

pub(super) fn classify(failure: &Failure<'_>) -> Option<ErrorKind> {
    let words = failure.message.to_lowercase();
    let says = |text: &str| words.contains(text);
    match failure.status.as_u16() {
        // The repository or its owner was renamed: the repository must be looked up under its new path.
        301 | 302 | 307 | 308 if failure.access != Access::Read => Some(ErrorKind::Conflict),
        // Checked first, because a rate limit is not a missing permission. Too many rejected logins are a rate limit too,
        // which also affects the valid credentials of the account.
        403 | 429 if says("rate limit") || says("abuse detection") || says("number of login attempts exceeded") => {
            Some(ErrorKind::RateLimited)
        }
        403 | 429 if points_to_rate_limits(failure.body) => Some(ErrorKind::RateLimited),
        403 | 404 if requires_single_sign_on(failure.headers) => Some(ErrorKind::SingleSignOnRequired),
        403 if says("saml enforcement") => Some(ErrorKind::SingleSignOnRequired),
        403 if says("ip allow list") => Some(ErrorKind::AccessPolicy),
        403 if says("installation has been suspended") => Some(ErrorKind::InstallationSuspended),
        403 if says("archived") => Some(ErrorKind::Archived),
        422 if says("hook already exists") => Some(ErrorKind::Conflict),
        422 if says("cannot have more than") => Some(ErrorKind::LimitReached),
        422 if says("reachable over the public internet") => Some(ErrorKind::TargetRefused),
        _ => None,
    }
}

/// The documentation URL in an error response changes less often than the message.
fn points_to_rate_limits(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Refusal {
        documentation_url: String,
    }
    let page = crate::text::json::read(body).map_or_else(|_| String::new(), |refusal: Refusal| refusal.documentation_url);
    page.ends_with("secondary-rate-limits") || page.ends_with("#abuse-rate-limits")
}

/// The value starts with `partial-results` in successful answers and with `required` in error responses.
fn requires_single_sign_on(headers: &HeaderMap) -> bool {
    headers.get(SINGLE_SIGN_ON).is_some_and(|value| value.as_bytes().starts_with(b"required"))
}

/// Whether a 403 means that the token belongs to an installation, which has no account.
pub(super) fn is_installation_token(message: &str) -> bool {
    message.contains("Resource not accessible by integration")
}

/// Whether a 401 for a JWT is about its times, so that the local clock or GitHub's clock is wrong.
pub(super) fn is_about_the_clock(message: &str) -> bool {
    message.contains("'exp'") || message.contains("'iat'")
}

/// Whether a 422 means that the installation lacks the permissions requested for a token.
pub(super) fn is_about_granted_permissions(message: &str) -> bool {
    message.contains("permissions requested are not granted")
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::providers::transport::Operation;

    #[test]
    fn without_words_and_headers_every_status_is_left_to_the_default() {
        for status in 100..=599 {
            for access in [Access::Read, Access::Write, Access::Delete] {
                let headers = HeaderMap::new();
                let status = StatusCode::from_u16(status).unwrap();
                let found = classify(&Failure {
                    operation: Operation::ListHooks,
                    access,
                    status,
                    headers: &headers,
                    body: b"",
                    message: "",
                    is_html: false,
                });
                let moved = matches!(status.as_u16(), 301 | 302 | 307 | 308) && access != Access::Read;
                assert_eq!(found, moved.then_some(ErrorKind::Conflict), "{status} {access:?}");
            }
        }
    }
}
