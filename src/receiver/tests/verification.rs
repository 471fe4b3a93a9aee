//! Tests of accepted and refused requests and their answers.

use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::json;

use super::harness::*;
use crate::api::v1alpha1::EventKind;
use crate::clock::Clock as _;

async fn with_gitea() -> Harness {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|_| ()));
    harness
}

#[tokio::test]
async fn an_authentic_push_is_accepted_and_recorded() {
    let harness = with_gitea().await;
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    let seen = harness.seen();
    let delivery = seen.last_delivery.unwrap();
    assert_eq!((delivery.event, delivery.id.as_str()), (Some(EventKind::Push), "d-1"));
    assert_eq!(delivery.at.to_string(), NOW);
    assert_eq!(seen.secret_versions.keys().collect::<Vec<_>>(), [&secret_version(0)]);
    assert_eq!(seen.events.keys().collect::<Vec<_>>(), [&EventKind::Push]);
    assert_eq!(seen.accepted_until.unwrap().to_string(), NOW);
    assert_eq!(seen.refusals, None);
}

#[tokio::test]
async fn pk_28_bb_21_missing_and_wrong_signatures_get_401_and_reach_no_sink() {
    let harness = start(|_, _| ()).await;
    let sink = Sink::start(200).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("a", sink.port)])));
    let right = Shot::push("d-1", "main");
    let mut answers = Vec::new();
    for secret in ["", "wrong", &secret_of("team", "shop", &secret_version(1)), &secret_of("team", "other", &secret_version(0))] {
        let wrong = Shot { secret: secret.into(), ..right.clone() };
        let response = harness.request(&wrong).send().await.unwrap();
        answers.push((response.status().as_u16(), response.text().await.unwrap()));
    }
    let unknown = Shot { path: path_of("team", "nobody", &secret_version(0)), ..right.clone() };
    let response = harness.request(&unknown).send().await.unwrap();
    answers.push((response.status().as_u16(), response.text().await.unwrap()));
    assert!(answers.iter().all(|answer| *answer == (401, "not authentic\n".to_owned())), "{answers:?}");
    let refusals = harness.seen().refusals.unwrap();
    assert_eq!((refusals.count, refusals.reason.as_str()), (4, "wrong signature"), "an unknown path belongs to no binding");
    assert_eq!(harness.send(&right).await, 200, "a refused delivery does not count as seen");
    assert_eq!(sink.accepted_ids(), ["d-1"]);
    assert_eq!(sink.attempts(), 1);
}

#[tokio::test]
async fn unknown_paths_and_methods_never_get_404() {
    let harness = with_gitea().await;
    let hook = key().hook_id(owner("team", "shop"));
    for path in
        ["/", "/hooks", "/hooks/", &format!("/hooks/{hook}"), &format!("/hooks/{hook}/"), &format!("/hooks/{hook}/1/2"), "/hooks/%2e/1"]
    {
        let shot = Shot { path: path.into(), ..Shot::push("d", "main") };
        assert_eq!(harness.send(&shot).await, 401, "{path}");
    }
    for path in ["/hooks", &path_of("team", "shop", &secret_version(0))] {
        for method in [http::Method::GET, http::Method::HEAD, http::Method::PUT, http::Method::DELETE, http::Method::OPTIONS] {
            let response = harness.client.request(method, format!("http://{}{path}", harness.address)).send().await.unwrap();
            assert_eq!((response.status().as_u16(), response.headers()["allow"].to_str().unwrap()), (405, "POST"));
        }
    }
}

#[tokio::test]
async fn a_body_one_byte_above_the_limit_gets_413_and_one_at_the_limit_is_read() {
    let harness = with_gitea().await;
    let limit = 25 * 1024 * 1024;
    let mut body = push_body(7, "acme/shop", "refs/heads/main", "d");
    body.resize(limit, b' ');
    assert_eq!(harness.send(&Shot::new("d-1", body.clone())).await, 200);
    body.push(b' ');
    assert_eq!(harness.send(&Shot::new("d-2", body.clone())).await, 413);
    let chunked = harness.request(&Shot::new("d-3", body.clone())).body(reqwest::Body::wrap_stream(futures::stream::iter(
        body.chunks(100_000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>(),
    )));
    assert_eq!(chunked.send().await.unwrap().status(), 413);
    let seen = harness.seen();
    assert_eq!(seen.last_delivery.unwrap().id, "d-1");
    assert_eq!(seen.refusals.unwrap().reason, "body larger than the size limit");
}

#[tokio::test]
async fn an_encoded_body_gets_415() {
    let harness = with_gitea().await;
    let mut shot = Shot::push("d-1", "main");
    shot.headers.push(("content-encoding", "gzip".into()));
    assert_eq!(harness.send(&shot).await, 415);
    shot.path = "/hooks/x/1".into();
    assert_eq!(harness.send(&shot).await, 415, "the answer reveals nothing about the path");
    shot.path = path_of("team", "shop", &secret_version(0));
    shot.headers.last_mut().unwrap().1 = "identity".into();
    assert_eq!(harness.send(&shot).await, 200);
}

#[tokio::test]
async fn while_the_watch_is_stale_unknown_paths_get_503_and_known_ones_work() {
    let harness = with_gitea().await;
    harness.fresh.store(false, Ordering::Relaxed);
    let unknown = Shot { path: path_of("team", "new", &secret_version(0)), ..Shot::push("d-1", "main") };
    let response = harness.request(&unknown).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    assert_eq!(harness.send(&Shot { secret: "wrong".into(), ..Shot::push("d-2", "main") }).await, 401);
}

#[tokio::test]
async fn a_binding_whose_connection_is_unknown_gets_503() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_binding(&binding(|_| ()));
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 503);
    harness.routes.apply_connection(&gitea());
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 200);
    harness.routes.remove_connection("team", "acme");
    assert_eq!(harness.send(&Shot::push("d-2", "main")).await, 503);
}

