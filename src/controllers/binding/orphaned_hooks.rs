//! Finds orphaned hooks: hooks made by Forgebind that no binding of this installation will ever remove.

use std::collections::BTreeSet;

use kube::ResourceExt as _;

use super::ownership::{HookIdentity, HookOwner, is_alike};
use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::controllers::View;
use crate::protocol::keys::ConnectedBinding;
use crate::providers::Hook;

/// Ids of the orphaned hooks in a list: made under a lost install key, or by another installation from which the binding was
/// taken over.
pub fn orphaned_hooks(view: &View, object: &RepoBinding, identity: &HookIdentity, hooks: &[Hook]) -> Vec<String> {
    let others: Vec<(&Hook, String)> = hooks.iter().filter_map(|hook| Some((hook, identity.other_id(&hook.url)?))).collect();
    let ids = |binding: &RepoBinding| -> Vec<String> {
        let (namespace, name) = (binding.namespace().unwrap_or_default(), binding.name_any());
        // Includes the connections of all targets where the binding still has hooks that it will remove.
        let former = binding.hook_targets().map(|target| target.connection.clone());
        let connections: BTreeSet<ConnectionTarget> = former.chain([binding.connection_target()]).collect();
        connections.iter().map(|connection| view.keys.receiver.hook_id(ConnectedBinding::new(&namespace, &name, connection))).collect()
    };
    // Computed only if there are ids to compare with: it is slow with thousands of bindings.
    let known: BTreeSet<String> =
        if others.is_empty() { BTreeSet::new() } else { view.bindings.state().iter().flat_map(|binding| ids(binding)).collect() };
    let orphaned = others.into_iter().filter(|(_, id)| !known.contains(id)).map(|(hook, _)| hook);
    let status = object.webhook_status();
    let recorded: BTreeSet<&str> = status.iter().flat_map(|webhook| &webhook.hooks).map(|hook| hook.id.as_str()).collect();
    let foreign = |hook: &&Hook| matches!(identity.classify(&hook.url), HookOwner::Foreign { .. }) && is_alike(&hook.url);
    let former = hooks.iter().filter(|hook| recorded.contains(hook.id.as_str())).filter(foreign);
    orphaned.chain(former).map(|hook| hook.id.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}
