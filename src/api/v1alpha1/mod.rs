//! `forgebind.dev/v1alpha1`: [`GitProviderConnection`] and [`RepoBinding`].

pub mod binding;
mod binding_methods;
pub mod condition;
pub mod connection;
pub mod rules;
pub mod shared;

pub use binding::{RepoBinding, RepoBindingSpec, RepoBindingStatus};
pub use condition::{ConditionType, Reason};
pub use connection::{GitProviderConnection, GitProviderConnectionSpec, GitProviderConnectionStatus};
pub use shared::*;

/// The API group of both kinds.
pub const GROUP: &str = "forgebind.dev";
/// The finalizer that holds an object until what it made at a provider is gone.
pub const FINALIZER: &str = "forgebind.dev/cleanup";
/// The field manager of everything that is applied server-side.
pub const FIELD_MANAGER: &str = "forgebind";
/// Any new value asks for one reconciliation now.
pub const RECONCILE_REQUESTED_AT: &str = "forgebind.dev/reconcile-requested-at";
/// Any new value asks for one rotation of the webhook secret; on a connection, of all its bindings.
pub const ROTATE_REQUESTED_AT: &str = "forgebind.dev/rotate-requested-at";
/// Any new value ends the grace of the previous webhook secrets now.
pub const REVOKE_REQUESTED_AT: &str = "forgebind.dev/revoke-requested-at";
