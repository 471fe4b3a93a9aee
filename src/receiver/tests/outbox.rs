//! Tests of a receiver that is started again with the outbox of an earlier one.

use std::path::Path;

use serde_json::json;

use super::super::{OutboxConfig, OutboxKind};
use super::harness::*;
use crate::api::v1alpha1::REDELIVER_REQUESTED_AT;

async fn on_disk(directory: &Path, port: u16) -> Harness {
    let harness = start(|config, _| config.outbox = OutboxConfig::new(OutboxKind::Disk(directory.to_owned()))).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("a", port)])));
    harness
}

#[tokio::test]
async fn pending_events_survive_a_restart_in_their_order_and_with_their_ids() {
    let (directory, sink) = (tempfile::tempdir().unwrap(), Sink::start(503).await);
    let first = on_disk(directory.path(), sink.port).await;
    for id in ["d-0", "d-1", "d-2"] {
        assert_eq!(first.send(&Shot::push(id, "main")).await, 202);
    }
    first.stop().await;
    assert_eq!(sink.accepted_ids(), Vec::<String>::new());
    let second = on_disk(directory.path(), sink.port).await;
    assert_eq!(second.seen().sinks["a"].pending, 3);
    assert_eq!(second.send(&Shot::push("d-1", "main")).await, 200, "it is known as a duplicate");
    sink.usually(200);
    until("everything is accepted", || second.seen().sinks["a"].pending == 0).await;
    assert_eq!(sink.accepted_ids(), ["d-0", "d-1", "d-2"]);
    assert_eq!(sink.accepted()[0].body, Shot::push("d-0", "main").body, "as it was received");
    second.stop().await;
    let third = on_disk(directory.path(), sink.port).await;
    assert!(third.metrics().contains("forgebind_receiver_pending_deliveries 0"));
    assert_eq!(sink.attempts() - sink.accepted().len(), sink.attempts() - 3, "nothing is sent again");
}

#[tokio::test]
async fn a_restart_during_a_rotation_gives_one_event_one_id() {
    let (directory, sink) = (tempfile::tempdir().unwrap(), Sink::start(503).await);
    let rotating = |harness: &Harness| {
        harness.routes.apply_binding(&binding(|object| {
            object["spec"]["sinks"] = json!([service_sink("a", sink.port)]);
            let previous = json!([{"version": secret_version(60)}]);
            object["status"]["webhook"] = json!({"secretVersion": secret_version(0), "previousSecrets": previous, "secretChangedAt": NOW});
        }));
    };
    let body = push_body(7, "acme/shop", "refs/heads/main", "c");
    let first = on_disk(directory.path(), sink.port).await;
    rotating(&first);
    assert_eq!(first.send(&Shot::with_secret_version(&secret_version(60), "old", body.clone())).await, 202);
    first.stop().await;
    let second = on_disk(directory.path(), sink.port).await;
    rotating(&second);
    assert_eq!(second.send(&Shot::with_secret_version(&secret_version(0), "new", body.clone())).await, 200, "the same event");
    sink.usually(200);
    until("it is accepted", || second.seen().sinks["a"].pending == 0).await;
    let ids = sink.accepted_ids();
    assert_eq!(ids.len(), 1, "{ids:?}");
    // A receiver that knows nothing of the first delivery gives the event the same id.
    let elsewhere = tempfile::tempdir().unwrap();
    let third = on_disk(elsewhere.path(), sink.port).await;
    rotating(&third);
    assert_eq!(third.send(&Shot::with_secret_version(&secret_version(0), "new", body)).await, 200);
    assert_eq!(sink.accepted_ids(), [ids[0].clone(), ids[0].clone()]);
}

