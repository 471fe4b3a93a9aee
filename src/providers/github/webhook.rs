//! Verifies and reads deliveries from GitHub: `X-Hub-Signature-256` is `sha256=` and the hex HMAC-SHA256 of the body as it
//! was sent, even if the body is a form.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::protocol::secret::WebhookSecret;
use crate::providers::pull_request::PullRequestAction::{
    Administered, Classified, Closed, CommentChanged, Commented, Drafted, Edited, Merged, Opened, Ready, Reopened, Retargeted, Reviewed,
    SourceMoved,
};
use crate::providers::pull_request::{self, ActionName};
use crate::providers::webhook::{
    Change, Content, ContentError, DeliveryRules, Event, Rejection, Verified, Webhook, delivery_id, document, required_header,
};
use crate::providers::{lenient, signature};
use crate::text::json;

const SIGNATURE: &str = "x-hub-signature-256";
const DELIVERY: &str = "x-github-delivery";
const EVENT: &str = "x-github-event";

/// GitHub's pull request actions: the event and its action.
const ACTIONS: &[ActionName] = &[
    ("pull_request opened", Opened),
    ("pull_request reopened", Reopened),
    ("pull_request synchronize", SourceMoved),
    ("pull_request edited (base)", Retargeted),
    ("pull_request ready_for_review", Ready),
    ("pull_request closed (merged)", Merged),
    ("pull_request closed", Closed),
    ("issue_comment created", Commented),
    ("pull_request_review_comment created", Commented),
    ("pull_request_review submitted (commented)", Commented),
    ("pull_request converted_to_draft", Drafted),
    ("pull_request edited", Edited),
    ("issue_comment edited", CommentChanged),
    ("issue_comment deleted", CommentChanged),
    ("issue_comment pinned", CommentChanged),
    ("issue_comment unpinned", CommentChanged),
    ("pull_request_review_comment edited", CommentChanged),
    ("pull_request_review_comment deleted", CommentChanged),
    ("pull_request_review edited", CommentChanged),
    ("pull_request_review submitted", Reviewed),
    ("pull_request_review dismissed", Reviewed),
    ("pull_request assigned", Classified),
    ("pull_request unassigned", Classified),
    ("pull_request labeled", Classified),
    ("pull_request unlabeled", Classified),
    ("pull_request milestoned", Classified),
    ("pull_request demilestoned", Classified),
    ("pull_request review_requested", Classified),
    ("pull_request review_request_removed", Classified),
    ("pull_request auto_merge_enabled", Administered),
    ("pull_request auto_merge_disabled", Administered),
    ("pull_request enqueued", Administered),
    ("pull_request dequeued", Administered),
    ("pull_request locked", Administered),
    ("pull_request unlocked", Administered),
    ("pull_request_review_thread resolved", CommentChanged),
    ("pull_request_review_thread unresolved", CommentChanged),
];

/// Verifies and reads deliveries from GitHub.
#[derive(Clone, Copy, Debug)]
pub struct GitHubWebhook;

impl Webhook for GitHubWebhook {
    fn rules(&self) -> DeliveryRules {
        DeliveryRules {
            // The sender skips larger deliveries.
            body_limit: 25 * 1024 * 1024,
            // The sender times out after 10 s and does not retry.
            // A delivery can be resent for three days.
            secret_grace: Duration::from_secs(72 * 60 * 60),
            proof_in_header: false,
        }
    }

    fn verify<'a>(&self, secrets: &[WebhookSecret], headers: &'a HeaderMap, body: &'a [u8]) -> Result<Verified<'a>, Rejection> {
        let digest = signature::sha256_digest(signature::only_header(headers, SIGNATURE)?)?;
        let secret = signature::hmac_sha256(secrets, body, &digest)?;
        let payload: Cow<'a, [u8]> = document(headers, body)?;
        Ok(Verified::new(headers, payload, secret))
    }

    fn read(&self, verified: &Verified<'_>) -> Result<Content, ContentError> {
        let headers = verified.headers();
        let event = required_header(headers, EVENT)?;
        let body: Body = json::read(verified.payload())?;
        let events = body.event(event)?.into_iter().collect();
        let delivery_id = delivery_id(verified, DELIVERY, event);
        let (id, repository_path) = body.repository.map(|repository| (repository.id, repository.full_name)).unwrap_or_default();
        Ok(Content { delivery_id, repository_id: id.map(|id| id.to_string()), repository_path, events, ping: event == "ping" })
    }

