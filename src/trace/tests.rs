//! Judges one chain for each cause of "my push did nothing". What is printed for each is in `tests/snapshots/why/`, so that the
//! texts can be reviewed.

use std::path::Path;

use serde_json::{Value, json};

use super::chain::{Chain, LinkState};
use super::gather::{Lookup, Subject};
use super::{Style, deliveries, judge, print};
use crate::api::v1alpha1::RepoBinding;

const COMMIT: &str = "9f1c2abd0011223344556677889900aabbccddee";

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-11-30T02:00:00Z"})
}

/// Sets a condition of an object.
fn set(object: &mut Value, kind: &str, status: &str, reason: &str, message: &str) {
    let conditions = object["status"]["conditions"].as_array_mut().unwrap();
    conditions.retain(|condition| condition["type"] != kind);
    conditions.push(condition(kind, status, reason, message));
}

fn pushed(reference: &str, outcome: &str, sinks: &Value) -> Value {
    json!({
        "time": "2026-11-30T03:02:11Z", "event": "Push", "ref": reference, "sha": COMMIT.get(..8), "id": "72d3", "outcome": outcome,
        "sinks": sinks,
    })
}

fn answer(name: &str, state: &str, error: Option<&str>) -> Value {
    let mut answer = json!({"name": name, "state": state});
    match error {
        Some(error) => answer["error"] = json!(error),
        None if state == "Accepted" => answer["time"] = json!("2026-11-30T03:02:12Z"),
        None => {}
    }
    answer
}

/// A binding with two sinks in which everything is in order, and its connection in another namespace.
fn healthy() -> (Value, Value) {
    let ready = |kind| condition(kind, "True", "Succeeded", "in order");
    let connection = json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection", "metadata": {"namespace": "platform", "name": "acme"},
        "spec": {"provider": {"gitea": {"url": "https://git.acme.io", "organization": "acme"}}},
        "status": {"conditions": [ready("Ready")], "identity": {"name": "acme-bot", "kind": "User"}},
    });
    let binding = json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
        "metadata": {"namespace": "team-shop", "name": "shop-cart", "generation": 1},
        "spec": {
            "connectionRef": {"name": "acme", "namespace": "platform"}, "repository": "acme/shop-cart",
            "webhook": {"events": ["Push", "PullRequest"]},
            "sinks": [
                {"name": "tekton", "service": {"name": "el", "port": 8080}, "branches": ["main", "release/*"]},
                {"name": "argocd", "service": {"name": "argocd", "port": 80}},
            ],
        },
        "status": {
            "observedGeneration": 1,
            "conditions": [
                ready("Ready"), ready("ConnectionReady"), ready("RepositoryFound"), ready("WebhookInSync"), ready("Receiving"),
                ready("Delivering"),
            ],
            "repository": {"id": "81723", "path": "acme/shop-cart", "defaultBranch": "main"},
            "webhook": {"url": "https://hooks.acme.io/hooks/…", "hooks": [{"id": "348", "events": ["Push", "PullRequest"]}]},
            "sinks": [{"name": "tekton", "state": "Accepting"}, {"name": "argocd", "state": "Accepting"}],
            "recentDeliveries": [
                pushed("refs/heads/main", "Accepted", &json!([answer("tekton", "Accepted", None), answer("argocd", "Accepted", None)])),
            ],
        },
    });
    (binding, connection)
}

