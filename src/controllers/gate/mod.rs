//! Guards every credential: gives a binding access to a connection's client only with a permit.
//!
//! The client is private to this module. There are two permits, and only this module issues them, after a check:
//!
//! - [`UsePermit`]: the connection's rules grant what the binding asks for. It finds the repository, and returns a
//!   [`GrantedRepository`] only if the rules and the owner cover the repository that was found, too.
//! - [`CleanupPermit`]: this installation recorded, under its own seal, that hooks of the binding are at a target. It lists and
//!   removes the hooks that carry the binding's own id in that one repository, and nothing else. Without a grant, nothing that it
//!   finds is reported to the binding.
//!
//! A status is only a claim: whoever forges one has neither a grant nor a seal.
#![doc = "\n\n"]
#![doc = include_str!("../../docs/decisions/0013-one-gate-for-credentials.md")]

mod cleanup_permit;
mod decision;
mod granted;
mod seal;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::View;
use crate::api::v1alpha1::{ConditionType, EventKind, GitProviderConnection, Permission, RepoBinding};
use crate::k8s::conditions;
use crate::protocol::grant::{self, Request, Rules};
use crate::providers::model::Scope;
use crate::providers::{Client, Endpoint, HookShape, Inspection, PathError, PermissionFinding, Provider, RepositoryPath, registry};

pub use cleanup_permit::{CleanupPermit, OwnedHooks, may_be_reported};
pub use decision::{Grant, GrantDecision};
pub use granted::{GrantedRepository, OutOfReach, RepositoryLookup, UsePermit};
pub use seal::Seal;

/// Seals a target, as this installation records it.
#[cfg(test)]
#[must_use]
pub fn sealed(seal: &Seal, target: crate::api::v1alpha1::binding::HookTarget) -> crate::api::v1alpha1::binding::HookTarget {
    seal.put_on(target)
}

/// A provider's server as a connection reaches it. With another proxy or other certificate authorities, somebody else may answer
/// at the same address, so information from one way to a server does not count for another way.
#[derive(Clone, Debug)]
pub struct Server {
    api: Url,
    way: SecretString,
}

impl Server {
    /// A server with its API URL and the way to it
    /// ([`TransportSettings::way`](crate::providers::transport::TransportSettings::way)).
    #[must_use]
    pub const fn new(api: Url, way: SecretString) -> Self {
        Self { api, way }
    }

    /// API URL of the server.
    #[must_use]
    pub const fn api(&self) -> &Url {
        &self.api
    }
}

impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        self.api == other.api && self.way.expose_secret() == other.way.expose_secret()
    }
}

impl Eq for Server {}

/// A client that passed an inspection, with the results of the inspection. The client itself is accessible with a permit only.
#[derive(Clone)]
pub struct ActiveClient {
    /// The provider.
    pub provider: &'static dyn Provider,
    /// URLs of the provider.
    pub endpoint: Endpoint,
    /// Results of the last inspection.
    pub inspection: Inspection,
    /// Version of the connection's spec and of its referenced objects at that inspection: identifies the credential of the
    /// client.
    pub inputs: String,
    server: Server,
    client: Arc<dyn Client>,
}

impl ActiveClient {
    /// Puts an inspected client behind the gate.
    #[must_use]
    pub fn new(
        provider: &'static dyn Provider,
        endpoint: Endpoint,
        client: Arc<dyn Client>,
        inspection: Inspection,
        inputs: String,
        way: SecretString,
    ) -> Self {
        let server = Server::new(endpoint.api.clone(), way);
        Self { provider, endpoint, inspection, inputs, server, client }
    }

    /// The server as the client reaches it.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// The owner to which bindings are restricted; `None` without a restriction.
    #[must_use]
    pub fn scope(&self) -> Option<&Scope> {
        self.inspection.scope.as_ref().or(self.endpoint.scope.as_ref())
    }

    /// Judges a permission from the results of the inspection, without a call.
    #[must_use]
    pub fn permission(&self, permission: Permission) -> PermissionFinding {
        self.client.permission(&self.inspection, permission)
    }

    /// Judges from the results of the inspection, without a call, whether hooks with these events may be managed.
    #[must_use]
    pub fn hook_permission(&self, events: &BTreeSet<EventKind>) -> PermissionFinding {
        self.client.hook_permission(&self.inspection, events)
    }

