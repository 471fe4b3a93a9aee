//! Maps what can happen to a pull request to events: one table for all providers.
//!
//! Each provider's reader determines the provider's own name for a delivery's action and looks it up in the provider's list
//! ([`Webhook::pull_request_actions`](super::Webhook::pull_request_actions)). Only this module decides which event an action
//! becomes, so that all providers report the same actions.

use crate::api::v1alpha1::EventKind;

/// What can happen to a pull request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullRequestAction {
    /// It was created.
    Opened,
    /// It was closed and is open again.
    Reopened,
    /// Its source branch has other commits.
    SourceMoved,
    /// Its target is a different branch.
    Retargeted,
    /// It was a draft and no longer is.
    Ready,
    /// It was merged.
    Merged,
    /// It was closed, declined, abandoned or deleted without a merge.
    Closed,
    /// Somebody wrote a comment, or a review with text but without a verdict.
    Commented,
    /// It became a draft.
    Drafted,
    /// Its title or description changed.
    Edited,
    /// A comment was changed, deleted or resolved.
    CommentChanged,
    /// Somebody approved it, requested changes or voted, or withdrew one of these.
    Reviewed,
    /// Labels, milestone, assignees or reviewers changed.
    Classified,
    /// An action of the provider itself, or a change of who may write: merge queue, automatic or trial merge, lock, moved target
    /// branch.
    Administered,
}

/// A provider's own name of an action: the event, or the event and the action, and in parentheses the part of the delivery that
/// distinguishes it from others with the same name.
pub type ActionName = (&'static str, PullRequestAction);

impl PullRequestAction {
    /// Every action.
    pub const ALL: [Self; 14] = [
        Self::Opened,
        Self::Reopened,
        Self::SourceMoved,
        Self::Retargeted,
        Self::Ready,
        Self::Merged,
        Self::Closed,
        Self::Commented,
        Self::Drafted,
        Self::Edited,
        Self::CommentChanged,
        Self::Reviewed,
        Self::Classified,
        Self::Administered,
    ];

    /// The event that reports this action; `None` if nothing is sent.
    #[must_use]
    pub const fn event(self) -> Option<EventKind> {
        match self {
            Self::Opened | Self::Reopened | Self::SourceMoved | Self::Retargeted | Self::Ready => Some(EventKind::PullRequest),
            Self::Merged => Some(EventKind::PullRequestMerged),
            Self::Closed => Some(EventKind::PullRequestClosed),
            Self::Commented => Some(EventKind::PullRequestComment),
            Self::Drafted | Self::Edited | Self::CommentChanged | Self::Reviewed | Self::Classified | Self::Administered => None,
        }
    }

    /// A description of the action, for the documentation.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Reopened => "reopened",
            Self::SourceMoved => "source branch moved",
            Self::Retargeted => "target changed to another branch",
            Self::Ready => "draft marked as ready",
            Self::Merged => "merged",
            Self::Closed => "closed, declined, abandoned or deleted without a merge",
            Self::Commented => "new comment, or a review with a text and no verdict",
            Self::Drafted => "marked as a draft",
            Self::Edited => "title or description edited",
            Self::CommentChanged => "comment edited, deleted or resolved",
            Self::Reviewed => "approved, changes requested, a vote, or one of them taken back",
            Self::Classified => "labels, milestone, assignees or reviewers changed",
            Self::Administered => "merge queue, automatic or tried merge, lock, new commits in the target branch",
        }
    }
}

/// The event for an action, given by the provider's own name. The first entry with the name counts; an unlisted name has no
/// event.
pub(in crate::providers) fn told_by(actions: &[ActionName], name: &str) -> Option<EventKind> {
    actions.iter().find(|(known, _)| *known == name).and_then(|(_, action)| action.event())
}

/// Whether a title marks a draft, for providers that have no other mark. Case-insensitive.
pub(in crate::providers) fn is_draft_title(title: &str) -> bool {
    const PREFIXES: [&str; 5] = ["draft:", "[draft]", "(draft)", "wip:", "[wip]"];
    let title = title.trim_start();
    PREFIXES.iter().any(|prefix| title.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
}

#[cfg(test)]
mod tests;
