//! Verifies and reads deliveries from Bitbucket Cloud: `X-Hub-Signature` is `sha256=` and the hex HMAC-SHA256 of the body
//! ("Manage webhooks", "Event payloads").

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;

use crate::api::v1alpha1::EventKind;
use crate::protocol::secret::WebhookSecret;
use crate::providers::pull_request::PullRequestAction::{
    Classified, Closed, CommentChanged, Commented, Drafted, Edited, Merged, Opened, Ready, Retargeted, Reviewed, SourceMoved,
};
use crate::providers::pull_request::{self, ActionName};
use crate::providers::signature;
use crate::providers::webhook::{
    Change, Content, ContentError, DeliveryRules, Event, Rejection, Verified, Webhook, delivery_id, required_header,
};
use crate::text::json;

const SIGNATURE: &str = "x-hub-signature";
const DELIVERY: &str = "x-request-uuid";
const EVENT: &str = "x-event-key";
/// Prefix of the event keys of test deliveries.
const DIAGNOSTICS: &str = "diagnostics:";

/// Bitbucket Cloud's pull request actions: the event key. An update does not state what changed: it counts if the last
/// commit of the source branch, the target or the draft mark differs from the previous delivery. A changed draft mark
/// therefore counts as well. A declined pull request cannot be reopened.
const ACTIONS: &[ActionName] = &[
    ("pullrequest:created", Opened),
    ("pullrequest:updated", SourceMoved),
    ("pullrequest:push", SourceMoved),
    ("pullrequest:updated", Retargeted),
    ("pullrequest:updated", Ready),
    ("pullrequest:fulfilled", Merged),
    ("pullrequest:rejected", Closed),
    ("pullrequest:comment_created", Commented),
    ("pullrequest:updated", Drafted),
    ("pullrequest:updated", Edited),
    ("pullrequest:comment_updated", CommentChanged),
    ("pullrequest:comment_deleted", CommentChanged),
    ("pullrequest:comment_resolved", CommentChanged),
    ("pullrequest:comment_reopened", CommentChanged),
    ("pullrequest:approved", Reviewed),
    ("pullrequest:unapproved", Reviewed),
    ("pullrequest:changes_request_created", Reviewed),
    ("pullrequest:changes_request_removed", Reviewed),
    ("pullrequest:updated", Classified),
];

/// Verifies and reads deliveries from Bitbucket Cloud.
#[derive(Clone, Copy, Debug)]
pub struct BitbucketCloudWebhook;

impl Webhook for BitbucketCloudWebhook {
    fn rules(&self) -> DeliveryRules {
        DeliveryRules {
            // The sender skips deliveries over 256 KB ("Troubleshoot webhooks").
            body_limit: 1024 * 1024,
            // The sender times out after 10 s.
            secret_grace: Duration::from_secs(60 * 60),
            proof_in_header: false,
        }
    }

    fn verify<'a>(&self, secrets: &[WebhookSecret], headers: &'a HeaderMap, body: &'a [u8]) -> Result<Verified<'a>, Rejection> {
        let digest = signature::sha256_digest(signature::only_header(headers, SIGNATURE)?)?;
        let position = signature::hmac_sha256(secrets, body, &digest)?;
        Ok(Verified::new(headers, Cow::Borrowed(body), position))
    }

    fn read(&self, verified: &Verified<'_>) -> Result<Content, ContentError> {
        let headers = verified.headers();
        let key = required_header(headers, EVENT)?;
        let delivery_id = delivery_id(verified, DELIVERY, key);
        let body: Body = json::read(verified.payload())?;
        let ping = key.starts_with(DIAGNOSTICS);
        let events = if ping { Vec::new() } else { body.events(key)? };
        let (repository_id, repository_path) =
            body.repository.map(|repository| (repository.uuid, repository.full_name)).unwrap_or_default();
        Ok(Content { delivery_id, repository_id, repository_path, events, ping })
    }

    fn pull_request_actions(&self) -> &'static [ActionName] {
        ACTIONS
    }
}

