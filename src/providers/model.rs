//! The words of the port: the same for every provider.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use url::Url;

use super::permission::{Grants, PermissionFinding};
use super::transport::Operation;
use super::{ErrorKind, ProviderError};
use crate::api::v1alpha1::EventKind;
use crate::api::v1alpha1::binding::Visibility;
use crate::api::v1alpha1::connection::IdentityKind;
use crate::protocol::secret::WebhookSecret;

/// Where a provider is and whose repositories are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The web address, where git is served too.
    pub web: Url,
    /// The API's base, without a slash at its end in its path.
    pub api: Url,
    /// Further origins that the credential may reach.
    pub further_origins: Vec<Url>,
    /// The owner that bindings are held to; `None` where the spec names none.
    pub scope: Option<Scope>,
}

/// The owner that bindings are held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The provider's word for it: organization, user, group, workspace, project.
    pub word: &'static str,
    /// Its path: what a repository path begins with.
    pub path: String,
    /// Key of the project within it, where paths do not show projects.
    pub project: Option<String>,
}

impl Scope {
    /// Whether a repository lies in it, without regard to case.
    #[must_use]
    pub fn contains(&self, path: &RepositoryPath) -> bool {
        self.covers(path.as_str())
    }

    /// As [`Scope::contains`], for a path of which a delivery tells.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        let path = path.to_lowercase();
        path.strip_prefix(&self.path.to_lowercase()).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Whether a repository that was found lies in it: by its canonical path and by what holds it.
    #[must_use]
    pub fn holds(&self, repository: &Repository) -> bool {
        let held = |key: &String| repository.project.as_ref().is_some_and(|project| project.key.eq_ignore_ascii_case(key));
        self.contains(&repository.path) && self.project.as_ref().is_none_or(held)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.project {
            Some(project) => write!(formatter, "{} {}, project {project}", self.word, self.path),
            None => write!(formatter, "{} {}", self.word, self.path),
        }
    }
}

/// A repository's path in its provider's own form. Made by a [`Provider`](super::Provider).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryPath(String);

impl RepositoryPath {
    pub(in crate::providers) const fn new(path: String) -> Self {
        Self(path)
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether two paths are the same to the provider.
    #[must_use]
    pub fn same_as(&self, other: &str) -> bool {
        self.0.to_lowercase() == other.to_lowercase()
    }
}

impl fmt::Display for RepositoryPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why a text is no repository of this connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It has not the provider's form; the text says what that is.
    #[error("{0}")]
    Malformed(String),
    /// It is on another host.
    #[error("the repository is at {found}, the connection is at {expected}; correct repository or use a connection of {found}")]
    AnotherHost {
        /// Host in the text.
        found: String,
        /// Host of the connection.
        expected: String,
    },
    /// It holds a password.
    #[error("the repository URL holds a password; remove it, the connection's Secret is the place for it")]
    Password,
}

/// What an inspection of the credential found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Which product answers.
    pub flavor: String,
    /// Its version, where it tells.
    pub version: Option<String>,
    /// Who the credential is; `None` for anonymous.
    pub identity: Option<Identity>,
    /// The credential's name at the provider, where it tells.
    pub credential_name: Option<String>,
    /// When the credential ends, where the provider tells.
    pub expires_at: Option<Timestamp>,
    /// What the credential may do, in the provider's own words.
    pub grants: Grants,
    /// What can be done with this server and this credential.
    pub capabilities: Capabilities,
    /// The owner, where only the provider can resolve it (a group given by number).
    pub scope: Option<Scope>,
    /// Something a user should notice although it works, such as a token for all organizations.
    pub warnings: Vec<String>,
}

/// Who a credential is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name, where the provider tells.
    pub name: Option<String>,
    /// What it is.
    pub kind: IdentityKind,
}

/// What can be done with a provider, a server version and a credential kind. Known after an inspection. The planner reads
/// these; nothing is tried to find out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each answers one independent question")]
pub struct Capabilities {
    /// Does the REST API answer this credential? Otherwise only git does.
    pub api: bool,
    /// Does one hook carry one event only?
    pub one_event_per_hook: bool,
    /// Can the secret of a hook be read back?
    pub secret_readable: bool,
    /// Does an update set the secret?
    pub update_sets_secret: bool,
    /// Can a repository be looked up by its id?
    pub lookup_by_id: bool,
    /// Are past deliveries listed?
    pub delivery_log: bool,
    /// Can a past delivery be sent again?
    pub resend: bool,
    /// Are deliveries signed over their body?
    pub signature: bool,
    /// Does the credential tell its scopes?
    pub scope_introspection: bool,
    /// Does the credential tell its end?
    pub expiry_introspection: bool,
}

/// A repository, as the provider describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// The provider's stable id.
    pub id: String,
    /// The canonical path.
    pub path: RepositoryPath,
    /// Its web address.
    pub web_url: Option<String>,
    /// Where to clone it over https.
    pub clone_url: Option<String>,
    /// Where to clone it over ssh.
    pub ssh_url: Option<String>,
    /// Its default branch; `None` while empty.
    pub default_branch: Option<String>,
    /// Who can see it.
    pub visibility: Option<Visibility>,
    /// Whether it is read-only.
    pub archived: bool,
    /// Whether it has no commit yet.
    pub empty: bool,
    /// Whether the credential's role lets it manage this repository's hooks.
    pub manage_webhooks: PermissionFinding,
    /// The project that holds it, where that is no part of its path or where hooks are addressed by its id.
    pub project: Option<Project>,
}

