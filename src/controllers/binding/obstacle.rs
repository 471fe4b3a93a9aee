//! What keeps hooks from being removed. Pure.

use crate::controllers::sessions::ConditionFailure;
use crate::providers::{Disposition, ProviderError};

/// Message about a removal for a binding without a grant for the target, whatever the obstacle is.
pub const UNTOLD: &str = "the connection no longer allows this binding, and its hook could not be removed yet";

/// Obstacle to the removal of hooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The connection was not inspected yet.
    Pending,
    /// There is no credential that works, for this reason.
    Credential(String),
    /// The provider is out of reach, for this reason.
    Outage(String),
    /// The repository no longer exists, according to its owner's list.
    Gone(String),
    /// An obstacle that the binding may not see, because it has no grant for the target.
    Untold,
    /// Nothing shows that this installation ever held a hook there, so the provider is not asked.
    NotHeld,
}

impl Obstacle {
    /// Maps a provider error to an obstacle. A 404 does not prove anything: a repository that is hidden from a credential looks
    /// like one that is gone.
    pub fn of(error: &ProviderError) -> Self {
        Self::by(error.kind.disposition(), error.to_string())
    }

    /// Maps the failure of a connection without a client to an obstacle.
    pub fn of_failure(failure: &ConditionFailure) -> Self {
        Self::by(failure.disposition, failure.message.clone())
    }

    fn by(disposition: Disposition, why: String) -> Self {
        match disposition {
            Disposition::NotAsked => Self::Pending,
            Disposition::Outage | Disposition::RateLimited | Disposition::ReadOnly | Disposition::ProbeAgain => Self::Outage(why),
            Disposition::CredentialRefused
            | Disposition::CredentialUnusable
            | Disposition::Hidden
            | Disposition::Refused
            | Disposition::Misconfigured => Self::Credential(why),
        }
    }
    pub fn text(&self) -> String {
        match self {
            Self::Pending => "the connection has not been checked yet".to_owned(),
            Self::Credential(why) | Self::Outage(why) | Self::Gone(why) => why.clone(),
            Self::Untold => UNTOLD.to_owned(),
            Self::NotHeld => "no hook was made there".to_owned(),
        }
    }
}
