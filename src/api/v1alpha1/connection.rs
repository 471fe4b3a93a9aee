//! `GitProviderConnection`: one account at one Git provider.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{
    CertificateAuthorityReference, Interval, LastHandled, LocalReference, ManagementPolicy, Permission, ProviderKind, is_false,
};

/// One account at one Git provider. Its credential lives in a Secret of the same namespace.
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
    /// The provider and the owner at it. Exactly one member.
    pub provider: ProviderSpec,
    /// The credential. Absent: anonymous, public repositories only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsSpec>,
    /// What the credential must be able to do beyond what the bindings need by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub required_permissions: Vec<Permission>,
    /// Which bindings may use this connection. Absent: those of the same namespace, for every repository, with no
    /// `webhook.url` elsewhere. An empty list: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub allowed_bindings: Option<Vec<AllowedBinding>>,
    /// Certificates for the connection to the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// A Secret of the same namespace with the keys `address`, `username` and `password` of an HTTP proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<LocalReference>,
    /// How deliveries of this connection's repositories come in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<ReceiverSpec>,
    /// Whether Forgebind may write at the provider.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
    /// How often the connection is checked again when nothing changes.
    #[serde(default = "default_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s')").message("interval must be at least 10s"))]
    pub interval: Interval,
    /// Stop writing at the provider. Deliveries are still accepted and deletion still cleans up.
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

/// The provider, in its own words. Exactly one member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.github), has(self.gitlab), has(self.bitbucketCloud), has(self.bitbucketDataCenter), has(self.azureDevOps), has(self.gitea)].filter(m, m).size() == 1"
).message("provider needs exactly one of github, gitlab, bitbucketCloud, bitbucketDataCenter, azureDevOps and gitea"))]
pub struct ProviderSpec {
    /// github.com, a data-residency host, or GitHub Enterprise Server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<GitHubSpec>,
    /// gitlab.com or a self-managed GitLab.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gitlab: Option<GitLabSpec>,
    /// bitbucket.org.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitbucket_cloud: Option<BitbucketCloudSpec>,
    /// Bitbucket Data Center or Server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitbucket_data_center: Option<BitbucketDataCenterSpec>,
    /// Azure DevOps Services or Server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_dev_ops: Option<AzureDevOpsSpec>,
    /// Gitea or Forgejo.
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

/// github.com, a data-residency host, or GitHub Enterprise Server.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.organization) != has(self.user)").message("github needs either organization or user"))]
pub struct GitHubSpec {
    /// The organization that owns the repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub organization: Option<String>,
    /// The user that owns the repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub user: Option<String>,
    /// Web address; `https://github.com` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// API address; derived from `url` when absent.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// gitlab.com or a self-managed GitLab.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GitLabSpec {
    /// The group that holds the repositories, as its number or its full path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<IntOrString>,
    /// Web address, path prefix included; `https://gitlab.com` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// API address; derived from `url` when absent.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// bitbucket.org.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BitbucketCloudSpec {
    /// The workspace that owns the repositories.
    #[schemars(length(min = 1, max = 100))]
    pub workspace: String,
    /// The key of the project that holds the repositories; upper-cased before use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub project: Option<String>,
    /// Web address; `https://bitbucket.org` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// API address; `https://api.bitbucket.org/2.0` when absent.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// Bitbucket Data Center or Server.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BitbucketDataCenterSpec {
    /// Web address, context path included.
    pub url: Address,
    /// The key of the project that holds the repositories, or `~user` for a personal one.
    #[schemars(length(min = 1, max = 128))]
    pub project: String,
    /// API address; derived from `url` when absent.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// Azure DevOps Services or Server.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AzureDevOpsSpec {
    /// The organization; at a Server, the collection.
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(validation = Rule::new("!self.contains('/')").message("organization is a name such as acme, not a URL; a Server's address belongs in url"))]
    pub organization: String,
    /// The project that holds the repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub project: Option<String>,
    /// Web address; `https://dev.azure.com` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// API address; derived from `url` when absent.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// Gitea or Forgejo; which of them is told apart at run time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.organization) != has(self.user)").message("gitea needs either organization or user"))]
pub struct GiteaSpec {
    /// Web address, path prefix included.
    pub url: Address,
    /// The organization that owns the repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub organization: Option<String>,
    /// The user that owns the repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub user: Option<String>,
    /// API address; derived from `url` when absent.
    #[serde(default, rename = "apiURL", skip_serializing_if = "Option::is_none")]
    pub api_url: Option<Address>,
}

/// Where the credential is and how long it lasts.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsSpec {
    /// The Secret, in the same namespace. Its keys tell the kind of credential.
    pub secret_ref: LocalReference,
    /// When the credential ends, where the provider cannot tell: a date (its end, UTC) or an RFC 3339 time. The key
    /// `expiresAt` of the Secret wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 40))]
    #[x_kube(validation = Rule::new(
        "self.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2}))?$') && timestamp(self.size() == 10 ? self + 'T23:59:59Z' : self) > timestamp('2000-01-01T00:00:00Z')"
    ).message("expiresAt must be a date such as 2027-03-01 or an RFC 3339 time such as 2027-03-01T12:00:00Z"))]
    pub expires_at: Option<String>,
    /// How long before the end `CredentialExpiring` appears.
    #[serde(default = "default_warn_before")]
    pub warn_before: Interval,
}

