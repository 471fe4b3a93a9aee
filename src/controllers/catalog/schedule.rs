//! Decides when the repositories of a connection are listed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::controllers::runtime::backoff::jitter;

/// Minimum time between the beginnings of two listings of a connection.
const LEAST_PAUSE: Duration = Duration::from_secs(60);
/// The first and the longest pause after a listing that failed.
const FIRST_RETRY: Duration = Duration::from_secs(60);
const LONGEST_RETRY: Duration = Duration::from_secs(3600);
/// How long the slices may differ from the digest: the cache follows our own writes with a delay.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);

/// What decides about the next listing of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Situation<'a> {
    /// UID of the connection.
    pub uid: &'a str,
    /// `spec.catalog.interval`.
    pub interval: Duration,
    /// Time of the last complete listing.
    pub listed_at: Option<Timestamp>,
    /// Whether a listing was requested by annotation, or a former leader left one to be repeated.
    pub requested: bool,
    /// When this process began the last listing.
    pub begun_at: Option<Timestamp>,
    /// After a failed listing, the earliest time of the next one.
    pub retry_at: Option<Timestamp>,
    /// Since when the slices differ from the digest in the status: somebody changed or deleted one, or the selection changed.
    pub differs_since: Option<Timestamp>,
}

/// Whether a listing is due.
#[must_use]
pub fn is_due(situation: &Situation<'_>, now: Timestamp) -> bool {
    let lasts = |since: Timestamp, length: Duration| plus(since, length) > now;
    if situation.begun_at.is_some_and(|begun| lasts(begun, LEAST_PAUSE)) {
        return false;
    }
    if situation.requested {
        return true;
    }
    if let Some(retry_at) = situation.retry_at {
        return retry_at <= now;
    }
    let differs = situation.differs_since.is_some_and(|since| !lasts(since, SETTLES_WITHIN));
    let last = last_time(situation.uid, situation.interval, now);
    differs || situation.listed_at.is_none_or(|listed| listed < last)
}

/// The last scheduled time. Scheduled times are a whole number of intervals apart, and begin at a time of day that follows from the
/// UID, so that the listings of many connections do not coincide.
fn last_time(uid: &str, interval: Duration, now: Timestamp) -> Timestamp {
    let length = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX).max(1);
    let offset = i64::try_from(jitter(uid, interval).as_secs()).unwrap_or_default();
    let since = (now.as_second() - offset).rem_euclid(length);
    Timestamp::from_second(now.as_second() - since).unwrap_or(Timestamp::MIN)
}

/// When a failed listing is repeated. `failures`: how many have failed in a row. `told`: when the provider accepts calls again.
#[must_use]
pub fn retry_at(failures: u32, told: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let pause = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_RETRY);
    told.map_or(plus(now, pause), |told| told.max(plus(now, pause)))
}

/// The time after the longest pause: for listings whose slices the API server refuses to store, which a repetition does not change.
#[must_use]
pub fn after_the_longest_pause(now: Timestamp) -> Timestamp {
    plus(now, LONGEST_RETRY)
}

/// The number of the interval that this time is in: consecutive scheduled listings have consecutive numbers.
#[must_use]
pub fn number(interval: Duration, uid: &str, now: Timestamp) -> u64 {
    u64::try_from(last_time(uid, interval, now).as_second()).unwrap_or_default() / interval.as_secs().max(1)
}

fn plus(time: Timestamp, length: Duration) -> Timestamp {
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    time.checked_add(length).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn listed(second: i64) -> Situation<'static> {
        Situation { uid: "uid", interval: DAY, listed_at: Some(at(second)), ..Situation::default() }
    }

    #[test]
    fn a_new_connection_is_listed_at_once_and_then_once_in_each_interval() {
        assert!(is_due(&Situation { listed_at: None, ..listed(0) }, at(0)));
        let mut times = Vec::new();
        let mut situation = listed(0);
        for minute in 0..5 * 24 * 60 {
            let now = at(minute * 60);
            if is_due(&situation, now) {
                times.push(now);
                situation = Situation { listed_at: Some(now), begun_at: Some(now), ..situation };
            }
        }
        assert_eq!(times.len(), 5);
        assert!(times.windows(2).all(|pair| pair[1].duration_since(pair[0]) == SignedDuration::from_hours(24)), "{times:?}");
    }

    #[test]
    fn connections_are_listed_at_different_times_of_the_day() {
        let times: BTreeSet<_> = (0..100).map(|number| last_time(&format!("uid-{number}"), DAY, at(0))).collect();
        assert!(times.len() > 80, "{}", times.len());
    }

    #[test]
    fn a_request_is_granted_once_a_minute() {
        let requested = Situation { requested: true, begun_at: Some(at(0)), ..listed(0) };
        assert!(!is_due(&requested, at(59)) && is_due(&requested, at(60)));
        let failing = Situation { retry_at: Some(at(3600)), ..requested };
        assert!(is_due(&failing, at(60)), "also while listings fail");
    }

    #[test]
    fn slices_that_somebody_changed_are_listed_again_when_they_stay_different() {
        let differs = Situation { differs_since: Some(at(100)), ..listed(90) };
        assert!(!is_due(&differs, at(109)) && is_due(&differs, at(110)));
        assert!(!is_due(&Situation { begun_at: Some(at(60)), ..differs }, at(115)), "not at every moment");
    }

    #[test]
    fn a_failed_listing_is_repeated_with_growing_pauses_or_when_the_provider_says() {
        let pauses: Vec<_> = (1..9).map(|failures| retry_at(failures, None, at(0)).duration_since(at(0)).as_secs()).collect();
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(retry_at(1, Some(at(1800)), at(0)), at(1800));
        assert_eq!(retry_at(5, Some(at(-5)), at(0)), at(960), "a provider that names an early time does not shorten the pause");
        assert_eq!(after_the_longest_pause(at(0)), at(3600));
        let failed = Situation { retry_at: Some(at(500)), ..listed(-1_000_000) };
        assert!(!is_due(&failed, at(499)) && is_due(&failed, at(500)));
    }

    #[test]
    fn consecutive_scheduled_listings_have_consecutive_numbers() {
        let first = number(DAY, "uid", at(0));
        assert_eq!((number(DAY, "uid", at(86_400)), number(DAY, "uid", at(2 * 86_400))), (first + 1, first + 2));
    }

    proptest! {
        #[test]
        fn a_scheduled_time_is_at_most_an_interval_ago(uid in "[a-z]{1,8}", minutes in 10_u64..10_000, second in 0_i64..10_000_000) {
            let interval = Duration::from_secs(minutes * 60);
            let now = at(second);
            let last = last_time(&uid, interval, now);
            prop_assert!(last <= now && plus(last, interval) > now, "{last} {now}");
        }
    }
}
