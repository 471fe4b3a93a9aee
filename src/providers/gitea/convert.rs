//! Converts between the API's documents and the types of the provider port.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::wire;
use crate::api::v1alpha1::EventKind;
use crate::api::v1alpha1::binding::Visibility;
use crate::providers::model::{Hook, HookShape, HookState, HookUrl, Repository, RepositoryPath};
use crate::providers::permission::PermissionFinding;

const TYPE: &str = "type";
const CONTENT_TYPE: &str = "content_type";
const EVENTS: &str = "events";
const BRANCH_FILTER: &str = "branch_filter";
const AUTHORIZATION_HEADER: &str = "authorization_header";

/// Comments on pull requests.
const COMMENTS: &str = "pull_request_comment";
/// Forgejo, and Gitea up to 1.23, have one switch for this event and [`COMMENTS`] and return both. The two are compared as
/// one.
const TIED_TO_COMMENTS: &str = "pull_request_review_comment";

/// Type of a hook that sends Gitea's own payload format.
const OWN_TYPE: &str = "gitea";

pub(super) fn repository(repository: wire::Repository, anonymous: bool) -> Repository {
    let visibility = match (repository.private, repository.internal) {
        (true, _) => Visibility::Private,
        (false, true) => Visibility::Internal,
        (false, false) => Visibility::Public,
    };
    let manage_webhooks = match &repository.permissions {
        _ if anonymous => PermissionFinding::needs_credential(),
        Some(permissions) if permissions.admin => PermissionFinding::granted(),
        Some(_) => PermissionFinding::missing("the account needs the role administrator on this repository"),
        None => PermissionFinding::unknown("the server does not report the account's role on this repository"),
    };
    // An empty repository reports the branch that its first push is expected on.
    let default_branch = if repository.empty { None } else { told(repository.default_branch) };
    Repository {
        id: repository.id.to_string(),
        path: RepositoryPath::new(repository.full_name),
        web_url: told(repository.html_url),
        clone_url: told(repository.clone_url),
        ssh_url: told(repository.ssh_url),
        default_branch,
        visibility: Some(visibility),
        archived: repository.archived,
        empty: repository.empty,
        manage_webhooks,
        project: None,
    }
}

fn told(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Gitea's names of the events that report `event`, as they are read back. Only `delete` reports deleted branches.
pub(super) const fn words(event: EventKind) -> &'static [&'static str] {
    match event {
        EventKind::Push => &["delete", "push"],
        EventKind::Tag => &["push"],
        EventKind::PullRequest => &["pull_request", "pull_request_sync"],
        EventKind::PullRequestMerged | EventKind::PullRequestClosed => &["pull_request"],
        EventKind::PullRequestComment => &[COMMENTS],
    }
}

/// The name to write so that `read` is read back. Written as they are, `pull_request` and `issues` would enable groups of
/// events.
fn written(read: &str) -> &str {
    match read {
        "pull_request" => "pull_request_only",
        "issues" => "issues_only",
        word => word,
    }
}

/// Returns one hook for all events. Returns none without events, because Gitea reads an empty list as `push`.
pub(super) fn shapes(events: &BTreeSet<EventKind>) -> Vec<HookShape> {
    if events.is_empty() {
        return Vec::new();
    }
    let read: BTreeSet<_> = events.iter().flat_map(|event| words(*event)).copied().collect();
    let fields = fields(OWN_TYPE, "json", &read, "", "");
    vec![HookShape { variant: String::new(), fields, events: events.clone() }]
}

pub(super) fn hook(hook: wire::Hook) -> Hook {
    let events = hook.events.unwrap_or_default();
    let mut read: BTreeSet<_> = events.iter().map(String::as_str).collect();
    if read.contains(COMMENTS) {
        read.remove(TIED_TO_COMMENTS);
    }
    // These types send the same documents with the same headers.
    let kind = if matches!(hook.kind.as_str(), "gitea" | "gogs" | "forgejo") { OWN_TYPE } else { &hook.kind };
    let fields = fields(kind, &hook.config.content_type, &read, &hook.branch_filter, &hook.authorization_header);
    let delivered = EventKind::ALL.into_iter().filter(|event| words(*event).iter().all(|word| read.contains(word))).collect();
    Hook {
        id: hook.id.to_string(),
        url: HookUrl::new(hook.config.url),
        shape: HookShape { variant: String::new(), fields, events: delivered },
        state: if hook.active { HookState::Active } else { HookState::Paused },
        has_secret: None,
    }
}

/// The compared fields. Of the authorization header only its presence is compared, because its value is a user's secret.
fn fields(
    kind: &str,
    content_type: &str,
    events: &BTreeSet<&str>,
    branch_filter: &str,
    authorization_header: &str,
) -> BTreeMap<&'static str, String> {
    // `*` and an empty filter both match every branch.
    let branch_filter = if branch_filter == "*" { "" } else { branch_filter };
    let authorization_header = if authorization_header.is_empty() { "" } else { "set" };
    BTreeMap::from([
        (TYPE, kind.to_owned()),
        (CONTENT_TYPE, content_type.to_owned()),
        (EVENTS, events.iter().copied().collect::<Vec<_>>().join(",")),
        (BRANCH_FILTER, branch_filter.to_owned()),
        (AUTHORIZATION_HEADER, authorization_header.to_owned()),
    ])
}

fn field<'a>(shape: &'a HookShape, name: &str) -> &'a str {
    shape.fields.get(name).map_or("", String::as_str)
}

