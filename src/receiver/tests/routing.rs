//! Tests of the accepted paths and secrets.

use std::collections::BTreeMap;

use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::super::routes::parse_path;
use super::harness::*;
use crate::protocol::secret::WebhookSecret;
use crate::protocol::webhook_secrets::{self, UserSecret, UserSecrets};

/// Prepares the secrets that the user of a binding brought, as the controller does.
fn set_user_secrets(harness: &Harness, uid: &str, secrets: &[(String, WebhookSecret)]) {
    let secrets = secrets.iter().filter_map(|(version, secret)| UserSecret::new(version.clone(), secret)).collect();
    let entries = BTreeMap::from([(uid.to_owned(), UserSecrets { secrets, ..UserSecrets::default() })]);
    harness.routes.apply_user_secrets(webhook_secrets::shard(uid), &entries);
}

type Change = fn(&mut serde_json::Value);

async fn codes(harness: &Harness, shots: &[Shot]) -> Vec<u16> {
    let mut codes = Vec::new();
    for shot in shots {
        codes.push(harness.send(shot).await);
    }
    codes
}

fn at(secret_version: &str) -> Shot {
    Shot::with_secret_version(secret_version, secret_version, push_body(7, "acme/shop", "refs/heads/main", secret_version))
}

#[tokio::test]
async fn bb_20_bindings_whose_names_concatenate_to_the_same_text_have_different_routes() {
    let harness = start(|_, _| ()).await;
    for (namespace, name) in [("ab", "c"), ("a", "bc")] {
        let mut connection = gitea();
        connection.metadata.namespace = Some(namespace.into());
        harness.routes.apply_connection(&connection);
        harness.routes.apply_binding(&binding(|object| {
            object["metadata"] = json!({"namespace": namespace, "name": name, "uid": format!("{namespace}/{name}"), "generation": 1});
        }));
    }
    let mut shot = Shot::push("d-1", "main");
    (shot.path, shot.secret) = (path_of("ab", "c", &secret_version(0)), secret_of("ab", "c", &secret_version(0)));
    assert_eq!(harness.send(&shot).await, 200);
    shot.secret = secret_of("a", "bc", &secret_version(0));
    assert_eq!(harness.send(&shot).await, 401, "the other binding's secret is refused");
    let seen = harness.evidence.snapshot().bindings;
    assert!(seen["ab/c"].last_delivery.is_some());
    assert!(!seen.contains_key("a/bc"));
}

#[tokio::test]
async fn a_route_exists_for_suspended_and_deleted_bindings_and_not_for_others() {
    let harness = start(|_, routes| routes.installation = Some("0a0b0c0d".into())).await;
    harness.routes.apply_connection(&gitea());
    let cases: [(&str, u16, Change); 9] = [
        ("no status yet", 503, |object| object["status"] = json!(null)),
        ("suspended", 200, |object| object["spec"]["suspend"] = json!(true)),
        ("being deleted", 200, |object| object["metadata"]["deletionTimestamp"] = json!(NOW)),
        ("ours", 200, |object| object["status"]["installation"] = json!("0a0b0c0d")),
        ("another installation's", 401, |object| object["status"]["installation"] = json!("ffffffff")),
        ("no webhook", 401, |object| object["spec"]["webhook"] = json!(null)),
        ("another endpoint", 401, |object| object["spec"]["webhook"]["url"] = json!("https://argocd.acme.io/api/webhook")),
        ("grant withdrawn", 401, |object| {
            object["status"]["conditions"] = json!([{"type": "ConnectionReady", "status": "False", "reason": "RefNotPermitted", "message": "", "lastTransitionTime": NOW}]);
        }),
        ("moved out of the grant", 401, |object| {
            object["status"]["conditions"] = json!([{"type": "RepositoryFound", "status": "False", "reason": "RepositoryMovedOutOfScope", "message": "", "lastTransitionTime": NOW}]);
        }),
    ];
    for (number, (what, code, change)) in cases.into_iter().enumerate() {
        harness.routes.apply_binding(&binding(change));
        assert_eq!(harness.send(&Shot::push(&format!("d-{number}"), "main")).await, code, "{what}");
    }
    harness.routes.apply_binding(&binding(|_| ()));
    harness.routes.remove_binding("team", "shop", "another-uid");
    assert_eq!(harness.send(&Shot::push("last", "main")).await, 200);
    harness.routes.remove_binding("team", "shop", "uid-shop");
    assert_eq!(harness.send(&Shot::push("last", "main")).await, 401);
    assert!(harness.evidence.snapshot().bindings.is_empty());
}

