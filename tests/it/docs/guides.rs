//! The guides are correct: generated where possible, and compared with the code; other tests try their commands on the real API
//! server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::CommandFactory as _;
use forgebind::api::v1alpha1::condition::Carrier;
use forgebind::api::v1alpha1::{ConditionType, Reason};
use forgebind::cli::Cli;

use testkit::components::repository_root;
use testkit::guides::{code_spans, files, guides, here_documents, split};
use testkit::scratch::Scratch;
use testkit::shared;

const CONDITIONS: &str = "src/docs/guide/reference/conditions.md";

const INTRODUCTION: &str = "# Conditions and reasons

<!-- Generated from src/api/v1alpha1/condition.rs by `make generate`. Change it there. -->

`Ready` is derived from the other conditions and has the reason of the first one that lowers it. Start with the reason that
`kubectl get` shows. The message of a condition names the keys, hosts, scopes or times in question. A condition that does
not apply is absent. `Reconciling` and `Stalled` follow kstatus: an object is Reconciling while Forgebind continues without
intervention, and Stalled when a person has to act.

Any new value of `forgebind.dev/reconcile-requested-at` requests a reconciliation now:
`kubectl annotate repob NAME --overwrite forgebind.dev/reconcile-requested-at=\"$(date +%s)\"`. The request is done when
`status.lastHandled.reconcile` has that value.
";

/// The events whose reason is not a reason of a condition: their meaning, and what to do.
const EVENTS: &[(&str, &str, &str)] = &[
    ("Ready", "The object became Ready.", "Nothing to do."),
    (
        "SecretRotated",
        "A webhook has a new secret. The previous secret is accepted while deliveries that use it may still arrive.",
        "Nothing to do. If the previous secret was stolen, revoke it now with a new value for `forgebind.dev/revoke-requested-at`.",
    ),
    (
        "HooksLeftBehind",
        "Hooks could not be removed in time. They are recorded in a ConfigMap `forgebind-leftover-hooks-<n>` of the operator's \
         namespace; if there is no room for them, only the message names their repositories.",
        "Make the connection work again: Forgebind then removes the hooks. Or delete the hooks at the provider by hand; the entry has \
         their ids.",
    ),
    (
        "HooksGoWithConnection",
        "A connection is being deleted. Forgebind first removes the hooks that were made through it at the provider.",
        "If this was not intended, apply the connection again: Forgebind then creates the hooks again.",
    ),
    (
        "CredentialExpiring",
        "The credential expires within `warnBefore`, or its declared expiry has passed.",
        "Create a new credential at the provider and put it into the same Secret.",
    ),
    (
        "CredentialWarning",
        "The credential works, but needs attention, such as a kind of token that the provider will soon stop accepting.",
        "Follow the message; the condition Authenticated repeats it for as long as it applies.",
    ),
];

/// Conditions that, when they turn bad, cause an event with the condition's name.
const TOLD_BY_NAME: &[ConditionType] = &[ConditionType::CleanupBlocked, ConditionType::Delivering, ConditionType::Receiving];

fn carries(reason: Reason, condition: ConditionType) -> bool {
    reason.conditions() == "all" || reason.conditions().split(", ").any(|carried| carried == condition.as_str())
}

fn heading(reason: Reason) -> String {
    let (name, conditions) = (reason.as_str(), reason.conditions());
    let carried = if conditions == "event" { String::new() } else { format!("\n*Carried by: {conditions}.*\n") };
    format!("\n### {name}\n{carried}\n{}\n\n**What to do:** {}\n", reason.meaning(), reason.remedy())
}

