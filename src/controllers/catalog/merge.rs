//! Merges a listing with the repositories that are known from earlier ones.
//!
//! What a page shows is added at once. What it does not show proves nothing before the listing is complete, and little then: lists
//! that are cut into pages by number skip an entry when an earlier one is deleted, and an account that loses a membership sees less.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::v1alpha1::catalog::{CATALOG_ENTRIES, SliceEntry, SliceState};
use crate::protocol::catalog::Selection;

/// The state of a listing.
#[derive(Clone, Debug)]
pub struct Merge {
    selection: Selection,
    entries: BTreeMap<String, SliceEntry>,
    /// Ids that only a slice has which somebody changed.
    doubtful: BTreeSet<String>,
    /// Ids that this listing showed.
    seen: BTreeSet<String>,
    /// Number of shown repositories that have a place in the catalogue.
    placed: usize,
    /// Shown repositories that displace others when the listing is complete, because the catalogue is full.
    waiting: Vec<SliceEntry>,
    /// Ids of known repositories that the listing showed when the catalogue had no place left for shown ones.
    beyond: BTreeSet<String>,
    truncated: bool,
}

/// A repository that two complete listings did not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its id.
    pub id: String,
    /// Its last known path.
    pub path: String,
}

impl Merge {
    /// Begins with the repositories that are known. If two slices have the same one, it is in the middle of a move between them.
    #[must_use]
    pub fn new(selection: Selection, known: impl IntoIterator<Item = SliceEntry>) -> Self {
        let entries = known.into_iter().map(|entry| (entry.id.clone(), entry)).collect();
        Self {
            selection,
            entries,
            doubtful: BTreeSet::new(),
            seen: BTreeSet::new(),
            placed: 0,
            waiting: Vec::new(),
            beyond: BTreeSet::new(),
            truncated: false,
        }
    }

    /// Doubts repositories of slices that somebody changed: only what a listing shows of them is kept.
    #[must_use]
    pub fn doubting(mut self, ids: BTreeSet<String>) -> Self {
        self.doubtful = ids;
        self
    }

    /// Adds the entries of a page. They replace what was known of the same repositories.
    pub fn add(&mut self, page: impl IntoIterator<Item = SliceEntry>) {
        for entry in page {
            if !self.seen.insert(entry.id.clone()) {
                continue;
            }
            if !self.selection.keeps(&entry) {
                // It leaves the catalogue when the listing is complete.
                if let Some(known) = self.entries.get_mut(&entry.id) {
                    *known = entry;
                }
                continue;
            }
            self.place(entry);
        }
    }

    /// Gives a shown and selected repository a place. Known repositories have no older right to it, but they keep theirs until the
    /// listing is complete: before that it may still show them.
    fn place(&mut self, entry: SliceEntry) {
        let is_known = self.entries.contains_key(&entry.id);
        if self.placed >= CATALOG_ENTRIES {
            self.truncated = true;
            if is_known {
                self.beyond.insert(entry.id);
            }
            return;
        }
        self.placed += 1;
        if is_known || self.entries.len() < CATALOG_ENTRIES {
            self.entries.insert(entry.id.clone(), entry);
        } else {
            self.waiting.push(entry);
        }
    }

    /// Gives those that wait their places: first free ones, then those of repositories that the listing did not show.
    fn place_waiting(&mut self) {
        let excess = (self.entries.len() + self.waiting.len()).saturating_sub(CATALOG_ENTRIES);
        let hidden = self.entries.keys().filter(|id| !self.seen.contains(*id));
        let displaced: Vec<_> = hidden.chain(&self.beyond).take(excess).cloned().collect();
        for id in displaced {
            self.entries.remove(&id);
        }
        self.entries.extend(std::mem::take(&mut self.waiting).into_iter().map(|entry| (entry.id.clone(), entry)));
    }

    /// Ends a complete listing. Removes what the spec no longer selects, marks what the listing did not show, and returns what an
    /// earlier complete listing did not show either.
    pub fn end(&mut self, now: Timestamp) -> Vec<Missing> {
        let mut missing = Vec::new();
        let (selection, seen, doubtful) = (&self.selection, &self.seen, &self.doubtful);
        self.entries.retain(|id, entry| selection.keeps(entry) && (seen.contains(id) || !doubtful.contains(id)));
        self.beyond.retain(|id| self.entries.contains_key(id));
        self.place_waiting();
        let seen = &self.seen;
        for entry in self.entries.values_mut().filter(|entry| !seen.contains(&entry.id)) {
            if entry.missing_since.is_some() {
                missing.push(Missing { id: entry.id.clone(), path: entry.path.clone() });
            } else {
                entry.missing_since = Some(Time(now.round(jiff::Unit::Second).unwrap_or(now)));
                entry.state = SliceState::NotVisible;
            }
        }
        missing
    }

