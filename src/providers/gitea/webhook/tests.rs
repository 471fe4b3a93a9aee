use http::HeaderValue;
use http::header::CONTENT_TYPE;
use ring::hmac;
use secrecy::ExposeSecret as _;

use super::*;
use crate::api::v1alpha1::EventKind;
use crate::protocol::secret::DerivedSecret;

const SECRET: &str = "a-secret-of-the-users-own";

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gitea/", $name, ".json")).as_slice()
    };
}

fn secret(value: &str) -> WebhookSecret {
    WebhookSecret::Text(value.into())
}

fn sign(secret: &str, payload: &[u8]) -> String {
    hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), payload))
}

fn headers(event: &'static str, event_type: &'static str, signature: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(DELIVERY, HeaderValue::from_static("5f6a7c1e-33c1-4d5e-8f3a-000000000001"));
    headers.insert(EVENT, HeaderValue::from_static(event));
    headers.insert(EVENT_TYPE, HeaderValue::from_static(event_type));
    headers.insert(SIGNATURE, HeaderValue::from_str(signature).unwrap());
    headers
}

fn verify(secrets: &[WebhookSecret], headers: &HeaderMap, body: &[u8]) -> Result<usize, Rejection> {
    GiteaWebhook.verify(secrets, headers, body).map(|verified| verified.secret())
}

fn read(event: &'static str, event_type: &'static str, body: &[u8]) -> Result<Content, ContentError> {
    let headers = headers(event, event_type, &sign(SECRET, body));
    GiteaWebhook.read(&GiteaWebhook.verify(&[secret(SECRET)], &headers, body).unwrap())
}

#[track_caller]
fn reads(event: &'static str, event_type: &'static str, body: &[u8], kind: EventKind, reference: &str, change: Change) {
    let content = read(event, event_type, body).unwrap();
    let told: Vec<_> = content.events.iter().map(|event| (event.kind, event.reference.as_deref().unwrap(), event.change)).collect();
    assert_eq!(told, [(kind, reference, change)]);
    assert_eq!(content.repository_id.as_deref(), Some("17"));
    assert_eq!(content.repository_path.as_deref(), Some("acme/shop"));
    assert_eq!(content.delivery_id, "5f6a7c1e-33c1-4d5e-8f3a-000000000001");
    assert!(!content.ping);
}

#[track_caller]
fn reads_nothing(event: &'static str, event_type: &'static str, body: &[u8]) {
    let content = read(event, event_type, body).unwrap();
    assert_eq!((content.events, content.ping), (Vec::new(), false));
}

#[test]
fn the_right_secret_proves_and_is_named_by_position() {
    let body = fixture!("push");
    let headers = headers("push", "push", &sign(SECRET, body));
    assert_eq!(verify(&[secret(SECRET)], &headers, body), Ok(0));
    assert_eq!(verify(&[secret("another-secret-than-that"), secret(SECRET), secret(SECRET)], &headers, body), Ok(1));
}

#[test]
fn a_known_vector_verifies() {
    // The HMAC-SHA256 from GitHub's documentation of its own header. The digest is the same, without the prefix.
    let headers = headers("push", "push", "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
    assert_eq!(verify(&[secret("It's a Secret to Everybody")], &headers, b"Hello, World!"), Ok(0));
}

#[test]
fn a_derived_secret_signs_with_its_text() {
    let derived = WebhookSecret::Derived(DerivedSecret::new([7; 32]));
    let body = fixture!("push");
    let signature = sign(derived.text().expose_secret(), body);
    assert_eq!(verify(&[derived], &headers("push", "push", &signature), body), Ok(0));
}

#[test]
fn a_wrong_proof_is_refused() {
    let body = fixture!("push");
    let right = sign(SECRET, body);
    let refused = |signature: &str, secrets: &[WebhookSecret], body: &[u8]| verify(secrets, &headers("push", "push", signature), body);
    let wrong = Err(Rejection::ProofWrong);
    assert_eq!(refused(&right, &[secret("another-secret-than-that")], body), wrong);
    assert_eq!(refused(&right, &[], body), wrong, "no secret never means yes");
    assert_eq!(refused(&right, &[secret(SECRET)], fixture!("push-created")), wrong);
    assert_eq!(refused(right.get(..62).unwrap(), &[secret(SECRET)], body), wrong, "a shortened digest");
    assert_eq!(refused(&format!("{right}00"), &[secret(SECRET)], body), wrong);
    assert_eq!(refused(&format!("sha256={right}"), &[secret(SECRET)], body), wrong, "GitHub's form is not Gitea's");
    assert_eq!(refused("zz", &[secret(SECRET)], body), wrong);
}

#[test]
fn no_proof_and_an_empty_one_are_refused() {
    let body = fixture!("push");
    let mut headers = headers("push", "push", "");
    assert_eq!(verify(&[secret(SECRET)], &headers, body), Err(Rejection::ProofMissing));
    headers.remove(SIGNATURE);
    assert_eq!(verify(&[secret(SECRET)], &headers, body), Err(Rejection::ProofMissing));
    headers.insert("x-hub-signature-256", HeaderValue::from_str(&format!("sha256={}", sign(SECRET, body))).unwrap());
    assert_eq!(verify(&[secret(SECRET)], &headers, body), Err(Rejection::ProofMissing), "one header proves, not its twins");
}

#[test]
fn an_empty_secret_proves_nothing() {
    let body = fixture!("push");
    assert_eq!(verify(&[secret("")], &headers("push", "push", &sign("", body)), body), Err(Rejection::ProofWrong));
}

#[test]
fn two_signatures_are_refused() {
    let body = fixture!("push");
    let mut headers = headers("push", "push", &sign(SECRET, body));
    headers.append(SIGNATURE, HeaderValue::from_static("00"));
    assert_eq!(verify(&[secret(SECRET)], &headers, body), Err(Rejection::ProofWrong));
}

fn form(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        form.append_pair(name, std::str::from_utf8(value).unwrap());
    }
    form.finish().into_bytes()
}