#[tokio::test]
async fn the_receiver_closes_a_route_by_the_rules_of_the_connection_without_the_controller() {
    let harness = start(|_, _| ()).await;
    let same = |repositories: serde_json::Value| json!([{"namespaces": {"from": "Same"}, "repositories": repositories}]);
    let selector = json!([{"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}}, "repositories": ["acme/*"]}]);
    let moved: Change = |object| object["status"]["repository"]["path"] = json!("acme/store");
    let cases: [(&str, serde_json::Value, Change, u16); 8] = [
        ("no grant is needed", json!(null), |_| (), 200),
        ("nobody", json!([]), |_| (), 401),
        ("its path", same(json!(["acme/shop"])), |_| (), 200),
        ("another path", same(json!(["acme/cart"])), |_| (), 401),
        ("what was found is another path", same(json!(["acme/shop"])), moved, 401),
        ("what was found is covered, too", same(json!(["acme/shop", "acme/store"])), moved, 200),
        ("a rule by labels, which are not known here", selector.clone(), |_| (), 200),
        ("a rule by labels for another path", selector, |object| object["spec"]["repository"] = json!("other/shop"), 401),
    ];
    for (number, (what, rules, change, code)) in cases.into_iter().enumerate() {
        harness.routes.apply_binding(&binding(change));
        harness.allow("team", &rules);
        assert_eq!(harness.send(&Shot::push(&format!("d-{number}"), "main")).await, code, "{what}");
    }
}

/// The binding after a move from the connection of `platform`, with which it still has a hook, to `acme` of its own namespace,
/// with which no repository was found yet.
fn moved(change: impl FnOnce(&mut serde_json::Value)) -> crate::api::v1alpha1::RepoBinding {
    binding(|object| {
        let platform = json!({"namespace": "platform", "name": "acme"});
        object["metadata"]["generation"] = json!(2);
        object["spec"]["repository"] = json!("acme/store");
        object["status"]["repository"]["requested"] = json!({"connection": platform, "path": "acme/shop"});
        object["status"]["webhook"]["target"] =
            json!({"connection": platform, "repositoryID": "7", "repository": "acme/shop", "host": "hooks.acme.io"});
        change(object);
    })
}

/// A delivery to the binding's hook of a connection.
fn through(namespace: &str, id: &str, path: &str) -> Shot {
    let owner = crate::protocol::keys::ConnectedBinding { connection: (namespace, "acme"), ..owner("team", "shop") };
    let (hook, secret) = (key().hook_id(owner), key().webhook_secret(owner, &secret_version(0)));
    let secret = crate::protocol::keys::secret_text(&secret).expose_secret().to_owned();
    let shot = Shot::new(id, push_body(7, path, "refs/heads/main", id));
    Shot { path: format!("/hooks/{hook}/{}", secret_version(0)), secret, ..shot }
}

#[tokio::test]
async fn a_grant_that_goes_closes_the_route_and_one_that_comes_opens_it_and_its_status_changes_nothing() {
    let harness = start(|_, _| ()).await;
    let all = json!([{"namespaces": {"from": "All"}, "repositories": ["acme/shop"]}]);
    let mut number = 0;
    let mut answers = async |what: &str, code: u16| {
        number += 1;
        assert_eq!(harness.send(&through("platform", &format!("d-{number}"), "acme/shop")).await, code, "{what}");
    };
    harness.routes.apply_binding(&moved(|_| ()));
    harness.allow("platform", &all);
    answers("granted", 200).await;
    harness.routes.remove_grant("platform", "g0");
    answers("the grant is gone", 401).await;
    harness.routes.apply_grant(&grant("other", "g0", &all[0]));
    answers("a grant of another namespace", 401).await;
    let mut reported = grant("platform", "g0", &all[0]);
    reported.status = Some(serde_json::from_value(json!({"bindings": 1000})).unwrap());
    harness.routes.apply_grant(&reported);
    answers("it is there again", 200).await;
    reported.metadata.deletion_timestamp = Some(serde_json::from_value(json!(NOW)).unwrap());
    harness.routes.apply_grant(&reported);
    answers("it is being deleted", 401).await;
}

/// While a receiver starts, the connections and bindings may be listed before the grants.
#[tokio::test]
async fn before_the_grants_are_listed_deliveries_are_accepted_and_nothing_that_needs_a_grant_is_sent() {
    let sink = Sink::start(200).await;
    let harness = unlisted(|_, _| ()).await;
    let foreign = |object: &mut serde_json::Value| {
        object["spec"]["connectionRef"] = json!({"name": "acme", "namespace": "platform"});
        object["spec"]["sinks"] = json!([service_sink("a", sink.port)]);
        object["status"]["repository"]["requested"] = json!({"connection": {"namespace": "platform", "name": "acme"}, "path": "acme/shop"});
    };
    let mut platform = gitea();
    platform.metadata.namespace = Some("platform".into());
    harness.routes.apply_connection(&platform);
    harness.routes.apply_binding(&binding(foreign));
    assert_eq!(harness.send(&through("platform", "d-1", "acme/shop")).await, 202, "the event is pending");
    assert_eq!(sink.attempts(), 0);
    harness.routes.apply_grant(&grant("platform", "g0", &json!({"namespaces": {"from": "All"}, "repositories": ["acme/*"]})));
    assert_eq!(sink.attempts(), 0, "more grants may follow");
    harness.routes.grants_are_listed();
    until("it is sent", || sink.accepted_ids() == ["d-1"]).await;
}

#[tokio::test]
async fn a_hook_counts_only_for_the_connection_through_which_it_was_created() {
    let harness = start(|_, _| ()).await;
    let all = |repositories: serde_json::Value| json!([{"namespaces": {"from": "All"}, "repositories": repositories}]);
    let own = |repositories: serde_json::Value| json!([{"namespaces": {"from": "Same"}, "repositories": repositories}]);
    let (former, present) = (all(json!(["acme/shop"])), own(json!(["acme/store"])));
    let mut number = 0;
    let mut sent = async |what: &str, namespace: &str, path: &str, code: u16, ours: bool| {
        number += 1;
        let id = format!("d-{number}");
        assert_eq!(harness.send(&through(namespace, &id, path)).await, code, "{what}");
        assert_eq!(harness.seen().last_delivery.is_some_and(|last| last.id == id), ours, "{what}");
    };
    harness.routes.apply_binding(&moved(|_| ()));
    harness.allow("team", &present);
    sent("the one that gave it is not there", "platform", "acme/shop", 503, false).await;
    harness.allow("platform", &former);
    sent("it still grants it, and the new one need not", "platform", "acme/shop", 200, true).await;
    sent("renamed to where it does not lead", "platform", "acme/secret", 200, false).await;
    sent("the new one's hook, before the status tells of it", "team", "acme/store", 503, false).await;
    harness.allow("platform", &json!([]));
    harness.allow("team", &own(json!(["*/*"])));
    sent("it withdrew the grant, whatever the new one grants", "platform", "acme/shop", 401, false).await;
    harness.allow("platform", &former);
    sent("it grants it again", "platform", "acme/shop", 200, true).await;
    harness.allow("team", &json!([]));
    sent("the new one does not allow what is asked of it", "team", "acme/store", 401, false).await;
    sent("which is nothing to the other's hook", "platform", "acme/shop", 200, true).await;
    harness.allow("team", &present);
    harness.routes.remove_connection("platform", "acme");
    sent("it is gone", "platform", "acme/shop", 503, false).await;
    harness.allow("platform", &former);
    sent("it is there again", "platform", "acme/shop", 200, true).await;
    let followed = |object: &mut serde_json::Value| {
        let own = json!({"namespace": "team", "name": "acme"});
        object["status"]["repository"] = json!({"id": "7", "path": "acme/store", "requested": {"connection": own, "path": "acme/store"}});
        object["status"]["webhook"]["target"]["connection"] = own;
    };
    harness.routes.apply_binding(&moved(followed));
    sent("the status followed", "team", "acme/store", 200, true).await;
    sent("and the former hook is removed", "platform", "acme/store", 401, false).await;
    harness.routes.apply_binding(&binding(|object| object["status"] = json!({"conditions": []})));
    sent("left behind by a binding of that name", "platform", "acme/shop", 401, false).await;
}

#[tokio::test]
async fn pending_events_wait_while_a_former_connection_does_not_grant_its_repository() {
    use super::super::routes::SinkState;
    let harness = start(|_, _| ()).await;
    let sends = || matches!(harness.routes.sink("uid-shop", "a"), SinkState::At(_));
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&moved(|object| object["spec"]["sinks"] = json!([service_sink("a", 80)])));
    harness.allow("platform", &json!([{"namespaces": {"from": "All"}, "repositories": ["acme/shop"]}]));
    assert!(sends());
    harness.allow("platform", &json!([]));
    assert!(!sends(), "some pending events may have come through that connection");
}

#[tokio::test]
async fn a_repository_that_was_renamed_out_of_the_grant_or_the_owner_loses_its_deliveries() {
    let harness = start(|_, _| ()).await;
    harness.allow("team", &json!([{"namespaces": {"from": "Same"}, "repositories": ["*/shop*"]}]));
    harness.routes.apply_binding(&binding(|_| ()));
    for (number, (path, ours)) in [("acme/shop-2", true), ("acme/secret", false), ("other/shop", false)].into_iter().enumerate() {
        harness.clock.set(&format!("2026-11-20T10:0{number}:00Z"));
        let id = format!("d-{number}");
        assert_eq!(harness.send(&Shot::new(&id, push_body(7, path, "refs/heads/main", &id))).await, 200, "{path}");
        let seen = harness.evidence.snapshot().bindings.remove("uid-shop").unwrap();
        assert_eq!(seen.last_delivery.is_some_and(|last| last.id == id), ours, "{path}");
        assert_eq!(
            seen.refusals.map(|refusals| refusals.reason),
            (!ours).then(|| crate::protocol::evidence::DEPARTED.to_owned()),
            "{path}"
        );
    }
    let foreign = Shot::new("d-9", push_body(8, "other/shop", "refs/heads/main", "d-9"));
    assert_eq!(harness.send(&foreign).await, 200);
    let seen = harness.evidence.snapshot().bindings.remove("uid-shop").unwrap();
    assert_eq!(seen.refusals.unwrap().count, 2, "another repository requests no probe");
}

#[tokio::test]
async fn a_missing_connection_is_answered_with_503_and_a_withdrawn_grant_with_401() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_binding(&binding(|object| {
        object["status"]["conditions"] = json!([{"type": "ConnectionReady", "status": "False", "reason": "RefNotPermitted", "message": "", "lastTransitionTime": NOW}]);
    }));
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 503, "the connection may be restored soon");
    harness.routes.apply_connection(&gitea());
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 401, "the connection exists and does not grant this");
    harness.routes.apply_binding(&binding(|_| ()));
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
}

