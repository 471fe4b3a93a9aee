//! A simulated self-managed GitLab: users, personal, project and group access tokens, groups with subgroups, projects and their
//! hooks with secret and signing tokens, logs and automatic disabling, roles, rate limits and pages.

mod accounts;
mod api;
mod deliveries;
mod hooks;
mod limits;
mod pages;
mod projects;
pub mod seed;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forgebind::api::v1alpha1::ProviderKind;
use serde_json::{Value, json};

use self::state::State;
use super::contents::{ProviderEvent, UserAction};
use super::delivery::{Delivery, Outcome, Retry};
use super::git;
use super::message::{Request, Response};
use super::simulated_provider::{Refusal, SeedData, Settings, SimulatedProvider};

#[derive(Clone, Debug)]
pub struct Release {
    pub version: &'static str,
    /// Whether signing tokens are enabled.
    pub signing_tokens: bool,
}

impl Release {
    /// With every feature.
    pub const CURRENT: Self = Self { version: "19.1.2-ee", signing_tokens: true };
    /// With signing tokens disabled.
    pub const SWITCHED_OFF: Self = Self { version: "19.1.2-ee", signing_tokens: false };
    /// Before the introduction of signing tokens.
    pub const OLDER: Self = Self { version: "17.10.4-ee", signing_tokens: false };

    /// Whether it is this version or a later one.
    fn is_at_least(&self, version: (u32, u32)) -> bool {
        let mut parts = self.version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) >= version
    }

    /// Whether hooks show which secrets they have.
    fn has_signing_tokens(&self) -> bool {
        self.is_at_least((19, 0))
    }

    fn takes_signing_tokens(&self) -> bool {
        self.has_signing_tokens() && self.signing_tokens
    }

    fn document(&self) -> Value {
        json!({
            "version": self.version, "revision": "0123456789a", "enterprise": self.version.ends_with("-ee"),
            "kas": {"enabled": false, "externalUrl": null, "version": null},
        })
    }
}

/// The simulated GitLab. Clones share its state.
#[derive(Clone, Debug)]
pub struct SimulatedGitLab {
    state: Arc<Mutex<State>>,
    /// The prefix of its paths, without a trailing slash.
    prefix: &'static str,
}

/// The current release at the root of its host.
pub fn make(settings: Settings) -> Box<dyn SimulatedProvider> {
    Box::new(SimulatedGitLab::new(settings, Release::CURRENT, ""))
}

impl SimulatedGitLab {
    /// A release below a path prefix.
    pub fn new(settings: Settings, release: Release, prefix: &'static str) -> Self {
        let Settings { url, allow_local_targets, clock } = settings;
        let mut state = State::new(url + prefix, allow_local_targets, clock, release);
        seed::fill(&mut state);
        Self { state: Arc::new(Mutex::new(state)), prefix }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Upgrades it to a release.
    pub fn install(&self, release: Release) {
        self.state().release = release;
    }

    /// Limits the requests of a user in a minute.
    pub fn limit(&self, each_minute: u64) {
        self.state().limits.each_minute = each_minute;
    }

    /// The number of a group.
    pub fn group_number(&self, path: &str) -> u64 {
        self.state().group(path).unwrap().id
    }

    /// Adds a header and a URL variable to a hook.
    pub fn clutter(&self, repository: &str, hook: &str) {
        let mut state = self.state();
        let hook = state.hook_of(repository, hook).unwrap();
        hook.custom_headers.insert("X-Somebody".to_owned(), "canary".to_owned());
        hook.url_variables.insert("somebody".to_owned(), "canary".to_owned());
    }

    /// Whether a hook has a secret token, and whether it has a signing token.
    pub fn secrets(&self, repository: &str, hook: &str) -> (bool, bool) {
        let mut state = self.state();
        let hook = state.hook_of(repository, hook).unwrap();
        (hook.token.is_some(), hook.signing_key.is_some())
    }

    fn git(&self, segments: &[String], request: &Request) -> Response {
        let path = segments.join("/");
        let prefix = self.prefix.trim_matches('/');
        let path = path.strip_prefix(prefix).unwrap_or(&path).trim_start_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let state = self.state();
        let project = state.project_position(path).map(|position| &state.projects[position]);
        match (state.git_access(request, project), project) {
            (Err(refusal), _) => refusal,
            (Ok(()), Some(project)) => git::advertisement(&project.contents),
            (Ok(()), None) => Response::text(404, "text/plain; charset=utf-8", "not found\n"),
        }
    }
}

impl SimulatedProvider for SimulatedGitLab {
    fn kind(&self) -> ProviderKind {
        ProviderKind::GitLab
    }

    fn seed_data(&self) -> SeedData {
        seed::seed_data(&self.state())
    }

    fn api_path<'a>(&self, request: &'a Request) -> Option<&'a str> {
        request.path.strip_prefix(self.prefix)?.strip_prefix("/api/v4").filter(|path| path.starts_with('/'))
    }

    fn query(&self, request: &Request) -> Vec<(String, String)> {
        request.query.iter().filter(|(name, _)| !matches!(name.as_str(), "private_token" | "access_token")).cloned().collect()
    }

    fn answer(&self, request: &Request) -> Response {
        if let Some(path) = request.below(&format!("{}/api/v4", self.prefix)) {
            return self.state().api(request, &path);
        }
        match git::asked_for(request) {
            Some(segments) => self.git(&segments, request),
            None => Response::page(404, "The page could not be found or you don't have permission to view it."),
        }
    }

    fn refusal(&self, refusal: Refusal) -> Response {
        let message = |status: u16, words: &str| Response::json(status, &json!({"message": words}));
        match refusal {
            Refusal::Unauthorized => accounts::unauthorized(),
            Refusal::Forbidden => message(403, "403 Forbidden"),
            Refusal::NotFound => message(404, "404 Not found"),
            Refusal::RateLimited(wait) | Refusal::TooManyRequests(wait) => limits::refusal(wait, self.state().now()),
            Refusal::Failed(status) => message(status, &format!("{status} Internal Server Error")),
        }
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
        // GitLab counts a failed delivery and does not send it again: providers-gitlab-bitbucket-azure.md (`web_hook_service.rb`).
        None
    }
}
