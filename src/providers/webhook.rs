//! Verifies and reads deliveries: first the proof, then the content. Unverified deliveries cannot be parsed.

use std::borrow::Cow;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use ring::digest;
use serde::{Deserialize, Serialize};

use super::pull_request::ActionName;
use crate::api::v1alpha1::EventKind;
use crate::protocol::secret::WebhookSecret;
use crate::text::json::JsonError;

/// A provider's rules for deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryRules {
    /// Maximum size of a body in bytes; larger bodies are refused.
    pub body_limit: usize,
    /// How long deliveries signed with the previous secret may still arrive.
    pub secret_grace: Duration,
    /// Whether the proof is in a header, so that it can be checked before the body is read.
    pub proof_in_header: bool,
}

/// Why a delivery is not authentic. Never reveals what the right proof would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The proof is missing or empty.
    #[error("no signature")]
    ProofMissing,
    /// The proof is wrong.
    #[error("wrong signature")]
    ProofWrong,
    /// The proof is too old or from the future.
    #[error("signature outside its time window")]
    ProofStale,
    /// A test that the provider documents and does not sign. It is answered with success and proves nothing.
    #[error("an unsigned test")]
    UnsignedTest,
    /// The body does not match its content type, so the proof cannot be checked.
    #[error("body does not match its content type")]
    Unreadable,
}

/// Maximum difference between now and the time in a proof, from the Standard Webhooks specification.
pub const PROOF_WINDOW: SignedDuration = SignedDuration::from_secs(5 * 60);

/// A delivery with a valid proof. Only a provider's `verify` creates one.
#[derive(Debug)]
pub struct Verified<'a> {
    headers: &'a HeaderMap,
    payload: Cow<'a, [u8]>,
    secret: usize,
    signed_at: Option<Timestamp>,
}

impl<'a> Verified<'a> {
    pub(in crate::providers) const fn new(headers: &'a HeaderMap, payload: Cow<'a, [u8]>, secret: usize) -> Self {
        Self { headers, payload, secret, signed_at: None }
    }

    /// Sets the time at which the proof was made: it is valid within [`PROOF_WINDOW`] of that time.
    pub(in crate::providers) const fn signed_at(mut self, at: Timestamp) -> Self {
        self.signed_at = Some(at);
        self
    }

    /// Whether the proof is valid at this time. Proofs without a time, which most are, are always valid.
    #[must_use]
    pub fn is_timely(&self, now: Timestamp) -> bool {
        self.signed_at.is_none_or(|at| now.duration_since(at).abs() <= PROOF_WINDOW)
    }

    /// The headers of the delivery.
    #[must_use]
    pub const fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The JSON document: the body, or the form field that contains it.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// As [`payload`](Self::payload), by value. Borrows the body unless the document came in a form.
    #[must_use]
    pub fn into_payload(self) -> Cow<'a, [u8]> {
        self.payload
    }

    /// The position of the secret that proved the delivery.
    #[must_use]
    pub const fn secret(&self) -> usize {
        self.secret
    }
}

/// The content of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The provider's id of the delivery. A redelivery has the same id.
    pub delivery_id: String,
    /// The repository's stable id; `None` if the delivery is not about a repository.
    pub repository_id: Option<String>,
    /// The repository's path, for use while its id is unknown.
    pub repository_path: Option<String>,
    /// The events, in order. Empty for pings, tests and everything that maps to no [`EventKind`].
    pub events: Vec<Event>,
    /// Whether it is a ping or a test.
    pub ping: bool,
}

/// An event that a delivery reports. Receivers store it: a field that is renamed or added needs an alias or a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Kind of event.
    pub kind: EventKind,
    /// The full reference name for pushes and tags, or the target of a pull request. `None` if the provider does not report it,
    /// which happens for comments on a pull request as a whole.
    pub reference: Option<String>,
    /// The commit that the reference points to now, or the last commit of the pull request's source branch. `None` if the
    /// provider does not report it, and for deleted references.
    pub commit: Option<String>,
    /// The object that the reference pointed to before. `None` if the provider does not report it, for created references and
    /// for pull requests.
    pub before: Option<String>,
    /// The number of the pull request within its repository. `None` for pushes and tags.
    pub pull_request: Option<u64>,
    /// Whether the reference was created, moved or deleted; `Updated` for pull requests.
    pub change: Change,
    /// The subject and state that the event reports, if the provider also sends events for changes that are irrelevant here;
    /// `None` for an event that always counts.
    pub once: Option<StateKey>,
}

/// Suppresses repeated events: a delivery whose events all report the same state as the delivery before is treated as its
/// repetition. For providers that send the same message for a moved source branch and for an edited title.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StateKey {
    /// The subject whose state it is, unique within the repository.
    pub subject: String,
    /// The state of the subject.
    pub state: String,
}

impl Event {
    /// Sets the state key: the event counts once for each state of a subject.
    #[must_use]
    pub fn once(self, subject: impl Into<String>, state: impl Into<String>) -> Self {
        Self { once: Some(StateKey { subject: subject.into(), state: state.into() }), ..self }
    }

    /// Sets the commit. Ignores text that is not an object id, and the all-zero id, which stands for no object.
    #[must_use]
    pub fn at(self, commit: Option<&str>) -> Self {
        Self { commit: object_id(commit), ..self }
    }

