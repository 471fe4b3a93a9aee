//! `RepoBinding`: one repository reached through one connection.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connection::Address;
use super::shared::{
    CertificateAuthorityReference, DeletionPolicy, EventKind, Interval, LastHandled, LocalReference, ManagementPolicy, is_false,
};

/// In `status.webhook.previousSecrets`: every derived generation before the present one. Said when hooks are found although the
/// status tells of none, because which ones are in their grace is lost with it.
pub const ANY_EARLIER_GENERATION: &str = "*";

/// One repository, reached through a [`GitProviderConnection`](super::GitProviderConnection).
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "forgebind.dev",
    version = "v1alpha1",
    kind = "RepoBinding",
    plural = "repobindings",
    shortname = "repob",
    category = "forgebind",
    namespaced,
    status = "RepoBindingStatus",
    derive = "PartialEq",
    doc = "One repository reached through a connection: its webhook, its deliveries, and where they go.",
    annotation("kustomize.toolkit.fluxcd.io/substitute", "disabled"),
    selectable = ".spec.connectionRef.name",
    selectable = ".spec.connectionRef.namespace",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Repository", type_ = "string", json_path = ".spec.repository"),
    printcolumn(name = "Connection", type_ = "string", json_path = ".spec.connectionRef.name"),
    printcolumn(name = "Last Delivery", type_ = "date", json_path = ".status.webhook.lastDelivery.at"),
    printcolumn(name = "Hook", type_ = "string", json_path = ".status.webhook.hooks[*].id", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.sinks) || self.sinks.size() == 0 || (has(self.webhook) && !has(self.webhook.url))")
        .message("sinks need webhook without url: deliveries to another url never reach them"),
    validation = Rule::new("!has(self.sinks) || !has(self.webhook) || self.sinks.all(s, !has(s.events) || s.events.all(e, e in self.webhook.events))")
        .message("a sink can only ask for events that webhook.events lists"),
)]
pub struct RepoBindingSpec {
    /// The connection through which the repository is reached.
    pub connection_ref: ConnectionReference,
    /// The repository: its path in the provider's own form, or its https or ssh clone URL.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("!self.matches('^[A-Za-z][A-Za-z0-9+.-]*://[^/@]*:[^/@]*@')")
        .message("repository must not hold a password; the connection's Secret is the place for it"))]
    pub repository: String,
    /// A branch that must exist when the repository is not empty. Also the default filter of the sinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub branch: Option<String>,
    /// The webhook. Absent: access is checked, no hook is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSpec>,
    /// What to do with verified deliveries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Vec<SinkSpec>,
    /// What becomes of the webhook when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Whether Forgebind may write at the provider.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
    /// How often the hook is looked at when nothing changes.
    #[serde(default = "default_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s')").message("interval must be at least 10s"))]
    pub interval: Interval,
    /// Stop writing at the provider. Deliveries are still accepted and deletion still cleans up.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

fn default_interval() -> Interval {
    // The text is a constant that a unit test parses.
    "1h".parse().unwrap_or_else(|_| unreachable!())
}

/// A connection in this or another namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ConnectionReference {
    /// Name of the connection.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the connection; the binding's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// Whose webhook delivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WebhookSource {
    /// A hook of the repository's own.
    #[default]
    Repository,
    /// The GitHub App's own webhook.
    App,
}

