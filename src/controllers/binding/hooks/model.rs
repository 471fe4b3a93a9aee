//! Wanted hooks, existing hooks, and the plan that leads from one to the other. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use url::Url;

use crate::api::v1alpha1::{EventKind, Reason};
use crate::controllers::binding::ownership::{HookIdentity, HookOwner, normal_form, without_mark};
use crate::controllers::runtime::backoff::growing_pause;
use crate::protocol::secret::WebhookSecret;
use crate::providers::model::HookState;
use crate::providers::{Hook, HookShape, HookUrl};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Receiver,
    /// An endpoint that is not Forgebind's receiver.
    Custom(Url),
}

#[derive(Clone, Debug)]
pub struct Wanted {
    pub destination: Destination,
    /// Shapes of the hooks, one hook each.
    pub shapes: Vec<HookShape>,
    pub secret: WantedSecret,
    /// Whether a foreign hook with the same URL is adopted.
    pub adopt: bool,
    pub update_sets_secret: bool,
    /// Whether the old secret is revoked now, without an overlap.
    pub revoke: bool,
    /// Time until which no hook is created, by variant: the answer to a creation was lost, and the list may not show its hook
    /// yet.
    pub pending_creates: BTreeMap<String, Timestamp>,
    /// Earlier recreations and repairs, and the deliveries that decide about another recreation.
    pub history: RecreationHistory,
}

#[derive(Clone, Debug)]
pub struct WantedSecret {
    pub version: String,
    pub value: WebhookSecret,
    pub since: Timestamp,
}

#[derive(Clone, Debug)]
pub struct HookIntent {
    pub url: HookUrl,
    pub secret: WebhookSecret,
    pub shape: HookShape,
    pub secret_version: String,
    /// Reason for a creation, as shown in `status.plan`.
    pub why: &'static str,
}

#[derive(Clone, Debug)]
pub enum HookAction {
    Create(HookIntent),
    Update {
        id: String,
        intent: HookIntent,
        drift: Vec<&'static str>,
        adopted: bool,
    },
    Delete {
        id: String,
        /// Reason, as shown in `status.plan`.
        why: &'static str,
    },
    /// Return an adopted hook to its owner, without our mark.
    Release {
        id: String,
        url: HookUrl,
        shape: HookShape,
    },
}

impl HookAction {
    /// Id of the hook; `None` for a creation.
    pub fn id(&self) -> Option<&String> {
        match self {
            Self::Create(_) => None,
            Self::Update { id, .. } | Self::Delete { id, .. } | Self::Release { id, .. } => Some(id),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingHook {
    pub id: String,
    pub events: BTreeSet<EventKind>,
    /// Version of its secret, as its URL shows it.
    pub secret_version: String,
    pub adopted: bool,
    /// Delivery URL without our mark or without its unguessable part.
    pub address: String,
}

/// Why the hooks differ from the wanted ones although no call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookFinding {
    pub reason: Reason,
    /// Message of the condition: what is wrong and what to do.
    pub message: String,
}

#[derive(Clone, Debug, Default)]
pub struct HookPlan {
    pub actions: Vec<HookAction>,
    pub existing: Vec<ExistingHook>,
    pub finding: Option<HookFinding>,
    /// Time at which to plan again although nothing changes.
    pub wake: Option<Timestamp>,
    /// A creation whose answer was lost and whose hook may still appear.
    pub pending_create: Option<PendingCreate>,
    pub recreated: Vec<Recreated>,
    /// Repairs by variant; `None` for a hook that was found in order.
    pub repairs: BTreeMap<String, Option<Repair>>,
    pub notes: Vec<String>,
}

/// A hook that may have been created: the answer to its creation was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingCreate {
    /// Time at which the list is read again; the hook is then created if it is missing.
    pub until: Timestamp,
    /// Whether no other hook of ours serves this variant meanwhile.
    pub lacks: bool,
}

impl HookPlan {
    pub(super) fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    pub(super) fn wait(&mut self, until: Timestamp, lacks: bool) {
        let known = self.pending_create.unwrap_or(PendingCreate { until, lacks });
        self.pending_create = Some(PendingCreate { until: known.until.max(until), lacks: known.lacks || lacks });
        self.wake_at(until);
    }
}

/// A hook of ours with the information from its URL.
pub(super) struct OwnedHook<'a> {
    pub(super) hook: &'a Hook,
    pub(super) secret_version: String,
    pub(super) at_destination: bool,
}

