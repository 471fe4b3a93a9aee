//! Builds the status and the events of a connection. Pure, and the only code that sets its conditions and events.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;

use super::connection_inputs;
use super::facts::Facts;
use super::plan::Plan;
use super::schedule::{until, warn_before};
use crate::api::v1alpha1::catalog::CatalogStatus;
use crate::api::v1alpha1::connection::{
    CredentialStatus, GitProviderConnectionStatus, IdentityStatus, PermissionState, PermissionStatus, ServerStatus,
};
use crate::api::v1alpha1::{
    ConditionType, LastHandled, Permission, RECONCILE_REQUESTED_AT, REVOKE_REQUESTED_AT, ROTATE_REQUESTED_AT, Reason,
};
use crate::controllers::catalog::state::Finding;
use crate::controllers::public_endpoints::Unreachable;
use crate::controllers::runtime::status::EventRecord;
use crate::controllers::sessions::ConditionFailure;
use crate::k8s::conditions::{self, ConditionStatus, Conditions};
use crate::providers::permission::Grants;

/// Message for the permissions of a credential that cannot be used.
const WITHOUT_CREDENTIAL: &str = "not known while the credential is not accepted; see the condition Authenticated";

/// Result of a reconciliation, to be written to the API server.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The new status.
    pub status: GitProviderConnectionStatus,
    /// Kubernetes events for the user.
    pub events: Vec<EventRecord>,
    /// Time to the next reconciliation; `None` waits for a change.
    pub requeue: Option<Duration>,
}

/// Builds the status and the events.
#[must_use]
pub fn report(facts: &Facts, plan: &Plan) -> Report {
    let before = facts.snapshot.object.status.clone().unwrap_or_default();
    let mut conditions = Conditions::new(&before.conditions, facts.snapshot.object.metadata.generation, facts.snapshot.now);
    reachable_and_authenticated(&mut conditions, facts);
    authorized(&mut conditions, facts);
    expiring(&mut conditions, facts);
    endpoint(&mut conditions, facts);
    cataloged(&mut conditions, facts);
    let ready = ready(&mut conditions, facts, plan);
    let conditions = conditions.finish();
    let mut events = events(&before, &conditions, ready);
    events.extend(new_warnings(facts, &before, &conditions));
    events.extend(deletion_begins(facts, plan, &before.conditions));
    let mut status = GitProviderConnectionStatus {
        observed_generation: facts.snapshot.object.metadata.generation,
        conditions,
        provider: facts.snapshot.object.spec.provider.kind(),
        bindings: Some(facts.usage.bindings),
        installation: Some(facts.snapshot.fingerprint.clone()),
        last_handled: last_handled(facts),
        permissions: permissions(facts),
        catalog: catalog(facts),
        ..before
    };
    found(&mut status, facts);
    Report { status, events, requeue: requeue(facts, plan) }
}

/// Time to the next reconciliation: the next inspection or the next change of the expiry's condition; during a deletion, its end.
fn requeue(facts: &Facts, plan: &Plan) -> Option<Duration> {
    let now = facts.snapshot.now;
    if facts.snapshot.object.metadata.deletion_timestamp.is_some() {
        return plan.deadline.map(|deadline| until(now, deadline));
    }
    let expiry = facts.expiry().filter(|expiry| *expiry > now);
    let warning = expiry.and_then(|expiry| expiry.checked_sub(warn_before(&facts.snapshot.object)).ok()).filter(|warning| *warning > now);
    [facts.session.next, expiry, warning].into_iter().flatten().min().map(|at| until(now, at))
}

fn reachable_and_authenticated(conditions: &mut Conditions<'_>, facts: &Facts) {
    let Some(failure) = &facts.session.failure else {
        conditions.succeed(ConditionType::Reachable, "the provider answers");
        let message = match identity_name(facts) {
            Some(name) => format!("the credential belongs to {name}"),
            None if facts.snapshot.object.spec.credentials.is_none() => "no credential: public repositories only".to_owned(),
            None => "the credential is valid".to_owned(),
        };
        let message = std::iter::once(message.as_str()).chain(warnings(facts)).collect::<Vec<_>>().join("; ");
        return conditions.succeed(ConditionType::Authenticated, message);
    };
    match failure.condition {
        ConditionType::Reachable => {
            conditions.set(ConditionType::Reachable, ConditionStatus::False, failure.reason, message_of(failure));
            // The credential cannot be judged now; its last condition stays.
            conditions.keep(ConditionType::Authenticated);
        }
        ConditionType::Authenticated => {
            if is_answer(failure.reason) {
                conditions.succeed(ConditionType::Reachable, "the provider answers");
            } else {
                conditions.keep(ConditionType::Reachable);
            }
            conditions.set(ConditionType::Authenticated, ConditionStatus::False, failure.reason, message_of(failure));
        }
        ConditionType::Authorized => {
            conditions.succeed(ConditionType::Reachable, "the provider answers");
            conditions.keep(ConditionType::Authenticated);
        }
        _ => {
            conditions.keep(ConditionType::Reachable);
            conditions.keep(ConditionType::Authenticated);
            conditions.set(ConditionType::Reconciling, ConditionStatus::True, Reason::Progressing, message_of(failure));
        }
    }
}

