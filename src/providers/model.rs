//! The data types of the provider port, shared by all providers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use url::Url;

use super::permission::{Grants, PermissionFinding};
use super::{ErrorKind, ProviderError};
use crate::api::v1alpha1::EventKind;
use crate::api::v1alpha1::binding::Visibility;
use crate::api::v1alpha1::connection::IdentityKind;
use crate::protocol::secret::WebhookSecret;

/// Where a provider is, and which owner's repositories the connection uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The web address, which also serves git.
    pub web: Url,
    /// The base URL of the API, without a trailing slash in its path.
    pub api: Url,
    /// Further origins to which the credential may be sent.
    pub further_origins: Vec<Url>,
    /// The owner to which bindings are restricted; `None` if the spec names none.
    pub scope: Option<Scope>,
}

/// The owner to which bindings are restricted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The provider's term for it: organization, user, group, workspace, project.
    pub word: &'static str,
    /// Its path, which is the beginning of repository paths.
    pub path: String,
    /// Key of the project within the owner, if repository paths do not show projects.
    pub project: Option<String>,
}

impl Scope {
    /// Whether a repository path is within this owner. Case-insensitive.
    #[must_use]
    pub fn contains(&self, path: &RepositoryPath) -> bool {
        self.covers(path.as_str())
    }

    /// As [`Scope::contains`], for a path from a delivery.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        let path = path.to_lowercase();
        path.strip_prefix(&self.path.to_lowercase()).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Whether a repository that was found is within this owner, by its canonical path and its project.
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

/// A repository's path in its provider's own form. Created by a [`Provider`](super::Provider).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryPath(String);

impl RepositoryPath {
    pub(in crate::providers) const fn new(path: String) -> Self {
        Self(path)
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether two paths name the same repository at the provider. Case-insensitive.
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

/// Why a text is not a repository of this connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not have the provider's form, which the text describes.
    #[error("{0}")]
    Malformed(String),
    /// It is at another host.
    #[error("the repository is at {found}, but the connection is at {expected}; correct repository or use a connection of {found}")]
    AnotherHost {
        /// Host in the text.
        found: String,
        /// Host of the connection.
        expected: String,
    },
    /// It contains a password.
    #[error("the repository URL contains a password; remove it and put it into the connection's Secret")]
    Password,
}

/// The result of inspecting a credential and its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The product that answers.
    pub flavor: String,
    /// Its version, if it reports one.
    pub version: Option<String>,
    /// The account of the credential; `None` for anonymous access.
    pub identity: Option<Identity>,
    /// The credential's name at the provider, if it reports one.
    pub credential_name: Option<String>,
    /// When the credential expires, if the provider reports it.
    pub expires_at: Option<Timestamp>,
    /// What the credential may do, in the provider's own terms.
    pub grants: Grants,
    /// What is possible with this server and this credential.
    pub capabilities: Capabilities,
    /// The owner, if only the provider can resolve it (a group given by number).
    pub scope: Option<Scope>,
    /// Problems to report to a user although the credential works, such as a token for all organizations.
    pub warnings: Vec<String>,
}

/// The account of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name, if the provider reports one.
    pub name: Option<String>,
    /// Kind of account.
    pub kind: IdentityKind,
}

/// What is possible with a provider, a server version and a credential kind. Known after an inspection. The planner uses these
/// flags instead of trying operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each answers one independent question")]
pub struct Capabilities {
    /// Does the REST API accept this credential? Otherwise only git does.
    pub api: bool,
    /// Is each hook limited to one event?
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
    /// Does the provider report the credential's scopes?
    pub scope_introspection: bool,
    /// Does the provider report the credential's expiry?
    pub expiry_introspection: bool,
}

/// A repository, as the provider reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// The provider's stable id.
    pub id: String,
    /// The canonical path.
    pub path: RepositoryPath,
    /// Its web address.
    pub web_url: Option<String>,
    /// URL to clone it over https.
    pub clone_url: Option<String>,
    /// URL to clone it over ssh.
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
    /// The project that contains it, if the path does not show the project or hooks are addressed by the project's id.
    pub project: Option<Project>,
}

