//! The plan of a binding. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::Reason;
use crate::api::v1alpha1::binding::{HookTarget, PlannedAction};
use crate::controllers::binding::hooks::{ExistingHook, HookAction, PendingCreate, Recreated, Repair};
use crate::controllers::binding::user_secret::UserSecret;
use crate::controllers::gate::{GrantedRepository, OwnedHooks};
use crate::k8s::conditions::ConditionStatus;

/// Pause between probes while the binding waits for a change at the provider.
pub(super) const SLOW_PROBE: Duration = Duration::from_secs(300);

/// One step of the plan.
#[derive(Clone, Debug)]
pub enum PlanStep {
    /// Publish a user's own secret to the receivers, beside the secret versions that are still accepted.
    PublishSecret(UserSecret, BTreeSet<String>),
    /// Publish what the sinks need to the receivers.
    PublishSinkSecrets,
    /// Record under our seal where a first hook is about to be created, so that it can be removed whatever happens next.
    Announce(HookTarget),
    /// Change a hook of the repository that the spec names.
    Hook {
        repository: Arc<GrantedRepository>,
        action: HookAction,
    },
    Clear {
        hooks: Arc<OwnedHooks>,
        /// Whether the binding may see errors from the target.
        told: bool,
        action: HookAction,
    },
    Record {
        target: HookTarget,
        why: String,
    },
    WithdrawSecret,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalizerStep {
    Keep,
    /// Add it before any change at a provider.
    Add,
    /// Remove it after all steps, and forget the object: its deletion may complete.
    RemoveAndForget,
    /// Remove it after all steps from an object that stays: no hook of ours is left at any provider.
    Remove,
}

/// Wanted state of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub status: ConditionStatus,
    pub reason: Reason,
    pub message: String,
}

impl Finding {
    pub(super) fn good(message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::True, reason: Reason::Succeeded, message: message.into() }
    }

    pub(super) fn bad(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::False, reason, message: message.into() }
    }
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub finalizer_step: FinalizerStep,
    pub steps: Vec<PlanStep>,
    /// Actions that are suppressed because writing is forbidden.
    pub would: Vec<PlannedAction>,
    /// `RepositoryFound`; `None` if it cannot be judged now.
    pub repository: Option<Finding>,
    /// `WebhookInSync`; `None` if it cannot be judged now.
    pub webhook: Option<Finding>,
    /// Target of the hooks; `None` if none are wanted or the target is not known now.
    pub target: Option<HookTarget>,
    /// Our hooks at the target, before any step; `None` if they were not listed.
    pub existing: Option<Vec<ExistingHook>>,
    pub secret_version: Option<String>,
    /// Whether that version is new because of a rotation.
    pub rotated: bool,
    /// Why a removal waits, and its deadline.
    pub blocked: Option<(String, Timestamp)>,
    /// A creation whose answer was lost: its hook is looked for before another one is created.
    pub pending_create: Option<PendingCreate>,
    pub recreated: Vec<Recreated>,
    /// Repairs by variant; `None` for a hook that was found in order.
    pub repairs: BTreeMap<String, Option<Repair>>,
    /// Notes for the user although nothing is wrong.
    pub notes: Vec<String>,
    pub next_probe: Option<Timestamp>,
    /// Latest time of the next probe, which delivery evidence cannot postpone because it is needed for more than drift: the end
    /// of an overlap or a rotation.
    pub not_after: Option<Timestamp>,
    /// Time of the next reconciliation although nothing changes.
    pub wake: Option<Timestamp>,
}

impl Plan {
    pub(super) const fn nothing() -> Self {
        Self {
            finalizer_step: FinalizerStep::Keep,
            steps: Vec::new(),
            would: Vec::new(),
            repository: None,
            webhook: None,
            target: None,
            existing: None,
            secret_version: None,
            rotated: false,
            blocked: None,
            pending_create: None,
            recreated: Vec::new(),
            repairs: BTreeMap::new(),
            notes: Vec::new(),
            next_probe: None,
            not_after: None,
            wake: None,
        }
    }

    /// The actions at providers, including suppressed ones, as shown in `status.plan`.
    pub fn at_providers(&self) -> Vec<PlannedAction> {
        let actions = self.steps.iter().filter_map(|step| match step {
            PlanStep::Hook { repository, action } => {
                Some(described(action, repository.path.as_str(), self.existing.as_deref().unwrap_or_default()))
            }
            PlanStep::Clear { hooks, action, .. } => Some(described(action, hooks.path(), &[])),
            PlanStep::PublishSecret(..)
            | PlanStep::PublishSinkSecrets
            | PlanStep::Announce(_)
            | PlanStep::Record { .. }
            | PlanStep::WithdrawSecret => None,
        });
        self.would.iter().cloned().chain(actions).collect()
    }

    pub(super) fn wake_at(&mut self, at: Option<Timestamp>) {
        self.wake = [self.wake, at].into_iter().flatten().min();
    }
}

pub(super) fn described(action: &HookAction, repository: &str, existing: &[ExistingHook]) -> PlannedAction {
    let (action, target, reason) = match action {
        HookAction::Create(intent) => ("CreateHook", repository.to_owned(), intent.why.to_owned()),
        HookAction::Update { id, adopted: true, .. } if !existing.iter().any(|hook| hook.id == *id) => {
            ("AdoptHook", format!("{repository} hook {id}"), "webhook.adopt adopts it".to_owned())
        }
        HookAction::Update { id, drift, .. } => {
            ("UpdateHook", format!("{repository} hook {id}"), format!("differs in {}", drift.join(", ")))
        }
        HookAction::Delete { id, why } => ("DeleteHook", format!("{repository} hook {id}"), (*why).to_owned()),
        HookAction::Release { id, .. } => ("ReleaseHook", format!("{repository} hook {id}"), "it was adopted".to_owned()),
    };
    PlannedAction { action: action.to_owned(), target, reason }
}
