//! Decides from the caches what a binding may use of a connection, without a client.

use jiff::Timestamp;
use kube::ResourceExt as _;
use url::Url;

use super::grants::{granted, permits, permits_to, place_at, with_request};
use super::seal::Seal;
use super::ungranted::Ungranted;
use crate::api::v1alpha1::binding::{HookTarget, RepositoryStatus};
use crate::api::v1alpha1::{GitProviderConnection, ManagementPolicy, RepoBinding};
use crate::controllers::binding::ownership::endpoint_of_another;
use crate::controllers::binding::requested::is_as_requested;
use crate::controllers::binding::time::after;
use crate::controllers::{View, foreign_owner_message};
use crate::protocol::grant::explain;

/// Whether a connection grants what a binding's spec asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The connection or one of its grants allows it.
    Granted,
    /// The connection does not exist or does not allow it. `lacking`: what is missing for a connection in the binding's own
    /// namespace; within a namespace nothing is hidden.
    Refused {
        /// What is missing.
        lacking: Option<String>,
    },
    /// It cannot be decided now, which withdraws nothing from a binding that had a grant.
    Undecided,
}

/// What the connections and their grants say about a binding and its hooks.
#[derive(Clone, Debug)]
pub struct GrantDecision {
    /// Whether the connection grants what the spec asks for.
    pub spec: Grant,
    /// Whether a grant that may still come is missing for what the spec asks for. In another namespace a connection that does not
    /// exist or is being deleted counts like one that refuses: a difference would reveal whether it exists. In the binding's own
    /// namespace the connection must be there to stay.
    pub lacks_grant: bool,
    /// Whether the connection refuses the path at which the repository was last found, although the spec still asks for it by the
    /// same, granted path.
    pub refuses_known_path: bool,
    /// Sealed targets at which no grant fits now, whatever the spec names.
    pub refused: Vec<HookTarget>,
    /// Sealed targets whose connection is being deleted, and those of `refused` at which no grant has fitted for so long that it
    /// counts as withdrawn. They are cleared regardless of the binding's spec: a binding cannot keep them.
    pub withdrawn: Vec<HookTarget>,
}

impl GrantDecision {
    /// Decides for a binding and the connection that it names; `None` if that one does not exist.
    #[must_use]
    pub fn of(view: &View, object: &RepoBinding, connection: Option<&GitProviderConnection>, seal: &Seal, ungranted: &Ungranted) -> Self {
        let spec = match granted(view, object, connection, seal) {
            Some(true) => Grant::Granted,
            Some(false) => Grant::Refused { lacking: connection.and_then(|connection| lacking(view, object, connection)) },
            None => Grant::Undecided,
        };
        let may_know = connection.filter(|_| !matches!(spec, Grant::Refused { .. }));
        let refuses_known_path = may_know.is_some_and(|connection| refuses_known_path(view, object, connection));
        let stays = connection.is_some_and(|connection| connection.metadata.deletion_timestamp.is_none());
        let is_elsewhere = object.metadata.namespace.as_ref() != Some(&object.connection_target().namespace);
        let lacks_grant = matches!(spec, Grant::Refused { .. }) && (is_elsewhere || stays);
        let [refused, ending] = refused_and_ending(view, object, seal);
        let is_over = |target: &&HookTarget| removal_at(view, ungranted, target) <= view.clock.now();
        let withdrawn = refused.iter().filter(is_over).chain(&ending).cloned().collect();
        Self { spec, lacks_grant, refuses_known_path, refused, withdrawn }
    }

    /// Whether the connection grants what the spec asks for.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.spec == Grant::Granted
    }
}

/// When a missing grant counts as withdrawn, if none fits until then.
fn removal_at(view: &View, ungranted: &Ungranted, target: &HookTarget) -> Timestamp {
    after(ungranted.since(target).unwrap_or_else(|| view.clock.now()), view.settings.missing_grant_timeout)
}

/// What is missing for a connection in the binding's own namespace.
fn lacking(view: &View, object: &RepoBinding, connection: &GitProviderConnection) -> Option<String> {
    object.namespace().filter(|namespace| *namespace == object.connection_namespace())?;
    let rules = view.grants.of(connection);
    let (path, url) = (object.spec.repository.as_str(), object.custom_url());
    Some(with_request(view, object, Some(path), url.as_ref(), |request| explain::lacking(&connection.name_any(), &rules, request)))
}

fn refuses_known_path(view: &View, object: &RepoBinding, connection: &GitProviderConnection) -> bool {
    let same = |known: &&RepositoryStatus| match (&known.requested, place_at(connection, &object.spec.repository)) {
        (Some(_), Some((api, Ok(path)))) => is_as_requested(object, &api, &path, known),
        _ => false,
    };
    let known = object.known_repository().filter(same);
    known.is_some_and(|known| permits(view, object, connection, Some(&known.path)) == Some(false))
}

/// Sealed targets of a binding at which no grant fits, and those whose connection is being deleted, judged by each target's own
/// connection. Of a deleted binding with the policy `Orphan`, only the former: its other hooks stay.
fn refused_and_ending(view: &View, object: &RepoBinding, seal: &Seal) -> [Vec<HookTarget>; 2] {
    let (mut refused, mut ending) = (Vec::new(), Vec::new());
    let leaves_hooks = object.is_being_deleted() && object.orphans();
    for target in object.hook_targets().filter(|target| seal.is_on(target)) {
        let Some(connection) = view.connection(&target.connection) else { continue };
        // Nothing is changed through a connection that its owner or the administrator froze.
        let is_left_alone = view.settings.read_only
            || connection.spec.suspend
            || connection.spec.management_policy == ManagementPolicy::Observe
            || foreign_owner_message(&*connection, &view.keys.fingerprint).is_some();
        if !leaves_hooks && is_left_alone {
            continue;
        }
        if !leaves_hooks && connection.metadata.deletion_timestamp.is_some() {
            ending.push(target.clone());
        } else if is_refused_at(view, object, &connection, target) {
            refused.push(target.clone());
        }
    }
    [refused, ending]
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