/// Fields read from a body: the union of the documents that Bitbucket Cloud sends for the supported events.
#[derive(Deserialize)]
struct Body {
    repository: Option<RepositoryBody>,
    push: Option<PushBody>,
    pullrequest: Option<PullRequestBody>,
}

#[derive(Deserialize)]
struct RepositoryBody {
    uuid: Option<String>,
    full_name: Option<String>,
}

#[derive(Deserialize)]
struct PushBody {
    changes: Vec<ChangeBody>,
}

/// A new, moved or deleted branch or tag of a push.
#[derive(Deserialize)]
struct ChangeBody {
    old: Option<ReferenceBody>,
    new: Option<ReferenceBody>,
    #[serde(default)]
    created: bool,
    #[serde(default)]
    closed: bool,
}

#[derive(Deserialize)]
struct ReferenceBody {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    target: Option<CommitBody>,
}

#[derive(Deserialize)]
struct PullRequestBody {
    id: i64,
    state: Option<String>,
    #[serde(default)]
    draft: bool,
    source: EndBody,
    destination: EndBody,
}

/// The source or the target of a pull request. A deleted source branch has no commit.
#[derive(Deserialize)]
struct EndBody {
    branch: Option<BranchBody>,
    commit: Option<CommitBody>,
}

#[derive(Deserialize)]
struct BranchBody {
    name: String,
}

#[derive(Deserialize)]
struct CommitBody {
    hash: Option<String>,
}

impl Body {
    fn events(&self, key: &str) -> Result<Vec<Event>, ContentError> {
        if key == "repo:push" {
            let push = self.push.as_ref().ok_or_else(|| ContentError("a push without changes".into()))?;
            return Ok(push.changes.iter().filter_map(ChangeBody::event).collect());
        }
        let Some(kind) = pull_request::told_by(ACTIONS, key) else { return Ok(Vec::new()) };
        let pull_request = self.pullrequest.as_ref().ok_or_else(|| ContentError("an event of a pull request without one".into()))?;
        Ok(pull_request.event(kind).into_iter().collect())
    }
}

impl ChangeBody {
    fn event(&self) -> Option<Event> {
        let reference = self.new.as_ref().or(self.old.as_ref())?;
        let name = match reference.kind.as_str() {
            "branch" | "named_branch" => format!("refs/heads/{}", reference.name),
            "tag" | "annotated_tag" => format!("refs/tags/{}", reference.name),
            _ => return None,
        };
        let change = match (&self.old, &self.new) {
            (_, None) => Change::Deleted,
            _ if self.closed => Change::Deleted,
            (None, Some(_)) => Change::Created,
            _ if self.created => Change::Created,
            _ => Change::Updated,
        };
        let commit = self.new.as_ref().and_then(|reference| reference.target.as_ref()?.hash.as_deref());
        let before = self.old.as_ref().and_then(|reference| reference.target.as_ref()?.hash.as_deref());
        Event::of_reference(&name, change).map(|event| event.moved_from(before).at(commit))
    }
}

impl PullRequestBody {
    /// A new title, description or reviewer is also an update, with the same commit, target and draft mark as before, and
    /// so is any change of a merged or declined pull request.
    fn event(&self, kind: EventKind) -> Option<Event> {
        let target = self.destination.branch.as_ref().map(|branch| branch.name.as_str());
        let commit = self.source.commit.as_ref().and_then(|commit| commit.hash.as_deref());
        let event = Event::of_pull_request(kind, u64::try_from(self.id).ok(), target).at(commit);
        if kind != EventKind::PullRequest {
            return Some(event);
        }
        if self.state.as_deref().is_some_and(|state| state != "OPEN") {
            return None;
        }
        let Some(commit) = commit else { return Some(event) };
        let mark = if self.draft { "draft" } else { "ready" };
        Some(event.once(format!("pull request {}", self.id), format!("{commit} {} {mark}", target.unwrap_or_default())))
    }
}

#[cfg(test)]
mod tests;
