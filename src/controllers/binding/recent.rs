//! `status.recentDeliveries`: merges what the receivers report of the last deliveries. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::v1alpha1::deliveries::{RECENT_DELIVERIES, RecentDelivery, SinkAnswer};
use crate::protocol::deliveries::TurnedAway;

/// Maximum number of entries about deliveries that were turned away: whoever knows the address of a hook can cause them, and they
/// must not take the place of real ones.
const TURNED_AWAY: usize = 3;
/// Maximum size of the list, in bytes of JSON. The oldest entries go first.
const BYTES: usize = 6 * 1024;

/// The newest entries of two reports about one binding. `later` replaces what it repeats.
pub fn joined(later: Vec<RecentDelivery>, mut earlier: Vec<RecentDelivery>) -> Vec<RecentDelivery> {
    earlier.retain(|old| !later.iter().any(|new| is_same(new, old)));
    let mut list = later;
    list.append(&mut earlier);
    list.sort_by_key(|delivery| Reverse(second(delivery)));
    list.truncate(RECENT_DELIVERIES);
    list
}

/// The list after new reports. `before` is the list in the status: it has what receivers reported that have restarted since.
pub fn merged(before: &[RecentDelivery], reported: &[RecentDelivery], turned_away: &[TurnedAway]) -> Vec<RecentDelivery> {
    let mut verified: Vec<&RecentDelivery> = reported.iter().collect();
    let is_known = |old: &RecentDelivery| reported.iter().any(|new| is_same(new, old));
    verified.extend(before.iter().filter(|old| !old.outcome.is_turned_away() && !is_known(old)));
    // The sort is stable: deliveries of one second keep the order in which they were reported.
    verified.sort_by_key(|delivery| Reverse(second(delivery)));
    let mut away: BTreeMap<_, RecentDelivery> = BTreeMap::new();
    for old in before.iter().filter(|old| old.outcome.is_turned_away()) {
        away.insert((old.outcome, old.reason.clone()), old.clone());
    }
    for new in turned_away {
        away.insert((new.outcome, Some(new.reason.clone())), entry(new));
    }
    let mut away: Vec<RecentDelivery> = away.into_values().collect();
    away.sort_by_key(|delivery| Reverse(second(delivery)));
    away.truncate(TURNED_AWAY);
    let mut list: Vec<RecentDelivery> = verified.into_iter().take(RECENT_DELIVERIES).cloned().chain(away).collect();
    list.sort_by_key(|delivery| Reverse(second(delivery)));
    // Old ones go like any other entry, and new ones take at most their share.
    list.truncate(RECENT_DELIVERIES);
    let mut list: Vec<RecentDelivery> = list.into_iter().map(in_seconds).collect();
    shorten(&mut list);
    list
}

fn entry(turned_away: &TurnedAway) -> RecentDelivery {
    RecentDelivery {
        time: Time(turned_away.last),
        event: None,
        reference: None,
        sha: None,
        events: None,
        id: None,
        outcome: turned_away.outcome,
        reason: Some(turned_away.reason.clone()),
        count: (turned_away.count > 1).then_some(turned_away.count),
        sinks: Vec::new(),
    }
}

/// The entry as the API server returns it, so that what is unchanged compares as equal.
fn in_seconds(delivery: RecentDelivery) -> RecentDelivery {
    let cut = |time: Time| Time(Timestamp::from_second(time.0.as_second()).unwrap_or(time.0));
    let sinks = delivery.sinks.into_iter().map(|sink| SinkAnswer { time: sink.time.map(cut), ..sink }).collect();
    RecentDelivery { time: cut(delivery.time), sinks, ..delivery }
}

/// Whether two entries are about the same delivery. The API server keeps only whole seconds.
fn is_same(one: &RecentDelivery, other: &RecentDelivery) -> bool {
    second(one) == second(other) && one.id == other.id && one.reference == other.reference
}

fn second(delivery: &RecentDelivery) -> i64 {
    delivery.time.0.as_second()
}

