//! Plans the reconciliation of a connection. Pure: no call, no clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};

use super::observe::Facts;
use crate::controllers::runtime::backoff::jitter;
use crate::controllers::sessions::{ConditionFailure, Session};
use crate::k8s::finalizer;
use crate::providers::Disposition;

/// Maximum pause between two attempts to reach a provider.
const LONGEST_OUTAGE_PAUSE: Duration = Duration::from_secs(60);
/// Timeout of a whole inspection.
const TIMEOUT: Duration = Duration::from_secs(45);
/// Timeout of an inspection after one that hung, so that a hanging server does not cost the whole timeout every time.
pub const SHORT_TIMEOUT: Duration = Duration::from_secs(5);
/// After this many failed attempts in a row, one inspection has the whole timeout again: a slow server may still work.
const LONG_ATTEMPT: u32 = 6;
/// How long a deleted connection without a usable credential waits for its bindings.
const CREDENTIAL_BOUND: Duration = Duration::from_secs(3600);
/// How long a deleted connection waits while its provider is out of reach or its bindings still hold hooks.
const OUTAGE_BOUND: Duration = Duration::from_secs(24 * 3600);
/// How long a deleted connection waits in a namespace that is being deleted.
const NAMESPACE_BOUND: Duration = Duration::from_secs(20);
/// Minimum time that the bindings have after the connection began to work.
const BINDINGS_GRACE: Duration = Duration::from_secs(20);

/// One action of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Retry leftover hooks, because the connection works again.
    RetryLeftovers,
    /// Add the finalizer, which holds the object until its bindings have removed their hooks.
    AddFinalizer,
    /// Remove the finalizer and forget the credential.
    RemoveFinalizer,
}

/// The plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Actions in order.
    pub actions: Vec<Action>,
    /// While the object is being deleted: latest time until which bindings are waited for.
    pub deadline: Option<Timestamp>,
    /// Time to the next reconciliation; `None` waits for a change.
    pub wake: Option<Duration>,
}

/// Plans the reconciliation of a connection.
#[must_use]
pub fn plan(facts: &Facts) -> Plan {
    let object = &facts.object;
    let held = finalizer::is_present(&**object);
    let mut plan = Plan { actions: Vec::new(), deadline: None, wake: wake_after(facts) };
    if facts.begins_to_work {
        plan.actions.push(Action::RetryLeftovers);
    }
    match &object.metadata.deletion_timestamp {
        None if !held => plan.actions.push(Action::AddFinalizer),
        None => {}
        Some(deleted) => {
            let deadline = deadline(facts, deleted.0);
            if held && (facts.usage.holding == 0 || deadline.is_none_or(|deadline| deadline <= facts.now)) {
                plan.actions.push(Action::RemoveFinalizer);
            }
            plan.deadline = deadline;
            plan.wake = deadline.map(|deadline| until(facts.now, deadline));
        }
    }
    plan
}

/// Deadline of a deleted connection's wait for its bindings.
fn deadline(facts: &Facts, deleted: Timestamp) -> Option<Timestamp> {
    let deadline = after(deleted, bound(facts))?;
    // After a restart the deadline may have passed long ago, but the bindings could not start before the connection worked.
    let grace = facts.session.works_since.and_then(|begun| after(begun, BINDINGS_GRACE));
    Some(grace.map_or(deadline, |grace| grace.max(deadline)))
}

/// Adds a pause to a moment; `None` if the sum is out of range.
fn after(begin: Timestamp, pause: Duration) -> Option<Timestamp> {
    begin.checked_add(SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX)).ok()
}

fn bound(facts: &Facts) -> Duration {
    let bound = match &facts.session.failure {
        _ if facts.terminating => return NAMESPACE_BOUND,
        Some(failure) if !failure.is_outage() && !failure.is_pending() => CREDENTIAL_BOUND,
        _ => OUTAGE_BOUND,
    };
    facts.cleanup_timeout.unwrap_or(bound)
}

fn wake_after(facts: &Facts) -> Option<Duration> {
    let inspection = facts.session.next;
    let end = facts.end().filter(|end| *end > facts.now);
    let warning = end.and_then(|end| end.checked_sub(warn_before(facts)).ok()).filter(|warning| *warning > facts.now);
    [inspection, end, warning].into_iter().flatten().min().map(|at| until(facts.now, at))
}

/// How long before its expiry a credential is reported as expiring.
#[must_use]
pub fn warn_before(facts: &Facts) -> SignedDuration {
    let length = facts.object.spec.credentials.as_ref().map(|credentials| credentials.warn_before.length()).unwrap_or_default();
    SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX)
}

impl Facts {
    /// Expiry of the credential: as the provider reports it, else as declared.
    #[must_use]
    pub fn end(&self) -> Option<Timestamp> {
        let told = self.session.active_client.as_ref().and_then(|active_client| active_client.inspection.expires_at);
        told.or_else(|| self.credential.as_ref().and_then(|credential| credential.declared_expiry))
    }
}

