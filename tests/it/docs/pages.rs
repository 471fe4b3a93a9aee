//! The pages of `src/docs/guide` that list things defined elsewhere: annotations, versions, limits, types of events. Each list is
//! compared with its source in both directions.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::EventKind;
use serde_json::Value;

use testkit::components::repository_root;
use testkit::guides::{code_spans, files, split};

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(repository_root().join(path)).with_context(|| path.to_owned())
}

/// The page without its fences.
fn page(path: &str) -> Result<String> {
    Ok(split(&read(&format!("src/docs/guide/{path}"))?).1)
}

/// The part of a page below a heading, up to the next one.
fn section<'a>(page: &'a str, heading: &str) -> Result<&'a str> {
    let (_, rest) = page.split_once(&format!("\n{heading}\n")).with_context(|| format!("no heading {heading}"))?;
    Ok(rest.split("\n#").next().unwrap_or_default())
}

/// The names with a domain in a text, such as `helm.sh/hook`. API versions and paths do not count.
fn qualified_names(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || "._/-".contains(character)));
    let name = |word: &str| {
        let (domain, name) = word.trim_end_matches(['.', '-']).split_once('/')?;
        let is_version = name.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
        let is_name = domain.contains('.') && domain.starts_with(|first: char| first.is_ascii_lowercase());
        (is_name && !name.is_empty() && !name.contains('/') && !is_version).then(|| format!("{domain}/{name}"))
    };
    words.filter_map(name).collect()
}

/// The names of annotations and labels in the product's source, the chart's templates and the definitions.
fn names_of_the_tree() -> Result<BTreeSet<String>> {
    // A type of Secret; an annotation that the caches drop from objects; an example in the schema of Kubernetes' own types.
    const OTHERS: [&str; 3] = ["kubernetes.io/tls", "kubectl.kubernetes.io/last-applied-configuration", "foo.example.com/CamelCase"];
    let root = repository_root();
    let mut paths: Vec<_> = files(&root.join("src"), ".rs")?.into_iter().filter(|path| !path.to_string_lossy().contains("tests")).collect();
    for (folder, ending) in [("charts/forgebind/templates", ".yaml"), ("charts/forgebind/templates", ".tpl"), ("crds", ".yaml")] {
        paths.extend(files(&root.join(folder), ending)?);
    }
    let mut found = BTreeSet::new();
    for path in paths {
        let text = std::fs::read_to_string(&path)?;
        found.extend(qualified_names(text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default()));
    }
    found.retain(|name| !OTHERS.contains(&name.as_str()));
    Ok(found)
}

#[test]
fn the_page_of_annotations_lists_exactly_the_annotations_and_labels_of_the_tree() -> Result<()> {
    let page = page("reference/annotations.md")?;
    let told = qualified_names(&code_spans(&page).join("\n"));
    let present = names_of_the_tree()?;
    ensure!(present.len() > 20, "only {present:?} was found: the test reads the wrong part");
    let missing: Vec<_> = present.difference(&told).collect();
    ensure!(missing.is_empty(), "reference/annotations.md does not list {missing:?}");
    let unknown: Vec<_> = told.difference(&present).collect();
    ensure!(unknown.is_empty(), "reference/annotations.md lists {unknown:?}, which does not exist");
    assert_eq!(qualified_names("apps/v1 networking.k8s.io/v1 a.b/c/d \"helm.sh/hook\": x"), BTreeSet::from(["helm.sh/hook".to_owned()]));
    Ok(())
}

/// The version that a module file of the tests pins.
fn pinned(module: &str, file: &str) -> Result<String> {
    let text = read(&format!("tests/controlplane/{file}/go.mod"))?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix(module)?.strip_prefix(" v"));
    Ok(line.with_context(|| format!("no version of {module}"))?.split_whitespace().next().unwrap_or_default().to_owned())
}

