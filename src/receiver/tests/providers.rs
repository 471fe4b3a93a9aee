//! Tests of deliveries in the providers' own formats, through the whole receiver.

use serde_json::{Value, json};

use super::harness::*;
use crate::providers::registry;

/// A receiver with the real providers, and a binding of repository 7 with one sink.
async fn with_provider(provider: &Value, change: impl FnOnce(&mut Value)) -> (Harness, Sink) {
    let sink = Sink::start(200).await;
    let harness = start(|_, routes| routes.providers = std::sync::Arc::new(registry::provider)).await;
    harness.routes.apply_connection(&connection(provider));
    harness.routes.apply_binding(&binding(|object| {
        object["spec"]["webhook"]["events"] = json!(["Push", "Tag", "PullRequest", "PullRequestComment"]);
        object["spec"]["sinks"] = json!([service_sink("a", sink.port)]);
        change(object);
    }));
    (harness, sink)
}

fn github(id: &str, event: &str, body: &Value) -> Shot {
    let mut shot = Shot::new(id, body.to_string().into_bytes());
    let signature = format!("sha256={}", sign(&shot.secret, &shot.body));
    shot.headers = vec![("x-github-event", event.into()), ("x-github-delivery", id.into()), ("x-hub-signature-256", signature)];
    shot
}

fn gitlab(body: &Value) -> Shot {
    let mut shot = Shot::new("none", body.to_string().into_bytes());
    shot.headers = vec![("x-gitlab-token", shot.secret.clone()), ("x-gitlab-event", "Push Hook".into())];
    shot
}

fn comment_on_pull_request() -> Value {
    json!({
        "action": "created", "repository": {"id": 7, "full_name": "acme/shop"},
        "issue": {"number": 3, "pull_request": {"url": "https://api.github.com/repos/acme/shop/pulls/3"}},
    })
}

#[tokio::test]
async fn a_comment_on_a_github_pull_request_reaches_sinks_that_filter_by_branch() {
    let filters: [fn(&mut Value); 3] = [
        |object| object["spec"]["sinks"][0]["branches"] = json!(["main"]),
        |object| object["spec"]["branch"] = json!("main"),
        |object| object["spec"]["sinks"][0]["branches"] = json!(["release/*", "refs/heads/main"]),
    ];
    for filter in filters {
        let (harness, sink) = with_provider(&json!({"github": {"organization": "acme"}}), filter).await;
        assert_eq!(harness.send(&github("d-1", "issue_comment", &comment_on_pull_request())).await, 200);
        let [event] = &sink.accepted()[..] else { panic!("{:?}", harness.seen()) };
        assert_eq!(event.header("ce-type"), "dev.forgebind.pull_request.comment");
        assert!(!event.headers.contains_key("ce-subject"), "an unknown branch is not set");
        let elsewhere = json!({"action": "opened", "repository": {"id": 7}, "pull_request": {"base": {"ref": "other"}}});
        assert_eq!(harness.send(&github("d-2", "pull_request", &elsewhere)).await, 200);
        assert_eq!(sink.attempts(), 1, "a known branch is filtered");
    }
}

#[tokio::test]
async fn a_gitlab_delivery_without_a_delivery_id_arrives_once() {
    let (harness, sink) = with_provider(&json!({"gitlab": {"group": "acme"}}), |_| ()).await;
    let push = |after: &str| {
        gitlab(&json!({
            "object_kind": "push", "ref": "refs/heads/main", "before": "1".repeat(40), "after": after.repeat(40),
            "project_id": 7, "project": {"name": "shop", "path_with_namespace": "acme/shop"},
        }))
    };
    for shot in [push("2"), push("2"), push("3")] {
        assert_eq!(harness.send(&shot).await, 200);
    }
    let ids = sink.accepted_ids();
    assert_eq!(ids.len(), 2, "one is a repetition: {ids:?}");
    assert!(ids.iter().all(|id| id.starts_with("push-")) && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test]
async fn a_delivery_without_a_repository_reaches_no_sink() {
    let (harness, sink) = with_provider(&json!({"gitlab": {"group": "acme"}}), |_| ()).await;
    let nameless = json!({"object_kind": "push", "ref": "refs/heads/main", "before": "1".repeat(40), "after": "2".repeat(40)});
    assert_eq!(harness.send(&gitlab(&nameless)).await, 200);
    assert_eq!(sink.attempts(), 0);
    assert!(harness.metrics().contains(r#"outcome="foreign_repository"} 1"#));
}

#[tokio::test]
async fn a_form_is_handed_on_as_the_document_inside_it() {
    let (harness, sink) = with_provider(&json!({"github": {"organization": "acme"}}), |_| ()).await;
    let document = push_body(7, "acme/shop", "refs/heads/main", "d");
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    let body = form.append_pair("payload", std::str::from_utf8(&document).unwrap()).finish().into_bytes();
    let mut shot = Shot { body, ..github("d-1", "push", &json!({})) };
    shot.headers[2].1 = format!("sha256={}", sign(&shot.secret, &shot.body));
    let request = harness.request(&Shot { headers: Vec::new(), ..shot.clone() });
    let request = shot.headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
    let mut request = request.build().unwrap();
    request.headers_mut().insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    assert_eq!(harness.client.execute(request).await.unwrap().status(), 200);
    assert_eq!(sink.accepted()[0].body, document);
    assert!(harness.metrics().contains("forgebind_receiver_in_flight_bytes 0"), "the bytes in flight were released");
}
