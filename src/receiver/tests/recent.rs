//! Tests of the list of the last deliveries: what became of each, and what it never contains.

use std::path::Path;

use serde_json::{Value, json};

use super::super::{OutboxConfig, OutboxKind};
use super::harness::*;
use crate::api::v1alpha1::REDELIVER_REQUESTED_AT;
use crate::protocol::deliveries::RecentQuery;

async fn with(change: impl Fn(&mut Value)) -> Harness {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(change));
    harness
}

/// The list as in the status, the newest first.
fn list(harness: &Harness) -> Vec<Value> {
    let report = harness.evidence.report(&RecentQuery { room: 100, after: None });
    let recent = report.recent.bindings.get("uid-shop").cloned().unwrap_or_default();
    recent.iter().map(|delivery| serde_json::to_value(delivery).unwrap()).collect()
}

/// What became of a delivery, and its state at each sink.
fn told(entry: &Value) -> String {
    let sinks = entry["sinks"].as_array().cloned().unwrap_or_default();
    let sink = |sink: &Value| {
        let text = |field: &str| sink[field].as_str().unwrap_or_default().to_owned();
        format!(" {}:{}{}", text("name"), text("state"), sink["error"].as_str().map(|error| format!("({error})")).unwrap_or_default())
    };
    entry["outcome"].as_str().unwrap_or_default().to_owned() + &sinks.iter().map(sink).collect::<String>()
}

fn turned_away(harness: &Harness) -> Vec<(String, u64)> {
    harness.seen().turned_away.into_iter().map(|reason| (format!("{:?}: {}", reason.outcome, reason.reason), reason.count)).collect()
}

#[tokio::test]
async fn a_delivery_is_listed_with_its_reference_its_commit_and_the_answer_of_each_sink() {
    let (up, down) = (Sink::start(200).await, Sink::start(503).await);
    let harness = with(|object| object["spec"]["sinks"] = json!([service_sink("a", up.port), service_sink("b", down.port)])).await;
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 202);
    until("b has answered", || told(&list(&harness)[0]).contains("503")).await;
    let entry = list(&harness).remove(0);
    assert_eq!(told(&entry), "Pending a:Accepted b:Pending(answered 503)");
    let commit = hex::encode(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, b"d-1"));
    assert_eq!(
        (&entry["event"], &entry["ref"], &entry["sha"], &entry["id"]),
        (&json!("Push"), &json!("refs/heads/main"), &json!(commit.get(..8)), &json!("d-1"))
    );
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200, "the same again");
    down.usually(200);
    until("b has accepted", || list(&harness).iter().any(|entry| told(entry) == "Accepted a:Accepted b:Accepted")).await;
    assert_eq!(list(&harness).iter().map(told).collect::<Vec<_>>(), ["Duplicate", "Accepted a:Accepted b:Accepted"]);
}

#[tokio::test]
async fn df_22_pk_34_a_delivery_that_no_filter_selects_reaches_no_sink_and_is_listed_as_unwanted() {
    let sink = Sink::start(200).await;
    let harness = with(|object| {
        let (mut by_branch, mut by_event) = (service_sink("a", sink.port), service_sink("b", sink.port));
        by_branch["branches"] = json!(["release/*"]);
        by_event["events"] = json!(["Tag"]);
        object["spec"]["sinks"] = json!([by_branch, by_event]);
    })
    .await;
    assert_eq!(harness.send(&Shot::push("d-1", "dev")).await, 200);
    assert_eq!(told(&list(&harness)[0]), "Unwanted a:Unwanted b:Unwanted");
    assert_eq!(harness.send(&Shot::push("d-2", "release/1")).await, 200);
    assert_eq!(told(&list(&harness)[0]), "Accepted a:Accepted b:Unwanted");
    assert_eq!(sink.accepted_ids(), ["d-2"]);
}

