//! Tests of sinks that are Services: nothing is sent but to the address that the Service has at that moment.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::harness::*;
use crate::protocol::sink_service::{ServiceAddress, ServiceFacts};
use crate::protocol::sink_target::NotServedKind;

/// Every Service of these tests has an address of this machine, so that what is sent arrives.
const FIRST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn put(harness: &Harness, namespace: &str, facts: ServiceFacts) {
    harness.routes.apply_service(namespace.to_owned(), "ci".to_owned(), facts);
}

fn at(uid: &str, address: Ipv4Addr) -> ServiceFacts {
    service(uid, &address.to_string())
}

async fn with_service(change: impl FnOnce(&mut Value), port: u16) -> Harness {
    let harness = start(|_, routes| routes.namespaces = vec!["team".to_owned(), "tekton".to_owned()]).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| {
        let mut service = json!({"name": "ci", "port": port});
        change(&mut service);
        object["spec"]["sinks"] = json!([{"name": "a", "service": service}]);
    }));
    harness
}

fn refusal(harness: &Harness) -> Option<(NotServedKind, String)> {
    let sink = harness.seen().sinks.get("a").cloned()?;
    let refusal = sink.not_served?;
    assert_eq!(sink.last_error.as_deref(), Some(refusal.message.as_str()));
    Some((refusal.kind, refusal.message))
}

#[tokio::test]
async fn nothing_goes_to_the_next_owner_of_an_address() {
    let old = Sink::start_at((FIRST, 0), 200).await;
    let new = Sink::start_at((SECOND, old.port), 200).await;
    let harness = with_service(|_| (), old.port).await;
    put(&harness, "team", at("uid-1", FIRST));
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    assert_eq!(old.accepted()[0].header("host"), format!("ci.team.svc:{}", old.port));

    // The Service is deleted, and its address belongs to another team at once.
    harness.routes.remove_service("team", "ci");
    put(&harness, "tekton", at("uid-theirs", FIRST));
    assert_eq!(harness.send(&Shot::push("d-2", "main")).await, 202, "pending");
    let (kind, message) = refusal(&harness).unwrap();
    assert_eq!((kind, message.contains("Service team/ci does not exist")), (NotServedKind::Missing, true), "{message}");
    assert_eq!(old.attempts(), 1, "nothing went to the new owner");

    // Made again, it has another address.
    put(&harness, "team", at("uid-2", SECOND));
    assert!([200, 202].contains(&harness.send(&Shot::push("d-3", "main")).await));
    until("both arrive at the new address", || new.accepted_ids() == ["d-2", "d-3"]).await;
    assert_eq!((old.attempts(), refusal(&harness)), (1, None));

    // A change of the address alone is followed, too, although a connection to the former one is open.
    put(&harness, "team", at("uid-2", FIRST));
    assert_eq!(harness.send(&Shot::push("d-4", "main")).await, 200);
    assert_eq!((old.accepted_ids(), new.attempts()), (vec!["d-1".to_owned(), "d-4".to_owned()], 2));
}

#[tokio::test]
async fn two_services_that_have_an_address_one_after_the_other_share_no_connection() {
    let sink = Sink::start_at((FIRST, 0), 200).await;
    let harness = with_service(|_| (), sink.port).await;
    put(&harness, "team", at("uid-1", FIRST));
    for id in ["d-1", "d-2"] {
        assert_eq!(harness.send(&Shot::push(id, "main")).await, 200);
    }
    assert_eq!(sink.connections.load(Ordering::Relaxed), 1, "a connection is used again, although the answers have a body");
    put(&harness, "team", at("uid-2", FIRST));
    assert_eq!(harness.send(&Shot::push("d-3", "main")).await, 200);
    assert_eq!(sink.connections.load(Ordering::Relaxed), 2, "the former one may lead to what was behind the former Service");
}

#[tokio::test]
async fn a_long_answer_is_not_read_to_its_end_and_a_redirect_is_a_failure() {
    let sink = Sink::start_at((FIRST, 0), 200).await;
    let harness = with_service(|_| (), sink.port).await;
    put(&harness, "team", at("uid-1", FIRST));
    sink.verbosity.store(1024 * 1024, Ordering::Relaxed);
    for id in ["d-1", "d-2"] {
        assert_eq!(harness.send(&Shot::push(id, "main")).await, 200, "the status alone decides");
    }
    assert_eq!(sink.connections.load(Ordering::Relaxed), 2, "the connection of a long answer is closed");
    sink.usually(307);
    assert_eq!(harness.send(&Shot::push("d-3", "main")).await, 202);
    assert_eq!(harness.seen().sinks["a"].last_error.as_deref(), Some("answered 307"));
}

