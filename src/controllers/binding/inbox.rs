//! Decides whose list of the last deliveries is written next: namespaces take turns, so that no namespace holds up the others however
//! many of its bindings fail. Pure.

use std::collections::{HashMap, HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::recent;
use crate::api::v1alpha1::deliveries::RecentDelivery;
use crate::protocol::deliveries::TurnedAway;
use crate::protocol::evidence::Ask;

/// Minimum time between two writes of the same binding.
const PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// Maximum number of bindings whose lists wait in memory. The receivers keep the rest.
const WAITING: usize = 1000;
/// For how many bindings the receivers are asked ahead of their order while many wait, and how many more may wait then.
const AHEAD: usize = WAITING / 2;

/// The bindings whose lists are to be written.
#[derive(Debug, Default)]
pub struct Inbox {
    /// By namespace and UID.
    waiting: HashMap<String, HashMap<String, Waiting>>,
    /// The namespaces in `waiting`. The first one is next.
    turns: VecDeque<String>,
    /// When each binding was written last, for the length of the pause.
    written: HashMap<String, Timestamp>,
    /// Number of deliveries that were turned away, as written last, for bindings that have such.
    turned_away: HashMap<String, u64>,
    /// Whether the last report was asked for ahead of the order.
    was_ahead: bool,
}

#[derive(Debug)]
struct Waiting {
    since: Timestamp,
    reported: Vec<RecentDelivery>,
    failing: bool,
}

impl Waiting {
    /// Who comes first within a namespace: failures, then other verified deliveries. What was turned away has no precedence, because
    /// whoever knows the address of a hook can cause it.
    fn rank(&self) -> (bool, bool, Timestamp) {
        (!self.failing, self.reported.is_empty(), self.since)
    }
}

/// A list to be written now.
#[derive(Debug, PartialEq)]
pub struct Next {
    pub namespace: String,
    pub uid: String,
    pub reported: Vec<RecentDelivery>,
}

impl Inbox {
    /// What to ask the receivers for. They report in the order of changes, so that a namespace with many would be before all others:
    /// while many wait, every second report is asked for ahead of the order, without an end to what they keep.
    pub fn ask(&mut self) -> Ask {
        self.was_ahead = self.len() >= WAITING / 2 && !self.was_ahead;
        Ask { room: if self.was_ahead { AHEAD } else { WAITING.saturating_sub(self.len()) }, ahead: self.was_ahead }
    }

    fn len(&self) -> usize {
        self.waiting.values().map(HashMap::len).sum()
    }

    /// Adds what a receiver reports about a binding. What was asked for ahead is added for a namespace that has few waiting; everything
    /// else of it is reported again in its order.
    pub fn add(&mut self, namespace: &str, uid: &str, reported: Vec<RecentDelivery>, now: Timestamp) {
        let is_known = self.waiting.get(namespace).is_some_and(|bindings| bindings.contains_key(uid));
        if self.was_ahead && !is_known && !self.has_few(namespace) {
            return;
        }
        self.put(namespace, uid, reported, now);
    }

    fn put(&mut self, namespace: &str, uid: &str, reported: Vec<RecentDelivery>, now: Timestamp) {
        let waiting = self.entry(namespace, uid, now);
        waiting.failing |= reported.first().is_some_and(|newest| newest.outcome.is_failure());
        waiting.reported = recent::joined(reported, std::mem::take(&mut waiting.reported));
    }

    /// Whether a namespace has less than half as many waiting as the one that has most, and there is room ahead.
    fn has_few(&self, namespace: &str) -> bool {
        let own = self.waiting.get(namespace).map_or(0, HashMap::len);
        let most = self.waiting.values().map(HashMap::len).max().unwrap_or_default();
        self.len() < WAITING + AHEAD && own < most / 2
    }

    fn entry(&mut self, namespace: &str, uid: &str, now: Timestamp) -> &mut Waiting {
        if !self.waiting.contains_key(namespace) {
            self.turns.push_back(namespace.to_owned());
        }
        let bindings = self.waiting.entry(namespace.to_owned()).or_default();
        bindings.entry(uid.to_owned()).or_insert_with(|| Waiting { since: now, reported: Vec::new(), failing: false })
    }

    fn remove(&mut self, namespace: &str, uid: &str) -> Option<Waiting> {
        let bindings = self.waiting.get_mut(namespace)?;
        let removed = bindings.remove(uid);
        if bindings.is_empty() {
            self.waiting.remove(namespace);
            self.turns.retain(|waiting| waiting != namespace);
        }
        removed
    }

    /// Notes how many deliveries of a binding were turned away so far. Without room it is noted at a later report.
    pub fn count(&mut self, namespace: &str, uid: &str, turned_away: &[TurnedAway], now: Timestamp) {
        let total = turned_away.iter().fold(0, |sum: u64, reason| sum.saturating_add(reason.count));
        if total > 0 && self.len() < WAITING && self.turned_away.insert(uid.to_owned(), total) != Some(total) {
            self.entry(namespace, uid, now);
        }
    }

    /// The binding to write now, with what was reported: of the namespace whose turn it is, that with failures, else the one that
    /// waited longest. Namespaces that have only turned away deliveries to tell come last.
    pub fn next(&mut self, now: Timestamp) -> Option<Next> {
        self.written.retain(|_, at| now.duration_since(*at) < PAUSE);
        let due = |namespace: &String| {
            let bindings = self.waiting.get(namespace)?.iter().filter(|(uid, _)| !self.written.contains_key(*uid));
            bindings.min_by_key(|(uid, waiting)| (waiting.rank(), (*uid).clone()))
        };
        let verified = |namespace: &&String| due(namespace).is_some_and(|(_, waiting)| !waiting.reported.is_empty());
        let any = |namespace: &&String| due(namespace).is_some();
        let namespace = self.turns.iter().find(verified).or_else(|| self.turns.iter().find(any))?.clone();
        let uid = due(&namespace)?.0.clone();
        let waiting = self.remove(&namespace, &uid)?;
        if let Some(position) = self.turns.iter().position(|waiting| *waiting == namespace) {
            self.turns.remove(position);
            self.turns.push_back(namespace.clone());
        }
        self.written.insert(uid.clone(), now);
        Some(Next { namespace, uid, reported: waiting.reported })
    }

    /// Takes back what could not be written. It is tried again after the pause.
    pub fn put_back(&mut self, next: Next, now: Timestamp) {
        self.put(&next.namespace, &next.uid, next.reported, now);
    }

    /// Forgets the bindings that no longer exist. `namespaces` has the namespace of each that does, by UID.
    pub fn keep(&mut self, namespaces: &HashMap<String, String>) {
        self.waiting.retain(|_, bindings| {
            bindings.retain(|uid, _| namespaces.contains_key(uid));
            !bindings.is_empty()
        });
        let left: HashSet<&String> = self.waiting.keys().collect();
        self.turns.retain(|namespace| left.contains(namespace));
        self.turned_away.retain(|uid, _| namespaces.contains_key(uid));
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::v1alpha1::deliveries::DeliveryOutcome;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn delivery(second: i64, outcome: DeliveryOutcome) -> Vec<RecentDelivery> {
        vec![RecentDelivery {
            time: Time(at(second)),
            event: None,
            reference: None,
            sha: None,
            events: None,
            id: Some(format!("d-{second}")),
            outcome,
            reason: None,
            count: None,
            sinks: Vec::new(),
        }]
    }

    fn forged(count: u64) -> [TurnedAway; 1] {
        [TurnedAway { outcome: DeliveryOutcome::Refused, reason: "wrong signature".to_owned(), count, last: at(3) }]
    }

    /// The UIDs in the order in which they are written.
    fn order(inbox: &mut Inbox, now: i64) -> Vec<String> {
        std::iter::from_fn(|| inbox.next(at(now))).map(|next| next.uid).collect()
    }

    #[test]
    fn a_binding_is_written_at_most_once_a_minute_and_within_a_namespace_those_with_failures_first() {
        let mut inbox = Inbox::default();
        inbox.count("team", "forged", &forged(5), at(0));
        inbox.add("team", "early", delivery(1, DeliveryOutcome::Accepted), at(1));
        inbox.add("team", "failing", delivery(2, DeliveryOutcome::Pending), at(2));
        assert_eq!(order(&mut inbox, 10), ["failing", "early", "forged"], "what was turned away never comes first");
        inbox.count("team", "forged", &forged(5), at(11));
        assert_eq!(inbox.next(at(100)), None, "the count did not change");
        inbox.add("team", "early", delivery(101, DeliveryOutcome::Accepted), at(101));
        assert!(inbox.next(at(101)).is_some());
        inbox.add("team", "early", delivery(102, DeliveryOutcome::Accepted), at(102));
        assert_eq!(inbox.next(at(160)), None, "not before a minute has passed");
        assert_eq!(inbox.next(at(161)).map(|next| (next.uid, next.reported.len())), Some(("early".to_owned(), 1)));
    }

    #[test]
    fn six_hundred_failing_bindings_of_one_namespace_hold_up_no_other_namespace() {
        let mut inbox = Inbox::default();
        for number in 0..600 {
            inbox.add("hostile", &format!("h-{number}"), delivery(1, DeliveryOutcome::Pending), at(1));
        }
        inbox.add("shop", "s-1", delivery(5, DeliveryOutcome::Accepted), at(5));
        inbox.add("shop", "s-2", delivery(5, DeliveryOutcome::Accepted), at(5));
        inbox.add("blog", "b-1", delivery(6, DeliveryOutcome::Accepted), at(6));
        inbox.count("forged", "f-1", &forged(1), at(0));
        let first = order(&mut inbox, 10);
        let position = |uid: &str| first.iter().position(|written| written == uid).unwrap();
        assert_eq!((position("s-1"), position("b-1"), position("s-2")), (1, 2, 4));
        assert_eq!(position("f-1"), first.len() - 1, "a namespace with nothing but forged ones waits for all others");
    }

    #[test]
    fn one_namespace_cannot_fill_the_room_of_all() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.ask(), Ask { room: WAITING, ahead: false });
        for number in 0..WAITING {
            inbox.add("hostile", &number.to_string(), delivery(1, DeliveryOutcome::Pending), at(1));
        }
        assert_eq!(inbox.ask(), Ask { room: AHEAD, ahead: true });
        for number in 0..600 {
            inbox.add("shop", &format!("s-{number}"), delivery(2, DeliveryOutcome::Accepted), at(2));
        }
        inbox.add("hostile", "one more", delivery(2, DeliveryOutcome::Pending), at(2));
        let count = |inbox: &Inbox, namespace: &str| inbox.waiting[namespace].len();
        assert_eq!((count(&inbox, "hostile"), count(&inbox, "shop")), (WAITING, WAITING / 2), "the receivers keep the rest");
        assert_eq!(inbox.ask(), Ask { room: 0, ahead: false }, "what was asked for ahead is reported again in its order");
        inbox.count("forged", "f-1", &forged(1), at(3));
        assert!(!inbox.waiting.contains_key("forged"), "there is no room for what was turned away");
        while inbox.next(at(10)).is_some() {}
        assert_eq!(inbox.ask(), Ask { room: WAITING, ahead: false });
        inbox.count("forged", "f-1", &forged(1), at(11));
        assert!(inbox.waiting.contains_key("forged"), "it is noted later");
    }

    #[test]
    fn what_could_not_be_written_is_kept_and_what_is_gone_is_forgotten() {
        let mut inbox = Inbox::default();
        inbox.add("team", "a", delivery(1, DeliveryOutcome::Accepted), at(1));
        let next = inbox.next(at(2)).unwrap();
        assert!(inbox.turns.is_empty() && inbox.waiting.is_empty());
        inbox.put_back(next, at(2));
        inbox.add("team", "a", delivery(3, DeliveryOutcome::Accepted), at(3));
        inbox.add("team", "b", delivery(3, DeliveryOutcome::Accepted), at(3));
        assert_eq!(inbox.waiting["team"]["a"].reported.len(), 2);
        inbox.keep(&HashMap::from([("b".to_owned(), "team".to_owned())]));
        assert_eq!(order(&mut inbox, 100), ["b"]);
        assert!(inbox.turns.is_empty() && inbox.waiting.is_empty());
    }
}
