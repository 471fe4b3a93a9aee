//! Counts objects by state whenever the metrics are read. The series are bounded by the closed sets of conditions and reasons,
//! regardless of the number and content of objects. kube-state-metrics shows the state of a single object.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::metrics::{ConditionLabels, Horizon, KINDS, Kind, Metrics, OfProvider};
use super::{Context, View};
use crate::api::v1alpha1::{ConditionType, ConnectionGrant, GitProviderConnection, ProviderKind, Reason, RepoBinding};

/// The horizons for the expiry of a credential. Each includes the shorter ones.
const HORIZONS: [(&str, SignedDuration); 4] = [
    ("0d", SignedDuration::ZERO),
    ("1d", SignedDuration::from_hours(24)),
    ("7d", SignedDuration::from_hours(7 * 24)),
    ("30d", SignedDuration::from_hours(30 * 24)),
];
/// Replaces a condition type or reason that Forgebind does not know: others can write to a status.
const OTHER: &str = "other";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ObjectCounts {
    objects: BTreeMap<&'static str, i64>,
    conditions: BTreeMap<ConditionLabels, i64>,
    ending: BTreeMap<Horizon, i64>,
    earliest_end: BTreeMap<OfProvider, Timestamp>,
    hooks: i64,
}

/// Recomputes the gauges. A process that does not lead shows nothing, so that the replicas do not add up.
pub fn refresh(context: &Context) {
    let metrics = &context.metrics;
    let leads = metrics.leading.get() == 1;
    let counts = if leads { ObjectCounts::of(&context.view) } else { ObjectCounts::default() };
    counts.show(metrics);
    if !leads {
        metrics.leftovers.set(0);
        metrics.receivers.clear();
    }
}

impl ObjectCounts {
    fn of(view: &View) -> Self {
        let mut counts = Self::default();
        counts.count(&view.connections.state(), &view.grant_objects.state(), &view.bindings.state(), view.clock.now());
        counts
    }

    fn count(
        &mut self,
        connections: &[Arc<GitProviderConnection>],
        grants: &[Arc<ConnectionGrant>],
        bindings: &[Arc<RepoBinding>],
        now: Timestamp,
    ) {
        let [connection_kind, grant_kind, binding_kind] = KINDS;
        self.objects.extend(KINDS.map(|kind| (kind, 0)));
        for connection in connections {
            let status = connection.status.as_ref();
            self.object(connection_kind, status.map(|status| status.conditions.as_slice()));
            let end = status.and_then(|status| status.credential.as_ref()).and_then(|credential| credential.expires_at.as_ref());
            if let (Some(provider), Some(end)) = (connection.spec.provider.kind(), end) {
                self.end(provider, end.0, now);
            }
        }
        for grant in grants {
            self.object(grant_kind, grant.status.as_ref().map(|status| status.conditions.as_slice()));
        }
        for binding in bindings {
            let status = binding.status.as_ref();
            self.object(binding_kind, status.map(|status| status.conditions.as_slice()));
            let hooks = status.and_then(|status| status.webhook.as_ref()).map_or(0, |webhook| webhook.hooks.len());
            self.hooks = self.hooks.saturating_add(i64::try_from(hooks).unwrap_or(i64::MAX));
        }
    }

    fn object(&mut self, kind: &'static str, conditions: Option<&[Condition]>) {
        *self.objects.entry(kind).or_default() += 1;
        let mut told = HashSet::new();
        for condition in conditions.unwrap_or_default() {
            let labels = labels(kind, condition);
            // All unknown condition types share one label, which counts once per object.
            if told.insert(labels.condition) {
                *self.conditions.entry(labels).or_default() += 1;
            }
        }
        if told.insert(ConditionType::Ready.as_str()) {
            let (condition, reason) = (ConditionType::Ready.as_str(), Reason::Progressing.as_str());
            *self.conditions.entry(ConditionLabels { kind, condition, status: "Unknown", reason }).or_default() += 1;
        }
    }

    fn end(&mut self, provider: ProviderKind, end: Timestamp, now: Timestamp) {
        let provider = provider.flag();
        for (within, horizon) in HORIZONS {
            *self.ending.entry(Horizon { provider, within }).or_default() += i64::from(end.duration_since(now) <= horizon);
        }
        self.earliest_end.entry(OfProvider { provider }).and_modify(|earliest| *earliest = end.min(*earliest)).or_insert(end);
    }

    /// Publishes the counts. The series of a state without objects are removed.
    fn show(self, metrics: &Metrics) {
        metrics.objects.clear();
        for (kind, count) in self.objects {
            metrics.objects.get_or_create(&Kind { kind }).set(count);
        }
        metrics.conditions.clear();
        for (labels, count) in self.conditions {
            metrics.conditions.get_or_create(&labels).set(count);
        }
        metrics.credentials_ending.clear();
        for (horizon, count) in self.ending {
            metrics.credentials_ending.get_or_create(&horizon).set(count);
        }
        metrics.earliest_end.clear();
        for (provider, end) in self.earliest_end {
            metrics.earliest_end.get_or_create(&provider).set(end.as_second());
        }
        metrics.hooks.set(self.hooks);
    }
}

