//! Tests of `report`.

use std::collections::BTreeMap;

use kube::CustomResourceExt as _;

use super::*;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};
use crate::api::v1alpha1::{EventKind, GitProviderConnection, Reason};
use crate::controllers::binding::cleanup::cleanup_targets;
use crate::controllers::binding::hooks::{ExistingHook, did_not_last};
use crate::controllers::binding::obstacle::Obstacle;
use crate::controllers::binding::probe::Probe;
use crate::controllers::binding::report::{leftover_events, probe_failed};
use crate::controllers::connection::schedule::next_inspection;
use crate::controllers::gate::RepositoryLookup;
use crate::k8s::conditions::ConditionStatus;
use crate::protocol::evidence::{BindingEvidence, Delivery, Dropped, Refusals, SinkEvidence, SinkState};
use crate::protocol::sink_target::{NotServed, NotServedKind};
use crate::providers::{Disposition, PathError};

#[test]
fn an_outage_of_the_provider_leaves_ready_as_it_was() {
    let said = say(&facts(ready_binding(), outage()));
    assert_eq!(reads(&said.status, ConditionType::ConnectionReady), "Unknown/ConnectionUnreachable");
    assert_eq!(reads(&said.status, ConditionType::Ready), "True/Succeeded");
    assert_eq!(said.status.webhook, facts(ready_binding(), outage()).snapshot.object.status.clone().unwrap().webhook);
    assert!(said.events.is_empty(), "{:?}", said.events);
}

/// Probes, removals, inspections and waits must interpret each kind of error in the same way.
#[test]
fn every_decider_takes_every_kind_of_error_for_the_same_thing() {
    for kind in ErrorKind::ALL {
        let error = || ProviderError::new(kind, "look", "x");
        let (obstacle, failure) = (Obstacle::of(&error()), failure_of(&error(), None));
        assert_eq!(matches!(obstacle, Obstacle::Pending), kind.disposition() == Disposition::NotAsked, "{kind:?}");
        let is_outage = matches!(obstacle, Obstacle::Outage(_));
        // A removal waits for a read-only provider or a concurrent change as for an outage.
        let passes = matches!(kind.disposition(), Disposition::ReadOnly | Disposition::ProbeAgain);
        assert_eq!(is_outage, kind.is_outage() || passes, "{kind:?}");
        assert_eq!(failure.is_outage(), kind.at_inspection().is_outage(), "{kind:?}");
        assert_eq!(failure.is_pending(), matches!(obstacle, Obstacle::Pending), "{kind:?}");

        assert_ne!(failure.waits_for_a_person(), failure.is_outage() || failure.is_pending(), "{kind:?}");

        let next = next_inspection(Some(&failure), 0, std::time::Duration::from_secs(600), "u", now());
        let is_soon = next.is_some_and(|next| next.duration_since(now()) <= SignedDuration::from_secs(75));
        assert_eq!(is_soon, failure.is_outage() || failure.is_pending(), "{kind:?}: {next:?}");
        assert_eq!(next.is_none(), kind == ErrorKind::Unauthenticated, "{kind:?}: only a refused credential is not tried again by itself");

        let found = |repository, hooks| Probe { hooks, ..Probe::without_repository(repository) };
        for probe in [found(RepositoryLookup::Failed(error()), None), found(RepositoryLookup::Failed(error()), Some(Err(error())))] {
            let seen = Facts { probe: Some(probe), ..facts(ready_binding(), Connection::Pending) };
            assert_ne!(
                probe_failed(&seen),
                kind.disposition() == Disposition::Hidden,
                "{kind:?}: an answer or a failure, and never neither"
            );
        }
    }
}

#[test]
fn a_changed_spec_is_not_called_ready_before_it_was_judged() {
    for connection in [outage(), Connection::Pending] {
        let mut object = ready_binding();
        object["metadata"]["generation"] = json!(2);
        let said = say(&facts(object, connection));
        assert_eq!(said.status.observed_generation, Some(1));
        assert_eq!(reads(&said.status, ConditionType::Reconciling), "True/Progressing");
        let ready = find(&said.status.conditions, ConditionType::Ready).unwrap();
        assert_eq!(ready.observed_generation, Some(1));
    }
}

