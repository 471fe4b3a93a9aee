//! Classifies Bitbucket Data Center's error responses where they differ from the default table. The server answers 401 also
//! if a known account lacks permission. The class of the server's exception distinguishes the two cases, or otherwise the
//! header with the account's name.

use http::header::HeaderName;
use http::{HeaderMap, StatusCode};

use super::wire;
use crate::providers::ErrorKind;
use crate::providers::transport::{Access, Answer, Failure, Operation};

/// Header with the name of the authenticated account. Absent if the request was not authenticated.
pub(super) const USER_NAME: HeaderName = HeaderName::from_static("x-ausername");
/// Header with the reason why a log-in was denied although its password may be correct.
const DENIED_REASON: HeaderName = HeaderName::from_static("x-authentication-denied-reason");

pub(super) fn classify(failure: &Failure<'_>) -> Option<ErrorKind> {
    let status = failure.status.as_u16();
    match status {
        401 | 403 if is_captcha(failure.headers, failure.body) => Some(ErrorKind::Unauthenticated),
        401 => unauthorized(failure),
        // Git requests are answered with HTML pages.
        403 if failure.operation == Operation::ProbeGit => Some(ErrorKind::PermissionDenied),
        404 if failure.operation == Operation::ProbeGit => Some(ErrorKind::NotFound),
        400 | 403 | 409 if failure.access != Access::Read && tells_of_an_archive(failure) => Some(ErrorKind::Archived),
        // The repository was moved: it must be looked up under its new path.
        301 | 307 | 308 if failure.access != Access::Read => Some(ErrorKind::Conflict),
        _ => None,
    }
}

fn unauthorized(failure: &Failure<'_>) -> Option<ErrorKind> {
    let exception = exception(failure.body).unwrap_or_default();
    if exception.ends_with("AuthorisationException") {
        Some(ErrorKind::PermissionDenied)
    } else if exception.ends_with("AuthenticationException") {
        Some(ErrorKind::Unauthenticated)
    } else if failure.headers.contains_key(USER_NAME) {
        Some(ErrorKind::PermissionDenied)
    } else if failure.operation == Operation::ProbeGit {
        Some(ErrorKind::Unauthenticated)
    } else {
        None
    }
}

fn tells_of_an_archive(failure: &Failure<'_>) -> bool {
    let exception = exception(failure.body).unwrap_or_default();
    exception.contains("Archived") || failure.message.to_lowercase().contains("archived")
}

/// Whether the account has to solve a CAPTCHA in a browser before its password is accepted again.
fn is_captcha(headers: &HeaderMap, body: &[u8]) -> bool {
    let denied = headers.get(DENIED_REASON).and_then(|value| value.to_str().ok()).unwrap_or_default();
    denied.starts_with("CAPTCHA_CHALLENGE") || exception(body).is_some_and(|name| name.ends_with("CaptchaRequiredAuthenticationException"))
}

pub(super) fn asks_for_captcha(answer: &Answer) -> bool {
    is_captcha(answer.headers(), answer.body())
}

/// The class of the server's exception, with its package.
fn exception(body: &[u8]) -> Option<String> {
    let refusal: wire::Refusal = crate::text::json::read(body).ok()?;
    refusal.errors.into_iter().find_map(|cause| cause.exception_name)
}

/// Whether an answer about a repository that was just found means that something in the repository is missing, such as a
/// branch that was never pushed, and not the repository itself.
pub(super) fn lacks_only_content(answer: &Answer) -> bool {
    let gone = matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::NOT_FOUND | StatusCode::CONFLICT);
    let exception = exception(answer.body()).unwrap_or_default();
    gone && !["NoSuchRepositoryException", "NoSuchProjectException"].iter().any(|name| exception.ends_with(name))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const BODIES: &[(&str, Option<ErrorKind>)] = &[
        (
            r#"{"errors":[{"context":null,"message":"You are not permitted to access this resource","exceptionName":"com.atlassian.bitbucket.AuthorisationException"}]}"#,
            Some(ErrorKind::PermissionDenied),
        ),
        (
            r#"{"errors":[{"message":"Authentication failed.","exceptionName":"com.atlassian.bitbucket.auth.IncorrectPasswordAuthenticationException"}]}"#,
            Some(ErrorKind::Unauthenticated),
        ),
        (
            r#"{"errors":[{"message":"CAPTCHA required.","exceptionName":"com.atlassian.bitbucket.auth.CaptchaRequiredAuthenticationException"}]}"#,
            Some(ErrorKind::Unauthenticated),
        ),
        (r#"{"errors":[{"message":"no class","exceptionName":null}]}"#, None),
        ("", None),
        ("<html>", None),
    ];

    fn kind(status: u16, operation: Operation, access: Access, headers: &HeaderMap, body: &str) -> Option<ErrorKind> {
        let status = StatusCode::from_u16(status).unwrap();
        let message = if body.contains("archived") { "This repository is archived" } else { "" };
        classify(&Failure { operation, access, status, headers, body: body.as_bytes(), message, is_html: false })
    }

    #[test]
    fn a_401_is_told_apart_by_its_exception_and_then_by_the_account() {
        let anonymous = HeaderMap::new();
        let known = HeaderMap::from_iter([(USER_NAME, HeaderValue::from_static("ada"))]);
        for (body, expected) in BODIES {
            assert_eq!(kind(401, Operation::ListHooks, Access::Read, &anonymous, body), *expected, "{body}");
            let expected = expected.unwrap_or(ErrorKind::PermissionDenied);
            assert_eq!(kind(401, Operation::ListHooks, Access::Read, &known, body), Some(expected), "{body}");
        }
        assert_eq!(kind(401, Operation::ProbeGit, Access::Read, &anonymous, "<html>"), Some(ErrorKind::Unauthenticated));
        assert_eq!(kind(401, Operation::ProbeGit, Access::Read, &known, "<html>"), Some(ErrorKind::PermissionDenied));
    }

    #[test]
    fn a_captcha_is_a_rejected_credential_whatever_the_status() {
        let headers = HeaderMap::from_iter([(DENIED_REASON, HeaderValue::from_static("CAPTCHA_CHALLENGE; login-url=https://git/login"))]);
        for status in [401, 403] {
            assert_eq!(kind(status, Operation::ListHooks, Access::Read, &headers, ""), Some(ErrorKind::Unauthenticated));
            assert_eq!(kind(status, Operation::ListHooks, Access::Read, &HeaderMap::new(), BODIES[2].0), Some(ErrorKind::Unauthenticated));
        }
    }

    #[test]
    fn every_status_but_these_is_left_to_the_default() {
        let headers = HeaderMap::new();
        for status in 100..=599 {
            for access in [Access::Read, Access::Write, Access::Delete] {
                let expected = match status {
                    301 | 307 | 308 if access != Access::Read => Some(ErrorKind::Conflict),
                    _ => None,
                };
                assert_eq!(kind(status, Operation::CreateHook, access, &headers, ""), expected, "{status} {access:?}");
                let archived = (matches!(status, 400 | 403 | 409) && access != Access::Read).then_some(ErrorKind::Archived);
                assert_eq!(kind(status, Operation::CreateHook, access, &headers, "archived"), archived.or(expected), "{status} {access:?}");
            }
        }
        assert_eq!(kind(404, Operation::ProbeGit, Access::Read, &headers, "<html>"), Some(ErrorKind::NotFound));
        assert_eq!(kind(403, Operation::ProbeGit, Access::Read, &headers, "<html>"), Some(ErrorKind::PermissionDenied));
    }
}
