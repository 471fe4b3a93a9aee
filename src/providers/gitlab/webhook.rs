//! Verifies and reads deliveries from GitLab. GitLab has two proofs: `webhook-signature` since 19.0 (Standard Webhooks: an
//! HMAC-SHA256 over ID, time and body, valid for five minutes), and `X-Gitlab-Token`, which is the secret itself.
//!
//! Which proof counts:
//!
//! - A derived secret is written to a hook in one form only: as a signing token if the server has shown that it stores
//!   them, otherwise as a token. Both forms contain the same bytes, and only the chosen form ever leaves Forgebind: the
//!   token cannot be computed from signatures, and anyone who has seen the token could also sign. A stateless reader
//!   therefore needs only one rule: **if a signature is sent, only the signature counts**. If it is wrong, late or
//!   malformed, the delivery is rejected even if the token beside it is correct. Without a signature the token is accepted:
//!   the token of a hook that signs is never disclosed. If a server gains support for signing, the next secret is written
//!   as a signing token.
//! - A user's own secret is always written as a token and accepted only as a token.
//!
//! The ID of a signed delivery is its signed `webhook-id`. The `Idempotency-Key` has the same value, but an attacker who
//! replays a captured delivery could change it. Before 17.4 neither header exists; deliveries are then distinguished by the
//! event's ID, if present, and the body.
//!
//! A test that a user sends from GitLab's pages is built from the repository's last event and is not marked as a test. It
//! is handled like that event.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use jiff::Timestamp;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::protocol::secret::WebhookSecret;
use crate::providers::lenient;
use crate::providers::pull_request::PullRequestAction::{
    Administered, Classified, Closed, CommentChanged, Commented, Drafted, Edited, Merged, Opened, Ready, Reopened, Retargeted, Reviewed,
    SourceMoved,
};
use crate::providers::pull_request::{self, ActionName, is_draft_title};
use crate::providers::signature::{only_header, prove};
use crate::providers::webhook::{
    Change, Content, ContentError, DeliveryRules, Event, Rejection, Verified, Webhook, derived_id, header_text,
};
use crate::text::json;

const TOKEN_HEADER: &str = "x-gitlab-token";
const EVENT_UUID: &str = "x-gitlab-event-uuid";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const SIGNATURE: &str = "webhook-signature";
const SIGNED_ID: &str = "webhook-id";
const SIGNED_TIME: &str = "webhook-timestamp";

/// GitLab's merge request actions: the kind of the object and its action, and for an update the changed field.
const ACTIONS: &[ActionName] = &[
    ("merge_request open", Opened),
    ("merge_request reopen", Reopened),
    ("merge_request update (oldrev)", SourceMoved),
    ("merge_request update (changes.target_branch)", Retargeted),
    ("merge_request update (changes.draft)", Ready),
    ("merge_request merge", Merged),
    ("merge_request close", Closed),
    ("note create", Commented),
    ("merge_request update", Drafted),
    ("merge_request update", Edited),
    ("note update", CommentChanged),
    ("merge_request approved", Reviewed),
    ("merge_request approval", Reviewed),
    ("merge_request unapproved", Reviewed),
    ("merge_request unapproval", Reviewed),
    ("merge_request update", Classified),
    ("merge_request update", Administered),
];

/// Verifies and reads deliveries from GitLab.
#[derive(Clone, Copy, Debug)]
pub struct GitLabWebhook;

impl Webhook for GitLabWebhook {
    fn rules(&self) -> DeliveryRules {
        DeliveryRules {
            // The maximum that GitLab.com sends. A self-managed server can be configured to send more.
            body_limit: 25 * 1024 * 1024,
            // The sender times out after 10 s, counts the delivery as failed and does not retry.
            secret_grace: Duration::from_secs(60 * 60),
            proof_in_header: false,
        }
    }

    fn verify<'a>(&self, secrets: &[WebhookSecret], headers: &'a HeaderMap, body: &'a [u8]) -> Result<Verified<'a>, Rejection> {
        let token = only_header(headers, TOKEN_HEADER);
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
        let mut body: Body = json::read(verified.payload())?;
        if body.is_update() {
            let update = json::read::<Update>(verified.payload()).ok();
            body.changes = update.and_then(|update| update.changes).unwrap_or_default();
        }
        let delivery_id = delivery_id(verified, body.object_kind.as_deref().unwrap_or_default());
        let events = body.event()?.into_iter().collect();
        Ok(Content {
            delivery_id,
            repository_id: body.project_id().map(|id| id.to_string()),
            repository_path: body.project.and_then(|project| project.path_with_namespace),
            events,
            ping: false,
        })
    }

    fn pull_request_actions(&self) -> &'static [ActionName] {
        ACTIONS
    }
}

/// The signed data besides the body, and the signatures. The sender sends several while it rotates its key.
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

/// Whether a header value equals the secret. The constant-time comparison is on digests, so that all inputs have the same
/// length.
fn is_secret(given: &[u8], secret: &SecretString) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    hmac::verify(&key, given, hmac::sign(&key, secret.expose_secret().as_bytes()).as_ref()).is_ok()
}

