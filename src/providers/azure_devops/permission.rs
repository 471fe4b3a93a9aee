//! Maps Forgebind's permissions to the scopes of a personal access token.

use crate::api::v1alpha1::Permission;
use crate::providers::permission::{self as permissions, PermissionFinding};

/// Required permissions that no scope covers, with their names in the documentation of service hooks.
pub(super) const SUBSCRIPTIONS: &str = "View, Edit and Delete subscriptions";
/// The scope that every feature needs.
pub(super) const CODE_READ: &str = "Code (Read), vso.code";
const PROJECT_READ: &str = "Project and Team (Read), vso.project";

/// What successful calls proved about a credential, because the API does not report a token's scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Proven {
    /// Whether repositories could be listed.
    pub(super) code: bool,
    /// Whether projects can be listed. `None` if the answer did not show it.
    pub(super) projects: Option<bool>,
}

/// The scope of a permission, by its names on the page for tokens and in the API. `None` if Azure DevOps does not offer the
/// permission.
const fn scope(permission: Permission) -> Option<&'static str> {
    Some(match permission {
        Permission::ReadContents | Permission::ListRepositories | Permission::ManageWebhooks => CODE_READ,
        Permission::WriteContents | Permission::OpenPullRequests | Permission::CommentOnPullRequests => {
            "Code (Read & write), vso.code_write"
        }
        Permission::WriteCommitStatus => "Code (Status), vso.code_status",
        Permission::CreateRepositories | Permission::DeleteRepositories | Permission::AdministerRepositories => {
            "Code (Read, write, & manage), vso.code_manage"
        }
        Permission::ReadIssues => "Work Items (Read), vso.work",
        Permission::ReadOrganization | Permission::ListProjects => PROJECT_READ,
        Permission::ReadAccount => "User Profile (Read), vso.profile",
        Permission::WriteChecks | Permission::WriteDeployments => return None,
    })
}

/// Requirements of a permission, for the documentation.
pub(super) fn words(permission: Permission) -> Option<String> {
    let scope = scope(permission)?;
    Some(match permission {
        Permission::ManageWebhooks => format!("{scope}, and the permissions {SUBSCRIPTIONS}"),
        _ => scope.to_owned(),
    })
}

/// Evaluates a permission by what was proven.
pub(super) fn judge(proven: Proven, permission: Permission) -> PermissionFinding {
    let Some(scope) = scope(permission) else { return not_offered(permission) };
    let proof = match permission {
        Permission::ReadContents | Permission::ListRepositories => Some(true).filter(|_| proven.code),
        Permission::ReadOrganization | Permission::ListProjects => proven.projects,
        _ => None,
    };
    match (proof, permission) {
        (Some(true), _) => PermissionFinding::granted(),
        (Some(false), _) => PermissionFinding::missing(format!("needs scope {scope}")),
        (None, Permission::ManageWebhooks) => PermissionFinding::unknown(format!(
            "needs the permissions {SUBSCRIPTIONS}, which belong to a project and are checked for each repository"
        )),
        (None, _) => PermissionFinding::unknown(format!("needs scope {scope}; Azure DevOps does not report a token's scopes")),
    }
}

/// Evaluates a permission for a credential that only git accepts.
pub(super) fn judge_git_only(permission: Permission) -> PermissionFinding {
    match (permission, scope(permission)) {
        (_, None) => not_offered(permission),
        (Permission::ReadContents, _) => PermissionFinding::unknown("the credential works for git only; it is checked for each repository"),
        (_, Some(scope)) => PermissionFinding::unknown(format!(
            "not available: the credential works for git only; a personal access token with scope {scope} is needed"
        )),
    }
}

/// The permissions that can be used on public data without a credential.
const PUBLIC: &[Permission] = &[
    Permission::ReadContents,
    Permission::ListRepositories,
    Permission::ReadIssues,
    Permission::ReadOrganization,
    Permission::ListProjects,
];

/// Evaluates a permission without a credential: public data can be read, nothing can be written.
pub(super) fn judge_anonymous(permission: Permission) -> PermissionFinding {
    match permission {
        Permission::WriteChecks | Permission::WriteDeployments => not_offered(permission),
        _ => permissions::judge_anonymous(permission, PUBLIC),
    }
}

fn not_offered(permission: Permission) -> PermissionFinding {
    PermissionFinding::missing(match permission {
        Permission::WriteChecks => "Azure DevOps has no check runs; commit statuses are written with WriteCommitStatus",
        _ => "Azure DevOps has no deployments of repositories",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::connection::PermissionState::{Granted, Missing, Unknown};

    #[test]
    fn dv_19_dv_21_pk_18_what_reading_proves_is_granted_and_the_rest_says_what_it_needs() {
        let proven = Proven { code: true, projects: Some(true) };
        for permission in Permission::ALL {
            let finding = judge(proven, permission);
            let expected = match permission {
                Permission::ReadContents | Permission::ListRepositories | Permission::ReadOrganization | Permission::ListProjects => {
                    Granted
                }
                Permission::WriteChecks | Permission::WriteDeployments => Missing,
                _ => Unknown,
            };
            assert_eq!(finding.state, expected, "{permission}");
            assert_eq!(finding.message.is_none(), expected == Granted, "{permission}");
        }
        let words = |permission| judge(proven, permission).message.unwrap();
        assert!(words(Permission::WriteContents).contains("Code (Read & write)"));
        assert!(words(Permission::WriteCommitStatus).contains("vso.code_status"));
        assert!(words(Permission::ManageWebhooks).contains("View, Edit and Delete subscriptions"));
        let without = judge(Proven { code: true, projects: Some(false) }, Permission::ListProjects);
        assert_eq!((without.state, without.message.unwrap().as_str()), (Missing, "needs scope Project and Team (Read), vso.project"));
        assert_eq!(judge(Proven::default(), Permission::ListProjects).state, Unknown);
    }

    #[test]
    fn df_19_with_git_only_credentials_the_api_is_reported_as_unavailable() {
        for permission in Permission::ALL {
            let expected = if matches!(permission, Permission::WriteChecks | Permission::WriteDeployments) { Missing } else { Unknown };
            let finding = judge_git_only(permission);
            assert_eq!(finding.state, expected, "{permission}");
            assert!(finding.message.is_some());
        }
        assert!(judge_git_only(Permission::ManageWebhooks).message.unwrap().contains("git only"));
    }

    #[test]
    fn anonymous_reads_what_is_public() {
        assert_eq!(judge_anonymous(Permission::ReadContents).state, Unknown);
        assert_eq!(judge_anonymous(Permission::ManageWebhooks).state, Missing);
    }

    #[test]
    fn every_permission_has_its_words() {
        for permission in Permission::ALL {
            let offered = !matches!(permission, Permission::WriteChecks | Permission::WriteDeployments);
            assert_eq!(words(permission).is_some(), offered, "{permission}");
        }
        assert_eq!(
            words(Permission::ManageWebhooks).unwrap(),
            "Code (Read), vso.code, and the permissions View, Edit and Delete subscriptions"
        );
    }
}
