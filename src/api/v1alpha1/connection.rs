//! `GitProviderConnection`: one account at one Git provider.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::catalog::{CatalogSpec, CatalogStatus};
use super::shared::{
    CertificateAuthorityReference, Interval, LastHandled, LocalReference, ManagementPolicy, Permission, ProviderKind, is_false,
};

/// Desired state of the connection: the provider and the owner of the repositories there, and the credential.
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
    doc = "One account at one Git provider: its credential and its permissions.",
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
    /// Git provider and the owner of the repositories there. Exactly one member must be set. While bindings use the
    /// connection, only `apiURL` may be changed.
    pub provider: ProviderSpec,
    /// Credential for the provider. If not set, Forgebind makes anonymous requests, which reach only public repositories
    /// and cannot create webhooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsSpec>,
    /// Permissions that the credential must have beyond those that the bindings need, such as `CommentOnPullRequests`. At
    /// most 16. Ready is False with the reason `PermissionMissing` if one is missing; it stays True if the provider cannot
    /// report one. Empty by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub required_permissions: Vec<Permission>,
    /// Which bindings may use this connection without a `ConnectionGrant`: `SameNamespace`, the default, allows the bindings
    /// of the same namespace every repository, but not `webhook.url`; Granted allows none. Grants allow more. A binding that
    /// is not allowed is reported with the reason `RefNotPermitted`.
    #[serde(default)]
    pub access: Access,
    /// TLS settings for connections to the provider. By default Forgebind trusts the certificate authorities of the system
    /// and presents no client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// Secret in the same namespace that describes an HTTP proxy for requests to the provider: the key address contains its
    /// URL, and the keys username and password its credential, if it requires one. If not set, no proxy is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<LocalReference>,
    /// Public endpoint for deliveries of this connection's repositories. Defaults to the public URL without a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<ReceiverSpec>,
    /// Keeps a list of the repositories that the credential reaches, in objects of the kind `RepositorySlice` in the same
    /// namespace. If not set, nothing is listed, and existing slices are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogSpec>,
    /// Whether Forgebind may make changes at the provider. Manage, the default, creates, repairs, rotates and removes
    /// webhooks. Observe changes nothing for any binding of this connection; each binding lists in `status.plan` what would
    /// be done.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
    /// How often the provider and the credential are checked when nothing changes, as a duration in h, m and s such as 90s,
    /// 10m or 1h30m. Defaults to 10m, minimum 10s.
    #[serde(default = "default_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s')").message("interval must be at least 10s"))]
    pub interval: Interval,
    /// Stops all changes at the provider while true, also for the bindings of this connection; Ready is then False with the
    /// reason Suspended. Deliveries are still accepted, and deleting an object still cleans up at the provider. Defaults to
    /// false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
}

/// Fields that identify the provider and owner of a connection. They cannot change while it is in use; `apiURL` can.
const FIXED_FIELDS: &[(&str, &[&str])] = &[
    ("github", &["url", "organization", "user"]),
    ("gitlab", &["url", "group"]),
    ("bitbucketCloud", &["url", "workspace", "project"]),
    ("bitbucketDataCenter", &["url", "project"]),
    ("azureDevOps", &["url", "organization", "project"]),
    ("gitea", &["url", "organization", "user"]),
];

/// Compares fields directly, because the API server counts the cost of comparing optional values (`?.`) as unbounded.
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

/// The message for a provider that does not have exactly one member.
pub(super) const ONE_PROVIDER: &str =
    "provider needs exactly one of github, gitlab, bitbucketCloud, bitbucketDataCenter, azureDevOps and gitea";

/// Git provider. Exactly one member must be set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.github), has(self.gitlab), has(self.bitbucketCloud), has(self.bitbucketDataCenter), has(self.azureDevOps), has(self.gitea)].filter(m, m).size() == 1"
).message(ONE_PROVIDER))]
pub struct ProviderSpec {
    /// GitHub: github.com, a data-residency host, or GitHub Enterprise Server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<GitHubSpec>,
    /// GitLab: gitlab.com or a self-managed server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gitlab: Option<GitLabSpec>,
    /// Bitbucket Cloud: bitbucket.org.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitbucket_cloud: Option<BitbucketCloudSpec>,
    /// Bitbucket Data Center or Server, version 8.9 or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitbucket_data_center: Option<BitbucketDataCenterSpec>,
    /// Azure DevOps Services or Server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_dev_ops: Option<AzureDevOpsSpec>,
    /// Gitea or Forgejo. Forgebind detects which one it is from the server's answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gitea: Option<GiteaSpec>,
}

