//! Converts between GitHub's documents and the types of the provider port.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::wire;
use crate::api::v1alpha1::EventKind;
use crate::api::v1alpha1::binding::Visibility;
use crate::providers::model::{Hook, HookShape, HookState, HookUrl, Repository, RepositoryPath};
use crate::providers::permission::PermissionFinding;

const EVENTS: &str = "events";
const CONTENT_TYPE: &str = "content_type";
const INSECURE_SSL: &str = "insecure_ssl";
/// Subscribes a hook to every event.
const EVERYTHING: &str = "*";

/// The kind of account that read a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Viewer {
    Anonymous,
    /// A person or a service user: the reported role is the account's role.
    Account,
    /// An App: its rights are those of the installation, and the reported role has no meaning.
    App,
}

/// `empty`: whether the repository has no commits, which the document does not state.
pub(super) fn repository(repository: wire::Repository, viewer: Viewer, empty: bool) -> Repository {
    let visibility = match repository.visibility.as_deref() {
        Some("internal") => Visibility::Internal,
        Some("private") => Visibility::Private,
        Some("public") => Visibility::Public,
        _ if repository.private => Visibility::Private,
        _ => Visibility::Public,
    };
    let manage_webhooks = match (viewer, repository.permissions) {
        (Viewer::Anonymous, _) => PermissionFinding::needs_credential(),
        (Viewer::App, _) => PermissionFinding::granted(),
        (Viewer::Account, Some(permissions)) if permissions.admin => PermissionFinding::granted(),
        (Viewer::Account, Some(_)) => PermissionFinding::missing("the account needs the role admin on this repository"),
        (Viewer::Account, None) => PermissionFinding::unknown("the server does not report the account's role on this repository"),
    };
    // An empty repository reports the branch that its first push is expected on.
    let default_branch = if empty { None } else { repository.default_branch.filter(|branch| !branch.is_empty()) };
    Repository {
        id: repository.id.to_string(),
        path: RepositoryPath::new(repository.full_name),
        web_url: repository.html_url,
        clone_url: repository.clone_url,
        ssh_url: repository.ssh_url,
        default_branch,
        visibility: Some(visibility),
        archived: repository.archived,
        empty,
        manage_webhooks,
        project: None,
    }
}

/// GitHub's names of the events that report `event`. `create` and `delete` are not needed: `push` also reports new and
/// deleted branches and tags.
pub(super) const fn words(event: EventKind) -> &'static [&'static str] {
    match event {
        EventKind::Push | EventKind::Tag => &["push"],
        EventKind::PullRequest | EventKind::PullRequestMerged | EventKind::PullRequestClosed => &["pull_request"],
        EventKind::PullRequestComment => &["issue_comment", "pull_request_review", "pull_request_review_comment"],
    }
}

/// Returns one hook for all events. Returns none without events, because GitHub reads an empty list as `push`.
pub(super) fn shapes(events: &BTreeSet<EventKind>) -> Vec<HookShape> {
    if events.is_empty() {
        return Vec::new();
    }
    let wanted: BTreeSet<_> = events.iter().flat_map(|event| words(*event)).copied().collect();
    vec![HookShape { variant: String::new(), fields: fields(&wanted, "json", "0"), events: events.clone() }]
}

fn fields(events: &BTreeSet<&str>, content_type: &str, insecure_ssl: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (EVENTS, events.iter().copied().collect::<Vec<_>>().join(",")),
        (CONTENT_TYPE, content_type.to_owned()),
        (INSECURE_SSL, insecure_ssl.to_owned()),
    ])
}

pub(super) fn hook(hook: &wire::Hook) -> Hook {
    let events: BTreeSet<_> = hook.events.iter().map(String::as_str).collect();
    let told = |word: &&str| events.contains(word) || events.contains(EVERYTHING);
    let delivered = EventKind::ALL.into_iter().filter(|event| words(*event).iter().all(told)).collect();
    let config = &hook.config;
    let insecure_ssl = config.insecure_ssl.as_ref().map_or_else(|| "0".to_owned(), ToString::to_string);
    let fields = fields(&events, config.content_type.as_deref().unwrap_or("form"), &insecure_ssl);
    Hook {
        id: hook.id.to_string(),
        url: HookUrl::new(config.url.clone()),
        shape: HookShape { variant: String::new(), fields, events: delivered },
        state: if hook.active { HookState::Active } else { HookState::Paused },
        has_secret: Some(config.has_secret()),
    }
}

fn field<'a>(shape: &'a HookShape, name: &str) -> &'a str {
    shape.fields.get(name).map_or("", String::as_str)
}

/// Document that updates a hook to the shape. It always includes the secret, because an update whose `config` lacks the
/// secret deletes it. It leaves out `active` on purpose: GitHub keeps the value, so a hook that a person paused stays
/// paused.
pub(super) fn update(url: &HookUrl, shape: &HookShape, secret: &str) -> Value {
    let events: Vec<_> = field(shape, EVENTS).split(',').filter(|word| !word.is_empty()).collect();
    json!({
        "config": {
            "url": url.expose(),
            CONTENT_TYPE: field(shape, CONTENT_TYPE),
            INSECURE_SSL: field(shape, INSECURE_SSL),
            "secret": secret,
        },
        "events": events,
    })
}

