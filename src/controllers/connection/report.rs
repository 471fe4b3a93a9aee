//! What to say about a connection. Pure, and the only code that makes its conditions and events.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;

use super::material;
use super::observe::Observation;
use super::plan::{self, Plan};
use crate::api::v1alpha1::connection::{
    CredentialStatus, GitProviderConnectionStatus, IdentityStatus, PermissionState, PermissionStatus, ServerStatus,
};
use crate::api::v1alpha1::{
    ConditionType, LastHandled, Permission, RECONCILE_REQUESTED_AT, REVOKE_REQUESTED_AT, ROTATE_REQUESTED_AT, Reason,
};
use crate::controllers::conditions::{self, Conditions, Verdict};
use crate::controllers::sessions::Trouble;
use crate::controllers::status::Notice;
use crate::providers::permission::Grants;

/// What is said of the permissions of a credential that cannot be used.
const WITHOUT_CREDENTIAL: &str = "not known while the credential is not accepted; see the condition Authenticated";

/// What is to be said.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The status.
    pub status: GitProviderConnectionStatus,
    /// Events for what a person should notice.
    pub notices: Vec<Notice>,
}

/// Says it.
#[must_use]
pub fn report(observation: &Observation, plan: &Plan) -> Report {
    let before = observation.object.status.clone().unwrap_or_default();
    let mut conditions = Conditions::new(&before.conditions, observation.object.metadata.generation, observation.now);
    reachable_and_authenticated(&mut conditions, observation);
    authorized(&mut conditions, observation);
    expiring(&mut conditions, observation);
    let ready = ready(&mut conditions, observation, plan);
    let conditions = conditions.finish();
    let mut notices = notices(&before, &conditions, ready);
    notices.extend(new_warnings(observation, &before, &conditions));
    notices.extend(deletion_begins(observation, plan, &before.conditions));
    let mut status = GitProviderConnectionStatus {
        observed_generation: observation.object.metadata.generation,
        conditions,
        provider: observation.provider,
        bindings: Some(observation.usage.bindings),
        installation: Some(observation.fingerprint.clone()),
        last_handled: last_handled(observation),
        permissions: permissions(observation),
        ..before
    };
    found(&mut status, observation);
    Report { status, notices }
}

fn reachable_and_authenticated(conditions: &mut Conditions<'_>, observation: &Observation) {
    let Some(trouble) = &observation.session.trouble else {
        conditions.succeed(ConditionType::Reachable, "the provider answers");
        let message = match identity_name(observation) {
            Some(name) => format!("the credential is that of {name}"),
            None if observation.object.spec.credentials.is_none() => "no credential: public repositories only".to_owned(),
            None => "the credential is valid".to_owned(),
        };
        let message = std::iter::once(message.as_str()).chain(warnings(observation)).collect::<Vec<_>>().join("; ");
        return conditions.succeed(ConditionType::Authenticated, message);
    };
    match trouble.condition {
        ConditionType::Reachable => {
            conditions.set(ConditionType::Reachable, Verdict::False, trouble.reason, message_of(trouble));
            // Whether the credential is good cannot be seen at present; what was known of it still is.
            conditions.keep(ConditionType::Authenticated);
        }
        ConditionType::Authenticated => {
            if is_answer(trouble.reason) {
                conditions.succeed(ConditionType::Reachable, "the provider answers");
            } else {
                conditions.keep(ConditionType::Reachable);
            }
            conditions.set(ConditionType::Authenticated, Verdict::False, trouble.reason, message_of(trouble));
        }
        ConditionType::Authorized => {
            conditions.succeed(ConditionType::Reachable, "the provider answers");
            conditions.keep(ConditionType::Authenticated);
        }
        _ => {
            conditions.keep(ConditionType::Reachable);
            conditions.keep(ConditionType::Authenticated);
            conditions.set(ConditionType::Reconciling, Verdict::True, Reason::Progressing, message_of(trouble));
        }
    }
}

/// Whether a reason tells that the provider was asked and answered.
const fn is_answer(reason: Reason) -> bool {
    !matches!(reason, Reason::SecretNotFound | Reason::SecretForbidden | Reason::SecretInvalid)
}

fn message_of(trouble: &Trouble) -> String {
    match trouble.retry_at {
        Some(at) => format!("{}; tried again at {}", trouble.message, at.round(jiff::Unit::Second).unwrap_or(at)),
        None => trouble.message.clone(),
    }
}

