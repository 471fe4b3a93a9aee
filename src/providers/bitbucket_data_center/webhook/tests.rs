use http::{HeaderName, HeaderValue};
use ring::hmac;
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::*;
use crate::api::v1alpha1::EventKind;
use crate::protocol::secret::DerivedSecret;

const SECRET: &str = "a-secret-of-the-users-own";

/// A recorded delivery: its headers without the signature, and its body.
#[derive(Deserialize)]
struct Recorded {
    headers: std::collections::BTreeMap<String, String>,
    body: Value,
}

macro_rules! fixture {
    ($name:literal) => {
        serde_json::from_str::<Recorded>(include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/bitbucket_data_center/",
            $name,
            ".json"
        )))
        .unwrap()
    };
}

fn secret(value: &str) -> WebhookSecret {
    WebhookSecret::Text(value.into())
}

fn sign(secret: &str, payload: &[u8]) -> String {
    format!("sha256={}", hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), payload)))
}

impl Recorded {
    fn payload(&self) -> Vec<u8> {
        self.body.to_string().into_bytes()
    }

    fn headers(&self) -> HeaderMap {
        let pairs = self.headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()));
        pairs.collect()
    }

    fn signed(&self, signature: &str) -> HeaderMap {
        let mut headers = self.headers();
        headers.insert(SIGNATURE, HeaderValue::from_str(signature).unwrap());
        headers
    }

    fn read(&self) -> Result<Content, ContentError> {
        let body = self.payload();
        let headers = self.signed(&sign(SECRET, &body));
        BitbucketDataCenterWebhook.read(&BitbucketDataCenterWebhook.verify(&[secret(SECRET)], &headers, &body).unwrap())
    }
}

fn verify(secrets: &[WebhookSecret], headers: &HeaderMap, body: &[u8]) -> Result<usize, Rejection> {
    BitbucketDataCenterWebhook.verify(secrets, headers, body).map(|verified| verified.secret())
}

#[track_caller]
fn reads(recorded: &Recorded, expected: &[(EventKind, &str, Change)]) {
    let content = recorded.read().unwrap();
    let told: Vec<_> = content.events.iter().map(|event| (event.kind, event.reference.as_deref().unwrap(), event.change)).collect();
    assert_eq!(told, expected);
    assert_eq!((content.repository_id.as_deref(), content.repository_path.as_deref()), (Some("17"), Some("APP/shop")));
    assert_eq!(content.delivery_id, recorded.headers["X-Request-Id"]);
    assert!(!content.ping);
}

#[test]
fn the_right_secret_proves_and_is_named_by_position() {
    let push = fixture!("push");
    let body = push.payload();
    let headers = push.signed(&sign(SECRET, &body));
    assert_eq!(verify(&[secret(SECRET)], &headers, &body), Ok(0));
    assert_eq!(verify(&[secret("another-secret-than-that"), secret(SECRET)], &headers, &body), Ok(1));
    let derived = WebhookSecret::Derived(DerivedSecret::new([7; 32]));
    let headers = push.signed(&sign(derived.text().expose_secret(), &body));
    assert_eq!(verify(&[derived], &headers, &body), Ok(0));
}

#[test]
fn bb_21_pk_13_a_wrong_proof_is_refused() {
    let push = fixture!("push");
    let body = push.payload();
    let right = sign(SECRET, &body);
    let refused = |signature: &str, secrets: &[WebhookSecret], body: &[u8]| verify(secrets, &push.signed(signature), body);
    let wrong = Err(Rejection::ProofWrong);
    assert_eq!(refused(&right, &[secret("another-secret-than-that")], &body), wrong);
    assert_eq!(refused(&right, &[], &body), wrong, "no secret never means yes");
    assert_eq!(refused(&right, &[secret(SECRET)], b"{}"), wrong);
    assert_eq!(refused(right.trim_start_matches("sha256="), &[secret(SECRET)], &body), wrong, "no prefix");
    for signature in ["sha256=", "sha25", "s", "sha256=zz", "sha1=00", right.get(..69).unwrap(), &format!("{right}00")] {
        assert_eq!(refused(signature, &[secret(SECRET)], &body), wrong, "{signature}");
    }
    assert_eq!(refused(&sign("", &body), &[secret("")], &body), wrong, "anyone can sign with an empty secret");
    let missing = Err(Rejection::ProofMissing);
    assert_eq!(refused("", &[secret(SECRET)], &body), missing);
    assert_eq!(verify(&[secret(SECRET)], &push.headers(), &body), missing);
    let mut two = push.signed(&right);
    two.append(SIGNATURE, HeaderValue::from_static("sha256=00"));
    assert_eq!(verify(&[secret(SECRET)], &two, &body), wrong);
}