#[tokio::test]
async fn a_service_that_may_lead_anywhere_gets_nothing_until_it_is_another_one() {
    let sink = Sink::start_at((FIRST, 0), 200).await;
    let harness = with_service(|_| (), sink.port).await;
    for (id, address, says) in [
        ("d-1", ServiceAddress::External, "ExternalName"),
        ("d-2", ServiceAddress::Headless, "headless"),
        ("d-3", ServiceAddress::WithoutSelector, "no selector"),
    ] {
        put(&harness, "team", ServiceFacts { address, ..at("uid-1", FIRST) });
        let (kind, message) = refusal(&harness).unwrap();
        assert_eq!((kind, message.contains(says)), (NotServedKind::NotAllowed, true), "{message}");
        assert_eq!(harness.send(&Shot::push(id, "main")).await, 202);
    }
    assert_eq!((sink.attempts(), harness.seen().sinks["a"].dead_letters), (0, 0), "held, and not given up");
    put(&harness, "team", at("uid-1", FIRST));
    until("all arrive in order", || sink.accepted_ids() == ["d-1", "d-2", "d-3"]).await;
}

#[tokio::test]
async fn a_service_of_another_namespace_gets_events_only_while_its_annotation_allows_it() {
    let sink = Sink::start_at((FIRST, 0), 200).await;
    let harness = with_service(|service| service["namespace"] = json!("tekton"), sink.port).await;
    let annotated = |value: &str| ServiceFacts { deliver_from: Some(value.into()), ..at("uid-1", FIRST) };
    put(&harness, "tekton", at("uid-1", FIRST));
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 202);
    assert!(refusal(&harness).unwrap().1.contains("forgebind.dev/deliver-from: team"));
    put(&harness, "tekton", annotated("other, te*"));
    until("it arrives", || sink.accepted_ids() == ["d-1"]).await;
    assert_eq!(sink.accepted()[0].header("host"), format!("ci.tekton.svc:{}", sink.port));
    put(&harness, "tekton", annotated("other"));
    assert_eq!(harness.send(&Shot::push("d-2", "main")).await, 202, "withdrawn");
    assert_eq!((sink.attempts(), refusal(&harness).unwrap().0), (1, NotServedKind::NotAllowed));
}

#[tokio::test]
async fn nothing_goes_to_an_address_that_nobody_has_confirmed_for_long() {
    let sink = Sink::start_at((FIRST, 0), 200).await;
    let silent = Arc::new(AtomicU64::new(50));
    let watch = Arc::clone(&silent);
    let harness = start(|_, routes| {
        routes.service_watch = Arc::new(move |_| Some(Duration::from_secs(watch.load(Ordering::SeqCst))));
    })
    .await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| {
        object["spec"]["sinks"] = json!([{"name": "a", "service": {"name": "ci", "port": sink.port}}]);
    }));
    put(&harness, "team", at("uid-1", FIRST));
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    silent.store(4 * 60, Ordering::SeqCst);
    assert_eq!(harness.send(&Shot::push("d-2", "main")).await, 200, "a short outage of the API server holds up nothing");
    silent.store(5 * 60, Ordering::SeqCst);
    assert_eq!(harness.send(&Shot::push("d-3", "main")).await, 202, "pending");
    let (kind, message) = refusal(&harness).unwrap();
    assert_eq!((kind, message.contains("could not be watched for more than 5 minutes")), (NotServedKind::Missing, true), "{message}");
    assert_eq!(sink.attempts(), 2, "the address may be another one's by now");
    silent.store(1, Ordering::SeqCst);
    until("it arrives when the watch works again", || sink.accepted_ids() == ["d-1", "d-2", "d-3"]).await;
    assert_eq!(refusal(&harness), None);
}

#[tokio::test]
async fn a_namespace_that_is_not_watched_is_refused() {
    let harness = with_service(|service| service["namespace"] = json!("elsewhere"), 80).await;
    let (kind, message) = refusal(&harness).unwrap();
    assert_eq!(kind, NotServedKind::NotAllowed);
    assert!(message.contains("elsewhere") && message.contains("--watch-namespaces"), "{message}");
}
