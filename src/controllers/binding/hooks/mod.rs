//! Plans the hooks of one repository: compares the existing hooks with the wanted ones and returns a list of actions. Pure.

mod model;
mod recreation;
mod repair;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use url::Url;

use self::model::{OwnedHook, owned};
use self::recreation::{HookContext, held_back, recreate_disabled};
use self::repair::repair;
use super::ownership::{HookIdentity, HookOwner, is_alike, normal_form, same_host};
use super::secret_version;
use crate::api::v1alpha1::Reason;
use crate::providers::model::HookState;
use crate::providers::{Hook, HookShape, HookUrl};

pub use self::model::{
    Destination, ExistingHook, HookAction, HookFinding, HookIntent, HookPlan, PendingCreate, Recreated, Recreation, RecreationHistory,
    Repair, Wanted, WantedSecret,
};
pub use self::repair::did_not_last;

/// How long an old hook stays beside its successor if an update cannot set the secret: deliveries of the old hook may still be in
/// flight.
pub const OVERLAP: SignedDuration = SignedDuration::from_secs(60);

/// Secret versions of our hooks at the given destination.
pub fn secret_versions(hooks: &[Hook], identity: &HookIdentity, destination: &Destination) -> Vec<String> {
    owned(hooks, identity, Some(destination)).into_iter().filter(|ours| ours.at_destination).map(|ours| ours.secret_version).collect()
}

/// Whether any hook of ours is paused or switched off.
pub fn any_inactive(hooks: &[Hook], identity: &HookIdentity) -> bool {
    owned(hooks, identity, None).iter().any(|ours| ours.hook.state != HookState::Active)
}

/// Plans the actions after which exactly the wanted hooks exist.
pub fn plan(hooks: &[Hook], identity: &HookIdentity, wanted: &Wanted, adopted: &BTreeSet<String>, now: Timestamp) -> HookPlan {
    let mut ours = owned(hooks, identity, Some(&wanted.destination));
    // Numeric ids sort by creation, so that the same hook is kept every time. Hooks that the provider switched off come last,
    // because their replacement may exist already.
    ours.sort_by_key(|ours| (ours.is_off(), ours.hook.id.len(), ours.hook.id.clone()));
    let mut plan = HookPlan { existing: ours.iter().map(|ours| ours.existing(identity, adopted)).collect(), ..HookPlan::default() };
    if let Some(finding) = another_host(hooks, identity) {
        plan.finding = Some(finding);
        return plan;
    }
    for shape in &wanted.shapes {
        plan_variant(&mut plan, hooks, &ours, shape, identity, wanted, adopted, now);
    }
    plan.notes.extend(neighbours(hooks, identity, wanted, &plan));
    let variants: BTreeSet<&str> = wanted.shapes.iter().map(|shape| shape.variant.as_str()).collect();
    // Hooks with another destination go last: only once their successors exist.
    if plan.finding.is_none() && plan.pending_create.is_none() {
        let stale = ours.iter().filter(|ours| !ours.at_destination || !variants.contains(ours.hook.shape.variant.as_str()));
        plan.actions.extend(stale.map(|ours| ours.removal(adopted, "it delivers to an address that is no longer requested")));
    }
    plan
}

/// Plans the hooks of one variant: exactly one stays.
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
        why: if mine.is_empty() { "it does not exist" } else { "its secret is new" },
    };
    // Prefers a hook that already has the wanted URL: some providers refuse two hooks with one URL.
    let present = mine.iter().filter(|ours| ours.secret_version == wanted.secret.version);
    let present = present.min_by_key(|ours| (ours.is_off(), ours.hook.url != intent.url));
    let newest = mine.iter().max_by_key(|ours| (secret_version::second(&ours.secret_version, now), !ours.is_off()));
    let stays = match present.or_else(|| newest.filter(|_| wanted.update_sets_secret)) {
        Some(stays) => {
            maintain(plan, stays, intent, wanted, HookContext { adopted: adopted.contains(&stays.hook.id), now });
            Some(stays.hook.id.as_str())
        }
        // A new secret must not re-enable a hook that a person switched off.
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
            plan.actions.push(old.removal(adopted, if same { "it is a duplicate" } else { "its secret was replaced" }));
        } else {
            plan.wake_at(overlap_end);
        }
    }
}

/// Repairs the hook that stays, unless a person or the provider disabled it.
fn maintain(plan: &mut HookPlan, stays: &OwnedHook<'_>, intent: HookIntent, wanted: &Wanted, context: HookContext) {
    let mut drift = stays.hook.drift(&intent.shape);
    if stays.hook.url != intent.url {
        drift.push("url");
    }
    match &stays.hook.state {
        HookState::Paused => plan.finding = Some(paused(stays)),
        HookState::Disabled(cause) => recreate_disabled(plan, stays, cause, intent, wanted, context),
        HookState::HeldBack { cause, until } => held_back(plan, stays, cause, *until, intent, wanted, context),
        HookState::Active if !drift.is_empty() => repair(plan, stays, intent, drift, wanted, (context.adopted, context.now)),
        HookState::Active => {
            plan.repairs.insert(intent.shape.variant, None);
        }
    }
}

fn paused(ours: &OwnedHook<'_>) -> HookFinding {
    let message = format!("hook {} is paused at the provider; enable it there if you want it", ours.hook.id);
    HookFinding { reason: Reason::PausedAtProvider, message }
}

/// Plans a new hook or the adoption of a foreign one. Returns whether the hook will exist.
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
        // Not adopted: released at the end, it would stay without a mark, and no binding would ever remove it.
        Some(hook) if identity.is_of_another_binding(&hook.url) => {
            let message = format!(
                "hook {} already delivers to webhook.url and was made for another binding of this installation, so \
                 webhook.adopt cannot adopt it; delete that binding (if it no longer exists, create it again under its name \
                 first), or remove the hook at the provider",
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
                "hook {}, which somebody else made, already delivers to webhook.url, possibly spelled differently; remove it at \
                 the provider, or set webhook.adopt to adopt it",
                hook.id
            );
            plan.finding = Some(HookFinding { reason: Reason::ForeignHook, message });
            return false;
        }
    }
    true
}

/// Note about foreign hooks that deliver to the host of the custom endpoint: perhaps to the same endpoint under another path.
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
            "hook {}, which somebody else made, also delivers to {host}; remove it at the provider if it leads to the same endpoint",
            ids.join(", ")
        )
    })
}

/// Plans the removal of all our hooks.
pub fn removal(hooks: &[Hook], identity: &HookIdentity, adopted: &BTreeSet<String>, why: &'static str) -> HookPlan {
    let ours = owned(hooks, identity, None);
    HookPlan {
        actions: ours.iter().map(|ours| ours.removal(adopted, why)).collect(),
        existing: ours.iter().map(|ours| ours.existing(identity, adopted)).collect(),
        ..HookPlan::default()
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
            "hook {} has this binding's identity and {what} was this installation's public URL, add it to --former-public-urls; \
             otherwise leave the hook to the cluster to which it belongs",
            hook.id
        );
        Some(HookFinding { reason: Reason::HookUnderAnotherHost, message })
    })
}

fn url(identity: &HookIdentity, wanted: &Wanted) -> HookUrl {
    let secret_version = &wanted.secret.version;
    match &wanted.destination {
        Destination::Custom(custom) => identity.custom_url(custom, secret_version),
        // The caller makes sure that a public URL exists before it plans a hook for the receiver.
        Destination::Receiver => identity.receiver_url(secret_version).unwrap_or_else(|| HookUrl::new(String::new())),
    }
}

#[cfg(test)]
pub(in crate::controllers) mod tests;
