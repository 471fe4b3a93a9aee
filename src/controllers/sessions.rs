//! Sessions of the connections: the connection controller keeps the client of each connection and whether it works, for the
//! binding controller. In memory only, and the only place where a credential lives longer than one call.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use super::gate::ActiveClient;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::{ConditionType, Reason};
use crate::providers::{Disposition, ProviderError};

/// Why a connection does not work, with a message for its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionFailure {
    /// The condition that becomes False: Reachable, Authenticated or Authorized.
    pub condition: ConditionType,
    /// The reason of that condition.
    pub reason: Reason,
    /// What is wrong and what the owner can do.
    pub message: String,
    /// Determines how the controllers react. The reason is for users.
    pub disposition: Disposition,
    /// Earliest time of the next attempt.
    pub retry_at: Option<Timestamp>,
}

impl ConditionFailure {
    /// A failure in the cluster, before the provider was called. It lasts until something in the cluster changes.
    #[must_use]
    pub fn new(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { condition, reason, message: message.into(), disposition: Disposition::Misconfigured, retry_at: None }
    }

    /// A short state in which nothing is known about the connection and the provider was not called.
    #[must_use]
    pub fn pending(message: impl Into<String>) -> Self {
        let disposition = Disposition::NotAsked;
        Self { condition: ConditionType::Ready, reason: Reason::Progressing, message: message.into(), disposition, retry_at: None }
    }

    /// Whether the provider rejects the credential.
    #[must_use]
    pub const fn is_rejection(&self) -> bool {
        matches!(self.disposition, Disposition::CredentialRefused | Disposition::CredentialUnusable | Disposition::Hidden)
    }

    /// Whether the provider is temporarily unavailable. What works keeps working meanwhile.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        self.disposition.is_outage()
    }

    /// Whether only a person can resolve the failure. An object that is missing in the cluster may still be created by other
    /// means.
    #[must_use]
    pub const fn waits_for_a_person(&self) -> bool {
        match self.disposition {
            Disposition::CredentialRefused | Disposition::CredentialUnusable | Disposition::Hidden | Disposition::Refused => true,
            Disposition::Misconfigured => {
                !matches!(self.reason, Reason::SecretNotFound | Reason::SecretForbidden | Reason::TLSReferenceNotFound)
            }
            Disposition::Outage | Disposition::RateLimited | Disposition::ReadOnly | Disposition::ProbeAgain | Disposition::NotAsked => {
                false
            }
        }
    }

    /// Whether nothing is known about the connection yet.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        matches!(self.disposition, Disposition::NotAsked)
    }
}

/// Usage of a connection by bindings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bindings that have a grant for what they ask for, or hold a hook made through the connection.
    pub bindings: i64,
    /// Whether any binding with a grant requests a webhook.
    pub webhooks: bool,
    /// Bindings that hold, or may hold, a hook made through the connection.
    pub holding: i64,
}

/// The state of one connection.
#[derive(Clone)]
pub struct Session {
    /// UID of the connection.
    pub uid: String,
    /// What the last inspection read in Kubernetes. Any change of it requires a new inspection.
    pub inputs: String,
    /// Time of the last inspection.
    pub inspected_at: Timestamp,
    /// Since when every inspection succeeded; `None` while the connection does not work.
    pub works_since: Option<Timestamp>,
    /// Time of the next inspection if nothing changes; `None` for never.
    pub next: Option<Timestamp>,
    /// Consecutive outages.
    pub failures: u32,
    /// Whether the last inspection failed because the provider did not answer in time.
    pub hung: bool,
    /// Why it does not work; `None` while it does.
    pub failure: Option<ConditionFailure>,
    /// The last client that worked. It is kept for deletions while the connection does not work.
    pub active_client: Option<ActiveClient>,
    /// Whether the credential was refused outside an inspection, so that a new inspection is needed.
    pub inspection_requested: bool,
    /// Usage of the connection at its last reconciliation.
    pub usage: Usage,
}

/// A credential that the provider rejected. Repeated attempts would lock accounts and use up quotas.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// The error of the provider.
    pub error: Arc<ProviderError>,
    /// Time of the next automatic attempt; `None` for never.
    pub probe_at: Option<Timestamp>,
}

impl Rejection {
    /// A rejection at this time. `probe_again`: whether one attempt an hour is harmless, which it is not with passwords.
    #[must_use]
    pub fn new(error: ProviderError, now: Timestamp, probe_again: bool) -> Self {
        Self { error: Arc::new(error), probe_at: now.checked_add(REJECTION_RESTS).ok().filter(|_| probe_again) }
    }
}

/// The credential that a connection uses.
#[derive(Clone, Debug)]
pub struct CredentialUse {
    /// Origin and keyed hash of the credential.
    pub key: String,
    /// The rejection of the credential by this inspection.
    pub rejection: Option<Rejection>,
}

/// Pause before the next attempt with a rejected token.
const REJECTION_RESTS: SignedDuration = SignedDuration::from_hours(1);
/// How long a rejection is remembered after the last connection stopped using the credential. Deleting and creating a
/// connection repeatedly must not give one more attempt each time.
const REJECTION_KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Minimum interval between two prunings of such rejections.
const PRUNED_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// The rejections of all credentials, and the credential that each connection uses now.
#[derive(Default)]
struct Rejections {
    /// By origin and keyed hash of the credential: shared by all connections that use the same credential.
    known: HashMap<String, Remembered>,
    used: HashMap<ConnectionTarget, String>,
    pruned_at: Option<Timestamp>,
}

struct Remembered {
    rejection: Rejection,
    /// Since when no connection uses the credential.
    unused_since: Option<Timestamp>,
}

