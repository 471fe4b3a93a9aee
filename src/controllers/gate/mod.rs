//! Guards every credential: gives a binding access to a connection's client only with a permit.
//!
//! The client is private to this module. There are three permits, and only this module issues them, after a check:
//!
//! - [`UsePermit`]: the connection grants what the binding asks for. It finds the repository, and returns a
//!   [`GrantedRepository`] only if the grants and the owner cover the repository that was found, too.
//! - [`CleanupPermit`]: this installation recorded, under its own seal, that hooks of the binding are at a target. It lists and
//!   removes the hooks that carry the binding's own id in that one repository, and nothing else. Without a grant, nothing that it
//!   finds is reported to the binding.
//!
//! - [`CatalogPermit`]: the connection itself asks for a list of the repositories that its credential reaches. It only reads.
//!
//! A status is only a claim: whoever forges one has neither a grant nor a seal.
#![doc = "\n\n"]
#![doc = include_str!("../../docs/decisions/0013-one-gate-for-credentials.md")]

mod active_client;
mod catalog_permit;
mod cleanup_permit;
mod decision;
mod granted;
mod grants;
mod seal;
#[cfg(test)]
mod tests;
mod ungranted;

pub use active_client::{ActiveClient, Server};
pub use catalog_permit::CatalogPermit;
pub use cleanup_permit::{CleanupPermit, OwnedHooks, may_be_reported};
pub use decision::{Grant, GrantDecision};
pub use granted::{GrantedRepository, OutOfReach, RepositoryLookup, UsePermit};
pub use grants::{covers_namespace, granted, grants, had_grant, is_allowed_by, permits, place_at, scope_without};
pub use seal::Seal;
pub use ungranted::Ungranted;

/// Seals a target, as this installation records it.
#[cfg(test)]
#[must_use]
pub fn sealed(seal: &Seal, target: crate::api::v1alpha1::binding::HookTarget) -> crate::api::v1alpha1::binding::HookTarget {
    seal.put_on(target)
}
