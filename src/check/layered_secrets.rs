//! Resolves references to Secrets and `ConfigMap`s, in this order: a token for a named connection, the manifests, the cluster,
//! and last a token for every connection or a placeholder.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use secrecy::{ExposeSecret as _, SecretString};

use super::inventory::Key;
use crate::controllers::view::{ClusterObjects, ObjectReader};

/// The sources of referenced objects in a check.
pub(super) struct LayeredSecrets {
    pub(super) secrets: HashMap<Key, Secret>,
    pub(super) config_maps: HashMap<Key, ConfigMap>,
    /// Tokens given for a named connection. They take precedence over Secrets.
    pub(super) tokens: HashMap<Key, SecretString>,
    /// A token for all credentials that are not found elsewhere, and the Secrets of these credentials.
    pub(super) token: Option<SecretString>,
    pub(super) credentials: BTreeSet<Key>,
    /// Secrets that are assumed to exist although they cannot be read; `placeholder` is their value.
    pub(super) assumed: BTreeSet<Key>,
    pub(super) placeholder: SecretString,
    pub(super) cluster: Option<ClusterObjects>,
}

/// A Secret with this token, usable both as a credential and as a webhook secret.
fn holding(token: &SecretString) -> Secret {
    let data = [("token".to_owned(), ByteString(token.expose_secret().as_bytes().to_vec()))];
    Secret { data: Some(data.into()), ..Secret::default() }
}

#[async_trait]
impl ObjectReader for LayeredSecrets {
    async fn secret(&self, namespace: &str, name: &str) -> kube::Result<Option<Secret>> {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(token) = self.tokens.get(&key) {
            return Ok(Some(holding(token)));
        }
        if let Some(secret) = self.secrets.get(&key) {
            return Ok(Some(secret.clone()));
        }
        let token = self.token.as_ref().filter(|_| self.credentials.contains(&key));
        let instead = token.or_else(|| self.assumed.contains(&key).then_some(&self.placeholder)).map(holding);
        match &self.cluster {
            None => Ok(instead),
            Some(cluster) => match cluster.secret(namespace, name).await {
                Ok(Some(secret)) => Ok(Some(secret)),
                Ok(None) => Ok(instead),
                Err(error) => instead.map_or(Err(error), |secret| Ok(Some(secret))),
            },
        }
    }

    async fn config_map(&self, namespace: &str, name: &str) -> kube::Result<Option<ConfigMap>> {
        let known = self.config_maps.get(&(namespace.to_owned(), name.to_owned()));
        match (known, &self.cluster) {
            (Some(map), _) => Ok(Some(map.clone())),
            (None, Some(cluster)) => cluster.config_map(namespace, name).await,
            (None, None) => Ok(None),
        }
    }
}
