//! Performs all reads for one binding; failures are kept as data.

mod cleanup_target;
mod refusal;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;
use url::Url;

use super::attempts::Attempts;
use super::conflicts::{self, Claim};
use super::ownership::{HookIdentity, endpoint_of_another, normal_form};
use super::requested::{is_as_requested, is_same_repository};
use super::user_secret::{self, UserSecret};
use super::{ProbeInputs, ProbeRecord, orphaned_hooks, plan};
use crate::api::v1alpha1::binding::{HookTarget, RepositoryStatus};
use crate::api::v1alpha1::connection::PermissionState;
use crate::api::v1alpha1::{
    ConditionType, EventKind, GitProviderConnection, ManagementPolicy, RECONCILE_REQUESTED_AT, REVOKE_REQUESTED_AT, ROTATE_REQUESTED_AT,
    Reason, RepoBinding,
};
use crate::controllers::gate::{self, ActiveClient, OutOfReach, RepositoryLookup, Seal, UsePermit};
use crate::controllers::sessions::ConditionFailure;
use crate::controllers::{Settings, View, foreign_owner_message, locked, requested};
use crate::network::public_urls::PublicUrlError;
use crate::protocol::evidence::BindingEvidence;
use crate::protocol::keys::{ConnectedBinding, ReceiverKey};
use crate::protocol::secret::WebhookSecret;
use crate::protocol::sink_target::{self, NotServed};
use crate::providers::{Hook, HookUrl, PathError, PermissionFinding, ProviderError, RepositoryPath};

pub use cleanup_target::{CleanupTarget, Obstacle, UNTOLD, target_of_spec};

/// Facts about one binding: the input of planning.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
pub struct Facts {
    /// The binding.
    pub object: Arc<RepoBinding>,
    /// Time of the reconciliation.
    pub now: Timestamp,
    /// Fingerprint of this installation.
    pub fingerprint: String,
    /// Settings of the administrator.
    pub settings: Settings,
    /// Public URL that the connection chooses, or why there is none.
    pub public_url: Result<Url, PublicUrlError>,
    /// Identity of the binding at providers.
    pub identity: HookIdentity,
    /// Seals the targets of the binding's hooks.
    pub seal: Seal,
    /// The connection, as far as this binding may know about it.
    pub connection: Connection,
    /// Whether the connection grants what the spec asks for; `None` if that cannot be decided.
    pub granted: Option<bool>,
    /// Whether the repository in the status has a path that the connection does not grant.
    pub known_without_grant: bool,
    /// Sealed targets whose connection no longer allows this binding or is being deleted, whatever the spec names now. They are
    /// cleared regardless of the binding's spec: a binding cannot keep them.
    pub withdrawn: Vec<HookTarget>,
    /// Why a connection of the binding's own namespace does not permit the binding.
    pub refusal: Option<String>,
    /// Result of the probe of the repository; `None` if no probe was due.
    pub probe: Option<Probe>,
    /// Record of earlier probes.
    pub memory: Option<ProbeRecord>,
    /// Unfinished attempts of earlier reconciliations.
    pub attempts: Attempts,
    /// Targets with hooks that must be removed.
    pub targets: Vec<CleanupTarget>,
    /// The user's own webhook secret; `None` if the spec names none.
    pub user_secret: Option<Result<UserSecret, ConditionFailure>>,
    /// Claims of other bindings to the same URL.
    pub claims: Vec<Claim>,
    /// Events of the other bindings that request a hook on the same repository.
    pub siblings: Vec<BTreeSet<EventKind>>,
    /// Delivery evidence from the receivers.
    pub evidence: Option<BindingEvidence>,
    /// Requests by annotation.
    pub requests: Requests,
    /// Sinks that receive nothing, with the reason.
    pub unserved_sinks: Vec<(String, NotServed)>,
    /// Whether the namespace is being deleted.
    pub terminating: bool,
    /// Whether writing at the provider is forbidden.
    pub observe_only: bool,
    /// Whether the binding or its connection is suspended.
    pub suspended: bool,
    /// Derives webhook secrets.
    pub key: ReceiverKey,
    /// Problem with the Secret of the install key: hooks made while it lasts may be unknown after a restart.
    pub key_failure: Option<String>,
    /// The connection's request to rotate the secrets of all its bindings.
    pub rotation_of_connection: Option<String>,
    /// The connection's request to revoke the previous secrets of all its bindings.
    pub revocation_of_connection: Option<String>,
}

