//! `src/docs/guide/reference/metrics.md` agrees with the metrics that the code registers and a running operator exposes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use testkit::components::repository_root;
use testkit::documented_metrics::{METRICS, Metric, cells, documented};
use testkit::operator::Operator;
use testkit::plain_http;
use testkit::test_env::{SOON, TestEnv};
use testkit::wait::{Seen, wait_until};

/// The files that register metrics.
const SOURCES: [&str; 5] = [
    "src/controllers/metrics.rs",
    "src/providers/transport/metrics.rs",
    "src/receiver/metrics.rs",
    "src/telemetry/freshness.rs",
    "src/telemetry/process.rs",
];

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(repository_root().join(path)).with_context(|| path.to_owned())
}

/// The text between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

/// The type of a field and its labels, from the source.
fn field(source: &str, name: &str) -> Result<(String, BTreeSet<String>)> {
    let declared = source.lines().map(str::trim_start).map(|line| line.trim_start_matches("pub "));
    let declared = declared.filter_map(|line| line.strip_prefix(&format!("{name}: "))).find(|line| !line.contains("::"));
    let declared = declared.with_context(|| format!("no field {name}"))?;
    let kind = ["Counter", "Histogram", "Gauge"].into_iter().find(|kind| declared.contains(kind)).context("no kind")?;
    let mut labels = BTreeSet::new();
    if let Some(set) = between(declared, "Family<", ",") {
        let fields = between(source, &format!("struct {set} {{"), "}").with_context(|| format!("no labels {set}"))?;
        let names = fields.lines().map(str::trim).filter(|line| !line.starts_with("//")).filter_map(|line| line.split_once(':'));
        labels = names.map(|(name, _)| name.trim_start_matches("pub ").to_owned()).collect();
    }
    Ok((kind.to_lowercase(), labels))
}

fn registered() -> Result<BTreeMap<String, Metric>> {
    let mut metrics = BTreeMap::new();
    for path in SOURCES {
        let source = read(path)?;
        let prefix = between(&source, "sub_registry_with_prefix(\"", "\"").map(|prefix| format!("{prefix}_")).unwrap_or_default();
        for call in source.split("registry.register").skip(1) {
            let call = call.split(';').next().unwrap_or_default();
            let literals: Vec<&str> = call.split('"').skip(1).step_by(2).collect();
            let [name, meaning] = literals[..] else { anyhow::bail!("{path}: not a name and a meaning: {call}") };
            let member = call.rsplit_once(".clone()").and_then(|(before, _)| before.rsplit_once('.')).context("no member")?.1;
            let (kind, labels) = field(&source, member).with_context(|| format!("{path}: {name}"))?;
            let unit = between(call, "Unit::", ",").map(|unit| format!("_{}", unit.to_lowercase())).unwrap_or_default();
            let total = if kind == "counter" { "_total" } else { "" };
            metrics.insert(format!("{prefix}{name}{unit}{total}"), Metric { kind, labels, meaning: meaning.to_owned() });
        }
    }
    Ok(metrics)
}

#[test]
fn every_metric_is_documented_as_it_is_registered() -> Result<()> {
    let (documented, registered) = (documented()?, registered()?);
    ensure!(registered.len() > 15, "only {} registrations were found", registered.len());
    for (name, metric) in &registered {
        ensure!(documented.get(name) == Some(metric), "{name} is {metric:?}; {METRICS} says {:?}", documented.get(name));
    }
    let gone: Vec<_> = documented.keys().filter(|name| !registered.contains_key(*name)).collect();
    ensure!(gone.is_empty(), "{METRICS} describes {gone:?}, which no code registers");
    for entry in ["src/controllers", "src/providers", "src/receiver", "src/run", "src/telemetry"] {
        for path in rust_files(&repository_root().join(entry))? {
            let known = SOURCES.iter().any(|source| path.ends_with(source));
            ensure!(known || !std::fs::read_to_string(&path)?.contains("registry.register("), "{} registers metrics too", path.display());
        }
    }
    Ok(())
}