/// Document that creates a hook with the shape.
pub(super) fn creation(url: &HookUrl, shape: &HookShape, secret: &str) -> Value {
    let mut document = update(url, shape, secret);
    if let Some(object) = document.as_object_mut() {
        object.insert("name".to_owned(), json!("web"));
        object.insert("active".to_owned(), json!(true));
    }
    document
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::v1alpha1::connection::PermissionState;

    fn read_back(document: Value) -> Hook {
        hook(&serde_json::from_value(document).unwrap())
    }

    fn with_events(events: &[&str]) -> Value {
        let config = json!({"url": "https://in", "content_type": "json", "insecure_ssl": "0", "secret": "********"});
        json!({"id": 7, "name": "web", "active": true, "events": events, "config": config})
    }

    #[test]
    fn one_hook_has_each_event_of_github_once() {
        let shape = shapes(&EventKind::ALL.into_iter().collect()).remove(0);
        assert_eq!(shape.fields[EVENTS], "issue_comment,pull_request,pull_request_review,pull_request_review_comment,push");
        let document = creation(&HookUrl::new("https://in".into()), &shape, "s");
        assert_eq!(
            document["events"],
            json!(["issue_comment", "pull_request", "pull_request_review", "pull_request_review_comment", "push"])
        );
        assert_eq!((&document["name"], &document["active"]), (&json!("web"), &json!(true)));
        assert_eq!(document["config"], json!({"url": "https://in", "content_type": "json", "insecure_ssl": "0", "secret": "s"}));
        assert!(shapes(&BTreeSet::new()).is_empty());
    }

    #[test]
    fn a_change_of_any_field_is_drift_and_the_order_of_events_is_not() {
        let desired = shapes(&[EventKind::Push, EventKind::PullRequest].into()).remove(0);
        assert_eq!(read_back(with_events(&["pull_request", "push"])).drift(&desired), Vec::<&str>::new());
        for (pointer, value, field) in [
            ("/events", json!(["push"]), EVENTS),
            ("/events", json!(["push", "pull_request", "issues"]), EVENTS),
            ("/events", json!(["*"]), EVENTS),
            ("/config/content_type", json!("form"), CONTENT_TYPE),
            ("/config/content_type", Value::Null, CONTENT_TYPE),
            ("/config/insecure_ssl", json!("1"), INSECURE_SSL),
            ("/config/insecure_ssl", json!(1), INSECURE_SSL),
            ("/config/secret", Value::Null, "secret"),
        ] {
            let mut document = with_events(&["push", "pull_request"]);
            *document.pointer_mut(pointer).unwrap() = value.clone();
            assert_eq!(read_back(document).drift(&desired), [field], "{pointer} {value}");
        }
    }

    #[test]
    fn a_hook_for_everything_delivers_everything() {
        assert_eq!(read_back(with_events(&["*"])).shape.events, EventKind::ALL.into_iter().collect());
        assert_eq!(read_back(with_events(&["issue_comment", "push"])).shape.events, [EventKind::Push, EventKind::Tag].into());
    }

    #[test]
    fn a_pause_is_a_state_that_an_update_leaves_alone() {
        let desired = shapes(&[EventKind::Push].into()).remove(0);
        let mut document = with_events(&["push"]);
        document["active"] = json!(false);
        let hook = read_back(document);
        assert_eq!((hook.drift(&desired), &hook.state), (Vec::new(), &HookState::Paused));
        assert!(update(&hook.url, &desired, "s").get("active").is_none());
    }

    #[test]
    fn an_update_never_takes_the_secret_away() {
        let shape = shapes(&[EventKind::Push].into()).remove(0);
        assert_eq!(update(&HookUrl::new("https://in".into()), &shape, "s")["config"]["secret"], json!("s"));
    }

    fn wire_repository(rest: &Value) -> wire::Repository {
        let mut document = json!({"id": 9_007_199_254_740_993_i64, "full_name": "Acme/Shop", "default_branch": "main"});
        document.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn bb_15_who_may_manage_hooks_is_told_for_each_repository() {
        let state = |rest: Value, viewer| repository(wire_repository(&rest), viewer, false).manage_webhooks.state;
        let (admin, write) = (json!({"permissions": {"admin": true}}), json!({"permissions": {"push": true, "admin": false}}));
        assert_eq!(state(admin.clone(), Viewer::Account), PermissionState::Granted);
        assert_eq!(state(write.clone(), Viewer::Account), PermissionState::Missing);
        assert_eq!(state(json!({}), Viewer::Account), PermissionState::Unknown);
        assert_eq!(state(write, Viewer::App), PermissionState::Granted, "an App's role is not its right");
        assert_eq!(state(admin, Viewer::Anonymous), PermissionState::Missing);
    }

    #[test]
    fn a_repository_is_what_the_document_says() {
        let visibility = |rest: Value| repository(wire_repository(&rest), Viewer::Account, false).visibility.unwrap();
        assert_eq!(visibility(json!({"private": true, "visibility": "internal"})), Visibility::Internal);
        assert_eq!(visibility(json!({"private": true})), Visibility::Private);
        assert_eq!(visibility(json!({"private": false, "visibility": "public"})), Visibility::Public);
        let found = repository(wire_repository(&json!({"archived": true})), Viewer::Account, true);
        assert_eq!((found.id.as_str(), found.path.as_str()), ("9007199254740993", "Acme/Shop"), "ids are wider than a float");
        assert_eq!((found.archived, found.empty, found.default_branch), (true, true, None));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_as_wanted(events in prop::collection::btree_set(prop::sample::select(EventKind::ALL.to_vec()), 1..6)) {
            let shape = shapes(&events).remove(0);
            let mut document = creation(&HookUrl::new("https://in".into()), &shape, "s");
            document["id"] = json!(1);
            document["config"]["secret"] = json!("********");
            let hook = read_back(document);
            prop_assert_eq!(hook.drift(&shape), Vec::<&str>::new());
            prop_assert!(events.is_subset(&hook.shape.events));
        }
    }
}
