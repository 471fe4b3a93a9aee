//! The contents of a repository, and the actions of people and git on them: the same at every provider.

use std::collections::BTreeMap;

use ring::digest;
use serde::{Deserialize, Serialize};

/// The object id that means "none".
pub const ZERO: &str = "0000000000000000000000000000000000000000";

/// A user's action. Also the body of a control endpoint, which has the action's name. `repository` is a path; branches and tags
/// have their short names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum UserAction {
    /// Pushes a commit to a branch, which is created if it does not exist.
    Push { repository: String, branch: String, message: String },
    /// Pushes a tag and moves an existing one.
    Tag { repository: String, name: String },
    /// Deletes a branch.
    DeleteBranch { repository: String, branch: String },
    /// Deletes a tag.
    DeleteTag { repository: String, name: String },
    /// Opens a pull request between two existing branches.
    OpenPullRequest { repository: String, source: String, target: String, title: String },
    /// Changes the title of a pull request. Subscribers of pull requests do not want this event.
    EditPullRequest { repository: String, number: u64, title: String },
    /// Merges a pull request.
    MergePullRequest { repository: String, number: u64 },
    /// Closes a pull request without merging it.
    ClosePullRequest { repository: String, number: u64 },
    /// Comments on a pull request.
    CommentOnPullRequest { repository: String, number: u64, text: String },
    /// Disables a hook in the provider's settings.
    PauseHook { repository: String, hook: String },
    /// Changes the target of a hook, in the provider's settings.
    RedirectHook { repository: String, hook: String, url: String },
    /// Changes the events of a hook to unwanted ones.
    ChangeHook { repository: String, hook: String },
    /// Creates a hook of somebody else.
    AddHook { repository: String, url: String },
    /// Deletes a hook in the provider's settings.
    RemoveHook { repository: String, hook: String },
    /// Creates a private repository with a commit on its branch `main`.
    CreateRepository { repository: String },
    /// Deletes a repository.
    DeleteRepository { repository: String },
    /// Changes the path of a repository; the provider redirects the former path as the real one does.
    RenameRepository { repository: String, to: String },
    /// Revokes a credential.
    RevokeToken { token: String },
}

impl UserAction {
    /// The repository of the action; `None` for actions on a credential.
    pub fn repository(&self) -> Option<&str> {
        match self {
            Self::Push { repository, .. }
            | Self::Tag { repository, .. }
            | Self::DeleteBranch { repository, .. }
            | Self::DeleteTag { repository, .. }
            | Self::OpenPullRequest { repository, .. }
            | Self::EditPullRequest { repository, .. }
            | Self::MergePullRequest { repository, .. }
            | Self::ClosePullRequest { repository, .. }
            | Self::CommentOnPullRequest { repository, .. }
            | Self::PauseHook { repository, .. }
            | Self::RedirectHook { repository, .. }
            | Self::ChangeHook { repository, .. }
            | Self::AddHook { repository, .. }
            | Self::RemoveHook { repository, .. }
            | Self::CreateRepository { repository }
            | Self::DeleteRepository { repository }
            | Self::RenameRepository { repository, .. } => Some(repository),
            Self::RevokeToken { .. } => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullRequestState {
    Open,
    Merged,
    /// It was closed without a merge.
    Closed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    pub number: u64,
    pub source: String,
    pub target: String,
    pub title: String,
    /// The commit at its source.
    pub head: String,
    pub state: PullRequestState,
}

/// A change of a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Opened,
    /// Its source moved from this commit.
    SourceMoved(String),
    Edited,
    /// It was merged by this commit.
    Merged(String),
    Closed,
    /// It got a comment with this text.
    Commented(String),
}

/// An event that hooks may deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderEvent {
    /// A branch or tag was created, moved or deleted.
    Reference {
        /// The full name.
        reference: String,
        /// The object before; `None` for a new reference.
        before: Option<String>,
        /// The object now; `None` for a deleted reference.
        after: Option<String>,
        message: String,
    },
    /// A pull request changed.
    PullRequest {
        /// The pull request after the change.
        pull_request: PullRequest,
        change: Change,
    },
}

/// The contents of a repository.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Objects by the full name of branches and tags.
    pub references: BTreeMap<String, String>,
    pub pull_requests: Vec<PullRequest>,
    commits: u64,
    seed: String,
}

impl Contents {
    /// Empty contents. The seed makes object ids differ between repositories.
    pub fn empty(seed: &str) -> Self {
        Self { seed: seed.to_owned(), ..Self::default() }
    }

    /// One commit on each of the branches; the first branch is the default.
    pub fn with_branches(seed: &str, branches: &[&str]) -> Self {
        let mut contents = Self::empty(seed);
        for branch in branches {
            let commit = contents.commit();
            contents.references.insert(format!("refs/heads/{branch}"), commit);
        }
        contents
    }

    pub fn is_empty(&self) -> bool {
        self.references.is_empty()
    }

