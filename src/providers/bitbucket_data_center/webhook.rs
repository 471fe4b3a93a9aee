//! Deliveries of Bitbucket Data Center: `X-Hub-Signature` is `sha256=` and the hex HMAC-SHA256 of the body.
//!
//! Documented on the pages "Event payload" and "Manage webhooks". The test that the settings page sends, `diagnostics:ping`, is
//! not signed even where the webhook has a secret.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::v1alpha1::EventKind;
use crate::json;
use crate::providers::signature;
use crate::providers::webhook::{
    Change, Content, ContentError, DeliveryRules, Event, Rejection, Verified, Webhook, WebhookSecret, header_text, required_header,
};

const SIGNATURE: &str = "x-hub-signature";
const DELIVERY: &str = "x-request-id";
const EVENT: &str = "x-event-key";
const PING: &str = "diagnostics:ping";
/// Bytes of a test at most.
const LONGEST_TEST: usize = 1024;

/// Reads deliveries of Bitbucket Data Center.
#[derive(Clone, Copy, Debug)]
pub struct BitbucketDataCenterWebhook;

impl Webhook for BitbucketDataCenterWebhook {
    fn rules(&self) -> DeliveryRules {
        DeliveryRules {
            body_limit: 10 * 1024 * 1024,
            // The sender gives up after 10 s, never tries again, and counts it towards skipping the webhook.
            answer_within: Duration::from_secs(9),
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
        let delivery_id = required_header(headers, DELIVERY)?.to_owned();
        let event = required_header(headers, EVENT)?;
        let body: Body = json::read(verified.payload())?;
        let events = body.events(event)?;
        let repository = body.pull_request.map(|pull_request| pull_request.target.repository).or(body.repository);
        let (repository_id, repository_path) = repository.map(RepositoryBody::identity).unzip();
        Ok(Content { delivery_id, repository_id, repository_path, events, ping: event == PING })
    }

    fn proof_headers(&self) -> &'static [&'static str] {
        &[SIGNATURE, "x-hub-signature-256", "authorization"]
    }
}

/// Whether a delivery is the documented test and nothing else.
fn is_unsigned_test(headers: &HeaderMap, body: &[u8]) -> bool {
    header_text(headers, EVENT) == Some(PING)
        && body.len() <= LONGEST_TEST
        && json::read::<Value>(body).is_ok_and(|body| body == json!({"test": true}))
}

/// What is read of a body: the union of the documents that are sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    repository: Option<RepositoryBody>,
    changes: Option<Vec<ChangeBody>>,
    pull_request: Option<PullRequestBody>,
}

#[derive(Deserialize)]
struct RepositoryBody {
    id: i64,
    slug: String,
    project: ProjectBody,
}

impl RepositoryBody {
    fn identity(self) -> (String, String) {
        (self.id.to_string(), format!("{}/{}", self.project.key, self.slug))
    }
}

#[derive(Deserialize)]
struct ProjectBody {
    key: String,
}

/// What a push did to one reference.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeBody {
    /// The full name.
    ref_id: String,
    from_hash: String,
    to_hash: String,
    #[serde(rename = "type")]
    kind: String,
}

impl ChangeBody {
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
struct PullRequestBody {
    /// Where it goes to, and whose webhooks tell of it. It may come from a fork.
    #[serde(rename = "toRef")]
    target: TargetBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetBody {
    display_id: String,
    repository: RepositoryBody,
}

impl Body {
    fn events(&self, event: &str) -> Result<Vec<Event>, ContentError> {
        let kind = match event {
            "repo:refs_changed" => return self.pushed(),
            "pr:opened" | "pr:from_ref_updated" => EventKind::PullRequest,
            "pr:merged" => EventKind::PullRequestMerged,
            "pr:declined" | "pr:deleted" => EventKind::PullRequestClosed,
            "pr:comment:added" => EventKind::PullRequestComment,
            _ => return Ok(Vec::new()),
        };
        let pull_request = self.pull_request.as_ref().ok_or_else(|| ContentError(format!("{event} without pullRequest")))?;
        Ok(vec![Event::of_pull_request(kind, Some(&pull_request.target.display_id))])
    }

    /// One event for each branch and tag, in the order of the push.
    fn pushed(&self) -> Result<Vec<Event>, ContentError> {
        let changes = self.changes.as_ref().ok_or_else(|| ContentError("repo:refs_changed without changes".into()))?;
        Ok(changes.iter().filter_map(|change| Event::of_reference(&change.ref_id, change.change())).collect())
    }
}

#[cfg(test)]
mod tests;
