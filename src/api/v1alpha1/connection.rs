//! `GitProviderConnection`: one account at one Git provider.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{
    CertificateAuthorityReference, Interval, LastHandled, LocalReference, ManagementPolicy, Permission, ProviderKind, is_false,
};

/// What is wanted: the provider and the owner at it, the credential, and who may use the connection.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "forgebind.dev",
    version = "v1alpha1",
    kind = "GitProviderConnection",
    plural = "gitproviderconnections",
    shortname = "gpc",
    category = "forgebind",
    namespaced,
    status = "GitProviderConnectionStatus",
    derive = "PartialEq",
    doc = "One account at one Git provider: who it is, what it may do, and until when.",
    annotation("kustomize.toolkit.fluxcd.io/substitute", "disabled"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Provider", type_ = "string", json_path = ".status.provider"),
    printcolumn(name = "Identity", type_ = "string", json_path = ".status.identity.name"),
    printcolumn(name = "Bindings", type_ = "integer", json_path = ".status.bindings"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.credential.expiresAt", priority = 1),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.server.version", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new(unchanged_while_in_use())
        .message("spec.provider cannot change (but for apiURL) while bindings use this connection; create a second connection and move the bindings to it"),
)]
#[serde(rename_all = "camelCase")]
pub struct GitProviderConnectionSpec {
    /// The provider and the owner of the repositories there. Exactly one member is set. While bindings use the connection,
    /// only `apiURL` may change in it.
    pub provider: ProviderSpec,
    /// The credential. Without it the provider is asked anonymously, which reaches public repositories only and makes no
    /// webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsSpec>,
    /// What the credential must be able to do beyond what the bindings need by themselves, such as `CommentOnPullRequests`.
    /// What is missing makes Ready False; what the provider cannot tell does not. It is empty by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub required_permissions: Vec<Permission>,
    /// Which bindings may use this connection, at most 32 rules, one of which must fit. Absent, those of the same namespace
    /// may, for every repository, but without a `webhook.url`. An empty list allows nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub allowed_bindings: Option<Vec<AllowedBinding>>,
    /// Certificates for the way to the provider. By default the system's certificate authorities are trusted and no client
    /// certificate is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// A Secret of the same namespace that describes an HTTP proxy for the way to the provider: the key address is its URL,
    /// the keys username and password are what it asks for. By default no proxy is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<LocalReference>,
    /// The public endpoint for deliveries of this connection's repositories. By default they come in by the public URL that has no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<ReceiverSpec>,
    /// Whether Forgebind may write at the provider. Manage, the default, creates, repairs, rotates and removes webhooks.
    /// Observe writes nothing there for any of this connection's bindings, which show in `status.plan` what would be done.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
    /// How often the provider and the credential are checked again when nothing changes, as a duration in h, m and s such as
    /// 90s, 10m or 1h30m. It defaults to 10m and is at least 10s.
    #[serde(default = "default_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s')").message("interval must be at least 10s"))]
    pub interval: Interval,
    /// Stops every write at the provider, for the bindings of this connection too, while it is true; Ready is then False with
    /// the reason Suspended. Deliveries are still accepted, and a deletion still cleans up. It defaults to false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

/// The fields that decide which provider and owner a connection is about; `apiURL` may change.
const FIXED_FIELDS: &[(&str, &[&str])] = &[
    ("github", &["url", "organization", "user"]),
    ("gitlab", &["url", "group"]),
    ("bitbucketCloud", &["url", "workspace", "project"]),
    ("bitbucketDataCenter", &["url", "project"]),
    ("azureDevOps", &["url", "organization", "project"]),
    ("gitea", &["url", "organization", "user"]),
];

/// Fields are compared directly: the cost of comparing optional values (`?.`) counts as unbounded.
fn unchanged_while_in_use() -> String {
    let members = FIXED_FIELDS.iter().map(|(member, fields)| {
        let (new, old) = (format!("self.spec.provider.{member}"), format!("oldSelf.spec.provider.{member}"));
        let same = fields
            .iter()
            .map(|field| format!("has({new}.{field}) == has({old}.{field}) && (!has({new}.{field}) || {new}.{field} == {old}.{field})"));
        let same = same.collect::<Vec<_>>().join(" && ");
        format!("has({new}) == has({old}) && (!has({new}) || ({same}))")
    });
    let members = members.collect::<Vec<_>>().join(" && ");
    format!("!has(oldSelf.status) || !has(oldSelf.status.bindings) || oldSelf.status.bindings == 0 || ({members})")
}

fn default_interval() -> Interval {
    // The text is a constant that a unit test parses.
    "10m".parse().unwrap_or_else(|_| unreachable!())
}

/// What is said of a provider that does not have exactly one member.
pub(super) const ONE_PROVIDER: &str =
    "provider needs exactly one of github, gitlab, bitbucketCloud, bitbucketDataCenter, azureDevOps and gitea";

/// The provider, in its own words. Exactly one member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.github), has(self.gitlab), has(self.bitbucketCloud), has(self.bitbucketDataCenter), has(self.azureDevOps), has(self.gitea)].filter(m, m).size() == 1"
).message(ONE_PROVIDER))]
pub struct ProviderSpec {
    /// GitHub: github.com, a data-residency host, or GitHub Enterprise Server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<GitHubSpec>,
    /// GitLab: gitlab.com or a self-managed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gitlab: Option<GitLabSpec>,
    /// Bitbucket Cloud: bitbucket.org.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitbucket_cloud: Option<BitbucketCloudSpec>,
    /// Bitbucket Data Center or Server, from version 8.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitbucket_data_center: Option<BitbucketDataCenterSpec>,
    /// Azure DevOps Services or Server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_dev_ops: Option<AzureDevOpsSpec>,
    /// Gitea or Forgejo. Which of them it is, is told apart when it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gitea: Option<GiteaSpec>,
}