#[tokio::test]
async fn an_unknown_hook_gets_503_while_a_restore_of_the_cluster_may_be_in_progress() {
    let since = "2026-11-20T09:30:00Z";
    let harness = start(|_, routes| routes.key_since = since.parse().ok()).await;
    harness.routes.apply_connection(&gitea());
    let shot = || Shot::push("d-1", "main");
    assert_eq!(harness.send(&shot()).await, 503, "no binding exists");
    assert_eq!(harness.send(&Shot { path: "/hooks/x/1".into(), ..shot() }).await, 401, "not a path of a hook");
    harness.routes.apply_binding(&binding(|object| object["metadata"] = json!({"namespace": "team", "name": "till", "uid": "till"})));
    assert_eq!(harness.send(&shot()).await, 503, "more bindings may follow");
    harness.clock.set("2026-11-20T10:30:00Z");
    assert_eq!(harness.send(&shot()).await, 401, "the key was created an hour ago");
    harness.routes.remove_binding("team", "till", "till");
    assert_eq!(harness.send(&shot()).await, 503, "no binding exists, whatever the age of the key");
    assert!(harness.metrics().contains("reason=\"binding_unknown\"} 3"), "{}", harness.metrics());
    harness.routes.apply_binding(&binding(|_| ()));
    harness.clock.set(NOW);
    assert_eq!(harness.send(&shot()).await, 200, "the binding is known now");
}