impl Facts {
    /// Derives the webhook secret of one version.
    #[must_use]
    pub fn derive(&self, secret_version: &str) -> [u8; 32] {
        let (namespace, name) = (self.object.namespace().unwrap_or_default(), self.object.name_any());
        let connection = self.object.connection_target();
        let owner = ConnectedBinding::new(&namespace, &name, &connection);
        self.key.webhook_secret(owner, secret_version)
    }

    /// Inputs of a probe beside the spec.
    #[must_use]
    pub fn probe_inputs(&self) -> ProbeInputs {
        let user_secret = self.user_secret.as_ref().map(|secret| match secret {
            Ok(secret) => secret.version.clone(),
            Err(failure) => failure.message.clone(),
        });
        let receiver = self.object.custom_url().is_none().then(|| self.identity.masked_receiver_url()).flatten();
        let known_without_grant = self.known_without_grant;
        ProbeInputs { usable: self.connection.may_be_usable(), observe_only: self.observe_only, user_secret, receiver, known_without_grant }
    }

    /// Why the repository is out of reach although the spec names a granted path: it was renamed or transferred, or the grant for
    /// its present path was withdrawn.
    #[must_use]
    pub fn out_of_reach(&self) -> Option<OutOfReach> {
        match &self.probe {
            Some(Probe { repository: RepositoryLookup::Found(_), .. }) => None,
            Some(Probe { repository: RepositoryLookup::OutOfReach(out_of_reach), .. }) => Some(*out_of_reach),
            _ => self.known_without_grant.then_some(OutOfReach::WithoutGrant),
        }
    }

    /// The secret with which an adopted hook is handed back to a URL. `None` for a URL at which no hook was adopted: somebody
    /// changed the hook at the provider, and the secret would be sent there.
    #[must_use]
    pub fn secret_to_hand_back(&self, url: &HookUrl) -> Option<&WebhookSecret> {
        let adopted = self.object.status.as_ref().and_then(|status| status.webhook.as_ref()?.url.as_deref());
        let adopted = adopted.and_then(|url| Url::parse(url).ok());
        let is_at = |known: &Url| Url::parse(url.expose()).is_ok_and(|url| normal_form(&url) == normal_form(known));
        self.object.custom_url().iter().chain(&adopted).any(is_at).then(|| self.brought_secret()).flatten()
    }

    /// The user's own secret that all hooks carry, including adopted ones; `None` if it cannot be read now.
    #[must_use]
    pub fn brought_secret(&self) -> Option<&WebhookSecret> {
        Some(&self.user_secret.as_ref()?.as_ref().ok()?.value)
    }
}

/// Requests by annotation that were not handled yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Probe the repository.
    pub probe: bool,
    /// Rotate the secret.
    pub rotate: bool,
    /// Revoke the previous secrets.
    pub revoke: bool,
}

/// The connection, as far as this binding may know about it.
#[expect(clippy::large_enum_variant, reason = "one at a time is made, and nearly always the large one")]
pub enum Connection {
    /// No connection of that name exists in the binding's own namespace.
    NotFound,
    /// The connection does not exist or does not allow this binding.
    NotPermitted,
    /// The connection was not inspected yet.
    Pending,
    /// The connection does not work.
    NotReady(ConditionFailure),
    /// The provider of the connection is temporarily out of reach.
    Unreachable(ConditionFailure),
    /// The spec's text is not a repository path of this connection.
    Path(PathError),
    /// The connection works and may be used.
    Ready {
        /// The active client with the results of the inspection.
        active_client: ActiveClient,
        /// The permit to use its client.
        permit: UsePermit,
        /// Path of the requested repository.
        path: RepositoryPath,
        /// Time of the last inspection.
        inspected_at: Timestamp,
    },
}