/// Why a push did nothing: a name, the first broken link, the commit that is asked for, and what differs from what is in order.
type Cause = (&'static str, Option<&'static str>, Option<&'static str>, fn(&mut Value, &mut Option<Value>));

const CAUSES: &[Cause] = &[
    ("nothing-is-broken", None, Some(COMMIT), |_, _| ()),
    ("token-expired", Some("connection"), None, |binding, connection| {
        set(connection.as_mut().unwrap(), "Ready", "False", "CredentialExpired", "the token expired at 2026-11-29T23:00:00Z");
        set(
            binding,
            "ConnectionReady",
            "False",
            "ConnectionNotReady",
            "connection acme does not work (CredentialExpired); see its conditions",
        );
    }),
    ("connection-missing", Some("connection"), None, |binding, connection| {
        binding["spec"]["connectionRef"] = json!({"name": "acme"});
        set(
            binding,
            "ConnectionReady",
            "False",
            "ConnectionNotFound",
            "connection acme does not exist in this namespace; create it or correct connectionRef",
        );
        *connection = Some(json!("missing"));
    }),
    ("connection-not-visible", Some("connection"), None, |binding, connection| {
        set(
            binding,
            "ConnectionReady",
            "False",
            "ConnectionNotReady",
            "connection acme does not work (CredentialExpired); see its conditions",
        );
        *connection = None;
    }),
    ("connection-gone-and-not-visible", Some("connection"), None, |binding, connection| {
        set(binding, "ConnectionReady", "False", "ConnectionNotFound", "connection platform/acme does not exist");
        *connection = None;
    }),
    ("not-granted", Some("grant"), None, |binding, connection| {
        set(
            binding,
            "ConnectionReady",
            "False",
            "RefNotPermitted",
            "connection acme does not exist in that namespace or does not allow this binding; ask its owner for a ConnectionGrant \
             that covers this namespace, the repository",
        );
        *connection = None;
    }),
    ("suspended", Some("binding"), None, |binding, _| {
        binding["spec"]["suspend"] = json!(true);
        set(binding, "Ready", "False", "Suspended", "suspended; set spec.suspend to false here and on the connection to continue");
    }),
    ("repository-not-found", Some("repository"), None, |binding, _| {
        binding["status"]["repository"] = json!(null);
        set(binding, "RepositoryFound", "False", "NotFoundOrHidden", "the provider shows no repository acme/shop-cart to this credential");
    }),
    ("webhook-not-requested", Some("webhook"), None, |binding, _| {
        for field in ["webhook", "sinks"] {
            binding["spec"].as_object_mut().unwrap().remove(field);
        }
    }),
    ("webhook-not-created", Some("webhook"), None, |binding, _| {
        binding["status"]["webhook"] = json!(null);
        binding["status"]["recentDeliveries"] = json!([]);
        set(binding, "WebhookInSync", "False", "PermissionMissing", "create webhook: the provider answered 403; give the account a role");
    }),
    ("webhook-deleted-by-hand", Some("delivery"), Some("1234567"), |_, _| ()),
    ("endpoint-unreachable", Some("endpoint"), Some("1234567"), |_, connection| {
        let message = "https://hooks.acme.io does not answer, as seen from inside the cluster: connection refused";
        set(connection.as_mut().unwrap(), "EndpointReachable", "False", "EndpointUnreachable", message);
    }),
    ("secret-wrong", Some("delivery"), None, |binding, _| {
        let refused = json!({"time": "2026-11-30T03:05:00Z", "outcome": "Refused", "reason": "wrong signature", "count": 12});
        binding["status"]["recentDeliveries"].as_array_mut().unwrap().insert(0, refused);
        set(binding, "Receiving", "False", "DeliveriesRefused", "deliveries are refused: wrong signature");
    }),
    ("no-delivery-yet", Some("delivery"), None, |binding, _| {
        binding["status"]["recentDeliveries"] = json!([{"time": "2026-11-30T02:00:00Z", "outcome": "Ping", "id": "p-1"}]);
        binding["status"]["sinks"] = json!([]);
        set(binding, "Receiving", "Unknown", "AwaitingFirstDelivery", "no delivery has arrived yet; push a commit");
    }),
    ("branch-unwanted", Some("sink tekton"), Some("9f1c2ab"), |binding, _| {
        binding["status"]["recentDeliveries"] = json!([pushed(
            "refs/heads/feature-x",
            "Accepted",
            &json!([answer("tekton", "Unwanted", None), answer("argocd", "Accepted", None)])
        )]);
    }),
    ("event-unwanted", Some("sink tekton"), None, |binding, _| {
        binding["spec"]["sinks"][0]["events"] = json!(["PullRequest"]);
        binding["spec"]["sinks"][1]["events"] = json!(["PullRequest"]);
        binding["status"]["recentDeliveries"] = json!([pushed("refs/heads/main", "Unwanted", &json!([]))]);
    }),
    ("sink-down", Some("sink tekton"), None, |binding, _| {
        binding["status"]["sinks"][0] = json!({"name": "tekton", "state": "Down", "lastError": "connection refused", "downSince": "2026-11-30T01:00:00Z", "pending": 7});
        binding["status"]["recentDeliveries"] = json!([pushed(
            "refs/heads/main",
            "Pending",
            &json!([answer("tekton", "Pending", Some("connection refused")), answer("argocd", "Accepted", None)])
        )]);
        set(binding, "Delivering", "False", "SinkFailing", "sink tekton: connection refused; pending events are sent again");
    }),
    ("event-parked", Some("sink argocd"), None, |binding, _| {
        binding["status"]["recentDeliveries"] = json!([pushed(
            "refs/heads/main",
            "Pending",
            &json!([answer("tekton", "Accepted", None), answer("argocd", "Parked", Some("answered 413"))])
        )]);
    }),
    ("dead-letter", Some("sink argocd"), None, |binding, _| {
        binding["status"]["recentDeliveries"] = json!([pushed(
            "refs/heads/main",
            "DeadLetter",
            &json!([answer("tekton", "Accepted", None), answer("argocd", "DeadLetter", Some("answered 400"))])
        )]);
    }),
    ("event-dropped", Some("sink tekton"), None, |binding, _| {
        binding["status"]["recentDeliveries"] = json!([pushed(
            "refs/heads/main",
            "Dropped",
            &json!([answer("tekton", "Dropped", Some("answered 503")), answer("argocd", "Accepted", None)])
        )]);
        set(binding, "Delivering", "False", "EventsDropped", "12 pending events were dropped");
    }),
    ("sink-not-allowed", Some("sink tekton"), None, |binding, _| {
        binding["status"]["recentDeliveries"] = json!([pushed(
            "refs/heads/main",
            "Accepted",
            &json!([answer("tekton", "NotServed", None), answer("argocd", "Accepted", None)])
        )]);
        set(binding, "Delivering", "False", "SinkNotAllowed", "sink tekton: host ci.acme.io is not allowed");
    }),
    ("sink-without-its-secret", Some("sink tekton"), None, |binding, _| {
        set(
            binding,
            "Delivering",
            "False",
            "SecretNotFound",
            "sink tekton: Secret team-shop/ci, which service.secretRef names, does not exist",
        );
    }),
    ("sink-down-after-this-push", Some("sink tekton"), None, |binding, _| {
        let since = "2026-11-30T04:00:00Z";
        binding["status"]["sinks"][0] = json!({"name": "tekton", "state": "Down", "lastError": "Service team-shop/ci does not exist", "downSince": since, "pending": 1});
    }),
    ("commit-never-arrived", Some("delivery"), Some("abcdef1"), |binding, _| {
        let list = binding["status"]["recentDeliveries"].as_array_mut().unwrap();
        let mut older = list[0].clone();
        older["time"] = json!("2026-11-29T18:00:00Z");
        older["sha"] = json!("0123abcd");
        older["events"] = json!(3);
        list.push(older);
        list.push(json!({"time": "2026-11-29T17:00:00Z", "outcome": "Refused", "reason": "no signature", "count": 40}));
    }),
];

fn subject(change: fn(&mut Value, &mut Option<Value>)) -> Subject {
    let (mut binding, connection) = healthy();
    let mut connection = Some(connection);
    change(&mut binding, &mut connection);
    let connection = match connection {
        Some(Value::String(_)) => Lookup::Missing,
        Some(connection) => Lookup::Found(Box::new(serde_json::from_value(connection).unwrap())),
        None => Lookup::Hidden,
    };
    Subject { binding: serde_json::from_value(binding).unwrap(), connection }
}

/// Compares with a file, which is written if it is missing.
fn compare(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/why").join(format!("{name}.txt"));
    let Ok(known) = std::fs::read_to_string(&path) else {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        panic!("{} was missing and is written now; review it", path.display());
    };
    assert_eq!(text, known, "{}: remove the file and run the test again if the new text is right", path.display());
}

#[test]
fn the_first_broken_link_and_its_fix_are_told_for_every_cause() {
    let mut failures = Vec::new();
    for (name, expected, sha, change) in CAUSES {
        let chain = judge::chain(&subject(*change), *sha);
        assert_eq!(chain.broken().map(|link| link.name.as_str()), *expected, "{name}: {chain:#?}");
        assert_eq!(chain.is_whole(), expected.is_none(), "{name}");
        let without_fix = chain.links.iter().find(|link| link.state == LinkState::Fail && link.fix.as_ref().is_none_or(String::is_empty));
        assert_eq!(without_fix, None, "{name}: every broken link has a fix");
        let text = print::chains(&[chain], &[], Style::default());
        failures.extend(std::panic::catch_unwind(|| compare(name, &text)).err().map(|_| *name));
    }
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn a_commit_that_is_not_among_the_known_ones_is_not_said_to_have_been_lost() {
    let chain = judge::chain(&subject(CAUSES.last().unwrap().3), Some("abcdef1"));
    let told = &chain.broken().unwrap().text;
    assert!(
        told.contains("no delivery with this commit (abcdef1) was seen; only the last 2 are known, since 2026-11-29T18:00:00Z"),
        "{told}"
    );
    assert!(told.contains("of 1 of them only the first commit is known"), "{told}");
}

#[test]
fn a_filter_that_does_not_select_the_last_push_breaks_nothing_unless_the_commit_is_asked_for() {
    let change: fn(&mut Value, &mut Option<Value>) = |binding, _| {
        binding["status"]["recentDeliveries"] = json!([pushed(
            "refs/heads/feature-x",
            "Accepted",
            &json!([answer("tekton", "Unwanted", None), answer("argocd", "Accepted", None)])
        )]);
    };
    assert!(judge::chain(&subject(change), None).is_whole());
    assert!(!judge::chain(&subject(change), Some(COMMIT)).is_whole());
}

#[test]
fn a_pending_delivery_of_a_sink_with_nothing_pending_is_not_said_to_be_sent_again() {
    let change: fn(&mut Value, &mut Option<Value>) = |binding, _| {
        let answers = json!([answer("tekton", "Pending", Some("answered 503")), answer("argocd", "Accepted", None)]);
        binding["status"]["recentDeliveries"] = json!([pushed("refs/heads/main", "Pending", &answers)]);
    };
    let chain = judge::chain(&subject(change), None);
    let sink = chain.links.iter().find(|link| link.name == "sink tekton").unwrap();
    assert_eq!((sink.state, chain.is_whole()), (LinkState::Unknown, true), "{sink:?}");
    assert!(sink.text.contains("accepted since, or lost with its receiver"), "{sink:?}");
}

#[test]
fn a_status_cannot_drive_the_terminal_and_json_keeps_its_texts() {
    let change: fn(&mut Value, &mut Option<Value>) = |binding, _| {
        set(binding, "RepositoryFound", "False", "NotFoundOrHidden", "a\u{1b}[2J\nok    delivery  forged \u{202e}");
        binding["status"]["recentDeliveries"][0]["ref"] = json!("refs/heads/\u{1b}]0;x\u{7}\nforged");
    };
    let subject = subject(change);
    let chain: Chain = judge::chain(&subject, None);
    let texts = [
        print::chains(std::slice::from_ref(&chain), &["note\u{1b}".to_owned()], Style::default()),
        print::deliveries(&[deliveries::listed(&subject.binding)], &[], Style::default()),
        print::json(&json!({"bindings": [chain]})),
    ];
    for text in &texts {
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}') && !text.contains("\nforged"), "{text:?}");
    }
    let read: Value = serde_json::from_str(&texts[2]).unwrap();
    assert!(read["bindings"][0]["links"].as_array().unwrap().iter().any(|link| link["text"].as_str().unwrap().contains("a\u{1b}[2J")));
}

#[test]
fn a_list_of_deliveries_shows_what_became_of_each() {
    let mut subject = subject(|_, _| ());
    let status = subject.binding.status.as_mut().unwrap();
    let mut forged = status.recent_deliveries[0].clone();
    (forged.outcome, forged.count) = (crate::api::v1alpha1::deliveries::DeliveryOutcome::Refused, Some(40));
    (forged.event, forged.reference, forged.sha, forged.id, forged.sinks) = (None, None, None, None, Vec::new());
    forged.reason = Some("wrong signature".to_owned());
    let fine = deliveries::listed(&subject.binding);
    assert!(fine.is_fine());
    subject.binding.status.as_mut().unwrap().recent_deliveries.push(forged);
    let list = deliveries::listed(&subject.binding);
    assert!(!list.is_fine());
    compare("deliveries", &print::deliveries(&[list], &[], Style::default()));
    let empty: RepoBinding = RepoBinding { status: None, ..subject.binding };
    let text = print::deliveries(&[deliveries::listed(&empty)], &[], Style::default());
    assert!(text.contains("no delivery is known"), "{text}");
}