/// Whether the reason means that the provider was called and answered.
const fn is_answer(reason: Reason) -> bool {
    !matches!(reason, Reason::SecretNotFound | Reason::SecretForbidden | Reason::SecretInvalid)
}

fn message_of(failure: &ConditionFailure) -> String {
    match failure.retry_at {
        Some(at) => format!("{}; retrying at {}", failure.message, at.round(jiff::Unit::Second).unwrap_or(at)),
        None => failure.message.clone(),
    }
}

fn authorized(conditions: &mut Conditions<'_>, facts: &Facts) {
    let kind = ConditionType::Authorized;
    match &facts.session.failure {
        None => {}
        Some(failure) if failure.condition == kind => {
            return conditions.set(kind, ConditionStatus::False, failure.reason, message_of(failure));
        }
        // The permissions of a missing or refused credential are unknown.
        Some(failure) if failure.condition == ConditionType::Authenticated => {
            if conditions.was(kind) {
                conditions.set(kind, ConditionStatus::Unknown, Reason::CannotTell, WITHOUT_CREDENTIAL);
            }
            return;
        }
        Some(_) => return conditions.keep(kind),
    }
    let of = |state: PermissionState| {
        let rows = facts.permissions.iter().filter(move |(_, finding)| finding.state == state);
        rows.map(|(name, finding)| format!("{name}: {}", finding.message.as_deref().unwrap_or_default())).collect::<Vec<_>>()
    };
    let (missing, unknown) = (of(PermissionState::Missing), of(PermissionState::Unknown));
    if !missing.is_empty() {
        conditions.set(ConditionType::Authorized, ConditionStatus::False, Reason::PermissionMissing, missing.join("; "));
    } else if !unknown.is_empty() {
        conditions.set(ConditionType::Authorized, ConditionStatus::Unknown, Reason::CannotTell, unknown.join("; "));
    } else {
        let message = if facts.permissions.is_empty() {
            "no permission is needed: requiredPermissions is empty, and no binding has a webhook"
        } else {
            "the credential itself has every required permission; each binding reports the role of its account at the repository"
        };
        conditions.succeed(ConditionType::Authorized, message);
    }
}

fn expiring(conditions: &mut Conditions<'_>, facts: &Facts) {
    let Some(end) = facts.expiry() else { return };
    let warned = end.checked_sub(warn_before(&facts.snapshot.object)).is_ok_and(|warning| warning <= facts.snapshot.now);
    let kind = facts.snapshot.inputs.as_ref().ok().map(|inputs| inputs.declared.credential.kind());
    let place = connection_inputs::place_of_credential(&facts.snapshot.object, kind);
    let remedy = place.map(|place| format!("; put a new one into {place}")).unwrap_or_default();
    if warned && end > facts.snapshot.now {
        let message = format!("the credential expires at {end}{remedy}");
        conditions.set(ConditionType::CredentialExpiring, ConditionStatus::True, Reason::ExpiresSoon, message);
    } else if end <= facts.snapshot.now {
        let message = format!("the credential should have expired at {end}{remedy}");
        conditions.set(ConditionType::CredentialExpiring, ConditionStatus::True, Reason::CredentialExpired, message);
    }
}

/// Tells that the public URL does not answer. The provider may reach it nevertheless, so this lowers nothing.
fn endpoint(conditions: &mut Conditions<'_>, facts: &Facts) {
    let unreachable = facts.snapshot.unreachable.as_ref().filter(|_| facts.usage.webhooks);
    let Some((url, Unreachable { since, error })) = unreachable else { return };
    let message = format!(
        "{url}, to which the webhooks of this connection deliver, does not answer since {since}, as seen from inside the cluster: \
         {error}; check its DNS name, certificate, Ingress or Gateway, and the Service of the receiver"
    );
    conditions.set(ConditionType::EndpointReachable, ConditionStatus::False, Reason::EndpointUnreachable, message);
}

