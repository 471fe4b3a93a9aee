//! The status of a `RepoBinding`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{KubeSchema, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connection::GitProviderConnection;
use super::deliveries::RecentDelivery;
use super::shared::{EventKind, LastHandled};

/// Observed state of the binding. Written only by Forgebind.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepoBindingStatus {
    /// Generation of the spec that this status describes. While it differs from `metadata.generation`, Forgebind has not
    /// processed the current spec yet; -1 means that it has not processed the object at all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::shared::observed")]
    pub observed_generation: Option<i64>,
    /// Conditions of the binding. Ready summarizes the others. `ConnectionReady`, `RepositoryFound`, `WebhookInSync`,
    /// Receiving and Delivering are present as far as they apply. `CleanupBlocked`, Reconciling and Stalled are present
    /// only while they are True. Each message says what to do next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Repository as the provider reports it. Absent until the repository has been found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryStatus>,
    /// Webhook as it is at the provider. Absent until one has been created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookStatus>,
    /// Changes that Forgebind would make at the provider if `managementPolicy` allowed them. Empty unless Forgebind only
    /// observes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlannedAction>,
    /// State of each sink, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Vec<SinkStatus>,
    /// Last deliveries, newest first, at most 10: when they arrived, what they were about, and what became of them. Those that
    /// were turned away for the same reason are one entry with a count, and at most 3 entries are such. Updated at most once a
    /// minute. Everyone who can read this object can read the names of branches and tags in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub recent_deliveries: Vec<RecentDelivery>,
    /// Time up to which every sink has accepted every delivery. Updated at most once a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_until: Option<Time>,
    /// Fingerprint of the install key of the installation that manages this object, 8 hexadecimal digits. Other
    /// installations do not touch the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<String>,
    /// Values of the request annotations that were handled last. A request whose value is listed here is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled: Option<LastHandled>,
}

/// Visibility of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Visible to everyone.
    Public,
    /// Visible to everyone who is signed in.
    Internal,
    /// Visible to those who were given access.
    Private,
}

/// Repository as the provider reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    /// Id of the repository at the provider. A rename does not change it.
    pub id: String,
    /// Canonical path of the repository at the provider.
    pub path: String,
    /// URL of the repository for browsers.
    #[serde(default, rename = "webURL", skip_serializing_if = "Option::is_none")]
    pub web_url: Option<String>,
    /// URL for cloning over https.
    #[serde(default, rename = "cloneURL", skip_serializing_if = "Option::is_none")]
    pub clone_url: Option<String>,
    /// URL for cloning over ssh.
    #[serde(default, rename = "sshURL", skip_serializing_if = "Option::is_none")]
    pub ssh_url: Option<String>,
    /// Default branch. Absent while the repository is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<String>,
    /// Visibility of the repository: public (everyone), internal (everyone who is signed in) or private (those who were
    /// given access). Absent if the provider does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Visibility")]
    pub visibility: Option<Visibility>,
    /// Whether the repository is archived, and therefore read-only at the provider.
    #[serde(default)]
    pub archived: bool,
    /// Whether the repository has no commit yet.
    #[serde(default)]
    pub empty: bool,
    /// What the spec named when the repository was found. While the spec still names the same, another repository at that
    /// path is a replacement; otherwise the binding has moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<RequestedRepository>,
}

/// Repository that a spec named: the connection, its server and the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestedRepository {
    /// Connection that the spec named.
    pub connection: ConnectionTarget,
    /// URL of the API to which that connection led. A connection that is created again under the same name may lead to
    /// another server, where the id means another repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// Path of the repository in the provider's form, whichever form the spec used.
    pub path: String,
    /// Proof that this installation found the repository while the connection allowed it. Without it, Forgebind does not
    /// look up the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
}

/// Webhook as it is at the provider.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookStatus {
    /// URL to which the provider delivers. Its unguessable part is masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Webhooks at the provider, by id. There are several where the provider needs one for each event, and for a short time
    /// while a secret is replaced or the binding moves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub hooks: Vec<HookStatus>,
    /// Version of the webhook's secret. For a derived secret, the time at which it was made in seconds since 1970; for a
    /// secret of your own, a fingerprint that does not reveal it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_version: Option<String>,
    /// Time at which the secret last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_changed_at: Option<Time>,
    /// Earlier secrets that are still accepted for deliveries in flight, by version, at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["version".into()]))]
    pub previous_secrets: Vec<PreviousSecret>,
    /// Other locations with webhooks, at most 8: those used before a move that are not yet confirmed to be gone, and those
    /// where a webhook is about to be created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub former_targets: Vec<HookTarget>,
    /// Location of the current webhooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<HookTarget>,
}

/// Location at a provider where webhooks were created.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookTarget {
    /// Connection through which the webhooks were created.
    pub connection: ConnectionTarget,
    /// Id of the repository at the provider.
    #[serde(rename = "repositoryID")]
    pub repository_id: String,
    /// Canonical path of the repository.
    pub repository: String,
    /// Host to which the webhooks deliver.
    pub host: String,
    /// Proof that Forgebind recorded this location itself. At a location without it, Forgebind searches for nothing and
    /// removes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
}

/// Connection, by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionTarget {
    /// Namespace of the connection.
    pub namespace: String,
    /// Name of the connection.
    pub name: String,
}

impl ConnectionTarget {
    /// The namespace and name of a connection.
    #[must_use]
    pub fn of(connection: &GitProviderConnection) -> Self {
        Self { namespace: connection.namespace().unwrap_or_default(), name: connection.name_any() }
    }
}

/// Webhook at the provider.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// Id of the webhook at the provider.
    pub id: String,
    /// Events that this webhook delivers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventKind>,
    /// Whether the webhook was adopted. It is handed back when the binding is deleted.
    #[serde(default)]
    pub adopted: bool,
}

/// Earlier secret that is still accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousSecret {
    /// Version of the secret, as it was in `secretVersion`. An asterisk means every earlier version that Forgebind derived,
    /// after the status was lost.
    pub version: String,
    /// Time until which the secret is accepted. Absent while a webhook may still use the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
}

/// Change that Forgebind would make at the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedAction {
    /// Change that would be made: `CreateHook`, `AdoptHook`, `UpdateHook`, `DeleteHook` or `ReleaseHook`.
    pub action: String,
    /// Repository or webhook that would be changed.
    pub target: String,
    /// Why the change would be made.
    pub reason: String,
}

/// State of a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkStatus {
    /// Name of the sink, as in `spec.sinks`.
    pub name: String,
    /// Whether the sink accepts events. Accepting: it does. Retrying: it did not accept some, which are sent again. Down: it
    /// accepts none.
    #[serde(default)]
    pub state: SinkState,
    /// Why the sink did not accept an event at the last attempt. Absent while the sink works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Since when the sink has accepted nothing. Absent unless `state` is Down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_since: Option<Time>,
    /// Number of pending events: the sink has not accepted them yet, and they are sent again from the outbox.
    #[serde(default)]
    pub pending: u64,
    /// Number of events that are no longer attempted. `forgebind.dev/redeliver-requested-at` sends them again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dead_letters: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Whether a sink accepts events. Ordered from good to bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SinkState {
    /// It accepts events.
    #[default]
    Accepting,
    /// It did not accept some events, which are sent again.
    Retrying,
    /// It accepts no event.
    Down,
}
