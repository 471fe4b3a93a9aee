//! Maps Forgebind's permissions to Bitbucket Cloud's two sets of scopes.
//!
//! Access tokens have the older scopes, some of which include others ("Authentication methods", "Bitbucket OAuth 2.0
//! scopes"). API tokens have scopes of the form `read:repository:bitbucket`, none of which includes another ("API token
//! permissions").

use std::collections::BTreeSet;

use crate::api::v1alpha1::{EventKind, Permission};
use crate::providers::permission::{Grants, PermissionFinding};

/// Suffix of the scopes of API tokens.
const API_TOKEN_SCOPE: &str = ":bitbucket";

/// Required scopes for each kind of credential. All scopes of a list are required.
struct Scopes {
    access_token: &'static [&'static str],
    api_token: &'static [&'static str],
}

enum Need {
    Scopes(Scopes),
    /// Bitbucket Cloud does not offer the permission, for this reason.
    NotOffered(&'static str),
}

const fn need(permission: Permission) -> Need {
    let (access_token, api_token): (&[_], &[_]) = match permission {
        Permission::ReadContents | Permission::ListRepositories | Permission::WriteCommitStatus => {
            (&["repository"], &["read:repository:bitbucket"])
        }
        Permission::WriteContents => (&["repository:write"], &["read:repository:bitbucket", "write:repository:bitbucket"]),
        Permission::OpenPullRequests => (&["pullrequest:write"], &["read:pullrequest:bitbucket", "write:pullrequest:bitbucket"]),
        Permission::CommentOnPullRequests => (&["pullrequest"], &["read:pullrequest:bitbucket"]),
        Permission::ManageWebhooks => (
            &["webhook", "repository"],
            &["read:webhook:bitbucket", "write:webhook:bitbucket", "delete:webhook:bitbucket", "read:repository:bitbucket"],
        ),
        Permission::CreateRepositories | Permission::AdministerRepositories => (&["repository:admin"], &["admin:repository:bitbucket"]),
        Permission::DeleteRepositories => (&["repository:delete"], &["delete:repository:bitbucket"]),
        Permission::ReadOrganization => (&[], &["read:workspace:bitbucket"]),
        Permission::ListProjects => (&["project"], &["read:project:bitbucket"]),
        Permission::ReadAccount => (&["account"], &["read:user:bitbucket"]),
        Permission::ReadIssues => return Need::NotOffered("Bitbucket Cloud no longer has an issue tracker"),
        Permission::WriteChecks => {
            return Need::NotOffered("Bitbucket Cloud has no check runs; build statuses are written with WriteCommitStatus");
        }
        Permission::WriteDeployments => return Need::NotOffered("Bitbucket Cloud has only the deployments of its own pipelines"),
    };
    Need::Scopes(Scopes { access_token, api_token })
}

/// Scopes for the subject of an event. An account may only create a hook for events whose subject it may read.
const fn event_scopes(event: EventKind) -> Scopes {
    match event {
        EventKind::Push | EventKind::Tag => Scopes { access_token: &["repository"], api_token: &["read:repository:bitbucket"] },
        EventKind::PullRequest | EventKind::PullRequestMerged | EventKind::PullRequestClosed | EventKind::PullRequestComment => {
            Scopes { access_token: &["pullrequest"], api_token: &["read:pullrequest:bitbucket"] }
        }
    }
}

/// Requirements of a permission, for the documentation: its scopes.
pub(super) fn words(permission: Permission) -> Option<String> {
    let Need::Scopes(scopes) = need(permission) else { return None };
    let access_token = if scopes.access_token.is_empty() { "no scope".to_owned() } else { scopes.access_token.join(" and ") };
    Some(format!("{access_token}; API token: {}", scopes.api_token.join(" and ")))
}

/// Evaluates a permission for a credential.
pub(super) fn judge(grants: &Grants, permission: Permission) -> PermissionFinding {
    match need(permission) {
        Need::Scopes(scopes) => judge_scopes(grants, &[scopes]),
        Need::NotOffered(reason) => PermissionFinding::missing(reason),
    }
}

/// Evaluates whether a credential may manage hooks with these events.
pub(super) fn judge_hooks(grants: &Grants, events: &BTreeSet<EventKind>) -> PermissionFinding {
    let Need::Scopes(hooks) = need(Permission::ManageWebhooks) else { return judge(grants, Permission::ManageWebhooks) };
    let scopes: Vec<_> = std::iter::once(hooks).chain(events.iter().map(|event| event_scopes(*event))).collect();
    judge_scopes(grants, &scopes)
}

fn judge_scopes(grants: &Grants, needs: &[Scopes]) -> PermissionFinding {
    let all = |pick: fn(&Scopes) -> &'static [&'static str]| -> Vec<&'static str> {
        let mut seen = BTreeSet::new();
        needs.iter().flat_map(pick).copied().filter(|scope| seen.insert(*scope)).collect()
    };
    let (access_token, api_token) = (all(|scopes| scopes.access_token), all(|scopes| scopes.api_token));
    match grants {
        Grants::Unknown(reason) => {
            let access_token = if access_token.is_empty() { "no scope".to_owned() } else { access_token.join(" and ") };
            let needs = format!("an access token needs {access_token}, an API token {}", api_token.join(" and "));
            PermissionFinding::unknown(format!("{needs}; {reason}"))
        }
        Grants::Known(granted) => {
            let of_api_token = granted.iter().any(|scope| scope.ends_with(API_TOKEN_SCOPE));
            let needed = if of_api_token { api_token } else { access_token };
            let missing: Vec<_> = needed.iter().copied().filter(|scope| !covers(granted, scope)).collect();
            if missing.is_empty() {
                return PermissionFinding::granted();
            }
            let has = if granted.is_empty() { "none".to_owned() } else { granted.join(", ") };
            PermissionFinding::missing(format!("needs scope {}; the token has {has}", missing.join(" and ")))
        }
    }
}

