//! Deliveries of Gitea and Forgejo: `X-Gitea-Signature` is the bare hex HMAC-SHA256 of the JSON document.
//!
//! A form delivery is signed over its decoded `payload` field, not over the body: decoding that one field is the only
//! step that comes before the proof.

use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;

use crate::api::v1alpha1::EventKind;
use crate::json;
use crate::providers::signature;
use crate::providers::webhook::{
    Change, Content, ContentError, DeliveryRules, Event, Rejection, Verified, Webhook, WebhookSecret, document, header_text,
    required_header,
};

const SIGNATURE: &str = "x-gitea-signature";
const DELIVERY: &str = "x-gitea-delivery";
const EVENT: &str = "x-gitea-event";
const EVENT_TYPE: &str = "x-gitea-event-type";

/// Reads deliveries of Gitea and Forgejo.
#[derive(Clone, Copy, Debug)]
pub struct GiteaWebhook;

impl Webhook for GiteaWebhook {
    fn rules(&self) -> DeliveryRules {
        DeliveryRules {
            body_limit: 10 * 1024 * 1024,
            // The sender gives up after 5 s and never tries again.
            answer_within: Duration::from_secs(4),
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
        let delivery_id = required_header(headers, DELIVERY)?.to_owned();
        let event = required_header(headers, EVENT)?;
        // Absent before Gitea 1.15; then the event is all there is.
        let event_type = header_text(headers, EVENT_TYPE).unwrap_or(event);
        let body: Body = json::read(verified.payload())?;
        let ping = event == "push" && body.is_test_push();
        let events = if ping { None } else { body.event(event, event_type)? };
        let (repository_id, repository_path) = body.repository.map(|repository| (repository.id.to_string(), repository.full_name)).unzip();
        Ok(Content { delivery_id, repository_id, repository_path, events: events.into_iter().collect(), ping })
    }

    fn proof_headers(&self) -> &'static [&'static str] {
        &[SIGNATURE, "x-forgejo-signature", "x-gogs-signature", "x-hub-signature", "x-hub-signature-256", "authorization"]
    }
}

/// What is read of a body: the union of the documents that Gitea sends.
#[derive(Deserialize)]
struct Body {
    repository: Option<RepositoryBody>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    ref_type: Option<String>,
    before: Option<String>,
    after: Option<String>,
    action: Option<String>,
    pull_request: Option<PullRequestBody>,
    #[serde(default)]
    is_pull: bool,
}

#[derive(Deserialize)]
struct RepositoryBody {
    id: i64,
    full_name: String,
}

#[derive(Deserialize)]
struct PullRequestBody {
    #[serde(default)]
    merged: bool,
    base: Option<BranchBody>,
}

#[derive(Deserialize)]
struct BranchBody {
    #[serde(rename = "ref")]
    name: String,
}

impl Body {
    /// The button `Test delivery` sends a push that goes nowhere: from a commit to itself.
    fn is_test_push(&self) -> bool {
        self.before.is_some() && self.before == self.after
    }

    fn event(&self, event: &str, event_type: &str) -> Result<Option<Event>, ContentError> {
        match (event, event_type) {
            ("push", _) => self.push(),
            // A branch that goes away is told by `delete` alone, a tag by `push` as well; a new one of either by `push` as
            // well as `create`. Each is counted once.
            ("delete", _) if self.ref_type.as_deref() == Some("branch") => self.deleted_branch().map(Some),
            ("pull_request", "pull_request" | "pull_request_sync") => Ok(self.pull_request()),
            ("issue_comment", _) if self.is_pull || event_type == "pull_request_comment" => Ok(self.comment("created")),
            ("pull_request_comment", _) => Ok(self.comment("reviewed").or_else(|| self.comment("created"))),
            _ => Ok(None),
        }
    }

    fn push(&self) -> Result<Option<Event>, ContentError> {
        let (Some(reference), Some(before), Some(after)) = (&self.reference, &self.before, &self.after) else {
            return Err(ContentError("a push without ref, before and after".into()));
        };
        Ok(Event::of_reference(reference, Change::between(before, after)))
    }

    fn deleted_branch(&self) -> Result<Event, ContentError> {
        let name = self.reference.as_deref().ok_or_else(|| ContentError("a deletion without ref".into()))?;
        let reference = if name.starts_with("refs/heads/") { name.to_owned() } else { format!("refs/heads/{name}") };
        Ok(Event { kind: EventKind::Push, reference: Some(reference), change: Change::Deleted, once: None })
    }

    fn pull_request(&self) -> Option<Event> {
        let kind = match self.action.as_deref()? {
            "opened" | "reopened" | "synchronized" => EventKind::PullRequest,
            "closed" if self.pull_request.as_ref()?.merged => EventKind::PullRequestMerged,
            "closed" => EventKind::PullRequestClosed,
            _ => return None,
        };
        Some(Event::of_pull_request(kind, self.target()))
    }

    fn comment(&self, action: &str) -> Option<Event> {
        let fits = self.action.as_deref() == Some(action);
        fits.then(|| Event::of_pull_request(EventKind::PullRequestComment, self.target()))
    }

    /// The branch that the pull request goes to.
    fn target(&self) -> Option<&str> {
        self.pull_request.as_ref()?.base.as_ref().map(|base| base.name.as_str())
    }
}

#[cfg(test)]
mod tests;