    fn pull_request_actions(&self) -> &'static [ActionName] {
        ACTIONS
    }
}

/// Fields read from a body: the union of the documents that GitHub sends for the supported events.
#[derive(Deserialize)]
struct Body {
    repository: Option<RepositoryBody>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    before: Option<String>,
    after: Option<String>,
    action: Option<String>,
    changes: Option<Changes>,
    pull_request: Option<PullRequestBody>,
    review: Option<ReviewBody>,
    issue: Option<IssueBody>,
}

#[derive(Deserialize)]
struct RepositoryBody {
    id: Option<i64>,
    full_name: Option<String>,
}

/// Fields that an edit changed.
#[derive(Deserialize)]
struct Changes {
    base: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct PullRequestBody {
    #[serde(default, deserialize_with = "lenient::number")]
    number: Option<u64>,
    #[serde(default)]
    merged: bool,
    base: Option<EndBody>,
    head: Option<EndBody>,
}

/// The source or the target of a pull request.
#[derive(Deserialize)]
struct EndBody {
    #[serde(rename = "ref")]
    name: String,
    sha: Option<String>,
}

#[derive(Deserialize)]
struct ReviewBody {
    state: Option<String>,
    body: Option<String>,
}

impl ReviewBody {
    /// Whether it is a general comment. A review that only holds comments on lines has no text, and each of those comments
    /// is delivered separately.
    fn is_comment(&self) -> bool {
        self.state.as_deref() == Some("commented") && self.body.as_deref().is_some_and(|text| !text.is_empty())
    }
}

/// A pull request is also an issue, which is marked as such by this field.
#[derive(Deserialize)]
struct IssueBody {
    #[serde(default, deserialize_with = "lenient::number")]
    number: Option<u64>,
    pull_request: Option<IgnoredAny>,
}

impl Body {
    fn event(&self, event: &str) -> Result<Option<Event>, ContentError> {
        match event {
            "push" => self.push(),
            "issue_comment" if self.issue.as_ref().is_none_or(|issue| issue.pull_request.is_none()) => Ok(None),
            _ => Ok(self.about_pull_request(event)),
        }
    }

    /// Reads new, moved and deleted branches and tags.
    fn push(&self) -> Result<Option<Event>, ContentError> {
        let (Some(reference), Some(before), Some(after)) = (&self.reference, &self.before, &self.after) else {
            return Err(ContentError("a push without ref, before and after".into()));
        };
        Ok(Event::of_reference(reference, Change::between(before, after)).map(|event| event.moved_from(Some(before)).at(Some(after))))
    }

    /// A general comment on a pull request states neither the target branch nor a commit. All other events state both.
    fn about_pull_request(&self, event: &str) -> Option<Event> {
        let kind = pull_request::told_by(ACTIONS, &self.action_name(event)?)?;
        let target = self.pull_request.as_ref().and_then(|request| request.base.as_ref()).map(|base| base.name.as_str());
        let commit = self.pull_request.as_ref().and_then(|request| request.head.as_ref()?.sha.as_deref());
        let number = self.pull_request.as_ref().and_then(|request| request.number).or_else(|| self.issue.as_ref()?.number);
        Some(Event::of_pull_request(kind, number, target).at(commit))
    }

    /// Name of the action in [`ACTIONS`].
    fn action_name(&self, event: &str) -> Option<String> {
        let action = self.action.as_deref()?;
        let detail = match (event, action) {
            ("pull_request", "closed") if self.pull_request.as_ref()?.merged => " (merged)",
            ("pull_request", "edited") if self.changes.as_ref().is_some_and(|changes| changes.base.is_some()) => " (base)",
            ("pull_request_review", "submitted") if self.review.as_ref().is_some_and(ReviewBody::is_comment) => " (commented)",
            _ => "",
        };
        Some(format!("{event} {action}{detail}"))
    }
}

#[cfg(test)]
mod tests;
