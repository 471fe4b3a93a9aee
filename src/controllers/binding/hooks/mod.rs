//! What to do about the hooks of one repository. Pure: from what is there and what is wanted to a list of actions.

pub mod recreation;
pub mod repair;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use url::Url;

use self::recreation::{HookContext, Recreated, recreate_disabled};
use self::repair::{Repair, repair};
use super::ownership::{HookIdentity, HookOwner, is_alike, normal_form, same_host, without_mark};
use super::secret_version;
use crate::api::v1alpha1::{EventKind, Reason};
use crate::protocol::secret::WebhookSecret;
use crate::providers::model::HookState;
use crate::providers::{Hook, HookShape, HookUrl};

/// How long an old hook stays beside its successor where a secret cannot be updated: deliveries of the old one are on
/// their way.
pub const OVERLAP: SignedDuration = SignedDuration::from_secs(60);

/// Where hooks are to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Our receiver.
    Receiver,
    /// Somebody else's endpoint.
    Custom(Url),
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where to.
    pub destination: Destination,
    /// One hook for each.
    pub shapes: Vec<HookShape>,
    /// With which secret.
    pub secret: WantedSecret,
    /// Whether a hook of somebody else with the same URL is taken over.
    pub adopt: bool,
    /// Whether an update sets the secret.
    pub update_sets_secret: bool,
    /// Whether the old secret is to end now.
    pub revoke: bool,
    /// Until when nothing is created, by variant: the answer to a creation was lost, and the list may not show its hook yet.
    pub pending_creates: BTreeMap<String, Timestamp>,
    /// What decides about hooks that the provider switched off.
    pub history: recreation::RecreationHistory,
}

/// The secret that is wanted.
#[derive(Clone, Debug)]
pub struct WantedSecret {
    /// Its version.
    pub version: String,
    /// The secret.
    pub value: WebhookSecret,
    /// When it became the wanted one.
    pub since: Timestamp,
}

/// What a hook is to become.
#[derive(Clone, Debug)]
pub struct HookIntent {
    /// Where it is to deliver.
    pub url: HookUrl,
    /// With which secret.
    pub secret: WebhookSecret,
    /// As what.
    pub shape: HookShape,
    /// Version of the secret.
    pub secret_version: String,
    /// Why it is created.
    pub why: &'static str,
}

/// One thing to do.
#[derive(Clone, Debug)]
pub enum HookAction {
    /// Create a hook.
    Create(HookIntent),
    /// Change a hook; the fields that differ.
    Update {
        /// Its id.
        id: String,
        /// What it is to become.
        intent: HookIntent,
        /// The fields that differ.
        drift: Vec<&'static str>,
        /// Whether it was somebody else's.
        adopted: bool,
    },
    /// Delete a hook.
    Delete {
        /// Its id.
        id: String,
        /// Why.
        why: &'static str,
    },
    /// Leave an adopted hook to its owner, without our mark.
    Release {
        /// Its id.
        id: String,
        /// Where it delivered before it was adopted.
        url: HookUrl,
        /// As what.
        shape: HookShape,
    },
}

impl HookAction {
    /// The id of the hook, where there is one.
    #[must_use]
    pub fn id(&self) -> Option<&String> {
        match self {
            Self::Create(_) => None,
            Self::Update { id, .. } | Self::Delete { id, .. } | Self::Release { id, .. } => Some(id),
        }
    }
}

/// A hook of ours that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingHook {
    /// Its id.
    pub id: String,
    /// The events it delivers.
    pub events: BTreeSet<EventKind>,
    /// Version of its secret.
    pub secret_version: String,
    /// Whether it was somebody else's.
    pub adopted: bool,
    /// Where it delivers, as far as that may be shown.
    pub address: String,
}

/// Why hooks are not as they should be although nothing failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookFinding {
    /// The reason of `WebhookInSync`.
    pub reason: Reason,
    /// What to do.
    pub message: String,
}

/// What was decided.
#[derive(Clone, Debug, Default)]
pub struct HookPlan {
    /// What to do, in order.
    pub actions: Vec<HookAction>,
    /// Our hooks that are there, before any action.
    pub existing: Vec<ExistingHook>,
    /// Why the hooks are not as they should be.
    pub finding: Option<HookFinding>,
    /// When there is something to do although nothing changes.
    pub wake: Option<Timestamp>,
    /// A creation whose answer was lost is waited for.
    pub pending_create: Option<PendingCreate>,
    /// Hooks that are brought back after the provider switched them off.
    pub recreated: Vec<Recreated>,
    /// Hooks that are repaired, by variant, and those that were found in order: `None`.
    pub repairs: BTreeMap<String, Option<Repair>>,
    /// What a person should know although nothing is wrong.
    pub notes: Vec<String>,
}