fn labels(kind: &'static str, condition: &Condition) -> ConditionLabels {
    let status = match condition.status.as_str() {
        "True" => "True",
        "False" => "False",
        _ => "Unknown",
    };
    ConditionLabels { kind, condition: word(&condition.type_), status, reason: word(&condition.reason) }
}

/// The known word as a static string, or [`OTHER`].
fn word(word: &str) -> &'static str {
    static WORDS: OnceLock<HashMap<&'static str, &'static str>> = OnceLock::new();
    let words = WORDS.get_or_init(|| {
        let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
        ConditionType::ALL.iter().map(|condition| condition.as_str()).chain(reasons).map(|word| (word, word)).collect()
    });
    words.get(word).copied().unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-11-20T12:00:00Z";

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": NOW})
    }

    fn connection(name: &str, expires_at: Option<&str>, conditions: &[Value]) -> Arc<GitProviderConnection> {
        let mut status = json!({"conditions": conditions, "credential": {"kind": "Token"}});
        if let Some(end) = expires_at {
            status["credential"]["expiresAt"] = json!(end);
        }
        let object = json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection",
            "metadata": {"name": name, "namespace": "platform"},
            "spec": {"provider": {"github": {"organization": "acme"}}}, "status": status,
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn binding(name: &str, hooks: usize, conditions: &[Value]) -> Arc<RepoBinding> {
        let hooks: Vec<_> = (0..hooks).map(|hook| json!({"id": hook.to_string()})).collect();
        let object = json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
            "metadata": {"name": name, "namespace": "team-shop"},
            "spec": {"connectionRef": {"name": "acme"}, "repository": "acme/shop"},
            "status": {"conditions": conditions, "webhook": {"hooks": hooks}},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn shown(connections: &[Arc<GitProviderConnection>], bindings: &[Arc<RepoBinding>]) -> Vec<String> {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let mut counts = ObjectCounts::default();
        counts.count(connections, &[], bindings, NOW.parse().unwrap());
        counts.show(&metrics);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let counted = ["forgebind_object", "forgebind_credential", "forgebind_hooks"];
        text.lines().filter(|line| counted.iter().any(|name| line.starts_with(name))).map(str::to_owned).collect()
    }

    #[test]
    fn objects_are_counted_by_what_is_the_matter_with_them() {
        let connections = [
            connection("a", Some("2026-11-20T11:00:00Z"), &[condition("Ready", "False", "CredentialExpired")]),
            connection("b", Some("2026-11-23T12:00:00Z"), &[condition("Ready", "True", "Succeeded")]),
            connection("c", None, &[condition("Ready", "True", "Succeeded")]),
            connection("d", Some("2027-11-23T12:00:00Z"), &[]),
        ];
        let bindings = [
            binding("a", 3, &[condition("Ready", "True", "Succeeded"), condition("Receiving", "False", "DeliveriesRefused")]),
            binding("b", 1, &[condition("Ready", "True", "Succeeded")]),
        ];
        let lines = shown(&connections, &bindings);
        let expected = [
            r#"forgebind_objects{kind="GitProviderConnection"} 4"#,
            r#"forgebind_objects{kind="ConnectionGrant"} 0"#,
            r#"forgebind_objects{kind="RepoBinding"} 2"#,
            r#"forgebind_object_conditions{kind="GitProviderConnection",condition="Ready",status="True",reason="Succeeded"} 2"#,
            r#"forgebind_object_conditions{kind="GitProviderConnection",condition="Ready",status="Unknown",reason="Progressing"} 1"#,
            r#"forgebind_object_conditions{kind="RepoBinding",condition="Receiving",status="False",reason="DeliveriesRefused"} 1"#,
            r#"forgebind_credentials_ending{provider="github",within="0d"} 1"#,
            r#"forgebind_credentials_ending{provider="github",within="1d"} 1"#,
            r#"forgebind_credentials_ending{provider="github",within="7d"} 2"#,
            r#"forgebind_credentials_ending{provider="github",within="30d"} 2"#,
            r#"forgebind_credential_earliest_end_timestamp_seconds{provider="github"} 1795172400"#,
            "forgebind_hooks 4",
        ];
        for line in expected {
            assert!(lines.iter().any(|shown| shown == line), "{line} is missing in {lines:#?}");
        }
    }

    #[test]
    fn many_objects_and_hostile_statuses_make_no_series_of_their_own() {
        let hostile = |number: usize| {
            let word = format!("Word{number}");
            vec![condition(&word, "Perhaps", &word), condition("Ready", "False", &word), condition(&word, "True", "Succeeded")]
        };
        let bindings: Vec<_> = (0..1_000).map(|number| binding(&format!("b{number}"), 1, &hostile(number))).collect();
        let connections: Vec<_> = (0..1_000)
            .map(|number| connection(&format!("c{number}"), Some(&format!("20{:02}-01-01T00:00:00Z", 10 + number % 80)), &hostile(number)))
            .collect();
        let lines = shown(&connections, &bindings);
        assert_eq!(lines.iter().filter(|line| line.starts_with("forgebind_object_conditions")).count(), 4, "{lines:#?}");
        assert_eq!(lines.len(), 3 + 4 + HORIZONS.len() + 1 + 1, "{lines:#?}");
        assert!(lines.iter().all(|line| !line.contains("Word") && !line.contains("Perhaps")), "{lines:#?}");
    }
}
