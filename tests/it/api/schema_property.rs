//! Whatever the schema accepts, the Rust types parse. The objects are generated from the schema itself, as freely as it allows.

use anyhow::{Result, ensure};
use kube::api::PostParams;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use forgebind::api::crd;
use forgebind::api::v1alpha1::{ConnectionGrant, GitProviderConnection, RepoBinding};

use testkit::samples;
use testkit::shared;
use testkit::test_namespace::{object, untyped};

/// The schema of a kind.
fn schema_of(kind: &str) -> Value {
    let definitions = crd::custom_resource_definitions();
    let definition = definitions.iter().find(|definition| definition.spec.names.kind == kind).expect("a known kind");
    let schema = serde_json::to_value(&definition.spec.versions[0].schema).expect("a schema is JSON");
    schema["openAPIV3Schema"].clone()
}

fn bound(schema: &Value, name: &str, otherwise: usize) -> usize {
    schema[name].as_u64().map_or(otherwise, |bound| usize::try_from(bound).expect("a small bound"))
}

/// Any value that the structural schema accepts; validation rules (CEL) may still refuse it.
fn any_value(schema: &Value) -> BoxedStrategy<Value> {
    if let Some(words) = schema["enum"].as_array() {
        return proptest::sample::select(words.clone()).boxed();
    }
    if schema["x-kubernetes-int-or-string"] == json!(true) {
        return prop_oneof![any::<i32>().prop_map(Value::from), "[a-z0-9/]{0,12}".prop_map(Value::from)].boxed();
    }
    match schema["type"].as_str() {
        Some("object") => any_object(schema),
        Some("array") => any_list(schema),
        Some("string") => any_text(schema),
        Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
        Some("integer") => any_integer(schema),
        other => panic!("a type that this test does not know: {other:?} in {schema}"),
    }
}

fn any_object(schema: &Value) -> BoxedStrategy<Value> {
    let Some(properties) = schema["properties"].as_object() else {
        let values = any_value(&schema["additionalProperties"]);
        return proptest::collection::btree_map("[a-z]{1,8}", values, 0..3).prop_map(|map| json!(map)).boxed();
    };
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let fields: Vec<_> = properties
        .iter()
        .map(|(name, field)| {
            // The API server fills in an absent default before any client parses the object.
            let always = required.contains(&name.as_str()) || !field["default"].is_null();
            let value = if always { any_value(field).prop_map(Some).boxed() } else { proptest::option::of(any_value(field)).boxed() };
            (Just(name.clone()), value)
        })
        .collect();
    let whole = |fields: Vec<(String, Option<Value>)>| {
        Value::Object(fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect::<Map<_, _>>())
    };
    fields.prop_map(whole).boxed()
}

fn any_list(schema: &Value) -> BoxedStrategy<Value> {
    let least = bound(schema, "minItems", 0);
    let most = bound(schema, "maxItems", 4).min(4).max(least);
    let keys: Option<Vec<String>> = serde_json::from_value(schema["x-kubernetes-list-map-keys"].clone()).ok();
    let set = schema["x-kubernetes-list-type"] == json!("set");
    let distinct = move |items: Vec<Value>| {
        let mut seen = Vec::new();
        let fresh = |item: &Value| {
            let key = match &keys {
                Some(keys) => keys.iter().map(|key| item[key].clone()).collect(),
                None => item.clone(),
            };
            let fresh = !(set || keys.is_some()) || !seen.contains(&key);
            seen.push(key);
            fresh
        };
        Value::Array(items.into_iter().filter(fresh).collect())
    };
    proptest::collection::vec(any_value(&schema["items"]), least..=most).prop_map(distinct).boxed()
}

fn any_text(schema: &Value) -> BoxedStrategy<Value> {
    if let Some(pattern) = schema["pattern"].as_str() {
        let (least, most) = (bound(schema, "minLength", 0), bound(schema, "maxLength", usize::MAX));
        // The generator takes patterns without anchors. It repeats `*` up to 32 times.
        let inner = pattern.trim_start_matches('^').trim_end_matches('$').replace(r"\s", " ").replace('\n', " ");
        let text = proptest::string::string_regex(&inner).expect("a pattern that can be generated");
        return text.prop_filter("length", move |text| text.len() >= least && text.len() <= most).prop_map(Value::from).boxed();
    }
    if schema["format"] == json!("date-time") {
        return (2000..2100, 1..13, 1..29, 0..24).prop_map(|(y, m, d, h)| json!(format!("{y}-{m:02}-{d:02}T{h:02}:00:00Z"))).boxed();
    }
    let least = bound(schema, "minLength", 0);
    let most = bound(schema, "maxLength", 40).min(40).max(least);
    let wild = proptest::collection::vec(any::<char>(), least..=most).prop_map(|text| json!(text.into_iter().collect::<String>()));
    match schema["x-kubernetes-validations"][0]["rule"].as_str() {
        // Mostly generate the form that a rule demands, so that the API server accepts some of the objects.
        Some(rule) if rule.contains("https?") => prop_oneof![9 => Just(json!("https://git.acme.io/a")), 1 => wild].boxed(),
        Some(rule) if rule.contains("[0-9]{4}") => prop_oneof![9 => Just(json!("2027-03-01")), 1 => wild].boxed(),
        _ => wild.boxed(),
    }
}

