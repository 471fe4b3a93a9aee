//! Alerts and the dashboard: checked by the real promtool, and compared with the metrics and pages that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use testkit::chart::{self, objects, render};
use testkit::components::{component, output_of, repository_root};
use testkit::deploy::without_helm;
use testkit::documented_metrics::{documented, documented_objects};
use testkit::generated::compare;

/// Alerts on our own metrics.
const ALERTS: &str = "charts/forgebind/files/alerts.yaml";
/// Alerts on what kube-state-metrics reports for each object.
const ALERTS_OF_OBJECTS: &str = "charts/forgebind/files/alerts-objects.yaml";
const DASHBOARD: &str = "charts/forgebind/files/dashboard.json";
const RUNBOOKS: &str = "src/docs/guide/operate/runbooks.md";
const MONITORING: &str = "src/docs/guide/operate/monitoring.md";
const RUNBOOK_URL: &str = "https://github.com/forgebind/forgebind/blob/main/src/docs/guide/operate/runbooks.md#";
const TEMPLATES: [&str; 4] = ["service-monitor", "prometheus-rule", "dashboard", "kube-state-metrics"];

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(repository_root().join(path)).with_context(|| path.to_owned())
}

async fn promtool(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(component("PROMTOOL")?);
    command.args(arguments);
    output_of(command).await
}

/// The rules of a file.
fn alerts(path: &str) -> Result<Vec<Value>> {
    let file: Value = serde_saphyr::from_str(&read(path)?)?;
    let groups = file["groups"].as_array().context("groups")?.iter();
    Ok(groups.flat_map(|group| group["rules"].as_array().into_iter().flatten()).cloned().collect())
}

fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("{pointer} of {value}"))
}

/// The panels of the dashboard, without the rows.
fn panels() -> Result<Vec<Value>> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)?)?;
    let panels = dashboard["panels"].as_array().context("panels")?.iter();
    Ok(panels.filter(|panel| panel["type"] != "row").cloned().collect())
}

/// The expressions of the dashboard, with the variables replaced as Grafana does.
fn dashboard_expressions() -> Result<Vec<String>> {
    let panels = panels()?;
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| Ok(text(target, "/expr")?.replace("$__rate_interval", "2m"))).collect()
}

#[tokio::test]
async fn promtool_accepts_every_alert_and_every_expression_of_the_dashboard() -> Result<()> {
    let root = repository_root();
    for path in [ALERTS, ALERTS_OF_OBJECTS] {
        promtool(&["check", "rules", "--lint-fatal", root.join(path).to_str().context("UTF-8")?]).await?;
    }
    let expressions = dashboard_expressions()?;
    ensure!(expressions.len() > 50, "only {} expressions", expressions.len());
    // Any expression may be the expression of a recording rule.
    let rule = |(number, expression): (usize, &String)| json!({"record": format!("panel:{number}"), "expr": expression});
    let rules: Vec<Value> = expressions.iter().enumerate().map(rule).collect();
    let check = async |rules: &[Value]| {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        std::fs::write(file.path(), json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string())?;
        promtool(&["check", "rules", file.path().to_str().context("UTF-8")?]).await
    };
    check(&rules).await?;
    // Checks the check: an invalid expression fails.
    ensure!(check(&[json!({"record": "panel:x", "expr": "sum(rate(forgebind_hooks[5m])"})]).await.is_err(), "a bracket may be missing");
    Ok(())
}

/// The alerts for which a test file expects a firing instance, and those for which it expects none.
fn expected(path: &str) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let file: Value = serde_saphyr::from_str(&read(path)?)?;
    let (mut firing, mut quiet) = (BTreeSet::new(), BTreeSet::new());
    let tests = file["tests"].as_array().context("tests")?.iter();
    for test in tests.flat_map(|test| test["promql_expr_test"].as_array().into_iter().flatten()) {
        let expression = text(test, "/expr")?;
        let name = expression.split('"').nth(1).context("a name")?.to_owned();
        assert_eq!(expression, format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}"));
        let none = test["exp_samples"].as_array().context("exp_samples")?.is_empty();
        if none {
            quiet.insert(name)
        } else {
            firing.insert(name)
        };
    }
    Ok((firing, quiet))
}

