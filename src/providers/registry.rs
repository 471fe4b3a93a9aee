//! The one place that knows which implementation serves which provider.

use super::Provider;
use super::bitbucket_data_center::BitbucketDataCenter;
use super::gitea::Gitea;
use super::gitlab::GitLab;
use crate::api::v1alpha1::ProviderKind;

/// The implementation of a provider; `None` where this build has none.
#[must_use]
pub fn provider(kind: ProviderKind) -> Option<&'static dyn Provider> {
    match kind {
        ProviderKind::GitLab => Some(&GitLab),
        ProviderKind::BitbucketDataCenter => Some(&BitbucketDataCenter),
        ProviderKind::Gitea => Some(&Gitea),
        ProviderKind::GitHub | ProviderKind::BitbucketCloud | ProviderKind::AzureDevOps => None,
    }
}