#[tokio::test]
async fn a_delivery_is_never_listed_as_accepted_while_a_sink_that_selects_it_is_not_served() {
    let (sink, later) = (Sink::start(200).await, Sink::start(200).await);
    let spec = |second: Value| {
        let mut filtered = json!({"name": "c", "http": {"url": "https://events.example/hook"}});
        filtered["events"] = json!(["Tag"]);
        json!([service_sink("a", sink.port), second, filtered])
    };
    let not_allowed = json!({"name": "b", "http": {"url": "https://events.example/hook"}});
    let harness = with(|object| object["spec"]["sinks"] = spec(not_allowed.clone())).await;
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    let words = told(&list(&harness)[0]);
    assert!(words.starts_with("NotServed a:Accepted b:NotServed(") && words.ends_with(" c:Unwanted"), "{words}");
    assert!(words.contains("events.example"), "the reason is told: {words}");
    assert_eq!(harness.seen().accepted_until.unwrap().to_string(), "2026-11-20T09:59:59.999Z", "not every sink has accepted it");
    assert!(harness.metrics().contains("outcome=\"not_served\"} 1"), "{}", harness.metrics());

    // When the sink has an address, what the provider sends again reaches it, and the others do not get it twice.
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = spec(service_sink("b", later.port))));
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    assert_eq!(told(&list(&harness)[0]), "Accepted a:Accepted b:Accepted c:Unwanted");
    assert_eq!((sink.accepted_ids(), later.accepted_ids()), (vec!["d-1".to_owned()], vec!["d-1".to_owned()]));
}

#[tokio::test]
async fn what_becomes_of_a_delivery_is_true_in_every_state_of_its_sink() {
    let (up, down) = (Sink::start(200).await, Sink::start(503).await);
    let not_allowed = || json!({"name": "a", "http": {"url": "https://events.example/hook"}});
    let invalid = || json!({"name": "a", "service": {"name": "a/b", "port": 80}});
    let missing = || json!({"name": "a", "service": {"name": "nobody", "port": 80}});
    let unprepared = || {
        let mut sink = service_sink("a", up.port);
        sink["service"]["secretRef"] = json!({"name": "key"});
        sink
    };
    let filtered = || {
        let mut sink = not_allowed();
        sink["branches"] = json!(["release"]);
        sink
    };
    for (what, sink, status, expected) in [
        ("served", service_sink("a", up.port), 200, "Accepted a:Accepted"),
        ("down", service_sink("a", down.port), 202, "Pending a:Pending(answered 503)"),
        ("its Service is missing", missing(), 202, "Pending a:Pending(Service team/nobody does not exist"),
        ("its key is not prepared", unprepared(), 202, "Pending a:Pending(what secretRef names is not prepared"),
        ("its host is not allowed", not_allowed(), 200, "NotServed a:NotServed("),
        ("its spec is invalid", invalid(), 200, "NotServed a:NotServed(service.name"),
        ("not served, and it does not select the delivery", filtered(), 200, "Unwanted a:Unwanted"),
    ] {
        let harness = with(|object| object["spec"]["sinks"] = json!([sink])).await;
        assert_eq!(harness.send(&Shot::push("d-1", "main")).await, status, "{what}");
        until(what, || told(&list(&harness)[0]).starts_with(expected)).await;
    }
}

#[tokio::test]
async fn a_delivery_whose_sink_is_removed_while_it_is_sent_is_listed_as_discarded() {
    let (sink, other) = (Sink::start(503).await, Sink::start(200).await);
    let harness = start(|config, _| config.sinks.direct = DEADLINE).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("a", sink.port)])));
    let answer = tokio::spawn(harness.request(&Shot::push("d-1", "main")).send());
    until("it is being sent", || sink.attempts() > 0).await;
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("b", other.port)])));
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    assert_eq!(list(&harness).iter().map(|entry| entry["outcome"].clone()).collect::<Vec<_>>(), ["Discarded"]);
    assert!(harness.metrics().contains("outcome=\"discarded\"} 1"), "{}", harness.metrics());
}

#[tokio::test]
async fn after_a_restart_a_delivery_still_names_the_sink_that_was_not_served() {
    let (directory, sink) = (tempfile::tempdir().unwrap(), Sink::start(503).await);
    let started = async || {
        let harness = start(|config, _| config.outbox = OutboxConfig::new(OutboxKind::Disk(directory.path().to_owned()))).await;
        harness.routes.apply_connection(&gitea());
        harness.routes.apply_binding(&binding(|object| {
            let not_allowed = json!({"name": "b", "http": {"url": "https://events.example/hook"}});
            object["spec"]["sinks"] = json!([service_sink("a", sink.port), not_allowed]);
        }));
        harness
    };
    let harness = started().await;
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 202);
    harness.stop().await;
    let harness = started().await;
    sink.usually(200);
    until("a has accepted it", || told(&list(&harness)[0]) == "NotServed a:Accepted b:NotServed").await;
}

