//! Maps each provider kind to its implementation; the only place that does.

use super::Provider;
use super::azure_devops::AzureDevOps;
use super::bitbucket_cloud::BitbucketCloud;
use super::bitbucket_data_center::BitbucketDataCenter;
use super::gitea::Gitea;
use super::github::GitHub;
use super::gitlab::GitLab;
use crate::api::v1alpha1::ProviderKind;

/// The implementation of a provider; `None` if this build has none.
#[must_use]
pub fn provider(kind: ProviderKind) -> Option<&'static dyn Provider> {
    match kind {
        ProviderKind::GitHub => Some(&GitHub),
        ProviderKind::GitLab => Some(&GitLab),
        ProviderKind::BitbucketCloud => Some(&BitbucketCloud),
        ProviderKind::BitbucketDataCenter => Some(&BitbucketDataCenter),
        ProviderKind::AzureDevOps => Some(&AzureDevOps),
        ProviderKind::Gitea => Some(&Gitea),
    }
}
