//! What a credential may do: the grants that a provider reports, and the state of each permission.

use crate::api::v1alpha1::Permission;
use crate::api::v1alpha1::connection::PermissionState;

/// The rights of a credential, in the provider's own terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grants {
    /// All rights, sorted and without duplicates.
    Known(Vec<String>),
    /// The provider does not report them; the text says why.
    Unknown(String),
}

/// The evaluation of one permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionFinding {
    /// Whether the permission is granted.
    pub state: PermissionState,
    /// What is missing, or why the state is unknown; `None` when granted.
    pub message: Option<String>,
}

impl PermissionFinding {
    /// The permission is granted.
    #[must_use]
    pub const fn granted() -> Self {
        Self { state: PermissionState::Granted, message: None }
    }

    /// The permission is missing; the message says what is missing.
    #[must_use]
    pub fn missing(message: impl Into<String>) -> Self {
        Self { state: PermissionState::Missing, message: Some(message.into()) }
    }

    /// The state is unknown; the message says why.
    #[must_use]
    pub fn unknown(message: impl Into<String>) -> Self {
        Self { state: PermissionState::Unknown, message: Some(message.into()) }
    }
    /// The permission is missing for want of a credential.
    pub(in crate::providers) fn needs_credential() -> Self {
        Self::missing("needs a credential")
    }
}

/// Evaluates a permission without a credential: nothing can be written, and of what is public these permissions can be used.
pub(in crate::providers) fn judge_anonymous(permission: Permission, public: &[Permission]) -> PermissionFinding {
    if public.contains(&permission) {
        PermissionFinding::unknown("without a credential only what is public can be read")
    } else {
        PermissionFinding::needs_credential()
    }
}
