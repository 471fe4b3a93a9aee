//! Tests of `schedule`, `cleanup` and `plan`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};
use crate::controllers::binding::cleanup::{CleanupTarget, cleanup_targets};
use crate::controllers::binding::obstacle::Obstacle;
use crate::controllers::binding::plan::{FinalizerStep, PlanStep};
use crate::controllers::binding::prepared::{Held, PreparedEntry};
use crate::controllers::binding::report::Requeue;
use crate::controllers::binding::schedule::{delivers_elsewhere, is_settled};
use crate::controllers::binding::time::after;
use crate::controllers::binding::user_secret::UserSecret;
use crate::controllers::gate::Ungranted;
use crate::protocol::evidence::BindingEvidence;
use crate::protocol::secret::WebhookSecret;
use crate::protocol::webhook_secrets::{self, SinkSecrets, UserSecrets};

#[test]
fn evidence_moves_a_check_for_drift_and_no_end_of_an_overlap() {
    let next = now() + SignedDuration::from_secs(60);
    for (not_after, moved) in [(None, true), (Some(next), false)] {
        let mut delivering = facts(ready_binding(), Connection::Pending);
        delivering.snapshot.memory.probe =
            Some(ProbeRecord { at: Some(now()), generation: 1, next: Some(next), not_after, good: true, ..ProbeRecord::default() });
        delivering.snapshot.memory.evidence =
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

fn deleted(seconds_ago: i64) -> Value {
    let mut object = ready_binding();
    object["metadata"]["deletionTimestamp"] = json!(time(seconds_ago));
    object
}

fn with_obstacle(object: Value, obstacle: Obstacle) -> Facts {
    let mut facts = facts(object, Connection::NotFound);
    let target = cleanup_targets(&facts.snapshot, None).remove(0);
    facts.targets = vec![CleanupTarget { target, held: true, told: true, hooks: Err(obstacle), connection_failed: false }];
    facts
}

#[test]
fn a_removal_that_cannot_be_done_waits_for_its_bound_and_is_then_written_down() {
    let credential = || Obstacle::Credential("401".to_owned());
    let outage = || Obstacle::Outage("no route".to_owned());
    for (obstacle, bound) in [(credential(), 3600), (outage(), 24 * 3600)] {
        let waiting = with_obstacle(deleted(bound - 60), obstacle.clone());
        let planned = plan::plan(&waiting);
        assert!(planned.steps.is_empty() && planned.finalizer_step == FinalizerStep::Keep);
        assert!(planned.blocked.is_some() && planned.wake.is_some());
        assert!(find(&say(&waiting).status.conditions, ConditionType::CleanupBlocked).is_some());
        let over = plan::plan(&with_obstacle(deleted(bound + 60), obstacle));
        assert!(matches!(over.steps.as_slice(), [PlanStep::Record { .. }, PlanStep::WithdrawSecret]), "{:?}", over.steps);
        assert_eq!(over.finalizer_step, FinalizerStep::RemoveAndForget);
    }
}

#[test]
fn what_was_not_tried_yet_is_not_given_up_however_long_ago_the_deletion_was() {
    for terminating in [false, true] {
        let mut restarted = with_obstacle(deleted(7 * 24 * 3600), Obstacle::Pending);
        restarted.snapshot.terminating = terminating;
        let planned = plan::plan(&restarted);
        assert!(planned.steps.is_empty() && planned.finalizer_step == FinalizerStep::Keep, "{:?}", planned.steps);
        assert!(planned.blocked.is_none() && planned.wake.is_some());
    }
}

/// The entry of a binding whose sink `ci` has nothing but its name.
fn prepared_entry() -> PreparedEntry {
    let sinks = BTreeMap::from([("ci".to_owned(), SinkSecrets::default())]);
    PreparedEntry::Read(Some(Held::of(&UserSecrets { sinks, ..UserSecrets::default() })))
}

/// A binding whose sink needs something, which was read.
fn needing(object: Value, connection: Connection) -> Facts {
    let mut facts = facts(object, connection);
    facts.snapshot.prepared_sinks.sinks.insert("ci".to_owned(), SinkSecrets::default());
    facts.snapshot.prepared_entry = PreparedEntry::Read(None);
    facts
}

#[test]
fn what_sinks_need_is_published_first_and_only_with_a_grant() {
    let mut granted = needing(ready_binding(), outage());
    assert!(matches!(plan::plan(&granted).steps[..], [PlanStep::PublishSinkSecrets]));
    granted.snapshot.prepared_entry = prepared_entry();
    assert!(plan::plan(&granted).steps.is_empty(), "it was published before");
    let refused = plan::plan(&needing(ready_binding(), Connection::NotPermitted));
    assert!(!refused.steps.iter().any(|step| matches!(step, PlanStep::PublishSinkSecrets)), "{:?}", refused.steps);
}

#[test]
fn a_key_that_an_earlier_leader_published_and_no_spec_names_any_more_is_withdrawn() {
    let mut left = facts(ready_binding(), outage());
    assert!(plan::plan(&left).steps.is_empty());
    left.snapshot.prepared_entry = prepared_entry();
    assert!(matches!(plan::plan(&left).steps[..], [PlanStep::PublishSinkSecrets]));
    left.snapshot.prepared_entry = PreparedEntry::Read(None);
    assert!(plan::plan(&left).steps.is_empty(), "nothing is written where nothing is");
}

#[test]
fn a_binding_without_a_webhook_publishes_nothing_and_withdraws_what_is_left_once() {
    let mut object = ready_binding();
    object["spec"].as_object_mut().unwrap().remove("webhook");
    object["spec"]["sinks"][0]["service"]["secretRef"] = json!({"name": "signing"});
    object["status"].as_object_mut().unwrap().remove("webhook");
    object["metadata"].as_object_mut().unwrap().remove("finalizers");
    let mut resting = needing(object.clone(), outage());
    let planned = plan::plan(&resting);
    assert!(planned.steps.is_empty() && planned.finalizer_step == FinalizerStep::Keep, "{:?}", planned.steps);
    resting.snapshot.prepared_entry = prepared_entry();
    let planned = plan::plan(&resting);
    assert!(matches!(planned.steps[..], [PlanStep::WithdrawSecret]), "{:?}", planned.steps);
    assert_eq!(planned.finalizer_step, FinalizerStep::Keep, "nothing that needs a finalizer is made");
    object["metadata"]["finalizers"] = json!([FINALIZER]);
    let mut held = needing(object, outage());
    held.snapshot.prepared_entry = prepared_entry();
    let planned = plan::plan(&held);
    assert!(matches!(planned.steps[..], [PlanStep::WithdrawSecret]), "{:?}", planned.steps);
    assert_eq!(planned.finalizer_step, FinalizerStep::Remove);
}

#[test]
fn a_deleted_copy_of_the_users_secret_is_prepared_again_without_a_probe() {
    let mut lost = facts(ready_binding(), outage());
    let version = "1700000000".to_owned();
    lost.snapshot.user_secret = Some(Ok(UserSecret { version, value: WebhookSecret::Text("0123456789abcdef".into()) }));
    assert!(plan::plan(&lost).steps.is_empty(), "nobody knows whether it is there");
    lost.snapshot.prepared_entry = PreparedEntry::Read(None);
    assert!(matches!(plan::plan(&lost).steps[..], [PlanStep::PublishSecret(..)]));
    lost.snapshot.observe_only = true;
    assert!(plan::plan(&lost).steps.is_empty());
    lost.snapshot.observe_only = false;
    let secret = webhook_secrets::UserSecret::new("v".to_owned(), &WebhookSecret::Text("0123456789abcdef".into()));
    let entry = UserSecrets { secrets: secret.into_iter().collect(), ..UserSecrets::default() };
    lost.snapshot.prepared_entry = PreparedEntry::Read(Some(Held::of(&entry)));
    assert!(!plan::plan(&lost).steps.iter().any(|step| matches!(step, PlanStep::PublishSecret(..))), "it is there");
}

#[test]
fn what_the_api_server_did_not_return_is_read_again_soon() {
    let mut unread = facts(ready_binding(), outage());
    assert_eq!(plan::plan(&unread).wake, None);
    unread.snapshot.prepared_sinks.unknown = true;
    assert_eq!(plan::plan(&unread).wake, Some(now() + SignedDuration::from_secs(30)));
}

#[test]
fn a_404_alone_is_no_proof_that_a_repository_is_gone() {
    let hidden = Obstacle::of(&ProviderError::new(ErrorKind::NotFound, "look up repository", "404"));
    let planned = plan::plan(&with_obstacle(deleted(60), hidden));
    assert!(planned.steps.is_empty() && planned.finalizer_step == FinalizerStep::Keep && planned.blocked.is_some());
    let gone = plan::plan(&with_obstacle(deleted(60), Obstacle::Gone("404, and its owner's list does not have it".to_owned())));
    assert!(matches!(gone.steps.as_slice(), [PlanStep::Record { .. }, PlanStep::WithdrawSecret]), "{:?}", gone.steps);
    assert_eq!(gone.finalizer_step, FinalizerStep::RemoveAndForget, "written down: should it come back, its hooks are removed");
}

#[test]
fn a_namespace_that_is_being_deleted_waits_for_twenty_seconds_only() {
    let mut terminating = with_obstacle(deleted(30), Obstacle::Outage("no route".to_owned()));
    terminating.snapshot.terminating = true;
    assert_eq!(plan::plan(&terminating).finalizer_step, FinalizerStep::RemoveAndForget);
    let mut early = with_obstacle(deleted(5), Obstacle::Outage("no route".to_owned()));
    early.snapshot.terminating = true;
    assert_eq!(plan::plan(&early).finalizer_step, FinalizerStep::Keep);
}

#[test]
fn orphans_go_at_once_and_leave_their_hooks() {
    let mut object = deleted(1);
    object["spec"]["deletionPolicy"] = json!("Orphan");
    let orphaned = facts(object, Connection::NotFound);
    assert!(cleanup_targets(&orphaned.snapshot, None).is_empty());
    let planned = plan::plan(&orphaned);
    assert!(matches!(planned.steps.as_slice(), [PlanStep::WithdrawSecret]), "{:?}", planned.steps);
    assert_eq!(planned.finalizer_step, FinalizerStep::RemoveAndForget);
}

#[test]
fn a_binding_without_our_finalizer_made_nothing_and_is_left_alone() {
    let mut object = deleted(1);
    object["metadata"]["finalizers"] = json!(["somebody.else/finalizer"]);
    let planned = plan::plan(&facts(object, Connection::NotFound));
    assert!(planned.steps.is_empty() && planned.finalizer_step == FinalizerStep::Keep);
}

#[test]
fn a_status_that_was_lost_does_not_lose_the_place_of_the_hooks() {
    let mut object = deleted(1);
    object["status"] = json!({});
    let targets = cleanup_targets(&facts(object, Connection::NotFound).snapshot, None);
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
    assert_eq!(cleanup_targets(&facts(ready_binding(), Connection::NotPermitted).snapshot, None).len(), 1);
    for connection in [outage(), Connection::Pending, Connection::NotFound] {
        assert!(cleanup_targets(&facts(ready_binding(), connection).snapshot, None).is_empty());
    }
    let mut observing = facts(ready_binding(), Connection::NotPermitted);
    observing.snapshot.observe_only = true;
    assert!(cleanup_targets(&observing.snapshot, None).is_empty(), "nothing is written while observing");
}

/// A restore or a sync may bring the grant later.
#[test]
fn a_missing_grant_removes_the_hook_only_after_an_hour() {
    let lacking = |memory: Ungranted| {
        let mut facts = facts(ready_binding(), Connection::NotPermitted);
        facts.snapshot.grant.lacks_grant = true;
        facts.snapshot.memory.ungranted = memory;
        facts
    };
    let first = lacking(Ungranted::default());
    assert!(cleanup_targets(&first.snapshot, None).is_empty());
    let report = say(&first);
    assert_eq!(reads(&report.status, ConditionType::ConnectionReady), "False/RefNotPermitted");
    let end = after(now(), Duration::from_secs(3600)).to_string();
    for kind in [ConditionType::Ready, ConditionType::ConnectionReady, ConditionType::WebhookInSync] {
        let message = &find(&report.status.conditions, kind).unwrap().message;
        assert!(message.contains(&format!("removed at {end} unless a grant allows it")), "{kind}: {message}");
    }
    assert_eq!(report.requeue, Requeue::After(Duration::from_secs(3601)), "it wakes when the hour is over");
    let plan = plan::plan(&first);
    assert_eq!((plan.finalizer_step, plan.steps.len()), (FinalizerStep::Keep, 0));

    // The hour begins once, and the webhook goes at its end.
    let mut later = lacking(report.memory.ungranted.clone());
    later.snapshot.now = after(now(), Duration::from_secs(3599));
    assert!(cleanup_targets(&later.snapshot, None).is_empty());
    assert_eq!(say(&later).memory.ungranted, report.memory.ungranted);
    later.snapshot.now = after(now(), Duration::from_secs(3600));
    assert_eq!(cleanup_targets(&later.snapshot, None).len(), 1);

    // A grant that fits in between begins a new hour. A webhook that is no longer requested goes at once.
    let mut granted = facts(ready_binding(), outage());
    granted.snapshot.memory.ungranted = report.memory.ungranted;
    assert_eq!(say(&granted).memory.ungranted, Ungranted::default());
    let mut unwanted = ready_binding();
    unwanted["spec"].as_object_mut().unwrap().remove("webhook");
    let mut unwanted = facts(unwanted, Connection::NotPermitted);
    unwanted.snapshot.grant.lacks_grant = true;
    assert_eq!(cleanup_targets(&unwanted.snapshot, None).len(), 1);
}

#[test]
fn another_public_url_since_is_noticed_after_a_start_and_while_running() {
    let choosing = |name: Option<&str>| {
        let mut facts = facts(ready_binding(), outage());
        facts.snapshot.public_url = facts.snapshot.settings.public_urls.choose(name).cloned();
        facts.snapshot.identity = identity(1, &facts.snapshot.settings, name);
        facts
    };
    let before = choosing(None);
    assert!(!delivers_elsewhere(&before.snapshot));
    for name in ["internal", "unknown"] {
        let after = choosing(Some(name));
        assert!(delivers_elsewhere(&after.snapshot), "{name}");
        assert_ne!(after.snapshot.probe_inputs(), before.snapshot.probe_inputs(), "{name}");
    }
    // A binding with a custom URL does not depend on the public URL.
    let mut object = ready_binding();
    object["spec"]["webhook"] = json!({"events": ["Push"], "url": "https://argocd.acme.io/api/webhook", "secretRef": {"name": "s"}});
    let with_custom_url = |of: Facts| Snapshot {
        public_url: of.snapshot.public_url,
        identity: of.snapshot.identity,
        ..facts(object.clone(), outage()).snapshot
    };
    let (custom, moved) = (with_custom_url(before), with_custom_url(choosing(Some("internal"))));
    assert!(!delivers_elsewhere(&moved));
    assert_eq!(moved.probe_inputs(), custom.probe_inputs());
}

#[test]
fn what_was_begun_before_a_start_is_looked_at_first() {
    let settled = |change: fn(&mut Value)| {
        let mut object = ready_binding();
        change(&mut object);
        is_settled(&facts(object, outage()).snapshot)
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
