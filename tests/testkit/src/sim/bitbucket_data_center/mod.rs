//! A simulated Bitbucket Data Center 9.4 behind a context path.
//!
//! Its state: users with passwords and a CAPTCHA after failed log-ins, HTTP access tokens with permission levels, projects,
//! personal projects, repositories, webhooks with their statistics and the circuit breaker that skips a failing one.

mod accounts;
mod api;
mod breaker;
mod deliveries;
mod documents;
mod git;
mod hooks;
mod limit;
mod lists;
mod state;

use std::sync::{Mutex, MutexGuard, PoisonError};

use forgebind::api::v1alpha1::ProviderKind;
use serde_json::json;

use super::contents::{ProviderEvent, UserAction};
use super::delivery::{Delivery, Outcome, Retry};
use super::message::{Request, Response};
use super::simulated_provider::{Refusal, SeedData, Settings, SimulatedProvider};
use accounts::Caller;
use state::State;

/// Its context path.
pub const CONTEXT: &str = "/bitbucket";
/// Failed log-ins after which a user has to solve a CAPTCHA: the product's default.
pub const LOG_INS_BEFORE_CAPTCHA: u32 = 5;
/// The password of the user `forgebind`.
pub const PASSWORD: &str = "correct-horse-battery";
/// A token of the project `APP` that may administer its repositories.
pub const PROJECT_TOKEN: &str = "BBDC-UHJvamVjdFRva2VuOmFkbWluaXN0cmF0aW9uLW9mLUFQUA";
/// A token of the repository `APP/shop` that may administer it, and nothing else.
pub const REPOSITORY_TOKEN: &str = "BBDC-UmVwb3NpdG9yeVRva2VuOmFkbWluaXN0cmF0aW9uLW9mLXNob3A";
const OPERATOR_TOKEN: &str = "BBDC-T3BlcmF0b3JUb2tlbjphZG1pbmlzdHJhdGlvbg";
const READER_TOKEN: &str = "BBDC-UmVhZGVyVG9rZW46cmVhZGluZw";
const OUTSIDER_TOKEN: &str = "BBDC-T3V0c2lkZXJUb2tlbjpub3RoaW5n";

/// Foreign webhooks in one repository.
const FOREIGN_HOOKS: usize = 120;
/// Repositories that make the project's list long.
const FILLERS: usize = 55;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// 9.4.
    Current,
    /// 8.9, the oldest supported version.
    Oldest,
}

impl Release {
    const fn version(self) -> &'static str {
        match self {
            Self::Current => "9.4.1",
            Self::Oldest => "8.9.2",
        }
    }

    const fn build(self) -> &'static str {
        match self {
            Self::Current => "9004001",
            Self::Oldest => "8009002",
        }
    }

    /// Whether HTTP access tokens are also accepted outside the REST API and git, as before 8.9.22, 8.19.12 and 9.3.2.
    const fn takes_tokens_everywhere(self) -> bool {
        matches!(self, Self::Oldest)
    }
}

/// The simulated product.
pub struct BitbucketDataCenter {
    state: Mutex<State>,
}

/// The simulator of the registry.
pub fn make(settings: Settings) -> Box<dyn SimulatedProvider> {
    Box::new(BitbucketDataCenter::new(settings))
}

impl BitbucketDataCenter {
    /// A new simulator.
    pub fn new(settings: Settings) -> Self {
        let Settings { url, clock, .. } = settings;
        let mut state = State::new(url + CONTEXT, clock);
        furnish(&mut state);
        Self { state: Mutex::new(state) }
    }

    /// The oldest supported version.
    #[must_use]
    pub fn of_the_oldest_release(self) -> Self {
        self.state().release = Release::Oldest;
        self
    }

    /// A simulator whose administrator allows each user this many requests at once, and one more each second.
    #[must_use]
    pub fn with_rate_limit(self, capacity: u32) -> Self {
        self.state().limit = Some(limit::Limit::new(capacity));
        self
    }

    /// A simulator whose project `APP` has this many more repositories, named `PREFIX-0` and so on.
    #[must_use]
    pub fn with_repositories(self, count: usize, prefix: &str) -> Self {
        for number in 0..count {
            self.state().add_repository("APP", &format!("{prefix}-{number}"), &["main"]);
        }
        self
    }

