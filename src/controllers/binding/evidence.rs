//! What receivers saw, brought to the bindings.

use std::collections::HashMap;
use std::time::Duration;

use kube::ResourceExt as _;

use crate::controllers::metrics::Receivers;
use crate::controllers::{Context, locked};
use crate::evidence::{BindingEvidence, Collected, EvidenceSource};

/// How often receivers are asked.
const RHYTHM: Duration = Duration::from_secs(10);

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
        let changed = replace(context, seen);
        if !changed.is_empty() {
            for binding in context.view.bindings.state_filter(|binding| binding.uid().is_some_and(|uid| changed.contains(&uid))) {
                context.view.triggers.binding(&binding);
            }
        }
        tokio::time::sleep(RHYTHM).await;
    }
}

/// Takes what was seen now and answers the bindings for which it differs.
fn replace(context: &Context, seen: HashMap<String, BindingEvidence>) -> std::collections::HashSet<String> {
    let mut known = locked(&context.view.evidence);
    let changed = seen.iter().filter(|(uid, evidence)| known.get(*uid) != Some(*evidence)).map(|(uid, _)| uid.clone()).collect();
    // A receiver that does not answer is no news: what it told before stands.
    known.extend(seen);
    changed
}
