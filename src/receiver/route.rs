//! A route: the facts about a binding that deliveries are checked against, and the secrets they may be verified with.
//! Immutable; a change creates a new route with the same rate limiter.

mod secrets;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::filter::Filter;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget, WebhookSpec};
use crate::api::v1alpha1::connection::ProviderSpec;
use crate::api::v1alpha1::{ConditionType, EventKind, GitProviderConnection, ProviderKind, REDELIVER_REQUESTED_AT, Reason, RepoBinding};
use crate::protocol::grant::{Changed, Grants, Request, Rules};
use crate::protocol::keys::{ConnectedBinding, ReceiverKey};
use crate::protocol::secret::WebhookSecret;
use crate::protocol::sink_target::{self, NotServed, SinkTarget};
use crate::providers::model::{Endpoint, RepositoryPath};
use crate::providers::webhook::Content;
use crate::providers::{Provider, Webhook};

/// Limit of the failed proofs of one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureLimit {
    /// Sustained failures per second.
    pub per_second: NonZeroU32,
    /// Failures at once.
    pub at_once: NonZeroU32,
}

/// The facts about a binding, read from the object.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct RouteConfig {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// The hook id: the unguessable part of the path.
    pub(super) hook: String,
    /// Whether deliveries are accepted.
    access: RouteAccess,
    pub(super) connection: ConnectionTarget,
    pub(super) events: BTreeSet<EventKind>,
    pub(super) sinks: Arc<[Sink]>,
    /// The request to send dead letters again, unless it is carried out.
    pub(super) redelivery: Option<String>,
    repository: String,
    /// The repository that the controller found; `None` before that.
    known: Option<Known>,
    /// Whether the status describes an older spec, so that it may contain the former repository.
    behind: bool,
    own_secret: bool,
    /// Whether the status tells of a webhook, which the controller removes only after a missing grant counts as withdrawn.
    has_webhook: bool,
    secret_version: Option<String>,
    previous: Vec<(String, Option<Timestamp>)>,
    changed_at: Option<Timestamp>,
    /// The same binding through each other connection with which it still has hooks: after a move, until these hooks are
    /// deleted.
    pub(super) former: Vec<Arc<Self>>,
    /// Whether it has hooks through several connections, which report the same events.
    moved: bool,
}

/// The repository that the controller found for a binding.
#[derive(Clone, Debug)]
struct Known {
    id: String,
    path: String,
}

/// One sink of a binding.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    pub(super) name: String,
    pub(super) target: Result<SinkTarget, NotServed>,
    pub(super) filter: Filter,
}

/// The facts about a connection.
pub(super) struct Connection {
    spec: ProviderSpec,
    name: String,
    labels: Option<BTreeMap<String, String>>,
    /// Who may use it.
    rules: Rules,
    provider: Option<&'static dyn Provider>,
    endpoint: Option<Endpoint>,
}

/// The user's own secrets, by secret version.
pub(super) type UserSecrets = Arc<Vec<(String, WebhookSecret)>>;

/// The state that is kept when a route is rebuilt.
struct RouteState {
    failures: DefaultDirectRateLimiter,
    /// Until when no proof is computed, because too many failed.
    closed_until: Mutex<Option<Instant>>,
    /// The newest derived secret version that verified a delivery. If it is newer than the one in the status, there is a second
    /// hook.
    newest: AtomicI64,
}

/// The route of one binding.
pub(super) struct Route {
    pub(super) config: Arc<RouteConfig>,
    connection: Option<Arc<Connection>>,
    user_secrets: Option<UserSecrets>,
    path: Option<RepositoryPath>,
    is_refused: bool,
    state: Arc<RouteState>,
}

/// The secrets for deliveries to one URL.
pub(super) enum SecretChoice {
    /// Any of these secrets may prove a delivery.
    Any(Vec<WebhookSecret>),
    /// No secret is valid, or none ever was.
    Refused,
    /// The secret may become known soon: our data may be outdated.
    Unknown,
}

