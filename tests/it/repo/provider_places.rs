//! Which files a new provider touches outside of its own: the lists in `src/docs/adding-a-provider.md` are true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::ProviderKind;

use testkit::components::repository_root;

const GUIDE: &str = "src/docs/adding-a-provider.md";
/// How many places there may be.
const MOST_PLACES: usize = 12;
/// Generated files, and folders whose files are each one provider's own.
const NO_PLACES: [&str; 8] = [
    "src/docs/guide/reference/providers.md",
    "src/docs/guide/reference/flags.md",
    "src/docs/guide/reference/permissions.md",
    "src/docs/guide/reference/api.md",
    "charts/forgebind/README.md",
    "charts/forgebind/files/",
    "tests/snapshots/",
    "tests/fixtures/",
];

/// Lower case, without what parts the words of a name: `azure_devops`, `azureDevOps` and `Azure DevOps` are the same.
fn run_together(text: &str) -> String {
    text.chars().filter(|character| !character.is_whitespace() && !matches!(character, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// The providers that a text does not name.
fn unnamed(text: &str) -> Vec<ProviderKind> {
    let text = run_together(text);
    ProviderKind::ALL.into_iter().filter(|kind| !text.contains(&run_together(kind.flag()))).collect()
}

/// Whether a file is one provider's own: in its folder, or named after it.
fn is_own(path: &str) -> bool {
    let mut parts = path.split('/').map(|part| part.replace('-', "_"));
    parts.any(|part| {
        ProviderKind::ALL.into_iter().any(|kind| {
            let rest = part.strip_prefix(&kind.flag().replace('-', "_"));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_']))
        })
    })
}

/// The texts in code spans.
fn spans(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Rows of the places, files that compare providers, code that names some.
type Lists = (Vec<[String; 3]>, BTreeSet<String>, BTreeSet<String>);

/// The lists of the guide.
fn lists() -> Result<Lists> {
    let guide = std::fs::read_to_string(repository_root().join(GUIDE))?;
    let section = |from: &str, to: &str| -> Result<String> {
        let (_, rest) = guide.split_once(from).with_context(|| format!("{from} is missing"))?;
        Ok(rest.split(to).next().unwrap_or_default().to_owned())
    };
    let table = section("## The places", "\n## ")?;
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")).filter(|line| line.starts_with('`'));
    let rows = rows.filter_map(|line| line.split(" | ").map(str::to_owned).collect::<Vec<_>>().try_into().ok()).collect();
    let items = |text: &str| text.lines().filter_map(|line| line.strip_prefix("- ")?.split(": ").next().map(spans)).flatten().collect();
    let compare = section("These compare the providers", "This code names")?;
    Ok((rows, items(&compare), items(&section("This code names a provider", "\n## ")?)))
}

fn files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_read = |ending: &std::ffi::OsStr| ["rs", "md", "yaml", "json", "tpl", "facts"].iter().any(|read| ending == *read);
        if path.is_dir() {
            self::files(&path, files)?;
        } else if path.extension().is_some_and(is_read) {
            files.push(path);
        }
    }
    Ok(())
}

/// The texts of all files that may be places, by their paths.
fn texts() -> Result<Vec<(String, String)>> {
    let root = repository_root();
    let mut paths = vec![root.join("README.md"), root.join("Makefile")];
    for folder in ["src", "tests", "charts"] {
        files(&root.join(folder), &mut paths)?;
    }
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root)?.to_str().context("a path is not UTF-8")?.to_owned();
        Ok((name, std::fs::read_to_string(&path)?))
    };
    let is_possible = |path: &str| !is_own(path) && path != GUIDE && !NO_PLACES.iter().any(|place| path.starts_with(place));
    Ok(paths.into_iter().map(read).collect::<Result<Vec<_>>>()?.into_iter().filter(|(path, _)| is_possible(path)).collect())
}

/// The code of a product file, without the tests at its end.
fn product_code<'a>(path: &str, text: &'a str) -> Option<&'a str> {
    let is_test =
        path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "samples.rs" | "test_server.rs") || part.ends_with("_tests.rs"));
    (path.starts_with("src/") && Path::new(path).extension().is_some_and(|ending| ending == "rs") && !is_test)
        .then(|| text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text))
}

#[test]
fn every_place_names_every_provider() -> Result<()> {
    let (rows, ..) = lists()?;
    for [place, ..] in &rows {
        let path = place.trim_matches('`');
        let missing = unnamed(&std::fs::read_to_string(repository_root().join(path)).with_context(|| path.to_owned())?);
        ensure!(missing.is_empty(), "{path} lacks {missing:?}; what to add is in {GUIDE}");
    }
    Ok(())
}

#[test]
fn the_guide_lists_the_places_that_a_new_provider_touches() -> Result<()> {
    let (rows, compare, some) = lists()?;
    let places: BTreeSet<String> = rows.iter().map(|[place, ..]| place.trim_matches('`').to_owned()).collect();
    ensure!(places.len() == rows.len() && places.len() <= MOST_PLACES, "{} places, and there may be {MOST_PLACES}", places.len());
    let texts = texts()?;
    // All but one: a place that a new provider has not been added to yet is still one.
    let of_all = texts.iter().filter(|(_, text)| unnamed(text).len() <= 1).map(|(path, _)| path.clone());
    assert_eq!(of_all.collect::<BTreeSet<_>>(), &places | &compare, "files that name the providers");
    let names_some = |path: &str, text: &str| product_code(path, text).is_some_and(|code| unnamed(code).len() < ProviderKind::ALL.len());
    let of_some = texts.iter().filter(|(path, text)| names_some(path, text)).map(|(path, _)| path.clone());
    let of_some: BTreeSet<String> = of_some.filter(|path| !places.contains(path)).collect();
    assert_eq!(of_some, some, "code that names some providers");
    Ok(())
}

#[test]
fn every_test_that_finds_a_place_exists() -> Result<()> {
    let files = texts()?;
    for [place, _, found_by] in lists()?.0 {
        let tests = spans(&found_by);
        ensure!(found_by.contains("the compiler") || !tests.is_empty(), "{place}: nothing finds it");
        for test in tests {
            ensure!(files.iter().any(|(_, text)| text.contains(&format!("fn {test}("))), "{place}: there is no test {test}");
        }
    }
    Ok(())
}
