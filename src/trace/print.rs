//! Formats chains and lists of deliveries for people, and as JSON.

use std::fmt::Write as _;

use serde_json::Value;

use super::chain::{Chain, Link, LinkState};
use super::deliveries::{Listed, shown};
use crate::api::v1alpha1::deliveries::{RecentDelivery, SinkAnswer};
use crate::text::sanitize;

/// Options for formatting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether to use colours.
    pub colours: bool,
}

/// Maximum length of a line of text, in characters. Objects may be older than the limits of their fields.
const LINE: usize = 2000;

impl LinkState {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "FAIL",
            Self::Unknown => "?",
            Self::Skipped => "-",
        }
    }

    /// The escape sequence of its colour.
    const fn colour(self) -> &'static str {
        match self {
            Self::Ok => "\u{1b}[32m",
            Self::Fail => "\u{1b}[31m",
            Self::Unknown | Self::Skipped => "\u{1b}[33m",
        }
    }
}

/// A text of an object on one line: whoever may write it must not drive the terminal.
pub(super) fn safe(text: &str) -> String {
    sanitize::line(text, LINE)
}

/// Formats chains.
pub(super) fn chains(chains: &[Chain], notes: &[String], style: Style) -> String {
    let parts: Vec<String> = chains.iter().map(|chain| one(chain, style)).collect();
    parts.join("\n") + &noted(notes)
}

fn one(chain: &Chain, style: Style) -> String {
    let Chain { namespace, name, repository, connection, links, basis } = chain;
    // Writing to a string never fails.
    let mut text = safe(&format!("{repository} {namespace}/{name} via {connection}")).replacen(' ', "   ", 1) + "\n\n";
    let width = links.iter().map(|link| link.name.chars().count()).max().unwrap_or_default();
    for Link { name: link, state, text: told, .. } in links {
        let word = format!("{:4}", state.word());
        let word = if style.colours { format!("{}{word}\u{1b}[0m", state.colour()) } else { word };
        let _ = writeln!(text, "  {word}  {link:width$}  {}", safe(told));
    }
    if let Some((link, fix)) = chain.broken().and_then(|link| Some((link, link.fix.as_ref()?))) {
        let _ = writeln!(text, "\nFix ({}): {}", safe(&link.name), safe(fix));
    }
    text + "\n" + basis + "\n"
}

/// Formats lists of deliveries.
pub(super) fn deliveries(lists: &[Listed], notes: &[String], style: Style) -> String {
    let parts: Vec<String> = lists.iter().map(|list| list_of(list, style)).collect();
    parts.join("\n") + &noted(notes)
}

fn list_of(list: &Listed, style: Style) -> String {
    let heading = safe(&format!("{} {}/{}", list.repository, list.namespace, list.name)).replacen(' ', "   ", 1) + "\n\n";
    if list.deliveries.is_empty() {
        return heading + "  no delivery is known; the list is written within about a minute\n";
    }
    let rows: Vec<[String; 7]> = std::iter::once(["TIME", "EVENT", "REF", "SHA", "OUTCOME", "ID", "SINKS"].map(str::to_owned))
        .chain(list.deliveries.iter().map(row))
        .collect();
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = heading;
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>().join("   ");
        let failed = number.checked_sub(1).and_then(|number| list.deliveries.get(number)).is_some_and(|entry| entry.outcome.is_failure());
        let cells = cells.trim_end();
        let (begin, end) = if failed && style.colours { ("\u{1b}[31m", "\u{1b}[0m") } else { ("", "") };
        text.extend(["  ", begin, cells, end, "\n"]);
    }
    text
}

fn row(delivery: &RecentDelivery) -> [String; 7] {
    let or_dash = |text: Option<String>| text.filter(|text| !text.is_empty()).map_or_else(|| "-".to_owned(), |text| safe(&text));
    let count = delivery.count.map(|count| format!(" x{count}")).unwrap_or_default();
    let sinks: Vec<String> = delivery.sinks.iter().map(sink).collect();
    let last = delivery.reason.clone().unwrap_or_else(|| sinks.join(", "));
    [
        shown(&delivery.time),
        or_dash(delivery.event.map(|event| format!("{event:?}"))),
        or_dash(delivery.reference.clone()),
        or_dash(delivery.sha.clone()),
        format!("{:?}{count}", delivery.outcome),
        or_dash(delivery.id.clone()),
        or_dash(Some(last)),
    ]
}

fn sink(answer: &SinkAnswer) -> String {
    let error = answer.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
    format!("{}: {:?}{error}", answer.name, answer.state)
}

/// Formats a JSON document. Hidden characters in its texts are escaped.
pub(super) fn json(document: &Value) -> String {
    format!("{document:#}").lines().map(|line| sanitize::escaped(line) + "\n").collect()
}

pub(super) fn noted(notes: &[String]) -> String {
    notes.iter().flat_map(|note| ["\nNote: ".to_owned(), safe(note), ".\n".to_owned()]).collect()
}
