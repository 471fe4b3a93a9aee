use std::borrow::Cow;
use std::collections::BTreeSet;

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::ProviderKind;
use crate::providers::registry;
use crate::providers::webhook::{Event, Verified, Webhook};

/// One documented action: the name in the provider's list, and a delivery as the provider documents it.
struct Sample {
    provider: ProviderKind,
    name: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Value,
    tells: Option<EventKind>,
}

fn webhook(provider: ProviderKind) -> &'static dyn Webhook {
    registry::provider(provider).unwrap().webhook()
}

impl Sample {
    fn read(&self) -> Vec<Event> {
        let headers = self.headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()));
        let headers: HeaderMap = headers.collect();
        let body = self.body.to_string().into_bytes();
        webhook(self.provider).read(&Verified::new(&headers, Cow::Borrowed(&body), 0)).unwrap().events
    }
}

const OPEN: Option<EventKind> = Some(EventKind::PullRequest);
const MERGED: Option<EventKind> = Some(EventKind::PullRequestMerged);
const CLOSED: Option<EventKind> = Some(EventKind::PullRequestClosed);
const COMMENT: Option<EventKind> = Some(EventKind::PullRequestComment);
const COMMIT: &str = "2b7d44102b7d44102b7d44102b7d44102b7d4410";

/// `base` with its members replaced by those of `more`, at every depth.
fn with(mut base: Value, more: &Value) -> Value {
    match (base.as_object_mut(), more.as_object()) {
        (Some(members), Some(more)) => {
            for (name, value) in more {
                let member = members.remove(name).unwrap_or(Value::Null);
                members.insert(name.clone(), with(member, value));
            }
            base
        }
        _ => more.clone(),
    }
}

fn github(name: &'static str, more: &Value, tells: Option<EventKind>) -> Sample {
    let mut words = name.split(' ');
    let (event, action) = (words.next().unwrap(), words.next().unwrap());
    let request = json!({"number": 7, "state": "open", "base": {"ref": "main", "sha": "0"}, "head": {"ref": "topic", "sha": COMMIT}});
    let about = match event {
        "issue_comment" => json!({"issue": {"number": 7, "pull_request": {"url": "https://api.github.com/repos/acme/shop/pulls/7"}}}),
        _ => json!({ "pull_request": request }),
    };
    let body = with(json!({"action": action, "repository": {"id": 17, "full_name": "acme/shop"}}), &about);
    let headers = vec![("x-github-event", event.to_owned()), ("x-github-delivery", "1".into())];
    Sample { provider: ProviderKind::GitHub, name, headers, body: with(body, more), tells }
}

fn gitlab(name: &'static str, more: &Value, tells: Option<EventKind>) -> Sample {
    let mut words = name.split(' ');
    let (kind, action) = (words.next().unwrap(), words.next().unwrap());
    let request = json!({"iid": 4, "state": "opened", "target_branch": "main", "target_project_id": 17, "last_commit": {"id": COMMIT}});
    let about = match kind {
        "note" => json!({"object_attributes": {"action": action, "noteable_type": "MergeRequest"}, "merge_request": request}),
        _ => json!({"object_attributes": with(request, &json!({ "action": action }))}),
    };
    let body = with(json!({"object_kind": kind, "project": {"id": 17, "path_with_namespace": "acme/shop"}, "changes": {}}), &about);
    Sample { provider: ProviderKind::GitLab, name, headers: vec![("idempotency-key", "1".into())], body: with(body, more), tells }
}

fn bitbucket_cloud(name: &'static str, tells: Option<EventKind>) -> Sample {
    let request = json!({
        "id": 7, "state": "OPEN", "draft": false,
        "source": {"branch": {"name": "topic"}, "commit": {"hash": "020b418324a3"}},
        "destination": {"branch": {"name": "main"}, "commit": {"hash": "0"}},
    });
    let body = json!({"repository": {"uuid": "{17}", "full_name": "acme/shop"}, "pullrequest": request});
    let headers = vec![("x-event-key", name.to_owned()), ("x-request-uuid", "1".into())];
    Sample { provider: ProviderKind::BitbucketCloud, name, headers, body, tells }
}

