//! The allowed imports between modules, pure files, and the places for provider names and clocks. Checked in the source text of
//! `src/`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use testkit::components::repository_root;

/// Every root module with the modules that it may import, lowest first. Imports go in one direction, and items that are public
/// only for tests are no exception. A new module needs a line here.
const IMPORTS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("text", &[]),
    ("api", &[]),
    ("k8s", &["api", "text"]),
    ("network", &[]),
    ("protocol", &["api", "network", "text"]),
    ("telemetry", &["clock", "text", "network", "k8s", "protocol"]),
    ("providers", &["clock", "text", "api", "network", "protocol", "telemetry"]),
    ("controllers", &["clock", "text", "api", "k8s", "network", "protocol", "telemetry", "providers"]),
    ("receiver", &["clock", "text", "api", "k8s", "network", "protocol", "telemetry", "providers"]),
    ("cli", &["api", "telemetry"]),
    ("config", &["api", "network", "telemetry", "providers", "cli"]),
    ("check", &["clock", "text", "api", "k8s", "network", "protocol", "providers", "controllers", "cli", "config"]),
    ("trace", &["clock", "text", "api", "k8s", "protocol", "cli"]),
    ("run", &["clock", "text", "api", "k8s", "network", "protocol", "telemetry", "providers", "controllers", "receiver", "cli", "config"]),
    ("fuzz", &["api", "network", "protocol", "providers", "receiver"]),
];

/// Files without waiting, network or clock: the same input gives the same output.
const PURE_FILES: &[&str] = &[
    "controllers/catalog/entry.rs",
    "controllers/catalog/finding.rs",
    "controllers/catalog/merge.rs",
    "controllers/catalog/schedule.rs",
    "controllers/catalog/slices.rs",
    "controllers/connection/failure.rs",
    "controllers/connection/schedule.rs",
    "controllers/connection/plan.rs",
    "controllers/connection/report.rs",
    "controllers/binding/attempts.rs",
    "controllers/binding/cause.rs",
    "controllers/binding/cleanup.rs",
    "controllers/binding/hooks/mod.rs",
    "controllers/binding/hooks/model.rs",
    "controllers/binding/hooks/recreation.rs",
    "controllers/binding/hooks/repair.rs",
    "controllers/binding/obstacle.rs",
    "controllers/binding/outcome.rs",
    "controllers/binding/ownership.rs",
    "controllers/binding/plan/cleanup.rs",
    "controllers/binding/plan/crowding.rs",
    "controllers/binding/plan/mod.rs",
    "controllers/binding/plan/model.rs",
    "controllers/binding/plan/repository.rs",
    "controllers/binding/plan/webhook.rs",
    "controllers/binding/recent.rs",
    "controllers/binding/report/deliveries.rs",
    "controllers/binding/report/follow_up.rs",
    "controllers/binding/report/mod.rs",
    "controllers/binding/report/webhook_status.rs",
    "controllers/binding/requested.rs",
    "controllers/binding/schedule.rs",
    "controllers/binding/secret_version.rs",
    "controllers/binding/time.rs",
    "controllers/gate/ungranted.rs",
    "controllers/grant/report.rs",
    "protocol/catalog.rs",
    "protocol/grant.rs",
    "protocol/grant/explain.rs",
    "trace/chain.rs",
    "trace/conditions.rs",
    "trace/deliveries.rs",
    "trace/judge.rs",
    "trace/print.rs",
    "trace/repositories.rs",
    "trace/target.rs",
];
const IMPURE: &[&str] = &[
    "async ",
    "Client",
    "reqwest",
    "kube::Api",
    "Api<",
    "tokio::",
    "clock::",
    "Clock",
    "Instant::now",
    "Timestamp::now",
    "SystemTime",
    "rand::",
    "std::env",
    "std::fs",
];

const PROVIDER_NAMES: &[&str] = &["github", "gitlab", "bitbucket", "azure", "gitea", "forgejo"];
const PROVIDER_PLACES: &[&str] = &["providers", "api"];

const CLOCK_READINGS: &[&str] = &["Timestamp::now", "SystemTime::now", "Zoned::now", "Utc::now", "Local::now", "OffsetDateTime::now"];

/// Functions that parse foreign text. An error of parsing a value that is already in the program reveals nothing new.
const FOREIGN_JSON: &[&str] = &["serde_json::from_slice", "serde_json::from_str", "serde_json::from_reader"];