/// Whether a binding accepts deliveries, according to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RouteAccess {
    /// It accepts them.
    Open,
    /// The connection does not allow the binding or does not exist, or the repository was moved out of scope.
    WithoutGrant,
    /// The binding has no webhook here, or belongs to another installation.
    Closed,
}

/// Whether a delivery belongs to the binding's repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RepositoryMatch {
    /// It belongs to the binding's repository.
    Ours,
    /// It belongs to another repository.
    Foreign,
    /// It belongs to the binding's repository, which was renamed or moved to where the connection does not let the binding
    /// follow.
    Departed,
    /// Cannot be decided yet.
    Unknown,
}

impl RouteConfig {
    /// Reads the facts from a binding. `None` if its metadata is incomplete.
    pub(super) fn read(
        binding: &RepoBinding,
        key: &ReceiverKey,
        installation: Option<&str>,
        policy: &crate::network::NetworkPolicy,
    ) -> Option<Self> {
        let uid = binding.metadata.uid.clone()?;
        let namespace = binding.metadata.namespace.clone()?;
        let name = binding.metadata.name.clone()?;
        let status = binding.status.as_ref();
        let webhook = binding.spec.webhook.as_ref();
        let secret = status.and_then(|status| status.webhook.as_ref());
        let connection = binding.connection_target();
        // After a move to another connection, the status still contains the repository of the former connection, which says
        // nothing about the present one.
        let repository = status.and_then(|status| status.repository.as_ref());
        let repository = repository.filter(|known| known.requested.as_ref().is_none_or(|requested| requested.connection == connection));
        let sinks = binding.spec.sinks.iter().map(|sink| Sink {
            name: sink.name.clone(),
            target: sink_target::target(&namespace, sink, policy),
            filter: Filter::new(sink, binding.spec.branch_name()),
        });
        let present = Self {
            hook: key.hook_id(ConnectedBinding::new(&namespace, &name, &connection)),
            access: RouteAccess::of(binding, installation),
            connection,
            events: webhook.map(|webhook| webhook.events.iter().copied().collect()).unwrap_or_default(),
            sinks: sinks.collect::<Vec<_>>().into(),
            redelivery: redelivery(binding),
            repository: binding.spec.repository.clone(),
            known: repository.map(|known| Known { id: known.id.clone(), path: known.path.clone() }),
            behind: status.and_then(|status| status.observed_generation) != binding.metadata.generation,
            has_webhook: secret.is_some(),
            own_secret: webhook.is_some_and(|webhook| webhook.secret_ref.is_some()),
            secret_version: secret.and_then(|secret| secret.secret_version.clone()),
            previous: secret
                .map(|secret| secret.previous_secrets.iter())
                .into_iter()
                .flatten()
                .map(|previous| (previous.version.clone(), previous.valid_until.as_ref().map(|until| until.0)))
                .collect(),
            changed_at: secret.and_then(|secret| secret.secret_changed_at.as_ref()).map(|at| at.0),
            former: Vec::new(),
            moved: false,
            uid,
            namespace,
            name,
        };
        let mut former: Vec<Arc<Self>> = Vec::new();
        for place in binding.hook_targets().filter(|place| place.connection != present.connection) {
            if former.iter().all(|known| known.connection != place.connection) {
                former.push(Arc::new(present.at(place, key)));
            }
        }
        Some(Self { moved: !former.is_empty(), former, ..present })
    }

    /// The facts for the hooks at a former target. Forging a target in the status gains nothing: the connection's own rules
    /// apply, and the hooks' URLs and secrets belong to that connection alone.
    fn at(&self, place: &HookTarget, key: &ReceiverKey) -> Self {
        Self {
            hook: key.hook_id(ConnectedBinding::new(&self.namespace, &self.name, &place.connection)),
            connection: place.connection.clone(),
            repository: place.repository.clone(),
            known: Some(Known { id: place.repository_id.clone(), path: place.repository.clone() }),
            behind: false,
            former: Vec::new(),
            moved: true,
            ..self.clone()
        }
    }

    /// Keeps the known repository when the status was lost and names none, until another repository is found.
    pub(super) fn after(mut self, before: &Self) -> Self {
        if self.connection == before.connection {
            self.known = self.known.or_else(|| before.known.clone());
        }
        self
    }