impl OwnedHook<'_> {
    pub(super) const fn is_off(&self) -> bool {
        matches!(self.hook.state, HookState::Disabled(_) | HookState::HeldBack { .. })
    }

    /// The hook as it exists, before any action.
    pub(super) fn existing(&self, identity: &HookIdentity, adopted: &BTreeSet<String>) -> ExistingHook {
        ExistingHook {
            address: identity.masked_url(&self.hook.url),
            id: self.hook.id.clone(),
            events: self.hook.shape.events.clone(),
            secret_version: self.secret_version.clone(),
            adopted: adopted.contains(&self.hook.id),
        }
    }

    /// Deletes the hook, or releases an adopted one to its owner.
    pub(super) fn removal(&self, adopted: &BTreeSet<String>, why: &'static str) -> HookAction {
        let id = self.hook.id.clone();
        match Url::parse(self.hook.url.expose()) {
            Ok(url) if adopted.contains(&id) => {
                HookAction::Release { id, url: HookUrl::new(without_mark(&url).into()), shape: self.hook.shape.clone() }
            }
            _ => HookAction::Delete { id, why },
        }
    }
}

/// Selects our hooks. Those that deliver to another destination have `at_destination` unset.
pub(super) fn owned<'a>(hooks: &'a [Hook], identity: &HookIdentity, destination: Option<&Destination>) -> Vec<OwnedHook<'a>> {
    let sorted = hooks.iter().filter_map(|hook| match identity.classify(&hook.url) {
        HookOwner::Receiver { secret_version } => {
            Some(OwnedHook { hook, secret_version, at_destination: destination == Some(&Destination::Receiver) })
        }
        HookOwner::Custom { secret_version, url } => {
            let at_destination = matches!(destination, Some(Destination::Custom(wanted)) if normal_form(wanted) == normal_form(&url));
            Some(OwnedHook { hook, secret_version, at_destination })
        }
        HookOwner::AnotherHost { .. } | HookOwner::AnotherOrigin | HookOwner::Foreign { .. } => None,
    });
    sorted.collect()
}

/// Consecutive repairs of one hook that were not confirmed by a later probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    pub attempts: usize,
    pub last: Timestamp,
    /// The fields that were repaired.
    pub(super) fields: BTreeSet<&'static str>,
    /// Hash of the wanted state: a repair towards another state counts anew.
    pub(super) wish: u64,
}

impl Repair {
    /// Earliest time of the next repair.
    pub fn next(&self) -> Timestamp {
        self.last.checked_add(growing_pause(self.attempts)).unwrap_or(Timestamp::MAX)
    }
}

/// Recreations of one hook since its last good delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recreation {
    /// Number of recreations, at least one.
    pub attempts: usize,
    pub last: Timestamp,
}

impl Recreation {
    fn pause(self) -> SignedDuration {
        growing_pause(self.attempts)
    }

    /// Earliest time of the next recreation.
    pub fn next(self) -> Timestamp {
        self.last.checked_add(self.pause()).unwrap_or(Timestamp::MAX)
    }

    /// Expiry: two backoff periods without another recreation.
    pub fn end(self) -> Timestamp {
        self.next().checked_add(self.pause()).unwrap_or(Timestamp::MAX)
    }
}

/// Earlier recreations and repairs, and the deliveries of the binding.
#[derive(Clone, Debug, Default)]
pub struct RecreationHistory {
    /// Recreations by variant.
    pub recreations: BTreeMap<String, Recreation>,
    /// Repairs that were not confirmed, by variant.
    pub repairs: BTreeMap<String, Repair>,
    /// Time of the last verified delivery of each event.
    pub last_delivery: BTreeMap<EventKind, Timestamp>,
    /// Whether our receiver refused the last delivery that reached it.
    pub refused: bool,
}

/// A recreation to be stored in the attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recreated {
    pub variant: String,
    /// The attempts including this one.
    pub recreation: Recreation,
    /// Whether the new hook is created now; otherwise the first recreation is postponed.
    pub made: bool,
}
