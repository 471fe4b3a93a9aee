//! Converts between GitLab's documents and the types of the provider port. Pure functions only.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::wire;
use crate::api::v1alpha1::EventKind;
use crate::api::v1alpha1::binding::Visibility;
use crate::providers::model::{Hook, HookShape, HookState, HookUrl, Repository, RepositoryPath};
use crate::providers::permission::PermissionFinding;
use crate::providers::scalar::Scalar;

/// All events of a project hook. Every one is written, because an omitted event keeps its value or gets a default.
const EVENTS: [&str; 17] = [
    "confidential_issues_events",
    "confidential_note_events",
    "deployment_events",
    "emoji_events",
    "feature_flag_events",
    "issues_events",
    "job_events",
    MERGE_REQUESTS,
    "milestone_events",
    NOTES,
    "pipeline_events",
    PUSHES,
    "releases_events",
    "resource_access_token_events",
    TAG_PUSHES,
    "vulnerability_events",
    "wiki_page_events",
];
const PUSHES: &str = "push_events";
const TAG_PUSHES: &str = "tag_push_events";
const MERGE_REQUESTS: &str = "merge_requests_events";
const NOTES: &str = "note_events";

const BRANCH_FILTER: &str = "push_events_branch_filter";
const BRANCH_FILTER_STRATEGY: &str = "branch_filter_strategy";
const EVERY_BRANCH: &str = "all_branches";
const TEMPLATE: &str = "custom_webhook_template";
const TLS_VERIFICATION: &str = "enable_ssl_verification";
/// Named after the API calls that remove entries of these lists, because an update only adds entries.
pub(super) const URL_VARIABLES: &str = "url_variables";
pub(super) const CUSTOM_HEADERS: &str = "custom_headers";

/// Name of a new hook.
const NAME: &str = "Forgebind";

pub(super) fn repository(project: wire::Project, manage_webhooks: PermissionFinding) -> Repository {
    let visibility = match project.visibility.as_deref() {
        Some("public") => Some(Visibility::Public),
        Some("internal") => Some(Visibility::Internal),
        Some("private") => Some(Visibility::Private),
        _ => None,
    };
    // Absent if the project has no repository.
    let empty = project.empty_repo.unwrap_or(project.default_branch.is_none());
    Repository {
        id: project.id.to_string(),
        path: RepositoryPath::new(project.path_with_namespace),
        web_url: told(project.web_url),
        clone_url: told(project.http_url_to_repo),
        ssh_url: told(project.ssh_url_to_repo),
        default_branch: if empty { None } else { told(project.default_branch) },
        visibility,
        // A project marked for deletion is read-only until it is deleted or restored.
        archived: project.archived || project.marked_for_deletion_on.is_some(),
        empty,
        manage_webhooks,
        project: None,
    }
}

fn told(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// GitLab's name of the event that reports `event`.
pub(super) const fn words(event: EventKind) -> &'static [&'static str] {
    match event {
        EventKind::Push => &[PUSHES],
        EventKind::Tag => &[TAG_PUSHES],
        EventKind::PullRequest | EventKind::PullRequestMerged | EventKind::PullRequestClosed => &[MERGE_REQUESTS],
        EventKind::PullRequestComment => &[NOTES],
    }
}

/// Returns one hook for all events. Returns none without events.
pub(super) fn shapes(events: &BTreeSet<EventKind>) -> Vec<HookShape> {
    if events.is_empty() {
        return Vec::new();
    }
    let wanted: BTreeSet<_> = events.iter().flat_map(|event| words(*event)).copied().collect();
    let mut fields: BTreeMap<_, _> = EVENTS.into_iter().map(|event| (event, wanted.contains(event).to_string())).collect();
    fields.extend([
        (BRANCH_FILTER, String::new()),
        (BRANCH_FILTER_STRATEGY, EVERY_BRANCH.to_owned()),
        (TEMPLATE, String::new()),
        (TLS_VERIFICATION, true.to_string()),
        (URL_VARIABLES, String::new()),
        (CUSTOM_HEADERS, String::new()),
    ]);
    vec![HookShape { variant: String::new(), fields, events: events.clone() }]
}

