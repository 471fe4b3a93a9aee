use http::HeaderValue;
use secrecy::ExposeSecret as _;

use super::*;
use crate::protocol::secret::DerivedSecret;
use crate::providers::bitbucket_cloud::fixtures::{self, Message};
use crate::providers::webhook::StateKey;

/// The key that signs the recorded deliveries.
const SECRET: &str = "a-secret-of-the-users-own";

fn secret(value: &str) -> WebhookSecret {
    WebhookSecret::Text(value.into())
}

fn sign(secret: &str, payload: &[u8]) -> HeaderValue {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    HeaderValue::from_str(&format!("sha256={}", hex::encode(ring::hmac::sign(&key, payload)))).unwrap()
}

fn verify(secrets: &[WebhookSecret], message: &Message) -> Result<usize, Rejection> {
    BitbucketCloudWebhook.verify(secrets, &message.headers, &message.body).map(|verified| verified.secret())
}

fn read(message: &Message) -> Result<Content, ContentError> {
    BitbucketCloudWebhook.read(&BitbucketCloudWebhook.verify(&[secret(SECRET)], &message.headers, &message.body).unwrap())
}

/// The same delivery with another event key and body, and a new signature.
fn altered(name: &str, key: &'static str, body: &[u8]) -> Message {
    let mut message = fixtures::read(name);
    message.headers.insert(EVENT, HeaderValue::from_static(key));
    message.headers.insert(SIGNATURE, sign(SECRET, body));
    message.body = body.to_vec();
    message
}

#[track_caller]
fn content(name: &str) -> Content {
    let message = fixtures::read(name);
    assert_eq!(message.headers["user-agent"], "Bitbucket-Webhooks/2.0");
    let content = read(&message).unwrap();
    assert_eq!(content.repository_id.as_deref(), Some("{3f0f8e6c-7f0e-4d5b-9a51-000000000017}"));
    assert_eq!(content.repository_path.as_deref(), Some("acme/shop"));
    assert!(content.delivery_id.starts_with("7c9e6679-7425-40de-944b-"), "{}", content.delivery_id);
    assert!(!content.ping);
    content
}

#[track_caller]
fn tells(name: &str, expected: &[(EventKind, &str, Change)]) {
    let events = content(name).events;
    let found: Vec<_> = events.iter().map(|event| (event.kind, event.reference.as_deref().unwrap(), event.change)).collect();
    assert_eq!(found, expected, "{name}");
}

#[test]
fn the_right_secret_proves_and_is_named_by_position() {
    let push = fixtures::read("push-branch");
    assert_eq!(verify(&[secret(SECRET)], &push), Ok(0));
    assert_eq!(verify(&[secret("another-secret-than-that"), secret(SECRET), secret(SECRET)], &push), Ok(1));
}

#[test]
fn a_derived_secret_signs_with_its_text() {
    let derived = WebhookSecret::Derived(DerivedSecret::new([7; 32]));
    let mut push = fixtures::read("push-branch");
    push.headers.insert(SIGNATURE, sign(derived.text().expose_secret(), &push.body));
    assert_eq!(verify(&[derived], &push), Ok(0));
}

#[test]
fn pk_13_a_missing_or_wrong_proof_is_refused() {
    let mut push = fixtures::read("push-branch");
    let right = push.headers[SIGNATURE].clone();
    let wrong = Err(Rejection::ProofWrong);
    assert_eq!(verify(&[], &push), wrong, "no secret never means yes");
    assert_eq!(verify(&[secret("another-secret-than-that")], &push), wrong);
    push.headers.append(SIGNATURE, HeaderValue::from_static("sha256=00"));
    assert_eq!(verify(&[secret(SECRET)], &push), wrong, "two signatures");
    let digest = right.to_str().unwrap().trim_start_matches("sha256=");
    for signature in [digest, &format!("sha1={digest}"), &format!("sha256={digest}00"), "sha256=", "sha256=zz", "s"] {
        push.headers.insert(SIGNATURE, HeaderValue::from_str(signature).unwrap());
        assert_eq!(verify(&[secret(SECRET)], &push), wrong, "{signature}");
    }
    push.headers.insert(SIGNATURE, sign("", &push.body));
    assert_eq!(verify(&[secret("")], &push), wrong, "an empty secret proves nothing");
    push.headers.insert(SIGNATURE, HeaderValue::from_static(""));
    assert_eq!(verify(&[secret(SECRET)], &push), Err(Rejection::ProofMissing));
    push.headers.remove(SIGNATURE);
    assert_eq!(verify(&[secret(SECRET)], &push), Err(Rejection::ProofMissing));
    push.headers.insert("x-hub-signature-256", right.clone());
    assert_eq!(verify(&[secret(SECRET)], &push), Err(Rejection::ProofMissing), "one header proves, not its twin");
    push.headers.insert(SIGNATURE, right);
    push.body.push(b' ');
    assert_eq!(verify(&[secret(SECRET)], &push), wrong, "another body");
    assert!(!secret("too-short").is_strong_enough());
}

