//! Clients that never write to a provider; a check uses only these.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use super::outside::Outside;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::{EventKind, Permission};
use crate::controllers::view::ClientFactory;
use crate::providers::model::{Project, Scope};
use crate::providers::permission::Grants;
use crate::providers::transport::{ProxySettings, Transport};
use crate::providers::{
    Client, Credential, Deletion, Endpoint, ErrorKind, GitProbe, Hook, HookRelease, HookRequest, HookShape, Inspection, ListedRepository,
    PermissionFinding, Provider, ProviderError, Repository, RepositoryPath,
};

/// Creates clients that read from the provider and refuse to write.
pub(super) struct ReadOnlyClients(pub(super) Outside);

impl ClientFactory for ReadOnlyClients {
    fn admit(&self, connection: &ConnectionTarget, endpoint: &Endpoint, proxy: Option<&ProxySettings>) -> Result<(), String> {
        self.0.admit(connection, endpoint, proxy)
    }

    fn connect(
        &self,
        provider: &'static dyn Provider,
        endpoint: Endpoint,
        credential: Credential,
        transport: Transport,
    ) -> Result<Arc<dyn Client>, ProviderError> {
        Ok(Arc::new(Reader(provider.connect(endpoint, credential, transport)?)))
    }
}

/// Creates clients that send nothing and answer as if the state at the provider matched the manifests: every problem that is
/// found then comes from the manifests alone.
pub(super) struct OfflineClients;

impl ClientFactory for OfflineClients {
    fn connect(
        &self,
        provider: &'static dyn Provider,
        endpoint: Endpoint,
        credential: Credential,
        transport: Transport,
    ) -> Result<Arc<dyn Client>, ProviderError> {
        let scope = endpoint.scope.clone();
        let client = provider.connect(endpoint, credential, transport)?;
        Ok(Arc::new(Assumed { provider, client, scope }))
    }
}

fn refused<T>(operation: &'static str) -> Result<T, ProviderError> {
    Err(ProviderError::new(ErrorKind::NotLeading, operation, "forgebind check does not write"))
}

struct Reader(Arc<dyn Client>);

#[async_trait]
impl Client for Reader {
    async fn inspect(&self) -> Result<Inspection, ProviderError> {
        self.0.inspect().await
    }

    fn permission(&self, inspection: &Inspection, permission: Permission) -> PermissionFinding {
        self.0.permission(inspection, permission)
    }

    fn hook_permission(&self, inspection: &Inspection, events: &BTreeSet<EventKind>) -> PermissionFinding {
        self.0.hook_permission(inspection, events)
    }

    async fn repository(&self, path: &RepositoryPath) -> Result<Repository, ProviderError> {
        self.0.repository(path).await
    }

    async fn repository_by_id(&self, id: &str) -> Result<Option<Repository>, ProviderError> {
        self.0.repository_by_id(id).await
    }

    async fn branch_exists(&self, repository: &Repository, branch: &str) -> Result<bool, ProviderError> {
        self.0.branch_exists(repository, branch).await
    }

    async fn probe_git(&self, path: &RepositoryPath) -> Result<GitProbe, ProviderError> {
        self.0.probe_git(path).await
    }

    fn repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        self.0.repositories()
    }

    fn hook_shapes(&self, events: &BTreeSet<EventKind>) -> Vec<HookShape> {
        self.0.hook_shapes(events)
    }

    async fn hooks(&self, repository: &Repository) -> Result<Vec<Hook>, ProviderError> {
        self.0.hooks(repository).await
    }

    async fn create_hook(&self, _: &Repository, _: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        refused("create hook")
    }

    async fn update_hook(&self, _: &Repository, _: &str, _: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        refused("update hook")
    }

    async fn release_hook(&self, _: &Repository, _: &str, _: &HookRelease<'_>) -> Result<(), ProviderError> {
        refused("update hook")
    }

    async fn delete_hook(&self, _: &Repository, _: &str) -> Result<Deletion, ProviderError> {
        refused("delete hook")
    }
}

