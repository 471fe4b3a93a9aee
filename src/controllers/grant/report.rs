//! Builds the status of a grant. Pure.

use std::time::Duration;

use super::facts::Facts;
use crate::api::v1alpha1::{ConditionType, ConnectionGrantStatus, Reason};
use crate::controllers::binding::time::{after, until};
use crate::controllers::runtime::status::EventRecord;
use crate::k8s::conditions::{self, ConditionStatus, Conditions};

/// Minimum time between two writes of which only the count is new, because bindings change in bursts.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// Result of a reconciliation.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The status.
    pub status: ConnectionGrantStatus,
    /// Kubernetes events, published if the status is written.
    pub events: Vec<EventRecord>,
    /// When to reconcile next; `None` for the next change.
    pub requeue: Option<Duration>,
}

/// Builds the report.
#[must_use]
pub fn report(facts: &Facts) -> Report {
    let object = &facts.object;
    let before = object.status.clone().unwrap_or_default();
    let mut conditions = Conditions::new(&before.conditions, object.metadata.generation, facts.now);
    ready(&mut conditions, facts);
    let conditions = conditions.finish();
    let events = events(&before, &conditions);
    let mut status = ConnectionGrantStatus { observed_generation: object.metadata.generation, conditions, bindings: Some(facts.bindings) };
    let may_write = facts.written_at.map(|written_at| after(written_at, COUNT_INTERVAL)).filter(|at| *at > facts.now);
    let only_the_count = status.observed_generation == before.observed_generation && status.conditions == before.conditions;
    let postponed = may_write.filter(|_| only_the_count && before.bindings.is_some() && before.bindings != status.bindings);
    if postponed.is_some() {
        status.bindings = before.bindings;
    }
    Report { status, events, requeue: postponed.map(|at| until(facts.now, at)) }
}

fn ready(conditions: &mut Conditions<'_>, facts: &Facts) {
    if let Some((field, error)) = facts.rule.as_ref().and_then(|rule| rule.invalid_selector()) {
        let message = format!("{field} is not a valid selector, so the grant allows nothing: {error}; correct it");
        conditions.set(ConditionType::Stalled, ConditionStatus::True, Reason::SelectorInvalid, &message);
        return conditions.set(ConditionType::Ready, ConditionStatus::False, Reason::SelectorInvalid, message);
    }
    if !facts.has_connection {
        let message = match &facts.object.spec.connection_ref {
            Some(reference) => {
                format!("connection {} does not exist in this namespace; create it or correct spec.connectionRef.name", reference.name)
            }
            None => {
                "spec.connectionSelector selects no connection of this namespace; label a connection or correct the selector".to_owned()
            }
        };
        conditions.set(ConditionType::Reconciling, ConditionStatus::True, Reason::ConnectionNotFound, &message);
        return conditions.set(ConditionType::Ready, ConditionStatus::False, Reason::ConnectionNotFound, message);
    }
    conditions.succeed(ConditionType::Ready, "the grant is in effect");
}

fn events(before: &ConnectionGrantStatus, now: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> Vec<EventRecord> {
    let old = conditions::find(&before.conditions, ConditionType::Ready);
    let new = conditions::find(now, ConditionType::Ready).filter(|new| new.status == "False");
    let news = new.filter(|new| old.is_none_or(|old| old.status != new.status || old.reason != new.reason));
    news.map(|new| EventRecord::warning(&new.reason, &new.message)).into_iter().collect()
}