#[tokio::test]
async fn after_a_lost_status_earlier_secrets_are_accepted_until_their_grace_is_over() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    let told = |until: &'static str, more: &'static str| {
        binding(move |object| {
            object["status"]["webhook"] = json!({
                "secretVersion": secret_version(100), "secretChangedAt": NOW,
                "previousSecrets": [{"version": "*", "validUntil": until}, {"version": secret_version(400), "validUntil": more}],
            });
        })
    };
    harness.routes.apply_binding(&told("2026-11-20T11:00:00Z", "2026-11-20T09:00:00Z"));
    for (shot, code, what) in [
        (at(&secret_version(5000)), 200, "it may be in its grace"),
        (Shot { secret: secret_of("team", "shop", &secret_version(100)), ..at(&secret_version(5000)) }, 503, "and must be proven"),
        (at(&secret_version(400)), 401, "this one's grace is known to be over"),
        (at("*"), 401, "the word itself is no secret version"),
        (at("0123456789abcdef"), 401, "a secret of a user"),
    ] {
        assert_eq!(harness.send(&shot).await, code, "{what}");
    }
    harness.routes.apply_binding(&told("2026-11-20T09:59:59Z", "2026-11-20T09:00:00Z"));
    assert_eq!(harness.send(&at(&secret_version(5000))).await, 401, "its grace period is over");
}

