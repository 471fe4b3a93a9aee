//! What a credential may do: the provider's words and ours.

use crate::api::v1alpha1::connection::PermissionState;

/// What a provider tells of a credential's rights, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grants {
    /// All of them, each once, sorted.
    Known(Vec<String>),
    /// The provider does not tell; the text says why.
    Unknown(String),
}

/// The answer to one permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionFinding {
    /// Whether it is there.
    pub state: PermissionState,
    /// What is missing or why nobody can tell; `None` when granted.
    pub message: Option<String>,
}

impl PermissionFinding {
    /// It is there.
    #[must_use]
    pub const fn granted() -> Self {
        Self { state: PermissionState::Granted, message: None }
    }

    /// It is not, and this is what is missing.
    #[must_use]
    pub fn missing(message: impl Into<String>) -> Self {
        Self { state: PermissionState::Missing, message: Some(message.into()) }
    }

    /// Nobody can tell, and this is why.
    #[must_use]
    pub fn unknown(message: impl Into<String>) -> Self {
        Self { state: PermissionState::Unknown, message: Some(message.into()) }
    }
}
