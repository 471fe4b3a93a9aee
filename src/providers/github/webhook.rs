//! Deliveries of GitHub: `X-Hub-Signature-256` is `sha256=` and the hex HMAC-SHA256 of the body as it was sent, also where
//! the body is a form.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::api::v1alpha1::EventKind;
use crate::json;
use crate::providers::signature;
use crate::providers::webhook::{
    Change, Content, ContentError, DeliveryRules, Event, Rejection, Verified, Webhook, WebhookSecret, document, required_header,
};

const SIGNATURE: &str = "x-hub-signature-256";
const DELIVERY: &str = "x-github-delivery";
const EVENT: &str = "x-github-event";

/// Reads deliveries of GitHub.
#[derive(Clone, Copy, Debug)]
pub struct GitHubWebhook;

impl Webhook for GitHubWebhook {
    fn rules(&self) -> DeliveryRules {
        DeliveryRules {
            // Larger ones are not sent at all.
            body_limit: 25 * 1024 * 1024,
            // The sender gives up after 10 s and does not try again.
            answer_within: Duration::from_secs(9),
            // A delivery can be sent again for three days.
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
        let delivery_id = required_header(headers, DELIVERY)?.to_owned();
        let event = required_header(headers, EVENT)?;
        let body: Body = json::read(verified.payload())?;
        let events = body.event(event)?.into_iter().collect();
        let (repository_id, repository_path) = body.repository.map(|repository| (repository.id.to_string(), repository.full_name)).unzip();
        Ok(Content { delivery_id, repository_id, repository_path, events, ping: event == "ping" })
    }

    fn proof_headers(&self) -> &'static [&'static str] {
        &[SIGNATURE, "x-hub-signature", "authorization"]
    }
}

/// What is read of a body: the union of the documents that GitHub sends for our events.
#[derive(Deserialize)]
struct Body {
    repository: Option<RepositoryBody>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    before: Option<String>,
    after: Option<String>,
    action: Option<String>,
    pull_request: Option<PullRequestBody>,
    issue: Option<IssueBody>,
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

/// A pull request is an issue too, and says so.
#[derive(Deserialize)]
struct IssueBody {
    pull_request: Option<IgnoredAny>,
}

impl Body {
    fn event(&self, event: &str) -> Result<Option<Event>, ContentError> {
        match event {
            "push" => self.push(),
            "pull_request" => Ok(self.pull_request()),
            "issue_comment" if self.issue.as_ref().is_some_and(|issue| issue.pull_request.is_some()) => Ok(self.comment()),
            "pull_request_review_comment" => Ok(self.comment()),
            _ => Ok(None),
        }
    }

    /// New, moved and deleted branches and tags.
    fn push(&self) -> Result<Option<Event>, ContentError> {
        let (Some(reference), Some(before), Some(after)) = (&self.reference, &self.before, &self.after) else {
            return Err(ContentError("a push without ref, before and after".into()));
        };
        Ok(Event::of_reference(reference, Change::between(before, after)))
    }

    fn pull_request(&self) -> Option<Event> {
        let kind = match self.action.as_deref()? {
            "opened" | "reopened" | "ready_for_review" | "synchronize" => EventKind::PullRequest,
            "closed" if self.pull_request.as_ref()?.merged => EventKind::PullRequestMerged,
            "closed" => EventKind::PullRequestClosed,
            _ => return None,
        };
        Some(Event::of_pull_request(kind, self.target()))
    }

    /// The comment on a pull request as a whole does not tell the branch that it goes to; the one on a line of it does.
    fn comment(&self) -> Option<Event> {
        let fits = self.action.as_deref() == Some("created");
        fits.then(|| Event::of_pull_request(EventKind::PullRequestComment, self.target()))
    }

    fn target(&self) -> Option<&str> {
        self.pull_request.as_ref()?.base.as_ref().map(|base| base.name.as_str())
    }
}

#[cfg(test)]
mod tests;
