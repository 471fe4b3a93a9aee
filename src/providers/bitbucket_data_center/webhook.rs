//! Verifies and reads deliveries from Bitbucket Data Center: `X-Hub-Signature` is `sha256=` and the hex HMAC-SHA256 of the
//! body.
//!
//! Documented on the pages "Event payload" and "Manage webhooks". The test that the settings page sends,
//! `diagnostics:ping`, is not signed even if the webhook has a secret.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::protocol::secret::WebhookSecret;
use crate::providers::pull_request::PullRequestAction::{
    Administered, Classified, Closed, CommentChanged, Commented, Drafted, Edited, Merged, Opened, Ready, Reopened, Retargeted, Reviewed,
    SourceMoved,
};
use crate::providers::pull_request::{self, ActionName};
use crate::providers::webhook::{
    Change, Content, ContentError, DeliveryRules, Event, Rejection, Verified, Webhook, delivery_id, header_text, required_header,
};
use crate::providers::{lenient, signature};
use crate::text::json;

const SIGNATURE: &str = "x-hub-signature";
const DELIVERY: &str = "x-request-id";
const EVENT: &str = "x-event-key";
const PING: &str = "diagnostics:ping";
/// Maximum size of a test delivery in bytes.
const LONGEST_TEST: usize = 1024;

/// Bitbucket Data Center's pull request actions: the event key. Not every version supports every key: some refuse
/// `pr:reopened` and `pr:to_ref_updated` in a hook, so hooks never subscribe to them. They are still read if they are
/// delivered.
const ACTIONS: &[ActionName] = &[
    ("pr:opened", Opened),
    ("pr:reopened", Reopened),
    ("pr:from_ref_updated", SourceMoved),
    ("pr:modified (previousTarget)", Retargeted),
    ("pr:modified (draft)", Ready),
    ("pr:merged", Merged),
    ("pr:declined", Closed),
    ("pr:deleted", Closed),
    ("pr:comment:added", Commented),
    ("pr:modified", Drafted),
    ("pr:modified", Edited),
    ("pr:comment:edited", CommentChanged),
    ("pr:comment:deleted", CommentChanged),
    ("pr:reviewer:approved", Reviewed),
    ("pr:reviewer:unapproved", Reviewed),
    ("pr:reviewer:changes_requested", Reviewed),
    ("pr:reviewer:needs_work", Reviewed),
    ("pr:reviewer:updated", Classified),
    ("pr:to_ref_updated", Administered),
];

/// Verifies and reads deliveries from Bitbucket Data Center.
#[derive(Clone, Copy, Debug)]
pub struct BitbucketDataCenterWebhook;

impl Webhook for BitbucketDataCenterWebhook {
    fn rules(&self) -> DeliveryRules {
        DeliveryRules {
            body_limit: 10 * 1024 * 1024,
            // The sender times out after 10 s, does not retry, and counts the failure towards skipping the webhook.
            secret_grace: Duration::from_secs(60 * 60),
            proof_in_header: false,
        }
    }

    fn verify<'a>(&self, secrets: &[WebhookSecret], headers: &'a HeaderMap, body: &'a [u8]) -> Result<Verified<'a>, Rejection> {
        let value = match signature::only_header(headers, SIGNATURE) {
            Err(Rejection::ProofMissing) if is_unsigned_test(headers, body) => return Err(Rejection::UnsignedTest),
            value => value?,
        };
        let digest = signature::sha256_digest(value)?;
        let position = signature::hmac_sha256(secrets, body, &digest)?;
        Ok(Verified::new(headers, Cow::Borrowed(body), position))
    }

    fn read(&self, verified: &Verified<'_>) -> Result<Content, ContentError> {
        let headers = verified.headers();
        let event = required_header(headers, EVENT)?;
        let delivery_id = delivery_id(verified, DELIVERY, event);
        let body: Body = json::read(verified.payload())?;
        let events = body.events(event)?;
        let repository = body.pull_request.map(|pull_request| pull_request.target.repository).or(body.repository);
        let (repository_id, repository_path) = repository.map(RepositoryBody::identity).unwrap_or_default();
        Ok(Content { delivery_id, repository_id, repository_path, events, ping: event == PING })
    }

    fn pull_request_actions(&self) -> &'static [ActionName] {
        ACTIONS
    }
}

