//! What this process remembers of the catalogues. Everything that must outlive it is in the slices and in the connection's status.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::schedule;
use crate::api::v1alpha1::Reason;
use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::api::v1alpha1::catalog::CatalogStatus;

/// What the condition `Cataloged` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// [`Reason::Succeeded`] if the slices have every repository.
    pub reason: Reason,
    /// What is missing and why, or what was listed.
    pub message: String,
}

/// The result of the last listing of a connection, for its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The counts and the digest of the slices as they are now; `None` if they could not be read.
    pub status: Option<CatalogStatus>,
    /// What the condition says.
    pub finding: Finding,
    /// The value of the annotation that was handled last.
    pub handled: Option<String>,
}

/// When the next listing of a connection is made after one that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At the next scheduled time.
    Scheduled,
    /// Earlier, because it failed; not before the provider accepts calls again, if it told that.
    Repeated(Option<Timestamp>),
}

/// What is known of one slice from the watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenSlice {
    /// Name of the connection, as the owner reference has it.
    pub connection: String,
    /// UID of that connection.
    pub uid: String,
    /// Hash of its repositories, computed from them.
    pub hash: String,
}

#[derive(Default)]
struct Known {
    uid: String,
    /// Identifies the credential and the spec of the last listing.
    inputs: String,
    running: bool,
    begun_at: Option<Timestamp>,
    failures: u32,
    retry_at: Option<Timestamp>,
    differs_since: Option<Timestamp>,
    outcome: Option<Outcome>,
}

/// Progress of the listings of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// When the last listing began.
    pub begun_at: Option<Timestamp>,
    /// When it is repeated after a failure.
    pub retry_at: Option<Timestamp>,
    /// Since when the slices differ from the digest.
    pub differs_since: Option<Timestamp>,
}

/// The catalogues of all connections.
#[derive(Default)]
pub struct Catalogs {
    known: Mutex<HashMap<ConnectionTarget, Known>>,
    /// By namespace and name.
    slices: Mutex<BTreeMap<(String, String), SeenSlice>>,
    complete: Mutex<bool>,
}

impl Catalogs {
    /// Begins a term as the leader: listings of an earlier term were cancelled.
    pub fn begin_term(&self) {
        self.known.lock().clear();
    }

    /// Records a slice that the watch reports.
    pub fn saw(&self, namespace: String, name: String, slice: SeenSlice) {
        self.slices.lock().insert((namespace, name), slice);
    }

    /// Records that a slice was deleted.
    pub fn lost(&self, namespace: String, name: String) {
        self.slices.lock().remove(&(namespace, name));
    }

    /// Records a listing of the slices of a namespace, or of all: no others exist.
    pub fn found_only(&self, namespace: Option<&str>, found: &std::collections::HashSet<(String, String)>) {
        self.slices.lock().retain(|key, _| namespace.is_some_and(|namespace| key.0 != namespace) || found.contains(key));
    }

    /// Records that every existing slice was reported.
    pub fn filled(&self) {
        *self.complete.lock() = true;
    }

    /// Whether every existing slice was reported.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        *self.complete.lock()
    }

    /// Names and hashes of the slices of a connection.
    #[must_use]
    pub fn slices_of(&self, connection: &ConnectionTarget, uid: &str) -> BTreeMap<String, String> {
        let slices = self.slices.lock();
        let from = (connection.namespace.clone(), String::new());
        let of_namespace = slices.range(from..).take_while(|((namespace, _), _)| *namespace == connection.namespace);
        let own = of_namespace.filter(|(_, slice)| slice.uid == uid);
        own.map(|((_, name), slice)| (name.clone(), slice.hash.clone())).collect()
    }

    /// The connections that own slices: namespace, name and UID.
    #[must_use]
    pub fn owners(&self) -> Vec<(ConnectionTarget, String)> {
        let slices = self.slices.lock();
        let owner = |((namespace, _), slice): (&(String, String), &SeenSlice)| {
            (ConnectionTarget { namespace: namespace.clone(), name: slice.connection.clone() }, slice.uid.clone())
        };
        let mut owners: Vec<_> = slices.iter().map(owner).collect();
        owners.dedup();
        owners
    }

    /// The progress of a connection's listings; `None` while one runs. `inputs`: its credential and spec now. `differs`: whether its
    /// slices differ from the digest.
    pub fn progress(&self, connection: &ConnectionTarget, (uid, inputs): (&str, &str), differs: bool, now: Timestamp) -> Option<Progress> {
        let mut all = self.known.lock();
        let known = of(&mut all, connection, uid);
        if known.running {
            return None;
        }
        known.differs_since = if differs { known.differs_since.or(Some(now)) } else { None };
        let retry_at = known.retry_at.filter(|_| known.inputs == inputs);
        Some(Progress { begun_at: known.begun_at, retry_at, differs_since: known.differs_since })
    }

    /// Begins a listing with this credential and spec. Returns false if one runs already.
    pub fn begin(&self, connection: &ConnectionTarget, uid: &str, inputs: &str, now: Timestamp) -> bool {
        let mut all = self.known.lock();
        let known = of(&mut all, connection, uid);
        if std::mem::replace(&mut known.running, true) {
            return false;
        }
        known.begun_at = Some(now);
        // With another credential or spec, earlier failures say nothing.
        if known.inputs != inputs {
            inputs.clone_into(&mut known.inputs);
            known.failures = 0;
        }
        known.differs_since = None;
        true
    }

    /// Ends a listing.
    pub fn end(&self, connection: &ConnectionTarget, uid: &str, outcome: Option<Outcome>, next: Next, now: Timestamp) {
        let mut all = self.known.lock();
        // The connection may be gone by now.
        let Some(known) = all.get_mut(connection).filter(|known| known.uid == uid) else { return };
        known.running = false;
        known.differs_since = None;
        known.outcome = outcome.or_else(|| known.outcome.take());
        (known.failures, known.retry_at) = match next {
            Next::Scheduled => (0, None),
            Next::Repeated(told) => {
                let failures = known.failures.saturating_add(1);
                (failures, Some(schedule::retry_at(failures, told, now)))
            }
        };
    }

    /// The result of the last listing of this process.
    #[must_use]
    pub fn outcome(&self, connection: &ConnectionTarget, uid: &str) -> Option<Outcome> {
        self.known.lock().get(connection).filter(|known| known.uid == uid)?.outcome.clone()
    }

    /// Forgets a connection that no longer exists.
    pub fn forget(&self, connection: &ConnectionTarget) {
        self.known.lock().remove(connection);
    }
}

