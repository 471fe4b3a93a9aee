use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::entry::{Leftover, LeftoverHook};
use super::pending::Pending;
use super::retry::{hooks_in_use, removal};
use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::controllers::binding::hooks::HookAction;
use crate::controllers::binding::hooks::tests::{hook, ours, shape};

const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).unwrap()
}

fn target(name: &str) -> ConnectionTarget {
    ConnectionTarget { namespace: "platform".to_owned(), name: name.to_owned() }
}

fn entry(connection: &str, hooks: &[(&str, bool)]) -> Leftover {
    let hooks = hooks.iter().map(|(id, adopted)| LeftoverHook { id: (*id).to_owned(), host: "ci.acme.io".to_owned(), adopted: *adopted });
    Leftover {
        namespace: "team".to_owned(),
        name: "shop".to_owned(),
        connection: target(connection),
        repository: "acme/shop".to_owned(),
        repository_id: "7".to_owned(),
        hooks: hooks.collect(),
        hand_back: false,
        reason: "of a test".to_owned(),
        since: at(0),
    }
}

fn binding(deleted: Option<&str>, spec: &Value, webhook: &Value) -> RepoBinding {
    serde_json::from_value(json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
        "metadata": {"name": "shop", "namespace": "team", "deletionTimestamp": deleted},
        "spec": {"connectionRef": {"name": "acme"}, "repository": "acme/shop", "webhook": spec},
        "status": {"webhook": webhook},
    }))
    .unwrap()
}

#[test]
fn the_hooks_of_a_binding_that_lives_are_spared_and_those_of_one_that_goes_are_not() {
    let holds = json!({"secretVersion": "1700000000", "hooks": [{"id": "31", "events": ["Push"], "adopted": false}]});
    let wants = json!({});
    let going = binding(Some("2026-01-01T00:00:00Z"), &wants, &holds);
    let hooks_in_use =
        |binding: Option<&RepoBinding>| hooks_in_use(binding, |_| true).map(|ids| ids.into_iter().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(hooks_in_use(Some(&going)), Some(Vec::new()), "it was recorded, and its finalizer goes next");
    assert_eq!(hooks_in_use(Some(&binding(None, &wants, &holds))), Some(vec!["31".to_owned()]));
    assert_eq!(hooks_in_use(Some(&binding(None, &wants, &Value::Null))), None, "not told yet");
    assert_eq!(hooks_in_use(Some(&binding(None, &Value::Null, &Value::Null))), Some(Vec::new()));
    assert_eq!(hooks_in_use(None), Some(Vec::new()));
    let elsewhere = binding(None, &wants, &Value::Null);
    assert_eq!(
        super::retry::hooks_in_use(Some(&elsewhere), |_| false),
        Some(BTreeSet::new()),
        "it can have made none there, and waits for nothing"
    );
}

#[test]
fn an_adopted_hook_that_was_left_behind_is_handed_back_and_never_deleted() {
    let custom = url::Url::parse("https://ci.acme.io/hooks?job=shop").unwrap();
    let there: Vec<_> = (1..4).map(|id| hook(id, ours().custom_url(&custom, "own1"), shape("", "push"))).collect();
    let told = |entry: &Leftover, hooks_in_use: &[&str]| -> Vec<String> {
        let actions = removal(entry, &there, &ours(), &hooks_in_use.iter().copied().collect());
        let told = actions.iter().map(|action| match action {
            HookAction::Release { id, url, .. } => {
                assert_eq!(url.expose(), custom.as_str(), "without our mark");
                format!("release {id}")
            }
            HookAction::Delete { id, .. } => format!("delete {id}"),
            other => panic!("{other:?}"),
        });
        told.collect()
    };
    assert_eq!(told(&entry("acme", &[("1", true), ("2", false)]), &[]), ["release 1", "delete 2"]);
    assert_eq!(told(&entry("acme", &[]), &["3"]), ["delete 1", "delete 2"], "without ids all of them, but those of one that lives");
    let unknown = Leftover { hand_back: true, ..entry("acme", &[]) };
    assert_eq!(told(&unknown, &[]), ["release 1", "release 2", "release 3"]);
}

#[test]
fn each_entry_has_its_own_pauses_and_an_attempt_that_is_cut_off_loses_none() {
    let pending = Pending::default();
    pending.fill(
        [("a".to_owned(), entry("acme", &[])), ("b".to_owned(), entry("acme", &[])), ("c".to_owned(), entry("other", &[]))].into(),
        at(0),
    );
    assert_eq!(pending.due(at(0)), ["a", "c"], "one of each connection at a time");
    // Both attempts are interrupted: their end is never recorded.
    assert_eq!(pending.begin("a", at(0)).map(|due| due.connection), Some(target("acme")));
    assert!(pending.begin("c", at(0)).is_some());
    assert_eq!(pending.count(), 3);
    assert_eq!(pending.due(at(1)), ["b"], "the rest goes on");
    assert!(pending.begin("b", at(1)).is_some());
    let mut pauses = Vec::new();
    let mut now = 0;
    for _ in 0..8 {
        let next = (now..now + 100_000).find(|second| pending.due(at(*second)).contains(&"c".to_owned())).unwrap();
        pauses.push(next - now);
        now = next;
        assert!(pending.begin("c", at(now)).is_some());
    }
    assert_eq!(pauses, [60, 300, 1800, 7200, 21_600, 86_400, 86_400, 86_400], "two calls a day at most");
    pending.try_now(&target("other"));
    assert_eq!(pending.due(at(now))[0], "c", "its connection works again");
    pending.remove("c");
    assert_eq!((pending.begin("c", at(now)), pending.count()), (None, 2));
}

#[test]
fn a_connection_that_does_not_answer_is_asked_once_and_not_once_for_each_entry() {
    let pending = Pending::default();
    let many = (0..50).map(|number| (format!("key-{number:02}"), entry("hangs", &[])));
    pending.fill(many.chain([("z".to_owned(), entry("acme", &[]))]).collect(), at(0));
    let due = pending.due(at(0));
    assert_eq!(due, ["key-00", "z"]);
    assert!(pending.begin("key-00", at(0)).is_some());
    pending.put_off(&target("hangs"), at(0));
    assert_eq!(pending.due(at(59)), ["z"]);
    assert_eq!(pending.due(at(60)).len(), 2);
}

#[test]
fn an_entry_that_was_recorded_before_the_list_was_read_is_not_lost_by_the_list() {
    let pending = Pending::default();
    pending.add("new", &entry("acme", &[]), at(0));
    pending.fill([("old".to_owned(), entry("acme", &[]))].into(), at(0));
    assert_eq!(pending.count(), 2);
    assert_eq!(pending.due(at(0)), ["old"]);
    assert_eq!(pending.due(at(60)).len(), 1, "one of a connection at a time");
}