#[test]
fn a_form_is_proven_over_its_decoded_payload() {
    let document = fixture!("push");
    let body = form(&[("payload", document)]);
    let mut headers = headers("push", "push", &sign(SECRET, document));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("Application/X-WWW-Form-URLencoded; charset=utf-8"));
    let secrets = [secret(SECRET)];
    let verified = GiteaWebhook.verify(&secrets, &headers, &body).unwrap();
    assert_eq!(verified.payload(), document);
    assert_eq!(GiteaWebhook.read(&verified).unwrap().events.len(), 1);

    headers.insert(SIGNATURE, HeaderValue::from_str(&sign(SECRET, &body)).unwrap());
    assert_eq!(verify(&secrets, &headers, &body), Err(Rejection::ProofWrong), "the encoded body is not what is signed");
}

#[test]
fn a_form_with_no_payload_or_two_is_unreadable() {
    let document = fixture!("push");
    let mut headers = headers("push", "push", &sign(SECRET, document));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    for body in [form(&[]), form(&[("other", document)]), form(&[("payload", document), ("payload", b"{}")])] {
        assert_eq!(verify(&[secret(SECRET)], &headers, &body), Err(Rejection::Unreadable));
    }
}

#[test]
fn pushes_tell_branches_and_tags_apart() {
    reads("push", "push", fixture!("push"), EventKind::Push, "refs/heads/main", Change::Updated);
    reads("push", "push", fixture!("push-created"), EventKind::Push, "refs/heads/release/1.0", Change::Created);
    reads("push", "push", fixture!("push-tag"), EventKind::Tag, "refs/tags/v1.0.0", Change::Created);
    reads("push", "push", fixture!("push-tag-deleted"), EventKind::Tag, "refs/tags/v1.0.0", Change::Deleted);
    reads_nothing("push", "push", fixture!("push-note"));
}

#[test]
fn what_a_push_tells_too_is_not_counted_twice() {
    reads_nothing("create", "create", fixture!("create-branch"));
    reads_nothing("create", "create", fixture!("create-tag"));
    reads_nothing("delete", "delete", fixture!("delete-tag"));
    reads("delete", "delete", fixture!("delete-branch"), EventKind::Push, "refs/heads/release/1.0", Change::Deleted);
}

#[test]
fn pull_requests_tell_opening_merging_and_closing_apart() {
    let read = |event_type, body: &[u8], kind| reads("pull_request", event_type, body, kind, "refs/heads/main", Change::Updated);
    read("pull_request", fixture!("pull-request-opened"), EventKind::PullRequest);
    read("pull_request", fixture!("pull-request-reopened"), EventKind::PullRequest);
    read("pull_request_sync", fixture!("pull-request-synchronized"), EventKind::PullRequest);
    read("pull_request", fixture!("pull-request-merged"), EventKind::PullRequestMerged);
    read("pull_request", fixture!("pull-request-closed"), EventKind::PullRequestClosed);
    reads_nothing("pull_request", "pull_request_label", fixture!("pull-request-labelled"));
}

#[test]
fn comments_count_on_pull_requests_only() {
    let read = |event, event_type, body: &[u8]| {
        reads(event, event_type, body, EventKind::PullRequestComment, "refs/heads/main", Change::Updated);
    };
    read("issue_comment", "pull_request_comment", fixture!("pull-request-comment"));
    read("pull_request_comment", "pull_request_review_comment", fixture!("pull-request-review-comment"));
    reads_nothing("issue_comment", "pull_request_comment", fixture!("pull-request-comment-edited"));
    reads_nothing("issue_comment", "issue_comment", fixture!("issue-comment"));
    reads_nothing("release", "release", fixture!("release"));
}

#[test]
fn a_test_delivery_is_a_ping() {
    let content = read("push", "push", fixture!("push-test")).unwrap();
    assert!(content.ping);
    assert_eq!(content.events, []);
    assert_eq!(content.repository_id.as_deref(), Some("17"));
}

#[test]
fn what_is_not_documented_is_an_error() {
    assert!(read("push", "push", b"not json").is_err());
    assert!(read("push", "push", b"{}").is_err());
    assert!(read("", "push", fixture!("push")).is_err());
}