/// A project that holds repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The provider's stable id.
    pub id: String,
    /// Its key or name.
    pub key: String,
}

/// What the git endpoint said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitProbe {
    /// Object ids of branches and tags by full reference name, as many as are worth keeping; empty for an empty repository.
    pub heads: BTreeMap<String, String>,
}

/// The address that a hook delivers to. Its path holds what makes it unguessable, so it does not print.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookUrl(String);

impl HookUrl {
    /// Wraps an address.
    #[must_use]
    pub const fn new(url: String) -> Self {
        Self(url)
    }

    /// The whole address, for the provider only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HookUrl(…)")
    }
}

/// What a hook is to be or is, in the words that the provider reads back: comparing two shapes is comparing maps.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HookShape {
    /// Which of several hooks of one binding this is, where the provider splits by event; empty otherwise.
    pub variant: String,
    /// Fields that are compared, by the provider's own names. A field that cannot be read back is absent.
    pub fields: BTreeMap<&'static str, String>,
    /// The events it stands for.
    pub events: BTreeSet<EventKind>,
}

/// What to create or to turn a hook into.
#[derive(Clone, Copy, Debug)]
pub struct HookRequest<'a> {
    /// Where it delivers.
    pub url: &'a HookUrl,
    /// What it proves itself with.
    pub secret: &'a WebhookSecret,
    /// What it is to be.
    pub shape: &'a HookShape,
}

/// What leaves an adopted hook to its owner. Its secret is the owner's and stays.
#[derive(Clone, Copy, Debug)]
pub struct HookRelease<'a> {
    /// Where it is to deliver from now on.
    pub url: &'a HookUrl,
    /// The secret that it carries, where that is known. It is sent only where the provider replaces the hook as a whole and does not
    /// show the secret.
    pub secret: Option<&'a WebhookSecret>,
    /// What it is, which stays.
    pub shape: &'a HookShape,
}

impl HookRelease<'_> {
    /// How the Secret is called that holds the secret of an adopted hook. Whoever knows its name tells that instead.
    pub const SECRET: &'static str = "the Secret that webhook.secretRef names";

    /// The refusal to write a hook whose secret would be lost by that.
    pub(in crate::providers) fn would_lose_the_secret(operation: Operation) -> ProviderError {
        let message = format!(
            "the hook was adopted, and this provider would lose its secret by the update that hands it back: {} is not there any more, \
             or somebody changed the hook's address at the provider; put it right, or delete the hook at the provider",
            Self::SECRET
        );
        ProviderError::new(ErrorKind::Rejected, operation.as_str(), message)
    }
}

/// How many hooks a provider allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookLimit {
    /// So many on each repository.
    EachRepository(usize),
    /// So many for each event of a repository.
    EachEvent(usize),
}

/// Whether a hook delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookState {
    /// It does.
    Active,
    /// A person switched it off.
    Paused,
    /// The provider switched it off, and only a new hook delivers again; the text is its cause.
    Disabled(String),
    /// The provider holds deliveries back for a while and goes on by itself; the text is its cause.
    HeldBack(String),
}

/// A hook, as the provider shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its id at the provider.
    pub id: String,
    /// Where it delivers.
    pub url: HookUrl,
    /// What it is.
    pub shape: HookShape,
    /// Whether it delivers.
    pub state: HookState,
    /// Whether a secret is set; `None` where the provider does not tell.
    pub has_secret: Option<bool>,
}

impl Hook {
    /// The fields in which the hook is not what it should be. What the provider does not read back is not drift.
    #[must_use]
    pub fn drift(&self, desired: &HookShape) -> Vec<&'static str> {
        let mut drift: Vec<_> = desired
            .fields
            .iter()
            .filter(|(name, value)| self.shape.fields.get(*name).is_some_and(|found| found != *value))
            .map(|(name, _)| *name)
            .collect();
        if self.has_secret == Some(false) {
            drift.push("secret");
        }
        drift
    }
}

/// What became of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The provider deleted it.
    Deleted,
    /// It is not there, proven by the hook list.
    Absent,
    /// The provider says 404 and does not show the list: it may still be there.
    Hidden,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(path: &str, project: Option<&str>) -> Repository {
        Repository {
            id: "1".into(),
            path: RepositoryPath::new(path.into()),
            web_url: None,
            clone_url: None,
            ssh_url: None,
            default_branch: None,
            visibility: None,
            archived: false,
            empty: false,
            manage_webhooks: PermissionFinding::granted(),
            project: project.map(|key| Project { id: "2".into(), key: key.into() }),
        }
    }

    #[test]
    fn a_scope_holds_what_lies_in_it() {
        let owner = Scope { word: "workspace", path: "Acme".into(), project: None };
        let project = Scope { project: Some("APP".into()), ..owner.clone() };
        for (path, key, by_owner, by_project) in [
            ("acme/shop", Some("app"), true, true),
            ("acme/shop", Some("OTHER"), true, false),
            ("acme/shop", None, true, false),
            ("acme2/shop", Some("APP"), false, false),
            ("acme", Some("APP"), false, false),
        ] {
            let repository = repository(path, key);
            assert_eq!((owner.holds(&repository), project.holds(&repository)), (by_owner, by_project), "{path} {key:?}");
        }
        assert_eq!(project.to_string(), "workspace Acme, project APP");
    }

    #[test]
    fn df_20_a_hooks_address_does_not_print() {
        assert!(!format!("{:?}", HookUrl::new("https://in/hooks/canary/1".into())).contains("canary"));
    }
}
