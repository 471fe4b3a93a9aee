//! All reading for one binding; failures are kept as data.

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
use super::user_secret::{self, UserSecret};
use super::{ProbeInputs, ProbeRecord, orphaned_hooks, plan};
use crate::api::v1alpha1::binding::{HookTarget, RepositoryStatus, WebhookSource};
use crate::api::v1alpha1::connection::PermissionState;
use crate::api::v1alpha1::{
    ConditionType, DeletionPolicy, EventKind, GitProviderConnection, ManagementPolicy, RECONCILE_REQUESTED_AT, REVOKE_REQUESTED_AT,
    ROTATE_REQUESTED_AT, Reason, RepoBinding,
};
use crate::controllers::gate::{self, ActiveClient, OutOfReach, RepositoryLookup, Seal, UsePermit};
use crate::controllers::sessions::ConditionFailure;
use crate::controllers::{Settings, View, foreign_owner_message, locked, requested};
use crate::network::public_urls::PublicUrlError;
use crate::protocol::evidence::BindingEvidence;
use crate::protocol::keys::{ConnectedBinding, ReceiverKey};
use crate::protocol::secret::WebhookSecret;
use crate::protocol::sink_target;
use crate::protocol::sink_target::NotServed;
use crate::providers::{Hook, HookUrl, PathError, PermissionFinding, ProviderError, RepositoryPath};

pub use crate::controllers::gate::custom_url;
pub use cleanup_target::{CleanupTarget, Obstacle, UNTOLD, target_of_spec};

/// What was seen.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
pub struct Facts {
    /// The object.
    pub object: Arc<RepoBinding>,
    /// When.
    pub now: Timestamp,
    /// Our installation.
    pub fingerprint: String,
    /// What the administrator decided.
    pub settings: Settings,
    /// Where the connection wants deliveries to our receiver, or why that is nowhere.
    pub public_url: Result<Url, PublicUrlError>,
    /// The binding's identity at providers.
    pub identity: HookIdentity,
    /// The seal on the targets where its hooks are.
    pub seal: Seal,
    /// The connection, as far as this binding may know.
    pub connection: Connection,
    /// Whether the connection grants what the spec asks for; `None` where that cannot be told.
    pub granted: Option<bool>,
    /// Whether the repository that the status knows has a path that the connection does not grant.
    pub known_without_grant: bool,
    /// Targets whose connection does not allow this binding any more, or is being deleted, wherever the spec points to now. They
    /// are cleared whatever the binding says of itself: it must not hold on to them.
    pub withdrawn: Vec<HookTarget>,
    /// Why a connection of the own namespace does not permit this binding.
    pub refusal: Option<String>,
    /// What a probe of the repository found; `None` when none was due.
    pub probe: Option<Probe>,
    /// What was remembered of earlier probes.
    pub memory: Option<ProbeRecord>,
    /// What was tried and is not over.
    pub attempts: Attempts,
    /// Where hooks were made that are to go.
    pub targets: Vec<CleanupTarget>,
    /// The secret that the user brought.
    pub user_secret: Option<Result<UserSecret, ConditionFailure>>,
    /// Other bindings that want the same URL.
    pub claims: Vec<Claim>,
    /// The events of the other bindings that want a hook on the same repository.
    pub siblings: Vec<BTreeSet<EventKind>>,
    /// What receivers saw.
    pub evidence: Option<BindingEvidence>,
    /// What was asked for by annotation.
    pub requests: Requests,
    /// Sinks that get nothing, and why.
    pub unserved_sinks: Vec<(String, NotServed)>,
    /// Whether the namespace is being deleted.
    pub terminating: bool,
    /// Whether nothing may be written at the provider.
    pub observe_only: bool,
    /// Whether the binding or its connection is suspended.
    pub suspended: bool,
    /// Derives webhook secrets.
    pub key: ReceiverKey,
    /// What is wrong with the Secret of the install key: what is made while it lasts may be unknown after a restart.
    pub key_failure: Option<String>,
    /// The connection's own request for new secrets of all its bindings.
    pub rotation_of_connection: Option<String>,
    /// The connection's own request to end the previous secrets of all its bindings.
    pub revocation_of_connection: Option<String>,
}

impl Facts {
    /// The derived secret of one version.
    #[must_use]
    pub fn derive(&self, secret_version: &str) -> [u8; 32] {
        let (namespace, name) = (self.object.namespace().unwrap_or_default(), self.object.name_any());
        let connection = self.object.connection_target();
        let owner = ConnectedBinding { namespace: &namespace, name: &name, connection: (&connection.namespace, &connection.name) };
        self.key.webhook_secret(owner, secret_version)
    }

