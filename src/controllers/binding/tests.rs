//! Tests of `plan` and `report` without a probe of the repository.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::ProbeRecord;
use super::apply::Outcome;
use super::attempts::Attempts;
use super::hooks::ExistingHook;
use super::hooks::repair::did_not_last;
use super::observe::{CleanupTarget, Connection, Facts, Obstacle, Probe, Requests};
use super::ownership::tests::{identity, keys, settings};
use super::plan::{self, FinalizerAction};
use super::report::{Report, leftover_events, probe_failed, report, surplus_targets};
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget, RepoBindingStatus};
use crate::api::v1alpha1::{ConditionType, EventKind, FINALIZER, GitProviderConnection, Reason, RepoBinding};
use crate::controllers::connection::failure::failure_of;
use crate::controllers::connection::schedule::next_inspection;
use crate::controllers::gate::{RepositoryLookup, Seal, sealed};
use crate::k8s::conditions::{ConditionStatus, find};
use crate::protocol::evidence::{BindingEvidence, Delivery, Refusals, SinkEvidence};
use crate::protocol::sink_target::{NotServed, NotServedKind};
use crate::providers::{Disposition, ErrorKind, PathError, PermissionFinding, ProviderError};

const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn time(seconds_ago: i64) -> String {
    (now() - SignedDuration::from_secs(seconds_ago)).to_string()
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "", "observedGeneration": 1, "lastTransitionTime": time(1000)})
}

/// A binding that was Ready for generation 1, with one hook.
fn ready_binding() -> Value {
    json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
        "metadata": {"name": "shop", "namespace": "team", "uid": "u", "generation": 1, "finalizers": [FINALIZER]},
        "spec": {
            "connectionRef": {"name": "acme", "namespace": "platform"}, "repository": "acme/shop",
            "webhook": {"events": ["Push"]},
            "sinks": [{"name": "ci", "service": {"name": "ci", "port": 80}}],
        },
        "status": {
            "observedGeneration": 1, "installation": keys(1).fingerprint,
            "conditions": [
                condition("Ready", "True", "Succeeded"), condition("ConnectionReady", "True", "Succeeded"),
                condition("RepositoryFound", "True", "Succeeded"), condition("WebhookInSync", "True", "Succeeded"),
            ],
            "repository": {"id": "7", "path": "acme/shop", "archived": false, "empty": false},
            "webhook": {
                "url": "https://hooks.acme.io/hooks/…", "secretVersion": "1700000000",
                "hooks": [{"id": "31", "events": ["Push"], "adopted": false}],
                "target": {"connection": {"namespace": "platform", "name": "acme"}, "repositoryID": "7", "repository": "acme/shop", "host": "hooks.acme.io"},
            },
        },
    })
}

fn facts(object: Value, connection: Connection) -> Facts {
    let mut object: RepoBinding = serde_json::from_value(object).unwrap();
    if let Some(webhook) = object.status.as_mut().and_then(|status| status.webhook.as_mut()) {
        webhook.target = webhook.target.take().map(|target| sealed(&seal(), target));
    }
    let settings = settings("https://hooks.acme.io", &[]);
    Facts {
        object: Arc::new(object),
        now: now(),
        fingerprint: keys(1).fingerprint,
        public_url: settings.public_urls.choose(None).cloned(),
        identity: identity(1, &settings, None),
        settings,
        seal: seal(),
        granted: Some(!matches!(connection, Connection::NotPermitted)),
        known_without_grant: false,
        withdrawn: Vec::new(),
        connection,
        probe: None,
        memory: Some(ProbeRecord { at: Some(now()), generation: 1, ..ProbeRecord::default() }),
        attempts: Attempts::default(),
        targets: Vec::new(),
        user_secret: None,
        claims: Vec::new(),
        siblings: Vec::new(),
        evidence: None,
        requests: Requests::default(),
        refusal: None,
        unserved_sinks: Vec::new(),
        terminating: false,
        observe_only: false,
        suspended: false,
        key: keys(1).receiver,
        key_failure: None,
        rotation_of_connection: None,
        revocation_of_connection: None,
    }
}

fn seal() -> Seal {
    Seal::new(&keys(1).controller, "team", "shop")
}

fn say(facts: &Facts) -> Report {
    report(facts, &plan::plan(facts), &Outcome::nothing(Arc::clone(&facts.object)))
}