/// Document that updates a hook to the shape. It contains the whole object, because an omitted field is reset. It leaves
/// out `active` on purpose: Gitea keeps the value, so a hook that a person paused stays paused.
pub(super) fn update(url: &HookUrl, shape: &HookShape) -> Value {
    let events: Vec<_> = field(shape, EVENTS).split(',').filter(|word| !word.is_empty()).map(written).collect();
    json!({
        "config": {"url": url.expose(), "content_type": field(shape, CONTENT_TYPE)},
        "events": events,
        "branch_filter": field(shape, BRANCH_FILTER),
        "authorization_header": "",
    })
}

/// Document that creates a hook with the shape. It sets `active`, because Gitea would otherwise create a disabled hook.
pub(super) fn creation(url: &HookUrl, shape: &HookShape, secret: &str) -> Value {
    let mut document = update(url, shape);
    if let Some(object) = document.as_object_mut() {
        object.insert(TYPE.to_owned(), json!(field(shape, TYPE)));
        object.insert("active".to_owned(), json!(true));
        if let Some(config) = object.get_mut("config").and_then(Value::as_object_mut) {
            config.insert("secret".to_owned(), json!(secret));
        }
    }
    document
}

/// The type of a hook if it differs from the type in the shape. An update cannot change it.
pub(super) fn foreign_type<'a>(hook: &'a Hook, shape: &HookShape) -> Option<&'a str> {
    Some(field(&hook.shape, TYPE)).filter(|kind| *kind != field(shape, TYPE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_back(events: &[&str], active: bool) -> Hook {
        let document = json!({
            "id": 7, "type": "gitea", "config": {"url": "https://in.acme.io/hooks/a/1", "content_type": "json"},
            "events": events, "active": active, "branch_filter": "", "authorization_header": "",
        });
        hook(serde_json::from_value(document).unwrap())
    }

    #[test]
    fn the_written_words_are_not_the_read_ones() {
        let shape = shapes(&EventKind::ALL.into_iter().collect()).remove(0);
        assert_eq!(shape.fields[EVENTS], "delete,pull_request,pull_request_comment,pull_request_sync,push");
        let document = creation(&HookUrl::new("https://in".into()), &shape, "s");
        let words = json!(["delete", "pull_request_only", "pull_request_comment", "pull_request_sync", "push"]);
        assert_eq!(document["events"], words);
        assert_eq!(document["active"], json!(true));
        assert_eq!(document["config"]["secret"], json!("s"));
    }

    #[test]
    fn bb_21_the_order_of_events_is_not_drift() {
        let desired = shapes(&[EventKind::Push, EventKind::PullRequest].into()).remove(0);
        assert_eq!(read_back(&["pull_request_sync", "push", "pull_request", "delete"], true).drift(&desired), Vec::<&str>::new());
        assert_eq!(read_back(&["pull_request_sync", "push", "pull_request"], true).drift(&desired), [EVENTS]);
        assert_eq!(read_back(&["pull_request_sync", "push", "pull_request", "delete", "wiki"], true).drift(&desired), [EVENTS]);
    }

    #[test]
    fn events_that_a_server_switches_together_are_compared_as_one() {
        let every = shapes(&EventKind::ALL.into_iter().collect()).remove(0);
        // What each server returns for the same hook.
        let gitea_1_24 = ["delete", "push", "pull_request", "pull_request_comment", "pull_request_sync"];
        let forgejo = ["delete", "push", "pull_request", "pull_request_comment", "pull_request_review_comment", "pull_request_sync"];
        for read in [&gitea_1_24[..], &forgejo[..]] {
            let hook = read_back(read, true);
            assert_eq!(hook.drift(&every), Vec::<&str>::new(), "{read:?}");
            assert_eq!(hook.shape.events, every.events, "{read:?}");
        }
        let push = shapes(&[EventKind::Push].into()).remove(0);
        assert_eq!(read_back(&["delete", "push", "pull_request_review_comment"], true).drift(&push), [EVENTS], "alone it is another one");
        assert_eq!(read_back(&["delete", "push", "pull_request_comment", "pull_request_review_comment"], true).drift(&push), [EVENTS]);
    }

    #[test]
    fn a_pause_is_a_state_and_not_drift() {
        let desired = shapes(&[EventKind::Tag].into()).remove(0);
        let hook = read_back(&["push"], false);
        assert_eq!((hook.drift(&desired), hook.state), (Vec::new(), HookState::Paused));
        assert!(update(&hook.url, &desired).get("active").is_none());
    }

    #[test]
    fn df_20_an_authorization_header_is_seen_and_not_kept() {
        let document = json!({"id": 1, "type": "slack", "config": {}, "events": null, "authorization_header": "Bearer canary"});
        let hook = hook(serde_json::from_value(document).unwrap());
        assert!(!format!("{hook:?}").contains("canary"));
        let desired = shapes(&[EventKind::Tag].into()).remove(0);
        assert!(hook.drift(&desired).contains(&AUTHORIZATION_HEADER));
        assert_eq!(foreign_type(&hook, &desired), Some("slack"));
    }

    #[test]
    fn no_event_is_no_hook() {
        assert!(shapes(&BTreeSet::new()).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_as_wanted(events in prop::collection::btree_set(prop::sample::select(EventKind::ALL.to_vec()), 1..6)) {
            let shape = shapes(&events).remove(0);
            let written = creation(&HookUrl::new("https://in".into()), &shape, "s");
            let read: Vec<_> = written["events"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().trim_end_matches("_only")).collect();
            let hook = read_back(&read, true);
            prop_assert_eq!(hook.drift(&shape), Vec::<&str>::new());
            prop_assert!(events.is_subset(&hook.shape.events));
        }
    }
}