/// What is known of the connection with this UID; nothing of an earlier one with its name.
fn of<'a>(all: &'a mut HashMap<ConnectionTarget, Known>, connection: &ConnectionTarget, uid: &str) -> &'a mut Known {
    let known = all.entry(connection.clone()).or_default();
    if known.uid != uid {
        *known = Known { uid: uid.to_owned(), ..Known::default() };
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(namespace: &str) -> ConnectionTarget {
        ConnectionTarget { namespace: namespace.into(), name: "acme".into() }
    }

    fn slice(uid: &str, hash: &str) -> SeenSlice {
        SeenSlice { connection: "acme".into(), uid: uid.into(), hash: hash.into() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn one_listing_of_a_connection_runs_at_a_time_and_a_new_connection_of_its_name_is_another() {
        let catalogs = Catalogs::default();
        let acme = connection("platform");
        assert!(catalogs.begin(&acme, "one", "x", at(0)) && !catalogs.begin(&acme, "one", "x", at(1)));
        assert_eq!(catalogs.progress(&acme, ("one", "x"), false, at(2)), None);
        assert!(catalogs.begin(&acme, "two", "x", at(3)));
        catalogs.end(&acme, "two", None, Next::Repeated(None), at(4));
        let progress = catalogs.progress(&acme, ("two", "x"), true, at(5)).unwrap();
        assert_eq!(progress, Progress { begun_at: Some(at(3)), retry_at: Some(at(64)), differs_since: Some(at(5)) });
        assert_eq!(catalogs.progress(&acme, ("two", "new"), true, at(5)).unwrap().retry_at, None, "a new credential need not wait");
        assert_eq!(catalogs.progress(&acme, ("two", "x"), true, at(9)).unwrap().differs_since, Some(at(5)));
        assert_eq!(catalogs.progress(&acme, ("two", "x"), false, at(10)).unwrap().differs_since, None);
        assert!(catalogs.begin(&acme, "two", "x", at(11)));
        catalogs.begin_term();
        catalogs.end(&acme, "two", None, Next::Repeated(None), at(12));
        assert!(catalogs.begin(&acme, "two", "x", at(12)), "the listing of the earlier term was cancelled");
    }

    #[test]
    fn the_slices_of_a_connection_are_those_that_its_uid_owns() {
        let catalogs = Catalogs::default();
        for (namespace, name, uid) in [("a", "1", "one"), ("a", "2", "other"), ("a", "3", "one"), ("b", "1", "one"), ("A", "1", "one")] {
            catalogs.saw(namespace.into(), name.into(), slice(uid, name));
        }
        let names = |namespace| catalogs.slices_of(&connection(namespace), "one").into_keys().collect::<Vec<_>>();
        assert_eq!((names("a"), names("b"), names("c")), (vec!["1".to_owned(), "3".to_owned()], vec!["1".to_owned()], vec![]));
        catalogs.found_only(Some("a"), &[("a".to_owned(), "3".to_owned())].into());
        assert_eq!((names("a"), names("b")), (vec!["3".to_owned()], vec!["1".to_owned()]));
        catalogs.lost("b".into(), "1".into());
        assert_eq!(names("b"), [""; 0]);
    }
}