fn reads(status: &RepoBindingStatus, kind: ConditionType) -> String {
    find(&status.conditions, kind).map(|condition| format!("{}/{}", condition.status, condition.reason)).unwrap_or_default()
}

fn outage() -> Connection {
    Connection::Unreachable(failure_of(&ProviderError::new(ErrorKind::Unreachable, "inspect", "no route"), None))
}

#[test]
fn an_outage_of_the_provider_leaves_ready_as_it_was() {
    let said = say(&facts(ready_binding(), outage()));
    assert_eq!(reads(&said.status, ConditionType::ConnectionReady), "Unknown/ConnectionUnreachable");
    assert_eq!(reads(&said.status, ConditionType::Ready), "True/Succeeded");
    assert_eq!(said.status.webhook, facts(ready_binding(), outage()).object.status.clone().unwrap().webhook);
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

        let found = |repository, hooks| Probe {
            repository,
            branch: None,
            hooks,
            manage_webhooks: PermissionFinding::granted(),
            orphaned_hooks: Vec::new(),
        };
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
        later.now = now() + SignedDuration::from_secs(600);
        let second = say(&later);
        assert_eq!(first.status, second.status, "a status that only time changed is not written");
        assert!(second.events.is_empty());
    }
}

#[test]
fn evidence_moves_a_check_for_drift_and_no_end_of_an_overlap() {
    let next = now() + SignedDuration::from_secs(60);
    for (not_after, moved) in [(None, true), (Some(next), false)] {
        let mut delivering = facts(ready_binding(), Connection::Pending);
        delivering.memory =
            Some(ProbeRecord { at: Some(now()), generation: 1, next: Some(next), not_after, good: true, ..ProbeRecord::default() });
        delivering.evidence =
            Some(BindingEvidence { secret_versions: BTreeMap::from([("1700000000".to_owned(), now())]), ..BindingEvidence::default() });
        assert_eq!(plan::plan(&delivering).next_probe > Some(next), moved);
    }
}

#[test]
fn what_is_said_of_several_hooks_is_said_in_the_plural() {
    let one = plan::left_behind(&["58".to_owned()]);
    assert!(one.contains("hook 58 was made by Forgebind and belongs to no binding"), "{one}");
    let several = plan::left_behind(&["58".to_owned(), "63".to_owned()]);
    assert!(several.contains("hooks 58 and 63 were made by Forgebind and belong to no binding"), "{several}");
}

#[test]
fn suspended_is_said_before_anything_else() {
    let mut suspended = facts(ready_binding(), Connection::NotPermitted);
    suspended.suspended = true;
    assert_eq!(reads(&say(&suspended).status, ConditionType::Ready), "False/Suspended");
    assert!(plan::cleanup::cleanup_targets(&suspended).is_empty(), "nothing is written while suspended");
}

#[test]
fn a_sink_that_is_not_served_lowers_ready_and_one_that_fails_does_not() {
    let mut unserved = facts(ready_binding(), outage());
    unserved.unserved_sinks = vec![("ci".to_owned(), NotServed { kind: NotServedKind::Invalid, message: "http.url is wrong".to_owned() })];
    assert_eq!(reads(&say(&unserved).status, ConditionType::Ready), "False/SinkInvalid");
    // The message names every unserved sink once.
    let refusal = |words: &str| NotServed { kind: NotServedKind::Invalid, message: words.to_owned() };
    unserved.unserved_sinks.push(("bus".to_owned(), refusal("service.name is wrong")));
    let told = say(&unserved).status;
    let delivering = find(&told.conditions, ConditionType::Delivering).unwrap();
    assert_eq!(delivering.message, "sink ci: http.url is wrong; sink bus: service.name is wrong");
    let mut failing = facts(ready_binding(), outage());
    let sink = SinkEvidence { last_error: Some("status 500".to_owned()), failing_since: Some(now()), pending: 3 };
    failing.evidence = Some(BindingEvidence { sinks: BTreeMap::from([("ci".to_owned(), sink)]), ..BindingEvidence::default() });
    let said = say(&failing);
    assert_eq!(reads(&said.status, ConditionType::Delivering), "False/SinkFailing");
    assert_eq!(reads(&said.status, ConditionType::Ready), "True/Succeeded");
    assert_eq!(said.status.sinks[0].pending, 3);
}

