use proptest::prelude::*;

use super::*;
use crate::protocol::secret::DerivedSecret;
use crate::providers::model::{Project, RepositoryPath};
use crate::providers::permission::PermissionFinding;

const PROJECT_ID: &str = "5b1bd0e5-6c7c-4d1b-8a64-6b33b1f3a111";
const REPOSITORY_ID: &str = "0f7c9d5e-24c1-4a57-9b0e-3d5a1c8e7f22";

fn location() -> HookLocation {
    HookLocation { project: PROJECT_ID.into(), repository: REPOSITORY_ID.into() }
}

fn repository(id: &str, project: Option<&str>) -> Repository {
    Repository {
        id: id.into(),
        path: RepositoryPath::new("Shop/web".into()),
        web_url: None,
        clone_url: None,
        ssh_url: None,
        default_branch: None,
        visibility: None,
        archived: false,
        empty: false,
        manage_webhooks: PermissionFinding::granted(),
        project: project.map(|id| Project { id: id.into(), key: "Shop".into() }),
    }
}

fn written(shape: &HookShape, secret: &WebhookSecret) -> Value {
    document(&location(), &HookUrl::new("https://in.acme.io/hooks/a/1".into()), shape, secret, Operation::CreateHook).unwrap()
}

fn derived() -> WebhookSecret {
    WebhookSecret::Derived(DerivedSecret::new([7; 32]))
}

/// What the provider returns for a written subscription: additional inputs, and no password.
fn read_back(mut document: Value, status: &str) -> Hook {
    document["id"] = json!("8dea9aba-3a9a-4ad0-860f-2a5c7379e3eb");
    document["status"] = json!(status);
    document["publisherInputs"]["tfsSubscriptionId"] = json!("3e8b33e7-426d-4c92-9bf9-58e163dd7dd5");
    if document["consumerInputs"].get(PASSWORD).is_some() {
        document["consumerInputs"][PASSWORD] = json!("********");
    }
    hook(&serde_json::from_value(document).unwrap())
}

fn of(events: &[EventKind]) -> Vec<HookShape> {
    shapes(&events.iter().copied().collect())
}

#[test]
fn pk_20_pk_21_the_default_events_are_exactly_three_subscriptions() {
    let shapes = of(&[EventKind::Push, EventKind::Tag, EventKind::PullRequest]);
    let variants: Vec<_> = shapes.iter().map(|shape| shape.variant.as_str()).collect();
    assert_eq!(variants, ["git.push", "git.pullrequest.created", "git.pullrequest.updated/PushNotification"]);
    let document = written(&shapes[2], &derived());
    assert_eq!(document["eventType"], json!("git.pullrequest.updated"));
    assert_eq!(document["publisherInputs"]["notificationType"], json!("PushNotification"));
}

#[test]
fn bb_17_opened_updated_and_merged_pull_requests_are_three_subscriptions() {
    let shapes = of(&[EventKind::PullRequest, EventKind::PullRequestMerged]);
    let variants: Vec<_> = shapes.iter().map(|shape| shape.variant.as_str()).collect();
    assert_eq!(variants, ["git.pullrequest.created", "git.pullrequest.updated/PushNotification", "git.pullrequest.merged"]);
    for shape in &shapes {
        let inputs = written(shape, &derived())["publisherInputs"].clone();
        assert_eq!((&inputs["branch"], &inputs["repository"]), (&json!(""), &json!(REPOSITORY_ID)), "any branch of one repository");
    }
}

#[test]
fn more_events_are_more_subscriptions_up_to_six() {
    assert_eq!(of(&EventKind::ALL).len(), 6);
    assert_eq!(of(&[EventKind::Tag]).len(), 1);
    assert_eq!(of(&[]).len(), 0);
    let versions: Vec<_> = of(&EventKind::ALL).iter().map(|shape| written(shape, &derived())["resourceVersion"].clone()).collect();
    assert_eq!(versions, ["1.0", "1.0", "1.0", "1.0", "1.0", "2.0"]);
}

