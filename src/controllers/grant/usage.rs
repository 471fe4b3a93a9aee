//! Counts the bindings that grants allow.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kube::runtime::reflector::ObjectRef;

use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::{GitProviderConnection, RepoBinding};
use crate::controllers::View;
use crate::controllers::gate;
use crate::protocol::grant::Rule;

/// The connections that a grant names or selects.
#[must_use]
pub fn connections_of(view: &View, rule: &Rule) -> Vec<Arc<GitProviderConnection>> {
    if let Some(reference) = &rule.spec.connection_ref {
        return view.connections.get(&ObjectRef::new(&reference.name).within(&rule.namespace)).into_iter().collect();
    }
    view.connections.state_filter(|connection| {
        let (namespace, name) = (connection.metadata.namespace.as_ref(), connection.metadata.name.as_deref());
        namespace == Some(&rule.namespace) && rule.is_about(name.unwrap_or_default(), connection.metadata.labels.as_ref())
    })
}

/// The number of bindings that a grant allows.
#[must_use]
pub fn of(view: &View, rule: &Rule) -> i64 {
    let connections: HashMap<_, _> =
        connections_of(view, rule).into_iter().map(|connection| (ConnectionTarget::of(&connection), connection)).collect();
    let allowed = |binding: &RepoBinding| {
        let connection = connections.get(&binding.connection_target());
        connection.is_some_and(|connection| gate::is_allowed_by(view, binding, connection, rule))
    };
    i64::try_from(view.bindings.state_filter(allowed).len()).unwrap_or(i64::MAX)
}

/// Requests the reconciliation of the grants whose status has another count.
pub fn request_changed(view: &View) {
    let mut by_connection: HashMap<ConnectionTarget, Vec<Arc<RepoBinding>>> = HashMap::new();
    for binding in view.bindings.state() {
        by_connection.entry(binding.connection_target()).or_default().push(binding);
    }
    for rule in view.grants.all() {
        let reported =
            view.grant_objects.get(&ObjectRef::new(&rule.name).within(&rule.namespace)).and_then(|grant| grant.status.as_ref()?.bindings);
        let mut covered: BTreeMap<String, bool> = BTreeMap::new();
        let mut count = 0_i64;
        for connection in connections_of(view, &rule) {
            for binding in by_connection.get(&ConnectionTarget::of(&connection)).into_iter().flatten() {
                let namespace = binding.metadata.namespace.clone().unwrap_or_default();
                // A connection has bindings in few namespaces, and a grant covers fewer.
                let is_covered = *covered.entry(namespace).or_insert_with_key(|namespace| gate::covers_namespace(view, &rule, namespace));
                count += i64::from(is_covered && gate::is_allowed_by(view, binding, &connection, &rule));
            }
        }
        if reported.is_some_and(|reported| reported != count) {
            view.triggers.grant(&rule.namespace, &rule.name);
        }
    }
}
