//! Removes or escapes hidden characters in text for display: control characters drive terminals and forge log lines, and
//! Unicode's format characters hide text or reverse its order.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character is a control character or one of Unicode's format characters (categories Cc, Zl, Zp and Cf).
#[must_use]
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{890}'..='\u{891}'
                | '\u{8e2}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{110bd}'
                | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Whether a text has no hidden characters.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    // Almost every text is printable ASCII, which is checked several times as fast.
    text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !text.chars().any(is_hidden)
}

/// Replaces hidden characters by JSON escapes, such as `\u001b`. JSON stays valid JSON.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_hidden(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string never fails.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Formats text as one line of at most `most` characters: white space and control characters separate words, other hidden
/// characters are removed.
#[must_use]
pub fn line(text: &str, most: usize) -> String {
    let words = text.split(|character: char| character.is_whitespace() || character.is_control()).filter(|word| !word.is_empty());
    let mut shown = String::new();
    for word in words {
        if !shown.is_empty() {
            shown.push(' ');
        }
        shown.extend(word.chars().filter(|character| !is_hidden(*character)));
        // A character has at most four bytes, so this stops before collecting much more of an endless text than is shown.
        if shown.len() > most.saturating_mul(4) {
            break;
        }
    }
    if shown.chars().count() <= most { shown } else { shown.chars().take(most.saturating_sub(1)).chain(std::iter::once('…')).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_escaped_and_json_stays_valid() {
        assert_eq!(escaped("plain ünïcödé"), "plain ünïcödé");
        assert_eq!(escaped("a\u{1b}[2Jb\u{202e}c\u{e0041}"), "a\\u001b[2Jb\\u202ec\\udb40\\udc41");
        let document = serde_json::json!({"a": "x\u{202e}y\u{2066}\u{e0041}"});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped(&document.to_string())).unwrap(), document);
    }

    #[test]
    fn a_text_becomes_one_line_of_limited_length() {
        assert_eq!(line(" a\r\n\tb\u{0}c \u{202e}d\u{61c}\u{2028}e ", 300), "a b c d e");
        let long = line(&"x".repeat(1_000_000), 10);
        assert_eq!(long, "xxxxxxxxx…");
        assert_eq!(line("", 10), "");
    }
}