fn delivered(seconds_ago: i64) -> BindingEvidence {
    let at = now() - SignedDuration::from_secs(seconds_ago);
    BindingEvidence {
        last_delivery: Some(Delivery { at, event: Some(EventKind::Push), id: format!("d-{seconds_ago}") }),
        ..BindingEvidence::default()
    }
}

#[test]
fn the_last_delivery_is_written_for_the_first_one_and_then_at_most_hourly() {
    let mut first = facts(ready_binding(), outage());
    first.evidence = Some(delivered(5));
    let said = say(&first);
    assert!(said.evidence_written);
    assert_eq!(said.status.webhook.as_ref().unwrap().last_delivery.as_ref().unwrap().id, "d-5");
    assert_eq!(reads(&said.status, ConditionType::Receiving), "True/Succeeded");
    for (known_seconds_ago, expected) in [(600, "known"), (3700, "d-5")] {
        let mut object = ready_binding();
        object["status"] = serde_json::to_value(&said.status).unwrap();
        object["status"]["webhook"]["lastDelivery"] = json!({"at": time(known_seconds_ago), "event": "Push", "id": "known"});
        let mut next = facts(object, outage());
        next.evidence = Some(delivered(5));
        assert_eq!(say(&next).status.webhook.unwrap().last_delivery.unwrap().id, expected);
    }
}

#[test]
fn refusals_count_until_a_delivery_verifies_again() {
    let refusals = |seconds_ago: i64| Refusals {
        count: 2,
        last: now() - SignedDuration::from_secs(seconds_ago),
        reason: "wrong signature".to_owned(),
    };
    let mut refused = facts(ready_binding(), outage());
    refused.evidence = Some(BindingEvidence { refusals: Some(refusals(1)), ..delivered(60) });
    let said = say(&refused);
    assert_eq!(reads(&said.status, ConditionType::Receiving), "False/DeliveriesRefused");
    assert_eq!(reads(&said.status, ConditionType::Ready), "True/Succeeded", "it does not lower Ready");
    let mut healed = facts(ready_binding(), outage());
    healed.evidence = Some(BindingEvidence { refusals: Some(refusals(60)), ..delivered(1) });
    assert_eq!(reads(&say(&healed).status, ConditionType::Receiving), "True/Succeeded");
}

fn deleted(seconds_ago: i64) -> Value {
    let mut object = ready_binding();
    object["metadata"]["deletionTimestamp"] = json!(time(seconds_ago));
    object
}

fn with_obstacle(object: Value, obstacle: Obstacle) -> Facts {
    let mut facts = facts(object, Connection::NotFound);
    let target = plan::cleanup::cleanup_targets(&facts).remove(0);
    facts.targets = vec![CleanupTarget { target, held: true, told: true, hooks: Err(obstacle) }];
    facts
}

#[test]
fn a_removal_that_cannot_be_done_waits_for_its_bound_and_is_then_written_down() {
    let credential = || Obstacle::Credential("401".to_owned());
    let outage = || Obstacle::Outage("no route".to_owned());
    for (obstacle, bound) in [(credential(), 3600), (outage(), 24 * 3600)] {
        let waiting = with_obstacle(deleted(bound - 60), obstacle.clone());
        let planned = plan::plan(&waiting);
        assert!(planned.actions.is_empty() && planned.finalizer_action == FinalizerAction::Keep);
        assert!(planned.blocked.is_some() && planned.wake.is_some());
        assert!(find(&say(&waiting).status.conditions, ConditionType::CleanupBlocked).is_some());
        let over = plan::plan(&with_obstacle(deleted(bound + 60), obstacle));
        assert!(matches!(over.actions.as_slice(), [plan::Action::Record(0, _), plan::Action::WithdrawSecret]), "{:?}", over.actions);
        assert_eq!(over.finalizer_action, FinalizerAction::RemoveAndForget);
    }
}

#[test]
fn what_was_not_tried_yet_is_not_given_up_however_long_ago_the_deletion_was() {
    for terminating in [false, true] {
        let mut restarted = with_obstacle(deleted(7 * 24 * 3600), Obstacle::Pending);
        restarted.terminating = terminating;
        let planned = plan::plan(&restarted);
        assert!(planned.actions.is_empty() && planned.finalizer_action == FinalizerAction::Keep, "{:?}", planned.actions);
        assert!(planned.blocked.is_none() && planned.wake.is_some());
    }
}

