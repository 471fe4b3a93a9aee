//! Whether a repository is the one that a binding asks for. Pure.

use url::Url;

use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::RepositoryStatus;
use crate::providers::{Repository, RepositoryPath};

/// Whether the spec still names the known repository as it did when the repository was found: same connection, same server and
/// same path. Ids and paths of another server do not count.
pub fn is_as_requested(object: &RepoBinding, api: &Url, path: &RepositoryPath, known: &RepositoryStatus) -> bool {
    match &known.requested {
        Some(requested) => {
            // The status of an earlier version does not contain the server.
            let same_server = requested.api.as_ref().is_none_or(|known| known == api.as_str());
            same_server && requested.connection == object.connection_target() && path.same_as(&requested.path)
        }
        None => path.same_as(&known.path),
    }
}

/// Whether a repository that was found is the one that the binding is bound to.
pub fn is_same_repository(object: &RepoBinding, api: &Url, path: &RepositoryPath, found: &Repository) -> bool {
    let known = object.known_repository();
    known.is_none_or(|known| known.id == found.id || !is_as_requested(object, api, path, known))
}
