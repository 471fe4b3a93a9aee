//! Where GitHub's refusals differ from the default table.
//!
//! GitHub tells rate limits, single sign-on, suspension and plain want of a right apart by words and headers: all of them
//! are 403.

use http::HeaderMap;
use serde::Deserialize;

use crate::providers::ErrorKind;
use crate::providers::transport::{Access, Failure};

/// Says that single sign-on is why a token was refused, and where its owner may authorize it.
const SINGLE_SIGN_ON: &str = "x-github-sso";

pub(super) fn classify(failure: &Failure<'_>) -> Option<ErrorKind> {
    let words = failure.message.to_lowercase();
    let says = |text: &str| words.contains(text);
    match failure.status.as_u16() {
        // A renamed repository or owner: look it up again, under its new path.
        301 | 302 | 307 | 308 if failure.access != Access::Read => Some(ErrorKind::Conflict),
        // Before anything else: a rate limit is no want of a right. Too many rejected logins are one as well, and hit the
        // valid credentials of the account too.
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

/// The page of the documentation that a refusal names is more constant than its words.
fn points_to_rate_limits(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Refusal {
        documentation_url: String,
    }
    let page = crate::text::json::read(body).map_or_else(|_| String::new(), |refusal: Refusal| refusal.documentation_url);
    page.ends_with("secondary-rate-limits") || page.ends_with("#abuse-rate-limits")
}

/// `partial-results` stands in successes, `required` in refusals.
fn requires_single_sign_on(headers: &HeaderMap) -> bool {
    headers.get(SINGLE_SIGN_ON).is_some_and(|value| value.as_bytes().starts_with(b"required"))
}

/// Whether a 403 says that the token is an installation's, which has no account.
pub(super) fn is_installation_token(message: &str) -> bool {
    message.contains("Resource not accessible by integration")
}

/// Whether a 401 to a JWT is about its times: our clock or GitHub's is wrong.
pub(super) fn is_about_the_clock(message: &str) -> bool {
    message.contains("'exp'") || message.contains("'iat'")
}

/// Whether a 422 says that an installation has not the rights that a token was asked with.
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
