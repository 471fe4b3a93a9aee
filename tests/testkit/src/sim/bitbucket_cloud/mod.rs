//! A simulated Bitbucket Cloud: bitbucket.org, and its API below `/2.0`.
//!
//! Its state: users with API tokens, whose app passwords are no longer accepted, access tokens of a repository, a project and a
//! workspace, workspaces with projects, repositories with webhooks, and hourly rate limits.

mod api;
mod credentials;
mod deliveries;
mod documents;
mod git;
mod hooks;
mod limit;
mod repositories;
mod state;

use std::sync::{Mutex, MutexGuard, PoisonError};

use forgebind::api::v1alpha1::ProviderKind;
use serde_json::json;

use super::contents::{ProviderEvent, UserAction};
use super::delivery::{Delivery, Outcome, Retry};
use super::message::{Request, Response};
use super::simulated_provider::{Refusal, SeedData, Settings, SimulatedProvider};
use state::{Holder, Level, State};

/// The prefix of the paths of the API.
pub const API: &str = "/2.0";
/// The maximum number of webhooks of a repository.
pub const MOST_HOOKS: usize = 50;
/// The e-mail address of the account `forgebind`.
pub const EMAIL: &str = "forgebind@acme.example";
/// The former app password of the account `forgebind`.
pub const APP_PASSWORD: &str = "ATBBretiredAppPassword";
/// An API token of the account `forgebind` that may not read the account itself.
pub const API_TOKEN_WITHOUT_USER: &str = "ATATT3xWithoutReadUser";
/// An access token of the repository `acme/shop`.
pub const REPOSITORY_TOKEN: &str = "ATCTT3xOfTheRepositoryShop";
/// An access token of the project `APP`.
pub const PROJECT_TOKEN: &str = "ATCTT3xOfTheProjectApp";
/// An access token of the workspace `acme`.
pub const WORKSPACE_TOKEN: &str = "ATCTT3xOfTheWorkspaceAcme";
/// The scopes of the account's own API token.
pub const OPERATOR_SCOPES: [&str; 11] = [
    "read:user:bitbucket",
    "read:workspace:bitbucket",
    "read:project:bitbucket",
    "read:repository:bitbucket",
    "write:repository:bitbucket",
    "admin:repository:bitbucket",
    "read:pullrequest:bitbucket",
    "write:pullrequest:bitbucket",
    "read:webhook:bitbucket",
    "write:webhook:bitbucket",
    "delete:webhook:bitbucket",
];

const OUTSIDER_EMAIL: &str = "eve@elsewhere.example";
const OPERATOR_TOKEN: &str = "ATATT3xOfTheOperator";
const READER_TOKEN: &str = "ATATT3xOfTheReader";
const OUTSIDER_TOKEN: &str = "ATATT3xOfTheOutsider";
const ACCESS_TOKEN_SCOPES: [&str; 3] = ["repository", "pullrequest", "webhook"];

/// Foreign webhooks in one repository: nearly the maximum number, which is less than a page.
const FOREIGN_HOOKS: usize = 45;
/// Repositories that make the workspace's list longer than the longest page.
const FILLERS: usize = 105;

/// The simulated product.
pub struct BitbucketCloud {
    state: Mutex<State>,
}

/// The simulator of the registry.
pub fn make(settings: Settings) -> Box<dyn SimulatedProvider> {
    Box::new(BitbucketCloud::new(settings))
}

impl BitbucketCloud {
    /// A new simulator.
    pub fn new(settings: Settings) -> Self {
        let mut state = State::new(settings);
        furnish(&mut state);
        Self { state: Mutex::new(state) }
    }

