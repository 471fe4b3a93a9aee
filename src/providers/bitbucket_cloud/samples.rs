//! Samples for the tests that run for every provider.

use serde_json::{Value, json};

use super::BitbucketCloud;
use crate::api::v1alpha1::EventKind;
use crate::providers::pull_request::PullRequestAction;
use crate::providers::samples::{BEFORE, CLOSED, COMMENT, MERGED, OPEN, PUSHED, Sample, Samples, leak, with};

pub(super) const SAMPLES: Samples = Samples {
    repositories: |[web, clone, ssh, branch]| {
        json!({"values": [{
            "uuid": "{1}", "full_name": "acme/shop", "mainbranch": {"name": branch},
            "links": {"html": {"href": web}, "clone": [{"name": "https", "href": clone}, {"name": "ssh", "href": ssh}]},
        }]})
    },
    listing: |page| vec![page],
    lists_branches: true,
    entry: |number, url| json!({"uuid": number.to_string(), "full_name": "acme/shop", "url": url}),
    page: |entries, number, at| (None, json!({"values": entries, "next": format!("{at}?page={}", number + 1)})),
    in_one_answer: false,
    push: || {
        let branch = |hash: &str| json!({"type": "branch", "name": "main", "target": {"hash": hash}});
        (&[("x-event-key", "repo:push")], json!({"push": {"changes": [{"old": branch(BEFORE), "new": branch(PUSHED)}]}}))
    },
    body_limit_in_mib: 1,
    pull_requests,
    lacking: &[PullRequestAction::Reopened],
};

fn sample(name: &'static str, tells: Option<EventKind>) -> Sample {
    let request = json!({
        "id": 7, "state": "OPEN", "draft": false,
        "source": {"branch": {"name": "topic"}, "commit": {"hash": "020b418324a3"}},
        "destination": {"branch": {"name": "main"}, "commit": {"hash": "0"}},
    });
    let body = json!({"repository": {"uuid": "{17}", "full_name": "acme/shop"}, "pullrequest": request});
    let headers = vec![("x-event-key", name.to_owned()), ("x-request-uuid", "1".into())];
    Sample { name, headers, body, tells }
}

fn pull_requests() -> Vec<Sample> {
    let mut samples = vec![
        sample("pullrequest:created", OPEN),
        sample("pullrequest:updated", OPEN),
        sample("pullrequest:push", OPEN),
        sample("pullrequest:fulfilled", MERGED),
        sample("pullrequest:rejected", CLOSED),
        sample("pullrequest:comment_created", COMMENT),
    ];
    for name in "comment_updated comment_deleted comment_resolved comment_reopened".split(' ') {
        samples.push(sample(leak(format!("pullrequest:{name}")), None));
    }
    for name in "approved unapproved changes_request_created changes_request_removed".split(' ') {
        samples.push(sample(leak(format!("pullrequest:{name}")), None));
    }
    samples
}

#[test]
fn a_pull_request_that_is_merged_or_declined_tells_nothing_by_an_update() {
    let mut sample = sample("pullrequest:updated", None);
    for state in ["MERGED", "DECLINED", "SUPERSEDED"] {
        sample.body["pullrequest"]["state"] = json!(state);
        assert_eq!(sample.read(&BitbucketCloud), [], "{state}");
    }
}

#[test]
fn an_update_counts_when_commit_target_or_draft_mark_differ_and_not_for_a_title() {
    let once = |more: &Value| {
        let mut sample = sample("pullrequest:updated", OPEN);
        sample.body["pullrequest"] = with(sample.body["pullrequest"].take(), more);
        sample.read(&BitbucketCloud).remove(0).once.unwrap()
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
