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
    entry: |number, url| json!({"id": number, "full_name": "acme/shop", "config": {"url": url}}),
    page: |entries, number, at| (Some(("link", format!("<{at}?page={}>; rel=\"next\"", number + 1))), json!(entries)),
    in_one_answer: false,
    push: || (&[("x-github-event", "push")], json!({"ref": "refs/heads/main", "before": BEFORE, "after": PUSHED})),
    body_limit_in_mib: 25,
    pull_requests,
    lacking: &[],
};

fn sample(name: &'static str, more: &Value, tells: Option<EventKind>) -> Sample {
    let mut words = name.split(' ');
    let (event, action) = (words.next().unwrap(), words.next().unwrap());
    let request = json!({"number": 7, "state": "open", "base": {"ref": "main", "sha": "0"}, "head": {"ref": "topic", "sha": COMMIT}});
    let about = match event {
        "issue_comment" => json!({"issue": {"number": 7, "pull_request": {"url": "https://api.github.com/repos/acme/shop/pulls/7"}}}),
        _ => json!({ "pull_request": request }),
    };
    let body = with(json!({"action": action, "repository": {"id": 17, "full_name": "acme/shop"}}), &about);
    let headers = vec![("x-github-event", event.to_owned()), ("x-github-delivery", "1".into())];
    Sample { name, headers, body: with(body, more), tells }
}

fn pull_requests() -> Vec<Sample> {
    let none = &json!({});
    let mut samples = vec![
        sample("pull_request opened", none, OPEN),
        sample("pull_request reopened", none, OPEN),
        sample("pull_request synchronize", none, OPEN),
        sample("pull_request edited (base)", &json!({"changes": {"base": {"ref": {"from": "old"}, "sha": {"from": "1"}}}}), OPEN),
        sample("pull_request ready_for_review", none, OPEN),
        sample("pull_request closed (merged)", &json!({"pull_request": {"merged": true}}), MERGED),
        sample("pull_request closed", &json!({"pull_request": {"merged": false}}), CLOSED),
        sample("issue_comment created", none, COMMENT),
        sample("pull_request_review_comment created", none, COMMENT),
        sample("pull_request_review submitted (commented)", &json!({"review": {"state": "commented", "body": "Fine"}}), COMMENT),
        sample("pull_request edited", &json!({"changes": {"title": {"from": "old"}}}), None),
        sample("pull_request_review submitted", &json!({"review": {"state": "approved", "body": "Fine"}}), None),
        sample("pull_request_review submitted", &json!({"review": {"state": "commented", "body": null}}), None),
    ];
    let plain = [
        ("pull_request", "converted_to_draft assigned unassigned labeled unlabeled milestoned demilestoned review_requested"),
        ("pull_request", "review_request_removed auto_merge_enabled auto_merge_disabled enqueued dequeued locked unlocked"),
        ("issue_comment", "edited deleted pinned unpinned"),
        ("pull_request_review_comment", "edited deleted"),
        ("pull_request_review", "edited dismissed"),
        ("pull_request_review_thread", "resolved unresolved"),
    ];
    samples.extend(names(&plain).map(|name| sample(name, none, None)));
    samples
}