/// Tells how the last listing of the repositories ended. A new leader keeps what the last one told.
fn cataloged(conditions: &mut Conditions<'_>, facts: &Facts) {
    if facts.snapshot.object.spec.catalog.is_none() {
        return;
    }
    let Some(Finding { reason, message }) = facts.snapshot.catalog.as_ref().map(|outcome| &outcome.finding) else {
        return conditions.keep(ConditionType::Cataloged);
    };
    let status = if *reason == Reason::Succeeded { ConditionStatus::True } else { ConditionStatus::False };
    conditions.set(ConditionType::Cataloged, status, *reason, message);
}

fn catalog(facts: &Facts) -> Option<CatalogStatus> {
    let object = &facts.snapshot.object;
    object.spec.catalog.as_ref()?;
    let listed = facts.snapshot.catalog.as_ref().and_then(|outcome| outcome.status.clone());
    listed.or_else(|| object.status.as_ref()?.catalog.clone())
}

/// Sets `Ready`, `Reconciling` and `Stalled` from the other conditions.
fn ready(conditions: &mut Conditions<'_>, facts: &Facts, plan: &Plan) -> (ConditionStatus, Reason) {
    if let Some(deadline) = plan.deadline {
        let message = format!("being deleted: {}; released at {deadline} at the latest", going(facts.usage.holding));
        conditions.set(ConditionType::Reconciling, ConditionStatus::True, Reason::Progressing, &message);
        conditions.set(ConditionType::Ready, ConditionStatus::False, Reason::Progressing, message);
        return (ConditionStatus::False, Reason::Progressing);
    }
    let lowering = [ConditionType::Reachable, ConditionType::Authenticated, ConditionType::Authorized]
        .into_iter()
        .filter_map(|kind| conditions.get(kind))
        .find(|condition| condition.status == "False")
        .map(|condition| condition.message.clone());
    let (status, reason, message) = match (&facts.session.failure, lowering) {
        _ if facts.snapshot.object.spec.suspend => {
            (ConditionStatus::False, Reason::Suspended, "suspended; set spec.suspend to false to continue".to_owned())
        }
        (Some(failure), _) if failure.condition == ConditionType::Ready => {
            (ConditionStatus::Unknown, Reason::Progressing, failure.message.clone())
        }
        (Some(failure), _) => (ConditionStatus::False, failure.reason, message_of(failure)),
        (None, Some(message)) => (ConditionStatus::False, Reason::PermissionMissing, message),
        (None, None) if facts.snapshot.object.spec.credentials.is_none() => (
            ConditionStatus::True,
            Reason::Succeeded,
            "the provider answers; without a credential only public repositories are \
                                                        visible"
                .to_owned(),
        ),
        (None, None) => (ConditionStatus::True, Reason::Succeeded, "the provider answers and the credential works".to_owned()),
    };
    // Only a person can grant a missing permission.
    let waits_for_a_person = facts.session.failure.as_ref().is_none_or(ConditionFailure::waits_for_a_person);
    if status == ConditionStatus::False && reason != Reason::Suspended && waits_for_a_person {
        conditions.set(ConditionType::Stalled, ConditionStatus::True, reason, &message);
    } else if status == ConditionStatus::False && reason != Reason::Suspended {
        conditions.set(ConditionType::Reconciling, ConditionStatus::True, reason, &message);
    }
    conditions.set(ConditionType::Ready, status, reason, message);
    (status, reason)
}

/// Describes the hooks that are removed together with the connection.
fn going(holding: i64) -> String {
    match holding {
        0 => "no binding has a hook that was made through it".to_owned(),
        1 => "the hook of 1 binding that was made through it is removed at the provider, and its deliveries end".to_owned(),
        count => format!("the hooks of {count} bindings that were made through it are removed at the provider, and their deliveries end"),
    }
}

/// The event at the start of a deletion: lists what is removed with the connection. The bindings themselves stay.
fn deletion_begins(facts: &Facts, plan: &Plan, before: &[Condition]) -> Option<EventRecord> {
    let told = conditions::find(before, ConditionType::Ready).is_some_and(|ready| ready.message.starts_with("being deleted"));
    let begins = plan.deadline.is_some() && !told && facts.usage.holding > 0;
    let message = format!("{}; the bindings stay, without a hook until they have a connection again", going(facts.usage.holding));
    begins.then(|| EventRecord::warning("HooksGoWithConnection", message))
}

fn identity_name(facts: &Facts) -> Option<String> {
    facts.session.active_client.as_ref()?.inspection.identity.as_ref()?.name.clone()
}

