//! What is remembered of each binding between two reconciliations. In memory only: after a restart, bindings that are not known
//! to be settled are probed again.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::attempts::Attempts;
use super::obstacle::Obstacle;
use super::sink_secrets::SinksRead;
use crate::controllers::gate::Ungranted;
use crate::protocol::evidence::BindingEvidence;

#[derive(Clone, Debug, Default)]
pub struct BindingMemory {
    /// Record of the last probe; `None` before the first one.
    pub probe: Option<ProbeRecord>,
    pub attempts: Attempts,
    /// Obstacle that the last attempt to remove hooks met.
    pub obstacle: Option<Obstacle>,
    pub evidence: Option<BindingEvidence>,
    /// Time at which delivery evidence was last written to the status.
    pub evidence_at: Option<Timestamp>,
    /// What was read last for the sinks; `None` if it must be read again.
    pub sinks_read: Option<SinksRead>,
    /// How often a Secret or `ConfigMap` that the spec names has changed.
    pub changed_references: u64,
    /// Since when no grant has fitted for its hooks.
    pub ungranted: Ungranted,
}

/// Record of the last probe of a binding's repository.
#[derive(Clone, Debug, Default)]
pub struct ProbeRecord {
    /// Time of the last probe; `None` if there was none since the start.
    pub at: Option<Timestamp>,
    /// `metadata.generation` at the last probe.
    pub generation: i64,
    /// Time at which the next probe is due.
    pub next: Option<Timestamp>,
    /// Latest time of the next probe, which delivery evidence cannot postpone.
    pub not_after: Option<Timestamp>,
    /// Whether the probe found everything in order. If so, delivery evidence may postpone the next probe; if not, the probe is
    /// repeated after each inspection of the connection, because the inspection may have found the problem fixed.
    pub good: bool,
    /// Inputs of the probe beside the spec.
    pub probe_inputs: ProbeInputs,
}

/// Inputs of a probe beside the spec. If any of them changes, the next probe is due at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeInputs {
    /// Whether the connection was usable.
    pub usable: bool,
    /// Whether writing at the provider was forbidden.
    pub observe_only: bool,
    /// Version of the user's own secret, or the message why it could not be read.
    pub user_secret: Option<String>,
    /// Masked URL at which our receiver takes deliveries; `None` without a public URL or with a custom URL.
    pub receiver: Option<String>,
    /// Whether the repository in the status has a path that the connection does not grant.
    pub known_without_grant: bool,
}

/// The memories of all bindings, by UID.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<String, BindingMemory>>);

impl Memories {
    pub fn get(&self, uid: &str) -> BindingMemory {
        self.0.lock().get(uid).cloned().unwrap_or_default()
    }

    /// Stores the attempts alone, before anything that may fail.
    pub fn store_attempts(&self, uid: &str, attempts: &Attempts) {
        self.0.lock().entry(uid.to_owned()).or_default().attempts = attempts.clone();
    }

    /// Stores the result of a reconciliation. Evidence that arrived meanwhile stays. `written`: whether the status was written;
    /// evidence that was to be written with it still waits otherwise.
    pub fn store(&self, uid: &str, new: BindingMemory, written: bool) {
        let mut known = self.0.lock();
        let memory = known.entry(uid.to_owned()).or_default();
        memory.attempts = new.attempts;
        memory.obstacle = new.obstacle;
        memory.sinks_read = new.sinks_read;
        memory.ungranted = new.ungranted;
        memory.probe = new.probe.or(memory.probe.take());
        if written {
            memory.evidence_at = new.evidence_at;
        }
    }

    /// Makes the next reconciliation of a binding probe again, if it was probed before.
    pub fn probe_at(&self, uid: &str, at: Timestamp) {
        if let Some(probe) = self.0.lock().get_mut(uid).and_then(|memory| memory.probe.as_mut()) {
            probe.next = Some(at);
        }
    }

    /// Makes the next probe of a binding due at a time, unless it is due earlier, and whatever deliveries prove.
    pub fn probe_by(&self, uid: &str, at: Timestamp) {
        if let Some(probe) = self.0.lock().get_mut(uid).and_then(|memory| memory.probe.as_mut()) {
            probe.next = probe.next.map(|next| next.min(at));
            probe.not_after = Some(probe.not_after.map_or(at, |latest| latest.min(at)));
        }
    }

    /// Makes the next reconciliation of a binding read what its sinks need, also if one is reading it now.
    pub fn references_changed(&self, uid: &str) {
        let mut known = self.0.lock();
        let count = &mut known.entry(uid.to_owned()).or_default().changed_references;
        *count = count.wrapping_add(1);
    }

    /// Replaces the evidence of the present bindings, and returns the UIDs of those whose evidence changed. Bindings without new
    /// evidence keep their last one, for example while a receiver does not answer.
    pub fn replace_evidence(&self, mut seen: HashMap<String, BindingEvidence>, present: &HashSet<String>) -> HashSet<String> {
        // Evidence of a binding that is not in the cache yet is dropped here; the receiver reports it again at the next poll.
        seen.retain(|uid, _| present.contains(uid));
        let mut known = self.0.lock();
        let changed = |(uid, mut evidence): (String, BindingEvidence)| {
            let memory = known.entry(uid.clone()).or_default();
            // A receiver that was restarted no longer knows the last delivery, and an older refusal must not count as later.
            let before = memory.evidence.as_ref().and_then(|before| before.last_delivery.as_ref());
            if let Some(before) = before.filter(|before| evidence.last_delivery.as_ref().is_none_or(|last| last.at < before.at)) {
                evidence.last_delivery = Some(before.clone());
            }
            (memory.evidence.replace(evidence) != memory.evidence).then_some(uid)
        };
        seen.into_iter().filter_map(changed).collect()
    }