/// A project that contains repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The provider's stable id.
    pub id: String,
    /// Its key or name.
    pub key: String,
}

/// The result of probing the git endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitProbe {
    /// Object ids of branches and tags by full reference name, up to a limit; empty for an empty repository.
    pub heads: BTreeMap<String, String>,
}

/// The URL that a hook delivers to. Its path has an unguessable part, so `Debug` hides it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookUrl(String);

impl HookUrl {
    /// Wraps a URL.
    #[must_use]
    pub const fn new(url: String) -> Self {
        Self(url)
    }

    /// The complete URL, for requests to the provider only.
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

/// The desired or actual properties of a hook, as the provider reads them back: comparing two shapes means comparing maps.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HookShape {
    /// Which of several hooks of one binding this is, if the provider splits hooks by event; empty otherwise.
    pub variant: String,
    /// Fields to compare, by the provider's own names. Fields that cannot be read back are absent.
    pub fields: BTreeMap<&'static str, String>,
    /// The events that the hook covers.
    pub events: BTreeSet<EventKind>,
}

/// The desired state for creating or updating a hook.
#[derive(Clone, Copy, Debug)]
pub struct HookRequest<'a> {
    /// URL to deliver to.
    pub url: &'a HookUrl,
    /// Secret that authenticates its deliveries.
    pub secret: &'a WebhookSecret,
    /// Other properties.
    pub shape: &'a HookShape,
}

/// The state in which an adopted hook is handed back to its owner. Its secret belongs to the owner and is kept.
#[derive(Clone, Copy, Debug)]
pub struct HookRelease<'a> {
    /// URL to deliver to from now on.
    pub url: &'a HookUrl,
    /// The secret of the hook, if known. It is sent only if the provider replaces the hook as a whole and does not return the
    /// secret.
    pub secret: Option<&'a WebhookSecret>,
    /// Other properties, which stay unchanged.
    pub shape: &'a HookShape,
}

impl HookRelease<'_> {
    /// How messages refer to the Secret with the secret of an adopted hook. Callers that know its name replace this text with it.
    pub const SECRET: &'static str = "the Secret that webhook.secretRef names";

    /// The error for refusing a write that would lose the hook's secret.
    pub(in crate::providers) fn would_lose_the_secret(operation: &'static str) -> ProviderError {
        let message = format!(
            "the hook was adopted, and the update that hands it back would lose its secret: {} no longer exists, or somebody \
             changed the hook's address at the provider; restore it, or delete the hook at the provider",
            Self::SECRET
        );
        ProviderError::new(ErrorKind::Rejected, operation, message)
    }
}

/// The maximum number of hooks at a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookLimit {
    /// Maximum for each repository.
    EachRepository(usize),
    /// Maximum for each event of a repository.
    EachEvent(usize),
}

/// Whether a hook is delivering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookState {
    /// It delivers.
    Active,
    /// A person switched it off.
    Paused,
    /// The provider disabled it, and only a new hook delivers again; the text is the cause.
    Disabled(String),
    /// The provider sends nothing for a while and resumes by itself.
    HeldBack {
        /// Why.
        cause: String,
        /// When it resumes; `None` if it does not say.
        until: Option<Timestamp>,
    },
}

/// A hook, as the provider reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its id at the provider.
    pub id: String,
    /// URL it delivers to.
    pub url: HookUrl,
    /// Its other properties.
    pub shape: HookShape,
    /// Whether it delivers.
    pub state: HookState,
    /// Whether a secret is set; `None` if the provider does not report it.
    pub has_secret: Option<bool>,
}

impl Hook {
    /// The fields in which the hook differs from the desired shape. Fields that the provider does not read back never count as
    /// drift.
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

/// The result of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The provider deleted the hook.
    Deleted,
    /// The hook does not exist, as the hook list proves.
    Absent,
    /// The provider answers 404 and does not show the list: the hook may still exist.
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
