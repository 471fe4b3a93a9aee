//! What to do about the hooks of one repository. Pure: from what is there and what is wanted to a list of actions.

pub mod repair;
pub mod revival;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use url::Url;

use self::repair::{Repair, repair};
use self::revival::{Revived, Standing, revive};
use super::generation;
use super::ownership::{Belonging, Ownership, is_alike, normal_form, same_host, without_mark};
use crate::api::v1alpha1::{EventKind, Reason};
use crate::providers::model::HookState;
use crate::providers::webhook::WebhookSecret;
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
    /// Until when nothing is created, by part: the answer to a creation was lost, and the list may not show its hook yet.
    pub awaited: BTreeMap<String, Timestamp>,
    /// What decides about hooks that the provider switched off.
    pub known: revival::Known,
}

/// The secret that is wanted.
#[derive(Clone, Debug)]
pub struct WantedSecret {
    /// Its generation.
    pub generation: String,
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
    /// Generation of the secret.
    pub generation: String,
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
pub struct Kept {
    /// Its id.
    pub id: String,
    /// The events it delivers.
    pub events: BTreeSet<EventKind>,
    /// Generation of its secret.
    pub generation: String,
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
    pub kept: Vec<Kept>,
    /// Why the hooks are not as they should be.
    pub finding: Option<HookFinding>,
    /// When there is something to do although nothing changes.
    pub wake: Option<Timestamp>,
    /// A creation whose answer was lost is waited for.
    pub awaits: Option<Awaited>,
    /// Hooks that are brought back after the provider switched them off.
    pub revived: Vec<Revived>,
    /// Hooks that are repaired, by part, and those that were found in order: `None`.
    pub repairs: BTreeMap<String, Option<Repair>>,
    /// What a person should know although nothing is wrong.
    pub notes: Vec<String>,
}

/// A hook that may have been created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
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
        let known = self.awaits.unwrap_or(Awaited { until, lacks });
        self.awaits = Some(Awaited { until: known.until.max(until), lacks: known.lacks || lacks });
        self.wake_at(until);
    }
}

/// A hook of ours with what its URL says.
struct Ours<'a> {
    hook: &'a Hook,
    generation: String,
    fits: bool,
}

impl Ours<'_> {
    /// Whether the provider switched it off.
    const fn is_off(&self) -> bool {
        matches!(self.hook.state, HookState::Disabled(_) | HookState::HeldBack(_))
    }
}

/// Sorts hooks into ours and others. Ours that deliver somewhere else than wanted do not fit.
fn ours<'a>(hooks: &'a [Hook], ownership: &Ownership, destination: Option<&Destination>) -> Vec<Ours<'a>> {
    let sorted = hooks.iter().filter_map(|hook| match ownership.classify(&hook.url) {
        Belonging::Receiver { generation } => Some(Ours { hook, generation, fits: destination == Some(&Destination::Receiver) }),
        Belonging::Custom { generation, url } => {
            let fits = matches!(destination, Some(Destination::Custom(wanted)) if normal_form(wanted) == normal_form(&url));
            Some(Ours { hook, generation, fits })
        }
        Belonging::AnotherHost { .. } | Belonging::AnotherOrigin | Belonging::Foreign { .. } => None,
    });
    sorted.collect()
}

/// The generations that hooks of ours carry, of those that deliver where it is wanted.
#[must_use]
pub fn generations(hooks: &[Hook], ownership: &Ownership, destination: &Destination) -> Vec<String> {
    ours(hooks, ownership, Some(destination)).into_iter().filter(|ours| ours.fits).map(|ours| ours.generation).collect()
}

/// Whether any hook of ours is paused or switched off.
#[must_use]
pub fn any_inactive(hooks: &[Hook], ownership: &Ownership) -> bool {
    ours(hooks, ownership, None).iter().any(|ours| ours.hook.state != HookState::Active)
}