    /// Adds bindings to the evidence whose Services could not be sent to and which no receiver reports any more: a receiver that
    /// was started again reports only what is wrong. Call it when every receiver has answered.
    pub fn serve_again(&self, seen: &mut HashMap<String, BindingEvidence>) {
        for (uid, memory) in self.0.lock().iter() {
            let Some(mut evidence) = memory.evidence.clone().filter(|_| !seen.contains_key(uid)) else { continue };
            if evidence.serve_again() {
                seen.insert(uid.clone(), evidence);
            }
        }
    }

    /// Begins a term as the leader. Forgets the probes of all bindings, because another leader may have changed what this process
    /// saw when it last led, and since when grants have been missing, because they may not have been missing meanwhile. Attempts
    /// stay, because a forgotten creation would be made twice.
    pub fn begin_term(&self) {
        for memory in self.0.lock().values_mut() {
            memory.probe = None;
            memory.obstacle = None;
            memory.evidence_at = None;
            memory.sinks_read = None;
            memory.ungranted = Ungranted::default();
        }
    }

    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    /// Forgets the bindings that no longer exist, including those whose finalizer somebody else removed.
    pub fn keep(&self, present: &HashSet<String>) {
        self.0.lock().retain(|uid, _| present.contains(uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sink_target::NotServed;

    #[test]
    fn a_service_that_no_receiver_complains_about_any_more_is_served_again() {
        let (memories, present) = (Memories::default(), HashSet::from(["uid-1".to_owned()]));
        let mut complaint = BindingEvidence::default();
        complaint.sinks.entry("ci".to_owned()).or_default().not_served = Some(NotServed::missing("Service team/ci does not exist"));
        memories.replace_evidence(HashMap::from([("uid-1".to_owned(), complaint.clone())]), &present);
        let mut still = HashMap::from([("uid-1".to_owned(), complaint.clone())]);
        memories.serve_again(&mut still);
        assert_eq!(still["uid-1"], complaint, "a report counts as it is");
        let mut none = HashMap::new();
        memories.serve_again(&mut none);
        assert_eq!(memories.replace_evidence(none, &present), present, "the binding is reconciled");
        assert_eq!(memories.get("uid-1").evidence.unwrap().sinks["ci"].not_served, None);
    }

    #[test]
    fn a_probe_is_moved_forward_and_never_back() {
        let (memories, at) = (Memories::default(), |second| Timestamp::from_second(second).unwrap());
        let times = |next: Option<i64>, not_after: Option<i64>, by: i64| {
            let probe = Some(ProbeRecord { next: next.map(at), not_after: not_after.map(at), ..ProbeRecord::default() });
            memories.store("u", BindingMemory { probe, ..BindingMemory::default() }, true);
            memories.probe_by("u", at(by));
            let probe = memories.get("u").probe.unwrap();
            (probe.next.map(Timestamp::as_second), probe.not_after.map(Timestamp::as_second))
        };
        assert_eq!(times(Some(100), None, 50), (Some(50), Some(50)), "deliveries do not postpone it");
        assert_eq!(times(Some(20), Some(30), 50), (Some(20), Some(30)));
        assert_eq!(times(None, None, 50), (None, Some(50)), "it is due already");
        memories.probe_by("unknown", at(50));
        assert!(memories.get("unknown").probe.is_none(), "the first probe is not delayed");
    }

    #[test]
    fn nothing_is_kept_of_bindings_that_are_not_there() {
        let memories = Memories::default();
        for number in 0..1000 {
            memories.references_changed(&format!("uid-{number}"));
        }
        memories.keep(&["uid-7".to_owned(), "uid-new".to_owned()].into());
        assert_eq!(memories.0.lock().keys().collect::<Vec<_>>(), ["uid-7"]);
    }

    #[test]
    fn a_new_term_forgets_probes_and_no_attempts_and_a_result_leaves_newer_evidence_alone() {
        let (memories, now) = (Memories::default(), Timestamp::UNIX_EPOCH);
        let present: HashSet<String> = ["u".to_owned()].into();
        let seen = || HashMap::from([("u".to_owned(), BindingEvidence::default()), ("gone".to_owned(), BindingEvidence::default())]);
        assert_eq!(memories.replace_evidence(seen(), &present), present);
        assert!(memories.replace_evidence(seen(), &present).is_empty(), "no news");
        let probe = Some(ProbeRecord { at: Some(now), ..ProbeRecord::default() });
        let done = BindingMemory { probe, evidence_at: Some(now), ..BindingMemory::default() };
        memories.store("u", done.clone(), false);
        assert_eq!(memories.get("u").evidence_at, None, "the status was not written");
        memories.store("u", done, true);
        memories.store("u", BindingMemory { evidence_at: Some(now), ..BindingMemory::default() }, true);
        let kept = memories.get("u");
        assert!(kept.probe.is_some() && kept.evidence.is_some() && kept.evidence_at == Some(now));
        memories.begin_term();
        let kept = memories.get("u");
        assert!(kept.probe.is_none() && kept.evidence.is_some() && kept.evidence_at.is_none());
        memories.probe_at("u", now);
        assert!(memories.get("u").probe.is_none(), "the first probe is not delayed");
    }
}
