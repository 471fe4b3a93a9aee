//! What is in a repository, and what people and git do to it: the same at every provider.

use std::collections::BTreeMap;

use ring::digest;
use serde::{Deserialize, Serialize};

/// The object id that stands for none.
pub const ZERO: &str = "0000000000000000000000000000000000000000";

/// What somebody does. Also the body of a control endpoint, which has the act's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum UserAction {
    /// Pushes a commit to a branch, which is made if it is not there.
    Push {
        /// Path of the repository.
        repository: String,
        /// Short name of the branch.
        branch: String,
        /// Message of the commit.
        message: String,
    },
    /// Pushes a tag; an existing one is moved.
    Tag {
        /// Path of the repository.
        repository: String,
        /// Short name of the tag.
        name: String,
    },
    /// Deletes a branch.
    DeleteBranch {
        /// Path of the repository.
        repository: String,
        /// Short name of the branch.
        branch: String,
    },
    /// Deletes a tag.
    DeleteTag {
        /// Path of the repository.
        repository: String,
        /// Short name of the tag.
        name: String,
    },
    /// Opens a pull request between two branches that are there.
    OpenPullRequest {
        /// Path of the repository.
        repository: String,
        /// Short name of the branch it comes from.
        source: String,
        /// Short name of the branch it goes to.
        target: String,
        /// Its title.
        title: String,
    },
    /// Changes the title of a pull request: nothing that a subscriber of pull requests asked for.
    EditPullRequest {
        /// Path of the repository.
        repository: String,
        /// Its number.
        number: u64,
        /// Its new title.
        title: String,
    },
    /// Merges a pull request.
    MergePullRequest {
        /// Path of the repository.
        repository: String,
        /// Its number.
        number: u64,
    },
    /// Closes a pull request without merging it.
    ClosePullRequest {
        /// Path of the repository.
        repository: String,
        /// Its number.
        number: u64,
    },
    /// Comments on a pull request.
    CommentOnPullRequest {
        /// Path of the repository.
        repository: String,
        /// Its number.
        number: u64,
        /// The comment.
        text: String,
    },
    /// Switches a hook off in the provider's settings.
    PauseHook {
        /// Path of the repository.
        repository: String,
        /// Id of the hook.
        hook: String,
    },
    /// Changes where a hook delivers to, in the provider's settings.
    RedirectHook {
        /// Path of the repository.
        repository: String,
        /// Id of the hook.
        hook: String,
        /// The new address.
        url: String,
    },
    /// Changes the events of a hook so that they are not what was wanted.
    ChangeHook {
        /// Path of the repository.
        repository: String,
        /// Id of the hook.
        hook: String,
    },
    /// Makes a hook of somebody else.
    AddHook {
        /// Path of the repository.
        repository: String,
        /// Where it delivers to.
        url: String,
    },
    /// Deletes a hook in the provider's settings.
    RemoveHook {
        /// Path of the repository.
        repository: String,
        /// Id of the hook.
        hook: String,
    },
    /// Gives a repository a new path; the provider follows the former one as the real one does.
    RenameRepository {
        /// Its path.
        repository: String,
        /// Its new path.
        to: String,
    },
    /// Ends a credential.
    RevokeToken {
        /// The token.
        token: String,
    },
}

impl UserAction {
    /// The repository that it is about; `None` for acts about a credential.
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
            | Self::RenameRepository { repository, .. } => Some(repository),
            Self::RevokeToken { .. } => None,
        }
    }
}

/// Whether a pull request is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullRequestState {
    /// It is.
    Open,
    /// It was merged.
    Merged,
    /// It was closed without a merge.
    Closed,
}

/// A pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    /// Its number.
    pub number: u64,
    /// Short name of the branch it comes from.
    pub source: String,
    /// Short name of the branch it goes to.
    pub target: String,
    /// Its title.
    pub title: String,
    /// The commit at its source.
    pub head: String,
    /// Whether it is open.
    pub state: PullRequestState,
}

/// What happened to a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was opened.
    Opened,
    /// Its source moved, from this commit.
    SourceMoved(String),
    /// Its title changed.
    Edited,
    /// It was merged, with this commit.
    Merged(String),
    /// It was closed.
    Closed,
    /// It got a comment with this text.
    Commented(String),
}

/// What a hook may be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderEvent {
    /// A branch or tag was made, moved or deleted.
    Reference {
        /// Its full name.
        reference: String,
        /// Where it was; `None` for a new one.
        before: Option<String>,
        /// Where it is; `None` for a deleted one.
        after: Option<String>,
        /// The message of the commit.
        message: String,
    },
    /// Something about a pull request.
    PullRequest {
        /// The pull request, as it is now.
        pull_request: PullRequest,
        /// What happened to it.
        change: Change,
    },
}

/// What is in a repository.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Objects by full name of branches and tags.
    pub references: BTreeMap<String, String>,
    /// Pull requests, the oldest first.
    pub pull_requests: Vec<PullRequest>,
    commits: u64,
    seed: String,
}

impl Contents {
    /// Nothing. The seed makes object ids differ between repositories.
    pub fn empty(seed: &str) -> Self {
        Self { seed: seed.to_owned(), ..Self::default() }
    }

    /// A commit on each of the branches, the first of which is meant as the default.
    pub fn with_branches(seed: &str, branches: &[&str]) -> Self {
        let mut contents = Self::empty(seed);
        for branch in branches {
            let commit = contents.commit();
            contents.references.insert(format!("refs/heads/{branch}"), commit);
        }
        contents
    }

    /// Whether there is no commit.
    pub fn is_empty(&self) -> bool {
        self.references.is_empty()
    }

    /// The short names of the branches.
    pub fn branches(&self) -> Vec<&str> {
        self.references.keys().filter_map(|name| name.strip_prefix("refs/heads/")).collect()
    }

    /// Where a branch is.
    pub fn branch(&self, name: &str) -> Option<&str> {
        self.references.get(&format!("refs/heads/{name}")).map(String::as_str)
    }

    fn commit(&mut self) -> String {
        self.commits += 1;
        let text = format!("{} {}", self.seed, self.commits);
        hex::encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
    }

    /// Does what git or a person does, and tells what happened by it. Acts that are not about the contents do nothing.
    ///
    /// # Errors
    ///
    /// What is in the way, for people.
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
