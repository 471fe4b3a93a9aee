//! Maps Forgebind's permissions to the scopes of classic tokens and to the permission keys of Apps and fine-grained tokens.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::v1alpha1::{EventKind, Permission};
use crate::providers::permission::{self as permissions, Grants, PermissionFinding};

/// The scope that covers public repositories only, where `repo` covers all.
const PUBLIC_REPO: &str = "public_repo";
const REPO: &str = "repo";

/// Requirements of a permission.
struct Need {
    /// Scopes of a classic token, any of which is sufficient. Empty if no classic token can have the permission.
    scopes: &'static [&'static str],
    /// Keys of an App or a fine-grained token, any of which is sufficient. Empty if they need none.
    keys: &'static [Key],
}

/// A permission key with the required level and its title on GitHub's pages.
struct Key {
    name: &'static str,
    level: &'static str,
    title: &'static str,
}

const fn read(name: &'static str, title: &'static str) -> Key {
    Key { name, level: "read", title }
}

const fn write(name: &'static str, title: &'static str) -> Key {
    Key { name, level: "write", title }
}

const CONTENTS_READ: &[Key] = &[read("contents", "Contents")];
const METADATA_READ: &[Key] = &[read("metadata", "Metadata")];
const CONTENTS_WRITE: &[Key] = &[write("contents", "Contents")];
const ISSUES_READ: &[Key] = &[read("issues", "Issues")];
const PULL_REQUESTS_WRITE: &[Key] = &[write("pull_requests", "Pull requests")];
const COMMENTS: &[Key] = &[write("pull_requests", "Pull requests"), write("issues", "Issues")];
const STATUSES_WRITE: &[Key] = &[write("statuses", "Commit statuses")];
const CHECKS_WRITE: &[Key] = &[write("checks", "Checks")];
const DEPLOYMENTS_WRITE: &[Key] = &[write("deployments", "Deployments")];
const HOOKS_WRITE: &[Key] = &[write("repository_hooks", "Webhooks")];
const ADMINISTRATION_WRITE: &[Key] = &[write("administration", "Administration")];
const MEMBERS_READ: &[Key] = &[read("members", "Members")];

/// Returns `None` if GitHub does not have the permission.
const fn need(permission: Permission) -> Option<Need> {
    let (scopes, keys): (&'static [&'static str], &'static [Key]) = match permission {
        Permission::ReadContents => (&[REPO], CONTENTS_READ),
        Permission::ListRepositories => (&[REPO], METADATA_READ),
        Permission::WriteContents => (&[REPO], CONTENTS_WRITE),
        Permission::ReadIssues => (&[REPO], ISSUES_READ),
        Permission::OpenPullRequests => (&[REPO], PULL_REQUESTS_WRITE),
        Permission::CommentOnPullRequests => (&[REPO], COMMENTS),
        Permission::WriteCommitStatus => (&["repo:status", REPO], STATUSES_WRITE),
        Permission::WriteChecks => (&[], CHECKS_WRITE),
        Permission::WriteDeployments => (&["repo_deployment", REPO], DEPLOYMENTS_WRITE),
        Permission::ManageWebhooks => (&["admin:repo_hook", REPO], HOOKS_WRITE),
        Permission::CreateRepositories | Permission::AdministerRepositories => (&[REPO], ADMINISTRATION_WRITE),
        Permission::DeleteRepositories => (&["delete_repo"], ADMINISTRATION_WRITE),
        Permission::ReadOrganization => (&["read:org"], MEMBERS_READ),
        Permission::ReadAccount => (&["read:user"], &[]),
        Permission::ListProjects => return None,
    };
    Some(Need { scopes, keys })
}

/// Reason why no credential can have this permission.
const NO_PROJECTS: &str = "GitHub has no projects that hold repositories; owners hold them";
/// Reason why no token of a person can write check runs.
const APPS_ONLY: &str = "only GitHub Apps can write check runs; commit statuses are written with WriteCommitStatus";

/// Requirements of a permission, for the documentation: scopes of a classic token, then keys of an App or a fine-grained
/// token.
pub(super) fn words(permission: Permission) -> Option<String> {
    let need = need(permission)?;
    let keys = spell(need.keys);
    Some(match (need.scopes, keys.as_str()) {
        ([], keys) => format!("App: {keys}"),
        (scopes, "") => scopes.join(" or "),
        (scopes, keys) => format!("{}; App or fine-grained: {keys}", scopes.join(" or ")),
    })
}

fn spell(keys: &[Key]) -> String {
    keys.iter().map(|key| format!("{}:{} ({})", key.name, key.level, key.title)).collect::<Vec<_>>().join(" or ")
}

