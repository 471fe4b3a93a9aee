//! `ConnectionGrant`: which bindings may use a connection, and for what.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::LocalReference;

/// Desired state of the grant: the connections that it is about, and the bindings that may use them.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "forgebind.dev",
    version = "v1alpha1",
    kind = "ConnectionGrant",
    plural = "connectiongrants",
    shortname = "gpcg",
    category = "forgebind",
    namespaced,
    status = "ConnectionGrantStatus",
    derive = "PartialEq",
    doc = "Allows bindings to use connections of the grant's own namespace. A binding may do what any of the grants that fit it allows.",
    annotation("kustomize.toolkit.fluxcd.io/substitute", "disabled"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Connection", type_ = "string", json_path = ".spec.connectionRef.name"),
    printcolumn(name = "From", type_ = "string", json_path = ".spec.namespaces.from"),
    printcolumn(name = "Bindings", type_ = "integer", json_path = ".status.bindings"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.connectionRef) != has(self.connectionSelector)")
    .message("a grant needs exactly one of connectionRef and connectionSelector"))]
pub struct ConnectionGrantSpec {
    /// Connection in the same namespace that may be used. Exactly one of `connectionRef` and `connectionSelector` must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_ref: Option<LocalReference>,
    /// Label selector for the connections in the same namespace that may be used. An empty selector selects every connection.
    /// Exactly one of `connectionRef` and `connectionSelector` must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_selector: Option<LabelSelector>,
    /// Namespaces whose bindings may use the connections.
    pub namespaces: GrantedNamespaces,
    /// Repositories that these bindings may name.
    pub repositories: GrantedRepositories,
    /// Hosts to which these bindings may deliver with `webhook.url`, at most 32, each as host, host:port or *.suffix. Empty
    /// by default, which allows no host, not even for bindings of the same namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 262)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub destination_hosts: Vec<String>,
}

/// How namespaces are selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The namespace of the connection.
    Same,
    /// Every namespace.
    All,
    /// The namespaces whose labels match the selector.
    Selector,
}

/// Namespaces of a grant.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)")
    .message("selector is required with from: Selector and not allowed otherwise"))]
pub struct GrantedNamespaces {
    /// How the namespaces are selected: Same is the namespace of the connection, All is every namespace, Selector is the
    /// namespaces whose labels match `selector`.
    pub from: NamespacesFrom,
    /// Label selector for the namespaces. Required if `from` is Selector and not allowed otherwise. An empty selector
    /// matches every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Repositories of a grant.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrantedRepositories {
    /// Repository paths that the grant allows, 1 to 64 patterns of at most 512 characters. One star matches any text within
    /// a path segment, two stars match across segments, so that `**` allows every repository; upper and lower case are the
    /// same.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub include: Vec<String>,
    /// Repository paths that this grant does not allow although `include` matches them, at most 64 patterns of at most 512
    /// characters. Another grant may still allow them. Empty by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub exclude: Vec<String>,
}

/// Observed state of the grant. Written only by Forgebind, which decides nothing by it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionGrantStatus {
    /// Generation of the spec that this status describes. While it differs from `metadata.generation`, Forgebind has not
    /// processed the current spec yet; -1 means that it has not processed the object at all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::shared::observed")]
    pub observed_generation: Option<i64>,
    /// Conditions of the grant. Ready is True while the grant names a connection. Reconciling and Stalled are present only
    /// while they are True. Each message says what to do next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Number of bindings that this grant allows to use its connections. Updated at most every 5 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindings: Option<i64>,
}
