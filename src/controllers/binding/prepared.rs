//! What the Secrets with the prepared entries of bindings contain, as the API server showed it last. The leader writes only what
//! differs from it, and only what was there can be lost. In memory, without any value.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use parking_lot::Mutex;
use ring::digest::{SHA256, digest};

use crate::protocol::webhook_secrets::{self, SinkSecrets, UserSecrets};

/// The digest of what the sinks of a binding need, to notice a change.
pub type Digest = [u8; 32];

/// Maximum size of all entries of a shard, in bytes: the API server refuses Secrets of more than 1 MiB.
const SHARD_BYTES: usize = 1000 * 1024;

/// Maximum size of one namespace's entries in a shard, in bytes, so that one namespace cannot use up the room of all.
const NAMESPACE_BYTES: usize = 128 * 1024;

/// Maximum size of what the sinks of one namespace need, in bytes, in all shards together.
const NAMESPACE_SINK_BYTES: usize = 2 * 1024 * 1024;

/// The entry of one binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Digest of what is prepared for its sinks; `None` if nothing is.
    pub sinks: Option<Digest>,
    /// Size of that, in bytes.
    pub sink_bytes: usize,
    /// Whether it has webhook secrets.
    pub has_webhook_secrets: bool,
}

impl Held {
    /// Describes an entry.
    #[must_use]
    pub fn of(entry: &UserSecrets) -> Self {
        let (sinks, sink_bytes) = measure(&entry.sinks);
        Self { sinks, sink_bytes, has_webhook_secrets: !entry.secrets.is_empty() }
    }
}

/// The digest and the size of what sinks need; no digest if they need nothing.
#[must_use]
pub fn measure(sinks: &BTreeMap<String, SinkSecrets>) -> (Option<Digest>, usize) {
    if sinks.is_empty() {
        return (None, 0);
    }
    // Serialization does not fail; if it did, all contents would count as the same.
    let text = serde_json::to_vec(sinks).unwrap_or_default();
    let mut found = [0; 32];
    found.copy_from_slice(digest(&SHA256, &text).as_ref());
    (Some(found), text.len())
}

/// What is known of the entry of one binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PreparedEntry {
    /// Its shard could not be read.
    #[default]
    Unread,
    /// What the shard contains; `None` if it has no entry of this binding.
    Read(Option<Held>),
}

impl PreparedEntry {
    /// Whether there is an entry; `guess` counts as long as nobody knows.
    #[must_use]
    pub const fn exists_or(&self, guess: bool) -> bool {
        match self {
            Self::Unread => guess,
            Self::Read(held) => held.is_some(),
        }
    }

    /// Whether it is known that no webhook secret is prepared.
    #[must_use]
    pub fn lacks_webhook_secrets(&self) -> bool {
        matches!(self, Self::Read(held) if held.as_ref().is_none_or(|held| !held.has_webhook_secrets))
    }

    /// Whether it is known that exactly this is prepared for the sinks.
    #[must_use]
    pub fn has_sinks(&self, digest: Option<Digest>) -> bool {
        matches!(self, Self::Read(held) if held.as_ref().and_then(|held| held.sinks) == digest)
    }
}

#[derive(Debug, Default)]
struct Shard {
    /// Version of the Secret, to ignore older states that arrive late.
    version: u64,
    entries: HashMap<String, Held>,
}

/// The contents of the shards that were read or are watched.
#[derive(Debug, Default)]
pub struct PreparedEntries {
    /// Held while a shard is read.
    pub reading: tokio::sync::Mutex<()>,
    /// `None` while another process leads, which changes them.
    shards: Mutex<Option<HashMap<u8, Shard>>>,
    /// Shards that may not be read.
    refused: Mutex<HashSet<u8>>,
    /// UIDs of the entries that this process is removing now.
    leaving: Mutex<HashSet<String>>,
}

impl PreparedEntries {
    /// Begins with nothing known: another leader may have changed everything.
    pub fn begin(&self) {
        *self.shards.lock() = Some(HashMap::new());
        self.refused.lock().clear();
    }

    /// Forgets everything: this process no longer leads.
    pub fn end(&self) {
        *self.shards.lock() = None;
    }

    /// Whether the contents of a shard are known, or cannot be read.
    pub fn needs_no_read(&self, shard: u8) -> bool {
        self.shards.lock().as_ref().is_some_and(|shards| shards.contains_key(&shard)) || self.refused.lock().contains(&shard)
    }

    /// Records that a shard may not be read.
    pub fn refuse(&self, shard: u8) {
        self.refused.lock().insert(shard);
    }

