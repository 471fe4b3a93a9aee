//! Reads and writes the notation of the tables, which is described at the top of `additions.facts`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use forgebind::api::v1alpha1::ProviderKind;
use http::Method;
use serde_json::Value;

use super::table::{Body, Field, Object, Operation, Table, Type};

const STEP: usize = 2;

/// Whether each group of facts must give its evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// An extracted table: its evidence is the description.
    OfTheDescription,
    /// Facts written by hand.
    OfEachGroup,
}

/// A line without its indentation, and the more indented lines below it.
struct Line<'a> {
    number: usize,
    text: &'a str,
    below: Vec<Line<'a>>,
}

/// Reads tables by provider.
///
/// # Errors
///
/// Every line that is not valid, with its number.
pub fn read(text: &str, evidence: Evidence) -> Result<BTreeMap<String, Table>, Vec<String>> {
    let mut reader = Reader { errors: Vec::new() };
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line)).peekable();
    let mut meaningful = std::iter::from_fn(|| {
        lines.find(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with("# ") && line.trim() != "#")
    })
    .peekable();
    let top = nested(&mut meaningful, 0, &mut reader.errors);
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    let (mut provider, mut shown) = (None, evidence == Evidence::OfTheDescription);
    for line in &top {
        let (word, rest) = line.text.split_once(' ').unwrap_or((line.text, ""));
        match word {
            "provider" => {
                if !ProviderKind::ALL.iter().any(|kind| kind.flag() == rest) {
                    reader.complain(line, "no such provider");
                }
                provider = Some(rest.to_owned());
                shown = evidence == Evidence::OfTheDescription;
                tables.entry(rest.to_owned()).or_default();
            }
            "evidence" => shown = !rest.trim().is_empty(),
            _ => {
                let Some(table) = provider.as_ref().and_then(|provider| tables.get_mut(provider)) else {
                    reader.complain(line, "facts before the provider's name");
                    continue;
                };
                if !shown {
                    reader.complain(line, "no evidence is given for this");
                }
                reader.top(line, word, rest, table);
            }
        }
    }
    if reader.errors.is_empty() { Ok(tables) } else { Err(reader.errors) }
}

fn nested<'a>(
    lines: &mut std::iter::Peekable<impl Iterator<Item = (usize, &'a str)>>,
    indentation: usize,
    errors: &mut Vec<String>,
) -> Vec<Line<'a>> {
    let mut siblings: Vec<Line<'a>> = Vec::new();
    while let Some((number, line)) = lines.peek().copied() {
        let depth = line.len() - line.trim_start().len();
        if depth < indentation {
            break;
        }
        if depth > indentation {
            let below = nested(lines, depth, errors);
            match siblings.last_mut() {
                Some(parent) if depth == indentation + STEP => parent.below = below,
                _ => errors.push(format!("line {number}: indented by {depth}, under something indented by {indentation}")),
            }
            continue;
        }
        lines.next();
        siblings.push(Line { number, text: line.trim(), below: Vec::new() });
    }
    siblings
}

struct Reader {
    errors: Vec<String>,
}

impl Reader {
    fn complain(&mut self, line: &Line<'_>, what: &str) {
        self.errors.push(format!("line {}: {what}: {}", line.number, line.text));
    }

    fn top(&mut self, line: &Line<'_>, word: &str, rest: &str, table: &mut Table) {
        match word {
            "object" => {
                let object = self.object(&line.below);
                let name = rest.strip_prefix('@').unwrap_or_default();
                if name.is_empty() || table.objects.insert(name.to_owned(), object).is_some() {
                    self.complain(line, "an object without a name, or a second one of that name");
                }
            }
            "null" if rest == "is absent" => table.null_is_absent = true,
            "paths" if rest == "ignore case" => table.ignores_case = true,
            "parameters" if rest == "anywhere" => table.parameters_anywhere = true,
            "every" if rest == "operation" => {
                let operation = self.operation(&line.below, Method::GET, "/");
                table.common.extend(operation.answers);
            }
            "alias" => match rest.split_once(' ') {
                Some((alias, original)) => table.aliases.push((alias.to_owned(), original.to_owned())),
                None => self.complain(line, "an alias is two prefixes of paths"),
            },
            _ => match Method::from_bytes(word.as_bytes()) {
                Ok(method) if word.chars().all(|letter| letter.is_ascii_uppercase()) && rest.starts_with('/') => {
                    if table.operation(&method, rest).is_some() {
                        self.complain(line, "a second operation of that name");
                    }
                    let operation = self.operation(&line.below, method, rest);
                    table.operations.push(operation);
                }
                _ => self.complain(line, "neither an operation nor an object"),
            },
        }
    }

