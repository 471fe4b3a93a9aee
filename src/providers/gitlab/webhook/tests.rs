use http::HeaderValue;

use super::*;
use crate::api::v1alpha1::EventKind;
use crate::protocol::secret::DerivedSecret;
use crate::providers::webhook::PROOF_WINDOW;

const OWN: &str = "a-secret-of-the-users-own";
const SENT_AT: i64 = 1_795_176_000;

/// A delivery as GitLab sends it, without a proof.
struct Delivery {
    headers: HeaderMap,
    body: Vec<u8>,
}

macro_rules! delivery {
    ($name:literal) => {
        Delivery::read(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gitlab/", $name, ".json")))
    };
}

impl Delivery {
    fn read(fixture: &str) -> Self {
        #[derive(Deserialize)]
        struct Fixture {
            headers: std::collections::BTreeMap<String, String>,
            body: serde_json::Value,
        }
        let fixture: Fixture = serde_json::from_str(fixture).unwrap();
        let headers = fixture.headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()));
        Self { headers: headers.collect(), body: fixture.body.to_string().into_bytes() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    fn with_token(self, token: &str) -> Self {
        self.with(TOKEN_HEADER, token)
    }

    fn signed(self, key: &[u8]) -> Self {
        let id = self.headers.get(IDEMPOTENCY_KEY).unwrap().to_str().unwrap().to_owned();
        let signature = sign(key, &id, SENT_AT, &self.body);
        self.with(SIGNED_ID, &id).with(SIGNED_TIME, &SENT_AT.to_string()).with(SIGNATURE, &signature)
    }

    fn verify(&self, secrets: &[WebhookSecret]) -> Result<usize, Rejection> {
        GitLabWebhook.verify(secrets, &self.headers, &self.body).map(|verified| verified.secret())
    }
}

fn sign(key: &[u8], id: &str, second: i64, body: &[u8]) -> String {
    let signed = [format!("{id}.{second}.").as_bytes(), body].concat();
    format!("v1,{}", STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &signed)))
}

fn own(text: &str) -> WebhookSecret {
    WebhookSecret::Text(text.into())
}

fn derived(seed: u8) -> WebhookSecret {
    WebhookSecret::Derived(DerivedSecret::new([seed; 32]))
}

fn text_of(secret: &WebhookSecret) -> String {
    secret.text().expose_secret().to_owned()
}

fn read(delivery: &Delivery) -> Result<Content, ContentError> {
    let secrets = [own(OWN)];
    GitLabWebhook.read(&GitLabWebhook.verify(&secrets, &delivery.headers, &delivery.body).unwrap())
}

#[track_caller]
fn reads(delivery: Delivery, kind: EventKind, reference: &str, change: Change) {
    let content = read(&delivery.with_token(OWN)).unwrap();
    let told: Vec<_> = content.events.iter().map(|event| (event.kind, event.reference.as_deref().unwrap(), event.change)).collect();
    assert_eq!(told, [(kind, reference, change)]);
    assert_eq!(content.repository_id.as_deref(), Some("17"));
    assert_eq!(content.repository_path.as_deref(), Some("acme/apps/shop"));
    assert!(content.delivery_id.starts_with("5f6a7c1e-33c1-4d5e-8f3a-"), "{}", content.delivery_id);
    assert!(!content.ping);
}

#[track_caller]
fn reads_nothing(delivery: Delivery) {
    let content = read(&delivery.with_token(OWN)).unwrap();
    assert_eq!((content.events, content.repository_id.as_deref()), (Vec::new(), Some("17")));
}

