//! Verifies and reads deliveries from Gitea and Forgejo: `X-Gitea-Signature` is the bare hex HMAC-SHA256 of the JSON
//! document.
//!
//! The signature of a form delivery covers its decoded `payload` field, not the body. Decoding this field is the only step
//! before the verification.

use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;

use crate::protocol::secret::WebhookSecret;
use crate::providers::pull_request::PullRequestAction::{
    Classified, Closed, CommentChanged, Commented, Drafted, Edited, Merged, Opened, Ready, Reopened, Retargeted, Reviewed, SourceMoved,
};
use crate::providers::pull_request::{self, ActionName, is_draft_title};
use crate::providers::webhook::{
    Change, Content, ContentError, DeliveryRules, Event, Rejection, Verified, Webhook, delivery_id, document, header_text, required_header,
};
use crate::providers::{lenient, signature};
use crate::text::json;

const SIGNATURE: &str = "x-gitea-signature";
const DELIVERY: &str = "x-gitea-delivery";
const EVENT: &str = "x-gitea-event";
const EVENT_TYPE: &str = "x-gitea-event-type";

/// Gitea's and Forgejo's pull request actions: the event type and the action.
const ACTIONS: &[ActionName] = &[
    ("pull_request opened", Opened),
    ("pull_request reopened", Reopened),
    ("pull_request_sync synchronized", SourceMoved),
    // Before Gitea 1.15, events have no type.
    ("pull_request synchronized", SourceMoved),
    ("pull_request edited (changes.ref)", Retargeted),
    ("pull_request edited (draft prefix)", Ready),
    ("pull_request closed (merged)", Merged),
    ("pull_request closed", Closed),
    ("pull_request_comment created", Commented),
    ("pull_request_review_comment reviewed", Commented),
    ("pull_request_review_comment created", Commented),
    ("pull_request edited", Drafted),
    ("pull_request edited", Edited),
    ("pull_request_comment edited", CommentChanged),
    ("pull_request_comment deleted", CommentChanged),
    ("pull_request_review_approved reviewed", Reviewed),
    ("pull_request_review_rejected reviewed", Reviewed),
    ("pull_request_assign assigned", Classified),
    ("pull_request_assign unassigned", Classified),
    ("pull_request_label label_updated", Classified),
    ("pull_request_label label_cleared", Classified),
    ("pull_request_milestone milestoned", Classified),
    ("pull_request_milestone demilestoned", Classified),
    ("pull_request_review_request review_requested", Classified),
    ("pull_request_review_request review_request_removed", Classified),
];

/// Verifies and reads deliveries from Gitea and Forgejo.
#[derive(Clone, Copy, Debug)]
pub struct GiteaWebhook;

impl Webhook for GiteaWebhook {
    fn rules(&self) -> DeliveryRules {
        DeliveryRules {
            // The server has no limit of its own.
            body_limit: 25 * 1024 * 1024,
            // The sender times out after 5 s and does not retry.
            secret_grace: Duration::from_secs(60 * 60),
            proof_in_header: false,
        }
    }

    fn verify<'a>(&self, secrets: &[WebhookSecret], headers: &'a HeaderMap, body: &'a [u8]) -> Result<Verified<'a>, Rejection> {
        let digest = signature::digest(signature::only_header(headers, SIGNATURE)?.as_bytes())?;
        let payload = document(headers, body)?;
        let position = signature::hmac_sha256(secrets, &payload, &digest)?;
        Ok(Verified::new(headers, payload, position))
    }

    fn read(&self, verified: &Verified<'_>) -> Result<Content, ContentError> {
        let headers = verified.headers();
        let event = required_header(headers, EVENT)?;
        let delivery_id = delivery_id(verified, DELIVERY, event);
        // Absent before Gitea 1.15. The event is then used instead of the type.
        let event_type = header_text(headers, EVENT_TYPE).unwrap_or(event);
        let body: Body = json::read(verified.payload())?;
        let ping = event == "push" && body.is_test_push();
        let events = if ping { None } else { body.event(event, event_type)? };
        let (id, repository_path) = body.repository.map(|repository| (repository.id, repository.full_name)).unwrap_or_default();
        let repository_id = id.map(|id| id.to_string());
        Ok(Content { delivery_id, repository_id, repository_path, events: events.into_iter().collect(), ping })
    }

    fn pull_request_actions(&self) -> &'static [ActionName] {
        ACTIONS
    }
}

/// Fields read from a body: the union of the documents that Gitea sends for the supported events.
#[derive(Deserialize)]
struct Body {
    repository: Option<RepositoryBody>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    ref_type: Option<String>,
    before: Option<String>,
    after: Option<String>,
    action: Option<String>,
    changes: Option<Changes>,
    pull_request: Option<PullRequestBody>,
    issue: Option<IssueBody>,
    #[serde(default)]
    is_pull: bool,
}

