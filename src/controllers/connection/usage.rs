//! Who uses a connection: how many bindings, for what, and which of them still hold a hook made through it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use kube::ResourceExt as _;
use tokio::sync::Notify;

use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};
use crate::controllers::gate::{self, Seal};
use crate::controllers::{View, foreign_owner_message, locked};
use crate::k8s::finalizer;

/// Bindings change in bursts; a connection's count of them follows in this rhythm.
const INTERVAL: Duration = Duration::from_secs(2);

/// Who uses a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bindings that it grants what they ask for, or that hold a hook made through it.
    pub bindings: i64,
    /// Whether any binding that it grants wants a webhook.
    pub webhooks: bool,
    /// Bindings that hold, or may hold, a hook made through it.
    pub holding: i64,
}

impl Usage {
    /// Counts a binding for a connection. Who only names it counts for nothing: anybody can.
    fn count(&mut self, view: &View, binding: &RepoBinding, connection: &ConnectionTarget) {
        // Another installation's has nothing that this one could remove.
        if foreign_owner_message(binding, &view.keys.fingerprint).is_some() {
            return;
        }
        let granted = binding.connection_target() == *connection && is_granted(view, binding, connection);
        // The finalizer comes before the first hook, and the status after it.
        let may_hold = granted && finalizer::is_present(binding) && held_targets(view, binding).next().is_none();
        let holds = may_hold || held_targets(view, binding).any(|target| target.connection == *connection);
        self.bindings += i64::from(granted || holds);
        self.webhooks |= granted && binding.spec.webhook.is_some();
        self.holding += i64::from(holds);
    }
}

/// Whether the connection grants the binding what it asks for. Where that cannot be told, what was so before counts.
fn is_granted(view: &View, binding: &RepoBinding, connection: &ConnectionTarget) -> bool {
    let Some(known) = view.connection(connection) else { return false };
    gate::grants(view, binding, &known).unwrap_or_else(|| gate::had_grant(binding, &seal_of(view, binding)))
}

/// The places where this installation wrote down that a binding has hooks, or is about to have one.
fn held_targets<'a>(view: &View, binding: &'a RepoBinding) -> impl Iterator<Item = &'a HookTarget> {
    // Without the finalizer its hooks are gone or recorded; what keeps the object then is somebody else's.
    let is_done = binding.metadata.deletion_timestamp.is_some() && !finalizer::is_present(binding);
    let seal = seal_of(view, binding);
    let webhook = binding.status.as_ref().and_then(|status| status.webhook.as_ref()).filter(|_| !is_done);
    let present = webhook.filter(|webhook| !webhook.hooks.is_empty()).and_then(|webhook| webhook.target.as_ref());
    let former = webhook.into_iter().flat_map(|webhook| &webhook.former_targets);
    present.into_iter().chain(former).filter(move |target| seal.is_on(target))
}

fn seal_of(view: &View, binding: &RepoBinding) -> Seal {
    Seal::new(&view.keys.controller, &binding.namespace().unwrap_or_default(), &binding.name_any())
}

/// What each connection was last told of its usage, by the reconciliation that used it.
#[derive(Debug, Default)]
pub struct ReportedUsage(Mutex<HashMap<ConnectionTarget, Usage>>);

impl ReportedUsage {
    /// Forgets a connection that is gone.
    pub fn forget(&self, connection: &ConnectionTarget) {
        locked(&self.0).remove(connection);
    }
}

/// Who uses one connection now.
#[must_use]
pub fn of(view: &View, connection: &ConnectionTarget) -> Usage {
    let mut usage = Usage::default();
    for binding in view.bindings.state() {
        usage.count(view, &binding, connection);
    }
    locked(&view.usages.0).insert(connection.clone(), usage);
    usage
}

/// Asks for the connections whose usage is another than they were told, whenever bindings changed.
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
