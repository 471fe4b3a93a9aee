//! Maps Forgebind's permissions to Bitbucket Data Center's permission levels. The server does not report the levels of a
//! token: what was proven by a successful call is granted, and everything else is unknown.

use crate::api::v1alpha1::Permission;
use crate::providers::permission::{self as permissions, PermissionFinding};

/// The level that lets an account read and change a repository's hooks.
pub(super) const REPOSITORY_ADMINISTRATION: &str = "REPO_ADMIN";
/// The level that lets an account list a project's repositories.
pub(super) const PROJECT_READING: &str = "PROJECT_READ";

enum Need {
    Level(&'static str),
    /// Any authenticated account has the permission.
    Account,
    /// Bitbucket Data Center does not offer the permission, for this reason.
    NotOffered(&'static str),
}

const fn need(permission: Permission) -> Need {
    match permission {
        Permission::ReadContents | Permission::OpenPullRequests | Permission::CommentOnPullRequests | Permission::WriteCommitStatus => {
            Need::Level("REPO_READ")
        }
        Permission::ListRepositories | Permission::ReadOrganization | Permission::ListProjects => Need::Level(PROJECT_READING),
        Permission::WriteContents => Need::Level("REPO_WRITE"),
        Permission::ManageWebhooks | Permission::DeleteRepositories | Permission::AdministerRepositories => {
            Need::Level(REPOSITORY_ADMINISTRATION)
        }
        Permission::CreateRepositories => Need::Level("REPO_CREATE"),
        Permission::ReadAccount => Need::Account,
        Permission::ReadIssues => Need::NotOffered("Bitbucket Data Center has no issues"),
        Permission::WriteChecks => {
            Need::NotOffered("Bitbucket Data Center has no check runs; build statuses are written with WriteCommitStatus")
        }
        Permission::WriteDeployments => Need::NotOffered("Forgebind does not support deployments of Bitbucket Data Center"),
    }
}

/// Requirements of a permission, for the documentation: its level.
pub(super) fn words(permission: Permission) -> Option<String> {
    match need(permission) {
        Need::Level(level) => Some(level.to_owned()),
        Need::Account => Some("any account".to_owned()),
        Need::NotOffered(_) => None,
    }
}

/// Evaluates a permission for a credential. `reads_project`: whether the repositories of the connection's project could be
/// listed.
pub(super) fn judge(permission: Permission, reads_project: bool, untold: &str) -> PermissionFinding {
    match need(permission) {
        Need::Account => PermissionFinding::granted(),
        Need::Level(PROJECT_READING) if reads_project => PermissionFinding::granted(),
        Need::Level(level) => PermissionFinding::unknown(format!("needs {level}; {untold}")),
        Need::NotOffered(reason) => PermissionFinding::missing(reason),
    }
}

/// The permissions that can be used on public data without a credential.
const PUBLIC: &[Permission] =
    &[Permission::ReadContents, Permission::ListRepositories, Permission::ReadOrganization, Permission::ListProjects];

/// Evaluates a permission without a credential: public data can be read, nothing can be written.
pub(super) fn judge_anonymous(permission: Permission) -> PermissionFinding {
    match need(permission) {
        Need::NotOffered(reason) => PermissionFinding::missing(reason),
        _ => permissions::judge_anonymous(permission, PUBLIC),
    }
}

/// Evaluates the permission by whether the repository's hooks are visible, which they are only to administrators of the
/// repository.
pub(super) fn manage_webhooks(sees_hooks: bool) -> PermissionFinding {
    if sees_hooks {
        PermissionFinding::granted()
    } else {
        PermissionFinding::missing(format!(
            "the account or its token needs {REPOSITORY_ADMINISTRATION} on this repository to list its hooks"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::connection::PermissionState;

    const UNTOLD: &str = "a token does not tell";

    #[test]
    fn pk_11_dv_13_every_permission_is_judged_in_the_servers_words() {
        for permission in Permission::ALL {
            let (seen, unseen) = (judge(permission, true, UNTOLD), judge(permission, false, UNTOLD));
            match words(permission) {
                None => assert_eq!((seen.state, unseen.state), (PermissionState::Missing, PermissionState::Missing), "{permission}"),
                Some(words) if words == PROJECT_READING => {
                    assert_eq!((seen.state, unseen.state), (PermissionState::Granted, PermissionState::Unknown), "{permission}");
                    assert_eq!(unseen.message.unwrap(), "needs PROJECT_READ; a token does not tell");
                }
                Some(words) if words == "any account" => assert_eq!(unseen.state, PermissionState::Granted),
                Some(words) => {
                    assert_eq!(seen, unseen, "{permission}");
                    assert_eq!(seen, PermissionFinding::unknown(format!("needs {words}; {UNTOLD}")));
                }
            }
        }
        assert_eq!(words(Permission::ManageWebhooks).as_deref(), Some("REPO_ADMIN"));
        assert!(manage_webhooks(false).message.unwrap().contains("REPO_ADMIN"));
        assert_eq!(manage_webhooks(true).state, PermissionState::Granted);
    }

    #[test]
    fn anonymous_reads_what_is_public() {
        for permission in Permission::ALL {
            let reads = matches!(
                permission,
                Permission::ReadContents | Permission::ListRepositories | Permission::ReadOrganization | Permission::ListProjects
            );
            let expected = if reads { PermissionState::Unknown } else { PermissionState::Missing };
            assert_eq!(judge_anonymous(permission).state, expected, "{permission}");
        }
    }
}
