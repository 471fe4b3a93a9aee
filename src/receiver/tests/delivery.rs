//! Tests of deliveries to sinks: every selected event, in order, once.

use std::sync::Arc;

use serde_json::{Value, json};

use super::harness::*;

async fn with_sinks(sinks: Value) -> Harness {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = sinks));
    harness
}

#[tokio::test]
async fn a_push_becomes_a_cloud_event() {
    let sink = Sink::start(204).await;
    let harness = with_sinks(json!([service_sink("a", sink.port)])).await;
    let shot = Shot::push("d-1", "main");
    assert_eq!(harness.send(&shot).await, 200);
    let [event] = &sink.accepted()[..] else { panic!("one event") };
    for (name, value) in [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "d-1"),
        ("ce-source", "https://git.acme.io/acme/shop"),
        ("ce-type", "dev.forgebind.push"),
        ("ce-subject", "refs/heads/main"),
        ("ce-time", NOW),
    ] {
        assert_eq!(event.header(name), value, "{name}");
    }
    assert_eq!(event.body, shot.body, "as it was received");
    assert_eq!(event.path, "/events");
    assert_eq!(event.header("host"), format!("sink-a.team.svc:{}", sink.port));
    assert!(event.headers.keys().all(|name| !name.as_str().starts_with("x-gitea")), "no signature is handed on");
}

#[tokio::test]
async fn several_events_of_one_delivery_are_numbered_and_filtered_one_by_one() {
    let (sink, picky) = (Sink::start(200).await, Sink::start(200).await);
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&other());
    harness.routes.apply_binding(&binding(|object| {
        let mut second = service_sink("b", picky.port);
        second["branches"] = json!(["release/*"]);
        object["spec"]["sinks"] = json!([service_sink("a", sink.port), second]);
    }));
    let mut shot = Shot::new("d-1", pushes_body(&["main", "release/1", "release/1/2"]));
    shot.headers.push(("x-token", "right".into()));
    assert_eq!(harness.send(&shot).await, 200);
    let mut ids = sink.accepted_ids();
    ids.sort();
    assert_eq!(ids, ["d-1/1", "d-1/2", "d-1/3"], "branches do not wait for each other");
    assert_eq!(picky.accepted_ids(), ["d-1/2"]);
}

#[tokio::test]
async fn df_22_only_wanted_events_and_branches_arrive() {
    let (sink, picky) = (Sink::start(200).await, Sink::start(200).await);
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| {
        let mut second = service_sink("b", picky.port);
        second["events"] = json!(["Tag"]);
        object["spec"]["branch"] = json!("main");
        object["spec"]["webhook"]["events"] = json!(["Push", "Tag"]);
        object["spec"]["sinks"] = json!([service_sink("a", sink.port), second]);
    }));
    let pull_request =
        json!({"action": "opened", "pull_request": {"base": {"ref": "main"}}, "repository": {"id": 7, "full_name": "acme/shop"}});
    let mut opened = Shot::new("pull", pull_request.to_string().into_bytes());
    opened.headers = vec![("x-gitea-event", "pull_request".into())];
    for shot in
        [Shot::push("main", "main"), Shot::push("other", "other"), Shot::new("tag", push_body(7, "acme/shop", "refs/tags/v1", "t")), opened]
    {
        assert_eq!(harness.send(&shot).await, 200, "{}", shot.id);
    }
    assert_eq!(sink.accepted_ids(), ["main", "tag"]);
    assert_eq!(picky.accepted_ids(), ["tag"]);
    assert!(harness.metrics().contains(r#"outcome="unwanted"} 2"#));
}

#[tokio::test]
async fn a_repeated_delivery_is_answered_but_not_sent_again() {
    let sink = Sink::start(200).await;
    let harness = with_sinks(json!([service_sink("a", sink.port)])).await;
    for _ in 0..3 {
        assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    }
    assert_eq!(sink.attempts(), 1);
    assert!(harness.metrics().contains(r#"outcome="duplicate"} 2"#));
}

#[tokio::test]
async fn a_state_that_was_sent_is_not_sent_again() {
    let sink = Sink::start(200).await;
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&other());
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("a", sink.port)])));
    for (id, state) in [("opened", "a"), ("edited", "a"), ("moved", "b"), ("edited-again", "b"), ("moved-back", "a")] {
        let body = json!({"repository": "7", "branches": ["main"], "once": {"subject": "pull request 7", "state": state}});
        let mut shot = Shot::new(id, body.to_string().into_bytes());
        shot.headers.push(("x-token", "right".into()));
        assert_eq!(harness.send(&shot).await, 200, "{id}");
    }
    assert_eq!(sink.accepted_ids(), ["opened", "moved", "moved-back"]);
}