/// The violations in one source file. `path` is relative to `src/`.
fn violations(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let code = without_comments(text);
    let root = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let mut complain = |what: String| found.push(format!("src/{path}: {what}"));
    if !matches!(root, "main" | "lib") {
        match IMPORTS.iter().find(|(module, _)| *module == root) {
            None => complain(format!("module `{root}` has no line in the architecture test")),
            Some((_, allowed)) => {
                for imported in imported_modules(&code, depth(path)) {
                    let known = IMPORTS.iter().any(|(module, _)| *module == imported);
                    if known && imported != root && !allowed.contains(&imported.as_str()) {
                        complain(format!("`{root}` must not import `{imported}`"));
                    }
                }
            }
        }
    }
    if PURE_FILES.contains(&path) {
        // An `ActiveClient` contains the result of an inspection; its own client is private.
        for word in IMPURE.iter().filter(|word| without_tests(&code).replace("ActiveClient", "").contains(**word)) {
            complain(format!("is pure and must not hold `{word}`"));
        }
    }
    if !PROVIDER_PLACES.contains(&root) && !is_test(path) {
        // Comments count: who reads them must not need to know a provider.
        let words = without_tests(text).to_lowercase();
        for name in PROVIDER_NAMES.iter().filter(|name| words.contains(**name)) {
            complain(format!("names the provider `{name}`"));
        }
    }
    if path != "clock.rs" && !is_test(path) {
        for reading in CLOCK_READINGS.iter().filter(|reading| without_tests(&code).contains(**reading)) {
            complain(format!("reads the clock with `{reading}`; only clock.rs does"));
        }
    }
    if path != "text/json.rs" && !is_test(path) {
        for reading in FOREIGN_JSON.iter().filter(|reading| without_tests(&code).contains(**reading)) {
            complain(format!("reads with `{reading}`, whose errors quote what was read; text/json.rs has what does not"));
        }
    }
    if path != "cli.rs" && without_tests(&code).contains("env::var") {
        complain("reads an environment variable; only cli.rs does".to_owned());
    }
    found
}

/// The module depth of a file: `a.rs` and `a/mod.rs` are one deep.
fn depth(path: &str) -> usize {
    path.split('/').filter(|part| *part != "mod.rs").count()
}

/// Whether a file contains only tests.
pub fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs"))
}

/// The text before the unit tests of a file.
pub fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod ").map_or(text, |start| &text[..start])
}

/// The text without line comments. Block comments and quoted text stay, so the check may report too much but not too little.
pub fn without_comments(text: &str) -> String {
    let code = |line: &str| line.find("//").filter(|start| !line[..*start].contains('"')).map_or(line, |start| &line[..start]).to_owned();
    text.lines().map(|line| code(line) + "\n").collect()
}

/// The root modules that a text names, by `crate::` or by enough `super::`.
fn imported_modules(code: &str, depth: usize) -> Vec<String> {
    let mut modules = Vec::new();
    for (start, _) in code.match_indices("crate::").filter(|(start, _)| !code[..*start].ends_with(is_name)) {
        modules.extend(first_names(&code[start + "crate::".len()..]));
    }
    let climb = "super::".repeat(depth);
    for (start, _) in code.match_indices(&climb) {
        modules.extend(first_names(&code[start + climb.len()..]));
    }
    modules
}

const fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// The first segment of each path that begins here: `a` for `a::b`; `a` and `d` for `{a::{b, c}, d}`.
fn first_names(text: &str) -> Vec<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|character| is_name(*character)).collect::<String>();
    let Some(group) = text.strip_prefix('{') else { return vec![name(text)] };
    let (mut names, mut level, mut piece) = (Vec::new(), 1, String::new());
    for character in group.chars() {
        level += match character {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if level == 0 || (level == 1 && character == ',') {
            names.push(name(&piece));
            piece.clear();
        } else {
            piece.push(character);
        }
        if level == 0 {
            break;
        }
    }
    names
}

/// Every file below a folder with one of these endings.
pub fn files_below(folder: &Path, endings: &[&str], files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files_below(&path, endings, files)?;
        } else if path.extension().is_some_and(|extension| endings.iter().any(|ending| extension == *ending)) {
            files.push(path);
        }
    }
    Ok(())
}

#[test]
fn the_source_tree_follows_the_rules() -> Result<()> {
    let root = repository_root().join("src");
    let mut files = Vec::new();
    files_below(&root, &["rs"], &mut files)?;
    ensure!(files.len() > 5, "the source files were not found");
    let mut found: Vec<String> = PURE_FILES
        .iter()
        .filter(|path| !root.join(path).is_file())
        .map(|path| format!("src/{path}: is listed as pure and does not exist"))
        .collect();
    for file in files {
        let path = file.strip_prefix(&root)?.to_str().context("a path is not UTF-8")?.to_owned();
        found.extend(violations(&path, &std::fs::read_to_string(&file)?));
    }
    ensure!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
    Ok(())
}

