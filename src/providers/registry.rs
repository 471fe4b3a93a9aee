//! Maps each provider kind to its implementation; the only place that does.

use super::Provider;
use super::azure_devops::AzureDevOps;
use super::bitbucket_cloud::BitbucketCloud;
use super::bitbucket_data_center::BitbucketDataCenter;
use super::gitea::Gitea;
use super::github::GitHub;
use super::gitlab::GitLab;
use crate::api::v1alpha1::ProviderKind;
use crate::network::HostPattern;

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

/// The hosts of the providers' clouds.
#[must_use]
pub fn cloud_hosts() -> Vec<HostPattern> {
    let hosts = ProviderKind::ALL.into_iter().filter_map(provider).flat_map(|provider| provider.profile().cloud_hosts);
    hosts.filter_map(|host| host.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_of_a_cloud_is_a_pattern_and_allowed_on_its_default_port_alone() {
        let network = crate::network::NetworkPolicy { cloud_hosts: cloud_hosts(), ..Default::default() };
        for host in ProviderKind::ALL.into_iter().filter_map(provider).flat_map(|provider| provider.profile().cloud_hosts) {
            let host = host.replace('*', "acme");
            let allows = |url: String| network.is_cloud_or_listed(&url.parse().unwrap());
            assert!(allows(format!("https://{host}/acme")) && !allows(format!("https://{host}:8443")), "{host}");
            assert!(!allows(format!("https://{host}.evil.example")), "{host}");
        }
    }
}