/// The webhook of a binding.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.url) || has(self.secretRef)")
        .message("webhook.url needs webhook.secretRef: the owner of that endpoint must know the secret"),
    validation = Rule::new("!has(self.adopt) || !self.adopt || has(self.url)").message("webhook.adopt needs webhook.url"),
    validation = Rule::new("!has(self.rotationInterval) || !has(self.secretRef)")
        .message("webhook.rotationInterval excludes webhook.secretRef: a secret of your own is rotated by changing it"),
    validation = Rule::new("!has(self.source) || self.source != 'App' || !(has(self.url) || has(self.secretRef) || has(self.rotationInterval))")
        .message("webhook.source App excludes url, secretRef and rotationInterval: the App's own webhook has one of each"),
)]
pub struct WebhookSpec {
    /// The events to be told of.
    #[serde(default = "default_events")]
    #[schemars(length(min = 1, max = 6))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub events: Vec<EventKind>,
    /// Whose webhook delivers.
    #[serde(default)]
    pub source: WebhookSource,
    /// Deliver to somebody else's endpoint instead of Forgebind's receiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// A Secret of the same namespace with the webhook's secret under `secret` or `token`, at least 16 bytes. Absent: Forgebind makes and
    /// rotates one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
    /// How often the secret is rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10m')").message("rotationInterval must be at least 10m"))]
    pub rotation_interval: Option<Interval>,
    /// Take over a hook of somebody else with the same `url`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub adopt: bool,
}

fn default_events() -> Vec<EventKind> {
    vec![EventKind::Push, EventKind::Tag, EventKind::PullRequest]
}

/// The form in which a delivery is handed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SinkFormat {
    /// `CloudEvents` 1.0, binary mode.
    #[default]
    CloudEvents,
    /// The provider's own headers and body.
    Passthrough,
}

/// What to do with verified deliveries. Exactly one of service, http, refresh and nats.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.service), has(self.http), has(self.refresh), has(self.nats)].filter(m, m).size() == 1")
    .message("a sink needs exactly one of service, http, refresh and nats"))]
pub struct SinkSpec {
    /// Name of the sink, unique in the binding.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A Service of the binding's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSink>,
    /// An https address on a host that the installation allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSink>,
    /// A Flux or Argo CD object to refresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<RefreshSink>,
    /// A NATS `JetStream` subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsSink>,
    /// The form; `CloudEvents` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<SinkFormat>,
    /// Which events; all of `webhook.events` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 6))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub events: Option<Vec<EventKind>>,
    /// Which branches, `*` matching within a segment and `**` across; `spec.branch` when absent, else all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 255)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub branches: Option<Vec<String>>,
}

/// A Service of the binding's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceSink {
    /// Name of the Service.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The path; `/` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^/[^?#\s]*$"))]
    pub path: Option<String>,
}

/// An https address on a host that the installation allows.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpSink {
    /// The address.
    pub url: Address,
    /// Certificate authorities to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CertificateAuthorityReference>,
    /// A Secret of the same namespace whose key `secret` (`whsec_…`) signs what is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
}

/// The kinds that can be refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RefreshKind {
    /// Flux.
    GitRepository,
    /// Argo CD.
    Application,
    /// Argo CD.
    ApplicationSet,
}

/// A Flux or Argo CD object to refresh.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefreshSink {
    /// Its kind.
    pub kind: RefreshKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace; the binding's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// A NATS `JetStream` subject.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NatsSink {
    /// Address of the server: `nats://host:port` or `tls://host:port`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^(nats|tls)://[^/?#@\s]+$"))]
    pub url: String,
    /// The subject.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\s*>]+$"))]
    pub subject: String,
    /// Certificate authorities to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CertificateAuthorityReference>,
    /// A Secret of the same namespace with `token`, `username` and `password`, or `creds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
}

/// What Forgebind knows of the binding.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepoBindingStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, `ConnectionReady`, `RepositoryFound`, `WebhookInSync`, Receiving, Delivering, and while true `CleanupBlocked`,
    /// Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The repository, as the provider describes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryStatus>,
    /// The webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookStatus>,
    /// What would be done at the provider, while observing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlannedAction>,
    /// The sinks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Vec<SinkStatus>,
    /// Every sink accepted everything up to here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_until: Option<Time>,
    /// Branch and tag heads, for finding what was missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<HeadsStatus>,
    /// Fingerprint of the install key that manages this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<String>,
    /// The last annotation values that were acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled: Option<LastHandled>,
}

/// Who can see a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Everybody.
    Public,
    /// Everybody who is signed in.
    Internal,
    /// Those who were given access.
    Private,
}

