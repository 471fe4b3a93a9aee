//! Converts between the API's documents and the types of the provider port.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{permission, wire};
use crate::api::v1alpha1::EventKind;
use crate::api::v1alpha1::binding::Visibility;
use crate::providers::model::{Hook, HookShape, HookState, HookUrl, Repository, RepositoryPath};
use crate::providers::permission::PermissionFinding;
use crate::providers::scalar::Scalar;

const EVENTS: &str = "events";
const CERTIFICATES: &str = "sslVerificationRequired";
const CREDENTIALS: &str = "credentials";
const SECRET: &str = "secret";

/// Name of a new hook in the repository's settings.
const HOOK_NAME: &str = "Forgebind";
/// Failures in a row after which the server skips a hook, unless its administrator changed that.
const SKIPPED_AFTER: u64 = 5;
/// Maximum length of a hook's secret in characters.
pub(super) const LONGEST_SECRET: usize = 255;

/// Properties of a repository that its own document does not contain.
pub(super) struct Surroundings {
    /// The configured default branch, even if it was never pushed.
    pub(super) default_branch: Option<String>,
    /// Whether the repository has no branches.
    pub(super) empty: bool,
    pub(super) manage_webhooks: PermissionFinding,
}

pub(super) fn repository(repository: &wire::Repository, surroundings: Surroundings) -> Repository {
    let clone = |name: &str| repository.links.clone.iter().find(|link| link.name.as_deref() == Some(name)).map(|link| link.href.clone());
    // A repository in a public project is public, whatever its own document states.
    let visibility = if repository.public || repository.project.public { Visibility::Public } else { Visibility::Private };
    Repository {
        id: repository.id.to_string(),
        path: RepositoryPath::new(format!("{}/{}", repository.project.key, repository.slug)),
        web_url: repository.links.own.first().map(|link| link.href.clone()),
        clone_url: clone("http"),
        ssh_url: clone("ssh"),
        // A new repository has a configured default branch before its first push.
        default_branch: surroundings.default_branch.filter(|_| !surroundings.empty),
        visibility: Some(visibility),
        archived: repository.archived,
        empty: surroundings.empty,
        manage_webhooks: surroundings.manage_webhooks,
        project: None,
    }
}

/// Converts a repository of a list. A list contains nothing about branches and hooks.
pub(super) fn listed(found: &wire::Repository, anonymous: bool) -> Repository {
    let manage_webhooks =
        if anonymous { anonymous_finding() } else { PermissionFinding::unknown("reported when the repository is looked up") };
    repository(found, Surroundings { default_branch: None, empty: false, manage_webhooks })
}

pub(super) fn anonymous_finding() -> PermissionFinding {
    PermissionFinding::missing(format!("needs {}, and a credential to make changes", permission::REPOSITORY_ADMINISTRATION))
}

pub(super) fn branch_name(reference: &wire::Reference) -> &str {
    reference.id.strip_prefix("refs/heads/").unwrap_or(&reference.id)
}

/// Event keys that report `event`.
pub(super) const fn words(event: EventKind) -> &'static [&'static str] {
    match event {
        EventKind::Push | EventKind::Tag => &["repo:refs_changed"],
        EventKind::PullRequest => &["pr:from_ref_updated", "pr:modified", "pr:opened"],
        EventKind::PullRequestMerged => &["pr:merged"],
        EventKind::PullRequestClosed => &["pr:declined", "pr:deleted"],
        EventKind::PullRequestComment => &["pr:comment:added"],
    }
}

/// Returns one hook for all events. Returns none without events.
pub(super) fn shapes(events: &BTreeSet<EventKind>) -> Vec<HookShape> {
    if events.is_empty() {
        return Vec::new();
    }
    let keys = events.iter().flat_map(|event| words(*event)).copied().collect();
    let fields = BTreeMap::from([(EVENTS, joined(&keys)), (CERTIFICATES, true.to_string()), (CREDENTIALS, String::new())]);
    vec![HookShape { variant: String::new(), fields, events: events.clone() }]
}

/// Whether a hook belongs to the repository itself. Some versions also list the project's hooks, which cannot be changed
/// through the repository.
pub(super) fn is_of_repository(hook: &wire::Hook) -> bool {
    hook.scope_type.as_deref().is_none_or(|scope| scope.eq_ignore_ascii_case("repository"))
}

pub(super) fn hook(hook: wire::Hook) -> Hook {
    let keys: BTreeSet<_> = hook.events.iter().map(String::as_str).collect();
    let named = hook.credentials.as_ref().and_then(|credentials| credentials.username.as_deref()).is_some_and(|name| !name.is_empty());
    let mut fields = BTreeMap::from([(EVENTS, joined(&keys)), (CREDENTIALS, if named { "set" } else { "" }.to_owned())]);
    if let Some(required) = hook.ssl_verification_required {
        fields.insert(CERTIFICATES, required.to_string());
    }
    let events = EventKind::ALL.into_iter().filter(|event| words(*event).iter().all(|key| keys.contains(key))).collect();
    // Some versions return the secret, some mask it and some omit it, so its absence does not prove that none is set.
    let has_secret = hook.configuration.get(SECRET).and_then(Scalar::as_text).filter(|secret| !secret.is_empty()).map(|_| true);
    Hook {
        id: hook.id.to_string(),
        url: HookUrl::new(hook.url),
        shape: HookShape { variant: String::new(), fields, events },
        state: state(hook.active, &hook.statistics),
        has_secret,
    }
}

