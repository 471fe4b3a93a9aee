//! The interface of a simulated provider.

use std::fmt;

use forgebind::api::v1alpha1::ProviderKind;
use serde_json::Value;

use super::clock::ProviderClock;
use super::contents::{ProviderEvent, UserAction};
use super::delivery::{Delivery, Outcome, Retry};
use super::faults::Wait;
use super::message::{Request, Response};

/// The settings of a simulator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address without a trailing slash, as clients reach it; its links begin with it.
    pub url: String,
    /// Whether hooks may deliver to loopback and private addresses, which real providers refuse.
    pub allow_local_targets: bool,
    /// The provider's clock.
    pub clock: ProviderClock,
}

/// A kind of refusal that every provider has, in its own form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The credential is not accepted.
    Unauthorized,
    /// The credential is accepted, but lacks the permission.
    Forbidden,
    /// The object does not exist, or is hidden.
    NotFound,
    /// Too many requests, with the status and headers that this provider mainly uses.
    RateLimited(Wait),
    /// Too many requests, with status 429.
    TooManyRequests(Wait),
    /// The server failed, with this status.
    Failed(u16),
}

/// The initial data of a simulator: its program prints it, and tests use it.
#[derive(Clone)]
pub struct SeedData {
    /// Name of the account that may do everything.
    pub account: String,
    /// The member `provider` of a connection's spec, with the simulator's url and apiURL where they are needed.
    pub provider: Value,
    /// The data of the Secret with the credential that may do everything.
    pub credential: Vec<(&'static str, String)>,
    /// The same for a credential that was never issued.
    pub rejected: Vec<(&'static str, String)>,
    /// The same for one that may read but not manage hooks.
    pub reader: Vec<(&'static str, String)>,
    /// Path of a private repository with a commit on its default branch `main`.
    pub repository: String,
    /// Path of another such repository.
    pub other: String,
    /// Path of a repository without a commit.
    pub empty: String,
    /// Path of a public repository with a commit; `None` if anonymous clients can read nothing.
    pub public: Option<String>,
    /// Path of a repository of another owner than the connection's.
    pub outside: String,
    /// The data of the Secret with a valid credential that can see none of the private repositories.
    pub outsider: Vec<(&'static str, String)>,
    /// Other spellings of `repository`: clone URLs over https and ssh, web addresses.
    pub spellings: Vec<String>,
    /// A branch of `repository` with a slash in its name.
    pub branch: String,
    /// Path of an archived repository; `None` if the provider has none.
    pub archived: Option<String>,
    /// Former and present path of a renamed repository.
    pub renamed: (String, String),
    /// Path of a repository, and its number of foreign hooks: several pages of them where the provider has pages.
    pub crowded: (String, usize),
    /// The number of repositories of the owner: several pages of them where the provider has pages.
    pub repositories: usize,
    /// Whether its lists have pages.
    pub has_pages: bool,
    /// Whether it reports its version.
    pub tells_version: bool,
    /// Whether a person can disable a hook.
    pub can_pause: bool,
    /// More lines for people: other tokens, their permissions, special cases.
    pub notes: Vec<String>,
}

impl fmt::Debug for SeedData {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SeedData({}, {})", self.account, self.repository)
    }
}

/// A simulated provider: answers over its state. It neither sends nor waits; it returns its deliveries.
pub trait SimulatedProvider: Send + Sync + 'static {
    /// Which provider it is.
    fn kind(&self) -> ProviderKind;

    fn seed_data(&self) -> SeedData;

    /// The path of an API request as in the official description, not decoded; `None` for other requests, such as git.
    fn api_path<'a>(&self, request: &'a Request) -> Option<&'a str>;

    /// The parameters of an API request as in the official description: without those that carry a credential, with those sent in
    /// another way.
    fn query(&self, request: &Request) -> Vec<(String, String)> {
        request.query.clone()
    }

    /// Answers every request except control endpoints.
    fn answer(&self, request: &Request) -> Response;

    /// The provider's own form of a refusal.
    fn refusal(&self, refusal: Refusal) -> Response;

    /// Performs a user's action and returns the resulting events. [`Contents::apply`](super::Contents::apply) performs actions on
    /// contents.
    ///
    /// # Errors
    ///
    /// Why the action is impossible, for people.
    fn act(&self, act: &UserAction) -> Result<Vec<ProviderEvent>, String>;

    /// The deliveries of an event by a repository's hooks, in order.
    fn deliveries(&self, repository: &str, provider_event: &ProviderEvent) -> Vec<Delivery>;

    /// Deliveries caused by the previous answer, such as the ping of a new hook. Called after every answer.
    fn pending(&self) -> Vec<Delivery> {
        Vec::new()
    }

    /// Records the result of a delivery in the log and the failure counts. Returns the provider's next attempt, if it makes one.
    fn delivered(&self, delivery: &Delivery, outcome: &Outcome) -> Option<Retry>;

    /// Whether a retry that is due is still made: its hook may be gone or switched off.
    fn still_retries(&self, _retry: &Delivery) -> bool {
        true
    }
}
