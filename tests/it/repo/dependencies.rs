//! The dependencies that the tree may have: licences, sources and duplicates, by the rules of `.deny.toml`, without installing
//! anything and without a network.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use testkit::components::{output_of, repository_root};

/// The packages of this repository.
const OWN: [&str; 2] = ["forgebind", "forgebind-testkit"];

/// A package of the dependency graph.
#[derive(Debug)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// The packages that are compiled for this machine.
async fn packages() -> Result<Vec<Package>> {
    let mut command = Command::new("rustc");
    command.arg("-vV");
    let about = output_of(command).await?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc reports no host")?;
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host]).current_dir(repository_root());
    let metadata: Value = serde_json::from_str(&output_of(command).await?)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let read = |package: &Value| {
        Some(Package {
            name: text(&package["name"])?,
            version: text(&package["version"])?,
            license: text(&package["license"]),
            source: text(&package["source"]),
        })
    };
    let packages: Vec<Package> = metadata["packages"].as_array().into_iter().flatten().filter_map(read).collect();
    ensure!(packages.len() > 50, "cargo metadata lists only {} packages", packages.len());
    Ok(packages)
}

/// The entries of one list of `.deny.toml`.
fn listed(section: &str, name: &str) -> Result<BTreeSet<String>> {
    let settings = std::fs::read_to_string(repository_root().join(".deny.toml"))?;
    let section = settings.split_once(&format!("[{section}]")).context("no such section")?.1;
    let list = section.split_once(&format!("\n{name} = [")).context("no such list")?.1.split_once("\n]").context("an open list")?.0;
    Ok(list.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

/// Whether the allowed licences satisfy an expression. AND binds more tightly than OR; old manifests write `/` for OR.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> Result<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (value, rest) = any_of(&words, allowed)?;
    ensure!(rest.is_empty(), "{expression:?} is no licence expression");
    Ok(value)
}

fn any_of<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> Result<(bool, &'a [&'a str])> {
    let (mut value, mut rest) = all_of(words, allowed)?;
    while let ["OR", next @ ..] = rest {
        let (other, after) = all_of(next, allowed)?;
        (value, rest) = (value || other, after);
    }
    Ok((value, rest))
}

fn all_of<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> Result<(bool, &'a [&'a str])> {
    let (mut value, mut rest) = one(words, allowed)?;
    while let ["AND", next @ ..] = rest {
        let (other, after) = one(next, allowed)?;
        (value, rest) = (value && other, after);
    }
    Ok((value, rest))
}

fn one<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> Result<(bool, &'a [&'a str])> {
    match words {
        ["(", inner @ ..] => match any_of(inner, allowed)? {
            (value, [")", rest @ ..]) => Ok((value, rest)),
            _ => bail!("a bracket is open"),
        },
        [license, "WITH", exception, rest @ ..] => Ok((allowed.contains(&format!("{license} WITH {exception}")), rest)),
        [license, rest @ ..] => Ok((allowed.contains(*license), rest)),
        [] => bail!("a licence is missing"),
    }
}

#[tokio::test]
async fn licences_and_sources_are_allowed() -> Result<()> {
    let allowed = listed("licenses", "allow")?;
    let mut found = Vec::new();
    for package in packages().await?.iter().filter(|package| !OWN.contains(&package.name.as_str())) {
        let Package { name, version, .. } = package;
        match &package.license {
            None => found.push(format!("{name} {version} names no licence")),
            Some(license) if !is_allowed(license, &allowed)? => found.push(format!("{name} {version}: {license}")),
            Some(_) => {}
        }
        if package.source.as_deref() != Some("registry+https://github.com/rust-lang/crates.io-index") {
            found.push(format!("{name} {version} comes from {:?}", package.source));
        }
    }
    ensure!(found.is_empty(), "not allowed by .deny.toml:\n{}", found.join("\n"));
    Ok(())
}

#[tokio::test]
async fn no_crate_occurs_twice() -> Result<()> {
    let skipped = listed("bans", "skip")?;
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for package in packages().await? {
        let known = format!("{}@{}", package.name, package.version);
        if skipped.contains(&known) {
            seen.insert(known);
        } else {
            versions.entry(package.name).or_default().push(package.version);
        }
    }
    versions.retain(|_, versions| versions.len() > 1);
    ensure!(versions.is_empty(), "in several versions: {versions:?}; unify them, or add one to `skip` in .deny.toml and say why");
    let gone: Vec<&String> = skipped.difference(&seen).collect();
    ensure!(gone.is_empty(), "no longer in the tree, remove from `skip` in .deny.toml: {gone:?}");
    Ok(())
}

#[test]
fn licence_expressions_are_evaluated() -> Result<()> {
    let allowed: BTreeSet<String> = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for good in ["MIT", "MIT/GPL-3.0", "GPL-3.0 OR MIT AND Apache-2.0", "(GPL-3.0 OR MIT) AND Apache-2.0", "Apache-2.0 WITH LLVM-exception"]
    {
        assert!(is_allowed(good, &allowed)?, "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND Unicode-3.0", "MIT WITH Other-exception"] {
        assert!(!is_allowed(bad, &allowed)?, "{bad}");
    }
    assert!(is_allowed("MIT MIT", &allowed).is_err() && is_allowed("(MIT", &allowed).is_err());
    Ok(())
}
