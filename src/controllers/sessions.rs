//! Sessions of the connections: the connection controller keeps the client of each connection and whether it works, for the
//! binding controller. In memory only, and the only place where a credential lives longer than one call.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::UnboundedSender;

use super::gate::ActiveClient;
use super::locked;
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
}

/// A credential that the provider rejected. Repeated attempts would lock accounts and use up quotas.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// The error of the provider.
    pub error: Arc<ProviderError>,
    /// Time of the next automatic attempt; `None` for never.
    pub probe_at: Option<Timestamp>,
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
        locked(&self.known).get(connection).cloned()
    }

    /// Stores the result of an inspection. Keeps the last working client of the same object, unless the credential of that
    /// client was rejected.
    pub fn set(&self, connection: &ConnectionTarget, mut session: Session) {
        let mut sessions = locked(&self.known);
        let before = sessions.remove(connection);
        if session.active_client.is_none() {
            let rejected = session.failure.as_ref().is_some_and(ConditionFailure::is_rejection);
            let kept = before.as_ref().filter(|before| before.uid == session.uid).and_then(|before| before.active_client.clone());
            session.active_client = kept.filter(|active_client| !rejected || active_client.inputs != session.inputs);
        }
        let same = before.is_some_and(|before| before.failure == session.failure && before.inputs == session.inputs);
        sessions.insert(connection.clone(), session);
        drop(sessions);
        if !same {
            self.tell(connection);
        }
    }

    /// Records that the credential was refused outside an inspection. Returns whether this was not recorded yet.
    pub fn request_inspection(&self, connection: &ConnectionTarget) -> bool {
        locked(&self.known).get_mut(connection).is_some_and(|session| !std::mem::replace(&mut session.inspection_requested, true))
    }

    /// Records that a provider rejected a credential. `probe_again`: whether one attempt an hour is harmless, which it is not
    /// with passwords.
    pub fn reject(&self, key: String, error: ProviderError, now: Timestamp, probe_again: bool) -> Rejection {
        let probe_at = if probe_again { now.checked_add(REJECTION_RESTS).ok() } else { None };
        let rejection = Rejection { error: Arc::new(error), probe_at };
        let mut rejections = locked(&self.rejections);
        rejections.prune(now);
        rejections.known.insert(key, Remembered { rejection: rejection.clone(), unused_since: None });
        rejection
    }

    /// Records which credential a connection uses now. Its rejection is remembered for as long.
    pub fn uses(&self, connection: &ConnectionTarget, key: &str, now: Timestamp) {
        let mut rejections = locked(&self.rejections);
        if rejections.used.get(connection).is_none_or(|used| used != key) {
            rejections.used.insert(connection.clone(), key.to_owned());
            rejections.prune(now);
        }
    }

    /// Returns the rejection while the credential must not be tried. When an attempt is due, the rejection is removed, so that
    /// only one caller makes the attempt. `asked`: a user requests an attempt now, which is granted where attempts are
    /// harmless.
    pub fn rejected(&self, key: &str, now: Timestamp, asked: bool) -> Option<Rejection> {
        let mut rejections = locked(&self.rejections);
        let rejection = rejections.known.get(key)?.rejection.clone();
        if rejection.probe_at.is_some_and(|at| asked || at <= now) {
            rejections.known.remove(key);
            return None;
        }
        Some(rejection)
    }

    /// Removes a connection that no longer exists.
    pub fn remove(&self, connection: &ConnectionTarget) {
        locked(&self.rejections).used.remove(connection);
        if locked(&self.known).remove(connection).is_some() {
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

    #[test]
    fn a_rejected_password_is_remembered_while_a_connection_has_it_and_forgotten_a_day_later() {
        let sessions = Sessions::new(tokio::sync::mpsc::unbounded_channel().0);
        let reject = |key: &str, hours| {
            sessions.reject(key.into(), ProviderError::new(ErrorKind::Unauthenticated, "inspect", "no"), at(hours), false);
        };
        for name in ["a", "b"] {
            sessions.uses(&connection(name), "first", at(0));
        }
        reject("first", 0);
        let kept = |hours| sessions.rejected("first", at(hours), true).is_some();
        sessions.uses(&connection("a"), "second", at(1));
        reject("second", 30);
        assert!(kept(30), "another connection still has it");
        sessions.remove(&connection("b"));
        reject("second", 40);
        assert!(kept(63), "whoever creates it again gets no further attempt");
        reject("second", 65);
        assert!(!kept(65));
        assert!(sessions.rejected("second", at(1000), true).is_some(), "it is used");
    }

    #[test]
    fn passwords_that_are_replaced_again_and_again_do_not_pile_up() {
        let sessions = Sessions::new(tokio::sync::mpsc::unbounded_channel().0);
        for hour in 0..1000 {
            let key = format!("password {hour}");
            sessions.uses(&connection("a"), &key, at(hour));
            sessions.reject(key, ProviderError::new(ErrorKind::Unauthenticated, "inspect", "no"), at(hour), false);
        }
        let known = locked(&sessions.rejections).known.len();
        assert!(known <= 26, "{known}");
    }
}
