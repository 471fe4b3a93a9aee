//! Classifies Bitbucket Cloud's error responses where they differ from the default table, and reads the scopes that answers
//! state.

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use super::wire;
use crate::providers::ErrorKind;
use crate::providers::transport::{Access, Failure, Operation};

/// Header that is present in every answer to a recognized credential, even if the credential lacks the permission for the
/// call. It is not documented, but answers contain it.
const CREDENTIAL_TYPE: &str = "x-credential-type";
/// Header with the scopes of the credential.
const GRANTED_SCOPES: &str = "x-oauth-scopes";

pub(super) fn classify(failure: &Failure<'_>) -> Option<ErrorKind> {
    match failure.status.as_u16() {
        // The repository was moved: it must be looked up under its new path.
        301 | 302 | 307 | 308 if failure.access != Access::Read => Some(ErrorKind::Conflict),
        400 if is_hook_write(failure.operation) => Some(refused_hook(failure.message)),
        403 if is_about_addresses(failure.message) => Some(ErrorKind::AccessPolicy),
        // A private repository is hidden from other accounts with this status.
        403 if failure.operation == Operation::LookUpRepository && !failure.is_html && hides(failure) => Some(ErrorKind::NotFound),
        // The operation was removed from the API. The repository is not missing.
        410 if failure.message.starts_with("CHANGE-") => Some(ErrorKind::ResponseInvalid),
        _ => None,
    }
}

const fn is_hook_write(operation: Operation) -> bool {
    matches!(operation, Operation::CreateHook | Operation::UpdateHook)
}

/// Whether the workspace does not allow access from this IP address.
fn is_about_addresses(message: &str) -> bool {
    let words = message.to_lowercase();
    ["allowlist your ip", "whitelist your ip"].iter().any(|part| words.contains(part))
}

/// Whether a 403 is about this repository rather than about scopes, networks or rate limits.
fn hides(failure: &Failure<'_>) -> bool {
    let words = failure.message.to_lowercase();
    let other = ["scope", "allowlist", "whitelist", "ip address", "two-step"];
    !failure.headers.contains_key(RETRY_AFTER) && !other.iter().any(|word| words.contains(word))
}

/// The reason why a hook was refused: too many hooks, its URL, or something else.
fn refused_hook(message: &str) -> ErrorKind {
    let words = message.to_lowercase();
    let is_limit = ["limit", "maximum", "too many", "at most"].iter().any(|word| words.contains(word));
    if words.contains("hook") && is_limit {
        return ErrorKind::LimitReached;
    }
    let about_url = words.split(';').any(|part| part.trim_start().starts_with("url:"));
    if about_url { ErrorKind::TargetRefused } else { ErrorKind::Rejected }
}

