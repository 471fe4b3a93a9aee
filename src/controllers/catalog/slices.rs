//! Distributes the repositories of a catalogue over slices, and decides what to write.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::v1alpha1::catalog::{CatalogStatus, SLICE_ENTRIES, SliceEntry, SliceState};
use crate::api::v1alpha1::connection::PermissionState;
use crate::protocol::hash::stable_hash;

/// How many repositories a slice has on average at most. The hash of the ids distributes them so evenly that none has more than
/// [`SLICE_ENTRIES`].
const AVERAGE: usize = SLICE_ENTRIES / 2;
/// Maximum number of slices: several times as many as a full catalogue needs.
const MOST_SLICES: usize = 1024;
/// Maximum length of the part of a slice's name that comes from the connection's.
const NAME: usize = 200;

/// Which of so many slices has a repository. The number is a power of two, so that doubling it splits each slice in two.
#[must_use]
pub fn index(id: &str, slices: usize) -> usize {
    let hash = stable_hash(id);
    // The low bits of the hash depend on the low bits of the characters alone.
    let folded = hash ^ (hash >> 32);
    usize::try_from(folded % slices.max(1) as u64).unwrap_or_default()
}

/// The number of slices for so many repositories: a power of two. It is kept while it is large enough, and halved only below a
/// quarter of what it is made for, so that a few repositories more or less do not move all others.
#[must_use]
pub fn number(repositories: usize, present: usize) -> usize {
    let least = repositories.div_ceil(AVERAGE).max(1).next_power_of_two();
    let mut number = present.max(1).next_power_of_two().min(MOST_SLICES);
    while number > least && repositories * 4 < number * AVERAGE {
        number /= 2;
    }
    number.max(least)
}

/// The entries of each slice that has any, sorted by path.
#[must_use]
pub fn distribute<'a>(entries: &[&'a SliceEntry], present: usize) -> BTreeMap<usize, Vec<&'a SliceEntry>> {
    let mut slices = number(entries.len(), present);
    loop {
        let mut distributed: BTreeMap<usize, Vec<&SliceEntry>> = BTreeMap::new();
        for entry in entries.iter().copied() {
            distributed.entry(index(&entry.id, slices)).or_default().push(entry);
        }
        if slices < MOST_SLICES && distributed.values().any(|entries| entries.len() > SLICE_ENTRIES) {
            slices *= 2;
            continue;
        }
        for entries in distributed.values_mut() {
            entries.sort_unstable_by(|one, other| (&one.path, &one.id).cmp(&(&other.path, &other.id)));
        }
        return distributed;
    }
}

/// Whether a repository in these slices would have another one if there were `present` of them.
#[must_use]
pub fn moves(distributed: &BTreeMap<usize, Vec<&SliceEntry>>, present: usize) -> bool {
    let present = present.max(1).next_power_of_two();
    distributed.iter().any(|(place, entries)| entries.iter().any(|entry| index(&entry.id, present) != *place))
}

/// The name of a slice. It contains a part of the connection's UID, so that the slices of a connection that is being deleted do not
/// collide with those of a new one with its name.
#[must_use]
pub fn name(connection: &str, uid: &str, index: usize) -> String {
    let beginning: String = connection.chars().take(NAME).collect();
    format!("{}-{:08x}-{index:03}", beginning.trim_end_matches(['-', '.']), stable_hash(uid) >> 32)
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Create the slice with this index.
    Create(usize),
    /// Replace the content of a slice.
    Replace(usize),
    /// Delete a slice.
    Delete(usize),
}

/// What to write to get from the slices that exist, by their index and hash, to these. In this order a repository is in some slice
/// at every moment: it is added to its new slice before it leaves the old one.
#[must_use]
pub fn writes(present: &BTreeMap<usize, String>, wanted: &BTreeMap<usize, String>) -> Vec<Write> {
    let created = wanted.keys().filter(|index| !present.contains_key(index)).map(|index| Write::Create(*index));
    let changed = |index: &usize| present.get(index).is_some_and(|hash| wanted.get(index) != Some(hash));
    // When the number is halved, the slices that stay grow.
    let replaced = wanted.keys().filter(|index| changed(index)).map(|index| Write::Replace(*index));
    let deleted = present.keys().filter(|index| !wanted.contains_key(index)).map(|index| Write::Delete(*index));
    created.chain(replaced).chain(deleted).collect()
}

