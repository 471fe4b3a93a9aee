//! Decides when a connection is inspected, for how long, and when its credential expires. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};

use super::snapshot::Snapshot;
use crate::api::v1alpha1::GitProviderConnection;
use crate::controllers::runtime::backoff::jitter;
use crate::controllers::sessions::{ConditionFailure, Session};
use crate::providers::Disposition;

/// Maximum pause between two attempts to reach a provider.
const LONGEST_OUTAGE_PAUSE: Duration = Duration::from_secs(60);
/// Timeout of a whole inspection.
const TIMEOUT: Duration = Duration::from_secs(45);
/// Timeout of an inspection after one that hung, so that a hanging server does not cost the whole timeout every time.
pub const SHORT_TIMEOUT: Duration = Duration::from_secs(5);
/// After this many failed attempts in a row, one inspection has the whole timeout again: a slow server may still work.
const LONG_ATTEMPT: u32 = 6;

/// Whether a connection must be inspected: it is new, one of its inputs changed, an inspection was requested by annotation or by
/// a refusal elsewhere, or it is time.
#[must_use]
pub fn inspection_due(snapshot: &Snapshot) -> bool {
    let Some(known) = &snapshot.session else { return true };
    known.uid != snapshot.uid()
        || known.inputs != snapshot.inputs_version()
        || snapshot.inspection_requested()
        || known.inspection_requested
        || known.next.is_some_and(|next| next <= snapshot.now)
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

/// Expiry of the credential that its Secret or the spec declares; `None` also while the Secret cannot be read.
#[must_use]
pub fn declared_expiry(snapshot: &Snapshot) -> Option<Timestamp> {
    let inputs = snapshot.inputs.as_ref().ok()?;
    let spec = snapshot.object.spec.credentials.as_ref().and_then(|credentials| credentials.expires_at.as_deref());
    inputs.declared.expires_at.as_deref().and_then(parse_expiry).or_else(|| spec.and_then(parse_expiry))
}

/// Expiry that the provider reported while it still accepted the credential. A new Secret version is another credential.
#[must_use]
pub fn reported_expiry(object: &GitProviderConnection, secret_version: Option<&String>) -> Option<Timestamp> {
    let known = object.status.as_ref()?.credential.as_ref()?;
    known.expires_at.as_ref().filter(|_| known.secret_resource_version.as_ref() == secret_version).map(|end| end.0)
}

/// How long before its expiry a credential is reported as expiring.
#[must_use]
pub fn warn_before(object: &GitProviderConnection) -> SignedDuration {
    let length = object.spec.credentials.as_ref().map(|credentials| credentials.warn_before.length()).unwrap_or_default();
    SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX)
}

/// Adds a pause to a moment; `None` if the sum is out of range.
#[must_use]
pub fn after(begin: Timestamp, pause: Duration) -> Option<Timestamp> {
    begin.checked_add(SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX)).ok()
}

/// Time until a moment.
#[must_use]
pub fn until(now: Timestamp, at: Timestamp) -> Duration {
    // Adds one second so that the moment has certainly passed at the wake-up.
    Duration::try_from(at.duration_since(now)).unwrap_or_default() + Duration::from_secs(1)
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
    use crate::controllers::connection::failure::failure_of;
    use crate::controllers::sessions::Usage;
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
            usage: Usage::default(),
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