    /// What a probe depends on beside the spec.
    #[must_use]
    pub fn probe_inputs(&self) -> ProbeInputs {
        let user_secret = self.user_secret.as_ref().map(|secret| match secret {
            Ok(secret) => secret.version.clone(),
            Err(failure) => failure.message.clone(),
        });
        let receiver = custom_url(&self.object).is_none().then(|| self.identity.masked_receiver_url()).flatten();
        let known_without_grant = self.known_without_grant;
        ProbeInputs { usable: self.connection.may_be_usable(), observe_only: self.observe_only, user_secret, receiver, known_without_grant }
    }

    /// How the repository is out of reach, although it was asked for by a granted path: it was renamed or transferred, or the
    /// grant for its present path was withdrawn.
    #[must_use]
    pub fn out_of_reach(&self) -> Option<OutOfReach> {
        match &self.probe {
            Some(Probe { repository: RepositoryLookup::Found(_), .. }) => None,
            Some(Probe { repository: RepositoryLookup::OutOfReach(out_of_reach), .. }) => Some(*out_of_reach),
            _ => self.known_without_grant.then_some(OutOfReach::WithoutGrant),
        }
    }

    /// The secret with which an adopted hook is handed back to an address; `None` for an address at which nothing was adopted, to which
    /// somebody changed the hook at the provider: the secret would go there.
    #[must_use]
    pub fn secret_to_hand_back(&self, url: &HookUrl) -> Option<&WebhookSecret> {
        let adopted = self.object.status.as_ref().and_then(|status| status.webhook.as_ref()?.url.as_deref());
        let adopted = adopted.and_then(|url| Url::parse(url).ok());
        let is_at = |known: &Url| Url::parse(url.expose()).is_ok_and(|url| normal_form(&url) == normal_form(known));
        custom_url(&self.object).iter().chain(&adopted).any(is_at).then(|| self.brought_secret()).flatten()
    }

    /// The secret that the user brought and that hooks carry, adopted ones too; `None` where it cannot be read now.
    #[must_use]
    pub fn brought_secret(&self) -> Option<&WebhookSecret> {
        Some(&self.user_secret.as_ref()?.as_ref().ok()?.value)
    }
}

/// What was asked for by annotation and not yet done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// A probe.
    pub probe: bool,
    /// A new secret.
    pub rotate: bool,
    /// The end of the previous ones.
    pub revoke: bool,
}

/// The connection, as far as this binding may know.
#[expect(clippy::large_enum_variant, reason = "one at a time is made, and nearly always the large one")]
pub enum Connection {
    /// There is none of that name in the binding's own namespace.
    NotFound,
    /// It does not exist or does not allow this binding.
    NotPermitted,
    /// It was not examined yet.
    Pending,
    /// It does not work.
    NotReady(ConditionFailure),
    /// Its provider is out of reach for a while.
    Unreachable(ConditionFailure),
    /// The repository's text is none of this connection.
    Path(PathError),
    /// It works, and may be used.
    Ready {
        /// What is known of it.
        active_client: ActiveClient,
        /// The permit to use its client.
        permit: UsePermit,
        /// The repository that is meant.
        path: RepositoryPath,
        /// When it was inspected.
        inspected_at: Timestamp,
    },
}

impl Connection {
    /// Whether it works as far as is known: an outage is no reason to look at everything again.
    #[must_use]
    pub const fn may_be_usable(&self) -> bool {
        matches!(self, Self::Ready { .. } | Self::Pending | Self::Unreachable(_))
    }
}

/// What a probe of the repository found.
pub struct Probe {
    /// The repository.
    pub repository: RepositoryLookup,
    /// Whether the branch exists; `None` when none is asked for or there is nothing to look in.
    pub branch: Option<Result<bool, ProviderError>>,
    /// Its hooks; `None` when none are wanted.
    pub hooks: Option<Result<Vec<Hook>, ProviderError>>,
    /// Whether the credential may manage hooks.
    pub manage_webhooks: PermissionFinding,
    /// Ids of hooks that deliver to this installation's public URL and belong to none of its bindings, or that the status
    /// names and that are another installation's: nobody here removes them.
    pub orphaned_hooks: Vec<String>,
}

/// Reads everything; asks the provider only when a probe is due.
pub async fn observe(view: &View, object: Arc<RepoBinding>) -> Facts {
    let now = view.clock.now();
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let seal = Seal::new(&view.keys.controller, &namespace, &name);
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
    if facts.object.metadata.deletion_timestamp.is_none() && !facts.suspended && plan::due::probe_due(&facts) {
        facts.probe = probe(view, &facts).await;
        facts.siblings = conflicts::siblings(view, &facts);
    }
    for target in plan::cleanup::cleanup_targets(&facts) {
        let cleanup_target = cleanup_target::read(view, &facts, target).await;
        facts.targets.push(cleanup_target);
    }
    facts
}