/// Converts a hook document. `cause`: why GitLab disabled the hook permanently, if that was looked up.
pub(super) fn hook(hook: wire::Hook, cause: Option<String>) -> Hook {
    let mut fields: BTreeMap<&'static str, String> = BTreeMap::new();
    for event in EVENTS {
        if let Some(Scalar::Flag(on)) = hook.rest.get(event) {
            fields.insert(event, on.to_string());
        }
    }
    let (strategy, filter) = branches(hook.branch_filter_strategy.as_deref(), hook.push_events_branch_filter.as_deref());
    fields.insert(BRANCH_FILTER_STRATEGY, strategy.to_owned());
    fields.insert(BRANCH_FILTER, filter.to_owned());
    fields.extend(hook.custom_webhook_template.map(|template| (TEMPLATE, template)));
    fields.extend(hook.enable_ssl_verification.map(|verified| (TLS_VERIFICATION, verified.to_string())));
    fields.extend(hook.url_variables.map(|variables| (URL_VARIABLES, keys(&variables))));
    fields.extend(hook.custom_headers.map(|headers| (CUSTOM_HEADERS, keys(&headers))));
    let is_on = |event: &&str| fields.get(*event).is_some_and(|on| on == "true");
    let events = EventKind::ALL.into_iter().filter(|event| words(*event).iter().all(&is_on)).collect();
    let has_secret = match (hook.signing_token_present, hook.token_present) {
        (None, None) => None,
        (signing, token) => Some(signing == Some(true) || token == Some(true)),
    };
    Hook {
        id: hook.id.to_string(),
        url: HookUrl::new(hook.url),
        state: state(hook.alert_status.as_deref(), hook.disabled_until.as_deref(), cause),
        shape: HookShape { variant: String::new(), fields, events },
        has_secret,
    }
}

/// The effective branch strategy and filter. An empty wildcard matches every branch.
fn branches<'a>(strategy: Option<&'a str>, filter: Option<&'a str>) -> (&'a str, &'a str) {
    match (strategy.unwrap_or("wildcard"), filter.unwrap_or_default()) {
        (EVERY_BRANCH, _) | ("wildcard", "") => (EVERY_BRANCH, ""),
        (strategy, filter) => (strategy, filter),
    }
}

/// The names of the entries. Their values are not stored.
fn keys(entries: &[wire::Keyed]) -> String {
    let names: BTreeSet<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
    names.into_iter().collect::<Vec<_>>().join(",")
}

/// The delivery state. GitLab offers no way to pause a hook; only GitLab itself stops deliveries.
fn state(alert: Option<&str>, until: Option<&str>, cause: Option<String>) -> HookState {
    match alert {
        Some("temporarily_disabled") => {
            let told = until.unwrap_or("later");
            HookState::HeldBack {
                cause: format!("several deliveries in a row failed; GitLab drops every event until {told}"),
                until: until.and_then(|until| until.parse().ok()),
            }
        }
        Some("disabled") => {
            let cause = cause.map_or_else(String::new, |cause| format!("; {cause}"));
            HookState::Disabled(format!("40 deliveries in a row failed{cause}"))
        }
        _ => HookState::Active,
    }
}

/// Whether GitLab disabled the hook permanently.
pub(super) fn is_disabled(hook: &wire::Hook) -> bool {
    hook.alert_status.as_deref() == Some("disabled")
}

/// Describes the result of the last delivery. `None` if the log does not state it.
pub(super) fn last_answer(event: &wire::HookEvent) -> Option<String> {
    match event.response_status.as_ref()? {
        Scalar::Number(status) => Some(format!("the last answer was HTTP {status}")),
        Scalar::Text(status) if status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(format!("the last answer was HTTP {status}"))
        }
        Scalar::Text(_) => Some("the last one got no response".to_owned()),
        _ => None,
    }
}

/// Document that updates a hook to the shape, with every field of the shape except the entries of lists, because GitLab
/// only adds those.
pub(super) fn update(url: &HookUrl, shape: &HookShape) -> Map<String, Value> {
    let mut document = Map::from_iter([("url".to_owned(), json!(url.expose()))]);
    for (name, value) in &shape.fields {
        let value = match *name {
            URL_VARIABLES | CUSTOM_HEADERS => continue,
            TLS_VERIFICATION => json!(value == "true"),
            event if EVENTS.contains(&event) => json!(value == "true"),
            _ => json!(value),
        };
        document.insert((*name).to_owned(), value);
    }
    document
}

