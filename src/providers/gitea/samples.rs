//! Samples for the tests that run for every provider.

use serde_json::{Value, json};

use crate::api::v1alpha1::EventKind;
use crate::providers::samples::{BEFORE, CLOSED, COMMENT, COMMIT, MERGED, OPEN, PUSHED, Sample, Samples, names, with};

pub(super) const SAMPLES: Samples = Samples {
    repositories: |[web, clone, ssh, branch]| {
        json!([{
            "id": 1, "full_name": "acme/shop", "html_url": web, "clone_url": clone, "ssh_url": ssh, "default_branch": branch, "size": 1,
        }])
    },
    listing: |page| vec![page],
    lists_branches: true,
    entry: |number, url| json!({"id": number, "full_name": "acme/shop", "type": "gitea", "config": {"url": url}, "events": []}),
    page: |entries, _, _| (None, json!(entries)),
    in_one_answer: false,
    push: || {
        (&[("x-gitea-event", "push"), ("x-gitea-event-type", "push")], json!({"ref": "refs/heads/main", "before": BEFORE, "after": PUSHED}))
    },
    body_limit_in_mib: 25,
    pull_requests,
    lacking: &[],
};

fn sample(name: &'static str, more: &Value, tells: Option<EventKind>) -> Sample {
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
    Sample { name, headers, body: with(body, more), tells }
}

fn pull_requests() -> Vec<Sample> {
    let none = &json!({});
    let mut samples = vec![
        sample("pull_request opened", none, OPEN),
        sample("pull_request reopened", none, OPEN),
        sample("pull_request_sync synchronized", none, OPEN),
        sample("pull_request synchronized", none, OPEN),
        sample("pull_request edited (changes.ref)", &json!({"changes": {"ref": {"from": "old"}}}), OPEN),
        sample("pull_request edited (draft prefix)", &json!({"changes": {"title": {"from": "WIP: Price"}}}), OPEN),
        sample("pull_request closed (merged)", &json!({"pull_request": {"merged": true}}), MERGED),
        sample("pull_request closed", none, CLOSED),
        sample("pull_request_comment created", none, COMMENT),
        sample("pull_request_review_comment reviewed", none, COMMENT),
        sample("pull_request_review_comment created", none, COMMENT),
        sample("pull_request edited", &json!({"changes": {"title": {"from": "Old"}}}), None),
        sample("pull_request edited", &json!({"changes": {"title": {"from": "Old"}}, "pull_request": {"title": "WIP: Price"}}), None),
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
    samples.extend(names(&plain).map(|name| sample(name, none, None)));
    samples
}
