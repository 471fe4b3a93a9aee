//! Types of the API's JSON documents, limited to the fields that are read. No type implements `Debug`, so none can be
//! logged: a hook may contain an authorization header in plain text.

use serde::Deserialize;

use crate::providers::lenient::{self, Id};

#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) version: String,
}

#[derive(Deserialize)]
pub(super) struct User {
    pub(super) login: String,
}

/// The token itself. Available since Gitea 1.27.
#[derive(Deserialize)]
pub(super) struct Token {
    pub(super) name: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) scopes: Vec<String>,
}

/// An entry of the list of the account's tokens.
#[derive(Deserialize)]
pub(super) struct TokenEntry {
    pub(super) name: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) token_last_eight: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) scopes: Vec<String>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the API's own document")]
pub(super) struct Repository {
    pub(super) id: Id,
    pub(super) full_name: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) html_url: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) clone_url: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) ssh_url: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) default_branch: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) private: bool,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) internal: bool,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) archived: bool,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) empty: bool,
    pub(super) topics: Option<Vec<String>>,
    pub(super) permissions: Option<Permissions>,
}

/// Role of the account, regardless of the token's scopes.
#[derive(Deserialize)]
pub(super) struct Permissions {
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) admin: bool,
}

#[derive(Deserialize)]
pub(super) struct Branch {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Hook {
    pub(super) id: Id,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) config: HookConfig,
    pub(super) events: Option<Vec<String>>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) active: bool,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) branch_filter: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) authorization_header: String,
}

#[derive(Deserialize)]
pub(super) struct HookConfig {
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) url: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) content_type: String,
}