    /// Shapes of the hooks that deliver these events, without a call.
    #[must_use]
    pub fn hook_shapes(&self, events: &BTreeSet<EventKind>) -> Vec<HookShape> {
        self.client.hook_shapes(events)
    }
}

/// API URL of a connection, and the path that a text means at its server, read from the connection's spec without a client.
/// `None` if the spec does not contain a valid address.
#[must_use]
pub fn place_at(connection: &GitProviderConnection, text: &str) -> Option<(Url, Result<RepositoryPath, PathError>)> {
    let provider = registry::provider(connection.spec.provider.kind()?)?;
    let endpoint = provider.endpoint(&connection.spec.provider).ok()?;
    let path = provider.repository_path(&endpoint, text);
    Some((endpoint.api, path))
}

/// Whether a connection grants what a binding asks for; `None` if that cannot be decided. Judged whether or not the connection
/// works, so that the withdrawal of a grant takes effect at once.
#[must_use]
pub fn grants(view: &View, object: &RepoBinding, connection: &GitProviderConnection) -> Option<bool> {
    let text = object.spec.repository.as_str();
    match place_at(connection, text) {
        Some(_) => permits_text(view, object, connection, text),
        None => permits(view, object, connection, None),
    }
}

/// Whether a connection grants a binding the path that a text means there; `None` if that cannot be decided.
fn permits_text(view: &View, object: &RepoBinding, connection: &GitProviderConnection, text: &str) -> Option<bool> {
    match place_at(connection, text) {
        Some((_, Ok(path))) => permits(view, object, connection, Some(path.as_str())),
        // A text that is not a path at this connection is matched against the patterns unchanged.
        Some((_, Err(_))) | None => permits(view, object, connection, Some(text)),
    }
}

/// Whether a connection grants a path to a binding; `None` if that cannot be decided. Without a path, only the namespace and the
/// destination are judged.
#[must_use]
pub fn permits(view: &View, object: &RepoBinding, connection: &GitProviderConnection, path: Option<&str>) -> Option<bool> {
    permits_to(view, object, connection, path, object.custom_url().as_ref())
}

/// As [`permits`], for a given endpoint of the hook; `None` means our receiver.
#[must_use]
pub fn permits_to(
    view: &View,
    object: &RepoBinding,
    connection: &GitProviderConnection,
    path: Option<&str>,
    destination: Option<&Url>,
) -> Option<bool> {
    let namespace = object.namespace().unwrap_or_default();
    let known = view.namespaces.get(&ObjectRef::new(&namespace));
    let labels = known.as_ref().map(|known| known.metadata.labels.clone().unwrap_or_default());
    let request = Request { namespace: &namespace, namespace_labels: labels.as_ref(), repository: path, destination };
    grant::permits(Rules::of(connection), request)
}

/// Whether the connection grants what the binding asks for. `None` if that cannot be decided, which withdraws nothing from a
/// binding that had a grant. Any other binding then gets the same answer as for a missing connection.
#[must_use]
pub fn granted(view: &View, object: &RepoBinding, connection: Option<&GitProviderConnection>, seal: &Seal) -> Option<bool> {
    let Some(connection) = connection else { return Some(false) };
    let is_own = object.metadata.namespace.as_ref() == Some(&object.connection_target().namespace);
    let granted = grants(view, object, connection);
    let may_know = is_own || view.shows_connections || had_grant(object, seal);
    if granted.is_none() && !may_know { Some(false) } else { granted }
}

/// Whether the binding's status or a sealed target shows that its connection granted it access before.
#[must_use]
pub fn had_grant(object: &RepoBinding, seal: &Seal) -> bool {
    let target = object.connection_target();
    let status = object.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let requested = status.and_then(|status| status.repository.as_ref()?.requested.as_ref());
    let was_ready = conditions::find(conditions, ConditionType::ConnectionReady).is_some_and(|condition| {
        // The condition may be about another connection: the spec may have changed since.
        let of_this = condition.observed_generation == object.metadata.generation
            || requested.is_some_and(|requested| requested.connection == target);
        condition.status == "True" && of_this
    });
    was_ready || object.hook_targets().any(|held| held.connection == target && seal.is_on(held))
}