#[tokio::test]
async fn every_alert_fires_when_it_should_and_only_then() -> Result<()> {
    for (alerts, tests) in [(ALERTS, "alerts"), (ALERTS_OF_OBJECTS, "alerts-objects")] {
        let path = format!("tests/fixtures/alerts/{tests}.test.yaml");
        promtool(&["test", "rules", repository_root().join(&path).to_str().context("UTF-8")?]).await?;
        let names: BTreeSet<String> =
            self::alerts(alerts)?.iter().map(|rule| Ok(text(rule, "/alert")?.to_owned())).collect::<Result<_>>()?;
        let (firing, quiet) = expected(&path)?;
        assert_eq!(firing, names, "{path} shows each alert firing");
        assert_eq!(quiet, names, "{path} shows each alert quiet");
    }
    Ok(())
}

#[tokio::test]
async fn alerts_on_objects_of_one_tenant_warn_and_page_nobody() -> Result<()> {
    let path = repository_root().join("tests/fixtures/alerts/one-tenant.test.yaml");
    promtool(&["test", "rules", path.to_str().context("UTF-8")?]).await.map(drop)
}

#[test]
fn every_alert_says_what_is_wrong_how_severe_it_is_and_what_to_do() -> Result<()> {
    let runbooks = read(RUNBOOKS)?;
    let sections: BTreeSet<&str> = runbooks.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut names = BTreeSet::new();
    for (path, of_objects) in [(ALERTS, false), (ALERTS_OF_OBJECTS, true)] {
        for rule in alerts(path)? {
            let name = text(&rule, "/alert")?;
            ensure!(name.starts_with("Forgebind") && names.insert(name.to_owned()), "{name}");
            ensure!(["critical", "warning", "info"].contains(&text(&rule, "/labels/severity")?), "{name} has no severity");
            let (summary, description) = (text(&rule, "/annotations/summary")?, text(&rule, "/annotations/description")?);
            ensure!(
                summary.ends_with('.') && description.ends_with('.') && summary != description,
                "the annotations of {name} are not sentences"
            );
            let object = ["{{ $labels.namespace }}/{{ $labels.name }}"].iter().all(|part| summary.contains(part));
            ensure!(object == of_objects, "{name}: whether it names the object: {summary}");
            assert_eq!(text(&rule, "/annotations/runbook_url")?, format!("{RUNBOOK_URL}{}", name.to_lowercase()));
        }
    }
    let documented: BTreeSet<String> = sections.iter().map(|&section| section.to_owned()).collect();
    assert_eq!(documented, names, "the sections of {RUNBOOKS}");
    let guide = read(MONITORING)?;
    let spans = guide.split('`').skip(1).step_by(2).filter(|span| span.starts_with("Forgebind"));
    let mentioned: BTreeSet<&str> = spans.collect();
    let unknown: Vec<_> = mentioned.iter().filter(|name| !names.contains(**name)).collect();
    ensure!(mentioned.len() > 15 && unknown.is_empty(), "{MONITORING} names {unknown:?}");
    Ok(())
}

/// The metrics in an expression.
fn metrics_of(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("forgebind_") || word.starts_with("process_")).collect()
}

#[test]
fn alerts_and_the_dashboard_use_only_existing_metrics() -> Result<()> {
    let (own, of_objects): (BTreeSet<String>, BTreeSet<String>) =
        (documented()?.into_keys().collect(), documented_objects()?.into_keys().collect());
    let known = |metric: &str, set: &BTreeSet<String>| {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| metric.strip_suffix(part)).unwrap_or(metric);
        set.contains(metric) || set.contains(family)
    };
    let mut asked: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, set) in [(ALERTS, &own), (ALERTS_OF_OBJECTS, &of_objects)] {
        for rule in alerts(path)? {
            let expression = text(&rule, "/expr")?;
            let metrics = metrics_of(expression);
            ensure!(!metrics.is_empty(), "{path}: {expression} uses none of our metrics");
            for metric in metrics {
                ensure!(known(metric, set), "{path}: {expression}: {metric} does not exist");
                asked.entry(metric.to_owned()).or_default().insert(path.to_owned());
            }
        }
    }
    for expression in dashboard_expressions()? {
        for metric in metrics_of(&expression) {
            ensure!(known(metric, &own) || known(metric, &of_objects), "{expression}: {metric} does not exist");
            asked.entry(metric.to_owned()).or_default().insert(DASHBOARD.to_owned());
        }
    }
    // A metric that no alert and no panel uses need not be collected.
    let of_alerts_or_panels = |metric: &&String| {
        let parts = ["", "_bucket", "_sum", "_count"].map(|part| format!("{metric}{part}"));
        parts.iter().any(|part| asked.contains_key(part))
    };
    let unused: Vec<_> = own.iter().filter(|metric| !of_alerts_or_panels(metric)).collect();
    ensure!(unused.is_empty(), "no alert and no panel uses {unused:?}");
    Ok(())
}

