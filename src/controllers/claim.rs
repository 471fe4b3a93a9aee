//! Decides which installation owns an object. An installation claims an object by its first status write, which only one can
//! win.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::gate::{self, Seal};
use super::{Managed, View};
use crate::api::v1alpha1::{GitProviderConnection, RepoBinding};

/// The message about an object that another installation manages; `None` if this installation manages it or no one has claimed
/// it.
#[must_use]
pub fn foreign_owner_message(object: &impl Managed, fingerprint: &str) -> Option<String> {
    object.installation().filter(|installation| *installation != fingerprint)?;
    Some(format!(
        "another installation of Forgebind manages this object, so installation {fingerprint} does not touch it; remove \
         status.installation to hand it over"
    ))
}

/// Ownership decision for a binding that is unclaimed or ours. A binding follows its connection's owner, so that two
/// installations never both make a hook for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingOwner {
    /// This installation reconciles it.
    Ours,
    /// Not reconciled for now: the connection is not claimed yet, or another installation may claim the binding.
    Waits,
    /// We claimed it when it had no connection, and another installation has claimed the connection since. The binding has no
    /// hooks at any provider.
    WithAnother,
}

/// Decides the ownership of a binding from the caches. A connection of another namespace that does not allow the binding counts
/// as missing: if the binding waited for it, its status would reveal that the connection exists.
#[must_use]
pub fn owner(view: &View, binding: &RepoBinding) -> BindingOwner {
    let target = binding.connection_target();
    let is_own = binding.metadata.namespace.as_ref() == Some(&target.namespace);
    let seal = Seal::of_binding(&view.keys.controller, binding);
    let may_know = |connection: &Arc<GitProviderConnection>| is_own || gate::granted(view, binding, Some(connection), &seal) != Some(false);
    view.connection(&target).filter(may_know).map_or(BindingOwner::Ours, |connection| judge(binding, &connection, &view.keys.fingerprint))
}

fn judge(binding: &RepoBinding, connection: &GitProviderConnection, fingerprint: &str) -> BindingOwner {
    let is_going = |metadata: &ObjectMeta| metadata.deletion_timestamp.is_some();
    match connection.installation() {
        Some(installation) if installation == fingerprint => BindingOwner::Ours,
        _ if binding.installation().is_none() => BindingOwner::Waits,
        _ if is_going(&binding.metadata) => BindingOwner::Ours,
        // A working credential does not make the connection ours: a hook made before another installation claims the connection
        // would prevent the binding from following it.
        None if !is_going(&connection.metadata) => BindingOwner::Waits,
        Some(_) if holds_no_hooks(binding) => BindingOwner::WithAnother,
        _ => BindingOwner::Ours,
    }
}

fn holds_no_hooks(binding: &RepoBinding) -> bool {
    let webhook = binding.status.as_ref().and_then(|status| status.webhook.as_ref());
    webhook.is_none_or(|webhook| webhook.hooks.is_empty() && webhook.former_targets.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const US: &str = "0a0b0c0d";

    fn connection(installation: Option<&str>, going: bool) -> GitProviderConnection {
        let deletion = going.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection",
            "metadata": {"name": "acme", "namespace": "team", "deletionTimestamp": deletion},
            "spec": {"provider": {}},
            "status": {"installation": installation},
        }))
        .unwrap()
    }

    fn binding(installation: Option<&str>, going: bool, webhook: &Value) -> RepoBinding {
        let deletion = going.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
            "metadata": {"name": "shop", "namespace": "team", "deletionTimestamp": deletion},
            "spec": {"connectionRef": {"name": "acme"}, "repository": "acme/shop"},
            "status": {"installation": installation, "webhook": webhook},
        }))
        .unwrap()
    }

    #[test]
    fn a_binding_goes_with_its_connection_and_waits_while_it_is_open_whose_that_is() {
        let other = Some("ffffffff");
        let hook = json!({"hooks": [{"id": "31", "events": ["Push"], "adopted": false}]});
        let cases = [
            // (installation of the binding, deleting, its hooks, installation of the connection, deleting, expected owner)
            (None, false, Value::Null, None, false, BindingOwner::Waits),
            (None, false, Value::Null, other, false, BindingOwner::Waits),
            (None, false, Value::Null, Some(US), false, BindingOwner::Ours),
            (Some(US), false, Value::Null, Some(US), false, BindingOwner::Ours),
            (Some(US), false, Value::Null, None, false, BindingOwner::Waits),
            (Some(US), false, hook.clone(), None, false, BindingOwner::Waits),
            (Some(US), false, hook.clone(), None, true, BindingOwner::Ours),
            (Some(US), true, hook.clone(), None, false, BindingOwner::Ours),
            (Some(US), false, Value::Null, other, false, BindingOwner::WithAnother),
            (Some(US), true, Value::Null, other, false, BindingOwner::Ours),
            (Some(US), false, hook.clone(), other, false, BindingOwner::Ours),
        ];
        for case in cases {
            let (whose, going, webhook, connections, connection_going, expected) = &case;
            let binding = binding(*whose, *going, webhook);
            assert_eq!(judge(&binding, &connection(*connections, *connection_going), US), *expected, "{case:?}");
        }
    }
}