    fn operation(&mut self, lines: &[Line<'_>], method: Method, template: &str) -> Operation {
        let mut operation = Operation::new(method, template);
        for line in lines {
            let (word, rest) = line.text.split_once(' ').unwrap_or((line.text, ""));
            match (word, word.parse::<u16>()) {
                ("like", _) => operation.like = Some(rest.to_owned()),
                ("body" | "body!", _) => {
                    operation.body = Some(Body { required: word.ends_with('!'), content: self.content(line, rest) });
                }
                (_, Ok(status)) => {
                    let content = (!rest.is_empty()).then(|| self.content(line, rest));
                    if operation.answers.insert(status, content).is_some() {
                        self.complain(line, "a second answer with that status");
                    }
                }
                _ if word.starts_with('?') => self.parameter(line, word.trim_start_matches('?'), rest, &mut operation.query),
                _ if word.starts_with('{') => {
                    let name = word.trim_start_matches('{').trim_end_matches('}');
                    if !template.contains(&format!("{{{name}}}")) {
                        self.complain(line, "no such parameter in the path");
                    }
                    self.parameter(line, name, rest, &mut operation.path);
                }
                _ => self.complain(line, "neither a parameter nor a body nor a status"),
            }
        }
        operation
    }

    fn parameter(&mut self, line: &Line<'_>, name: &str, rest: &str, parameters: &mut Vec<Field>) {
        let field = self.field(line, name, rest);
        if parameters.iter().any(|present| present.name == field.name) {
            self.complain(line, "a second parameter of that name");
        }
        parameters.push(field);
    }

    fn object(&mut self, lines: &[Line<'_>]) -> Object {
        let mut object = Object::default();
        for line in lines {
            let (name, rest) = line.text.split_once(' ').unwrap_or((line.text, ""));
            if name == "*" {
                object.others = Some(Box::new(self.content(line, rest)));
                continue;
            }
            let field = self.field(line, name, rest);
            if object.field(&field.name).is_some() {
                self.complain(line, "a second field of that name");
            }
            object.fields.push(field);
        }
        object
    }

    fn field(&mut self, line: &Line<'_>, name: &str, rest: &str) -> Field {
        let (expression, read_only) = rest.strip_suffix(" read-only").map_or((rest, false), |expression| (expression, true));
        let (name, required) = name.strip_suffix('!').map_or((name, false), |name| (name, true));
        Field { name: name.to_owned(), required, read_only, content: self.content(line, expression) }
    }

    /// A type. The lines below describe its inline object, if it has one.
    fn content(&mut self, line: &Line<'_>, expression: &str) -> Type {
        let mut content = read_type(expression).unwrap_or_else(|| {
            self.complain(line, "not a type");
            Type::Any
        });
        let object = self.object(&line.below);
        match content.object_in_place() {
            Some(place) => *place = object,
            None if line.below.is_empty() => {}
            None => self.complain(line, "only below `object` fields can be described"),
        }
        content
    }
}

/// Parses a type. `object` becomes an object without fields.
pub fn read_type(expression: &str) -> Option<Type> {
    let (content, rest) = union(expression)?;
    rest.is_empty().then_some(content)
}

fn union(text: &str) -> Option<(Type, &str)> {
    let (first, mut rest) = single(text)?;
    let mut parts = vec![first];
    while let Some(further) = rest.strip_prefix('|') {
        let (part, left) = single(further)?;
        parts.push(part);
        rest = left;
    }
    Some((Type::union(parts), rest))
}

fn single(text: &str) -> Option<(Type, &str)> {
    if let Some(inner) = text.strip_prefix('[') {
        let (items, rest) = union(inner)?;
        return Some((Type::Array(Box::new(items)), rest.strip_prefix(']')?));
    }
    if let Some(inner) = text.strip_prefix('{') {
        let (values, rest) = union(inner)?;
        return Some((Type::Map(Box::new(values)), rest.strip_prefix('}')?));
    }
    if text.starts_with('"') {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        let value = values.next()?.ok()?;
        return Some((Type::Literal(value), text.get(values.byte_offset()..)?));
    }
    let end = text.find(['|', ']', '}']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if let Some(name) = word.strip_prefix('@') {
        return (!name.is_empty()).then(|| (Type::Named(name.to_owned()), rest));
    }
    let content = match word {
        "any" => Type::Any,
        "text" => Type::Text,
        "null" => Type::Null,
        "string" => Type::String,
        "integer" => Type::Integer,
        "number" => Type::Number,
        "boolean" => Type::Boolean,
        "date-time" => Type::DateTime,
        "date" => Type::Date,
        "uuid" => Type::Uuid,
        "object" => Type::Object(Object::default()),
        _ => Type::Literal(serde_json::from_str(word).ok()?),
    };
    Some((content, rest))
}

/// Writes a table, without the provider's name.
pub fn write(table: &Table) -> String {
    let mut text = String::new();
    if table.null_is_absent {
        text.push_str("null is absent\n");
    }
    if table.ignores_case {
        text.push_str("paths ignore case\n");
    }
    if table.parameters_anywhere {
        text.push_str("parameters anywhere\n");
    }
    for (alias, original) in &table.aliases {
        let _ = writeln!(text, "alias {alias} {original}");
    }
    if !table.common.is_empty() {
        text.push_str("\nevery operation\n");
        write_answers(&mut text, &table.common);
    }
    for operation in &table.operations {
        let _ = writeln!(text, "\n{}", operation.name());
        if let Some(like) = &operation.like {
            let _ = writeln!(text, "  like {like}");
        }
        for parameter in &operation.path {
            let _ = writeln!(text, "  {{{}}} {}", parameter.name, parameter.content);
        }
        for parameter in &operation.query {
            write_field(&mut text, STEP, "?", parameter);
        }
        if let Some(body) = &operation.body {
            let _ = writeln!(text, "  body{} {}", mark(body.required), body.content);
            write_object_in_place(&mut text, STEP, &body.content);
        }
        write_answers(&mut text, &operation.answers);
    }
    for (name, object) in &table.objects {
        let _ = writeln!(text, "\nobject @{name}");
        write_object(&mut text, 0, object);
    }
    text
}

fn write_answers(text: &mut String, answers: &BTreeMap<u16, Option<Type>>) {
    for (status, content) in answers {
        match content {
            Some(content) => {
                let _ = writeln!(text, "  {status} {content}");
                write_object_in_place(text, STEP, content);
            }
            None => {
                let _ = writeln!(text, "  {status}");
            }
        }
    }
}

fn mark(required: bool) -> &'static str {
    if required { "!" } else { "" }
}

fn write_field(text: &mut String, indentation: usize, sign: &str, field: &Field) {
    let (name, required, read_only) = (&field.name, mark(field.required), if field.read_only { " read-only" } else { "" });
    let _ = writeln!(text, "{:indentation$}{sign}{name}{required} {}{read_only}", "", field.content);
    write_object_in_place(text, indentation, &field.content);
}

fn write_object_in_place(text: &mut String, indentation: usize, content: &Type) {
    if let Some(object) = content.clone().object_in_place() {
        write_object(text, indentation, object);
    }
}

fn write_object(text: &mut String, indentation: usize, object: &Object) {
    let indentation = indentation + STEP;
    for field in &object.fields {
        write_field(text, indentation, "", field);
    }
    if let Some(others) = &object.others {
        let _ = writeln!(text, "{:indentation$}* {others}", "");
        write_object_in_place(text, indentation, others);
    }
}