fn any_integer(schema: &Value) -> BoxedStrategy<Value> {
    let (least, most) = match schema["format"].as_str() {
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    #[allow(clippy::cast_possible_truncation, reason = "bounds are whole numbers")]
    let number = |name: &str, otherwise: i64| schema[name].as_f64().map_or(otherwise, |bound| bound as i64);
    (number("minimum", least)..=number("maximum", most)).prop_map(Value::from).boxed()
}

/// Whole objects of a kind, with spec and status.
fn objects(kind: &'static str) -> impl Strategy<Value = Value> {
    let schema = schema_of(kind);
    (any_value(&schema["properties"]["spec"]), proptest::option::of(any_value(&schema["properties"]["status"]))).prop_map(
        move |(spec, status)| {
            let mut object = json!({
                "apiVersion": "forgebind.dev/v1alpha1", "kind": kind, "metadata": { "name": "wild", "namespace": "default" }, "spec": spec,
            });
            if let Some(status) = status {
                object["status"] = status;
            }
            object
        },
    )
}

fn parse(kind: &str, object: &Value) -> Result<(), serde_json::Error> {
    match kind {
        "RepoBinding" => serde_json::from_value::<RepoBinding>(object.clone()).map(drop),
        "ConnectionGrant" => serde_json::from_value::<ConnectionGrant>(object.clone()).map(drop),
        _ => serde_json::from_value::<GitProviderConnection>(object.clone()).map(drop),
    }
}

proptest! {
    #![proptest_config(Config { cases: 400, ..Config::default() })]

    #[test]
    fn rust_parses_connections_that_the_schema_accepts(object in objects("GitProviderConnection")) {
        let parsed = parse("GitProviderConnection", &object);
        prop_assert!(parsed.is_ok(), "{parsed:?}");
    }

    #[test]
    fn rust_parses_grants_that_the_schema_accepts(object in objects("ConnectionGrant")) {
        let parsed = parse("ConnectionGrant", &object);
        prop_assert!(parsed.is_ok(), "{parsed:?}");
    }

    #[test]
    fn rust_parses_bindings_that_the_schema_accepts(object in objects("RepoBinding")) {
        let parsed = parse("RepoBinding", &object);
        prop_assert!(parsed.is_ok(), "{parsed:?}");
    }
}

/// Keeps one of several members that exclude each other.
fn keep_one(object: &mut Value, members: &[&str]) {
    let Some(fields) = object.as_object_mut() else { return };
    let present: Vec<&str> = members.iter().copied().filter(|member| fields.contains_key(*member)).collect();
    for member in present.iter().skip(1) {
        fields.remove(*member);
    }
}

fn remove(object: &mut Value, members: &[&str]) {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|name, _| !members.contains(&name.as_str()));
    }
}

/// Adjusts a random spec to the rules that relate fields, which random values almost never satisfy.
fn tame(spec: &mut Value) {
    let members: Vec<String> = samples::all().map(|samples| samples.member).collect();
    keep_one(&mut spec["provider"], &members.iter().map(String::as_str).collect::<Vec<_>>());
    for provider in spec["provider"].as_object_mut().into_iter().flat_map(|members| members.values_mut()) {
        keep_one(provider, &["organization", "user"]);
    }
    keep_one(spec, &["connectionRef", "connectionSelector"]);
    if let Some(namespaces) = spec.get_mut("namespaces") {
        match namespaces["from"].as_str() {
            Some("Selector") => namespaces["selector"] = json!({ "matchLabels": { "team": "shop" } }),
            _ => remove(namespaces, &["selector"]),
        }
    }
    let webhook = &mut spec["webhook"];
    if webhook.get("secretRef").is_none() {
        remove(webhook, &["url", "adopt"]);
    } else {
        remove(webhook, &["rotationInterval"]);
    }
    if webhook.get("url").is_some() {
        remove(spec, &["sinks"]);
    } else {
        remove(webhook, &["adopt"]);
    }
    if !spec["webhook"].is_object() {
        remove(spec, &["sinks"]);
    }
    for sink in spec["sinks"].as_array_mut().into_iter().flatten() {
        keep_one(sink, &["service", "http"]);
        remove(sink, &["events"]);
    }
    // Indexing a missing member leaves a null there.
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}

async fn the_api_server_agrees(kind: &'static str, tries: usize, least: usize) -> Result<()> {
    let api = untyped(shared::control_plane().await?.cluster().client()?, "default", kind);
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    let strategy = any_value(&schema_of(kind)["properties"]["spec"]);
    let mut runner = TestRunner::default();
    let (mut admitted, mut last_refusal) = (0, String::new());
    for _ in 0..tries {
        let mut spec = strategy.new_tree(&mut runner).map_err(|reason| anyhow::anyhow!("{reason}"))?.current();
        tame(&mut spec);
        match api.create(&parameters, &object(kind, "wild", &spec)?).await {
            Ok(stored) => {
                admitted += 1;
                let stored = serde_json::to_value(&stored)?;
                parse(kind, &stored).map_err(|error| anyhow::anyhow!("accepted by the API server but not parsed: {error}: {stored}"))?;
            }
            Err(kube::Error::Api(status)) if status.code == 422 => last_refusal.clone_from(&status.message),
            Err(other) => return Err(other.into()),
        }
    }
    ensure!(admitted >= least, "only {admitted} of {tries} were admitted; the last refusal: {last_refusal}");
    Ok(())
}

#[tokio::test]
async fn rust_parses_connections_that_the_api_server_accepts() -> Result<()> {
    the_api_server_agrees("GitProviderConnection", 200, 24).await
}

#[tokio::test]
async fn rust_parses_bindings_that_the_api_server_accepts() -> Result<()> {
    the_api_server_agrees("RepoBinding", 200, 24).await
}

#[tokio::test]
async fn rust_parses_grants_that_the_api_server_accepts() -> Result<()> {
    the_api_server_agrees("ConnectionGrant", 200, 24).await
}
