//! A connection's client behind the gate.

use std::collections::BTreeSet;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::api::v1alpha1::{EventKind, Permission};
use crate::providers::model::Scope;
use crate::providers::{Client, Endpoint, HookShape, Inspection, PermissionFinding, Provider};

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
    pub(super) client: Arc<dyn Client>,
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
