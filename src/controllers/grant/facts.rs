//! Gathers the facts about one grant from the caches. No call.

use std::sync::Arc;

use jiff::Timestamp;

use super::usage;
use crate::api::v1alpha1::{ConnectionGrant, GitProviderConnection};
use crate::controllers::{Managed as _, View};
use crate::protocol::grant::Rule;

/// The facts about one grant.
pub struct Facts {
    /// The grant.
    pub object: Arc<ConnectionGrant>,
    /// What it says; `None` while it is being deleted.
    pub rule: Option<Rule>,
    /// Whether it names or selects a connection that exists.
    pub has_connection: bool,
    /// Whether this installation reports about it.
    pub is_ours: bool,
    /// Number of bindings that it allows.
    pub bindings: i64,
    /// When the status was written last, as far as is known.
    pub written_at: Option<Timestamp>,
    /// The present moment.
    pub now: Timestamp,
}

impl Facts {
    /// Reads the facts.
    #[must_use]
    pub fn read(view: &View, object: &Arc<ConnectionGrant>, written_at: Option<Timestamp>) -> Self {
        let rule = Rule::of(object);
        let connections = rule.as_ref().map(|rule| usage::connections_of(view, rule)).unwrap_or_default();
        Self {
            is_ours: rule.is_some() && is_ours(&connections, &view.keys.fingerprint),
            has_connection: !connections.is_empty(),
            bindings: rule.as_ref().map_or(0, |rule| usage::of(view, rule)),
            object: Arc::clone(object),
            rule,
            written_at,
            now: view.clock.now(),
        }
    }
}

/// Whether this installation reports about a grant of these connections. A grant follows its connections: of several installations,
/// the one that manages the first of them by name. Before any of them is claimed, nobody knows. About a grant without a connection
/// all say the same.
fn is_ours(connections: &[Arc<GitProviderConnection>], fingerprint: &str) -> bool {
    let mut claimed: Vec<_> =
        connections.iter().filter_map(|known| Some((known.metadata.name.as_deref(), known.installation()?))).collect();
    claimed.sort_unstable();
    connections.is_empty() || claimed.first().is_some_and(|(_, installation)| *installation == fingerprint)
}