/// Whether an answer proves that the credential is valid.
pub(super) fn recognises_credential(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> bool {
    status != StatusCode::UNAUTHORIZED && (headers.contains_key(CREDENTIAL_TYPE) || granted_by_body(body).is_some())
}

/// The scopes of the credential, from a header or from an error about a missing scope.
pub(super) fn granted(headers: &HeaderMap, body: &[u8]) -> Option<Vec<String>> {
    let text = headers.get(GRANTED_SCOPES).and_then(|value| value.to_str().ok());
    let listed = text.map(|text| text.split([',', ' ']).filter(|scope| !scope.is_empty()).map(str::to_owned).collect());
    let scopes: Vec<String> = listed.or_else(|| granted_by_body(body))?;
    let plausible = |scope: &String| scope.chars().all(|character| character.is_ascii_alphanumeric() || ":-_.".contains(character));
    scopes.iter().all(plausible).then_some(scopes)
}

fn granted_by_body(body: &[u8]) -> Option<Vec<String>> {
    crate::text::json::read::<wire::Refusal>(body).ok().map(|refusal| refusal.error.detail.granted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::bitbucket_cloud::fixtures;

    fn kind(operation: Operation, access: Access, status: u16, message: &str) -> Option<ErrorKind> {
        let status = StatusCode::from_u16(status).unwrap();
        let headers = HeaderMap::new();
        classify(&Failure { operation, access, status, headers: &headers, body: b"", message, is_html: false })
    }

    #[test]
    fn every_status_but_these_is_left_to_the_default() {
        for status in 100..=599 {
            for (operation, access) in [
                (Operation::ListHooks, Access::Read),
                (Operation::LookUpRepository, Access::Read),
                (Operation::CreateHook, Access::Write),
                (Operation::DeleteHook, Access::Delete),
            ] {
                let expected = match status {
                    301 | 302 | 307 | 308 if access != Access::Read => Some(ErrorKind::Conflict),
                    400 if operation == Operation::CreateHook => Some(ErrorKind::Rejected),
                    403 if operation == Operation::LookUpRepository => Some(ErrorKind::NotFound),
                    _ => None,
                };
                assert_eq!(kind(operation, access, status, ""), expected, "{status} {operation:?}");
            }
        }
    }

    #[test]
    fn a_refused_hook_says_why() {
        let hook = |message| kind(Operation::CreateHook, Access::Write, 400, message).unwrap();
        assert_eq!(hook("Bad request; url: Enter a valid URL."), ErrorKind::TargetRefused);
        assert_eq!(hook("A repository can have at most 50 webhooks."), ErrorKind::LimitReached);
        assert_eq!(hook("Webhook limit reached"), ErrorKind::LimitReached);
        assert_eq!(hook("Bad request; events: This field is required."), ErrorKind::Rejected);
        assert_eq!(hook("Bad request; url: Ensure this field has at most 2048 characters."), ErrorKind::TargetRefused);
    }

    #[test]
    fn a_403_hides_a_repository_unless_it_is_about_something_else() {
        let look_up = |message| kind(Operation::LookUpRepository, Access::Read, 403, message);
        assert_eq!(look_up("Forbidden"), Some(ErrorKind::NotFound));
        assert_eq!(look_up("Your credentials lack one or more required privilege scopes."), None);
        let address = "To access this repository, an admin of acme must allowlist your IP address.";
        assert_eq!(look_up(address), Some(ErrorKind::AccessPolicy));
        let headers = HeaderMap::from_iter([(RETRY_AFTER, http::HeaderValue::from_static("5"))]);
        let (operation, status) = (Operation::LookUpRepository, StatusCode::FORBIDDEN);
        let limited = Failure { operation, access: Access::Read, status, headers: &headers, body: b"", message: "", is_html: false };
        assert_eq!(classify(&limited), None, "about the rate");
    }

    #[test]
    fn what_was_taken_out_of_the_api_is_no_missing_repository() {
        let gone = "CHANGE-2770 - Functionality has been deprecated";
        assert_eq!(kind(Operation::ListRepositories, Access::Read, 410, gone), Some(ErrorKind::ResponseInvalid));
        assert_eq!(kind(Operation::ListRepositories, Access::Read, 410, "Gone"), None);
    }

    #[test]
    fn scopes_are_read_from_the_header_and_from_a_refusal() {
        let refused = fixtures::read("error-403-scope");
        let header = |name: &'static str, value: &str| (http::HeaderName::from_static(name), value.parse().unwrap());
        let headers = HeaderMap::from_iter([header(GRANTED_SCOPES, "pipeline, pullrequest:write,account")]);
        assert_eq!(granted(&headers, b"").unwrap(), ["pipeline", "pullrequest:write", "account"]);
        assert_eq!(granted(&HeaderMap::new(), &refused.body).unwrap(), ["read:repository:bitbucket"]);
        assert_eq!(granted(&HeaderMap::new(), b"{}"), None);
        assert_eq!(granted(&HeaderMap::from_iter([header(GRANTED_SCOPES, "<b>")]), b""), None);
    }

    #[test]
    fn a_refusal_may_recognise_the_credential() {
        let typed = HeaderMap::from_iter([(http::HeaderName::from_static(CREDENTIAL_TYPE), "repo_access_token".parse().unwrap())]);
        assert!(recognises_credential(StatusCode::FORBIDDEN, &typed, b""));
        assert!(!recognises_credential(StatusCode::UNAUTHORIZED, &typed, b""));
        assert!(recognises_credential(StatusCode::FORBIDDEN, &HeaderMap::new(), &fixtures::read("error-403-scope").body));
        assert!(!recognises_credential(StatusCode::FORBIDDEN, &HeaderMap::new(), &fixtures::read("error-403-forbidden").body));
    }
}
