//! Polls receivers for delivery evidence and requeues bindings whose evidence changed.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use kube::ResourceExt as _;

use crate::controllers::Context;
use crate::controllers::metrics::Receivers;
use crate::protocol::evidence::{BindingEvidence, Collected, EvidenceSource};

const INTERVAL: Duration = Duration::from_secs(10);

/// Polls receivers periodically and requeues bindings whose evidence changed. Never returns.
pub async fn follow(context: &Context, source: &dyn EvidenceSource) {
    loop {
        let mut seen: HashMap<String, BindingEvidence> = HashMap::new();
        let Collected { evidence, silent } = source.collect().await;
        for (state, count) in [("answering", evidence.len()), ("silent", silent)] {
            context.metrics.receivers.get_or_create(&Receivers { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let answered = evidence.len();
        for evidence in evidence {
            for (uid, of_binding) in evidence.bindings {
                seen.entry(uid).or_default().merge(of_binding);
            }
        }
        let present: HashSet<String> = context.view.bindings.state().iter().filter_map(|binding| binding.uid()).collect();
        if silent == 0 && answered > 0 {
            context.view.memory.serve_again(&mut seen);
        }
        let changed = context.view.memory.replace_evidence(seen, &present);
        forget_gone(context, present);
        if !changed.is_empty() {
            for binding in context.view.bindings.state_filter(|binding| binding.uid().is_some_and(|uid| changed.contains(&uid))) {
                context.view.triggers.binding(&binding);
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Removes the memory of objects that no longer exist. The reconciliation that removes a finalizer does this at once; this covers
/// all other objects.
fn forget_gone(context: &Context, bindings: HashSet<String>) {
    context.view.memory.keep(&bindings);
    let connections = context.view.connections.state();
    let present: HashSet<String> = connections.iter().filter_map(|connection| connection.uid()).chain(bindings).collect();
    context.writes.keep(&present);
    context.backoff.keep(&present);
}
