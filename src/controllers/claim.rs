//! Whose an object is. An installation claims one by the first status that it writes, which only one can win.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;

use super::gate::{self, Seal};
use super::{Managed, View};
use crate::api::v1alpha1::{GitProviderConnection, RepoBinding};

/// What is said of an object that another installation manages; `None` for one that is this installation's, or nobody's yet.
#[must_use]
pub fn foreign_owner_message(object: &impl Managed, fingerprint: &str) -> Option<String> {
    object.installation().filter(|installation| *installation != fingerprint)?;
    Some(format!(
        "another installation of Forgebind manages this object, installation {fingerprint} leaves it alone; remove status.installation to \
         hand it over"
    ))
}

/// What becomes of a binding that is nobody's or ours. It goes with its connection, so that of two installations never both
/// make a hook for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingOwner {
    /// It is reconciled.
    Ours,
    /// It is left for now: who takes the connection is open, or the binding is another's to take.
    Waits,
    /// We took it when it had no connection, which is another installation's now; nothing of it is at any provider.
    WithAnother,
}

/// What becomes of a binding, from what can be seen. A connection of another namespace that does not allow it counts as one that is
/// not there: a binding that waited would tell that it is.
#[must_use]
pub fn owner(view: &View, binding: &RepoBinding) -> BindingOwner {
    let target = binding.connection_target();
    let is_own = binding.metadata.namespace.as_ref() == Some(&target.namespace);
    let seal = Seal::new(&view.keys.controller, &binding.namespace().unwrap_or_default(), &binding.name_any());
    let may_know = |connection: &Arc<GitProviderConnection>| is_own || gate::granted(view, binding, Some(connection), &seal) != Some(false);
    view.connection(&target).filter(may_know).map_or(BindingOwner::Ours, |connection| judge(binding, &connection, &view.keys.fingerprint))
}

fn judge(binding: &RepoBinding, connection: &GitProviderConnection, fingerprint: &str) -> BindingOwner {
    let is_going = |metadata: &ObjectMeta| metadata.deletion_timestamp.is_some();
    match connection.installation() {
        Some(installation) if installation == fingerprint => BindingOwner::Ours,
        _ if binding.installation().is_none() => BindingOwner::Waits,
        _ if is_going(&binding.metadata) => BindingOwner::Ours,
        // That its credential works here does not make the connection ours: a hook that was made before another installation
        // takes it would keep the binding from going along.
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
            // (the binding's, being deleted, what it has, the connection's, being deleted, what becomes of it)
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