fn bitbucket_data_center(name: &'static str, more: &Value, tells: Option<EventKind>) -> Sample {
    let key = name.split(' ').next().unwrap();
    let repository = json!({"id": 17, "slug": "shop", "project": {"key": "APP"}});
    let target = json!({"id": "refs/heads/main", "displayId": "main", "repository": repository});
    let request = json!({
        "id": 11, "title": "Price", "draft": false, "toRef": target,
        "fromRef": {"displayId": "topic", "latestCommit": COMMIT, "repository": repository},
    });
    let modified = json!({"previousTitle": "Price", "previousDescription": null, "previousTarget": target});
    let body = json!({"eventKey": key, "pullRequest": request});
    let body = if key == "pr:modified" { with(body, &modified) } else { body };
    let headers = vec![("x-event-key", key.to_owned()), ("x-request-id", "1".into())];
    Sample { provider: ProviderKind::BitbucketDataCenter, name, headers, body: with(body, more), tells }
}

fn azure_devops(name: &'static str, more: &Value, tells: Option<EventKind>) -> Sample {
    let event_type = name.split(' ').next().unwrap();
    let request = json!({
        "repository": {"id": "17", "name": "web", "project": {"name": "Shop"}}, "pullRequestId": 12, "status": "active",
        "targetRefName": "refs/heads/main", "lastMergeSourceCommit": {"commitId": COMMIT},
    });
    let resource = if event_type.contains("comment") { json!({ "pullRequest": request }) } else { request };
    let body = json!({"id": "1", "subscriptionId": "2", "eventType": event_type, "message": null, "resource": resource});
    Sample { provider: ProviderKind::AzureDevOps, name, headers: Vec::new(), body: with(body, more), tells }
}

/// An update of pull request 12 with this text.
fn said(text: &str) -> Value {
    json!({"message": {"text": format!("Ada Example {text}")}})
}

fn commented(comment: &Value) -> Value {
    json!({"resource": {"comment": comment}})
}

fn gitea(name: &'static str, more: &Value, tells: Option<EventKind>) -> Sample {
    let mut words = name.split(' ');
    let (event_type, action) = (words.next().unwrap(), words.next().unwrap());
    let event = match event_type {
        "pull_request_comment" => "issue_comment",
        "pull_request_review_comment" => "pull_request_comment",
        "pull_request_review_approved" => "pull_request_approved",
        "pull_request_review_rejected" => "pull_request_rejected",
        _ => "pull_request",
    };
    let request = json!({"number": 3, "title": "Price", "base": {"ref": "main"}, "head": {"ref": "topic", "sha": COMMIT}});
    let body = json!({"action": action, "pull_request": request, "repository": {"id": 17, "full_name": "acme/shop"}});
    let headers =
        vec![("x-gitea-event", event.to_owned()), ("x-gitea-event-type", event_type.to_owned()), ("x-gitea-delivery", "1".into())];
    Sample { provider: ProviderKind::Gitea, name, headers, body: with(body, more), tells }
}

