//! `spec.catalog` of a connection, and [`RepositorySlice`]: a part of the list of the repositories that its credential reaches.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::core::{NamespaceResourceScope, TypeMeta};
use kube::{CustomResource, CustomResourceExt, KubeSchema, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::binding::Visibility;
use super::connection::PermissionState;
use super::shared::{Interval, is_false};

/// Maximum number of entries of a slice.
pub const SLICE_ENTRIES: usize = 250;
/// Maximum number of repositories of a catalogue.
pub const CATALOG_ENTRIES: usize = 20_000;

/// List of the repositories that the credential reaches.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CatalogSpec {
    /// How often the repositories are listed, as a duration in h, m and s such as 90s, 10m or 1h30m. Defaults to 24h, minimum
    /// 10m. The time of day is derived from the UID of the connection. The annotation `forgebind.dev/catalog-requested-at`
    /// requests a listing at once.
    #[serde(default = "default_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10m')").message("catalog.interval must be at least 10m"))]
    pub interval: Interval,
    /// Paths of the repositories to keep, at most 64 patterns of at most 512 characters. One star matches any text within a path
    /// segment, two stars match across segments; upper and lower case are the same. Empty by default, which keeps every
    /// repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub include: Vec<String>,
    /// Paths of repositories that are not kept although `include` matches them, at most 64 patterns of at most 512 characters.
    /// Empty by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub exclude: Vec<String>,
    /// Whether archived repositories are kept. Defaults to false. Where the provider's list does not tell which repositories are
    /// archived, all of them are kept.
    #[serde(default, skip_serializing_if = "is_false")]
    pub include_archived: bool,
}

fn default_interval() -> Interval {
    // The text is a constant that a unit test parses.
    "24h".parse().unwrap_or_else(|_| unreachable!())
}

/// Result of the last listing of the repositories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CatalogStatus {
    /// Number of repositories in the slices, including those that were missing from the last listing.
    pub repositories: i64,
    /// Number of repositories whose webhooks the credential may manage. Those for which the provider does not tell are not
    /// counted.
    pub webhooks_manageable: i64,
    /// Number of projects or groups that contain the repositories. Absent at a provider without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<i64>,
    /// Time of the last complete listing. Absent before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed_at: Option<Time>,
    /// Digest of the selection in `spec.catalog` and of every slice. A reader whose slices give another digest does not see the
    /// whole list.
    pub digest: String,
}

/// Whether the last complete listing showed a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SliceState {
    /// It did.
    #[default]
    Visible,
    /// It did not, and the repository is not known to be gone.
    NotVisible,
}

/// Repository, as the provider's list shows it. A field that the list does not contain is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SliceEntry {
    /// Stable id at the provider.
    #[schemars(length(max = 128))]
    pub id: String,
    /// Path in the provider's form, such as acme/shop.
    #[schemars(length(max = 1024))]
    pub path: String,
    /// Project or group that contains the repository, as the provider addresses it: a key, a name or a path. Absent at a provider
    /// without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub project: Option<String>,
    /// Default branch. At some providers also the branch that the first push is expected on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub default_branch: Option<String>,
    /// Who can see the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Visibility")]
    pub visibility: Option<Visibility>,
    /// Whether the repository is read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// Whether the repository has no commit yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty: Option<bool>,
    /// Topics of the repository, at most 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), inner(length(max = 64)))]
    pub topics: Option<Vec<String>>,
    /// Whether the credential may manage the webhooks of the repository: Granted, Missing, or Unknown if the provider does not
    /// tell it for a list.
    pub webhooks: PermissionState,
    /// Web address of the repository.
    #[serde(default, rename = "webURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1536))]
    pub web_url: Option<String>,
    /// Time of the first complete listing that did not show the repository. Absent while listings show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Time>,
    /// Visible, or `NotVisible` if the last complete listing did not show the repository and the provider did not say that it is
    /// gone.
    pub state: SliceState,
}

