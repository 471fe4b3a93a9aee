//! Deliveries of GitLab. Two proofs exist: `webhook-signature` (Standard Webhooks: an HMAC-SHA256 over id, time and body, good
//! for five minutes) from 19.0 on, and `X-Gitlab-Token`, which is the secret itself.
//!
//! Which of them counts:
//!
//! - A derived secret is written to a hook in one form only: as a signing token where the server showed that it took it, else
//!   as a token. Both are made of the same bytes, so the form that was chosen is the one that anybody but us has ever seen:
//!   from signatures alone nobody can make the token, and whoever has seen the token could sign as well. That is why a reader
//!   without memory needs to know no more than this: **where a signature is sent, it alone counts**, wrong, late or
//!   malformed though the token beside it be right. Without one the token is accepted: of a hook that signs nobody has it.
//!   A server that learns to sign is given the next secret in that form.
//! - A secret that a user brought is written as a token, always, and only as a token it counts.
//!
//! A signed delivery is known by its signed `webhook-id`: the `Idempotency-Key` says the same and could be exchanged by whoever
//! sends a captured delivery again. Before 17.4 neither is there; then the event's id and the body tell deliveries apart.
//!
//! A test that somebody sends at GitLab is made of the repository's last event and is in no way marked: it is taken for one.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use jiff::Timestamp;
use ring::{digest, hmac};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::api::v1alpha1::EventKind;
use crate::json;
use crate::providers::signature::{only_header, prove};
use crate::providers::webhook::{
    Change, Content, ContentError, DeliveryRules, Event, Rejection, Verified, Webhook, WebhookSecret, header_text, required_header,
};

const TOKEN: &str = "x-gitlab-token";
const EVENT_UUID: &str = "x-gitlab-event-uuid";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const SIGNATURE: &str = "webhook-signature";
const SIGNED_ID: &str = "webhook-id";
const SIGNED_TIME: &str = "webhook-timestamp";
/// Bytes of a body's digest in an id that we make.
const ID_DIGEST_LENGTH: usize = 8;

/// Reads deliveries of GitLab.
#[derive(Clone, Copy, Debug)]
pub struct GitLabWebhook;

impl Webhook for GitLabWebhook {
    fn rules(&self) -> DeliveryRules {
        DeliveryRules {
            body_limit: 10 * 1024 * 1024,
            // The sender gives up after 10 s, counts that as a failure and does not try again.
            answer_within: Duration::from_secs(9),
            secret_grace: Duration::from_secs(60 * 60),
            proof_in_header: false,
        }
    }

    fn verify<'a>(&self, secrets: &[WebhookSecret], headers: &'a HeaderMap, body: &'a [u8]) -> Result<Verified<'a>, Rejection> {
        let token = only_header(headers, TOKEN);
        let signature = headers.contains_key(SIGNATURE).then(|| Signature::read(headers));
        if signature.is_none() && token == Err(Rejection::ProofMissing) {
            return Err(Rejection::ProofMissing);
        }
        let position = prove(secrets, |secret| match (secret, &signature) {
            (WebhookSecret::Derived(derived), Some(signature)) => {
                signature.as_ref().is_ok_and(|signature| signature.fits(derived.bytes(), body))
            }
            _ => token.is_ok_and(|token| is_secret(token.as_bytes(), &secret.text())),
        })?;
        let verified = Verified::new(headers, Cow::Borrowed(body), position);
        Ok(match (secrets.get(position), signature) {
            (Some(WebhookSecret::Derived(_)), Some(Ok(signature))) => verified.signed_at(signature.at),
            _ => verified,
        })
    }

    fn read(&self, verified: &Verified<'_>) -> Result<Content, ContentError> {
        let delivery_id = delivery_id(verified)?;
        let body: Body = json::read(verified.payload())?;
        let events = body.event()?.into_iter().collect();
        let (repository_id, repository_path) = match body.project {
            Some(project) => (Some(project.id.to_string()), project.path_with_namespace),
            None => (body.project_id.map(|id| id.to_string()), None),
        };
        Ok(Content { delivery_id, repository_id, repository_path, events, ping: false })
    }

    fn proof_headers(&self) -> &'static [&'static str] {
        &[TOKEN, SIGNATURE, "authorization"]
    }
}

/// What is signed beside the body, and the signatures: several while the sender changes its key.
struct Signature<'a> {
    id: &'a str,
    time: &'a str,
    at: Timestamp,
    digests: Vec<Vec<u8>>,
}

