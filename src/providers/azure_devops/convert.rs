//! Converts the API's documents to the types of the provider port.

use url::Url;

use super::wire;
use crate::api::v1alpha1::binding::Visibility;
use crate::providers::model::{Project, Repository, RepositoryPath};
use crate::providers::permission::PermissionFinding;

/// Prefix of full branch names.
const HEADS: &str = "refs/heads/";

/// Converts a repository document, which does not contain who may manage its subscriptions.
pub(super) fn repository(repository: wire::Repository, manage_webhooks: PermissionFinding) -> Repository {
    let visibility = match repository.project.visibility.as_deref() {
        Some("public") => Some(Visibility::Public),
        Some("private") => Some(Visibility::Private),
        // Older versions return `organization`. Any unknown value is treated the same.
        Some(_) => Some(Visibility::Internal),
        None => None,
    };
    let default_branch = repository.default_branch.as_deref().map(|name| name.strip_prefix(HEADS).unwrap_or(name).to_owned());
    let default_branch = default_branch.filter(|name| !name.is_empty());
    Repository {
        path: RepositoryPath::new(format!("{}/{}", repository.project.name, repository.name)),
        id: repository.id,
        web_url: told(repository.web_url),
        clone_url: told(repository.remote_url).map(|url| without_user(&url)),
        ssh_url: told(repository.ssh_url),
        empty: default_branch.is_none(),
        default_branch,
        visibility,
        archived: repository.is_disabled,
        manage_webhooks,
        project: Some(Project { id: repository.project.id, key: repository.project.name }),
    }
}

fn told(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Removes the user name that Azure DevOps Services puts into a clone URL.
fn without_user(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return text.to_owned() };
    // Both fail only for URLs that cannot have a user name.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(document: serde_json::Value) -> Repository {
        repository(serde_json::from_value(document).unwrap(), PermissionFinding::granted())
    }

    #[test]
    fn a_repository_is_described() {
        let found = read(serde_json::from_str(include_str!("../../../tests/fixtures/azure_devops/repository.json")).unwrap());
        assert_eq!(found.path.as_str(), "My Shop/web");
        assert_eq!(found.default_branch.as_deref(), Some("release/1.0"));
        assert_eq!(found.clone_url.as_deref(), Some("https://dev.azure.com/acme/My%20Shop/_git/web"));
        assert_eq!(found.ssh_url.as_deref(), Some("git@ssh.dev.azure.com:v3/acme/My%20Shop/web"));
        assert_eq!(found.visibility, Some(Visibility::Private));
        assert!(!found.empty && !found.archived);
        let project = found.project.unwrap();
        assert_eq!((project.id.as_str(), project.key.as_str()), ("5b1bd0e5-6c7c-4d1b-8a64-6b33b1f3a111", "My Shop"));
    }

    #[test]
    fn a_repository_without_a_default_branch_is_empty() {
        let project = json!({"id": "5b1bd0e5-6c7c-4d1b-8a64-6b33b1f3a111", "name": "Shop"});
        let found = read(json!({"id": "c0ffee00-0000-4000-8000-000000000001", "name": "web", "project": project, "size": 0}));
        assert!(found.empty);
        assert_eq!((found.default_branch, found.visibility, found.archived), (None, None, false));
        let found = read(json!({"id": "1", "name": "web", "project": project, "isDisabled": true, "defaultBranch": "refs/heads/main"}));
        assert!(found.archived && !found.empty);
    }
}