#[test]
fn each_state_of_the_connection_is_said_and_names_no_other_namespace() {
    let rejected = failure_of(&ProviderError::new(ErrorKind::Unauthenticated, "inspect", "401 for the bot of platform"), None);
    let elsewhere = PathError::AnotherHost { found: "a.io".to_owned(), expected: "b.io".to_owned() };
    for (connection, kind, expected, stalled) in [
        (Connection::NotFound, ConditionType::ConnectionReady, "False/ConnectionNotFound", false),
        (Connection::NotPermitted, ConditionType::ConnectionReady, "False/RefNotPermitted", false),
        (Connection::NotReady(rejected), ConditionType::ConnectionReady, "False/ConnectionNotReady", false),
        (Connection::Path(elsewhere), ConditionType::RepositoryFound, "False/OutOfScope", true),
    ] {
        let said = say(&facts(ready_binding(), connection));
        assert_eq!(reads(&said.status, kind), expected);
        assert_eq!(reads(&said.status, ConditionType::Ready), expected, "Ready carries the first lowering reason");
        assert_eq!(find(&said.status.conditions, ConditionType::Stalled).is_some(), stalled, "{expected}");
        assert_ne!(find(&said.status.conditions, ConditionType::Reconciling).is_some(), stalled, "one of the two: {expected}");
        assert!(said.status.conditions.iter().all(|condition| !condition.message.contains("platform")), "{:?}", said.status.conditions);
        assert_eq!(said.events.len(), 1);
    }
}

#[test]
fn what_was_said_is_not_said_again() {
    let states: Vec<fn() -> Connection> = vec![|| Connection::NotFound, || Connection::NotPermitted, outage, || Connection::Pending];
    for state in states {
        let first = say(&facts(ready_binding(), state()));
        let mut object = ready_binding();
        object["status"] = serde_json::to_value(&first.status).unwrap();
        let mut later = facts(object, state());
        later.snapshot.now = now() + SignedDuration::from_secs(600);
        let second = say(&later);
        assert_eq!(first.status, second.status, "a status that only time changed is not written");
        assert!(second.events.is_empty());
    }
}

#[test]
fn suspended_is_said_before_anything_else() {
    let mut suspended = facts(ready_binding(), Connection::NotPermitted);
    suspended.snapshot.suspended = true;
    assert_eq!(reads(&say(&suspended).status, ConditionType::Ready), "False/Suspended");
    assert!(cleanup_targets(&suspended.snapshot, None).is_empty(), "nothing is written while suspended");
}

