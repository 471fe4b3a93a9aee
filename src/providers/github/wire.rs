//! Types of GitHub's JSON documents, limited to the fields that are read.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::providers::listing::Entries;
use crate::providers::scalar::Scalar;

use crate::providers::lenient::{self, Id};

/// The account of a token.
#[derive(Deserialize)]
pub(super) struct User {
    pub(super) login: String,
}

/// Metadata of a server. Only GitHub Enterprise Server reports a version.
#[derive(Deserialize)]
pub(super) struct Meta {
    pub(super) installed_version: Option<String>,
}

/// An App as registered.
#[derive(Deserialize)]
pub(super) struct App {
    pub(super) name: String,
    pub(super) slug: Option<String>,
}

/// The installation of an App at one owner.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Installation {
    pub(super) id: Id,
    /// An account without a login belongs to the installation of an enterprise.
    pub(super) account: Option<Owner>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) repository_selection: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) permissions: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) events: Vec<String>,
    pub(super) suspended_at: Option<String>,
}

impl Installation {
    /// Whether the installation covers selected repositories only.
    pub(super) fn is_selective(&self) -> bool {
        self.repository_selection == "selected"
    }
}

/// An organization, a user or an enterprise.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Owner {
    pub(super) login: Option<String>,
}

/// Answer to the creation of an installation token. It does not implement `Debug`, so it cannot be logged.
#[derive(Deserialize)]
pub(super) struct InstallationToken {
    pub(super) token: String,
    pub(super) expires_at: String,
}

/// A page of an installation's repositories.
#[derive(Deserialize)]
pub(super) struct InstallationRepositories {
    pub(super) repositories: Entries<Repository>,
}

#[derive(Clone, Deserialize)]
pub(super) struct Repository {
    pub(super) id: Id,
    pub(super) full_name: String,
    pub(super) html_url: Option<String>,
    pub(super) clone_url: Option<String>,
    pub(super) ssh_url: Option<String>,
    pub(super) default_branch: Option<String>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) private: bool,
    pub(super) visibility: Option<String>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) archived: bool,
    /// In KiB. Zero for a repository without a commit, but also for a small or new one.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) size: u64,
    pub(super) topics: Option<Vec<String>>,
    pub(super) permissions: Option<Permissions>,
}

/// Role of the account, regardless of the token's scopes. For an App all fields may be false although its token works.
#[derive(Clone, Copy, Deserialize)]
pub(super) struct Permissions {
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) admin: bool,
}

#[derive(Deserialize)]
pub(super) struct Branch {
    pub(super) name: String,
}

#[derive(Clone, Deserialize)]
pub(super) struct Hook {
    pub(super) id: Id,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) active: bool,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) events: Vec<String>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) config: HookConfig,
}

#[derive(Clone, Default, Deserialize)]
pub(super) struct HookConfig {
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub(super) url: String,
    /// Absent means `form`.
    pub(super) content_type: Option<String>,
    /// Documented as text or a number.
    pub(super) insecure_ssl: Option<Scalar>,
    /// Asterisks if a secret is set. Only its presence is read.
    #[serde(default)]
    secret: Option<IgnoredAny>,
}

impl HookConfig {
    pub(super) const fn has_secret(&self) -> bool {
        self.secret.is_some()
    }
}

/// Estimates memory use.
pub(super) trait Weighed {
    /// Approximate size in bytes.
    fn weight(&self) -> usize;
}

impl Weighed for Repository {
    fn weight(&self) -> usize {
        let optional = [&self.html_url, &self.clone_url, &self.ssh_url, &self.default_branch, &self.visibility];
        let topics = self.topics.iter().flatten().map(|topic| size_of::<String>() + topic.len()).sum::<usize>();
        size_of::<Self>() + self.full_name.len() + topics + optional.into_iter().flatten().map(String::len).sum::<usize>()
    }
}

impl Weighed for Entries<Hook> {
    fn weight(&self) -> usize {
        let of_text = |text: &String| size_of::<String>() + text.len();
        let of_hook = |hook: &Hook| {
            let config = hook.config.url.len() + hook.config.content_type.as_ref().map_or(0, String::len);
            size_of::<Hook>() + config + hook.events.iter().map(of_text).sum::<usize>()
        };
        self.0.iter().map(of_hook).sum()
    }
}