fn authorized(conditions: &mut Conditions<'_>, observation: &Observation) {
    let kind = ConditionType::Authorized;
    match &observation.session.trouble {
        None => {}
        Some(trouble) if trouble.condition == kind => return conditions.set(kind, Verdict::False, trouble.reason, message_of(trouble)),
        // Nobody can say what a credential may do that is not there or not accepted.
        Some(trouble) if trouble.condition == ConditionType::Authenticated => {
            if conditions.was(kind) {
                conditions.set(kind, Verdict::Unknown, Reason::CannotTell, WITHOUT_CREDENTIAL);
            }
            return;
        }
        Some(_) => return conditions.keep(kind),
    }
    let of = |state: PermissionState| {
        let rows = observation.permissions.iter().filter(move |(_, finding)| finding.state == state);
        rows.map(|(name, finding)| format!("{name}: {}", finding.message.as_deref().unwrap_or_default())).collect::<Vec<_>>()
    };
    let (missing, unknown) = (of(PermissionState::Missing), of(PermissionState::Unknown));
    if !missing.is_empty() {
        conditions.set(ConditionType::Authorized, Verdict::False, Reason::PermissionMissing, missing.join("; "));
    } else if !unknown.is_empty() {
        conditions.set(ConditionType::Authorized, Verdict::Unknown, Reason::CannotTell, unknown.join("; "));
    } else {
        let message = if observation.permissions.is_empty() {
            "no permission is needed: requiredPermissions is empty, and no binding has a webhook"
        } else {
            "the credential itself has every permission that is needed; what its account may do at a repository is told by each binding"
        };
        conditions.succeed(ConditionType::Authorized, message);
    }
}

fn expiring(conditions: &mut Conditions<'_>, observation: &Observation) {
    let Some(end) = observation.end() else { return };
    let warned = end.checked_sub(plan::warn_before(observation)).is_ok_and(|warning| warning <= observation.now);
    let kind = observation.credential.as_ref().map(|credential| credential.kind);
    let place = material::place_of_credential(&observation.object, kind);
    let remedy = place.map(|place| format!("; put a new one into {place}")).unwrap_or_default();
    if warned && end > observation.now {
        let message = format!("the credential ends at {end}{remedy}");
        conditions.set(ConditionType::CredentialExpiring, Verdict::True, Reason::ExpiresSoon, message);
    } else if end <= observation.now {
        let message = format!("the credential was to end at {end}{remedy}");
        conditions.set(ConditionType::CredentialExpiring, Verdict::True, Reason::CredentialExpired, message);
    }
}

/// Sets Ready from the others, and what goes with it.
fn ready(conditions: &mut Conditions<'_>, observation: &Observation, plan: &Plan) -> (Verdict, Reason) {
    if let Some(deadline) = plan.deadline {
        let message = format!("being deleted: {}; let go at {deadline} at the latest", going(observation.usage.holding));
        conditions.set(ConditionType::Reconciling, Verdict::True, Reason::Progressing, &message);
        conditions.set(ConditionType::Ready, Verdict::False, Reason::Progressing, message);
        return (Verdict::False, Reason::Progressing);
    }
    let lowering = [ConditionType::Reachable, ConditionType::Authenticated, ConditionType::Authorized]
        .into_iter()
        .filter_map(|kind| conditions.get(kind))
        .find(|condition| condition.status == "False")
        .map(|condition| condition.message.clone());
    let (verdict, reason, message) = match (&observation.session.trouble, lowering) {
        _ if observation.object.spec.suspend => {
            (Verdict::False, Reason::Suspended, "suspended; set spec.suspend to false to go on".to_owned())
        }
        (Some(trouble), _) if trouble.condition == ConditionType::Ready => (Verdict::Unknown, Reason::Progressing, trouble.message.clone()),
        (Some(trouble), _) => (Verdict::False, trouble.reason, message_of(trouble)),
        (None, Some(message)) => (Verdict::False, Reason::PermissionMissing, message),
        (None, None) if observation.object.spec.credentials.is_none() => {
            (Verdict::True, Reason::Succeeded, "the provider answers; without a credential only what is public is seen".to_owned())
        }
        (None, None) => (Verdict::True, Reason::Succeeded, "the provider answers and the credential works".to_owned()),
    };
    // A permission that is missing is for a person to give.
    let waits_for_a_person = observation.session.trouble.as_ref().is_none_or(Trouble::waits_for_a_person);
    if verdict == Verdict::False && reason != Reason::Suspended && waits_for_a_person {
        conditions.set(ConditionType::Stalled, Verdict::True, reason, &message);
    } else if verdict == Verdict::False && reason != Reason::Suspended {
        conditions.set(ConditionType::Reconciling, Verdict::True, reason, &message);
    }
    conditions.set(ConditionType::Ready, verdict, reason, message);
    (verdict, reason)
}