/// URL without user name, query or fragment.
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
    /// Organization that owns the repositories, at most 100 characters. Exactly one of `organization` and `user` must be
    /// set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub organization: Option<String>,
    /// User that owns the repositories, at most 100 characters. Exactly one of `organization` and `user` must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub user: Option<String>,
    /// URL of the server for browsers, an http or https URL without user name, query or fragment, at most 2048 characters.
    /// Defaults to `https://github.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// URL of the API, for an API behind another host name or a proxy. Defaults to `https://api.github.com` for github.com;
    /// for any other server it is derived from `url`.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// GitLab: gitlab.com or a self-managed server.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GitLabSpec {
    /// Group that contains the repositories, as its full path, such as platform/apps, or its number. If not set, bindings
    /// may name any project that the credential can reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<IntOrString>,
    /// URL of the server for browsers, an http or https URL without user name, query or fragment, at most 2048 characters.
    /// Includes the path if GitLab is installed under one. Defaults to `https://gitlab.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// URL of the API, for an API behind another host name or a proxy. Defaults to `url` followed by /api/v4.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// Bitbucket Cloud: bitbucket.org.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BitbucketCloudSpec {
    /// Workspace that owns the repositories, at most 100 characters.
    #[schemars(length(min = 1, max = 100))]
    pub workspace: String,
    /// Key of the project that contains the repositories, at most 100 characters. Forgebind converts it to upper case. If
    /// not set, bindings may name any repository of the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub project: Option<String>,
    /// URL of the server for browsers, an http or https URL without user name, query or fragment, at most 2048 characters.
    /// Defaults to `https://bitbucket.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// URL of the API, for an API behind another host name or a proxy. Defaults to `https://api.bitbucket.org/2.0`.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// Bitbucket Data Center or Server.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BitbucketDataCenterSpec {
    /// URL of the server for browsers, an http or https URL without user name, query or fragment, at most 2048 characters.
    /// Includes the context path, if the server has one.
    pub url: Address,
    /// Key of the project that contains the repositories, or ~user for the personal project of a user. At most 128
    /// characters. If not set, bindings may name any repository that the credential can reach, in any project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub project: Option<String>,
    /// URL of the API, for an API behind another host name or a proxy. Derived from `url` by default.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// Azure DevOps Services or Server.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AzureDevOpsSpec {
    /// Organization, such as acme, or collection of an Azure DevOps Server. A name, not a URL, at most 100 characters.
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(validation = Rule::new("!self.contains('/')").message("organization is a name such as acme, not a URL; a Server's address belongs in url"))]
    pub organization: String,
    /// Project that contains the repositories, at most 100 characters. If not set, bindings may name any project of the
    /// organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub project: Option<String>,
    /// URL of the server for browsers, an http or https URL without user name, query or fragment, at most 2048 characters.
    /// Defaults to `https://dev.azure.com`. For Azure DevOps Server, the URL without the collection, such as
    /// `https://tfs.acme.io/tfs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// URL of the API, for an API behind another host name or a proxy. Derived from `url` by default.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// Gitea or Forgejo.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.organization) != has(self.user)").message("gitea needs either organization or user"))]
pub struct GiteaSpec {
    /// URL of the server for browsers, an http or https URL without user name, query or fragment, at most 2048 characters.
    /// Includes the path if Gitea is installed under one.
    pub url: Address,
    /// Organization that owns the repositories, at most 100 characters. Exactly one of `organization` and `user` must be
    /// set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub organization: Option<String>,
    /// User that owns the repositories, at most 100 characters. Exactly one of `organization` and `user` must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub user: Option<String>,
    /// URL of the API, for an API behind another host name or a proxy. Defaults to `url` followed by /api/v1.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// Reference to the credential and its lifetime.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsSpec {
    /// Secret in the same namespace that contains the credential. Its keys determine the kind of credential: token;
    /// username and password; email and token; or `githubAppID` (or `githubAppClientID`) and `githubAppPrivateKey`. A
    /// changed Secret takes effect within seconds.
    pub secret_ref: LocalReference,
    /// Time at which the credential expires, for providers that do not report it: a date such as 2027-03-01, which means
    /// the end of that day in UTC, or an RFC 3339 time such as 2027-03-01T12:00:00Z. The key expiresAt of the Secret takes
    /// precedence. If not set, only what the provider reports is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 40))]
    #[x_kube(validation = Rule::new(
        "self.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2}))?$') && timestamp(self.size() == 10 ? self + 'T23:59:59Z' : self) > timestamp('2000-01-01T00:00:00Z')"
    ).message("expiresAt must be a date such as 2027-03-01 or an RFC 3339 time such as 2027-03-01T12:00:00Z"))]
    pub expires_at: Option<String>,
    /// How long before the credential expires the condition `CredentialExpiring` becomes True, as a duration in h, m and s
    /// such as 168h. Defaults to 720h (30 days).
    #[serde(default = "default_warn_before")]
    pub warn_before: Interval,
}

fn default_warn_before() -> Interval {
    // The text is a constant that a unit test parses.
    "720h".parse().unwrap_or_else(|_| unreachable!())
}

impl GitProviderConnectionSpec {
    /// The name of the public URL that the connection chooses; `None` for the URL without a name.
    #[must_use]
    pub fn public_url_name(&self) -> Option<&str> {
        self.receiver.as_ref()?.public_url.as_deref()
    }
}