#[tokio::test]
async fn a_repeated_delivery_in_progress_waits_for_the_same_answer() {
    let sink = Sink::start(SILENT).await;
    let harness = with_sinks(json!([service_sink("a", sink.port)])).await;
    let shot = Shot::push("d-1", "main");
    let both = futures::future::join(harness.send(&shot), harness.send(&shot));
    let release = async {
        until("both deliveries are being processed", || harness.seen().last_delivery.is_some()).await;
        sink.usually(200);
    };
    let ((first, second), ()) = futures::future::join(both, release).await;
    assert_eq!((first, second), (200, 200));
    assert_eq!(sink.attempts(), 1);
}

#[tokio::test]
async fn one_event_from_hooks_with_two_secret_versions_arrives_once() {
    let sink = Sink::start(200).await;
    let harness = with_sinks(json!([service_sink("a", sink.port)])).await;
    harness.clock.set("2026-11-20T10:01:00Z");
    let next = secret_version(-30);
    let old = |id: &str, body: &[u8]| Shot::new(id, body.to_vec());
    let new = |id: &str, body: &[u8]| Shot::with_secret_version(&next, id, body.to_vec());
    let bodies = ["1", "2", "3"].map(|commit| push_body(7, "acme/shop", "refs/heads/main", commit));
    // The new hook exists before the status names it.
    assert_eq!(harness.send(&old("old-1", &bodies[0])).await, 200);
    assert_eq!(harness.send(&new("new-1", &bodies[0])).await, 200);
    assert_eq!(harness.send(&new("new-2", &bodies[1])).await, 200);
    assert_eq!(harness.send(&old("old-2", &bodies[1])).await, 200);
    harness.routes.apply_binding(&binding(|object| {
        object["spec"]["sinks"] = json!([service_sink("a", sink.port)]);
        object["status"]["webhook"] =
            json!({"secretVersion": next, "previousSecrets": [{"version": secret_version(0)}], "secretChangedAt": "2026-11-20T10:00:30Z"});
    }));
    let (first, second) = (old("old-3", &bodies[2]), new("new-3", &bodies[2]));
    let both = futures::future::join(harness.send(&first), harness.send(&second)).await;
    assert_eq!(both, (200, 200));
    let ids = sink.accepted_ids();
    assert_eq!((ids[0].as_str(), ids.len()), ("old-1", 3), "{ids:?}");
    let derived = |id: &String| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(ids[1..].iter().all(derived), "no id of one of the two hooks: {ids:?}");
    assert_eq!(harness.seen().secret_versions.len(), 2, "the evidence contains both hooks");
}

#[tokio::test]
async fn events_for_a_sink_that_is_down_are_pending_in_order_and_arrive_once() {
    let sink = Sink::start(503).await;
    let harness = with_sinks(json!([service_sink("a", sink.port)])).await;
    assert_eq!(harness.send(&Shot::push("d-0", "main")).await, 202);
    harness.clock.set("2026-11-20T10:00:10Z");
    for number in 1..5 {
        assert_eq!(harness.send(&Shot::push(&format!("d-{number}"), "main")).await, 202);
    }
    assert_eq!(harness.send(&Shot::push("d-3", "main")).await, 200, "it is pending");
    let seen = harness.seen();
    assert_eq!(seen.sinks["a"].pending, 5);
    assert_eq!(seen.sinks["a"].last_error.as_deref(), Some("answered 503"));
    assert_eq!(seen.sinks["a"].failing_since.unwrap().to_string(), NOW);
    assert_eq!(seen.accepted_until.unwrap().to_string(), "2026-11-20T09:59:59.999Z");
    assert!(harness.metrics().contains("forgebind_receiver_pending_deliveries 5"));
    sink.usually(200);
    until("everything is accepted", || harness.seen().sinks["a"].pending == 0).await;
    assert_eq!(sink.accepted_ids(), ["d-0", "d-1", "d-2", "d-3", "d-4"]);
    until("nothing is held", || harness.metrics().contains("forgebind_receiver_pending_deliveries 0")).await;
    let seen = harness.seen();
    assert_eq!((&seen.sinks["a"].last_error, seen.sinks["a"].failing_since), (&None, None));
    assert_eq!(seen.accepted_until.unwrap().to_string(), "2026-11-20T10:00:10Z");
    assert_eq!(harness.send(&Shot::push("d-0", "main")).await, 200);
    assert_eq!(sink.accepted().len(), 5, "an event that was pending counts as seen");
}