#[tokio::test]
async fn events_of_a_binding_that_is_not_known_yet_wait_and_those_of_one_that_is_gone_are_discarded() {
    let (directory, sink) = (tempfile::tempdir().unwrap(), Sink::start(503).await);
    let first = on_disk(directory.path(), sink.port).await;
    assert_eq!(first.send(&Shot::push("d-1", "main")).await, 202);
    first.stop().await;
    sink.usually(200);
    let attempts = sink.attempts();
    let second = start(|config, _| config.outbox = OutboxConfig::new(OutboxKind::Disk(directory.path().to_owned()))).await;
    second.fresh.store(false, std::sync::atomic::Ordering::Relaxed);
    second.routes.apply_connection(&gitea());
    assert!(second.metrics().contains("forgebind_receiver_pending_deliveries 1"));
    assert_eq!(sink.attempts(), attempts);
    second.fresh.store(true, std::sync::atomic::Ordering::Relaxed);
    until("it is discarded", || second.metrics().contains("forgebind_receiver_pending_deliveries 0")).await;
    assert!(second.metrics().contains("forgebind_receiver_discarded_events_total 1"));
    assert_eq!(sink.attempts(), attempts, "nothing is sent");
}

#[tokio::test]
async fn dead_letters_are_sent_again_on_request_once_and_marked() {
    let (directory, sink) = (tempfile::tempdir().unwrap(), Sink::start(200).await);
    sink.answers("poison", 413);
    let harness = on_disk(directory.path(), sink.port).await;
    assert_eq!(harness.send(&Shot::push("poison", "main")).await, 202);
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    until("it is a dead letter", || harness.seen().sinks["a"].dead_letters == 1).await;
    harness.stop().await;
    let harness = on_disk(directory.path(), sink.port).await;
    assert_eq!(harness.seen().sinks["a"].dead_letters, 1, "dead letters survive a restart");
    sink.answers("poison", 200);
    harness.routes.apply_binding(&binding(|object| {
        object["metadata"]["annotations"] = json!({REDELIVER_REQUESTED_AT: "now"});
        object["spec"]["sinks"] = json!([service_sink("a", sink.port)]);
    }));
    until("it is sent again", || sink.accepted_ids() == ["d-1", "poison"]).await;
    let again = &sink.accepted()[1];
    assert_eq!((again.header("ce-forgebindredelivered"), sink.accepted()[0].header("ce-forgebindredelivered")), ("true", ""));
    until("nothing is left", || harness.metrics().contains("forgebind_receiver_pending_deliveries 0")).await;
    let seen = harness.seen();
    assert_eq!((seen.redelivered.as_deref(), seen.sinks["a"].dead_letters), (Some("now"), 0));
}

#[tokio::test]
async fn an_event_that_is_sent_again_on_request_is_marked_after_a_restart_too() {
    let (directory, sink) = (tempfile::tempdir().unwrap(), Sink::start(200).await);
    let asked = |harness: &Harness| {
        harness.routes.apply_binding(&binding(|object| {
            object["metadata"]["annotations"] = json!({REDELIVER_REQUESTED_AT: "now"});
            object["spec"]["sinks"] = json!([service_sink("a", sink.port)]);
        }));
    };
    for id in ["dead", "parked"] {
        sink.answers(id, 413);
    }
    let first = on_disk(directory.path(), sink.port).await;
    assert_eq!(first.send(&Shot::push("dead", "main")).await, 202);
    assert_eq!(first.send(&Shot::push("later", "main")).await, 200);
    assert_eq!(first.send(&Shot::push("parked", "dev")).await, 202);
    until("one is a dead letter", || first.seen().sinks["a"].dead_letters == 1).await;
    for id in ["dead", "parked"] {
        sink.answers(id, 503);
    }
    let attempts = sink.attempts();
    asked(&first);
    until("both are sent again", || sink.attempts() >= attempts + 2).await;
    first.stop().await;

    for id in ["dead", "parked"] {
        sink.answers(id, 200);
    }
    let second = on_disk(directory.path(), sink.port).await;
    asked(&second);
    until("both are accepted", || second.seen().sinks["a"].pending == 0).await;
    let marks: Vec<_> =
        sink.accepted().iter().map(|event| [event.header("ce-id"), event.header("ce-forgebindredelivered")].concat()).collect();
    assert_eq!(marks.iter().map(String::as_str).collect::<std::collections::BTreeSet<_>>(), ["deadtrue", "later", "parkedtrue"].into());
}
