//! A simulated Azure DevOps: an organization of Services or a collection of a Server, with tokens and their scopes, the
//! permissions to view, edit and delete subscriptions, subscriptions with their states, retries and probation, and the
//! notifications that they sent.

mod api;
mod deliveries;
mod documents;
mod errors;
mod hooks;
mod locations;
pub mod state;

use std::sync::{Mutex, MutexGuard, PoisonError};

use forgebind::api::v1alpha1::ProviderKind;
use serde_json::json;

use super::{Delivery, Outcome, ProviderEvent, Refusal, Request, Response, Retry, SeedData, Settings, SimulatedProvider, UserAction, Wait};
use documents::Documents;
use state::{ADMINISTRATOR, CROWD, ORGANIZATION, OTHER_PROJECT, PROJECT, State};

/// The newest version of the REST API.
const NEWEST: &str = "7.1";

/// The simulated provider.
pub struct AzureDevOps {
    settings: Settings,
    state: Mutex<State>,
}

/// A new simulator.
pub fn make(settings: Settings) -> Box<dyn SimulatedProvider> {
    with_version(settings, NEWEST, true)
}

/// A Server 2022 before its first update.
pub fn make_older(settings: Settings) -> Box<dyn SimulatedProvider> {
    with_version(settings, "7.0", false)
}

fn with_version(settings: Settings, newest: &'static str, is_hosted: bool) -> Box<dyn SimulatedProvider> {
    let state = Mutex::new(State { is_hosted, ..State::new(newest, settings.allow_local_targets, settings.clock.clone()) });
    Box::new(AzureDevOps { settings, state })
}

impl AzureDevOps {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn documents(&self) -> Documents<'_> {
        Documents { url: &self.settings.url, now: documents::time(self.settings.clock.now()) }
    }
}

impl SimulatedProvider for AzureDevOps {
    fn kind(&self) -> ProviderKind {
        ProviderKind::AzureDevOps
    }

    fn seed_data(&self) -> SeedData {
        let url = &self.settings.url;
        let host = url.trim_start_matches("http://");
        let plain_host = host.split(':').next().unwrap_or_default();
        let path = |name: &str| format!("{PROJECT}/{name}");
        let token = |token: &str| vec![("token", token.to_owned())];
        let notes = [
            format!("Token for all organizations: {}", state::TOKEN_FOR_ALL),
            format!("Token that may read code alone: {}", state::CODE_TOKEN),
            format!("Token without the scope for code: {}", state::TOKEN_WITHOUT_CODE),
            format!("Token that ended: {}", state::EXPIRED_TOKEN),
            format!("Token of somebody who may view and edit subscriptions, and not delete them: {}", state::EDITORS_TOKEN),
            format!("Generated login for git alone: username={} password={}", state::GIT_USER, state::GIT_PASSWORD),
        ];
        SeedData {
            account: ADMINISTRATOR.to_owned(),
            provider: json!({"azureDevOps": {"organization": ORGANIZATION, "project": PROJECT, "url": url}}),
            credential: token(state::TOKEN),
            rejected: token("simulated-token-that-was-never-issued-zzzzzzzzzzzzzzz"),
            reader: token(state::READERS_TOKEN),
            repository: path("web"),
            other: path("worker"),
            empty: path("empty"),
            public: None,
            outside: format!("{OTHER_PROJECT}/scripts"),
            outsider: token(state::STRANGERS_TOKEN),
            spellings: vec![
                "My%20Shop/web".to_owned(),
                format!("{url}/{ORGANIZATION}/My%20Shop/_git/web"),
                format!("http://{ORGANIZATION}@{host}/{ORGANIZATION}/My%20Shop/_git/web/branches"),
                format!("ssh://{plain_host}:22/{ORGANIZATION}/My%20Shop/_git/web"),
            ],
            branch: "release/1.0".to_owned(),
            archived: Some(path("attic")),
            renamed: (path("old name"), path("new name")),
            crowded: (path("busy"), CROWD),
            repositories: self.state().length(),
            has_pages: false,
            tells_version: true,
            can_pause: true,
            notes: notes.to_vec(),
        }
    }