#[derive(Deserialize)]
struct RepositoryBody {
    id: Option<i64>,
    full_name: Option<String>,
}

/// Fields that an edit changed, with their former values.
#[derive(Deserialize)]
struct Changes {
    #[serde(rename = "ref")]
    target: Option<Former>,
    title: Option<Former>,
}

#[derive(Deserialize)]
struct Former {
    #[serde(default)]
    from: String,
}

#[derive(Deserialize)]
struct PullRequestBody {
    #[serde(default, deserialize_with = "lenient::number")]
    number: Option<u64>,
    title: Option<String>,
    #[serde(default)]
    merged: bool,
    base: Option<EndBody>,
    head: Option<EndBody>,
}

/// The pull request that a general comment is about, as an issue.
#[derive(Deserialize)]
struct IssueBody {
    #[serde(default, deserialize_with = "lenient::number")]
    number: Option<u64>,
}

/// The source or the target of a pull request.
#[derive(Deserialize)]
struct EndBody {
    #[serde(rename = "ref")]
    name: String,
    sha: Option<String>,
}

impl Body {
    /// Whether it is a test delivery: the button `Test delivery` sends a push from a commit to itself.
    fn is_test_push(&self) -> bool {
        self.before.is_some() && self.before == self.after
    }

    fn event(&self, event: &str, event_type: &str) -> Result<Option<Event>, ContentError> {
        match (event, event_type) {
            ("push", _) => self.push(),
            // Deleted branches are reported only by `delete`, deleted tags also by `push`. New branches and tags are
            // reported by both `push` and `create`. Each change is counted once.
            ("delete", _) if self.ref_type.as_deref() == Some("branch") => self.deleted_branch().map(Some),
            ("issue_comment", _) if self.is_pull || event_type == "pull_request_comment" => {
                Ok(self.about_pull_request("pull_request_comment"))
            }
            ("pull_request_comment", _) => Ok(self.about_pull_request("pull_request_review_comment")),
            _ => Ok(self.about_pull_request(event_type)),
        }
    }

    fn push(&self) -> Result<Option<Event>, ContentError> {
        let (Some(reference), Some(before), Some(after)) = (&self.reference, &self.before, &self.after) else {
            return Err(ContentError("a push without ref, before and after".into()));
        };
        Ok(Event::of_reference(reference, Change::between(before, after)).map(|event| event.moved_from(Some(before)).at(Some(after))))
    }

    fn deleted_branch(&self) -> Result<Event, ContentError> {
        let name = self.reference.as_deref().ok_or_else(|| ContentError("a deletion without ref".into()))?;
        let reference = if name.starts_with("refs/heads/") { name.to_owned() } else { format!("refs/heads/{name}") };
        Event::of_reference(&reference, Change::Deleted).ok_or_else(|| ContentError("a deletion without a branch".into()))
    }

    /// In some versions a general comment on a pull request does not state the target branch.
    fn about_pull_request(&self, event_type: &str) -> Option<Event> {
        let kind = pull_request::told_by(ACTIONS, &self.action_name(event_type)?)?;
        let request = self.pull_request.as_ref();
        let target = request.and_then(|request| Some(request.base.as_ref()?.name.as_str()));
        let number = request.and_then(|request| request.number).or_else(|| self.issue.as_ref()?.number);
        Some(Event::of_pull_request(kind, number, target).at(request.and_then(|request| request.head.as_ref()?.sha.as_deref())))
    }

    /// Name of the action in [`ACTIONS`].
    fn action_name(&self, event_type: &str) -> Option<String> {
        let action = self.action.as_deref()?;
        let detail = match (event_type, action) {
            ("pull_request", "closed") if self.pull_request.as_ref()?.merged => " (merged)",
            ("pull_request", "edited") => self.edit(),
            _ => "",
        };
        Some(format!("{event_type} {action}{detail}"))
    }

    /// Returns what an edit changed, as far as [`ACTIONS`] distinguishes it.
    fn edit(&self) -> &'static str {
        let Some(changes) = &self.changes else { return "" };
        if changes.target.is_some() {
            return " (changes.ref)";
        }
        let title = self.pull_request.as_ref().and_then(|request| request.title.as_deref()).unwrap_or_default();
        let became_ready = changes.title.as_ref().is_some_and(|former| is_draft_title(&former.from) && !is_draft_title(title));
        if became_ready { " (draft prefix)" } else { "" }
    }
}

#[cfg(test)]
mod tests;