#[tokio::test]
async fn a_recreated_binding_replaces_the_former_in_any_order_of_events() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|_| ()));
    harness.routes.apply_binding(&binding(|object| object["metadata"]["uid"] = json!("uid-again")));
    harness.routes.remove_binding("team", "shop", "uid-shop");
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    assert_eq!(harness.evidence.snapshot().bindings.keys().collect::<Vec<_>>(), ["uid-again"]);
    harness.routes.remove_binding("team", "shop", "uid-again");
    assert!(harness.routes.is_empty());
    assert_eq!(harness.send(&Shot::push("d-2", "main")).await, 401);
    harness.routes.apply_binding(&binding(|_| ()));
    assert_eq!(harness.send(&Shot::push("d-3", "main")).await, 200);
}

#[tokio::test]
async fn df_20_the_secret_version_in_the_path_decides_which_secret_is_valid() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| {
        object["status"]["webhook"] = json!({
            "secretVersion": secret_version(100),
            "secretChangedAt": "2026-11-20T09:50:00Z",
            "previousSecrets": [
                {"version": secret_version(200)},
                {"version": secret_version(300), "validUntil": "2026-11-20T10:00:01Z"},
                {"version": secret_version(400), "validUntil": "2026-11-20T09:59:59Z"},
            ],
        });
    }));
    let shots = [
        (at(&secret_version(100)), 200, "present"),
        (at(&secret_version(200)), 200, "previous, perhaps still in use"),
        (at(&secret_version(300)), 200, "previous, in its grace"),
        (at(&secret_version(400)), 401, "expired"),
        (at(&secret_version(500)), 401, "revoked"),
        (at(&secret_version(150)), 401, "never was"),
        (at(&secret_version(50)), 200, "written at the provider before the status"),
        (at(&secret_version(-5)), 200, "another clock"),
        (at(&secret_version(-60)), 401, "from the future"),
        (at(&format!("0{}", secret_version(100))), 401, "another spelling"),
        (at("0123456789abcdef"), 401, "a fingerprint"),
        (
            Shot { secret: secret_of("team", "shop", &secret_version(100)), ..at(&secret_version(50)) },
            401,
            "another secret version's secret",
        ),
    ];
    for (shot, code, what) in shots {
        assert_eq!(harness.send(&shot).await, code, "{what}");
    }
}

