//! Who holds how much of the outbox, and who loses records when room is needed. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::record::Sequence;

/// The limits of the store and of each binding in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShareLimits {
    pub(super) total: u64,
    pub(super) per_binding: u64,
}

/// A record that asks for room.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) uid: Arc<str>,
    pub(super) namespace: Arc<str>,
    /// What it costs of the limits.
    pub(super) cost: u64,
    /// The length of its body.
    pub(super) body: u64,
    /// The events that are to be attempted, as positions of sink and event, ascending.
    pub(super) open: Vec<(u32, u32)>,
}

/// The record alone exceeds a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    pub(super) limit: u64,
}

/// Number and cost of some records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::receiver) struct Held {
    pub(in crate::receiver) records: u64,
    pub(in crate::receiver) bytes: u64,
}

/// The index of everything that is stored.
#[derive(Debug)]
pub(super) struct Shares {
    limits: ShareLimits,
    held: Held,
    records: BTreeMap<Sequence, Claim>,
    namespaces: HashMap<Arc<str>, Namespace>,
}

#[derive(Debug, Default)]
struct Namespace {
    held: Held,
    bindings: HashMap<Arc<str>, Binding>,
}

#[derive(Debug, Default)]
struct Binding {
    held: Held,
    /// Records with an event that is to be attempted.
    open: BTreeSet<Sequence>,
    /// Records of which only dead letters are left.
    dead: BTreeSet<Sequence>,
}

impl Binding {
    /// The record to lose next: dead letters first, then the oldest.
    fn first(&self) -> Option<Sequence> {
        self.dead.first().or_else(|| self.open.first()).copied()
    }
}

impl Held {
    const fn add(&mut self, cost: u64) {
        self.records += 1;
        self.bytes = self.bytes.saturating_add(cost);
    }

    const fn subtract(&mut self, cost: u64) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(cost);
    }
}

impl Shares {
    pub(super) fn new(limits: ShareLimits) -> Self {
        Self { limits, held: Held::default(), records: BTreeMap::new(), namespaces: HashMap::new() }
    }

    /// Adds a record and removes those that lose their room to it, which it returns.
    ///
    /// A binding over its share loses records of its own. When the store is full, the namespace that would hold most loses them,
    /// and in it the binding that would hold most. The new record counts to its own side, so that nobody can push out others
    /// who hold less, and is not removed itself.
    ///
    /// # Errors
    /// The record alone exceeds a limit.
    pub(super) fn admit(&mut self, sequence: Sequence, claim: Claim) -> Result<Vec<(Sequence, Claim)>, TooLarge> {
        let limit = self.limits.per_binding.min(self.limits.total);
        if claim.cost > limit {
            return Err(TooLarge { limit });
        }
        let mut removed = Vec::new();
        while self.of_binding(&claim.namespace, &claim.uid).bytes.saturating_add(claim.cost) > self.limits.per_binding {
            let first = self.binding(&claim.namespace, &claim.uid).and_then(Binding::first);
            let Some(victim) = first.and_then(|sequence| self.remove(sequence).map(|claim| (sequence, claim))) else { break };
            removed.push(victim);
        }
        while self.held.bytes.saturating_add(claim.cost) > self.limits.total {
            let first = self.first_of_largest(&claim);
            let Some(victim) = first.and_then(|sequence| self.remove(sequence).map(|claim| (sequence, claim))) else { break };
            removed.push(victim);
        }
        self.insert(sequence, claim);
        Ok(removed)
    }

    /// Whether a record has room without removing another one.
    pub(super) fn has_room(&self, claim: &Claim) -> bool {
        let of_binding = self.of_binding(&claim.namespace, &claim.uid).bytes.saturating_add(claim.cost);
        of_binding <= self.limits.per_binding && self.held.bytes.saturating_add(claim.cost) <= self.limits.total
    }

