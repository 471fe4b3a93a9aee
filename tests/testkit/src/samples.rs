//! What the suites need to know of each provider: `tests/fixtures/<name>/samples.json`.

use forgebind::api::v1alpha1::ProviderKind;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::components::repository_root;

/// One provider's samples. A "spec" is the value of its member of a connection's `spec.provider`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Samples {
    /// The member of `spec.provider`.
    pub member: String,
    /// What people call the provider.
    pub title: String,
    /// The least that a spec needs.
    pub minimal: Value,
    /// Specs that are refused, and the message.
    pub refused: Vec<(Value, String)>,
    /// Further specs that are admitted.
    pub admitted: Vec<Value>,
    /// Text fields: a spec without or with the field, its name, its greatest length.
    pub texts: Vec<(Value, String, usize)>,
    /// What must not change while bindings use the connection.
    pub fixed: Fixed,
    /// Specs that together have every field, in forms that somebody could be tempted to normalise.
    pub full: Vec<Value>,
    /// A spec with an owner, a repository of that owner and one of another.
    pub offline: Offline,
    /// What can be none of its owners and repositories.
    pub spelling: Spelling,
    /// How the connection for a sandbox repository is made of the repository's path.
    pub sandbox: Sandbox,
    /// Where the official description of its API is from.
    pub facts: Facts,
    /// A list of hooks and the creation of one, as the description has them.
    pub exchanges: Vec<Exchange>,
    /// What its names of pull request actions do not tell.
    pub pull_request_notes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixed {
    pub spec: Value,
    pub changes: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offline {
    pub spec: Value,
    pub repository: String,
    pub outside: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spelling {
    /// A spec without an address.
    pub spec: Value,
    pub repository: String,
    pub impossible: [String; 3],
    /// Specs with a wrong text, and what is said of it.
    pub misspelled: Vec<(Value, String)>,
    /// The path of a server's address, where one belongs to it.
    #[serde(default)]
    pub server: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    /// The field that holds the owner.
    pub owner: String,
    /// How many segments of the path are the owner; -1 stands for all but the last.
    pub segments: isize,
    /// Which of the path's segments name the repository: `whole` or `rest`.
    pub path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    pub title: String,
    pub from: String,
    pub files: Vec<String>,
    /// The path below which the description has its own.
    pub base: String,
    /// Paths whose last parameter may hold slashes.
    pub rests: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub body: Option<Value>,
    pub status: u16,
    pub answer: Option<Value>,
}

/// The folder of a provider's samples and deliveries, relative to the repository.
pub fn folder(kind: ProviderKind) -> String {
    format!("tests/fixtures/{}", kind.flag().replace('-', "_"))
}

/// A provider's samples.
pub fn of(kind: ProviderKind) -> Samples {
    let path = format!("{}/samples.json", folder(kind));
    let text = std::fs::read_to_string(repository_root().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The samples of every provider.
pub fn all() -> impl Iterator<Item = Samples> {
    ProviderKind::ALL.into_iter().map(of)
}

impl Samples {
    /// `spec.provider` of a connection with this spec.
    pub fn provider(&self, spec: &Value) -> Value {
        json!({ self.member.as_str(): spec })
    }
}