#[test]
fn pk_26_a_subscription_is_never_for_a_whole_project_or_organization() {
    for (id, project) in [
        (REPOSITORY_ID, None),
        (REPOSITORY_ID, Some("")),
        ("", Some(PROJECT_ID)),
        ("shop/web", Some(PROJECT_ID)),
        (REPOSITORY_ID, Some("Shop")),
    ] {
        let error = HookLocation::of(&repository(id, project), Operation::CreateHook).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Rejected, "{id} {project:?}");
    }
    let location = HookLocation::of(&repository(REPOSITORY_ID, Some(PROJECT_ID)), Operation::CreateHook).unwrap();
    assert_eq!(location, self::location());
    for shape in of(&EventKind::ALL) {
        let inputs = &written(&shape, &derived())["publisherInputs"];
        assert_eq!((&inputs["projectId"], &inputs["repository"]), (&json!(PROJECT_ID), &json!(REPOSITORY_ID)), "{}", shape.variant);
    }
}

#[test]
fn what_is_not_of_this_place_is_not_listed() {
    let subscription = |change: &dyn Fn(&mut Value)| {
        let mut document = written(&of(&[EventKind::Push])[0], &derived());
        document["id"] = json!("1");
        change(&mut document);
        serde_json::from_value::<wire::Subscription>(document).unwrap()
    };
    assert!(location().has(&subscription(&|_| ())));
    assert!(location().has(&subscription(&|document| document["publisherInputs"]["repository"] = json!(REPOSITORY_ID.to_uppercase()))));
    for change in [
        (|document: &mut Value| document["publisherInputs"]["repository"] = json!("")) as fn(&mut Value),
        |document| document["publisherInputs"]["projectId"] = json!(REPOSITORY_ID),
        |document| document["publisherInputs"] = json!({}),
        |document| document["consumerId"] = json!("slack"),
        |document| document["consumerActionId"] = json!("other"),
    ] {
        assert!(!location().has(&subscription(&change)));
    }
}

#[test]
fn pk_27_every_subscription_has_its_password() {
    for shape in of(&EventKind::ALL) {
        let consumer = &written(&shape, &derived())["consumerInputs"];
        assert_eq!(consumer["basicAuthUsername"], json!("forgebind"));
        assert_eq!(consumer["basicAuthPassword"], json!(derived().text().expose_secret()));
        assert!(consumer.get("httpHeaders").is_none());
    }
    let pair = WebhookSecret::BasicAuth { username: "ada".into(), password: "a-password-of-the-users-own".into() };
    let consumer = &written(&of(&[EventKind::Push])[0], &pair)["consumerInputs"];
    assert_eq!((&consumer["basicAuthUsername"], &consumer["basicAuthPassword"]), (&json!("ada"), &json!("a-password-of-the-users-own")));
}

#[test]
fn bb_18_a_header_takes_the_passwords_place() {
    let header = WebhookSecret::Header { name: "X-Azure-Token".into(), value: "a-token-of-the-users-own".into() };
    let document = written(&of(&[EventKind::Push])[0], &header);
    assert_eq!(document["consumerInputs"]["httpHeaders"], json!("X-Azure-Token:a-token-of-the-users-own"));
    assert!(document["consumerInputs"].get("basicAuthPassword").is_none());
    let hook = read_back(document, "enabled");
    assert_eq!((hook.has_secret, hook.drift(&of(&[EventKind::Push])[0])), (Some(true), Vec::new()));
    assert!(!format!("{hook:?}").contains("a-token-of-the-users-own"));
}

#[test]
fn a_secret_that_is_not_taken_is_refused_before_anything_is_sent() {
    let refused = |secret: WebhookSecret| {
        let url = HookUrl::new("https://in.acme.io".into());
        document(&location(), &url, &of(&[EventKind::Push])[0], &secret, Operation::CreateHook).unwrap_err()
    };
    for text in ["white space in it all over", "tab\tin it all over the place", &"x".repeat(257)] {
        let error = refused(WebhookSecret::Text(text.into()));
        assert_eq!(error.kind, ErrorKind::Rejected);
        assert!(!error.to_string().contains(text));
    }
    for (name, value) in [("X Token", "value"), ("X-Token", "two\r\nX-Other: lines"), ("", "value")] {
        assert_eq!(refused(WebhookSecret::Header { name: name.into(), value: value.into() }).kind, ErrorKind::Rejected);
    }
    let longest = WebhookSecret::Text("x".repeat(256).into());
    assert!(written(&of(&[EventKind::Push])[0], &longest)["consumerInputs"].get("basicAuthPassword").is_some());
}