impl Connection {
    /// Whether the connection works as far as is known. An outage counts as usable, so that its end does not cause a new probe of
    /// everything.
    #[must_use]
    pub const fn may_be_usable(&self) -> bool {
        matches!(self, Self::Ready { .. } | Self::Pending | Self::Unreachable(_))
    }
}

/// Results of a probe of the repository.
pub struct Probe {
    /// The repository.
    pub repository: RepositoryLookup,
    /// Whether the branch exists; `None` if the spec names none, the repository is empty, or the credential does not work for
    /// the API.
    pub branch: Option<Result<bool, ProviderError>>,
    /// Hooks of the repository; `None` if none are wanted.
    pub hooks: Option<Result<Vec<Hook>, ProviderError>>,
    /// Whether the credential may manage hooks.
    pub manage_webhooks: PermissionFinding,
    /// Ids of orphaned hooks: they deliver to this installation's public URL and belong to none of its bindings, or the status
    /// names them and they belong to another installation. This installation does not remove them.
    pub orphaned_hooks: Vec<String>,
}

/// Reads all facts. Calls the provider only if a probe or a cleanup is due.
pub async fn observe(view: &View, object: Arc<RepoBinding>) -> Facts {
    let now = view.clock.now();
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let seal = Seal::of_binding(&view.keys.controller, &object);
    let known = view.connection(&object.connection_target());
    let granted = gate::granted(view, &object, known.as_deref(), &seal);
    let governing = known.as_deref().filter(|_| is_governed(&object, granted, &seal));
    let public_url = public_url(view, governing);
    let identity =
        HookIdentity::new(&view.keys, &view.settings, public_url.as_ref().ok(), (&namespace, &name), &object.connection_target());
    let requests = requests(&object, governing);
    let may_know = known.as_deref().filter(|_| granted != Some(false));
    let known_without_grant = may_know.is_some_and(|known| known_without_grant(view, &object, known));
    let connection = connection(view, &object, granted);
    let memory = locked(&view.probes).get(&object.uid().unwrap_or_default()).cloned();
    let user_secret = user_secret::read(view, &object).await;
    let suspended = object.spec.suspend || governing.is_some_and(|connection| connection.spec.suspend);
    let mut facts = Facts {
        now,
        fingerprint: view.keys.fingerprint.clone(),
        settings: view.settings.clone(),
        public_url,
        identity,
        refusal: refusal::of_own_namespace(view, &object, &connection),
        connection,
        granted,
        known_without_grant,
        withdrawn: withdrawn(view, &object, &seal),
        seal,
        probe: None,
        memory,
        attempts: locked(&view.attempts).get(&object.uid().unwrap_or_default()).cloned().unwrap_or_default(),
        targets: Vec::new(),
        user_secret,
        claims: conflicts::claims(view, &object),
        siblings: Vec::new(),
        evidence: locked(&view.evidence).get(&object.uid().unwrap_or_default()).cloned(),
        requests,
        unserved_sinks: unserved_sinks(view, &object),
        terminating: view.is_terminating(&namespace),
        observe_only: observe_only(view, &object, governing),
        suspended,
        key: view.keys.receiver.clone(),
        key_failure: view.key_failure.get(),
        rotation_of_connection: annotation_of_connection(governing, ROTATE_REQUESTED_AT),
        revocation_of_connection: annotation_of_connection(governing, REVOKE_REQUESTED_AT),
        object,
    };
    if !facts.object.is_being_deleted() && !facts.suspended && plan::due::probe_due(&facts) {
        facts.probe = probe(view, &facts).await;
        facts.siblings = conflicts::siblings(view, &facts);
    }
    for target in plan::cleanup::cleanup_targets(&facts) {
        let cleanup_target = cleanup_target::read(view, &facts, target).await;
        facts.targets.push(cleanup_target);
    }
    facts
}

/// Whether the connection's own settings count for the binding. Without a grant, the binding's behavior must not reveal anything
/// about a foreign connection, unless a hook was made through it.
fn is_governed(object: &RepoBinding, granted: Option<bool>, seal: &Seal) -> bool {
    let target = object.connection_target();
    let is_own = object.metadata.namespace.as_ref() == Some(&target.namespace);
    granted == Some(true) || is_own || object.hook_targets().any(|held| held.connection == target && seal.is_on(held))
}

