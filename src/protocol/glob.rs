//! Patterns for paths and branches: `*` matches within a segment, `**` across segments.

/// Whether a text matches a pattern in which `*` stands for anything within a segment and `**` for anything at all. Takes time
/// proportional to the product of both lengths, whatever a tenant writes. Callers fold case where it does not matter.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // reached[n]: the pattern so far matches the first n characters.
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

    #[test]
    fn a_star_matches_within_a_segment_and_a_double_star_everything() {
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
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_is_matched_quickly() {
        assert!(!matches(&"*a".repeat(127), &"a".repeat(126)));
        assert!(matches(&"*a".repeat(120), &"a".repeat(255)));
    }

    proptest! {
        #[test]
        fn a_text_without_stars_matches_itself_and_a_double_star(text in "[^*]{0,40}") {
            prop_assert!(matches(&text, &text));
            prop_assert!(matches("**", &text));
            prop_assert_eq!(matches("*", &text), !text.contains('/'));
        }
    }
}
