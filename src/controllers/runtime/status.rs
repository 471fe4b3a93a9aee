//! Writes the status of objects and publishes events.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::warn;

use crate::api::v1alpha1::deliveries::RecentDelivery;
use crate::api::v1alpha1::{ConditionType, DELIVERIES_FIELD_MANAGER, FIELD_MANAGER, Reason, RepoBinding};
use crate::controllers::{Context, Error, Managed};
use crate::k8s::conditions::{self, ConditionStatus, Conditions};

/// Field manager of the one condition that is set on objects of another installation.
const FOREIGN_FIELD_MANAGER: &str = "forgebind-foreign";

/// The field with the list of the last deliveries.
const DELIVERIES: &str = "recentDeliveries";

/// A Kubernetes event to publish.
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
    /// An event about a success.
    #[must_use]
    pub fn normal(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { warning: false, reason: reason.into(), message: message.into() }
    }

    /// An event about a failure.
    #[must_use]
    pub fn warning(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { warning: true, reason: reason.into(), message: message.into() }
    }
}

/// Applies a status if it differs from the current one. Returns whether it was written. The write carries the object's UID and
/// version, so that it affects neither a newer object nor another object of the same name.
///
/// An apply does not remove fields that others wrote into the status, such as a restored backup. The whole status is replaced
/// then, so that no outdated condition stays forever.
///
/// # Errors
/// The error of the API server; a conflict when the object changed meanwhile.
pub async fn write<K>(context: &Context, object: &K, new: &K::Status) -> Result<bool, Error>
where
    K: Managed + Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
{
    Ok(put(context, object, new).await?.is_some())
}

/// As [`write()`]. Returns the object as written, or `None` if there was nothing to write.
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
    if object.status().map(|old| canonical(parted(json!(old)).0)).unwrap_or_default() == wanted {
        return Ok(None);
    }
    let metadata = json!({"name": object.name_any(), "uid": object.uid(), "resourceVersion": object.resource_version()});
    let mut written = apply(context, object, FIELD_MANAGER, metadata, &json!(new)).await?;
    let (rest, deliveries) = written.status().map(|status| parted(json!(status))).unwrap_or_default();
    if canonical(rest) != wanted {
        let mut whole = with(json!(new), remark);
        if let (Some(fields), Some(deliveries)) = (whole.as_object_mut(), deliveries) {
            fields.insert(DELIVERIES.to_owned(), deliveries);
        }
        written = replace(context, &written, whole).await?;
    }
    context.writes.note(&written);
    Ok(Some(written))
}

/// Writes the list of a binding's last deliveries, and nothing else of its status: the rest has another field manager.
///
/// # Errors
/// The error of the API server.
pub async fn put_deliveries(context: &Context, object: &RepoBinding, list: &[RecentDelivery]) -> Result<(), Error> {
    let metadata = json!({"name": object.name_any(), "uid": object.uid()});
    let written = apply(context, object, DELIVERIES_FIELD_MANAGER, metadata, &json!({DELIVERIES: list})).await?;
    context.writes.note(&written);
    Ok(())
}

/// A status without the list of the last deliveries, and that list.
fn parted(mut status: Value) -> (Value, Option<Value>) {
    let deliveries = status.as_object_mut().and_then(|fields| fields.remove(DELIVERIES));
    (status, deliveries)
}

/// The one condition that another installation sets on an object that it does not own.
fn remark_of_another<'a>(object: &'a impl Managed, fingerprint: &str) -> Option<&'a Condition> {
    object.installation()?;
    let reason = Reason::ManagedByAnotherInstallation.as_str();
    conditions::find(object.conditions(), ConditionType::Stalled)
        .filter(|condition| condition.reason == reason && !condition.message.contains(fingerprint))
}

/// Adds the condition of another installation to a status, unless the status has a condition of that type itself.
fn with(mut status: Value, remark: Option<&Condition>) -> Value {
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    if let (Some(conditions), Some(remark)) = (conditions, remark)
        && !conditions.iter().any(|condition| condition.get("type").and_then(Value::as_str) == Some(remark.type_.as_str()))
    {
        conditions.push(json!(remark));
    }
    status
}

/// Normalizes a status for comparison: the API server orders the items of a list map itself, and a missing field equals an
/// empty one.
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

/// Replaces the whole status, including fields of other field managers.
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

/// Whether another installation manages an object, which must then be left alone. Reports this in a `Stalled` condition under a
/// field manager of its own, so that the other installation's conditions stay.
///
/// # Errors
/// The error of the API server.
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

/// Publishes events. A failure is only logged, because a lost event changes nothing.
pub async fn publish<K>(context: &Context, object: &K, events: &[EventRecord])
where
    K: Resource<DynamicType = ()>,
{
    publish_on(context, &object.object_ref(&()), events).await;
}

/// Publishes events on an object that is known only by reference.
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
    let event = EventRecord::warning(Reason::InvalidObject.as_str(), format!("the stored object does not match the schema: {error}"));
    publish_on(context, &reference, &[event]).await;
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_list_of_deliveries_is_no_difference_to_the_rest_of_a_status() {
        let (rest, deliveries) = parted(json!({"plan": [], "recentDeliveries": [1]}));
        assert_eq!((rest, deliveries), (json!({"plan": []}), Some(json!([1]))));
        assert_eq!(parted(json!({"plan": []})).1, None);
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