/// The fields of a slice beside its metadata. The definition is derived from this type, which has them below `spec`, and moves them
/// to the top level: a slice is a record, and nobody requests or reports anything by it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "forgebind.dev",
    version = "v1alpha1",
    kind = "SliceDefinition",
    plural = "repositoryslices",
    singular = "repositoryslice",
    shortname = "reposlice",
    namespaced,
    doc = "Part of the list of the repositories that a connection's credential reaches. Written only by Forgebind.",
    annotation("kustomize.toolkit.fluxcd.io/substitute", "disabled"),
    selectable = ".connectionName",
    printcolumn(name = "Connection", type_ = "string", json_path = ".connectionName"),
    printcolumn(name = "Repositories", type_ = "integer", json_path = ".count"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SliceContent {
    /// Name of the connection whose credential reaches the repositories. It is in the same namespace and owns the slice.
    #[schemars(length(min = 1, max = 253))]
    pub connection_name: String,
    /// Number of entries of `repositories`.
    pub count: i64,
    /// Hash of `repositories`.
    #[schemars(length(max = 64))]
    pub hash: String,
    /// Repositories, sorted by path, at most 250. Which of the slices has a repository follows from its id.
    #[serde(default)]
    #[schemars(length(max = 250))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub repositories: Vec<SliceEntry>,
}

/// Part of the list of the repositories that a connection's credential reaches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RepositorySlice {
    /// API version and kind.
    #[serde(flatten, default)]
    pub types: Option<TypeMeta>,
    /// Metadata of the object.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Everything else.
    #[serde(flatten)]
    pub content: SliceContent,
}

/// The kind of the record.
pub const REPOSITORY_SLICE: &str = "RepositorySlice";

impl RepositorySlice {
    /// A slice with its type, for a write.
    #[must_use]
    pub fn new(metadata: ObjectMeta, content: SliceContent) -> Self {
        Self { types: Some(TypeMeta::resource::<Self>()), metadata, content }
    }
}

impl Resource for RepositorySlice {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        REPOSITORY_SLICE.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        super::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        SliceDefinition::version(&()).into_owned().into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        SliceDefinition::plural(&()).into_owned().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl RepositorySlice {
    /// The definition of the kind.
    #[must_use]
    pub fn crd() -> k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition {
        let mut definition = SliceDefinition::crd();
        REPOSITORY_SLICE.clone_into(&mut definition.spec.names.kind);
        for version in &mut definition.spec.versions {
            let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else { continue };
            let fields = schema.properties.as_mut().and_then(|properties| properties.remove("spec"));
            let Some(fields) = fields else { continue };
            schema.properties.get_or_insert_default().extend(fields.properties.unwrap_or_default());
            schema.required = fields.required;
            schema.title = Some(REPOSITORY_SLICE.to_owned());
            version.subresources = None;
        }
        definition
    }
}

#[cfg(test)]
impl SliceEntry {
    /// An entry without the fields that a list may lack.
    pub(crate) fn sample(id: &str, path: &str) -> Self {
        Self {
            id: id.to_owned(),
            path: path.to_owned(),
            project: None,
            default_branch: None,
            visibility: None,
            archived: None,
            empty: None,
            topics: None,
            webhooks: PermissionState::Unknown,
            web_url: None,
            missing_since: None,
            state: SliceState::Visible,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_slice_is_written_and_read_without_a_spec() {
        let content = SliceContent { connection_name: "acme".into(), count: 0, hash: "0a".into(), repositories: Vec::new() };
        let slice = RepositorySlice::new(ObjectMeta { name: Some("acme-0".into()), ..ObjectMeta::default() }, content);
        let written = serde_json::to_value(&slice).unwrap();
        assert_eq!(
            written,
            json!({
                "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepositorySlice", "metadata": {"name": "acme-0"},
                "connectionName": "acme", "count": 0, "hash": "0a", "repositories": [],
            })
        );
        assert_eq!(serde_json::from_value::<RepositorySlice>(written).unwrap(), slice);
    }

    #[test]
    fn the_definition_has_the_fields_at_the_top_level() {
        let definition = serde_json::to_value(RepositorySlice::crd()).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        assert_eq!(schema["required"], json!(["connectionName", "count", "hash"]));
        assert!(schema["properties"]["spec"].is_null() && schema["properties"]["status"].is_null(), "{schema}");
        assert_eq!(schema["properties"]["repositories"]["maxItems"], json!(SLICE_ENTRIES));
        assert_eq!(default_interval().length().as_secs(), 24 * 3600);
    }
}