fn delivery_id(verified: &Verified<'_>, object_kind: &str) -> String {
    let headers = verified.headers();
    let signed = headers.contains_key(SIGNATURE).then(|| header_text(headers, SIGNED_ID)).flatten();
    match signed.or_else(|| header_text(headers, IDEMPOTENCY_KEY)) {
        Some(id) => id.to_owned(),
        // All deliveries of one chain of events share the event's ID.
        None => derived_id(header_text(headers, EVENT_UUID).unwrap_or(object_kind), verified.payload()),
    }
}

/// Fields read from a body: the union of the documents that GitLab sends for the supported events.
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
    /// Read separately and only for updates, because other events use the same name for something else.
    #[serde(skip)]
    changes: Changes,
    merge_request: Option<MergeRequest>,
}

/// Older servers and the samples in the documentation omit `id` and send `project_id` instead.
#[derive(Deserialize)]
struct Project {
    id: Option<i64>,
    path_with_namespace: Option<String>,
}

/// Attributes of a merge request or a comment.
#[derive(Deserialize)]
struct Attributes {
    /// Number of the merge request; absent for a comment.
    #[serde(default, deserialize_with = "lenient::number")]
    iid: Option<u64>,
    action: Option<String>,
    state: Option<String>,
    /// The previous commit, present if an update added commits.
    oldrev: Option<String>,
    target_branch: Option<String>,
    target_project_id: Option<i64>,
    last_commit: Option<Commit>,
    noteable_type: Option<String>,
}

#[derive(Deserialize)]
struct Update {
    changes: Option<Changes>,
}

/// Fields that an update changed. Only these are read, because a document of arbitrary values takes many times its own
/// length in memory.
#[derive(Default, Deserialize)]
struct Changes {
    target_branch: Option<IgnoredAny>,
    draft: Option<Changed<bool>>,
    title: Option<Changed<String>>,
}

#[derive(Deserialize)]
struct Changed<T> {
    previous: Option<T>,
    current: Option<T>,
}

/// The merge request that a comment is about.
#[derive(Deserialize)]
struct MergeRequest {
    #[serde(default, deserialize_with = "lenient::number")]
    iid: Option<u64>,
    target_branch: Option<String>,
    target_project_id: Option<i64>,
    last_commit: Option<Commit>,
}

#[derive(Deserialize)]
struct Commit {
    id: Option<String>,
}

impl Changes {
    /// Servers before 16.3 do not report the draft mark itself, but the title that contains it.
    fn became_ready(&self) -> bool {
        if let Some(draft) = &self.draft {
            return draft.previous == Some(true) && draft.current == Some(false);
        }
        self.title.as_ref().is_some_and(|title| match (&title.previous, &title.current) {
            (Some(previous), Some(current)) => is_draft_title(previous) && !is_draft_title(current),
            _ => false,
        })
    }
}

impl Body {
    /// The project that owns the hook. Its location in the body depends on the server's version and the kind of the event.
    fn project_id(&self) -> Option<i64> {
        let project = self.project.as_ref().and_then(|project| project.id);
        let target = || self.object_attributes.as_ref()?.target_project_id;
        let commented = || self.merge_request.as_ref()?.target_project_id;
        project.or(self.project_id).or_else(target).or_else(commented)
    }

    fn is_update(&self) -> bool {
        let action = self.object_attributes.as_ref().and_then(|attributes| attributes.action.as_deref());
        self.object_kind.as_deref() == Some("merge_request") && action == Some("update")
    }

    /// Determines the event from the body alone, because headers are not signed.
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
        Ok(Event::of_reference(reference, Change::between(before, after)).map(|event| event.moved_from(Some(before)).at(Some(after))))
    }

    fn merge_request(&self) -> Result<Option<Event>, ContentError> {
        let attributes = self.object_attributes.as_ref().ok_or_else(|| ContentError("a merge request without object_attributes".into()))?;
        let action = attributes.action.as_deref().unwrap_or_default();
        let detail = if action == "update" { self.update(attributes) } else { "" };
        let kind = pull_request::told_by(ACTIONS, &format!("merge_request {action}{detail}"));
        let commit = attributes.last_commit.as_ref().and_then(|commit| commit.id.as_deref());
        Ok(kind.map(|kind| Event::of_pull_request(kind, attributes.iid, attributes.target_branch.as_deref()).at(commit)))
    }

    /// Returns what an update of a merge request changed, as far as [`ACTIONS`] distinguishes it.
    fn update(&self, attributes: &Attributes) -> &'static str {
        let is_open = attributes.state.as_deref().is_none_or(|state| state == "opened");
        if attributes.oldrev.is_some() {
            " (oldrev)"
        } else if is_open && self.changes.target_branch.is_some() {
            " (changes.target_branch)"
        } else if is_open && self.changes.became_ready() {
            " (changes.draft)"
        } else {
            ""
        }
    }

    /// Reads a comment on a merge request. Before 16.11 comments have no action, and changed comments are not delivered.
    fn note(&self) -> Option<Event> {
        let attributes = self.object_attributes.as_ref()?;
        if attributes.noteable_type.as_deref() != Some("MergeRequest") {
            return None;
        }
        let kind = pull_request::told_by(ACTIONS, &format!("note {}", attributes.action.as_deref().unwrap_or("create")))?;
        let request = self.merge_request.as_ref();
        let target = request.and_then(|request| request.target_branch.as_deref());
        let commit = request.and_then(|request| request.last_commit.as_ref()?.id.as_deref());
        Some(Event::of_pull_request(kind, request.and_then(|request| request.iid), target).at(commit))
    }
}

#[cfg(test)]
mod tests;
