//! Computes the usage of connections: how many bindings use one, whether any needs webhooks, and how many still hold hooks.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;

use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};
use crate::controllers::gate::{self, Seal};
use crate::controllers::{View, foreign_owner_message, locked};
use crate::k8s::finalizer;

/// Minimum time between two comparisons of usages, because bindings change in bursts.
const INTERVAL: Duration = Duration::from_secs(2);

/// Usage of a connection by bindings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bindings that have a grant for what they ask for, or hold a hook made through the connection.
    pub bindings: i64,
    /// Whether any binding with a grant requests a webhook.
    pub webhooks: bool,
    /// Bindings that hold, or may hold, a hook made through the connection.
    pub holding: i64,
}

impl Usage {
    /// Counts a binding for a connection. A binding that only names the connection does not count: anybody can create one.
    fn count(&mut self, view: &View, binding: &RepoBinding, connection: &ConnectionTarget) {
        // This installation could not remove the hooks of another installation's binding.
        if foreign_owner_message(binding, &view.keys.fingerprint).is_some() {
            return;
        }
        let granted = binding.connection_target() == *connection && is_granted(view, binding, connection);
        // The finalizer is set before the first hook is created, and the status is written after it.
        let may_hold = granted && finalizer::is_present(binding) && held_targets(view, binding).next().is_none();
        let holds = may_hold || held_targets(view, binding).any(|target| target.connection == *connection);
        self.bindings += i64::from(granted || holds);
        self.webhooks |= granted && binding.spec.webhook.is_some();
        self.holding += i64::from(holds);
    }
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

/// The usage of each connection at its last reconciliation.
#[derive(Debug, Default)]
pub struct ReportedUsage(Mutex<HashMap<ConnectionTarget, Usage>>);

impl ReportedUsage {
    /// Removes a deleted connection.
    pub fn forget(&self, connection: &ConnectionTarget) {
        locked(&self.0).remove(connection);
    }
}

/// Computes the present usage of one connection.
#[must_use]
pub fn of(view: &View, connection: &ConnectionTarget) -> Usage {
    let mut usage = Usage::default();
    for binding in view.bindings.state() {
        usage.count(view, &binding, connection);
    }
    locked(&view.usages.0).insert(connection.clone(), usage);
    usage
}

/// Requeues connections whose usage differs from the last reported one, whenever bindings change. Never returns.
pub async fn follow(view: &View, bindings_changed: &Notify) {
    loop {
        bindings_changed.notified().await;
        let present = all(view);
        let reported = locked(&view.usages.0).clone();
        for (connection, _) in
            reported.iter().filter(|(connection, reported)| present.get(connection).copied().unwrap_or_default() != **reported)
        {
            view.triggers.connection(connection);
        }
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
            usages.entry(connection.clone()).or_default().count(view, &binding, &connection);
        }
    }
    usages
}
