//! Converts between the API's documents and the types of the provider port.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use url::Url;

use super::wire;
use crate::api::v1alpha1::EventKind;
use crate::api::v1alpha1::binding::Visibility;
use crate::providers::model::{Hook, HookShape, HookState, HookUrl, Project, Repository, RepositoryPath};
use crate::providers::permission::PermissionFinding;

const EVENTS: &str = "events";
const SKIP_CERT_VERIFICATION: &str = "skip_cert_verification";

/// Description of a new hook in the repository's settings.
const DESCRIPTION: &str = "Forgebind";

pub(super) fn repository(repository: wire::Repository, anonymous: bool) -> Repository {
    let visibility = repository.is_private.map(|private| if private { Visibility::Private } else { Visibility::Public });
    let manage_webhooks = if anonymous {
        PermissionFinding::needs_credential()
    } else {
        PermissionFinding::unknown("Bitbucket Cloud does not report the role on this repository; managing its hooks needs admin")
    };
    let clone = |name: &str| {
        let mut links = repository.links.clone.iter();
        links.find(|link| link.name.as_deref() == Some(name)).map(|link| link.href.clone())
    };
    let (clone_url, ssh_url) = (clone("https").map(without_user), clone("ssh"));
    Repository {
        id: repository.uuid,
        path: RepositoryPath::new(repository.full_name),
        web_url: repository.links.html.map(|link| link.href),
        clone_url,
        ssh_url,
        empty: repository.mainbranch.is_none(),
        default_branch: repository.mainbranch.map(|branch| branch.name),
        visibility,
        // Bitbucket Cloud cannot archive repositories.
        archived: false,
        manage_webhooks,
        project: repository.project.map(|project| Project { id: project.uuid, key: project.key }),
    }
}

/// Removes the user name of the requesting account from a clone URL.
fn without_user(href: String) -> String {
    let Ok(mut url) = Url::parse(&href) else { return href };
    if url.set_username("").and_then(|()| url.set_password(None)).is_ok() { url.into() } else { href }
}

/// Event keys that report `event`. A push reports branches and tags alike.
pub(super) const fn words(event: EventKind) -> &'static [&'static str] {
    match event {
        EventKind::Push | EventKind::Tag => &["repo:push"],
        EventKind::PullRequest => &["pullrequest:created", "pullrequest:updated"],
        EventKind::PullRequestMerged => &["pullrequest:fulfilled"],
        EventKind::PullRequestClosed => &["pullrequest:rejected"],
        EventKind::PullRequestComment => &["pullrequest:comment_created"],
    }
}

/// Returns one hook for all events. Returns none without events, because the API requires at least one.
pub(super) fn shapes(events: &BTreeSet<EventKind>) -> Vec<HookShape> {
    if events.is_empty() {
        return Vec::new();
    }
    let keys: BTreeSet<_> = events.iter().flat_map(|event| words(*event)).copied().collect();
    vec![HookShape { variant: String::new(), fields: fields(&keys, Some(false)), events: events.clone() }]
}

pub(super) fn hook(hook: wire::Hook) -> Hook {
    let keys: BTreeSet<_> = hook.events.iter().map(String::as_str).collect();
    let delivered = EventKind::ALL.into_iter().filter(|event| words(*event).iter().all(|key| keys.contains(key))).collect();
    let fields = fields(&keys, hook.skip_cert_verification);
    Hook {
        id: hook.uuid,
        url: HookUrl::new(hook.url),
        shape: HookShape { variant: String::new(), fields, events: delivered },
        // Only a person disables a hook.
        state: if hook.active { HookState::Active } else { HookState::Paused },
        has_secret: hook.secret_set,
    }
}

/// The compared fields. A field that the API does not return is not compared.
fn fields(events: &BTreeSet<&str>, skip_cert_verification: Option<bool>) -> BTreeMap<&'static str, String> {
    let events = (EVENTS, events.iter().copied().collect::<Vec<_>>().join(","));
    let skips = skip_cert_verification.map(|skips| (SKIP_CERT_VERIFICATION, skips.to_string()));
    std::iter::once(events).chain(skips).collect()
}

