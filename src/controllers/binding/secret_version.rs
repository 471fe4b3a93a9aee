//! Chooses the secret version that a binding's hooks carry. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::protocol::keys;

/// How far in the future a secret version may lie, in seconds, and still be valid: clocks differ.
const SKEW: i64 = 300;

/// Unix second in a derived secret version; `None` if the version is no such second or lies in the future.
pub fn second(secret_version: &str, now: Timestamp) -> Option<i64> {
    keys::derived_second(secret_version).filter(|second| *second <= now.as_second().saturating_add(SKEW))
}

#[derive(Clone, Copy, Debug)]
pub struct Derived<'a> {
    /// Current version according to the status.
    pub status: Option<&'a str>,
    pub hooks: &'a [&'a str],
    pub requested: bool,
    pub interval: Option<Duration>,
    /// Whether a rotation may begin: all hooks carry the same secret version, none is paused or switched off, and writing is
    /// allowed.
    pub settled: bool,
    pub now: Timestamp,
}

/// The secret version that the hooks must carry, and whether it is new.
pub fn derived(facts: Derived<'_>) -> (String, bool) {
    let known = facts.hooks.iter().copied().chain(facts.status).filter_map(|secret_version| second(secret_version, facts.now)).max();
    let present = facts.now.as_second();
    let Some(newest) = known else { return (present.to_string(), true) };
    let interval = facts.interval.and_then(|interval| i64::try_from(interval.as_secs()).ok());
    let due = facts.requested || interval.is_some_and(|interval| newest.saturating_add(interval) <= present);
    if due && facts.settled { (present.max(newest.saturating_add(1)).to_string(), true) } else { (newest.to_string(), false) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts<'a>(status: Option<&'a str>, hooks: &'a [&'a str]) -> Derived<'a> {
        Derived { status, hooks, requested: false, interval: None, settled: true, now: Timestamp::from_second(1000).unwrap() }
    }

    #[test]
    fn the_newest_known_secret_version_is_kept() {
        assert_eq!(derived(facts(None, &[])), ("1000".to_owned(), true));
        assert_eq!(derived(facts(Some("500"), &[])), ("500".to_owned(), false));
        assert_eq!(derived(facts(None, &["400", "600"])), ("600".to_owned(), false), "a wiped status takes what the provider has");
        assert_eq!(derived(facts(Some("500"), &["600"])), ("600".to_owned(), false), "a crash after the new hook");
    }

    #[test]
    fn nonsense_and_the_future_are_no_secret_versions() {
        assert_eq!(derived(facts(Some("500"), &["9999999999", "-7", "abc", ""])), ("500".to_owned(), false));
    }

    #[test]
    fn a_rotation_waits_for_the_one_before() {
        assert_eq!(derived(Derived { requested: true, ..facts(Some("500"), &["500"]) }), ("1000".to_owned(), true));
        assert_eq!(derived(Derived { requested: true, settled: false, ..facts(Some("500"), &["400"]) }), ("500".to_owned(), false));
    }

    #[test]
    fn df_20_a_secret_is_rotated_on_schedule() {
        let after = |seconds| Derived { interval: Some(Duration::from_secs(seconds)), ..facts(Some("500"), &["500"]) };
        assert_eq!(derived(after(501)), ("500".to_owned(), false), "a second too early");
        assert_eq!(derived(after(500)), ("1000".to_owned(), true));
        assert_eq!(derived(Derived { settled: false, ..after(500) }), ("500".to_owned(), false), "not before the last one is done");
    }

    proptest! {
        #[test]
        fn secret_versions_never_go_back(status in proptest::option::of(0_i64..1300), hooks in proptest::collection::vec(0_i64..1300, 0..5), requested: bool) {
            let status = status.map(|second| second.to_string());
            let hooks: Vec<String> = hooks.iter().map(ToString::to_string).collect();
            let hooks: Vec<&str> = hooks.iter().map(String::as_str).collect();
            let (secret_version, _) = derived(Derived { requested, ..facts(status.as_deref(), &hooks) });
            let secret_version: i64 = secret_version.parse().unwrap();
            prop_assert!(hooks.iter().copied().chain(status.as_deref()).all(|known| known.parse::<i64>().unwrap() <= secret_version));
        }
    }
}
