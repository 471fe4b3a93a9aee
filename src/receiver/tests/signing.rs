//! Tests of what the controller prepares for sinks: nothing is sent unsigned, or signed with another Secret's key.

use std::collections::BTreeMap;

use serde_json::json;

use super::harness::*;
use crate::protocol::signing_key::SigningKey;
use crate::protocol::webhook_secrets::{self, Referenced, SinkSecrets, UserSecrets};

const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECOND: &str = "a plain text of 24 bytes or more";

fn prepare(harness: &Harness, reference: &str, key: &str) {
    let signing = Some(Referenced::new(reference.to_owned(), key.into()));
    let sinks = BTreeMap::from([("a".to_owned(), SinkSecrets { signing, authorities: None })]);
    let entries = BTreeMap::from([("uid-shop".to_owned(), UserSecrets { sinks, ..UserSecrets::default() })]);
    harness.routes.apply_user_secrets(webhook_secrets::shard("uid-shop"), &entries);
}

fn is_signed(received: &Received, key: &str, second: i64) -> bool {
    let (id, at) = (received.header("webhook-id"), received.header("webhook-timestamp"));
    assert_eq!((id, at), (received.header("ce-id"), second.to_string().as_str()));
    received.header("webhook-signature") == SigningKey::parse(key).unwrap().sign(id, second, &received.body)
}

#[tokio::test]
async fn events_wait_for_the_signing_key_and_a_new_key_counts_from_the_next_attempt() {
    let sink = Sink::start(200).await;
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    let with_secret = |name: &str| {
        binding(|object| {
            let mut of = service_sink("a", sink.port);
            of["service"]["secretRef"] = json!({"name": name});
            object["spec"]["sinks"] = json!([of]);
        })
    };
    harness.routes.apply_binding(&with_secret("ci-signing"));
    assert_eq!(harness.send(&Shot::push("d-1", "main")).await, 202, "nothing is prepared");
    prepare(&harness, "another/secret", FIRST);
    assert_eq!(harness.send(&Shot::push("d-2", "main")).await, 202, "only another Secret's key is prepared");
    assert_eq!(harness.seen().sinks["a"].last_error.as_deref(), Some("what secretRef names is not prepared for this receiver yet"));
    assert_eq!(sink.attempts(), 0);

    prepare(&harness, "ci-signing/secret", FIRST);
    until("both arrive", || sink.accepted_ids() == ["d-1", "d-2"]).await;
    assert!(sink.accepted().iter().all(|received| is_signed(received, FIRST, now_second())));

    prepare(&harness, "ci-signing/secret", SECOND);
    harness.clock.set("2026-11-20T10:00:30Z");
    assert_eq!(harness.send(&Shot::push("d-3", "main")).await, 200);
    assert!(is_signed(&sink.accepted()[2], SECOND, now_second() + 30), "the present key, and the time of the attempt");

    // The spec names no Secret any more, and the prepared key is still there.
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("a", sink.port)])));
    assert_eq!(harness.send(&Shot::push("d-unsigned", "main")).await, 200);
    let unsigned = &sink.accepted()[3];
    assert_eq!((unsigned.header("webhook-id"), unsigned.header("webhook-signature")), ("", ""), "a key that the spec does not name");

    // The spec names another Secret, which is not prepared yet.
    harness.routes.apply_binding(&with_secret("other"));
    assert_eq!(harness.send(&Shot::push("d-4", "main")).await, 202);
    // The controller withdraws what is missing.
    harness.routes.apply_user_secrets(webhook_secrets::shard("uid-shop"), &BTreeMap::new());
    assert_eq!((harness.send(&Shot::push("d-5", "main")).await, sink.attempts()), (202, 4));
}

#[tokio::test]
async fn an_entry_for_sinks_alone_says_nothing_about_the_webhooks_own_secret() {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| {
        object["spec"]["webhook"]["secretRef"] = json!({"name": "own"});
        object["status"]["webhook"]["secretVersion"] = json!("0123456789abcdef");
    }));
    let shot = Shot::with_secret_version("0123456789abcdef", "d-1", Shot::push("d-1", "main").body);
    assert_eq!(harness.send(&shot).await, 503);
    prepare(&harness, "ci-signing/secret", FIRST);
    assert_eq!(harness.send(&shot).await, 503, "it may become known soon");
}
