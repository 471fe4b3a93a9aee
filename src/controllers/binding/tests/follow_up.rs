//! Tests of what a report remembers and requests.

use std::time::Duration;

use super::*;
use crate::controllers::binding::cleanup::{CleanupTarget, cleanup_targets};
use crate::controllers::binding::obstacle::Obstacle;
use crate::controllers::binding::outcome::Failure;
use crate::controllers::binding::report::Requeue;
use crate::protocol::sink_target::NotServed;

fn failed(kind: ErrorKind, facts: &Facts) -> Outcome {
    let retry_at = Some(now() + SignedDuration::from_secs(40));
    let error = ProviderError { retry_at, ..ProviderError::new(kind, "create hook", "x") };
    Outcome { failure: Some(Failure { error, clearing: false, told: true }), ..Outcome::nothing(Arc::clone(&facts.snapshot.object)) }
}

#[test]
fn a_creation_whose_answer_was_lost_is_remembered_for_its_target() {
    let facts = facts(ready_binding(), Connection::Pending);
    let target = facts.snapshot.object.hook_targets().next().unwrap().clone();
    let plan = plan::Plan { target: Some(target.clone()), ..plan::plan(&facts) };
    let outcome = Outcome { ambiguous_creates: vec!["push".to_owned()], ..failed(ErrorKind::Unreachable, &facts) };
    let attempts = report(&facts, &plan, &outcome).memory.attempts;
    assert!(attempts.pending_creates(&target, now()).contains_key("push"));
}

#[test]
fn a_failure_is_retried_with_backoff_and_probes_first() {
    let facts = facts(ready_binding(), Connection::Pending);
    let said = report(&facts, &plan::plan(&facts), &failed(ErrorKind::Unreachable, &facts));
    assert_eq!(said.requeue, Requeue::Backoff(Duration::from_secs(40)), "not before the provider allows it");
    assert!(matches!(said.memory.obstacle, Some(Obstacle::Outage(_))));
    assert_eq!(said.memory.probe.unwrap().next, Some(now()));
}

#[test]
fn nothing_is_recorded_that_would_delay_the_first_probe() {
    let mut started = facts(ready_binding(), Connection::Pending);
    started.snapshot.memory.probe = None;
    let said = say(&started);
    assert!(said.memory.probe.is_none(), "{:?}", said.memory.probe);
    assert_eq!(said.requeue, Requeue::OnChange);
}

#[test]
fn a_connection_is_inspected_when_its_credential_fails_here_or_at_a_former_target() {
    let facts = facts(ready_binding(), Connection::NotPermitted);
    let connection = facts.snapshot.object.connection_target();
    for (kind, inspected) in [(ErrorKind::Unauthenticated, true), (ErrorKind::Rejected, false)] {
        let said = report(&facts, &plan::plan(&facts), &failed(kind, &facts));
        assert_eq!(said.notify.inspections.contains(&connection), inspected, "{kind:?}");
    }
    for connection_failed in [true, false] {
        let target = cleanup_targets(&facts.snapshot, None).remove(0);
        let target = CleanupTarget { target, held: true, told: false, hooks: Err(Obstacle::Untold), connection_failed };
        let snapshot = super::facts(ready_binding(), Connection::NotPermitted).snapshot;
        let said = say(&Facts { snapshot, probe: None, targets: vec![target] });
        assert_eq!(said.notify.inspections.contains(&connection), connection_failed);
    }
}

#[test]
fn a_sink_whose_key_has_no_room_is_told_and_tried_again_and_stops_nothing_else() {
    let facts = facts(ready_binding(), outage());
    let plan = plan::plan(&facts);
    let without_room = vec![("ci".to_owned(), NotServed::invalid("no room for more of namespace team"))];
    let said = report(&facts, &plan, &Outcome { without_room, ..Outcome::nothing(Arc::clone(&facts.snapshot.object)) });
    assert_eq!(reads(&said.status, ConditionType::Delivering), "False/SinkInvalid");
    let delivering = find(&said.status.conditions, ConditionType::Delivering).unwrap();
    assert!(delivering.message.contains("sink ci: no room for more of namespace team"), "{}", delivering.message);
    assert_eq!(reads(&said.status, ConditionType::WebhookInSync), "True/Succeeded");
    assert_eq!(said.requeue, Requeue::After(Duration::from_secs(301)));
    assert_eq!(say(&facts).requeue, Requeue::OnChange);
}