/// Whether a delivery is exactly the documented test.
fn is_unsigned_test(headers: &HeaderMap, body: &[u8]) -> bool {
    header_text(headers, EVENT) == Some(PING)
        && body.len() <= LONGEST_TEST
        && json::read::<Value>(body).is_ok_and(|body| body == json!({"test": true}))
}

/// Fields read from a body: the union of the documents that Bitbucket Data Center sends for the supported events.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    repository: Option<RepositoryBody>,
    changes: Option<Vec<ChangeBody>>,
    pull_request: Option<PullRequestBody>,
    /// Former values of a changed pull request, including those that did not change.
    previous_title: Option<String>,
    previous_description: Option<String>,
    previous_target: Option<ReferenceBody>,
}

#[derive(Deserialize)]
struct RepositoryBody {
    id: Option<i64>,
    slug: Option<String>,
    project: Option<ProjectBody>,
}

impl RepositoryBody {
    fn identity(self) -> (Option<String>, Option<String>) {
        let path = self.project.zip(self.slug).map(|(project, slug)| format!("{}/{slug}", project.key));
        (self.id.map(|id| id.to_string()), path)
    }
}

#[derive(Deserialize)]
struct ProjectBody {
    key: String,
}

/// The change of one reference in a push.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeBody {
    /// Full name of the reference.
    ref_id: String,
    from_hash: String,
    to_hash: String,
    #[serde(rename = "type")]
    kind: String,
}

impl ChangeBody {
    fn event(&self) -> Option<Event> {
        let event = Event::of_reference(&self.ref_id, self.change())?;
        Some(event.moved_from(Some(&self.from_hash)).at(Some(&self.to_hash)))
    }

    fn change(&self) -> Change {
        match self.kind.as_str() {
            "ADD" => Change::Created,
            "UPDATE" => Change::Updated,
            "DELETE" => Change::Deleted,
            _ => Change::between(&self.from_hash, &self.to_hash),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PullRequestBody {
    #[serde(default, deserialize_with = "lenient::number")]
    id: Option<u64>,
    title: Option<String>,
    description: Option<String>,
    /// Present since 8.18.
    draft: Option<bool>,
    from_ref: Option<SourceBody>,
    /// The target, whose webhooks report the pull request. The source may be in a fork.
    #[serde(rename = "toRef")]
    target: TargetBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SourceBody {
    latest_commit: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetBody {
    display_id: String,
    repository: RepositoryBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReferenceBody {
    display_id: String,
}

impl Body {
    fn events(&self, event: &str) -> Result<Vec<Event>, ContentError> {
        if event == "repo:refs_changed" {
            return self.pushed();
        }
        if !event.starts_with("pr:") {
            return Ok(Vec::new());
        }
        let request = self.pull_request.as_ref().ok_or_else(|| ContentError(format!("{event} without pullRequest")))?;
        let detail = if event == "pr:modified" { self.modification(request) } else { "" };
        let kind = pull_request::told_by(ACTIONS, &format!("{event}{detail}"));
        let commit = request.from_ref.as_ref().and_then(|source| source.latest_commit.as_deref());
        Ok(kind.map(|kind| Event::of_pull_request(kind, request.id, Some(&request.target.display_id)).at(commit)).into_iter().collect())
    }

    /// Returns what a modification of a pull request changed, as far as [`ACTIONS`] distinguishes it. The draft mark has no
    /// former value: it is what changed if nothing else did.
    fn modification(&self, request: &PullRequestBody) -> &'static str {
        let before = |text: &Option<String>| text.clone().unwrap_or_default();
        if self.previous_target.as_ref().is_some_and(|previous| previous.display_id != request.target.display_id) {
            return " (previousTarget)";
        }
        let same_words =
            before(&self.previous_title) == before(&request.title) && before(&self.previous_description) == before(&request.description);
        if same_words && request.draft == Some(false) { " (draft)" } else { "" }
    }

    /// Reads one event for each branch and tag, in the order of the push.
    fn pushed(&self) -> Result<Vec<Event>, ContentError> {
        let changes = self.changes.as_ref().ok_or_else(|| ContentError("repo:refs_changed without changes".into()))?;
        Ok(changes.iter().filter_map(ChangeBody::event).collect())
    }
}

#[cfg(test)]
mod tests;
