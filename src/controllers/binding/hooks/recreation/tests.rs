use std::collections::BTreeMap;

use super::super::tests::{decide, hook, ours, shape, wanted};
use super::*;
use crate::api::v1alpha1::EventKind;
use crate::controllers::binding::hooks::{RecreationHistory, plan};
use crate::providers::Hook;
use crate::providers::model::HookState;

const NOW: i64 = 10_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn off(state: HookState) -> Hook {
    Hook { state, ..hook(1, ours().receiver_url("9000").unwrap(), shape("", "push")) }
}

fn disabled() -> Hook {
    off(HookState::Disabled("40 deliveries failed".to_owned()))
}

fn knowing(history: RecreationHistory) -> Wanted {
    Wanted { history, ..wanted(9000, true) }
}

fn tried(attempts: usize, last: i64) -> RecreationHistory {
    RecreationHistory {
        recreations: BTreeMap::from([(String::new(), Recreation { attempts, last: at(last) })]),
        ..RecreationHistory::default()
    }
}

fn is_made_anew(plan: &HookPlan) -> bool {
    matches!(plan.actions.as_slice(), [HookAction::Create(_), HookAction::Delete { id, .. }] if id == "1") && plan.recreated[0].made
}

fn waits_until(plan: &HookPlan, second: i64) -> bool {
    let told = plan.finding.as_ref().is_some_and(|finding| {
        finding.reason == Reason::DisabledByProvider && finding.message.ends_with(&format!("replaces it at {}", at(second)))
    });
    told && plan.actions.is_empty() && plan.wake == Some(at(second))
}

#[test]
fn the_new_one_comes_before_the_old_one_goes() {
    let first = decide(&[disabled()], &knowing(RecreationHistory::default()), NOW);
    assert!(is_made_anew(&first), "{first:?}");
    assert_eq!(first.recreated[0].recreation, Recreation { attempts: 1, last: at(NOW) });
    let finding = first.finding.unwrap();
    assert_eq!(finding.reason, Reason::DisabledByProvider);
    assert!(finding.message.contains("hook 1: 40 deliveries failed; a new one"), "{}", finding.message);
    assert!(finding.message.ends_with(&format!("is possible at {}", at(NOW + 60))), "{}", finding.message);
    assert_eq!(first.wake, Some(at(NOW + 60)), "whether it lasts is probed");
}

/// A hook that the provider resumes at this time.
fn held_until(until: Option<i64>) -> Hook {
    off(HookState::HeldBack { cause: "later".to_owned(), until: until.map(at) })
}

#[test]
fn a_short_pause_is_said_and_left_until_it_is_over() {
    for (until, wake) in [(None, None), (Some(NOW - 1), None), (Some(NOW + 60), Some(NOW + 60)), (Some(NOW + 300), Some(NOW + 300))] {
        let held = decide(&[held_until(until)], &knowing(RecreationHistory::default()), NOW);
        assert!(held.actions.is_empty() && held.recreated.is_empty(), "{until:?}: {held:?}");
        assert_eq!(held.wake, wake.map(at), "{until:?}");
        let finding = held.finding.unwrap();
        assert_eq!((finding.reason, finding.message.as_str()), (Reason::DisabledByProvider, "the provider disabled hook 1: later"));
    }
}

#[test]
fn a_hook_that_stays_paused_for_long_is_recreated_with_the_same_growing_pauses() {
    let first = decide(&[held_until(Some(NOW + 301))], &knowing(RecreationHistory::default()), NOW);
    assert!(is_made_anew(&first), "{first:?}");
    let again = decide(&[held_until(Some(NOW + 7200))], &knowing(tried(1, NOW - 10)), NOW);
    assert!(waits_until(&again, NOW + 50), "{again:?}");
    // It resumes before the next recreation is due.
    let sooner = decide(&[held_until(Some(NOW + 400))], &knowing(tried(3, NOW)), NOW);
    assert!(sooner.actions.is_empty() && sooner.wake == Some(at(NOW + 400)), "{sooner:?}");
    let theirs = std::collections::BTreeSet::from(["1".to_owned()]);
    let adopted = plan(&[held_until(Some(NOW + 7200))], &ours(), &knowing(RecreationHistory::default()), &theirs, at(NOW));
    assert!(adopted.actions.is_empty() && adopted.wake == Some(at(NOW + 7200)), "{adopted:?}");
}

#[test]
fn a_crash_between_the_two_leaves_the_new_one() {
    let new = hook(2, ours().receiver_url("9000").unwrap(), shape("", "push"));
    for hooks in [[disabled(), new.clone()], [new, disabled()]] {
        let plan = decide(&hooks, &knowing(RecreationHistory::default()), NOW);
        assert!(matches!(plan.actions.as_slice(), [HookAction::Delete { id, .. }] if id == "1"), "{:?}", plan.actions);
    }
}

#[test]
fn pauses_grow_until_deliveries_are_good() {
    for (attempts, pause) in [(1, 60), (2, 300), (3, 1800), (4, 7200), (5, 21_600), (6, 86_400), (60, 86_400)] {
        let known = tried(attempts, NOW - pause + 1);
        assert!(waits_until(&decide(&[disabled()], &knowing(known.clone()), NOW), NOW + 1), "{attempts}");
        let due = decide(&[disabled()], &knowing(known.clone()), NOW + 1);
        assert!(is_made_anew(&due), "{attempts}: {due:?}");
        assert_eq!(due.recreated[0].recreation.attempts, attempts + 1);
        let before = RecreationHistory { last_delivery: BTreeMap::from([(EventKind::Push, at(NOW - pause))]), ..known.clone() };
        assert!(waits_until(&decide(&[disabled()], &knowing(before), NOW), NOW + 1), "{attempts}: a delivery of before is no news");
        let last_delivery = RecreationHistory { last_delivery: BTreeMap::from([(EventKind::Push, at(NOW))]), ..known };
        let again = decide(&[disabled()], &knowing(last_delivery), NOW);
        assert!(is_made_anew(&again) && again.recreated[0].recreation.attempts == 1, "{attempts}: {again:?}");
    }
}

#[test]
fn a_receiver_that_refuses_is_not_tried_at_once() {
    let refusing = RecreationHistory { refused: true, ..RecreationHistory::default() };
    let first = decide(&[disabled()], &knowing(refusing), NOW);
    assert!(waits_until(&first, NOW + 60), "{first:?}");
    assert_eq!(first.recreated, [Recreated { variant: String::new(), recreation: Recreation { attempts: 1, last: at(NOW) }, made: false }]);
    let due = decide(&[disabled()], &knowing(RecreationHistory { refused: true, ..tried(1, NOW - 60) }), NOW);
    assert!(is_made_anew(&due), "{due:?}");
}

#[test]
fn what_may_have_been_made_is_waited_for_and_what_is_somebody_elses_is_left() {
    let pending_creates = BTreeMap::from([(String::new(), at(NOW + 10))]);
    let waiting = decide(&[disabled()], &Wanted { pending_creates, ..knowing(RecreationHistory::default()) }, NOW);
    assert!(waiting.actions.is_empty() && waiting.pending_create.is_some());
    assert_eq!(waiting.wake, Some(at(NOW + 10)));
    let theirs = std::collections::BTreeSet::from(["1".to_owned()]);
    let left = plan(&[disabled()], &ours(), &knowing(RecreationHistory::default()), &theirs, at(NOW));
    assert!(left.actions.is_empty());
    assert_eq!(left.finding.unwrap().reason, Reason::DisabledByProvider);
}
