//! Maps Forgebind's permissions to GitLab's scopes and roles, according to GitLab's documentation of personal access tokens
//! and of permissions.

use crate::api::v1alpha1::Permission;
use crate::providers::permission::{Grants, PermissionFinding};

/// Scope for full access to the API and git.
pub(super) const API: &str = "api";
/// Scope for read-only access to the API.
pub(super) const READ_API: &str = "read_api";

/// Requirements of a permission.
pub(super) enum Need {
    /// Scopes, any of which is sufficient, with the least privileged first, and a role in the group or project.
    Scope(&'static [&'static str], &'static str),
    /// GitLab does not offer the permission, for this reason.
    NotOffered(&'static str),
}

const fn need(permission: Permission) -> Need {
    const READ: &[&str] = &[READ_API, API];
    const WRITE: &[&str] = &[API];
    match permission {
        Permission::ReadContents => Need::Scope(&["read_repository", "write_repository", READ_API, API], "Reporter"),
        Permission::WriteContents => Need::Scope(&["write_repository", API], "Developer"),
        Permission::ListRepositories | Permission::ReadIssues | Permission::ReadOrganization | Permission::ListProjects => {
            Need::Scope(READ, "Guest")
        }
        Permission::CommentOnPullRequests => Need::Scope(WRITE, "Reporter"),
        Permission::OpenPullRequests | Permission::WriteCommitStatus | Permission::WriteDeployments => Need::Scope(WRITE, "Developer"),
        Permission::ManageWebhooks | Permission::AdministerRepositories => Need::Scope(WRITE, "Maintainer"),
        Permission::CreateRepositories => Need::Scope(WRITE, "Developer or Maintainer, as the group decides"),
        Permission::DeleteRepositories => Need::Scope(WRITE, "Owner"),
        Permission::ReadAccount => Need::Scope(&["read_user", READ_API, API], ""),
        Permission::WriteChecks => Need::NotOffered("GitLab has no check runs; commit statuses are written with WriteCommitStatus"),
    }
}

/// Requirements of a permission, for the documentation: the least privileged scope and the role.
pub(super) fn words(permission: Permission) -> Option<String> {
    match need(permission) {
        Need::Scope([least, ..], "") => Some((*least).to_owned()),
        Need::Scope([least, ..], role) => Some(format!("{least} and the role {role}")),
        Need::Scope([], _) | Need::NotOffered(_) => None,
    }
}

/// Evaluates a permission for a token. Roles belong to projects, so they are evaluated with the repository.
pub(super) fn judge(grants: &Grants, permission: Permission) -> PermissionFinding {
    let scopes = match need(permission) {
        Need::Scope(scopes, _) => scopes,
        Need::NotOffered(reason) => return PermissionFinding::missing(reason),
    };
    let needs = format!("needs scope {}", scopes.join(" or "));
    match grants {
        Grants::Known(granted) if has_any(granted, scopes) => PermissionFinding::granted(),
        Grants::Known(granted) if granted.is_empty() => PermissionFinding::missing(format!("{needs}; the token has none")),
        Grants::Known(granted) => PermissionFinding::missing(format!("{needs}; the token has {}", granted.join(", "))),
        Grants::Unknown(reason) => PermissionFinding::unknown(format!("{needs}; {reason}")),
    }
}

/// The permissions that can be used on public data without a credential.
pub(super) const PUBLIC: &[Permission] =
    &[Permission::ReadContents, Permission::ListRepositories, Permission::ReadIssues, Permission::ReadOrganization];

/// Whether any of these scopes was granted.
pub(super) fn has_any(granted: &[String], scopes: &[&str]) -> bool {
    granted.iter().any(|granted| scopes.contains(&granted.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::connection::PermissionState;
    use crate::providers::permission::judge_anonymous;

    fn granted(scopes: &[&str]) -> Vec<Permission> {
        let grants = Grants::Known(scopes.iter().map(|&scope| scope.to_owned()).collect());
        Permission::ALL.into_iter().filter(|permission| judge(&grants, *permission).state == PermissionState::Granted).collect()
    }

    #[test]
    fn df_09_df_10_df_11_every_scope_grants_what_gitlab_says() {
        use Permission::{
            ListProjects, ListRepositories, ManageWebhooks, ReadAccount, ReadContents, ReadIssues, ReadOrganization, WriteChecks,
            WriteContents,
        };
        assert_eq!(granted(&["read_repository"]), [ReadContents], "clone-only");
        assert_eq!(granted(&["write_repository"]), [ReadContents, WriteContents], "push");
        assert_eq!(granted(&["read_user"]), [ReadAccount]);
        assert_eq!(granted(&[]), []);
        let mut read = granted(&["read_api"]);
        read.sort();
        let mut expected = [ReadContents, ListRepositories, ReadIssues, ReadOrganization, ListProjects, ReadAccount];
        expected.sort();
        assert_eq!(read, expected);
        for permission in Permission::ALL {
            assert_eq!(granted(&["api"]).contains(&permission), permission != WriteChecks, "{permission}");
        }
        assert!(!granted(&["read_api", "write_repository", "read_user"]).contains(&ManageWebhooks));
    }

    #[test]
    fn dv_17_pk_09_what_is_missing_is_named() {
        let grants = Grants::Known(vec!["read_repository".into(), "read_user".into()]);
        let finding = judge(&grants, Permission::ManageWebhooks);
        assert_eq!(finding, PermissionFinding::missing("needs scope api; the token has read_repository, read_user"));
        let finding = judge(&grants, Permission::ListRepositories);
        assert_eq!(finding.message.unwrap(), "needs scope read_api or api; the token has read_repository, read_user");
        let unknown = Grants::Unknown("the token is fine-grained".into());
        assert_eq!(judge(&unknown, Permission::ManageWebhooks).message.unwrap(), "needs scope api; the token is fine-grained");
    }

    #[test]
    fn the_documentation_names_scope_and_role() {
        assert_eq!(words(Permission::ManageWebhooks).unwrap(), "api and the role Maintainer");
        assert_eq!(words(Permission::ReadContents).unwrap(), "read_repository and the role Reporter");
        assert_eq!(words(Permission::ReadAccount).unwrap(), "read_user");
        assert_eq!(words(Permission::WriteChecks), None);
    }

    #[test]
    fn anonymous_reads_what_is_public() {
        assert_eq!(judge_anonymous(Permission::ReadContents, PUBLIC).state, PermissionState::Unknown);
        assert_eq!(judge_anonymous(Permission::ManageWebhooks, PUBLIC).state, PermissionState::Missing);
    }
}
