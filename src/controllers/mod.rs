//! The controllers: reconcile the objects with the hooks at the providers and report the result in the status.
//!
//! Both controllers work in the same four steps. `observe` does all the reading and keeps failures as data. `plan` and `report`
//! are pure: `plan` decides what to do, `report` computes the status. `apply` carries out the plan and makes no decisions of
//! its own.

pub mod binding;
pub mod claim;
pub mod connection;
pub mod gate;
pub mod install;
pub mod leftovers;
pub mod metrics;
pub mod object_metrics;
pub mod runtime;
pub mod sessions;
pub mod view;

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::runtime::events::Recorder;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;

use crate::api::v1alpha1::binding::{ConnectionTarget, RepoBindingStatus};
use crate::api::v1alpha1::connection::GitProviderConnectionStatus;
use crate::api::v1alpha1::{GitProviderConnection, ProviderKind, RepoBinding};
use crate::network::public_urls::PublicUrls;
use crate::protocol::keys::{ControllerKey, ReceiverKey};

use runtime::backoff::Backoff;
use runtime::status::{EventRecord, publish_on};
use runtime::writes::WriteTracker;

pub use claim::foreign_owner_message;
pub use sessions::Sessions;
pub use view::View;

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

/// Everything that a reconciliation needs: the view it reads and the means to write.
pub struct Context {
    /// Everything that `observe` reads.
    pub view: View,
    /// Client of the API server.
    pub client: Client,
    /// The connections that have leftover hooks to delete.
    pub leftovers: leftovers::Pending,
    /// Our own writes that the caches have not seen yet.
    pub writes: WriteTracker,
    /// Consecutive failures of each object.
    pub backoff: Backoff,
    /// Publishes Kubernetes events.
    pub recorder: Recorder,
    /// Metrics of the controllers.
    pub metrics: metrics::Metrics,
}

/// Requests reconciliations from outside the watches.
#[derive(Clone, Debug)]
pub struct Triggers {
    /// Requests for connections.
    pub connections: UnboundedSender<ObjectRef<GitProviderConnection>>,
    /// Requests for bindings.
    pub bindings: UnboundedSender<ObjectRef<RepoBinding>>,
}

impl Triggers {
    /// Requests a reconciliation of a connection.
    pub fn connection(&self, connection: &ConnectionTarget) {
        let _ = self.connections.send(ObjectRef::new(&connection.name).within(&connection.namespace));
    }

    /// Requests a reconciliation of a binding.
    pub fn binding(&self, binding: &RepoBinding) {
        let _ = self.bindings.send(ObjectRef::from_obj(binding));
    }
}

/// The status fields that both kinds have in common.
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

/// Locks a mutex and ignores poisoning: every critical section here is one map operation, so the data is still consistent after
/// a panic.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value of an annotation that was not handled yet.
#[must_use]
pub fn requested<'a>(object: &'a impl Resource, annotation: &str, handled: Option<&String>) -> Option<&'a str> {
    let value = object.annotations().get(annotation)?;
    (handled != Some(value)).then_some(value)
}

/// Publishes an event on an object that does not parse, so that `kubectl describe` shows what is wrong.
pub async fn report_invalid<K: Resource<DynamicType = ()>>(context: &Context, metadata: ObjectMeta, error: &str) {
    let reference = ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        ..ObjectReference::default()
    };
    let event = EventRecord::warning(
        crate::api::v1alpha1::Reason::InvalidObject.as_str(),
        format!("the stored object does not fit the schema: {error}"),
    );
    publish_on(context, &reference, &[event]).await;
}

/// Why a reconciliation failed. Only failures at the API server are errors; a failure at a provider becomes a condition.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("API server: {}", crate::text::wording::of_api_server(.0))]
    Kubernetes(#[from] kube::Error),
    /// The reconciliation took too long.
    #[error("not finished within {0:?}")]
    TimedOut(Duration),
    /// A bug. Other objects are not affected.
    #[error("panicked")]
    Panicked,
}
