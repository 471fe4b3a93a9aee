//! `RepoBinding`: one repository that is reached through one connection.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connection::Address;
use super::shared::{CertificateAuthorityReference, DeletionPolicy, EventKind, Interval, ManagementPolicy, is_false};

pub use super::binding_status::*;

/// In `status.webhook.previousSecrets`: every derived version before the present one. Written when hooks are found although
/// the status names none: the record of which versions are in their grace period is lost with the status.
pub const ANY_EARLIER_VERSION: &str = "*";

/// Desired state of the binding: the repository, its webhook, and the sinks that receive its events.
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
    doc = "One repository that is reached through a connection: its webhook, and the sinks that receive its events.",
    annotation("kustomize.toolkit.fluxcd.io/substitute", "disabled"),
    selectable = ".spec.connectionRef.name",
    selectable = ".spec.connectionRef.namespace",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Repository", type_ = "string", json_path = ".spec.repository"),
    printcolumn(name = "Connection", type_ = "string", json_path = ".spec.connectionRef.name"),
    printcolumn(name = "Last Delivery", type_ = "date", json_path = ".status.recentDeliveries[0].time"),
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
    /// Connection through which Forgebind reaches the repository. A connection of another namespace needs a `ConnectionGrant`
    /// there that allows this binding; otherwise Ready is False with the reason `RefNotPermitted`. When the connection
    /// changes, Forgebind creates the new webhook before it deletes the old one.
    pub connection_ref: ConnectionReference,
    /// Repository at the provider: its path in the provider's form, such as acme/shop, or its https or ssh clone URL. A URL
    /// must be on the connection's server and must not contain a password. At most 2048 characters. A repository that the
    /// provider does not show to the credential is reported with the reason `NotFoundOrHidden`.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("!self.matches('^[A-Za-z][A-Za-z0-9+.-]*://[^/@]*:[^/@]*@')")
        .message("repository must not hold a password; the connection's Secret is the place for it"))]
    pub repository: String,
    /// Branch that must exist unless the repository is empty: a single name such as main or refs/heads/main, without
    /// wildcards, at most 255 characters. A missing branch is reported with the reason `BranchNotFound`. It is also the
    /// default for `branches` of every sink. If not set, no branch is required and events of every branch are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new(r"(!self.startsWith('refs/') || self.matches('^refs/heads/.')) && self.matches('^[^\\s~^:?*\\[\\\\]+$')")
        .message("branch is the name of one branch, such as main or refs/heads/main, and no pattern; patterns belong in the branches of a sink"))]
    pub branch: Option<String>,
    /// Webhook at the provider. An empty object creates a webhook with all defaults. If not set, Forgebind creates no
    /// webhook and only checks that the connection can read the repository, for which read access is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSpec>,
    /// Sinks to which verified events are sent, at most 8, each with a unique name. Requires `webhook` without `url`.
    /// Forgebind answers the provider as soon as every sink has accepted the event, or the event is kept in the outbox for
    /// those that have not. If empty, deliveries are verified and counted, but not sent anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Vec<SinkSpec>,
    /// What happens to the webhook when this object is deleted. Delete, the default, removes it at the provider; an adopted
    /// webhook is handed back instead. Orphan leaves it in place, with two exceptions where it is removed as with Delete:
    /// a grant has been missing for longer than `--missing-grant-timeout`, or the webhook delivers to another endpoint than
    /// the receiver and was made through a connection of another namespace, whose owner could not stop these deliveries
    /// later. Has no effect without `webhook`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Whether Forgebind may make changes at the provider. Manage, the default, creates, repairs, rotates and removes the
    /// webhook. Observe changes nothing and lists in `status.plan` what would be done; while that list is not empty, Ready
    /// is True with the reason Observing. Observe on the connection applies to all of its bindings.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
    /// How often the repository and its webhook are checked when nothing changes, as a duration in h, m and s such as 30m
    /// or 1h30m. Defaults to 1h, minimum 10s. While verified deliveries prove that the webhook works, the next check is put
    /// off, by up to 24h.
    #[serde(default = "default_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s')").message("interval must be at least 10s"))]
    pub interval: Interval,
    /// Stops all changes at the provider while true; Ready is then False with the reason Suspended. Deliveries are still
    /// accepted, and deleting this object still cleans up at the provider. Defaults to false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

/// Prefix of the full name of a branch.
const BRANCH_PREFIX: &str = "refs/heads/";

/// The short name of a branch or branch pattern, which may be written in full.
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

