//! The state of the simulator.

use super::super::clock::ProviderClock;
use super::super::contents::{Contents, ProviderEvent, UserAction};
use super::super::delivery::Delivery;
use super::super::message::Response;
use super::Release;
use super::accounts::{Caller, Holder, Level, Token, User};
use super::hooks::Hook;
use super::limit::Limit;

pub struct Project {
    pub key: String,
    pub id: u64,
    pub name: String,
}

pub struct Repository {
    pub id: u64,
    /// Key of its project.
    pub project: String,
    pub slug: String,
    pub name: String,
    pub public: bool,
    pub archived: bool,
    /// The configured default branch.
    pub default_branch: String,
    pub contents: Contents,
    pub hooks: Vec<Hook>,
}

impl Repository {
    /// `KEY/slug`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.project, self.slug)
    }
}

pub struct State {
    /// The address with the context path.
    pub web: String,
    pub users: Vec<User>,
    pub tokens: Vec<Token>,
    pub projects: Vec<Project>,
    pub repositories: Vec<Repository>,
    /// Deliveries that an answer caused.
    pub pending: Vec<Delivery>,
    /// The rate limit, if the administrator set one.
    pub limit: Option<Limit>,
    pub release: Release,
    pub clock: ProviderClock,
    next: u64,
}

impl State {
    /// The empty state.
    pub const fn new(web: String, clock: ProviderClock) -> Self {
        Self {
            web,
            users: Vec::new(),
            tokens: Vec::new(),
            projects: Vec::new(),
            repositories: Vec::new(),
            pending: Vec::new(),
            limit: None,
            release: Release::Current,
            clock,
            next: 0,
        }
    }

    /// A number that was not used before.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn add_project(&mut self, key: &str, name: &str) {
        let id = self.number();
        self.projects.push(Project { key: key.to_owned(), id, name: name.to_owned() });
    }

    /// A user with a personal project.
    pub fn add_user(&mut self, name: &str, password: &str) {
        let id = self.number();
        self.users.push(User { name: name.to_owned(), id, password: password.to_owned(), failed: 0, grants: Vec::new() });
        self.add_project(&format!("~{}", name.to_uppercase()), name);
    }

    pub fn grant(&mut self, user: &str, project: &str, level: Level) {
        let user = self.users.iter_mut().find(|found| found.name == user).unwrap();
        user.grants.push((project.to_owned(), level));
    }

    pub fn add_token(&mut self, text: &str, user: &str, project: Level, repository: Level) {
        self.tokens.push(Token { text: text.to_owned(), holder: Holder::User(user.to_owned()), project, repository });
    }

    pub fn add_project_token(&mut self, text: &str, key: &str, level: Level) {
        self.tokens.push(Token { text: text.to_owned(), holder: Holder::Project(key.to_owned()), project: level, repository: level });
    }

    pub fn add_repository_token(&mut self, text: &str, path: &str, level: Level) {
        let holder = Holder::Repository(self.repository(path).unwrap().id);
        self.tokens.push(Token { text: text.to_owned(), holder, project: Level::None, repository: level });
    }

    pub fn add_repository(&mut self, project: &str, slug: &str, branches: &[&str]) -> &mut Repository {
        let id = self.number() + 1000;
        self.repositories.push(Repository {
            id,
            project: project.to_owned(),
            slug: slug.to_owned(),
            name: slug.to_owned(),
            public: false,
            archived: false,
            default_branch: "main".to_owned(),
            contents: Contents::with_branches(&format!("{project}/{slug}"), branches),
            hooks: Vec::new(),
        });
        self.repositories.last_mut().unwrap()
    }

    /// A repository by its path, without regard to case.
    pub fn repository(&self, path: &str) -> Option<&Repository> {
        self.repositories.iter().find(|repository| repository.path().eq_ignore_ascii_case(path))
    }

    /// The same, to change it.
    pub fn repository_mut(&mut self, path: &str) -> Option<&mut Repository> {
        self.repositories.iter_mut().find(|repository| repository.path().eq_ignore_ascii_case(path))
    }

    pub fn project(&self, key: &str) -> Option<&Project> {
        self.projects.iter().find(|project| project.key.eq_ignore_ascii_case(key))
    }

    /// Adds the headers of every answer.
    pub fn marked(&mut self, response: Response, caller: &Caller) -> Response {
        let number = self.number();
        let response = response
            .with("x-arequestid", &format!("@1K7GQ2Vx{number}x{number}x0"))
            .with("cache-control", "private, no-cache, no-transform")
            .with("vary", "X-AUSERNAME,X-AUSERID,Cookie,Accept-Encoding")
            .with("x-content-type-options", "nosniff");
        match &caller.name {
            Some(name) => {
                let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string();
                response.with("x-asessionid", "1pvqicp").with("x-auserid", &caller.id.to_string()).with("x-ausername", &name)
            }
            None => response,
        }
    }

    /// Performs a user's action.
    pub fn act(&mut self, act: &UserAction) -> Result<Vec<ProviderEvent>, String> {
        if let UserAction::RevokeToken { token } = act {
            let before = self.tokens.len();
            self.tokens.retain(|found| found.text != *token);
            return if self.tokens.len() < before { Ok(Vec::new()) } else { Err("there is no such token".to_owned()) };
        }
        let number = self.number();
        let path = act.repository().unwrap_or_default();
        if let UserAction::CreateRepository { .. } = act {
            let (key, slug) = path.split_once('/').ok_or("a path is KEY/slug")?;
            let project = self.project(key).ok_or("there is no such project")?.key.clone();
            if self.repository(path).is_some() {
                return Err(format!("{path} is no free path"));
            }
            self.add_repository(&project, slug, &["main"]);
            return Ok(Vec::new());
        }
        let taken = matches!(act, UserAction::RenameRepository { to, .. } if self.repository(to).is_some());
        let repository = self.repository_mut(path).ok_or_else(|| format!("there is no repository {path}"))?;
        match act {
            UserAction::DeleteRepository { .. } => {
                self.repositories.retain(|found| !found.path().eq_ignore_ascii_case(path));
                Ok(Vec::new())
            }
            UserAction::RenameRepository { to, .. } => {
                let (project, slug) = to.split_once('/').filter(|_| !taken).ok_or_else(|| format!("{to} is no free path"))?;
                (repository.project, repository.slug) = (project.to_owned(), slug.to_owned());
                repository.name.clone_from(&repository.slug);
                Ok(Vec::new())
            }
            UserAction::AddHook { url, .. } => {
                repository.hooks.push(Hook::of_somebody_else(number, url));
                Ok(Vec::new())
            }
            UserAction::RemoveHook { hook, .. } => {
                let before = repository.hooks.len();
                repository.hooks.retain(|found| found.id.to_string() != *hook);
                if repository.hooks.len() < before { Ok(Vec::new()) } else { Err(format!("there is no webhook {hook}")) }
            }
            UserAction::PauseHook { hook, .. } | UserAction::RedirectHook { hook, .. } | UserAction::ChangeHook { hook, .. } => {
                let found = repository.hooks.iter_mut().find(|found| found.id.to_string() == *hook);
                let found = found.ok_or_else(|| format!("there is no webhook {hook}"))?;
                match act {
                    UserAction::PauseHook { .. } => found.active = false,
                    UserAction::RedirectHook { url, .. } => found.url.clone_from(url),
                    _ => found.events = vec!["repo:forked".to_owned()],
                }
                Ok(Vec::new())
            }
            _ if repository.archived => Err(format!("{path} is archived")),
            _ => repository.contents.apply(act),
        }
    }
}
