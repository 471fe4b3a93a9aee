//! Patterns for paths and branches: `*` matches within a segment, `**` across segments.

/// Whether a pattern matches the whole text, byte by byte as given. Callers fold case where it does not matter.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let tokens = tokens(pattern);
    // One row of the usual table: `reached` holds, for each token, whether everything before it has matched so far.
    // Linear in tokens × text, whatever a tenant writes; backtracking would not be.
    let mut reached = vec![false; tokens.len() + 1];
    mark(&tokens, &mut reached, 0);
    for character in text.chars() {
        let mut next = vec![false; tokens.len() + 1];
        for (position, token) in tokens.iter().enumerate() {
            if !reached.get(position).copied().unwrap_or_default() {
                continue;
            }
            match token {
                Token::Literal(literal) if *literal == character => mark(&tokens, &mut next, position + 1),
                Token::Segment if character != '/' => mark(&tokens, &mut next, position),
                Token::Any => mark(&tokens, &mut next, position),
                _ => {}
            }
        }
        reached = next;
    }
    reached.last().copied().unwrap_or_default()
}

enum Token {
    Literal(char),
    Segment,
    Any,
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for character in pattern.chars() {
        match (character, tokens.last()) {
            ('*', Some(Token::Segment | Token::Any)) => {
                tokens.pop();
                tokens.push(Token::Any);
            }
            ('*', _) => tokens.push(Token::Segment),
            (character, _) => tokens.push(Token::Literal(character)),
        }
    }
    tokens
}

/// Marks a position and, since stars match nothing too, those behind the stars that follow.
fn mark(tokens: &[Token], reached: &mut [bool], mut position: usize) {
    loop {
        if let Some(place) = reached.get_mut(position) {
            *place = true;
        }
        if !matches!(tokens.get(position), Some(Token::Segment | Token::Any)) {
            return;
        }
        position += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stay_within_their_segments() {
        for (pattern, text, expected) in [
            ("acme/shop", "acme/shop", true),
            ("acme/shop-*", "acme/shop-api", true),
            ("acme/shop-*", "acme/shop-", true),
            ("acme/*", "acme/apps/shop", false),
            ("acme/**", "acme/apps/shop", true),
            ("**", "acme/apps/shop", true),
            ("*/shop", "acme/shop", true),
            ("*/shop", "acme/apps/shop", false),
            ("**/shop", "acme/apps/shop", true),
            ("release/*", "release/1.0", true),
            ("release/*", "release", false),
            ("", "", true),
            ("*", "", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_their_product() {
        assert!(!matches(&"*a".repeat(200), &"a".repeat(199)));
    }
}
