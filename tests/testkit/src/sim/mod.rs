//! Simulators of Git providers: servers that keep state, refuse requests, limit their rate and deliver events as the real ones
//! document it.
//!
//! Each provider has a folder; common code is here. A [`SimulatedProvider`] is the provider: pure answers over its state. A
//! [`Simulator`] is the server around it: it listens, keeps a journal, checks every exchange against the official description
//! ([`facts`]), sends the deliveries and the provider's own retries by the provider's [`clock`], injects faults when told to
//! ([`faults`]) and has control endpoints for the actions of people and git ([`control`]).

pub mod azure_devops;
pub mod bitbucket_cloud;
pub mod bitbucket_data_center;
pub mod clock;
pub mod contents;
pub mod control;
pub mod delivery;
pub mod facts;
pub mod faults;
pub mod git;
pub mod github;
pub mod gitlab;
pub mod message;
pub mod parameters;
pub mod requests;
pub mod server;
pub mod simulated;
pub mod simulated_provider;
pub mod targets;

pub use clock::ProviderClock;
pub use contents::{Change, Contents, ProviderEvent, PullRequest, PullRequestState, UserAction};
pub use delivery::{Delivery, Outcome, Retry, Sent};
pub use faults::{Fault, Order, Wait};
pub use message::{Request, Response};
pub use server::Simulator;
pub use simulated::Simulated;
pub use simulated_provider::{Refusal, SeedData, Settings, SimulatedProvider};

/// Which simulator plays which provider.
pub mod registry {
    use forgebind::api::v1alpha1::ProviderKind;

    use super::simulated_provider::{Settings, SimulatedProvider};

    /// What makes a simulated provider.
    pub type Maker = fn(Settings) -> Box<dyn SimulatedProvider>;

    /// The providers that have a simulator.
    pub fn simulated() -> impl Iterator<Item = ProviderKind> {
        ProviderKind::ALL.into_iter().filter(|kind| maker(*kind).is_some())
    }

    /// The simulator of a provider; `None` where the real one runs here.
    pub fn maker(kind: ProviderKind) -> Option<Maker> {
        match kind {
            ProviderKind::GitHub => Some(super::github::make),
            ProviderKind::GitLab => Some(super::gitlab::make),
            ProviderKind::BitbucketCloud => Some(super::bitbucket_cloud::make),
            ProviderKind::BitbucketDataCenter => Some(super::bitbucket_data_center::make),
            ProviderKind::AzureDevOps => Some(super::azure_devops::make),
            // Built and run as it is.
            ProviderKind::Gitea => None,
        }
    }
}

/// One asynchronous test for each provider that has a simulator, named after it, and one that no provider is left out.
#[macro_export]
macro_rules! at_each_simulated_provider {
    ($test:path) => {
        $crate::at_each_simulated_provider! {
            $test;
            github: GitHub, gitlab: GitLab, bitbucket_cloud: BitbucketCloud, bitbucket_data_center: BitbucketDataCenter,
            azure_devops: AzureDevOps,
        }
    };
    ($test:path; $($name:ident: $kind:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() -> anyhow::Result<()> {
                $test(forgebind::api::v1alpha1::ProviderKind::$kind).await
            }
        )*

        #[test]
        fn every_provider_that_is_simulated() {
            let tested = [$(forgebind::api::v1alpha1::ProviderKind::$kind),*];
            assert!($crate::sim::registry::simulated().eq(tested), "the list in at_each_simulated_provider is incomplete");
        }
    };
}