/// Whether what the connection says of itself counts for the binding. Without a grant, nothing of a foreign connection may be told
/// by what becomes of the binding, unless a hook was made through it.
fn is_governed(object: &RepoBinding, granted: Option<bool>, seal: &Seal) -> bool {
    let target = object.connection_target();
    let is_own = object.metadata.namespace.as_ref() == Some(&target.namespace);
    granted == Some(true) || is_own || object.hook_targets().any(|held| held.connection == target && seal.is_on(held))
}

/// The public URL that the connection chooses. A connection that is not there chooses none.
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
    // A connection's request counts for the bindings that were there when it was made: a new one has a new secret anyhow.
    let webhook = object.status.as_ref().and_then(|status| status.webhook.as_ref());
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

/// Whether the connection refuses the path under which the repository was found last, although it grants the one in the spec.
fn known_without_grant(view: &View, object: &RepoBinding, connection: &GitProviderConnection) -> bool {
    let known = object.status.as_ref().and_then(|status| status.repository.as_ref());
    let same = |known: &&RepositoryStatus| match (&known.requested, gate::place_at(connection, &object.spec.repository)) {
        (Some(_), Some((api, Ok(path)))) => plan::is_as_requested(object, &api, &path, known),
        _ => false,
    };
    known.filter(same).is_some_and(|known| gate::permits(view, object, connection, Some(&known.path)) == Some(false))
}

/// The sealed targets of a binding that its connections no longer allow, judged by each target's own connection. A binding that is
/// deleted and leaves its hooks behind leaves none where it has no grant: nobody would be there to remove them later.
fn withdrawn(view: &View, object: &RepoBinding, seal: &Seal) -> Vec<HookTarget> {
    let is_withdrawn = |target: &&HookTarget| {
        let Some(connection) = view.connection(&target.connection).filter(|_| seal.is_on(target)) else { return false };
        let is_refused = is_refused_at(view, object, &connection, target);
        if object.metadata.deletion_timestamp.is_some() && orphans(object) {
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

/// Whether a connection refuses what a hook of the binding has at a target: the path under which it was made there, the one under
/// which that repository was found last, or the endpoint to which it delivers, whatever the spec names by now.
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

/// Judges the connection from what is in memory. A connection in another namespace that does not exist looks like one
/// that does not allow: names of others are not to be guessed. Grants are judged first, whether or not it works.
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
        // The spec changed since the inspection, so that the text meant another path then.
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
    let wants_hooks = object.spec.webhook.as_ref().is_some_and(|webhook| webhook.source == WebhookSource::Repository);
    // Only an unchanged path follows a rename; a new path in the spec means another repository.
    let known = object.status.as_ref().and_then(|status| status.repository.as_ref());
    // A status that somebody wrote leads nowhere: the id in it would be looked up with the connection's credential.
    let known =
        known.filter(|known| plan::is_as_requested(object, &active_client.endpoint.api, path, known) && facts.seal.is_on_repository(known));
    let repository = permit.find(view, object, known).await;
    let RepositoryLookup::Found(found) = &repository else {
        let manage_webhooks = PermissionFinding::granted();
        return Some(Probe { repository, branch: None, hooks: None, manage_webhooks, orphaned_hooks: Vec::new() });
    };
    let branch = match object.spec.branch_name() {
        Some(branch) if !found.empty && active_client.inspection.capabilities.api => Some(found.branch_exists(branch).await),
        _ => None,
    };
    let events = object.spec.webhook.iter().flat_map(|webhook| webhook.events.iter().copied()).collect();
    let manage_webhooks = worse(active_client.hook_permission(&events), found.manage_webhooks.clone());
    let may = manage_webhooks.state != PermissionState::Missing;
    let wanted = wants_hooks && may && plan::is_same_repository(object, &active_client.endpoint.api, path, found);
    let hooks = if wanted { Some(found.hooks().await) } else { None };
    let orphaned_hooks = match &hooks {
        Some(Ok(hooks)) => orphaned_hooks::orphaned_hooks(view, facts, hooks),
        _ => Vec::new(),
    };
    Some(Probe { repository, branch, hooks, manage_webhooks, orphaned_hooks })
}

/// A right needs the scope and the role: the worse of the two counts.
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

/// Whether the object is to leave its hooks where they are.
#[must_use]
pub fn orphans(object: &RepoBinding) -> bool {
    object.spec.deletion_policy == DeletionPolicy::Orphan
}