/// Decides what to do so that exactly the wanted hooks are there.
#[must_use]
pub fn plan(hooks: &[Hook], ownership: &Ownership, wanted: &Wanted, adopted: &BTreeSet<String>, now: Timestamp) -> HookPlan {
    let mut ours = ours(hooks, ownership, Some(&wanted.destination));
    // The order of creation where ids are numbers, so that the same hook is kept every time. What the provider switched off
    // comes last: beside it may be what was made in its place.
    ours.sort_by_key(|ours| (ours.is_off(), ours.hook.id.len(), ours.hook.id.clone()));
    let mut plan = HookPlan { kept: ours.iter().map(|ours| kept(ours, ownership, adopted)).collect(), ..HookPlan::default() };
    if let Some(finding) = another_host(hooks, ownership) {
        plan.finding = Some(finding);
        return plan;
    }
    for shape in &wanted.shapes {
        part(&mut plan, hooks, &ours, shape, ownership, wanted, adopted, now);
    }
    plan.notes.extend(neighbours(hooks, ownership, wanted, &plan));
    let parts: BTreeSet<&str> = wanted.shapes.iter().map(|shape| shape.part.as_str()).collect();
    // What delivers elsewhere goes last: only once its successor is there.
    if plan.finding.is_none() && plan.awaits.is_none() {
        let stale = ours.iter().filter(|ours| !ours.fits || !parts.contains(ours.hook.shape.part.as_str()));
        plan.actions.extend(stale.map(|ours| leave(ours, adopted, "it delivers where it is no longer wanted")));
    }
    plan
}

fn kept(ours: &Ours<'_>, ownership: &Ownership, adopted: &BTreeSet<String>) -> Kept {
    Kept {
        address: ownership.masked_url(&ours.hook.url),
        id: ours.hook.id.clone(),
        events: ours.hook.shape.events.clone(),
        generation: ours.generation.clone(),
        adopted: adopted.contains(&ours.hook.id),
    }
}

