//! The guide to the simulators, and their control endpoints.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::json;

use testkit::components::repository_root;
use testkit::sim::control::{self, Asked};
use testkit::sim::{Request, UserAction};

fn guide() -> Result<String> {
    std::fs::read_to_string(repository_root().join("src/docs/simulators.md")).context("src/docs/simulators.md")
}

/// A line of the usage text as the request that it describes.
fn request(line: &str) -> Result<Request> {
    let mut parts = line.splitn(3, ' ');
    let method = Method::from_bytes(parts.next().context("a method")?.as_bytes())?;
    let path = parts.next().context("a path")?.to_owned();
    let body = Bytes::from(parts.next().unwrap_or_default().to_owned());
    Ok(Request { method, path, query: Vec::new(), headers: HeaderMap::new(), body })
}

#[test]
fn the_guide_lists_every_control_endpoint() -> Result<()> {
    let guide = guide()?;
    let is_endpoint =
        |line: &&str| line.starts_with(&format!("POST {}", control::PREFIX)) || line.starts_with(&format!("GET {}", control::PREFIX));
    let listed: Vec<&str> = guide.lines().filter(is_endpoint).collect();
    assert_eq!(listed, control::usage(""));
    Ok(())
}

#[test]
fn every_control_endpoint_is_understood_and_every_user_action_is_documented() -> Result<()> {
    let mut described = BTreeSet::new();
    for line in control::usage("") {
        let asked = control::read(&request(&line)?).with_context(|| format!("{line}: no control endpoint"))?;
        let Ok(asked) = asked else { anyhow::bail!("{line}: refused") };
        if let Asked::UserAction(act) = asked {
            let act = serde_json::to_value(act)?;
            described.insert(act["act"].as_str().context("an act has a name")?.to_owned());
        }
    }
    // Given an unknown action, Serde's error lists every existing one.
    let refusal = serde_json::from_value::<UserAction>(json!({"act": "nothing"})).unwrap_err().to_string();
    let (_, known) = refusal.split_once("expected one of ").with_context(|| refusal.clone())?;
    let known: BTreeSet<String> = known.split(", ").map(|name| name.trim_matches('`').to_owned()).collect();
    assert_eq!(described, known);
    Ok(())
}
