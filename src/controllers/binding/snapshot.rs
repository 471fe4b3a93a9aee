//! Reads the cluster's objects and our memory of one binding. Calls no provider; failures are kept as data.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;
use url::Url;

use super::conflicts::{self, Claim};
use super::memory::{BindingMemory, ProbeInputs};
use super::ownership::{HookIdentity, host_of, normal_form};
use super::prepared::PreparedEntry;
use super::sink_secrets::{self, PreparedSinks};
use super::time::after;
use super::user_secret::{self, UserSecret};
use crate::api::v1alpha1::binding::HookTarget;
use crate::api::v1alpha1::{
    ConditionType, GitProviderConnection, ManagementPolicy, RECONCILE_REQUESTED_AT, REVOKE_REQUESTED_AT, ROTATE_REQUESTED_AT, Reason,
    RepoBinding,
};
use crate::controllers::gate::{ActiveClient, Grant, GrantDecision, Seal, UsePermit};
use crate::controllers::sessions::ConditionFailure;
use crate::controllers::{Settings, View, foreign_owner_message, requested};
use crate::network::public_urls::PublicUrlError;
use crate::protocol::keys::{ConnectedBinding, ReceiverKey};
use crate::protocol::secret::WebhookSecret;
use crate::protocol::sink_target::{self, NotServed};
use crate::providers::{HookUrl, PathError, RepositoryPath};

/// What is known of one binding before its provider is called.
pub struct Snapshot {
    pub object: Arc<RepoBinding>,
    pub now: Timestamp,
    pub fingerprint: String,
    pub settings: Settings,
    /// Public URL that the connection chooses, or why there is none.
    pub public_url: Result<Url, PublicUrlError>,
    pub identity: HookIdentity,
    /// Seals the targets of the binding's hooks.
    pub seal: Seal,
    pub connection: Connection,
    /// What the connections and their grants say about the binding and its hooks.
    pub grant: GrantDecision,
    pub memory: BindingMemory,
    /// The user's own webhook secret; `None` if the spec names none.
    pub user_secret: Option<Result<UserSecret, ConditionFailure>>,
    /// Claims of other bindings to the same URL.
    pub claims: Vec<Claim>,
    pub requests: Requests,
    /// What the sinks name in Secrets and `ConfigMap`s.
    pub prepared_sinks: PreparedSinks,
    /// What the receivers have of this binding.
    pub prepared_entry: PreparedEntry,
    /// Sinks that receive nothing, with the reason, by their spec and by what it names.
    pub unserved_sinks: Vec<(String, NotServed)>,
    pub terminating: bool,
    /// Whether writing at the provider is forbidden.
    pub observe_only: bool,
    /// Whether the binding or its connection is suspended.
    pub suspended: bool,
    pub key: ReceiverKey,
    /// Problem with the Secret of the install key: hooks made while it lasts may be unknown after a restart.
    pub key_failure: Option<String>,
    /// The connection's request to rotate the secrets of all its bindings.
    pub rotation_of_connection: Option<String>,
    /// The connection's request to revoke the previous secrets of all its bindings.
    pub revocation_of_connection: Option<String>,
}

impl Snapshot {
    pub async fn read(view: &View, object: Arc<RepoBinding>) -> Self {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let target = object.connection_target();
        let seal = Seal::of_binding(&view.keys.controller, &object);
        let known = view.connection(&target);
        let memory = view.memory.get(&object.uid().unwrap_or_default());
        let grant = GrantDecision::of(view, &object, known.as_deref(), &seal, &memory.ungranted);
        let governing = known.as_deref().filter(|_| is_governed(&object, &grant, &seal));
        let public_url = public_url(view, governing);
        // Before anything is read: what changes meanwhile is read again by the next reconciliation.
        let memory = view.memory.get(&object.uid().unwrap_or_default());
        let prepared_entry = view.prepared.of(&object.uid().unwrap_or_default());
        let prepared_sinks = sink_secrets::read(view, &object, &memory, grant.is_granted(), &prepared_entry).await;
        Self {
            now: view.clock.now(),
            fingerprint: view.keys.fingerprint.clone(),
            settings: view.settings.clone(),
            identity: HookIdentity::new(&view.keys, &view.settings, public_url.as_ref().ok(), (&namespace, &name), &target),
            public_url,
            connection: connection(view, &object, &grant),
            grant,
            seal,
            user_secret: user_secret::read(view, &object).await,
            memory,
            claims: conflicts::claims(view, &object),
            requests: requests(&object, governing),
            unserved_sinks: unserved_sinks(view, &object, &prepared_sinks),
            prepared_sinks,
            prepared_entry,
            terminating: view.is_terminating(&namespace),
            observe_only: observe_only(view, &object, governing),
            suspended: object.spec.suspend || governing.is_some_and(|connection| connection.spec.suspend),
            key: view.keys.receiver.clone(),
            key_failure: view.key_failure.get(),
            rotation_of_connection: annotation_of_connection(governing, ROTATE_REQUESTED_AT),
            revocation_of_connection: annotation_of_connection(governing, REVOKE_REQUESTED_AT),
            object,
        }
    }