    /// The short names of the branches.
    pub fn branches(&self) -> Vec<&str> {
        self.references.keys().filter_map(|name| name.strip_prefix("refs/heads/")).collect()
    }

    /// The head of a branch.
    pub fn branch(&self, name: &str) -> Option<&str> {
        self.references.get(&format!("refs/heads/{name}")).map(String::as_str)
    }

    fn commit(&mut self) -> String {
        self.commits += 1;
        let text = format!("{} {}", self.seed, self.commits);
        hex::encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
    }

    /// Performs an action of git or of a person, and returns the resulting events. Other actions than those on contents do
    /// nothing.
    ///
    /// # Errors
    ///
    /// Why it is impossible, for people.
    pub fn apply(&mut self, act: &UserAction) -> Result<Vec<ProviderEvent>, String> {
        match act {
            UserAction::Push { branch, message, .. } => Ok(self.push(branch, message)),
            UserAction::Tag { name, .. } => {
                let commit = self.commit();
                Ok(vec![self.moved(format!("refs/tags/{name}"), Some(commit), "")])
            }
            UserAction::DeleteBranch { branch, .. } => self.deleted(format!("refs/heads/{branch}")),
            UserAction::DeleteTag { name, .. } => self.deleted(format!("refs/tags/{name}")),
            UserAction::OpenPullRequest { source, target, title, .. } => self.opened(source, target, title),
            UserAction::EditPullRequest { number, title, .. } => {
                self.pull_request(*number)?.title.clone_from(title);
                self.changed(*number, Change::Edited)
            }
            UserAction::ClosePullRequest { number, .. } => {
                self.pull_request(*number)?.state = PullRequestState::Closed;
                self.changed(*number, Change::Closed)
            }
            UserAction::MergePullRequest { number, .. } => self.merged(*number),
            UserAction::CommentOnPullRequest { number, text, .. } => self.changed(*number, Change::Commented(text.clone())),
            _ => Ok(Vec::new()),
        }
    }

    fn push(&mut self, branch: &str, message: &str) -> Vec<ProviderEvent> {
        let commit = self.commit();
        let mut provider_events = vec![self.moved(format!("refs/heads/{branch}"), Some(commit.clone()), message)];
        for pull_request in &mut self.pull_requests {
            if pull_request.source == branch && pull_request.state == PullRequestState::Open {
                let before = std::mem::replace(&mut pull_request.head, commit.clone());
                provider_events
                    .push(ProviderEvent::PullRequest { pull_request: pull_request.clone(), change: Change::SourceMoved(before) });
            }
        }
        provider_events
    }

    fn moved(&mut self, reference: String, after: Option<String>, message: &str) -> ProviderEvent {
        let before = match &after {
            Some(after) => self.references.insert(reference.clone(), after.clone()),
            None => self.references.remove(&reference),
        };
        ProviderEvent::Reference { reference, before, after, message: message.to_owned() }
    }

    fn deleted(&mut self, reference: String) -> Result<Vec<ProviderEvent>, String> {
        if !self.references.contains_key(&reference) {
            return Err(format!("there is no {reference}"));
        }
        Ok(vec![self.moved(reference, None, "")])
    }

    fn opened(&mut self, source: &str, target: &str, title: &str) -> Result<Vec<ProviderEvent>, String> {
        let head = self.branch(source).ok_or_else(|| format!("there is no branch {source}"))?.to_owned();
        self.branch(target).ok_or_else(|| format!("there is no branch {target}"))?;
        let number = self.pull_requests.len() as u64 + 1;
        let (source, target, title) = (source.to_owned(), target.to_owned(), title.to_owned());
        self.pull_requests.push(PullRequest { number, source, target, title, head, state: PullRequestState::Open });
        self.changed(number, Change::Opened)
    }

    fn merged(&mut self, number: u64) -> Result<Vec<ProviderEvent>, String> {
        let pull_request = self.pull_request(number)?;
        pull_request.state = PullRequestState::Merged;
        let (target, message) = (pull_request.target.clone(), format!("Merge: {}", pull_request.title));
        let commit = self.commit();
        let mut provider_events = self.changed(number, Change::Merged(commit.clone()))?;
        provider_events.push(self.moved(format!("refs/heads/{target}"), Some(commit), &message));
        Ok(provider_events)
    }

    fn pull_request(&mut self, number: u64) -> Result<&mut PullRequest, String> {
        let found = self.pull_requests.iter_mut().find(|found| found.number == number);
        let found = found.ok_or_else(|| format!("there is no pull request {number}"))?;
        if found.state == PullRequestState::Open { Ok(found) } else { Err(format!("pull request {number} is not open")) }
    }

    fn changed(&self, number: u64, change: Change) -> Result<Vec<ProviderEvent>, String> {
        let found = self.pull_requests.iter().find(|found| found.number == number);
        let pull_request = found.cloned().ok_or_else(|| format!("there is no pull request {number}"))?;
        Ok(vec![ProviderEvent::PullRequest { pull_request, change }])
    }
}
