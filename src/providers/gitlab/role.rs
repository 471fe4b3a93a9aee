//! Evaluates roles: which of them may manage the hooks of a project.

use super::wire;
use crate::providers::PermissionFinding;

/// The lowest role that may read and write the hooks of a project.
pub(super) const MAINTAINER: i64 = 40;

/// Name of an access level. GitLab occasionally adds levels.
fn name(level: i64) -> String {
    let name = match level {
        0 => "no access",
        5 => "Minimal Access",
        10 => "Guest",
        15 => "Planner",
        20 => "Reporter",
        30 => "Developer",
        MAINTAINER => "Maintainer",
        50 => "Owner",
        60 => "Admin",
        _ => return format!("access level {level}"),
    };
    format!("{name} ({level})")
}

/// The higher of the roles that a project document shows.
pub(super) fn shown(permissions: Option<&wire::Permissions>) -> Option<i64> {
    let permissions = permissions?;
    let levels = [&permissions.project_access, &permissions.group_access].into_iter().flatten();
    levels.map(|access| access.access_level).max()
}

/// Whether the role is certainly sufficient.
pub(super) fn suffices(level: Option<i64>) -> bool {
    level.is_some_and(|level| level >= MAINTAINER)
}

/// Evaluates a role. `None` means that the account is not a member.
pub(super) fn judge(level: Option<i64>) -> PermissionFinding {
    let has = match level {
        level if suffices(level) => return PermissionFinding::granted(),
        Some(level) => format!("it has {}", name(level)),
        None => "its account is not a member".to_owned(),
    };
    PermissionFinding::missing(format!("the token needs the role {} on this project; {has}", name(MAINTAINER)))
}

/// Evaluates an entry of the list of members.
pub(super) fn judge_member(member: &wire::Member) -> PermissionFinding {
    match &member.member_role {
        // A custom role can include the permission to manage webhooks below Maintainer.
        Some(role) if member.access_level < MAINTAINER => {
            let name = role.name.as_deref().unwrap_or_default();
            PermissionFinding::unknown(format!("GitLab does not report whether the custom role {name} may manage webhooks"))
        }
        _ => judge(Some(member.access_level)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::v1alpha1::connection::PermissionState;

    #[test]
    fn the_higher_role_counts() {
        let shown = |document| shown(serde_json::from_value::<Option<wire::Permissions>>(document).unwrap().as_ref());
        let level = |level: i64| json!({"access_level": level, "notification_level": 3});
        assert_eq!(shown(json!({"project_access": level(30), "group_access": level(40)})), Some(40));
        assert_eq!(shown(json!({"project_access": level(30), "group_access": null})), Some(30));
        assert_eq!(shown(json!({"project_access": null, "group_access": null})), None);
        assert_eq!(shown(json!(null)), None);
    }

    #[test]
    fn bb_10_a_role_below_maintainer_is_named() {
        let finding = judge(Some(30));
        assert_eq!(finding.state, PermissionState::Missing);
        assert_eq!(finding.message.unwrap(), "the token needs the role Maintainer (40) on this project; it has Developer (30)");
        assert_eq!(judge(Some(25)).message.unwrap(), "the token needs the role Maintainer (40) on this project; it has access level 25");
        assert!(judge(None).message.unwrap().ends_with("its account is not a member"));
        assert_eq!((judge(Some(40)), judge(Some(50))), (PermissionFinding::granted(), PermissionFinding::granted()));
    }

    #[test]
    fn a_custom_role_is_not_judged_by_its_base() {
        let judge = |document| judge_member(&serde_json::from_value(document).unwrap());
        let custom = judge(json!({"access_level": 30, "member_role": {"id": 1, "name": "Hook keeper"}}));
        assert_eq!((custom.state, custom.message.unwrap().contains("Hook keeper")), (PermissionState::Unknown, true));
        assert_eq!(judge(json!({"access_level": 40, "member_role": null})), PermissionFinding::granted());
        assert_eq!(judge(json!({"access_level": 20})).state, PermissionState::Missing);
    }
}
