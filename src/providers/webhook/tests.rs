use http::HeaderName;
use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::ProviderKind;
use crate::providers::registry;
use crate::providers::samples::PUSHED;

fn webhook(provider: ProviderKind) -> &'static dyn Webhook {
    registry::provider(provider).unwrap().webhook()
}

/// A push to one branch, without a delivery id and without a repository.
fn push(provider: ProviderKind) -> (HeaderMap, Value) {
    let (headers, body) = (registry::provider(provider).unwrap().profile().samples.push)();
    let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect();
    (headers, body)
}

fn read(provider: ProviderKind, headers: &HeaderMap, body: &Value) -> Content {
    let body = body.to_string().into_bytes();
    webhook(provider).read(&Verified::new(headers, Cow::Borrowed(&body), 0)).unwrap_or_else(|error| panic!("{provider}: {error}"))
}

#[test]
fn a_delivery_without_an_id_is_read_and_known_by_its_event_and_body() {
    for provider in ProviderKind::ALL {
        let (headers, body) = push(provider);
        let content = read(provider, &headers, &body);
        assert_eq!(content.events.len(), 1, "{provider}: it is not lost");
        assert!(content.delivery_id.len() > 2 * ID_DIGEST_LENGTH, "{provider}: {}", content.delivery_id);
        assert_eq!(read(provider, &headers, &body).delivery_id, content.delivery_id, "{provider}: the same when it is sent again");
        let another: Value = serde_json::from_str(&body.to_string().replace(PUSHED, &"3".repeat(40))).unwrap();
        assert_ne!(read(provider, &headers, &another).delivery_id, content.delivery_id, "{provider}");
    }
    assert_ne!(derived_id("push", b"{}"), derived_id("pull_request", b"{}"));
}

#[test]
fn a_repository_that_is_named_by_its_id_or_by_its_path_alone_is_found() {
    let told = |provider, more: &Value| {
        let (headers, mut body) = push(provider);
        for (pointer, value) in more.as_object().unwrap() {
            body[pointer] = value.clone();
        }
        let content = read(provider, &headers, &body);
        (content.repository_id, content.repository_path)
    };
    let (id, path) = (|| (Some("17".to_owned()), None), |path: &str| (None, Some(path.to_owned())));
    for provider in [ProviderKind::GitHub, ProviderKind::Gitea] {
        assert_eq!(told(provider, &json!({"repository": {"id": 17}})), id(), "{provider}");
        assert_eq!(told(provider, &json!({"repository": {"full_name": "acme/shop"}})), path("acme/shop"), "{provider}");
    }
    let gitlab = |more: &Value| told(ProviderKind::GitLab, more);
    assert_eq!(gitlab(&json!({"project": {"id": 17}})), id());
    assert_eq!(gitlab(&json!({"project_id": 17})), id());
    assert_eq!(gitlab(&json!({"project_id": 17, "project": {"name": "shop"}})), id(), "as the documentation's own samples");
    assert_eq!(gitlab(&json!({"project": {"path_with_namespace": "acme/shop"}})), path("acme/shop"));
    let request = json!({"target_project_id": 17, "action": "open", "target_branch": "main"});
    assert_eq!(gitlab(&json!({"object_kind": "merge_request", "project": {}, "object_attributes": request})), id());
    let note = json!({"noteable_type": "MergeRequest"});
    assert_eq!(gitlab(&json!({"object_kind": "note", "object_attributes": note, "merge_request": {"target_project_id": 17}})), id());
    let cloud = |more: &Value| told(ProviderKind::BitbucketCloud, more);
    assert_eq!(cloud(&json!({"repository": {"uuid": "17"}})), id());
    assert_eq!(cloud(&json!({"repository": {"full_name": "acme/shop"}})), path("acme/shop"));
    let data_center = |more: &Value| told(ProviderKind::BitbucketDataCenter, more);
    assert_eq!(data_center(&json!({"repository": {"id": 17, "slug": "shop"}})), id());
    assert_eq!(data_center(&json!({"repository": {"slug": "shop", "project": {"key": "APP"}}})), path("APP/shop"));
    let azure = |repository: &Value| {
        let (headers, mut body) = push(ProviderKind::AzureDevOps);
        body["resource"]["repository"] = repository.clone();
        let content = read(ProviderKind::AzureDevOps, &headers, &body);
        (content.repository_id, content.repository_path)
    };
    assert_eq!(azure(&json!({"id": "17", "name": "web"})), id());
    assert_eq!(azure(&json!({"name": "web", "project": {"name": "Shop"}})), path("Shop/web"));
}

#[test]
fn a_push_tells_the_commit_that_its_branch_points_to_now() {
    for provider in ProviderKind::ALL {
        let (headers, body) = push(provider);
        let event = read(provider, &headers, &body).events.remove(0);
        assert_eq!((event.reference.as_deref(), event.commit.as_deref()), (Some("refs/heads/main"), Some(PUSHED)), "{provider}");
    }
    let event = || Event::of_pull_request(EventKind::PullRequest, Some(1), None);
    for none in ["", "0000000000000000000000000000000000000000", "abc", "2b7d4410\nforged", &"a".repeat(65)] {
        assert_eq!(event().at(Some(none)).commit, None, "{none:?}");
    }
}

#[test]
fn as_much_is_taken_as_each_provider_sends() {
    for provider in ProviderKind::ALL {
        let expected = registry::provider(provider).unwrap().profile().samples.body_limit_in_mib;
        assert_eq!(webhook(provider).rules().body_limit >> 20, expected, "{provider}");
    }
}

