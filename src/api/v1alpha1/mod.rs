//! `forgebind.dev/v1alpha1`: [`GitProviderConnection`], [`ConnectionGrant`], [`RepoBinding`] and [`RepositorySlice`].

pub mod binding;
mod binding_methods;
mod binding_status;
pub mod catalog;
pub mod condition;
pub mod connection;
pub mod deliveries;
pub mod grant;
pub mod rules;
pub mod shared;

pub use binding::{RepoBinding, RepoBindingSpec, RepoBindingStatus};
pub use catalog::RepositorySlice;
pub use condition::{ConditionType, Reason};
pub use connection::{GitProviderConnection, GitProviderConnectionSpec, GitProviderConnectionStatus};
pub use grant::{ConnectionGrant, ConnectionGrantSpec, ConnectionGrantStatus};
pub use shared::*;

/// The API group of all kinds.
pub const GROUP: &str = "forgebind.dev";
/// The finalizer that keeps an object until everything that was created for it at a provider is removed.
pub const FINALIZER: &str = "forgebind.dev/cleanup";
/// The field manager of all server-side applies but one.
pub const FIELD_MANAGER: &str = "forgebind";
/// The field manager of `status.recentDeliveries`, which is written apart from the rest of the status.
pub const DELIVERIES_FIELD_MANAGER: &str = "forgebind-deliveries";
/// Annotation: any new value requests one reconciliation now.
pub const RECONCILE_REQUESTED_AT: &str = "forgebind.dev/reconcile-requested-at";
/// Annotation: any new value requests one rotation of the webhook secret; on a connection, of all its bindings.
pub const ROTATE_REQUESTED_AT: &str = "forgebind.dev/rotate-requested-at";
/// Annotation: any new value ends the grace period of the previous webhook secrets now.
pub const REVOKE_REQUESTED_AT: &str = "forgebind.dev/revoke-requested-at";
/// Annotation: any new value sends parked events and dead letters again.
pub const REDELIVER_REQUESTED_AT: &str = "forgebind.dev/redeliver-requested-at";
/// Annotation on a connection: any new value requests one listing of its repositories, at most once a minute.
pub const CATALOG_REQUESTED_AT: &str = "forgebind.dev/catalog-requested-at";
/// Annotation on a Service: the namespaces whose bindings may send events to it beside its own, as names or patterns separated
/// by commas, such as `team-shop,team-*`.
pub const DELIVER_FROM: &str = "forgebind.dev/deliver-from";
