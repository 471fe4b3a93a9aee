//! What every reconciliation is given: settings, derived keys, and the channel for requests.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::UnboundedSender;

use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::{ConnectionGrant, GitProviderConnection, ProviderKind, RepoBinding};
use crate::network::public_urls::PublicUrls;
use crate::protocol::keys::{ControllerKey, ReceiverKey};

/// How long the removal of hooks, and the deletion of a connection, wait for a working credential.
pub const CREDENTIAL_BOUND: Duration = Duration::from_secs(3600);
/// How long they wait for a provider that is out of reach, and a connection for bindings that still hold hooks.
pub const OUTAGE_BOUND: Duration = Duration::from_secs(24 * 3600);
/// How long they wait in a namespace that is being deleted.
pub const NAMESPACE_BOUND: Duration = Duration::from_secs(20);

/// The administrator's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Current and former public URLs of the receiver. A hook that points to any of them is ours.
    pub public_urls: PublicUrls,
    /// The operator's own namespace.
    pub namespace: String,
    /// The enabled providers.
    pub providers: BTreeSet<ProviderKind>,
    /// Plans everything, but changes nothing at a provider.
    pub read_only: bool,
    /// Replaces the default time limits after which a blocked cleanup is given up.
    pub cleanup_timeout: Option<Duration>,
    /// How long a hook stays after no grant has fitted its binding any more.
    pub missing_grant_timeout: Duration,
}

/// Values derived from the install key.
#[derive(Clone)]
pub struct Keys {
    /// Identifies this installation.
    pub fingerprint: String,
    /// Derives hook ids and webhook secrets.
    pub receiver: ReceiverKey,
    /// Derives the marks on hooks that deliver elsewhere.
    pub controller: ControllerKey,
}

/// Requests reconciliations from outside the watches.
#[derive(Clone, Debug)]
pub struct Triggers {
    /// Requests for connections.
    pub connections: UnboundedSender<ObjectRef<GitProviderConnection>>,
    /// Requests for grants.
    pub grants: UnboundedSender<ObjectRef<ConnectionGrant>>,
    /// Requests for bindings.
    pub bindings: UnboundedSender<ObjectRef<RepoBinding>>,
}

impl Triggers {
    /// Requests a reconciliation of a connection.
    pub fn connection(&self, connection: &ConnectionTarget) {
        let _ = self.connections.send(ObjectRef::new(&connection.name).within(&connection.namespace));
    }

    /// Requests a reconciliation of a grant.
    pub fn grant(&self, namespace: &str, name: &str) {
        let _ = self.grants.send(ObjectRef::new(name).within(namespace));
    }

    /// Requests a reconciliation of a binding.
    pub fn binding(&self, binding: &RepoBinding) {
        let _ = self.bindings.send(ObjectRef::from_obj(binding));
    }
}
