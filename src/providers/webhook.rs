//! Deliveries: proof first, then content. What was not verified cannot be parsed.

use std::borrow::Cow;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use ring::digest;

use super::pull_request::ActionName;
use crate::api::v1alpha1::EventKind;
use crate::protocol::secret::WebhookSecret;
use crate::text::json::JsonError;

/// What a provider does about deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryRules {
    /// Bodies over this many bytes are refused.
    pub body_limit: usize,
    /// How long the sinks may take before the delivery is answered as pending.
    pub answer_within: Duration,
    /// How long deliveries signed with the previous secret may still come.
    pub secret_grace: Duration,
    /// Whether the proof stands in a header, so that it is judged before the body is read.
    pub proof_in_header: bool,
}

/// Why a delivery is not authentic. Never says what the right proof would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is no proof, or it is empty.
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
    /// The body is not what its content type says, so the proof cannot be checked.
    #[error("body does not fit its content type")]
    Unreadable,
}

/// How far from the present a proof that tells its time may be, by the Standard Webhooks specification.
pub const PROOF_WINDOW: SignedDuration = SignedDuration::from_secs(5 * 60);

/// A delivery whose proof was right. Only a provider's `verify` makes one.
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

    /// The same, whose proof says when it was made: it is good for [`PROOF_WINDOW`] around that.
    pub(in crate::providers) const fn signed_at(mut self, at: Timestamp) -> Self {
        self.signed_at = Some(at);
        self
    }

    /// Whether the proof is good at this moment. Most proofs do not tell their time and always are.
    #[must_use]
    pub fn is_timely(&self, now: Timestamp) -> bool {
        self.signed_at.is_none_or(|at| now.duration_since(at).abs() <= PROOF_WINDOW)
    }

    /// The headers.
    #[must_use]
    pub const fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The JSON document: the body, or the field of a form that held it.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The same, to be kept. It is the body itself wherever the document was sent as it is.
    #[must_use]
    pub fn into_payload(self) -> Cow<'a, [u8]> {
        self.payload
    }

    /// Which of the secrets proved it, by position.
    #[must_use]
    pub const fn secret(&self) -> usize {
        self.secret
    }
}

/// What a delivery tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The provider's id of the delivery: the same when it is sent again.
    pub delivery_id: String,
    /// The repository's stable id; `None` in a delivery that is about none.
    pub repository_id: Option<String>,
    /// The repository's path, for the time in which its id is not known yet.
    pub repository_path: Option<String>,
    /// What happened, in order. Empty for pings, tests, and what is in none of our words.
    pub events: Vec<Event>,
    /// Whether it is a ping or a test.
    pub ping: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// In our words.
    pub kind: EventKind,
    /// The full reference name for pushes and tags; for pull requests, the one they go to. `None` where the provider does not
    /// tell it, as some do of a comment on a pull request as a whole.
    pub reference: Option<String>,
    /// The commit that the reference points to now, or the last one of the pull request's source branch. `None` where the
    /// provider does not tell it, and for what is deleted.
    pub commit: Option<String>,
    /// Whether the reference was created, moved or deleted; pull requests: `Updated`.
    pub change: Change,
    /// What it tells the state of, where the provider also tells of changes that are none to us; `None` for an event that
    /// always counts.
    pub once: Option<StateKey>,
}

/// What keeps an event from being told again: a delivery whose events all tell the state that the delivery before told is taken
/// for its repetition. Made for providers that send one and the same message for a moved source branch and for an edited title.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StateKey {
    /// Whose state it is, within the repository.
    pub subject: String,
    /// The state.
    pub state: String,
}

impl Event {
    /// The same event, told once for each state of a subject.
    #[must_use]
    pub fn once(self, subject: impl Into<String>, state: impl Into<String>) -> Self {
        Self { once: Some(StateKey { subject: subject.into(), state: state.into() }), ..self }
    }