    /// Whether changes of a connection affect a route of the binding.
    pub(super) fn is_about(&self, connection: &ConnectionTarget) -> bool {
        self.connection == *connection || self.former.iter().any(|former| former.connection == *connection)
    }

    /// Identifies the binding and its connection for the derivation of keys.
    fn owner(&self) -> ConnectedBinding<'_> {
        ConnectedBinding::new(&self.namespace, &self.name, &self.connection)
    }
}

/// The value of the annotation that asks to send dead letters again, unless the controller has recorded it as carried out.
fn redelivery(binding: &RepoBinding) -> Option<String> {
    let asked = binding.metadata.annotations.as_ref()?.get(REDELIVER_REQUESTED_AT)?;
    let handled = binding.status.as_ref().and_then(|status| status.last_handled.as_ref()?.redeliver.as_ref());
    (handled != Some(asked)).then(|| asked.clone())
}

impl RouteAccess {
    fn of(binding: &RepoBinding, installation: Option<&str>) -> Self {
        let here = |webhook: &WebhookSpec| webhook.url.is_none();
        let status = binding.status.as_ref();
        let theirs = status.and_then(|status| status.installation.as_deref());
        let foreign = matches!((installation, theirs), (Some(ours), Some(theirs)) if ours != theirs);
        if foreign || !binding.spec.webhook.as_ref().is_some_and(here) {
            return Self::Closed;
        }
        let says = |condition: &Condition, kind: ConditionType, reason: Reason| {
            condition.type_ == kind.as_str() && condition.status == "False" && condition.reason == reason.as_str()
        };
        let withdrawn = status.iter().flat_map(|status| &status.conditions).any(|condition| {
            says(condition, ConditionType::ConnectionReady, Reason::RefNotPermitted)
                || says(condition, ConditionType::RepositoryFound, Reason::RepositoryMovedOutOfScope)
        });
        if withdrawn { Self::WithoutGrant } else { Self::Open }
    }
}

impl Connection {
    pub(super) fn new(connection: &GitProviderConnection, provider: Option<&'static dyn Provider>, grants: &Grants) -> Self {
        let spec = connection.spec.provider.clone();
        let endpoint = provider.and_then(|provider| provider.endpoint(&spec).ok());
        let (name, labels) = (connection.metadata.name.clone().unwrap_or_default(), connection.metadata.labels.clone());
        Self { spec, name, labels, rules: grants.of(connection), provider, endpoint }
    }

    /// Whether nothing that affects a route differs.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.spec == other.spec && self.labels == other.labels && self.rules.are(&other.rules)
    }

    /// Whether a changed grant is or was about it.
    pub(super) fn is_affected(&self, changed: &Changed) -> bool {
        changed.rules().any(|rule| rule.namespace == self.rules.namespace && rule.is_about(&self.name, self.labels.as_ref()))
    }

    /// The same connection with the present grants.
    pub(super) fn with_rules(&self, grants: &Grants) -> Self {
        Self {
            spec: self.spec.clone(),
            name: self.name.clone(),
            labels: self.labels.clone(),
            rules: grants.rules(&self.rules.namespace, &self.name, self.labels.as_ref(), self.rules.access),
            provider: self.provider,
            endpoint: self.endpoint.clone(),
        }
    }

    /// Whether it permits a path to a namespace; `None` if that cannot be decided. The labels of namespaces are not known here.
    fn permits(&self, namespace: &str, repository: Option<&str>) -> Option<bool> {
        self.rules.permit(Request { namespace, namespace_labels: None, repository, destination: None })
    }

    /// Whether its rules certainly refuse a path to a namespace.
    fn refuses(&self, namespace: &str, repository: Option<&str>) -> bool {
        self.permits(namespace, repository) == Some(false)
    }

    /// Whether its rules are known as far as a namespace needs them. Without the grants, a path that needs one is not confirmed.
    fn knows_rules_for(&self, namespace: &str) -> bool {
        self.rules.grants.is_some() || self.permits(namespace, None) == Some(true)
    }
}