#[tokio::test]
async fn bb_19_a_test_delivery_is_answered_with_success() {
    let harness = with_gitea().await;
    let commit = "1".repeat(40);
    let body = json!({"ref": "refs/heads/main", "before": commit, "after": commit, "repository": {"id": 7, "full_name": "acme/shop"}});
    assert_eq!(harness.send(&Shot::new("ping", body.to_string().into_bytes())).await, 200);
    let delivery = harness.seen().last_delivery.unwrap();
    assert_eq!((delivery.event, delivery.id.as_str()), (None, "ping"));
}

#[tokio::test]
async fn a_delivery_of_another_repository_is_dropped_with_success() {
    let harness = start(|_, _| ()).await;
    let sink = Sink::start(200).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("a", sink.port)])));
    let foreign = Shot::new("d-1", push_body(8, "acme/shop", "refs/heads/main", "d-1"));
    assert_eq!(harness.send(&foreign).await, 200);
    assert_eq!(harness.seen().last_delivery, None);
    assert!(harness.metrics().contains(r#"forgebind_receiver_deliveries_total{provider="gitea",outcome="foreign_repository"} 1"#));
    assert_eq!(harness.send(&Shot::push("d-2", "main")).await, 200);
    assert_eq!(sink.accepted_ids(), ["d-2"]);
}

#[tokio::test]
async fn an_authentic_body_that_cannot_be_read_gets_success() {
    let harness = with_gitea().await;
    assert_eq!(harness.send(&Shot::new("d-1", b"[".to_vec())).await, 200);
    assert!(harness.metrics().contains(r#"outcome="unreadable"} 1"#));
}

#[tokio::test]
async fn right_after_a_rotation_a_wrong_signature_gets_503_and_a_missing_one_401() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| {
        object["status"]["webhook"]["secretChangedAt"] = json!(NOW);
        object["status"]["webhook"]["previousSecrets"] = json!([{"version": secret_version(-100)}]);
    }));
    let wrong = Shot { secret: "wrong".into(), ..Shot::push("d-1", "main") };
    harness.clock.set("2026-11-20T10:04:59Z");
    assert_eq!(harness.send(&wrong).await, 503);
    assert_eq!(harness.send(&Shot { secret: String::new(), ..wrong.clone() }).await, 401);
    harness.clock.set("2026-11-20T10:05:01Z");
    assert_eq!(harness.send(&wrong).await, 401);
}

#[tokio::test]
async fn a_wrong_signature_gets_401_for_a_new_hook_and_503_for_an_adopted_one() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    let wrong = Shot { secret: "wrong".into(), ..Shot::push("d-1", "main") };
    for (changed_at, code) in [(NOW, 401), ("2026-11-20T10:02:00Z", 503)] {
        harness.routes.apply_binding(&binding(|object| object["status"]["webhook"]["secretChangedAt"] = json!(changed_at)));
        harness.clock.set("2026-11-20T10:03:00Z");
        assert_eq!(harness.send(&wrong).await, code, "{changed_at}");
    }
}

#[tokio::test]
async fn too_many_forged_deliveries_of_one_route_get_503_without_affecting_other_routes() {
    let harness = start(|_, routes| {
        routes.failures.at_once = std::num::NonZeroU32::new(3).unwrap();
        routes.failures.per_second = std::num::NonZeroU32::MIN;
    })
    .await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|_| ()));
    harness.routes.apply_binding(&binding(|object| {
        object["metadata"]["name"] = json!("other");
        object["metadata"]["uid"] = json!("uid-other");
    }));
    for number in 0..50 {
        assert_eq!(harness.send(&Shot::push(&format!("d-{number}"), "main")).await, 200, "what verifies is not limited");
    }
    let forged = Shot { secret: "wrong".into(), ..Shot::push("forged", "main") };
    let mut codes = Vec::new();
    for _ in 0..100 {
        codes.push(harness.send(&forged).await);
        if codes.last() != Some(&401) {
            break;
        }
        // An update of the object does not reset the limit.
        harness.routes.apply_binding(&binding(|_| ()));
    }
    assert!(codes.len() > 3, "the first are answered: {codes:?}");
    assert_eq!(codes.last(), Some(&503));
    let mut shot = Shot::push("d-9", "main");
    shot.path = path_of("team", "other", &secret_version(0));
    shot.secret = secret_of("team", "other", &secret_version(0));
    assert_eq!(harness.send(&shot).await, 200);
}