#[test]
fn a_sink_that_is_not_served_lowers_ready_and_one_that_fails_does_not() {
    let mut unserved = facts(ready_binding(), outage());
    unserved.snapshot.unserved_sinks =
        vec![("ci".to_owned(), NotServed { kind: NotServedKind::Invalid, message: "http.url is wrong".to_owned() })];
    assert_eq!(reads(&say(&unserved).status, ConditionType::Ready), "False/SinkInvalid");
    // The message names every unserved sink once.
    let refusal = |words: &str| NotServed { kind: NotServedKind::Invalid, message: words.to_owned() };
    unserved.snapshot.unserved_sinks.push(("bus".to_owned(), refusal("service.name is wrong")));
    let told = say(&unserved).status;
    let delivering = find(&told.conditions, ConditionType::Delivering).unwrap();
    assert_eq!(delivering.message, "sink ci: http.url is wrong; sink bus: service.name is wrong");
    let mut failing = facts(ready_binding(), outage());
    let sink = SinkEvidence {
        last_error: Some("status 500".to_owned()),
        failing_since: Some(now()),
        state: SinkState::Down,
        down_since: Some(now()),
        dead_letters: 3,
        ..SinkEvidence::default()
    };
    failing.snapshot.memory.evidence =
        Some(BindingEvidence { sinks: BTreeMap::from([("ci".to_owned(), sink)]), ..BindingEvidence::default() });
    let said = say(&failing);
    assert_eq!(reads(&said.status, ConditionType::Delivering), "False/SinkFailing");
    assert_eq!(reads(&said.status, ConditionType::Ready), "True/Succeeded");
    let row = &said.status.sinks[0];
    assert_eq!((row.state, row.down_since.as_ref().map(|at| at.0), row.dead_letters), (SinkState::Down, Some(now()), 3));
    // What the receivers say about a Service counts like what the spec says; that it does not exist, like a failure.
    let sink = |failing: &mut Facts, refusal: NotServed| {
        let sink = failing.snapshot.memory.evidence.as_mut().unwrap().sinks.get_mut("ci").unwrap();
        sink.last_error = Some(refusal.message.clone());
        sink.not_served = Some(refusal);
    };
    sink(&mut failing, NotServed::not_allowed("Service team/ci is headless"));
    let said = say(&failing).status;
    assert_eq!(reads(&said, ConditionType::Ready), "False/SinkNotAllowed");
    assert_eq!(find(&said.conditions, ConditionType::Delivering).unwrap().message, "sink ci: Service team/ci is headless");
    sink(&mut failing, NotServed::missing("Service team/ci does not exist"));
    let said = say(&failing).status;
    assert_eq!(reads(&said, ConditionType::Delivering), "False/SinkFailing");
    assert_eq!(reads(&said, ConditionType::Ready), "True/Succeeded");
    failing.snapshot.memory.evidence.as_mut().unwrap().dropped = Some(Dropped { count: 7, last: now() });
    let said = say(&failing);
    assert_eq!(reads(&said.status, ConditionType::Delivering), "False/EventsDropped");
    assert!(find(&said.status.conditions, ConditionType::Delivering).unwrap().message.starts_with("7 pending events were dropped"));
    failing.snapshot.memory.evidence.as_mut().unwrap().outbox_unavailable = Some(now());
    let said = say(&failing);
    assert_eq!(reads(&said.status, ConditionType::Delivering), "False/OutboxUnavailable");
    assert_eq!(reads(&said.status, ConditionType::Ready), "False/OutboxUnavailable");
}

fn delivered(seconds_ago: i64) -> BindingEvidence {
    let at = now() - SignedDuration::from_secs(seconds_ago);
    BindingEvidence {
        last_delivery: Some(Delivery { at, event: Some(EventKind::Push), id: format!("d-{seconds_ago}") }),
        ..BindingEvidence::default()
    }
}

#[test]
fn deliveries_count_as_received_after_a_restart_until_one_is_refused() {
    let mut first = facts(ready_binding(), outage());
    first.snapshot.memory.evidence = Some(delivered(5));
    let said = say(&first);
    assert_eq!(said.memory.evidence_at, Some(now()));
    assert_eq!(reads(&said.status, ConditionType::Receiving), "True/Succeeded");
    let mut object = ready_binding();
    object["status"] = serde_json::to_value(&said.status).unwrap();
    let mut restarted = facts(object.clone(), outage());
    assert_eq!(reads(&say(&restarted).status, ConditionType::Receiving), "True/Succeeded");
    let refusals =
        |seconds| Some(Refusals { count: 1, last: now() + SignedDuration::from_secs(seconds), reason: "wrong signature".to_owned() });
    restarted.snapshot.memory.evidence = Some(BindingEvidence { refusals: refusals(5), ..BindingEvidence::default() });
    let refused = say(&restarted).status;
    assert_eq!(reads(&refused, ConditionType::Receiving), "False/DeliveriesRefused");
    object["status"] = serde_json::to_value(&refused).unwrap();
    assert_eq!(reads(&say(&facts(object.clone(), outage())).status, ConditionType::Receiving), "False/DeliveriesRefused");
    let mut again = facts(object, outage());
    again.snapshot.memory.evidence = Some(delivered(0));
    assert_eq!(reads(&say(&again).status, ConditionType::Receiving), "True/Succeeded");
}

