//! What a simulated provider is.

use std::fmt;

use forgebind::api::v1alpha1::ProviderKind;
use serde_json::Value;

use super::contents::{ProviderEvent, UserAction};
use super::delivery::{Delivery, Outcome};
use super::faults::Wait;
use super::message::{Request, Response};

/// How a simulator is started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its address, without a slash at the end: what it believes to be reached at, and what its links are made from.
    pub url: String,
    /// Whether hooks may deliver to loopback and private addresses, which real providers refuse.
    pub allow_local_targets: bool,
}

/// A refusal that every provider has, in its own form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The credential is not accepted.
    Unauthorized,
    /// It is, and may not do this.
    Forbidden,
    /// The thing is not there, or hidden.
    NotFound,
    /// Too many requests, with the status and marks that this provider uses first of all.
    RateLimited(Wait),
    /// Too many requests, with status 429.
    TooManyRequests(Wait),
    /// The server failed, with this status.
    Failed(u16),
}

/// What is ready in a fresh simulator: what its program prints, and what tests use.
#[derive(Clone)]
pub struct SeedData {
    /// Name of the account that may do everything.
    pub account: String,
    /// The member `provider` of a connection's spec, without url and apiURL where the simulator's are meant: they are
    /// included.
    pub provider: Value,
    /// The data of the Secret with the credential that may do everything.
    pub credential: Vec<(&'static str, String)>,
    /// The same for a credential that was never issued.
    pub rejected: Vec<(&'static str, String)>,
    /// The same for one that may read and must not manage hooks.
    pub reader: Vec<(&'static str, String)>,
    /// Path of a private repository with a commit on its default branch `main`.
    pub repository: String,
    /// Path of another one.
    pub other: String,
    /// Path of a repository without a commit.
    pub empty: String,
    /// Path of a public repository with a commit; `None` where nothing is read without a credential.
    pub public: Option<String>,
    /// Path of a repository outside of the owner that the connection names.
    pub outside: String,
    /// The data of the Secret of a valid credential that sees none of the private repositories.
    pub outsider: Vec<(&'static str, String)>,
    /// Further spellings of `repository`: clone URLs over https and ssh, web addresses.
    pub spellings: Vec<String>,
    /// A branch of `repository` with a slash in its name.
    pub branch: String,
    /// Path of an archived repository; `None` where there is no such thing.
    pub archived: Option<String>,
    /// Former and present path of a repository that was renamed.
    pub renamed: (String, String),
    /// Path of a repository with so many hooks of somebody else: several pages of them where the provider has pages.
    pub crowded: (String, usize),
    /// How many repositories the owner has: several pages of them where the provider has pages.
    pub repositories: usize,
    /// Whether its lists have pages.
    pub has_pages: bool,
    /// Whether it tells its version.
    pub tells_version: bool,
    /// Whether a hook can be switched off by hand.
    pub can_pause: bool,
    /// Further lines for people: other tokens, what they may, what is special.
    pub notes: Vec<String>,
}

impl fmt::Debug for SeedData {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SeedData({}, {})", self.account, self.repository)
    }
}

/// A simulated provider: answers over its state. It neither sends nor waits; what it has to tell it gives back.
pub trait SimulatedProvider: Send + Sync + 'static {
    /// Which provider it is.
    fn kind(&self) -> ProviderKind;

    /// What is ready.
    fn seed_data(&self) -> SeedData;

    /// The path of an API request as the official description has it, not decoded; `None` for what is no API request, such as
    /// git.
    fn api_path<'a>(&self, request: &'a Request) -> Option<&'a str>;

    /// The parameters of an API request as the official description has them: without those that stand for a credential, with
    /// those that were sent otherwise.
    fn query(&self, request: &Request) -> Vec<(String, String)> {
        request.query.clone()
    }

    /// Answers any request but those of control endpoints.
    fn answer(&self, request: &Request) -> Response;

    /// The provider's own form of a refusal.
    fn refusal(&self, refusal: Refusal) -> Response;

    /// Does what somebody does, and tells what happened by it. [`Contents::apply`](super::Contents::apply) does the part
    /// about contents.
    ///
    /// # Errors
    ///
    /// What is in the way, for people.
    fn act(&self, act: &UserAction) -> Result<Vec<ProviderEvent>, String>;

    /// What the hooks of a repository send for a happening, in order.
    fn deliveries(&self, repository: &str, provider_event: &ProviderEvent) -> Vec<Delivery>;

    /// Deliveries that came out of an answer just given, such as the ping of a new hook. Called after every answer.
    fn pending(&self) -> Vec<Delivery> {
        Vec::new()
    }

    /// Hears what became of a delivery: keeps its log, counts failures. A delivery that it gives back is sent again.
    fn delivered(&self, delivery: &Delivery, outcome: &Outcome) -> Option<Delivery>;
}
