//! Gives a binding with a grant access to its repository and the repository's hooks.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use futures::StreamExt as _;

use super::active_client::{ActiveClient, Server};
use super::grants::permits;
use super::seal::Seal;
use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget, RepositoryStatus};
use crate::controllers::view::View;
use crate::providers::{
    Client, Deletion, ErrorKind, Hook, HookRelease, HookRequest, ListedRepository, PermissionFinding, ProviderError, Repository,
    RepositoryPath,
};

/// Permit of a checked grant: the connection allows this binding's namespace to use this path and to send deliveries to the
/// binding's destination.
#[derive(Clone)]
pub struct UsePermit {
    active_client: ActiveClient,
    path: RepositoryPath,
    connection: ConnectionTarget,
}

/// Result of looking up a binding's repository.
pub enum RepositoryLookup {
    /// A repository that the grant and the owner cover.
    Found(Arc<GrantedRepository>),
    /// A repository that they do not cover. No details of it may be shown.
    OutOfReach(OutOfReach),
    /// The lookup failed, or no repository was found.
    Failed(ProviderError),
}

/// Why a repository is out of reach of a binding that asked for it by a granted path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfReach {
    /// The repository lies outside the owner of the connection.
    OutOfScope,
    /// The connection does not grant its present path.
    WithoutGrant,
}

impl RepositoryLookup {
    /// The repository, if it may be used.
    #[must_use]
    pub const fn found(&self) -> Option<&Arc<GrantedRepository>> {
        if let Self::Found(repository) = self { Some(repository) } else { None }
    }

    /// The error, if the lookup failed.
    #[must_use]
    pub const fn error(&self) -> Option<&ProviderError> {
        if let Self::Failed(error) = self { Some(error) } else { None }
    }
}

/// A repository that the grant and the owner cover.
pub struct GrantedRepository {
    pub(super) client: Arc<dyn Client>,
    pub(super) server: Server,
    pub(super) repository: Repository,
    connection: ConnectionTarget,
}

impl fmt::Debug for GrantedRepository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("GrantedRepository").field(&self.repository.path.as_str()).finish()
    }
}

impl Deref for GrantedRepository {
    type Target = Repository;

    fn deref(&self) -> &Repository {
        &self.repository
    }
}

impl UsePermit {
    /// Issues a permit if the connection's rules grant the binding this path.
    #[must_use]
    pub fn granted(
        view: &View,
        object: &RepoBinding,
        connection: &ConnectionTarget,
        active_client: &ActiveClient,
        path: &RepositoryPath,
    ) -> Option<Self> {
        let known = view.connection(connection)?;
        // The rules may have changed together with the server or the owner in the spec, while the client is still the old one.
        let is_present = active_client.provider.endpoint(&known.spec.provider).is_ok_and(|present| present == active_client.endpoint);
        let granted = is_present && permits(view, object, &known, Some(path.as_str())) == Some(true);
        granted.then(|| Self { active_client: active_client.clone(), path: path.clone(), connection: connection.clone() })
    }

    /// Finds the repository by its path, or, if that is gone, by the stable id from an earlier probe. Redirects and renames may
    /// lead anywhere, so the repository that was found is judged again.
    pub async fn find(&self, view: &View, object: &RepoBinding, known: Option<&RepositoryStatus>) -> RepositoryLookup {
        if self.active_client.scope().is_some_and(|scope| !scope.contains(&self.path)) {
            return RepositoryLookup::OutOfReach(OutOfReach::OutOfScope);
        }
        match self.look_up(known).await {
            Ok(found) => self.admit(view, object, found),
            Err(error) => RepositoryLookup::Failed(error),
        }
    }

    fn admit(&self, view: &View, object: &RepoBinding, repository: Repository) -> RepositoryLookup {
        if self.active_client.scope().is_some_and(|scope| !scope.holds(&repository)) {
            return RepositoryLookup::OutOfReach(OutOfReach::OutOfScope);
        }
        let connection = view.connection(&self.connection);
        match connection.and_then(|connection| permits(view, object, &connection, Some(repository.path.as_str()))) {
            Some(true) => {
                let server = self.active_client.server().clone();
                let connection = self.connection.clone();
                let client = Arc::clone(&self.active_client.client);
                RepositoryLookup::Found(Arc::new(GrantedRepository { client, server, repository, connection }))
            }
            _ => RepositoryLookup::OutOfReach(OutOfReach::WithoutGrant),
        }
    }