fn conditions_document() -> Result<String> {
    let mut text = INTRODUCTION.to_owned();
    text += "\n## The conditions\n\n| on | condition | while True | present | effect of False on Ready | reasons |\n| --- | --- | --- | --- | --- | --- |\n";
    for condition in ConditionType::ALL {
        let carrier = match condition.carrier() {
            Carrier::Connection => "connection",
            Carrier::Binding => "binding",
            Carrier::All => "every kind",
        };
        let reasons = Reason::ALL.iter().filter(|reason| reason.conditions() != "all" && carries(**reason, *condition));
        let reasons: Vec<String> = reasons.map(|reason| format!("[{}](#{})", reason.as_str(), reason.as_str().to_lowercase())).collect();
        let reasons = match condition {
            ConditionType::Ready => "that of the condition that lowers it, Suspended or Progressing".to_owned(),
            ConditionType::Stalled => "that of Ready, or [ManagedByAnotherInstallation](#managedbyanotherinstallation)".to_owned(),
            ConditionType::Reconciling => "that of Ready, or Progressing".to_owned(),
            _ => reasons.join(", "),
        };
        let (meaning, presence, effect) = (condition.meaning(), condition.presence(), condition.effect_on_ready());
        writeln!(text, "| {carrier} | `{condition}` | {meaning} | {presence} | {effect} | {reasons} |")?;
    }
    let mut sections: Vec<(String, Vec<Reason>)> = Vec::new();
    for reason in Reason::ALL {
        let title = match reason.conditions().split(", ").next().unwrap_or_default() {
            "all" => "Any condition".to_owned(),
            "event" => "Only in events".to_owned(),
            first => format!("Reasons of {first}"),
        };
        match sections.iter_mut().find(|(present, _)| *present == title) {
            Some((_, reasons)) => reasons.push(*reason),
            None => sections.push((title, vec![*reason])),
        }
    }
    for (title, reasons) in sections {
        write!(text, "\n## {title}\n")?;
        text.extend(reasons.into_iter().map(heading));
    }
    text += "\n## Further events\n\nWhen Ready becomes False, an event has its reason. Other events:\n\n| event | meaning | what to do |\n| --- | --- | --- |\n";
    for (name, meaning, remedy) in EVENTS {
        writeln!(text, "| `{name}` | {meaning} | {remedy} |")?;
    }
    for condition in TOLD_BY_NAME {
        writeln!(text, "| `{condition}` | The condition became bad. | See the reason of the condition. |")?;
    }
    Ok(text)
}

/// Compares the checked-in page with what the code generates. With `UPDATE=1` (`make generate`) it writes the page instead.
#[test]
fn generated_conditions_match_the_code() -> Result<()> {
    let (path, expected) = (repository_root().join(CONDITIONS), conditions_document()?);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &expected)?;
    }
    let present = std::fs::read_to_string(&path).with_context(|| format!("{CONDITIONS} is missing; run `make generate`"))?;
    ensure!(present == expected, "{CONDITIONS} is out of date; run `make generate`");
    Ok(())
}

/// The identifiers that follow a text in the source, with the file in which each was found.
fn used(before: &str) -> Result<BTreeMap<String, PathBuf>> {
    let root = repository_root();
    let mut found = BTreeMap::new();
    for path in files(&root.join("src"), ".rs")? {
        let text = std::fs::read_to_string(&path)?;
        let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for rest in product.split(before).skip(1) {
            let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
            found.insert(name, path.strip_prefix(&root)?.to_owned());
        }
    }
    Ok(found)
}

#[test]
fn df_23_every_failure_refers_to_a_documented_remedy() -> Result<()> {
    let document = conditions_document()?;
    let headings: Vec<&str> = document.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut used_reasons = used("Reason::")?;
    used_reasons.remove("ALL");
    for (name, place) in &used_reasons {
        let count = headings.iter().filter(|heading| *heading == name).count();
        ensure!(count == 1, "reason {name} of {} occurs {count} times in {CONDITIONS}", place.display());
    }
    for reason in Reason::ALL {
        let name = reason.as_str();
        ensure!(used_reasons.contains_key(name), "{name} is documented but never used");
        for text in [reason.meaning(), reason.remedy()] {
            ensure!(text.ends_with('.') && text.len() > 10, "{name}: {text:?} is not a sentence");
        }
        for condition in reason.conditions().split(", ").filter(|carried| !matches!(*carried, "all" | "event")) {
            ensure!(ConditionType::ALL.iter().any(|known| known.as_str() == condition), "{name} is carried by no condition {condition}");
        }
    }
    let mut events = used("Notice::normal(\"")?;
    events.extend(used("Notice::warning(\"")?);
    events.extend(used("Notice::normal(\n            \"")?);
    events.remove("");
    let known: BTreeSet<&str> = EVENTS.iter().map(|(name, ..)| *name).collect();
    for (name, place) in events {
        ensure!(known.contains(name.as_str()), "event {name} of {} has no line in {CONDITIONS}", place.display());
    }
    Ok(())
}

