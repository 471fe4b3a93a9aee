//! Reads manifests from files, directories and standard input, with several documents in each, and lists.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::spanned_yaml::{self, Lines};
use crate::api::v1alpha1::GROUP;

/// The argument that stands for standard input.
const STANDARD_INPUT: &str = "-";
/// Maximum size of a file in bytes: no manifest is larger.
const LARGEST: u64 = 32 * 1024 * 1024;

/// The error for unusable input, which ends a check before it starts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InputError(pub(super) String);

/// Position of an object or field in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Location {
    /// The file as it was given; `-` for standard input.
    pub(super) file: String,
    /// The line, counted from 1.
    pub(super) line: u64,
}

/// One object as written in a manifest.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    /// Index of the `-f` argument that it came from.
    pub(super) source: usize,
    pub(super) file: String,
    pub(super) value: Value,
    lines: Lines,
    /// JSON pointer of the object in its document; not empty for an item of a list.
    pointer: String,
}

impl Manifest {
    fn text(&self, pointer: &str) -> Option<&str> {
        self.value.pointer(pointer)?.as_str()
    }

    pub(super) fn api_version(&self) -> &str {
        self.text("/apiVersion").unwrap_or_default()
    }

    pub(super) fn kind(&self) -> &str {
        self.text("/kind").unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.text("/metadata/name").unwrap_or_default()
    }

    pub(super) fn namespace(&self) -> Option<&str> {
        self.text("/metadata/namespace").filter(|namespace| !namespace.is_empty())
    }

    /// Kind and API group in the usual notation: `Deployment.apps`.
    pub(super) fn qualified_kind(&self) -> String {
        match self.api_version().split_once('/') {
            Some((group, _)) => format!("{}.{group}", self.kind()),
            None => self.kind().to_owned(),
        }
    }

    /// The location of a value in the object, or of the closest existing parent.
    pub(super) fn location_of(&self, pointer: &str) -> Location {
        let mut pointer = format!("{}{pointer}", self.pointer);
        let line = loop {
            if let Some(line) = self.lines.get(&pointer) {
                break *line;
            }
            match pointer.rfind('/') {
                Some(end) => pointer.truncate(end),
                None => break 1,
            }
        };
        Location { file: self.file.clone(), line }
    }

    pub(super) fn location(&self) -> Location {
        self.location_of("")
    }
}

/// The manifests that were read.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    pub(super) objects: Vec<Manifest>,
    /// Files in directories that are not valid YAML, such as templates, and do not mention our API.
    pub(super) unreadable: Vec<String>,
}

/// Reads everything that was given. `-` is standard input.
pub(super) fn read(paths: &[PathBuf], standard_input: &mut dyn Read) -> Result<Manifests, InputError> {
    let mut manifests = Manifests::default();
    for (source, path) in paths.iter().enumerate() {
        let name = path.display().to_string();
        if name == STANDARD_INPUT {
            let mut text = String::new();
            let read = standard_input.take(LARGEST).read_to_string(&mut text);
            read.map_err(|error| InputError(format!("-: standard input cannot be read: {error}")))?;
            manifests.add(source, &name, &text, true)?;
        } else if path.is_dir() {
            let mut files = Vec::new();
            list(path, &mut files)?;
            for file in files {
                let text = text_of(&file)?;
                manifests.add(source, &file.display().to_string(), &text, false)?;
            }
        } else {
            let text = text_of(path)?;
            manifests.add(source, &name, &text, true)?;
        }
    }
    Ok(manifests)
}

