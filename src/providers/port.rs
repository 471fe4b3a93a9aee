//! The traits of the provider port, and the profile that each provider has.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use url::Url;

use super::credential::Credential;
use super::error::ProviderError;
use super::listed::ListedRepository;
use super::model::{
    Capabilities, Deletion, Endpoint, GitProbe, Hook, HookLimit, HookRelease, HookRequest, HookShape, Inspection, PathError, Repository,
    RepositoryPath,
};
use super::permission::PermissionFinding;
use super::transport::{RateBudget, Transport, TransportSettings};
use super::webhook::Webhook;
use crate::api::v1alpha1::connection::{CredentialKind, ProviderSpec};
use crate::api::v1alpha1::{EventKind, Permission, ProviderKind};

/// Creates a client for one account: see [`Provider::client`].
pub type MakeClient = fn(Endpoint, Credential, Transport) -> Result<Arc<dyn Client>, ProviderError>;

/// What shared code has to know of a provider. Facts that only the provider itself uses stay in its folder.
pub struct ProviderProfile {
    /// Which provider it is.
    pub kind: ProviderKind,
    /// The hosts of its cloud, `host` or `*.suffix`, which are always allowed on the default port of the scheme.
    pub cloud_hosts: &'static [&'static str],
    /// What it limits for one identity at an API address without always telling it in its responses.
    pub rate_budget: fn(&Url) -> RateBudget,
    /// The response headers that hold the id of a request, the preferred one first.
    pub request_id_headers: &'static [&'static str],
    /// The credential kinds that it accepts, in the order of the documentation.
    pub credential_kinds: &'static [CredentialKind],
    /// The events that it can deliver. Others are reported as `EventNotSupported`.
    pub events: &'static [EventKind],
    /// Whether it stops delivering to a hook whose deliveries fail.
    pub disables_failing_hooks: bool,
    /// See [`Provider::capabilities`].
    pub capabilities: fn() -> Capabilities,
    /// See [`Provider::permission_words`].
    pub permission_words: fn(Permission) -> Option<String>,
    /// See [`Provider::event_words`].
    pub event_words: fn(EventKind) -> &'static [&'static str],
    /// See [`Provider::repository_path`].
    pub repository_path: fn(&Endpoint, &str) -> Result<RepositoryPath, PathError>,
    /// See [`Provider::client`].
    pub client: MakeClient,
    /// See [`Provider::webhook`].
    pub webhook: &'static dyn Webhook,
    /// Samples for the tests that run for every provider.
    #[cfg(test)]
    pub samples: super::samples::Samples,
    /// What the fuzz targets have to know of it.
    #[cfg(any(test, fuzzing))]
    pub fuzz: super::fuzz::FuzzFacts,
}

impl ProviderProfile {
    /// The settings of a transport to this provider, without certificates and proxy. For `credential_identity` see
    /// [`TransportSettings`].
    #[must_use]
    pub fn transport_settings<'a>(&self, endpoint: &'a Endpoint, credential_identity: impl Into<String>) -> TransportSettings<'a> {
        TransportSettings {
            kind: self.kind,
            rate_budget: (self.rate_budget)(&endpoint.api),
            request_id_headers: self.request_id_headers,
            endpoint,
            credential_identity: credential_identity.into(),
            ca_pem: None,
            client_identity: None,
            proxy: None,
        }
    }
}

/// What is known of a provider without a connection. No I/O.
pub trait Provider: Send + Sync {
    /// What shared code has to know of this provider.
    fn profile(&self) -> &'static ProviderProfile;

    /// Which provider this is.
    fn kind(&self) -> ProviderKind {
        self.profile().kind
    }

    /// The best case: the newest server and the most capable credential. For the documentation's tables; the capabilities of a
    /// connection are in its [`Inspection`].
    fn capabilities(&self) -> Capabilities {
        (self.profile().capabilities)()
    }

    /// What a credential needs for a permission, in the provider's own terms; `None` if the provider has no such permission.
    fn permission_words(&self, permission: Permission) -> Option<String> {
        (self.profile().permission_words)(permission)
    }

    /// The provider's own names for an event; empty if it cannot deliver the event.
    fn event_words(&self, event: EventKind) -> &'static [&'static str] {
        (self.profile().event_words)(event)
    }

    /// The addresses and the owner that a spec describes, with the provider's defaults.
    ///
    /// # Errors
    /// An address that is not a URL, or a spec whose member for this provider is absent.
    fn endpoint(&self, spec: &ProviderSpec) -> Result<Endpoint, ProviderError>;

    /// The documented maximum number of hooks at this endpoint; `None` if the provider documents none.
    fn hook_limit(&self, endpoint: &Endpoint) -> Option<HookLimit> {
        let _ = endpoint;
        None
    }

    /// A URL of this provider's API that can be opened in a browser, also without a credential: if something else answers there,
    /// it shows why the connection fails.
    fn version_address(&self, endpoint: &Endpoint) -> Url;

    /// Parses a repository from its path or any common clone URL. Drops a user name.
    ///
    /// # Errors
    /// The text is not a repository of this provider, names another host, or contains a password.
    fn repository_path(&self, endpoint: &Endpoint, text: &str) -> Result<RepositoryPath, PathError> {
        (self.profile().repository_path)(endpoint, text)
    }

    /// Creates a client for one account. Connects lazily: nothing is sent here. Its answers are not sanitized; outside the
    /// providers, use `connect` of `dyn Provider`.
    ///
    /// # Errors
    /// The provider does not accept this kind of credential.
    fn client(&self, endpoint: Endpoint, credential: Credential, transport: Transport) -> Result<Arc<dyn Client>, ProviderError> {
        (self.profile().client)(endpoint, credential, transport)
    }

    /// The reader of this provider's deliveries.
    fn webhook(&self) -> &dyn Webhook {
        self.profile().webhook
    }
}

