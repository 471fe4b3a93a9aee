//! One namespace does its worst, and the deliveries of another are accepted and reach their sink.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use futures::future::{join, join_all};
use serde_json::json;

use super::harness::*;

/// A binding of another namespace with a connection of its own.
fn of_evil(harness: &Harness, port: u16) {
    let mut connection = gitea();
    connection.metadata.namespace = Some("evil".into());
    connection.metadata.uid = Some("connection-of-evil".into());
    harness.routes.apply_connection(&connection);
    harness.routes.apply_binding(&binding(|object| {
        object["metadata"] = json!({"namespace": "evil", "name": "bad", "uid": "uid-bad", "generation": 1});
        object["spec"]["sinks"] = json!([service_sink("a", port)]);
    }));
    harness.routes.apply_service("evil".to_owned(), "sink-a".to_owned(), service("uid-evil", "10.96.0.8"));
}

fn evil(id: &str, body: Vec<u8>) -> Shot {
    let version = secret_version(0);
    Shot { path: path_of("evil", "bad", &version), secret: secret_of("evil", "bad", &version), ..Shot::new(id, body) }
}

/// A push with this many bytes.
fn long(id: &str, length: usize) -> Vec<u8> {
    let mut body = push_body(7, "acme/shop", &format!("refs/heads/{id}"), id);
    body.resize(length, b' ');
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_does_its_worst_harms_no_other() {
    let (down, sink) = (Sink::start(SILENT).await, Sink::start(200).await);
    let harness = start(|_, routes| {
        let mut policy = policy();
        policy.resolve.insert(("sink-a.evil.svc".to_owned(), 80), IpAddr::V4(Ipv4Addr::LOCALHOST));
        routes.policy = Arc::new(policy);
    })
    .await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!([service_sink("a", sink.port)])));
    of_evil(&harness, down.port);
    let worst = async {
        let large = (0..4).map(|number| evil(&format!("large-{number}"), long(&format!("large-{number}"), 20 << 20)));
        let burst = (0..300).map(|number| evil(&format!("burst-{number}"), long(&format!("burst-{number}"), 20 << 10)));
        let forged = (0..300).map(|number| Shot { secret: "wrong".into(), ..evil(&format!("forged-{number}"), long("forged", 500)) });
        let shots: Vec<_> = large.chain(burst).chain(forged).collect();
        // A body that is refused while it is sent may end with a broken pipe instead of an answer.
        let code = async |shot| harness.request(shot).send().await.map_or(0, |answer| answer.status().as_u16());
        join_all(shots.iter().map(code)).await
    };
    let others = async {
        let mut codes = Vec::new();
        for number in 0..60 {
            codes.push(harness.send(&Shot::push(&format!("d-{number}"), "main")).await);
        }
        codes
    };
    let (worst, codes) = join(worst, others).await;
    assert!(worst.contains(&401) && worst.contains(&202), "it did what it should: {worst:?}");
    assert!(codes.iter().all(|code| matches!(code, 200 | 202)), "{codes:?}");
    until("every delivery of the other reaches its sink", || sink.accepted().len() == 60).await;
    let ids: Vec<_> = (0..60).map(|number| format!("d-{number}")).collect();
    assert_eq!(sink.accepted_ids(), ids, "in order");
    assert_eq!(down.accepted().len(), 0);
}