impl<'a> Signature<'a> {
    fn read(headers: &'a HeaderMap) -> Result<Self, Rejection> {
        let text = |name| only_header(headers, name)?.to_str().map_err(|_| Rejection::ProofWrong);
        let (id, time) = (text(SIGNED_ID)?, text(SIGNED_TIME)?);
        let at = time.parse().ok().and_then(|second| Timestamp::from_second(second).ok()).ok_or(Rejection::ProofWrong)?;
        let entries = text(SIGNATURE)?.split(' ').filter_map(|entry| entry.strip_prefix("v1,"));
        let digests = entries.filter_map(|entry| STANDARD.decode(entry).ok()).collect();
        Ok(Self { id, time, at, digests })
    }

    fn fits(&self, key: &[u8], body: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let mut signed = Vec::with_capacity(self.id.len() + self.time.len() + body.len() + 2);
        for part in [self.id.as_bytes(), b".", self.time.as_bytes(), b".", body] {
            signed.extend_from_slice(part);
        }
        self.digests.iter().any(|digest| hmac::verify(&key, &signed, digest).is_ok())
    }
}

/// Whether a header holds the secret. What is compared in constant time are digests, which have one length.
fn is_secret(given: &[u8], secret: &SecretString) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    hmac::verify(&key, given, hmac::sign(&key, secret.expose_secret().as_bytes()).as_ref()).is_ok()
}

fn delivery_id(verified: &Verified<'_>) -> Result<String, ContentError> {
    let headers = verified.headers();
    let signed = headers.contains_key(SIGNATURE).then(|| header_text(headers, SIGNED_ID)).flatten();
    if let Some(id) = signed.or_else(|| header_text(headers, IDEMPOTENCY_KEY)) {
        return Ok(id.to_owned());
    }
    let event = required_header(headers, EVENT_UUID)?;
    let digest = hex::encode(digest::digest(&digest::SHA256, verified.payload()).as_ref());
    Ok(format!("{event}-{}", digest.get(..2 * ID_DIGEST_LENGTH).unwrap_or_default()))
}

/// What is read of a body: the union of the documents that GitLab sends.
#[derive(Deserialize)]
struct Body {
    object_kind: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    before: Option<String>,
    after: Option<String>,
    project_id: Option<i64>,
    project: Option<Project>,
    object_attributes: Option<Attributes>,
    merge_request: Option<MergeRequest>,
}

#[derive(Deserialize)]
struct Project {
    id: i64,
    path_with_namespace: Option<String>,
}

/// Of a merge request or a comment.
#[derive(Deserialize)]
struct Attributes {
    action: Option<String>,
    /// The commit before an update that brought commits.
    oldrev: Option<String>,
    target_branch: Option<String>,
    noteable_type: Option<String>,
}

/// What a comment is about.
#[derive(Deserialize)]
struct MergeRequest {
    target_branch: Option<String>,
}

impl Body {
    /// What happened, by the body's own word: headers are not signed.
    fn event(&self) -> Result<Option<Event>, ContentError> {
        match self.object_kind.as_deref() {
            Some("push" | "tag_push") => self.push(),
            Some("merge_request") => self.merge_request(),
            Some("note") => Ok(self.note()),
            _ => Ok(None),
        }
    }

    fn push(&self) -> Result<Option<Event>, ContentError> {
        let (Some(reference), Some(before), Some(after)) = (&self.reference, &self.before, &self.after) else {
            return Err(ContentError("a push without ref, before and after".into()));
        };
        Ok(Event::of_reference(reference, Change::between(before, after)))
    }

    fn merge_request(&self) -> Result<Option<Event>, ContentError> {
        let attributes = self.object_attributes.as_ref().ok_or_else(|| ContentError("a merge request without object_attributes".into()))?;
        let kind = match attributes.action.as_deref() {
            Some("open" | "reopen") => EventKind::PullRequest,
            Some("update") if attributes.oldrev.is_some() => EventKind::PullRequest,
            Some("merge") => EventKind::PullRequestMerged,
            Some("close") => EventKind::PullRequestClosed,
            _ => return Ok(None),
        };
        Ok(Some(Event::of_pull_request(kind, attributes.target_branch.as_deref())))
    }

    /// A new comment on a merge request. Before 16.11 comments have no action, and no deliveries for changed ones.
    fn note(&self) -> Option<Event> {
        let attributes = self.object_attributes.as_ref()?;
        let is_new = attributes.action.as_deref().is_none_or(|action| action == "create");
        let fits = attributes.noteable_type.as_deref() == Some("MergeRequest") && is_new;
        let target = self.merge_request.as_ref().and_then(|request| request.target_branch.as_deref());
        fits.then(|| Event::of_pull_request(EventKind::PullRequestComment, target))
    }
}

#[cfg(test)]
mod tests;
