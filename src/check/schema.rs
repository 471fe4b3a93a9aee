//! Validates objects against the schemas of our definitions as admission would, without an API server.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use serde_json::Value;

use super::spanned_yaml::child;
use crate::api::v1alpha1::rules::{self, fits};

/// The kinds of our API.
pub(super) const KINDS: [&str; 3] = ["GitProviderConnection", "ConnectionGrant", "RepoBinding"];

/// A part of an object that admission would refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer to the value.
    pub pointer: String,
    /// What is wrong, with the name of the field.
    pub message: String,
}

impl Violation {
    pub(super) fn new(pointer: &str, problem: impl AsRef<str>) -> Self {
        let field = field(pointer);
        let message = if field.is_empty() { problem.as_ref().to_owned() } else { format!("{field}: {}", problem.as_ref()) };
        Self { pointer: pointer.to_owned(), message }
    }
}

/// A JSON pointer in the usual notation: `spec.sinks[0].name`.
pub(super) fn field(pointer: &str) -> String {
    let mut field = String::new();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        if !field.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit()) {
            field.extend(["[", &step, "]"]);
        } else {
            let dot = if field.is_empty() { "" } else { "." };
            field.extend([dot, &step]);
        }
    }
    field
}

/// The schema of one of our kinds.
#[derive(Clone, Debug)]
pub struct Schema(JSONSchemaProps);

impl Schema {
    /// The schema of a kind; `None` for a kind that is not ours.
    #[must_use]
    pub fn of(kind: &str) -> Option<Self> {
        let definitions = crate::api::crd::custom_resource_definitions();
        let definition: CustomResourceDefinition = definitions.into_iter().find(|definition| definition.spec.names.kind == kind)?;
        let version = definition.spec.versions.into_iter().next()?;
        version.schema?.open_api_v3_schema.map(Self)
    }

    /// Validates an object as admission would, and applies its defaults. Treats null fields as absent.
    pub fn validate(&self, object: &mut Value) -> Vec<Violation> {
        without_nulls(object);
        let mut violations = Vec::new();
        metadata(object, &mut violations);
        apply_defaults(&self.0, object);
        validate(&self.0, object, "", &mut violations);
        violations
    }

    /// The messages of all validation rules in the schema.
    #[must_use]
    pub fn rules(&self) -> BTreeSet<String> {
        let mut messages = BTreeSet::new();
        collect_rules(&self.0, &mut messages);
        messages
    }
}

fn collect_rules(schema: &JSONSchemaProps, messages: &mut BTreeSet<String>) {
    messages.extend(rules_of(schema).map(str::to_owned));
    for property in schema.properties.iter().flat_map(|properties| properties.values()) {
        collect_rules(property, messages);
    }
    if let Some(items) = items(schema) {
        collect_rules(items, messages);
    }
}

fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(items) => Some(items),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

fn rules_of(schema: &JSONSchemaProps) -> impl Iterator<Item = &str> {
    let rules = schema.x_kubernetes_validations.iter().flatten();
    // Transition rules need the current state of the object, so they are left out.
    rules.filter(|rule| !rule.rule.contains("oldSelf")).filter_map(|rule| rule.message.as_deref())
}

/// Removes nulls, as the API server does, because nothing in our schemas is nullable.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

fn metadata(object: &Value, violations: &mut Vec<Violation>) {
    let label = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let inner = text.bytes().all(|byte| plain(byte) || byte == b'-');
        inner && text.bytes().next().is_some_and(plain) && text.bytes().next_back().is_some_and(plain)
    };
    match object.pointer("/metadata/name").and_then(Value::as_str) {
        None | Some("") => violations.push(Violation::new("/metadata", "name is missing")),
        Some(name) if name.len() > 253 || !name.split('.').all(label) => {
            violations.push(Violation::new(
                "/metadata/name",
                format!("{name:?} is not a valid name; use at most 253 lower-case letters, digits, - and ."),
            ));
        }
        Some(_) => {}
    }
    if let Some(namespace) = object.pointer("/metadata/namespace").and_then(Value::as_str)
        && (namespace.len() > 63 || !label(namespace))
    {
        violations.push(Violation::new(
            "/metadata/namespace",
            format!("{namespace:?} is not a namespace name; use at most 63 lower-case letters, digits and dashes"),
        ));
    }
}

fn apply_defaults(schema: &JSONSchemaProps, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, property) in schema.properties.iter().flatten() {
                if let Some(default) = &property.default
                    && !map.contains_key(name)
                {
                    map.insert(name.clone(), default.0.clone());
                }
                if let Some(value) = map.get_mut(name) {
                    apply_defaults(property, value);
                }
            }
        }
        Value::Array(values) => {
            if let Some(items) = items(schema) {
                for value in values {
                    apply_defaults(items, value);
                }
            }
        }
        _ => {}
    }
}

