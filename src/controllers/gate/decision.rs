//! Decides from the caches what a binding may use of a connection, without a client.

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use url::Url;

use super::grants::{granted, permits, permits_to, place_at};
use super::seal::Seal;
use crate::api::v1alpha1::binding::{HookTarget, RepositoryStatus};
use crate::api::v1alpha1::{GitProviderConnection, ManagementPolicy, RepoBinding};
use crate::controllers::binding::ownership::endpoint_of_another;
use crate::controllers::binding::requested::is_as_requested;
use crate::controllers::{View, foreign_owner_message};
use crate::protocol::grant;

/// Whether a connection grants what a binding's spec asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The connection's rules allow it.
    Granted,
    /// The connection does not exist or does not allow it. `lacking`: what the rules of a connection in the binding's own
    /// namespace lack; within a namespace nothing is hidden.
    Refused {
        /// What the rules lack.
        lacking: Option<String>,
    },
    /// It cannot be decided now, which withdraws nothing from a binding that had a grant.
    Undecided,
}

/// What the connections' rules say about a binding and its hooks.
#[derive(Clone, Debug)]
pub struct GrantDecision {
    /// Whether the connection grants what the spec asks for.
    pub spec: Grant,
    /// Whether the connection refuses the path at which the repository was last found, although the spec still asks for it by the
    /// same, granted path.
    pub refuses_known_path: bool,
    /// Sealed targets whose connection no longer allows this binding or is being deleted, whatever the spec names now. They are
    /// cleared regardless of the binding's spec: a binding cannot keep them.
    pub withdrawn: Vec<HookTarget>,
}

impl GrantDecision {
    /// Decides for a binding and the connection that it names; `None` if that one does not exist.
    #[must_use]
    pub fn of(view: &View, object: &RepoBinding, connection: Option<&GitProviderConnection>, seal: &Seal) -> Self {
        let spec = match granted(view, object, connection, seal) {
            Some(true) => Grant::Granted,
            Some(false) => Grant::Refused { lacking: connection.and_then(|connection| lacking(view, object, connection)) },
            None => Grant::Undecided,
        };
        let may_know = connection.filter(|_| !matches!(spec, Grant::Refused { .. }));
        let refuses_known_path = may_know.is_some_and(|connection| refuses_known_path(view, object, connection));
        Self { spec, refuses_known_path, withdrawn: withdrawn(view, object, seal) }
    }

    /// Whether the connection grants what the spec asks for.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.spec == Grant::Granted
    }
}

/// What the rules of a connection in the binding's own namespace lack.
fn lacking(view: &View, object: &RepoBinding, connection: &GitProviderConnection) -> Option<String> {
    let namespace = object.namespace().filter(|namespace| *namespace == object.connection_namespace())?;
    let labels = view.namespaces.get(&ObjectRef::new(&namespace)).map(|known| known.metadata.labels.clone().unwrap_or_default());
    Some(grant::lacking(connection, labels.as_ref(), &object.spec.repository, object.custom_url().as_ref()))
}

fn refuses_known_path(view: &View, object: &RepoBinding, connection: &GitProviderConnection) -> bool {
    let same = |known: &&RepositoryStatus| match (&known.requested, place_at(connection, &object.spec.repository)) {
        (Some(_), Some((api, Ok(path)))) => is_as_requested(object, &api, &path, known),
        _ => false,
    };
    let known = object.known_repository().filter(same);
    known.is_some_and(|known| permits(view, object, connection, Some(&known.path)) == Some(false))
}

/// Sealed targets of a binding that are no longer allowed, judged by each target's own connection. A deleted binding with the
/// policy `Orphan` must not leave hooks at targets without a grant, because they could not be removed later.
fn withdrawn(view: &View, object: &RepoBinding, seal: &Seal) -> Vec<HookTarget> {
    let is_withdrawn = |target: &&HookTarget| {
        let Some(connection) = view.connection(&target.connection).filter(|_| seal.is_on(target)) else { return false };
        let is_refused = is_refused_at(view, object, &connection, target);
        if object.is_being_deleted() && object.orphans() {
            return is_refused;
        }
        // Nothing is changed through a connection that its owner or the administrator froze.
        let is_left_alone = view.settings.read_only
            || connection.spec.suspend
            || connection.spec.management_policy == ManagementPolicy::Observe
            || foreign_owner_message(&*connection, &view.keys.fingerprint).is_some();
        let ends = connection.metadata.deletion_timestamp.is_some();
        !is_left_alone && (ends || is_refused)
    };
    object.hook_targets().filter(is_withdrawn).cloned().collect()
}

/// Whether a connection refuses a hook of the binding at a target: the path at which the hook was made, the path at which the
/// repository was last found, or the endpoint to which the hook delivers, whatever the spec names now.
fn is_refused_at(view: &View, object: &RepoBinding, connection: &GitProviderConnection, target: &HookTarget) -> bool {
    let refuses = |path: &str| permits(view, object, connection, Some(path)) == Some(false);
    let found_last = object.known_repository().filter(|known| {
        let under = known.requested.as_ref().map(|requested| &requested.connection);
        known.id == target.repository_id && under == Some(&target.connection)
    });
    let present = object.webhook_status().filter(|webhook| webhook.target.as_ref() == Some(target));
    let endpoint = present.and_then(|webhook| webhook.url.as_deref()).and_then(endpoint_of_another);
    let refuses_endpoint = |endpoint: &Url| permits_to(view, object, connection, Some(&target.repository), Some(endpoint)) == Some(false);
    refuses(&target.repository) || found_last.is_some_and(|known| refuses(&known.path)) || endpoint.as_ref().is_some_and(refuses_endpoint)
}