#[track_caller]
fn bites(path: &str, text: &str, expected: &str) {
    let found = violations(path, text);
    assert!(found.iter().any(|complaint| complaint.contains(expected)), "{path}: expected {expected:?}, found {found:?}");
}

#[test]
fn finds_forbidden_imports_however_they_are_written() {
    bites("controllers/binding/apply.rs", "use crate::receiver::routes;", "`controllers` must not import `receiver`");
    bites("receiver/verify.rs", "use crate::controllers::lease;", "`receiver` must not import `controllers`");
    bites("receiver/verify.rs", "use crate::{api::v1alpha1::{A, B}, controllers::lease};", "`receiver` must not import `controllers`");
    bites("receiver/verify.rs", "use crate::{\n    api,\n    run,\n};", "`receiver` must not import `run`");
    bites("receiver/verify.rs", "fn f() { crate::controllers::lease::take() }", "`receiver` must not import `controllers`");
    bites("receiver/verify.rs", "use super::super::controllers::lease;", "`receiver` must not import `controllers`");
    bites("receiver/sinks/http.rs", "use super::super::super::controllers;", "`receiver` must not import `controllers`");
    bites("providers/model.rs", "use crate::controllers::finalizer;", "`providers` must not import `controllers`");
    bites("api/v1alpha1/shared.rs", "use crate::providers::Client;", "`api` must not import `providers`");
    bites("clock.rs", "use crate::api::v1alpha1::EventKind;", "`clock` must not import `api`");
    bites("protocol/keys.rs", "use crate::providers::Client;", "`protocol` must not import `providers`");
    bites("telemetry/logs.rs", "use crate::providers;", "`telemetry` must not import `providers`");
    bites("config.rs", "use crate::run;", "`config` must not import `run`");
    bites("receiver/verify.rs", "let body: Body = serde_json::from_slice(body)?;", "whose errors quote what was read");
    bites("novelty.rs", "", "`novelty` has no line");
}

#[test]
fn finds_impurity_provider_names_and_clocks() {
    bites("controllers/binding/plan/mod.rs", "pub async fn plan() {}", "must not hold `async `");
    bites("controllers/binding/plan/mod.rs", "use crate::providers::Client;", "must not hold `Client`");
    bites("controllers/connection/report.rs", "fn f(clock: &dyn Clock) {}", "must not hold `Clock`");
    bites("controllers/connection/report.rs", "let now = jiff::Timestamp::now();", "must not hold `Timestamp::now`");
    bites("receiver/verify.rs", "// as GitLab does", "names the provider `gitlab`");
    bites("controllers/mod.rs", "let name = \"Gitea\";", "names the provider `gitea`");
    bites("receiver/dedupe.rs", "let now = jiff::Timestamp::now();", "reads the clock");
    bites("providers/transport/mod.rs", "std::time::SystemTime::now()", "reads the clock");
    bites("run.rs", "std::env::var(\"X\")", "reads an environment variable");
}

