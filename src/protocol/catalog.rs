//! Which repositories a catalogue keeps, and the digest by which a reader knows that it sees all slices.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use ring::digest;

use super::glob;
use crate::api::v1alpha1::catalog::{CatalogSpec, SliceEntry};

/// Characters of a hash or a digest.
const HASH: usize = 32;

/// The selection of `spec.catalog`, with its patterns in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    include: Vec<String>,
    exclude: Vec<String>,
    include_archived: bool,
}

impl Selection {
    /// The selection of a spec. The order of its patterns makes no difference.
    #[must_use]
    pub fn of(spec: &CatalogSpec) -> Self {
        let patterns = |patterns: &[String]| {
            let mut patterns: Vec<_> = patterns.iter().map(|pattern| pattern.to_lowercase()).collect();
            patterns.sort_unstable();
            patterns
        };
        Self { include: patterns(&spec.include), exclude: patterns(&spec.exclude), include_archived: spec.include_archived }
    }

    /// Whether a path is selected.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        let path = path.to_lowercase();
        let any = |patterns: &[String]| patterns.iter().any(|pattern| glob::matches(pattern, &path));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }

    /// Whether a repository is kept. One whose list does not tell whether it is archived is not left out for that.
    #[must_use]
    pub fn keeps(&self, entry: &SliceEntry) -> bool {
        (self.include_archived || entry.archived != Some(true)) && self.has(&entry.path)
    }

    /// The selection as text, for a digest: different selections have different texts.
    #[must_use]
    pub fn text(&self) -> String {
        // A pattern may hold any character, so each has its length in front.
        let patterns =
            |patterns: &[String]| patterns.iter().map(|pattern| format!("{}:{pattern}", pattern.len())).collect::<Vec<_>>().concat();
        format!("{}\n{}\n{}", patterns(&self.include), patterns(&self.exclude), self.include_archived)
    }
}

/// The hash of the entries of one slice.
#[must_use]
pub fn hash(entries: &[impl Borrow<SliceEntry>]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for entry in entries {
        // The types write themselves without an error, always in the same order.
        context.update(&serde_json::to_vec(entry.borrow()).unwrap_or_default());
        context.update(b"\n");
    }
    shortened(context)
}

/// The digest of a catalogue: of its selection, and of the hashes of its slices.
#[must_use]
pub fn digest<'a>(selection: &Selection, hashes: impl IntoIterator<Item = &'a str>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(selection.text().as_bytes());
    for hash in hashes.into_iter().collect::<BTreeSet<_>>() {
        context.update(b"\n");
        context.update(hash.as_bytes());
    }
    shortened(context)
}

fn shortened(context: digest::Context) -> String {
    let mut text = hex::encode(context.finish());
    text.truncate(HASH);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selection(include: &[&str], exclude: &[&str], include_archived: bool) -> Selection {
        let patterns = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let interval = "24h".parse().unwrap();
        Selection::of(&CatalogSpec { interval, include: patterns(include), exclude: patterns(exclude), include_archived })
    }

    #[test]
    fn keeps_what_include_matches_and_exclude_does_not() {
        for (include, exclude, path, kept) in [
            (&[][..], &[][..], "acme/shop", true),
            (&["acme/*"], &[], "ACME/Shop", true),
            (&["Acme/*"], &[], "acme/team/shop", false),
            (&["acme/**"], &["**/legacy-*"], "acme/team/legacy-till", false),
            (&["acme/**"], &["**/legacy-*"], "acme/team/till", true),
            (&[], &["**"], "acme/shop", false),
        ] {
            assert_eq!(selection(include, exclude, false).keeps(&SliceEntry::sample("1", path)), kept, "{include:?} {exclude:?} {path}");
        }
    }

    #[test]
    fn an_archived_repository_is_kept_on_request_and_where_the_list_does_not_tell() {
        for (archived, kept) in [(Some(true), false), (Some(false), true), (None, true)] {
            let entry = SliceEntry { archived, ..SliceEntry::sample("1", "acme/shop") };
            assert_eq!(selection(&[], &[], false).keeps(&entry), kept, "{archived:?}");
            assert!(selection(&[], &[], true).keeps(&entry));
        }
    }

    #[test]
    fn different_selections_have_different_texts() {
        let texts = [
            selection(&[], &[], false),
            selection(&[], &[], true),
            selection(&["a"], &[], false),
            selection(&[], &["a"], false),
            selection(&["a", "b"], &[], false),
            selection(&["a1:b"], &[], false),
        ];
        let texts: std::collections::BTreeSet<_> = texts.iter().map(Selection::text).collect();
        assert_eq!(texts.len(), 6);
        assert_eq!(selection(&["b", "A"], &[], false).text(), selection(&["a", "B"], &[], false).text());
    }

    proptest! {
        #[test]
        fn the_digest_depends_on_every_slice_and_on_no_order(mut hashes in prop::collection::btree_set("[0-9a-f]{8}", 1..20)) {
            let selection = Selection::default();
            let whole = digest(&selection, hashes.iter().map(String::as_str));
            prop_assert_eq!(&digest(&selection, hashes.iter().rev().map(String::as_str)), &whole);
            let one = hashes.pop_first().unwrap();
            prop_assert_ne!(digest(&selection, hashes.iter().map(String::as_str)), whole, "without {}", one);
        }
    }
}