/// Whether the connection's own rules refuse the repository that the binding requests or the one that was found. Decided from the
/// object itself, so that a withdrawn grant ends even if no controller is running to report it. Once for each route, because the
/// patterns of the grants are compared.
fn is_refused(config: &RouteConfig, connection: Option<&Connection>, path: Option<&RepositoryPath>) -> bool {
    let Some(connection) = connection else { return false };
    let asked = match (path, &connection.endpoint) {
        (Some(path), _) => Some(path.as_str()),
        (None, Some(_)) => Some(config.repository.as_str()),
        (None, None) => None,
    };
    let refuses = |path: Option<&str>| connection.refuses(&config.namespace, path);
    refuses(asked) || config.known.as_ref().is_some_and(|known| refuses(Some(&known.path)))
}

impl Route {
    pub(super) fn new(
        route_config: Arc<RouteConfig>,
        connection: Option<Arc<Connection>>,
        user_secrets: Option<UserSecrets>,
        limit: FailureLimit,
    ) -> Self {
        let quota = Quota::per_second(limit.per_second).allow_burst(limit.at_once);
        let state = RouteState { failures: RateLimiter::direct(quota), closed_until: Mutex::new(None), newest: AtomicI64::new(0) };
        Self::build(route_config, connection, user_secrets, Arc::new(state))
    }

    fn build(
        route_config: Arc<RouteConfig>,
        connection: Option<Arc<Connection>>,
        user_secrets: Option<UserSecrets>,
        state: Arc<RouteState>,
    ) -> Self {
        let path = connection.as_ref().and_then(|connection| {
            let (provider, endpoint) = (connection.provider?, connection.endpoint.as_ref()?);
            provider.repository_path(endpoint, &route_config.repository).ok()
        });
        let is_refused = is_refused(&route_config, connection.as_deref(), path.as_ref());
        Self { config: route_config, connection, user_secrets, path, is_refused, state }
    }

    /// Rebuilds the route with new facts and the same state.
    pub(super) fn with(
        &self,
        route_config: Arc<RouteConfig>,
        connection: Option<Arc<Connection>>,
        user_secrets: Option<UserSecrets>,
    ) -> Self {
        Self::build(route_config, connection, user_secrets, self.state.clone())
    }

    /// Whether a delivery's path is one where the binding may not follow.
    fn is_out_of_reach(&self, found: &str) -> bool {
        let Some(connection) = &self.connection else { return false };
        let scope = connection.endpoint.as_ref().and_then(|endpoint| endpoint.scope.as_ref());
        connection.refuses(&self.config.namespace, Some(found)) || scope.is_some_and(|scope| !scope.covers(found))
    }

    /// Whether deliveries are accepted. The status of a binding is the same for a missing connection and for one that does not
    /// allow it. Only the latter closes the route, because a missing connection may be restored soon.
    pub(super) fn is_open(&self) -> bool {
        match self.config.access {
            RouteAccess::Open => !self.is_refused,
            RouteAccess::WithoutGrant => self.connection.is_none(),
            RouteAccess::Closed => false,
        }
    }

    /// The routes of the same binding through the other connections with which it still has hooks.
    pub(super) fn former(&self, connections: &HashMap<ConnectionTarget, Arc<Connection>>) -> Vec<Self> {
        let route = |route_config: &Arc<RouteConfig>| {
            let connection = connections.get(&route_config.connection).cloned();
            Self::build(Arc::clone(route_config), connection, self.user_secrets.clone(), Arc::clone(&self.state))
        };
        self.config.former.iter().map(route).collect()
    }

    /// Whether received events may be sent to the sinks. While the connection is missing or the grants are not listed, its grant
    /// cannot be confirmed.
    pub(super) fn may_send(&self) -> bool {
        let is_known = |connection: &Arc<Connection>| connection.knows_rules_for(&self.config.namespace);
        self.connection.as_ref().is_some_and(is_known) && self.may_have_events()
    }

    /// Whether nothing forbids to send its events, as far as is known.
    pub(super) fn may_have_events(&self) -> bool {
        self.config.access == RouteAccess::Open && !self.is_refused
    }

