//! Control endpoints: what a person or git would do, asked for by HTTP. Only on simulators, below `/_simulator`.

use http::Method;
use serde_json::{Value, json};

use super::contents::{Act, Happening};
use super::message::{Request, Response};
use super::product::Welcome;

/// Where they are.
pub const PREFIX: &str = "/_simulator";

/// What a control request asks for.
pub enum Asked {
    /// To do this.
    Act(Act),
    /// What is ready, and what was sent.
    Describe,
}

/// Reads a control request; `None` for any other request.
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
                .map(Asked::Act)
                .map_err(|error| Response::json(400, &json!({"error": format!("{act}: {error}"), "usage": usage("")})))
        }
        _ => Err(Response::json(404, &json!({"error": "no such control endpoint", "usage": usage("")}))),
    })
}

/// What came of an act.
pub fn done(happenings: &[Happening], deliveries: usize) -> Response {
    let told: Vec<Value> = happenings.iter().map(tell).collect();
    Response::json(200, &json!({"happened": told, "deliveries": deliveries}))
}

fn tell(happening: &Happening) -> Value {
    match happening {
        Happening::Reference { reference, before, after, .. } => json!({"reference": reference, "before": before, "after": after}),
        Happening::PullRequest { pull_request, .. } => json!({"pullRequest": pull_request.number, "head": pull_request.head}),
    }
}

/// What is ready, as a document.
pub fn describe(welcome: &Welcome, deliveries: &[(String, String, String)]) -> Response {
    let deliveries: Vec<Value> =
        deliveries.iter().map(|(repository, hook, outcome)| json!({"repository": repository, "hook": hook, "outcome": outcome})).collect();
    let repositories = [&welcome.repository, &welcome.other, &welcome.empty];
    Response::json(
        200,
        &json!({"account": welcome.account, "provider": welcome.provider, "repositories": repositories, "deliveries": deliveries, "usage": usage("")}),
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
        line("rename-repository", r#","to":"…""#),
        format!("POST {url}{PREFIX}/revoke-token {{\"token\":\"…\"}}"),
        format!("GET {url}{PREFIX}"),
    ]
}
