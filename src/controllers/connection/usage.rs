//! Who uses a connection: how many bindings, for what, and which of them still hold a hook made through it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};
use crate::controllers::{View, finalizer, locked};

/// Bindings change in bursts; a connection's count of them follows in this rhythm.
const RHYTHM: Duration = Duration::from_secs(2);

/// Who uses a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bindings that name it.
    pub bindings: i64,
    /// Whether any of them wants a webhook.
    pub webhooks: bool,
    /// Bindings that hold, or may hold, a hook made through it.
    pub holding: i64,
}

impl Usage {
    fn count(&mut self, binding: &RepoBinding, connection: &ConnectionTarget) {
        let names = binding.connection_target() == *connection;
        if names {
            self.bindings += 1;
            self.webhooks |= binding.spec.webhook.is_some();
        }
        // The finalizer comes before the first hook, and the status after it.
        let may_hold = names && finalizer::is_present(binding) && targets(binding).next().is_none();
        self.holding += i64::from(may_hold || targets(binding).any(|target| target.connection == *connection));
    }
}

/// The places where a binding's status holds hooks.
fn targets(binding: &RepoBinding) -> impl Iterator<Item = &HookTarget> {
    let webhook = binding.status.as_ref().and_then(|status| status.webhook.as_ref());
    let present = webhook.filter(|webhook| !webhook.hooks.is_empty()).and_then(|webhook| webhook.target.as_ref());
    present.into_iter().chain(webhook.into_iter().flat_map(|webhook| &webhook.former_targets))
}

/// What each connection was last told of its usage, by the reconciliation that used it.
#[derive(Debug, Default)]
pub struct Told(Mutex<HashMap<ConnectionTarget, Usage>>);

impl Told {
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
        usage.count(&binding, connection);
    }
    locked(&view.usages.0).insert(connection.clone(), usage);
    usage
}

/// Asks for the connections whose usage is another than they were told, whenever bindings changed.
pub async fn follow(view: &View, bindings_changed: &Notify) {
    loop {
        bindings_changed.notified().await;
        let present = all(&view.bindings.state());
        let told = locked(&view.usages.0).clone();
        for (connection, _) in told.iter().filter(|(connection, told)| present.get(connection).copied().unwrap_or_default() != **told) {
            view.triggers.connection(connection);
        }
        tokio::time::sleep(RHYTHM).await;
    }
}

fn all(bindings: &[Arc<RepoBinding>]) -> HashMap<ConnectionTarget, Usage> {
    let mut usages: HashMap<ConnectionTarget, Usage> = HashMap::new();
    for binding in bindings {
        let named = binding.connection_target();
        let mut connections: Vec<_> =
            targets(binding).map(|target| target.connection.clone()).filter(|connection| *connection != named).collect();
        connections.dedup();
        connections.push(named);
        for connection in connections {
            usages.entry(connection.clone()).or_default().count(binding, &connection);
        }
    }
    usages
}