#[tokio::test]
async fn a_failure_that_a_retry_repairs_within_the_deadline_is_not_reported_to_the_sender() {
    let sink = Sink::start(200).await;
    sink.next.lock().unwrap().extend([500, 302]);
    let harness = with_sinks(json!([service_sink("a", sink.port)])).await;
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    assert_eq!((sink.attempts(), sink.accepted_ids()), (3, vec!["d-1".to_owned()]));
    assert_eq!(harness.seen().sinks["a"].pending, 0);
}

#[tokio::test]
async fn a_sink_that_is_down_does_not_delay_the_other() {
    let (up, down) = (Sink::start(200).await, Sink::start(SILENT).await);
    let harness = with_sinks(json!([service_sink("a", up.port), service_sink("b", down.port)])).await;
    for number in 0..3 {
        assert_eq!(harness.send(&Shot::push(&format!("d-{number}"), "main")).await, 202);
        assert_eq!(up.accepted().len(), number + 1);
    }
    down.usually(200);
    until("the other sink has every event", || down.accepted().len() == 3).await;
    assert_eq!(up.accepted_ids(), ["d-0", "d-1", "d-2"]);
    assert_eq!(down.accepted_ids(), ["d-0", "d-1", "d-2"]);
}

#[tokio::test]
async fn a_binding_over_its_share_of_the_outbox_loses_its_oldest_events_and_says_so() {
    let (up, down) = (Sink::start(200).await, Sink::start(503).await);
    // A record costs 16 KiB and its content.
    let harness = start(|config, _| config.outbox.per_binding = 40 * 1024).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| {
        object["spec"]["sinks"] = json!([service_sink("a", up.port), service_sink("b", down.port)]);
    }));
    for number in 0..4 {
        assert_eq!(harness.send(&Shot::push(&format!("d-{number}"), "main")).await, 202, "still accepted");
    }
    let seen = harness.seen();
    assert_eq!((seen.sinks["b"].pending, seen.dropped.unwrap().count), (2, 2));
    assert!(harness.metrics().contains("forgebind_receiver_dropped_events_total 2"));
    down.usually(200);
    until("nothing is pending", || harness.seen().sinks["b"].pending == 0).await;
    assert_eq!(down.accepted_ids(), ["d-2", "d-3"]);
    assert_eq!(harness.send(&Shot::push("d-0", "main")).await, 200, "the provider may send again what was dropped");
    assert_eq!(down.accepted_ids(), ["d-2", "d-3", "d-0"]);
    assert_eq!(up.accepted_ids(), ["d-0", "d-1", "d-2", "d-3"], "and only to whom it is missing");
}

#[tokio::test]
async fn a_delivery_that_cannot_be_stored_is_refused_and_arrives_once_when_it_is_sent_again() {
    let (up, down) = (Sink::start(200).await, Sink::start(503).await);
    let harness = start(|config, _| config.outbox.per_binding = 1024).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| {
        object["spec"]["sinks"] = json!([service_sink("a", up.port), service_sink("b", down.port)]);
    }));
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 503);
    assert_eq!(harness.seen().accepted_until.unwrap().to_string(), "2026-11-20T09:59:59.999Z", "d-1 is missing");
    down.usually(200);
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    assert_eq!((up.accepted_ids(), down.accepted_ids()), (vec!["d-1".to_owned()], vec!["d-1".to_owned()]));
    assert_eq!(harness.seen().accepted_until.unwrap().to_string(), "2026-11-20T10:00:00Z");
}

#[tokio::test]
async fn a_sender_that_disconnects_does_not_cancel_the_delivery() {
    let sink = Sink::start(SILENT).await;
    let harness = with_sinks(json!([service_sink("a", sink.port)])).await;
    let sending = tokio::spawn(harness.request(&Shot::push("d-1", "main")).send());
    until("the delivery is being processed", || harness.seen().last_delivery.is_some()).await;
    sending.abort();
    assert!(sending.await.is_err_and(|error| error.is_cancelled()));
    until("the connection is gone", || harness.metrics().contains("forgebind_receiver_connections 0")).await;
    sink.usually(200);
    until("it arrived", || sink.accepted_ids() == ["d-1"]).await;
}

#[tokio::test]
async fn pending_events_follow_a_changed_sink_and_are_dropped_with_a_removed_one() {
    let (old, new) = (Sink::start(503).await, Sink::start(200).await);
    let harness = with_sinks(json!([service_sink("a", old.port)])).await;
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 202);
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("a", new.port)])));
    until("it arrived at the new address", || new.accepted_ids() == ["d-1"]).await;
    new.usually(503);
    assert_eq!(harness.send(&Shot::push("d-2", "main")).await, 202);
    harness.routes.apply_binding(&binding(|_| ()));
    until("it is no longer pending", || harness.metrics().contains("forgebind_receiver_pending_deliveries 0")).await;
    assert!(harness.metrics().contains("forgebind_receiver_discarded_events_total 1"));
}