/// The public URL that the connection chooses. Without a connection, the default is used.
fn public_url(view: &View, connection: Option<&GitProviderConnection>) -> Result<Url, PublicUrlError> {
    let choice = connection.and_then(|connection| connection.spec.receiver.as_ref()?.public_url.as_deref());
    view.settings.public_urls.choose(choice).cloned()
}

fn annotation_of_connection(connection: Option<&GitProviderConnection>, name: &str) -> Option<String> {
    connection.and_then(|connection| connection.annotations().get(name).cloned())
}

fn observe_only(view: &View, object: &RepoBinding, connection: Option<&GitProviderConnection>) -> bool {
    let connection = connection.map(|connection| connection.spec.management_policy);
    view.settings.read_only || object.spec.management_policy == ManagementPolicy::Observe || connection == Some(ManagementPolicy::Observe)
}

fn requests(object: &RepoBinding, connection: Option<&GitProviderConnection>) -> Requests {
    let handled = object.status.as_ref().and_then(|status| status.last_handled.clone()).unwrap_or_default();
    // A connection's request counts for the bindings that existed when it was made: a new binding has a new secret anyway.
    let webhook = object.webhook_status();
    let known = webhook.is_some_and(|webhook| webhook.secret_version.is_some());
    let by_connection = |name: &str, handled: Option<String>| {
        let asked = annotation_of_connection(connection, name);
        known && asked.is_some() && asked != handled
    };
    Requests {
        probe: requested(object, RECONCILE_REQUESTED_AT, handled.reconcile.as_ref()).is_some(),
        rotate: requested(object, ROTATE_REQUESTED_AT, handled.rotate_secret.as_ref()).is_some()
            || by_connection(ROTATE_REQUESTED_AT, handled.rotate_secret_of_connection),
        revoke: requested(object, REVOKE_REQUESTED_AT, handled.revoke_secret.as_ref()).is_some()
            || by_connection(REVOKE_REQUESTED_AT, handled.revoke_secret_of_connection),
    }
}

/// Whether the connection refuses the path at which the repository was last found, although the spec still asks for it by the
/// same path.
fn known_without_grant(view: &View, object: &RepoBinding, connection: &GitProviderConnection) -> bool {
    let known = object.known_repository();
    let same = |known: &&RepositoryStatus| match (&known.requested, gate::place_at(connection, &object.spec.repository)) {
        (Some(_), Some((api, Ok(path)))) => is_as_requested(object, &api, &path, known),
        _ => false,
    };
    known.filter(same).is_some_and(|known| gate::permits(view, object, connection, Some(&known.path)) == Some(false))
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
    let refuses = |path: &str| gate::permits(view, object, connection, Some(path)) == Some(false);
    let status = object.status.as_ref();
    let found_last = status.and_then(|status| status.repository.as_ref()).filter(|known| {
        let under = known.requested.as_ref().map(|requested| &requested.connection);
        known.id == target.repository_id && under == Some(&target.connection)
    });
    let present = status.and_then(|status| status.webhook.as_ref()).filter(|webhook| webhook.target.as_ref() == Some(target));
    let endpoint = present.and_then(|webhook| webhook.url.as_deref()).and_then(endpoint_of_another);
    let refuses_endpoint =
        |endpoint: &Url| gate::permits_to(view, object, connection, Some(&target.repository), Some(endpoint)) == Some(false);
    refuses(&target.repository) || found_last.is_some_and(|known| refuses(&known.path)) || endpoint.as_ref().is_some_and(refuses_endpoint)
}