/// An address without user name, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Address(pub String);

impl JsonSchema for Address {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Address".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "maxLength": 2048,
            "x-kubernetes-validations": [{
                "rule": format!("self.matches({:?})", super::shared::URL_PATTERN),
                "message": "must be an http or https URL without user name, query or fragment, like https://git.acme.io/path",
            }],
        })
    }
}

/// GitHub: github.com, a data-residency host, or GitHub Enterprise Server.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.organization) != has(self.user)").message("github needs either organization or user"))]
pub struct GitHubSpec {
    /// The organization that owns the repositories, at most 100 characters. Either this or `user` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub organization: Option<String>,
    /// The user that owns the repositories, at most 100 characters. Either this or `organization` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub user: Option<String>,
    /// The address of the server for browsers, an http or https URL without user name, query or fragment, of at most 2048
    /// characters. It defaults to `https://github.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// The address of the API, for one behind another name or a proxy. It defaults to `https://api.github.com` for
    /// github.com, and is derived from `url` for any other server.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// GitLab: gitlab.com or a self-managed one.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GitLabSpec {
    /// The group that holds the repositories, as its full path, such as platform/apps, or its number. By default every
    /// project that the credential reaches may be bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<IntOrString>,
    /// The address of the server for browsers, an http or https URL without user name, query or fragment, of at most 2048
    /// characters. A path in front of GitLab belongs to it. It defaults to `https://gitlab.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// The address of the API, for one behind another name or a proxy. It defaults to `url` followed by /api/v4.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// Bitbucket Cloud: bitbucket.org.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BitbucketCloudSpec {
    /// The workspace that owns the repositories, at most 100 characters.
    #[schemars(length(min = 1, max = 100))]
    pub workspace: String,
    /// The key of the project that holds the repositories, at most 100 characters; it is upper-cased before use. By default
    /// every repository of the workspace may be bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub project: Option<String>,
    /// The address of the server for browsers, an http or https URL without user name, query or fragment, of at most 2048
    /// characters. It defaults to `https://bitbucket.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// The address of the API, for one behind another name or a proxy. It defaults to `https://api.bitbucket.org/2.0`.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// Bitbucket Data Center or Server.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BitbucketDataCenterSpec {
    /// The address of the server for browsers, an http or https URL without user name, query or fragment, of at most 2048
    /// characters. A context path belongs to it.
    pub url: Address,
    /// The key of the project that holds the repositories, or ~user for the personal one of a user. At most 128 characters. By
    /// default every repository that the credential reaches may be bound, in whatever project it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub project: Option<String>,
    /// The address of the API, for one behind another name or a proxy. It is derived from `url` by default.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// Azure DevOps Services or Server.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AzureDevOpsSpec {
    /// The organization, such as acme, or the collection of an Azure DevOps Server. It is a name, not a URL, of at most 100
    /// characters.
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(validation = Rule::new("!self.contains('/')").message("organization is a name such as acme, not a URL; a Server's address belongs in url"))]
    pub organization: String,
    /// The project that holds the repositories, at most 100 characters. By default every project of the organization may be
    /// bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub project: Option<String>,
    /// The address of the server for browsers, an http or https URL without user name, query or fragment, of at most 2048
    /// characters. It defaults to `https://dev.azure.com`; for a Server it is the address without the collection, such as
    /// `https://tfs.acme.io/tfs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// The address of the API, for one behind another name or a proxy. It is derived from `url` by default.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// Gitea or Forgejo; which of them is told apart at run time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.organization) != has(self.user)").message("gitea needs either organization or user"))]
