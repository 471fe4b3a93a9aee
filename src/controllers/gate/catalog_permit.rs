//! Gives the catalogue of a connection access to the list of its repositories, and to nothing else.

use futures::stream::BoxStream;

use super::active_client::ActiveClient;
use crate::api::v1alpha1::connection::PermissionState;
use crate::api::v1alpha1::{GitProviderConnection, Permission};
use crate::providers::{ErrorKind, ListedRepository, ProviderError};

/// Permit of a connection that asks for a catalogue of its own repositories. It reads only.
#[derive(Clone)]
pub struct CatalogPermit {
    active_client: ActiveClient,
}

impl CatalogPermit {
    /// Issues a permit to the owner of the credential: the connection whose spec asks for a catalogue and still names the server and
    /// the owner that the client has.
    #[must_use]
    pub fn of(connection: &GitProviderConnection, active_client: &ActiveClient) -> Option<Self> {
        let is_present = active_client.provider.endpoint(&connection.spec.provider).is_ok_and(|present| present == active_client.endpoint);
        (connection.spec.catalog.is_some() && is_present).then(|| Self { active_client: active_client.clone() })
    }

    /// Identifies the credential: see [`ActiveClient::inputs`].
    #[must_use]
    pub fn inputs(&self) -> &str {
        &self.active_client.inputs
    }

    /// Whether the credential itself may manage hooks, whatever the role of its account at a repository.
    #[must_use]
    pub fn may_manage(&self) -> PermissionState {
        self.active_client.permission(Permission::ManageWebhooks).state
    }

    /// Calls [`Client::repositories`](crate::providers::Client::repositories).
    #[must_use]
    pub fn repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        self.active_client.client.repositories()
    }

    /// Whether a repository does not exist any more, or belongs to another owner now. The provider says so: it finds no repository
    /// with this id or, where it has no look-up by id, none at this path or another one.
    ///
    /// # Errors
    /// Errors of the provider, also a refusal that says nothing about existence.
    pub async fn is_gone(&self, id: &str, path: &str) -> Result<bool, ProviderError> {
        let (client, scope) = (&self.active_client.client, self.active_client.scope());
        if self.active_client.inspection.capabilities.lookup_by_id {
            match client.repository_by_id(id).await {
                Ok(Some(found)) => return Ok(scope.is_some_and(|scope| !scope.holds(&found))),
                Ok(None) => {}
                Err(error) => return absent(error),
            }
        }
        let Ok(path) = self.active_client.provider.repository_path(&self.active_client.endpoint, path) else { return Ok(false) };
        match client.repository(&path).await {
            Ok(found) => Ok(found.id != id),
            Err(error) => absent(error),
        }
    }
}

fn absent(error: ProviderError) -> Result<bool, ProviderError> {
    if error.kind == ErrorKind::NotFound { Ok(true) } else { Err(error) }
}