/// Whether a scope was granted directly or is included in a granted one.
fn covers(granted: &[String], scope: &str) -> bool {
    let including: &[&str] = match scope {
        "repository" => &["repository:write", "pullrequest", "pullrequest:write", "project"],
        "repository:write" | "pullrequest" => &["pullrequest:write"],
        "account" => &["account:write"],
        _ => &[],
    };
    granted.iter().any(|granted| granted == scope || including.contains(&granted.as_str()))
}

/// The permissions that can be used on public data without a credential.
pub(super) const PUBLIC: &[Permission] =
    &[Permission::ReadContents, Permission::ListRepositories, Permission::ReadOrganization, Permission::ListProjects];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::connection::PermissionState;
    use crate::providers::permission::judge_anonymous;

    fn known(scopes: &[&str]) -> Grants {
        Grants::Known(scopes.iter().map(|&scope| scope.to_owned()).collect())
    }

    fn granted(scopes: &[&str]) -> Vec<Permission> {
        let is_granted = |permission: &Permission| judge(&known(scopes), *permission).state == PermissionState::Granted;
        Permission::ALL.into_iter().filter(is_granted).collect()
    }

    #[track_caller]
    fn grants(scopes: &[&str], expected: &[Permission]) {
        let mut expected = expected.to_vec();
        expected.sort();
        let mut found = granted(scopes);
        found.sort();
        assert_eq!(found, expected, "{scopes:?}");
    }

    #[test]
    fn dv_13_df_15_every_scope_of_an_api_token_stands_for_itself() {
        use Permission::{
            AdministerRepositories, CommentOnPullRequests, CreateRepositories, DeleteRepositories, ListProjects, ListRepositories,
            ManageWebhooks, OpenPullRequests, ReadAccount, ReadContents, ReadOrganization, WriteCommitStatus, WriteContents,
        };
        let read = [ReadContents, ListRepositories, WriteCommitStatus];
        grants(&["read:repository:bitbucket"], &read);
        grants(&["write:repository:bitbucket"], &[]);
        grants(&["read:repository:bitbucket", "write:repository:bitbucket"], &[&read[..], &[WriteContents]].concat());
        grants(&["read:pullrequest:bitbucket"], &[CommentOnPullRequests]);
        grants(&["read:pullrequest:bitbucket", "write:pullrequest:bitbucket"], &[CommentOnPullRequests, OpenPullRequests]);
        grants(&["admin:repository:bitbucket"], &[CreateRepositories, AdministerRepositories]);
        grants(&["delete:repository:bitbucket"], &[DeleteRepositories]);
        grants(&["read:workspace:bitbucket"], &[ReadOrganization]);
        grants(&["read:project:bitbucket"], &[ListProjects]);
        grants(&["read:user:bitbucket"], &[ReadAccount]);
        let hooks = ["read:webhook:bitbucket", "write:webhook:bitbucket", "delete:webhook:bitbucket", "read:repository:bitbucket"];
        grants(&hooks, &[&read[..], &[ManageWebhooks]].concat());
        for left_out in hooks {
            let rest: Vec<_> = hooks.into_iter().filter(|scope| *scope != left_out).collect();
            let finding = judge(&known(&rest), ManageWebhooks);
            assert_eq!(finding.state, PermissionState::Missing);
            assert!(finding.message.unwrap().starts_with(&format!("needs scope {left_out}; the token has ")));
        }
    }

    #[test]
    fn dv_13_scopes_of_access_tokens_include_others() {
        use Permission::{
            AdministerRepositories, CommentOnPullRequests, CreateRepositories, DeleteRepositories, ListProjects, ListRepositories,
            ManageWebhooks, OpenPullRequests, ReadAccount, ReadContents, ReadOrganization, WriteCommitStatus, WriteContents,
        };
        let read = [ReadContents, ListRepositories, WriteCommitStatus, ReadOrganization];
        let with = |more: &[Permission]| [&read[..], more].concat();
        grants(&["repository"], &read);
        grants(&["repository:write"], &with(&[WriteContents]));
        grants(&["pullrequest"], &with(&[CommentOnPullRequests]));
        grants(&["pullrequest:write"], &with(&[WriteContents, CommentOnPullRequests, OpenPullRequests]));
        grants(&["repository:admin"], &[ReadOrganization, CreateRepositories, AdministerRepositories]);
        grants(&["repository:delete"], &[ReadOrganization, DeleteRepositories]);
        grants(&["project"], &with(&[ListProjects]));
        grants(&["account"], &[ReadOrganization, ReadAccount]);
        grants(&["webhook"], &[ReadOrganization]);
        grants(&["webhook", "repository"], &with(&[ManageWebhooks]));
    }

    #[test]
    fn hooks_need_the_read_scope_of_each_event() {
        let judge = |scopes: &[&str], events: &[EventKind]| judge_hooks(&known(scopes), &events.iter().copied().collect());
        let push = [EventKind::Push, EventKind::Tag];
        let all = [EventKind::Push, EventKind::PullRequestComment];
        assert_eq!(judge(&["webhook", "repository"], &push).state, PermissionState::Granted);
        assert_eq!(judge(&["repository", "webhook"], &all).message.unwrap(), "needs scope pullrequest; the token has repository, webhook");
        assert_eq!(judge(&["webhook", "pullrequest"], &all).state, PermissionState::Granted);
        let hooks = ["delete:webhook:bitbucket", "read:repository:bitbucket", "read:webhook:bitbucket", "write:webhook:bitbucket"];
        assert_eq!(judge(&hooks, &push).state, PermissionState::Granted);
        let finding = judge(&hooks, &[EventKind::PullRequestMerged]);
        assert!(finding.message.unwrap().starts_with("needs scope read:pullrequest:bitbucket; "));
    }

    #[test]
    fn dv_22_what_cannot_be_told_or_is_not_offered_says_so() {
        let untold = judge(&Grants::Unknown("nothing was told".into()), Permission::ReadContents);
        assert_eq!(untold.state, PermissionState::Unknown);
        let expected = "an access token needs repository, an API token read:repository:bitbucket; nothing was told";
        assert_eq!(untold.message.unwrap(), expected);
        for permission in [Permission::ReadIssues, Permission::WriteChecks, Permission::WriteDeployments] {
            assert_eq!(judge(&Grants::Unknown("x".into()), permission).state, PermissionState::Missing, "{permission}");
            assert_eq!(words(permission), None);
        }
        assert_eq!(words(Permission::ReadOrganization).unwrap(), "no scope; API token: read:workspace:bitbucket");
        assert_eq!(judge(&known(&[]), Permission::ReadContents).message.unwrap(), "needs scope repository; the token has none");
        assert_eq!(judge_anonymous(Permission::ReadContents, PUBLIC).state, PermissionState::Unknown);
        assert_eq!(judge_anonymous(Permission::ManageWebhooks, PUBLIC).state, PermissionState::Missing);
    }
}
