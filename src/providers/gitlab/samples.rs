//! Samples for the tests that run for every provider.

use serde_json::{Value, json};

use crate::api::v1alpha1::EventKind;
use crate::providers::samples::{BEFORE, CLOSED, COMMENT, COMMIT, MERGED, OPEN, PUSHED, Sample, Samples, names, with};

pub(super) const SAMPLES: Samples = Samples {
    repositories: |[web, clone, ssh, branch]| {
        json!([{
            "id": 1, "path_with_namespace": "acme/shop", "web_url": web, "http_url_to_repo": clone, "ssh_url_to_repo": ssh,
            "default_branch": branch,
        }])
    },
    listing: |page| vec![json!([]), json!({"id": 1, "username": "bot"}), page],
    lists_branches: true,
    entry: |number, url| json!({"id": number, "path_with_namespace": "acme/shop", "url": url}),
    page: |entries, number, _| (Some(("x-next-page", (number + 1).to_string())), json!(entries)),
    in_one_answer: false,
    push: || (&[], json!({"object_kind": "push", "ref": "refs/heads/main", "before": BEFORE, "after": PUSHED})),
    body_limit_in_mib: 25,
    pull_requests,
    lacking: &[],
};

fn sample(name: &'static str, more: &Value, tells: Option<EventKind>) -> Sample {
    let mut words = name.split(' ');
    let (kind, action) = (words.next().unwrap(), words.next().unwrap());
    let request = json!({"iid": 4, "state": "opened", "target_branch": "main", "target_project_id": 17, "last_commit": {"id": COMMIT}});
    let about = match kind {
        "note" => json!({"object_attributes": {"action": action, "noteable_type": "MergeRequest"}, "merge_request": request}),
        _ => json!({"object_attributes": with(request, &json!({ "action": action }))}),
    };
    let body = with(json!({"object_kind": kind, "project": {"id": 17, "path_with_namespace": "acme/shop"}, "changes": {}}), &about);
    Sample { name, headers: vec![("idempotency-key", "1".into())], body: with(body, more), tells }
}

fn pull_requests() -> Vec<Sample> {
    let none = &json!({});
    let mut samples = vec![
        sample("merge_request open", none, OPEN),
        sample("merge_request reopen", none, OPEN),
        sample("merge_request update (oldrev)", &json!({"object_attributes": {"oldrev": "1f0c9a7e"}}), OPEN),
        sample(
            "merge_request update (changes.target_branch)",
            &json!({"changes": {"target_branch": {"previous": "old", "current": "main"}}}),
            OPEN,
        ),
        sample("merge_request update (changes.draft)", &json!({"changes": {"draft": {"previous": true, "current": false}}}), OPEN),
        sample(
            "merge_request update (changes.draft)",
            &json!({"changes": {"title": {"previous": "Draft: Price", "current": "Price"}}}),
            OPEN,
        ),
        sample("merge_request merge", none, MERGED),
        sample("merge_request close", none, CLOSED),
        sample("note create", none, COMMENT),
        sample("note create", &json!({"object_attributes": {"action": null}}), COMMENT),
        sample("merge_request update", &json!({"changes": {"draft": {"previous": false, "current": true}}}), None),
        sample("merge_request update", &json!({"changes": {"title": {"previous": "Old", "current": "Price"}}}), None),
        sample("merge_request update", &json!({"changes": {"labels": {"previous": [], "current": []}}}), None),
        sample(
            "merge_request update",
            &json!({"object_attributes": {"state": "merged"}, "changes": {"draft": {"previous": true, "current": false}}}),
            None,
        ),
    ];
    let plain = [("merge_request", "approved approval unapproved unapproval"), ("note", "update")];
    samples.extend(names(&plain).map(|name| sample(name, none, None)));
    samples
}