pub struct GiteaSpec {
    /// The address of the server for browsers, an http or https URL without user name, query or fragment, of at most 2048
    /// characters. A path in front of Gitea belongs to it.
    pub url: Address,
    /// The organization that owns the repositories, at most 100 characters. Either this or `user` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub organization: Option<String>,
    /// The user that owns the repositories, at most 100 characters. Either this or `organization` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub user: Option<String>,
    /// The address of the API, for one behind another name or a proxy. It defaults to `url` followed by /api/v1.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// Where the credential is and how long it lasts.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsSpec {
    /// The Secret with the credential, in the same namespace. Its keys tell the kind: token; username and password; email and
    /// token; or `githubAppID` (or `githubAppClientID`) and `githubAppPrivateKey`. A change of the Secret takes effect within
    /// seconds.
    pub secret_ref: LocalReference,
    /// When the credential ends, where the provider cannot tell: a date such as 2027-03-01, which means its end in UTC, or an
    /// RFC 3339 time such as 2027-03-01T12:00:00Z. The key expiresAt of the Secret wins over it. By default only what the
    /// provider tells is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 40))]
    #[x_kube(validation = Rule::new(
        "self.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2}))?$') && timestamp(self.size() == 10 ? self + 'T23:59:59Z' : self) > timestamp('2000-01-01T00:00:00Z')"
    ).message("expiresAt must be a date such as 2027-03-01 or an RFC 3339 time such as 2027-03-01T12:00:00Z"))]
    pub expires_at: Option<String>,
    /// How long before the end of the credential the condition `CredentialExpiring` appears, as a duration in h, m and s such
    /// as 168h. It defaults to 720h, which is 30 days.
    #[serde(default = "default_warn_before")]
    pub warn_before: Interval,
}

fn default_warn_before() -> Interval {
    // The text is a constant that a unit test parses.
    "720h".parse().unwrap_or_else(|_| unreachable!())
}

/// The public endpoint for deliveries.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReceiverSpec {
    /// The name of the address to which webhooks deliver, such as internal. It is one of the names in Forgebind's flag
    /// `--public-url`, at most 63 lower-case letters, digits and dashes. By default it is the address without a name. When it
    /// changes, webhooks move to the new address, and deliveries under way to the old one are still accepted.
    #[serde(default, rename = "publicURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("publicURL is the name of an address in --public-url, such as internal: lower-case letters, digits and dashes"))]
    pub public_url: Option<String>,
}