/// Every manifest is complete and passes strict validation.
#[tokio::test]
async fn every_manifest_of_the_guides_is_accepted_by_the_api_server() -> Result<()> {
    let cluster = shared::control_plane().await?.cluster();
    let scratch = Scratch::new("manifests")?;
    let mut count = 0;
    for (path, text) in guides()? {
        for (language, block) in split(&text).0 {
            let place = path.display();
            // Other tests run the programs.
            let known = matches!(language.as_str(), "yaml" | "sh" | "text" | "go" | "python" | "js");
            ensure!(known, "{place}: a fence with the language {language:?}");
            let manifests = match language.as_str() {
                "yaml" => vec![block],
                "sh" => here_documents(&block).into_iter().filter(|text| text.contains("apiVersion: ")).collect(),
                _ => Vec::new(),
            };
            for block in manifests {
                // On a line of its own, or in `metadata: {name: a, namespace: b}`.
                let namespaces = block.split("namespace: ").skip(1).filter_map(|rest| rest.split([',', '}', '\n']).next());
                for namespace in namespaces.map(str::trim).collect::<BTreeSet<_>>() {
                    cluster.create_namespace_named(namespace).await?;
                }
                let file = scratch.path().join(format!("{count}.yaml"));
                std::fs::write(&file, &block)?;
                let file = file.to_str().context("the path is not UTF-8")?;
                let arguments = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", file];
                cluster.kubectl(&arguments).await.with_context(|| format!("{place}:\n{block}"))?;
                count += 1;
            }
        }
    }
    ensure!(count > 0, "the guides contain no manifest");
    Ok(())
}

/// The path that a code span names in the tree; `None` when it is not a path. A placeholder or a pattern matches anything below.
fn path_in_tree(span: &str) -> Option<&str> {
    const FOLDERS: [&str; 6] = ["src/", "tests/", "crds/", "charts/", "deploy/", ".ci/"];
    const FILES: [&str; 7] = ["Cargo.toml", "Cargo.lock", "Makefile", "README.md", "LICENSE", "Dockerfile", ".deny.toml"];
    let is_path = FOLDERS.iter().any(|folder| span.starts_with(folder)) || FILES.contains(&span);
    let known = span.split(['<', '*', ' ', ':']).next()?;
    let known = if known.len() == span.len() { known } else { known.rsplit_once('/')?.0 };
    is_path.then_some(known)
}

/// The anchor that GitHub generates for a heading.
fn slug(heading: &str) -> String {
    let kept =
        heading.to_lowercase().chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character)).collect::<String>();
    kept.replace(' ', "-")
}

#[test]
fn every_path_and_link_of_the_guides_exists() -> Result<()> {
    let root = repository_root();
    let mut paths = 0;
    for (guide, text) in guides()? {
        let prose = split(&text).1;
        for named in code_spans(&prose).into_iter().filter_map(path_in_tree) {
            ensure!(root.join(named).exists(), "{} names {named}, which does not exist", guide.display());
            paths += 1;
        }
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let folder = guide.parent().unwrap_or(Path::new(""));
            let target = if file.is_empty() { root.join(&guide) } else { root.join(folder).join(file) };
            ensure!(link.starts_with("https://") || target.exists(), "{} links to {link}, which does not exist", guide.display());
            if let Some(anchor) = anchor.filter(|_| !link.starts_with("https://")) {
                let target = std::fs::read_to_string(&target)?;
                let prose = split(&target).1;
                let mut headings = prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
                ensure!(
                    headings.any(|heading| slug(heading) == anchor),
                    "{} links to {link}, and there is no such heading",
                    guide.display()
                );
            }
        }
    }
    ensure!(paths > 20, "only {paths} paths were found: the test reads the wrong part");
    assert_eq!(path_in_tree("src/no-such.rs"), Some("src/no-such.rs"));
    assert_eq!(path_in_tree("src/providers/<name>/"), Some("src/providers"));
    assert_eq!(path_in_tree("kubectl get src/"), None);
    Ok(())
}

/// Flags in the text; another test tries whole commands.
#[test]
fn every_flag_in_the_guides_exists() -> Result<()> {
    // Flags of helm and kubectl.
    const OTHERS: [&str; 7] =
        ["cascade", "create-namespace", "set", "reset-then-reuse-values", "reuse-values", "take-ownership", "no-hooks"];
    let mut flags: BTreeSet<String> = ["help", "version"].map(str::to_owned).into();
    for command in Cli::command().get_subcommands() {
        flags.extend(command.get_arguments().filter_map(|argument| argument.get_long()).map(str::to_owned));
    }
    let mut named = 0;
    for (guide, text) in guides()? {
        let prose = split(&text).1;
        for code in code_spans(&prose).into_iter().filter(|code| !code.starts_with("kubectl ")) {
            for flag in code.split_whitespace().filter_map(|word| word.strip_prefix("--")) {
                let flag = flag.split('=').next().unwrap_or_default();
                ensure!(flags.contains(flag) || OTHERS.contains(&flag), "{} names --{flag}, which does not exist", guide.display());
                named += usize::from(flags.contains(flag));
            }
        }
    }
    ensure!(named > 5, "only {named} flags were found: the test reads the wrong part");
    Ok(())
}

