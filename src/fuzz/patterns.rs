//! Patterns that users and administrators write: globs and hosts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use url::Url;

use crate::network::HostPattern;
use crate::protocol::glob;

/// Number of characters of a pattern and of a text: more than the definitions allow, and few enough for a short run.
const LONGEST: usize = 300;
/// A pattern of this length takes milliseconds when it is matched in proportion to both lengths, and days when it is not.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pattern, a line feed, and the text. The result is the right one, and comes in time.
pub(super) fn glob(data: &[u8]) {
    let input = String::from_utf8_lossy(data);
    let (pattern, text) = input.split_once('\n').unwrap_or((&input, ""));
    let shortened = |text: &str| text.chars().take(LONGEST).collect::<String>();
    let (pattern, text) = (shortened(pattern), shortened(text));
    let began = Instant::now();
    let found = glob::matches(&pattern, &text);
    assert!(began.elapsed() < PATIENCE, "{pattern:?} was matched in {:?}", began.elapsed());
    let characters = |text: &str| text.chars().collect::<Vec<_>>();
    let expected = fits(&characters(&pattern), &characters(&text), &mut HashMap::new());
    assert_eq!(found, expected, "{pattern:?} and {text:?}");
}

/// The meaning of a glob as its definition says it, remembered for each rest of the pattern and of the text.
fn fits(pattern: &[char], text: &[char], known: &mut HashMap<(usize, usize), bool>) -> bool {
    let rests = (pattern.len(), text.len());
    if let Some(known) = known.get(&rests) {
        return *known;
    }
    let (first, after) = text.split_first().map_or((None, text), |(first, after)| (Some(*first), after));
    let found = match pattern {
        [] => first.is_none(),
        ['*', '*', rest @ ..] => fits(rest, text, known) || (first.is_some() && fits(pattern, after, known)),
        ['*', rest @ ..] => fits(rest, text, known) || (first.is_some_and(|first| first != '/') && fits(pattern, after, known)),
        [literal, rest @ ..] => first == Some(*literal) && fits(rest, after, known),
    };
    known.insert(rests, found);
    found
}

/// A pattern means the same when it is read again as it is shown, and there is a URL that it matches.
pub(super) fn host_pattern(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(pattern) = text.parse::<HostPattern>() else { return };
    let shown = pattern.to_string();
    assert_eq!(shown.parse(), Ok(pattern.clone()), "{text:?} is shown as {shown:?}");
    let host = shown.strip_prefix('*').map_or_else(|| shown.clone(), |suffix| format!("a{suffix}"));
    let url = Url::parse(&format!("https://{host}/"));
    assert!(url.is_ok_and(|url| pattern.matches(&url)), "{shown:?} does not match https://{host}/");
}