/// Public endpoint for deliveries.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReceiverSpec {
    /// Name of the public URL to which webhooks deliver, such as internal: one of the names in Forgebind's flag
    /// `--public-url`, at most 63 lower-case letters, digits and dashes. Defaults to the URL without a name. An unknown
    /// name is reported with the reason `PublicURLMissing`. When it changes, webhooks move to the new URL, and deliveries
    /// in flight to the old one are still accepted.
    #[serde(default, rename = "publicURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("publicURL is the name of an address in --public-url, such as internal: lower-case letters, digits and dashes"))]
    pub public_url: Option<String>,
}

/// Which bindings may use a connection without a `ConnectionGrant`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Access {
    /// Bindings of the connection's own namespace, for webhooks that deliver to Forgebind.
    #[default]
    SameNamespace,
    /// None.
    Granted,
}

/// TLS settings for connections to the provider. Certificate verification cannot be disabled.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsSpec {
    /// Certificate authorities that are trusted for the provider instead of those of the system. Defaults to those of the
    /// system. A missing object or key is reported with the reason `TLSReferenceNotFound`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CertificateAuthorityReference>,
    /// Secret in the same namespace of the type kubernetes.io/tls, with the keys tls.crt and tls.key, presented to a server
    /// that requests a client certificate. If not set, none is presented. A missing Secret or key is reported with the
    /// reason `TLSReferenceNotFound`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<LocalReference>,
}

/// Observed state of the connection. Written only by Forgebind.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GitProviderConnectionStatus {
    /// Generation of the spec that this status describes. While it differs from `metadata.generation`, Forgebind has not
    /// processed the current spec yet; -1 means that it has not processed the object at all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::shared::observed")]
    pub observed_generation: Option<i64>,
    /// Conditions of the connection. Ready summarizes the others. Reachable, Authenticated and Authorized are present as
    /// far as they are known. `CredentialExpiring`, Reconciling and Stalled are present only while they are True. Each
    /// message says what to do next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Provider that the spec names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProviderKind")]
    pub provider: Option<ProviderKind>,
    /// Server at the provider. Absent until it has answered once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerStatus>,
    /// Account of the credential. Absent without a credential and until the credential has been checked once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityStatus>,
    /// What is known about the credential. Contains nothing secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialStatus>,
    /// State of each permission that the bindings need or that `requiredPermissions` lists, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub permissions: Vec<PermissionStatus>,
    /// Number of bindings that use this connection: those that it allows, and those with a webhook that was made through
    /// it. Updated at most every 10 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindings: Option<i64>,
    /// Result of the last listing of the repositories. Absent without `spec.catalog`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogStatus>,
    /// Fingerprint of the install key of the installation that manages this object, 8 hexadecimal digits. Other
    /// installations do not touch the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<String>,
    /// Values of the request annotations that were handled last. A request whose value is listed here is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled: Option<LastHandled>,
}

/// Server at the provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerStatus {
    /// Product, such as Gitea, Forgejo or `GitHubEnterpriseServer`.
    pub flavor: String,
    /// Version of the product. Absent if the server does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Kind of account of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IdentityKind {
    /// Account of a person or of a service user.
    User,
    /// GitHub App.
    App,
    /// Service account of the provider.
    ServiceAccount,
    /// Token that names no account.
    Token,
}

/// Account of the credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdentityStatus {
    /// Name of the account. Absent if the provider does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Kind of account: User (a person or a service user), App, `ServiceAccount` (a service account of the provider) or
    /// Token (a token that names no account).
    pub kind: IdentityKind,
}

/// Kinds of credential, determined by the keys of the Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CredentialKind {
    /// No credential: public repositories only.
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

/// What is known about the credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// Kind of the credential, determined by the keys of the Secret: Anonymous, Token, `BasicAuth`, `EmailToken` or
    /// `GitHubApp`.
    pub kind: CredentialKind,
    /// Name of the credential at the provider. Absent if the provider does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Time at which the credential expires, as reported by the provider, or else as declared in the Secret or the spec.
    /// Absent if not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Scopes or permissions of the credential, as the provider names them. Empty if the provider does not report them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<String>,
    /// Resource version of the Secret that was checked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_resource_version: Option<String>,
}

/// State of a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PermissionState {
    /// The credential has the permission.
    Granted,
    /// The credential lacks the permission; the message names what is missing.
    Missing,
    /// The provider does not report the permission; the message says why.
    Unknown,
}

/// State of a permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PermissionStatus {
    /// Permission, under the same name for every provider.
    pub name: Permission,
    /// Whether the credential itself has the permission, by its scopes: Granted, Missing, or Unknown if the provider does
    /// not report it. Whether its account has the role at a repository is reported by each binding.
    pub state: PermissionState,
    /// What is missing, or why the state is unknown, as the provider names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl ProviderSpec {
    /// Provider whose member is set; `None` for an object that was stored before the rule that requires exactly one.
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

impl GitProviderConnectionSpec {
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
