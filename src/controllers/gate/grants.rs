//! Decides what a connection grants a binding.

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use url::Url;

use super::seal::Seal;
use crate::api::v1alpha1::{ConditionType, GitProviderConnection, RepoBinding};
use crate::controllers::View;
use crate::k8s::conditions;
use crate::protocol::grant::{Request, Rule};
use crate::providers::model::Scope;
use crate::providers::{PathError, RepositoryPath, registry};

/// API URL of a connection, and the path that a text means at its server, read from the connection's spec without a client.
/// `None` if the spec does not contain a valid address.
#[must_use]
pub fn place_at(connection: &GitProviderConnection, text: &str) -> Option<(Url, Result<RepositoryPath, PathError>)> {
    let provider = registry::provider(connection.spec.provider.kind()?)?;
    let endpoint = provider.endpoint(&connection.spec.provider).ok()?;
    let path = provider.repository_path(&endpoint, text);
    Some((endpoint.api, path))
}

/// The owner of a connection, if the path that a text means there lies outside of it. No grant allows such a path.
#[must_use]
pub fn scope_without(connection: &GitProviderConnection, text: &str) -> Option<Scope> {
    let provider = registry::provider(connection.spec.provider.kind()?)?;
    let endpoint = provider.endpoint(&connection.spec.provider).ok()?;
    let path = provider.repository_path(&endpoint, text).ok()?;
    endpoint.scope.filter(|scope| !scope.contains(&path))
}

/// Whether a connection grants what a binding asks for; `None` if that cannot be decided. Judged whether or not the connection
/// works, so that the withdrawal of a grant takes effect at once.
#[must_use]
pub fn grants(view: &View, object: &RepoBinding, connection: &GitProviderConnection) -> Option<bool> {
    let text = object.spec.repository.as_str();
    match place_at(connection, text) {
        Some(_) => permits_text(view, object, connection, text),
        None => permits(view, object, connection, None),
    }
}

/// Whether a connection grants a binding the path that a text means there; `None` if that cannot be decided.
pub(super) fn permits_text(view: &View, object: &RepoBinding, connection: &GitProviderConnection, text: &str) -> Option<bool> {
    match place_at(connection, text) {
        Some((_, Ok(path))) => permits(view, object, connection, Some(path.as_str())),
        // A text that is not a path at this connection is matched against the patterns unchanged.
        Some((_, Err(_))) | None => permits(view, object, connection, Some(text)),
    }
}

/// Whether a connection grants a path to a binding; `None` if that cannot be decided. Without a path, only the namespace and the
/// destination are judged.
#[must_use]
pub fn permits(view: &View, object: &RepoBinding, connection: &GitProviderConnection, path: Option<&str>) -> Option<bool> {
    permits_to(view, object, connection, path, object.custom_url().as_ref())
}

/// As [`permits`], for a given endpoint of the hook; `None` means our receiver.
#[must_use]
pub fn permits_to(
    view: &View,
    object: &RepoBinding,
    connection: &GitProviderConnection,
    path: Option<&str>,
    destination: Option<&Url>,
) -> Option<bool> {
    with_request(view, object, path, destination, |request| view.grants.of(connection).permit(request))
}

/// Whether a grant allows what a binding asks its connection for, as far as is known.
#[must_use]
pub fn is_allowed_by(view: &View, object: &RepoBinding, connection: &GitProviderConnection, rule: &Rule) -> bool {
    let text = object.spec.repository.as_str();
    let path = match place_at(connection, text) {
        Some((_, Ok(path))) => Some(path.as_str().to_owned()),
        Some((_, Err(_))) => Some(text.to_owned()),
        None => None,
    };
    with_request(view, object, path.as_deref(), object.custom_url().as_ref(), |request| rule.allows(request) == Some(true))
}

/// Whether a grant covers a namespace, as far as is known.
#[must_use]
pub fn covers_namespace(view: &View, rule: &Rule, namespace: &str) -> bool {
    let known = view.namespaces.get(&ObjectRef::new(namespace));
    let labels = known.as_ref().map(|known| known.metadata.labels.clone().unwrap_or_default());
    rule.covers_namespace(namespace, labels.as_ref()) == Some(true)
}

/// Calls a function with what a binding asks a connection for.
pub(super) fn with_request<T>(
    view: &View,
    object: &RepoBinding,
    path: Option<&str>,
    destination: Option<&Url>,
    judge: impl FnOnce(Request<'_>) -> T,
) -> T {
    let namespace = object.namespace().unwrap_or_default();
    let known = view.namespaces.get(&ObjectRef::new(&namespace));
    let labels = known.as_ref().map(|known| known.metadata.labels.clone().unwrap_or_default());
    judge(Request { namespace: &namespace, namespace_labels: labels.as_ref(), repository: path, destination })
}

/// Whether the connection grants what the binding asks for. `None` if that cannot be decided, which withdraws nothing from a
/// binding that had a grant. Any other binding then gets the same answer as for a missing connection.
#[must_use]
pub fn granted(view: &View, object: &RepoBinding, connection: Option<&GitProviderConnection>, seal: &Seal) -> Option<bool> {
    let Some(connection) = connection else { return Some(false) };
    let is_own = object.metadata.namespace.as_ref() == Some(&object.connection_target().namespace);
    let granted = grants(view, object, connection);
    let may_know = is_own || view.shows_connections || had_grant(object, seal);
    if granted.is_none() && !may_know { Some(false) } else { granted }
}

/// Whether the binding's status or a sealed target shows that its connection granted it access before.
#[must_use]
pub fn had_grant(object: &RepoBinding, seal: &Seal) -> bool {
    let target = object.connection_target();
    let status = object.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let requested = status.and_then(|status| status.repository.as_ref()?.requested.as_ref());
    let was_ready = conditions::find(conditions, ConditionType::ConnectionReady).is_some_and(|condition| {
        // The condition may be about another connection: the spec may have changed since.
        let of_this = condition.observed_generation == object.metadata.generation
            || requested.is_some_and(|requested| requested.connection == target);
        condition.status == "True" && of_this
    });
    was_ready || object.hook_targets().any(|held| held.connection == target && seal.is_on(held))
}