/// What becomes of the hooks that bindings hold through a connection that is being deleted.
fn going(holding: i64) -> String {
    match holding {
        0 => "no binding holds a hook made through it".to_owned(),
        1 => "the hook that 1 binding holds through it is removed at the provider, and its deliveries end".to_owned(),
        count => format!("the hooks that {count} bindings hold through it are removed at the provider, and their deliveries end"),
    }
}

/// Once a connection is being deleted, its owner is told what goes with it: the bindings themselves stay.
fn deletion_begins(observation: &Observation, plan: &Plan, before: &[Condition]) -> Option<Notice> {
    let told = conditions::find(before, ConditionType::Ready).is_some_and(|ready| ready.message.starts_with("being deleted"));
    let begins = plan.deadline.is_some() && !told && observation.usage.holding > 0;
    let message = format!("{}; the bindings stay, without a hook until they have a connection again", going(observation.usage.holding));
    begins.then(|| Notice::warning("HooksGoWithConnection", message))
}

fn identity_name(observation: &Observation) -> Option<String> {
    observation.session.working.as_ref()?.inspection.identity.as_ref()?.name.clone()
}

/// What a user should notice although the connection works.
fn warnings(observation: &Observation) -> impl Iterator<Item = &str> {
    let working = observation.session.working.as_ref().filter(|_| observation.session.trouble.is_none());
    working.into_iter().flat_map(|working| working.inspection.warnings.iter().map(String::as_str))
}

fn permissions(observation: &Observation) -> Vec<PermissionStatus> {
    let rows = observation.permissions.iter();
    if observation.session.trouble.as_ref().is_some_and(|trouble| trouble.condition == ConditionType::Authenticated) {
        let unknown = |name: &Permission| PermissionStatus {
            name: *name,
            state: PermissionState::Unknown,
            message: Some(WITHOUT_CREDENTIAL.to_owned()),
        };
        return rows.map(|(name, _)| unknown(name)).collect();
    }
    rows.map(|(name, finding)| PermissionStatus { name: *name, state: finding.state, message: finding.message.clone() }).collect()
}

/// Writes down what the inspection found. Where it failed, the last good state stays visible.
fn found(status: &mut GitProviderConnectionStatus, observation: &Observation) {
    if let Some(facts) = &observation.credential {
        let known = status.credential.take();
        let same = known.as_ref().filter(|known| known.kind == facts.kind);
        status.credential = Some(CredentialStatus {
            kind: facts.kind,
            name: same.and_then(|known| known.name.clone()),
            expires_at: observation.end().map(Time),
            grants: same.map(|known| known.grants.clone()).unwrap_or_default(),
            secret_resource_version: facts.secret_version.clone(),
        });
    }
    if observation.session.trouble.is_some() {
        return;
    }
    let Some(working) = &observation.session.working else { return };
    let inspection = &working.inspection;
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

fn last_handled(observation: &Observation) -> Option<LastHandled> {
    let annotation = |name: &str| observation.object.annotations().get(name).cloned();
    let handled = LastHandled {
        reconcile: annotation(RECONCILE_REQUESTED_AT),
        rotate_secret: annotation(ROTATE_REQUESTED_AT),
        revoke_secret: annotation(REVOKE_REQUESTED_AT),
        ..LastHandled::default()
    };
    (handled != LastHandled::default()).then_some(handled)
}

/// The warnings that were not in the message before: each is an event once.
fn new_warnings(observation: &Observation, before: &GitProviderConnectionStatus, now: &[Condition]) -> Vec<Notice> {
    let tells = |conditions: &[Condition], warning: &str| {
        conditions::find(conditions, ConditionType::Authenticated).is_some_and(|condition| condition.message.contains(warning))
    };
    let is_new = |warning: &&str| tells(now, warning) && !tells(&before.conditions, warning);
    warnings(observation).filter(is_new).map(|warning| Notice::warning("CredentialWarning", warning)).collect()
}

fn notices(before: &GitProviderConnectionStatus, now: &[Condition], ready: (Verdict, Reason)) -> Vec<Notice> {
    let mut notices = Vec::new();
    let old = conditions::find(&before.conditions, ConditionType::Ready);
    let new = conditions::find(now, ConditionType::Ready);
    if let Some(new) = new
        && old.is_none_or(|old| old.status != new.status || old.reason != new.reason)
    {
        match ready.0 {
            Verdict::True => notices.push(Notice::normal("Ready", &new.message)),
            Verdict::False if ready.1 != Reason::Suspended => notices.push(Notice::warning(&new.reason, &new.message)),
            _ => {}
        }
    }
    if let Some(expiring) = conditions::find(now, ConditionType::CredentialExpiring)
        && conditions::find(&before.conditions, ConditionType::CredentialExpiring).is_none()
    {
        notices.push(Notice::warning("CredentialExpiring", &expiring.message));
    }
    notices
}