    /// Sets the object that the reference pointed to before, by the same rules.
    #[must_use]
    pub fn moved_from(self, before: Option<&str>) -> Self {
        Self { before: object_id(before), ..self }
    }

    /// What the event is about: events of one subject reach a sink in the order of arrival.
    #[must_use]
    pub fn subject(&self) -> String {
        let reference = self.reference.as_deref().unwrap_or_default();
        match (self.kind, self.pull_request) {
            (EventKind::Push | EventKind::Tag, _) => reference.to_owned(),
            (_, Some(number)) => format!("pull request {number}"),
            (_, None) => format!("pull requests to {reference}"),
        }
    }

    /// The branch of the event: the pushed branch, or the target of a pull request.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.reference.as_deref().and_then(|reference| reference.strip_prefix("refs/heads/"))
    }
}

/// How a reference changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It was created.
    Created,
    /// It moved.
    Updated,
    /// It was deleted.
    Deleted,
}

impl Change {
    /// The change of a reference from one object id to another; an all-zero id means no object.
    #[must_use]
    pub fn between(before: &str, after: &str) -> Self {
        match (is_zero(before), is_zero(after)) {
            (_, true) => Self::Deleted,
            (true, false) => Self::Created,
            (false, false) => Self::Updated,
        }
    }
}

/// The id of an object, unless the text is none or is the all-zero id.
fn object_id(text: Option<&str>) -> Option<String> {
    let is_id = |id: &str| (7..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && !is_zero(id);
    text.filter(|id| is_id(id)).map(str::to_owned)
}

fn is_zero(object: &str) -> bool {
    !object.is_empty() && object.bytes().all(|byte| byte == b'0')
}

impl Event {
    /// An event for a branch or a tag, given by its full name; `None` for any other reference.
    #[must_use]
    pub fn of_reference(reference: &str, change: Change) -> Option<Self> {
        let kind = match reference.split('/').collect::<Vec<_>>().as_slice() {
            ["refs", "heads", _, ..] => EventKind::Push,
            ["refs", "tags", _, ..] => EventKind::Tag,
            _ => return None,
        };
        Some(Self::new(kind, Some(reference.to_owned()), change))
    }

    /// An event for the pull request of this number, with its target branch, given by its short name.
    #[must_use]
    pub fn of_pull_request(kind: EventKind, number: Option<u64>, target: Option<&str>) -> Self {
        Self { pull_request: number, ..Self::new(kind, target.map(|name| format!("refs/heads/{name}")), Change::Updated) }
    }

    const fn new(kind: EventKind, reference: Option<String>, change: Change) -> Self {
        Self { kind, reference, commit: None, before: None, pull_request: None, change, once: None }
    }
}

/// A verified delivery whose content is not what the provider documents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not what the provider documents: {0}")]
pub struct ContentError(pub String);

impl From<JsonError> for ContentError {
    fn from(error: JsonError) -> Self {
        Self(error.to_string())
    }
}

/// The JSON document of a body: the body itself, or the single `payload` field of a form.
pub(in crate::providers) fn document<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Cow<'a, [u8]>, Rejection> {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
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

/// The text of a header, unless it is empty.
pub(in crate::providers) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
}

/// The text of a required header; an error if it is missing or empty.
pub(in crate::providers) fn required_header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, ContentError> {
    header_text(headers, name).ok_or_else(|| ContentError(format!("no header {name}")))
}

/// Number of digest bytes in a delivery id that we derive.
const ID_DIGEST_LENGTH: usize = 16;

/// The provider's id of a delivery, from this header. A delivery without it (older servers omit it, and so can proxies) gets an
/// id derived from its event and body, which is the same for a redelivery.
pub(in crate::providers) fn delivery_id(verified: &Verified<'_>, header: &str, event: &str) -> String {
    header_text(verified.headers(), header).map_or_else(|| derived_id(event, verified.payload()), str::to_owned)
}

/// Derives a delivery id from the event and the body.
pub(in crate::providers) fn derived_id(event: &str, payload: &[u8]) -> String {
    let digest = hex::encode(digest::digest(&digest::SHA256, payload).as_ref());
    format!("{event}-{}", digest.get(..2 * ID_DIGEST_LENGTH).unwrap_or_default())
}

/// Reads the deliveries of one provider. Pure: no client, no clock, no state.
pub trait Webhook: Send + Sync {
    /// The provider's rules for deliveries.
    fn rules(&self) -> DeliveryRules;

    /// Whether a proven delivery over [`DeliveryRules::body_limit`] is answered with success although it is not read. For
    /// providers that stop delivering after a refusal; requires [`DeliveryRules::proof_in_header`].
    fn accepts_oversized(&self) -> bool {
        false
    }

    /// Verifies a delivery with any of the secrets. Tries all of them, in constant time.
    ///
    /// # Errors
    /// None of the secrets proves the delivery. Without any secret, verification always fails.
    fn verify<'a>(&self, secrets: &[WebhookSecret], headers: &'a HeaderMap, body: &'a [u8]) -> Result<Verified<'a>, Rejection>;

    /// Reads the content of a verified delivery.
    ///
    /// # Errors
    /// The body is not what the provider documents.
    fn read(&self, verified: &Verified<'_>) -> Result<Content, ContentError>;

    /// What can happen to pull requests, in the provider's own names. Includes actions whose events Forgebind does not subscribe
    /// to.
    fn pull_request_actions(&self) -> &'static [ActionName];
}

#[cfg(test)]
mod tests;