    fn api_path<'a>(&self, request: &'a Request) -> Option<&'a str> {
        api::is_described(request).then_some(request.path.as_str())
    }

    /// Official clients send the version in the Accept header.
    fn query(&self, request: &Request) -> Vec<(String, String)> {
        let named = api::parameter(request, "api-version").is_none().then(|| api::accepted_version(request)).flatten();
        let version = named.map(|version| ("api-version".to_owned(), version.to_owned()));
        request.query.iter().cloned().chain(version).collect()
    }

    fn answer(&self, request: &Request) -> Response {
        api::answer(&mut self.state(), &self.documents(), request)
    }

    fn refusal(&self, refusal: Refusal) -> Response {
        let now = self.settings.clock.now();
        let limited = |wait: Wait| {
            let message = "TF400733: The request has been canceled: Request was blocked due to exceeding usage of resource 'Concurrency'.";
            let response = errors::refused(429, "RequestBlockedException", message).with("x-ratelimit-resource", "Concurrency");
            let response = match wait {
                Wait::Reset(seconds) => {
                    let reset = now.as_second() + i64::try_from(seconds).unwrap_or_default();
                    response.with("x-ratelimit-remaining", "0").with("x-ratelimit-reset", &reset.to_string())
                }
                _ => response,
            };
            wait.mark(response, now)
        };
        match refusal {
            Refusal::Unauthorized => errors::unauthorized(),
            Refusal::Forbidden => errors::forbidden(ADMINISTRATOR, "View subscriptions"),
            Refusal::NotFound => errors::no_repository("web"),
            Refusal::RateLimited(wait) | Refusal::TooManyRequests(wait) => limited(wait),
            Refusal::Failed(status) => errors::refused(status, "Exception", "TF246017: Azure DevOps could not complete the operation."),
        }
    }

    fn act(&self, act: &UserAction) -> Result<Vec<ProviderEvent>, String> {
        let mut state = self.state();
        if let UserAction::RevokeToken { token } = act {
            state.revoke(token);
            return Ok(Vec::new());
        }
        let path = act.repository().unwrap_or_default();
        if let UserAction::CreateRepository { .. } = act {
            let (project, name) = path.split_once('/').ok_or("a path is Project/repository")?;
            let project = state.project(project).ok_or("there is no such project")?.name.clone();
            if state.by_path(path).is_some() {
                return Err(format!("{path} is no free path"));
            }
            state.add(&project, name, &["main"]);
            return Ok(Vec::new());
        }
        let repository = state.by_path(path).ok_or_else(|| format!("there is no repository {path}"))?;
        let provider_events = repository.contents.apply(act)?;
        let (id, project) = (repository.id.clone(), repository.project.clone());
        match act {
            UserAction::RenameRepository { to, .. } => {
                to.split_once('/').map_or(to.as_str(), |(_, name)| name).clone_into(&mut repository.name);
            }
            UserAction::DeleteRepository { .. } => state.repositories.retain(|found| found.id != id),
            UserAction::AddHook { url, .. } => state.add_foreign_to(&project, &id, url),
            UserAction::RemoveHook { hook, .. } => state.subscriptions.retain(|found| found.id != *hook),
            UserAction::PauseHook { hook, .. } => state.change(hook, |found| found.status = "disabledByUser")?,
            UserAction::RedirectHook { hook, url, .. } => state.change(hook, |found| found.set("consumerInputs", "url", url))?,
            UserAction::ChangeHook { hook, .. } => state.change(hook, |found| found.set("publisherInputs", "branch", "somewhere-else"))?,
            _ => {}
        }
        Ok(provider_events)
    }

    fn deliveries(&self, repository: &str, provider_event: &ProviderEvent) -> Vec<Delivery> {
        deliveries::made(&mut self.state(), &self.documents(), repository, provider_event)
    }

    fn delivered(&self, delivery: &Delivery, outcome: &Outcome) -> Option<Retry> {
        deliveries::judged(&mut self.state(), delivery, outcome)
    }

    fn still_retries(&self, retry: &Delivery) -> bool {
        deliveries::still_retries(&mut self.state(), retry)
    }
}
