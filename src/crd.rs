//! The custom resource definitions, generated from the types in [`crate::api`].

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
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
    vec![GitProviderConnection::crd(), RepoBinding::crd()]
}

/// One definition as a YAML document, without a separator.
///
/// # Errors
///
/// When the definition cannot be written as YAML.
pub fn document(definition: &CustomResourceDefinition) -> Result<String, YamlError> {
    serde_saphyr::to_string(definition)
        .map_err(|source| YamlError { name: definition.metadata.name.clone().unwrap_or_default(), source })
}

/// All definitions as one YAML stream, for `kubectl apply --server-side -f -`.
///
/// # Errors
///
/// When a definition cannot be written as YAML.
pub fn to_yaml() -> Result<String, YamlError> {
    custom_resource_definitions().iter().map(|definition| Ok(format!("---\n{}", document(definition)?))).collect()
}
