//! What the condition `Cataloged` says about a listing.

use super::merge::Merge;
use super::state::Finding;
use crate::api::v1alpha1::Reason;
use crate::api::v1alpha1::catalog::CATALOG_ENTRIES;
use crate::providers::{Disposition, ErrorKind, ProviderError};

/// The finding of a complete listing. `left`: how many repositories are missing and could not be looked up yet.
#[must_use]
pub fn complete(merge: &Merge, left: usize) -> Finding {
    let kept = merge.entries().count();
    if merge.is_truncated() {
        let message = format!(
            "the credential reaches {} repositories; the slices have the first {CATALOG_ENTRIES} that spec.catalog selects; select fewer \
             with include and exclude, or use several connections",
            merge.seen()
        );
        return Finding { reason: Reason::Truncated, message };
    }
    let left = if left == 0 { String::new() } else { format!("; {left} that are missing are looked up with the next listings") };
    let message = format!("the provider listed {}; the slices have {}{left}", repositories(merge.seen()), repositories(kept));
    Finding { reason: Reason::Succeeded, message }
}

fn repositories(count: usize) -> String {
    if count == 1 { "1 repository".to_owned() } else { format!("{count} repositories") }
}

/// The finding of a listing that ended early.
#[must_use]
pub fn failed(error: &ProviderError) -> Finding {
    let reason = match error.kind.disposition() {
        Disposition::RateLimited => Reason::RateLimited,
        Disposition::CredentialRefused | Disposition::CredentialUnusable | Disposition::Hidden | Disposition::Refused => {
            Reason::PermissionMissing
        }
        _ => Reason::ListingFailed,
    };
    let remedy = match reason {
        Reason::RateLimited => "; the last fifth of the rate limit is left to other work, and the listing is repeated",
        Reason::PermissionMissing if error.kind == ErrorKind::SingleSignOnRequired => "",
        Reason::PermissionMissing => {
            "; the credential needs ListRepositories, whose name at the provider is in the reference of permissions"
        }
        _ => "; the listing is repeated",
    };
    Finding { reason, message: format!("the list of the repositories is not complete: {}{remedy}", error.message) }
}

/// The finding of a listing whose slices could not be written.
#[must_use]
pub fn unwritten(error: &kube::Error) -> Finding {
    let error = crate::text::wording::of_api_server(error);
    Finding { reason: Reason::ListingFailed, message: format!("the slices could not be written: {error}; the listing is repeated") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::catalog::SliceEntry;
    use crate::protocol::catalog::Selection;

    #[test]
    fn every_kind_of_error_has_a_reason_of_the_condition() {
        for kind in ErrorKind::ALL {
            let finding = failed(&ProviderError::new(kind, "list repositories", "no"));
            assert!(finding.reason.conditions().contains("Cataloged"), "{kind:?}: {}", finding.reason);
            assert!(finding.message.contains(": no"), "{}", finding.message);
        }
        let reason = |kind| failed(&ProviderError::new(kind, "list repositories", "no")).reason;
        assert_eq!(reason(ErrorKind::RateLimited), Reason::RateLimited);
        assert_eq!(reason(ErrorKind::PermissionDenied), Reason::PermissionMissing);
        assert_eq!(reason(ErrorKind::SingleSignOnRequired), Reason::PermissionMissing, "GitHub left repositories out");
        assert_eq!(reason(ErrorKind::Transient), Reason::ListingFailed);
    }

    #[test]
    fn a_complete_listing_says_how_many_repositories_there_are() {
        let mut merge = Merge::new(Selection::default(), []);
        merge.add([SliceEntry::sample("1", "acme/shop")]);
        assert_eq!(complete(&merge, 0).message, "the provider listed 1 repository; the slices have 1 repository");
        assert!(complete(&merge, 7).message.ends_with("; 7 that are missing are looked up with the next listings"));
    }
}