/// A path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// The targets of a page's links in this tree, as paths from the root.
fn linked(guide: &Path, text: &str) -> BTreeSet<PathBuf> {
    let folder = guide.parent().unwrap_or(Path::new(""));
    let prose = split(text).1;
    let links = prose.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    links.filter(|link| !link.is_empty() && !link.starts_with("https://")).map(|link| normal(&folder.join(link))).collect()
}

/// A link to a folder covers all pages in it.
#[test]
fn every_page_can_be_reached_from_the_readme() -> Result<()> {
    let pages: BTreeMap<PathBuf, String> = guides()?.into_iter().collect();
    let (mut reached, mut ahead) = (BTreeSet::new(), vec![PathBuf::from("README.md")]);
    while let Some(page) = ahead.pop() {
        let Some(text) = pages.get(&page).filter(|_| reached.insert(page.clone())) else { continue };
        for target in linked(&page, text) {
            ahead.extend(pages.keys().filter(|page| **page == target || page.parent() == Some(target.as_path())).cloned());
        }
    }
    let lost: Vec<_> = pages.keys().filter(|page| !reached.contains(*page)).collect();
    ensure!(lost.is_empty(), "no link leads to {lost:?}");
    Ok(())
}

/// Tables, links, program output and generated parts may be wider.
#[test]
fn the_pages_for_users_are_at_most_100_columns_wide() -> Result<()> {
    let mut measured = 0;
    for (page, text) in guides()? {
        if !(page.starts_with("src/docs/guide") || page == Path::new("README.md")) || text.contains("<!-- Generated from") {
            continue;
        }
        let prose = split(&text).1;
        // The search would not find a fence within a list, so its content would not be checked.
        ensure!(!prose.contains("```"), "{} has an indented fence", page.display());
        for line in prose.lines().filter(|line| !line.trim_start().starts_with('|') && line.contains(' ') && !line.starts_with('[')) {
            ensure!(line.chars().count() <= 100 || one_span(line), "{}: {} columns: {line}", page.display(), line.chars().count());
            measured += 1;
        }
    }
    ensure!(measured > 1000, "only {measured} lines were measured");
    Ok(())
}

/// Whether a line is long because it contains a command, path or link that cannot be broken.
fn one_span(line: &str) -> bool {
    line.split_whitespace().any(|word| word.chars().count() > 80) || code_spans(line).iter().any(|span| span.chars().count() > 60)
}

/// Before its first section, a page shows a command to type or a manifest to apply.
#[test]
fn pages_about_one_task_begin_with_the_command_or_the_manifest() -> Result<()> {
    let mut seen = 0;
    for (page, text) in guides()? {
        let of_tasks = ["connect", "deliver", "operate"].map(|folder| Path::new("src/docs/guide").join(folder));
        if !of_tasks.iter().any(|folder| page.starts_with(folder)) {
            continue;
        }
        let beginning = text.split("\n## ").next().unwrap_or_default();
        ensure!(!split(beginning).0.is_empty(), "{} does not begin with a command or a manifest", page.display());
        seen += 1;
    }
    ensure!(seen > 15, "only {seen} pages were seen");
    Ok(())
}

/// Callback URLs and user authorization belong to OAuth flows, which Forgebind does not support: the docs say so, and no code
/// starts one.
#[test]
fn pk_05_user_authorization_is_documented_as_out_of_scope() -> Result<()> {
    let readme = std::fs::read_to_string(repository_root().join("README.md"))?;
    let paragraph =
        readme.split("\n\n").find(|paragraph| paragraph.contains("OAuth user flows")).context("README does not mention OAuth")?;
    let paragraph = paragraph.replace('\n', " ");
    for words in ["out of scope", "callback URLs", "setup URL", "\"Request user authorization (OAuth) during installation\" off"] {
        ensure!(paragraph.contains(words), "{words:?} is missing: {paragraph}");
    }
    for path in files(&repository_root().join("src"), ".rs")? {
        let text = std::fs::read_to_string(&path)?;
        for begun in ["login/oauth", "oauth/authorize", "authorization_code", "client_secret", "redirect_uri"] {
            ensure!(!text.contains(begun), "{} contains {begun:?}, a part of an OAuth flow", path.display());
        }
    }
    Ok(())
}