#[test]
fn the_page_of_versions_lists_those_that_the_chart_requires_and_the_tests_run() -> Result<()> {
    let page = page("reference/supported-versions.md")?;
    let kubernetes = section(&page, "## Kubernetes")?;
    let chart = read("charts/forgebind/Chart.yaml")?;
    let least = chart.lines().find_map(|line| line.strip_prefix("kubeVersion: \">=")?.strip_suffix(".0-0\"")).context("kubeVersion")?;
    let tested = pinned("k8s.io/kubernetes", "kubernetes")?;
    for row in [format!("| before {least} |"), format!("| {tested} |")] {
        ensure!(kubernetes.contains(&row), "the table of Kubernetes has no row {row:?}");
    }
    let manifest = read("Cargo.toml")?;
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"')).context("rust-version")?;
    let helm = pinned("helm.sh/helm/v4", "helm")?;
    let tools = section(&page, "## Tools")?;
    for row in [format!("| Helm | {helm} |"), format!("| Rust | {rust} and later |")] {
        ensure!(tools.contains(&row), "the table of tools has no {row:?}");
    }
    // The names of the servers whose answers are tested: `GitLab 17.10`, `Forgejo 16, silent`.
    let providers = section(&page, "## Git providers and their versions")?;
    let answering = read("tests/it/providers/server_versions.rs")?;
    let (_, versions) = answering.split_once("fn versions()").context("no versions")?;
    let mut told = 0;
    for name in versions.split("\n}").next().unwrap_or_default().split('"').skip(1).step_by(2) {
        let name = name.split(',').next().unwrap_or_default();
        let Some((product, version)) = name.rsplit_once(' ').filter(|(_, version)| version.starts_with(|c: char| c.is_ascii_digit()))
        else {
            continue;
        };
        let row = providers
            .lines()
            .find(|line| line.starts_with('|') && line.contains(product))
            .with_context(|| format!("no row of {product}"))?;
        let has = row.split(['|', ',', ' ']).any(|word| word == version);
        ensure!(has, "the row of {product} does not have {version}: {row}");
        told += 1;
    }
    ensure!(told > 5, "only {told} versions of servers were found");
    let gitea = pinned("code.gitea.io/gitea", "gitea")?;
    ensure!(providers.contains(&format!("| {gitea} as a real server")), "the row of Gitea does not have {gitea}");
    Ok(())
}

/// The schema of a field in a definition; `[]` goes into the items of a list.
fn field<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(schema, |schema, step| {
        let (name, into_items) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
        let found = schema.get("properties")?.get(name)?;
        if into_items { found.get("items") } else { Some(found) }
    })
}

#[test]
fn the_page_of_limits_matches_the_definitions() -> Result<()> {
    let mut schemas = BTreeMap::new();
    for path in files(&repository_root().join("crds"), ".yaml")? {
        let definition: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path)?)?;
        if let Some(kind) = definition["spec"]["names"]["kind"].as_str() {
            schemas.insert(kind.to_owned(), definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone());
        }
    }
    let page = page("platform/sizing-and-limits.md")?;
    let mut rows = 0;
    for row in section(&page, "## Limits of the schema")?.lines().filter(|line| line.starts_with("| `")) {
        let (names, limit) = (code_spans(row), row.trim_end_matches([' ', '|']).rsplit(' ').next().unwrap_or_default());
        let [kind, path] = names.as_slice() else { anyhow::bail!("{row}: not a kind and a field") };
        let schema =
            field(schemas.get(*kind).with_context(|| format!("no kind {kind}"))?, path).with_context(|| format!("no field {path}"))?;
        ensure!(schema["maxItems"].as_u64() == limit.parse().ok(), "{path} has {}, and the page says {limit}", schema["maxItems"]);
        rows += 1;
    }
    ensure!(rows > 5, "only {rows} limits were found");
    Ok(())
}

#[test]
fn the_page_of_events_lists_the_type_of_every_event() -> Result<()> {
    let page = page("deliver/events.md")?;
    let table = section(&page, "## Event types")?;
    for kind in EventKind::ALL {
        let row = format!("| `{kind}` | `{}` |", kind.cloud_event_type());
        ensure!(table.contains(&row), "the table of event types has no {row:?}");
    }
    ensure!(table.lines().filter(|line| line.starts_with("| `")).count() == EventKind::ALL.len(), "a row for an event that does not exist");
    Ok(())
}

#[test]
fn every_metric_of_the_guide_is_documented() -> Result<()> {
    let metrics = read("src/docs/guide/reference/metrics.md")?;
    let mut named = 0;
    for path in files(&repository_root().join("src/docs/guide"), ".md")? {
        let prose = split(&std::fs::read_to_string(&path)?).1;
        for metric in code_spans(&prose).into_iter().filter(|code| code.starts_with("forgebind_")) {
            let name = metric.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_')).next().unwrap_or_default();
            ensure!(metrics.contains(&format!("`{name}`")), "{} names {name}, which is not a metric", path.display());
            named += 1;
        }
    }
    ensure!(named > 0, "no metric was found: the test reads the wrong part");
    Ok(())
}