    /// Adds a record that is stored already, without regard to the limits.
    pub(super) fn insert(&mut self, sequence: Sequence, claim: Claim) {
        let namespace = self.namespaces.entry(claim.namespace.clone()).or_default();
        let binding = namespace.bindings.entry(claim.uid.clone()).or_default();
        for held in [&mut self.held, &mut namespace.held, &mut binding.held] {
            held.add(claim.cost);
        }
        if claim.open.is_empty() {
            binding.dead.insert(sequence)
        } else {
            binding.open.insert(sequence)
        };
        self.records.insert(sequence, claim);
    }

    /// Removes a record.
    pub(super) fn remove(&mut self, sequence: Sequence) -> Option<Claim> {
        let claim = self.records.remove(&sequence)?;
        self.held.subtract(claim.cost);
        if let Some(namespace) = self.namespaces.get_mut(&claim.namespace) {
            namespace.held.subtract(claim.cost);
            if let Some(binding) = namespace.bindings.get_mut(&claim.uid) {
                binding.held.subtract(claim.cost);
                binding.open.remove(&sequence);
                binding.dead.remove(&sequence);
                if binding.held.records == 0 {
                    namespace.bindings.remove(&claim.uid);
                }
            }
            if namespace.bindings.is_empty() {
                self.namespaces.remove(&claim.namespace);
            }
        }
        Some(claim)
    }

    /// Records whether an event is still to be attempted.
    pub(super) fn note(&mut self, sequence: Sequence, event: (u32, u32), is_open: bool) {
        let Some(claim) = self.records.get_mut(&sequence) else { return };
        match (claim.open.binary_search(&event), is_open) {
            (Err(place), true) => claim.open.insert(place, event),
            (Ok(place), false) => drop(claim.open.remove(place)),
            _ => return,
        }
        let is_dead = claim.open.is_empty();
        let namespace = self.namespaces.get_mut(&claim.namespace);
        if let Some(binding) = namespace.and_then(|namespace| namespace.bindings.get_mut(&claim.uid)) {
            let (from, to) = if is_dead { (&mut binding.open, &mut binding.dead) } else { (&mut binding.dead, &mut binding.open) };
            from.remove(&sequence);
            to.insert(sequence);
        }
    }

    pub(super) fn get(&self, sequence: Sequence) -> Option<&Claim> {
        self.records.get(&sequence)
    }

    pub(super) fn sequences(&self) -> impl Iterator<Item = Sequence> {
        self.records.keys().copied()
    }

    pub(super) const fn held(&self) -> Held {
        self.held
    }

    pub(super) fn of_binding(&self, namespace: &str, uid: &str) -> Held {
        self.binding(namespace, uid).map(|binding| binding.held).unwrap_or_default()
    }

    pub(super) fn of_namespaces(&self) -> BTreeMap<Arc<str>, Held> {
        self.namespaces.iter().map(|(name, namespace)| (name.clone(), namespace.held)).collect()
    }

    fn binding(&self, namespace: &str, uid: &str) -> Option<&Binding> {
        self.namespaces.get(namespace)?.bindings.get(uid)
    }

    /// The first record to lose, of the largest binding of the largest namespace.
    fn first_of_largest(&self, claim: &Claim) -> Option<Sequence> {
        let with_claim = |held: Held, is_own: bool| held.bytes.saturating_add(if is_own { claim.cost } else { 0 });
        // Of two that hold the same, the one without the new record loses, then the first by name.
        let (name, namespace) = self.namespaces.iter().max_by_key(|(name, namespace)| {
            let is_own = **name == claim.namespace;
            (with_claim(namespace.held, is_own), !is_own, std::cmp::Reverse(*name))
        })?;
        let is_own_namespace = *name == claim.namespace;
        let (_, binding) = namespace.bindings.iter().max_by_key(|(uid, binding)| {
            let is_own = is_own_namespace && **uid == claim.uid;
            (with_claim(binding.held, is_own), !is_own, std::cmp::Reverse(*uid))
        })?;
        binding.first()
    }
}
