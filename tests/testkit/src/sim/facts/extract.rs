//! Extracts an API's official description, in `OpenAPI` 3 or Swagger 2, into our own fact table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Map, Value, json};

use crate::components::repository_root;
use crate::sim::facts::table::{Body, Field, Object, Operation, Table, Type};

/// Longer enumerations are replaced by their plain type.
pub const LONGEST_ENUMERATION: usize = 40;

const METHODS: [Method; 6] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD];

/// A provider's description of its API.
pub struct Description {
    /// What all its paths begin with; the API's base has it already.
    pub base: String,
    /// Ends of templates whose last parameter takes several segments, where the description has no mark for it.
    pub rests: Vec<String>,
}

/// Extracts the documents that together describe one API.
pub fn extract(description: &Description, documents: &[Value]) -> Result<Table> {
    let mut table = Table { null_is_absent: documents.iter().any(|document| document["swagger"].is_string()), ..Table::default() };
    for document in documents {
        let mut reader = Reader { description, document, objects: BTreeMap::new() };
        for (path, item) in members(&document["paths"]) {
            for method in &METHODS {
                let operation = &item[method.as_str().to_lowercase().as_str()];
                if operation.is_object() {
                    let extracted = reader.operation(method, path, item, operation).with_context(|| format!("{method} {path}"))?;
                    table.operations.extend(extracted);
                }
            }
        }
        for (name, object) in reader.objects {
            let present = table.objects.insert(name.clone(), object.clone());
            ensure!(present.is_none_or(|present| present == object), "two documents describe {name} differently");
        }
    }
    let order = |operation: &Operation| METHODS.iter().position(|method| *method == operation.method);
    table.operations.sort_by_key(|operation| (operation.template.clone(), order(operation)));
    Ok(table)
}

struct Reader<'a> {
    description: &'a Description,
    document: &'a Value,
    objects: BTreeMap<String, Object>,
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

