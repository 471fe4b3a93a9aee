//! `RepoBinding`: one repository reached through one connection.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connection::Address;
use super::shared::{
    CertificateAuthorityReference, DeletionPolicy, EventKind, Interval, LastHandled, LocalReference, ManagementPolicy, is_false,
};

/// In `status.webhook.previousSecrets`: every derived version before the present one. Said when hooks are found although the
/// status tells of none, because which ones are in their grace is lost with it.
pub const ANY_EARLIER_VERSION: &str = "*";

/// What is wanted: the repository, the events that its webhook tells, and where verified deliveries go.
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
    /// The connection through which the repository is reached. It may be of another namespace where its `allowedBindings`
    /// says so. When it changes, the webhook moves: the new one is made before the old one is deleted.
    pub connection_ref: ConnectionReference,
    /// The repository: its path in the provider's own form, such as acme/shop, or its https or ssh clone URL. A URL must be
    /// of the connection's server and must not hold a password. At most 2048 characters.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("!self.matches('^[A-Za-z][A-Za-z0-9+.-]*://[^/@]*:[^/@]*@')")
        .message("repository must not hold a password; the connection's Secret is the place for it"))]
    pub repository: String,
    /// A branch that must exist when the repository is not empty, such as main or refs/heads/main: one name, no pattern. It is
    /// also the filter of the sinks that name no branches. By default no branch is demanded and deliveries of every branch are
    /// handed on. At most 255 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new(r"(!self.startsWith('refs/') || self.matches('^refs/heads/.')) && self.matches('^[^\\s~^:?*\\[\\\\]+$')")
        .message("branch is the name of one branch, such as main or refs/heads/main, and no pattern; patterns belong in the branches of a sink"))]
    pub branch: Option<String>,
    /// The webhook at the provider. Without it no webhook is made: it is only checked that the connection reaches the
    /// repository, which needs a credential that may read. Write an empty object for a webhook with every default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSpec>,
    /// What to do with verified deliveries, at most 8 sinks with a name each. They need `webhook` without `url`. A delivery
    /// is answered when every sink has accepted it or when it is kept for those that have not. Without sinks, deliveries are
    /// verified and counted and nothing more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Vec<SinkSpec>,
    /// What becomes of the webhook when this object is deleted. Delete, the default, removes it at the provider; an adopted
    /// one is handed back. Orphan leaves it where it is, also one that delivers to `url`, for as long as the connection allows
    /// this binding; otherwise it is removed as with Delete. Without `webhook` it has no effect.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Whether Forgebind may write at the provider. Manage, the default, creates, repairs, rotates and removes the webhook.
    /// Observe writes nothing there and shows in `status.plan` what would be done; Ready is True then, with the reason
    /// Observing while that is something. Observe on the connection holds for all its bindings.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
    /// How often the repository and its webhook are looked at when nothing changes, as a duration in h, m and s such as 30m
    /// or 1h30m. It defaults to 1h and is at least 10s. Verified deliveries prove that the webhook is there and stretch it to
    /// up to 24h.
    #[serde(default = "default_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s')").message("interval must be at least 10s"))]
    pub interval: Interval,
    /// Stops every write at the provider while it is true; Ready is then False with the reason Suspended. Deliveries are
    /// still accepted, and a deletion still cleans up. It defaults to false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

/// What the full name of a branch begins with.
const BRANCH_PREFIX: &str = "refs/heads/";

/// The short name of a branch, or a pattern of such, that may be written in full.
#[must_use]
pub fn short_branch(branch: &str) -> &str {
    branch.strip_prefix(BRANCH_PREFIX).unwrap_or(branch)
}

impl RepoBindingSpec {
    /// The short name of `branch`.
    #[must_use]
    pub fn branch_name(&self) -> Option<&str> {
        self.branch.as_deref().map(short_branch)
    }
}

fn default_interval() -> Interval {
    // The text is a constant that a unit test parses.
    "1h".parse().unwrap_or_else(|_| unreachable!())
}

