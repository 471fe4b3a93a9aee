//! Control endpoints below `/_simulator`, which only simulators have: actions of people or git, requested by HTTP.

use http::Method;
use serde_json::{Value, json};

use super::contents::{ProviderEvent, UserAction};
use super::message::{Request, Response};
use super::simulated_provider::SeedData;

/// The prefix of their paths.
pub const PREFIX: &str = "/_simulator";

/// A control request.
pub enum Asked {
    /// Perform this action.
    UserAction(UserAction),
    /// Describe the initial data and the deliveries.
    Describe,
}

/// Parses a control request; `None` for any other request.
pub fn read(request: &Request) -> Option<Result<Asked, Response>> {
    let rest = request.below(PREFIX)?;
    let names: Vec<&str> = rest.iter().map(String::as_str).collect();
    Some(match (&request.method, names.as_slice()) {
        (&Method::GET, []) => Ok(Asked::Describe),
        (&Method::POST, [act]) => {
            let mut document = request.json();
            if let Some(object) = document.as_object_mut() {
                object.insert("act".to_owned(), json!(act));
            }
            serde_json::from_value(document)
                .map(Asked::UserAction)
                .map_err(|error| Response::json(400, &json!({"error": format!("{act}: {error}"), "usage": usage("")})))
        }
        _ => Err(Response::json(404, &json!({"error": "no such control endpoint", "usage": usage("")}))),
    })
}

/// The result of an action.
pub fn done(provider_events: &[ProviderEvent], deliveries: usize) -> Response {
    let told: Vec<Value> = provider_events.iter().map(tell).collect();
    Response::json(200, &json!({"happened": told, "deliveries": deliveries}))
}

fn tell(provider_event: &ProviderEvent) -> Value {
    match provider_event {
        ProviderEvent::Reference { reference, before, after, .. } => json!({"reference": reference, "before": before, "after": after}),
        ProviderEvent::PullRequest { pull_request, .. } => json!({"pullRequest": pull_request.number, "head": pull_request.head}),
    }
}

/// The initial data and the deliveries, as a document.
pub fn describe(seed_data: &SeedData, deliveries: &[(String, String, String)]) -> Response {
    let deliveries: Vec<Value> =
        deliveries.iter().map(|(repository, hook, outcome)| json!({"repository": repository, "hook": hook, "outcome": outcome})).collect();
    let repositories = [&seed_data.repository, &seed_data.other, &seed_data.empty];
    Response::json(
        200,
        &json!({"account": seed_data.account, "provider": seed_data.provider, "repositories": repositories, "deliveries": deliveries, "usage": usage("")}),
    )
}

/// One line for each control endpoint; `url` is the simulator's.
pub fn usage(url: &str) -> Vec<String> {
    let line = |act: &str, fields: &str| format!("POST {url}{PREFIX}/{act} {{\"repository\":\"…\"{fields}}}");
    vec![
        line("push", r#","branch":"main","message":"…""#),
        line("tag", r#","name":"v1""#),
        line("delete-branch", r#","branch":"topic""#),
        line("delete-tag", r#","name":"v1""#),
        line("open-pull-request", r#","source":"topic","target":"main","title":"…""#),
        line("edit-pull-request", r#","number":1,"title":"…""#),
        line("merge-pull-request", r#","number":1"#),
        line("close-pull-request", r#","number":1"#),
        line("comment-on-pull-request", r#","number":1,"text":"…""#),
        line("pause-hook", r#","hook":"…""#),
        line("redirect-hook", r#","hook":"…","url":"…""#),
        line("change-hook", r#","hook":"…""#),
        line("add-hook", r#","url":"…""#),
        line("remove-hook", r#","hook":"…""#),
        line("create-repository", ""),
        line("delete-repository", ""),
        line("rename-repository", r#","to":"…""#),
        format!("POST {url}{PREFIX}/revoke-token {{\"token\":\"…\"}}"),
        format!("GET {url}{PREFIX}"),
    ]
}
