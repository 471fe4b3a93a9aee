//! Writing what was decided to say: the status, and events for what a person should notice.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::warn;

use super::conditions::{self, Conditions, Verdict};
use super::{Context, Error, Managed};
use crate::api::v1alpha1::{ConditionType, FIELD_MANAGER, Reason};

/// The field manager of the one condition that is said of another installation's objects.
const FOREIGN_FIELD_MANAGER: &str = "forgebind-foreign";

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
///
/// # Errors
/// What the API server said; a conflict when the object changed meanwhile.
pub async fn write<K, S>(context: &Context, object: &K, old: Option<&S>, new: &S) -> Result<bool, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
    S: Serialize + PartialEq,
{
    if old == Some(new) {
        return Ok(false);
    }
    let metadata = json!({"name": object.name_any(), "uid": object.uid(), "resourceVersion": object.resource_version()});
    let written = apply(context, object, FIELD_MANAGER, metadata, &json!(new)).await?;
    context.writes.note(&written);
    Ok(true)
}

async fn apply<K>(context: &Context, object: &K, manager: &str, metadata: Value, status: &Value) -> kube::Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
{
    let body = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": metadata, "status": status});
    let api: Api<K> = Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    api.patch_status(&object.name_any(), &PatchParams::apply(manager).force(), &Patch::Apply(&body)).await
}

/// Whether another installation manages an object: hands off. Says so in the one condition that is ours then: what the other
/// installation says stays.
///
/// # Errors
/// What the API server said.
pub async fn leave_foreign<K>(context: &Context, object: &K) -> Result<bool, Error>
where
    K: Managed + Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
{
    let Some(message) = super::left_to_another(object, &context.view.keys.fingerprint) else { return Ok(false) };
    let reason = Reason::ManagedByAnotherInstallation;
    if conditions::find(object.conditions(), ConditionType::Stalled).is_some_and(|condition| condition.reason == reason.as_str()) {
        return Ok(true);
    }
    let mut stalled = Conditions::new(&[], object.meta().generation, context.view.clock.now());
    stalled.set(ConditionType::Stalled, Verdict::True, reason, message);
    let metadata = json!({"name": object.name_any(), "uid": object.uid()});
    apply(context, object, FOREIGN_FIELD_MANAGER, metadata, &json!({"conditions": stalled.finish()})).await?;
    Ok(true)
}

/// Publishes notices. An event that is lost changes nothing, so trouble is logged and no more.
pub async fn publish<K>(context: &Context, object: &K, notices: &[Notice])
where
    K: Resource<DynamicType = ()>,
{
    publish_on(context, &object.object_ref(&()), notices).await;
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
