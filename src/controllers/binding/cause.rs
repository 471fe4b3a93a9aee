//! Determines the cause of a hook change, a metric label that separates repairs from requested changes.

use super::hooks::HookAction;
use crate::api::v1alpha1::RepoBinding;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Somebody changed the object, its connection or the installation, or deleted the object.
    Request,
    Rotation,
    /// Somebody or something changed, duplicated or removed the hook at the provider.
    Repair,
}

impl Cause {
    pub const ALL: [Self; 3] = [Self::Request, Self::Rotation, Self::Repair];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Rotation => "rotation",
            Self::Repair => "repair",
        }
    }

    /// Derives the cause of an action from the object as it was before. `clearing`: the action removes hooks at a cleanup target.
    pub fn of(action: &HookAction, object: &RepoBinding, clearing: bool) -> Self {
        let status = object.status.as_ref();
        let asked =
            clearing || object.is_being_deleted() || status.is_none_or(|status| status.observed_generation != object.metadata.generation);
        let webhook = status.and_then(|status| status.webhook.as_ref());
        let Some(webhook) = webhook.filter(|webhook| !asked && !webhook.hooks.is_empty()) else { return Self::Request };
        let rotated = |secret_version: &str| webhook.secret_version.as_deref().is_some_and(|known| known != secret_version);
        match action {
            HookAction::Create(intent) if rotated(&intent.secret_version) => Self::Rotation,
            HookAction::Update { intent, .. } if rotated(&intent.secret_version) => Self::Rotation,
            // Another address with the same secret means another public URL, or an adoption.
            HookAction::Update { drift, .. } if drift.iter().all(|field| *field == "url") => Self::Request,
            HookAction::Delete { .. } if !webhook.previous_secrets.is_empty() => Self::Rotation,
            HookAction::Create(_) | HookAction::Update { .. } | HookAction::Delete { .. } => Self::Repair,
            HookAction::Release { .. } => Self::Request,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::json;

    use super::super::hooks::HookIntent;
    use super::*;
    use crate::protocol::secret::WebhookSecret;
    use crate::providers::model::{HookShape, HookUrl};

    fn object(observed: i64, secret_version: &str, previous: &[&str]) -> RepoBinding {
        let previous: Vec<_> = previous.iter().map(|secret_version| json!({"version": secret_version})).collect();
        serde_json::from_value(json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
            "metadata": {"name": "shop", "namespace": "team-shop", "generation": 2},
            "spec": {"connectionRef": {"name": "acme"}, "repository": "acme/shop"},
            "status": {
                "observedGeneration": observed, "conditions": [],
                "webhook": {"hooks": [{"id": "1"}], "secretVersion": secret_version, "previousSecrets": previous},
            },
        }))
        .unwrap()
    }

    fn intent(secret_version: &str) -> HookIntent {
        HookIntent {
            url: HookUrl::new(String::new()),
            secret: WebhookSecret::Text("s".to_owned().into()),
            shape: HookShape { variant: String::new(), fields: BTreeMap::new(), events: BTreeSet::new() },
            secret_version: secret_version.to_owned(),
            why: "it does not exist",
        }
    }

    fn create(secret_version: &str) -> HookAction {
        HookAction::Create(intent(secret_version))
    }

    fn update(secret_version: &str, drift: &[&'static str]) -> HookAction {
        HookAction::Update { id: "1".to_owned(), intent: intent(secret_version), drift: drift.to_vec(), adopted: false }
    }

    fn delete() -> HookAction {
        HookAction::Delete { id: "1".to_owned(), why: "it is a duplicate" }
    }

    #[test]
    fn a_repair_is_what_nobody_asked_for() {
        let settled = object(2, "100", &[]);
        assert_eq!(Cause::of(&create("100"), &settled, false), Cause::Repair, "somebody removed it");
        assert_eq!(Cause::of(&update("100", &["events"]), &settled, false), Cause::Repair, "somebody changed it");
        assert_eq!(Cause::of(&update("100", &["url", "secret"]), &settled, false), Cause::Repair);
        assert_eq!(Cause::of(&delete(), &settled, false), Cause::Repair, "there were two");
        assert_eq!(Cause::of(&update("100", &["url"]), &settled, false), Cause::Request, "another public URL");
        assert_eq!(Cause::of(&delete(), &settled, true), Cause::Request, "the repository changed");
    }

    #[test]
    fn a_new_secret_is_a_rotation_and_a_new_spec_a_request() {
        assert_eq!(Cause::of(&update("200", &["url"]), &object(2, "100", &[]), false), Cause::Rotation);
        assert_eq!(Cause::of(&create("200"), &object(2, "100", &[]), false), Cause::Rotation);
        assert_eq!(Cause::of(&delete(), &object(2, "200", &["100"]), false), Cause::Rotation);
        let changed = object(1, "100", &[]);
        assert_eq!(Cause::of(&update("100", &["events"]), &changed, false), Cause::Request);
        let mut first = object(2, "100", &[]);
        first.status = None;
        assert_eq!(Cause::of(&create("100"), &first, false), Cause::Request);
        let mut deleted = object(2, "100", &[]);
        deleted.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-11-20T12:00:00Z")).unwrap());
        assert_eq!(Cause::of(&delete(), &deleted, false), Cause::Request);
    }
}
