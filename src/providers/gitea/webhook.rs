//! Deliveries of Gitea and Forgejo: `X-Gitea-Signature` is the bare hex HMAC-SHA256 of the JSON document.
//!
//! A form delivery is signed over its decoded `payload` field, not over the body: decoding that one field is the only
//! step that comes before the proof.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use ring::hmac;
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use crate::api::v1alpha1::EventKind;
use crate::providers::webhook::{Change, Content, ContentError, DeliveryRules, Event, Rejection, Verified, Webhook, WebhookSecret};

const SIGNATURE: &str = "x-gitea-signature";
const DELIVERY: &str = "x-gitea-delivery";
const EVENT: &str = "x-gitea-event";
const EVENT_TYPE: &str = "x-gitea-event-type";
/// Bytes of an HMAC-SHA256.
const DIGEST_LENGTH: usize = 32;

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
        let digest = digest(headers)?;
        let payload = payload(headers, body)?;
        let mut proven = None;
        // Every secret is tried, so that the time taken does not tell which of them is right.
        for (position, secret) in secrets.iter().enumerate() {
            let text = secret.text();
            let key = hmac::Key::new(hmac::HMAC_SHA256, text.expose_secret().as_bytes());
            let right = hmac::verify(&key, &payload, &digest).is_ok();
            // Anyone can sign with an empty secret.
            if right && !text.expose_secret().is_empty() && proven.is_none() {
                proven = Some(position);
            }
        }
        proven.map(|position| Verified::new(headers, payload, position)).ok_or(Rejection::ProofWrong)
    }

    fn read(&self, verified: &Verified<'_>) -> Result<Content, ContentError> {
        let headers = verified.headers();
        let delivery_id = required(headers, DELIVERY)?.to_owned();
        let event = required(headers, EVENT)?;
        // Absent before Gitea 1.15; then the event is all there is.
        let event_type = text(headers, EVENT_TYPE).unwrap_or(event);
        let body: Body = serde_json::from_slice(verified.payload()).map_err(|error| ContentError(error.to_string()))?;
        let ping = event == "push" && body.is_test_push();
        let events = if ping { None } else { body.event(event, event_type)? };
        let (repository_id, repository_path) = body.repository.map(|repository| (repository.id.to_string(), repository.full_name)).unzip();
        Ok(Content { delivery_id, repository_id, repository_path, events: events.into_iter().collect(), ping })
    }

    fn proof_headers(&self) -> &'static [&'static str] {
        &[SIGNATURE, "x-forgejo-signature", "x-gogs-signature", "x-hub-signature", "x-hub-signature-256", "authorization"]
    }
}

/// The one digest that the headers hold. A hook without a secret sends the header with nothing in it.
fn digest(headers: &HeaderMap) -> Result<[u8; DIGEST_LENGTH], Rejection> {
    let mut values = headers.get_all(SIGNATURE).iter();
    let value = values.next().ok_or(Rejection::ProofMissing)?;
    if value.is_empty() {
        return Err(Rejection::ProofMissing);
    }
    if values.next().is_some() {
        return Err(Rejection::ProofWrong);
    }
    let mut digest = [0; DIGEST_LENGTH];
    hex::decode_to_slice(value.as_bytes(), &mut digest).map_err(|_| Rejection::ProofWrong)?;
    Ok(digest)
}

/// What was signed: the body, or the one `payload` field of a form.
fn payload<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Cow<'a, [u8]>, Rejection> {
    let content_type = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
        return Ok(Cow::Borrowed(body));
    }
    let mut fields = url::form_urlencoded::parse(body).filter(|(name, _)| name == "payload").map(|(_, value)| value);
    match (fields.next(), fields.next()) {
        (Some(value), None) => Ok(Cow::Owned(value.into_owned().into_bytes())),
        _ => Err(Rejection::Unreadable),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
}

fn required<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, ContentError> {
    text(headers, name).ok_or_else(|| ContentError(format!("no header {name}")))
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
            ("push", _) => self.push().map(Some),
            // A branch that goes away is told by `delete` alone, a tag by `push` as well; a new one of either by `push` as
            // well as `create`. Each is counted once.
            ("delete", _) if self.ref_type.as_deref() == Some("branch") => self.deleted_branch().map(Some),
            ("pull_request", "pull_request" | "pull_request_sync") => Ok(self.pull_request()),
            ("issue_comment", _) if self.is_pull || event_type == "pull_request_comment" => Ok(self.comment("created")),
            ("pull_request_comment", _) => Ok(self.comment("reviewed").or_else(|| self.comment("created"))),
            _ => Ok(None),
        }
        .map(|event| event.filter(|event| event.reference.as_deref().is_none_or(is_branch_or_tag)))
    }

    fn push(&self) -> Result<Event, ContentError> {
        let (Some(reference), Some(before), Some(after)) = (&self.reference, &self.before, &self.after) else {
            return Err(ContentError("a push without ref, before and after".into()));
        };
        let kind = if reference.starts_with("refs/tags/") { EventKind::Tag } else { EventKind::Push };
        let change = match (is_zero(before), is_zero(after)) {
            (_, true) => Change::Deleted,
            (true, false) => Change::Created,
            (false, false) => Change::Updated,
        };
        Ok(Event { kind, reference: Some(reference.clone()), change })
    }

    fn deleted_branch(&self) -> Result<Event, ContentError> {
        let name = self.reference.as_deref().ok_or_else(|| ContentError("a deletion without ref".into()))?;
        let reference = if name.starts_with("refs/heads/") { name.to_owned() } else { format!("refs/heads/{name}") };
        Ok(Event { kind: EventKind::Push, reference: Some(reference), change: Change::Deleted })
    }

    fn pull_request(&self) -> Option<Event> {
        let kind = match self.action.as_deref()? {
            "opened" | "reopened" | "synchronized" => EventKind::PullRequest,
            "closed" if self.pull_request.as_ref()?.merged => EventKind::PullRequestMerged,
            "closed" => EventKind::PullRequestClosed,
            _ => return None,
        };
        Some(Event { kind, reference: self.target(), change: Change::Updated })
    }

    fn comment(&self, action: &str) -> Option<Event> {
        let fits = self.action.as_deref() == Some(action);
        fits.then(|| Event { kind: EventKind::PullRequestComment, reference: self.target(), change: Change::Updated })
    }

    /// The branch that the pull request goes to.
    fn target(&self) -> Option<String> {
        self.pull_request.as_ref()?.base.as_ref().map(|base| format!("refs/heads/{}", base.name))
    }
}

fn is_zero(object: &str) -> bool {
    !object.is_empty() && object.bytes().all(|byte| byte == b'0')
}

fn is_branch_or_tag(reference: &str) -> bool {
    reference.starts_with("refs/heads/") || reference.starts_with("refs/tags/")
}

#[cfg(test)]
mod tests;