#[test]
fn the_dashboard_has_rows_and_every_panel_has_a_description() -> Result<()> {
    const UNITS: [&str; 6] = ["short", "s", "bytes", "reqps", "ops", "percentunit"];
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)?)?;
    let all = dashboard["panels"].as_array().context("panels")?;
    let rows: Vec<&str> = all.iter().filter(|panel| panel["type"] == "row").map(|row| text(row, "/title")).collect::<Result<_>>()?;
    ensure!(rows.len() >= 8 && all[0]["type"] == "row", "{rows:?}");
    let ids: BTreeSet<u64> = all.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), all.len(), "two panels have the same id");
    let titles: BTreeSet<(&str, &str)> =
        all.iter().map(|panel| Ok((text(panel, "/type")?, text(panel, "/title")?))).collect::<Result<_>>()?;
    assert_eq!(titles.len(), all.len(), "two panels have the same title");
    let mut taken = BTreeSet::new();
    for panel in all {
        let side = |name: &str| panel["gridPos"][name].as_u64().with_context(|| format!("gridPos of {panel}"));
        let (left, top, width, height) = (side("x")?, side("y")?, side("w")?, side("h")?);
        ensure!(left + width <= 24, "{panel} is wider than the page");
        for place in (left..left + width).flat_map(|x| (top..top + height).map(move |y| (x, y))) {
            ensure!(taken.insert(place), "{} lies over another panel", panel["title"]);
        }
    }
    for panel in panels()? {
        let title = text(&panel, "/title")?.to_owned();
        ensure!(text(&panel, "/description")?.len() > 15, "{title} has no description");
        ensure!(UNITS.contains(&text(&panel, "/fieldConfig/defaults/unit")?), "{title} has no unit");
        let targets = panel["targets"].as_array().context("targets")?;
        ensure!(!targets.is_empty(), "{title} has no expression");
        for source in std::iter::once(&panel).chain(targets) {
            assert_eq!(text(source, "/datasource/uid")?, "${datasource}", "{title}");
        }
        let seconds = targets.iter().any(|target| text(target, "/expr").is_ok_and(|expr| expr.contains("_seconds_bucket")));
        ensure!(!seconds || panel["fieldConfig"]["defaults"]["unit"] == "s", "{title} shows seconds in another unit");
    }
    Ok(())
}

#[tokio::test]
async fn alerts_on_objects_are_rendered_only_with_kube_state_metrics() -> Result<()> {
    let groups = async |enabled: bool| -> Result<Value> {
        let values = json!({"metrics": {"prometheusRule": {"enabled": true}}, "kubeStateMetrics": {"enabled": enabled}});
        let rendered = render(&chart::folder(), "forgebind", "forgebind-system", &values, &["templates/prometheus-rule.yaml"]).await?;
        Ok(objects(&rendered)?.first().context("a rule")?["spec"]["groups"].clone())
    };
    let of = |path: &str| -> Result<Value> { Ok(serde_saphyr::from_str::<Value>(&read(path)?)?["groups"][0].clone()) };
    assert_eq!(groups(false).await?, json!([of(ALERTS)?]));
    assert_eq!(groups(true).await?, json!([of(ALERTS)?, of(ALERTS_OF_OBJECTS)?]));
    Ok(())
}

#[tokio::test]
async fn checked_in_monitoring_matches_the_chart() -> Result<()> {
    let folder: PathBuf = testkit::deploy::folder().join("monitoring");
    let values: Value = serde_saphyr::from_str(&std::fs::read_to_string(folder.join("values.yaml"))?)?;
    let templates = TEMPLATES.map(|name| format!("templates/{name}.yaml"));
    let templates: Vec<&str> = templates.iter().map(String::as_str).collect();
    let rendered = render(&chart::folder(), "forgebind", "forgebind-system", &values, &templates).await?;
    compare(&folder.join("monitoring.yaml"), &without_helm(&rendered, false))
}