struct Assumed {
    provider: &'static dyn Provider,
    client: Arc<dyn Client>,
    scope: Option<Scope>,
}

#[async_trait]
impl Client for Assumed {
    async fn inspect(&self) -> Result<Inspection, ProviderError> {
        Ok(Inspection {
            flavor: self.provider.kind().to_string(),
            version: None,
            identity: None,
            credential_name: None,
            expires_at: None,
            grants: Grants::Unknown("not checked, because no provider was contacted".to_owned()),
            capabilities: self.provider.capabilities(),
            scope: None,
            warnings: Vec::new(),
        })
    }

    fn permission(&self, _: &Inspection, _: Permission) -> PermissionFinding {
        PermissionFinding::granted()
    }

    fn hook_permission(&self, _: &Inspection, _: &BTreeSet<EventKind>) -> PermissionFinding {
        PermissionFinding::granted()
    }

    async fn repository(&self, path: &RepositoryPath) -> Result<Repository, ProviderError> {
        let project = self.scope.as_ref().and_then(|scope| scope.project.clone());
        Ok(Repository {
            id: path.as_str().to_lowercase(),
            path: path.clone(),
            web_url: None,
            clone_url: None,
            ssh_url: None,
            default_branch: None,
            visibility: None,
            archived: false,
            empty: false,
            manage_webhooks: PermissionFinding::granted(),
            project: project.map(|key| Project { id: key.clone(), key }),
        })
    }

    async fn repository_by_id(&self, _: &str) -> Result<Option<Repository>, ProviderError> {
        Ok(None)
    }

    async fn branch_exists(&self, _: &Repository, _: &str) -> Result<bool, ProviderError> {
        Ok(true)
    }

    async fn probe_git(&self, _: &RepositoryPath) -> Result<GitProbe, ProviderError> {
        Ok(GitProbe { heads: std::collections::BTreeMap::new() })
    }

    fn repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        stream::empty().boxed()
    }

    fn hook_shapes(&self, events: &BTreeSet<EventKind>) -> Vec<HookShape> {
        self.client.hook_shapes(events)
    }

    async fn hooks(&self, _: &Repository) -> Result<Vec<Hook>, ProviderError> {
        Ok(Vec::new())
    }

    async fn create_hook(&self, _: &Repository, _: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        refused("create hook")
    }

    async fn update_hook(&self, _: &Repository, _: &str, _: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        refused("update hook")
    }

    async fn release_hook(&self, _: &Repository, _: &str, _: &HookRelease<'_>) -> Result<(), ProviderError> {
        refused("update hook")
    }

    async fn delete_hook(&self, _: &Repository, _: &str) -> Result<Deletion, ProviderError> {
        refused("delete hook")
    }
}

#[cfg(test)]
mod tests {
    /// A default method that is not delegated would return a wrong answer instead of the client's.
    #[test]
    fn every_method_of_a_client_is_delegated() {
        let port = include_str!("../providers/port.rs").split("pub trait Client:").nth(1).unwrap();
        let port = port.split("\n}\n").next().unwrap();
        let methods = port.lines().filter_map(|line| line.strip_prefix("    fn ").or_else(|| line.strip_prefix("    async fn ")));
        let methods: Vec<_> = methods.filter_map(|line| line.split(['(', '<']).next()).collect();
        assert!(methods.len() > 10 && methods.contains(&"create_hook"), "{methods:?}");
        let code = include_str!("clients.rs").split("#[cfg(test)]").next().unwrap();
        for of in ["impl Client for Reader {", "impl Client for Assumed {"] {
            let body = code.split(of).nth(1).unwrap().split("\n}\n").next().unwrap();
            let missing: Vec<_> = methods.iter().filter(|method| !body.contains(&format!("fn {method}("))).collect();
            assert_eq!(missing, Vec::<&&str>::new(), "{of}");
        }
    }
}