#[test]
fn the_documented_test_is_unsigned_and_nothing_else_is() {
    let ping = fixture!("ping");
    let secrets = [secret(SECRET)];
    let (unsigned, missing) = (Err(Rejection::UnsignedTest), Err(Rejection::ProofMissing));
    assert_eq!(verify(&secrets, &ping.headers(), &ping.payload()), unsigned);
    assert_eq!(verify(&secrets, &ping.headers(), br#" { "test" : true } "#), unsigned);
    let padded = format!("{}{}", " ".repeat(LONGEST_TEST), r#"{"test":true}"#);
    for body in [r#"{"test":false}"#, r#"{"test":true,"changes":[]}"#, "{}", "", "true", padded.as_str()] {
        assert_eq!(verify(&secrets, &ping.headers(), body.as_bytes()), missing, "{body}");
    }
    let mut push = fixture!("push").headers();
    assert_eq!(verify(&secrets, &push, &ping.payload()), missing, "a push is no test");
    push.remove(EVENT);
    assert_eq!(verify(&secrets, &push, &ping.payload()), missing);
    assert_eq!(verify(&secrets, &ping.signed("sha256=00"), &ping.payload()), Err(Rejection::ProofWrong));
    let content = ping.read().unwrap();
    assert!(content.ping && content.events.is_empty() && content.repository_id.is_none(), "a signed test is a ping");
}

#[test]
fn pushes_tell_branches_and_tags_apart() {
    use Change::{Created, Deleted, Updated};
    use EventKind::{Push, Tag};
    reads(&fixture!("push"), &[(Push, "refs/heads/main", Updated)]);
    reads(&fixture!("push-created"), &[(Push, "refs/heads/release/1.0", Created)]);
    reads(&fixture!("push-deleted"), &[(Push, "refs/heads/release/1.0", Deleted)]);
    reads(&fixture!("push-tag"), &[(Tag, "refs/tags/v1.0.0", Created)]);
    reads(&fixture!("push-tag-deleted"), &[(Tag, "refs/tags/v1.0.0", Deleted)]);
}

#[test]
fn one_push_of_several_references_is_several_events_in_order() {
    use Change::{Created, Deleted, Updated};
    use EventKind::{Push, Tag};
    let expected = [
        (Push, "refs/heads/main", Updated),
        (Tag, "refs/tags/v1.0.0", Created),
        (Push, "refs/heads/old/branch", Deleted),
        (Tag, "refs/tags/v0.9.0", Updated),
        (Push, "refs/heads/release/1.0", Created),
    ];
    reads(&fixture!("push-several"), &expected);
}

#[test]
fn a_personal_repository_is_named_by_its_own_key() {
    let content = fixture!("push-personal").read().unwrap();
    assert_eq!((content.repository_id.as_deref(), content.repository_path.as_deref()), (Some("23"), Some("~ADA/notes")));
}

#[test]
fn pull_requests_tell_opening_merging_and_closing_apart() {
    let read = |recorded: &Recorded, kind| reads(recorded, &[(kind, "refs/heads/main", Change::Updated)]);
    read(&fixture!("pull-request-opened"), EventKind::PullRequest);
    read(&fixture!("pull-request-opened-from-fork"), EventKind::PullRequest);
    read(&fixture!("pull-request-source-updated"), EventKind::PullRequest);
    read(&fixture!("pull-request-merged"), EventKind::PullRequestMerged);
    read(&fixture!("pull-request-declined"), EventKind::PullRequestClosed);
    read(&fixture!("pull-request-deleted"), EventKind::PullRequestClosed);
    read(&fixture!("pull-request-comment"), EventKind::PullRequestComment);
    reads(&fixture!("pull-request-comment-edited"), &[]);
    reads(&fixture!("pull-request-modified"), &[]);
}

#[test]
fn what_is_not_documented_is_an_error() {
    for body in [json!({}), json!([]), json!("text"), json!({"changes": [{"refId": "refs/heads/main"}]})] {
        let recorded = Recorded { body, ..fixture!("push") };
        assert!(recorded.read().is_err(), "{}", recorded.body);
    }
    assert!(Recorded { body: json!({}), ..fixture!("pull-request-opened") }.read().is_err());
    let mut recorded = fixture!("push");
    recorded.headers.remove("X-Event-Key");
    assert!(recorded.read().is_err(), "nobody can tell what it is");
    let note = Recorded {
        body: json!({"changes": [{"refId": "refs/notes/x", "fromHash": "0", "toHash": "1", "type": "ADD"}]}),
        ..fixture!("push")
    };
    assert_eq!(note.read().unwrap().events, [], "neither branch nor tag");
}
