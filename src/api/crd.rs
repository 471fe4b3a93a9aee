//! The custom resource definitions, generated from the types in [`crate::api`].

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt as _;
use serde_json::json;

use crate::api::v1alpha1::{ConnectionGrant, GitProviderConnection, RepoBinding, RepositorySlice, UNOBSERVED};

/// The error for a definition that cannot be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("{name} cannot be written as YAML: {source}")]
pub struct YamlError {
    name: String,
    source: serde_saphyr::ser::Error,
}

/// The definitions of all kinds, in the order in which they must be applied.
#[must_use]
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![GitProviderConnection::crd(), ConnectionGrant::crd(), RepoBinding::crd(), RepositorySlice::crd()];
    for version in definitions.iter_mut().flat_map(|definition| &mut definition.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            tidy(schema);
            begin_unobserved(schema);
        }
    }
    definitions
}

/// Sets the default of `status`. By the rules of kstatus an object without a status is current, so a tool that waits would
/// continue before Forgebind has processed a new object. With this default the observed generation differs from the
/// object's.
fn begin_unobserved(schema: &mut JSONSchemaProps) {
    if let Some(status) = schema.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
        status.default = Some(JSON(json!({"observedGeneration": UNOBSERVED})));
    }
}

fn tidy(schema: &mut JSONSchemaProps) {
    drop_null(schema);
    each(schema, &mut |schema| {
        if let Some(description) = &mut schema.description {
            *description = plain(description);
        }
    });
}

/// Prepares a comment for `kubectl explain`: one paragraph, which kubectl wraps, without code marks.
fn plain(comment: &str) -> String {
    comment.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Removes `nullable` from optional fields. A null would be stored and count as present for `has()` in a rule, but as
/// absent for the types here, so that a null would bypass every rule with `has()`. Without `nullable` the API server drops
/// it.
fn drop_null(schema: &mut JSONSchemaProps) {
    each(schema, &mut |schema| schema.nullable = None);
}

/// Applies a change to a schema and to every schema in it.
fn each(schema: &mut JSONSchemaProps, change: &mut impl FnMut(&mut JSONSchemaProps)) {
    change(schema);
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        each(property, change);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => each(items, change),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(|item| each(item, change)),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        each(values, change);
    }
}

/// One definition as a YAML document, without a separator.
///
/// # Errors
///
/// When the definition cannot be written as YAML.
pub fn document(definition: &CustomResourceDefinition) -> Result<String, YamlError> {
    serde_saphyr::to_string(definition).map_err(|source| YamlError { name: definition.metadata.name.clone().unwrap_or_default(), source })
}

/// All definitions as one YAML stream, for `kubectl apply --server-side -f -`.
///
/// # Errors
///
/// When a definition cannot be written as YAML.
pub fn to_yaml() -> Result<String, YamlError> {
    custom_resource_definitions().iter().map(|definition| Ok(format!("---\n{}", document(definition)?))).collect()
}