    /// The webhook implementation for its deliveries; `None` while the connection is unknown or its provider is not enabled.
    pub(super) fn webhook(&self) -> Option<(ProviderKind, &'static dyn Webhook)> {
        let provider = self.connection.as_ref()?.provider?;
        Some((provider.kind(), provider.webhook()))
    }

    /// Whether so many proofs failed that none is computed for a moment. Deliveries that verify are not limited.
    pub(super) fn has_too_many_failures(&self) -> bool {
        self.state.closed_until.lock().is_some_and(|until| Instant::now() < until)
    }

    /// Counts a failed proof.
    pub(super) fn count_failure(&self) {
        if let Err(exceeded) = self.state.failures.check() {
            let now = DefaultClock::default().now();
            *self.state.closed_until.lock() = Some(Instant::now() + exceeded.wait_time_from(now));
        }
    }

    /// Whether a verified delivery belongs to the binding. A repository belongs to the binding only once the controller has
    /// found it with the connection's credential. A matching path in the spec is not enough: a hook may remain from a time when
    /// a connection granted that path to a binding of this name, and the spec may name any connection.
    pub(super) fn owns(&self, content: &Content) -> RepositoryMatch {
        let fits = |found: &str| self.path.as_ref().map(|path| path.same_as(found));
        let is_silent = content.repository_id.is_none() && content.repository_path.is_none() && content.events.is_empty();
        let Some(known) = &self.config.known else {
            return match (&content.repository_id, &content.repository_path) {
                (None, None) if is_silent => RepositoryMatch::Ours,
                (None, None) => RepositoryMatch::Foreign,
                (_, Some(path)) if fits(path) == Some(false) => RepositoryMatch::Foreign,
                // A ping is sent to no sink. It arrives as soon as the first hook is created, possibly before the status is
                // written.
                _ if content.ping => RepositoryMatch::Ours,
                _ => RepositoryMatch::Unknown,
            };
        };
        let is_known = content.repository_id.as_ref() == Some(&known.id);
        if is_known && content.repository_path.as_deref().is_some_and(|found| self.is_out_of_reach(found)) {
            return RepositoryMatch::Departed;
        }
        let is_asked_for = || content.repository_path.as_deref().and_then(fits).unwrap_or(false);
        match (&content.repository_id, &content.repository_path) {
            (None, None) if is_silent => RepositoryMatch::Ours,
            (Some(_), _) if is_known => RepositoryMatch::Ours,
            (None, Some(path)) if known.path.to_lowercase() == path.to_lowercase() => RepositoryMatch::Ours,
            (None, Some(_)) if !self.config.behind && is_asked_for() => RepositoryMatch::Ours,
            (Some(_), _) | (None, Some(_)) if self.config.behind && is_asked_for() => RepositoryMatch::Unknown,
            _ => RepositoryMatch::Foreign,
        }
    }

    /// The id of the repository that the controller found.
    pub(super) fn repository_id(&self) -> Option<&str> {
        self.config.known.as_ref().map(|known| known.id.as_str())
    }

    /// Whether events that were received for it will never be sent: it has no webhook here any more, or the grant was withdrawn. A
    /// missing grant may come back as long as the controller leaves the webhook; until then the events are pending.
    pub(super) fn is_over(&self) -> bool {
        self.config.access == RouteAccess::Closed || (self.is_refused && !self.config.has_webhook)
    }

    /// The source of this repository's events: its path at the connection's own web address. An address that an answer of the
    /// provider contained could be one of another host.
    pub(super) fn source(&self) -> String {
        let known = self.config.known.as_ref().map(|known| known.path.as_str());
        let path = known.or(self.path.as_ref().map(RepositoryPath::as_str)).unwrap_or(&self.config.repository);
        match self.connection.as_ref().and_then(|connection| connection.endpoint.as_ref()) {
            Some(endpoint) => {
                let mut url = endpoint.web.clone();
                if let Ok(mut segments) = url.path_segments_mut() {
                    segments.pop_if_empty().extend(path.split('/'));
                }
                url.into()
            }
            None => path.to_owned(),
        }
    }
}
