//! Builds the status of the hooks and their secrets. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::v1alpha1::EventKind;
use crate::api::v1alpha1::binding::{ANY_EARLIER_VERSION, HookStatus, PreviousSecret, RepoBindingStatus, WebhookStatus};
use crate::controllers::binding::cleanup::same_target;
use crate::controllers::binding::hooks::ExistingHook;
use crate::controllers::binding::outcome::Outcome;
use crate::controllers::binding::plan::Plan;
use crate::controllers::binding::snapshot::{Connection, Snapshot};

/// Maximum number of earlier secrets, as in the schema.
const PREVIOUS_SECRETS: usize = 8;

/// Status of the hooks and their secrets after the actions.
pub(super) fn webhook(snapshot: &Snapshot, plan: &Plan, outcome: &Outcome, before: &RepoBindingStatus) -> Option<WebhookStatus> {
    let old = before.webhook.clone().unwrap_or_default();
    let mut former = outcome.former_targets(&old, plan);
    let Some(existing) = &plan.existing else {
        // The hooks were not listed: keeps the known status, without targets that were cleared or recorded.
        let left = old.target.as_ref().is_some_and(|target| outcome.cleared.contains(target) || outcome.recorded.contains(target));
        return match (before.webhook.is_some(), left) {
            (true, true) if former.is_empty() => None,
            (true, true) => Some(WebhookStatus { former_targets: former, ..WebhookStatus::default() }),
            (true, false) => Some(WebhookStatus { former_targets: former, ..old }),
            (false, _) => None,
        };
    };
    let hooks = present_hooks(existing, outcome);
    // The target recorded before its first hook is dropped, unless that hook may still appear.
    let may_appear = hooks.is_empty() && (!outcome.ambiguous_creates.is_empty() || plan.pending_create.is_some());
    former.retain(|target| may_appear || plan.target.as_ref().is_none_or(|present| !same_target(present, target)));
    if snapshot.observe_only && hooks.is_empty() {
        return (before.webhook.is_some()).then_some(WebhookStatus { hooks: Vec::new(), former_targets: former, ..old });
    }
    let secret_version = plan
        .secret_version
        .clone()
        .filter(|wanted| hooks.iter().any(|hook| hook.secret_version == *wanted))
        .or_else(|| old.secret_version.clone());
    let changed = secret_version != old.secret_version;
    let found = before.webhook.is_none() && !existing.is_empty() && snapshot.object.custom_url().is_none();
    let wanted = match snapshot.object.custom_url() {
        Some(url) => Some(url.to_string()),
        None => snapshot.identity.masked_receiver_url(),
    };
    // If a hook was not moved yet, its URL is shown: deliveries still use it.
    let elsewhere = hooks.iter().map(|hook| &hook.address).find(|address| Some(*address) != wanted.as_ref());
    let url = elsewhere.cloned().or(wanted);
    Some(WebhookStatus {
        url,
        previous_secrets: previous_secrets(snapshot, &old, &hooks, secret_version.as_deref(), found),
        secret_changed_at: if changed { Some(Time(snapshot.now)) } else { old.secret_changed_at },
        secret_version,
        former_targets: former,
        target: if hooks.is_empty() { old.target } else { plan.target.clone() },
        hooks: hooks.iter().map(hook_status).collect(),
    })
}

fn hook_status(hook: &ExistingHook) -> HookStatus {
    // In the order of the API's own list, so that the same hook is always written the same way.
    let events = EventKind::ALL.into_iter().filter(|event| hook.events.contains(event)).collect();
    HookStatus { id: hook.id.clone(), events, adopted: hook.adopted }
}

fn present_hooks(existing: &[ExistingHook], outcome: &Outcome) -> Vec<ExistingHook> {
    let mut hooks: BTreeMap<(usize, String), ExistingHook> = BTreeMap::new();
    for hook in existing.iter().chain(&outcome.present) {
        hooks.insert((hook.id.len(), hook.id.clone()), hook.clone());
    }
    hooks.retain(|(_, id), _| !outcome.absent.contains(id));
    hooks.into_values().collect()
}

/// Earlier secrets: without an end while a hook may carry them, then until late deliveries can no longer arrive.
fn previous_secrets(
    snapshot: &Snapshot,
    old: &WebhookStatus,
    hooks: &[ExistingHook],
    secret_version: Option<&str>,
    found: bool,
) -> Vec<PreviousSecret> {
    let grace = match &snapshot.connection {
        Connection::Ready { active_client, .. } => active_client.provider.webhook().rules().secret_grace,
        _ => std::time::Duration::ZERO,
    };
    let grace_end = snapshot.now.checked_add(SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX);
    let known = old.previous_secrets.iter().map(|previous| (previous.version.clone(), previous.valid_until.clone()));
    let replaced = old.secret_version.iter().map(|secret_version| (secret_version.clone(), None));
    let carried = hooks.iter().map(|hook| (hook.secret_version.clone(), None));
    let mut ends: BTreeMap<String, Option<Time>> = BTreeMap::new();
    for (known, end) in known.chain(replaced).chain(carried).filter(|(known, _)| Some(known.as_str()) != secret_version) {
        let entry = ends.entry(known).or_insert_with(|| end.clone());
        *entry = entry.clone().or(end);
    }
    if found {
        // A lost status no longer names the secrets in their grace period, but deliveries that carry them are still authentic.
        ends.entry(ANY_EARLIER_VERSION.to_owned()).or_insert_with(|| Some(Time(grace_end)));
    }
    let mut previous: Vec<PreviousSecret> = Vec::new();
    for (known, end) in ends {
        let is_carried = hooks.iter().any(|hook| hook.secret_version == known);
        let end = match end {
            _ if is_carried => None,
            _ if snapshot.requests.revoke => continue,
            Some(end) if end.0 <= snapshot.now => continue,
            Some(end) => Some(end),
            None => Some(Time(grace_end)),
        };
        previous.push(PreviousSecret { version: known, valid_until: end });
    }
    // Secrets that hooks carry sort last; before them, those that are accepted longest.
    let end = |previous: &PreviousSecret| previous.valid_until.as_ref().map_or(Timestamp::MAX, |end| end.0);
    previous.sort_by(|one, other| (end(one), &one.version).cmp(&(end(other), &other.version)));
    let surplus = previous.len().saturating_sub(PREVIOUS_SECRETS);
    previous.split_off(surplus)
}
