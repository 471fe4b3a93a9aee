//! The real programs accept the commands of the guides: Forgebind's own parser, the real helm with this chart, kubectl's help for
//! its flags, the targets of the Makefile, the examples of the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use forgebind::cli::Cli;

use testkit::chart::{self, helm};
use testkit::components::{component, output_of, repository_root};
use testkit::guides::{code_spans, guides, here_documents, split};

/// The plugin of kubectl.
const PLUGIN: &str = "forgebind";

/// One command with its arguments, split as a shell splits it.
type Words = Vec<String>;

/// The commands of a line: quotes are removed, a comment ends the line, and `;`, `|`, `&&`, `<` and `>` end a command.
fn commands_of(line: &str) -> Vec<Words> {
    let (mut commands, mut words, mut word): (Vec<Words>, Words, Option<String>) = (Vec::new(), Vec::new(), None);
    let mut quote: Option<char> = None;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '\\') if characters.peek() == Some(&'\n') => {
                characters.next();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '\n') => words.extend(word.take()),
            (None, ';' | '|' | '&') => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    commands.push(words);
    commands.retain(|words| !words.is_empty());
    commands
}

/// The command lines of a block: continued lines joined, without here documents.
fn lines_of(block: &str) -> Vec<String> {
    let (mut lines, mut fed, mut continued) = (Vec::<String>::new(), false, false);
    for line in block.lines() {
        if fed {
            fed = line != "EOF";
            continue;
        }
        match lines.last_mut() {
            Some(last) if continued => last.extend(["\n", line]),
            _ => lines.push(line.to_owned()),
        }
        continued = line.ends_with('\\');
        fed = line.contains("<<'EOF'");
    }
    lines
}

/// The words before a redirection, without variables that are set for the command.
fn bare(words: Words) -> Words {
    let is_assignment = |word: &String| {
        word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    let words = words.into_iter().skip_while(is_assignment);
    words.take_while(|word| !word.starts_with(['<', '>'])).collect()
}

/// A command of a guide.
struct Shown {
    guide: PathBuf,
    /// The whole fence that contains the command.
    block: String,
    words: Words,
}

/// Every command of the guides, with its program as the first word.
fn commands() -> Result<Vec<Shown>> {
    let mut found = Vec::new();
    for (guide, text) in guides()? {
        let (blocks, prose) = split(&text);
        // Commands in the text too. Other programs' names between backticks may be only part of a command.
        for code in code_spans(&prose).into_iter().filter(|code| code.starts_with("kubectl ")) {
            let all = commands_of(code).into_iter().map(bare);
            found.extend(all.map(|words| Shown { guide: guide.clone(), block: code.to_owned(), words }));
        }
        for (_, block) in blocks.into_iter().filter(|(language, _)| language == "sh") {
            let all = lines_of(&block).into_iter().flat_map(|line| commands_of(&line)).map(bare).filter(|words| !words.is_empty());
            found.extend(all.map(|words| Shown { guide: guide.clone(), block: block.clone(), words }));
        }
    }
    Ok(found)
}

/// The commands of one program: only the arguments.
fn commands_for(program: &str) -> Result<Vec<Shown>> {
    let of_program = |shown: &Shown| Path::new(&shown.words[0]).file_name().is_some_and(|name| name == program);
    Ok(commands()?.into_iter().filter(of_program).map(|shown| Shown { words: shown.words[1..].to_vec(), ..shown }).collect())
}

#[test]
fn a_line_is_split_as_a_shell_splits_it() {
    let expected = |commands: &[&[&str]]| -> Vec<Words> {
        commands.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect()).collect()
    };
    let line = "A=1 helm install x --set 'a={b,c}' \\\n  --set d=\"e f\" | kubectl apply -f - # and so on";
    assert_eq!(
        commands_of(line),
        expected(&[&["A=1", "helm", "install", "x", "--set", "a={b,c}", "--set", "d=e f"], &["kubectl", "apply", "-f", "-"]])
    );
    assert_eq!(bare(vec!["A=1".into(), "make".into(), "test".into(), "<".into(), "x".into()]), ["make", "test"]);
    assert_eq!(lines_of("cat > a <<'EOF'\nx: 1\nEOF\nmake \\\n  b"), ["cat > a <<'EOF'", "make \\\n  b"]);
}

/// The words that follow the image in `docker run` are arguments of Forgebind too.
fn in_a_container(words: &[String]) -> Option<Words> {
    let image = words.iter().position(|word| word.contains("/forgebind:"))?;
    Some(words[image + 1..].to_vec())
}

#[test]
fn forgebind_accepts_every_forgebind_command_of_the_guides() -> Result<()> {
    let mut all = commands_for("forgebind")?;
    let contained = commands_for("docker")?.into_iter();
    all.extend(contained.filter_map(|shown| Some(Shown { words: in_a_container(&shown.words)?, ..shown })));
    let as_plugin = commands_for("kubectl")?.into_iter().filter(|shown| shown.words.first().is_some_and(|word| word == PLUGIN));
    all.extend(as_plugin.map(|shown| Shown { words: shown.words[1..].to_vec(), ..shown }));
    for Shown { guide, words, .. } in &all {
        let parsed = Cli::try_parse_from(std::iter::once("forgebind").chain(words.iter().map(String::as_str)));
        if let Err(error) = parsed {
            let shown = matches!(error.kind(), clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion);
            ensure!(shown, "{}: forgebind {}: {error}", guide.display(), words.join(" "));
        }
    }
    ensure!(all.len() > 5, "only {} commands were found", all.len());
    Ok(())
}