    /// Takes in the contents of a shard. `version` is that of its Secret; `None` if the Secret does not exist. Returns the
    /// UIDs of the entries that are gone, although this process did not remove them.
    pub fn see(&self, shard: u8, version: Option<u64>, entries: &BTreeMap<String, UserSecrets>) -> Vec<String> {
        let mut shards = self.shards.lock();
        let Some(shards) = shards.as_mut() else { return Vec::new() };
        let known = shards.entry(shard).or_default();
        // Versions of one kind are comparable numbers. A Secret that is made anew has a higher one.
        if version.is_some_and(|version| version < known.version) {
            return Vec::new();
        }
        known.version = version.unwrap_or(known.version);
        let new = entries.iter().map(|(uid, entry)| (uid.clone(), Held::of(entry))).collect();
        let before = std::mem::replace(&mut known.entries, new);
        let leaving = self.leaving.lock();
        before.into_keys().filter(|uid| !known.entries.contains_key(uid) && !leaving.contains(uid)).collect()
    }

    /// What is known of the entry of a binding.
    pub fn of(&self, uid: &str) -> PreparedEntry {
        let shards = self.shards.lock();
        let shard = shards.as_ref().and_then(|shards| shards.get(&webhook_secrets::shard(uid)));
        shard.map_or(PreparedEntry::Unread, |shard| PreparedEntry::Read(shard.entries.get(uid).cloned()))
    }

    /// Size of what is prepared for the sinks of these bindings, in bytes.
    pub fn sink_bytes<'a>(&self, uids: impl Iterator<Item = &'a String>) -> usize {
        let shards = self.shards.lock();
        let held = |uid: &String| shards.as_ref()?.get(&webhook_secrets::shard(uid))?.entries.get(uid).map(|held| held.sink_bytes);
        uids.filter_map(held).sum()
    }

    /// Marks an entry as one that this process removes, until the result is dropped: it does not count as lost.
    pub fn leave<'a>(&'a self, uid: &'a str) -> impl Drop + 'a {
        self.leaving.lock().insert(uid.to_owned());
        Leaving { entries: self, uid }
    }
}

struct Leaving<'a> {
    entries: &'a PreparedEntries,
    uid: &'a str,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.entries.leaving.lock().remove(self.uid);
    }
}

/// What an entry is checked against before it is written. All sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Size of the present entry. An entry that does not grow always fits.
    pub present: usize,
    /// Size of the other entries of the shard.
    pub others: usize,
    /// Size of the other entries of the namespace in the shard.
    pub of_namespace: usize,
}

impl Room {
    /// Measures the entries of a shard beside that of `uid`.
    pub fn beside<V>(uid: &str, data: &BTreeMap<String, V>, size: impl Fn(&V) -> usize, same_namespace: &BTreeSet<String>) -> Self {
        let others = || data.iter().filter(|(known, _)| *known != uid);
        let of = |(known, entry): (&String, &V)| known.len() + size(entry);
        Self {
            present: data.get(uid).map_or(0, &size),
            others: others().map(of).sum(),
            of_namespace: others().filter(|(known, _)| same_namespace.contains(*known)).map(of).sum(),
        }
    }

    /// Whether an entry of this size with webhook secrets fits.
    #[must_use]
    pub const fn has(&self, size: usize) -> bool {
        self.fits(size, SHARD_BYTES, NAMESPACE_BYTES)
    }

    /// Whether an entry of this size fits that grows for sinks. A quarter is kept for webhook secrets, without which no hook can be
    /// made. `sinks` is the size of what the sinks of the whole namespace need with it.
    #[must_use]
    pub const fn has_for_sinks(&self, size: usize, sinks: usize) -> bool {
        size <= self.present || (sinks <= NAMESPACE_SINK_BYTES && self.fits(size, SHARD_BYTES / 4 * 3, NAMESPACE_BYTES / 4 * 3))
    }

