//! Plans the reconciliation of a connection. Pure: no call, no clock.

use std::time::Duration;

use jiff::Timestamp;

use super::facts::Facts;
use super::schedule::after;
use crate::controllers::settings::{CREDENTIAL_BOUND, NAMESPACE_BOUND, OUTAGE_BOUND};
use crate::k8s::finalizer;

/// Minimum time that the bindings have after the connection began to work.
const BINDINGS_GRACE: Duration = Duration::from_secs(20);

/// One action of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Retry leftover hooks, because the connection works again.
    RetryLeftovers,
    /// Add the finalizer, which holds the object until its bindings have removed their hooks.
    AddFinalizer,
    /// Remove the finalizer and forget the credential.
    RemoveFinalizer,
}

/// The plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Actions in order.
    pub actions: Vec<Action>,
    /// While the object is being deleted: latest time until which bindings are waited for.
    pub deadline: Option<Timestamp>,
}

/// Plans the reconciliation of a connection.
#[must_use]
pub fn plan(facts: &Facts) -> Plan {
    let object = &facts.snapshot.object;
    let held = finalizer::is_present(&**object);
    let deadline = object.metadata.deletion_timestamp.as_ref().and_then(|deleted| deadline(facts, deleted.0));
    let finalizer_step = if object.metadata.deletion_timestamp.is_none() {
        (!held).then_some(Action::AddFinalizer)
    } else {
        let over = facts.usage.holding == 0 || deadline.is_none_or(|deadline| deadline <= facts.snapshot.now);
        (held && over).then_some(Action::RemoveFinalizer)
    };
    let actions = begins_to_work(facts).then_some(Action::RetryLeftovers).into_iter().chain(finalizer_step).collect();
    Plan { actions, deadline }
}

/// Whether the connection works since this inspection and may be written to, so that leftover hooks can be removed now.
fn begins_to_work(facts: &Facts) -> bool {
    let known = facts.snapshot.session.as_ref();
    let turned = known.is_none_or(|known| known.failure.is_some() || known.inputs != facts.session.inputs);
    facts.probe.is_some() && turned && facts.session.failure.is_none() && !facts.snapshot.observe_only()
}

/// Deadline of a deleted connection's wait for its bindings.
fn deadline(facts: &Facts, deleted: Timestamp) -> Option<Timestamp> {
    let deadline = after(deleted, bound(facts))?;
    // After a restart the deadline may have passed long ago, but the bindings could not start before the connection worked.
    let grace = facts.session.works_since.and_then(|begun| after(begun, BINDINGS_GRACE));
    Some(grace.map_or(deadline, |grace| grace.max(deadline)))
}

fn bound(facts: &Facts) -> Duration {
    let bound = match &facts.session.failure {
        _ if facts.snapshot.terminating => return NAMESPACE_BOUND,
        Some(failure) if !failure.is_outage() && !failure.is_pending() => CREDENTIAL_BOUND,
        _ => OUTAGE_BOUND,
    };
    facts.snapshot.cleanup_timeout.unwrap_or(bound)
}