/// One account at one provider.
///
/// For every method: reads never write; dropping the future leaves no incomplete state on our side; the deadline of the transport
/// applies; nothing is logged here; and no method retries a write.
#[async_trait]
pub trait Client: Send + Sync {
    /// Examines the credential: its identity, permissions and expiry, and the kind of server. Only here does `Unauthenticated`
    /// mean that the credential is bad: from any other method, a 401 is a refusal and requires an inspection.
    async fn inspect(&self) -> Result<Inspection, ProviderError>;

    /// Evaluates a permission from the result of an inspection. Sends nothing.
    fn permission(&self, inspection: &Inspection, permission: Permission) -> PermissionFinding;

    /// Evaluates from the result of an inspection whether hooks with these events may be managed: some providers require a
    /// separate right for each event. Sends nothing.
    fn hook_permission(&self, inspection: &Inspection, events: &BTreeSet<EventKind>) -> PermissionFinding {
        let _ = events;
        self.permission(inspection, Permission::ManageWebhooks)
    }

    /// Looks up a repository. A renamed repository is found, and the result has its new path.
    async fn repository(&self, path: &RepositoryPath) -> Result<Repository, ProviderError>;

    /// Looks up a repository by its stable id; `None` if the provider has no such look-up.
    async fn repository_by_id(&self, id: &str) -> Result<Option<Repository>, ProviderError>;

    /// Whether a branch with exactly this name exists.
    async fn branch_exists(&self, repository: &Repository, branch: &str) -> Result<bool, ProviderError>;

    /// Probes the git endpoint: whether it is reachable, whether the repository is empty, and its heads. For anonymous and
    /// git-only credentials.
    async fn probe_git(&self, path: &RepositoryPath) -> Result<GitProbe, ProviderError>;

    /// Every repository of the owner, page by page, with what the provider's lists contain. Ends with an error rather than with an
    /// incomplete list. Oldest first where the provider can sort, so that a repository created meanwhile comes last.
    fn repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>>;

    /// The hooks to request from the provider for these events: one shape, or several if the provider splits hooks by event.
    fn hook_shapes(&self, events: &BTreeSet<EventKind>) -> Vec<HookShape>;

    /// Every hook of the repository, from all pages, or an error: never an incomplete list.
    async fn hooks(&self, repository: &Repository) -> Result<Vec<Hook>, ProviderError>;

    /// Creates a hook and returns it as the server reports it.
    async fn create_hook(&self, repository: &Repository, request: &HookRequest<'_>) -> Result<Hook, ProviderError>;

    /// Changes a hook to match the request and returns it as the server reports it. Sets the secret only if
    /// [`Capabilities::update_sets_secret`] is true.
    async fn update_hook(&self, repository: &Repository, id: &str, request: &HookRequest<'_>) -> Result<Hook, ProviderError>;

    /// Hands an adopted hook back to its owner: changes its URL and keeps its secret.
    ///
    /// # Errors
    /// `Rejected`, with nothing written, if the update would lose the secret and the caller does not know it.
    async fn release_hook(&self, repository: &Repository, id: &str, release: &HookRelease<'_>) -> Result<(), ProviderError>;

    /// Deletes a hook. A 404 counts as [`Deletion::Absent`] only if the same credential then reads the repository's hook list and
    /// the hook is not in it; otherwise the result is [`Deletion::Hidden`].
    async fn delete_hook(&self, repository: &Repository, id: &str) -> Result<Deletion, ProviderError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::error::ErrorKind;

    /// Every row that the tables must have, collected from the code.
    #[test]
    fn the_provider_matrix_maps_every_word_of_the_port() {
        let matrix = include_str!("../docs/provider-matrix.md");
        let code = [include_str!("webhook.rs"), include_str!("port.rs")].concat();
        let methods = code.lines().filter_map(|line| line.strip_prefix("    fn ").or_else(|| line.strip_prefix("    async fn ")));
        let methods = methods
            .filter_map(|line| line.split(['(', '<']).next())
            .filter(|name| !["fmt", "from", "kind", "profile", "transport_settings", "webhook"].contains(name));
        let is_row = |name: &str| {
            matrix.lines().any(|line| line.starts_with(&format!("| `{name}` |")) && line.matches(" | ").count() == ProviderKind::ALL.len())
        };
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