/// A rule that allows bindings to use the connection.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.namespaces.from == 'Same' || (has(self.repositories) && self.repositories.size() > 0)")
    .message("repositories is required unless namespaces.from is Same; use \"**\" for every repository"))]
pub struct AllowedBinding {
    /// The namespaces whose bindings the rule allows.
    pub namespaces: AllowedNamespaces,
    /// The repository paths that the rule allows, at most 64 patterns of at most 512 characters: a star stands for any text
    /// within a segment, two stars for any text across segments, upper and lower case are alike. It is required unless
    /// `namespaces.from` is Same, where it defaults to every repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub repositories: Vec<String>,
    /// The hosts to which these bindings may have webhooks delivered with `webhook.url`, at most 32: host, host:port or
    /// *.suffix. It is empty by default, which allows none, also in the same namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 262)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub destination_hosts: Vec<String>,
}

/// How namespaces are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The connection's own.
    Same,
    /// Every namespace.
    All,
    /// Those whose labels match the selector.
    Selector,
}

/// The namespaces of a rule.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)")
    .message("selector is required with from: Selector and not allowed otherwise"))]
pub struct AllowedNamespaces {
    /// How the namespaces are chosen: Same is the connection's own, All is every one, Selector is those whose labels match
    /// `selector`.
    pub from: NamespacesFrom,
    /// The labels of the namespaces. It is required with `from` Selector and not allowed otherwise. An empty selector matches
    /// every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Certificates for the way to the provider. Verification cannot be switched off.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsSpec {
    /// The certificate authorities to trust for the provider in place of the system's, which are the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CertificateAuthorityReference>,
    /// A Secret of the same namespace and of the type kubernetes.io/tls, with the keys tls.crt and tls.key, to be shown to a
    /// server that asks for a client certificate. By default none is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<LocalReference>,
}

/// What Forgebind knows of the connection. Only Forgebind writes it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GitProviderConnectionStatus {
    /// The generation of the spec that this status describes. While it differs from `metadata.generation` the present spec
    /// was not judged yet; -1 means that Forgebind has not looked at the object at all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::shared::observed")]
    pub observed_generation: Option<i64>,
    /// The state in conditions: Ready, derived from the others; Reachable, Authenticated and Authorized as far as they are
    /// known; and `CredentialExpiring`, Reconciling and Stalled, which are there only while they are True. Messages say what
    /// to do next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The provider that the spec names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProviderKind")]
    pub provider: Option<ProviderKind>,
    /// The server that answers. It is absent until it answered once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerStatus>,
    /// The account behind the credential. It is absent where there is no credential and until it was checked once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityStatus>,
    /// What is known of the credential. It holds nothing secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialStatus>,
    /// One row for each permission that the bindings need or that `requiredPermissions` asks for, by its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub permissions: Vec<PermissionStatus>,
    /// How many bindings use this connection: those that it allows, and those that hold a webhook made through it. It is
    /// written at most every 10 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindings: Option<i64>,
    /// The address at which the webhook of a GitHub App itself must point, to be entered in the settings of the App. It is
    /// absent for every other credential.
    #[serde(default, rename = "appWebhookURL", skip_serializing_if = "Option::is_none")]
    pub app_webhook_url: Option<String>,
    /// The fingerprint of the install key of the installation that manages this object, 8 hexadecimal digits. Other
    /// installations leave the object alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<String>,
    /// The values of the request annotations that were acted upon last. A value that stands here is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled: Option<LastHandled>,
}

/// The server that answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerStatus {
    /// The product, such as Gitea, Forgejo or `GitHubEnterpriseServer`.
    pub flavor: String,
    /// The version of the product. It is absent where the server does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What stands behind a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IdentityKind {
    /// A person's or a service user's account.
    User,
    /// An App.
    App,
    /// A service account of the provider.
    ServiceAccount,
    /// A token with no account that it would name.
    Token,
}

/// The account behind the credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdentityStatus {
    /// The name of the account. It is absent where the provider does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the account is: User, also a service user; App; `ServiceAccount` of the provider; or Token, which names no
    /// account.
    pub kind: IdentityKind,
}

