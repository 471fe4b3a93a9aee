//! The metrics of the real kube-state-metrics for real objects, with the configuration and the rights of the chart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use testkit::chart::{self, create, objects, render};
use testkit::components::component;
use testkit::documented_metrics::{Metric, documented_objects};
use testkit::plain_http;
use testkit::port::free_port;
use testkit::process::{Process, Program};
use testkit::scratch::Scratch;
use testkit::sink::Behavior;
use testkit::test_env::{CONNECTION, SOON, TestEnv};
use testkit::wait::{Seen, wait_until};

const TEMPLATE: &str = "templates/kube-state-metrics.yaml";
/// Labels of every series.
const COMMON: [&str; 5] = ["customresource_group", "customresource_version", "customresource_kind", "namespace", "name"];

/// A running kube-state-metrics. Dropping it stops it.
struct KubeStateMetrics {
    port: u16,
    process: Process,
    _scratch: Scratch,
}

/// One series with its value.
#[derive(Clone, Debug, PartialEq)]
struct Series {
    metric: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Series {
    /// Parses a line of an exposition. Label values in these tests contain no comma and no quote.
    fn read(line: &str) -> Result<Self> {
        let (metric, rest) = line.split_once('{').with_context(|| line.to_owned())?;
        let (labels, value) = rest.rsplit_once("} ").with_context(|| line.to_owned())?;
        let pairs = labels.split("\",").map(|pair| pair.split_once("=\"").with_context(|| line.to_owned()));
        let labels = pairs.map(|pair| pair.map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned())));
        Ok(Self { metric: metric.to_owned(), labels: labels.collect::<Result<_>>()?, value: value.trim().parse()? })
    }

    fn is(&self, metric: &str, labels: &[(&str, &str)]) -> bool {
        self.metric == metric && labels.iter().all(|(name, value)| self.labels.get(*name).is_some_and(|found| found == value))
    }
}

impl KubeStateMetrics {
    /// Starts it with the rendered configuration, as a service account that has only the rights of the chart.
    async fn start(env: &TestEnv) -> Result<Self> {
        let cluster = env.plane.cluster();
        let values = json!({"kubeStateMetrics": {"enabled": true, "rbac": {"serviceAccount": {"name": "kube-state-metrics"}}}});
        let rendered = objects(&render(&chart::folder(), &env.namespace, &env.namespace, &values, &[TEMPLATE]).await?)?;
        let scratch = Scratch::new("kube-state-metrics")?;
        let file = scratch.path().join("config.yaml");
        for object in &rendered {
            create(cluster, object).await?;
            if object["kind"] == "ConfigMap" {
                std::fs::write(&file, object["data"]["config.yaml"].as_str().context("config.yaml")?)?;
            }
        }
        ensure!(rendered.len() == 3, "{rendered:?}");
        let token = cluster.service_account_token(&env.namespace, "kube-state-metrics").await?;
        let kubeconfig = env.plane.kubeconfig_for(&format!("{}-ksm", env.namespace), &token, None)?;
        let (port, telemetry) = (free_port()?, free_port()?);
        let path: PathBuf = component("KUBE_STATE_METRICS")?;
        let program = Program::new("kube-state-metrics", path, scratch.path().join("log")).arguments([
            "--custom-resource-state-only=true".to_owned(),
            format!("--custom-resource-state-config-file={}", file.display()),
            format!("--kubeconfig={}", kubeconfig.display()),
            "--host=127.0.0.1".to_owned(),
            "--telemetry-host=127.0.0.1".to_owned(),
            format!("--port={port}"),
            format!("--telemetry-port={telemetry}"),
        ]);
        Ok(Self { port, process: program.start()?, _scratch: scratch })
    }

    async fn exposition(&self) -> Result<String> {
        let client = plain_http::client()?;
        Ok(client.get(format!("http://127.0.0.1:{}/metrics", self.port)).send().await?.error_for_status()?.text().await?)
    }

    /// The series about the objects of one namespace.
    async fn series(&self, namespace: &str) -> Result<Vec<Series>> {
        let text = self.exposition().await?;
        let all = text.lines().filter(|line| !line.starts_with('#')).map(Series::read).collect::<Result<Vec<_>>>()?;
        Ok(all.into_iter().filter(|series| series.labels.get("namespace").is_some_and(|found| found == namespace)).collect())
    }

