//! Samples for the tests that run for every provider.

use serde_json::{Value, json};

use super::AzureDevOps;
use crate::api::v1alpha1::EventKind;
use crate::providers::pull_request::PullRequestAction;
use crate::providers::samples::{BEFORE, CLOSED, COMMENT, COMMIT, GUID, MERGED, OPEN, PUSHED, Sample, Samples, with};

pub(super) const SAMPLES: Samples = Samples {
    repositories: |[web, clone, ssh, branch]| {
        json!({"value": [{
            "id": "1", "name": "shop", "project": {"id": "2", "name": "acme"}, "defaultBranch": format!("refs/heads/{branch}"),
            "remoteUrl": clone, "sshUrl": ssh, "webUrl": web,
        }]})
    },
    listing: |page| vec![page, json!({"count": 1, "value": [true]})],
    lists_branches: true,
    entry: |number, url| {
        json!({
            "id": number.to_string(), "name": "shop", "project": {"id": GUID, "name": "acme"},
            "eventType": "git.push", "publisherInputs": {}, "consumerInputs": {"url": url},
        })
    },
    page: |entries, _, _| (None, json!({"results": entries, "value": entries})),
    in_one_answer: true,
    push: || {
        let update = json!({"name": "refs/heads/main", "oldObjectId": BEFORE, "newObjectId": PUSHED});
        (&[], json!({"subscriptionId": "2", "eventType": "git.push", "resource": {"refUpdates": [update]}}))
    },
    body_limit_in_mib: 10,
    pull_requests,
    lacking: &[PullRequestAction::Retargeted],
};

fn sample(name: &'static str, more: &Value, tells: Option<EventKind>) -> Sample {
    let event_type = name.split(' ').next().unwrap();
    let request = json!({
        "repository": {"id": "17", "name": "web", "project": {"name": "Shop"}}, "pullRequestId": 12, "status": "active",
        "targetRefName": "refs/heads/main", "lastMergeSourceCommit": {"commitId": COMMIT},
    });
    let resource = if event_type.contains("comment") { json!({ "pullRequest": request }) } else { request };
    let body = json!({"id": "1", "subscriptionId": "2", "eventType": event_type, "message": null, "resource": resource});
    Sample { name, headers: Vec::new(), body: with(body, more), tells }
}

/// An update of pull request 12 with this text.
fn said(text: &str) -> Value {
    json!({"message": {"text": format!("Ada Example {text}")}})
}

fn commented(comment: &Value) -> Value {
    json!({"resource": {"comment": comment}})
}

fn pull_requests() -> Vec<Sample> {
    let none = &json!({});
    vec![
        sample("git.pullrequest.created", none, OPEN),
        sample("git.pullrequest.updated (source branch)", none, OPEN),
        sample("git.pullrequest.updated (source branch)", &said("updated the source branch of pull request 12 (Price)"), OPEN),
        sample("git.pullrequest.updated (reactivated)", &said("reactivated pull request 12 (Price)"), OPEN),
        sample("git.pullrequest.updated (published)", &said("published the pull request"), OPEN),
        sample("git.pullrequest.merged (completed)", &json!({"resource": {"status": "completed"}}), MERGED),
        sample("git.pullrequest.updated (abandoned)", &json!({"resource": {"status": "abandoned"}}), CLOSED),
        sample("ms.vss-code.git-pullrequest-comment-event", &commented(&json!({"commentType": "text"})), COMMENT),
        sample("git.pullrequest.updated (draft)", &said("marked the pull request as a draft"), None),
        sample("git.pullrequest.updated", &said("approved pull request 12 (Price)"), None),
        sample("git.pullrequest.updated (completed)", &json!({"resource": {"status": "completed"}}), None),
        sample("git.pullrequest.merged", none, None),
        sample("ms.vss-code.git-pullrequest-comment-event (deleted)", &commented(&json!({"isDeleted": true})), None),
        sample("ms.vss-code.git-pullrequest-comment-event (system)", &commented(&json!({"commentType": "system"})), None),
        sample(
            "ms.vss-code.git-pullrequest-comment-event (edited)",
            &commented(&json!({"publishedDate": "2026-11-20T11:57:00.1Z", "lastContentUpdatedDate": "2026-11-20T11:59:00Z"})),
            None,
        ),
    ]
}

#[test]
fn a_comment_counts_once_however_its_times_are_rounded() {
    let told = |published: &str, changed: &str| {
        let comment = json!({"publishedDate": published, "lastContentUpdatedDate": changed});
        !sample("ms.vss-code.git-pullrequest-comment-event", &commented(&comment), COMMENT).read(&AzureDevOps).is_empty()
    };
    assert!(told("2026-11-20T11:57:00.1Z", "2026-11-20T11:57:00.1Z"));
    assert!(told("2026-11-20T11:57:00.17Z", "2026-11-20T11:57:00.163Z"));
    assert!(told("2026-11-20T11:57:00Z", "0001-01-01T00:00:00"), "what is no time says nothing");
    assert!(!told("2026-11-20T11:57:00.1Z", "2026-11-20T11:57:31Z"));
}