    const fn fits(&self, size: usize, of_shard: usize, of_namespace: usize) -> bool {
        size <= self.present || (self.others + size <= of_shard && self.of_namespace + size <= of_namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::secret::WebhookSecret;
    use crate::protocol::webhook_secrets::{Referenced, UserSecret, shard};

    fn with_sink(value: &str) -> UserSecrets {
        let signing = Some(Referenced::new("ci/secret".to_owned(), value.into()));
        UserSecrets { sinks: [("ci".to_owned(), SinkSecrets { signing, authorities: None })].into(), ..UserSecrets::default() }
    }

    fn with_webhook_secret() -> UserSecrets {
        let secret = UserSecret::new("v".to_owned(), &WebhookSecret::Text("0123456789abcdef".into()));
        UserSecrets { secrets: secret.into_iter().collect(), ..UserSecrets::default() }
    }

    fn shard_of(entries: &[(&str, UserSecrets)]) -> BTreeMap<String, UserSecrets> {
        entries.iter().map(|(uid, entry)| ((*uid).to_owned(), entry.clone())).collect()
    }

    #[test]
    fn only_what_was_seen_can_be_lost_and_once_and_not_what_this_process_removes() {
        let entries = PreparedEntries::default();
        entries.begin();
        let number = shard("one");
        let both = shard_of(&[("one", with_sink("a")), ("two", with_webhook_secret())]);
        assert_eq!(entries.see(number, Some(5), &BTreeMap::new()), [""; 0], "nothing was seen before");
        assert_eq!(entries.see(number, Some(6), &both), [""; 0]);
        assert_eq!(entries.see(number, Some(7), &both), [""; 0], "a change of another entry");
        assert_eq!(entries.see(number, Some(5), &BTreeMap::new()), [""; 0], "an older state that arrives late");
        let gone = entries.see(number, Some(8), &shard_of(&[("one", with_sink("a"))]));
        assert_eq!(gone, ["two"]);
        assert_eq!(entries.see(number, Some(9), &shard_of(&[("one", with_sink("b"))])), [""; 0], "lost is said once");
        let leaving = entries.leave("one");
        assert_eq!(entries.see(number, Some(10), &BTreeMap::new()), [""; 0], "this process removes it");
        drop(leaving);
        assert_eq!(entries.see(number, Some(11), &shard_of(&[("one", with_sink("b"))])), [""; 0]);
        let gone = entries.see(number, None, &BTreeMap::new());
        assert_eq!(gone, ["one"], "the whole Secret was deleted");
    }

    #[test]
    fn an_entry_is_known_once_its_shard_was_read_and_until_another_leader_may_have_changed_it() {
        let entries = PreparedEntries::default();
        entries.begin();
        assert_eq!(entries.of("one"), PreparedEntry::Unread);
        assert!(entries.of("one").exists_or(true) && !entries.of("one").exists_or(false));
        entries.see(shard("one"), Some(1), &shard_of(&[("one", with_sink("a"))]));
        assert!(entries.of("one").has_sinks(measure(&with_sink("a").sinks).0));
        assert!(!entries.of("one").has_sinks(measure(&with_sink("b").sinks).0));
        let absent = (0..10_000).map(|number| format!("other-{number}")).find(|uid| shard(uid) == shard("one")).unwrap();
        assert_eq!(entries.of(&absent), PreparedEntry::Read(None));
        assert!(!entries.of(&absent).exists_or(true));
        let all = ["one".to_owned(), absent];
        assert_eq!(entries.sink_bytes(all.iter()), measure(&with_sink("a").sinks).1);
        entries.end();
        assert_eq!(entries.of("one"), PreparedEntry::Unread);
        entries.see(shard("one"), Some(2), &shard_of(&[("one", with_sink("a"))]));
        let removed_by_the_leader = entries.see(shard("one"), Some(3), &BTreeMap::new());
        assert_eq!(removed_by_the_leader, [""; 0], "another process leads");
        entries.begin();
        assert_eq!(entries.of("one"), PreparedEntry::Unread);
    }

    fn room(others: usize, of_namespace: usize) -> Room {
        Room { present: 0, others, of_namespace }
    }

    #[test]
    fn bundles_of_sinks_never_take_the_room_of_webhook_secrets() {
        let of_shard = SHARD_BYTES / 4 * 3;
        assert!(room(of_shard - 100, 0).has_for_sinks(100, 100));
        assert!(!room(of_shard - 100, 0).has_for_sinks(101, 101));
        assert!(room(of_shard, NAMESPACE_BYTES / 4 * 3).has(1000), "a webhook secret still fits, also of the same namespace");
        assert!(!room(0, NAMESPACE_BYTES / 4 * 3).has_for_sinks(1, 1), "a namespace has its share of a shard");
        assert!(!room(0, 0).has_for_sinks(1, NAMESPACE_SINK_BYTES + 1), "and of all shards");
        assert!(Room { present: 200, ..room(SHARD_BYTES, 0) }.has_for_sinks(200, usize::MAX), "a rotated key of the same length fits");
        assert!(!Room { present: 200, ..room(SHARD_BYTES, 0) }.has(201));
    }

    #[test]
    fn a_namespace_leaves_room_for_others_and_a_shard_stays_below_what_the_api_server_takes() {
        let data: BTreeMap<String, usize> = [("a".to_owned(), 500), ("b".to_owned(), 300), ("c".to_owned(), 200)].into();
        let found = Room::beside("a", &data, |size| *size, &BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        assert_eq!((found.present, found.others, found.of_namespace), (500, 502, 301));
    }
}
