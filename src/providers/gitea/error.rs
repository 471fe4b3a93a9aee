//! Classifies Gitea's error responses where they differ from the default table.

use crate::providers::ErrorKind;
use crate::providers::transport::{Access, Failure};

pub(super) fn classify(failure: &Failure<'_>) -> Option<ErrorKind> {
    match failure.status.as_u16() {
        // The repository or its owner was renamed: the repository must be looked up under its new path.
        301 | 307 if failure.access != Access::Read => Some(ErrorKind::Conflict),
        423 => Some(ErrorKind::Archived),
        _ => None,
    }
}

/// Whether a 403 is about the token's scopes. The token is then valid. A disabled account gets the same status.
pub(super) fn is_about_scopes(message: &str) -> bool {
    message.contains("scope")
}

/// The token's scopes, which Gitea up to 1.26 names in an error about a missing scope. Later versions and Forgejo do not.
pub(super) fn told_scopes(message: &str) -> Option<Vec<String>> {
    let (_, scopes) = message.split_once("token scope=")?;
    let scopes = scopes.split(',').map(str::trim).filter(|scope| !scope.is_empty());
    let plausible = |scope: &str| scope.chars().all(|character| character.is_ascii_lowercase() || matches!(character, ':' | '-'));
    scopes.map(|scope| plausible(scope).then(|| scope.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::providers::transport::Operation;

    fn kind(status: u16, access: Access) -> Option<ErrorKind> {
        let status = StatusCode::from_u16(status).unwrap();
        let (operation, headers) = (Operation::CreateHook, HeaderMap::new());
        classify(&Failure { operation, access, status, headers: &headers, body: b"", message: "", is_html: false })
    }

    #[test]
    fn every_status_but_these_is_left_to_the_default() {
        for status in 100..=599 {
            for access in [Access::Read, Access::Write, Access::Delete] {
                let expected = match status {
                    301 | 307 if access != Access::Read => Some(ErrorKind::Conflict),
                    423 => Some(ErrorKind::Archived),
                    _ => None,
                };
                assert_eq!(kind(status, access), expected, "{status} {access:?}");
            }
        }
    }

    #[test]
    fn scopes_are_read_from_a_refusal_that_names_them() {
        let message =
            "token does not have at least one of required scope(s), required=[read:user], token scope=write:repository,read:issue";
        assert!(is_about_scopes(message));
        assert_eq!(told_scopes(message).unwrap(), ["write:repository", "read:issue"]);
        let forgejo = "token does not have at least one of required scope(s): [read:user]";
        assert!(is_about_scopes(forgejo));
        assert_eq!(told_scopes(forgejo), None);
        assert!(!is_about_scopes("This account is prohibited from signing in, please contact your site administrator."));
        assert_eq!(told_scopes("token scope=<b>no</b>"), None);
    }
}
