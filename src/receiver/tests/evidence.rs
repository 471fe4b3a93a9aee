//! Tests of the evidence: what is remembered of deliveries, and for how long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use super::super::{EvidenceStore, Routes, RoutesConfig};
use super::harness::*;
use crate::api::v1alpha1::RepoBinding;

fn with_sinks(names: &[&str]) -> RepoBinding {
    let sinks: Vec<_> = names.iter().map(|name| service_sink(name, 80)).collect();
    binding(|object| object["spec"]["sinks"] = json!(sinks))
}

fn store() -> (Routes, EvidenceStore, Timestamp) {
    let now: Timestamp = NOW.parse().unwrap();
    let routes = Routes::new(RoutesConfig::new(key(), Arc::new(ManualClock::at(NOW)), Arc::new(policy())));
    routes.apply_connection(&gitea());
    routes.apply_binding(&with_sinks(&["a", "b"]));
    (routes.clone(), EvidenceStore::new(routes), now)
}

fn sinks(store: &EvidenceStore) -> Vec<(String, u64)> {
    let seen = store.snapshot().bindings.remove("uid-shop").unwrap_or_default();
    seen.sinks.into_iter().map(|(name, sink)| (name, sink.pending)).collect()
}

#[test]
fn a_sink_that_was_removed_from_its_binding_is_forgotten_once_no_event_is_pending() {
    let (routes, store, now) = store();
    for sink in ["a", "b"] {
        store.sink_failed("uid-shop", sink, now, "status 500".to_owned());
    }
    store.sink_pending("uid-shop", "b", 2);
    let both = [("a".to_owned(), 0), ("b".to_owned(), 2)];
    assert_eq!(sinks(&store), both, "both sinks belong to the binding");
    routes.apply_binding(&with_sinks(&["b"]));
    assert_eq!(sinks(&store), both[1..]);
    routes.apply_binding(&with_sinks(&["c"]));
    assert_eq!(sinks(&store), both[1..], "two events are still counted for the removed sink");
    store.sink_pending("uid-shop", "b", -2);
    assert_eq!(sinks(&store), []);
}

#[test]
fn a_deleted_binding_is_forgotten_when_the_evidence_is_read() {
    let (routes, store, now) = store();
    store.refused("uid-shop", now, "proof_wrong");
    store.sink_pending("uid-shop", "a", 1);
    store.refused("uid-of-nobody", now, "proof_wrong");
    assert_eq!(store.snapshot().bindings.into_keys().collect::<Vec<_>>(), ["uid-shop"]);
    assert_eq!(store.records(), 1);
    routes.remove_binding("team", "shop", "uid-shop");
    assert!(store.snapshot().bindings.is_empty(), "also with events that are pending for a sink");
    assert_eq!(store.records(), 1, "its pending events are counted until they are discarded");
    store.sink_pending("uid-shop", "a", -1);
    assert!(store.snapshot().bindings.is_empty());
    assert_eq!(store.records(), 0);
}

#[test]
fn deleted_bindings_do_not_accumulate_while_nobody_reads_the_evidence() {
    let (_routes, store, now) = store();
    store.refused("uid-shop", now, "proof_wrong");
    for number in 0..1000 {
        store.refused(&format!("gone-{number}"), now, "proof_wrong");
        assert!(store.records() <= 65, "{}", store.records());
    }
    let seen = store.snapshot().bindings;
    assert_eq!(seen["uid-shop"].refusals.as_ref().map(|refusals| refusals.count), Some(1), "what exists is kept: {seen:?}");
}

/// How long the evidence of 10,000 bindings takes, and how long a change of the table waits meanwhile: printed, not asserted.
#[tokio::test]
async fn the_evidence_of_many_bindings_tells_every_unserved_service() {
    const BINDINGS: usize = 10_000;
    let routes = Routes::new(RoutesConfig::new(key(), Arc::new(ManualClock::at(NOW)), Arc::new(policy())));
    let store = EvidenceStore::new(routes.clone());
    let named = |number: usize| {
        binding(|object| {
            object["metadata"]["name"] = json!(format!("shop-{number}"));
            object["metadata"]["uid"] = json!(format!("uid-{number}"));
            object["spec"]["sinks"] = json!([service_sink("a", 80), service_sink("b", 80)]);
        })
    };
    (0..BINDINGS).for_each(|number| routes.apply_binding(&named(number)));
    routes.apply_service("team".to_owned(), "sink-a".to_owned(), service("uid", "10.96.0.7"));
    routes.services_are_listed();
    let polling = std::thread::spawn({
        let store = store.clone();
        move || {
            let begun = Instant::now();
            (store.snapshot(), begun.elapsed())
        }
    });
    let mut longest = Duration::ZERO;
    let changed = named(0);
    while !polling.is_finished() {
        let begun = Instant::now();
        routes.apply_binding(&changed);
        longest = longest.max(begun.elapsed());
    }
    let (evidence, took) = polling.join().unwrap();
    eprintln!("figure: evidence of {BINDINGS} bindings with two Services: {took:.1?}; a change of the table waited at most {longest:.1?}");
    assert_eq!(evidence.bindings.len(), BINDINGS);
    assert!(evidence.bindings.values().all(|seen| seen.sinks.len() == 1 && seen.sinks["b"].not_served.is_some()));
}