#[test]
fn does_not_report_what_is_allowed() {
    let fine = [
        ("receiver/verify.rs", "use crate::{api::v1alpha1::EventKind, clock::SharedClock, providers::Webhook};\nuse super::routes;"),
        ("receiver/verify.rs", "#[cfg(test)]\nmod tests {\n    const NAME: &str = \"gitea\";\n}\n"),
        ("receiver/tests/fixtures.rs", "const NAME: &str = \"gitea\";"),
        ("controllers/binding/plan/mod.rs", "/// Never asks the Client; async code applies it.\npub fn plan(now: Timestamp) {}"),
        ("providers/gitea/mod.rs", "//! Gitea.\nuse crate::api;"),
        ("clock.rs", "Timestamp::now()"),
        ("cli.rs", "std::env::var(\"X\")"),
        ("main.rs", "use forgebind::run;"),
    ];
    for (path, text) in fine {
        assert_eq!(violations(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

/// A line without what stands in quotes, which is data.
fn without_quotes(line: &str) -> String {
    let (mut kept, mut quoted, mut escaped) = (String::new(), false, false);
    for character in line.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            _ => kept.push(character),
        }
    }
    kept
}

/// Whether a text names a path with this beginning, at the beginning of a word.
fn names_path(code: &str, beginning: &str) -> bool {
    code.match_indices(beginning).any(|(start, _)| !code[..start].ends_with(|before: char| is_name(before) || before == ':'))
}

/// The violations in one file of `tests/it/`. `path` is relative to it; `beside` lists the modules in its folder.
///
/// A test file can be read, moved and deleted on its own: code that two of them need is in `tests/testkit/` or, where only the
/// files of one folder need it, in that folder's `mod.rs`, which then contains no test.
fn test_violations(path: &str, text: &str, beside: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut complain = |what: &str| found.push(format!("tests/it/{path}: {what}"));
    let code: String = without_comments(text).lines().map(|line| without_quotes(line) + "\n").collect();
    let is_list = matches!(path.rsplit('/').next(), Some("mod.rs" | "main.rs"));
    if is_list && ["#[test]", "#[tokio::test", "proptest!"].iter().any(|mark| code.contains(mark)) {
        complain("holds a test; it only lists modules and holds what its folder shares");
    }
    if names_path(&code, "crate::") || code.contains("super::super::") {
        complain("names another file of tests/it; what two of them need is in tests/testkit");
    }
    let named: Vec<String> = if is_list {
        let taken = |module: &&String| [format!("{module}::"), format!("self::{module}::")].iter().any(|path| names_path(&code, path));
        beside.iter().filter(taken).cloned().collect()
    } else {
        let after = code.match_indices("super::").map(|(start, climb)| first_names(&code[start + climb.len()..]));
        after.flatten().filter(|name| beside.contains(name)).collect()
    };
    for module in named {
        complain(&format!("takes from `{module}` beside it; what two files need is in tests/testkit"));
    }
    found
}

/// The modules in the folder of a file.
fn modules_beside(file: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(file.parent().context("a folder")?)?;
    let names = entries.map(|entry| Ok(entry?.path().file_stem().context("a name")?.to_string_lossy().into_owned()));
    names.filter(|name| !matches!(name.as_deref(), Ok("mod" | "main"))).collect()
}

#[test]
fn no_test_file_imports_from_another() -> Result<()> {
    let root = repository_root().join("tests/it");
    let mut files = Vec::new();
    files_below(&root, &["rs"], &mut files)?;
    ensure!(files.len() > 50, "the tests were not found");
    let mut found = Vec::new();
    for file in files {
        let path = file.strip_prefix(&root)?.to_str().context("a path is not UTF-8")?.to_owned();
        found.extend(test_violations(&path, &std::fs::read_to_string(&file)?, &modules_beside(&file)?));
    }
    ensure!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
    Ok(())
}

#[test]
fn no_test_code_is_compiled_twice_or_excluded_from_compilation() -> Result<()> {
    let root = repository_root();
    let mut files = Vec::new();
    files_below(&root.join("tests"), &["rs"], &mut files)?;
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let code: String = without_comments(&text).lines().map(|line| without_quotes(line) + "\n").collect();
        for attribute in ["#[path", "dead_code", "unused_imports"] {
            ensure!(!code.contains(attribute), "{} has `{attribute}`; shared code belongs in tests/testkit", file.display());
        }
    }
    Ok(())
}

#[test]
fn finds_test_files_that_import_from_each_other_however_it_is_written() {
    let beside = ["crash".to_owned(), "deliveries".to_owned()];
    let bites = |path: &str, text: &str, expected: &str| {
        let found = test_violations(path, text, &beside);
        assert!(found.iter().any(|complaint| complaint.contains(expected)), "{path}: {text}: expected {expected:?}, found {found:?}");
    };
    bites("operator/crash.rs", "use crate::operator::deliveries::metric;", "names another file");
    bites("operator/crash.rs", "fn f() { crate::cli::check::judged() }", "names another file");
    bites("operator/gitops/wait.rs", "use super::super::deliveries::metric;", "names another file");
    bites("operator/crash.rs", "use super::deliveries::metric;", "takes from `deliveries`");
    bites("operator/crash.rs", "use super::{deliveries::metric};", "takes from `deliveries`");
    bites("operator/mod.rs", "mod deliveries;\npub use deliveries::metric;", "takes from `deliveries`");
    bites("operator/mod.rs", "mod deliveries;\npub use self::{crash, deliveries::{metric}};", "takes from `deliveries`");
    bites("operator/mod.rs", "mod deliveries;\npub use self::deliveries::metric;", "takes from `deliveries`");
    bites("operator/mod.rs", "mod deliveries;\n#[tokio::test]\nasync fn works() {}", "holds a test");
    bites("main.rs", "#[test]\nfn works() {}", "holds a test");
    for (path, text) in [
        ("operator/crash.rs", "//! Unlike crate::operator::deliveries.\nuse testkit::test_env::World;\nuse forgebind::crate_name;"),
        ("operator/crash.rs", "let text = \"use crate::operator::deliveries; \\\" crate::x\";"),
        ("cli/check/input.rs", "use super::{Bench, row};"),
        ("cli/check/mod.rs", "mod crash;\nmod deliveries;\n\nuse testkit::deliveries::Bench;"),
    ] {
        assert_eq!(test_violations(path, text, &beside), Vec::<String>::new(), "{path}: {text}");
    }
}