/// Document that creates a hook with the shape.
pub(super) fn creation(url: &HookUrl, shape: &HookShape) -> Map<String, Value> {
    let mut document = update(url, shape);
    document.insert("name".to_owned(), json!(NAME));
    document
}

/// Entries of a hook that the shape does not have: the list and the name of each.
pub(super) fn surplus(hook: &wire::Hook, shape: &HookShape) -> Vec<(&'static str, String)> {
    let lists = [(URL_VARIABLES, &hook.url_variables), (CUSTOM_HEADERS, &hook.custom_headers)];
    let unwanted = lists.into_iter().filter(|(name, _)| shape.fields.get(name).is_some_and(String::is_empty));
    unwanted.flat_map(|(name, entries)| entries.iter().flatten().map(move |entry| (name, entry.key.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(events: &[EventKind]) -> HookShape {
        shapes(&events.iter().copied().collect()).remove(0)
    }

    /// The hook that GitLab returns after this document was written.
    fn shown(written: &Map<String, Value>) -> Value {
        let mut document = written.clone();
        let more = [("id", json!(7)), ("alert_status", json!("executable")), ("url_variables", json!([])), ("custom_headers", json!([]))];
        document.extend(more.map(|(name, value)| (name.to_owned(), value)));
        document.into()
    }

    fn read(document: Value) -> Hook {
        hook(serde_json::from_value(document).unwrap(), None)
    }

    fn changed(events: &[EventKind], changes: &Value) -> Vec<&'static str> {
        let wanted = wanted(events);
        let mut document = shown(&creation(&HookUrl::new("https://in".into()), &wanted));
        document.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        read(document).drift(&wanted)
    }

    #[test]
    fn every_event_is_told_apart_and_written() {
        let document = creation(&HookUrl::new("https://in".into()), &wanted(&[EventKind::Push, EventKind::PullRequestComment]));
        let on: Vec<_> = document.iter().filter(|(_, value)| **value == json!(true)).map(|(name, _)| name.as_str()).collect();
        assert_eq!(on, ["enable_ssl_verification", "note_events", "push_events"]);
        let off = document.iter().filter(|(name, value)| name.ends_with("_events") && **value == json!(false)).count();
        assert_eq!(off, EVENTS.len() - 2, "what is left out keeps its value");
        assert_eq!((&document["branch_filter_strategy"], &document["name"]), (&json!("all_branches"), &json!("Forgebind")));
        assert!(!document.contains_key("custom_headers") && !document.contains_key("url_variables"));
    }

    #[test]
    fn everything_that_changes_what_is_delivered_is_drift() {
        let push = &[EventKind::Push];
        assert_eq!(changed(push, &json!({})), Vec::<&str>::new());
        assert_eq!(changed(push, &json!({"push_events": false})), ["push_events"]);
        assert_eq!(changed(push, &json!({"job_events": true})), ["job_events"]);
        assert_eq!(changed(push, &json!({"branch_filter_strategy": "regex", "push_events_branch_filter": "^x"})).len(), 2);
        assert_eq!(changed(push, &json!({"branch_filter_strategy": "wildcard", "push_events_branch_filter": "release/*"})).len(), 2);
        assert_eq!(changed(push, &json!({"branch_filter_strategy": "wildcard", "push_events_branch_filter": null})), Vec::<&str>::new());
        assert_eq!(changed(push, &json!({"custom_webhook_template": "{}"})), [TEMPLATE]);
        assert_eq!(changed(push, &json!({"enable_ssl_verification": false})), [TLS_VERIFICATION]);
        assert_eq!(changed(push, &json!({"custom_headers": [{"key": "X-One", "value": "***"}]})), [CUSTOM_HEADERS]);
        assert_eq!(changed(push, &json!({"url_variables": [{"key": "host"}]})), [URL_VARIABLES]);
        assert_eq!(changed(push, &json!({"token_present": false, "signing_token_present": false})), ["secret"]);
        assert_eq!(changed(push, &json!({"token_present": false, "signing_token_present": true})), Vec::<&str>::new());
    }

    #[test]
    fn what_an_older_server_does_not_show_is_no_drift() {
        let older = json!({"id": 1, "url": "https://in", "push_events": true, "tag_push_events": false, "enable_ssl_verification": true});
        let hook = read(older);
        assert_eq!((hook.drift(&wanted(&[EventKind::Push])), hook.has_secret), (Vec::new(), None));
        assert_eq!(hook.state, HookState::Active);
    }

    #[test]
    fn what_gitlab_switched_off_is_told_with_its_cause() {
        let state = |alert, until, cause: Option<&str>| state(Some(alert), until, cause.map(str::to_owned));
        assert_eq!(state("executable", None, None), HookState::Active);
        let held = |until| match state("temporarily_disabled", until, None) {
            HookState::HeldBack { cause, until } => (cause, until),
            other => panic!("{other:?}"),
        };
        assert_eq!(held(Some("2026-11-20T12:04:00.123Z")).1, "2026-11-20T12:04:00.123Z".parse().ok());
        assert_eq!((held(None).1, held(Some("soon")).1), (None, None));
        let (cause, _) = held(Some("2026-11-20T12:04:00Z"));
        assert!(cause.contains("until 2026-11-20T12:04:00Z"), "{cause}");
        let HookState::Disabled(cause) = state("disabled", None, Some("the last answer was HTTP 401")) else { panic!("switched off") };
        assert_eq!(cause, "40 deliveries in a row failed; the last answer was HTTP 401");
    }

    #[test]
    fn the_last_answer_is_told_in_our_own_words() {
        let told = |status: Value| last_answer(&serde_json::from_value(json!({"response_status": status})).unwrap());
        assert_eq!(told(json!("401")).unwrap(), "the last answer was HTTP 401");
        assert_eq!(told(json!(502)).unwrap(), "the last answer was HTTP 502");
        assert_eq!(told(json!("internal error")).unwrap(), "the last one got no response");
        assert_eq!(told(json!(null)), None);
    }

    #[test]
    fn df_20_values_of_headers_are_not_kept() {
        let document = json!({"id": 1, "url": "https://in/canary", "custom_headers": [{"key": "X-One", "value": "canary"}]});
        let wire: wire::Hook = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(surplus(&wire, &wanted(&[EventKind::Push])), [(CUSTOM_HEADERS, "X-One".to_owned())]);
        let hook = hook(wire, None);
        assert!(!format!("{hook:?}").contains("canary"));
        let own: wire::Hook = serde_json::from_value(document).unwrap();
        assert_eq!(surplus(&own, &hook.shape), [], "a hook that is given back keeps what it has");
    }

    #[test]
    fn a_project_is_described() {
        let project = |more: &Value| {
            let mut document = json!({"id": 17, "path_with_namespace": "acme/shop", "default_branch": "main", "visibility": "internal"});
            document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            repository(serde_json::from_value(document).unwrap(), PermissionFinding::granted())
        };
        let plain = project(&json!({"empty_repo": false}));
        assert_eq!((plain.id.as_str(), plain.visibility, plain.empty, plain.archived), ("17", Some(Visibility::Internal), false, false));
        assert_eq!(project(&json!({"empty_repo": true})).default_branch, None, "the branch of a first push is none yet");
        assert!(project(&json!({"archived": true})).archived);
        assert!(project(&json!({"marked_for_deletion_on": "2026-11-27"})).archived, "read-only until it is gone");
        assert!(project(&json!({"default_branch": null})).empty);
    }

    #[test]
    fn no_event_is_no_hook() {
        assert!(shapes(&BTreeSet::new()).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_as_wanted(events in prop::collection::btree_set(prop::sample::select(EventKind::ALL.to_vec()), 1..6)) {
            let shape = shapes(&events).remove(0);
            let hook = read(shown(&creation(&HookUrl::new("https://in".into()), &shape)));
            prop_assert_eq!(hook.drift(&shape), Vec::<&str>::new());
            prop_assert!(events.is_subset(&hook.shape.events));
            prop_assert_eq!(update(&hook.url, &hook.shape), update(&hook.url, &shape));
        }
    }
}