fn rust_files(folder: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The values that a `label` function returns.
fn labels_of(path: &str) -> Result<BTreeSet<String>> {
    let source = read(path)?;
    let body = between(&source, "const fn label(self) -> &'static str {", "\n    }\n").with_context(|| format!("{path} has no labels"))?;
    Ok(body.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

#[test]
fn every_refusal_and_outcome_is_documented() -> Result<()> {
    let text = read(METRICS)?;
    for (column, path) in [("reason", "src/receiver/refusal.rs"), ("outcome", "src/receiver/deliver.rs")] {
        let table = between(&text, &format!("| `{column}` | answer |"), "\n\n").context("no table")?;
        let rows: BTreeSet<String> = table.lines().skip(2).map(|row| cells(row)[0].trim_matches('`').to_owned()).collect();
        assert_eq!(rows, labels_of(path)?, "the table of {column} in {METRICS}");
    }
    Ok(())
}

/// The series of an exposition, each with its labels, and the type of each family.
fn shown(text: &str) -> (BTreeMap<String, BTreeSet<String>>, BTreeMap<String, String>) {
    let (mut series, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') {
            let name: String = line.chars().take_while(|character| !matches!(character, '{' | ' ')).collect();
            let labels = between(line, "{", "}").unwrap_or_default();
            let labels = labels.split(',').filter_map(|pair| pair.split_once('=')).map(|(label, _)| label.to_owned()).collect();
            series.insert(name, labels);
        }
    }
    (series, kinds)
}

#[tokio::test]
async fn every_metric_of_a_running_operator_is_documented() -> Result<()> {
    // Never exposed in this test: it needs a provider that reports rate limits.
    const UNSEEN: [&str; 1] = ["forgebind_provider_rate_limit_remaining"];
    let env = TestEnv::new("metrics").await?;
    let operator = Operator::start(env.options().await?).await?;
    let mut connection = env.connection_spec();
    connection["credentials"]["expiresAt"] = json!("2031-03-01");
    env.create_connection(connection).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    env.push("measured").await?;
    env.sink.wait_for(1, SOON).await?;
    plain_http::client()?.post(format!("{}/hooks/nobody/1", operator.url())).send().await?;

    let documented = documented()?;
    let missing = async || {
        let (series, kinds) = shown(&operator.metrics().await?);
        let mut seen = BTreeSet::new();
        for (name, mut labels) in series {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(&name);
            labels.remove("le");
            let metric = documented.get(family).with_context(|| format!("{family} is not in {METRICS}"))?;
            ensure!(metric.labels == labels, "{name} has {labels:?}; {METRICS} says {:?}", metric.labels);
            let kind = kinds.get(family.trim_end_matches("_total")).with_context(|| format!("{family} has no type"))?;
            ensure!(*kind == metric.kind, "{name} is a {kind}; {METRICS} says {}", metric.kind);
            seen.insert(family.to_owned());
        }
        Ok::<_, anyhow::Error>(
            documented.keys().filter(|name| !seen.contains(*name) && !UNSEEN.contains(&name.as_str())).cloned().collect(),
        )
    };
    wait_until("every metric", SOON, async || {
        let missing: Vec<String> = missing().await?;
        Ok(if missing.is_empty() { Seen::Done(()) } else { Seen::NotYet(format!("{missing:?}")) })
    })
    .await
}

/// Every series with its labels, without its value.
fn names_of_series(exposition: &str) -> BTreeSet<String> {
    let series = exposition.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    // The API server's answers vary by chance; a unit test beside the code checks that their number is bounded.
    series.map(|(name, _)| name.to_owned()).filter(|name| !name.starts_with("forgebind_kubernetes_requests")).collect()
}

/// Creates objects with their own names in every state of this test, and sends requests as strangers would.
async fn multiply(env: &TestEnv, operator: &Operator, numbers: std::ops::Range<u32>) -> Result<()> {
    let client = plain_http::client()?;
    for number in numbers {
        let name = format!("hostile{number}");
        let mut connection = env.connection_spec();
        connection["credentials"]["secretRef"]["name"] = json!(name);
        connection["credentials"]["expiresAt"] = json!("2031-03-01");
        env.create_connection_named(&name, connection).await?;
        let mut binding = env.binding_spec();
        binding["repository"] = json!(format!("{}/{name}", env.organization));
        binding["sinks"][0]["name"] = json!(name);
        env.create_binding(&name, binding.clone()).await?;
        binding["connectionRef"]["name"] = json!(name);
        env.create_binding(&format!("{name}-unconnected"), binding).await?;
        for path in [format!("/hooks/{name}/1"), format!("/{name}?{name}={name}")] {
            let request = client.post(format!("{}{path}", operator.url())).header("x-gitea-event", &name).header("user-agent", &name);
            request.body(format!("{{\"{name}\": 1}}")).send().await?;
        }
        client.request(reqwest::Method::from_bytes(name.as_bytes())?, operator.url()).send().await?;
    }
    Ok(())
}

/// Waits until the operator has reconciled that many objects of each state.
async fn settled(operator: &Operator, count: u32) -> Result<String> {
    let lines = [
        format!("forgebind_objects{{kind=\"RepoBinding\"}} {}", 2 * count + 1),
        "kind=\"RepoBinding\",condition=\"Receiving\",status=\"True\",reason=\"Succeeded\"} 1".to_owned(),
        format!("kind=\"RepoBinding\",condition=\"Ready\",status=\"False\",reason=\"NotFoundOrHidden\"}} {count}"),
        format!("kind=\"RepoBinding\",condition=\"Ready\",status=\"False\",reason=\"ConnectionNotReady\"}} {count}"),
        format!("kind=\"GitProviderConnection\",condition=\"Ready\",status=\"False\",reason=\"SecretNotFound\"}} {count}"),
    ];
    wait_until("every object in its state", SOON, async || {
        let text = operator.metrics().await?;
        let missing: Vec<_> = lines.iter().filter(|line| !text.contains(*line)).collect();
        Ok(if missing.is_empty() { Seen::Done(text.clone()) } else { Seen::NotYet(format!("{missing:?} in {text}")) })
    })
    .await
}

#[tokio::test]
async fn many_objects_and_hostile_requests_make_no_new_series() -> Result<()> {
    const FEW: u32 = 3;
    const MANY: u32 = 33;
    let env = TestEnv::new("series").await?;
    let operator = env.operator().await?;
    env.create_connection(env.connection_spec()).await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    env.push("counted").await?;
    env.sink.wait_for(1, SOON).await?;
    multiply(&env, &operator, 0..FEW).await?;
    let few = names_of_series(&settled(&operator, FEW).await?);
    multiply(&env, &operator, FEW..MANY).await?;
    settled(&operator, MANY).await?;
    wait_until("the same series", SOON, async || {
        let text = operator.metrics().await?;
        for own in ["hostile", &env.namespace, &env.organization, "127.0.0.1"] {
            ensure!(!text.contains(own), "{own} is in {text}");
        }
        let many = names_of_series(&text);
        // Objects that are still progressing have series that come and go.
        let passing = |name: &&String| name.contains("reason=\"Progressing\"");
        let new: Vec<_> = many.difference(&few).filter(|name| !passing(name)).collect();
        Ok(if new.is_empty() { Seen::Done(()) } else { Seen::NotYet(format!("new: {new:?}")) })
    })
    .await
}
