//! Maps Forgebind's permissions to Gitea's scopes.

use crate::api::v1alpha1::Permission;
use crate::providers::permission::{Grants, PermissionFinding};

/// All rights of the account. A password has them.
pub(super) const ALL: &str = "all";
/// A modifier that limits a token to public repositories and organizations.
pub(super) const PUBLIC_ONLY: &str = "public-only";

enum Need {
    /// Scopes, all of which are required.
    Scopes(&'static [&'static str]),
    /// Gitea does not offer the permission, for this reason.
    NotOffered(&'static str),
}

const fn need(permission: Permission, organization: bool) -> Need {
    Need::Scopes(match permission {
        Permission::ReadContents => &["read:repository"],
        Permission::ListRepositories | Permission::ReadOrganization if organization => &["read:organization"],
        Permission::ListRepositories => &["read:user", "read:repository"],
        Permission::ReadIssues => &["read:issue"],
        Permission::WriteContents
        | Permission::OpenPullRequests
        | Permission::WriteCommitStatus
        | Permission::ManageWebhooks
        | Permission::DeleteRepositories
        | Permission::AdministerRepositories => &["write:repository"],
        Permission::CommentOnPullRequests => &["write:issue"],
        Permission::CreateRepositories if organization => &["write:organization"],
        Permission::CreateRepositories => &["write:user", "write:repository"],
        Permission::ReadOrganization => &["read:organization"],
        Permission::ReadAccount => &["read:user"],
        Permission::WriteChecks => return Need::NotOffered("Gitea has no check runs; commit statuses are written with WriteCommitStatus"),
        Permission::WriteDeployments => return Need::NotOffered("Gitea has no deployments"),
        Permission::ListProjects => return Need::NotOffered("Gitea has no projects that hold repositories; owners hold them"),
    })
}

/// Requirements of a permission at an organization, for the documentation: its scopes.
pub(super) fn words(permission: Permission) -> Option<String> {
    match need(permission, true) {
        Need::Scopes(scopes) => Some(scopes.join(" and ")),
        Need::NotOffered(_) => None,
    }
}

/// Evaluates a permission for a token. `organization`: whether the owner is an organization.
pub(super) fn judge(grants: &Grants, permission: Permission, organization: bool) -> PermissionFinding {
    let scopes = match need(permission, organization) {
        Need::Scopes(scopes) => scopes,
        Need::NotOffered(reason) => return PermissionFinding::missing(reason),
    };
    let needs = format!("needs scope {}", scopes.join(" and "));
    match grants {
        Grants::Known(granted) if scopes.iter().all(|scope| covers(granted, scope)) => PermissionFinding::granted(),
        Grants::Known(granted) if granted.is_empty() => PermissionFinding::missing(format!("{needs}; the token has none")),
        Grants::Known(granted) => PermissionFinding::missing(format!("{needs}; the token has {}", granted.join(", "))),
        Grants::Unknown(reason) => PermissionFinding::unknown(format!("{needs}; {reason}")),
    }
}

/// The permissions that can be used on public data without a credential.
pub(super) const PUBLIC: &[Permission] =
    &[Permission::ReadContents, Permission::ListRepositories, Permission::ReadIssues, Permission::ReadOrganization];

fn covers(granted: &[String], scope: &str) -> bool {
    let write = scope.strip_prefix("read:").map(|category| format!("write:{category}"));
    granted.iter().any(|granted| granted == ALL || granted == scope || write.as_deref() == Some(granted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::connection::PermissionState;
    use crate::providers::permission::judge_anonymous;

    fn state(scopes: &[&str], permission: Permission) -> PermissionState {
        judge(&Grants::Known(scopes.iter().map(|&scope| scope.to_owned()).collect()), permission, true).state
    }

    #[test]
    fn dv_22_every_permission_is_judged() {
        use Permission::{
            AdministerRepositories, CommentOnPullRequests, CreateRepositories, DeleteRepositories, ListProjects, ListRepositories,
            ManageWebhooks, OpenPullRequests, ReadAccount, ReadContents, ReadIssues, ReadOrganization, WriteChecks, WriteCommitStatus,
            WriteContents, WriteDeployments,
        };
        for (scopes, granted) in [
            (&["read:repository"][..], &[ReadContents][..]),
            (
                &["write:repository"],
                &[
                    ReadContents,
                    WriteContents,
                    OpenPullRequests,
                    WriteCommitStatus,
                    ManageWebhooks,
                    DeleteRepositories,
                    AdministerRepositories,
                ],
            ),
            (&["read:issue"], &[ReadIssues]),
            (&["write:issue"], &[ReadIssues, CommentOnPullRequests]),
            (&["read:organization"], &[ListRepositories, ReadOrganization]),
            (&["write:organization"], &[ListRepositories, ReadOrganization, CreateRepositories]),
            (&["read:user", "public-only"], &[ReadAccount]),
            (&[], &[]),
        ] {
            for permission in Permission::ALL {
                let expected = if granted.contains(&permission) { PermissionState::Granted } else { PermissionState::Missing };
                assert_eq!(state(scopes, permission), expected, "{permission} with {scopes:?}");
            }
        }
        for permission in Permission::ALL {
            let offered = !matches!(permission, WriteChecks | WriteDeployments | ListProjects);
            assert_eq!(state(&["all"], permission) == PermissionState::Granted, offered, "{permission}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let finding = judge(&Grants::Known(vec!["read:user".into()]), Permission::ManageWebhooks, true);
        assert_eq!(finding.message.unwrap(), "needs scope write:repository; the token has read:user");
        let finding = judge(&Grants::Unknown("this version does not tell".into()), Permission::CreateRepositories, false);
        assert_eq!(finding.state, PermissionState::Unknown);
        assert_eq!(finding.message.unwrap(), "needs scope write:user and write:repository; this version does not tell");
    }

    #[test]
    fn anonymous_reads_what_is_public() {
        assert_eq!(judge_anonymous(Permission::ReadContents, PUBLIC).state, PermissionState::Unknown);
        assert_eq!(judge_anonymous(Permission::ManageWebhooks, PUBLIC).state, PermissionState::Missing);
    }
}