fn until(now: Timestamp, at: Timestamp) -> Duration {
    // Adds one second so that the moment has certainly passed at the wake-up.
    Duration::try_from(at.duration_since(now)).unwrap_or_default() + Duration::from_secs(1)
}

/// Whether a connection must be inspected: it is new, one of its inputs changed, an inspection was requested by annotation or by
/// a refusal elsewhere, or it is time.
#[must_use]
pub fn inspection_due(known: &Session, uid: &str, inputs: &str, now: Timestamp, asked: bool) -> bool {
    known.uid != uid || known.inputs != inputs || asked || known.inspection_requested || known.next.is_some_and(|next| next <= now)
}

/// Timeout of the next inspection.
#[must_use]
pub fn patience(known: Option<&Session>) -> Duration {
    match known {
        Some(known) if known.hung && !known.failures.is_multiple_of(LONG_ATTEMPT) => SHORT_TIMEOUT,
        _ => TIMEOUT,
    }
}

/// Time of the next inspection although nothing changes; `None` waits for a change.
#[must_use]
pub fn next_inspection(
    failure: Option<&ConditionFailure>,
    failures: u32,
    interval: Duration,
    uid: &str,
    now: Timestamp,
) -> Option<Timestamp> {
    let after = |pause| after(now, pause);
    let Some(failure) = failure else { return after(interval + jitter(uid, interval / 10)) };
    match failure.disposition {
        Disposition::RateLimited => failure.retry_at.or_else(|| after(LONGEST_OUTAGE_PAUSE)),
        Disposition::CredentialRefused => failure.retry_at,
        Disposition::Outage | Disposition::NotAsked => {
            let pause = Duration::from_secs(1).saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_OUTAGE_PAUSE).min(interval);
            after(pause + jitter(uid, pause / 4)).max(failure.retry_at)
        }
        Disposition::CredentialUnusable
        | Disposition::Hidden
        | Disposition::Refused
        | Disposition::ReadOnly
        | Disposition::Misconfigured
        | Disposition::ProbeAgain => after(interval + jitter(uid, interval / 10)),
    }
}

/// Parses a declared expiry; `None` if it is neither a timestamp nor a date. A date expires at the end of its day in UTC.
#[must_use]
pub fn parse_expiry(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let date: Date = text.parse().ok()?;
    Some(date.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::connection::observe::failure_of;
    use crate::providers::{ErrorKind, ProviderError};

    fn failure(kind: ErrorKind) -> ConditionFailure {
        failure_of(&ProviderError::new(kind, "inspect", "x"), None)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_date_ends_with_its_day() {
        assert_eq!(parse_expiry("2027-03-01"), Some("2027-03-02T00:00:00Z".parse().unwrap()));
        assert_eq!(parse_expiry("2027-03-01T12:00:00+02:00"), Some("2027-03-01T10:00:00Z".parse().unwrap()));
        assert_eq!(parse_expiry("soon"), None);
    }

    #[test]
    fn outages_are_tried_with_growing_pauses_and_rejections_rest() {
        let minute = Duration::from_secs(600);
        let outage = failure(ErrorKind::Unreachable);
        let first = next_inspection(Some(&outage), 1, minute, "uid", at(0)).unwrap();
        let tenth = next_inspection(Some(&outage), 10, minute, "uid", at(0)).unwrap();
        assert!(first < at(4) && tenth >= at(60) && tenth <= at(75), "{first} {tenth}");
        let mut rejected = failure(ErrorKind::Unauthenticated);
        assert_eq!(next_inspection(Some(&rejected), 0, minute, "uid", at(0)), None, "a password is never tried again by itself");
        rejected.retry_at = Some(at(3600));
        assert_eq!(next_inspection(Some(&rejected), 0, minute, "uid", at(0)), Some(at(3600)));
    }

    #[test]
    fn a_server_that_hung_is_not_waited_for_again_but_for_every_sixth_time() {
        let session = |hung, failures| Session {
            uid: String::new(),
            inputs: String::new(),
            inspected_at: at(0),
            works_since: None,
            next: None,
            failures,
            hung,
            failure: None,
            active_client: None,
            inspection_requested: false,
        };
        assert_eq!(patience(None), TIMEOUT);
        assert_eq!(patience(Some(&session(false, 1))), TIMEOUT);
        for failures in 1..=12 {
            let expected = if failures % 6 == 0 { TIMEOUT } else { SHORT_TIMEOUT };
            assert_eq!(patience(Some(&session(true, failures))), expected, "{failures}");
        }
    }

    #[test]
    fn rate_limits_are_waited_for() {
        let mut limited = failure(ErrorKind::RateLimited);
        limited.retry_at = Some(at(5000));
        assert_eq!(next_inspection(Some(&limited), 3, Duration::from_secs(600), "uid", at(0)), Some(at(5000)));
    }
}
