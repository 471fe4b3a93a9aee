//! Finds the operation of a path.

use percent_encoding::percent_decode_str;

/// How closely a template matches a path, segment by segment: smaller is closer.
pub type Closeness = Vec<Segment>;

/// The kind of a template segment, in order of closeness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// The segment itself.
    Literal,
    /// A parameter.
    Parameter,
    /// A parameter that matches all remaining segments.
    Rest,
}

/// A path that matches a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    pub closeness: Closeness,
    /// The values of the parameters, decoded.
    pub parameters: Vec<(String, String)>,
}

/// Compares a path, as on the wire, with a template. Segments are split before they are decoded, so an encoded slash is part of a
/// value. No segment is empty.
pub fn fit(template: &str, path: &str, ignores_case: bool) -> Option<Fit> {
    let mut closeness = Vec::new();
    let mut parameters = Vec::new();
    let mut segments = path.strip_prefix('/')?.split('/');
    for expected in template.strip_prefix('/')?.split('/') {
        let Some(name) = expected.strip_prefix('{').and_then(|name| name.strip_suffix('}')) else {
            let found = segments.next()?;
            if found != expected && !(ignores_case && found.eq_ignore_ascii_case(expected)) {
                return None;
            }
            closeness.push(Segment::Literal);
            continue;
        };
        let (name, kind) = name.strip_suffix("...").map_or((name, Segment::Parameter), |name| (name, Segment::Rest));
        let value = match kind {
            Segment::Rest => segments.by_ref().map(decoded).collect::<Option<Vec<_>>>()?.join("/"),
            _ => decoded(segments.next()?)?,
        };
        if value.is_empty() {
            return None;
        }
        closeness.push(kind);
        parameters.push((name.to_owned(), value));
    }
    segments.next().is_none().then_some(Fit { closeness, parameters })
}

fn decoded(segment: &str) -> Option<String> {
    let value = percent_decode_str(segment).decode_utf8().ok()?;
    (!value.is_empty()).then(|| value.into_owned())
}
