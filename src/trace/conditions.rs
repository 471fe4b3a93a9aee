//! Links that are what a condition says. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::chain::Link;
use crate::api::v1alpha1::{ConditionType, Reason, RepoBinding};
use crate::k8s::conditions::find;

/// The condition of a binding.
pub(super) fn condition(binding: &RepoBinding, kind: ConditionType) -> Option<&Condition> {
    find(&binding.status.as_ref()?.conditions, kind)
}

/// What helps against the reason of a condition, in the words of the reference.
pub(super) fn remedy(reason: &str) -> String {
    let known = Reason::ALL.iter().find(|known| known.as_str() == reason);
    known.map_or_else(|| "Follow the message.".to_owned(), |known| known.remedy().replace('`', ""))
}

/// A link that is broken for the reason of a condition.
pub(super) fn failing(link: &str, condition: &Condition) -> Link {
    Link::fail(link, format!("{}: {}", condition.reason, condition.message), remedy(&condition.reason))
}

/// A link that is what a condition says.
pub(super) fn as_condition(link: &str, condition: Option<&Condition>, is_ok: impl FnOnce() -> String) -> Link {
    match condition {
        Some(condition) if condition.status == "True" => Link::ok(link, is_ok()),
        Some(condition) if condition.status == "False" => failing(link, condition),
        Some(condition) => Link::unknown(link, format!("{}: {}", condition.reason, condition.message)),
        None => Link::unknown(link, "not checked yet"),
    }
}