/// A hook that may have been created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingCreate {
    /// When it is looked for again, and created if it is not there.
    pub until: Timestamp,
    /// Whether there is none of ours in its place meanwhile.
    pub lacks: bool,
}

impl HookPlan {
    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn wait(&mut self, until: Timestamp, lacks: bool) {
        let known = self.pending_create.unwrap_or(PendingCreate { until, lacks });
        self.pending_create = Some(PendingCreate { until: known.until.max(until), lacks: known.lacks || lacks });
        self.wake_at(until);
    }
}

/// A hook of ours with what its URL says.
struct OwnedHook<'a> {
    hook: &'a Hook,
    secret_version: String,
    at_destination: bool,
}

impl OwnedHook<'_> {
    /// Whether the provider switched it off.
    const fn is_off(&self) -> bool {
        matches!(self.hook.state, HookState::Disabled(_) | HookState::HeldBack(_))
    }
}

/// Sorts hooks into ours and others. Ours that deliver somewhere else than wanted do not fit.
fn owned<'a>(hooks: &'a [Hook], identity: &HookIdentity, destination: Option<&Destination>) -> Vec<OwnedHook<'a>> {
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

/// The secret versions that hooks of ours carry, of those that deliver where it is wanted.
#[must_use]
pub fn secret_versions(hooks: &[Hook], identity: &HookIdentity, destination: &Destination) -> Vec<String> {
    owned(hooks, identity, Some(destination)).into_iter().filter(|ours| ours.at_destination).map(|ours| ours.secret_version).collect()
}

/// Whether any hook of ours is paused or switched off.
#[must_use]
pub fn any_inactive(hooks: &[Hook], identity: &HookIdentity) -> bool {
    owned(hooks, identity, None).iter().any(|ours| ours.hook.state != HookState::Active)
}

/// Decides what to do so that exactly the wanted hooks are there.
#[must_use]
pub fn plan(hooks: &[Hook], identity: &HookIdentity, wanted: &Wanted, adopted: &BTreeSet<String>, now: Timestamp) -> HookPlan {
    let mut ours = owned(hooks, identity, Some(&wanted.destination));
    // The order of creation where ids are numbers, so that the same hook is kept every time. What the provider switched off
    // comes last: beside it may be what was made in its place.
    ours.sort_by_key(|ours| (ours.is_off(), ours.hook.id.len(), ours.hook.id.clone()));
    let mut plan = HookPlan { existing: ours.iter().map(|ours| existing(ours, identity, adopted)).collect(), ..HookPlan::default() };
    if let Some(finding) = another_host(hooks, identity) {
        plan.finding = Some(finding);
        return plan;
    }
    for shape in &wanted.shapes {
        plan_variant(&mut plan, hooks, &ours, shape, identity, wanted, adopted, now);
    }
    plan.notes.extend(neighbours(hooks, identity, wanted, &plan));
    let variants: BTreeSet<&str> = wanted.shapes.iter().map(|shape| shape.variant.as_str()).collect();
    // What delivers elsewhere goes last: only once its successor is there.
    if plan.finding.is_none() && plan.pending_create.is_none() {
        let stale = ours.iter().filter(|ours| !ours.at_destination || !variants.contains(ours.hook.shape.variant.as_str()));
        plan.actions.extend(stale.map(|ours| delete_or_release(ours, adopted, "it delivers where it is no longer wanted")));
    }
    plan
}

fn existing(ours: &OwnedHook<'_>, identity: &HookIdentity, adopted: &BTreeSet<String>) -> ExistingHook {
    ExistingHook {
        address: identity.masked_url(&ours.hook.url),
        id: ours.hook.id.clone(),
        events: ours.hook.shape.events.clone(),
        secret_version: ours.secret_version.clone(),
        adopted: adopted.contains(&ours.hook.id),
    }
}