/// Evaluates a permission for a token. Known scopes are those of a classic token; for fine-grained tokens GitHub reports
/// none.
pub(super) fn judge_token(grants: &Grants, permission: Permission) -> PermissionFinding {
    let Some(need) = need(permission) else { return PermissionFinding::missing(NO_PROJECTS) };
    if need.scopes.is_empty() {
        return PermissionFinding::missing(APPS_ONLY);
    }
    match grants {
        Grants::Known(scopes) => judge_scopes(scopes, &need),
        Grants::Unknown(_) if need.keys.is_empty() => PermissionFinding::granted(),
        Grants::Unknown(reason) => PermissionFinding::unknown(format!("needs permission {}; {reason}", spell(need.keys))),
    }
}

fn judge_scopes(granted: &[String], need: &Need) -> PermissionFinding {
    if need.scopes.iter().any(|scope| covers(granted, scope)) {
        return PermissionFinding::granted();
    }
    if need.scopes.contains(&REPO) && granted.iter().any(|scope| scope == PUBLIC_REPO) {
        return PermissionFinding::unknown("scope public_repo covers public repositories only; private ones need scope repo");
    }
    let needs = format!("needs scope {}", need.scopes.join(" or "));
    let has = if granted.is_empty() { "none".to_owned() } else { granted.join(", ") };
    PermissionFinding::missing(format!("{needs}; the token has {has}"))
}

/// Whether the granted scopes contain `wanted` or a scope that implies it. GitHub does not list implied scopes.
fn covers(granted: &[String], wanted: &str) -> bool {
    let implied_by: &[&str] = match wanted {
        "repo:status" | "repo_deployment" => &[REPO],
        "read:org" => &["write:org", "admin:org"],
        "read:user" => &["user"],
        _ => &[],
    };
    granted.iter().any(|scope| scope == wanted || implied_by.contains(&scope.as_str()))
}

/// Evaluates a permission for an App by the permission keys of its installation.
pub(super) fn judge_app(granted: &BTreeMap<String, String>, permission: Permission) -> PermissionFinding {
    let Some(need) = need(permission) else { return PermissionFinding::missing(NO_PROJECTS) };
    let has = |key: &Key| granted.get(key.name).is_some_and(|level| rank(level) >= rank(key.level));
    if need.keys.is_empty() || need.keys.iter().any(has) {
        return PermissionFinding::granted();
    }
    let found: Vec<_> = granted.iter().map(|(key, level)| format!("{key}:{level}")).collect();
    let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    PermissionFinding::missing(format!("needs permission {}; the installation has {found}", spell(need.keys)))
}

fn rank(level: &str) -> u8 {
    match level {
        "read" => 1,
        "write" => 2,
        "admin" => 3,
        _ => 0,
    }
}

/// The permissions that can be used on public data without a credential.
const PUBLIC: &[Permission] =
    &[Permission::ReadContents, Permission::ListRepositories, Permission::ReadIssues, Permission::ReadOrganization];

/// Evaluates a permission without a credential: public data can be read, nothing can be written.
pub(super) fn judge_anonymous(permission: Permission) -> PermissionFinding {
    match permission {
        Permission::ListProjects => PermissionFinding::missing(NO_PROJECTS),
        _ => permissions::judge_anonymous(permission, PUBLIC),
    }
}

/// Evaluates whether an App may manage hooks with these events. GitHub sends an App general comments on pull requests only
/// if the App may read issues.
pub(super) fn judge_app_hooks(granted: &BTreeMap<String, String>, events: &BTreeSet<EventKind>) -> PermissionFinding {
    let manages = judge_app(granted, Permission::ManageWebhooks);
    let comments = judge_app(granted, Permission::ReadIssues);
    match comments.message {
        Some(missing) if manages.message.is_none() && events.contains(&EventKind::PullRequestComment) => {
            PermissionFinding::missing(format!("the event issue_comment {missing}"))
        }
        _ => manages,
    }
}

/// Permissions requested for the operator's own tokens, limited to those of the installation. They are sufficient to look
/// up repositories, read branches and manage hooks with the supported events, and for nothing else.
pub(super) fn narrowed(granted: &BTreeMap<String, String>) -> BTreeMap<&'static str, &'static str> {
    const OURS: [(&str, &str); 5] =
        [("contents", "read"), ("issues", "read"), ("metadata", "read"), ("pull_requests", "read"), ("repository_hooks", "write")];
    let narrow = |(key, level): (&'static str, &'static str)| match granted.get(key).map(|level| rank(level)) {
        Some(has) if has >= rank(level) => Some((key, level)),
        Some(1) => Some((key, "read")),
        _ => None,
    };
    OURS.into_iter().filter_map(narrow).collect()
}

