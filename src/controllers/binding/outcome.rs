//! The outcome of executing a plan. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::cleanup::FORMER_TARGETS;
use super::hooks::{ExistingHook, HookFinding};
use super::obstacle::UNTOLD;
use super::plan::Plan;
use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::{HookTarget, WebhookStatus};
use crate::protocol::sink_target::NotServed;
use crate::providers::ProviderError;

pub struct Outcome {
    /// The object after the changes.
    pub object: Arc<RepoBinding>,
    /// Whether the finalizer was removed or the object no longer exists: there is nothing more to do for this object.
    pub gone: bool,
    /// Target of a first hook, once it was recorded in the status before the creation.
    pub announced: Option<HookTarget>,
    /// Hooks that were created or updated. An entry replaces the existing hook with the same id.
    pub present: Vec<ExistingHook>,
    pub created: Vec<String>,
    /// Variants whose creation had an ambiguous answer: the hook may exist.
    pub ambiguous_creates: Vec<String>,
    pub updated: Vec<String>,
    /// Findings for hooks that still differ from the request although the provider accepted the update.
    pub unrepaired: Vec<HookFinding>,
    pub absent: Vec<String>,
    /// Targets where no hook of ours is left.
    pub cleared: Vec<HookTarget>,
    /// Targets whose hooks were left behind. They are recorded as leftovers as far as there was room.
    pub recorded: Vec<HookTarget>,
    /// The subset of `recorded` for which there was no room.
    pub unrecorded: Vec<HookTarget>,
    pub failure: Option<Failure>,
    pub changed_hooks: bool,
    /// Sinks whose keys or authorities had no room in the shared Secrets.
    pub without_room: Vec<(String, NotServed)>,
}

impl Outcome {
    pub const fn nothing(object: Arc<RepoBinding>) -> Self {
        Self {
            object,
            gone: false,
            announced: None,
            present: Vec::new(),
            created: Vec::new(),
            ambiguous_creates: Vec::new(),
            updated: Vec::new(),
            unrepaired: Vec::new(),
            absent: Vec::new(),
            cleared: Vec::new(),
            recorded: Vec::new(),
            unrecorded: Vec::new(),
            failure: None,
            changed_hooks: false,
            without_room: Vec::new(),
        }
    }

    /// Targets that still hold hooks beside the present one, without duplicates, oldest first.
    pub fn former_targets(&self, old: &WebhookStatus, plan: &Plan) -> Vec<HookTarget> {
        let moved = match (&plan.target, &old.target) {
            (Some(new), Some(old_target))
                if (&new.connection, &new.repository_id) != (&old_target.connection, &old_target.repository_id) =>
            {
                Some(old_target.clone())
            }
            _ => None,
        };
        let announced = self.announced.iter().filter(|target| !old.former_targets.contains(target)).cloned();
        let mut former: Vec<HookTarget> = old.former_targets.iter().cloned().chain(moved).chain(announced).collect();
        former.retain(|target| !self.cleared.contains(target) && !self.recorded.contains(target));
        let mut later = BTreeSet::new();
        former.reverse();
        former.retain(|target| later.insert(target.clone()));
        former.reverse();
        former
    }

    /// The oldest former targets, for which the status has no room. Their hooks are recorded as leftovers before the status is
    /// written.
    pub fn surplus_targets(&self, object: &RepoBinding, plan: &Plan) -> Vec<HookTarget> {
        let old = object.webhook_status().filter(|_| !self.gone);
        let Some(mut former) = old.map(|old| self.former_targets(old, plan)) else { return Vec::new() };
        former.truncate(former.len().saturating_sub(FORMER_TARGETS));
        former
    }
}

#[derive(Debug)]
pub struct Failure {
    pub error: ProviderError,
    /// Whether it occurred while hooks at a cleanup target were removed.
    pub clearing: bool,
    /// Whether the binding may see the provider's error.
    pub told: bool,
}

impl Failure {
    /// Replaces the error's text if the binding may not see it.
    pub fn for_binding(mut self) -> Self {
        if !self.told {
            let retry_at = self.error.retry_at;
            self.error = ProviderError { retry_at, ..ProviderError::new(self.error.kind, "remove hook", UNTOLD) };
        }
        self
    }
}
