//! Writing what was decided to say: the status, and events for what a person should notice.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::warn;

use crate::api::v1alpha1::{ConditionType, FIELD_MANAGER, Reason};
use crate::controllers::{Context, Error, Managed};
use crate::k8s::conditions;
use crate::k8s::conditions::{ConditionStatus, Conditions};

/// The field manager of the one condition that is said of another installation's objects.
const FOREIGN_FIELD_MANAGER: &str = "forgebind-foreign";

/// Something a person should notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// Whether it is a warning.
    pub warning: bool,
    /// In `PascalCase`.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

impl EventRecord {
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
/// What somebody else wrote into the status, such as a restore of a backup, is not taken away by an apply: it is replaced then,
/// so that no condition of a former time stays for ever.
///
/// # Errors
/// What the API server said; a conflict when the object changed meanwhile.
pub async fn write<K>(context: &Context, object: &K, new: &K::Status) -> Result<bool, Error>
where
    K: Managed + Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
{
    Ok(put(context, object, new).await?.is_some())
}

/// As [`write()`]; answers the object as it is then, `None` when there was nothing to write.
///
/// # Errors
/// As [`write()`].
pub async fn put<K>(context: &Context, object: &K, new: &K::Status) -> Result<Option<K>, Error>
where
    K: Managed + Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
{
    if object.status() == Some(new) {
        return Ok(None);
    }
    let remark = remark_of_another(object, &context.view.keys.fingerprint);
    let wanted = canonical(with(json!(new), remark));
    if object.status().map(|old| canonical(json!(old))).unwrap_or_default() == wanted {
        return Ok(None);
    }
    let metadata = json!({"name": object.name_any(), "uid": object.uid(), "resourceVersion": object.resource_version()});
    let mut written = apply(context, object, FIELD_MANAGER, metadata, &json!(new)).await?;
    if written.status().map(|status| canonical(json!(status))).unwrap_or_default() != wanted {
        written = replace(context, &written, with(json!(new), remark)).await?;
    }
    context.writes.note(&written);
    Ok(Some(written))
}

/// The one condition that another installation says of an object that is not its own.
fn remark_of_another<'a>(object: &'a impl Managed, fingerprint: &str) -> Option<&'a Condition> {
    object.installation()?;
    let reason = Reason::ManagedByAnotherInstallation.as_str();
    conditions::find(object.conditions(), ConditionType::Stalled)
        .filter(|condition| condition.reason == reason && !condition.message.contains(fingerprint))
}

/// A status with a condition of somebody else, unless it says something of that kind itself.
fn with(mut status: Value, remark: Option<&Condition>) -> Value {
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    if let (Some(conditions), Some(remark)) = (conditions, remark)
        && !conditions.iter().any(|condition| condition.get("type").and_then(Value::as_str) == Some(remark.type_.as_str()))
    {
        conditions.push(json!(remark));
    }
    status
}

/// A status in one form: the API server keeps the items of a list map in an order of its own, and nothing is the same as empty.
fn canonical(value: Value) -> Value {
    let is_something = |value: &Value| match value {
        Value::Null => false,
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, canonical(value)));
            let fields: serde_json::Map<_, _> = fields.filter(|(_, value)| is_something(value)).collect();
            if fields.is_empty() { Value::Null } else { Value::Object(fields) }
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(canonical).collect();
            items.sort_by_cached_key(ToString::to_string);
            Value::Array(items)
        }
        value => value,
    }
}

/// Puts a status in the place of the one that is there, whoever wrote it.
async fn replace<K>(context: &Context, object: &K, status: Value) -> kube::Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
{
    let body = json!([
        {"op": "test", "path": "/metadata/uid", "value": object.uid()},
        {"op": "test", "path": "/metadata/resourceVersion", "value": object.resource_version()},
        {"op": "add", "path": "/status", "value": status},
    ]);
    let patch: json_patch::Patch = serde_json::from_value(body).map_err(kube::Error::SerdeError)?;
    let api: Api<K> = Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch_status(&object.name_any(), &parameters, &Patch::<()>::Json(patch)).await
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
pub async fn skip_if_foreign<K>(context: &Context, object: &K) -> Result<bool, Error>
where
    K: Managed + Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
{
    let Some(message) = crate::controllers::foreign_owner_message(object, &context.view.keys.fingerprint) else { return Ok(false) };
    let reason = Reason::ManagedByAnotherInstallation;
    if conditions::find(object.conditions(), ConditionType::Stalled).is_some_and(|condition| condition.reason == reason.as_str()) {
        return Ok(true);
    }
    let mut stalled = Conditions::new(&[], object.meta().generation, context.view.clock.now());
    stalled.set(ConditionType::Stalled, ConditionStatus::True, reason, message);
    let metadata = json!({"name": object.name_any(), "uid": object.uid()});
    apply(context, object, FOREIGN_FIELD_MANAGER, metadata, &json!({"conditions": stalled.finish()})).await?;
    Ok(true)
}

/// Publishes events. An event that is lost changes nothing, so a failure is logged and no more.
pub async fn publish<K>(context: &Context, object: &K, events: &[EventRecord])
where
    K: Resource<DynamicType = ()>,
{
    publish_on(context, &object.object_ref(&()), events).await;
}

/// Publishes events on an object of which only a reference is known.
pub async fn publish_on(context: &Context, reference: &ObjectReference, events: &[EventRecord]) {
    for event in events {
        let event = Event {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason.clone(),
            note: Some(event.message.chars().take(1000).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = context.recorder.publish(&event, reference).await {
            warn!(error = %error, reason = event.reason, "event not published");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::RepoBinding;

    fn binding(installation: &Value, message: &str) -> RepoBinding {
        let stalled = json!({"type": "Stalled", "status": "True", "reason": "ManagedByAnotherInstallation", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        serde_json::from_value(json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding", "metadata": {"name": "shop", "namespace": "team"},
            "spec": {"connectionRef": {"name": "c"}, "repository": "acme/shop"},
            "status": {"installation": installation, "conditions": [stalled]},
        }))
        .unwrap()
    }

    #[test]
    fn a_remark_of_another_installation_stays_and_one_of_our_own_goes_when_the_object_becomes_ours() {
        let says = |object: &RepoBinding| remark_of_another(object, "0a0b0c0d").is_some();
        assert!(says(&binding(&json!("0a0b0c0d"), "installation ffffffff leaves it alone")));
        assert!(!says(&binding(&json!("0a0b0c0d"), "installation 0a0b0c0d leaves it alone")));
        assert!(!says(&binding(&json!(null), "installation ffffffff leaves it alone")), "it was nobody's");
    }

    #[test]
    fn order_and_emptiness_make_no_difference() {
        let one = json!({"conditions": [{"type": "A"}, {"type": "B"}], "plan": [], "webhook": {"url": null}});
        let other = json!({"conditions": [{"type": "B"}, {"type": "A"}]});
        assert_eq!(canonical(one.clone()), canonical(other));
        assert_ne!(canonical(one), canonical(json!({"conditions": [{"type": "A"}]})));
        assert_eq!(canonical(json!({"conditions": []})), Value::Null);
    }
}
