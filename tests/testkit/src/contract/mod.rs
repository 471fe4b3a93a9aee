//! What every provider's client must do, tested with any of them. Nothing here depends on the provider: differences are in the
//! [`Subject`] and in the capabilities that the client reports.

pub mod account;
pub mod hooks;
pub mod repositories;
pub mod simulated;

use std::sync::Arc;

use async_trait::async_trait;
use forgebind::protocol::keys;
use forgebind::protocol::secret::{DerivedSecret, WebhookSecret};
use forgebind::providers::{Capabilities, Client, Endpoint, HookUrl, Provider, Repository, RepositoryPath};

/// A provider with an account and a repository. If a field is `None`, the suite leaves out the tests that need it: a user's
/// sandbox has neither many hooks nor a second account.
pub struct Subject {
    pub provider: &'static dyn Provider,
    pub endpoint: Endpoint,
    /// With the account that may do everything.
    pub client: Arc<dyn Client>,
    /// With a credential that the provider never issued.
    pub rejected: Arc<dyn Client>,
    /// Without a credential.
    pub anonymous: Arc<dyn Client>,
    /// Path of a private repository with a commit.
    pub repository: String,
    /// Path of a repository that does not exist.
    pub unknown: String,
    /// A URL to which hooks may deliver.
    pub target: String,
    pub prepared: Option<Prepared>,
}

/// Data prepared for the suite: with it, every test runs.
pub struct Prepared {
    /// With a valid credential that sees none of the private repositories.
    pub outsider: Arc<dyn Client>,
    /// With a credential that may read the owner's repositories and manage the hooks of none; `None` if there is no such account.
    pub reader: Option<Arc<dyn Client>>,
    pub account: String,
    /// Clone URLs of the repository.
    pub clone_urls: Vec<String>,
    /// A branch of it, with a slash in its name.
    pub branch: String,
    /// Path of a repository without a commit.
    pub empty: String,
    /// Path of an archived repository; `None` if the provider has none.
    pub archived: Option<String>,
    /// Former and present path of a renamed repository.
    pub renamed: (String, String),
    /// Path of a repository, and its number of foreign hooks: several pages of them where the provider has pages.
    pub crowded: (String, usize),
    /// The number of repositories of the owner: several pages of them where the provider has pages.
    pub repositories: usize,
    /// Whether the provider's lists have pages.
    pub has_pages: bool,
    /// Whether the server reports its version.
    pub tells_version: bool,
    /// Whether a person can disable a hook.
    pub can_pause: bool,
    pub by_hand: Box<dyn ByHand>,
}

/// A person's actions at the provider, and the requests recorded meanwhile.
#[async_trait]
pub trait ByHand: Send + Sync {
    /// Disables a hook.
    async fn pause(&self, repository: &RepositoryPath, hook: &str);
    /// The number of requests that may have changed something.
    fn writes(&self) -> usize;
}

impl Subject {
    /// A path in the port's form.
    pub fn path(&self, text: &str) -> RepositoryPath {
        self.provider.repository_path(&self.endpoint, text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// An existing repository.
    pub async fn found(&self, text: &str) -> Repository {
        self.client.repository(&self.path(text)).await.unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// The capabilities of the client.
    pub async fn capabilities(&self) -> Capabilities {
        self.client.inspect().await.unwrap().capabilities
    }

    /// The number of requests that may have changed something, where the provider counts them.
    pub fn writes(&self) -> Option<usize> {
        self.prepared.as_ref().map(|prepared| prepared.by_hand.writes())
    }

    /// A URL that no other hook has.
    pub fn hook_url(&self, name: &str) -> HookUrl {
        HookUrl::new(format!("{}/hooks/{name}", self.target))
    }
}

/// A secret in the controller's form.
pub fn secret(seed: u8) -> WebhookSecret {
    WebhookSecret::Derived(DerivedSecret::new([seed; keys::INSTALL_KEY_LENGTH]))
}

/// The whole suite.
pub async fn run(subject: &Subject) {
    account::all(subject).await;
    repositories::all(subject).await;
    hooks::all(subject).await;
}
