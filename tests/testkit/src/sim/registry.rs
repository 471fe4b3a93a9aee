//! The simulator of each provider.

use forgebind::api::v1alpha1::ProviderKind;

use super::simulated_provider::{Settings, SimulatedProvider};

/// Creates a simulated provider.
pub type Maker = fn(Settings) -> Box<dyn SimulatedProvider>;

/// The providers that have a simulator.
pub fn simulated() -> impl Iterator<Item = ProviderKind> {
    ProviderKind::ALL.into_iter().filter(|kind| maker(*kind).is_some())
}

/// The simulator of a provider; `None` if tests run the real server.
pub fn maker(kind: ProviderKind) -> Option<Maker> {
    match kind {
        ProviderKind::GitHub => Some(super::github::make),
        ProviderKind::GitLab => Some(super::gitlab::make),
        ProviderKind::BitbucketCloud => Some(super::bitbucket_cloud::make),
        ProviderKind::BitbucketDataCenter => Some(super::bitbucket_data_center::make),
        ProviderKind::AzureDevOps => Some(super::azure_devops::make),
        // The real server runs in tests.
        ProviderKind::Gitea => None,
    }
}