/// The counts of a catalogue, with its digest.
#[must_use]
pub fn summary(entries: &[&SliceEntry], digest: String, listed_at: Option<Time>) -> CatalogStatus {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let manageable = |entry: &&&SliceEntry| entry.webhooks == PermissionState::Granted && entry.state == SliceState::Visible;
    let projects: BTreeSet<_> = entries.iter().filter_map(|entry| entry.project.as_deref()).collect();
    CatalogStatus {
        repositories: count(entries.len()),
        webhooks_manageable: count(entries.iter().filter(manageable).count()),
        projects: (!projects.is_empty()).then(|| count(projects.len())),
        listed_at,
        digest,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::catalog::hash;

    fn entries(count: usize) -> Vec<SliceEntry> {
        (0..count).map(|number| SliceEntry::sample(&number.to_string(), &format!("acme/r{number}"))).collect()
    }

    fn hashes(distributed: &BTreeMap<usize, Vec<&SliceEntry>>) -> BTreeMap<usize, String> {
        distributed.iter().map(|(index, entries)| (*index, hash(entries))).collect()
    }

    #[test]
    fn twenty_thousand_ids_of_every_form_fit_into_their_slices() {
        type Form = (&'static str, fn(usize) -> String);
        let forms: [Form; 4] = [
            ("numbers", |number| number.to_string()),
            ("numbers of a large server", |number| (4_000_000_000_usize + number * 7).to_string()),
            ("uuids", |number| format!("{{5f0a2a3c-33c1-4d5e-8f3a-{number:012x}}}")),
            ("guids that begin alike", |number| format!("c0ffee00-0000-4000-8000-{:012x}", number * 16)),
        ];
        for (form, id) in forms {
            for count in [1, 250, 251, 10_000, 20_000] {
                let entries: Vec<_> = (0..count).map(|number| SliceEntry::sample(&id(number), "acme/r")).collect();
                let distributed = distribute(&entries.iter().collect::<Vec<_>>(), 0);
                let largest = distributed.values().map(Vec::len).max().unwrap();
                assert!(largest <= SLICE_ENTRIES, "{form}: {largest} of {count}");
                assert!(distributed.len() <= number(count, 0), "{form}: no slice more than the average needs");
            }
        }
    }

    #[test]
    fn the_number_of_slices_grows_when_it_must_and_shrinks_late() {
        for (repositories, present, expected) in [
            (0, 0, 1),
            (125, 0, 1),
            (126, 0, 2),
            (10_000, 0, 128),
            (10_000, 64, 128),
            (4_000, 128, 128),
            (3_999, 128, 64),
            (0, 128, 1),
            (20_000, 0, 256),
        ] {
            assert_eq!(number(repositories, present), expected, "{repositories} repositories, {present} slices");
        }
    }

    #[test]
    fn the_largest_slice_fits_into_the_store_of_the_cluster() {
        let text = |length| "x".repeat(length);
        let largest = SliceEntry {
            id: text(128),
            project: Some(text(512)),
            default_branch: Some(text(255)),
            topics: Some(vec![text(64); 20]),
            web_url: Some(text(1536)),
            ..SliceEntry::sample("1", &text(1024))
        };
        let length = serde_json::to_vec(&vec![largest; SLICE_ENTRIES]).unwrap().len();
        assert!(length < 1_400_000, "{length} bytes");
    }

    #[test]
    fn names_are_those_of_objects_and_differ_by_connection() {
        assert_eq!(name("acme", "uid", 7).len(), "acme-".len() + 8 + "-007".len());
        assert_ne!(name("acme", "one", 0), name("acme", "other", 0));
        let long = name(&"a.".repeat(126), "uid", 255);
        assert!(long.len() <= 253 && !long.contains(".-"), "{long}");
    }

    #[test]
    fn counts_what_the_credential_may_manage_and_the_projects() {
        let mut entries = entries(3);
        entries[0].webhooks = PermissionState::Granted;
        entries[1].webhooks = PermissionState::Granted;
        entries[1].state = SliceState::NotVisible;
        assert_eq!(summary(&entries.iter().collect::<Vec<_>>(), "d".into(), None).projects, None);
        entries[0].project = Some("APP".into());
        entries[2].project = Some("APP".into());
        let told = summary(&entries.iter().collect::<Vec<_>>(), "d".into(), None);
        assert_eq!((told.repositories, told.webhooks_manageable, told.projects), (3, 1, Some(1)));
    }

    /// Applies writes one by one. After each, every repository that was there and stays is in some slice.
    fn apply(present: &BTreeMap<usize, Vec<&SliceEntry>>, wanted: &BTreeMap<usize, Vec<&SliceEntry>>) {
        let ids = |slices: &BTreeMap<usize, Vec<&SliceEntry>>| -> BTreeSet<String> {
            slices.values().flatten().map(|entry| entry.id.clone()).collect()
        };
        let stay: BTreeSet<_> = ids(present).intersection(&ids(wanted)).cloned().collect();
        let mut slices = present.clone();
        for write in writes(&hashes(present), &hashes(wanted)) {
            match write {
                Write::Create(index) => assert!(slices.insert(index, wanted[&index].clone()).is_none()),
                Write::Replace(index) => assert!(slices.insert(index, wanted[&index].clone()).is_some_and(|old| old != wanted[&index])),
                Write::Delete(index) => assert!(slices.remove(&index).is_some()),
            }
            assert!(stay.is_subset(&ids(&slices)), "after {write:?}");
        }
        assert_eq!(&slices, wanted);
    }

    #[test]
    fn repositories_move_when_the_number_of_slices_changes() {
        let entries = entries(300);
        let distributed = distribute(&entries.iter().collect::<Vec<_>>(), 0);
        assert!(!moves(&distributed, 4) && !moves(&distributed, 3), "the last slice may be empty");
        assert!(moves(&distributed, 2) && moves(&distributed, 8));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_repository_is_in_its_slice_and_at_no_moment_in_none(before in 0_usize..900, after in 0_usize..900) {
            let (old, new) = (entries(before), entries(after));
            let present = distribute(&old.iter().collect::<Vec<_>>(), 0);
            let slices = present.keys().last().map_or(0, |last| last + 1);
            let wanted = distribute(&new.iter().collect::<Vec<_>>(), slices);
            prop_assert_eq!(wanted.values().map(Vec::len).sum::<usize>(), after);
            for (place, entries) in &wanted {
                prop_assert!(entries.iter().all(|entry| index(&entry.id, number(after, slices)) == *place));
                prop_assert!(entries.is_sorted_by(|one, other| one.path <= other.path));
            }
            apply(&present, &wanted);
            prop_assert!(writes(&hashes(&wanted), &hashes(&wanted)).is_empty(), "what is unchanged is not written");
        }
    }
}
