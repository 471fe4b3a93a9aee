//! Tests of `plan` and `report` without a probe of the repository.

mod follow_up;
mod planning;
mod reporting;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::facts::Facts;
use super::memory::{BindingMemory, ProbeRecord};
use super::outcome::Outcome;
use super::ownership::tests::{identity, keys, settings};
use super::plan;
use super::prepared::PreparedEntry;
use super::report::{Report, report};
use super::sink_secrets::PreparedSinks;
use super::snapshot::{Connection, Requests, Snapshot};
use crate::api::v1alpha1::binding::RepoBindingStatus;
use crate::api::v1alpha1::{ConditionType, FINALIZER, RepoBinding};
use crate::controllers::connection::failure::failure_of;
use crate::controllers::gate::{Grant, GrantDecision, Seal, sealed};
use crate::k8s::conditions::find;
use crate::providers::{ErrorKind, ProviderError};

const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn time(seconds_ago: i64) -> String {
    (now() - SignedDuration::from_secs(seconds_ago)).to_string()
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "", "observedGeneration": 1, "lastTransitionTime": time(1000)})
}

/// A binding that was Ready for generation 1, with one hook.
fn ready_binding() -> Value {
    json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
        "metadata": {"name": "shop", "namespace": "team", "uid": "u", "generation": 1, "finalizers": [FINALIZER]},
        "spec": {
            "connectionRef": {"name": "acme", "namespace": "platform"}, "repository": "acme/shop",
            "webhook": {"events": ["Push"]},
            "sinks": [{"name": "ci", "service": {"name": "ci", "port": 80}}],
        },
        "status": {
            "observedGeneration": 1, "installation": keys(1).fingerprint,
            "conditions": [
                condition("Ready", "True", "Succeeded"), condition("ConnectionReady", "True", "Succeeded"),
                condition("RepositoryFound", "True", "Succeeded"), condition("WebhookInSync", "True", "Succeeded"),
            ],
            "repository": {"id": "7", "path": "acme/shop", "archived": false, "empty": false},
            "webhook": {
                "url": "https://hooks.acme.io/hooks/…", "secretVersion": "1700000000",
                "hooks": [{"id": "31", "events": ["Push"], "adopted": false}],
                "target": {"connection": {"namespace": "platform", "name": "acme"}, "repositoryID": "7", "repository": "acme/shop", "host": "hooks.acme.io"},
            },
        },
    })
}

fn facts(object: Value, connection: Connection) -> Facts {
    let mut object: RepoBinding = serde_json::from_value(object).unwrap();
    if let Some(webhook) = object.status.as_mut().and_then(|status| status.webhook.as_mut()) {
        webhook.target = webhook.target.take().map(|target| sealed(&seal(), target));
    }
    let settings = settings("https://hooks.acme.io", &[]);
    let spec = match connection {
        Connection::NotPermitted => Grant::Refused { lacking: None },
        _ => Grant::Granted,
    };
    let probe = Some(ProbeRecord { at: Some(now()), generation: 1, ..ProbeRecord::default() });
    let snapshot = Snapshot {
        object: Arc::new(object),
        now: now(),
        fingerprint: keys(1).fingerprint,
        public_url: settings.public_urls.choose(None).cloned(),
        identity: identity(1, &settings, None),
        settings,
        seal: seal(),
        grant: GrantDecision { spec, lacks_grant: false, refuses_known_path: false, refused: Vec::new(), withdrawn: Vec::new() },
        connection,
        memory: BindingMemory { probe, ..BindingMemory::default() },
        user_secret: None,
        claims: Vec::new(),
        requests: Requests::default(),
        prepared_sinks: PreparedSinks::default(),
        prepared_entry: PreparedEntry::default(),
        unserved_sinks: Vec::new(),
        terminating: false,
        observe_only: false,
        suspended: false,
        key: keys(1).receiver,
        key_failure: None,
        rotation_of_connection: None,
        revocation_of_connection: None,
    };
    Facts { snapshot, probe: None, targets: Vec::new() }
}

fn seal() -> Seal {
    Seal::new(&keys(1).controller, "team", "shop")
}

fn say(facts: &Facts) -> Report {
    report(facts, &plan::plan(facts), &Outcome::nothing(Arc::clone(&facts.snapshot.object)))
}

fn reads(status: &RepoBindingStatus, kind: ConditionType) -> String {
    find(&status.conditions, kind).map(|condition| format!("{}/{}", condition.status, condition.reason)).unwrap_or_default()
}

fn outage() -> Connection {
    Connection::Unreachable(failure_of(&ProviderError::new(ErrorKind::Unreachable, "inspect", "no route"), None))
}