fn validate(schema: &JSONSchemaProps, value: &Value, pointer: &str, violations: &mut Vec<Violation>) {
    let before = violations.len();
    if let Some(expected) = wrong_type(schema, value) {
        violations.push(Violation::new(pointer, format!("must be {expected}, but is {}", type_of(value))));
        return;
    }
    match value {
        Value::Object(map) => validate_object(schema, map, pointer, violations),
        Value::Array(values) => validate_list(schema, values, pointer, violations),
        Value::String(text) => validate_text(schema, text, pointer, violations),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            if schema.minimum.is_some_and(|least| number < least) || schema.maximum.is_some_and(|most| number > most) {
                let bound = |bound: Option<f64>| bound.map(|bound| bound.to_string()).unwrap_or_default();
                let problem = format!("must be between {} and {}", bound(schema.minimum), bound(schema.maximum));
                violations.push(Violation::new(pointer, problem));
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
    // Rules apply only to values of the right form.
    if violations.len() == before {
        let broken = rules_of(schema).filter(|message| rules::rule(message).is_some_and(|holds| !holds(value)));
        violations.extend(broken.map(|message| Violation::new(pointer, message)));
    }
}

fn wrong_type(schema: &JSONSchemaProps, value: &Value) -> Option<&'static str> {
    if schema.x_kubernetes_int_or_string == Some(true) {
        return (!value.is_string() && !value.is_i64()).then_some("a whole number or text");
    }
    match schema.type_.as_deref()? {
        "object" => (!value.is_object()).then_some("an object"),
        "array" => (!value.is_array()).then_some("a list"),
        "string" => (!value.is_string()).then_some("text (quote it if it looks like a number, true or false)"),
        "integer" => (!value.is_i64() && !value.is_u64()).then_some("a whole number"),
        "number" => (!value.is_number()).then_some("a number"),
        "boolean" => (!value.is_boolean()).then_some("true or false"),
        _ => None,
    }
}

const fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn validate_object(schema: &JSONSchemaProps, map: &serde_json::Map<String, Value>, pointer: &str, violations: &mut Vec<Violation>) {
    for name in schema.required.iter().flatten().filter(|name| !map.contains_key(*name)) {
        violations.push(Violation::new(pointer, format!("{name} is missing")));
    }
    let Some(properties) = &schema.properties else { return };
    // At the root, the API server defines metadata.
    let open = schema.x_kubernetes_preserve_unknown_fields == Some(true) || schema.additional_properties.is_some();
    for (name, value) in map {
        let below = child(pointer, name);
        match properties.get(name) {
            Some(property) => validate(property, value, &below, violations),
            None if open || (pointer.is_empty() && matches!(name.as_str(), "apiVersion" | "kind" | "metadata")) => {}
            None => {
                let problem = match nearest(name, properties.keys().map(String::as_str)) {
                    Some(known) => format!("unknown field; did you mean {known}?"),
                    None => "unknown field".to_owned(),
                };
                violations.push(Violation::new(&below, problem));
            }
        }
    }
}

fn validate_list(schema: &JSONSchemaProps, values: &[Value], pointer: &str, violations: &mut Vec<Violation>) {
    let length = i64::try_from(values.len()).unwrap_or(i64::MAX);
    if let Some(most) = schema.max_items.filter(|most| length > *most) {
        violations.push(Violation::new(pointer, format!("has {length} items, but at most {most} are allowed")));
    }
    if let Some(least) = schema.min_items.filter(|least| length < *least) {
        violations.push(Violation::new(pointer, format!("has {length} items, but at least {least} are required")));
    }
    let keys = schema.x_kubernetes_list_map_keys.as_deref().unwrap_or_default();
    let identity = |value: &Value| match schema.x_kubernetes_list_type.as_deref() {
        Some("set") => Some(value.to_string()),
        Some("map") => Some(keys.iter().map(|key| value.get(key).map(Value::to_string).unwrap_or_default()).collect()),
        _ => None,
    };
    let mut seen = BTreeSet::new();
    for (position, value) in values.iter().enumerate() {
        let below = format!("{pointer}/{position}");
        if identity(value).is_some_and(|identity| !seen.insert(identity)) {
            violations.push(Violation::new(&below, "is a duplicate of an earlier item in the list"));
        }
        if let Some(items) = items(schema) {
            validate(items, value, &below, violations);
        }
    }
}

fn validate_text(schema: &JSONSchemaProps, text: &str, pointer: &str, violations: &mut Vec<Violation>) {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(most) = schema.max_length.filter(|most| length > *most) {
        return violations.push(Violation::new(pointer, format!("has {length} characters, but at most {most} are allowed")));
    }
    if let Some(least) = schema.min_length.filter(|least| length < *least) {
        return violations.push(Violation::new(pointer, format!("has {length} characters, but at least {least} are required")));
    }
    if let Some(values) = &schema.enum_ {
        let known: Vec<&str> = values.iter().filter_map(|value| value.0.as_str()).collect();
        if !known.contains(&text) {
            let hint = nearest(text, known.iter().copied()).map(|known| format!("; did you mean {known}?")).unwrap_or_default();
            violations.push(Violation::new(pointer, format!("{text:?} is not one of {}{hint}", known.join(", "))));
        }
    }
    if let Some(pattern) = &schema.pattern
        && !fits(pattern, text)
    {
        violations.push(Violation::new(pointer, format!("{} does not match {pattern}{}", shown(text), example(pattern))));
    }
}

/// A value for a message. Values with an `@` are not shown, because a URL may contain a password.
fn shown(text: &str) -> String {
    if text.contains('@') { "the value (not shown, because it contains an @)".to_owned() } else { format!("{text:?}") }
}

/// An example for patterns with a well-known meaning, because patterns are hard to read.
fn example(pattern: &str) -> &'static str {
    match pattern {
        pattern if pattern.contains("(h|m|s)") => ", such as 30s, 10m or 1h30m",
        pattern if pattern.contains("nats") => ", such as nats://nats.acme.io:4222",
        _ => "",
    }
}

