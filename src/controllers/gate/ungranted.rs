//! Remembers since when no grant has fitted for the hooks of a binding. In memory only: after a restart it counts anew.

use jiff::Timestamp;

use crate::api::v1alpha1::binding::HookTarget;

/// Since when no grant has fitted, for each target of one binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ungranted(Vec<(HookTarget, Timestamp)>);

impl Ungranted {
    /// Since when no grant has fitted for a target; `None` if that is not known.
    #[must_use]
    pub fn since(&self, target: &HookTarget) -> Option<Timestamp> {
        self.0.iter().find(|(known, _)| is_same(known, target)).map(|(_, since)| *since)
    }

    /// The same for these targets alone. A target that was not known before begins now.
    #[must_use]
    pub fn only<'a>(&self, targets: impl IntoIterator<Item = &'a HookTarget>, now: Timestamp) -> Self {
        Self(targets.into_iter().map(|target| (target.clone(), self.since(target).unwrap_or(now))).collect())
    }
}

fn is_same(one: &HookTarget, other: &HookTarget) -> bool {
    one.connection == other.connection && one.repository_id == other.repository_id
}
