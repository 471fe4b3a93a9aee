//! The state of a simulated GitLab.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ring::digest;

use super::Release;
use super::accounts::{Token, User};
use super::hooks::Hook;
use super::limits::Limits;
use crate::sim::clock::ProviderClock;
use crate::sim::contents::{Contents, ProviderEvent, UserAction};
use crate::sim::delivery::Delivery;

/// The limit of hooks of a project on gitlab.com, and the default elsewhere.
pub const HOOK_LIMIT: usize = 100;

/// A group, by its full path.
#[derive(Clone, Debug)]
pub struct Group {
    pub id: u64,
    pub path: String,
    pub private: bool,
    /// Access levels by user id.
    pub members: BTreeMap<u64, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    Public,
    Internal,
    Private,
}

impl Visibility {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Private => "private",
        }
    }
}

#[derive(Debug)]
pub struct Project {
    pub id: u64,
    pub path: String,
    /// Its former paths.
    pub former: Vec<String>,
    pub visibility: Visibility,
    pub archived: bool,
    pub topics: Vec<String>,
    pub contents: Contents,
    pub members: BTreeMap<u64, u64>,
    /// Invited groups, with the maximum role of their members.
    pub invited: Vec<(String, u64)>,
    pub hooks: Vec<Hook>,
    pub hook_limit: usize,
}

#[derive(Debug)]
pub struct State {
    /// The address with the path prefix, without a trailing slash.
    pub web: String,
    pub allow_local_targets: bool,
    pub release: Release,
    pub users: Vec<User>,
    pub tokens: Vec<Token>,
    pub groups: Vec<Group>,
    pub projects: Vec<Project>,
    pub limits: Limits,
    /// Deliveries that an answer caused.
    pub pending: Vec<Delivery>,
    ids: u64,
    started: Timestamp,
    clock: ProviderClock,
}

impl State {
    pub fn new(web: String, allow_local_targets: bool, clock: ProviderClock, release: Release) -> Self {
        Self {
            web,
            allow_local_targets,
            release,
            users: Vec::new(),
            tokens: Vec::new(),
            groups: Vec::new(),
            projects: Vec::new(),
            limits: Limits::default(),
            pending: Vec::new(),
            ids: 0,
            started: clock.now(),
            clock,
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// A UUID that no other simulator uses.
    pub fn uuid(&mut self) -> String {
        let number = self.next_id();
        let text = format!("{} {} {number}", self.web, self.started.as_nanosecond());
        let digits = hex::encode(digest::digest(&digest::SHA256, text.as_bytes()));
        format!("{}-{}-4{}-8{}-{}", &digits[..8], &digits[8..12], &digits[12..15], &digits[15..18], &digits[18..30])
    }

    pub fn add_group(&mut self, path: &str, private: bool, members: &[(u64, u64)]) -> u64 {
        let id = self.next_id();
        self.groups.push(Group { id, path: path.to_owned(), private, members: members.iter().copied().collect() });
        id
    }

    pub fn add_project(&mut self, path: &str, branches: &[&str]) -> &mut Project {
        let id = self.next_id();
        let contents = if branches.is_empty() { Contents::empty(path) } else { Contents::with_branches(path, branches) };
        self.projects.push(Project {
            id,
            path: path.to_owned(),
            former: Vec::new(),
            visibility: Visibility::Private,
            archived: false,
            topics: Vec::new(),
            contents,
            members: BTreeMap::new(),
            invited: Vec::new(),
            hooks: Vec::new(),
            hook_limit: HOOK_LIMIT,
        });
        self.projects.last_mut().unwrap()
    }

    /// A group by its number or its path.
    pub fn group(&self, key: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.path.eq_ignore_ascii_case(key) || group.id.to_string() == key)
    }

    /// A project by its number, its path or a former path.
    pub fn project_position(&self, key: &str) -> Option<usize> {
        let by = |fits: &dyn Fn(&Project) -> bool| self.projects.iter().position(fits);
        by(&|project| project.id.to_string() == key)
            .or_else(|| by(&|project| project.path.eq_ignore_ascii_case(key)))
            .or_else(|| by(&|project| project.former.iter().any(|former| former.eq_ignore_ascii_case(key))))
    }

    /// A project by its present path.
    pub fn project_at(&mut self, path: &str) -> Result<&mut Project, String> {
        let found = self.projects.iter_mut().find(|project| project.path.eq_ignore_ascii_case(path));
        found.ok_or_else(|| format!("there is no project {path}"))
    }

    /// Performs a user's action.
    pub fn act(&mut self, act: &UserAction) -> Result<Vec<ProviderEvent>, String> {
        match act {
            UserAction::RevokeToken { token } => {
                let found = self.tokens.iter_mut().find(|found| found.value == *token);
                found.ok_or("there is no such token")?.revoked = true;
                Ok(Vec::new())
            }
            UserAction::PauseHook { .. } => Err("GitLab has no switch for a project's hook".to_owned()),
            UserAction::CreateRepository { repository } => {
                if self.project_position(repository).is_some() || !repository.contains('/') {
                    return Err(format!("{repository} is no free path"));
                }
                self.add_project(repository, &["main"]);
                Ok(Vec::new())
            }
            UserAction::DeleteRepository { repository } => {
                self.project_at(repository)?;
                self.projects.retain(|project| !project.path.eq_ignore_ascii_case(repository));
                Ok(Vec::new())
            }
            UserAction::RenameRepository { repository, to } => {
                let project = self.project_at(repository)?;
                let former = std::mem::replace(&mut project.path, to.clone());
                project.former.push(former);
                Ok(Vec::new())
            }
            UserAction::AddHook { repository, url } => {
                let (id, now) = (self.next_id(), self.now());
                let uuid = self.uuid();
                self.project_at(repository)?.hooks.push(Hook::of_somebody(id, uuid, url, now));
                Ok(Vec::new())
            }
            UserAction::RedirectHook { repository, hook, url } => {
                self.hook_of(repository, hook)?.redirect(url);
                Ok(Vec::new())
            }
            UserAction::ChangeHook { repository, hook } => {
                let hook = self.hook_of(repository, hook)?;
                for event in ["push_events", "issues_events"] {
                    let on = hook.events.entry(event.to_owned()).or_default();
                    *on = !*on;
                }
                Ok(Vec::new())
            }
            UserAction::RemoveHook { repository, hook } => {
                self.hook_of(repository, hook)?;
                self.project_at(repository)?.hooks.retain(|found| found.id.to_string() != *hook);
                Ok(Vec::new())
            }
            about_contents => {
                let repository = about_contents.repository().unwrap_or_default().to_owned();
                self.project_at(&repository)?.contents.apply(about_contents)
            }
        }
    }

    pub fn hook_of(&mut self, repository: &str, hook: &str) -> Result<&mut Hook, String> {
        let found = self.project_at(repository)?.hooks.iter_mut().find(|found| found.id.to_string() == hook);
        found.ok_or_else(|| format!("there is no hook {hook}"))
    }
}
