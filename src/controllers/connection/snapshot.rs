//! Reads the cluster's objects and our memory for one connection. Calls no provider.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use url::Url;

use super::connection_inputs::{self, ConnectionInputs};
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::{GitProviderConnection, ManagementPolicy, RECONCILE_REQUESTED_AT};
use crate::controllers::catalog::state::Outcome;
use crate::controllers::public_endpoints::Unreachable;
use crate::controllers::sessions::{ConditionFailure, Session};
use crate::controllers::{View, requested};

/// What is known about one connection before its provider is called.
pub struct Snapshot {
    /// The connection.
    pub object: Arc<GitProviderConnection>,
    /// Time of the reconciliation.
    pub now: Timestamp,
    /// Fingerprint of this installation.
    pub fingerprint: String,
    /// Contents of the objects that the connection refers to, or why they cannot be used.
    pub inputs: Result<ConnectionInputs, ConditionFailure>,
    /// Session of the last reconciliation; `None` before the first inspection.
    pub session: Option<Session>,
    /// Whether the namespace of the connection is being deleted.
    pub terminating: bool,
    /// Whether the installation changes nothing at a provider.
    pub read_only: bool,
    /// Overrides the time limits of a blocked cleanup.
    pub cleanup_timeout: Option<Duration>,
    /// Result of the last listing of its repositories by this process.
    pub catalog: Option<Outcome>,
    /// The public URL of its deliveries while it does not answer, and why.
    pub unreachable: Option<(Url, Unreachable)>,
}

impl Snapshot {
    /// Reads the objects that the connection refers to, the caches and the session.
    pub async fn read(view: &View, object: Arc<GitProviderConnection>) -> Self {
        let connection = ConnectionTarget::of(&object);
        let now = view.clock.now();
        let inputs = connection_inputs::read(&*view.references, &object).await;
        Self {
            now,
            fingerprint: view.keys.fingerprint.clone(),
            inputs,
            session: view.sessions.get(&connection),
            terminating: view.is_terminating(&connection.namespace),
            read_only: view.settings.read_only,
            cleanup_timeout: view.settings.cleanup_timeout,
            catalog: view.catalogs.outcome(&connection, &object.uid().unwrap_or_default()),
            unreachable: unreachable(view, &object, now),
            object,
        }
    }

    /// UID of the connection.
    #[must_use]
    pub fn uid(&self) -> String {
        self.object.uid().unwrap_or_default()
    }

    /// Version of the spec and of everything it refers to. Any change of it requires a new inspection.
    #[must_use]
    pub fn inputs_version(&self) -> String {
        let versions = self.inputs.as_ref().map_or_else(|failure| &failure.message, |inputs| &inputs.versions);
        format!("generation={},{versions}", self.object.metadata.generation.unwrap_or_default())
    }

    /// Whether an inspection was requested by annotation.
    #[must_use]
    pub fn inspection_requested(&self) -> bool {
        let handled = self.object.status.as_ref().and_then(|status| status.last_handled.as_ref()?.reconcile.as_ref());
        requested(&*self.object, RECONCILE_REQUESTED_AT, handled).is_some()
    }

    /// Whether nothing may be changed at the provider.
    #[must_use]
    pub fn observe_only(&self) -> bool {
        self.read_only || self.object.spec.management_policy == ManagementPolicy::Observe
    }
}

/// The public URL that the connection chooses, if it does not answer.
fn unreachable(view: &View, object: &GitProviderConnection, now: Timestamp) -> Option<(Url, Unreachable)> {
    let url = view.settings.public_urls.choose(object.spec.public_url_name()).ok()?;
    Some((url.clone(), view.public_endpoints.unreachable(url, now)?))
}