fn shorten(list: &mut Vec<RecentDelivery>) {
    let size = |delivery: &RecentDelivery| serde_json::to_vec(delivery).map_or(BYTES, |json| json.len() + 1);
    let mut sizes: Vec<usize> = list.iter().map(size).collect();
    while sizes.len() > 1 && sizes.iter().sum::<usize>() > BYTES {
        sizes.pop();
        list.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::EventKind;
    use crate::api::v1alpha1::deliveries::{DeliveryOutcome, SinkAnswerState};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn delivery(second: i64, id: &str, outcome: DeliveryOutcome) -> RecentDelivery {
        RecentDelivery {
            time: Time(at(second)),
            event: Some(EventKind::Push),
            reference: Some("refs/heads/main".to_owned()),
            sha: Some("2b7d4410".to_owned()),
            events: None,
            id: Some(id.to_owned()),
            outcome,
            reason: None,
            count: None,
            sinks: Vec::new(),
        }
    }

    fn refused(reason: &str, count: u64, second: i64) -> TurnedAway {
        TurnedAway { outcome: DeliveryOutcome::Refused, reason: reason.to_owned(), count, last: at(second) }
    }

    fn shown(list: &[RecentDelivery]) -> Vec<String> {
        let one = |delivery: &RecentDelivery| {
            let what = delivery.id.clone().or_else(|| delivery.reason.clone()).unwrap_or_default();
            format!("{what} {:?} {}", delivery.outcome, delivery.count.unwrap_or(1))
        };
        list.iter().map(one).collect()
    }

    #[test]
    fn the_newest_ten_of_all_receivers_are_listed_and_a_report_replaces_what_was_known() {
        let before: Vec<_> = (0..10).rev().map(|number| delivery(number, &format!("d-{number}"), DeliveryOutcome::Pending)).collect();
        let reported = [delivery(12, "d-12", DeliveryOutcome::Accepted), delivery(9, "d-9", DeliveryOutcome::DeadLetter)];
        let list = merged(&before, &reported, &[]);
        assert_eq!(list.len(), RECENT_DELIVERIES);
        assert_eq!(shown(&list)[..3], ["d-12 Accepted 1", "d-9 DeadLetter 1", "d-8 Pending 1"]);
        assert_eq!(merged(&list, &reported, &[]), list, "the same report changes nothing");
        let precise = Time(Timestamp::from_millisecond(12_345).unwrap());
        let again = [RecentDelivery { time: precise, ..reported[0].clone() }];
        assert_eq!(merged(&list, &again, &[]), list, "nor does a time that the API server cuts to the second");
    }

    #[test]
    fn a_flood_of_forged_deliveries_is_one_entry_with_a_count_and_does_not_push_out_real_ones() {
        let real: Vec<_> = (0..10).rev().map(|number| delivery(number, &format!("d-{number}"), DeliveryOutcome::Accepted)).collect();
        let forged = [
            refused("wrong signature", 1_000_000, 100),
            refused("no signature", 3, 99),
            refused("its secret is no longer valid", 2, 98),
            refused("body does not match its content type", 1, 97),
        ];
        let list = merged(&real, &[], &forged);
        assert_eq!(
            shown(&list)[..4],
            ["wrong signature Refused 1000000", "no signature Refused 3", "its secret is no longer valid Refused 2", "d-9 Accepted 1"]
        );
        assert_eq!(list.iter().filter(|entry| !entry.outcome.is_turned_away()).count(), 7);
        let later = merged(&list, &[], &[refused("wrong signature", 1_000_001, 101)]);
        assert_eq!(shown(&later)[0], "wrong signature Refused 1000001");
        assert_eq!(later.len(), list.len(), "and stays one entry");
        let real: Vec<_> = (200..210).rev().map(|number| delivery(number, &format!("d-{number}"), DeliveryOutcome::Accepted)).collect();
        assert_eq!(merged(&later, &real, &forged), real, "ten newer deliveries end what is told of an earlier flood");
    }

    #[test]
    fn the_list_never_takes_more_than_six_kibibytes() {
        let sink = |number| SinkAnswer {
            name: format!("{number}{}", "s".repeat(62)),
            state: SinkAnswerState::DeadLetter,
            time: None,
            error: Some("e".repeat(120)),
        };
        let large = |number: i64| RecentDelivery {
            reference: Some("ü".repeat(128)),
            sinks: (0..8).map(sink).collect(),
            ..delivery(number, &"i".repeat(80), DeliveryOutcome::DeadLetter)
        };
        let reported: Vec<_> = (0..10).rev().map(large).collect();
        let list = merged(&[], &reported, &[]);
        assert!(serde_json::to_vec(&list).unwrap().len() <= BYTES + 2);
        assert!(!list.is_empty() && second(&list[0]) == 9, "the newest stay");
    }
}
