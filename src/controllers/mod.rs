//! The controllers: what the objects say and what the providers have are made the same, and the status tells how that goes.
//!
//! Both work in the same four steps. `observe` does all the reading and keeps failures as data. `plan` and `report` are
//! pure: the one decides what to do, the other what to say. `apply` does what was decided, without a decision of its own.

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

/// What the administrator decided.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where providers reach the receiver, and reached it before: hooks that point to any of these are ours.
    pub public_urls: PublicUrls,
    /// The operator's own namespace.
    pub namespace: String,
    /// The providers that are served.
    pub providers: BTreeSet<ProviderKind>,
    /// Plan everything, write nothing at a provider.
    pub read_only: bool,
    /// Replaces the bounds of a cleanup that cannot be done.
    pub cleanup_timeout: Option<Duration>,
}

/// What is derived from the install key.
#[derive(Clone)]
pub struct Keys {
    /// Tells this installation apart.
    pub fingerprint: String,
    /// Hook ids and secrets.
    pub receiver: ReceiverKey,
    /// Marks on hooks that deliver elsewhere.
    pub controller: ControllerKey,
}

/// Everything that a reconciliation needs: what it sees, and what it writes with.
pub struct Context {
    /// What can be seen.
    pub view: View,
    /// The API server.
    pub client: Client,
    /// Which connections have hooks to remove that were left behind.
    pub leftovers: leftovers::Pending,
    /// Our own writes that the caches have yet to see.
    pub writes: WriteTracker,
    /// Failures in a row.
    pub backoff: Backoff,
    /// Kubernetes events.
    pub recorder: Recorder,
    /// Metrics.
    pub metrics: metrics::Metrics,
}

/// Asks for reconciliations from outside the watches.
#[derive(Clone, Debug)]
pub struct Triggers {
    /// Of connections.
    pub connections: UnboundedSender<ObjectRef<GitProviderConnection>>,
    /// Of bindings.
    pub bindings: UnboundedSender<ObjectRef<RepoBinding>>,
}

impl Triggers {
    /// Asks for a connection to be reconciled.
    pub fn connection(&self, connection: &ConnectionTarget) {
        let _ = self.connections.send(ObjectRef::new(&connection.name).within(&connection.namespace));
    }

    /// Asks for a binding to be reconciled.
    pub fn binding(&self, binding: &RepoBinding) {
        let _ = self.bindings.send(ObjectRef::from_obj(binding));
    }
}

/// What the status of both kinds tells alike.
pub trait Managed {
    /// Its status.
    type Status: Serialize + PartialEq;

    /// What it says.
    fn status(&self) -> Option<&Self::Status>;

    /// Fingerprint of the installation that manages the object.
    fn installation(&self) -> Option<&str>;

    /// Its conditions.
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

/// A lock whose holder panicked holds data that is still whole: every critical section here is one map operation.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value of an annotation that was not acted upon yet.
#[must_use]
pub fn requested<'a>(object: &'a impl Resource, annotation: &str, handled: Option<&String>) -> Option<&'a str> {
    let value = object.annotations().get(annotation)?;
    (handled != Some(value)).then_some(value)
}

/// Says of an object that does not parse what is wrong with it, where `kubectl describe` shows it.
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

/// Why a reconciliation failed: a failure at the API server. A failure at a provider is no error but a condition.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("API server: {}", crate::text::wording::of_api_server(.0))]
    Kubernetes(#[from] kube::Error),
    /// A step took too long.
    #[error("not finished within {0:?}")]
    TimedOut(Duration),
    /// A bug, confined to one object.
    #[error("panicked")]
    Panicked,
}