    /// Waits until a series exists with a matching value.
    async fn shows(&self, namespace: &str, metric: &str, labels: &[(&str, &str)], fits: impl Fn(f64) -> bool) -> Result<f64> {
        wait_until(&format!("{metric}{labels:?}"), SOON, async || {
            let of_metric: Vec<_> = self.series(namespace).await?.into_iter().filter(|series| series.metric == metric).collect();
            let found: Vec<_> = of_metric.iter().filter(|series| series.is(metric, labels)).collect();
            Ok(match found[..] {
                [series] if fits(series.value) => Seen::Done(series.value),
                _ => Seen::NotYet(format!("{of_metric:?}")),
            })
        })
        .await
    }
}

impl Drop for KubeStateMetrics {
    fn drop(&mut self) {
        eprintln!("kube-state-metrics' last lines:\n{}", self.process.log_tail(20));
    }
}

/// Creates connections and bindings in several states.
async fn story(env: &TestEnv) -> Result<()> {
    let mut spec = env.connection_spec();
    spec["credentials"]["expiresAt"] = json!("2031-03-01T12:00:00Z");
    spec["requiredPermissions"] = json!(["ReadContents"]);
    env.create_connection(spec.clone()).await?;
    let mut lost = spec.clone();
    lost["credentials"]["secretRef"]["name"] = json!("nowhere");
    lost["suspend"] = json!(true);
    env.create_connection_named("suspended", lost.clone()).await?;
    lost["suspend"] = json!(false);
    env.create_connection_named("lost", lost).await?;
    env.apply_grant("own", json!({})).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    let mut hidden = env.binding_spec();
    hidden["repository"] = json!(format!("{}/nowhere", env.organization));
    hidden["suspend"] = json!(false);
    env.create_binding("hidden", hidden).await?;
    env.binding_ready("shop").await?;
    env.binding_says("hidden", "Ready", "False/NotFoundOrHidden").await?;
    Ok(())
}

#[tokio::test]
async fn kube_state_metrics_reports_each_object_with_the_rights_of_the_chart() -> Result<()> {
    let env = TestEnv::new("ksm").await?;
    let _operator = env.operator().await?;
    story(&env).await?;
    env.sink.behave(Behavior::Fail(http::StatusCode::SERVICE_UNAVAILABLE));
    env.push("pending").await?;
    let ksm = KubeStateMetrics::start(&env).await?;
    let namespace = env.namespace.clone();
    let shows = async |metric: &str, labels: &[(&str, &str)], value: f64| {
        ksm.shows(&namespace, metric, labels, |found| (found - value).abs() < 0.5).await
    };
    let later = async |metric: &str, labels: &[(&str, &str)]| {
        // After 2020, so it is a time in seconds.
        ksm.shows(&namespace, metric, labels, |found| found > 1_577_836_800.0).await
    };

    let connection: &[_] = &[("name", CONNECTION)];
    let info =
        [("name", CONNECTION), ("provider", "Gitea"), ("flavor", "Gitea"), ("management_policy", "Manage"), ("identity_kind", "User")];
    shows("forgebind_connection_info", &info, 1.0).await?;
    shows("forgebind_connection_bindings", connection, 2.0).await?;
    shows("forgebind_connection_credential_end_timestamp_seconds", connection, 1_930_132_800.0).await?;
    let permission = [("name", CONNECTION), ("permission", "ManageWebhooks"), ("state", "Granted")];
    shows("forgebind_connection_permission_info", &permission, 1.0).await?;
    let condition = |name, condition, status, reason| [("name", name), ("condition", condition), ("status", status), ("reason", reason)];
    for (name, kind, status, reason) in [
        (CONNECTION, "Ready", "True", "Succeeded"),
        (CONNECTION, "Reachable", "True", "Succeeded"),
        ("lost", "Ready", "False", "SecretNotFound"),
        ("suspended", "Ready", "False", "Suspended"),
    ] {
        shows("forgebind_connection_condition_info", &condition(name, kind, status, reason), 1.0).await?;
    }
    later("forgebind_connection_condition_transition_timestamp_seconds", &[("name", "lost"), ("condition", "Ready")]).await?;
    shows("forgebind_connection_suspended", &[("name", "suspended")], 1.0).await?;
    shows("forgebind_connection_suspended", connection, 0.0).await?;
    shows("forgebind_connection_observed_generation", connection, 1.0).await?;

    let grant: &[_] = &[("name", "own")];
    shows("forgebind_grant_info", &[("name", "own"), ("connection", CONNECTION), ("from", "Same")], 1.0).await?;
    shows("forgebind_grant_bindings", grant, 2.0).await?;
    shows("forgebind_grant_condition_info", &condition("own", "Ready", "True", "Succeeded"), 1.0).await?;
    later("forgebind_grant_condition_transition_timestamp_seconds", &[("name", "own"), ("condition", "Ready")]).await?;
    shows("forgebind_grant_generation", grant, 1.0).await?;
    shows("forgebind_grant_observed_generation", grant, 1.0).await?;

    let binding: &[_] = &[("name", "shop")];
    let repository = env.repository.as_str();
    shows("forgebind_binding_info", &[("name", "shop"), ("connection", CONNECTION), ("repository", repository)], 1.0).await?;
    shows("forgebind_binding_hook_info", binding, 1.0).await?;
    shows("forgebind_binding_condition_info", &condition("shop", "WebhookInSync", "True", "Succeeded"), 1.0).await?;
    shows("forgebind_binding_condition_info", &condition("hidden", "Ready", "False", "NotFoundOrHidden"), 1.0).await?;
    shows("forgebind_binding_condition_info", &condition("shop", "Delivering", "False", "SinkFailing"), 1.0).await?;
    shows("forgebind_binding_sink_pending_events", &[("name", "shop"), ("sink", "ci")], 1.0).await?;
    later("forgebind_binding_last_delivery_timestamp_seconds", binding).await?;
    later("forgebind_binding_secret_changed_timestamp_seconds", binding).await?;
    env.sink.behave(Behavior::Accept);
    shows("forgebind_binding_sink_pending_events", &[("name", "shop"), ("sink", "ci")], 0.0).await?;
    later("forgebind_binding_accepted_until_timestamp_seconds", binding).await?;
    let spec: Value = json!({"spec": {"interval": "2h"}});
    env.patch_binding("shop", spec).await?;
    shows("forgebind_binding_generation", binding, 2.0).await?;
    shows("forgebind_binding_observed_generation", binding, 2.0).await?;

    deleting(&env, &ksm).await?;
    every_series_is_documented(&ksm, &namespace).await
}

