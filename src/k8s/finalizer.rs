//! Adds and removes the finalizer by JSON patch, guarded by UID and resourceVersion, so that it can neither affect another object
//! of the same name nor overwrite a concurrent change.

use json_patch::{AddOperation, PatchOperation, RemoveOperation, TestOperation, jsonptr::PointerBuf};
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::api::v1alpha1::{FIELD_MANAGER, FINALIZER};

/// Whether an object has our finalizer.
pub fn is_present(object: &impl Resource) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// Adds our finalizer and returns the updated object.
///
/// # Errors
/// The error of the API server; a conflict if the object changed in the meantime.
pub async fn add<K>(client: &Client, object: &K) -> kube::Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
{
    let operation = if object.meta().finalizers.is_some() {
        PatchOperation::Add(AddOperation { path: pointer(["metadata", "finalizers", "-"]), value: json!(FINALIZER) })
    } else {
        PatchOperation::Add(AddOperation { path: pointer(["metadata", "finalizers"]), value: json!([FINALIZER]) })
    };
    patch(client, object, vec![operation]).await
}

/// Removes our finalizer and returns the updated object; `None` if the object no longer exists or has no finalizer of ours.
///
/// # Errors
/// The error of the API server; a conflict if the object changed in the meantime.
pub async fn remove<K>(client: &Client, object: &K) -> kube::Result<Option<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
{
    let Some(operations) = removal(object) else { return Ok(None) };
    match patch(client, object, operations).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The unguarded operations that remove our finalizer from an object; `None` if it does not have it.
fn removal(object: &impl Resource) -> Option<Vec<PatchOperation>> {
    let position = object.finalizers().iter().position(|finalizer| finalizer == FINALIZER)?;
    let path = pointer(["metadata", "finalizers", &position.to_string()]);
    Some(vec![
        PatchOperation::Test(TestOperation { path: path.clone(), value: json!(FINALIZER) }),
        PatchOperation::Remove(RemoveOperation { path }),
    ])
}

/// The guarded patch that removes our finalizer from an object of any type; `None` if it does not have it.
pub fn removal_patch(object: &impl Resource) -> Option<Patch<()>> {
    removal(object).map(|operations| guarded(object, operations))
}

/// Parameters for such a patch: our field manager, so that `managedFields` shows who manages the finalizer.
#[must_use]
pub fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

fn guarded(object: &impl Resource, operations: Vec<PatchOperation>) -> Patch<()> {
    let guard = |field, value| PatchOperation::Test(TestOperation { path: pointer(["metadata", field]), value });
    let mut guarded = vec![guard("uid", json!(object.uid())), guard("resourceVersion", json!(object.resource_version()))];
    guarded.extend(operations);
    Patch::Json(json_patch::Patch(guarded))
}

async fn patch<K>(client: &Client, object: &K, operations: Vec<PatchOperation>) -> kube::Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    api.patch(&object.name_any(), &parameters(), &guarded(object, operations)).await
}

fn pointer<const N: usize>(tokens: [&str; N]) -> PointerBuf {
    PointerBuf::from_tokens(tokens)
}
