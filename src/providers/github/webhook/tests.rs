use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use ring::hmac;

use super::super::fixture_tests::recorded;
use super::*;
use crate::api::v1alpha1::EventKind;

const SECRET: &str = "a-secret-of-the-users-own";

fn secret(value: &str) -> WebhookSecret {
    WebhookSecret::Text(value.into())
}

fn sign(secret: &str, body: &[u8]) -> String {
    format!("sha256={}", hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body)))
}

/// A recorded delivery, signed.
fn delivery(name: &str) -> (HeaderMap, Vec<u8>) {
    let recorded = recorded(&format!("deliveries/{name}"));
    let mut headers = recorded.headers;
    headers.insert(SIGNATURE, HeaderValue::from_str(&sign(SECRET, &recorded.body)).unwrap());
    (headers, recorded.body)
}

fn verify(secrets: &[WebhookSecret], headers: &HeaderMap, body: &[u8]) -> Result<usize, Rejection> {
    GitHubWebhook.verify(secrets, headers, body).map(|verified| verified.secret())
}

fn read(name: &str) -> Content {
    let (headers, body) = delivery(name);
    GitHubWebhook.read(&GitHubWebhook.verify(&[secret(SECRET)], &headers, &body).unwrap()).unwrap()
}

#[test]
fn dv_10_bb_05_every_event_is_read() {
    use Change::{Created, Deleted, Updated};
    use EventKind::{PullRequest, PullRequestClosed, PullRequestComment, PullRequestMerged, Push, Tag};
    let (main, release, tag) = (Some("refs/heads/main"), Some("refs/heads/release/1.0"), Some("refs/tags/v1"));
    for (name, expected) in [
        ("push", Some((Push, main, Updated))),
        ("push-forced", Some((Push, main, Updated))),
        ("push-created", Some((Push, release, Created))),
        ("push-deleted", Some((Push, release, Deleted))),
        ("push-tag", Some((Tag, tag, Created))),
        ("push-tag-moved", Some((Tag, tag, Updated))),
        ("push-tag-deleted", Some((Tag, tag, Deleted))),
        ("push-other-reference", None),
        ("pull-request-opened", Some((PullRequest, main, Updated))),
        ("pull-request-reopened", Some((PullRequest, main, Updated))),
        ("pull-request-ready", Some((PullRequest, main, Updated))),
        ("pull-request-synchronized", Some((PullRequest, main, Updated))),
        ("pull-request-merged", Some((PullRequestMerged, main, Updated))),
        ("pull-request-closed", Some((PullRequestClosed, main, Updated))),
        ("pull-request-labelled", None),
        ("comment", Some((PullRequestComment, None, Updated))),
        ("comment-edited", None),
        ("comment-on-issue", None),
        ("review-comment", Some((PullRequestComment, main, Updated))),
        ("create-branch", None),
        ("meta-deleted", None),
    ] {
        let content = read(name);
        let told: Vec<_> = content.events.iter().map(|event| (event.kind, event.reference.as_deref(), event.change)).collect();
        assert_eq!(told, expected.into_iter().collect::<Vec<_>>(), "{name}");
        assert_eq!(content.repository_id.as_deref(), Some("17"), "{name}");
        assert_eq!(content.repository_path.as_deref(), Some("acme/shop"), "{name}");
        assert_eq!(content.delivery_id, "72d3162e-cc78-11e3-81ab-4c9367dc0958", "{name}");
        assert!(!content.ping, "{name}");
    }
}

#[test]
fn bb_19_a_ping_is_a_ping() {
    let content = read("ping");
    assert_eq!((content.ping, content.events, content.repository_id.as_deref()), (true, Vec::new(), Some("17")));
    let content = read("ping-organization");
    assert_eq!((content.ping, content.repository_id), (true, None));
}

#[test]
fn what_is_about_no_repository_tells_nothing() {
    let content = read("installation-suspend");
    assert_eq!((content.events, content.repository_id, content.ping), (Vec::new(), None, false));
}

#[test]
fn a_known_vector_verifies() {
    // The example from GitHub's documentation, "Validating webhook deliveries".
    let digest = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let headers = HeaderMap::from_iter([(HeaderName::from_static(SIGNATURE), HeaderValue::from_static(digest))]);
    assert_eq!(verify(&[secret("It's a Secret to Everybody")], &headers, b"Hello, World!"), Ok(0));
}