/// Warnings for the user although the connection works.
fn warnings(facts: &Facts) -> impl Iterator<Item = &str> {
    let active_client = facts.session.active_client.as_ref().filter(|_| facts.session.failure.is_none());
    active_client.into_iter().flat_map(|active_client| active_client.inspection.warnings.iter().map(String::as_str))
}

fn permissions(facts: &Facts) -> Vec<PermissionStatus> {
    let rows = facts.permissions.iter();
    if facts.session.failure.as_ref().is_some_and(|failure| failure.condition == ConditionType::Authenticated) {
        let unknown = |name: &Permission| PermissionStatus {
            name: *name,
            state: PermissionState::Unknown,
            message: Some(WITHOUT_CREDENTIAL.to_owned()),
        };
        return rows.map(|(name, _)| unknown(name)).collect();
    }
    rows.map(|(name, finding)| PermissionStatus { name: *name, state: finding.state, message: finding.message.clone() }).collect()
}

/// Writes the results of the inspection to the status. If the inspection failed, the last good results stay visible.
fn found(status: &mut GitProviderConnectionStatus, facts: &Facts) {
    if let Ok(inputs) = &facts.snapshot.inputs {
        let kind = inputs.declared.credential.kind();
        let known = status.credential.take();
        let same = known.as_ref().filter(|known| known.kind == kind);
        status.credential = Some(CredentialStatus {
            kind,
            name: same.and_then(|known| known.name.clone()),
            expires_at: facts.expiry().map(Time),
            grants: same.map(|known| known.grants.clone()).unwrap_or_default(),
            secret_resource_version: inputs.secret_version.clone(),
        });
    }
    if facts.session.failure.is_some() {
        return;
    }
    let Some(active_client) = &facts.session.active_client else { return };
    let inspection = &active_client.inspection;
    status.server = Some(ServerStatus { flavor: inspection.flavor.clone(), version: inspection.version.clone() });
    status.identity = inspection.identity.as_ref().map(|identity| IdentityStatus { name: identity.name.clone(), kind: identity.kind });
    if let Some(credential) = &mut status.credential {
        credential.name.clone_from(&inspection.credential_name);
        credential.grants = match &inspection.grants {
            Grants::Known(grants) => grants.clone(),
            Grants::Unknown(_) => Vec::new(),
        };
    }
}

fn last_handled(facts: &Facts) -> Option<LastHandled> {
    let before = facts.snapshot.object.status.as_ref().and_then(|status| status.last_handled.as_ref()?.catalog.clone());
    let listed = facts.snapshot.catalog.as_ref().and_then(|outcome| outcome.handled.clone());
    let annotation = |name: &str| facts.snapshot.object.annotations().get(name).cloned();
    let handled = LastHandled {
        reconcile: annotation(RECONCILE_REQUESTED_AT),
        rotate_secret: annotation(ROTATE_REQUESTED_AT),
        revoke_secret: annotation(REVOKE_REQUESTED_AT),
        catalog: listed.or(before),
        ..LastHandled::default()
    };
    (handled != LastHandled::default()).then_some(handled)
}

/// Events for new warnings: each warning that was not in the message before causes one event.
fn new_warnings(facts: &Facts, before: &GitProviderConnectionStatus, now: &[Condition]) -> Vec<EventRecord> {
    let tells = |conditions: &[Condition], warning: &str| {
        conditions::find(conditions, ConditionType::Authenticated).is_some_and(|condition| condition.message.contains(warning))
    };
    let is_new = |warning: &&str| tells(now, warning) && !tells(&before.conditions, warning);
    warnings(facts).filter(is_new).map(|warning| EventRecord::warning("CredentialWarning", warning)).collect()
}

fn events(before: &GitProviderConnectionStatus, now: &[Condition], ready: (ConditionStatus, Reason)) -> Vec<EventRecord> {
    let mut events = Vec::new();
    let old = conditions::find(&before.conditions, ConditionType::Ready);
    let new = conditions::find(now, ConditionType::Ready);
    if let Some(new) = new
        && old.is_none_or(|old| old.status != new.status || old.reason != new.reason)
    {
        match ready.0 {
            ConditionStatus::True => events.push(EventRecord::normal("Ready", &new.message)),
            ConditionStatus::False if ready.1 != Reason::Suspended => events.push(EventRecord::warning(&new.reason, &new.message)),
            _ => {}
        }
    }
    if let Some(expiring) = conditions::find(now, ConditionType::CredentialExpiring)
        && conditions::find(&before.conditions, ConditionType::CredentialExpiring).is_none()
    {
        events.push(EventRecord::warning("CredentialExpiring", &expiring.message));
    }
    events
}
