//! Parses YAML and records the line of each value, so that findings can refer to it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// Lines of the values of a document: JSON pointer to line number, counted from 1 in the file.
pub(super) type Lines = BTreeMap<String, u64>;

/// The error for text that is not a YAML document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The line in the file, if the parser reports one.
    pub(super) line: Option<u64>,
    /// What is wrong, in one line and without the text itself, which may be a Secret.
    pub(super) problem: String,
}

/// Parses one document. `first_line` is the line in the file where it begins.
pub(super) fn read(text: &str, first_line: u64) -> Result<(Value, Lines), Malformed> {
    let options = serde_saphyr::options! { with_snippet: false };
    let root: Spanned<Node> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map(|location| location.line().max(1) + first_line - 1);
        let problem = error.without_snippet().to_string();
        let problem = problem.lines().next().unwrap_or_default();
        // The parser's message has a line relative to the document; `line` is relative to the file.
        let problem = problem.split(" at line ").next().unwrap_or(problem).to_owned();
        Malformed { line, problem }
    })?;
    let mut lines = Lines::new();
    let value = flatten(root, first_line, "", &mut lines);
    Ok((value, lines))
}

fn flatten(node: Spanned<Node>, first_line: u64, pointer: &str, lines: &mut Lines) -> Value {
    lines.insert(pointer.to_owned(), node.referenced.line().max(1) + first_line - 1);
    match node.value {
        Node::Scalar(value) => value,
        Node::List(items) => {
            let items = items.into_iter().enumerate();
            items.map(|(position, item)| flatten(item, first_line, &format!("{pointer}/{position}"), lines)).collect()
        }
        Node::Map(entries) => {
            let mut map = Map::new();
            for (Key(key), value) in entries {
                let below = child(pointer, &key);
                map.insert(key, flatten(value, first_line, &below, lines));
            }
            Value::Object(map)
        }
    }
}

/// The JSON pointer of a member.
pub(super) fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Key, Spanned<Node>)>),
}

/// A key of a map. Kubernetes converts every scalar key to text.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) => Ok(Self(number.to_string())),
            Value::Bool(value) => Ok(Self(value.to_string())),
            Value::Null | Value::Array(_) | Value::Object(_) => Err(D::Error::custom("a key must be text, a number or a boolean")),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Number::from_f64(value).map(|number| Node::Scalar(number.into())).ok_or_else(|| E::custom("the number is not valid in JSON"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_has_its_line() {
        let text = "a: 1\nb:\n- x: true\n  \"y/z\": null\n- two\nc: {d: 1.5}\n8080: port\n";
        let (value, lines) = read(text, 10).unwrap();
        assert_eq!(value, json!({"a": 1, "b": [{"x": true, "y/z": null}, "two"], "c": {"d": 1.5}, "8080": "port"}));
        for (pointer, line) in [("/a", 10), ("/b/0/x", 12), ("/b/0/y~1z", 13), ("/b/1", 14), ("/c/d", 15), ("/8080", 16)] {
            assert_eq!(lines.get(pointer), Some(&line), "{pointer} of {lines:?}");
        }
    }

    #[test]
    fn malformed_yaml_is_reported_with_its_line_and_without_its_text() {
        for (text, line) in [("a: 1\n  b: canary\n", 21), ("a: [1,\nb: canary\n", 20), ("a: 1\na: canary\n", 21)] {
            let error = read(text, 20).unwrap_err();
            assert_eq!(error.line, Some(line), "{text:?}: {error:?}");
            assert!(!error.problem.contains("canary") && error.problem.len() > 5, "{text:?}: {error:?}");
        }
    }
}