/// Document that creates a hook with the shape or updates the `present` hook to it. An update keeps what a person set on
/// the hook, its pause and its description, and without `secret` also its secret.
pub(super) fn document(url: &HookUrl, shape: &HookShape, secret: Option<&str>, present: Option<&wire::Hook>) -> Value {
    let events: Vec<_> = shape.fields.get(EVENTS).map_or("", String::as_str).split(',').filter(|key| !key.is_empty()).collect();
    let description = present.and_then(|hook| hook.description.as_deref()).filter(|description| !description.is_empty());
    let mut document = json!({
        "description": description.unwrap_or(DESCRIPTION),
        "url": url.expose(),
        "active": present.is_none_or(|hook| hook.active),
        "events": events,
        "skip_cert_verification": false,
    });
    if let (Some(secret), Some(fields)) = (secret, document.as_object_mut()) {
        fields.insert("secret".to_owned(), json!(secret));
    }
    document
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(document: Value) -> wire::Hook {
        serde_json::from_value(document).unwrap()
    }

    fn read_back(events: &[&str], active: bool, secret_set: bool) -> Hook {
        let uuid = "{5f0a2a3c-0000-4000-8000-000000000007}";
        hook(read(
            json!({"uuid": uuid, "url": "https://in.acme.io/hooks/a/1", "events": events, "active": active, "secret_set": secret_set}),
        ))
    }

    #[test]
    fn bb_21_the_order_of_events_is_not_drift() {
        let desired = shapes(&[EventKind::Push, EventKind::PullRequest].into()).remove(0);
        assert_eq!(desired.fields[EVENTS], "pullrequest:created,pullrequest:updated,repo:push");
        let keys = ["repo:push", "pullrequest:updated", "pullrequest:created"];
        assert_eq!(read_back(&keys, true, true).drift(&desired), Vec::<&str>::new());
        assert_eq!(read_back(&keys[..2], true, true).drift(&desired), [EVENTS]);
        assert_eq!(read_back(&[&keys[..], &["repo:fork"]].concat(), true, true).drift(&desired), [EVENTS]);
    }

    #[test]
    fn pk_13_a_hook_without_a_secret_has_drifted() {
        let desired = shapes(&[EventKind::Tag].into()).remove(0);
        assert_eq!(read_back(&["repo:push"], true, false).drift(&desired), ["secret"]);
    }

    #[test]
    fn certificates_are_verified_where_the_hook_tells() {
        let desired = shapes(&[EventKind::Tag].into()).remove(0);
        let lax = json!({"uuid": "{1}", "events": ["repo:push"], "active": true, "secret_set": true, "skip_cert_verification": true});
        assert_eq!(hook(read(lax)).drift(&desired), [SKIP_CERT_VERIFICATION]);
        assert_eq!(document(&HookUrl::new("https://in".into()), &desired, Some("s"), None)["skip_cert_verification"], json!(false));
    }

    #[test]
    fn a_pause_is_a_state_and_a_change_keeps_it() {
        let desired = shapes(&[EventKind::Tag].into()).remove(0);
        let paused = read_back(&["repo:push"], false, true);
        assert_eq!((paused.drift(&desired), &paused.state), (Vec::new(), &HookState::Paused));
        let present = read(json!({"uuid": "{1}", "active": false, "description": "Deploys"}));
        let changed = document(&paused.url, &desired, Some("s"), Some(&present));
        assert_eq!((&changed["active"], &changed["description"]), (&json!(false), &json!("Deploys")));
        let made = document(&paused.url, &desired, Some("s"), None);
        assert_eq!((&made["active"], &made["description"]), (&json!(true), &json!(DESCRIPTION)));
    }

    #[test]
    fn dv_14_a_repository_is_read() {
        let document = json!({
            "uuid": "{3f0f8e6c-0000-4000-8000-000000000001}", "full_name": "acme/shop", "is_private": true,
            "mainbranch": {"type": "branch", "name": "main"},
            "project": {"type": "project", "uuid": "{9d2e2f5a-0000-4000-8000-000000000002}", "key": "APP", "name": "App"},
            "links": {
                "html": {"href": "https://bitbucket.org/acme/shop"},
                "clone": [
                    {"name": "https", "href": "https://ada@bitbucket.org/acme/shop.git"},
                    {"name": "ssh", "href": "git@bitbucket.org:acme/shop.git"},
                ],
            },
        });
        let shop = repository(serde_json::from_value(document).unwrap(), false);
        assert_eq!(shop.id, "{3f0f8e6c-0000-4000-8000-000000000001}");
        assert_eq!(shop.clone_url.as_deref(), Some("https://bitbucket.org/acme/shop.git"), "without the account that asked");
        assert_eq!(shop.ssh_url.as_deref(), Some("git@bitbucket.org:acme/shop.git"));
        assert_eq!((shop.default_branch.as_deref(), shop.empty, shop.visibility), (Some("main"), false, Some(Visibility::Private)));
        assert_eq!(shop.project.unwrap().key, "APP");
    }

    #[test]
    fn dv_03_an_empty_repository_has_no_main_branch() {
        let document = json!({"uuid": "{1}", "full_name": "acme/empty", "is_private": false, "mainbranch": null});
        let empty = repository(serde_json::from_value(document).unwrap(), true);
        assert_eq!((empty.empty, empty.default_branch, empty.visibility), (true, None, Some(Visibility::Public)));
        assert_eq!(empty.manage_webhooks.state, crate::api::v1alpha1::connection::PermissionState::Missing);
    }

    #[test]
    fn no_event_is_no_hook() {
        assert!(shapes(&BTreeSet::new()).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_as_wanted(events in prop::collection::btree_set(prop::sample::select(EventKind::ALL.to_vec()), 1..6)) {
            let shape = shapes(&events).remove(0);
            let mut written = document(&HookUrl::new("https://in".into()), &shape, Some("s"), None);
            written["uuid"] = json!("{1}");
            written["secret_set"] = json!(true);
            let hook = hook(read(written));
            prop_assert_eq!(hook.drift(&shape), Vec::<&str>::new());
            prop_assert!(events.is_subset(&hook.shape.events));
        }
    }
}