fn default_warn_before() -> Interval {
    // The text is a constant that a unit test parses.
    "720h".parse().unwrap_or_else(|_| unreachable!())
}

/// How deliveries come in.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReceiverSpec {
    /// The name of the address to which webhooks deliver, one of those that Forgebind's flag `--public-url` names, such as
    /// internal. Absent: the one without a name. When it changes, webhooks move to the new address; deliveries under way to
    /// the old one are still accepted.
    #[serde(default, rename = "publicURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("publicURL is the name of an address in --public-url, such as internal: lower-case letters, digits and dashes"))]
    pub public_url: Option<String>,
}

/// Which bindings a grant covers.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.namespaces.from == 'Same' || (has(self.repositories) && self.repositories.size() > 0)")
    .message("repositories is required unless namespaces.from is Same; use \"**\" for every repository"))]
pub struct AllowedBinding {
    /// The namespaces whose bindings are allowed.
    pub namespaces: AllowedNamespaces,
    /// Repository paths; `*` matches within a segment, `**` across segments, without regard to case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub repositories: Vec<String>,
    /// Hosts to which these bindings may send deliveries with `webhook.url`: `host`, `host:port` or `*.suffix`.
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

/// The namespaces of a grant.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)")
    .message("selector is required with from: Selector and not allowed otherwise"))]
pub struct AllowedNamespaces {
    /// How they are chosen.
    pub from: NamespacesFrom,
    /// Their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Certificates for the connection to the provider. Verification cannot be switched off.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsSpec {
    /// Certificate authorities to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CertificateAuthorityReference>,
    /// A `kubernetes.io/tls` Secret of the same namespace to present as the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<LocalReference>,
}

/// What Forgebind knows of the connection.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GitProviderConnectionStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reachable, Authenticated, Authorized, and while true `CredentialExpiring`, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderKind>,
    /// The server that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerStatus>,
    /// Who the credential is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityStatus>,
    /// What the credential is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialStatus>,
    /// One row for each permission that is needed or asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub permissions: Vec<PermissionStatus>,
    /// How many bindings use this connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindings: Option<i64>,
    /// Where a GitHub App's own webhook must point.
    #[serde(default, rename = "appWebhookURL", skip_serializing_if = "Option::is_none")]
    pub app_webhook_url: Option<String>,
    /// Fingerprint of the install key that manages this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<String>,
    /// The last annotation values that were acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled: Option<LastHandled>,
}

/// The server that answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerStatus {
    /// Which product it is, such as `Gitea`, `Forgejo` or `GitHubEnterpriseServer`.
    pub flavor: String,
    /// Its version, where it tells.
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

/// Who the credential is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdentityStatus {
    /// Its name, where the provider tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is.
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

/// What the credential is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// Its kind.
    pub kind: CredentialKind,
    /// Its name at the provider, where the provider tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it ends, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Scopes or permissions in the provider's own words, where the provider tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<String>,
    /// The version of the Secret that was examined last.
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

/// One permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PermissionStatus {
    /// The permission.
    pub name: Permission,
    /// Whether it is there.
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
