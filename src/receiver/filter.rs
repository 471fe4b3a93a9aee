//! Filters events for sinks.

use std::collections::BTreeSet;

use crate::api::v1alpha1::EventKind;
use crate::api::v1alpha1::binding::{SinkSpec, short_branch};
use crate::protocol::glob;
use crate::providers::webhook::Event;

/// The filter of one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    events: Option<BTreeSet<EventKind>>,
    branches: Option<Vec<String>>,
}

impl Filter {
    /// The filter of a sink whose binding has the branch `branch`. Branches may be given by their full name.
    pub(super) fn new(sink: &SinkSpec, branch: Option<&str>) -> Self {
        let events = sink.events.as_ref().map(|events| events.iter().copied().collect());
        // git forbids `*` in names, so a branch name is a pattern that matches only itself.
        let branches = sink.branches.clone().or_else(|| branch.map(|branch| vec![branch.to_owned()]));
        let branches = branches.map(|patterns| patterns.iter().map(|pattern| short_branch(pattern).to_owned()).collect());
        Self { events, branches }
    }

    /// Whether the filter selects an event. The events of the binding itself are checked by the caller.
    pub(super) fn wants(&self, event: &Event) -> bool {
        if self.events.as_ref().is_some_and(|events| !events.contains(&event.kind)) {
            return false;
        }
        let Some(branches) = &self.branches else { return true };
        // A tag is on no branch. An event without a branch from the provider may belong to any: a missed event would be worse
        // than an extra one, and the recipient sees that it names no branch.
        event.kind == EventKind::Tag
            || event.reference.is_none()
            || event.branch().is_some_and(|branch| branches.iter().any(|pattern| glob::matches(pattern, branch)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::webhook::Change;

    fn event(kind: EventKind, reference: &str) -> Event {
        Event { kind, ..Event::of_reference(reference, Change::Updated).unwrap() }
    }

    fn sink(value: serde_json::Value) -> SinkSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn df_22_the_branch_of_the_binding_is_the_default() {
        let filter = Filter::new(&sink(serde_json::json!({"name": "s"})), Some("main"));
        assert!(filter.wants(&event(EventKind::Push, "refs/heads/main")));
        assert!(!filter.wants(&event(EventKind::Push, "refs/heads/other")));
        assert!(!filter.wants(&event(EventKind::PullRequest, "refs/heads/other")), "a pull request is filtered by its target branch");
        assert!(filter.wants(&event(EventKind::Tag, "refs/tags/v1")));
    }

    #[test]
    fn an_event_without_a_branch_passes_every_filter() {
        let untold = Event::of_pull_request(EventKind::PullRequestComment, Some(1), None);
        let of_binding = Filter::new(&sink(serde_json::json!({"name": "s"})), Some("main"));
        let of_sink = Filter::new(&sink(serde_json::json!({"name": "s", "branches": ["release/*"]})), None);
        assert!(of_binding.wants(&untold) && of_sink.wants(&untold));
        let picky = Filter::new(&sink(serde_json::json!({"name": "s", "events": ["Push"]})), Some("main"));
        assert!(!picky.wants(&untold), "not among its events");
    }

    #[test]
    fn branches_may_be_short_or_full_names() {
        for (pattern, branch) in [("refs/heads/main", "main"), ("refs/heads/release/*", "release/1"), ("refs/heads/**", "a/b")] {
            let reference = format!("refs/heads/{branch}");
            let of_sink = Filter::new(&sink(serde_json::json!({"name": "s", "branches": [pattern]})), None);
            assert!(of_sink.wants(&event(EventKind::Push, &reference)), "{pattern}");
            assert!(!of_sink.wants(&event(EventKind::Push, "refs/heads/other-1")) || pattern.ends_with("**"), "{pattern}");
        }
        let of_binding = Filter::new(&sink(serde_json::json!({"name": "s"})), Some("refs/heads/main"));
        assert!(of_binding.wants(&event(EventKind::Push, "refs/heads/main")));
        assert!(!of_binding.wants(&event(EventKind::Push, "refs/heads/other")));
    }

    #[test]
    fn branches_of_a_sink_replace_the_default() {
        let filter = Filter::new(&sink(serde_json::json!({"name": "s", "branches": ["release/*"], "events": ["Push"]})), Some("main"));
        assert!(filter.wants(&event(EventKind::Push, "refs/heads/release/1")));
        assert!(!filter.wants(&event(EventKind::Push, "refs/heads/main")));
        assert!(!filter.wants(&event(EventKind::Tag, "refs/tags/v1")), "not among its events");
    }
}