/// The most similar known name, if one is similar enough.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let fold = name.to_lowercase();
    let scored = known.map(|known| (strsim::jaro_winkler(&fold, &known.to_lowercase()), known));
    scored.filter(|(score, _)| *score > 0.8).max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn binding(spec: &Value) -> Vec<String> {
        let mut object = json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding", "metadata": {"name": "shop", "namespace": "team"}, "spec": spec,
        });
        Schema::of("RepoBinding").unwrap().validate(&mut object).into_iter().map(|violation| violation.message).collect()
    }

    #[test]
    fn every_rule_of_the_schemas_is_implemented() {
        let all: BTreeSet<String> = KINDS.iter().flat_map(|kind| Schema::of(kind).unwrap().rules()).collect();
        assert!(all.len() > 12, "{all:?}");
        let unknown: Vec<_> = all.iter().filter(|message| rules::rule(message).is_none()).collect();
        assert_eq!(unknown, Vec::<&String>::new());
        let surplus: Vec<_> = rules::MESSAGES.iter().filter(|message| !all.contains(**message)).collect();
        assert_eq!(surplus, Vec::<&&str>::new());
    }

    #[test]
    fn a_valid_object_has_no_violation() {
        let spec = json!({"connectionRef": {"name": "acme", "namespace": null}, "repository": "acme/shop", "webhook": {}});
        assert_eq!(binding(&spec), Vec::<String>::new());
    }

    #[test]
    fn unknown_fields_and_values_name_the_nearest_known_one() {
        let spec = json!({"conectionRef": {"name": "acme"}, "connectionRef": {"name": "acme"}, "repository": "acme/shop", "zebra": 1,
            "webhook": {"events": ["Push", "Psuh"]}, "interval": "1d"});
        assert_eq!(
            binding(&spec),
            [
                "spec.conectionRef: unknown field; did you mean connectionRef?",
                "spec.interval: \"1d\" does not match ^([0-9]{1,5}(h|m|s)){1,3}$, such as 30s, 10m or 1h30m",
                "spec.webhook.events[1]: \"Psuh\" is not one of Push, Tag, PullRequest, PullRequestMerged, PullRequestClosed, \
                 PullRequestComment; did you mean Push?",
                "spec.zebra: unknown field",
            ]
        );
    }

    #[test]
    fn types_limits_and_duplicates_are_checked() {
        let sinks = json!([{"name": "a", "service": {"name": "a", "port": 0}}, {"name": "a", "service": {"name": "a", "port": "80"}}]);
        let spec = json!({"connectionRef": "acme", "repository": "", "webhook": {"events": ["Push", "Push"]}, "sinks": sinks});
        assert_eq!(
            binding(&spec),
            [
                "spec.connectionRef: must be an object, but is text",
                "spec.repository: has 0 characters, but at least 1 are required",
                "spec.sinks[0].service.port: must be between 1 and 65535",
                "spec.sinks[1]: is a duplicate of an earlier item in the list",
                "spec.sinks[1].service.port: must be a whole number, but is text",
                "spec.webhook.events[1]: is a duplicate of an earlier item in the list",
            ]
        );
        let sinks = json!([{"name": "a", "nats": {"url": "nats://user:canary@nats.acme.io", "subject": "a"}}]);
        let said = binding(
            &json!({"connectionRef": {"name": "a"}, "repository": "https://user:canary@acme.io/a/b", "webhook": {}, "sinks": sinks}),
        );
        assert!(said.len() == 2 && !said.concat().contains("canary"), "{said:?}");
        assert_eq!(binding(&json!({})), ["spec: connectionRef is missing", "spec: repository is missing"]);
    }
}