impl<'a> Reader<'a> {
    fn resolved(&self, value: &'a Value) -> Result<&'a Value> {
        let Some(reference) = value["$ref"].as_str() else { return Ok(value) };
        let pointer = reference.strip_prefix('#').with_context(|| format!("{reference} is in another document"))?;
        self.resolved(self.document.pointer(pointer).with_context(|| format!("{reference} is not there"))?)
    }

    /// The operation, and its variants without the optional parameters of the path.
    fn operation(&mut self, method: &Method, path: &str, item: &'a Value, described: &'a Value) -> Result<Vec<Operation>> {
        let template = path.strip_prefix(self.description.base.as_str()).context("not below the base")?.to_owned();
        let mut operation = Operation::new(method.clone(), template);
        let mut parameters: Vec<&Value> = Vec::new();
        for parameter in elements(&item["parameters"]).chain(elements(&described["parameters"])) {
            parameters.push(self.resolved(parameter)?);
        }
        let mut without = Vec::new();
        for parameter in parameters {
            let name = parameter["name"].as_str().context("a parameter has no name")?;
            match parameter["in"].as_str() {
                Some("path") => {
                    let content = self.parameter(parameter)?;
                    if content != Type::String {
                        operation.path.push(field(name, true, content));
                    }
                    if parameter["x-ms-required"] == json!(false) {
                        without.push(format!("/{{{name}}}"));
                    }
                    self.mark_rest(&mut operation.template, name, parameter);
                }
                Some("query") => {
                    operation.query.push(field(name, parameter["required"] == json!(true), self.parameter(parameter)?));
                }
                Some("body") => {
                    let content = self.content(&parameter["schema"])?;
                    operation.body = Some(Body { required: parameter["required"] == json!(true), content });
                }
                Some("header" | "cookie") => {}
                other => anyhow::bail!("a parameter in {other:?}"),
            }
        }
        operation.query.sort_by(|one, other| one.name.cmp(&other.name));
        if described["requestBody"].is_object() {
            let body = self.resolved(&described["requestBody"])?;
            let content = self.media(&body["content"])?.unwrap_or(Type::Text);
            operation.body = Some(Body { required: body["required"] == json!(true), content });
        }
        for (status, answer) in members(&described["responses"]) {
            let answer = self.resolved(answer)?;
            let content =
                if answer["schema"].is_object() { Some(self.content(&answer["schema"])?) } else { self.media(&answer["content"])? };
            operation.answers.insert(status.parse().context("a status that is not a number")?, content);
        }
        let like = without.iter().map(|left_out| Operation {
            like: Some(operation.template.clone()),
            ..Operation::new(method.clone(), operation.template.replace(left_out, ""))
        });
        let mut operations: Vec<_> = like.collect();
        operations.push(operation);
        Ok(operations)
    }

    fn mark_rest(&self, template: &mut String, name: &str, parameter: &Value) {
        let marked = parameter["x-multi-segment"] == json!(true);
        let listed = self.description.rests.iter().any(|rest| rest.ends_with(&format!("{{{name}}}")) && template.ends_with(rest.as_str()));
        if marked || listed {
            *template = template.replace(&format!("{{{name}}}"), &format!("{{{name}...}}"));
        }
    }

    /// Swagger 2 describes a parameter inline, `OpenAPI` 3 by a schema or by its media types.
    fn parameter(&mut self, parameter: &'a Value) -> Result<Type> {
        match (&parameter["schema"], &parameter["content"]) {
            (Value::Object(_), _) => self.content(&parameter["schema"]),
            (_, Value::Object(_)) => Ok(Type::String),
            _ => self.content(parameter),
        }
    }

    /// The content of a body: nothing, JSON or something else.
    fn media(&mut self, content: &'a Value) -> Result<Option<Type>> {
        let Some(media) = content.as_object().filter(|media| !media.is_empty()) else { return Ok(None) };
        let json = ["application/json", "*/*"].into_iter().find_map(|name| media.get(name));
        let json = json.or_else(|| media.iter().find(|(name, _)| name.ends_with("+json")).map(|(_, content)| content));
        match json {
            Some(json) => self.content(&json["schema"]).map(Some),
            None => Ok(Some(Type::Text)),
        }
    }

    fn content(&mut self, schema: &'a Value) -> Result<Type> {
        let content = self.without_null(schema)?;
        Ok(if schema["nullable"] == json!(true) { Type::union([content, Type::Null]) } else { content })
    }

    fn without_null(&mut self, schema: &'a Value) -> Result<Type> {
        if let Some(reference) = schema["$ref"].as_str() {
            return self.reference(reference, self.resolved(schema)?);
        }
        let parts: Vec<&Value> = elements(&schema["allOf"]).collect();
        if let ([only], false) = (parts.as_slice(), schema["properties"].is_object()) {
            return self.content(only);
        }
        let alternatives: Vec<&Value> = elements(&schema["oneOf"]).chain(elements(&schema["anyOf"])).collect();
        if !alternatives.is_empty() {
            let alternatives = alternatives.into_iter().map(|part| self.content(part)).collect::<Result<Vec<_>>>()?;
            let union = Type::union(alternatives);
            ensure!(objects_in_place(&union) <= 1, "alternatives with several objects that have no name: {union}");
            return Ok(union);
        }
        if self.is_object(schema)? {
            return Ok(Type::Object(self.object(schema)?));
        }
        let words: Vec<&Value> = elements(&schema["enum"]).collect();
        if !words.is_empty() && words.len() <= LONGEST_ENUMERATION {
            let literal = |word: &Value| if word.is_null() { Type::Null } else { Type::Literal(word.clone()) };
            return Ok(Type::union(words.into_iter().map(literal)));
        }
        self.plain(schema)
    }

    fn plain(&mut self, schema: &'a Value) -> Result<Type> {
        Ok(match (schema["type"].as_str(), schema["format"].as_str()) {
            (Some("string"), Some("date-time")) => Type::DateTime,
            (Some("string"), Some("date")) => Type::Date,
            (Some("string"), Some("uuid")) => Type::Uuid,
            (Some("string" | "symbol"), _) => Type::String,
            (Some("integer"), _) => Type::Integer,
            (Some("number"), _) => Type::Number,
            (Some("boolean"), _) => Type::Boolean,
            (Some("file"), _) => Type::Text,
            (Some("array"), _) => Type::Array(Box::new(self.content(&schema["items"])?)),
            (Some("object"), _) => match &schema["additionalProperties"] {
                values @ Value::Object(_) => Type::Map(Box::new(self.content(values)?)),
                _ => Type::Map(Box::new(Type::Any)),
            },
            (None, _) if schema["enum"].is_array() => Type::String,
            (None, _) => Type::Any,
            (Some(other), _) => anyhow::bail!("a type {other}"),
        })
    }

    /// Named objects are described once; every other named schema is described inline.
    fn reference(&mut self, reference: &str, schema: &'a Value) -> Result<Type> {
        if !self.is_object(schema)? {
            return self.content(schema);
        }
        let name = reference.rsplit('/').next().unwrap_or(reference).to_owned();
        if !self.objects.contains_key(&name) {
            // The object may contain itself.
            self.objects.insert(name.clone(), Object::default());
            let object = self.object(schema)?;
            self.objects.insert(name.clone(), object);
        }
        let named = Type::Named(name);
        Ok(if schema["nullable"] == json!(true) { Type::union([named, Type::Null]) } else { named })
    }

    /// Whether a schema describes fields.
    fn is_object(&self, schema: &'a Value) -> Result<bool> {
        let schema = self.resolved(schema)?;
        let closed = schema["type"] == "object" && schema["additionalProperties"] == json!(false);
        if closed || schema["properties"].as_object().is_some_and(|fields| !fields.is_empty()) {
            return Ok(true);
        }
        for part in elements(&schema["allOf"]) {
            if self.is_object(part)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The fields of an object and of its parts. If the description allows other fields without describing them, the table does
    /// not: finding such fields is the purpose of the tables.
    fn object(&mut self, schema: &'a Value) -> Result<Object> {
        let mut fields: BTreeMap<String, Field> = BTreeMap::new();
        let mut required: Vec<&str> = Vec::new();
        let mut others = None;
        let mut waiting = vec![schema];
        let mut parts = Vec::new();
        while let Some(part) = waiting.pop() {
            let part = self.resolved(part)?;
            parts.push(part);
            waiting.extend(elements(&part["allOf"]));
        }
        // The object's own fields override those of its parts.
        for part in parts.into_iter().rev() {
            required.extend(elements(&part["required"]).filter_map(Value::as_str));
            for (name, described) in members(&part["properties"]) {
                let read_only = described["readOnly"] == json!(true);
                let content = self.content(described)?;
                fields.insert(name.clone(), Field { read_only, ..field(name, false, content) });
            }
            if part["additionalProperties"].as_object().is_some_and(|values: &Map<_, _>| !values.is_empty()) {
                others = Some(Box::new(self.content(&part["additionalProperties"])?));
            }
        }
        let mut fields: Vec<Field> = fields.into_values().collect();
        for field in &mut fields {
            field.required = required.contains(&field.name.as_str());
        }
        Ok(Object { fields, others })
    }
}

fn field(name: &str, required: bool, content: Type) -> Field {
    Field { name: name.to_owned(), required, read_only: false, content }
}

fn objects_in_place(content: &Type) -> usize {
    match content {
        Type::Object(_) => 1,
        Type::Array(content) | Type::Map(content) => objects_in_place(content),
        Type::Union(parts) => parts.iter().map(objects_in_place).sum(),
        _ => 0,
    }
}

/// The folder of the descriptions, if present: beside the repository, or as `FORGEBIND_OPENAPI_DIR` says.
pub fn originals() -> Option<PathBuf> {
    let named = std::env::var_os("FORGEBIND_OPENAPI_DIR").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| repository_root().join("../shared/openapi"));
    if folder.is_dir() {
        return Some(folder);
    }
    println!("The official API descriptions are not at hand: there is no {}; FORGEBIND_OPENAPI_DIR can name it.", folder.display());
    None
}
