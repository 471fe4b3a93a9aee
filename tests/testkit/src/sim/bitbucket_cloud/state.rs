//! The state of the simulator.

use super::super::clock::ProviderClock;
use super::super::contents::{Contents, ProviderEvent, UserAction};
use super::super::simulated_provider::Settings;
use super::hooks::Hook;
use super::limit::{HOURLY, Limit};

pub struct User {
    pub name: String,
    pub email: String,
    pub uuid: String,
}

/// The owner of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A user's, by name: an API token.
    User(String),
    /// An access token of the repository with this uuid.
    Repository(String),
    /// An access token of a project, by workspace and key.
    Project(String, String),
    /// An access token of a workspace.
    Workspace(String),
}

pub struct Token {
    pub text: String,
    pub holder: Holder,
    pub scopes: Vec<String>,
}

/// A permission for a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Cannot see it.
    None,
    Read,
    /// Can push to it.
    Write,
    /// Can change its settings.
    Admin,
}

/// A workspace and its members.
pub struct Workspace {
    pub slug: String,
    pub uuid: String,
    pub members: Vec<(String, Level)>,
    pub projects: Vec<Project>,
}

pub struct Project {
    pub key: String,
    pub uuid: String,
}

pub struct Repository {
    pub uuid: String,
    pub workspace: String,
    /// Key of its project.
    pub project: String,
    pub slug: String,
    pub private: bool,
    /// Its number in order of creation.
    pub number: usize,
    pub contents: Contents,
    pub hooks: Vec<Hook>,
}

impl Repository {
    /// `workspace/slug`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.workspace, self.slug)
    }
}

pub struct State {
    pub url: String,
    pub allow_local_targets: bool,
    pub clock: ProviderClock,
    pub users: Vec<User>,
    pub tokens: Vec<Token>,
    pub workspaces: Vec<Workspace>,
    pub repositories: Vec<Repository>,
    pub limit: Limit,
    /// References that were pushed together and share one delivery.
    pub together: Vec<Vec<ProviderEvent>>,
    next: u64,
}

impl State {
    /// The empty state.
    pub fn new(settings: Settings) -> Self {
        Self {
            url: settings.url,
            allow_local_targets: settings.allow_local_targets,
            clock: settings.clock,
            users: Vec::new(),
            tokens: Vec::new(),
            workspaces: Vec::new(),
            repositories: Vec::new(),
            limit: Limit::new(HOURLY),
            together: Vec::new(),
            next: 0,
        }
    }

    /// A uuid that was not used before, without braces.
    pub fn bare_uuid(&mut self) -> String {
        self.next += 1;
        format!("5f0a2a3c-33c1-4d5e-8f3a-{:012x}", self.next)
    }

    /// The same in the form of the API.
    pub fn uuid(&mut self) -> String {
        format!("{{{}}}", self.bare_uuid())
    }

    pub fn add_user(&mut self, name: &str, email: &str) {
        let uuid = self.uuid();
        self.users.push(User { name: name.to_owned(), email: email.to_owned(), uuid });
    }

    pub fn add_workspace(&mut self, slug: &str, projects: &[&str]) {
        let uuid = self.uuid();
        let projects = projects.iter().map(|key| Project { key: (*key).to_owned(), uuid: self.uuid() }).collect();
        self.workspaces.push(Workspace { slug: slug.to_owned(), uuid, members: Vec::new(), projects });
    }

    pub fn add_member(&mut self, user: &str, workspace: &str, level: Level) {
        let workspace = self.workspaces.iter_mut().find(|found| found.slug == workspace).unwrap();
        workspace.members.push((user.to_owned(), level));
    }

    pub fn add_token(&mut self, text: &str, holder: Holder, scopes: &[&str]) {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        self.tokens.push(Token { text: text.to_owned(), holder, scopes });
    }

    /// A private repository.
    pub fn add_repository(&mut self, workspace: &str, project: &str, slug: &str, branches: &[&str]) -> &mut Repository {
        let (uuid, number) = (self.uuid(), self.repositories.len());
        self.repositories.push(Repository {
            uuid,
            workspace: workspace.to_owned(),
            project: project.to_owned(),
            slug: slug.to_owned(),
            private: true,
            number,
            contents: Contents::with_branches(&format!("{workspace}/{slug}"), branches),
            hooks: Vec::new(),
        });
        self.repositories.last_mut().unwrap()
    }