#[test]
fn a_404_alone_is_no_proof_that_a_repository_is_gone() {
    let hidden = Obstacle::of(&ProviderError::new(ErrorKind::NotFound, "look up repository", "404"));
    let planned = plan::plan(&with_obstacle(deleted(60), hidden));
    assert!(planned.actions.is_empty() && planned.finalizer_action == FinalizerAction::Keep && planned.blocked.is_some());
    let gone = plan::plan(&with_obstacle(deleted(60), Obstacle::Gone("404, and its owner's list does not have it".to_owned())));
    assert!(matches!(gone.actions.as_slice(), [plan::Action::Record(0, _), plan::Action::WithdrawSecret]), "{:?}", gone.actions);
    assert_eq!(gone.finalizer_action, FinalizerAction::RemoveAndForget, "written down: should it come back, its hooks are removed");
}

#[test]
fn a_namespace_that_is_being_deleted_waits_for_twenty_seconds_only() {
    let mut terminating = with_obstacle(deleted(30), Obstacle::Outage("no route".to_owned()));
    terminating.terminating = true;
    assert_eq!(plan::plan(&terminating).finalizer_action, FinalizerAction::RemoveAndForget);
    let mut early = with_obstacle(deleted(5), Obstacle::Outage("no route".to_owned()));
    early.terminating = true;
    assert_eq!(plan::plan(&early).finalizer_action, FinalizerAction::Keep);
}

#[test]
fn orphans_go_at_once_and_leave_their_hooks() {
    let mut object = deleted(1);
    object["spec"]["deletionPolicy"] = json!("Orphan");
    let orphaned = facts(object, Connection::NotFound);
    assert!(plan::cleanup::cleanup_targets(&orphaned).is_empty());
    let planned = plan::plan(&orphaned);
    assert!(matches!(planned.actions.as_slice(), [plan::Action::WithdrawSecret]), "{:?}", planned.actions);
    assert_eq!(planned.finalizer_action, FinalizerAction::RemoveAndForget);
}

#[test]
fn a_binding_without_our_finalizer_made_nothing_and_is_left_alone() {
    let mut object = deleted(1);
    object["metadata"]["finalizers"] = json!(["somebody.else/finalizer"]);
    let planned = plan::plan(&facts(object, Connection::NotFound));
    assert!(planned.actions.is_empty() && planned.finalizer_action == FinalizerAction::Keep);
}

#[test]
fn a_status_that_was_lost_does_not_lose_the_place_of_the_hooks() {
    let mut object = deleted(1);
    object["status"] = json!({});
    let targets = plan::cleanup::cleanup_targets(&facts(object, Connection::NotFound));
    let connection = ConnectionTarget { namespace: "platform".to_owned(), name: "acme".to_owned() };
    let expected = HookTarget {
        connection,
        repository_id: String::new(),
        repository: "acme/shop".to_owned(),
        host: "hooks.acme.io".to_owned(),
        seal: None,
    };
    assert_eq!(targets, [expected]);
}

#[test]
fn a_withdrawn_grant_removes_the_hook_and_an_outage_does_not() {
    assert_eq!(plan::cleanup::cleanup_targets(&facts(ready_binding(), Connection::NotPermitted)).len(), 1);
    for connection in [outage(), Connection::Pending, Connection::NotFound] {
        assert!(plan::cleanup::cleanup_targets(&facts(ready_binding(), connection)).is_empty());
    }
    let mut observing = facts(ready_binding(), Connection::NotPermitted);
    observing.observe_only = true;
    assert!(plan::cleanup::cleanup_targets(&observing).is_empty(), "nothing is written while observing");
}