#[test]
fn df_20_an_unreadable_delivery_is_told_without_a_word_of_its_body_at_every_provider() {
    let long = "canary".repeat(1_500_000);
    for kind in ProviderKind::ALL {
        let (headers, _) = push(kind);
        for body in
            [format!("\"{long}\""), format!(r#"["{long}"]"#), format!(r#"{{"repository": "{long}", "resource": "{long}"}}"#), long.clone()]
        {
            let verified = Verified::new(&headers, Cow::Borrowed(body.as_bytes()), 0);
            let Err(error) = registry::provider(kind).unwrap().webhook().read(&verified) else { continue };
            let error = error.to_string();
            assert!(!error.contains("canary") && error.len() < 200, "{kind}: {} bytes", error.len());
        }
        let text = format!("\"{long}\"");
        let verified = Verified::new(&headers, Cow::Borrowed(text.as_bytes()), 0);
        let error = registry::provider(kind).unwrap().webhook().read(&verified).unwrap_err().to_string();
        assert!(error.contains(" at line 1 column "), "{kind}: {error}");
    }
}

/// An opened pull request of this number, and a general comment on it, as each provider sends them.
fn about_pull_request(provider: ProviderKind, number: &Value) -> Vec<(&'static [(&'static str, &'static str)], Value)> {
    let ends = |target: &str| json!({"base": {"ref": target}, "head": {"ref": "fix"}, "number": number});
    match provider {
        ProviderKind::GitHub => vec![
            (&[("x-github-event", "pull_request")], json!({"action": "opened", "pull_request": ends("main")})),
            (&[("x-github-event", "issue_comment")], json!({"action": "created", "issue": {"number": number, "pull_request": {}}})),
            (&[("x-github-event", "pull_request_review_comment")], json!({"action": "created", "pull_request": ends("main")})),
        ],
        ProviderKind::Gitea => vec![
            (&[("x-gitea-event", "pull_request")], json!({"action": "opened", "number": number, "pull_request": ends("main")})),
            (&[("x-gitea-event", "issue_comment")], json!({"action": "created", "is_pull": true, "issue": {"number": number}})),
        ],
        ProviderKind::GitLab => vec![
            (&[], json!({"object_kind": "merge_request", "object_attributes": {"iid": number, "action": "open", "target_branch": "main"}})),
            (
                &[],
                json!({
                    "object_kind": "note", "object_attributes": {"noteable_type": "MergeRequest"},
                    "merge_request": {"iid": number, "target_branch": "main"},
                }),
            ),
        ],
        ProviderKind::BitbucketCloud => {
            let request = json!({"pullrequest": {
                "id": number, "state": "OPEN", "source": {"branch": {"name": "fix"}}, "destination": {"branch": {"name": "main"}},
            }});
            vec![(&[("x-event-key", "pullrequest:created")], request.clone()), (&[("x-event-key", "pullrequest:comment_created")], request)]
        }
        ProviderKind::BitbucketDataCenter => {
            let request = json!({"pullRequest": {"id": number, "toRef": {"displayId": "main", "repository": {"id": 7}}}});
            vec![(&[("x-event-key", "pr:opened")], request.clone()), (&[("x-event-key", "pr:comment:added")], request)]
        }
        ProviderKind::AzureDevOps => vec![
            (
                &[],
                json!({
                    "eventType": "git.pullrequest.created", "subscriptionId": "s",
                    "resource": {"pullRequestId": number, "targetRefName": "refs/heads/main"},
                }),
            ),
            (
                &[],
                json!({
                    "eventType": "ms.vss-code.git-pullrequest-comment-event", "subscriptionId": "s",
                    "resource": {"comment": {}, "pullRequest": {"pullRequestId": number, "targetRefName": "refs/heads/main"}},
                }),
            ),
        ],
    }
}

#[test]
fn two_pull_requests_to_one_branch_are_two_subjects_and_the_events_of_one_are_one() {
    for provider in ProviderKind::ALL {
        let subjects = |number: &Value| {
            let read = |(headers, body): (&[(&'static str, &str)], Value)| {
                let pairs = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
                let event = read(provider, &pairs.collect(), &body).events.remove(0);
                (event.pull_request, event.subject())
            };
            about_pull_request(provider, number).into_iter().map(read).collect::<Vec<_>>()
        };
        for (number, subject) in subjects(&json!(7)) {
            assert_eq!((number, subject.as_str()), (Some(7), "pull request 7"), "{provider}");
        }
        for (number, subject) in subjects(&json!(8)) {
            assert_eq!((number, subject.as_str()), (Some(8), "pull request 8"), "{provider}");
        }
    }
    let without = Event::of_pull_request(EventKind::PullRequestComment, None, Some("main"));
    assert_eq!(without.subject(), "pull requests to refs/heads/main");
}

#[test]
fn a_push_tells_the_object_that_its_reference_pointed_to_before() {
    for provider in ProviderKind::ALL {
        let (headers, body) = push(provider);
        let event = read(provider, &headers, &body).events.remove(0);
        let expected = body.to_string();
        let before = event.before.unwrap_or_else(|| panic!("{provider}: {expected}"));
        assert!(expected.contains(&before) && before != PUSHED, "{provider}: {before}");
        let created: Value = serde_json::from_str(&expected.replace(&before, &"0".repeat(40))).unwrap();
        assert_eq!(read(provider, &headers, &created).events.remove(0).before, None, "{provider}: nothing was there before");
    }
}