/// Every documented action of every provider, with a sample delivery.
fn samples() -> Vec<Sample> {
    [
        github_samples(),
        gitlab_samples(),
        bitbucket_cloud_samples(),
        bitbucket_data_center_samples(),
        azure_devops_samples(),
        gitea_samples(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn github_samples() -> Vec<Sample> {
    let none = &json!({});
    let mut samples = vec![
        github("pull_request opened", none, OPEN),
        github("pull_request reopened", none, OPEN),
        github("pull_request synchronize", none, OPEN),
        github("pull_request edited (base)", &json!({"changes": {"base": {"ref": {"from": "old"}, "sha": {"from": "1"}}}}), OPEN),
        github("pull_request ready_for_review", none, OPEN),
        github("pull_request closed (merged)", &json!({"pull_request": {"merged": true}}), MERGED),
        github("pull_request closed", &json!({"pull_request": {"merged": false}}), CLOSED),
        github("issue_comment created", none, COMMENT),
        github("pull_request_review_comment created", none, COMMENT),
        github("pull_request_review submitted (commented)", &json!({"review": {"state": "commented", "body": "Fine"}}), COMMENT),
        github("pull_request edited", &json!({"changes": {"title": {"from": "old"}}}), None),
        github("pull_request_review submitted", &json!({"review": {"state": "approved", "body": "Fine"}}), None),
        github("pull_request_review submitted", &json!({"review": {"state": "commented", "body": null}}), None),
    ];
    let plain = [
        ("pull_request", "converted_to_draft assigned unassigned labeled unlabeled milestoned demilestoned review_requested"),
        ("pull_request", "review_request_removed auto_merge_enabled auto_merge_disabled enqueued dequeued locked unlocked"),
        ("issue_comment", "edited deleted pinned unpinned"),
        ("pull_request_review_comment", "edited deleted"),
        ("pull_request_review", "edited dismissed"),
        ("pull_request_review_thread", "resolved unresolved"),
    ];
    samples.extend(names(&plain).map(|name| github(name, none, None)));
    samples
}

fn gitlab_samples() -> Vec<Sample> {
    let none = &json!({});
    let mut samples = vec![
        gitlab("merge_request open", none, OPEN),
        gitlab("merge_request reopen", none, OPEN),
        gitlab("merge_request update (oldrev)", &json!({"object_attributes": {"oldrev": "1f0c9a7e"}}), OPEN),
        gitlab(
            "merge_request update (changes.target_branch)",
            &json!({"changes": {"target_branch": {"previous": "old", "current": "main"}}}),
            OPEN,
        ),
        gitlab("merge_request update (changes.draft)", &json!({"changes": {"draft": {"previous": true, "current": false}}}), OPEN),
        gitlab(
            "merge_request update (changes.draft)",
            &json!({"changes": {"title": {"previous": "Draft: Price", "current": "Price"}}}),
            OPEN,
        ),
        gitlab("merge_request merge", none, MERGED),
        gitlab("merge_request close", none, CLOSED),
        gitlab("note create", none, COMMENT),
        gitlab("note create", &json!({"object_attributes": {"action": null}}), COMMENT),
        gitlab("merge_request update", &json!({"changes": {"draft": {"previous": false, "current": true}}}), None),
        gitlab("merge_request update", &json!({"changes": {"title": {"previous": "Old", "current": "Price"}}}), None),
        gitlab("merge_request update", &json!({"changes": {"labels": {"previous": [], "current": []}}}), None),
        gitlab(
            "merge_request update",
            &json!({"object_attributes": {"state": "merged"}, "changes": {"draft": {"previous": true, "current": false}}}),
            None,
        ),
    ];
    let plain = [("merge_request", "approved approval unapproved unapproval"), ("note", "update")];
    samples.extend(names(&plain).map(|name| gitlab(name, none, None)));
    samples
}

fn bitbucket_cloud_samples() -> Vec<Sample> {
    let mut samples = vec![
        bitbucket_cloud("pullrequest:created", OPEN),
        bitbucket_cloud("pullrequest:updated", OPEN),
        bitbucket_cloud("pullrequest:push", OPEN),
        bitbucket_cloud("pullrequest:fulfilled", MERGED),
        bitbucket_cloud("pullrequest:rejected", CLOSED),
        bitbucket_cloud("pullrequest:comment_created", COMMENT),
    ];
    for name in "comment_updated comment_deleted comment_resolved comment_reopened".split(' ') {
        samples.push(bitbucket_cloud(leak(format!("pullrequest:{name}")), None));
    }
    for name in "approved unapproved changes_request_created changes_request_removed".split(' ') {
        samples.push(bitbucket_cloud(leak(format!("pullrequest:{name}")), None));
    }
    samples
}

fn bitbucket_data_center_samples() -> Vec<Sample> {
    let none = &json!({});
    let mut samples = vec![
        bitbucket_data_center("pr:opened", none, OPEN),
        bitbucket_data_center("pr:reopened", none, OPEN),
        bitbucket_data_center("pr:from_ref_updated", none, OPEN),
        bitbucket_data_center("pr:modified (previousTarget)", &json!({"previousTarget": {"displayId": "old"}}), OPEN),
        bitbucket_data_center("pr:modified (draft)", none, OPEN),
        bitbucket_data_center("pr:merged", none, MERGED),
        bitbucket_data_center("pr:declined", none, CLOSED),
        bitbucket_data_center("pr:deleted", none, CLOSED),
        bitbucket_data_center("pr:comment:added", none, COMMENT),
        bitbucket_data_center("pr:modified", &json!({"previousTitle": "Old"}), None),
        bitbucket_data_center("pr:modified", &json!({"previousDescription": "Old"}), None),
        bitbucket_data_center("pr:modified", &json!({"pullRequest": {"draft": true}}), None),
        bitbucket_data_center("pr:modified", &json!({"pullRequest": {"draft": null}}), None),
    ];
    for name in "reviewer:approved reviewer:unapproved reviewer:changes_requested reviewer:needs_work reviewer:updated".split(' ') {
        samples.push(bitbucket_data_center(leak(format!("pr:{name}")), none, None));
    }
    for name in ["pr:comment:edited", "pr:comment:deleted", "pr:to_ref_updated"] {
        samples.push(bitbucket_data_center(name, none, None));
    }
    samples
}

fn azure_devops_samples() -> Vec<Sample> {
    let none = &json!({});
    vec![
        azure_devops("git.pullrequest.created", none, OPEN),
        azure_devops("git.pullrequest.updated (source branch)", none, OPEN),
        azure_devops("git.pullrequest.updated (source branch)", &said("updated the source branch of pull request 12 (Price)"), OPEN),
        azure_devops("git.pullrequest.updated (reactivated)", &said("reactivated pull request 12 (Price)"), OPEN),
        azure_devops("git.pullrequest.updated (published)", &said("published the pull request"), OPEN),
        azure_devops("git.pullrequest.merged (completed)", &json!({"resource": {"status": "completed"}}), MERGED),
        azure_devops("git.pullrequest.updated (abandoned)", &json!({"resource": {"status": "abandoned"}}), CLOSED),
        azure_devops("ms.vss-code.git-pullrequest-comment-event", &commented(&json!({"commentType": "text"})), COMMENT),
        azure_devops("git.pullrequest.updated (draft)", &said("marked the pull request as a draft"), None),
        azure_devops("git.pullrequest.updated", &said("approved pull request 12 (Price)"), None),
        azure_devops("git.pullrequest.updated (completed)", &json!({"resource": {"status": "completed"}}), None),
        azure_devops("git.pullrequest.merged", none, None),
        azure_devops("ms.vss-code.git-pullrequest-comment-event (deleted)", &commented(&json!({"isDeleted": true})), None),
        azure_devops("ms.vss-code.git-pullrequest-comment-event (system)", &commented(&json!({"commentType": "system"})), None),
        azure_devops(
            "ms.vss-code.git-pullrequest-comment-event (edited)",
            &commented(&json!({"publishedDate": "2026-11-20T11:57:00.1Z", "lastContentUpdatedDate": "2026-11-20T11:59:00Z"})),
            None,
        ),
    ]
}

fn gitea_samples() -> Vec<Sample> {
    let none = &json!({});
    let mut samples = vec![
        gitea("pull_request opened", none, OPEN),
        gitea("pull_request reopened", none, OPEN),
        gitea("pull_request_sync synchronized", none, OPEN),
        gitea("pull_request synchronized", none, OPEN),
        gitea("pull_request edited (changes.ref)", &json!({"changes": {"ref": {"from": "old"}}}), OPEN),
        gitea("pull_request edited (draft prefix)", &json!({"changes": {"title": {"from": "WIP: Price"}}}), OPEN),
        gitea("pull_request closed (merged)", &json!({"pull_request": {"merged": true}}), MERGED),
        gitea("pull_request closed", none, CLOSED),
        gitea("pull_request_comment created", none, COMMENT),
        gitea("pull_request_review_comment reviewed", none, COMMENT),
        gitea("pull_request_review_comment created", none, COMMENT),
        gitea("pull_request edited", &json!({"changes": {"title": {"from": "Old"}}}), None),
        gitea("pull_request edited", &json!({"changes": {"title": {"from": "Old"}}, "pull_request": {"title": "WIP: Price"}}), None),
    ];
    let plain = [
        ("pull_request_comment", "edited deleted"),
        ("pull_request_review_approved", "reviewed"),
        ("pull_request_review_rejected", "reviewed"),
        ("pull_request_assign", "assigned unassigned"),
        ("pull_request_label", "label_updated label_cleared"),
        ("pull_request_milestone", "milestoned demilestoned"),
        ("pull_request_review_request", "review_requested review_request_removed"),
    ];
    samples.extend(names(&plain).map(|name| gitea(name, none, None)));
    samples
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// `event action` for each of the actions.
fn names(plain: &[(&'static str, &'static str)]) -> impl Iterator<Item = &'static str> {
    let names: Vec<_> =
        plain.iter().flat_map(|(event, actions)| actions.split(' ').map(move |action| leak(format!("{event} {action}")))).collect();
    names.into_iter()
}

#[test]
fn every_documented_action_of_every_provider_tells_what_the_table_says() {
    for sample in samples() {
        let what = format!("{} {}: {}", sample.provider, sample.name, sample.body);
        let events = sample.read();
        assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), Vec::from_iter(sample.tells), "{what}");
        let listed = webhook(sample.provider).pull_request_actions();
        assert!(listed.iter().any(|(name, _)| *name == sample.name), "not in the list: {what}");
        assert_eq!(told_by(listed, sample.name), sample.tells, "{what}");
        // The only delivery that has neither the target of the pull request nor its commit.
        let knows = (sample.provider, sample.name) != (ProviderKind::GitHub, "issue_comment created");
        for event in events {
            assert_eq!(event.reference.as_deref(), knows.then_some("refs/heads/main"), "{what}");
            assert_eq!(event.commit.is_some(), knows, "{what}");
        }
    }
}

#[test]
fn no_action_of_a_list_is_without_a_sample() {
    let samples = samples();
    for provider in ProviderKind::ALL {
        let listed: BTreeSet<_> = webhook(provider).pull_request_actions().iter().map(|(name, _)| *name).collect();
        let tried: BTreeSet<_> = samples.iter().filter(|sample| sample.provider == provider).map(|sample| sample.name).collect();
        assert_eq!(listed, tried, "{provider}");
    }
}

#[test]
fn what_one_provider_tells_all_tell_that_have_it() {
    // Actions that a provider cannot do or cannot report; the reason is next to its list.
    let lacking = [(PullRequestAction::Reopened, ProviderKind::BitbucketCloud), (PullRequestAction::Retargeted, ProviderKind::AzureDevOps)];
    for action in PullRequestAction::ALL.into_iter().filter(|action| action.event().is_some()) {
        for provider in ProviderKind::ALL {
            let has = webhook(provider).pull_request_actions().iter().any(|(_, listed)| *listed == action);
            assert_eq!(has, !lacking.contains(&(action, provider)), "{provider}: {}", action.words());
        }
    }
}

#[test]
fn a_pull_request_that_is_merged_or_declined_tells_nothing_by_an_update() {
    let mut sample = bitbucket_cloud("pullrequest:updated", None);
    for state in ["MERGED", "DECLINED", "SUPERSEDED"] {
        sample.body["pullrequest"]["state"] = json!(state);
        assert_eq!(sample.read(), [], "{state}");
    }
}

#[test]
fn an_update_counts_when_commit_target_or_draft_mark_differ_and_not_for_a_title() {
    let once = |more: &Value| {
        let mut sample = bitbucket_cloud("pullrequest:updated", OPEN);
        sample.body["pullrequest"] = with(sample.body["pullrequest"].take(), more);
        sample.read().remove(0).once.unwrap()
    };
    let before = once(&json!({}));
    assert_eq!(once(&json!({"title": "Another"})), before);
    for more in [
        json!({"source": {"commit": {"hash": "16e018ece5a1"}}}),
        json!({"destination": {"branch": {"name": "release"}}}),
        json!({"draft": true}),
    ] {
        assert_ne!(once(&more), before, "{more}");
    }
}

#[test]
fn a_comment_counts_once_however_its_times_are_rounded() {
    let told = |published: &str, changed: &str| {
        let comment = json!({"publishedDate": published, "lastContentUpdatedDate": changed});
        !azure_devops("ms.vss-code.git-pullrequest-comment-event", &commented(&comment), COMMENT).read().is_empty()
    };
    assert!(told("2026-11-20T11:57:00.1Z", "2026-11-20T11:57:00.1Z"));
    assert!(told("2026-11-20T11:57:00.17Z", "2026-11-20T11:57:00.163Z"));
    assert!(told("2026-11-20T11:57:00Z", "0001-01-01T00:00:00"), "what is no time says nothing");
    assert!(!told("2026-11-20T11:57:00.1Z", "2026-11-20T11:57:31Z"));
}

#[test]
fn the_first_entry_of_a_name_counts_and_an_unknown_name_tells_nothing() {
    let actions = [("update", PullRequestAction::SourceMoved), ("update", PullRequestAction::Edited)];
    assert_eq!(told_by(&actions, "update"), Some(EventKind::PullRequest));
    assert_eq!(told_by(&actions, "updated"), None);
}

#[test]
fn a_draft_is_known_by_its_prefix() {
    for title in ["Draft: x", "draft:x", "[Draft] x", "(draft) x", "WIP: x", "[wip] x", "  Draft: x"] {
        assert!(is_draft_title(title), "{title}");
    }
    for title in ["x", "", "Drafting: x", "A draft: x", "WIPE: x", "ü"] {
        assert!(!is_draft_title(title), "{title}");
    }
}
