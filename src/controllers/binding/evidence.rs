//! Polls receivers for delivery evidence, requeues bindings whose evidence changed, and writes the lists of their last deliveries.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::warn;

use super::inbox::Inbox;
use super::recent;
use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::deliveries::RecentDelivery;
use crate::controllers::metrics::{Kind, Receivers};
use crate::controllers::runtime::status;
use crate::controllers::{Context, Error, foreign_owner_message};
use crate::protocol::evidence::{BindingEvidence, Collected, Cursors, EvidenceSource};

const INTERVAL: Duration = Duration::from_secs(10);
/// Minimum time between two writes of lists, of all bindings together.
const BETWEEN_WRITES: Duration = Duration::from_millis(100);

/// Polls receivers periodically. Never returns.
pub async fn follow(context: &Context, source: &dyn EvidenceSource) {
    let (inbox, filled) = (Mutex::new(Inbox::default()), Notify::new());
    tokio::join!(poll(context, source, &inbox, &filled), write(context, &inbox, &filled));
}

async fn poll(context: &Context, source: &dyn EvidenceSource, inbox: &Mutex<Inbox>, filled: &Notify) {
    // As old as the inbox: another leader may not have written what an earlier inbox held.
    let mut cursors = Cursors::default();
    loop {
        let mut seen: HashMap<String, BindingEvidence> = HashMap::new();
        let ask = inbox.lock().ask();
        let Collected { evidence, silent } = source.collect(ask, &mut cursors).await;
        for (state, count) in [("answering", evidence.len()), ("silent", silent)] {
            context.metrics.receivers.get_or_create(&Receivers { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let answered = evidence.len();
        let now = context.view.clock.now();
        let namespaces = namespaces(context);
        for evidence in evidence {
            for (uid, of_binding) in evidence.bindings {
                add(&mut seen, uid, of_binding);
            }
            let mut inbox = inbox.lock();
            for (uid, list) in evidence.recent.bindings {
                if let Some(namespace) = namespaces.get(&uid) {
                    inbox.add(namespace, &uid, list, now);
                }
            }
        }
        let present: HashSet<String> = namespaces.keys().cloned().collect();
        if silent == 0 && answered > 0 {
            context.view.memory.serve_again(&mut seen);
        }
        {
            let mut inbox = inbox.lock();
            for (uid, evidence) in &seen {
                if let Some(namespace) = namespaces.get(uid) {
                    inbox.count(namespace, uid, &evidence.turned_away, now);
                }
            }
            inbox.keep(&namespaces);
        }
        filled.notify_one();
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

/// The namespace of each binding, by UID.
fn namespaces(context: &Context) -> HashMap<String, String> {
    let bindings = context.view.bindings.state();
    bindings.iter().filter_map(|binding| Some((binding.uid()?, binding.namespace()?))).collect()
}

/// Adds the evidence of one receiver. The first one is taken as it is: merging it into nothing would look as if another receiver
/// had not carried out a request yet.
fn add(seen: &mut HashMap<String, BindingEvidence>, uid: String, of_binding: BindingEvidence) {
    match seen.entry(uid) {
        Entry::Occupied(mut known) => known.get_mut().merge(of_binding),
        Entry::Vacant(slot) => {
            slot.insert(of_binding);
        }
    }
}

/// Writes the lists that wait. Never returns.
async fn write(context: &Context, inbox: &Mutex<Inbox>, filled: &Notify) {
    loop {
        let next = inbox.lock().next(context.view.clock.now());
        let Some(next) = next else {
            // A list that waits for the end of its pause is found at the next poll.
            filled.notified().await;
            continue;
        };
        if let Err(error) = write_list(context, &next.uid, &next.reported).await {
            warn!(uid = next.uid, %error, "the list of the last deliveries was not written; trying again");
            inbox.lock().put_back(next, context.view.clock.now());
        }
        tokio::time::sleep(BETWEEN_WRITES).await;
    }
}

/// Writes the list of one binding, if it changed. The cache does not have the list, so it is read from the API server.
async fn write_list(context: &Context, uid: &str, reported: &[RecentDelivery]) -> Result<(), Error> {
    let Some(cached) = context.view.bindings.find(|binding| binding.uid().as_deref() == Some(uid)) else { return Ok(()) };
    if cached.is_being_deleted() || foreign_owner_message(&*cached, &context.view.keys.fingerprint).is_some() {
        return Ok(());
    }
    let name = ObjectRef::from_obj(&*cached);
    let api: Api<RepoBinding> = Api::namespaced(context.client.clone(), name.namespace.as_deref().unwrap_or_default());
    // The controller may list bindings, and needs no other right for this.
    let found = api.list(&ListParams::default().fields(&format!("metadata.name={}", name.name))).await?.items;
    let Some(object) = found.into_iter().find(|object| object.uid().as_deref() == Some(uid)) else { return Ok(()) };
    let before = object.status.as_ref().map(|status| status.recent_deliveries.as_slice()).unwrap_or_default();
    let turned_away = context.view.memory.get(uid).evidence.map(|evidence| evidence.turned_away).unwrap_or_default();
    let list = recent::merged(before, reported, &turned_away);
    if list != before {
        status::put_deliveries(context, &object, &list).await?;
        context.metrics.status_writes.get_or_create(&Kind { kind: "RepoBinding" }).inc();
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_to_redeliver_is_carried_out_once_every_receiver_says_so() {
        let done = |value: Option<&str>| BindingEvidence { redelivered: value.map(str::to_owned), ..BindingEvidence::default() };
        let merged = |receivers: &[Option<&str>]| {
            let mut seen = HashMap::new();
            for value in receivers {
                add(&mut seen, "uid".to_owned(), done(*value));
            }
            seen.remove("uid").and_then(|evidence| evidence.redelivered)
        };
        assert_eq!(merged(&[Some("now")]).as_deref(), Some("now"));
        assert_eq!(merged(&[Some("now"), Some("now")]).as_deref(), Some("now"));
        assert_eq!(merged(&[Some("now"), None]), None);
        assert_eq!(merged(&[Some("now"), Some("earlier")]), None);
    }
}