/// Objects that are being deleted wait for a foreign finalizer, so that the test can see them.
async fn deleting(env: &TestEnv, ksm: &KubeStateMetrics) -> Result<()> {
    let held = json!({"metadata": {"finalizers": ["acme.io/held"]}});
    for (kind, name) in [("gpc", "lost"), ("repob", "hidden")] {
        let patch = ["-n", &env.namespace, "patch", kind, name, "--type=merge", "-p", &held.to_string()];
        env.cluster().kubectl(&patch).await?;
        env.cluster().kubectl(&["-n", &env.namespace, "delete", kind, name, "--wait=false"]).await?;
    }
    let metrics = ["forgebind_connection_deletion_timestamp_seconds", "forgebind_binding_deletion_timestamp_seconds"];
    for (metric, name) in metrics.into_iter().zip(["lost", "hidden"]) {
        ksm.shows(&env.namespace, metric, &[("name", name)], |found| found > 1_577_836_800.0).await?;
    }
    let released = json!({"metadata": {"finalizers": null}}).to_string();
    for (kind, name) in [("gpc", "lost"), ("repob", "hidden")] {
        env.cluster().kubectl(&["-n", &env.namespace, "patch", kind, name, "--type=merge", "-p", &released]).await?;
    }
    wait_until("no series of deleted objects", SOON, async || {
        let left: Vec<_> = ksm.series(&env.namespace).await?.into_iter().filter(|series| series.labels["name"] == "hidden").collect();
        Ok(if left.is_empty() { Seen::Done(()) } else { Seen::NotYet(format!("{left:?}")) })
    })
    .await
}

/// The guide documents every series of the exposition with its labels and type, and no other series.
async fn every_series_is_documented(ksm: &KubeStateMetrics, namespace: &str) -> Result<()> {
    let documented: BTreeMap<String, Metric> = documented_objects()?;
    let text = ksm.exposition().await?;
    let families: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let known: BTreeSet<&str> = documented.keys().map(String::as_str).collect();
    assert_eq!(families, known, "the metrics of kube-state-metrics, and those of the guide");
    for (name, metric) in &documented {
        let help = format!("# HELP {name} {}", metric.meaning);
        ensure!(text.lines().any(|line| line == help), "{help}");
        let info = name.ends_with("_info");
        ensure!((metric.kind == "info") == info && (info || metric.kind == "gauge"), "{name} is documented as {}", metric.kind);
    }
    for series in ksm.series(namespace).await? {
        let metric = &documented[&series.metric];
        let own: BTreeSet<String> = series.labels.keys().filter(|label| !COMMON.contains(&label.as_str())).cloned().collect();
        ensure!(own.is_subset(&metric.labels), "{series:?} has labels beyond {:?}", metric.labels);
        ensure!(!metric.kind.starts_with("info") || (series.value - 1.0).abs() < f64::EPSILON, "{series:?}");
    }
    Ok(())
}
