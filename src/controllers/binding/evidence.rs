//! Polls receivers for delivery evidence and requeues bindings whose evidence changed.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use kube::ResourceExt as _;

use crate::controllers::Context;
use crate::controllers::metrics::Receivers;
use crate::protocol::evidence::{BindingEvidence, Collected, EvidenceSource};

/// Pause between two polls of the receivers.
const INTERVAL: Duration = Duration::from_secs(10);

/// Polls receivers periodically and requeues bindings whose evidence changed. Never returns.
pub async fn follow(context: &Context, source: &dyn EvidenceSource) {
    loop {
        let mut seen: HashMap<String, BindingEvidence> = HashMap::new();
        let Collected { evidence, silent } = source.collect().await;
        for (state, count) in [("answering", evidence.len()), ("silent", silent)] {
            context.metrics.receivers.get_or_create(&Receivers { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for evidence in evidence {
            for (uid, of_binding) in evidence.bindings {
                seen.entry(uid).or_default().merge(of_binding);
            }
        }
        let present: HashSet<String> = context.view.bindings.state().iter().filter_map(|binding| binding.uid()).collect();
        let changed = replace(context, seen, &present);
        forget_gone(context, present);
        if !changed.is_empty() {
            for binding in context.view.bindings.state_filter(|binding| binding.uid().is_some_and(|uid| changed.contains(&uid))) {
                context.view.triggers.binding(&binding);
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Merges new evidence and returns the UIDs of the bindings whose evidence changed.
fn replace(context: &Context, mut seen: HashMap<String, BindingEvidence>, present: &HashSet<String>) -> HashSet<String> {
    let mut known = context.view.evidence.lock();
    keep_present(&mut known, present);
    // Evidence of a binding that is not in the cache yet is dropped here; the receiver reports it again at the next poll.
    keep_present(&mut seen, present);
    let changed = seen.iter().filter(|(uid, evidence)| known.get(*uid) != Some(*evidence)).map(|(uid, _)| uid.clone()).collect();
    // Bindings without new evidence keep their last evidence, for example while a receiver does not answer.
    known.extend(seen);
    changed
}

/// Removes the memory of objects that no longer exist. The reconciliation that removes a finalizer does this at once; this covers
/// all other objects.
fn forget_gone(context: &Context, bindings: HashSet<String>) {
    let view = &context.view;
    keep_present(&mut view.probes.lock(), &bindings);
    keep_present(&mut view.attempts.lock(), &bindings);
    let connections = view.connections.state();
    let present: HashSet<String> = connections.iter().filter_map(|connection| connection.uid()).chain(bindings).collect();
    context.writes.keep(&present);
    context.backoff.keep(&present);
}

/// Removes entries of objects that no longer exist, including objects whose finalizer somebody else removed.
fn keep_present<T>(known: &mut HashMap<String, T>, present: &HashSet<String>) {
    known.retain(|uid, _| present.contains(uid));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_of_bindings_that_are_not_there() {
        let mut known: HashMap<String, u8> = (0..1000).map(|number| (format!("uid-{number}"), 0)).collect();
        keep_present(&mut known, &["uid-7".to_owned(), "uid-new".to_owned()].into());
        assert_eq!(known.into_keys().collect::<Vec<_>>(), ["uid-7"]);
    }
}