    async fn look_up(&self, known: Option<&RepositoryStatus>) -> Result<Repository, ProviderError> {
        let (client, capabilities) = (&self.active_client.client, &self.active_client.inspection.capabilities);
        let result = if capabilities.api { client.repository(&self.path).await } else { self.probed().await };
        match (result, known) {
            (Err(error), Some(known)) if error.kind == ErrorKind::NotFound && capabilities.lookup_by_id => {
                match client.repository_by_id(&known.id).await {
                    Ok(Some(renamed)) => Ok(renamed),
                    Ok(None) => Err(error),
                    Err(by_id) if by_id.kind == ErrorKind::NotFound => Err(error),
                    Err(by_id) => Err(by_id),
                }
            }
            (result, _) => result,
        }
    }

    /// Whether the owner's complete list lacks the repository with this id, or without an id the one at the permit's path. An
    /// empty list proves nothing: a credential that sees none of the owner's repositories gets the same one.
    pub async fn is_gone(&self, id: &str) -> bool {
        is_missing(&*self.active_client.client, id, self.path.as_str()).await
    }

    /// Reads a repository through git alone, for credentials that the API does not accept.
    async fn probed(&self) -> Result<Repository, ProviderError> {
        let probe = self.active_client.client.probe_git(&self.path).await?;
        Ok(Repository {
            id: self.path.as_str().to_lowercase(),
            path: self.path.clone(),
            web_url: None,
            clone_url: None,
            ssh_url: None,
            default_branch: None,
            visibility: None,
            archived: false,
            empty: probe.heads.is_empty(),
            manage_webhooks: PermissionFinding::missing("the credential works for git only"),
            project: None,
        })
    }
}

/// Whether the owner's complete list is not empty and lacks a repository.
pub(super) async fn is_missing(client: &dyn Client, id: &str, path: &str) -> bool {
    // Another repository at the same path does not count.
    let is_meant = |found: &ListedRepository| if id.is_empty() { found.path.same_as(path) } else { found.id == id };
    let mut pages = client.repositories();
    let mut shown = false;
    while let Some(page) = pages.next().await {
        match page {
            Ok(page) if page.iter().any(is_meant) => return false,
            Ok(page) => shown |= !page.is_empty(),
            Err(_) => return false,
        }
    }
    shown
}

/// Calls of [`Client`] for the granted repository.
impl GrantedRepository {
    /// The sealed target to record for hooks that are created here.
    #[must_use]
    pub fn target(&self, seal: &Seal, host: String) -> HookTarget {
        seal.put_on(HookTarget {
            connection: self.connection.clone(),
            repository_id: self.repository.id.clone(),
            repository: self.repository.path.as_str().to_owned(),
            host,
            seal: None,
        })
    }

    /// The seal of the repository itself.
    #[must_use]
    pub fn repository_seal(&self, seal: &Seal) -> String {
        seal.of_repository(&self.connection, &self.repository.id, self.repository.path.as_str())
    }

    /// Calls [`Client::branch_exists`].
    ///
    /// # Errors
    /// Errors of the provider.
    pub async fn branch_exists(&self, branch: &str) -> Result<bool, ProviderError> {
        self.client.branch_exists(&self.repository, branch).await
    }

    /// Calls [`Client::hooks`].
    ///
    /// # Errors
    /// Errors of the provider.
    pub async fn hooks(&self) -> Result<Vec<Hook>, ProviderError> {
        self.client.hooks(&self.repository).await
    }

    /// Calls [`Client::create_hook`].
    ///
    /// # Errors
    /// Errors of the provider.
    pub async fn create_hook(&self, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        self.client.create_hook(&self.repository, request).await
    }

    /// Calls [`Client::update_hook`].
    ///
    /// # Errors
    /// Errors of the provider.
    pub async fn update_hook(&self, id: &str, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        self.client.update_hook(&self.repository, id, request).await
    }

    /// Calls [`Client::release_hook`].
    ///
    /// # Errors
    /// Errors of the provider.
    pub async fn release_hook(&self, id: &str, release: &HookRelease<'_>) -> Result<(), ProviderError> {
        self.client.release_hook(&self.repository, id, release).await
    }

    /// Calls [`Client::delete_hook`].
    ///
    /// # Errors
    /// Errors of the provider.
    pub async fn delete_hook(&self, id: &str) -> Result<Deletion, ProviderError> {
        self.client.delete_hook(&self.repository, id).await
    }
}
