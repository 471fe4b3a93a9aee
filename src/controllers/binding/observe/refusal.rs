//! Explains why a connection of the binding's own namespace does not allow the binding. Within a namespace nothing is hidden.

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::Connection;
use crate::api::v1alpha1::RepoBinding;
use crate::controllers::View;
use crate::protocol::grant;

/// What the connection's rules lack; `None` if the binding is permitted or the connection belongs to another namespace.
pub(super) fn of_own_namespace(view: &View, object: &RepoBinding, found: &Connection) -> Option<String> {
    let target = object.connection_target();
    let namespace = object.namespace().filter(|namespace| *namespace == target.namespace)?;
    let connection = view.connection(&target).filter(|_| matches!(found, Connection::NotPermitted))?;
    let labels = view.namespaces.get(&ObjectRef::new(&namespace)).map(|known| known.metadata.labels.clone().unwrap_or_default());
    Some(grant::lacking(&connection, labels.as_ref(), &object.spec.repository, object.custom_url().as_ref()))
}
