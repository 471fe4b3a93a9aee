//! Who uses a connection: how many bindings, for what, and which of them still hold a hook made through it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};
use crate::controllers::{Context, finalizer};

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

/// Who uses one connection now.
#[must_use]
pub fn of(context: &Context, connection: &ConnectionTarget) -> Usage {
    let mut usage = Usage::default();
    for binding in context.bindings.state() {
        usage.count(&binding, connection);
    }
    usage
}

/// Asks for the connections whose usage changed, whenever bindings did.
pub async fn follow(context: &Context, bindings_changed: &Notify) {
    let mut known: HashMap<ConnectionTarget, Usage> = HashMap::new();
    loop {
        bindings_changed.notified().await;
        let present = all(&context.bindings.state());
        let changed = present.iter().filter(|(connection, usage)| known.get(connection) != Some(usage)).map(|(connection, _)| connection);
        let gone = known.keys().filter(|connection| !present.contains_key(connection));
        for connection in changed.chain(gone) {
            context.triggers.connection(connection);
        }
        known = present;
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
