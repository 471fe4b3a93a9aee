//! The provider port: the interface to all Git providers.
//!
//! There are three traits. A [`Provider`] is static: it knows addresses, paths and deliveries. A [`Client`] is connected: it has
//! a credential and sends requests. A [`Webhook`] reads deliveries: it does no I/O, and unverified deliveries cannot be parsed.
#![doc = "\n\n"]
#![doc = include_str!("../docs/decisions/0001-provider-port.md")]

mod address;
mod authorization;
pub mod azure_devops;
pub mod bitbucket_cloud;
pub mod bitbucket_data_center;
pub mod credential;
mod entrance;
pub mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod git;
pub mod gitea;
pub mod github;
pub mod gitlab;
mod lenient;
mod listed;
mod listing;
pub mod model;
pub mod permission;
mod port;
pub mod pull_request;
pub mod registry;
mod repository_ref;
#[cfg(test)]
pub(crate) mod samples;
mod scalar;
pub mod secret_keys;
mod signature;
pub mod transport;
pub mod webhook;

pub use credential::Credential;
pub use error::{Disposition, ErrorKind, ProviderError};
pub use listed::ListedRepository;
pub use model::{
    Capabilities, Deletion, Endpoint, GitProbe, Hook, HookRelease, HookRequest, HookShape, HookUrl, Inspection, PathError, Repository,
    RepositoryPath,
};
pub use permission::PermissionFinding;
pub use port::{Client, Provider, ProviderProfile};
pub use webhook::Webhook;