/// A connection in this or another namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ConnectionReference {
    /// The name of the `GitProviderConnection`, at most 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The namespace of the `GitProviderConnection`, at most 63 characters. It defaults to the binding's own.
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
    /// The events that the webhook tells, at least one: Push, Tag, `PullRequest` (opened, or its branch updated),
    /// `PullRequestMerged`, `PullRequestClosed` (without a merge) and `PullRequestComment`. It defaults to Push, Tag and
    /// `PullRequest`. What a provider does not have is refused with the reason `EventNotSupported`.
    #[serde(default = "default_events")]
    #[schemars(length(min = 1, max = 6))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub events: Vec<EventKind>,
    /// Whose webhook delivers. Repository, the default, is a webhook of the repository's own, which Forgebind makes. App is
    /// the webhook of the GitHub App behind the connection, which excludes `url`, `secretRef` and `rotationInterval`; this
    /// version does not serve it and says so with the reason `SourceNotServed`.
    #[serde(default)]
    pub source: WebhookSource,
    /// Another endpoint to which the provider is to deliver in place of Forgebind's receiver, such as the webhook address of
    /// a CI server. It is an http or https URL without user name or fragment, of at most 2048 characters. It may have a query,
    /// such as ?job=shop, to which Forgebind adds its own mark; what stands in a query can be read by everybody who may read
    /// this object. It needs `secretRef`, excludes sinks, and its host must be allowed by the connection's `destinationHosts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<HookAddress>,
    /// A Secret of the binding's namespace with the webhook's secret, at least 16 bytes, under the key that `key` names or else
    /// under secret or token. A new value there is set at the provider within seconds. Without it Forgebind derives a secret of
    /// its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<WebhookSecretReference>,
    /// How often the derived secret is replaced, as a duration in h, m and s such as 2160h, which is 90 days, at least 10m.
    /// By default it is replaced only when `forgebind.dev/rotate-requested-at` asks for it. Not together with `secretRef`: a
    /// secret of your own is rotated by changing it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10m')").message("rotationInterval must be at least 10m"))]
    pub rotation_interval: Option<Interval>,
    /// Takes over a webhook of somebody else that has the same `url`, instead of reporting it as `ForeignHook`: it is marked,
    /// kept in shape, and left in place without the mark when the binding is deleted. It needs `url` and defaults to false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub adopt: bool,
}

/// The address of an endpoint, without user name or fragment. It may have a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HookAddress(pub String);

const HOOK_URL_PATTERN: &str = r"^https?://[^/?#@\s]+(/[^?#\s]*)?([?][^#\s]*)?$";

impl JsonSchema for HookAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HookAddress".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "maxLength": 2048,
            "x-kubernetes-validations": [{
                "rule": format!("self.matches({HOOK_URL_PATTERN:?})"),
                "message": "must be an http or https URL without user name or fragment, like https://ci.acme.io/hooks?job=shop",
            }],
        })
    }
}

/// A Secret of the same namespace that holds a webhook's secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct WebhookSecretReference {
    /// The name of the Secret, at most 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key of the Secret under which the webhook's secret stands, such as webhook.github.secret, at most 253 characters. Other
    /// keys are then not read. By default the keys are secret, or token, or username and password, or header and token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: Option<String>,
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

/// What to do with verified deliveries. Exactly one of `service`, `http`, `refresh` and `nats`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.service), has(self.http), has(self.refresh), has(self.nats)].filter(m, m).size() == 1")
    .message("a sink needs exactly one of service, http, refresh and nats"))]
pub struct SinkSpec {
    /// The name of the sink, unique in the binding: lower-case letters, digits and dashes, at most 63 characters. The status
    /// tells of the sink by this name.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Posts each event to a Service of the binding's own namespace, over plain http inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSink>,
    /// Posts each event to an https address on a host that the installation allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSink>,
    /// Has a Flux or Argo CD object looked at anew for each event, as its own webhook receiver would. This version does not
    /// serve it and says so with the reason `SinkNotServed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<RefreshSink>,
    /// Publishes each event to a NATS `JetStream` subject, with the delivery's id for the removal of duplicates. This version
    /// does not serve it and says so with the reason `SinkNotServed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsSink>,
    /// The form in which events are handed on. `CloudEvents`, the default, is `CloudEvents` 1.0 in binary mode with the
    /// provider's body as data. Passthrough is the provider's own headers and body, signed again for the sink; this version
    /// does not serve it and says so with the reason `SinkNotServed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SinkFormat")]
    pub format: Option<SinkFormat>,
    /// Which events this sink gets, at least one, each of them also in `webhook.events`. It defaults to all of
    /// `webhook.events`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 6))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub events: Option<Vec<EventKind>>,
    /// The branches whose events this sink gets, 1 to 32 patterns of at most 255 characters: a star stands for any text
    /// within a segment, two stars for any text across segments, as in release/* or refs/heads/release/*. A pull request counts
    /// by the branch that it goes to. It defaults to `spec.branch`, else to every branch. Tags are not filtered by it, nor are
    /// events whose branch the provider does not tell, such as a comment on a GitHub pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 255)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(r"self.all(b, (!b.startsWith('refs/') || b.matches('^refs/heads/.')) && b.matches('^[^\\s~^:?\\[\\\\]+$'))")
            .message("branches are names or patterns of branches such as main, release/* or refs/heads/main; * and ** are the only wildcards, and tags are not filtered"),
    )]
    pub branches: Option<Vec<String>>,
}

