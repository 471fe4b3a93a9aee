use std::sync::Arc;

use proptest::prelude::*;

use super::super::record::Sequence;
use super::super::shares::{Claim, Held, ShareLimits, Shares, TooLarge};

const NONE: [Sequence; 0] = [];

/// The rules of the shares, written down once more without any index.
#[derive(Debug)]
pub(super) struct Naive {
    pub(super) limits: ShareLimits,
    pub(super) records: Vec<NaiveRecord>,
}

#[derive(Clone, Debug)]
pub(super) struct NaiveRecord {
    pub(super) sequence: Sequence,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) cost: u64,
    pub(super) is_dead: bool,
}

impl Naive {
    pub(super) fn new(limits: ShareLimits) -> Self {
        Self { limits, records: Vec::new() }
    }

    fn held(&self, is_counted: impl Fn(&NaiveRecord) -> bool) -> u64 {
        self.records.iter().filter(|record| is_counted(record)).map(|record| record.cost).sum()
    }

    fn first_of(&self, uid: &str, namespace: &str) -> Option<Sequence> {
        let own = self.records.iter().filter(|record| record.uid == uid && record.namespace == namespace);
        own.min_by_key(|record| (!record.is_dead, record.sequence)).map(|record| record.sequence)
    }

    /// The largest of some names by what they would hold; of equals one that is not the new record's, then the first by name.
    fn largest(names: impl Iterator<Item = String>, own: &str, size: impl Fn(&str) -> u64) -> Option<String> {
        let mut names: Vec<_> = names.collect();
        names.sort_by_key(|name| (std::cmp::Reverse(size(name)), name == own, name.clone()));
        names.into_iter().next()
    }

    pub(super) fn admit(&mut self, new: NaiveRecord) -> Option<Vec<Sequence>> {
        if new.cost > self.limits.per_binding.min(self.limits.total) {
            return None;
        }
        let mut removed = Vec::new();
        loop {
            let own = self.held(|record| record.uid == new.uid && record.namespace == new.namespace);
            let victim = if own + new.cost > self.limits.per_binding {
                self.first_of(&new.uid, &new.namespace)
            } else if self.held(|_| true) + new.cost > self.limits.total {
                let extra = |is_own: bool| if is_own { new.cost } else { 0 };
                let namespace = Self::largest(self.records.iter().map(|record| record.namespace.clone()), &new.namespace, |name| {
                    self.held(|record| record.namespace == name) + extra(name == new.namespace)
                });
                let namespace = namespace.unwrap();
                let is_own = namespace == new.namespace;
                let own_uid = if is_own { new.uid.as_str() } else { "" };
                let inside = self.records.iter().filter(|record| record.namespace == namespace);
                let uid = Self::largest(inside.map(|record| record.uid.clone()), own_uid, |uid| {
                    self.held(|record| record.namespace == namespace && record.uid == uid) + extra(is_own && uid == new.uid)
                });
                self.first_of(&uid.unwrap(), &namespace)
            } else {
                break;
            };
            self.records.retain(|record| Some(record.sequence) != victim);
            removed.extend(victim);
        }
        self.records.push(new);
        Some(removed)
    }
}

fn claim(namespace: &str, uid: &str, cost: u64) -> Claim {
    Claim { uid: Arc::from(uid), namespace: Arc::from(namespace), cost, body: 0, open: vec![(0, 0)] }
}

fn shares(total: u64, per_binding: u64) -> Shares {
    Shares::new(ShareLimits { total, per_binding })
}

fn admit(shares: &mut Shares, sequence: Sequence, claim: Claim) -> Vec<Sequence> {
    shares.admit(sequence, claim).unwrap().into_iter().map(|(sequence, _)| sequence).collect()
}

