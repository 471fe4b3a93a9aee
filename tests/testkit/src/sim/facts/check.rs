//! Compares values with the types of a table.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::table::{Field, Object, Type};
use crate::sim::parameters;

/// The direction of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the provider.
    Request,
    /// From the provider.
    Answer,
}

/// Compares values with types.
pub struct Checker<'a> {
    /// Shared objects by name.
    pub objects: &'a BTreeMap<String, Object>,
    /// Whether null in an answer means an absent field.
    pub null_is_absent: bool,
    /// Whether text may replace a number or a boolean, as in forms.
    pub texts_are_values: bool,
    pub direction: Direction,
}

impl Checker<'_> {
    /// The deviations, each with its place.
    pub fn value(&self, value: &Value, content: &Type, place: &str) -> Vec<String> {
        match content {
            Type::Named(name) => match self.objects.get(name) {
                Some(object) => self.object(value, object, place),
                None => vec![format!("{place}: the table names an object @{name} and does not have it")],
            },
            Type::Object(object) => self.object(value, object, place),
            Type::Array(items) => match value {
                Value::Array(values) => self.items(values, items, place),
                _ => vec![wrong(value, content, place)],
            },
            Type::Map(values) => match value {
                Value::Object(fields) => {
                    fields.iter().flat_map(|(name, value)| self.value(value, values, &format!("{place}.{name}"))).collect()
                }
                _ => vec![wrong(value, content, place)],
            },
            Type::Union(parts) => self.closest(value, parts, content, place),
            plain => {
                if is_a(value, plain) || (self.texts_are_values && is_text_of(value, plain)) {
                    Vec::new()
                } else {
                    vec![wrong(value, plain, place)]
                }
            }
        }
    }

    /// A finding about one item is not repeated for the others.
    fn items(&self, values: &[Value], content: &Type, place: &str) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut findings = Vec::new();
        for (position, value) in values.iter().enumerate() {
            let new = self.value(value, content, "").into_iter().filter(|finding| seen.insert(finding.clone()));
            findings.extend(new.map(|finding| format!("{place}[{position}]{finding}")));
        }
        findings
    }

    /// The findings of the alternative that fits best.
    fn closest(&self, value: &Value, parts: &[Type], content: &Type, place: &str) -> Vec<String> {
        let structured = value.is_object() || value.is_array();
        let findings = parts.iter().filter(|part| !structured || is_structured(part)).map(|part| self.value(value, part, place));
        let best = findings.min_by_key(Vec::len);
        match best {
            Some(findings) if findings.is_empty() || structured => findings,
            _ => vec![wrong(value, content, place)],
        }
    }

    fn object(&self, value: &Value, object: &Object, place: &str) -> Vec<String> {
        let Value::Object(values) = value else { return vec![wrong(value, &Type::Object(Object::default()), place)] };
        let mut findings = Vec::new();
        for field in &object.fields {
            let place = format!("{place}.{}", field.name);
            let found = values.get(&field.name).filter(|value| !self.counts_as_absent(value, field));
            match found {
                None if field.required && !self.is_hidden(field) => findings.push(format!("{place}: missing")),
                None => {}
                Some(_) if self.is_hidden(field) => findings.push(format!("{place}: read-only, yet sent")),
                Some(value) => findings.extend(self.value(value, &field.content, &place)),
            }
        }
        for (name, value) in values.iter().filter(|(name, _)| !object.fields.iter().any(|field| field.name == **name)) {
            let place = format!("{place}.{name}");
            match &object.others {
                Some(others) => findings.extend(self.value(value, others, &place)),
                None => findings.push(format!("{place}: unknown field")),
            }
        }
        findings
    }

    fn counts_as_absent(&self, value: &Value, field: &Field) -> bool {
        value.is_null() && self.null_is_absent && self.direction == Direction::Answer && !field.content.takes_null()
    }

    fn is_hidden(&self, field: &Field) -> bool {
        field.read_only && self.direction == Direction::Request
    }

    /// The deviations of a parameter in path or query.
    pub fn parameter(&self, text: &str, content: &Type, place: &str) -> Vec<String> {
        let texts: Vec<&str> = if matches!(content, Type::Array(_)) { text.split(',').collect() } else { vec![text] };
        let single = if let Type::Array(items) = content { items } else { content };
        let fits = |text: &str| {
            let read = serde_json::from_str::<Value>(text).ok().filter(|value| !value.is_string());
            self.value(&Value::String(text.to_owned()), single, place).is_empty()
                || read.is_some_and(|value| self.value(&value, single, place).is_empty())
        };
        texts.into_iter().filter(|text| !fits(text)).map(|text| format!("{place}: {text:?} is not {single}")).collect()
    }
}

/// Whether a value is the text form of a type.
fn is_text_of(value: &Value, content: &Type) -> bool {
    let Some(text) = value.as_str() else { return false };
    match content {
        Type::Boolean => matches!(parameters::flag(value), Ok(Some(_))),
        _ => serde_json::from_str::<Value>(text).is_ok_and(|read| is_a(&read, content)),
    }
}

fn is_structured(content: &Type) -> bool {
    matches!(content, Type::Any | Type::Array(_) | Type::Map(_) | Type::Named(_) | Type::Object(_) | Type::Literal(_))
}

fn is_a(value: &Value, content: &Type) -> bool {
    let text = value.as_str();
    match content {
        Type::Any => true,
        Type::Null => value.is_null(),
        Type::String => text.is_some(),
        Type::Integer => value.is_i64() || value.is_u64(),
        Type::Number => value.is_number(),
        Type::Boolean => value.is_boolean(),
        Type::DateTime => text.is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
        Type::Date => text.is_some_and(|text| text.len() == "2026-01-31".len() && text.parse::<jiff::civil::Date>().is_ok()),
        Type::Uuid => text.is_some_and(is_uuid),
        Type::Literal(expected) => value == expected,
        Type::Text | Type::Array(_) | Type::Map(_) | Type::Named(_) | Type::Object(_) | Type::Union(_) => false,
    }
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12] && groups.concat().chars().all(|letter| letter.is_ascii_hexdigit())
}

/// Names only the kind of the value, which may be a secret. Enumeration members are named, because they are never secret.
fn wrong(value: &Value, expected: &Type, place: &str) -> String {
    let enumerated = match expected {
        Type::Literal(_) => true,
        Type::Union(parts) => parts.iter().any(|part| matches!(part, Type::Literal(_))),
        _ => false,
    };
    let found = match value {
        Value::String(_) | Value::Number(_) | Value::Bool(_) if enumerated => value.to_string(),
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Number(number) if number.is_f64() => "a number with a fraction".to_owned(),
        Value::Number(_) => "an integer".to_owned(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    format!("{place}: {found}, expected {expected}")
}