/// A Service of the binding's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceSink {
    /// The name of the Service, at most 63 characters.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The port of the Service, from 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The path to which events are posted, beginning with a slash, without query, at most 2048 characters. It defaults to /.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^/[^?#\s]*$"))]
    pub path: Option<String>,
}

/// An https address on a host that the installation allows.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpSink {
    /// The https URL to which events are posted, without user name, query or fragment, of at most 2048 characters. Its host
    /// must be one of `--allow-sink-hosts` of the installation.
    pub url: Address,
    /// The certificate authorities to trust for this address in place of the system's, which are the default. This version
    /// does not serve it and says so with the reason `SinkNotServed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CertificateAuthorityReference>,
    /// A Secret of the binding's namespace whose key secret (whsec_ and base64) signs what is sent, as Standard Webhooks has
    /// it. By default events are sent unsigned. This version does not serve it and says so with the reason `SinkNotServed`.
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
    /// The kind of the object: `GitRepository` of Flux, or Application or `ApplicationSet` of Argo CD.
    pub kind: RefreshKind,
    /// The name of the object, at most 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The namespace of the object, at most 63 characters. It defaults to the binding's own; an object elsewhere must name
    /// the binding's namespace in its annotation `forgebind.dev/refresh-from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// A NATS `JetStream` subject.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NatsSink {
    /// The address of the server in the form `nats://host:port` or `tls://host:port`, at most 2048 characters.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^(nats|tls)://[^/?#@\s]+$"))]
    pub url: String,
    /// The subject to which events are published, without wildcards, at most 255 characters.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\s*>]+$"))]
    pub subject: String,
    /// The certificate authorities to trust for this server in place of the system's, which are the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CertificateAuthorityReference>,
    /// A Secret of the binding's namespace with the key token, the keys username and password, or the key creds. By default
    /// the server is used without authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
}

/// What Forgebind knows of the binding. Only Forgebind writes it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepoBindingStatus {
    /// The generation of the spec that this status describes. While it differs from `metadata.generation` the present spec
    /// was not judged yet; -1 means that Forgebind has not looked at the object at all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::shared::observed")]
    pub observed_generation: Option<i64>,
    /// The state in conditions: Ready, derived from the others; `ConnectionReady`, `RepositoryFound`, `WebhookInSync`,
    /// Receiving and Delivering as far as they apply; and `CleanupBlocked`, Reconciling and Stalled, which are there only
    /// while they are True. Messages say what to do next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The repository as the provider describes it. It is absent until it was found once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryStatus>,
    /// The webhook as it is at the provider. It is absent while none was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookStatus>,
    /// What would be done at the provider if `managementPolicy` allowed it. It is empty unless Forgebind only observes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlannedAction>,
    /// One row for each sink, by its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Vec<SinkStatus>,
    /// The time up to which every sink has accepted every delivery. It is written at most once a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_until: Option<Time>,
    /// The branches and tags as they were seen last, for finding out what was missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<HeadsStatus>,
    /// The fingerprint of the install key of the installation that manages this object, 8 hexadecimal digits. Other
    /// installations leave the object alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<String>,
    /// The values of the request annotations that were acted upon last. A value that stands here is done.
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

