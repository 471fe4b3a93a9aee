//! The Secrets and `ConfigMap`s that objects refer to: those of the manifests, what stands in for them, those of the cluster.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use secrecy::{ExposeSecret as _, SecretString};

use super::inventory::Key;
use crate::controllers::view::{ClusterObjects, ObjectReader};

/// Where references lead in a check.
pub(super) struct LayeredSecrets {
    pub(super) secrets: HashMap<Key, Secret>,
    pub(super) config_maps: HashMap<Key, ConfigMap>,
    /// Tokens that go before any Secret: a connection was named with them.
    pub(super) tokens: HashMap<Key, SecretString>,
    /// A token for every credential that is nowhere else, and the Secrets of which that may be said.
    pub(super) token: Option<SecretString>,
    pub(super) credentials: BTreeSet<Key>,
    /// Secrets that are taken as there although nobody can read them, with this value.
    pub(super) assumed: BTreeSet<Key>,
    pub(super) placeholder: SecretString,
    pub(super) cluster: Option<ClusterObjects>,
}

/// A Secret that is a credential as well as the secret of a webhook.
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
