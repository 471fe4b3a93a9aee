//! Which events a sink wants.

use std::collections::BTreeSet;

use crate::api::v1alpha1::EventKind;
use crate::api::v1alpha1::binding::SinkSpec;
use crate::providers::webhook::Event;

/// The filter of one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    events: Option<BTreeSet<EventKind>>,
    branches: Option<Vec<String>>,
}

impl Filter {
    /// The filter of a sink whose binding names `branch`.
    pub(super) fn new(sink: &SinkSpec, branch: Option<&str>) -> Self {
        let events = sink.events.as_ref().map(|events| events.iter().copied().collect());
        // git forbids `*` in names, so that the name of a branch is a pattern for itself alone.
        let branches = sink.branches.clone().or_else(|| branch.map(|branch| vec![branch.to_owned()]));
        Self { events, branches }
    }

    /// Whether the sink wants an event that the binding asks for.
    pub(super) fn wants(&self, event: &Event) -> bool {
        if self.events.as_ref().is_some_and(|events| !events.contains(&event.kind)) {
            return false;
        }
        let Some(branches) = &self.branches else { return true };
        // A tag is on no branch.
        event.kind == EventKind::Tag || event.branch().is_some_and(|branch| branches.iter().any(|pattern| glob(pattern, branch)))
    }
}

/// Whether a text fits a pattern in which `*` stands for anything within a segment and `**` for anything at all. Takes time in
/// proportion to both lengths, whatever the pattern is.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // reached[n]: the pattern so far fits the first n characters.
    let mut reached: Vec<bool> = std::iter::once(true).chain(text.iter().map(|_| false)).collect();
    let mut pattern = pattern.chars().peekable();
    while let Some(token) = pattern.next() {
        let crosses = token == '*' && pattern.next_if_eq(&'*').is_some();
        let mut before = false;
        let mut next = Vec::with_capacity(reached.len());
        for (at, here) in reached.iter().copied().enumerate() {
            let character = at.checked_sub(1).and_then(|previous| text.get(previous)).copied();
            let fits = match token {
                '*' => here || (next.last().copied().unwrap_or(false) && (crosses || character != Some('/'))),
                literal => before && character == Some(literal),
            };
            next.push(fits);
            before = here;
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::providers::webhook::Change;

    #[test]
    fn stars_stand_for_segments_and_double_stars_for_everything() {
        for (pattern, text, expected) in [
            ("main", "main", true),
            ("main", "main2", false),
            ("main", "mai", false),
            ("", "", true),
            ("", "a", false),
            ("*", "main", true),
            ("*", "release/1", false),
            ("**", "release/1/2", true),
            ("release/*", "release/1.2", true),
            ("release/*", "release/1/2", false),
            ("release/*", "release", false),
            ("release/**", "release/1/2", true),
            ("*/fix-*", "team/fix-1", true),
            ("*/fix-*", "team/sub/fix-1", false),
            ("a**z", "a/b/z", true),
            ("a***z", "a/b/z", true),
            ("*ü", "grün/ü", false),
            ("**ü", "grün/ü", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_longer() {
        assert!(!glob(&"*a".repeat(127), &"a".repeat(126)));
        assert!(glob(&"*a".repeat(120), &"a".repeat(255)));
    }

    proptest! {
        #[test]
        fn a_text_without_stars_fits_itself_and_double_star(text in "[^*]{0,40}") {
            prop_assert!(glob(&text, &text));
            prop_assert!(glob("**", &text));
            prop_assert_eq!(glob("*", &text), !text.contains('/'));
        }
    }

    fn event(kind: EventKind, reference: &str) -> Event {
        Event { kind, reference: Some(reference.into()), change: Change::Updated }
    }

    fn sink(value: serde_json::Value) -> SinkSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn df_22_the_bindings_branch_is_the_default() {
        let filter = Filter::new(&sink(serde_json::json!({"name": "s"})), Some("main"));
        assert!(filter.wants(&event(EventKind::Push, "refs/heads/main")));
        assert!(!filter.wants(&event(EventKind::Push, "refs/heads/other")));
        assert!(!filter.wants(&event(EventKind::PullRequest, "refs/heads/other")), "a pull request is filtered by where it goes");
        assert!(filter.wants(&event(EventKind::Tag, "refs/tags/v1")));
        assert!(!filter.wants(&Event { kind: EventKind::PullRequest, reference: None, change: Change::Updated }));
    }

    #[test]
    fn a_sinks_own_branches_replace_the_default() {
        let filter = Filter::new(&sink(serde_json::json!({"name": "s", "branches": ["release/*"], "events": ["Push"]})), Some("main"));
        assert!(filter.wants(&event(EventKind::Push, "refs/heads/release/1")));
        assert!(!filter.wants(&event(EventKind::Push, "refs/heads/main")));
        assert!(!filter.wants(&event(EventKind::Tag, "refs/tags/v1")), "not among its events");
    }
}
