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

/// The bindings by the connection that they name.
type ByConnection = HashMap<ConnectionTarget, Vec<Arc<RepoBinding>>>;

fn by_connection(view: &View) -> ByConnection {
    let mut bindings = ByConnection::new();
    for binding in view.bindings.state() {
        bindings.entry(binding.connection_target()).or_default().push(binding);
    }
    bindings
}

/// The number of bindings that a grant allows.
#[must_use]
pub fn of(view: &View, rule: &Rule) -> i64 {
    count(view, rule, &by_connection(view))
}

fn count(view: &View, rule: &Rule, bindings: &ByConnection) -> i64 {
    let mut covered: BTreeMap<String, bool> = BTreeMap::new();
    let mut count = 0;
    for connection in connections_of(view, rule) {
        for binding in bindings.get(&ConnectionTarget::of(&connection)).into_iter().flatten() {
            let namespace = binding.metadata.namespace.clone().unwrap_or_default();
            // A connection has bindings in few namespaces, and a grant covers fewer.
            let is_covered = *covered.entry(namespace).or_insert_with_key(|namespace| gate::covers_namespace(view, rule, namespace));
            count += i64::from(is_covered && gate::is_allowed_by(view, binding, &connection, rule));
        }
    }
    count
}

/// Requests the reconciliation of the grants whose status has another count.
pub fn request_changed(view: &View) {
    let bindings = by_connection(view);
    for rule in view.grants.all() {
        let reported =
            view.grant_objects.get(&ObjectRef::new(&rule.name).within(&rule.namespace)).and_then(|grant| grant.status.as_ref()?.bindings);
        if reported.is_some_and(|reported| reported != count(view, &rule, &bindings)) {
            view.triggers.grant(&rule.namespace, &rule.name);
        }
    }
}
