//! The provider port: what Forgebind asks of a Git provider, in the same words for all.
//!
//! Three objects. A [`Provider`] is static: it knows addresses, paths and deliveries. A [`Client`] is connected: it has
//! a credential and talks. A [`Webhook`] reads deliveries: it is pure, and what was not verified cannot be parsed.
#![doc = "\n\n"]
#![doc = include_str!("../docs/decisions/0001-provider-port.md")]

mod address;
mod authorization;
pub mod azure_devops;
pub mod bitbucket_cloud;
pub mod bitbucket_data_center;
pub mod credential;
mod entrance;
pub mod error;
pub mod git;
pub mod gitea;
pub mod github;
pub mod gitlab;
mod lenient;
mod listing;
pub mod model;
pub mod permission;
pub mod pull_request;
pub mod registry;
mod repository_ref;
mod scalar;
pub mod secret_keys;
mod signature;
pub mod transport;
pub mod webhook;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use url::Url;

use crate::api::v1alpha1::connection::{CredentialKind, ProviderSpec};
use crate::api::v1alpha1::{EventKind, Permission, ProviderKind};

pub use credential::Credential;
pub use error::{Disposition, ErrorKind, ProviderError};
pub use model::{
    Capabilities, Deletion, Endpoint, GitProbe, Hook, HookRelease, HookRequest, HookShape, HookUrl, Inspection, PathError, Repository,
    RepositoryPath,
};
pub use permission::PermissionFinding;
pub use webhook::Webhook;

/// What is known of a provider without a connection. No I/O.
pub trait Provider: Send + Sync {
    /// Which provider this is.
    fn kind(&self) -> ProviderKind;

    /// The credential kinds that the provider accepts, in the order of the documentation.
    fn credential_kinds(&self) -> &'static [CredentialKind];

    /// The events that the provider can tell of. Others are `EventNotSupported`.
    fn events(&self) -> &'static [EventKind];

    /// What can be done at best: with the newest server and the fullest credential. For the documentation's tables; what
    /// holds for a connection is told by its [`Inspection`].
    fn capabilities(&self) -> Capabilities;

    /// What a credential needs for a permission, in the provider's own words; `None` where the provider has no such thing.
    fn permission_words(&self, permission: Permission) -> Option<String>;

    /// The provider's own names of what tells of an event; empty where it cannot.
    fn event_words(&self, event: EventKind) -> &'static [&'static str];

    /// The addresses and the owner that a spec stands for, with the provider's defaults.
    ///
    /// # Errors
    /// An address that is no URL, or a spec whose member for this provider is absent.
    fn endpoint(&self, spec: &ProviderSpec) -> Result<Endpoint, ProviderError>;

    /// How many hooks the server at this endpoint allows, by its documentation; `None` where it documents none.
    fn hook_limit(&self, endpoint: &Endpoint) -> Option<model::HookLimit> {
        let _ = endpoint;
        None
    }

    /// An address that this provider's API answers whoever opens it in a browser, also without a credential: what is there
    /// instead tells why nothing works.
    fn version_address(&self, endpoint: &Endpoint) -> Url;

    /// Reads a repository from its path or from any clone URL that people paste. A user name is dropped.
    ///
    /// # Errors
    /// When the text is no repository of this provider, names another host, or holds a password.
    fn repository_path(&self, endpoint: &Endpoint, text: &str) -> Result<RepositoryPath, PathError>;

    /// A client for one account, as the provider makes it. Connects lazily: nothing is sent here. Its answers are the server's
    /// own words; [`connect`](Self::connect) is for everybody else.
    ///
    /// # Errors
    /// A credential of a kind that the provider does not accept.
    fn client(&self, endpoint: Endpoint, credential: Credential, transport: transport::Transport)
    -> Result<Arc<dyn Client>, ProviderError>;

    /// A client for one account whose answers are safe to show.
    ///
    /// # Errors
    /// As [`client`](Self::client).
    fn connect(
        &self,
        endpoint: Endpoint,
        credential: Credential,
        transport: transport::Transport,
    ) -> Result<Arc<dyn Client>, ProviderError> {
        let client = self.client(endpoint.clone(), credential, transport)?;
        Ok(Arc::new(entrance::Entrance::new(client, endpoint)))
    }

    /// The reader of this provider's deliveries.
    fn webhook(&self) -> &dyn Webhook;
}

/// One account at one provider.
///
/// For every method: reading never writes; a caller that drops the future leaves nothing half done on our side; the
/// deadline of the transport is obeyed; nothing is logged here; and no method retries a write.
#[async_trait]
pub trait Client: Send + Sync {
    /// Examines the credential: who it is, what it may do, until when, and what the server is. The only method whose
    /// `Unauthenticated` means that the credential is bad: elsewhere a 401 is a refusal and calls for an inspection.
    async fn inspect(&self) -> Result<Inspection, ProviderError>;