/// Whether a hook delivers. The server skips a hook after [`SKIPPED_AFTER`] failures in a row, for up to ten hours, and shows it
/// nowhere, so this is concluded from the results of its deliveries.
fn state(active: bool, statistics: &wire::Statistics) -> HookState {
    let failed = statistics.last_failure.start.max(statistics.last_error.start);
    let failures = statistics.counts.failures.unwrap_or_default().saturating_add(statistics.counts.errors.unwrap_or_default());
    if !active {
        HookState::Paused
    } else if failed > statistics.last_success.start && failures >= SKIPPED_AFTER {
        HookState::Disabled(format!(
            "{failures} deliveries of the last 24 hours failed, and so did the last one; Bitbucket skips a webhook after \
             {SKIPPED_AFTER} failures in a row, for up to 10 hours"
        ))
    } else {
        HookState::Active
    }
}

/// The secret of a hook if the server returns it in plain text. Some versions mask it and some omit it.
pub(super) fn shown_secret(hook: &wire::Hook) -> Option<String> {
    let secret = hook.configuration.get(SECRET)?.as_text()?;
    let is_mask = secret.chars().all(|character| character == '*');
    (!is_mask).then(|| secret.to_owned())
}

fn joined(keys: &BTreeSet<&str>) -> String {
    keys.iter().copied().collect::<Vec<_>>().join(",")
}

fn field<'a>(shape: &'a HookShape, name: &str) -> &'a str {
    shape.fields.get(name).map_or("", String::as_str)
}

/// Document that creates a hook with the shape.
pub(super) fn creation(url: &HookUrl, shape: &HookShape, secret: &str) -> Value {
    document(HOOK_NAME, true, BTreeMap::new(), url, shape, secret)
}

/// Document that updates the present hook to the shape. It contains the whole object, because an update replaces it. The
/// hook keeps its name, and a hook that a person paused stays paused. Credentials are left out and thereby removed.
pub(super) fn update(present: wire::Hook, url: &HookUrl, shape: &HookShape, secret: &str) -> Value {
    document(present.name.as_deref().unwrap_or(HOOK_NAME), present.active, present.configuration, url, shape, secret)
}

