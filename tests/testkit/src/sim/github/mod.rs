//! A simulated GitHub: accounts with classic and fine-grained tokens, an App with installations, organizations with single
//! sign-on, repositories and their hooks with pings and logs, primary and secondary rate limits, entity tags and pages.
//!
//! It is a GitHub Enterprise Server unless it is the cloud, whose API is at the root of its host.

mod accounts;
mod api;
mod apps;
mod deliveries;
mod documents;
mod hooks;
mod limits;
mod repositories;
pub mod seed;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forgebind::api::v1alpha1::ProviderKind;
use serde_json::{Value, json};

use self::state::State;
use super::contents::{ProviderEvent, UserAction};
use super::delivery::{Delivery, Outcome, Retry};
use super::faults::Wait;
use super::message::{Request, Response};
use super::simulated_provider::{Refusal, SeedData, Settings, SimulatedProvider};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// An Enterprise Server of this version, with rate limits enabled, as its administrator may.
    Server(&'static str),
    /// github.com.
    Cloud,
}

impl Release {
    /// The prefix of the paths of the API.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Server(_) => "/api/v3",
            Self::Cloud => "",
        }
    }

    /// The largest number of hooks of a repository with the same event.
    const fn hooks_of_an_event(self) -> usize {
        match self {
            Self::Server(_) => 250,
            Self::Cloud => 20,
        }
    }
}

/// The simulated GitHub. Clones share its state.
#[derive(Clone, Debug)]
pub struct SimulatedGitHub {
    state: Arc<Mutex<State>>,
}

/// An Enterprise Server.
pub fn make(settings: Settings) -> Box<dyn SimulatedProvider> {
    Box::new(SimulatedGitHub::new(settings, Release::Server("3.21.0")))
}

impl SimulatedGitHub {
    /// A simulator of a release.
    pub fn new(settings: Settings, release: Release) -> Self {
        let mut state = State::new(settings, release);
        seed::fill(&mut state);
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Limits the calls of each account in an hour.
    pub fn limit(&self, each_hour: u64) {
        self.state().limits.each_hour = Some(each_hour);
    }

    /// The remaining calls of an account in this hour.
    pub fn left(&self, account: &str) -> u64 {
        let now = self.state().now();
        self.state().limits.left(account, now)
    }

    /// Limits the writes of each account in a minute.
    pub fn limit_writes(&self, each_minute: u64) {
        self.state().limits.writes_each_minute = each_minute;
    }

    /// Whether the installation covers every repository of its owner, or only the selected ones.
    pub fn install_on_all(&self, all: bool) {
        self.state().installation_of("acme").unwrap().selection = if all { None } else { Some(seed::CHOSEN.to_vec()) };
    }

    /// Suspends the App's installation at an owner.
    pub fn suspend(&self, owner: &str) {
        let now = self.state().now();
        self.state().installation_of(owner).unwrap().suspended_at = Some(now);
    }

    /// Removes the App's installation at an owner.
    pub fn uninstall(&self, owner: &str) {
        self.state().installations.retain(|found| found.account != owner);
    }

    /// Changes a permission of the App at an owner; `None` removes it.
    pub fn permit(&self, owner: &str, key: &'static str, level: Option<&'static str>) {
        let mut state = self.state();
        let permissions = &mut state.installation_of(owner).unwrap().permissions;
        match level {
            Some(level) => permissions.insert(key, level),
            None => permissions.remove(key),
        };
    }

    /// Sets the events to which the App subscribes.
    pub fn subscribe(&self, events: &[&'static str]) {
        self.state().app.events = events.to_vec();
    }

    /// Sets the target of the App's own webhook.
    pub fn listen(&self, url: &str, secret: &str) {
        self.state().app.webhook = Some((url.to_owned(), Some(secret.to_owned())));
    }

    /// Expires every token of an installation, as after an hour.
    pub fn end_installation_tokens(&self) {
        self.state().installation_tokens.clear();
    }

    /// The number of valid tokens of installations.
    pub fn installation_tokens(&self) -> usize {
        self.state().installation_tokens.len()
    }

    /// The permissions of the latest token of an installation.
    pub fn permissions_of_last_token(&self) -> Vec<(String, String)> {
        let state = self.state();
        let last = state.installation_tokens.last().unwrap();
        last.permissions.iter().map(|(key, level)| ((*key).to_owned(), (*level).to_owned())).collect()
    }

    /// Requires single sign-on of an organization's members.
    pub fn enforce_single_sign_on(&self, organization: &str) {
        self.state().organization(organization).unwrap().single_sign_on = true;
    }

    /// Whether a hook has a secret.
    pub fn has_secret(&self, repository: &str, hook: &str) -> bool {
        self.state().hook_of(repository, hook).unwrap().config.secret.is_some()
    }
}

impl SimulatedProvider for SimulatedGitHub {
    fn kind(&self) -> ProviderKind {
        ProviderKind::GitHub
    }

    fn seed_data(&self) -> SeedData {
        seed::seed_data(&self.state())
    }

    fn api_path<'a>(&self, request: &'a Request) -> Option<&'a str> {
        let prefix = self.state().release.prefix();
        let is_git = super::git::asked_for(request).is_some();
        request.path.strip_prefix(prefix).filter(|path| path.starts_with('/') && !is_git)
    }

    fn answer(&self, request: &Request) -> Response {
        let mut state = self.state();
        if let Some(segments) = super::git::asked_for(request) {
            return state.git(&segments, request);
        }
        match request.below(state.release.prefix()) {
            Some(path) => state.api(request, &path),
            None => Response::page(404, "Page not found &middot; GitHub"),
        }
    }

    fn refusal(&self, refusal: Refusal) -> Response {
        let state = self.state();
        let response = match refusal {
            Refusal::Unauthorized => documents::error(401, "Bad credentials"),
            Refusal::Forbidden => documents::error(403, "Resource not accessible by personal access token"),
            Refusal::NotFound => documents::error(404, "Not Found"),
            Refusal::RateLimited(Wait::Reset(seconds)) => limits::primary(403, &state.now(), seconds),
            Refusal::TooManyRequests(Wait::Reset(seconds)) => limits::primary(429, &state.now(), seconds),
            Refusal::RateLimited(wait) => wait.mark(limits::secondary(403), state.now()),
            Refusal::TooManyRequests(wait) => wait.mark(limits::secondary(429), state.now()),
            Refusal::Failed(status) => documents::error(status, "Server Error"),
        };
        state.marked(response, api::DEFAULT_VERSION)
    }

    fn act(&self, act: &UserAction) -> Result<Vec<ProviderEvent>, String> {
        self.state().act(act)
    }

    fn deliveries(&self, repository: &str, provider_event: &ProviderEvent) -> Vec<Delivery> {
        self.state().deliveries(repository, provider_event)
    }

    fn pending(&self) -> Vec<Delivery> {
        std::mem::take(&mut self.state().pending)
    }

    fn delivered(&self, delivery: &Delivery, outcome: &Outcome) -> Option<Retry> {
        self.state().delivered(delivery, outcome);
        // GitHub records a failed delivery, does not send it again and does not disable the hook: providers-github-gitea.md, and
        // https://docs.github.com/en/webhooks/using-webhooks/handling-failed-webhook-deliveries
        None
    }
}

/// A document with the members of another.
fn with(mut document: Value, more: Value) -> Value {
    if let (Some(members), Value::Object(more)) = (document.as_object_mut(), more) {
        members.extend(more);
    }
    document
}

/// The list of errors in the refusal of a hook.
fn hook_error(message: &str) -> Value {
    json!([{"resource": "Hook", "code": "custom", "message": message}])
}
