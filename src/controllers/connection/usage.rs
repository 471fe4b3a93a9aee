//! Computes the usage of connections: how many bindings use one, whether any needs webhooks, and how many still hold hooks.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::sync::Notify;

use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};
use crate::controllers::gate::{self, Seal};
use crate::controllers::sessions::Usage;
use crate::controllers::{View, foreign_owner_message, grant};
use crate::k8s::finalizer;

/// Minimum time between two comparisons of usages, because bindings change in bursts.
const INTERVAL: Duration = Duration::from_secs(2);

/// Counts a binding for a connection. A binding that only names the connection does not count: anybody can create one.
fn count(usage: &mut Usage, view: &View, binding: &RepoBinding, connection: &ConnectionTarget) {
    // This installation could not remove the hooks of another installation's binding.
    if foreign_owner_message(binding, &view.keys.fingerprint).is_some() {
        return;
    }
    let granted = binding.connection_target() == *connection && is_granted(view, binding, connection);
    // The finalizer is set before the first hook is created, and the status is written after it.
    let may_hold = granted && finalizer::is_present(binding) && held_targets(view, binding).next().is_none();
    let holds = may_hold || held_targets(view, binding).any(|target| target.connection == *connection);
    usage.bindings += i64::from(granted || holds);
    usage.webhooks |= granted && binding.spec.webhook.is_some();
    usage.holding += i64::from(holds);
}

/// Whether the connection grants the binding what it asks for. If that cannot be decided, an earlier grant counts.
fn is_granted(view: &View, binding: &RepoBinding, connection: &ConnectionTarget) -> bool {
    let Some(known) = view.connection(connection) else { return false };
    gate::grants(view, binding, &known).unwrap_or_else(|| gate::had_grant(binding, &Seal::of_binding(&view.keys.controller, binding)))
}

/// Sealed targets where a binding has hooks or is about to have one.
fn held_targets<'a>(view: &View, binding: &'a RepoBinding) -> impl Iterator<Item = &'a HookTarget> {
    // Without the finalizer, its hooks are removed or recorded as leftovers; a finalizer that still holds the object is not ours.
    let is_done = binding.metadata.deletion_timestamp.is_some() && !finalizer::is_present(binding);
    let seal = Seal::of_binding(&view.keys.controller, binding);
    let webhook = binding.status.as_ref().and_then(|status| status.webhook.as_ref()).filter(|_| !is_done);
    let present = webhook.filter(|webhook| !webhook.hooks.is_empty()).and_then(|webhook| webhook.target.as_ref());
    let former = webhook.into_iter().flat_map(|webhook| &webhook.former_targets);
    present.into_iter().chain(former).filter(move |target| seal.is_on(target))
}

/// Computes the present usage of one connection.
#[must_use]
pub fn of(view: &View, connection: &ConnectionTarget) -> Usage {
    let mut usage = Usage::default();
    for binding in view.bindings.state() {
        count(&mut usage, view, &binding, connection);
    }
    usage
}

/// Requeues the connections and grants whose usage differs from the last reported one, whenever bindings, grants or the labels of
/// namespaces change. Never returns.
pub async fn follow(view: &View, usage_changed: &Notify) {
    loop {
        usage_changed.notified().await;
        let present = all(view);
        for (connection, reported) in view.sessions.usages() {
            if present.get(&connection).copied().unwrap_or_default() != reported {
                view.triggers.connection(&connection);
            }
        }
        grant::usage::request_changed(view);
        tokio::time::sleep(INTERVAL).await;
    }
}

fn all(view: &View) -> HashMap<ConnectionTarget, Usage> {
    let mut usages: HashMap<ConnectionTarget, Usage> = HashMap::new();
    for binding in view.bindings.state() {
        let named = binding.connection_target();
        let held = held_targets(view, &binding).map(|target| target.connection.clone());
        let connections: BTreeSet<ConnectionTarget> = held.chain([named]).collect();
        for connection in connections {
            count(usages.entry(connection.clone()).or_default(), view, &binding, &connection);
        }
    }
    usages
}