    pub fn derive(&self, secret_version: &str) -> [u8; 32] {
        let (namespace, name) = (self.object.namespace().unwrap_or_default(), self.object.name_any());
        let connection = self.object.connection_target();
        let owner = ConnectedBinding::new(&namespace, &name, &connection);
        self.key.webhook_secret(owner, secret_version)
    }

    /// When the hooks at a target are removed, if no grant fits until then.
    pub fn removal_at(&self, target: &HookTarget) -> Timestamp {
        after(self.memory.ungranted.since(target).unwrap_or(self.now), self.settings.missing_grant_timeout)
    }

    /// Inputs of a probe beside the spec.
    pub fn probe_inputs(&self) -> ProbeInputs {
        let user_secret = self.user_secret.as_ref().map(|secret| match secret {
            Ok(secret) => secret.version.clone(),
            Err(failure) => failure.message.clone(),
        });
        let receiver = self.object.custom_url().is_none().then(|| self.identity.masked_receiver_url()).flatten();
        let known_without_grant = self.grant.refuses_known_path;
        ProbeInputs { usable: self.connection.may_be_usable(), observe_only: self.observe_only, user_secret, receiver, known_without_grant }
    }

    /// The secret with which an adopted hook is handed back to a URL. `None` for a URL at which no hook was adopted: somebody
    /// changed the hook at the provider, and the secret would be sent there.
    pub fn secret_to_hand_back(&self, url: &HookUrl) -> Option<&WebhookSecret> {
        let adopted = self.object.status.as_ref().and_then(|status| status.webhook.as_ref()?.url.as_deref());
        let adopted = adopted.and_then(|url| Url::parse(url).ok());
        let is_at = |known: &Url| Url::parse(url.expose()).is_ok_and(|url| normal_form(&url) == normal_form(known));
        self.object.custom_url().iter().chain(&adopted).any(is_at).then(|| self.brought_secret()).flatten()
    }

    /// The user's own secret that all hooks carry, including adopted ones; `None` if it cannot be read now.
    fn brought_secret(&self) -> Option<&WebhookSecret> {
        Some(&self.user_secret.as_ref()?.as_ref().ok()?.value)
    }

    /// The target according to the spec alone, for a binding whose status names none.
    pub fn target_of_spec(&self) -> HookTarget {
        let url = self.object.custom_url().or_else(|| self.public_url.as_ref().ok().cloned());
        HookTarget {
            connection: self.object.connection_target(),
            repository_id: String::new(),
            repository: self.object.spec.repository.clone(),
            host: url.as_ref().map(host_of).unwrap_or_default(),
            seal: None,
        }
    }
}

/// Requests by annotation that were not handled yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub probe: bool,
    pub rotate: bool,
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
    NotReady(ConditionFailure),
    /// The provider of the connection is temporarily out of reach.
    Unreachable(ConditionFailure),
    /// The spec's text is not a repository path of this connection.
    Path(PathError),
    Ready {
        active_client: ActiveClient,
        permit: UsePermit,
        path: RepositoryPath,
        inspected_at: Timestamp,
    },
}

impl Connection {
    /// Whether the connection works as far as is known. An outage counts as usable, so that its end does not cause a new probe of
    /// everything.
    pub const fn may_be_usable(&self) -> bool {
        matches!(self, Self::Ready { .. } | Self::Pending | Self::Unreachable(_))
    }
}

/// Whether the connection's own settings count for the binding. Without a grant, the binding's behavior must not reveal anything
/// about a foreign connection, unless a hook was made through it.
fn is_governed(object: &RepoBinding, grant: &GrantDecision, seal: &Seal) -> bool {
    let target = object.connection_target();
    let is_own = object.metadata.namespace.as_ref() == Some(&target.namespace);
    grant.is_granted() || is_own || object.hook_targets().any(|held| held.connection == target && seal.is_on(held))
}

/// The public URL that the connection chooses. Without a connection, the default is used.
fn public_url(view: &View, connection: Option<&GitProviderConnection>) -> Result<Url, PublicUrlError> {
    let choice = connection.and_then(|connection| connection.spec.public_url_name());
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

/// Judges the connection from memory, without a call. A missing connection in another namespace gets the same answer as one that
/// does not allow the binding, so that names cannot be guessed. Grants are judged first, whether or not the connection works.
fn connection(view: &View, object: &RepoBinding, grant: &GrantDecision) -> Connection {
    let target = object.connection_target();
    let own = object.namespace().as_deref() == Some(target.namespace.as_str());
    let Some(connection) = view.connection(&target) else {
        return if own { Connection::NotFound } else { Connection::NotPermitted };
    };
    match grant.spec {
        Grant::Granted => {}
        Grant::Refused { .. } => return Connection::NotPermitted,
        Grant::Undecided => return Connection::Pending,
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

fn unserved_sinks(view: &View, object: &RepoBinding, prepared: &PreparedSinks) -> Vec<(String, NotServed)> {
    let unprepared = |name: &String| prepared.failures.iter().find(|(sink, _)| sink == name).map(|(_, refusal)| refusal.clone());
    let judged = object.spec.sinks.iter().map(|sink| {
        let refusal = sink_target::served(sink, &view.network).err();
        (sink.name.clone(), refusal.or_else(|| unprepared(&sink.name)))
    });
    judged.filter_map(|(name, refusal)| Some((name, refusal?))).collect()
}
