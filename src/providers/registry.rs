//! The one place that knows which implementation serves which provider.

use super::Provider;
use super::gitea::Gitea;
use super::github::GitHub;
use crate::api::v1alpha1::ProviderKind;

/// The implementation of a provider; `None` where this build has none.
#[must_use]
pub fn provider(kind: ProviderKind) -> Option<&'static dyn Provider> {
    match kind {
        ProviderKind::GitHub => Some(&GitHub),
        ProviderKind::Gitea => Some(&Gitea),
        ProviderKind::GitLab
        | ProviderKind::BitbucketCloud
        | ProviderKind::BitbucketDataCenter
        | ProviderKind::AzureDevOps => None,
    }
}
