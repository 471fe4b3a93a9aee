//! What every provider's client must do, asked of any of them. Nothing here knows which provider it talks to: what differs
//! is in the [`Subject`] and in the capabilities that the client tells.

pub mod account;
pub mod hooks;
pub mod repositories;
pub mod simulated;

use std::sync::Arc;

use async_trait::async_trait;
use forgebind::protocol::keys;
use forgebind::protocol::secret::{DerivedSecret, WebhookSecret};
use forgebind::providers::{Capabilities, Client, Endpoint, HookUrl, Provider, Repository, RepositoryPath};

/// One provider with an account and a repository. What is `None` is not at hand, and what the suite asks about it is left out:
/// a stranger's sandbox has neither a crowd of hooks nor a second account.
pub struct Subject {
    /// The provider.
    pub provider: &'static dyn Provider,
    /// Where it is.
    pub endpoint: Endpoint,
    /// With the account that may do everything.
    pub client: Arc<dyn Client>,
    /// With a credential that the provider never issued.
    pub rejected: Arc<dyn Client>,
    /// Without a credential.
    pub anonymous: Arc<dyn Client>,
    /// Path of a private repository with a commit.
    pub repository: String,
    /// Path of no repository.
    pub unknown: String,
    /// Where hooks may deliver to.
    pub target: String,
    /// What was made for the suite.
    pub prepared: Option<Prepared>,
}

/// What was made for the suite: with it, all of it is asked.
pub struct Prepared {
    /// With a valid credential that sees none of the private repositories.
    pub outsider: Arc<dyn Client>,
    /// The account's name.
    pub account: String,
    /// Clone URLs of the repository.
    pub clone_urls: Vec<String>,
    /// A branch of it, with a slash in its name.
    pub branch: String,
    /// Path of a repository without a commit.
    pub empty: String,
    /// Path of an archived repository; `None` where there is no such thing.
    pub archived: Option<String>,
    /// Former and present path of a repository that was renamed.
    pub renamed: (String, String),
    /// Path of a repository with this many hooks of somebody else: several pages of them where the provider has pages.
    pub crowded: (String, usize),
    /// How many repositories the owner has: several pages of them where the provider has pages.
    pub repositories: usize,
    /// Whether the provider's lists have pages.
    pub has_pages: bool,
    /// Whether the server tells its version.
    pub tells_version: bool,
    /// Whether a person can switch a hook off.
    pub can_pause: bool,
    /// What a person does at the provider.
    pub by_hand: Box<dyn ByHand>,
}

/// What a person does at the provider, and what was seen on the way to it.
#[async_trait]
pub trait ByHand: Send + Sync {
    /// Switches a hook off.
    async fn pause(&self, repository: &RepositoryPath, hook: &str);
    /// How many requests that ask to change something came to the provider.
    fn writes(&self) -> usize;
}

impl Subject {
    /// A path in the port's form.
    pub fn path(&self, text: &str) -> RepositoryPath {
        self.provider.repository_path(&self.endpoint, text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// A repository that is there.
    pub async fn found(&self, text: &str) -> Repository {
        self.client.repository(&self.path(text)).await.unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// What can be done here.
    pub async fn capabilities(&self) -> Capabilities {
        self.client.inspect().await.unwrap().capabilities
    }

    /// How many requests that ask to change something came to the provider, where that is counted.
    pub fn writes(&self) -> Option<usize> {
        self.prepared.as_ref().map(|prepared| prepared.by_hand.writes())
    }

    /// An address that no other hook has.
    pub fn hook_url(&self, name: &str) -> HookUrl {
        HookUrl::new(format!("{}/hooks/{name}", self.target))
    }
}

/// A secret as the controller makes it.
pub fn secret(seed: u8) -> WebhookSecret {
    WebhookSecret::Derived(DerivedSecret::new([seed; keys::INSTALL_KEY_LENGTH]))
}

/// The whole suite.
pub async fn run(subject: &Subject) {
    account::all(subject).await;
    repositories::all(subject).await;
    hooks::all(subject).await;
}
