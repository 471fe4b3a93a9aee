//! `kubectl explain` is readable for every field.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forgebind::api::crd;
use forgebind::api::v1alpha1::catalog::REPOSITORY_SLICE;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use testkit::shared;
use testkit::wait::{Seen, wait_until};

/// A longer description is a page, not an explanation.
const MAX_LENGTH: usize = 600;
/// Words of Rust, which mean nothing to a user. `[` begins a link of rustdoc.
const OF_THE_LANGUAGE: &[&str] =
    &["`", "[", "]", "::", "None", "Some(", "Option", "Vec<", "struct", "enum ", "bool", "u16", "i64", "serde"];
/// The paths at which Kubernetes' own types begin; their descriptions are Kubernetes' own.
const OF_KUBERNETES: &[&str] = &[".conditions", ".selector", ".connectionSelector"];

/// Every property with its description and, where it is a list, that of its items.
fn properties(schema: &Value, place: &str, found: &mut Vec<(String, Value)>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        found.push((place.clone(), property.clone()));
        properties(property, &place, found);
        if property["items"]["properties"].is_object() {
            found.push((format!("{place}[]"), property["items"].clone()));
            properties(&property["items"], &format!("{place}[]"), found);
        }
    }
}

fn of_kind(definition: &CustomResourceDefinition) -> Result<Vec<(String, Value)>> {
    let schema = serde_json::to_value(&definition.spec.versions.first().context("a version")?.schema)?;
    let mut found = Vec::new();
    properties(&schema["openAPIV3Schema"], &definition.spec.names.singular.clone().unwrap_or_default(), &mut found);
    Ok(found)
}

/// What is wrong with a description.
fn complaint(text: &str) -> Option<String> {
    let first = text.chars().next()?;
    if !first.is_uppercase() {
        return Some("does not begin with a capital".to_owned());
    }
    if !text.ends_with('.') {
        return Some("does not end with a full stop".to_owned());
    }
    if text.chars().count() > MAX_LENGTH {
        return Some(format!("is longer than {MAX_LENGTH} characters"));
    }
    if text.contains('\n') || text.contains("  ") {
        return Some("is not one paragraph".to_owned());
    }
    let word = OF_THE_LANGUAGE.iter().find(|word| text.contains(**word));
    word.map(|word| format!("speaks of {word:?}"))
}

#[test]
fn every_field_is_described_in_full_sentences() -> Result<()> {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for definition in crd::custom_resource_definitions() {
        for (place, property) in of_kind(&definition)? {
            let text = property["description"].as_str().unwrap_or_default();
            if text.is_empty() {
                wrong.push(format!("{place} has no description"));
            } else if !OF_KUBERNETES
                .iter()
                .any(|beginning| place.contains(&format!("{beginning}.")) || place.contains(&format!("{beginning}[]")))
            {
                wrong.extend(complaint(text).map(|complaint| format!("{place} {complaint}: {text}")));
            }
            count += 1;
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(count > 150, "only {count} properties were found: the test reads the wrong part");
    assert!(complaint("An Option.").is_some() && complaint("no capital.").is_some() && complaint("No stop").is_some());
    Ok(())
}

/// Every default and every limit is in the description.
#[test]
fn the_description_names_every_default_and_every_choice() -> Result<()> {
    let mut wrong = Vec::new();
    for definition in crd::custom_resource_definitions() {
        for (place, property) in of_kind(&definition)? {
            let text = property["description"].as_str().unwrap_or_default();
            let default = match &property["default"] {
                Value::Null | Value::Object(_) => Vec::new(),
                Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
                default => default.as_str().into_iter().collect(),
            };
            // The values that a user may choose. In a status, kubectl lists the possible values itself.
            let choices = property["enum"].as_array().into_iter().flatten().filter(|_| place.contains(".spec."));
            let choices = choices.filter_map(Value::as_str);
            let missing: Vec<&str> = default.into_iter().chain(choices).filter(|word| !text.contains(word)).collect();
            if !missing.is_empty() {
                wrong.push(format!("{place} does not tell {missing:?}: {text}"));
            }
            let most = property["maxItems"].as_u64().unwrap_or_default();
            // A maximum that equals the number of choices does not limit anything.
            let choices = property["items"]["enum"].as_array().map_or(0, Vec::len) as u64;
            if most > 0 && most != choices && !text.contains(&most.to_string()) {
                wrong.push(format!("{place} does not tell how many there may be: {text}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn kubectl_explains_every_field() -> Result<()> {
    let cluster = shared::control_plane().await?.cluster();
    for definition in crd::custom_resource_definitions() {
        let resource = &definition.spec.names.plural;
        // The API server publishes the descriptions a little after it serves the kind.
        // A record has neither a spec nor a status.
        let is_record = definition.spec.names.kind == REPOSITORY_SLICE;
        let last = if is_record { "connectionName" } else { "observedGeneration" };
        let text = wait_until(&format!("kubectl explain {resource}"), Duration::from_secs(30), async || {
            let text = cluster.kubectl(&["explain", "--recursive", resource]).await?;
            Ok(if text.contains(last) { Seen::Done(text) } else { Seen::NotYet(text) })
        })
        .await?;
        for (place, _) in of_kind(&definition)? {
            let field = place.rsplit('.').next().unwrap_or_default().trim_end_matches("[]");
            ensure!(text.contains(&format!("{field}\t")), "{resource}: {field} is not explained");
        }
        if is_record {
            continue;
        }
        let (field, words) = match resource.as_str() {
            "connectiongrants" => ("spec.namespaces.from", "is the namespace of the connection"),
            _ => ("spec.interval", "as a duration in h, m and s such as"),
        };
        // kubectl wraps the text.
        let text = cluster.kubectl(&["explain", &format!("{resource}.{field}")]).await?;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(text.contains(words), "{text}");
    }
    Ok(())
}