/// The binding after the controller removed its webhook.
fn without_webhook(sinks: serde_json::Value) -> crate::api::v1alpha1::RepoBinding {
    binding(|object| {
        object["spec"]["sinks"] = sinks;
        object["status"]["webhook"] = json!(null);
    })
}

#[tokio::test]
async fn events_of_a_binding_that_lost_its_grant_are_discarded_and_those_without_a_connection_wait() {
    let sink = Sink::start(503).await;
    let harness = with_sinks(json!([service_sink("a", sink.port)])).await;
    let pending = |count: u32| format!("forgebind_receiver_pending_deliveries {count}");
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 202);
    harness.routes.remove_connection("team", "acme");
    sink.usually(200);
    until("nothing is sent without a connection", || {
        harness.seen().sinks["a"].last_error.as_deref() == Some("is not available at the moment")
    })
    .await;
    let attempts = sink.attempts();
    assert!(harness.metrics().contains(&pending(1)) && sink.accepted().is_empty(), "the connection may come back");
    let closed = json!([{"namespaces": {"from": "Same"}, "repositories": ["acme/other"]}]);
    harness.allow("team", &closed);
    assert_eq!(harness.send(&Shot::push("refused", "main")).await, 401);
    assert!(harness.metrics().contains(&pending(1)), "while the webhook stays, the grant may come back");
    harness.routes.apply_binding(&without_webhook(json!([service_sink("a", sink.port)])));
    until("it is discarded", || harness.metrics().contains(&pending(0))).await;
    assert!(harness.metrics().contains("forgebind_receiver_discarded_events_total 1"));
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("a", sink.port)])));
    assert_eq!(harness.send(&Shot::push("d-2", "main")).await, 200);
    assert_eq!((sink.accepted_ids(), sink.attempts()), (vec!["d-2".to_owned()], attempts + 1), "what was discarded is never sent");
}

#[tokio::test]
async fn dead_letters_of_a_binding_that_lost_its_grant_are_removed() {
    let sink = Sink::start(200).await;
    sink.answers("large", 413);
    let harness = with_sinks(json!([service_sink("a", sink.port)])).await;
    assert_eq!(harness.send(&Shot::push("large", "main")).await, 202);
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    until("it is a dead letter", || harness.seen().sinks["a"].dead_letters == 1).await;
    harness.allow("team", &json!([{"namespaces": {"from": "Same"}, "repositories": ["acme/other"]}]));
    harness.routes.apply_binding(&without_webhook(json!([service_sink("a", sink.port)])));
    until("it is removed", || harness.seen().sinks["a"].dead_letters == 0).await;
}

#[tokio::test]
async fn of_more_than_100_events_of_one_delivery_100_arrive_and_one_that_says_how_many_did_not() {
    let sink = Sink::start(200).await;
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&other());
    harness.routes.apply_binding(&binding(|object| {
        let mut of_a = service_sink("a", sink.port);
        of_a["branches"] = json!(["a*"]);
        object["spec"]["sinks"] = json!([of_a]);
    }));
    let branches: Vec<_> = (0..130).map(|number| format!("{}{number}", if number < 10 { "b" } else { "a" })).collect();
    let mut shot = Shot::new("d-1", pushes_body(&branches.iter().map(String::as_str).collect::<Vec<_>>()));
    shot.headers.push(("x-token", "right".into()));
    harness.send(&shot).await;
    until("all have arrived", || sink.accepted().len() == 101).await;
    let arrived = sink.accepted();
    let (omitted, pushes): (Vec<_>, Vec<_>) = arrived.iter().partition(|event| event.header("ce-type") == "dev.forgebind.refs_omitted");
    assert_eq!((pushes.len(), omitted.len()), (100, 1));
    assert_eq!((omitted[0].header("ce-id"), &omitted[0].body[..]), ("d-1/131", &br#"{"omitted":20}"#[..]));
    assert_eq!(
        pushes.iter().filter(|event| event.header("ce-subject") == "refs/heads/a10" && event.header("ce-id") == "d-1/11").count(),
        1
    );
}

#[tokio::test]
async fn the_source_is_never_an_address_that_an_answer_of_the_provider_contained() {
    let sink = Sink::start(200).await;
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| {
        object["spec"]["sinks"] = json!([service_sink("a", sink.port)]);
        object["status"]["repository"] = json!({"id": "7", "path": "Acme/Shop", "webURL": "https://evil.io/acme/shop"});
    }));
    assert_eq!(harness.send(&Shot::new("d-1", push_body(7, "Acme/Shop", "refs/heads/main", "c"))).await, 200);
    assert_eq!(sink.accepted()[0].header("ce-source"), "https://git.acme.io/Acme/Shop");
    assert_eq!(sink.accepted()[0].header("ce-forgebindbinding"), "team/shop");
}

