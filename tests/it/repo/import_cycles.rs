//! No file of the product imports a file that imports it, directly or through others. Read from the source text of `src/`.
//!
//! An import is a `use`, or a path in the code that begins with `crate`, `super`, `self`, a child module or an imported module. It
//! counts for the file that defines the name: a re-export is followed, and so a `mod.rs` that only re-exports its children is in
//! no cycle. A visibility such as `pub(in crate::a)` is no import. Unit tests may import from anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use regex::{Captures, Regex};

use testkit::components::repository_root;

/// Folders of `src/` whose cycles are not removed yet. A folder without a cycle must be taken out of this list.
const EXEMPT: &[&str] = &["controllers/binding/", "providers/"];

/// The path of a module or of an item below the crate's root.
type Name = Vec<String>;

static LITERALS: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r###"(?s)//[^\n]*|/\*.*?\*/|r##".*?"##|r#".*?"#|r"[^"]*"|"(?:[^"\\]|\\.)*"|'(?:[^'\\\n]|\\u\{\w+\}|\\x..|\\.)'"###;
    Regex::new(pattern).expect("a pattern")
});
static USE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\buse\s+([^;]+);").expect("a pattern"));
static CHILD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bmod\s+(\w+)\s*;").expect("a pattern"));
static ITEM: LazyLock<Regex> = LazyLock::new(|| {
    let modifiers = r"(?:pub(?:\([^)]*\))?\s+)?(?:(?:async|const|unsafe)\s+)*";
    Regex::new(&format!(r"(?m)^{modifiers}(?:fn|struct|enum|trait|type|const|static|union)\s+(\w+)")).expect("a pattern")
});
static PATH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?:::\s*)?\b\w+(?:\s*::\s*\w+)+").expect("a pattern"));

/// A `use` of one name.
struct Use {
    path: Name,
    name: String,
}

/// What the text of one file declares and names.
struct File {
    path: String,
    children: BTreeSet<String>,
    items: BTreeSet<String>,
    uses: Vec<Use>,
    paths: Vec<Name>,
}

impl File {
    fn read(path: &str, text: &str) -> Self {
        let code = without_tests(&without_literals(text));
        let all = |pattern: &Regex| pattern.captures_iter(&code).map(|found| found[1].to_owned()).collect();
        let uses = USE.captures_iter(&code).flat_map(|found| names_of(&found[1])).collect();
        let body = USE.replace_all(&code, "");
        let paths = PATH.find_iter(&body).map(|found| found.as_str()).filter(|found| !found.starts_with("::"));
        Self { path: path.to_owned(), children: all(&CHILD), items: all(&ITEM), uses, paths: paths.map(segments).collect() }
    }
}

/// The text without comments and literals, but for a literal that is a path, as attributes have it.
fn without_literals(text: &str) -> String {
    let replaced = LITERALS.replace_all(text, |found: &Captures<'_>| {
        let inner = found[0].trim_matches('"');
        if inner.starts_with("crate::") || inner.starts_with("super::") { inner.to_owned() } else { "\"\"".to_owned() }
    });
    replaced.replace("(in crate::", "(crate::").replace("(in super::", "(super::")
}

/// The text without the items that only tests have.
fn without_tests(text: &str) -> String {
    let mut pieces = text.split("#[cfg(test)]");
    let mut code = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let mut depth = 0;
        let end = piece.char_indices().find(|(_, character)| {
            depth += match character {
                '{' | '(' | '[' => 1,
                '}' | ')' | ']' => -1,
                _ => 0,
            };
            depth == 0 && matches!(character, '}' | ';')
        });
        code.push_str(end.map_or("", |(end, _)| &piece[end + 1..]));
    }
    code
}

fn segments(path: &str) -> Name {
    path.split("::").map(|segment| segment.trim().to_owned()).filter(|segment| !segment.is_empty()).collect()
}

/// The names in a tree of a `use`: of `a::{b, c::{self, d as e}}` they are a::b, a::c and a::c::d, which is called e.
fn names_of(tree: &str) -> Vec<Use> {
    let Some((before, group)) = tree.trim().split_once('{') else {
        let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim().to_owned())));
        let path = segments(path);
        return vec![Use { name: alias.or_else(|| path.last().cloned()).unwrap_or_default(), path }];
    };
    let before = segments(before);
    let mut depth = 0;
    let branches = group.trim_end_matches(['}', ' ', '\n']).split(|character| {
        depth += match character {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        depth == 0 && character == ','
    });
    let names = branches.filter(|branch| !branch.trim().is_empty()).flat_map(names_of);
    names
        .map(|Use { path, name }| {
            let itself = path.first().is_some_and(|first| first == "self");
            let name = if itself && name == "self" { before.last().cloned().unwrap_or_default() } else { name };
            Use { path: before.iter().cloned().chain(path.into_iter().skip(usize::from(itself))).collect(), name }
        })
        .collect()
}

