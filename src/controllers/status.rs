//! Writing what was decided to say: the status, and events for what a person should notice.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt as _};
use moka::sync::Cache;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::warn;

use super::{Context, Error};
use crate::api::v1alpha1::{FIELD_MANAGER, Reason};

/// How often it is told that an object is another installation's: as often as the API server forgets events.
const FOREIGN_RHYTHM: Duration = Duration::from_secs(3600);
/// Of how many objects it is remembered at most that this was told.
const FOREIGN_KNOWN: u64 = 10_000;

/// Something a person should notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether it is trouble.
    pub warning: bool,
    /// In `PascalCase`.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

impl Notice {
    /// Something that went well.
    #[must_use]
    pub fn normal(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { warning: false, reason: reason.into(), message: message.into() }
    }

    /// Something that went wrong.
    #[must_use]
    pub fn warning(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { warning: true, reason: reason.into(), message: message.into() }
    }
}

/// Applies a status when it differs from the one that the object has. The object's UID and version go along, so that
/// neither a newer object nor another one of the same name is hit.
pub async fn write<K, S>(context: &Context, object: &K, old: Option<&S>, new: &S) -> Result<bool, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
    S: Serialize + PartialEq,
{
    if old == Some(new) {
        return Ok(false);
    }
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": object.name_any(), "uid": object.uid(), "resourceVersion": object.resource_version()},
        "status": new,
    });
    let api: Api<K> = Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let written = api.patch_status(&object.name_any(), &parameters, &Patch::Apply(&body)).await?;
    context.writes.note(&written);
    Ok(true)
}

/// Publishes notices. An event that is lost changes nothing, so trouble is logged and no more.
pub async fn publish<K>(context: &Context, object: &K, notices: &[Notice])
where
    K: Resource<DynamicType = ()>,
{
    publish_on(context, &object.object_ref(&()), notices).await;
}

/// The objects of another installation that were told of lately, by UID.
#[derive(Debug)]
pub struct Foreign(Cache<String, ()>);

impl Default for Foreign {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(FOREIGN_KNOWN).time_to_live(FOREIGN_RHYTHM).build())
    }
}

/// Says of an object that it is another installation's. An event and no condition: two writers of one status would never
/// come to rest.
pub async fn tell_foreign<K>(context: &Context, object: &K) -> Action
where
    K: Resource<DynamicType = ()>,
{
    let uid = object.uid().unwrap_or_default();
    if context.foreign.0.get(&uid).is_none() {
        context.foreign.0.insert(uid, ());
        let reason = Reason::ManagedByAnotherInstallation.as_str();
        warn!(kind = %K::kind(&()), namespace = object.namespace(), name = object.name_any(), reason, "hands off");
        let message = "another installation of Forgebind manages this object; leave it to that one, or, when it is gone, remove \
                       status.installation: kubectl patch --subresource=status --type=json \
                       --patch '[{\"op\":\"remove\",\"path\":\"/status/installation\"}]'";
        publish(context, object, &[Notice::warning(reason, message)]).await;
    }
    Action::requeue(FOREIGN_RHYTHM)
}

/// Publishes notices on an object of which only a reference is known.
pub async fn publish_on(context: &Context, reference: &ObjectReference, notices: &[Notice]) {
    for notice in notices {
        let event = Event {
            type_: if notice.warning { EventType::Warning } else { EventType::Normal },
            reason: notice.reason.clone(),
            note: Some(notice.message.chars().take(1000).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = context.recorder.publish(&event, reference).await {
            warn!(error = %error, reason = notice.reason, "event not published");
        }
    }
}