/// Judges the connection from memory, without a call. A missing connection in another namespace gets the same answer as one that
/// does not allow the binding, so that names cannot be guessed. Grants are judged first, whether or not the connection works.
fn connection(view: &View, object: &RepoBinding, granted: Option<bool>) -> Connection {
    let target = object.connection_target();
    let own = object.namespace().as_deref() == Some(target.namespace.as_str());
    let Some(connection) = view.connection(&target) else {
        return if own { Connection::NotFound } else { Connection::NotPermitted };
    };
    match granted {
        Some(true) => {}
        Some(false) => return Connection::NotPermitted,
        None => return Connection::Pending,
    }
    if foreign_owner_message(&*connection, &view.keys.fingerprint).is_some() {
        let message = "another installation of Forgebind manages it";
        return Connection::NotReady(ConditionFailure::new(ConditionType::Ready, Reason::ManagedByAnotherInstallation, message));
    }
    if connection.metadata.deletion_timestamp.is_some() {
        let failure = ConditionFailure::new(ConditionType::Ready, Reason::ConnectionNotReady, "it is being deleted");
        return Connection::NotReady(failure);
    }
    let session = view.sessions.get(&target).filter(|session| Some(&session.uid) == connection.metadata.uid.as_ref());
    let Some(session) = session else { return Connection::Pending };
    match session.failure {
        Some(failure) if failure.is_outage() => return Connection::Unreachable(failure),
        Some(failure) if failure.is_pending() => return Connection::Pending,
        Some(failure) => return Connection::NotReady(failure),
        None => {}
    }
    let Some(active_client) = session.active_client else { return Connection::Pending };
    let path = match active_client.provider.repository_path(&active_client.endpoint, &object.spec.repository) {
        Ok(path) => path,
        Err(error) => return Connection::Path(error),
    };
    match UsePermit::granted(view, object, &target, &active_client, &path) {
        Some(permit) => Connection::Ready { active_client, permit, path, inspected_at: session.inspected_at },
        // The spec changed after the inspection, so the text meant another path then.
        None => Connection::Pending,
    }
}

fn unserved_sinks(view: &View, object: &RepoBinding) -> Vec<(String, NotServed)> {
    let judged = object.spec.sinks.iter().map(|sink| (sink.name.clone(), sink_target::served(sink, &view.network)));
    judged.filter_map(|(name, result)| Some((name, result.err()?))).collect()
}

async fn probe(view: &View, facts: &Facts) -> Option<Probe> {
    let Connection::Ready { active_client, permit, path, .. } = &facts.connection else { return None };
    if active_client.scope().is_some_and(|scope| !scope.contains(path)) {
        return None;
    }
    let object = &facts.object;
    // Only an unchanged path follows a rename; a new path in the spec means another repository.
    let known = object.known_repository();
    // A status without our seal is ignored: otherwise the connection's credential would look up an id that anybody could have
    // written.
    let known =
        known.filter(|known| is_as_requested(object, &active_client.endpoint.api, path, known) && facts.seal.is_on_repository(known));
    let repository = permit.find(view, object, known).await;
    let RepositoryLookup::Found(found) = &repository else {
        let manage_webhooks = PermissionFinding::granted();
        return Some(Probe { repository, branch: None, hooks: None, manage_webhooks, orphaned_hooks: Vec::new() });
    };
    let branch = match object.spec.branch_name() {
        Some(branch) if !found.empty && active_client.inspection.capabilities.api => Some(found.branch_exists(branch).await),
        _ => None,
    };
    let manage_webhooks = worse(active_client.hook_permission(&object.hook_events()), found.manage_webhooks.clone());
    let may = manage_webhooks.state != PermissionState::Missing;
    let wanted = object.own_hook().is_some() && may && is_same_repository(object, &active_client.endpoint.api, path, found);
    let hooks = if wanted { Some(found.hooks().await) } else { None };
    let orphaned_hooks = match &hooks {
        Some(Ok(hooks)) => orphaned_hooks::orphaned_hooks(view, facts, hooks),
        _ => Vec::new(),
    };
    Some(Probe { repository, branch, hooks, manage_webhooks, orphaned_hooks })
}

/// A permission needs both the credential's scope and the account's role: the worse finding counts.
fn worse(one: PermissionFinding, other: PermissionFinding) -> PermissionFinding {
    let badness = |finding: &PermissionFinding| match finding.state {
        PermissionState::Granted => 0,
        PermissionState::Unknown => 1,
        PermissionState::Missing => 2,
    };
    if badness(&other) <= badness(&one) {
        return one;
    }
    if other.state != PermissionState::Missing {
        return other;
    }
    let why = other.message.unwrap_or_default();
    PermissionFinding::missing(format!("at this repository the credential does not suffice: {why}"))
}