/// The repository, as the provider describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    /// The provider's stable id.
    pub id: String,
    /// The canonical path.
    pub path: String,
    /// Its web address.
    #[serde(default, rename = "webURL", skip_serializing_if = "Option::is_none")]
    pub web_url: Option<String>,
    /// Where to clone it over https.
    #[serde(default, rename = "cloneURL", skip_serializing_if = "Option::is_none")]
    pub clone_url: Option<String>,
    /// Where to clone it over ssh.
    #[serde(default, rename = "sshURL", skip_serializing_if = "Option::is_none")]
    pub ssh_url: Option<String>,
    /// Its default branch; absent while empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<String>,
    /// Who can see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    /// Whether it is read-only.
    #[serde(default)]
    pub archived: bool,
    /// Whether it has no commit yet.
    #[serde(default)]
    pub empty: bool,
    /// What the spec named when the repository was found. Where that is still the same, another repository there is a
    /// replacement; where the spec names something else, it is a move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<RequestedRepository>,
}

/// What a spec named: through which connection, which path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestedRepository {
    /// The connection.
    pub connection: ConnectionTarget,
    /// The path in the provider's own form, whatever form the spec used.
    pub path: String,
}

/// The webhook.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookStatus {
    /// Where deliveries go; the unguessable part is masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The hooks at the provider. Several where the provider splits by event, and while a secret is replaced or the binding moves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub hooks: Vec<HookStatus>,
    /// Derived secrets: the second in which the present one was made. With `secretRef`: a keyed fingerprint of its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_generation: Option<String>,
    /// When the secret was changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_changed_at: Option<Time>,
    /// Earlier secrets that are still accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["generation".into()]))]
    pub previous_secrets: Vec<PreviousSecret>,
    /// The last delivery that verified; written for the first one and then at most hourly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivery: Option<LastDelivery>,
    /// Where hooks were made that are not yet confirmed gone, after a move.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub former_targets: Vec<HookTarget>,
    /// Where the hooks above are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<HookTarget>,
}

/// The place at a provider where hooks were made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookTarget {
    /// The connection through which they were made.
    pub connection: ConnectionTarget,
    /// The repository's stable id.
    #[serde(rename = "repositoryID")]
    pub repository_id: String,
    /// The repository's canonical path.
    pub repository: String,
    /// The host to which the hooks deliver.
    pub host: String,
}

/// A connection by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionTarget {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One hook at the provider.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// Its id at the provider.
    pub id: String,
    /// The events it delivers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventKind>,
    /// Whether it was somebody else's before.
    #[serde(default)]
    pub adopted: bool,
}

/// An earlier secret that is still accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousSecret {
    /// Its generation; `*` stands for every earlier derived one, after the status was lost.
    pub generation: String,
    /// Until when it is accepted; absent while a hook may still carry it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
}

/// The last delivery that verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LastDelivery {
    /// When it arrived.
    pub at: Time,
    /// What it told; absent for a ping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventKind>,
    /// Its id.
    pub id: String,
}

/// One action that would be taken at the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedAction {
    /// `CreateHook`, `AdoptHook`, `UpdateHook`, `DeleteHook` or `ReleaseHook`.
    pub action: String,
    /// The repository or the hook.
    pub target: String,
    /// Why.
    pub reason: String,
}

/// One sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// Why it did not accept, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// How many events it is owed.
    #[serde(default)]
    pub owed: u64,
}

/// Branch and tag heads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeadsStatus {
    /// A hash over all of them.
    pub hash: String,
    /// When they were read.
    pub at: Time,
}

impl RepoBinding {
    /// Namespace of the connection that this binding names.
    #[must_use]
    pub fn connection_namespace(&self) -> &str {
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        self.spec.connection_ref.namespace.as_deref().unwrap_or(own)
    }

    /// The connection that this binding names.
    #[must_use]
    pub fn connection_target(&self) -> ConnectionTarget {
        ConnectionTarget { namespace: self.connection_namespace().to_owned(), name: self.spec.connection_ref.name.clone() }
    }
}