/// All files by the module that each of them is.
struct Sources(BTreeMap<Name, File>);

impl Sources {
    fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let of_product = files.into_iter().filter(|(path, _)| !is_test(path) && *path != "main.rs");
        Self(of_product.map(|(path, text)| (module_of(path), File::read(path, text))).collect())
    }

    /// A path as seen from a module, from the crate's root; `None` if it leads out of the crate.
    fn from_root(&self, module: &Name, path: &[String]) -> Option<Name> {
        let file = self.0.get(module)?;
        let first = path.first()?.as_str();
        let climbed = path.iter().take_while(|segment| *segment == "super").count();
        let (base, rest) = match first {
            "crate" => (Name::new(), path.get(1..)?),
            "self" => (module.clone(), path.get(1..)?),
            "super" => (module.get(..module.len().checked_sub(climbed)?)?.to_vec(), path.get(climbed..)?),
            child if file.children.contains(child) => (module.clone(), path),
            name => {
                let imported = file.uses.iter().find(|used| used.name == name && used.path.first().is_some_and(|first| first != name))?;
                (self.from_root(module, &imported.path)?, path.get(1..)?)
            }
        };
        Some(base.into_iter().chain(rest.iter().cloned()).collect())
    }

    /// The module that defines a name; `None` for a module itself.
    fn defines(&self, name: &[String], seen: &mut BTreeSet<Name>) -> Option<Name> {
        if !seen.insert(name.to_vec()) {
            return None;
        }
        let length = (0..=name.len()).rev().find(|length| self.0.contains_key(&name[..*length]))?;
        let (module, rest) = (name[..length].to_vec(), &name[length..]);
        let (first, file) = (rest.first()?, self.0.get(&module)?);
        if file.items.contains(first) {
            return Some(module);
        }
        let exported = |used: &Use, rest: &[String], seen: &mut BTreeSet<Name>| {
            let path: Name = used.path.iter().filter(|segment| *segment != "*").chain(rest).cloned().collect();
            self.from_root(&module, &path).and_then(|name| self.defines(&name, seen))
        };
        if let Some(used) = file.uses.iter().find(|used| used.name == *first) {
            return exported(used, &rest[1..], seen);
        }
        let of_glob = file.uses.iter().filter(|used| used.name == "*").find_map(|used| exported(used, rest, seen));
        of_glob.or(Some(module))
    }

    /// The modules that each module imports, without those whose file begins with an exempt path.
    fn imports(&self, exempt: &[&str]) -> BTreeMap<&Name, BTreeSet<Name>> {
        let counts = |module: &Name| self.0.get(module).is_some_and(|file| !exempt.iter().any(|path| file.path.starts_with(path)));
        let imported = |module: &Name, file: &File| {
            let paths = file.uses.iter().map(|used| &used.path).chain(&file.paths);
            let defined = paths.filter_map(|path| self.defines(&self.from_root(module, path)?, &mut BTreeSet::new()));
            defined.filter(|other| other != module && counts(other)).collect()
        };
        self.0.iter().filter(|(module, _)| counts(module)).map(|(module, file)| (module, imported(module, file))).collect()
    }

    /// The cycles: the files of each, with what each of them imports of the others.
    fn cycles(&self, exempt: &[&str]) -> Vec<Vec<String>> {
        let imports = self.imports(exempt);
        let reached = |from: &Name| {
            let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
            while let Some(module) = open.pop() {
                open.extend(imports.get(module).into_iter().flatten().filter(|next| reached.insert((*next).clone())));
            }
            reached
        };
        let reach: BTreeMap<&Name, BTreeSet<Name>> = imports.keys().map(|module| (*module, reached(module))).collect();
        let both = |one: &Name, other: &Name| reach[one].contains(other) && reach[other].contains(one);
        let mut cycles = Vec::new();
        let mut seen: BTreeSet<&Name> = BTreeSet::new();
        for module in imports.keys().filter(|module| both(module, module)) {
            let members: Vec<&&Name> = imports.keys().filter(|other| both(module, other)).collect();
            if seen.insert(members[0]) {
                let path = |module: &Name| self.0[module].path.clone();
                let line = |member: &Name| {
                    let of_cycle = imports[member].iter().filter(|other| both(member, other)).map(path);
                    format!("{} imports {}", path(member), of_cycle.collect::<Vec<_>>().join(", "))
                };
                cycles.push(members.into_iter().map(|member| line(member)).collect());
            }
        }
        cycles
    }
}