/// The repository as the provider describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    /// The provider's stable id of the repository, which a rename does not change.
    pub id: String,
    /// The canonical path of the repository at the provider.
    pub path: String,
    /// The address of the repository for a browser.
    #[serde(default, rename = "webURL", skip_serializing_if = "Option::is_none")]
    pub web_url: Option<String>,
    /// The address for cloning over https.
    #[serde(default, rename = "cloneURL", skip_serializing_if = "Option::is_none")]
    pub clone_url: Option<String>,
    /// The address for cloning over ssh.
    #[serde(default, rename = "sshURL", skip_serializing_if = "Option::is_none")]
    pub ssh_url: Option<String>,
    /// The default branch. It is absent while the repository is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<String>,
    /// Who can see the repository: public is everybody, internal everybody who is signed in, private those who were given
    /// access. It is absent where the provider does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Visibility")]
    pub visibility: Option<Visibility>,
    /// Whether the repository is archived and thereby read-only at the provider.
    #[serde(default)]
    pub archived: bool,
    /// Whether the repository has no commit yet.
    #[serde(default)]
    pub empty: bool,
    /// What the spec named when the repository was found. While the spec names the same, another repository under that path
    /// is a replacement; otherwise it is a move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<RequestedRepository>,
}

/// What a spec named: through which connection, at which server, which path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestedRepository {
    /// The connection that the spec named.
    pub connection: ConnectionTarget,
    /// The address of the API to which that connection led. A connection that is made again under the same name may lead
    /// elsewhere, where an id means another repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// The path of the repository in the provider's own form, whatever form the spec used.
    pub path: String,
    /// Proves that this installation found the repository under a grant. Without it, the id is not looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
}

/// The webhook as it is at the provider.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookStatus {
    /// The address to which the provider delivers. Its unguessable part is masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The webhooks at the provider, by their ids. There are several where the provider splits by event, and for a short
    /// while when a secret is replaced or the binding moves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub hooks: Vec<HookStatus>,
    /// Which secret the webhook has. For a derived secret it is the second since 1970 in which it was made, for one of your
    /// own a fingerprint from which the secret cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_version: Option<String>,
    /// The time at which the secret was changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_changed_at: Option<Time>,
    /// Earlier secrets that are still accepted for deliveries under way, by secret version, at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["version".into()]))]
    pub previous_secrets: Vec<PreviousSecret>,
    /// The last delivery that verified. It is written for the first one and then at most hourly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivery: Option<LastDelivery>,
    /// Where webhooks were made before a move that are not yet confirmed to be gone, or are about to be made, at most 8 locations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub former_targets: Vec<HookTarget>,
    /// Where the present webhooks are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<HookTarget>,
}

/// The location at a provider where webhooks were made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookTarget {
    /// The connection through which the webhooks were made.
    pub connection: ConnectionTarget,
    /// The provider's stable id of the repository.
    #[serde(rename = "repositoryID")]
    pub repository_id: String,
    /// The canonical path of the repository.
    pub repository: String,
    /// The host to which the webhooks deliver.
    pub host: String,
    /// Forgebind's proof that it wrote this location down itself. At a location without it, nothing is looked for or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
}

/// A connection by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionTarget {
    /// The namespace of the connection.
    pub namespace: String,
    /// The name of the connection.
    pub name: String,
}

/// One webhook at the provider.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// The provider's id of the webhook.
    pub id: String,
    /// The events that this webhook delivers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventKind>,
    /// Whether the webhook was somebody else's before and is handed back at the end.
    #[serde(default)]
    pub adopted: bool,
}

/// An earlier secret that is still accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousSecret {
    /// The version of the secret, as it stood in `secretVersion`. An asterisk stands for every earlier version that
    /// Forgebind derived, after the status was lost.
    pub version: String,
    /// The time until which the secret is accepted. It is absent while a webhook may still carry the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
}

/// The last delivery that verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LastDelivery {
    /// The time at which the delivery arrived.
    pub at: Time,
    /// The event that the delivery told of. It is absent for a ping, with which a provider tries a new webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EventKind")]
    pub event: Option<EventKind>,
    /// The provider's id of the delivery.
    pub id: String,
}

/// One action that would be taken at the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedAction {
    /// What would be done: `CreateHook`, `AdoptHook`, `UpdateHook`, `DeleteHook` or `ReleaseHook`.
    pub action: String,
    /// The repository or the webhook to which it would be done.
    pub target: String,
    /// Why it would be done.
    pub reason: String,
}

/// The state of one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkStatus {
    /// The name of the sink, as in `spec.sinks`.
    pub name: String,
    /// Why the sink did not accept an event, the last time. It is absent while all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// How many events are pending, because the sink has not accepted them yet. They are kept in memory and sent again with growing
    /// pauses.
    #[serde(default)]
    pub pending: u64,
}

/// The branches and tags of a repository, in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeadsStatus {
    /// A hash over the names and commits of all branches and tags.
    pub hash: String,
    /// The time at which they were read.
    pub at: Time,
}
