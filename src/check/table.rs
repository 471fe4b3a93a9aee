//! Formats the result of a check as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::result::{CheckResult, Finding, Level, Outcome, Row};
use crate::api::v1alpha1::binding::PlannedAction;
use crate::text::{sanitize, wording};

/// Minimum width for wrapping, in columns.
const LEAST_WIDTH: usize = 60;
/// Maximum width for wrapping, in columns: longer lines are hard to read.
const MOST_WIDTH: usize = 120;
/// Indentation of the lines of a finding.
const INDENT: &str = "         ";

/// Options for formatting a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether to use colours.
    pub colours: bool,
    /// Width of the terminal in columns; `None` if the output is not a terminal, in which case nothing is wrapped.
    pub width: Option<usize>,
}

#[derive(Clone, Copy)]
enum Colour {
    Red,
    Yellow,
    Green,
    Bold,
}

impl Colour {
    const ALL: [Self; 4] = [Self::Red, Self::Yellow, Self::Green, Self::Bold];

    /// The escape sequence that starts the colour.
    const fn sequence(self) -> &'static str {
        match self {
            Self::Red => "\u{1b}[31m",
            Self::Yellow => "\u{1b}[33m",
            Self::Green => "\u{1b}[32m",
            Self::Bold => "\u{1b}[1m",
        }
    }
}

/// The escape sequence that ends every colour.
const PLAIN: &str = "\u{1b}[0m";

impl Style {
    fn paint(self, colour: Colour, text: &str) -> String {
        let text = sanitize::escaped(text);
        if self.colours && !text.trim().is_empty() { format!("{}{text}{PLAIN}", colour.sequence()) } else { text.into_owned() }
    }