    /// A simulator that allows a credential this many requests in an hour.
    #[must_use]
    pub fn with_hourly_limit(self, requests: usize) -> Self {
        self.state().limit = limit::Limit::new(requests);
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates users, tokens, workspaces, projects and repositories.
fn furnish(state: &mut State) {
    for (name, email) in [("forgebind", EMAIL), ("ada", "ada@acme.example"), ("eve", OUTSIDER_EMAIL)] {
        state.add_user(name, email);
    }
    for (workspace, projects) in [("acme", &["APP", "OPS"][..]), ("globex", &["MAIN"])] {
        state.add_workspace(workspace, projects);
    }
    for (user, workspace, level) in [
        ("forgebind", "acme", Level::Admin),
        ("forgebind", "globex", Level::Read),
        ("ada", "acme", Level::Write),
        ("eve", "globex", Level::Admin),
    ] {
        state.add_member(user, workspace, level);
    }
    let read_only: Vec<_> = OPERATOR_SCOPES.into_iter().filter(|scope| scope.starts_with("read:") && !scope.contains("webhook")).collect();
    let without_user: Vec<_> = OPERATOR_SCOPES.into_iter().filter(|scope| !scope.contains(":user:")).collect();
    let of_user = |name: &str| Holder::User(name.to_owned());
    state.add_token(OPERATOR_TOKEN, of_user("forgebind"), &OPERATOR_SCOPES);
    state.add_token(READER_TOKEN, of_user("forgebind"), &read_only);
    state.add_token(API_TOKEN_WITHOUT_USER, of_user("forgebind"), &without_user);
    state.add_token(OUTSIDER_TOKEN, of_user("eve"), &OPERATOR_SCOPES);
    state.add_repository("acme", "APP", "shop", &["main", "release/1.0", "topic"]);
    state.add_repository("acme", "APP", "cart", &["main", "topic"]);
    state.add_repository("acme", "APP", "empty", &[]);
    state.add_repository("acme", "APP", "site", &["main"]).private = false;
    state.add_repository("acme", "OPS", "former", &["main"]);
    state.add_repository("acme", "OPS", "crowded", &["main"]);
    state.add_repository("globex", "MAIN", "tools", &["main"]);
    for number in 0..FILLERS {
        state.add_repository("acme", "OPS", &format!("part-{number:03}"), &["main"]);
    }
    let shop = state.repository("acme", "shop").unwrap().uuid.clone();
    state.add_token(REPOSITORY_TOKEN, Holder::Repository(shop), &ACCESS_TOKEN_SCOPES);
    state.add_token(PROJECT_TOKEN, Holder::Project("acme".to_owned(), "APP".to_owned()), &ACCESS_TOKEN_SCOPES);
    state.add_token(WORKSPACE_TOKEN, Holder::Workspace("acme".to_owned()), &ACCESS_TOKEN_SCOPES);
    state.act(&UserAction::RenameRepository { repository: "acme/former".to_owned(), to: "acme/present".to_owned() }).unwrap();
    for number in 0..FOREIGN_HOOKS {
        let url = format!("https://ci.acme.example/hooks/{number}");
        state.act(&UserAction::AddHook { repository: "acme/crowded".to_owned(), url }).unwrap();
    }
}

/// The data of a Secret with an API token.
pub fn api_token(email: &str, token: &str) -> Vec<(&'static str, String)> {
    vec![("email", email.to_owned()), ("token", token.to_owned())]
}

impl SimulatedProvider for BitbucketCloud {
    fn kind(&self) -> ProviderKind {
        ProviderKind::BitbucketCloud
    }

    fn seed_data(&self) -> SeedData {
        let web = self.state().url.clone();
        let authority = web.trim_start_matches("http://").to_owned();
        let host = authority.split(':').next().unwrap_or_default().to_owned();
        SeedData {
            account: "forgebind".to_owned(),
            provider: json!({"bitbucketCloud": {"url": web, "workspace": "acme"}}),
            credential: api_token(EMAIL, OPERATOR_TOKEN),
            rejected: api_token(EMAIL, "ATATT3xNeverIssued"),
            reader: api_token(EMAIL, READER_TOKEN),
            repository: "acme/shop".to_owned(),
            other: "acme/cart".to_owned(),
            empty: "acme/empty".to_owned(),
            public: Some("acme/site".to_owned()),
            outside: "globex/tools".to_owned(),
            outsider: api_token(OUTSIDER_EMAIL, OUTSIDER_TOKEN),
            spellings: vec![
                format!("{web}/acme/shop.git"),
                format!("http://forgebind@{authority}/acme/shop.git"),
                format!("{web}/acme/shop/src/main/"),
                format!("git@{host}:acme/shop.git"),
                format!("ssh://git@{host}/acme/shop.git"),
            ],
            branch: "release/1.0".to_owned(),
            archived: None,
            renamed: ("acme/former".to_owned(), "acme/present".to_owned()),
            crowded: ("acme/crowded".to_owned(), FOREIGN_HOOKS),
            repositories: FILLERS + 6,
            has_pages: true,
            tells_version: false,
            can_pause: true,
            notes: vec![
                format!("App passwords are no longer taken: username=forgebind password={APP_PASSWORD}"),
                format!("An access token of the repository acme/shop: token={REPOSITORY_TOKEN}"),
                format!("An access token of the project APP of acme: token={PROJECT_TOKEN}"),
                format!("An access token of the workspace acme: token={WORKSPACE_TOKEN}"),
                format!("An API token without read:user:bitbucket: email={EMAIL} token={API_TOKEN_WITHOUT_USER}"),
                "A push of several branches at once: their names in `branch`, with spaces between them".to_owned(),
            ],
        }
    }

    fn api_path<'a>(&self, request: &'a Request) -> Option<&'a str> {
        request.path.strip_prefix(API).filter(|path| path.starts_with('/'))
    }

    fn answer(&self, request: &Request) -> Response {
        match request.below(API) {
            Some(segments) => api::answer(&mut self.state(), request, &segments),
            None => git::answer(&self.state(), request),
        }
    }

    fn refusal(&self, refusal: Refusal) -> Response {
        match refusal {
            Refusal::Unauthorized => documents::token_invalid(),
            Refusal::Forbidden => documents::scopes_missing(&["admin:repository:bitbucket"], &["read:repository:bitbucket".to_owned()]),
            Refusal::NotFound => documents::no_repository(404),
            // The documentation names no header for the end of the limit.
            Refusal::RateLimited(wait) | Refusal::TooManyRequests(wait) => {
                wait.mark(limit::refused(limit::HOURLY), self.state().clock.now())
            }
            Refusal::Failed(status) => documents::error(status, "Something went wrong"),
        }
    }

    fn act(&self, act: &UserAction) -> Result<Vec<ProviderEvent>, String> {
        self.state().act(act)
    }

    fn deliveries(&self, repository: &str, provider_event: &ProviderEvent) -> Vec<Delivery> {
        deliveries::of(&mut self.state(), repository, provider_event)
    }

    fn delivered(&self, delivery: &Delivery, outcome: &Outcome) -> Option<Retry> {
        deliveries::again(delivery, outcome)
    }
}