#[tokio::test]
async fn forged_and_foreign_deliveries_are_counted_and_nothing_of_them_is_listed() {
    let harness = with(|_| ()).await;
    assert_eq!(harness.send(&Shot::push("real", "main")).await, 200);
    for number in 0..20 {
        let forged = Shot { secret: "a secret of somebody else".to_owned(), ..Shot::push(&format!("forged-{number}"), "canary") };
        assert_eq!(harness.send(&forged).await, 401);
    }
    assert_eq!(harness.send(&Shot { secret: String::new(), ..Shot::push("unsigned", "canary") }).await, 401);
    let foreign = Shot::new("foreign", push_body(8, "other/canary", "refs/heads/canary", "canary"));
    assert_eq!(harness.send(&foreign).await, 200);
    assert_eq!(harness.send(&Shot::new("canary", b"{}".to_vec())).await, 200);
    assert_eq!(list(&harness).iter().map(told).collect::<Vec<_>>(), ["Accepted"]);
    assert_eq!(
        turned_away(&harness),
        [
            ("Refused: wrong signature".to_owned(), 20),
            ("Refused: no signature".to_owned(), 1),
            ("ForeignRepository: it is about another repository".to_owned(), 1),
            ("Unreadable: its content is not what the provider documents".to_owned(), 1),
        ]
    );
    let everything = serde_json::to_string(&harness.evidence.report(&RecentQuery { room: 100, after: None })).unwrap();
    assert!(!everything.contains("canary") && !everything.contains("forged"), "{everything}");
}

#[tokio::test]
async fn the_names_in_the_list_have_no_hidden_characters_and_a_limited_length() {
    let harness = with(|_| ()).await;
    let branch = format!("a\u{1b}[2J\u{202e}b\nforged{}", "x".repeat(5000));
    assert_eq!(harness.send(&Shot::push("d-1", &branch)).await, 200);
    let reference = list(&harness)[0]["ref"].as_str().unwrap().to_owned();
    assert!(reference.starts_with("refs/heads/a [2Jb forgedxxx") && reference.chars().count() == 128, "{reference:?}");
}

async fn on_disk(directory: &Path, port: u16, value: &str) -> Harness {
    let harness = start(|config, _| config.outbox = OutboxConfig::new(OutboxKind::Disk(directory.to_owned()))).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| {
        object["metadata"]["annotations"] = json!({REDELIVER_REQUESTED_AT: value});
        object["spec"]["sinks"] = json!([service_sink("a", port)]);
    }));
    harness
}

#[tokio::test]
async fn a_dead_letter_is_listed_after_a_restart_too_and_as_accepted_once_it_was_sent_again() {
    let (directory, sink) = (tempfile::tempdir().unwrap(), Sink::start(200).await);
    sink.answers("poison", 413);
    let harness = on_disk(directory.path(), sink.port, "first").await;
    assert_eq!(harness.send(&Shot::push("poison", "main")).await, 202);
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    until("it is a dead letter", || told(&list(&harness)[1]) == "DeadLetter a:DeadLetter(answered 413)").await;
    harness.stop().await;
    let harness = on_disk(directory.path(), sink.port, "first").await;
    assert_eq!(list(&harness).iter().map(told).collect::<Vec<_>>(), ["DeadLetter a:DeadLetter"]);
    sink.answers("poison", 200);
    harness.routes.apply_binding(&binding(|object| {
        object["metadata"]["annotations"] = json!({REDELIVER_REQUESTED_AT: "second"});
        object["spec"]["sinks"] = json!([service_sink("a", sink.port)]);
    }));
    until("it is accepted", || told(&list(&harness)[0]) == "Accepted a:Accepted").await;
    assert_eq!(sink.accepted_ids(), ["d-1", "poison"]);
}

#[tokio::test]
async fn deliveries_of_a_binding_that_is_gone_are_forgotten() {
    let harness = with(|_| ()).await;
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    assert_eq!(list(&harness).len(), 1);
    harness.routes.remove_binding("team", "shop", "uid-shop");
    assert!(list(&harness).is_empty());
}
