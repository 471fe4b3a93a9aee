//! Samples for the tests that run for every provider.

use serde_json::{Value, json};

use crate::api::v1alpha1::EventKind;
use crate::providers::samples::{BEFORE, CLOSED, COMMENT, COMMIT, MERGED, OPEN, PUSHED, Sample, Samples, leak, with};

pub(super) const SAMPLES: Samples = Samples {
    repositories: |[web, clone, ssh, _]| {
        json!({"isLastPage": true, "values": [{
            "id": 1, "slug": "shop", "project": {"key": "acme"},
            "links": {"self": [{"href": web}], "clone": [{"name": "http", "href": clone}, {"name": "ssh", "href": ssh}]},
        }]})
    },
    listing: |page| vec![json!({"values": [], "isLastPage": true}), page],
    lists_branches: false,
    entry: |number, url| json!({"id": number, "slug": "shop", "project": {"key": "acme"}, "url": url}),
    page: |entries, number, _| {
        let next = (number + 1) * entries.len();
        (None, json!({"values": entries, "isLastPage": false, "nextPageStart": next}))
    },
    in_one_answer: false,
    push: || {
        let change = json!({"refId": "refs/heads/main", "fromHash": BEFORE, "toHash": PUSHED, "type": "UPDATE"});
        (&[("x-event-key", "repo:refs_changed")], json!({"changes": [change]}))
    },
    body_limit_in_mib: 10,
    pull_requests,
    lacking: &[],
};

fn sample(name: &'static str, more: &Value, tells: Option<EventKind>) -> Sample {
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
    Sample { name, headers, body: with(body, more), tells }
}

fn pull_requests() -> Vec<Sample> {
    let none = &json!({});
    let mut samples = vec![
        sample("pr:opened", none, OPEN),
        sample("pr:reopened", none, OPEN),
        sample("pr:from_ref_updated", none, OPEN),
        sample("pr:modified (previousTarget)", &json!({"previousTarget": {"displayId": "old"}}), OPEN),
        sample("pr:modified (draft)", none, OPEN),
        sample("pr:merged", none, MERGED),
        sample("pr:declined", none, CLOSED),
        sample("pr:deleted", none, CLOSED),
        sample("pr:comment:added", none, COMMENT),
        sample("pr:modified", &json!({"previousTitle": "Old"}), None),
        sample("pr:modified", &json!({"previousDescription": "Old"}), None),
        sample("pr:modified", &json!({"pullRequest": {"draft": true}}), None),
        sample("pr:modified", &json!({"pullRequest": {"draft": null}}), None),
    ];
    for name in "reviewer:approved reviewer:unapproved reviewer:changes_requested reviewer:needs_work reviewer:updated".split(' ') {
        samples.push(sample(leak(format!("pr:{name}")), none, None));
    }
    for name in ["pr:comment:edited", "pr:comment:deleted", "pr:to_ref_updated"] {
        samples.push(sample(name, none, None));
    }
    samples
}
