//! Tests of the log lines about deliveries and refusals, and of what is never logged.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;

use super::harness::*;

/// Collects the log of this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Starts collecting. All tasks of a test run on its own thread.
    fn at(level: tracing::Level) -> (Self, (DefaultGuard, tracing::Dispatch)) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().with_max_level(level).with_writer(move || writer.clone()).finish();
        // With a single subscriber, the threads of other tests, which have none, would disable call sites permanently.
        let second =
            tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).with_max_level(tracing::Level::TRACE).finish());
        (log, (tracing::subscriber::set_default(subscriber), second))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The fields of the lines with this message.
    fn lines(&self, message: &str) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.map(|mut line| line["fields"].take()).filter(|fields| fields["message"] == message).collect()
    }
}

async fn with_sinks(sinks: &[Value]) -> Harness {
    let harness = start(|_, _| ()).await;
    harness.routes.apply_connection(&gitea());
    harness.routes.apply_binding(&binding(|object| object["spec"]["sinks"] = json!(sinks)));
    harness
}

#[tokio::test]
async fn df_20_bb_21_neither_logs_nor_metrics_nor_evidence_contain_a_secret_or_a_path() {
    let (log, _guard) = Log::at(tracing::Level::TRACE);
    let (up, down) = (Sink::start(200).await, Sink::start(503).await);
    let harness = with_sinks(&[service_sink("a", up.port), service_sink("b", down.port)]).await;
    let right = Shot::push("d-1", "main");
    let unknown = Shot { path: path_of("team", "unknown", &secret_version(0)), ..right.clone() };
    for shot in [right.clone(), Shot { secret: "wrong".into(), ..right.clone() }, unknown] {
        harness.send(&shot).await;
    }
    let log = log.text();
    let told = format!("{log}{}{}", harness.metrics(), serde_json::to_string(&harness.evidence.snapshot()).unwrap());
    for forbidden in [
        secret_of("team", "shop", &secret_version(0)),
        sign(&right.secret, &right.body),
        key().hook_id(owner("team", "shop")),
        key().hook_id(owner("team", "unknown")),
        "canary-of-a-sinks-answer".into(),
    ] {
        assert!(!told.contains(&forbidden), "{forbidden} is logged");
    }
    for line in [r#""outcome":"pending""#, r#""reason":"proof_wrong""#, r#""reason":"unknown_path""#, "sink does not accept"] {
        assert!(log.contains(line), "{line} is not logged:\n{log}");
    }
    assert!(!harness.metrics().contains("shop"), "metrics contain no names");
}

#[tokio::test]
async fn a_request_to_an_unknown_path_is_logged_at_info_with_the_digest_of_its_path() {
    let (log, _guard) = Log::at(tracing::Level::INFO);
    let harness = with_sinks(&[]).await;
    let path = path_of("team", "gone", &secret_version(0));
    assert_eq!(harness.send(&Shot { path: path.clone(), ..Shot::push("d-1", "main") }).await, 401);
    let digest = hex::encode(ring::digest::digest(&ring::digest::SHA256, path.as_bytes()));
    let [line] = &log.lines("request to an unknown path refused")[..] else { panic!("{}", log.text()) };
    assert_eq!((line["path_sha256"].as_str(), line["reason"].as_str()), (digest.get(..16), Some("unknown_path")));
    harness.fresh.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(harness.send(&Shot { path, ..Shot::push("d-1", "main") }).await, 503);
    assert_eq!(log.lines("request to an unknown path refused")[1]["reason"], "watch_stale");
}

#[tokio::test]
async fn requests_to_unknown_paths_do_not_fill_the_log() {
    let (log, _guard) = Log::at(tracing::Level::INFO);
    let harness = with_sinks(&[]).await;
    for _ in 0..150 {
        assert_eq!(harness.send(&Shot { path: "/".into(), ..Shot::push("d-1", "main") }).await, 401);
    }
    let lines = log.lines("request to an unknown path refused");
    // The limit permits one more line every two seconds.
    assert!((30..75).contains(&lines.len()), "{} lines", lines.len());
    assert!(harness.metrics().contains(r#"reason="unknown_path"} 150"#), "all of them are counted");
}

#[tokio::test]
async fn the_log_line_of_a_delivery_names_its_reference_and_its_commit() {
    let (log, _guard) = Log::at(tracing::Level::INFO);
    let harness = with_sinks(&[]).await;
    let shot = Shot::push("d-1", "main");
    assert_eq!(harness.send(&shot).await, 200);
    let [line] = &log.lines("delivery")[..] else { panic!("{}", log.text()) };
    let commit = serde_json::from_slice::<Value>(&shot.body).unwrap()["after"].as_str().unwrap().get(..8).unwrap().to_owned();
    assert_eq!(line["refs"], json!(format!("refs/heads/main@{commit}")));
    assert_eq!((&line["delivery"], &line["outcome"]), (&json!("d-1"), &json!("accepted")));
}

#[tokio::test]
async fn a_receiver_that_ends_with_pending_deliveries_names_them_and_their_number_in_its_last_lines() {
    let (log, _guard) = Log::at(tracing::Level::INFO);
    let sink = Sink::start(503).await;
    let harness = with_sinks(&[service_sink("a", sink.port)]).await;
    for id in ["d-1", "d-2"] {
        assert_eq!(harness.send(&Shot::push(id, "main")).await, 202);
    }
    harness.stop().await;
    let text = log.text();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let lost: Vec<_> = lines.iter().filter(|line| line["level"] == "ERROR").map(|line| &line["fields"]).collect();
    let named: Vec<_> = lost.iter().filter_map(|fields| fields["delivery"].as_str()).collect();
    assert_eq!(named, ["d-1", "d-2"], "{text}");
    assert_eq!((&lost[0]["namespace"], &lost[0]["name"]), (&json!("team"), &json!("shop")));
    assert_eq!(lines.last().map(|line| &line["fields"]["deliveries"]), Some(&json!(2)), "{text}");
}