#[test]
fn a_binding_over_its_share_loses_its_own_records_dead_letters_first() {
    let mut shares = shares(1000, 30);
    assert_eq!(admit(&mut shares, 1, claim("other", "o", 10)), NONE);
    for sequence in 2..=4 {
        assert_eq!(admit(&mut shares, sequence, claim("team", "a", 10)), NONE);
    }
    shares.note(3, (0, 0), false);
    assert_eq!(admit(&mut shares, 5, claim("team", "a", 10)), [3]);
    assert_eq!(admit(&mut shares, 6, claim("team", "a", 15)), [2, 4]);
    shares.note(5, (0, 0), false);
    shares.note(5, (0, 0), true);
    assert_eq!(admit(&mut shares, 7, claim("team", "a", 10)), [5], "an event that is sent again is no dead letter, but the oldest");
    assert_eq!(shares.of_binding("other", "o"), Held { records: 1, bytes: 10 });
    assert_eq!(shares.admit(8, claim("team", "a", 31)).unwrap_err(), TooLarge { limit: 30 });
    assert_eq!(shares.held(), Held { records: 3, bytes: 35 });
}

#[test]
fn a_full_store_takes_from_the_namespace_that_holds_most() {
    let mut shares = shares(100, 100);
    for (sequence, (namespace, uid, cost)) in
        (1..).zip([("large", "a", 20), ("large", "b", 15), ("large", "b", 15), ("small", "c", 40), ("tiny", "d", 10)])
    {
        assert_eq!(admit(&mut shares, sequence, claim(namespace, uid, cost)), NONE);
    }
    assert_eq!(admit(&mut shares, 6, claim("tiny", "d", 10)), [2], "of the binding that holds most in that namespace");
    assert_eq!(admit(&mut shares, 7, claim("small", "c", 30)), [4], "the new record counts to its own side");
    assert_eq!(admit(&mut shares, 8, claim("new", "e", 100)), [1, 7, 5, 3, 6], "others lose when the new record's side has nothing");
}

proptest! {
    #[test]
    fn shares_follow_the_rules_whatever_happens(
        operations in prop::collection::vec((0_u8..4, 0_u8..5, 1_u64..40, any::<prop::sample::Index>()), 1..80),
    ) {
        let limits = ShareLimits { total: 100, per_binding: 45 };
        let (mut shares, mut naive) = (Shares::new(limits), Naive::new(limits));
        for (sequence, (operation, who, cost, index)) in (1..).zip(operations) {
            let (uid, namespace) = (format!("uid-{who}"), format!("namespace-{}", who % 3));
            let chosen = (!naive.records.is_empty()).then(|| index.index(naive.records.len()));
            match (operation, chosen) {
                (2, Some(chosen)) => {
                    let record = &mut naive.records[chosen];
                    record.is_dead = !record.is_dead;
                    shares.note(record.sequence, (0, 0), !record.is_dead);
                }
                (3, Some(chosen)) => {
                    let record = naive.records.remove(chosen);
                    prop_assert_eq!(shares.remove(record.sequence).map(|claim| claim.cost), Some(record.cost));
                }
                _ => {
                    let removed = shares.admit(sequence, claim(&namespace, &uid, cost)).unwrap();
                    let new = NaiveRecord { sequence, namespace, uid, cost, is_dead: false };
                    prop_assert_eq!(removed.into_iter().map(|(sequence, _)| sequence).collect::<Vec<_>>(), naive.admit(new).unwrap());
                    prop_assert!(shares.get(sequence).is_some());
                }
            }
            let sum: u64 = naive.records.iter().map(|record| record.cost).sum();
            prop_assert_eq!(shares.held(), Held { records: naive.records.len() as u64, bytes: sum });
            prop_assert!(sum <= limits.total);
            prop_assert_eq!(shares.of_namespaces().values().map(|held| held.bytes).sum::<u64>(), sum);
            let order: Vec<_> = naive.records.iter().map(|record| record.sequence).collect();
            prop_assert_eq!(shares.sequences().collect::<Vec<_>>(), order);
        }
    }
}