#[tokio::test]
async fn an_event_that_the_sink_never_accepts_is_parked_and_delays_nothing_else() {
    let sink = Sink::start(200).await;
    sink.answers("poison", 422);
    let harness = with_sinks(json!([service_sink("a", sink.port)])).await;
    assert_eq!(harness.send(&Shot::push("poison", "main")).await, 202);
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 202, "the same branch waits");
    assert_eq!(harness.send(&Shot::push("d-2", "dev")).await, 202, "the sink seemed to be down");
    until("the branch continues", || sink.accepted_ids().contains(&"d-1".to_owned())).await;
    assert!(sink.accepted_ids().contains(&"d-2".to_owned()));
    until("the event is a dead letter", || harness.seen().sinks["a"].dead_letters == 1).await;
    assert_eq!(harness.seen().sinks["a"].pending, 0);
    assert!(harness.metrics().contains(r#"forgebind_receiver_dead_letters_total{reason="superseded"} 1"#));
    let attempts = sink.attempts();
    assert_eq!(harness.send(&Shot::push("poison", "main")).await, 202, "a dead letter is no duplicate when the provider sends it again");
    assert!(sink.attempts() > attempts);
}

#[tokio::test]
async fn an_event_that_is_too_large_for_the_sink_is_parked_at_once() {
    let sink = Sink::start(200).await;
    sink.answers("large", 413);
    let harness = with_sinks(json!([service_sink("a", sink.port)])).await;
    assert_eq!(harness.send(&Shot::push("large", "main")).await, 202);
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    assert_eq!((sink.attempts(), sink.accepted_ids()), (2, vec!["d-1".to_owned()]));
}

#[tokio::test]
async fn an_unsupported_sink_gets_nothing_and_delays_nothing() {
    let sink = Sink::start(200).await;
    let harness = with_sinks(json!([
        service_sink("a", sink.port),
        {"name": "out", "http": {"url": format!("http://127.0.0.1:{}/out", sink.port)}},
        {"name": "bad", "service": {"name": "user@evil.io", "port": 80}},
    ]))
    .await;
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    assert_eq!(sink.accepted().iter().map(|received| received.path.as_str()).collect::<Vec<_>>(), ["/events"]);
}

#[tokio::test]
async fn an_http_sink_on_an_allowed_host_is_served() {
    let sink = Sink::start(200).await;
    let harness = start(|_, routes| {
        let mut policy = policy();
        policy.insecure_http = true;
        policy.sink_hosts = vec!["127.0.0.1".parse().unwrap()];
        routes.policy = Arc::new(policy);
    })
    .await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| {
        object["spec"]["sinks"] = json!([{"name": "out", "http": {"url": format!("http://127.0.0.1:{}/out", sink.port)}}]);
    }));
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    assert_eq!(sink.accepted()[0].path, "/out");
}

#[tokio::test]
async fn errors_of_sinks_are_reported_without_internal_details() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let elsewhere = json!({"name": "b", "service": {"name": "no-such-service-here", "port": 80}});
    let harness = with_sinks(json!([service_sink("a", nobody), elsewhere])).await;
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 202);
    let seen = harness.seen();
    assert_eq!(seen.sinks["a"].last_error.as_deref(), Some("connection refused"));
    assert_eq!(
        seen.sinks["b"].last_error.as_deref(),
        Some("Service team/no-such-service-here does not exist; create it, or correct service.name")
    );
}

#[tokio::test]
async fn a_service_that_leads_to_a_forbidden_address_is_not_reached() {
    let sink = Sink::start(200).await;
    let harness = start(|_, routes| {
        let mut policy = policy();
        policy.allow_cidrs.clear();
        routes.policy = Arc::new(policy);
    })
    .await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("a", sink.port)])));
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 202);
    let error = harness.seen().sinks["a"].last_error.clone().unwrap();
    assert!(error.contains("sink-a.team.svc has the address 127.0.0.1, which is not allowed"), "{error}");
    assert_eq!(sink.attempts(), 0);
}