    /// A workspace by its slug or its uuid.
    pub fn workspace(&self, name: &str) -> Option<&Workspace> {
        self.workspaces.iter().find(|found| found.slug.eq_ignore_ascii_case(name) || found.uuid == name)
    }

    /// A repository by workspace and slug, or by its uuid. A former slug does not redirect to the present one.
    pub fn repository(&self, workspace: &str, name: &str) -> Option<&Repository> {
        let workspace = &self.workspace(workspace)?.slug;
        let mut repositories = self.repositories.iter().filter(|found| found.workspace == *workspace);
        repositories.find(|found| found.slug.eq_ignore_ascii_case(name) || found.uuid == name)
    }

    /// A repository by its path.
    pub fn at(&mut self, path: &str) -> Option<&mut Repository> {
        self.repositories.iter_mut().find(|found| found.path().eq_ignore_ascii_case(path))
    }

    /// Performs a user's action.
    pub fn act(&mut self, act: &UserAction) -> Result<Vec<ProviderEvent>, String> {
        if let UserAction::RevokeToken { token } = act {
            let before = self.tokens.len();
            self.tokens.retain(|found| found.text != *token);
            return if self.tokens.len() < before { Ok(Vec::new()) } else { Err("there is no such token".to_owned()) };
        }
        let uuid = self.uuid();
        let path = act.repository().unwrap_or_default();
        if let UserAction::CreateRepository { .. } = act {
            let (workspace, slug) = path.split_once('/').ok_or("a path is workspace/slug")?;
            let project =
                self.workspace(workspace).and_then(|found| found.projects.first()).ok_or("there is no such workspace")?.key.clone();
            if self.at(path).is_some() {
                return Err(format!("{path} is no free path"));
            }
            self.add_repository(workspace, &project, slug, &["main"]);
            return Ok(Vec::new());
        }
        let taken = matches!(act, UserAction::RenameRepository { to, .. } if self.at(to).is_some());
        let repository = self.at(path).ok_or_else(|| format!("there is no repository {path}"))?;
        match act {
            UserAction::DeleteRepository { .. } => {
                self.repositories.retain(|found| !found.path().eq_ignore_ascii_case(path));
                Ok(Vec::new())
            }
            UserAction::Push { branch, .. } if branch.contains(' ') => {
                let provider_events = pushed_together(repository, act, branch)?;
                let references = provider_events.iter().filter(|provider_event| matches!(provider_event, ProviderEvent::Reference { .. }));
                let together = references.cloned().collect();
                self.together.push(together);
                Ok(provider_events)
            }
            UserAction::RenameRepository { to, .. } => {
                let (workspace, slug) = to.split_once('/').filter(|_| !taken).ok_or_else(|| format!("{to} is no free path"))?;
                (repository.workspace, repository.slug) = (workspace.to_owned(), slug.to_owned());
                Ok(Vec::new())
            }
            UserAction::AddHook { url, .. } => {
                repository.hooks.push(Hook::of_somebody_else(uuid, url));
                Ok(Vec::new())
            }
            UserAction::RemoveHook { hook, .. } => {
                let before = repository.hooks.len();
                repository.hooks.retain(|found| found.uuid != *hook);
                if repository.hooks.len() < before { Ok(Vec::new()) } else { Err(format!("there is no webhook {hook}")) }
            }
            UserAction::PauseHook { hook, .. } | UserAction::RedirectHook { hook, .. } | UserAction::ChangeHook { hook, .. } => {
                let found = repository.hooks.iter_mut().find(|found| found.uuid == *hook);
                let found = found.ok_or_else(|| format!("there is no webhook {hook}"))?;
                match act {
                    UserAction::PauseHook { .. } => found.active = false,
                    UserAction::RedirectHook { url, .. } => found.url.clone_from(url),
                    _ => found.events = vec!["repo:fork".to_owned()],
                }
                Ok(Vec::new())
            }
            _ => repository.contents.apply(act),
        }
    }
}

/// Pushes several branches at once. Branch names contain no space.
fn pushed_together(repository: &mut Repository, act: &UserAction, branches: &str) -> Result<Vec<ProviderEvent>, String> {
    let UserAction::Push { repository: path, message, .. } = act else { return Ok(Vec::new()) };
    let mut provider_events = Vec::new();
    for branch in branches.split_whitespace() {
        let push = UserAction::Push { repository: path.clone(), branch: branch.to_owned(), message: message.clone() };
        provider_events.extend(repository.contents.apply(&push)?);
    }
    Ok(provider_events)
}