/// Files that hold tests alone.
fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs"))
}

/// Every source file below a folder.
fn sources_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources_below(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The module that a file is: `a.rs` and `a/mod.rs` are a, and `lib.rs` is the crate's root.
fn module_of(path: &str) -> Name {
    let parts = path.trim_end_matches(".rs").split('/');
    parts.filter(|part| !matches!(*part, "mod" | "lib")).map(str::to_owned).collect()
}

#[test]
fn no_file_imports_one_that_imports_it() -> Result<()> {
    let root = repository_root().join("src");
    let mut paths = Vec::new();
    sources_below(&root, &mut paths)?;
    ensure!(paths.len() > 5, "the source files were not found");
    let mut files = Vec::new();
    for path in paths {
        let relative = path.strip_prefix(&root)?.to_str().context("a path is not UTF-8")?.to_owned();
        files.push((relative, std::fs::read_to_string(&path)?));
    }
    let sources = Sources::read(files.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    let cycles: Vec<_> = sources.cycles(EXEMPT).into_iter().map(|cycle| cycle.join("\n  ")).collect();
    ensure!(cycles.is_empty(), "{} cycles of imports:\n  {}", cycles.len(), cycles.join("\n\n  "));
    let all = sources.cycles(&[]).concat();
    for path in EXEMPT {
        ensure!(all.iter().any(|line| line.starts_with(path)), "src/{path} has no cycle any more: take it out of EXEMPT");
    }
    Ok(())
}

#[track_caller]
fn found(files: &[(&str, &str)], expected: &[&[&str]]) {
    let cycles = Sources::read(files.iter().copied()).cycles(&[]);
    assert_eq!(cycles, expected, "{files:?}");
}

#[test]
fn a_cycle_is_found_however_it_is_written() {
    let both: &[&[&str]] = &[&["a/one.rs imports a/two.rs", "a/two.rs imports a/one.rs"]];
    let two = ("a/two.rs", "use crate::a::one::One;\npub struct Two;");
    for one in [
        "use super::two::Two;\npub struct One;",
        "use crate::{clock, a::{two::{self as other, Two}}};\npub struct One;",
        "pub struct One;\nfn f() { super::two::Two::new(); }",
        "use super::two;\npub struct One;\nfn f() { two::Two::new(); }",
        "use crate::a;\npub struct One;\nfn f(two: &a::two::Two) {}",
        "#[serde(with = \"crate::a::two::Two\")]\npub struct One;",
        "#[cfg(test)]\nmod tests { fn f() {} }\npub struct One;\nfn f() { super::two::Two::new(); }",
        // Through a re-export of the parent.
        "use super::Two;\npub struct One;",
    ] {
        found(&[("a/mod.rs", "mod one;\nmod two;\npub use two::*;"), ("a/one.rs", one), two], both);
    }
    let parent = "mod one;\npub struct Shared;\nfn f() { one::g(); }";
    found(
        &[("a/mod.rs", parent), ("a/one.rs", "use super::Shared;\npub fn g() {}")],
        &[&["a/mod.rs imports a/one.rs", "a/one.rs imports a/mod.rs"]],
    );
    let circle = [
        ("a.rs", "use crate::b::B;\npub struct A;"),
        ("b.rs", "use crate::c::C;\npub struct B;"),
        ("c.rs", "use crate::a::A;\npub struct C;"),
    ];
    found(&circle, &[&["a.rs imports b.rs", "b.rs imports c.rs", "c.rs imports a.rs"]]);
}

#[test]
fn what_is_no_import_makes_no_cycle() {
    let parent = ("a/mod.rs", "mod one;\nmod two;\npub use one::One;\npub use two::Two;");
    let two = ("a/two.rs", "use super::One;\npub struct Two;");
    for one in [
        "pub struct One;",
        "pub struct One;\npub(in crate::a) fn two() {}",
        "// See super::two::Two.\npub struct One;\nconst TEXT: &str = \"is super::two::Two\";\nconst QUOTE: char = '\"';",
        "pub struct One;\n#[cfg(test)]\nmod tests {\n    use super::super::two::Two;\n}",
        "pub struct One;\n#[cfg(test)]\nuse super::two::Two;",
        "pub struct One;\nfn f() { other::super_two::Two::new(); }",
    ] {
        found(&[parent, ("a/one.rs", one), two, ("a/one/tests.rs", "use super::super::two::Two;")], &[]);
    }
}