    /// Escapes all control sequences except our colours and line breaks, because findings may contain untrusted text.
    fn safe(self, text: &str) -> String {
        let sequences = || Colour::ALL.map(Colour::sequence).into_iter().chain([PLAIN]).filter(|_| self.colours);
        let (mut safe, mut rest) = (String::with_capacity(text.len()), text);
        while !rest.is_empty() {
            let ours = sequences().chain(["\n"]).find(|sequence| rest.starts_with(sequence));
            let length = ours.map_or_else(|| rest.chars().next().map_or(rest.len(), char::len_utf8), str::len);
            let (piece, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
            safe += if ours.is_some() { piece.into() } else { sanitize::escaped(piece) }.as_ref();
            rest = after;
        }
        safe
    }

    /// Indents a text, and wraps it between words if it is too wide.
    fn wrapped(self, text: &str, indent: &str) -> String {
        let room = self.width.map(|width| width.clamp(LEAST_WIDTH, MOST_WIDTH) - indent.len());
        let (mut result, mut line) = (String::new(), String::new());
        for word in text.split_whitespace().map(sanitize::escaped) {
            let full = room.is_some_and(|room| !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room);
            if full {
                result.extend([indent, &line, "\n"]);
                line.clear();
            }
            line.extend([if line.is_empty() { "" } else { " " }, &word]);
        }
        result + indent + &line + "\n"
    }
}

/// Formats a result.
#[must_use]
pub fn table(result: &CheckResult, style: Style) -> String {
    let mut text = objects(&result.objects, style);
    text += &found(&result.objects, style);
    text += &actions(&result.objects, style);
    text += &findings(&result.objects, style);
    for note in &result.notes {
        text += "\n";
        text += style.wrapped(&format!("Note: {note}."), "").trim_end();
    }
    if !result.notes.is_empty() {
        text += "\n";
    }
    style.safe(&(text + "\n" + &summary(result, style)))
}

/// Aligns columns; the last one may have any width.
fn aligned(lines: &[Vec<(String, Option<Colour>)>], style: Style) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        for (position, (cell, _)) in line.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(position) {
                Some(known) => *known = width.max(*known),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for line in lines {
        let mut drawn = String::new();
        for ((cell, colour), width) in line.iter().zip(&widths) {
            let padded = format!("{cell:width$}   ");
            drawn += &colour.map_or_else(|| padded.clone(), |colour| style.paint(colour, &padded));
        }
        // With colours, trailing spaces are inside the colour of the last cell.
        text += if style.colours { &drawn } else { drawn.trim_end() };
        text += "\n";
    }
    text
}

const fn short(kind: &str) -> &str {
    match kind.as_bytes() {
        b"GitProviderConnection" => "connection",
        b"ConnectionGrant" => "grant",
        b"RepoBinding" => "binding",
        _ => kind,
    }
}

fn objects(rows: &[Row], style: Style) -> String {
    let heading = ["KIND", "NAMESPACE", "NAME", "READY", "REASON", "PLAN"];
    let mut lines = vec![heading.map(|title| (title.to_owned(), Some(Colour::Bold))).to_vec()];
    for row in rows {
        let (ready, colour) = match row.outcome {
            Outcome::Ready => ("True", Colour::Green),
            Outcome::NotReady => ("False", Colour::Red),
            Outcome::Unknown => ("Unknown", Colour::Red),
            Outcome::Suspended => ("Suspended", Colour::Yellow),
            Outcome::Deleting => ("Deleting", Colour::Yellow),
            Outcome::NotAsked => ("NotAsked", Colour::Green),
        };
        let reason = row.reason.as_deref().filter(|_| row.outcome != Outcome::Suspended).unwrap_or("-");
        let plain = |text: &str| (text.to_owned(), None);
        lines.push(vec![
            plain(short(&row.kind)),
            plain(&row.namespace),
            plain(&row.name),
            (ready.to_owned(), Some(colour)),
            plain(reason),
            plain(&action_summary(&row.actions)),
        ]);
    }
    aligned(&lines, style)
}

/// What the providers reported about the connections.
fn found(rows: &[Row], style: Style) -> String {
    let mut text = String::new();
    for row in rows.iter().filter(|row| !row.found.is_empty()) {
        text.extend(["  ", &row.namespace, "/", &row.name, "\n"]);
        text += &style.wrapped(&row.found.join("; "), INDENT);
    }
    if text.is_empty() { text } else { format!("\n{}\n{text}", style.paint(Colour::Bold, "FOUND")) }
}

/// The actions in short form: `create`, `update 2`; a dash if there are none.
fn action_summary(actions: &[PlannedAction]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for action in actions {
        *counts.entry(verb(action)).or_default() += 1;
    }
    let words: Vec<String> = counts.into_iter().map(|(verb, count)| if count == 1 { verb } else { format!("{verb} {count}") }).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

fn verb(action: &PlannedAction) -> String {
    action.action.strip_suffix("Hook").unwrap_or(&action.action).to_lowercase()
}

fn actions(rows: &[Row], style: Style) -> String {
    let mut lines = Vec::new();
    for row in rows {
        for action in &row.actions {
            let plain = |text: String| (text, None);
            lines.push(vec![
                (format!("  {}", verb(action)), Some(Colour::Yellow)),
                plain(format!("{}/{}", row.namespace, row.name)),
                plain(action.target.clone()),
                plain(action.reason.clone()),
            ]);
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    format!("\n{}\n{}", style.paint(Colour::Bold, "PLANNED CHANGES AT THE PROVIDERS"), aligned(&lines, style))
}

fn findings(rows: &[Row], style: Style) -> String {
    let mut text = String::new();
    for row in rows {
        for (position, finding) in row.findings.iter().enumerate() {
            // If the next finding has the same remedy, the remedy is printed only there.
            let told_next = row.findings.get(position + 1).is_some_and(|next| next.remedy == finding.remedy);
            let remedy = finding.remedy.as_deref().filter(|_| !told_next);
            text += &finding_lines(row, finding, remedy, style);
        }
    }
    if text.is_empty() { text } else { format!("\n{}\n{text}", style.paint(Colour::Bold, "FINDINGS")) }
}

fn finding_lines(row: &Row, finding: &Finding, remedy: Option<&str>, style: Style) -> String {
    let level = match finding.level {
        Level::Error => style.paint(Colour::Red, "error  "),
        Level::Warning => style.paint(Colour::Yellow, "warning"),
        Level::Note => "note   ".to_owned(),
    };
    let mut text = format!("{level}  {} {}/{}", short(&row.kind), row.namespace, row.name);
    if let (Some(file), Some(line)) = (finding.file.as_ref().or(row.file.as_ref()), finding.line.or(row.line)) {
        let _ = write!(text, "  ({file}:{line})");
    }
    text += "\n";
    let reason = finding.reason.as_ref().map(|reason| format!("{reason}: ")).unwrap_or_default();
    text += &style.wrapped(&format!("{reason}{}", finding.message), INDENT);
    if let Some(hint) = &finding.hint {
        text += &style.wrapped(&format!("In this check: {hint}."), INDENT);
    }
    if let Some(remedy) = remedy {
        text += &style.wrapped(&format!("What to do: {remedy}"), INDENT);
    }
    text
}

fn summary(result: &CheckResult, style: Style) -> String {
    let summary = &result.summary;
    let grants = Some(summary.grants).filter(|grants| *grants > 0).map(|grants| wording::pluralize(grants, "grant"));
    let objects =
        [Some(wording::pluralize(summary.connections, "connection")), grants, Some(wording::pluralize(summary.bindings, "binding"))];
    let objects = objects.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let not_asked = result.objects.iter().filter(|row| row.outcome == Outcome::NotAsked).count();
    let verdict = match (result.ok, summary.not_ready) {
        (true, _) if not_asked > 0 => style.paint(Colour::Green, "the manifests are valid; no provider was contacted"),
        (true, _) => style.paint(Colour::Green, "all objects would become Ready"),
        (false, 0) => {
            style.paint(Colour::Red, "all objects would become Ready, but changes would be made at the providers (--fail-on-plan)")
        }
        (false, 1) => style.paint(Colour::Red, "1 object would not become Ready"),
        (false, count) => style.paint(Colour::Red, &format!("{count} objects would not become Ready")),
    };
    let mut text = format!("{objects}: {verdict}.");
    let planned = result.objects.iter().flat_map(|row| row.actions.iter().cloned()).collect::<Vec<_>>();
    if !planned.is_empty() {
        let _ = write!(text, " Plan: {}.", action_summary(&planned));
    }
    let ignored: usize = summary.ignored.values().sum();
    if ignored > 0 {
        let kinds: Vec<&str> = summary.ignored.keys().map(String::as_str).collect();
        let _ = write!(text, " Not checked: {} of other kinds ({}).", wording::pluralize(ignored, "object"), kinds.join(", "));
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::result::Row;

    fn result() -> CheckResult {
        let key = |name: &str| ("team".to_owned(), name.to_owned());
        let found = vec!["Gitea 1.27.0".to_owned(), "as user ada".to_owned()];
        let ready =
            Row { reason: Some("Succeeded".to_owned()), found, ..Row::new("GitProviderConnection", &key("acme"), None, Outcome::Ready) };
        let mut bad = Row::new("RepoBinding", &key("shop"), None, Outcome::NotReady);
        bad.reason = Some("BranchNotFound".to_owned());
        let sentence = "a sentence of words that is longer than a narrow terminal is wide, and so goes on below itself";
        bad.findings.push(Finding::of(Level::Error, None, "BranchNotFound", sentence));
        CheckResult::of(vec![ready, bad], Vec::new(), BTreeMap::new(), false)
    }

    #[test]
    fn foreign_text_cannot_control_the_terminal() {
        let hostile = "x\u{1b}[2J\u{1b}]0;title\u{7}\r\n\u{202e}y\u{9b}2J";
        let key = (hostile.to_owned(), hostile.to_owned());
        let mut row = Row::new("RepoBinding", &key, None, Outcome::NotReady);
        row.reason = Some(hostile.to_owned());
        row.message = Some(hostile.to_owned());
        row.found = vec![hostile.to_owned()];
        row.findings.push(Finding::of(Level::Error, None, hostile, hostile));
        let result = CheckResult::of(vec![row], vec![hostile.to_owned()], BTreeMap::from([(hostile.to_owned(), 1)]), false);
        for colours in [false, true] {
            let text = table(&result, Style { colours, width: Some(80) });
            let ours = Colour::ALL.iter().fold(text.replace(PLAIN, ""), |text, colour| text.replace(colour.sequence(), ""));
            assert!(ours.lines().all(sanitize::is_plain) && text.contains("\\u001b[2J"), "{}", text.escape_debug());
            assert_eq!(text.contains(PLAIN), colours);
        }
        assert!(result.to_json().lines().all(sanitize::is_plain), "{}", result.to_json());
    }

    #[test]
    fn columns_are_aligned_and_nothing_is_wrapped_outside_a_terminal() {
        let text = table(&result(), Style::default());
        let expected = "\
KIND         NAMESPACE   NAME   READY   REASON           PLAN
connection   team        acme   True    Succeeded        -
binding      team        shop   False   BranchNotFound   -

FOUND
  team/acme
         Gitea 1.27.0; as user ada

FINDINGS
error    binding team/shop
         BranchNotFound: a sentence of words that is longer than a narrow terminal is wide, and so goes on below itself
         What to do: Correct `branch`, remove it, or push the branch. Forgebind checks again every few minutes.

1 connection, 1 binding: 1 object would not become Ready.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_terminal_gets_colours_and_lines_that_fit() {
        let text = table(&result(), Style { colours: true, width: Some(70) });
        assert!(
            text.contains("\u{1b}[31mFalse") && text.contains("\u{1b}[32mTrue") && text.contains("\u{1b}[31merror  \u{1b}[0m"),
            "{text:?}"
        );
        let prose = text.lines().filter(|line| line.starts_with(INDENT));
        assert!(prose.clone().count() > 3 && prose.clone().all(|line| line.chars().count() <= 70), "{text}");
    }
}