fn text_of(path: &Path) -> Result<String, InputError> {
    let refused = |problem: String| InputError(format!("{}: {problem}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?.len();
    if size > LARGEST {
        return Err(refused(format!("is larger than {} MiB, too large for a manifest", LARGEST >> 20)));
    }
    let bytes = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| refused("is not UTF-8 text".to_owned()))
}

/// Lists every YAML and JSON file below a directory, sorted by name, without hidden ones.
fn list(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), InputError> {
    let refused = |error: std::io::Error| InputError(format!("{}: {error}", directory.display()));
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(refused)? {
        entries.push(entry.map_err(refused)?);
    }
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let manifest = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json");
        // Links to directories are not followed: they could form a cycle.
        if hidden {
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&path, files)?;
        } else if manifest && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

impl Manifests {
    /// Adds the documents of a text. `named`: the user gave this very file, so invalid content is an error.
    fn add(&mut self, source: usize, file: &str, text: &str, named: bool) -> Result<(), InputError> {
        for (first_line, document) in documents(text) {
            let (value, lines) = match spanned_yaml::read(document, first_line) {
                Ok(read) => read,
                Err(_) if !named && !text.contains(GROUP) => {
                    self.unreadable.push(file.to_owned());
                    return Ok(());
                }
                Err(error) => {
                    return Err(InputError(format!("{file}:{}: not valid YAML: {}", error.line.unwrap_or(first_line), error.problem)));
                }
            };
            self.sort(Manifest { source, file: file.to_owned(), value, lines, pointer: String::new() }, named)?;
        }
        Ok(())
    }

    fn sort(&mut self, manifest: Manifest, named: bool) -> Result<(), InputError> {
        let items = manifest.value.get("items").and_then(Value::as_array);
        match (&manifest.value, items) {
            (Value::Null, _) => {}
            (Value::Object(_), Some(items)) if manifest.kind().ends_with("List") => {
                for (position, item) in items.iter().enumerate() {
                    let pointer = format!("{}/items/{position}", manifest.pointer);
                    self.sort(Manifest { value: item.clone(), pointer, ..manifest.clone() }, named)?;
                }
            }
            (Value::Object(_), _) if !manifest.kind().is_empty() && !manifest.api_version().is_empty() => self.objects.push(manifest),
            _ if named || mentions_us(&manifest.value) => {
                let location = manifest.location();
                return Err(InputError(format!("{}:{}: not a manifest: apiVersion and kind are required", location.file, location.line)));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether a document that is not a valid manifest was meant to be one of ours.
fn mentions_us(value: &Value) -> bool {
    let api_version = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    api_version.starts_with(GROUP) || super::schema::KINDS.contains(&kind)
}

/// Splits a stream into documents, each with the number of its first line. A line that begins with `---` is always a separator,
/// because text in a block scalar is indented.
fn documents(text: &str) -> Vec<(u64, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut starts: BTreeMap<usize, u64> = BTreeMap::from([(0, 1)]);
    let mut offset = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])) {
            starts.insert(offset, number);
        }
        offset += line.len();
    }
    let ends = starts.keys().copied().skip(1).chain([text.len()]);
    let ranges = starts.iter().zip(ends).filter_map(|((start, line), end)| Some((*line, text.get(*start..end)?)));
    ranges.filter(|(_, document)| document.lines().any(|line| !is_blank(line))).collect()
}

fn is_blank(line: &str) -> bool {
    let line = line.strip_prefix("---").unwrap_or(line).trim();
    line.is_empty() || line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Manifests, InputError> {
        read(&[PathBuf::from("-")], &mut text.as_bytes())
    }

    fn seen(manifests: &Manifests) -> Vec<(String, String, u64)> {
        let objects = manifests.objects.iter();
        objects.map(|object| (object.qualified_kind(), object.name().to_owned(), object.location().line)).collect()
    }

    #[test]
    fn splits_documents_and_lists_into_objects() {
        let text = "# head\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  note: |\n    --- not a marker\n---\n# nothing\n\
            --- # next\napiVersion: v1\nkind: List\nitems:\n- apiVersion: apps/v1\n  kind: Deployment\n  metadata: {name: b}\n- {apiVersion: v1, kind: ConfigMap, \
            metadata: {name: c}}\n";
        let manifests = read_text(text).unwrap();
        let expected = [("Secret", "a", 3), ("Deployment.apps", "b", 15), ("ConfigMap", "c", 18)];
        assert_eq!(seen(&manifests), expected.map(|(kind, name, line)| (kind.to_owned(), name.to_owned(), line)));
        assert_eq!(manifests.objects[1].location_of("/metadata/name/x").line, 17);
    }

    #[test]
    fn json_is_yaml() {
        let manifests = read_text("{\"apiVersion\": \"v1\",\n\"kind\": \"Secret\", \"metadata\": {\"name\": \"a\"}}").unwrap();
        assert_eq!(manifests.objects.len(), 1);
    }

    #[test]
    fn an_error_names_the_line() {
        let error = read_text("apiVersion: v1\nkind: Secret\n---\nkind: x\n  bad: 1\n").unwrap_err().to_string();
        assert!(error.starts_with("-:5: not valid YAML"), "{error}");
        let error = read_text("a: 1\n---\nkind: RepoBinding\n").unwrap_err().to_string();
        assert!(error.starts_with("-:1: not a manifest"), "{error}");
        assert!(read(&[PathBuf::from("/no/such/file")], &mut "".as_bytes()).unwrap_err().to_string().starts_with("/no/such/file: "));
    }

    #[test]
    fn directories_are_read_recursively_without_files_that_are_not_manifests() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("b.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: b}\n"),
            ("a/deep.yml", "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n"),
            ("values.yaml", "replicas: 3\n"),
            ("chart/template.yaml", "{{- if .Values.on }}\nkind: Secret\n{{ end }}\n"),
            (".hidden/c.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: c}\n"),
            ("readme.md", "# no\n"),
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let manifests = read(&[folder.path().to_owned()], &mut "".as_bytes()).unwrap();
        assert_eq!(manifests.objects.iter().map(Manifest::name).collect::<Vec<_>>(), ["a", "b"]);
        assert!(manifests.unreadable.len() == 1 && manifests.unreadable[0].ends_with("template.yaml"), "{:?}", manifests.unreadable);
        std::fs::write(folder.path().join("ours.yaml"), "apiVersion: forgebind.dev/v1alpha1\nkind: [\n").unwrap();
        let error = read(&[folder.path().to_owned()], &mut "".as_bytes()).unwrap_err().to_string();
        assert!(error.contains("ours.yaml:"), "{error}");
    }
}
