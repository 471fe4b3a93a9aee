use http::{HeaderName, HeaderValue};

use super::*;
use crate::protocol::secret::DerivedSecret;

const SECRET: &str = "a-secret-of-the-users-own";

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/azure_devops/", $name, ".json")).as_slice()
    };
}

fn text(value: &str) -> WebhookSecret {
    WebhookSecret::Text(value.into())
}

fn login(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

/// The documented and observed headers of a delivery, with these in addition.
fn headers(more: &[(&str, &str)]) -> HeaderMap {
    let known = include_str!("../../../../tests/fixtures/azure_devops/delivery.headers");
    let known = known.lines().filter_map(|line| line.split_once(": "));
    let mut headers = HeaderMap::new();
    for (name, value) in known.chain(more.iter().copied()) {
        headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn verify(secrets: &[WebhookSecret], more: &[(&str, &str)]) -> Result<usize, Rejection> {
    AzureDevOpsWebhook.verify(secrets, &headers(more), b"").map(|verified| verified.secret())
}

fn read(body: &[u8]) -> Result<Content, ContentError> {
    let headers = headers(&[("authorization", &login("forgebind", SECRET))]);
    AzureDevOpsWebhook.read(&AzureDevOpsWebhook.verify(&[text(SECRET)], &headers, body).unwrap())
}

#[track_caller]
fn reads(body: &[u8], kind: EventKind) {
    let content = read(body).unwrap();
    let told: Vec<_> = content.events.iter().map(|event| (event.kind, event.reference.as_deref(), event.change)).collect();
    assert_eq!((told, content.ping), (vec![(kind, Some("refs/heads/main"), Change::Updated)], false));
    assert_eq!(content.repository_id.as_deref(), Some("0f7c9d5e-24c1-4a57-9b0e-3d5a1c8e7f22"));
    assert_eq!(content.repository_path.as_deref(), Some("My Shop/web"));
}

#[track_caller]
fn reads_nothing(body: &[u8]) {
    let content = read(body).unwrap();
    assert_eq!((content.events, content.ping), (Vec::new(), false));
}

#[test]
fn pk_27_the_password_proves_and_the_secret_is_named_by_position() {
    let right = login("forgebind", SECRET);
    assert_eq!(verify(&[text(SECRET)], &[("authorization", &right)]), Ok(0));
    assert_eq!(verify(&[text("another-secret-than-that"), text(SECRET), text(SECRET)], &[("authorization", &right)]), Ok(1));
    let lower = right.replace("Basic", "basic");
    assert_eq!(verify(&[text(SECRET)], &[("authorization", &lower)]), Ok(0));
    let derived = WebhookSecret::Derived(DerivedSecret::new([7; 32]));
    let derived_login = login("forgebind", derived.text().expose_secret());
    assert_eq!(verify(&[derived], &[("authorization", &derived_login)]), Ok(0));
    let pair = WebhookSecret::BasicAuth { username: "ada".into(), password: SECRET.into() };
    assert_eq!(verify(std::slice::from_ref(&pair), &[("authorization", &login("ada", SECRET))]), Ok(0));
    assert_eq!(verify(&[pair], &[("authorization", &right)]), Err(Rejection::ProofWrong), "the user name is a part of it");
}

#[test]
fn bb_18_a_header_of_the_users_own_proves() {
    let secret = || WebhookSecret::Header { name: "X-Azure-Token".into(), value: SECRET.into() };
    assert_eq!(verify(&[secret()], &[("x-azure-token", SECRET)]), Ok(0));
    assert_eq!(verify(&[secret()], &[("x-azure-token", "wrong")]), Err(Rejection::ProofWrong));
    assert_eq!(verify(&[secret()], &[]), Err(Rejection::ProofMissing));
    assert_eq!(verify(&[secret()], &[("authorization", &login("forgebind", SECRET))]), Err(Rejection::ProofWrong));
    assert_eq!(verify(&[secret()], &[("x-azure-token", SECRET), ("x-azure-token", SECRET)]), Err(Rejection::ProofWrong));
    let both = [text("another-secret-than-that"), secret()];
    assert_eq!(verify(&both, &[("x-azure-token", SECRET)]), Ok(1));
}

#[test]
fn a_wrong_proof_is_refused_before_there_is_a_body() {
    let wrong = Err(Rejection::ProofWrong);
    let refused = |authorization: &str| verify(&[text(SECRET)], &[("authorization", authorization)]);
    assert_eq!(refused(&login("forgebind", "another-secret-than-that")), wrong);
    assert_eq!(refused(&login("somebody", SECRET)), wrong);
    assert_eq!(refused(&login("forgebind", "a-secret-o")), wrong);
    assert_eq!(refused(&format!("Bearer {SECRET}")), wrong);
    assert_eq!(refused("Basic"), wrong);
    assert_eq!(refused("Basic ***"), wrong);
    assert_eq!(refused(SECRET), wrong);
    assert_eq!(verify(&[], &[("authorization", &login("forgebind", SECRET))]), wrong, "no secret never means yes");
    assert_eq!(verify(&[text("")], &[("authorization", &login("forgebind", ""))]), wrong, "an empty one neither");
    assert_eq!(verify(&[text(SECRET)], &[]), Err(Rejection::ProofMissing));
    let twice = [("authorization", login("forgebind", SECRET)), ("authorization", login("forgebind", SECRET))];
    let twice: Vec<_> = twice.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(verify(&[text(SECRET)], &twice), wrong);
    assert!(AzureDevOpsWebhook.rules().proof_in_header && AzureDevOpsWebhook.accepts_oversized());
}

#[test]
fn pk_23_a_push_tells_branches_and_tags_created_moved_and_deleted_apart() {
    let events = read(fixture!("push-several")).unwrap().events;
    let told: Vec<_> = events.iter().map(|event| (event.kind, event.reference.as_deref().unwrap(), event.change)).collect();
    assert_eq!(
        told,
        [
            (EventKind::Push, "refs/heads/release/1.0", Change::Created),
            (EventKind::Push, "refs/heads/old", Change::Deleted),
            (EventKind::Tag, "refs/tags/v1.0.0", Change::Created),
            (EventKind::Tag, "refs/tags/v0.9.0", Change::Updated),
            (EventKind::Tag, "refs/tags/v0.1.0", Change::Deleted),
        ]
    );
    reads(fixture!("push"), EventKind::Push);
}

#[test]
fn the_event_and_the_subscription_are_the_delivery() {
    let id = read(fixture!("push")).unwrap().delivery_id;
    assert_eq!(id, "03c164c2-8912-4d5e-8009-3707d5f83001:8dea9aba-3a9a-4ad0-860f-2a5c7379e3eb");
    assert_eq!(read(fixture!("push")).unwrap().delivery_id, id, "the same when it is sent again");
}

#[test]
fn a_test_has_no_subscription_and_is_a_ping() {
    let content = read(fixture!("push-test")).unwrap();
    assert!(content.ping);
    assert_eq!(content.events, []);
    let mut without: serde_json::Value = serde_json::from_slice(fixture!("push-test")).unwrap();
    without.as_object_mut().unwrap().remove("subscriptionId");
    assert!(read(&serde_json::to_vec(&without).unwrap()).unwrap().ping);
}

#[test]
fn pk_22_a_new_pull_request_a_moved_source_branch_and_a_reactivated_one_count() {
    reads(fixture!("pull-request-created"), EventKind::PullRequest);
    reads(fixture!("pull-request-updated"), EventKind::PullRequest);
    reads(fixture!("pull-request-updated-text"), EventKind::PullRequest);
    reads_nothing(fixture!("pull-request-voted"));
    reads(fixture!("pull-request-reactivated"), EventKind::PullRequest);
    reads_nothing(fixture!("pull-request-completed"));
    reads(fixture!("pull-request-abandoned"), EventKind::PullRequestClosed);
}

#[test]
fn bb_17_a_merge_counts_only_when_it_completed_the_pull_request() {
    reads(fixture!("pull-request-merged"), EventKind::PullRequestMerged);
    reads_nothing(fixture!("pull-request-merge-attempted"));
}

#[test]
fn comments_of_people_count() {
    reads(fixture!("pull-request-comment"), EventKind::PullRequestComment);
    reads_nothing(fixture!("pull-request-comment-system"));
    reads_nothing(fixture!("pull-request-comment-deleted"));
    reads_nothing(fixture!("build-complete"));
}

#[test]
fn what_is_not_documented_is_an_error() {
    for body in [b"not json".as_slice(), b"{}", br#"{"id":"1","eventType":"git.push"}"#] {
        assert!(read(body).is_err(), "{}", String::from_utf8_lossy(body));
    }
    let mut push: serde_json::Value = serde_json::from_slice(fixture!("push")).unwrap();
    push["resource"].as_object_mut().unwrap().remove("refUpdates");
    assert!(read(&serde_json::to_vec(&push).unwrap()).is_err());
}
