//! The gate before every credential: how a binding reaches a connection's client, and how not.
//!
//! A client is private to this module. For a binding there are two ways to one, and each is a permit that only this module
//! makes, after it has checked what the permit stands for:
//!
//! - [`UsePermit`]: the connection's rules grant what the binding asks for. It finds the repository, and hands out [`GrantedRepository`]
//!   only when the rules and the owner cover the repository that was found, too.
//! - [`CleanupPermit`]: this installation wrote down, under its own seal, that hooks of the binding are at a target. It lists and
//!   removes the hooks that bear the binding's own id in that one repository, and nothing else. Without a grant nothing of
//!   what it meets is told.
//!
//! A status is a claim: who forges one has neither a grant nor a seal.
#![doc = "\n\n"]
#![doc = include_str!("../../docs/decisions/0013-one-gate-for-credentials.md")]

mod cleanup_permit;
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
use crate::protocol::grant;
use crate::protocol::grant::{Request, Rules};
use crate::providers::model::Scope;
use crate::providers::{Client, Endpoint, HookShape, Inspection, PathError, PermissionFinding, Provider, RepositoryPath, registry};

pub use cleanup_permit::{CleanupPermit, OwnedHooks, may_be_reported};
pub use granted::{GrantedRepository, OutOfReach, RepositoryLookup, UsePermit};
pub use seal::Seal;

/// A target as this installation writes it down.
#[cfg(test)]
#[must_use]
pub fn sealed(seal: &Seal, target: crate::api::v1alpha1::binding::HookTarget) -> crate::api::v1alpha1::binding::HookTarget {
    seal.put_on(target)
}

/// A provider's server as a connection reaches it. Where the proxy or the certificate authorities differ, somebody else may answer
/// under the same address: what is learnt on one way counts for no other.
#[derive(Clone, Debug)]
pub struct Server {
    api: Url,
    way: SecretString,
}

impl Server {
    /// The server at an address, reached on a way ([`TransportSettings::way`](crate::providers::transport::TransportSettings::way)).
    #[must_use]
    pub const fn new(api: Url, way: SecretString) -> Self {
        Self { api, way }
    }
}

impl Server {
    /// Its address.
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

/// A client that worked, with what is known of its connection. The client itself is reached by a permit only.
#[derive(Clone)]
pub struct ActiveClient {
    /// The provider.
    pub provider: &'static dyn Provider,
    /// Its addresses.
    pub endpoint: Endpoint,
    /// What the last inspection found.
    pub inspection: Inspection,
    /// What that inspection saw in Kubernetes: tells which credential the client has.
    pub inputs: String,
    server: Server,
    client: Arc<dyn Client>,
}

impl ActiveClient {
    /// Puts a client behind the gate, once it was inspected.
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

    /// The server, as the client reaches it.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// The owner that bindings are held to.
    #[must_use]
    pub fn scope(&self) -> Option<&Scope> {
        self.inspection.scope.as_ref().or(self.endpoint.scope.as_ref())
    }

    /// Judges a permission from what the inspection found. Nothing is sent.
    #[must_use]
    pub fn permission(&self, permission: Permission) -> PermissionFinding {
        self.client.permission(&self.inspection, permission)
    }

    /// Judges from what the inspection found whether hooks with these events may be managed. Nothing is sent.
    #[must_use]
    pub fn hook_permission(&self, events: &BTreeSet<EventKind>) -> PermissionFinding {
        self.client.hook_permission(&self.inspection, events)
    }

    /// What the provider must be asked for to deliver these events. Nothing is sent.
    #[must_use]
    pub fn hook_shapes(&self, events: &BTreeSet<EventKind>) -> Vec<HookShape> {
        self.client.hook_shapes(events)
    }
}

/// The address of a connection's API and the path that a text means there, read from the connection's spec: no client is needed
/// for it. `None` while the spec has no address from which they could be read.
#[must_use]
pub fn place_at(connection: &GitProviderConnection, text: &str) -> Option<(Url, Result<RepositoryPath, PathError>)> {
    let provider = registry::provider(connection.spec.provider.kind()?)?;
    let endpoint = provider.endpoint(&connection.spec.provider).ok()?;
    let path = provider.repository_path(&endpoint, text);
    Some((endpoint.api, path))
}

/// Whether a connection grants what a binding asks for; `None` where that cannot be told. Judged whether or not the
/// connection works: a grant that is withdrawn ends at once.
#[must_use]
pub fn grants(view: &View, object: &RepoBinding, connection: &GitProviderConnection) -> Option<bool> {
    let text = object.spec.repository.as_str();
    match place_at(connection, text) {
        Some(_) => permits_text(view, object, connection, text),
        None => permits(view, object, connection, None),
    }
}

/// Whether a connection grants to a binding the path that a text means there; `None` where that cannot be told.
fn permits_text(view: &View, object: &RepoBinding, connection: &GitProviderConnection, text: &str) -> Option<bool> {
    match place_at(connection, text) {
        Some((_, Ok(path))) => permits(view, object, connection, Some(path.as_str())),
        // What is no path at this connection fits a pattern only as it stands.
        Some((_, Err(_))) | None => permits(view, object, connection, Some(text)),
    }
}

/// Whether a connection grants a path to a binding; `None` where that cannot be told. Without a path, the namespace and the
/// destination alone are judged.
#[must_use]
pub fn permits(view: &View, object: &RepoBinding, connection: &GitProviderConnection, path: Option<&str>) -> Option<bool> {
    permits_to(view, object, connection, path, custom_url(object).as_ref())
}

/// The same for an endpoint to which a hook of the binding delivers; `None` stands for our receiver.
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

/// Whether the connection grants what the binding asks for; `None` where that cannot be told, which withdraws nothing from a binding
/// that had a grant. Any other one gets the same answer as for a connection that is not there.
#[must_use]
pub fn granted(view: &View, object: &RepoBinding, connection: Option<&GitProviderConnection>, seal: &Seal) -> Option<bool> {
    let Some(connection) = connection else { return Some(false) };
    let is_own = object.metadata.namespace.as_ref() == Some(&object.connection_target().namespace);
    let granted = grants(view, object, connection);
    let may_know = is_own || view.shows_connections || had_grant(object, seal);
    if granted.is_none() && !may_know { Some(false) } else { granted }
}

/// Whether the binding was told before that the connection which it names is there and allows it.
#[must_use]
pub fn had_grant(object: &RepoBinding, seal: &Seal) -> bool {
    let target = object.connection_target();
    let status = object.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let requested = status.and_then(|status| status.repository.as_ref()?.requested.as_ref());
    let was_ready = conditions::find(conditions, ConditionType::ConnectionReady).is_some_and(|condition| {
        // Of which connection it was said: the spec may name another one since.
        let of_this = condition.observed_generation == object.metadata.generation
            || requested.is_some_and(|requested| requested.connection == target);
        condition.status == "True" && of_this
    });
    was_ready || object.hook_targets().any(|held| held.connection == target && seal.is_on(held))
}

/// The address of somebody else's endpoint that the binding names.
#[must_use]
pub fn custom_url(object: &RepoBinding) -> Option<Url> {
    let url = object.spec.webhook.as_ref()?.url.as_ref()?;
    Url::parse(&url.0).ok()
}