#[tokio::test]
async fn without_a_status_any_past_secret_version_is_verified_and_the_delivery_gets_503() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    let without_status = |object: &mut serde_json::Value| {
        object["status"] = json!(null);
        object["spec"]["repository"] = json!("https://git.acme.io/acme/shop.git");
    };
    harness.routes.apply_binding(&binding(without_status));
    assert_eq!(codes(&harness, &[at(&secret_version(9_999_999)), at(&secret_version(-60)), at("x")]).await, [503, 401, 401]);
    let named = Shot::new("d-1", push_body(7, "Acme/Shop", "refs/heads/main", "d"));
    assert_eq!(harness.send(&named).await, 503, "a binding without a status may name any path and any connection");
    assert_eq!(harness.send(&Shot::new("d-2", push_body(9, "acme/other", "refs/heads/main", "d"))).await, 200);
    assert_eq!(harness.seen().last_delivery, None, "another repository");
    harness.routes.apply_binding(&binding(|_| ()));
    assert_eq!(harness.send(&named).await, 200);
    assert_eq!(harness.seen().last_delivery.unwrap().id, "d-1");
    assert_eq!(codes(&harness, &[at(&secret_version(-60)), at("x")]).await, [401, 401]);
}

#[tokio::test]
async fn the_ping_of_a_first_hook_needs_no_status() {
    use super::super::route::RepositoryMatch;
    use crate::providers::webhook::Content;
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| object["status"] = json!({})));
    let route = harness.routes.find(&key().hook_id(owner("team", "shop"))).unwrap();
    let told = |path: &str, ping: bool| {
        let (repository_id, repository_path) = (Some("7".to_owned()), Some(path.to_owned()));
        route.owns(&Content { delivery_id: "d".to_owned(), repository_id, repository_path, events: Vec::new(), ping })
    };
    assert_eq!(told("acme/shop", true), RepositoryMatch::Ours, "nothing reaches a sink");
    assert_eq!(told("acme/other", true), RepositoryMatch::Foreign);
    assert_eq!(told("acme/shop", false), RepositoryMatch::Unknown);
}

#[tokio::test]
async fn a_lost_status_does_not_lose_the_known_repository() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|_| ()));
    let lost = |object: &mut serde_json::Value| object["status"] = json!({});
    harness.routes.apply_binding(&binding(lost));
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    assert_eq!(harness.seen().last_delivery.unwrap().id, "d-1");
    // If the status is removed and the binding refers to another connection, it has no hook with that connection.
    harness.allow("platform", &json!([{"namespaces": {"from": "All"}, "repositories": ["*/*"]}]));
    harness.routes.apply_binding(&binding(|object| {
        lost(object);
        object["spec"]["connectionRef"]["namespace"] = json!("platform");
    }));
    assert_eq!(harness.send(&Shot::push("d-2", "main")).await, 401, "its hook was created through the other connection");
    assert_eq!(harness.send(&through("platform", "d-3", "acme/shop")).await, 503, "and the repository of that connection is not known");
    // A binding that was created again under the same name is a new one and starts without facts.
    harness.routes.apply_binding(&binding(|object| {
        lost(object);
        object["metadata"]["uid"] = json!("uid-again");
    }));
    assert_eq!(harness.send(&Shot::push("d-4", "main")).await, 503);
}

#[tokio::test]
async fn a_moved_binding_accepts_deliveries_of_the_new_repository_once_its_status_names_it() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    let moved = |object: &mut serde_json::Value| {
        object["metadata"]["generation"] = json!(2);
        object["spec"]["repository"] = json!("acme/store");
    };
    harness.routes.apply_binding(&binding(moved));
    let old = || Shot::new("old", push_body(7, "acme/shop", "refs/heads/main", "a"));
    let new = || Shot::new("new", push_body(8, "acme/store", "refs/heads/main", "b"));
    let foreign = || Shot::new("foreign", push_body(9, "acme/other", "refs/heads/main", "c"));
    for (shot, code, last) in [(old(), 200, "old"), (new(), 503, "old"), (foreign(), 200, "old")] {
        assert_eq!(harness.send(&shot).await, code, "{}", shot.id);
        assert_eq!(harness.seen().last_delivery.unwrap().id, last, "{}", shot.id);
    }
    // The controller has found the repository, and writes it to the status before it makes the hook there.
    harness.routes.apply_binding(&binding(|object| {
        moved(object);
        object["status"]["repository"] = json!({"id": "8", "path": "acme/store"});
    }));
    for (shot, last) in [(new(), "new"), (old(), "new"), (foreign(), "new")] {
        assert_eq!(harness.send(&shot).await, 200, "{}", shot.id);
        assert_eq!(harness.seen().last_delivery.unwrap().id, last, "{}", shot.id);
    }
}

