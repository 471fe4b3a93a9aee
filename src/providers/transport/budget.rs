//! The documented rate limits of each provider: not every response has rate limit headers.

use std::time::Duration;

use url::Url;

use super::call::{Access, Operation};
use crate::api::v1alpha1::ProviderKind;

/// The documented budget of one identity at one API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RateBudget {
    /// Whether writes are sent one at a time.
    pub(super) serial_writes: bool,
    /// Minimum time between two writes.
    pub(super) write_spacing: Duration,
    /// Counted limits, all of which apply.
    pub(super) rules: &'static [RateRule],
}

/// A maximum number of calls in a time window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RateRule {
    pub(super) counts: Counts,
    pub(super) limit: usize,
    pub(super) window: Duration,
}

/// Which calls a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    Writes,
    Only(&'static [Operation]),
}

impl RateRule {
    pub(super) fn counts(&self, access: Access, operation: Operation) -> bool {
        match self.counts {
            Counts::Writes => access != Access::Read,
            Counts::Only(operations) => operations.contains(&operation),
        }
    }

    /// Number of calls reserved for deletes, so that everything created can be removed.
    pub(super) const fn reserve(&self) -> usize {
        if self.limit < 20 { 1 } else { self.limit / 10 }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const HOOK_CALLS: &[Operation] = &[Operation::ListHooks, Operation::CreateHook, Operation::UpdateHook, Operation::DeleteHook];

/// The budget of a provider at an API address.
pub(super) fn budget(kind: ProviderKind, api: &Url) -> RateBudget {
    match kind {
        ProviderKind::GitHub if is_github_cloud(api) => RateBudget {
            serial_writes: true,
            write_spacing: Duration::from_secs(1),
            rules: &[
                RateRule { counts: Counts::Writes, limit: 80, window: MINUTE },
                RateRule { counts: Counts::Writes, limit: 500, window: HOUR },
            ],
        },
        ProviderKind::GitLab => RateBudget {
            rules: &[RateRule { counts: Counts::Only(&[Operation::LookUpRepository]), limit: 400, window: MINUTE }],
            ..RateBudget::default()
        },
        ProviderKind::BitbucketCloud => {
            RateBudget { rules: &[RateRule { counts: Counts::Only(HOOK_CALLS), limit: 1000, window: HOUR }], ..RateBudget::default() }
        }
        ProviderKind::GitHub | ProviderKind::BitbucketDataCenter | ProviderKind::AzureDevOps | ProviderKind::Gitea => RateBudget::default(),
    }
}

/// GitHub Enterprise Server has no limits unless its administrator sets some.
fn is_github_cloud(api: &Url) -> bool {
    api.host_str().is_some_and(|host| host == "api.github.com" || host.ends_with(".ghe.com"))
}