#[test]
fn refusals_count_until_a_delivery_verifies_again() {
    let refusals = |seconds_ago: i64| Refusals {
        count: 2,
        last: now() - SignedDuration::from_secs(seconds_ago),
        reason: "wrong signature".to_owned(),
    };
    let mut refused = facts(ready_binding(), outage());
    refused.snapshot.memory.evidence = Some(BindingEvidence { refusals: Some(refusals(1)), ..delivered(60) });
    let said = say(&refused);
    assert_eq!(reads(&said.status, ConditionType::Receiving), "False/DeliveriesRefused");
    assert_eq!(reads(&said.status, ConditionType::Ready), "True/Succeeded", "it does not lower Ready");
    let mut healed = facts(ready_binding(), outage());
    healed.snapshot.memory.evidence = Some(BindingEvidence { refusals: Some(refusals(60)), ..delivered(1) });
    assert_eq!(reads(&say(&healed).status, ConditionType::Receiving), "True/Succeeded");
}

#[test]
fn the_status_tells_where_a_hook_delivers_until_it_has_moved() {
    let facts = facts(ready_binding(), outage());
    let existing = |address: &str| ExistingHook {
        id: "31".to_owned(),
        events: [EventKind::Push].into(),
        secret_version: "1700000000".to_owned(),
        adopted: false,
        address: address.to_owned(),
    };
    let (old, new) = ("https://hooks.acme.corp/hooks/…", "https://hooks.acme.io/hooks/…");
    let plan = plan::Plan { existing: Some(vec![existing(old)]), ..plan::plan(&facts) };
    let url = |outcome: &Outcome| report(&facts, &plan, outcome).status.webhook.unwrap().url;
    let undone = Outcome::nothing(Arc::clone(&facts.snapshot.object));
    assert_eq!(url(&undone).as_deref(), Some(old), "an update that was not made, or failed");
    let done = Outcome { present: vec![existing(new)], ..undone };
    assert_eq!(url(&done).as_deref(), Some(new));
}

fn existing(id: u32, secret_version: &str) -> ExistingHook {
    let address = "https://hooks.acme.io/hooks/…".to_owned();
    ExistingHook {
        id: id.to_string(),
        events: [EventKind::Push].into(),
        secret_version: secret_version.to_owned(),
        adopted: false,
        address,
    }
}

fn target(number: u32) -> HookTarget {
    let connection = ConnectionTarget { namespace: "platform".to_owned(), name: "acme".to_owned() };
    HookTarget {
        connection,
        repository_id: number.to_string(),
        repository: format!("acme/{number}"),
        host: "hooks.acme.io".to_owned(),
        seal: None,
    }
}

#[test]
fn of_earlier_secrets_those_stay_that_are_carried_or_accepted_longest() {
    let mut object = ready_binding();
    let previous = |number: i64| json!({"version": format!("own{number:016x}"), "validUntil": time(-10 * number)});
    object["status"]["webhook"]["previousSecrets"] = (1..=8).map(previous).collect();
    let facts = facts(object, outage());
    // During the overlap, one hook still carries the old secret.
    let plan = plan::Plan {
        existing: Some(vec![existing(31, "1700000000"), existing(32, "1800000000")]),
        secret_version: Some("1800000000".to_owned()),
        ..plan::plan(&facts)
    };
    let said = report(&facts, &plan, &Outcome::nothing(Arc::clone(&facts.snapshot.object)));
    let existing: Vec<_> = said.status.webhook.unwrap().previous_secrets.into_iter().map(|previous| previous.version).collect();
    let expected: Vec<_> = (2..=8).map(|number| format!("own{number:016x}")).chain(["1700000000".to_owned()]).collect();
    assert_eq!(existing, expected, "the one that ends first goes, and not the one whose text comes first");
}

/// Collects the JSON pointers of all lists with `maxItems` in a schema.
fn bounded_lists(schema: &Value, pointer: &str, found: &mut BTreeMap<String, usize>) {
    if let Some(most) = schema["maxItems"].as_u64() {
        found.insert(pointer.to_owned(), usize::try_from(most).unwrap());
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        bounded_lists(schema, &format!("{pointer}/{name}"), found);
    }
}