#[test]
fn the_right_secret_proves_and_is_named_by_position() {
    let (headers, body) = delivery("push");
    assert_eq!(verify(&[secret(SECRET)], &headers, &body), Ok(0));
    assert_eq!(verify(&[secret("another-secret-than-that"), secret(SECRET)], &headers, &body), Ok(1));
    let wrong = Err(Rejection::ProofWrong);
    assert_eq!(verify(&[secret("another-secret-than-that")], &headers, &body), wrong);
    assert_eq!(verify(&[], &headers, &body), wrong, "no secret never means yes");
    assert_eq!(verify(&[secret(SECRET)], &headers, b"{}"), wrong);
}

#[test]
fn a_proof_that_is_none_is_refused() {
    let (headers, body) = delivery("push");
    let right = sign(SECRET, &body);
    let with = |signature: &str| {
        let mut headers = headers.clone();
        headers.insert(SIGNATURE, HeaderValue::from_str(signature).unwrap());
        verify(&[secret(SECRET)], &headers, &body)
    };
    assert_eq!(with(""), Err(Rejection::ProofMissing));
    for signature in [right.trim_start_matches("sha256="), right.get(..70).unwrap(), &format!("{right}00"), "sha256=", "sha1=00"] {
        assert_eq!(with(signature), Err(Rejection::ProofWrong), "{signature}");
    }
    let mut headers = headers;
    headers.append(SIGNATURE, HeaderValue::from_str(&right).unwrap());
    assert_eq!(verify(&[secret(SECRET)], &headers, &body), Err(Rejection::ProofWrong), "two of them");
    let twin = headers.remove(SIGNATURE).unwrap();
    headers.insert("x-hub-signature", twin);
    assert_eq!(verify(&[secret(SECRET)], &headers, &body), Err(Rejection::ProofMissing), "the SHA-1 twin proves nothing");
}

#[test]
fn an_empty_secret_proves_nothing() {
    let (mut headers, body) = delivery("push");
    headers.insert(SIGNATURE, HeaderValue::from_str(&sign("", &body)).unwrap());
    assert_eq!(verify(&[secret("")], &headers, &body), Err(Rejection::ProofWrong));
}

#[test]
fn a_form_is_proven_as_it_was_sent_and_read_decoded() {
    let (mut headers, document) = delivery("push-tag");
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    let body = form.append_pair("payload", std::str::from_utf8(&document).unwrap()).finish().into_bytes();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    assert_eq!(verify(&[secret(SECRET)], &headers, &body), Err(Rejection::ProofWrong), "the decoded document is not what is signed");
    headers.insert(SIGNATURE, HeaderValue::from_str(&sign(SECRET, &body)).unwrap());
    let secrets = [secret(SECRET)];
    let verified = GitHubWebhook.verify(&secrets, &headers, &body).unwrap();
    assert_eq!(verified.payload(), document);
    assert_eq!(GitHubWebhook.read(&verified).unwrap().events[0].kind, EventKind::Tag);

    headers.insert(SIGNATURE, HeaderValue::from_str(&sign(SECRET, b"other=1")).unwrap());
    assert_eq!(verify(&secrets, &headers, b"other=1"), Err(Rejection::Unreadable));
}

#[test]
fn what_is_not_documented_is_an_error_and_no_panic() {
    for (event, body) in [("push", "{}"), ("push", "[]"), ("push", "not JSON"), ("pull_request", r#"{"repository":{"id":"17"}}"#)] {
        let (mut headers, _) = delivery("push");
        headers.insert(EVENT, HeaderValue::from_static(event));
        headers.insert(SIGNATURE, HeaderValue::from_str(&sign(SECRET, body.as_bytes())).unwrap());
        let secrets = [secret(SECRET)];
        let verified = GitHubWebhook.verify(&secrets, &headers, body.as_bytes()).unwrap();
        assert!(GitHubWebhook.read(&verified).is_err(), "{event} {body}");
    }
}

#[test]
fn the_rules_are_githubs() {
    let rules = GitHubWebhook.rules();
    assert_eq!((rules.body_limit, rules.secret_grace.as_secs()), (25 << 20, 72 * 3600));
    assert!(!rules.proof_in_header);
}