/// Converts the permissions of an installation to grants: `key:level`, sorted.
pub(super) fn grants(granted: &BTreeMap<String, String>) -> Grants {
    Grants::Known(granted.iter().map(|(key, level)| format!("{key}:{level}")).collect())
}

/// Converts the result of [`grants`] back.
pub(super) fn keys(grants: &Grants) -> BTreeMap<String, String> {
    let Grants::Known(grants) = grants else { return BTreeMap::new() };
    grants.iter().filter_map(|grant| grant.split_once(':')).map(|(key, level)| (key.to_owned(), level.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use Permission::{
        AdministerRepositories, CommentOnPullRequests, CreateRepositories, DeleteRepositories, ListRepositories, ManageWebhooks,
        OpenPullRequests, ReadAccount, ReadContents, ReadIssues, ReadOrganization, WriteChecks, WriteCommitStatus, WriteContents,
        WriteDeployments,
    };

    use super::*;
    use crate::api::v1alpha1::connection::PermissionState;

    fn scopes(scopes: &[&str]) -> Grants {
        Grants::Known(scopes.iter().map(|&scope| scope.to_owned()).collect())
    }

    fn installation(keys: &[(&str, &str)]) -> BTreeMap<String, String> {
        keys.iter().map(|&(key, level)| (key.to_owned(), level.to_owned())).collect()
    }

    /// Everything that `repo` covers.
    const BY_REPO: [Permission; 11] = [
        ReadContents,
        ListRepositories,
        WriteContents,
        ReadIssues,
        OpenPullRequests,
        CommentOnPullRequests,
        WriteCommitStatus,
        WriteDeployments,
        ManageWebhooks,
        CreateRepositories,
        AdministerRepositories,
    ];

    #[test]
    fn dt_06_dt_07_dt_08_every_scope_grants_what_it_covers_and_no_more() {
        for (granted, covered) in [
            (&["repo"][..], &BY_REPO[..]),
            (&["delete_repo"], &[DeleteRepositories]),
            (&["admin:org"], &[ReadOrganization]),
            (&["write:org"], &[ReadOrganization]),
            (&["read:org"], &[ReadOrganization]),
            (&["repo:status"], &[WriteCommitStatus]),
            (&["repo_deployment"], &[WriteDeployments]),
            (&["admin:repo_hook"], &[ManageWebhooks]),
            (&["user"], &[ReadAccount]),
            (&["read:user"], &[ReadAccount]),
            (&["write:repo_hook", "gist"], &[]),
            (&[], &[]),
        ] {
            for permission in Permission::ALL {
                let expected = if covered.contains(&permission) { PermissionState::Granted } else { PermissionState::Missing };
                assert_eq!(judge_token(&scopes(granted), permission).state, expected, "{permission} with {granted:?}");
            }
        }
    }

    #[test]
    fn dt_06_a_missing_scope_is_named_with_what_it_blocks() {
        let message = |permission| judge_token(&scopes(&["read:org"]), permission).message.unwrap();
        assert_eq!(message(DeleteRepositories), "needs scope delete_repo; the token has read:org");
        assert_eq!(message(ManageWebhooks), "needs scope admin:repo_hook or repo; the token has read:org");
        let nothing = judge_token(&scopes(&[]), ReadOrganization).message.unwrap();
        assert_eq!(nothing, "needs scope read:org; the token has none");
    }

    #[test]
    fn dt_07_public_repo_covers_public_repositories() {
        for permission in BY_REPO {
            let finding = judge_token(&scopes(&["public_repo"]), permission);
            assert_eq!(finding.state, PermissionState::Unknown, "{permission}");
            assert!(finding.message.unwrap().contains("public repositories only"));
        }
        assert_eq!(judge_token(&scopes(&["public_repo"]), DeleteRepositories).state, PermissionState::Missing);
    }

    #[test]
    fn what_a_fine_grained_token_may_do_is_unknown_and_what_it_needs_is_said() {
        let grants = Grants::Unknown("GitHub does not report the permissions of a fine-grained token".into());
        let finding = judge_token(&grants, ManageWebhooks);
        assert_eq!(finding.state, PermissionState::Unknown);
        assert_eq!(
            finding.message.unwrap(),
            "needs permission repository_hooks:write (Webhooks); GitHub does not report the permissions of a fine-grained token"
        );
        assert_eq!(judge_token(&grants, ReadAccount).state, PermissionState::Granted);
        assert_eq!(judge_token(&grants, WriteChecks).state, PermissionState::Missing, "no person's token writes check runs");
    }

    #[test]
    fn dv_05_dv_06_dv_07_pk_02_pk_36_each_permission_of_an_app_is_judged_by_itself() {
        for (granted, covered) in [
            (&[("issues", "read")][..], &[ReadIssues][..]),
            (&[("issues", "write")], &[ReadIssues, CommentOnPullRequests]),
            (&[("metadata", "read")], &[ListRepositories]),
            (&[("contents", "read")], &[ReadContents]),
            (&[("contents", "write")], &[ReadContents, WriteContents]),
            (&[("pull_requests", "read")], &[]),
            (&[("pull_requests", "write")], &[OpenPullRequests, CommentOnPullRequests]),
            (&[("repository_hooks", "read")], &[]),
            (&[("repository_hooks", "write")], &[ManageWebhooks]),
            (&[("statuses", "write")], &[WriteCommitStatus]),
            (&[("checks", "write")], &[WriteChecks]),
            (&[("deployments", "write")], &[WriteDeployments]),
            (&[("administration", "write")], &[CreateRepositories, DeleteRepositories, AdministerRepositories]),
            (&[("members", "read")], &[ReadOrganization]),
            (&[("repository_hooks", "nonsense")], &[]),
            (&[], &[]),
        ] {
            for permission in Permission::ALL {
                let granted_here = covered.contains(&permission) || permission == ReadAccount;
                let expected = if granted_here { PermissionState::Granted } else { PermissionState::Missing };
                assert_eq!(judge_app(&installation(granted), permission).state, expected, "{permission} with {granted:?}");
            }
        }
    }

    #[test]
    fn dv_05_a_missing_permission_of_an_app_is_named() {
        let finding = judge_app(&installation(&[("contents", "read"), ("metadata", "read")]), ManageWebhooks);
        let expected = "needs permission repository_hooks:write (Webhooks); the installation has contents:read, metadata:read";
        assert_eq!(finding.message.unwrap(), expected);
    }

    #[test]
    fn dv_05_an_app_needs_issues_read_for_comments_and_for_nothing_else() {
        let (push, comments) = ([EventKind::Push].into(), [EventKind::Push, EventKind::PullRequestComment].into());
        let without = installation(&[("repository_hooks", "write")]);
        assert_eq!(judge_app_hooks(&without, &push), PermissionFinding::granted());
        let missing = judge_app_hooks(&without, &comments);
        assert_eq!(missing.state, PermissionState::Missing);
        assert!(missing.message.unwrap().starts_with("the event issue_comment needs permission issues:read (Issues)"));
        let with = installation(&[("issues", "read"), ("repository_hooks", "write")]);
        assert_eq!(judge_app_hooks(&with, &comments), PermissionFinding::granted());
        let neither = judge_app_hooks(&BTreeMap::new(), &comments);
        assert!(neither.message.unwrap().contains("repository_hooks:write"), "the first thing first");
    }

    #[test]
    fn our_own_tokens_are_narrowed_to_what_is_granted_and_needed() {
        let all = installation(&[
            ("administration", "write"),
            ("contents", "write"),
            ("metadata", "read"),
            ("pull_requests", "write"),
            ("repository_hooks", "write"),
        ]);
        let expected =
            BTreeMap::from([("contents", "read"), ("metadata", "read"), ("pull_requests", "read"), ("repository_hooks", "write")]);
        assert_eq!(narrowed(&all), expected);
        let few = installation(&[("metadata", "read"), ("repository_hooks", "read")]);
        assert_eq!(narrowed(&few), BTreeMap::from([("metadata", "read"), ("repository_hooks", "read")]));
        assert_eq!(narrowed(&BTreeMap::new()), BTreeMap::new());
    }

    #[test]
    fn grants_are_read_back_as_they_were() {
        let granted = installation(&[("metadata", "read"), ("contents", "write")]);
        assert_eq!(grants(&granted), scopes(&["contents:write", "metadata:read"]));
        assert_eq!(keys(&grants(&granted)), granted);
    }

    #[test]
    fn every_permission_has_words_but_projects() {
        for permission in Permission::ALL {
            assert_eq!(words(permission).is_none(), permission == Permission::ListProjects, "{permission}");
        }
        assert_eq!(words(ManageWebhooks).unwrap(), "admin:repo_hook or repo; App or fine-grained: repository_hooks:write (Webhooks)");
        assert_eq!(words(WriteChecks).unwrap(), "App: checks:write (Checks)");
        assert_eq!(words(ReadAccount).unwrap(), "read:user");
    }

    #[test]
    fn anonymous_reads_what_is_public() {
        assert_eq!(judge_anonymous(ReadContents).state, PermissionState::Unknown);
        assert_eq!(judge_anonymous(ManageWebhooks).state, PermissionState::Missing);
    }
}