    /// Judges a permission from what an inspection found. Nothing is sent.
    fn permission(&self, inspection: &Inspection, permission: Permission) -> PermissionFinding;

    /// Judges from what an inspection found whether hooks with these events may be managed: some providers ask for a right of
    /// its own for each event. Nothing is sent.
    fn hook_permission(&self, inspection: &Inspection, events: &BTreeSet<EventKind>) -> PermissionFinding {
        let _ = events;
        self.permission(inspection, Permission::ManageWebhooks)
    }

    /// Looks a repository up. A renamed one is found under its new path, which the answer carries.
    async fn repository(&self, path: &RepositoryPath) -> Result<Repository, ProviderError>;

    /// Looks a repository up by its stable id; `None` where the provider has no such look-up.
    async fn repository_by_id(&self, id: &str) -> Result<Option<Repository>, ProviderError>;

    /// Whether exactly this branch exists.
    async fn branch_exists(&self, repository: &Repository, branch: &str) -> Result<bool, ProviderError>;

    /// Asks the git endpoint: is it reachable, is it empty, what are its heads. For anonymous and git-only credentials.
    async fn probe_git(&self, path: &RepositoryPath) -> Result<GitProbe, ProviderError>;

    /// Every repository of the owner, page by page. Ends with an error rather than short.
    fn repositories(&self) -> BoxStream<'_, Result<Vec<Repository>, ProviderError>>;

    /// What the provider must be asked for to deliver these events: one shape, or several where it splits by event.
    fn hook_shapes(&self, events: &BTreeSet<EventKind>) -> Vec<HookShape>;

    /// Every hook of the repository, to the last page, or an error: never a short list.
    async fn hooks(&self, repository: &Repository) -> Result<Vec<Hook>, ProviderError>;

    /// Creates a hook and returns the server's own view of it.
    async fn create_hook(&self, repository: &Repository, request: &HookRequest<'_>) -> Result<Hook, ProviderError>;

    /// Changes a hook into what is requested and returns the server's own view. Sets the secret only where
    /// [`Capabilities::update_sets_secret`].
    async fn update_hook(&self, repository: &Repository, id: &str, request: &HookRequest<'_>) -> Result<Hook, ProviderError>;

    /// Leaves an adopted hook to its owner: it delivers to another address, and its secret stays as it is.
    ///
    /// # Errors
    /// `Rejected`, with nothing written, where the provider would lose the secret and the caller does not know it.
    async fn release_hook(&self, repository: &Repository, id: &str, release: &HookRelease<'_>) -> Result<(), ProviderError>;

    /// Deletes a hook. A 404 counts as [`Deletion::Absent`] only after the same credential has read the repository's hook
    /// list and the hook was not in it; otherwise it is [`Deletion::Hidden`].
    async fn delete_hook(&self, repository: &Repository, id: &str) -> Result<Deletion, ProviderError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row that the tables must have, found in the code.
    #[test]
    fn the_provider_matrix_maps_every_word_of_the_port() {
        let matrix = include_str!("../docs/provider-matrix.md");
        let code = [include_str!("webhook.rs"), include_str!("mod.rs")].concat();
        let methods = code.lines().filter_map(|line| line.strip_prefix("    fn ").or_else(|| line.strip_prefix("    async fn ")));
        let methods = methods
            .filter_map(|line| line.split(['(', '<']).next())
            .filter(|name| !["fmt", "from", "kind", "credential_kinds", "events", "webhook", "connect"].contains(name));
        let is_row = |name: &str| matrix.lines().any(|line| line.starts_with(&format!("| `{name}` |")) && line.matches(" | ").count() == 6);
        let trait_methods: Vec<_> = methods.take_while(|name| *name != "the_provider_matrix_maps_every_word_of_the_port").collect();
        let capabilities = format!("{:?}", Capabilities::default());
        let capabilities = capabilities.split([' ', '{', '}']).filter_map(|word| word.strip_suffix(':')).map(str::to_owned);
        let words = (trait_methods.iter().map(|name| (*name).to_owned()))
            .chain(capabilities)
            .chain(Permission::ALL.iter().map(ToString::to_string))
            .chain(EventKind::ALL.iter().map(ToString::to_string))
            .chain(ErrorKind::ALL.iter().map(|kind| format!("{kind:?}")));
        let missing: Vec<_> = words.filter(|word| !is_row(word)).collect();
        assert_eq!(missing, Vec::<String>::new());
        assert!(trait_methods.contains(&"verify") && trait_methods.contains(&"delete_hook"), "{trait_methods:?}");
    }
}