#[test]
fn every_drift_is_seen_and_nothing_that_the_provider_adds() {
    let shape = &of(&[EventKind::PullRequest])[1];
    let drift = |change: &dyn Fn(&mut Value)| {
        let mut document = written(shape, &derived());
        change(&mut document);
        read_back(document, "enabled").drift(shape)
    };
    assert_eq!(drift(&|_| ()), Vec::<&str>::new());
    for (group, name, value) in [
        ("publisherInputs", "branch", "main"),
        ("publisherInputs", "pushedBy", "ada"),
        ("publisherInputs", "pullrequestCreatedBy", "ada"),
        ("publisherInputs", "pullrequestReviewersContains", "ada"),
        ("publisherInputs", "mergeResult", "Succeeded"),
        ("publisherInputs", "notificationType", ""),
        ("consumerInputs", "resourceDetailsToSend", "none"),
        ("consumerInputs", "messagesToSend", "all"),
        ("consumerInputs", "detailedMessagesToSend", ""),
        ("consumerInputs", "acceptUntrustedCerts", "true"),
        ("consumerInputs", "httpHeaders", "X-Other:1"),
    ] {
        assert_eq!(drift(&|document| document[group][name] = json!(value)), [name], "{value:?}");
    }
    for (group, name, value) in [
        ("publisherInputs", "hostId", json!("d81542e4-cdfa-4333-b082-1ae2d6c3ad16")),
        ("publisherInputs", "branch", Value::Null),
        ("consumerInputs", "resourceDetailsToSend", json!("")),
        ("consumerInputs", "acceptUntrustedCerts", json!("false")),
        ("consumerInputs", "httpHeaders", json!("")),
    ] {
        assert_eq!(drift(&|document| document[group][name] = value.clone()), Vec::<&str>::new(), "{name}");
    }
    assert_eq!(drift(&|document| document["resourceVersion"] = Value::Null), Vec::<&str>::new());
    assert_eq!(drift(&|document| document["resourceVersion"] = json!("2.0")), ["resourceVersion"]);
    let bare = |document: &mut Value| {
        let inputs = document["consumerInputs"].as_object_mut().unwrap();
        inputs.retain(|name, _| !name.starts_with("basicAuth"));
    };
    assert_eq!(drift(&bare), ["secret"]);
}

#[test]
fn a_subscription_of_another_kind_is_none_of_the_wanted_parts() {
    let mut document = written(&of(&[EventKind::PullRequest])[1], &derived());
    document["publisherInputs"]["notificationType"] = json!("ReviewerVoteNotification");
    let hook = read_back(document, "enabled");
    assert_eq!(hook.shape.variant, "git.pullrequest.updated/ReviewerVoteNotification");
    assert_eq!(hook.shape.events, BTreeSet::new());
}

#[test]
fn states_tell_who_switched_it_off() {
    let state = |status: &str| read_back(written(&of(&[EventKind::Push])[0], &derived()), status).state;
    assert_eq!(state("enabled"), HookState::Active);
    assert_eq!(state("disabledByUser"), HookState::Paused);
    for (status, words) in [("onProbation", "probation"), ("disabledBySystem", "too long"), ("disabledByInactiveIdentity", "left")] {
        assert!(matches!(state(status), HookState::Disabled(cause) if cause.contains(words)), "{status}");
    }
}

#[test]
fn a_documented_subscription_is_read() {
    let text = include_str!("../../../../tests/fixtures/azure_devops/subscription.json");
    let hook = hook(&serde_json::from_str(text).unwrap());
    assert_eq!(hook.url.expose(), "https://in.acme.io/hooks/canary/1795176000");
    assert_eq!((hook.state.clone(), hook.has_secret), (HookState::Active, Some(true)));
    assert_eq!(hook.drift(&of(&[EventKind::Push])[0]), Vec::<&str>::new());
}

proptest! {
    #[test]
    fn what_is_written_reads_back_as_wanted(events in prop::collection::btree_set(prop::sample::select(EventKind::ALL.to_vec()), 1..6)) {
        let shapes = shapes(&events);
        let told: BTreeSet<_> = shapes.iter().flat_map(|shape| shape.events.clone()).collect();
        prop_assert_eq!(&told, &events);
        for shape in &shapes {
            let hook = read_back(written(shape, &derived()), "enabled");
            prop_assert_eq!(hook.drift(shape), Vec::<&str>::new());
            prop_assert_eq!(&hook.shape.variant, &shape.variant);
            prop_assert!(shape.events.is_subset(&hook.shape.events));
        }
    }
}