#[test]
fn every_bounded_list_of_a_status_keeps_within_its_bound_and_what_falls_out_is_recorded() {
    let bounds = |crd: &Value| {
        let mut found = BTreeMap::new();
        bounded_lists(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"], "", &mut found);
        found
    };
    let of_connections = bounds(&serde_json::to_value(GitProviderConnection::crd()).unwrap());
    assert!(of_connections.is_empty(), "a new bounded list needs a row here: {of_connections:?}");

    let mut object = ready_binding();
    let previous = |number: i64| json!({"version": format!("own{number:016x}"), "validUntil": time(-10 * number)});
    object["status"]["webhook"]["previousSecrets"] = (1..=8).map(previous).collect();
    object["status"]["webhook"]["formerTargets"] = (100..108).map(|number| serde_json::to_value(target(number)).unwrap()).collect();
    let facts = facts(object, outage());
    let plan = plan::Plan {
        existing: Some(vec![existing(31, "1700000000"), existing(32, "1800000000")]),
        secret_version: Some("1800000000".to_owned()),
        target: Some(target(200)),
        ..plan::plan(&facts)
    };
    let mut outcome = Outcome::nothing(Arc::clone(&facts.snapshot.object));
    let surplus = outcome.surplus_targets(&facts.snapshot.object, &plan);
    assert_eq!(surplus, [target(100)], "the oldest");
    outcome.recorded.extend(surplus);
    let said = report(&facts, &plan, &outcome);
    let status = serde_json::to_value(&said.status).unwrap();
    let mut bounds = bounds(&serde_json::to_value(RepoBinding::crd()).unwrap());
    // Written apart, by what `recent.rs` decides.
    assert_eq!(bounds.remove("/recentDeliveries"), Some(crate::api::v1alpha1::deliveries::RECENT_DELIVERIES));
    for (pointer, most) in bounds {
        let length = status.pointer(&pointer).and_then(Value::as_array).map(Vec::len);
        assert_eq!(length, Some(most), "{pointer} was to overflow by one");
    }
    assert!(said.events.iter().any(|event| event.reason == "HooksLeftBehind"), "{:?}", said.events);
}

#[test]
fn a_hook_that_the_provider_did_not_make_as_it_was_asked_is_not_called_in_sync() {
    let facts = facts(ready_binding(), outage());
    let good = plan::Finding { status: ConditionStatus::True, reason: Reason::Succeeded, message: "in order".to_owned() };
    let plan = plan::Plan { webhook: Some(good), existing: Some(vec![existing(31, "1700000000")]), ..plan::plan(&facts) };
    let done = Outcome::nothing(Arc::clone(&facts.snapshot.object));
    assert_eq!(reads(&report(&facts, &plan, &done).status, ConditionType::WebhookInSync), "True/Succeeded");
    let finding = did_not_last("31", &["events"], 1, "it is repaired again, with increasing delays");
    let undone = Outcome { unrepaired: vec![finding], ..done };
    let said = report(&facts, &plan, &undone).status;
    assert_eq!(reads(&said, ConditionType::WebhookInSync), "False/RepairDidNotLast");
    assert_eq!(reads(&said, ConditionType::Ready), "False/RepairDidNotLast");
    assert!(find(&said.conditions, ConditionType::Stalled).is_none(), "it is tried again by itself");
}

#[test]
fn hooks_for_which_there_is_no_room_are_told_by_name() {
    let facts = facts(ready_binding(), outage());
    let mut outcome = Outcome::nothing(Arc::clone(&facts.snapshot.object));
    outcome.recorded = vec![target(1), target(2)];
    outcome.unrecorded = vec![target(2)];
    let told: Vec<_> = leftover_events(&facts, &outcome).into_iter().map(|event| event.message).collect();
    assert!(told[0].contains("recorded") && told[1].contains("no room") && told[1].contains("acme/2 (to hooks.acme.io)"), "{told:?}");
    assert!(told[0].contains("acme/1 (to hooks.acme.io)") && !told[0].contains("acme/2"), "{told:?}");
    assert!(!told[1].contains("acme/1"), "{told:?}");
}