/// Decides about the hooks of one variant: exactly one stays.
#[expect(clippy::too_many_arguments, reason = "one step of `plan`, taken out for its length")]
fn plan_variant(
    plan: &mut HookPlan,
    hooks: &[Hook],
    ours: &[OwnedHook<'_>],
    shape: &HookShape,
    identity: &HookIdentity,
    wanted: &Wanted,
    adopted: &BTreeSet<String>,
    now: Timestamp,
) {
    let mine: Vec<&OwnedHook<'_>> = ours.iter().filter(|ours| ours.at_destination && ours.hook.shape.variant == shape.variant).collect();
    let intent = HookIntent {
        url: url(identity, wanted),
        secret: wanted.secret.value.clone(),
        shape: shape.clone(),
        secret_version: wanted.secret.version.clone(),
        why: if mine.is_empty() { "there is none" } else { "its secret is a new one" },
    };
    // Of several, one that is at the right address already: some providers refuse two hooks with one URL.
    let present = mine.iter().filter(|ours| ours.secret_version == wanted.secret.version);
    let present = present.min_by_key(|ours| (ours.is_off(), ours.hook.url != intent.url));
    let newest = mine.iter().max_by_key(|ours| (secret_version::second(&ours.secret_version, now), !ours.is_off()));
    let stays = match present.or_else(|| newest.filter(|_| wanted.update_sets_secret)) {
        Some(stays) => {
            maintain(plan, stays, intent, wanted, HookContext { adopted: adopted.contains(&stays.hook.id), now });
            Some(stays.hook.id.as_str())
        }
        // A new secret is no reason to switch on again what a person switched off.
        None if !mine.is_empty() && mine.iter().all(|ours| ours.hook.state == HookState::Paused) => {
            plan.finding = mine.first().map(|ours| paused(ours));
            None
        }
        None => create(plan, hooks, identity, intent, wanted, mine.is_empty()).then_some(""),
    };
    let Some(stays) = stays else { return };
    for old in mine.iter().filter(|ours| ours.hook.id != stays) {
        let overlap_end = wanted.secret.since.checked_add(OVERLAP).unwrap_or(now);
        let same = old.secret_version == wanted.secret.version;
        if same || wanted.update_sets_secret || wanted.revoke || (present.is_some() && overlap_end <= now) {
            plan.actions.push(delete_or_release(old, adopted, if same { "there are several" } else { "its secret was replaced" }));
        } else {
            plan.wake_at(overlap_end);
        }
    }
}

/// Repairs the hook that stays, unless a person or the provider switched it off.
fn maintain(plan: &mut HookPlan, stays: &OwnedHook<'_>, intent: HookIntent, wanted: &Wanted, context: HookContext) {
    let mut drift = stays.hook.drift(&intent.shape);
    if stays.hook.url != intent.url {
        drift.push("url");
    }
    match &stays.hook.state {
        HookState::Paused => plan.finding = Some(paused(stays)),
        HookState::Disabled(cause) => recreate_disabled(plan, stays, cause, intent, wanted, context),
        HookState::HeldBack(cause) => {
            let message = format!("the provider switched hook {} off: {cause}", stays.hook.id);
            plan.finding = Some(HookFinding { reason: Reason::DisabledByProvider, message });
        }
        HookState::Active if !drift.is_empty() => repair(plan, stays, intent, drift, wanted, (context.adopted, context.now)),
        HookState::Active => {
            plan.repairs.insert(intent.shape.variant, None);
        }
    }
}

fn paused(ours: &OwnedHook<'_>) -> HookFinding {
    let message = format!("hook {} is switched off at the provider; switch it on there when it is wanted", ours.hook.id);
    HookFinding { reason: Reason::PausedAtProvider, message }
}

/// Plans a new hook, or the adoption of somebody else's. Answers whether there will be one.
fn create(plan: &mut HookPlan, hooks: &[Hook], identity: &HookIdentity, intent: HookIntent, wanted: &Wanted, first: bool) -> bool {
    let foreign = match &wanted.destination {
        Destination::Custom(custom) if first => hooks.iter().find(|hook| {
            Url::parse(hook.url.expose()).is_ok_and(|url| normal_form(&url) == normal_form(custom))
                && hook.shape.variant == intent.shape.variant
        }),
        _ => None,
    };
    match foreign {
        None => match wanted.pending_creates.get(&intent.shape.variant) {
            Some(until) => {
                plan.wait(*until, first);
                return false;
            }
            None => plan.actions.push(HookAction::Create(intent)),
        },
        // Handed back at the end, it would stay without a mark and without anybody who removes it.
        Some(hook) if identity.is_of_another_binding(&hook.url) => {
            let message = format!(
                "hook {} delivers to webhook.url already and was made for another binding of this installation, from which webhook.adopt \
                 takes nothing over; delete that binding, or make it again under its name where it is gone, or remove the hook at the provider",
                hook.id
            );
            plan.finding = Some(HookFinding { reason: Reason::ForeignHook, message });
            return false;
        }
        Some(hook) if wanted.adopt => {
            plan.actions.push(HookAction::Update { id: hook.id.clone(), intent, drift: vec!["url"], adopted: true });
        }
        Some(hook) => {
            let message = format!(
                "hook {} of somebody else delivers to webhook.url already, in this or another spelling; remove it at the provider, or set \
                 webhook.adopt to take it over",
                hook.id
            );
            plan.finding = Some(HookFinding { reason: Reason::ForeignHook, message });
            return false;
        }
    }
    true
}

/// Hooks of others that lead to the host of somebody else's endpoint: perhaps the same endpoint under another path.
fn neighbours(hooks: &[Hook], identity: &HookIdentity, wanted: &Wanted, plan: &HookPlan) -> Option<String> {
    let Destination::Custom(custom) = &wanted.destination else { return None };
    let touched = |hook: &Hook| plan.actions.iter().any(|action| matches!(action, HookAction::Update { id, .. } if *id == hook.id));
    let beside = |hook: &&Hook| {
        let foreign = matches!(identity.classify(&hook.url), HookOwner::Foreign { .. }) && !is_alike(&hook.url);
        foreign && !touched(hook) && Url::parse(hook.url.expose()).is_ok_and(|url| same_host(&url, custom))
    };
    let ids: Vec<&str> = hooks.iter().filter(beside).map(|hook| hook.id.as_str()).collect();
    (!ids.is_empty() && plan.finding.is_none()).then(|| {
        let host = custom.host_str().unwrap_or_default();
        format!(
            "hook {} of somebody else delivers to {host} too; remove it at the provider if it leads to the same endpoint",
            ids.join(", ")
        )
    })
}

/// The removal of every hook of ours.
#[must_use]
pub fn removal(hooks: &[Hook], identity: &HookIdentity, adopted: &BTreeSet<String>, why: &'static str) -> HookPlan {
    let ours = owned(hooks, identity, None);
    HookPlan {
        actions: ours.iter().map(|ours| delete_or_release(ours, adopted, why)).collect(),
        existing: ours.iter().map(|ours| existing(ours, identity, adopted)).collect(),
        ..HookPlan::default()
    }
}

/// Deletes a hook, or gives an adopted one back.
fn delete_or_release(ours: &OwnedHook<'_>, adopted: &BTreeSet<String>, why: &'static str) -> HookAction {
    let id = ours.hook.id.clone();
    match Url::parse(ours.hook.url.expose()) {
        Ok(url) if adopted.contains(&id) => {
            HookAction::Release { id, url: HookUrl::new(without_mark(&url).into()), shape: ours.hook.shape.clone() }
        }
        _ => HookAction::Delete { id, why },
    }
}

fn another_host(hooks: &[Hook], identity: &HookIdentity) -> Option<HookFinding> {
    hooks.iter().find_map(|hook| {
        let what = match identity.classify(&hook.url) {
            HookOwner::AnotherHost { host } => format!("delivers to {host}; if that"),
            HookOwner::AnotherOrigin => "was made under another public URL; if that one".to_owned(),
            _ => return None,
        };
        let message = format!(
            "hook {} has this binding's identity and {what} was this installation's public URL, name it in --former-public-urls, else \
             leave it to the cluster that it belongs to",
            hook.id
        );
        Some(HookFinding { reason: Reason::HookUnderAnotherHost, message })
    })
}

fn url(identity: &HookIdentity, wanted: &Wanted) -> HookUrl {
    let secret_version = &wanted.secret.version;
    match &wanted.destination {
        Destination::Custom(custom) => identity.custom_url(custom, secret_version),
        // The caller has found a public URL before it wants a hook at the receiver.
        Destination::Receiver => identity.receiver_url(secret_version).unwrap_or_else(|| HookUrl::new(String::new())),
    }
}

/// The pause until a moment; nothing when it has passed.
#[must_use]
pub fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
pub(in crate::controllers) mod tests;