    /// Performs several actions in one push, and returns the deliveries.
    ///
    /// # Errors
    ///
    /// Why they are impossible, for people.
    pub fn push_together(&self, repository: &str, acts: &[UserAction]) -> Result<Vec<Delivery>, String> {
        let mut state = self.state();
        let happened: Vec<_> = acts.iter().map(|act| state.act(act)).collect::<Result<_, _>>()?;
        Ok(deliveries::together(&mut state, repository, &happened.concat()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates users, tokens, projects and repositories.
fn furnish(state: &mut State) {
    use accounts::Level::{Admin, Read};
    state.add_project("APP", "Apps");
    state.add_project("OPS", "Operations");
    for (name, password) in [("forgebind", PASSWORD), ("ada", "lovelace-1815"), ("eve", "apple-of-eden")] {
        state.add_user(name, password);
    }
    for (user, project, level) in [("forgebind", "APP", Admin), ("forgebind", "OPS", Read), ("ada", "APP", Read)] {
        state.grant(user, project, level);
    }
    state.add_token(OPERATOR_TOKEN, "forgebind", Read, Admin);
    state.add_token(READER_TOKEN, "forgebind", Read, Read);
    state.add_token(OUTSIDER_TOKEN, "eve", Admin, Admin);
    state.add_repository("APP", "shop", &["main", "release/1.0", "topic"]);
    state.add_repository("APP", "cart", &["main", "topic"]);
    state.add_repository("APP", "empty", &[]);
    state.add_repository("APP", "site", &["main"]).public = true;
    state.add_repository("APP", "legacy", &["main"]).archived = true;
    state.add_repository("APP", "former", &["main"]);
    state.add_repository("APP", "crowded", &["main"]);
    state.add_repository("OPS", "tools", &["main"]);
    state.add_repository("~FORGEBIND", "notes", &["main"]);
    for number in 0..FILLERS {
        state.add_repository("APP", &format!("part-{number:02}"), &["main"]);
    }
    state.add_project_token(PROJECT_TOKEN, "APP", Admin);
    state.add_repository_token(REPOSITORY_TOKEN, "APP/shop", Admin);
    let rename = UserAction::RenameRepository { repository: "APP/former".to_owned(), to: "APP/present".to_owned() };
    state.act(&rename).unwrap();
    for number in 0..FOREIGN_HOOKS {
        let url = format!("https://ci.acme.example/hooks/{number}");
        state.act(&UserAction::AddHook { repository: "APP/crowded".to_owned(), url }).unwrap();
    }
}

impl SimulatedProvider for BitbucketDataCenter {
    fn kind(&self) -> ProviderKind {
        ProviderKind::BitbucketDataCenter
    }

    fn seed_data(&self) -> SeedData {
        let web = self.state().web.clone();
        let host = web.trim_start_matches("http://").split([':', '/']).next().unwrap_or_default().to_owned();
        let token = |token: &str| vec![("token", token.to_owned())];
        SeedData {
            account: "forgebind".to_owned(),
            provider: json!({"bitbucketDataCenter": {"url": web, "project": "APP"}}),
            credential: token(OPERATOR_TOKEN),
            rejected: token("BBDC-TmV2ZXJJc3N1ZWQ6bmV2ZXI"),
            reader: token(READER_TOKEN),
            repository: "APP/shop".to_owned(),
            other: "APP/cart".to_owned(),
            empty: "APP/empty".to_owned(),
            public: Some("APP/site".to_owned()),
            outside: "OPS/tools".to_owned(),
            outsider: token(OUTSIDER_TOKEN),
            spellings: vec![
                format!("{web}/scm/APP/shop.git"),
                format!("{web}/scm/app/shop.git"),
                format!("{web}/projects/APP/repos/shop/browse"),
                format!("ssh://git@{host}:7999/app/shop.git"),
                format!("git@{host}:APP/shop.git"),
            ],
            branch: "release/1.0".to_owned(),
            archived: Some("APP/legacy".to_owned()),
            renamed: ("APP/former".to_owned(), "APP/present".to_owned()),
            crowded: ("APP/crowded".to_owned(), FOREIGN_HOOKS),
            repositories: FILLERS + 7,
            has_pages: true,
            tells_version: true,
            can_pause: true,
            notes: vec![
                format!("The same account by password: username=forgebind password={PASSWORD}"),
                format!("A CAPTCHA is asked for after {LOG_INS_BEFORE_CAPTCHA} failed log-ins; a token goes on working"),
                format!("A token of the project APP: token={PROJECT_TOKEN}"),
                format!("A token of the repository APP/shop: token={REPOSITORY_TOKEN}"),
                "A personal repository: ~FORGEBIND/notes".to_owned(),
            ],
        }
    }

    fn api_path<'a>(&self, request: &'a Request) -> Option<&'a str> {
        request.path.strip_prefix(CONTEXT)?.strip_prefix("/rest").filter(|path| path.starts_with("/api/latest/"))
    }

    fn answer(&self, request: &Request) -> Response {
        api::answer(&mut self.state(), request)
    }

    fn refusal(&self, refusal: Refusal) -> Response {
        let mut state = self.state();
        let nobody = Caller::anonymous();
        let known = Caller { name: Some("forgebind".to_owned()), id: 1, ..Caller::anonymous() };
        let (response, caller) = match refusal {
            Refusal::Unauthorized => (documents::wrong_password(), nobody),
            Refusal::Forbidden => (documents::not_permitted(), known),
            Refusal::NotFound => (documents::no_repository("APP", "hidden"), known),
            Refusal::RateLimited(wait) | Refusal::TooManyRequests(wait) => (wait.mark(limit::refused(60), state.clock.now()), known),
            Refusal::Failed(status) => (documents::error(status, None, None, "An error occurred while processing the request."), known),
        };
        state.marked(response, &caller)
    }

    fn act(&self, act: &UserAction) -> Result<Vec<ProviderEvent>, String> {
        self.state().act(act)
    }

    fn deliveries(&self, repository: &str, provider_event: &ProviderEvent) -> Vec<Delivery> {
        deliveries::of(&mut self.state(), repository, provider_event)
    }

    fn pending(&self) -> Vec<Delivery> {
        std::mem::take(&mut self.state().pending)
    }

    fn delivered(&self, delivery: &Delivery, outcome: &Outcome) -> Option<Retry> {
        deliveries::delivered(&mut self.state(), delivery, outcome);
        // It never sends a delivery again: providers-gitlab-bitbucket-azure.md.
        None
    }
}