#[tokio::test]
async fn a_secret_of_the_user_comes_from_the_controller() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| {
        object["spec"]["webhook"]["secretRef"] = json!({"name": "hook"});
        object["status"]["webhook"] = json!({"secretVersion": "aaaaaaaaaaaaaaaa"});
    }));
    let shot = |secret_version: &str, secret: &str| Shot { secret: secret.into(), ..at(secret_version) };
    let present = shot("aaaaaaaaaaaaaaaa", SECRET_CANARY);
    assert_eq!(harness.send(&present).await, 503, "not known yet");
    set_user_secrets(&harness, "uid-shop", &[("aaaaaaaaaaaaaaaa".into(), WebhookSecret::Text(SECRET_CANARY.into()))]);
    let shots = [
        present.clone(),
        shot("aaaaaaaaaaaaaaaa", "wrong"),
        shot("bbbbbbbbbbbbbbbb", SECRET_CANARY),
        at(&secret_version(0)),
        shot("aaaaaaaaaaaaaaaa", ""),
    ];
    assert_eq!(codes(&harness, &shots).await, [200, 401, 401, 401, 401]);
    let entry =
        crate::protocol::webhook_secrets::UserSecret::new("aaaaaaaaaaaaaaaa".into(), &WebhookSecret::Text("another-of-the-users".into()));
    let entries = UserSecrets { secrets: entry.into_iter().collect(), ..UserSecrets::default() };
    let shard = crate::protocol::webhook_secrets::shard("uid-shop");
    harness.routes.apply_user_secrets(shard, &[("uid-shop".to_owned(), entries)].into());
    assert_eq!(codes(&harness, &[present.clone(), shot("aaaaaaaaaaaaaaaa", "another-of-the-users")]).await, [401, 200]);
    set_user_secrets(&harness, "uid-shop", &[]);
    assert_eq!(harness.send(&present).await, 503, "the status names the version, so its secret may be prepared again");
    harness.routes.apply_user_secrets(shard, &[].into());
    assert_eq!(harness.send(&present).await, 503);
}

#[tokio::test]
async fn a_secret_of_the_user_is_never_mistaken_for_a_derived_one() {
    let parts = |number: usize| WebhookSecret::Text(format!("secret-of-the-user-{number}").into()).parts();
    let only_digits = |number: &usize| key().fingerprint(&parts(*number)).bytes().all(|byte| byte.is_ascii_digit());
    for number in (0..).filter(only_digits).take(2) {
        let secret = format!("secret-of-the-user-{number}");
        let own = key().user_secret_version(&parts(number));
        let harness = start(|_, _| ()).await;
        harness.routes.apply_connection(&gitea());
        harness.routes.apply_binding(&binding(|object| {
            object["spec"]["webhook"]["secretRef"] = json!({"name": "hook"});
            object["status"]["webhook"] = json!({"secretVersion": own});
        }));
        set_user_secrets(&harness, "uid-shop", &[(own.clone(), WebhookSecret::Text(secret.clone().into()))]);
        let delivered = Shot { secret, ..at(&own) };
        assert_eq!(codes(&harness, &[delivered, at(&own)]).await, [200, 401], "only the user's secret is accepted");
    }
}

proptest! {
    #[test]
    fn any_path_is_parsed_without_a_panic(path in ".{0,80}") {
        let _ = parse_path(&path);
        let _ = parse_path(&format!("/hooks/{path}"));
    }

    #[test]
    fn only_a_path_in_the_exact_form_is_a_route(hook in "[A-Za-z0-9_-]{22}", secret_version in "[A-Za-z0-9]{1,32}", other in "[^A-Za-z0-9_-]") {
        let path = format!("/hooks/{hook}/{secret_version}");
        prop_assert_eq!(parse_path(&path), Some((hook.as_str(), secret_version.as_str())));
        let refused = [format!("{path}/"), format!("/{path}"), format!("{path}{other}"), format!("/hooks/{hook}x/{secret_version}"), format!("/hooks{path}")];
        for refused in refused {
            prop_assert_eq!(parse_path(&refused), None);
        }
    }
}