fn document(
    name: &str,
    active: bool,
    mut configuration: BTreeMap<String, Scalar>,
    url: &HookUrl,
    shape: &HookShape,
    secret: &str,
) -> Value {
    configuration.insert(SECRET.to_owned(), Scalar::Text(secret.to_owned()));
    json!({
        "name": name,
        "url": url.expose(),
        "active": active,
        "events": field(shape, EVENTS).split(',').filter(|key| !key.is_empty()).collect::<Vec<_>>(),
        "configuration": configuration,
        "sslVerificationRequired": field(shape, CERTIFICATES) != "false",
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(document: Value) -> Hook {
        hook(serde_json::from_value(document).unwrap())
    }

    fn read_back(events: &[&str], active: bool) -> Hook {
        read(json!({
            "id": 7, "name": "Forgebind", "createdDate": 1, "updatedDate": 2, "url": "https://in.acme.io/hooks/a/1", "active": active,
            "events": events, "configuration": {"secret": "canary"}, "sslVerificationRequired": true, "scopeType": "repository",
            "statistics": {"counts": {"errors": 4, "failures": 5, "successes": 0}},
        }))
    }

    #[test]
    fn bb_21_the_order_of_events_is_not_drift_and_certificates_are() {
        let desired = shapes(&[EventKind::Push, EventKind::PullRequest].into()).remove(0);
        assert_eq!(desired.fields[EVENTS], "pr:from_ref_updated,pr:modified,pr:opened,repo:refs_changed");
        assert_eq!(
            read_back(&["repo:refs_changed", "pr:opened", "pr:from_ref_updated", "pr:modified"], true).drift(&desired),
            Vec::<&str>::new()
        );
        assert_eq!(read_back(&["repo:refs_changed", "pr:opened"], true).drift(&desired), [EVENTS]);
        let lax = json!({"id": 7, "events": ["repo:refs_changed"], "active": true, "sslVerificationRequired": false});
        let desired = shapes(&[EventKind::Tag].into()).remove(0);
        assert_eq!(read(lax).drift(&desired), [CERTIFICATES]);
    }

    #[test]
    fn what_is_not_read_back_is_unknown_and_no_drift() {
        let desired = shapes(&[EventKind::Tag].into()).remove(0);
        let bare = read(json!({"id": 7, "url": "https://in", "active": true, "events": ["repo:refs_changed"]}));
        assert_eq!((bare.drift(&desired), bare.has_secret), (Vec::new(), None));
        let empty = json!({"id": 7, "active": true, "events": ["repo:refs_changed"], "configuration": {"createdBy": "x", "secret": ""}});
        assert_eq!(read(empty).has_secret, None);
        assert_eq!(read_back(&["repo:refs_changed"], true).has_secret, Some(true));
    }

    #[test]
    fn a_hook_whose_last_deliveries_failed_counts_as_disabled() {
        let state = |statistics: Value| read(json!({"id": 7, "active": true, "events": [], "statistics": statistics})).state;
        let counts = |failures: u64, errors: u64| json!({"successes": 3, "failures": failures, "errors": errors});
        let failing =
            json!({"lastSuccess": {"start": 10}, "lastFailure": {"start": 20}, "lastError": {"start": 15}, "counts": counts(3, 2)});
        let HookState::Disabled(cause) = state(failing.clone()) else { panic!("not noticed") };
        assert!(cause.starts_with("5 deliveries of the last 24 hours failed"), "{cause}");
        let never = json!({"lastSuccess": null, "lastError": {"start": 1}, "counts": counts(0, 9)});
        assert!(matches!(state(never), HookState::Disabled(_)));
        let recovered = json!({"lastSuccess": {"start": 30}, "lastFailure": {"start": 20}, "counts": counts(9, 9)});
        let few = json!({"lastSuccess": {"start": 10}, "lastFailure": {"start": 20}, "counts": counts(4, 0)});
        for healthy in [recovered, few, json!(null), json!({}), json!("none"), json!({"lastError": {"start": "x"}, "counts": counts(9, 0)})]
        {
            assert_eq!(state(healthy.clone()), HookState::Active, "{healthy}");
        }
        assert_eq!(read(json!({"id": 7, "active": false, "events": [], "statistics": failing})).state, HookState::Paused);
    }

    #[test]
    fn a_pause_is_a_state_and_an_update_keeps_it() {
        let desired = shapes(&[EventKind::Tag].into()).remove(0);
        let paused = read_back(&["repo:refs_changed"], false);
        assert_eq!((paused.drift(&desired), paused.state), (Vec::new(), HookState::Paused));
        let present =
            json!({"id": 7, "name": "theirs", "active": false, "events": [], "configuration": {"secret": "old", "createdBy": "x"}});
        let written = update(serde_json::from_value(present).unwrap(), &HookUrl::new("https://in".into()), &desired, "new");
        let expected = json!({
            "name": "theirs", "url": "https://in", "active": false, "events": ["repo:refs_changed"],
            "configuration": {"secret": "new", "createdBy": "x"}, "sslVerificationRequired": true,
        });
        assert_eq!(written, expected);
    }

    #[test]
    fn df_20_credentials_and_secret_are_seen_and_not_kept() {
        let document = json!({
            "id": 1, "active": true, "events": ["repo:refs_changed"], "configuration": {"secret": "canary-secret"},
            "credentials": {"username": "canary-user", "password": "canary-password"},
        });
        let hook = read(document);
        assert!(!format!("{hook:?}").contains("canary"));
        assert_eq!(hook.drift(&shapes(&[EventKind::Push].into()).remove(0)), [CREDENTIALS]);
    }

    #[test]
    fn a_projects_hook_is_not_the_repositorys() {
        let of = |document: Value| is_of_repository(&serde_json::from_value(document).unwrap());
        assert!(of(json!({"id": 1})) && of(json!({"id": 1, "scopeType": "repository"})));
        assert!(!of(json!({"id": 1, "scopeType": "project"})));
    }

    #[test]
    fn an_empty_repository_has_a_configured_branch_and_no_default() {
        let found = || json!({"id": 4, "slug": "shop", "project": {"key": "APP", "public": true}, "public": false});
        let surroundings =
            |empty| Surroundings { default_branch: Some("main".into()), empty, manage_webhooks: PermissionFinding::granted() };
        let full = repository(&serde_json::from_value(found()).unwrap(), surroundings(false));
        assert_eq!((full.default_branch.as_deref(), full.visibility), (Some("main"), Some(Visibility::Public)));
        assert_eq!(repository(&serde_json::from_value(found()).unwrap(), surroundings(true)).default_branch, None);
        assert!(shapes(&BTreeSet::new()).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_as_wanted(events in prop::collection::btree_set(prop::sample::select(EventKind::ALL.to_vec()), 1..6)) {
            let shape = shapes(&events).remove(0);
            let mut written = creation(&HookUrl::new("https://in".into()), &shape, "s");
            written["id"] = json!(7);
            let hook = read(written);
            prop_assert_eq!(hook.drift(&shape), Vec::<&str>::new());
            prop_assert_eq!(hook.state, HookState::Active);
            prop_assert!(events.is_subset(&hook.shape.events));
        }
    }
}
