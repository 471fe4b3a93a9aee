//! Tests of the status of a grant.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::facts::Facts;
use super::report::{Report, report};
use crate::api::v1alpha1::{ConditionType, ConnectionGrant};
use crate::k8s::conditions::find;
use crate::protocol::grant::Rule;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn grant(namespaces: &Value, status: Option<&Report>) -> Arc<ConnectionGrant> {
    let object = json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "ConnectionGrant",
        "metadata": {"name": "shop", "namespace": "platform", "uid": "g", "generation": 1},
        "spec": {"connectionRef": {"name": "acme"}, "namespaces": namespaces, "repositories": {"include": ["acme/shop-*"]}},
        "status": status.map(|report| json!(report.status)),
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn facts(object: Arc<ConnectionGrant>, bindings: i64) -> Facts {
    Facts { rule: Rule::of(&object), object, has_connection: true, is_ours: true, bindings, written_at: None, now: now() }
}

fn says(report: &Report, kind: ConditionType) -> String {
    find(&report.status.conditions, kind).map(|condition| format!("{}/{}", condition.status, condition.reason)).unwrap_or_default()
}

#[test]
fn a_grant_is_ready_while_it_names_a_connection_and_its_selectors_are_valid() {
    let all = json!({"from": "All"});
    let good = report(&facts(grant(&all, None), 3));
    assert_eq!((says(&good, ConditionType::Ready), good.status.bindings), ("True/Succeeded".to_owned(), Some(3)));
    assert_eq!(says(&good, ConditionType::Stalled) + &says(&good, ConditionType::Reconciling), "");

    let lonely = report(&Facts { has_connection: false, ..facts(grant(&all, None), 0) });
    assert_eq!(says(&lonely, ConditionType::Ready), "False/ConnectionNotFound");
    assert_eq!(says(&lonely, ConditionType::Reconciling), "True/ConnectionNotFound", "the connection may be created later");
    assert!(lonely.events[0].message.contains("connection acme does not exist in this namespace"), "{:?}", lonely.events);

    let broken = json!({"from": "Selector", "selector": {"matchExpressions": [{"key": "team", "operator": "Like"}]}});
    let broken = report(&facts(grant(&broken, None), 0));
    assert_eq!(says(&broken, ConditionType::Ready), "False/SelectorInvalid");
    assert_eq!(says(&broken, ConditionType::Stalled), "True/SelectorInvalid");
    assert!(find(&broken.status.conditions, ConditionType::Ready).unwrap().message.starts_with("spec.namespaces.selector is not a valid"));
}

#[test]
fn at_rest_nothing_is_new_and_a_new_count_waits_a_few_seconds() {
    let all = json!({"from": "All"});
    let first = report(&facts(grant(&all, None), 3));
    let written = || grant(&all, Some(&first));
    let rest = report(&Facts { now: now() + SignedDuration::from_hours(1), ..facts(written(), 3) });
    assert_eq!(rest.status, first.status);
    assert!(rest.events.is_empty() && rest.requeue.is_none());
    let just_now = Some(now() - SignedDuration::from_secs(2));
    let counted = report(&Facts { written_at: just_now, ..facts(written(), 4) });
    assert_eq!((counted.status.bindings, counted.requeue.map(|pause| pause.as_secs())), (Some(3), Some(3)));
    let later = report(&Facts { written_at: Some(now() - SignedDuration::from_secs(5)), ..facts(written(), 4) });
    assert_eq!((later.status.bindings, later.requeue), (Some(4), None));
    // What a person waits for is written at once.
    let news = report(&Facts { written_at: just_now, has_connection: false, ..facts(written(), 0) });
    assert_eq!((says(&news, ConditionType::Ready).as_str(), news.status.bindings), ("False/ConnectionNotFound", Some(0)));
}
