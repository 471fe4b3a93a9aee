//! Gives access to a binding's own hooks in one repository where this installation held hooks, for their removal only.

use std::fmt;
use std::sync::Arc;

use super::active_client::{ActiveClient, Server};
use super::granted::{GrantedRepository, is_missing};
use super::grants::permits_text;
use super::seal::Seal;
use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::HookTarget;
use crate::controllers::binding::ownership::HookIdentity;
use crate::controllers::leftovers::Stored;
use crate::controllers::view::View;
use crate::providers::{Client, Deletion, ErrorKind, Hook, HookRelease, ProviderError, Repository};

/// Permit to remove hooks of a binding at a target where this installation recorded them, whether or not the binding may use the
/// connection now.
#[derive(Clone, Debug)]
pub struct CleanupPermit {
    target: HookTarget,
    identity: HookIdentity,
    /// Whether the permit is for a leftover, so that no binding sees the result.
    unseen: bool,
}

/// The hooks in one repository that carry a binding's own id.
pub struct OwnedHooks {
    client: Arc<dyn Client>,
    server: Server,
    repository: Repository,
    target: HookTarget,
    identity: HookIdentity,
    hooks: Vec<Hook>,
}

impl fmt::Debug for OwnedHooks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("OwnedHooks").field(&self.target.repository).finish()
    }
}

impl CleanupPermit {
    /// Issues a permit for a target with the binding's seal.
    #[must_use]
    pub fn held(seal: &Seal, identity: &HookIdentity, target: &HookTarget) -> Option<Self> {
        seal.is_on(target).then(|| Self { target: target.clone(), identity: identity.clone(), unseen: false })
    }

    /// Issues a permit for leftover hooks. The entry is stored in the operator's own namespace, where only the operator writes.
    #[must_use]
    pub fn left(entry: &Stored, identity: HookIdentity) -> Self {
        let target = HookTarget {
            connection: entry.connection.clone(),
            repository_id: entry.repository_id.clone(),
            repository: entry.repository.clone(),
            host: String::new(),
            seal: None,
        };
        Self { target, identity, unseen: true }
    }

    /// Lists the binding's own hooks at the target.
    ///
    /// # Errors
    /// Errors of the provider, and `NotFound` if another repository has the path now.
    pub async fn list(&self, active_client: &ActiveClient) -> Result<OwnedHooks, ProviderError> {
        let repository = self.repository(active_client).await?;
        OwnedHooks::list(Arc::clone(&active_client.client), active_client.server().clone(), repository, &self.target, &self.identity).await
    }

    /// Whether the owner's list shows that the repository of a leftover no longer exists. Always `false` for a binding, which
    /// needs a grant for that list.
    pub async fn is_gone(&self, active_client: &ActiveClient) -> bool {
        self.unseen && is_missing(&*active_client.client, &self.target.repository_id, &self.target.repository).await
    }

    async fn repository(&self, active_client: &ActiveClient) -> Result<Repository, ProviderError> {
        let absent = |message: String| ProviderError::new(ErrorKind::NotFound, "find repository", message);
        let id = self.target.repository_id.as_str();
        if !id.is_empty()
            && active_client.inspection.capabilities.lookup_by_id
            && let Some(found) = active_client.client.repository_by_id(id).await?
        {
            return Ok(found);
        }
        let path = active_client.provider.repository_path(&active_client.endpoint, &self.target.repository);
        let found = active_client.client.repository(&path.map_err(|error| absent(error.to_string()))?).await?;
        if id.is_empty() || found.id == id {
            Ok(found)
        } else {
            Err(absent(format!("another repository is at {} now", self.target.repository)))
        }
    }
}

/// Whether errors at a target may be shown to a binding: it has a grant for the target, or the missing connection would be in its
/// own namespace.
#[must_use]
pub fn may_be_reported(view: &View, object: &RepoBinding, target: &HookTarget) -> bool {
    match view.connection(&target.connection) {
        Some(connection) => permits_text(view, object, &connection, &target.repository) == Some(true),
        None => object.metadata.namespace.as_ref() == Some(&target.connection.namespace),
    }
}

impl GrantedRepository {
    /// Lists the repository's hooks that are the binding's own.
    ///
    /// # Errors
    /// Errors of the provider.
    pub async fn owned_hooks(&self, target: &HookTarget, identity: &HookIdentity) -> Result<OwnedHooks, ProviderError> {
        OwnedHooks::list(Arc::clone(&self.client), self.server.clone(), self.repository.clone(), target, identity).await
    }
}

impl OwnedHooks {
    async fn list(
        client: Arc<dyn Client>,
        server: Server,
        repository: Repository,
        target: &HookTarget,
        identity: &HookIdentity,
    ) -> Result<Self, ProviderError> {
        let hooks = client.hooks(&repository).await?;
        let hooks = hooks.into_iter().filter(|hook| identity.is_ours(&hook.url)).collect();
        Ok(Self { client, server, repository, target: target.clone(), identity: identity.clone(), hooks })
    }

    /// The hooks.
    #[must_use]
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// Stable id of the repository at the provider.
    #[must_use]
    pub fn repository_id(&self) -> &str {
        &self.repository.id
    }

    /// Path of the repository as it was recorded, not its present one.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.target.repository
    }

    /// Server of the repository.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Identity of the binding whose hooks these are.
    #[must_use]
    pub const fn identity(&self) -> &HookIdentity {
        &self.identity
    }

    /// Calls [`Client::delete_hook`] for one of these hooks.
    ///
    /// # Errors
    /// Errors of the provider, and `Rejected` for any other hook.
    pub async fn delete(&self, id: &str) -> Result<Deletion, ProviderError> {
        self.among(id)?;
        self.client.delete_hook(&self.repository, id).await
    }

    /// Hands one of these hooks, which was adopted, back to its owner.
    ///
    /// # Errors
    /// Errors of the provider, and `Rejected` for any other hook.
    pub async fn release(&self, id: &str, release: &HookRelease<'_>) -> Result<(), ProviderError> {
        self.among(id)?;
        self.client.release_hook(&self.repository, id, release).await
    }

    fn among(&self, id: &str) -> Result<(), ProviderError> {
        let known = self.hooks.iter().any(|hook| hook.id == id);
        let refused = || ProviderError::new(ErrorKind::Rejected, "change hook", format!("hook {id} is not the binding's own"));
        known.then_some(()).ok_or_else(refused)
    }
}