#[test]
fn a_known_vector_of_standard_webhooks_verifies() {
    // The example from the reference libraries of the specification.
    let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let (body, second) = (br#"{"test": 2432232314}"#, 1_614_265_330);
    assert_eq!(sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", second, body), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    let delivery = delivery!("push")
        .with(SIGNED_ID, "msg_p5jXN8AQM9LWM0D4loKWxJek")
        .with(SIGNED_TIME, "1614265330")
        .with(SIGNATURE, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert!(Signature::read(&delivery.headers).unwrap().fits(&key, body));
}

#[test]
fn a_derived_secret_signs_with_its_bytes() {
    let delivery = delivery!("push").signed(&[7; 32]);
    assert_eq!(delivery.verify(&[derived(6), derived(7), derived(7)]), Ok(1));
    assert_eq!(delivery.verify(&[derived(6)]), Err(Rejection::ProofWrong));
    assert_eq!(delivery.verify(&[]), Err(Rejection::ProofWrong), "no secret never means yes");
    let rotating = sign(&[6; 32], "other", SENT_AT, b"") + " v2,AAAA " + delivery.headers.get(SIGNATURE).unwrap().to_str().unwrap();
    assert_eq!(delivery.with(SIGNATURE, &rotating).verify(&[derived(7)]), Ok(0), "one of several is enough");
}

#[test]
fn every_signed_part_counts() {
    let refused = |delivery: Delivery| assert_eq!(delivery.verify(&[derived(7)]), Err(Rejection::ProofWrong));
    let signed = || delivery!("push").signed(&[7; 32]);
    refused(signed().with(SIGNED_ID, "another"));
    refused(signed().with(SIGNED_TIME, &(SENT_AT + 1).to_string()));
    refused(Delivery { body: b"{}".to_vec(), ..signed() });
    for malformed in ["", "v1", "v1,", "v1,zz", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="] {
        refused(signed().with(SIGNATURE, malformed).with_token("wrong"));
    }
    refused(signed().with(SIGNED_TIME, "soon"));
    let mut twice = signed();
    twice.headers.append(SIGNATURE, HeaderValue::from_static("v1,AAAA"));
    refused(twice);
}

#[test]
fn where_a_signature_is_sent_the_token_does_not_count() {
    let secret = derived(7);
    let token = text_of(&secret);
    assert_eq!(delivery!("push").with_token(&token).verify(&[derived(6), secret.clone()]), Ok(1), "of a hook that does not sign");
    let wrong = delivery!("push").signed(&[6; 32]).with_token(&token);
    assert_eq!(wrong.verify(std::slice::from_ref(&secret)), Err(Rejection::ProofWrong));
    assert_eq!(delivery!("push").with_token(&token).with(SIGNATURE, "v1,AAAA").verify(&[secret]), Err(Rejection::ProofWrong));
}

#[test]
fn pk_10_a_users_own_secret_counts_as_a_token_only() {
    assert_eq!(delivery!("push").with_token(OWN).verify(&[own("another-secret-than-that"), own(OWN)]), Ok(1));
    for wrong in ["a-secret-of-the-users-owm", "a-secret-of-the-users-ow", "a-secret-of-the-users-own2"] {
        assert_eq!(delivery!("push").with_token(wrong).verify(&[own(OWN)]), Err(Rejection::ProofWrong), "{wrong}");
    }
    assert_eq!(delivery!("push").signed(OWN.as_bytes()).verify(&[own(OWN)]), Err(Rejection::ProofWrong));
    assert_eq!(delivery!("push").signed(&[1; 32]).with_token(OWN).verify(&[own(OWN)]), Ok(0), "somebody's signature beside it");
    let mut twice = delivery!("push").with_token(OWN);
    twice.headers.append(TOKEN_HEADER, HeaderValue::from_static(OWN));
    assert_eq!(twice.verify(&[own(OWN)]), Err(Rejection::ProofWrong));
}

#[test]
fn no_proof_and_an_empty_one_are_refused() {
    assert_eq!(delivery!("push").verify(&[own(OWN), derived(7)]), Err(Rejection::ProofMissing));
    assert_eq!(delivery!("push").with_token("").verify(&[own(OWN)]), Err(Rejection::ProofMissing));
    assert_eq!(delivery!("push").with_token("").verify(&[own("")]), Err(Rejection::ProofMissing));
    assert_eq!(delivery!("push").signed(b"").verify(&[own("")]), Err(Rejection::ProofWrong), "anyone can sign with nothing");
}

#[test]
fn a_signature_is_good_for_five_minutes() {
    let (delivery, secrets) = (delivery!("push").signed(&[7; 32]), [derived(7)]);
    let verified = GitLabWebhook.verify(&secrets, &delivery.headers, &delivery.body).unwrap();
    let sent = Timestamp::from_second(SENT_AT).unwrap();
    let second = jiff::SignedDuration::from_secs(1);
    for (now, timely) in [
        (sent, true),
        (sent + PROOF_WINDOW, true),
        (sent - PROOF_WINDOW, true),
        (sent + PROOF_WINDOW + second, false),
        (sent - PROOF_WINDOW - second, false),
    ] {
        assert_eq!(verified.is_timely(now), timely, "{now}");
    }
    let token = delivery!("push").signed(&[1; 32]).with_token(OWN);
    let secrets = [own(OWN)];
    let verified = GitLabWebhook.verify(&secrets, &token.headers, &token.body).unwrap();
    assert!(verified.is_timely(Timestamp::MAX), "a token tells no time, and a time that nothing proved does not count");
}

#[test]
fn pushes_tell_branches_and_tags_apart() {
    reads(delivery!("push"), EventKind::Push, "refs/heads/main", Change::Updated);
    reads(delivery!("push-created"), EventKind::Push, "refs/heads/release/1.0", Change::Created);
    reads(delivery!("push-deleted"), EventKind::Push, "refs/heads/release/1.0", Change::Deleted);
    reads(delivery!("tag-created"), EventKind::Tag, "refs/tags/v1.0.0", Change::Created);
    reads(delivery!("tag-moved"), EventKind::Tag, "refs/tags/v1.0.0", Change::Updated);
    reads(delivery!("tag-deleted"), EventKind::Tag, "refs/tags/v1.0.0", Change::Deleted);
}

#[test]
fn merge_requests_tell_opening_merging_and_closing_apart() {
    let read = |delivery, kind| reads(delivery, kind, "refs/heads/main", Change::Updated);
    read(delivery!("merge-request-opened"), EventKind::PullRequest);
    read(delivery!("merge-request-reopened"), EventKind::PullRequest);
    read(delivery!("merge-request-updated"), EventKind::PullRequest);
    read(delivery!("merge-request-merged"), EventKind::PullRequestMerged);
    read(delivery!("merge-request-closed"), EventKind::PullRequestClosed);
    reads_nothing(delivery!("merge-request-labelled"));
    reads_nothing(delivery!("merge-request-approved"));
}

#[test]
fn comments_count_on_merge_requests_only() {
    reads(delivery!("note-merge-request"), EventKind::PullRequestComment, "refs/heads/main", Change::Updated);
    reads_nothing(delivery!("note-merge-request-edited"));
    reads_nothing(delivery!("note-issue"));
    reads_nothing(delivery!("pipeline"));
}

#[test]
fn a_delivery_is_known_by_what_its_sender_repeats() {
    let id = |delivery: &Delivery| read(delivery).unwrap().delivery_id;
    let plain = || delivery!("push").with_token(OWN);
    assert_eq!(id(&plain()), "5f6a7c1e-33c1-4d5e-8f3a-000000000001");
    let mut older = plain();
    older.headers.remove(IDEMPOTENCY_KEY);
    let first = id(&older);
    assert!(first.starts_with("7e4b1d90-6c3f-4a77-b2c8-000000000001-"), "{first}");
    assert_eq!(id(&older), first);
    older.body = delivery!("push-created").body;
    assert_ne!(id(&older), first, "hooks of one chain share the event's id");
}

#[test]
fn a_captured_delivery_does_not_become_another_by_an_unsigned_header() {
    let secrets = [derived(7)];
    let delivery = delivery!("push").signed(&[7; 32]).with(IDEMPOTENCY_KEY, "another");
    let verified = GitLabWebhook.verify(&secrets, &delivery.headers, &delivery.body).unwrap();
    assert_eq!(GitLabWebhook.read(&verified).unwrap().delivery_id, "5f6a7c1e-33c1-4d5e-8f3a-000000000001");
}

#[test]
fn what_is_not_documented_is_an_error() {
    let body = |text: &str| Delivery { body: text.as_bytes().to_vec(), ..delivery!("push").with_token(OWN) };
    for text in ["not json", "[]", r#"{"object_kind":"push"}"#, r#"{"object_kind":"merge_request"}"#, r#"{"project":{"id":"17"}}"#] {
        assert!(read(&body(text)).is_err(), "{text}");
    }
    assert_eq!(read(&body(r#"{"object_kind":"build","project_id":17}"#)).unwrap().repository_id.as_deref(), Some("17"));
    assert_eq!(read(&body(r#"{"event_name":"user_add_to_team"}"#)).unwrap().repository_id, None);
    let changes = r#"{"event_name":"repository_update","project_id":17,"changes":[{"ref":"refs/heads/main"}]}"#;
    assert_eq!(read(&body(changes)).unwrap().events, [], "other events have something else under that name");
    let odd = r#"{"object_kind":"merge_request","project_id":17,"object_attributes":{"action":"update"},"changes":{"title":7}}"#;
    assert_eq!(read(&body(odd)).unwrap().events, []);
}
