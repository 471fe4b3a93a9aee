//! The record of leftover hooks.

use std::ops::Deref;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget};
use crate::protocol::hash::stable_hash;

/// Maximum length of a stored reason, in characters.
const REASON_LENGTH: usize = 300;
/// Maximum number of hook ids in an entry. An entry without ids stands for all hooks of the binding in that repository.
const HOOKS: usize = 64;

/// The leftover hooks of one binding at one target. Contains no URL path and no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leftover {
    /// Namespace of the binding.
    pub namespace: String,
    /// Name of the binding.
    pub name: String,
    /// The connection through which the hooks were made.
    pub connection: ConnectionTarget,
    /// The repository's path.
    pub repository: String,
    /// The repository's stable id.
    #[serde(rename = "repositoryID")]
    pub repository_id: String,
    /// The leftover hooks. If empty, all hooks of the binding in that repository.
    pub hooks: Vec<LeftoverHook>,
    /// Whether it is unknown which hooks were adopted. Then all are handed back and none is deleted.
    #[serde(default)]
    pub hand_back: bool,
    /// Why the hooks were left.
    pub reason: String,
    /// Since when the hooks are leftover.
    pub since: Timestamp,
}

/// One leftover hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftoverHook {
    /// Id of the hook at the provider.
    pub id: String,
    /// Host to which the hook delivers.
    pub host: String,
    /// Whether the hook was adopted. Then it is handed back, not deleted.
    #[serde(default)]
    pub adopted: bool,
}

/// An entry read from the operator's own namespace, which only the operator writes. It cannot be constructed in any other way.
#[derive(Clone, Debug)]
pub struct Stored(Leftover);

impl Deref for Stored {
    type Target = Leftover;

    fn deref(&self) -> &Leftover {
        &self.0
    }
}

impl Stored {
    /// Callers must have read the entry from the operator's own namespace.
    pub(super) const fn new(entry: Leftover) -> Self {
        Self(entry)
    }
}

#[cfg(test)]
impl Stored {
    pub(in crate::controllers) const fn of_test(entry: Leftover) -> Self {
        Self(entry)
    }
}

impl Leftover {
    /// The key of an entry. Each target of a binding has its own entry.
    #[must_use]
    pub fn key(uid: &str, target: &HookTarget) -> String {
        let HookTarget { connection, repository_id, repository, .. } = target;
        let target = [&connection.namespace, &connection.name, repository_id, repository].map(String::as_str).join("\n");
        format!("{uid}.{:016x}", stable_hash(&target))
    }

    pub(super) fn bounded(&self) -> Self {
        let mut entry = self.clone();
        entry.reason = entry.reason.chars().take(REASON_LENGTH).collect();
        entry.hooks.truncate(HOOKS);
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_bounded_however_much_there_is_to_tell() {
        let hook = |id: usize| LeftoverHook { id: id.to_string(), host: "hooks.acme.io".to_owned(), adopted: false };
        let entry = Leftover {
            namespace: "team".to_owned(),
            name: "shop".to_owned(),
            connection: ConnectionTarget { namespace: "platform".to_owned(), name: "acme".to_owned() },
            repository: "acme/shop".to_owned(),
            repository_id: "7".to_owned(),
            hooks: (0..5000).map(hook).collect(),
            hand_back: false,
            reason: "é".repeat(1_000_000),
            since: Timestamp::UNIX_EPOCH,
        };
        let bounded = entry.bounded();
        assert_eq!((bounded.hooks.len(), bounded.reason.chars().count()), (HOOKS, REASON_LENGTH));
        assert!(serde_json::to_string(&bounded).unwrap().len() < 8 * 1024);
    }
}
