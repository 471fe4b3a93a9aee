//! The state of a simulated GitHub.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ring::digest;

use super::Release;
use super::accounts::{Installation, InstallationToken, Organization, Role, SimulatedApp, Token, User};
use super::hooks::Hook;
use super::limits::Limits;
use crate::sim::clock::ProviderClock;
use crate::sim::contents::{Contents, ProviderEvent, UserAction};
use crate::sim::delivery::Delivery;
use crate::sim::simulated_provider::Settings;

#[derive(Debug)]
pub struct Repository {
    pub id: u64,
    pub owner: String,
    pub name: String,
    /// Its former paths.
    pub former: Vec<String>,
    pub public: bool,
    pub archived: bool,
    pub topics: Vec<String>,
    pub contents: Contents,
    /// Roles by login; owners of its organization need none.
    pub collaborators: BTreeMap<String, Role>,
    pub hooks: Vec<Hook>,
}

impl Repository {
    pub fn path(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

#[derive(Debug)]
pub struct State {
    /// The web address without a trailing slash.
    pub web: String,
    pub allow_local_targets: bool,
    pub release: Release,
    pub users: Vec<User>,
    pub organizations: Vec<Organization>,
    pub tokens: Vec<Token>,
    pub app: SimulatedApp,
    pub installations: Vec<Installation>,
    pub installation_tokens: Vec<InstallationToken>,
    pub repositories: Vec<Repository>,
    pub limits: Limits,
    /// Deliveries that an answer caused.
    pub pending: Vec<Delivery>,
    ids: u64,
    started: Timestamp,
    clock: ProviderClock,
}

impl State {
    pub fn new(settings: Settings, release: Release) -> Self {
        let Settings { url: web, allow_local_targets, clock } = settings;
        Self {
            web,
            allow_local_targets,
            release,
            users: Vec::new(),
            organizations: Vec::new(),
            tokens: Vec::new(),
            app: SimulatedApp::default(),
            installations: Vec::new(),
            installation_tokens: Vec::new(),
            repositories: Vec::new(),
            limits: Limits::default(),
            pending: Vec::new(),
            ids: 0,
            started: clock.now(),
            clock,
        }
    }

    /// The address of the API.
    pub fn api_url(&self) -> String {
        format!("{}{}", self.web, self.release.prefix())
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Hex digits that no other simulator uses.
    pub fn digits(&mut self) -> String {
        let id = self.next_id();
        let text = format!("{} {} {id}", self.web, self.started.as_nanosecond());
        hex::encode(digest::digest(&digest::SHA256, text.as_bytes()))
    }

    pub fn guid(&mut self) -> String {
        let digits = self.digits();
        format!("{}-{}-11e3-8{}-{}", &digits[..8], &digits[8..12], &digits[15..18], &digits[18..30])
    }

    pub fn add_repository(&mut self, path: &str, branches: &[&str]) -> &mut Repository {
        let (id, (owner, name)) = (self.next_id(), path.split_once('/').unwrap());
        let contents = if branches.is_empty() { Contents::empty(path) } else { Contents::with_branches(path, branches) };
        self.repositories.push(Repository {
            id,
            owner: owner.to_owned(),
            name: name.to_owned(),
            former: Vec::new(),
            public: false,
            archived: false,
            topics: Vec::new(),
            contents,
            collaborators: BTreeMap::new(),
            hooks: Vec::new(),
        });
        self.repositories.last_mut().unwrap()
    }

    pub fn organization(&mut self, login: &str) -> Option<&mut Organization> {
        self.organizations.iter_mut().find(|found| found.login.eq_ignore_ascii_case(login))
    }

    pub fn installation_of(&mut self, account: &str) -> Option<&mut Installation> {
        self.installations.iter_mut().find(|found| found.account.eq_ignore_ascii_case(account))
    }

    /// A repository by its present path or a former one.
    pub fn repository_position(&self, path: &str) -> Option<usize> {
        let by = |fits: &dyn Fn(&Repository) -> bool| self.repositories.iter().position(fits);
        by(&|found| found.path().eq_ignore_ascii_case(path))
            .or_else(|| by(&|found| found.former.iter().any(|former| former.eq_ignore_ascii_case(path))))
    }

    /// A repository by its present path.
    pub fn repository_at(&mut self, path: &str) -> Result<&mut Repository, String> {
        let found = self.repositories.iter_mut().find(|found| found.path().eq_ignore_ascii_case(path));
        found.ok_or_else(|| format!("there is no repository {path}"))
    }

    pub fn hook_of(&mut self, repository: &str, hook: &str) -> Result<&mut Hook, String> {
        let found = self.repository_at(repository)?.hooks.iter_mut().find(|found| found.id.to_string() == hook);
        found.ok_or_else(|| format!("there is no hook {hook}"))
    }

    /// Performs a user's action.
    pub fn act(&mut self, act: &UserAction) -> Result<Vec<ProviderEvent>, String> {
        let now = self.now();
        match act {
            UserAction::RevokeToken { token } => {
                let before = self.tokens.len() + self.installation_tokens.len();
                self.tokens.retain(|found| found.value != *token);
                self.installation_tokens.retain(|found| found.value != *token);
                let found = self.tokens.len() + self.installation_tokens.len() < before;
                found.then(Vec::new).ok_or_else(|| "there is no such token".to_owned())
            }
            UserAction::PauseHook { repository, hook } => {
                let hook = self.hook_of(repository, hook)?;
                (hook.active, hook.updated_at) = (false, now);
                Ok(Vec::new())
            }
            UserAction::CreateRepository { repository } => {
                if self.repository_position(repository).is_some() || !repository.contains('/') {
                    return Err(format!("{repository} is no free path"));
                }
                self.add_repository(repository, &["main"]);
                Ok(Vec::new())
            }
            UserAction::DeleteRepository { repository } => {
                self.repository_at(repository)?;
                self.repositories.retain(|found| !found.path().eq_ignore_ascii_case(repository));
                Ok(Vec::new())
            }
            UserAction::RenameRepository { repository, to } => {
                let (owner, name) = to.split_once('/').ok_or("a path is owner/name")?;
                let found = self.repository_at(repository)?;
                let former = found.path();
                found.former.push(former);
                (found.owner, found.name) = (owner.to_owned(), name.to_owned());
                Ok(Vec::new())
            }
            UserAction::AddHook { repository, url } => {
                let id = self.next_id();
                self.repository_at(repository)?.hooks.push(Hook::of_somebody(id, url, "push", now));
                Ok(Vec::new())
            }
            UserAction::RedirectHook { repository, hook, url } => {
                self.hook_of(repository, hook)?.config.url.clone_from(url);
                Ok(Vec::new())
            }
            UserAction::ChangeHook { repository, hook } => {
                self.hook_of(repository, hook)?.events = ["issues".to_owned()].into();
                Ok(Vec::new())
            }
            UserAction::RemoveHook { repository, hook } => {
                self.hook_of(repository, hook)?;
                self.repository_at(repository)?.hooks.retain(|found| found.id.to_string() != *hook);
                Ok(Vec::new())
            }
            about_contents => {
                let repository = about_contents.repository().unwrap_or_default().to_owned();
                self.repository_at(&repository)?.contents.apply(about_contents)
            }
        }
    }
}