#[test]
fn pushes_tell_branches_and_tags_apart() {
    use Change::{Created, Deleted, Updated};
    use EventKind::{Push, Tag};
    tells("push-branch", &[(Push, "refs/heads/main", Updated)]);
    tells("push-branch-created", &[(Push, "refs/heads/release/1.0", Created)]);
    tells("push-branch-deleted", &[(Push, "refs/heads/release/1.0", Deleted)]);
    tells("push-branch-forced", &[(Push, "refs/heads/main", Updated)]);
    tells("push-tag", &[(Tag, "refs/tags/v1.0.0", Created)]);
    tells("push-tag-annotated", &[(Tag, "refs/tags/v1.1.0", Created)]);
    tells("push-tag-deleted", &[(Tag, "refs/tags/v1.0.0", Deleted)]);
}

#[test]
fn one_delivery_tells_of_every_reference_in_order() {
    use Change::{Created, Deleted, Updated};
    let expected = [
        (EventKind::Push, "refs/heads/main", Updated),
        (EventKind::Tag, "refs/tags/v2.0.0", Created),
        (EventKind::Push, "refs/heads/old", Deleted),
    ];
    tells("push-several", &expected);
    assert!(content("push-several").events.iter().all(|event| event.once.is_none()));
}

#[test]
fn pull_requests_tell_opening_merging_and_closing_apart() {
    for (name, kind) in [
        ("pullrequest-created", EventKind::PullRequest),
        ("pullrequest-updated-source", EventKind::PullRequest),
        ("pullrequest-updated-title", EventKind::PullRequest),
        ("pullrequest-fulfilled", EventKind::PullRequestMerged),
        ("pullrequest-rejected", EventKind::PullRequestClosed),
        ("pullrequest-comment-created", EventKind::PullRequestComment),
    ] {
        tells(name, &[(kind, "refs/heads/main", Change::Updated)]);
    }
    tells("pullrequest-approved", &[]);
}

#[test]
fn an_update_that_did_not_move_the_source_tells_what_was_told() {
    let once = |name: &str| content(name).events.remove(0).once;
    let Some(StateKey { subject, state }) = once("pullrequest-created") else { panic!("a state") };
    assert_eq!((subject.as_str(), state.as_str()), ("pull request 7", "020b418324a3 main ready"));
    assert_eq!(once("pullrequest-updated-title"), once("pullrequest-created"));
    let moved = once("pullrequest-updated-source").unwrap();
    assert!(moved.subject == subject && moved.state != state);
    for name in ["pullrequest-fulfilled", "pullrequest-rejected", "pullrequest-comment-created"] {
        assert_eq!(once(name), None, "{name} always counts");
    }
}

#[test]
fn a_test_delivery_is_a_ping_and_needs_a_proof_like_any_other() {
    let mut ping = fixtures::read("diagnostics-ping");
    let content = read(&ping).unwrap();
    assert!(content.ping && content.events.is_empty() && content.repository_id.is_none());
    ping.headers.remove(SIGNATURE);
    assert_eq!(verify(&[secret(SECRET)], &ping), Err(Rejection::ProofMissing));
}

#[test]
fn what_is_not_documented_is_an_error() {
    for (key, body) in [
        ("repo:push", &b"not json"[..]),
        ("repo:push", b"{}"),
        ("pullrequest:created", b"{}"),
        ("repo:push", br#"{"push":{"changes":[{"new":{"type":"branch"}}]}}"#),
    ] {
        assert!(read(&altered("push-branch", key, body)).is_err(), "{key}");
    }
    assert_eq!(read(&altered("push-branch", "repo:fork", b"{}")).unwrap().events, []);
    let bookmark = br#"{"push":{"changes":[{"new":{"type":"note","name":"x"}},{}]}}"#;
    assert_eq!(read(&altered("push-branch", "repo:push", bookmark)).unwrap().events, []);
    let mut push = fixtures::read("push-branch");
    push.headers.remove(EVENT);
    assert!(read(&push).is_err(), "nobody can tell what it is");
}
