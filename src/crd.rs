//! The custom resource definitions, generated from the types in [`crate::api`].

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt as _;

use crate::api::v1alpha1::{GitProviderConnection, RepoBinding};

/// A definition that cannot be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("{name} cannot be written as YAML: {source}")]
pub struct YamlError {
    name: String,
    source: serde_saphyr::ser::Error,
}

/// The definitions of both kinds, in the order in which they are applied.
#[must_use]
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![GitProviderConnection::crd(), RepoBinding::crd()];
    for version in definitions.iter_mut().flat_map(|definition| &mut definition.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            drop_null(schema);
        }
    }
    definitions
}

/// Optional fields come out as `nullable`. Such a null is stored and counts as present for `has()` in a rule, but as absent
/// for the types here: every rule with `has()` could be passed by with a null. Without `nullable` the API server drops it.
fn drop_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        drop_null(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => drop_null(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(drop_null),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        drop_null(values);
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