/// `helm install` and `upgrade` are rendered with this chart and the values of the command.
#[tokio::test]
async fn the_chart_accepts_every_helm_command_of_the_guides() -> Result<()> {
    const OF_INSTALLING: [&str; 4] = ["--install", "--create-namespace", "--reset-then-reuse-values", "--wait"];
    let folder = chart::folder();
    let folder = folder.to_str().context("UTF-8")?;
    let mut rendered = 0;
    for Shown { guide, words, block } in commands_for("helm")? {
        let place = format!("{}: helm {}", guide.display(), words.join(" "));
        let is_chart = |word: &String| word == "charts/forgebind" || word.starts_with("oci://ghcr.io/forgebind/charts/forgebind");
        let [verb, rest @ ..] = words.as_slice() else { anyhow::bail!("{place}: a command without arguments") };
        if !matches!(verb.as_str(), "install" | "upgrade" | "template") {
            let help = helm(None, &[verb, "--help"]).await.with_context(|| place.clone())?;
            for flag in rest.iter().filter_map(|word| word.split('=').next()).filter(|word| word.starts_with('-')) {
                ensure!(help.contains(flag), "{place}: {flag} is no flag");
            }
            continue;
        }
        ensure!(rest.iter().any(is_chart), "{place}: the command uses another chart");
        // The same fence writes the values file.
        let values = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        std::fs::write(values.path(), here_documents(&block).concat())?;
        let values = values.path().to_str().context("UTF-8")?;
        let mut arguments = vec!["template"];
        let mut rest = rest.iter().filter(|word| !OF_INSTALLING.contains(&word.as_str()));
        while let Some(word) = rest.next() {
            match word.as_str() {
                // The command names the version of a release; this test uses the tree.
                "--version" => {
                    rest.next();
                }
                "values.yaml" => arguments.push(values),
                _ => arguments.push(if is_chart(word) { folder } else { word }),
            }
        }
        helm(None, &arguments).await.with_context(|| place)?;
        rendered += 1;
    }
    ensure!(rendered > 5, "only {rendered} installations were found");
    Ok(())
}

/// The flags of a kubectl command from its own help, with the flags that every command has.
async fn kubectl_flags(verb: &[&str]) -> Result<String> {
    let kubectl = component("KUBEBUILDER_ASSETS")?.join("kubectl");
    let mut text = String::new();
    for arguments in [[verb, &["--help"]].concat(), vec!["options"]] {
        let mut command = Command::new(&kubectl);
        command.env("KUBECONFIG", "/dev/null").args(&arguments);
        text += &output_of(command).await?;
    }
    Ok(text)
}

#[tokio::test]
async fn kubectl_knows_every_flag_of_the_kubectl_commands_of_the_guides() -> Result<()> {
    const WITH_A_SECOND_WORD: [&str; 4] = ["create", "rollout", "config", "auth"];
    const BEFORE_THE_VERB: [&str; 2] = ["-n", "--namespace"];
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut all = commands_for("kubectl")?;
    // Forgebind's own parser judges the commands of the plugin.
    all.retain(|shown| shown.words.first().is_none_or(|word| word != PLUGIN));
    for Shown { guide, words, .. } in &all {
        let place = format!("{}: kubectl {}", guide.display(), words.join(" "));
        let mut rest = words.iter().map(String::as_str).peekable();
        while rest.next_if(|word| BEFORE_THE_VERB.contains(word)).is_some() {
            rest.next();
        }
        let verb = rest.next().with_context(|| place.clone())?;
        let second = rest.peek().filter(|word| WITH_A_SECOND_WORD.contains(&verb) && !word.starts_with('-')).copied();
        let third = (verb == "create" && second == Some("secret")).then_some("generic");
        let command: Vec<&str> = [Some(verb), second, third].into_iter().flatten().collect();
        let key = command.join(" ");
        if !known.contains_key(&key) {
            known.insert(key.clone(), kubectl_flags(&command).await.with_context(|| place.clone())?);
        }
        let known: BTreeSet<&str> = known[&key].split([' ', '\n', '=', ',', ':']).collect();
        // Words after `--` belong to another program.
        for word in words.iter().take_while(|word| *word != "--").filter(|word| word.starts_with('-') && word.len() > 1) {
            let flag = word.split('=').next().unwrap_or_default();
            // A value may follow a short flag without a space.
            let flag = if flag.starts_with("--") { flag } else { &flag[..2] };
            ensure!(known.contains(flag), "{place}: {flag} is no flag of kubectl {key}");
        }
    }
    ensure!(all.len() > 20, "only {} commands were found", all.len());
    Ok(())
}

#[test]
fn every_make_target_and_cargo_example_of_the_guides_exists() -> Result<()> {
    let makefile = std::fs::read_to_string(repository_root().join("Makefile"))?;
    let mut made = 0;
    for Shown { guide, words, .. } in commands_for("make")? {
        for word in &words {
            let known = match word.split_once('=') {
                Some((variable, _)) => makefile.contains(&format!("$({variable})")) || makefile.contains(&format!("$(or $({variable})")),
                None => makefile.lines().any(|line| line.starts_with(&format!("{word}:"))),
            };
            ensure!(known, "{}: the Makefile has no target {word}", guide.display());
        }
        made += 1;
    }
    ensure!(made > 2, "only {made} commands were found");
    let manifest = std::fs::read_to_string(repository_root().join("Cargo.toml"))?;
    for Shown { guide, words, .. } in commands_for("cargo")? {
        if let Some(example) = words.iter().position(|word| word == "--example").and_then(|at| words.get(at + 1)) {
            ensure!(manifest.contains(&format!("name = \"{example}\"")), "{}: there is no example {example}", guide.display());
        }
    }
    Ok(())
}