#[tokio::test]
async fn the_bytes_of_bodies_in_flight_are_limited() {
    let harness = start(|config, _| config.limits.bytes_in_flight = 1000).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|_| ()));
    let mut body = push_body(7, "acme/shop", "refs/heads/main", "d");
    body.resize(1001, b' ');
    assert_eq!(harness.send(&Shot::new("d-1", body.clone())).await, 503);
    body.truncate(1000);
    assert_eq!(harness.send(&Shot::new("d-1", body)).await, 200, "what was held was given back");
}

#[tokio::test]
async fn pk_28_a_token_in_a_header_is_verified_before_the_body_is_read() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&other());
    harness.routes.apply_binding(&binding(|_| ()));
    let mut shot = Shot::new("d-1", pushes_body(&["main"]));
    assert_eq!(harness.send(&shot).await, 401);
    // A body that never arrives: a receiver that waited for it would answer 503.
    let never = reqwest::Body::wrap_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = harness.request(&shot).header("x-token", "wrong").body(never);
    assert_eq!(request.send().await.unwrap().status(), 401);
    shot.headers.push(("x-token", "right".into()));
    assert_eq!(harness.send(&shot).await, 200);
}

/// A push that is signed by id, time and body.
fn signed_push(id: &str, second: i64) -> Shot {
    let zeros = "0".repeat(40);
    let body = json!({
        "object_kind": "push", "ref": "refs/heads/main", "before": zeros, "after": "1".repeat(40),
        "project": {"id": 7, "path_with_namespace": "acme/shop"},
    });
    let body = body.to_string().into_bytes();
    let secret = key().webhook_secret(owner("team", "shop"), &secret_version(0));
    let signed = [format!("{id}.{second}.").as_bytes(), &body].concat();
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), &signed);
    let mut shot = Shot::new(id, body);
    shot.secret.clear();
    shot.headers = vec![
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", second.to_string()),
        ("webhook-signature", format!("v1,{}", STANDARD.encode(signature))),
    ];
    shot
}

#[tokio::test]
async fn a_signature_with_a_time_is_valid_within_five_minutes_of_it() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&connection(&json!({"gitlab": {"group": "acme"}})));
    harness.routes.apply_binding(&binding(|_| ()));
    let now = harness.clock.now().as_second();
    for (seconds, status) in [(0, 200), (300, 200), (-300, 200), (301, 401), (-301, 401)] {
        let shot = signed_push(&format!("d{seconds}"), now + seconds);
        assert_eq!(harness.send(&shot).await, status, "{seconds} s away");
    }
    assert!(harness.metrics().contains(r#"forgebind_receiver_refusals_total{reason="proof_stale"} 2"#));
}

#[tokio::test]
async fn a_panic_affects_only_one_delivery() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&other());
    harness.routes.apply_binding(&binding(|_| ()));
    let mut shot = Shot::new("d-1", br#"{"panic": true}"#.to_vec());
    shot.headers.push(("x-token", "right".into()));
    assert_eq!(harness.send(&shot).await, 503);
    shot.body = pushes_body(&["main"]);
    assert_eq!(harness.send(&shot).await, 200);
    assert!(harness.metrics().contains(r#"forgebind_receiver_refusals_total{reason="panic"} 1"#));
}

#[tokio::test]
async fn a_verified_body_above_the_limit_gets_success_where_a_refusal_would_end_the_deliveries() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&connection(&json!({"azureDevOps": {"organization": "acme"}})));
    harness.routes.apply_binding(&binding(|_| ()));
    let limit = 10 * 1024 * 1024;
    let body = vec![b' '; limit + 1];
    let shot = |password: &str| {
        let mut shot = Shot::new("d-1", body.clone());
        let login = base64::engine::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("forgebind:{password}"));
        shot.headers.push(("authorization", format!("Basic {login}")));
        shot
    };
    assert_eq!(harness.send(&shot("wrong")).await, 401);
    let right = shot(&secret_of("team", "shop", &secret_version(0)));
    assert_eq!(harness.send(&right).await, 200);
    let far_too_long = Shot { body: vec![b' '; 3 * limit], ..right };
    assert_eq!(harness.send(&far_too_long).await, 200, "the body is read to its end");
    let seen = harness.seen();
    assert_eq!(seen.last_delivery, None);
    assert_eq!(seen.refusals.unwrap().reason, "body larger than the size limit");
}