    /// Removes a repository that is gone.
    pub fn remove(&mut self, id: &str) {
        self.entries.remove(id);
    }

    /// Whether more repositories are selected than a catalogue has room for.
    #[must_use]
    pub const fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Number of repositories that this listing showed, selected or not.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen.len()
    }

    /// The repositories, without those that nobody but the author of a changed slice has named.
    pub fn entries(&self) -> impl Iterator<Item = &SliceEntry> {
        self.entries.values().filter(|entry| self.seen.contains(&entry.id) || !self.doubtful.contains(&entry.id))
    }
}

/// Those that the listing with this number looks up, at most so many. They follow those of the listing before in a circle, so that
/// repositories which stay hidden do not keep the others from being looked up.
#[must_use]
pub fn in_turn(mut missing: Vec<Missing>, listing: u64, most: usize) -> Vec<Missing> {
    if let Some(count) = u64::try_from(missing.len()).ok().filter(|count| *count > 0) {
        let first = (listing % count) * u64::try_from(most).unwrap_or_default() % count;
        missing.rotate_left(usize::try_from(first).unwrap_or_default());
    }
    missing.truncate(most);
    missing
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::v1alpha1::catalog::CatalogSpec;

    fn at(hour: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(hour)
    }

    fn of(ids: impl IntoIterator<Item = u32>) -> Vec<SliceEntry> {
        ids.into_iter().map(|id| SliceEntry::sample(&id.to_string(), &format!("acme/r{id}"))).collect()
    }

    fn ids(merge: &Merge) -> BTreeSet<String> {
        merge.entries().map(|entry| entry.id.clone()).collect()
    }

    fn names(ids: impl IntoIterator<Item = u32>) -> BTreeSet<String> {
        ids.into_iter().map(|id| id.to_string()).collect()
    }

    /// One complete listing. `gone`: what a look-up says.
    fn complete(known: Vec<SliceEntry>, shown: Vec<SliceEntry>, hour: i64, gone: bool) -> Vec<SliceEntry> {
        let mut merge = Merge::new(Selection::default(), known);
        merge.add(shown);
        for missing in merge.end(at(hour)) {
            if gone {
                merge.remove(&missing.id);
            }
        }
        merge.entries().cloned().collect()
    }

    #[test]
    fn a_repository_goes_after_two_complete_listings_and_a_look_up() {
        let once = complete(of([1, 2]), of([1]), 1, true);
        let missing = once.iter().find(|entry| entry.id == "2").unwrap();
        assert_eq!((missing.state, missing.missing_since.as_ref().unwrap().0), (SliceState::NotVisible, at(1)));
        let hidden = complete(once.clone(), of([1]), 2, false);
        assert_eq!(hidden, once, "it may be hidden from the credential; nothing is written");
        assert_eq!(complete(hidden.clone(), of([1]), 3, true).len(), 1);
        let back = complete(hidden, of([1, 2]), 4, true);
        assert_eq!(back, of([1, 2]), "it is there again");
    }

    #[test]
    fn what_somebody_wrote_into_a_slice_is_kept_only_if_a_listing_shows_it() {
        let mut merge = Merge::new(Selection::default(), of([1, 2, 3])).doubting(names([2, 3]));
        merge.add(of([1, 3]));
        assert_eq!(ids(&merge), names([1, 3]), "not written even if the listing fails");
        assert_eq!((merge.end(at(1)), ids(&merge)), (Vec::new(), names([1, 3])));
    }

    #[test]
    fn a_listing_that_was_cut_short_adds_and_removes_nothing() {
        let mut merge = Merge::new(Selection::default(), of([1, 2]));
        merge.add(of([3]));
        assert_eq!(ids(&merge), names([1, 2, 3]));
        assert!(merge.entries().all(|entry| entry.state == SliceState::Visible && entry.missing_since.is_none()));
    }

    #[test]
    fn what_the_spec_does_not_select_any_more_goes_with_the_next_complete_listing() {
        let spec =
            CatalogSpec { interval: "24h".parse().unwrap(), include: vec!["acme/r1".into()], exclude: vec![], include_archived: false };
        let mut merge = Merge::new(Selection::of(&spec), of([1, 2]));
        merge.add(of([1, 2, 3]));
        assert_eq!(ids(&merge), names([1, 2]), "it has no room for what is not selected");
        assert_eq!(merge.end(at(1)), []);
        assert_eq!(ids(&merge), names([1]));
    }

    #[test]
    fn a_repository_that_is_archived_now_leaves_the_catalogue() {
        let mut merge = Merge::new(Selection::default(), of([1]));
        merge.add([SliceEntry { archived: Some(true), ..SliceEntry::sample("1", "acme/r1") }]);
        assert_eq!(ids(&merge), names([1]), "not before the listing is complete");
        assert_eq!((merge.end(at(1)), ids(&merge)), (Vec::new(), names([])));
    }

    #[test]
    fn no_more_repositories_are_kept_than_a_catalogue_has_room_for() {
        let most = u32::try_from(CATALOG_ENTRIES).unwrap();
        let mut merge = Merge::new(Selection::default(), of(0..most - 1));
        merge.add(of(0..most));
        assert!(!merge.is_truncated());
        merge.add(of([most]));
        assert!(merge.is_truncated() && merge.end(at(1)).is_empty());
        assert_eq!((merge.entries().count(), merge.seen()), (CATALOG_ENTRIES, CATALOG_ENTRIES + 1));
    }

    #[test]
    fn a_full_catalogue_of_another_selection_makes_room_for_the_new_one() {
        let most = u32::try_from(CATALOG_ENTRIES).unwrap();
        let spec =
            CatalogSpec { interval: "24h".parse().unwrap(), include: vec!["new/*".into()], exclude: vec![], include_archived: false };
        let new: Vec<_> = (most..most + 3).map(|id| SliceEntry::sample(&id.to_string(), &format!("new/r{id}"))).collect();
        let mut merge = Merge::new(Selection::of(&spec), of(0..most));
        merge.add(of(0..most));
        merge.add(new);
        assert_eq!(merge.entries().count(), CATALOG_ENTRIES, "nothing goes before the listing is complete");
        assert_eq!((merge.end(at(1)), merge.is_truncated()), (Vec::new(), false));
        assert_eq!(ids(&merge), names(most..most + 3));
    }

    #[test]
    fn what_a_listing_shows_displaces_what_it_does_not_show() {
        let most = u32::try_from(CATALOG_ENTRIES).unwrap();
        let mut merge = Merge::new(Selection::default(), of(0..most));
        merge.add(of(2..=most));
        merge.end(at(1));
        assert!(!merge.is_truncated(), "the provider has fewer than there is room for");
        assert_eq!(ids(&merge), names(1..=most), "one is displaced, the other is kept as not visible");

        let mut merge = Merge::new(Selection::default(), of(0..most));
        merge.add(of([most]));
        merge.add(of(0..most));
        merge.end(at(1));
        assert!(merge.is_truncated() && merge.entries().all(|entry| entry.state == SliceState::Visible));
        assert_eq!(merge.entries().count(), CATALOG_ENTRIES);
    }

    #[test]
    fn every_missing_repository_is_looked_up_in_its_turn() {
        let missing: Vec<_> = (0..250).map(|id| Missing { id: format!("{id:03}"), path: format!("acme/r{id}") }).collect();
        for first in [0, 7, 29_000_000] {
            let looked_up: BTreeSet<_> =
                (first..first + 3).flat_map(|listing| in_turn(missing.clone(), listing, 100)).map(|missing| missing.id).collect();
            assert_eq!(looked_up.len(), 250, "in three listings from {first}");
        }
        assert_eq!(in_turn(missing[..9].to_vec(), 5, 100).len(), 9);
        assert_eq!(in_turn(Vec::new(), 5, 100), []);
    }

    proptest! {
        #[test]
        fn nothing_that_a_listing_shows_is_lost_and_nothing_known_goes_at_once(
            known in prop::collection::btree_set(0_u32..50, 0..30),
            shown in prop::collection::btree_set(0_u32..50, 0..30),
        ) {
            let after = complete(of(known.clone()), of(shown.clone()), 1, true);
            let ids: BTreeSet<_> = after.iter().map(|entry| entry.id.clone()).collect();
            prop_assert_eq!(ids, names(known.union(&shown).copied()));
            for entry in &after {
                let id = entry.id.parse().unwrap();
                prop_assert_eq!(entry.state == SliceState::Visible, shown.contains(&id));
                prop_assert_eq!(entry.missing_since.is_none(), shown.contains(&id));
            }
            let second = complete(after, of(shown.clone()), 2, true);
            let ids: BTreeSet<_> = second.iter().map(|entry| entry.id.clone()).collect();
            prop_assert_eq!(ids, names(shown));
        }
    }
}