impl Rejections {
    /// Removes rejections of credentials that no connection has used for [`REJECTION_KEPT`].
    fn prune(&mut self, now: Timestamp) {
        if self.pruned_at.is_some_and(|at| now.duration_since(at) < PRUNED_EVERY) {
            return;
        }
        self.pruned_at = Some(now);
        let used: HashSet<&String> = self.used.values().collect();
        self.known.retain(|key, remembered| {
            if used.contains(key) {
                remembered.unused_since = None;
                return true;
            }
            now.duration_since(*remembered.unused_since.get_or_insert(now)) < REJECTION_KEPT
        });
    }
}

/// The sessions of all connections.
pub struct Sessions {
    known: Mutex<HashMap<ConnectionTarget, Session>>,
    rejections: Mutex<Rejections>,
    changed: UnboundedSender<ConnectionTarget>,
}

impl Sessions {
    /// Starts without sessions. Every change of a session is sent to `changed`.
    #[must_use]
    pub fn new(changed: UnboundedSender<ConnectionTarget>) -> Self {
        Self { known: Mutex::default(), rejections: Mutex::default(), changed }
    }

    /// The session of a connection; `None` before its first inspection.
    #[must_use]
    pub fn get(&self, connection: &ConnectionTarget) -> Option<Session> {
        self.known.lock().get(connection).cloned()
    }

    /// Stores the result of an inspection.
    pub fn set(&self, connection: &ConnectionTarget, session: Session) {
        let (failure, inputs) = (session.failure.clone(), session.inputs.clone());
        let before = self.known.lock().insert(connection.clone(), session);
        if before.is_none_or(|before| before.failure != failure || before.inputs != inputs) {
            self.tell(connection);
        }
    }

    /// Records that the credential was refused outside an inspection. Returns whether this was not recorded yet.
    pub fn request_inspection(&self, connection: &ConnectionTarget) -> bool {
        self.known.lock().get_mut(connection).is_some_and(|session| !std::mem::replace(&mut session.inspection_requested, true))
    }

    /// Records which credential a connection uses now, and its rejection. A rejection is remembered while the credential is used.
    pub fn uses(&self, connection: &ConnectionTarget, credential: &CredentialUse, now: Timestamp) {
        let CredentialUse { key, rejection } = credential;
        let mut rejections = self.rejections.lock();
        let before = rejections.used.insert(connection.clone(), key.clone());
        if rejection.is_some() || before.as_ref() != Some(key) {
            rejections.prune(now);
        }
        if let Some(rejection) = rejection.clone() {
            rejections.known.insert(key.clone(), Remembered { rejection, unused_since: None });
        }
    }

    /// Returns the rejection while the credential must not be tried. When an attempt is due, the rejection is removed, so that
    /// only one caller makes the attempt. `asked`: a user requests an attempt now, which is granted where attempts are
    /// harmless.
    pub fn rejected(&self, key: &str, now: Timestamp, asked: bool) -> Option<Rejection> {
        let mut rejections = self.rejections.lock();
        let rejection = rejections.known.get(key)?.rejection.clone();
        if rejection.probe_at.is_some_and(|at| asked || at <= now) {
            rejections.known.remove(key);
            return None;
        }
        Some(rejection)
    }

    /// Records the usage of a connection at its last reconciliation.
    pub fn set_usage(&self, connection: &ConnectionTarget, usage: Usage) {
        if let Some(session) = self.known.lock().get_mut(connection) {
            session.usage = usage;
        }
    }

    /// The usage of each connection at its last reconciliation.
    #[must_use]
    pub fn usages(&self) -> Vec<(ConnectionTarget, Usage)> {
        self.known.lock().iter().map(|(connection, session)| (connection.clone(), session.usage)).collect()
    }

    /// Removes a connection that no longer exists.
    pub fn remove(&self, connection: &ConnectionTarget) {
        self.rejections.lock().used.remove(connection);
        if self.known.lock().remove(connection).is_some() {
            self.tell(connection);
        }
    }

    fn tell(&self, connection: &ConnectionTarget) {
        // The channel closes only when the process stops.
        let _ = self.changed.send(connection.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::ErrorKind;

    fn connection(name: &str) -> ConnectionTarget {
        ConnectionTarget { namespace: "team".into(), name: name.into() }
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    fn rejected(key: &str, hours: i64) -> CredentialUse {
        let error = ProviderError::new(ErrorKind::Unauthenticated, "inspect", "no");
        CredentialUse { key: key.into(), rejection: Some(Rejection::new(error, at(hours), false)) }
    }

    #[test]
    fn a_rejected_password_is_remembered_while_a_connection_has_it_and_forgotten_a_day_later() {
        let sessions = Sessions::new(tokio::sync::mpsc::unbounded_channel().0);
        let reject = |name: &str, key: &str, hours| sessions.uses(&connection(name), &rejected(key, hours), at(hours));
        reject("a", "first", 0);
        reject("b", "first", 0);
        let kept = |hours| sessions.rejected("first", at(hours), true).is_some();
        reject("a", "second", 1);
        reject("a", "second", 30);
        assert!(kept(30), "another connection still has it");
        sessions.remove(&connection("b"));
        reject("a", "second", 40);
        assert!(kept(63), "whoever creates it again gets no further attempt");
        reject("a", "second", 65);
        assert!(!kept(65));
        assert!(sessions.rejected("second", at(1000), true).is_some(), "it is used");
    }

    #[test]
    fn passwords_that_are_replaced_again_and_again_do_not_pile_up() {
        let sessions = Sessions::new(tokio::sync::mpsc::unbounded_channel().0);
        for hour in 0..1000 {
            sessions.uses(&connection("a"), &rejected(&format!("password {hour}"), hour), at(hour));
        }
        let known = sessions.rejections.lock().known.len();
        assert!(known <= 26, "{known}");
    }
}
