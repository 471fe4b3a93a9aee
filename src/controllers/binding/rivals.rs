//! Several bindings that want the same hook: the same repository and the same custom URL. Our own URLs never collide.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::observe::custom_url;
use super::ownership::without_mark;
use crate::api::v1alpha1::{ConditionType, Reason, RepoBinding};
use crate::controllers::{View, conditions};

/// One binding's claim to a custom URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// Whether it does not hold the hook at present: holders sort first.
    not_holding: bool,
    /// When the binding was made.
    created: Option<Timestamp>,
    /// Its namespace and name.
    name: (String, String),
    /// The repository's stable id, once known.
    repository_id: Option<String>,
    /// The repository as the spec names it: what is known of a binding that was not looked at yet.
    repository: String,
}

impl Claim {
    /// The claim of a binding.
    #[must_use]
    pub fn of(object: &RepoBinding) -> Self {
        let status = object.status.as_ref();
        let holds = status.and_then(|status| status.webhook.as_ref()).is_some_and(|webhook| !webhook.hooks.is_empty());
        Self {
            not_holding: !holds,
            created: object.metadata.creation_timestamp.as_ref().map(|time| time.0),
            name: (object.namespace().unwrap_or_default(), object.name_any()),
            repository_id: status.and_then(|status| status.repository.as_ref()).map(|repository| repository.id.clone()),
            repository: object.spec.repository.to_lowercase(),
        }
    }
}

/// The claims of others to the custom URL of a binding. Those being deleted, suspended by their own missing grant, or
/// elsewhere do not compete.
#[must_use]
pub fn claims(view: &View, object: &RepoBinding) -> Vec<Claim> {
    others(view, object).iter().map(|other| Claim::of(other)).collect()
}

/// The other bindings that name the same custom URL and are granted and not being deleted.
#[must_use]
pub fn others(view: &View, object: &RepoBinding) -> Vec<Arc<RepoBinding>> {
    let Some(url) = custom_url(object).map(|url| without_mark(&url)) else { return Vec::new() };
    view.bindings.state_filter(|other| {
        other.metadata.uid != object.metadata.uid
            && other.metadata.deletion_timestamp.is_none()
            && custom_url(other).is_some_and(|theirs| without_mark(&theirs) == url)
            && !is_held_back(other)
    })
}

/// Whether a binding may not use its connection. One that was not looked at yet counts as one that may: two that come
/// together must not both take the URL.
fn is_held_back(other: &RepoBinding) -> bool {
    let conditions = other.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions::find(conditions, ConditionType::ConnectionReady).is_some_and(|condition| condition.status == "False")
}

/// The bindings of the same repository that were kept from a hook by another one.
#[must_use]
pub fn waiting(view: &View, object: &RepoBinding) -> Vec<Arc<RepoBinding>> {
    let id = |binding: &RepoBinding| Some(binding.status.as_ref()?.repository.as_ref()?.id.clone());
    let Some(repository) = id(object) else { return Vec::new() };
    view.bindings.state_filter(|other| {
        let conditions = other.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let kept_back = conditions::find(conditions, ConditionType::WebhookInSync).is_some_and(|condition| {
            condition.reason == Reason::ClaimedByAnother.as_str() || condition.reason == Reason::ForeignHook.as_str()
        });
        kept_back && other.metadata.uid != object.metadata.uid && id(other).as_ref() == Some(&repository)
    })
}

/// Whether another claim to the same repository goes before ours: who holds the hook, else the oldest, then the name.
#[must_use]
pub fn another_goes_first(object: &RepoBinding, repository_id: &str, claims: &[Claim]) -> bool {
    let ours = Claim::of(object);
    let key = |claim: &Claim| (claim.not_holding, claim.created, claim.name.clone());
    let same = |claim: &&Claim| match &claim.repository_id {
        Some(id) => id == repository_id,
        None => claim.repository == ours.repository,
    };
    claims.iter().filter(same).any(|claim| key(claim) < key(&ours))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn binding(name: &str, created: &str, holds: bool) -> RepoBinding {
        let hooks = if holds { json!([{"id": "1"}]) } else { json!([]) };
        serde_json::from_value(json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
            "metadata": {"name": name, "namespace": "team", "creationTimestamp": created},
            "spec": {"connectionRef": {"name": "c"}, "repository": "acme/shop",
                "webhook": {"url": "https://argocd.acme.io/api/webhook", "secretRef": {"name": "s"}}},
            "status": {"repository": {"id": "7", "path": "acme/shop"}, "webhook": {"hooks": hooks}},
        }))
        .unwrap()
    }

    #[test]
    fn dt_26_the_holder_goes_first_then_the_oldest_then_the_name() {
        let old = binding("b", "2026-01-01T00:00:00Z", false);
        let new = binding("a", "2026-01-02T00:00:00Z", false);
        let holder = binding("c", "2026-01-03T00:00:00Z", true);
        assert!(another_goes_first(&new, "7", &[Claim::of(&old)]));
        assert!(!another_goes_first(&old, "7", &[Claim::of(&new)]));
        assert!(another_goes_first(&old, "7", &[Claim::of(&holder)]));
        assert!(!another_goes_first(&new, "8", &[Claim::of(&old)]), "another repository is no rival");
        let twin = binding("d", "2026-01-01T00:00:00Z", false);
        assert!(another_goes_first(&twin, "7", &[Claim::of(&old)]));
        assert!(!another_goes_first(&old, "7", &[Claim::of(&twin)]));
    }
}