/// Reference to a connection in this or another namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ConnectionReference {
    /// Name of the `GitProviderConnection`, at most 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the `GitProviderConnection`, at most 63 characters. Defaults to the namespace of the binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// Webhook of a binding.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.url) || has(self.secretRef)")
        .message("webhook.url needs webhook.secretRef: the owner of that endpoint must know the secret"),
    validation = Rule::new("!has(self.adopt) || !self.adopt || has(self.url)").message("webhook.adopt needs webhook.url"),
    validation = Rule::new("!has(self.rotationInterval) || !has(self.secretRef)")
        .message("webhook.rotationInterval excludes webhook.secretRef: a secret of your own is rotated by changing it"),
)]
pub struct WebhookSpec {
    /// Events that the webhook delivers, at least one of Push, Tag, `PullRequest` (opened, or its source branch updated),
    /// `PullRequestMerged`, `PullRequestClosed` (closed without a merge) and `PullRequestComment`. Defaults to Push, Tag
    /// and `PullRequest`. An event that the provider does not support is reported with the reason `EventNotSupported`.
    #[serde(default = "default_events")]
    #[schemars(length(min = 1, max = 6))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub events: Vec<EventKind>,
    /// Endpoint to which the provider delivers instead of Forgebind's receiver, such as the webhook address of a CI server.
    /// An http or https URL without user name or fragment, at most 2048 characters. It may have a query such as ?job=shop,
    /// to which Forgebind adds its own marker. Do not put a secret into the query: everyone who can read this object can
    /// read it. Requires `secretRef` and excludes sinks. A `ConnectionGrant` of the connection must list the host in
    /// `destinationHosts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<HookAddress>,
    /// Secret in the binding's namespace that contains the webhook's secret, at least 16 bytes, under the key that `key`
    /// names, or else under secret or token. A changed value is set at the provider within seconds. If not set, Forgebind
    /// derives a secret, which is stored nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<WebhookSecretReference>,
    /// How often the derived webhook secret is replaced, as a duration in h, m and s such as 2160h (90 days). Minimum 10m.
    /// If not set, the secret is replaced only on request, by the annotation `forgebind.dev/rotate-requested-at`. Excludes
    /// `secretRef`: rotate a secret of your own by changing it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10m')").message("rotationInterval must be at least 10m"))]
    pub rotation_interval: Option<Interval>,
    /// Takes over an existing webhook that somebody else made with the same `url`, instead of reporting it with the reason
    /// `ForeignHook`. Forgebind adds its marker and keeps the webhook as specified; when the binding is deleted, it removes
    /// the marker and leaves the webhook in place. Requires `url`. Defaults to false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub adopt: bool,
}

/// URL of an endpoint, without user name or fragment. It may have a query.
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

/// Reference to a Secret of the same namespace that contains a webhook's secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct WebhookSecretReference {
    /// Name of the Secret, at most 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key of the Secret that contains the webhook's secret, such as webhook.github.secret, at most 253 characters. Other
    /// keys are then ignored. If not set, the keys are secret, or token, or username and password, or header and token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: Option<String>,
}

fn default_events() -> Vec<EventKind> {
    vec![EventKind::Push, EventKind::Tag, EventKind::PullRequest]
}

/// One destination of verified events. Exactly one of `service` and `http` must be set.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.service) != has(self.http)").message("a sink needs exactly one of service and http"))]
pub struct SinkSpec {
    /// Name of the sink, unique within the binding: lower-case letters, digits and dashes, at most 63 characters.
    /// `status.sinks` lists the sink under this name.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Service to which each event is posted, over plain http inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSink>,
    /// HTTPS endpoint to which each event is posted. The installation must allow its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSink>,
    /// Events that are sent to this sink, at least one, each of which must also be listed in `webhook.events`. Defaults to
    /// all of `webhook.events`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 6))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub events: Option<Vec<EventKind>>,
    /// Branches whose events are sent to this sink, 1 to 32 patterns of at most 255 characters, such as release/* or
    /// refs/heads/release/*. One star matches any text within a path segment, two stars match across segments. A pull
    /// request is matched by its target branch. Defaults to `spec.branch`, or to every branch if that is not set. Tags are
    /// not filtered, nor are events whose branch the provider does not report, such as a comment on a GitHub pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 255)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(r"self.all(b, (!b.startsWith('refs/') || b.matches('^refs/heads/.')) && b.matches('^[^\\s~^:?\\[\\\\]+$'))")
            .message("branches are names or patterns of branches such as main, release/* or refs/heads/main; * and ** are the only wildcards, and tags are not filtered"),
    )]
    pub branches: Option<Vec<String>>,
}

/// Service with a selector and a `ClusterIP`, to which events are sent at that address.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSink {
    /// Name of the Service, at most 63 characters. A Service of the type `ExternalName`, without `ClusterIP` or without
    /// selector is reported with the reason `SinkNotAllowed`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Namespace of the Service, at most 63 characters. Defaults to the namespace of the binding. A Service of another
    /// namespace must allow the binding's namespace in its annotation `forgebind.dev/deliver-from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Port of the Service, from 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Path to which events are posted. It begins with a slash, has no query, and has at most 2048 characters. Defaults to
    /// /.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^/[^?#\s]*$"))]
    pub path: Option<String>,
    /// Secret in the binding's namespace with which each event is signed by Standard Webhooks, in the headers webhook-id,
    /// webhook-timestamp and webhook-signature. Without it, events are not signed. While the Secret is missing
    /// (`SecretNotFound`) or unusable (`SinkInvalid`), events are pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SigningSecretReference>,
}

/// Reference to a Secret of the same namespace that contains a key for signatures.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SigningSecretReference {
    /// Name of the Secret, at most 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key of the Secret that contains the signing key, at most 253 characters. Its value is `whsec_` with base64, or a plain
    /// text, of 24 to 64 bytes. Defaults to secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: Option<String>,
}

/// HTTPS endpoint on a host that the installation allows.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpSink {
    /// HTTPS URL to which events are posted, without user name, query or fragment, at most 2048 characters. The
    /// installation must list its host in `--allow-sink-hosts`; otherwise the sink is reported with the reason
    /// `SinkNotAllowed`.
    pub url: Address,
    /// Secret in the binding's namespace with which each event is signed by Standard Webhooks, in the headers webhook-id,
    /// webhook-timestamp and webhook-signature. Without it, events are not signed. While the Secret is missing
    /// (`SecretNotFound`) or unusable (`SinkInvalid`), events are pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SigningSecretReference>,
    /// Certificate authorities in the binding's namespace that are trusted for the endpoint instead of those of the system,
    /// at most 16 KiB. Defaults to those of the system. While the object is missing (`SecretNotFound`) or unusable
    /// (`SinkInvalid`), events are pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CertificateAuthorityReference>,
}
