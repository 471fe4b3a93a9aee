//! The one place that knows which implementation serves which provider.

use super::Provider;
use super::bitbucket_cloud::BitbucketCloud;
use super::gitea::Gitea;
use crate::api::v1alpha1::ProviderKind;

/// The implementation of a provider; `None` where this build has none.
#[must_use]
pub fn provider(kind: ProviderKind) -> Option<&'static dyn Provider> {
    match kind {
        ProviderKind::BitbucketCloud => Some(&BitbucketCloud),
        ProviderKind::Gitea => Some(&Gitea),
        ProviderKind::GitHub | ProviderKind::GitLab | ProviderKind::BitbucketDataCenter | ProviderKind::AzureDevOps => None,
    }
}