    /// The same event with its commit. What is no commit id is left out, and so are the zeros that stand for none.
    #[must_use]
    pub fn at(self, commit: Option<&str>) -> Self {
        let is_id = |id: &str| (7..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && !is_zero(id);
        Self { commit: commit.filter(|id| is_id(id)).map(str::to_owned), ..self }
    }

    /// The branch it is about: the pushed one, or the one a pull request goes to.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.reference.as_deref().and_then(|reference| reference.strip_prefix("refs/heads/"))
    }
}

/// What became of a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// It moved.
    Updated,
    /// It is gone.
    Deleted,
}

impl Change {
    /// What became of a reference that went from one object to another; an id of zeros is none.
    #[must_use]
    pub fn between(before: &str, after: &str) -> Self {
        match (is_zero(before), is_zero(after)) {
            (_, true) => Self::Deleted,
            (true, false) => Self::Created,
            (false, false) => Self::Updated,
        }
    }
}

fn is_zero(object: &str) -> bool {
    !object.is_empty() && object.bytes().all(|byte| byte == b'0')
}

impl Event {
    /// What became of a branch or a tag, given by its full name; `None` for any other reference.
    #[must_use]
    pub fn of_reference(reference: &str, change: Change) -> Option<Self> {
        let kind = match reference.split('/').collect::<Vec<_>>().as_slice() {
            ["refs", "heads", _, ..] => EventKind::Push,
            ["refs", "tags", _, ..] => EventKind::Tag,
            _ => return None,
        };
        Some(Self { kind, reference: Some(reference.to_owned()), commit: None, change, once: None })
    }

    /// Something about a pull request that goes to this branch, given by its short name.
    #[must_use]
    pub fn of_pull_request(kind: EventKind, target: Option<&str>) -> Self {
        Self { kind, reference: target.map(|name| format!("refs/heads/{name}")), commit: None, change: Change::Updated, once: None }
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

/// The JSON document of a body: the body itself, or the one `payload` field of a form.
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

/// The same of a header that must be there.
pub(in crate::providers) fn required_header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, ContentError> {
    header_text(headers, name).ok_or_else(|| ContentError(format!("no header {name}")))
}

/// Bytes of a body's digest in a delivery id that we make.
const ID_DIGEST_LENGTH: usize = 16;

/// The provider's id of a delivery, from the header that holds it. A delivery without one, as older servers send it and proxies
/// leave it, is known by its event and its body: the same when it is sent again.
pub(in crate::providers) fn delivery_id(verified: &Verified<'_>, header: &str, event: &str) -> String {
    header_text(verified.headers(), header).map_or_else(|| derived_id(event, verified.payload()), str::to_owned)
}

/// An id made of the event and the body, for a delivery that has none.
pub(in crate::providers) fn derived_id(event: &str, payload: &[u8]) -> String {
    let digest = hex::encode(digest::digest(&digest::SHA256, payload).as_ref());
    format!("{event}-{}", digest.get(..2 * ID_DIGEST_LENGTH).unwrap_or_default())
}

/// Reads one provider's deliveries. Pure: no client, no clock, no state.
pub trait Webhook: Send + Sync {
    /// What the provider does about deliveries.
    fn rules(&self) -> DeliveryRules;

    /// Whether a proven delivery over [`DeliveryRules::body_limit`] is answered with success although it is not read. For
    /// providers that stop delivering after a refusal; only with [`DeliveryRules::proof_in_header`].
    fn accepts_oversized(&self) -> bool {
        false
    }

    /// Proves a delivery with any of the secrets, in constant time, trying all of them.
    ///
    /// # Errors
    /// When none of them proves it. No secret at all never means yes.
    fn verify<'a>(&self, secrets: &[WebhookSecret], headers: &'a HeaderMap, body: &'a [u8]) -> Result<Verified<'a>, Rejection>;

    /// Reads what a verified delivery tells.
    ///
    /// # Errors
    /// When the body is not what the provider documents.
    fn read(&self, verified: &Verified<'_>) -> Result<Content, ContentError>;

    /// What the provider can tell about pull requests, in its own words. Those that it is not asked for are listed as well.
    fn pull_request_actions(&self) -> &'static [ActionName];

    /// The headers that hold a proof or a credential: they are never handed on.
    fn proof_headers(&self) -> &'static [&'static str];
}

#[cfg(test)]
mod tests;
