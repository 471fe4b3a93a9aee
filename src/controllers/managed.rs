//! What all kinds have in common.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;

use crate::api::v1alpha1::binding::RepoBindingStatus;
use crate::api::v1alpha1::connection::GitProviderConnectionStatus;
use crate::api::v1alpha1::{ConnectionGrant, ConnectionGrantStatus, GitProviderConnection, RepoBinding};

/// The status fields that all kinds have in common.
pub trait Managed {
    /// Type of the status.
    type Status: Serialize + PartialEq;

    /// The status; `None` before the first write.
    fn status(&self) -> Option<&Self::Status>;

    /// Fingerprint of the installation that manages the object.
    fn installation(&self) -> Option<&str>;

    /// The conditions; empty before the first status write.
    fn conditions(&self) -> &[Condition];
}

impl Managed for GitProviderConnection {
    type Status = GitProviderConnectionStatus;

    fn status(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }

    fn installation(&self) -> Option<&str> {
        self.status.as_ref()?.installation.as_deref()
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
    }
}

impl Managed for RepoBinding {
    type Status = RepoBindingStatus;

    fn status(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }

    fn installation(&self) -> Option<&str> {
        self.status.as_ref()?.installation.as_deref()
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
    }
}

impl Managed for ConnectionGrant {
    type Status = ConnectionGrantStatus;

    fn status(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }

    /// A grant belongs to the installation of its connections, which may change; none claims it.
    fn installation(&self) -> Option<&str> {
        None
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
    }
}

/// The value of an annotation that was not handled yet.
#[must_use]
pub fn requested<'a>(object: &'a impl Resource, annotation: &str, handled: Option<&String>) -> Option<&'a str> {
    let value = object.annotations().get(annotation)?;
    (handled != Some(value)).then_some(value)
}