/// The kinds of credential, told by the Secret's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CredentialKind {
    /// None: public repositories only.
    Anonymous,
    /// `token`.
    Token,
    /// `username` and `password`.
    BasicAuth,
    /// `email` and `token`.
    EmailToken,
    /// `githubAppID` or `githubAppClientID`, and `githubAppPrivateKey`.
    GitHubApp,
}

/// What is known of the credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// The kind of the credential, told by the keys of the Secret: Anonymous, Token, `BasicAuth`, `EmailToken` or
    /// `GitHubApp`.
    pub kind: CredentialKind,
    /// The name of the credential at the provider. It is absent where the provider does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The time at which the credential ends, told by the provider, else by the Secret or the spec. It is absent where nobody
    /// tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// The scopes or permissions of the credential in the provider's own words. It is empty where the provider does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<String>,
    /// The resource version of the Secret that was examined last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_resource_version: Option<String>,
}

/// Whether a permission is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PermissionState {
    /// It is.
    Granted,
    /// It is not; the message names what is missing.
    Missing,
    /// The provider cannot tell; the message says why.
    Unknown,
}

/// The state of one permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PermissionStatus {
    /// The permission, in Forgebind's words, which are the same for every provider.
    pub name: Permission,
    /// Whether the credential itself has the permission, by its scopes: Granted, Missing, or Unknown where the provider cannot
    /// tell. Whether its account has the role at a repository is told by each binding.
    pub state: PermissionState,
    /// What is missing or why nobody can tell, in the provider's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Names that every provider spec knows the answer to.
impl ProviderSpec {
    /// The provider whose member is set; `None` for an object stored before the rule that demands exactly one.
    #[must_use]
    pub fn kind(&self) -> Option<ProviderKind> {
        let members = [
            (self.github.is_some(), ProviderKind::GitHub),
            (self.gitlab.is_some(), ProviderKind::GitLab),
            (self.bitbucket_cloud.is_some(), ProviderKind::BitbucketCloud),
            (self.bitbucket_data_center.is_some(), ProviderKind::BitbucketDataCenter),
            (self.azure_dev_ops.is_some(), ProviderKind::AzureDevOps),
            (self.gitea.is_some(), ProviderKind::Gitea),
        ];
        let mut present = members.into_iter().filter(|(present, _)| *present);
        match (present.next(), present.next()) {
            (Some((_, kind)), None) => Some(kind),
            _ => None,
        }
    }
}

/// The Secrets that a connection reads, all in its own namespace.
impl GitProviderConnectionSpec {
    /// Whether any rule chooses namespaces by their labels.
    #[must_use]
    pub fn grants_by_labels(&self) -> bool {
        let mut rules = self.allowed_bindings.iter().flatten();
        rules.any(|rule| rule.namespaces.from == NamespacesFrom::Selector)
    }

    /// Names of the Secrets that this spec refers to.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        use super::shared::CertificateAuthorityKind;
        let authority = self.tls.as_ref().and_then(|tls| tls.ca_ref.as_ref());
        let client = self.tls.as_ref().and_then(|tls| tls.client_certificate_ref.as_ref());
        [
            self.credentials.as_ref().map(|credentials| credentials.secret_ref.name.as_str()),
            authority.filter(|ca| ca.kind == Some(CertificateAuthorityKind::Secret)).map(|ca| ca.name.as_str()),
            client.map(|client| client.name.as_str()),
            self.proxy_secret_ref.as_ref().map(|proxy| proxy.name.as_str()),
        ]
        .into_iter()
        .flatten()
    }

    /// Name of the `ConfigMap` that this spec refers to.
    #[must_use]
    pub fn config_map_name(&self) -> Option<&str> {
        use super::shared::CertificateAuthorityKind;
        let authority = self.tls.as_ref()?.ca_ref.as_ref()?;
        (authority.kind.unwrap_or_default() == CertificateAuthorityKind::ConfigMap).then_some(authority.name.as_str())
    }
}