#[test]
fn another_public_url_since_is_noticed_after_a_start_and_while_running() {
    let choosing = |name: Option<&str>| {
        let mut facts = facts(ready_binding(), outage());
        facts.public_url = facts.settings.public_urls.choose(name).cloned();
        facts.identity = identity(1, &facts.settings, name);
        facts
    };
    let before = choosing(None);
    assert!(!plan::due::delivers_elsewhere(&before));
    for name in ["internal", "unknown"] {
        let after = choosing(Some(name));
        assert!(plan::due::delivers_elsewhere(&after), "{name}");
        assert_ne!(after.probe_inputs(), before.probe_inputs(), "{name}");
    }
    // A binding with a custom URL does not depend on the public URL.
    let mut object = ready_binding();
    object["spec"]["webhook"] = json!({"events": ["Push"], "url": "https://argocd.acme.io/api/webhook", "secretRef": {"name": "s"}});
    let custom = Facts { public_url: before.public_url, identity: before.identity, ..facts(object.clone(), outage()) };
    let other = choosing(Some("internal"));
    let moved = Facts { public_url: other.public_url, identity: other.identity, ..facts(object, outage()) };
    assert!(!plan::due::delivers_elsewhere(&moved));
    assert_eq!(moved.probe_inputs(), custom.probe_inputs());
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
    let undone = Outcome::nothing(Arc::clone(&facts.object));
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
    let said = report(&facts, &plan, &Outcome::nothing(Arc::clone(&facts.object)));
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
    let mut outcome = Outcome::nothing(Arc::clone(&facts.object));
    let surplus = surplus_targets(&facts, &plan, &outcome);
    assert_eq!(surplus, [target(100)], "the oldest");
    outcome.recorded.extend(surplus);
    let said = report(&facts, &plan, &outcome);
    let status = serde_json::to_value(&said.status).unwrap();
    for (pointer, most) in bounds(&serde_json::to_value(RepoBinding::crd()).unwrap()) {
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
    let done = Outcome::nothing(Arc::clone(&facts.object));
    assert_eq!(reads(&report(&facts, &plan, &done).status, ConditionType::WebhookInSync), "True/Succeeded");
    let finding = did_not_last("31", &["events"], 1, "it is repaired again, with growing pauses");
    let undone = Outcome { unrepaired: vec![finding], ..done };
    let said = report(&facts, &plan, &undone).status;
    assert_eq!(reads(&said, ConditionType::WebhookInSync), "False/RepairDidNotLast");
    assert_eq!(reads(&said, ConditionType::Ready), "False/RepairDidNotLast");
    assert!(find(&said.conditions, ConditionType::Stalled).is_none(), "it is tried again by itself");
}

#[test]
fn hooks_for_which_there_is_no_room_are_told_by_name() {
    let facts = facts(ready_binding(), outage());
    let mut outcome = Outcome::nothing(Arc::clone(&facts.object));
    outcome.recorded = vec![target(1), target(2)];
    outcome.unrecorded = vec![target(2)];
    let told: Vec<_> = leftover_events(&facts, &outcome).into_iter().map(|event| event.message).collect();
    assert!(told[0].contains("written down") && told[1].contains("no room") && told[1].contains("acme/2 (to hooks.acme.io)"), "{told:?}");
    assert!(told[0].contains("acme/1 (to hooks.acme.io)") && !told[0].contains("acme/2"), "{told:?}");
    assert!(!told[1].contains("acme/1"), "{told:?}");
}

#[test]
fn what_was_begun_before_a_start_is_looked_at_first() {
    let settled = |change: fn(&mut Value)| {
        let mut object = ready_binding();
        change(&mut object);
        plan::due::is_settled(&facts(object, outage()))
    };
    assert!(settled(|_| {}));
    assert!(settled(|object| {
        object["status"]["webhook"]["previousSecrets"] = json!([{"version": "1600000000", "validUntil": time(-60)}]);
    }));
    assert!(settled(|object| object["spec"]["webhook"]["rotationInterval"] = json!("30000h")));
    assert!(!settled(|object| object["status"]["webhook"]["previousSecrets"] = json!([{"version": "1600000000"}])), "an overlap");
    assert!(!settled(|object| object["spec"]["webhook"]["rotationInterval"] = json!("24h")), "a rotation that is due");
    assert!(!settled(|object| object["metadata"]["finalizers"] = json!([])));
    assert!(settled(|object| object["metadata"]["creationTimestamp"] = json!(time(800))), "clocks differ");
    assert!(!settled(|object| object["metadata"]["creationTimestamp"] = json!(time(600))), "a status from before the object");
    assert!(
        !settled(|object| {
            object["status"]["webhook"]["formerTargets"] = json!([
                {"connection": {"namespace": "platform", "name": "acme"}, "repositoryID": "6", "repository": "acme/old", "host": "hooks.acme.io"}
            ]);
        }),
        "a move"
    );
}
