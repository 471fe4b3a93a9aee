//! What receivers saw, brought to the bindings.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use kube::ResourceExt as _;

use crate::controllers::metrics::Receivers;
use crate::controllers::{Context, locked};
use crate::protocol::evidence::{BindingEvidence, Collected, EvidenceSource};

/// How often receivers are asked.
const INTERVAL: Duration = Duration::from_secs(10);

/// Asks the receivers in a rhythm, and for a reconciliation of each binding that they have news of. Never ends.
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

/// Takes what was seen now and answers the bindings for which it differs.
fn replace(context: &Context, mut seen: HashMap<String, BindingEvidence>, present: &HashSet<String>) -> HashSet<String> {
    let mut known = locked(&context.view.evidence);
    keep_present(&mut known, present);
    // What a receiver tells of a binding that is not known here yet, it tells again.
    keep_present(&mut seen, present);
    let changed = seen.iter().filter(|(uid, evidence)| known.get(*uid) != Some(*evidence)).map(|(uid, _)| uid.clone()).collect();
    // A receiver that does not answer is no news: what it told before stands.
    known.extend(seen);
    changed
}

/// Forgets what is remembered of objects that are gone. Who lets an object go does so at once; this is for the others.
fn forget_gone(context: &Context, bindings: HashSet<String>) {
    let view = &context.view;
    keep_present(&mut locked(&view.probes), &bindings);
    keep_present(&mut locked(&view.attempts), &bindings);
    let connections = view.connections.state();
    let present: HashSet<String> = connections.iter().filter_map(|connection| connection.uid()).chain(bindings).collect();
    context.writes.keep(&present);
    context.backoff.keep(&present);
}

/// Forgets what belongs to objects that are gone, also to those whose finalizer somebody else took off.
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
