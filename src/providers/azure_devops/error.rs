//! Classifies Azure DevOps's error responses where they differ from the default table.

use http::HeaderMap;
use http::header::LOCATION;

use crate::providers::ErrorKind;
use crate::providers::transport::{Failure, Operation};

/// Parts of the URLs to which an unauthenticated request is redirected.
const SIGN_IN: [&str; 4] = ["_signin", "_signedin", "login.microsoftonline.com", "login.live.com"];

/// Prefix of the error message of a conditional access policy.
const CONDITIONAL_ACCESS: &str = "VS403463";

pub(super) fn classify(failure: &Failure<'_>) -> Option<ErrorKind> {
    match failure.status.as_u16() {
        // The credential may be valid: the organization's directory allows no access from here.
        401 | 403 if failure.message.contains(CONDITIONAL_ACCESS) => Some(ErrorKind::AccessPolicy),
        // An invalid credential gets the sign-in page, as a successful answer or by a redirect.
        203 => Some(ErrorKind::Unauthenticated),
        300..=399 if leads_to_sign_in(failure.headers) => Some(ErrorKind::Unauthenticated),
        200..=299 | 401 if failure.is_html => Some(ErrorKind::Unauthenticated),
        404 if is_about_a_disabled_repository(failure.message) => Some(ErrorKind::Archived),
        400 if is_hook_write(failure.operation) && is_about_the_target(failure.message) => Some(ErrorKind::TargetRefused),
        _ => None,
    }
}

fn leads_to_sign_in(headers: &HeaderMap) -> bool {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    SIGN_IN.iter().any(|part| location.contains(part))
}

/// Git operations on a disabled repository get a not-found error with this message.
fn is_about_a_disabled_repository(message: &str) -> bool {
    message.to_ascii_lowercase().contains("is disabled")
}

const fn is_hook_write(operation: Operation) -> bool {
    matches!(operation, Operation::CreateHook | Operation::UpdateHook)
}

/// The server refuses targets on localhost and in special IP ranges, and basic authentication without https.
fn is_about_the_target(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["localhost", "loopback", "ip address", "ip range", "special range", "https"].iter().any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode};

    use super::*;
    use crate::providers::transport::Access;

    fn kind(status: u16, operation: Operation, location: Option<&'static str>, message: &str, is_html: bool) -> Option<ErrorKind> {
        let headers = location.map(|location| (LOCATION, HeaderValue::from_static(location))).into_iter().collect();
        let status = StatusCode::from_u16(status).unwrap();
        classify(&Failure { operation, access: Access::Read, status, headers: &headers, body: b"", message, is_html })
    }

    #[test]
    fn every_status_but_these_is_left_to_the_default() {
        for status in 100..=599 {
            let expected = (status == 203).then_some(ErrorKind::Unauthenticated);
            assert_eq!(kind(status, Operation::ListHooks, None, "", false), expected, "{status}");
        }
    }

    #[test]
    fn the_sign_in_page_means_not_signed_in() {
        for status in [200, 203, 401] {
            assert_eq!(kind(status, Operation::InspectCredential, None, "", true), Some(ErrorKind::Unauthenticated), "{status}");
        }
        for status in [404, 500, 502] {
            assert_eq!(kind(status, Operation::InspectCredential, None, "", true), None, "{status}");
        }
        for location in ["https://spsprodweu1.vssps.visualstudio.com/_signin?realm=dev.azure.com", "/acme/_signin"] {
            assert_eq!(kind(302, Operation::LookUpRepository, Some(location), "", true), Some(ErrorKind::Unauthenticated), "{location}");
        }
        assert_eq!(kind(302, Operation::LookUpRepository, Some("/acme/Shop/_apis/git/repositories/1"), "", false), None);
    }

    #[test]
    fn a_policy_of_the_directory_is_no_wrong_credential() {
        let words = "VS403463: The conditional access policy defined by your Azure Active Directory administrator has failed.";
        for status in [401, 403] {
            assert_eq!(kind(status, Operation::InspectCredential, None, words, false), Some(ErrorKind::AccessPolicy), "{status}");
        }
        assert_eq!(kind(404, Operation::InspectCredential, None, words, false), None);
    }

    #[test]
    fn a_refused_target_and_a_disabled_repository_are_told_apart() {
        let local = "The URL must not point to localhost or a special IP range.";
        assert_eq!(kind(400, Operation::CreateHook, None, local, false), Some(ErrorKind::TargetRefused));
        assert_eq!(kind(400, Operation::ListHooks, None, local, false), None);
        assert_eq!(kind(400, Operation::CreateHook, None, "Subscription input 'repository' is not valid.", false), None);
        assert_eq!(kind(404, Operation::LookUpBranch, None, "VS403434: The repository is disabled.", false), Some(ErrorKind::Archived));
    }
}
