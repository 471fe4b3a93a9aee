//! The entries of a listing of repositories.

use super::model::{Repository, RepositoryPath};
use crate::api::v1alpha1::binding::Visibility;
use crate::api::v1alpha1::connection::PermissionState;

/// A repository as the provider's list shows it. A field that the list does not contain is `None`: nothing is looked up for a
/// single repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRepository {
    /// The provider's stable id.
    pub id: String,
    /// The canonical path.
    pub path: RepositoryPath,
    /// The project or group that contains it: a key, a name or a path, as the provider addresses it. `None` at a provider without
    /// projects that contain repositories.
    pub project: Option<String>,
    /// Its web address.
    pub web_url: Option<String>,
    /// Its default branch. At some providers also the branch that the first push to an empty repository is expected on.
    pub default_branch: Option<String>,
    /// Who can see it.
    pub visibility: Option<Visibility>,
    /// Whether it is read-only.
    pub archived: Option<bool>,
    /// Whether it has no commit yet.
    pub empty: Option<bool>,
    /// Its topics.
    pub topics: Option<Vec<String>>,
    /// Whether the credential's role lets it manage this repository's hooks. The credential may still lack the permission itself.
    pub webhooks: PermissionState,
}

impl ListedRepository {
    /// An entry from a document that states the same as the document of the repository itself, except its topics.
    #[must_use]
    pub fn of(found: Repository) -> Self {
        Self {
            id: found.id,
            path: found.path,
            project: found.project.map(|project| project.key),
            web_url: found.web_url,
            default_branch: found.default_branch,
            visibility: found.visibility,
            archived: Some(found.archived),
            empty: Some(found.empty),
            topics: None,
            webhooks: found.manage_webhooks.state,
        }
    }
}