/// Decides about the hooks of one part: exactly one stays.
#[expect(clippy::too_many_arguments, reason = "one step of `plan`, taken out for its length")]
fn part(
    plan: &mut HookPlan,
    hooks: &[Hook],
    ours: &[Ours<'_>],
    shape: &HookShape,
    ownership: &Ownership,
    wanted: &Wanted,
    adopted: &BTreeSet<String>,
    now: Timestamp,
) {
    let mine: Vec<&Ours<'_>> = ours.iter().filter(|ours| ours.fits && ours.hook.shape.part == shape.part).collect();
    let intent = HookIntent {
        url: url(ownership, wanted),
        secret: wanted.secret.value.clone(),
        shape: shape.clone(),
        generation: wanted.secret.generation.clone(),
        why: if mine.is_empty() { "there is none" } else { "its secret is a new one" },
    };
    // Of several, one that is at the right address already: some providers refuse two hooks with one URL.
    let present = mine.iter().filter(|ours| ours.generation == wanted.secret.generation);
    let present = present.min_by_key(|ours| (ours.is_off(), ours.hook.url != intent.url));
    let newest = mine.iter().max_by_key(|ours| (generation::second(&ours.generation, now), !ours.is_off()));
    let stays = match present.or_else(|| newest.filter(|_| wanted.update_sets_secret)) {
        Some(stays) => {
            keep(plan, stays, intent, wanted, Standing { adopted: adopted.contains(&stays.hook.id), now });
            Some(stays.hook.id.as_str())
        }
        // A new secret is no reason to switch on again what a person switched off.
        None if !mine.is_empty() && mine.iter().all(|ours| ours.hook.state == HookState::Paused) => {
            plan.finding = mine.first().map(|ours| paused(ours));
            None
        }
        None => create(plan, hooks, ownership, intent, wanted, mine.is_empty()).then_some(""),
    };
    let Some(stays) = stays else { return };
    for old in mine.iter().filter(|ours| ours.hook.id != stays) {
        let overlap_end = wanted.secret.since.checked_add(OVERLAP).unwrap_or(now);
        let same = old.generation == wanted.secret.generation;
        if same || wanted.update_sets_secret || wanted.revoke || (present.is_some() && overlap_end <= now) {
            plan.actions.push(leave(old, adopted, if same { "there are several" } else { "its secret was replaced" }));
        } else {
            plan.wake_at(overlap_end);
        }
    }
}

/// Repairs the hook that stays, unless a person or the provider switched it off.
fn keep(plan: &mut HookPlan, stays: &Ours<'_>, intent: HookIntent, wanted: &Wanted, standing: Standing) {
    let mut drift = stays.hook.drift(&intent.shape);
    if stays.hook.url != intent.url {
        drift.push("url");
    }
    match &stays.hook.state {
        HookState::Paused => plan.finding = Some(paused(stays)),
        HookState::Disabled(cause) => revive(plan, stays, cause, intent, wanted, standing),
        HookState::HeldBack(cause) => {
            let message = format!("the provider switched hook {} off: {cause}", stays.hook.id);
            plan.finding = Some(HookFinding { reason: Reason::DisabledByProvider, message });
        }
        HookState::Active if !drift.is_empty() => repair(plan, stays, intent, drift, wanted, (standing.adopted, standing.now)),
        HookState::Active => {
            plan.repairs.insert(intent.shape.part, None);
        }
    }
}

fn paused(ours: &Ours<'_>) -> HookFinding {
    let message = format!("hook {} is switched off at the provider; switch it on there when it is wanted", ours.hook.id);
    HookFinding { reason: Reason::PausedAtProvider, message }
}

/// Plans a new hook, or the adoption of somebody else's. Answers whether there will be one.
fn create(plan: &mut HookPlan, hooks: &[Hook], ownership: &Ownership, intent: HookIntent, wanted: &Wanted, first: bool) -> bool {
    let foreign = match &wanted.destination {
        Destination::Custom(custom) if first => hooks.iter().find(|hook| {
            Url::parse(hook.url.expose()).is_ok_and(|url| normal_form(&url) == normal_form(custom)) && hook.shape.part == intent.shape.part
        }),
        _ => None,
    };
    match foreign {
        None => match wanted.awaited.get(&intent.shape.part) {
            Some(until) => {
                plan.wait(*until, first);
                return false;
            }
            None => plan.actions.push(HookAction::Create(intent)),
        },
        // Handed back at the end, it would stay without a mark and without anybody who removes it.
        Some(hook) if ownership.is_of_another_binding(&hook.url) => {
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
fn neighbours(hooks: &[Hook], ownership: &Ownership, wanted: &Wanted, plan: &HookPlan) -> Option<String> {
    let Destination::Custom(custom) = &wanted.destination else { return None };
    let touched = |hook: &Hook| plan.actions.iter().any(|action| matches!(action, HookAction::Update { id, .. } if *id == hook.id));
    let beside = |hook: &&Hook| {
        let foreign = matches!(ownership.classify(&hook.url), Belonging::Foreign { .. }) && !is_alike(&hook.url);
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
pub fn removal(hooks: &[Hook], ownership: &Ownership, adopted: &BTreeSet<String>, why: &'static str) -> HookPlan {
    let ours = ours(hooks, ownership, None);
    HookPlan {
        actions: ours.iter().map(|ours| leave(ours, adopted, why)).collect(),
        kept: ours.iter().map(|ours| kept(ours, ownership, adopted)).collect(),
        ..HookPlan::default()
    }
}

/// Deletes a hook, or gives an adopted one back.
fn leave(ours: &Ours<'_>, adopted: &BTreeSet<String>, why: &'static str) -> HookAction {
    let id = ours.hook.id.clone();
    match Url::parse(ours.hook.url.expose()) {
        Ok(url) if adopted.contains(&id) => {
            HookAction::Release { id, url: HookUrl::new(without_mark(&url).into()), shape: ours.hook.shape.clone() }
        }
        _ => HookAction::Delete { id, why },
    }
}

fn another_host(hooks: &[Hook], ownership: &Ownership) -> Option<HookFinding> {
    hooks.iter().find_map(|hook| {
        let what = match ownership.classify(&hook.url) {
            Belonging::AnotherHost { host } => format!("delivers to {host}; if that"),
            Belonging::AnotherOrigin => "was made under another public URL; if that one".to_owned(),
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

fn url(ownership: &Ownership, wanted: &Wanted) -> HookUrl {
    let generation = &wanted.secret.generation;
    match &wanted.destination {
        Destination::Custom(custom) => ownership.custom_url(custom, generation),
        // The caller has found a public URL before it wants a hook at the receiver.
        Destination::Receiver => ownership.receiver_url(generation).unwrap_or_else(|| HookUrl::new(String::new())),
    }
}

/// The pause until a moment; nothing when it has passed.
#[must_use]
pub fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
pub(in crate::controllers) mod tests;
