//! Sanitizes every answer of a provider: all clients that the rest of the program gets are wrapped in an `Entrance`, so that no
//! unchecked text of a provider reaches a status, an event, a log or a terminal.
//!
//! - Names (ids, paths, keys) are taken unchanged or refused: without its hidden characters, a name would be a different name.
//! - Text for display (account names, causes, warnings) loses its hidden characters and is limited in length.
//! - URLs that people and programs follow must lead to the connection's own provider over https, or over http if the connection
//!   uses http. ssh addresses must not contain anything that ssh could take for an option.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use url::Url;

use super::address::comparable;
use super::model::{HookState, Identity};
use super::permission::Grants;
use super::transport::Transport;
use super::{
    Client, Credential, Deletion, Endpoint, ErrorKind, GitProbe, Hook, HookRelease, HookRequest, HookShape, Inspection, ListedRepository,
    PermissionFinding, Provider, ProviderError, Repository, RepositoryPath,
};
use crate::api::v1alpha1::{EventKind, Permission};
use crate::text::sanitize::{self, is_plain};

/// Maximum length of a name in bytes. No provider has longer ones.
const NAME: usize = 1024;
/// Maximum length of the id of a listed repository in bytes.
const ID: usize = 128;
/// Maximum length of an address in bytes.
const ADDRESS: usize = 2048;
/// Maximum length of text for display in characters.
const WORDS: usize = 300;
/// Maximum length of a short text, such as a version, in characters.
const SHORT: usize = 128;
/// Maximum number of grants and of warnings in one inspection.
const MOST: usize = 1000;
/// Maximum number of topics of a repository. Providers that limit them allow no more.
const TOPICS: usize = 20;
/// Maximum length of a topic in bytes.
const TOPIC: usize = 64;
/// The host that serves ssh for all of `*.visualstudio.com`.
const VISUAL_STUDIO: (&str, &str) = (".visualstudio.com", "vs-ssh.visualstudio.com");

/// A client whose answers are safe to show.
struct Entrance {
    client: Arc<dyn Client>,
    endpoint: Endpoint,
}

impl dyn Provider + '_ {
    /// Creates a client for one account whose answers are safe to show.
    ///
    /// # Errors
    /// As [`Provider::client`].
    pub fn connect(&self, endpoint: Endpoint, credential: Credential, transport: Transport) -> Result<Arc<dyn Client>, ProviderError> {
        let client = self.client(endpoint.clone(), credential, transport)?;
        Ok(Arc::new(Entrance::new(client, endpoint)))
    }
}

impl Entrance {
    const fn new(client: Arc<dyn Client>, endpoint: Endpoint) -> Self {
        Self { client, endpoint }
    }

    fn described(&self, found: Repository) -> Result<Repository, ProviderError> {
        let operation = "look up the repository";
        name(operation, "id of the repository", &found.id)?;
        name(operation, "path of the repository", found.path.as_str())?;
        if let Some(project) = &found.project {
            name(operation, "id of the project", &project.id)?;
            name(operation, "key of the project", &project.key)?;
        }
        Ok(Repository {
            web_url: found.web_url.and_then(|url| self.link(&url)),
            clone_url: found.clone_url.and_then(|url| self.link(&url)),
            ssh_url: found.ssh_url.filter(|url| self.is_ssh_address(url)),
            default_branch: found.default_branch.filter(|branch| is_branch(branch)),
            manage_webhooks: finding(found.manage_webhooks),
            ..found
        })
    }

    fn listed(&self, found: ListedRepository) -> Result<ListedRepository, ProviderError> {
        let operation = "list repositories";
        name(operation, "id of a repository", &found.id)?;
        if found.id.len() > ID {
            return Err(ProviderError::new(
                ErrorKind::ResponseInvalid,
                operation,
                format!("the id of a repository has more than {ID} bytes"),
            ));
        }
        name(operation, "path of a repository", found.path.as_str())?;
        if let Some(project) = &found.project {
            name(operation, "project of a repository", project)?;
        }
        Ok(ListedRepository {
            web_url: found.web_url.and_then(|url| self.link(&url)),
            default_branch: found.default_branch.filter(|branch| is_branch(branch)),
            topics: found.topics.map(|topics| topics.into_iter().filter(|topic| is_topic(topic)).take(TOPICS).collect()),
            ..found
        })
    }

    /// Returns a link only if it leads to one of the connection's own origins: whether another host belongs to the provider is
    /// unknown.
    fn link(&self, text: &str) -> Option<String> {
        let url = Url::parse(text).ok().filter(|url| is_plain(text) && url.as_str().len() <= ADDRESS)?;
        let own = [&self.endpoint.web, &self.endpoint.api].into_iter().chain(&self.endpoint.further_origins);
        let is_own = own.into_iter().any(|own| own.origin() == url.origin());
        let is_web = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
        (is_own && is_web).then(|| url.into())
    }

    /// Whether the text is `ssh://user@host:port/path` or `user@host:path`, at the provider's own host or a subdomain of it.
    fn is_ssh_address(&self, text: &str) -> bool {
        if !is_plain(text) || text.len() > ADDRESS || text.contains(char::is_whitespace) {
            return false;
        }
        let (authority, path) = match text.strip_prefix("ssh://") {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None => match text.split_once(':') {
                Some(parts) => parts,
                None => return false,
            },
        };
        let (user, address) = authority.rsplit_once('@').unwrap_or(("git", authority));
        let host = match address.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => address,
        };
        is_ssh_word(user) && is_ssh_word(host.trim_start_matches('[')) && !path.starts_with('-') && self.is_own_host(host)
    }

    fn is_own_host(&self, host: &str) -> bool {
        let host = comparable(host);
        let web = comparable(self.endpoint.web.host_str().unwrap_or_default());
        let (tenants, of_all) = VISUAL_STUDIO;
        host == web || host.ends_with(&format!(".{web}")) || (web.ends_with(tenants) && host == of_all)
    }
}

fn inspected(found: Inspection) -> Result<Inspection, ProviderError> {
    let Inspection { flavor, version, identity, credential_name, expires_at, grants, capabilities, scope, warnings } = found;
    let named = |scope: &super::model::Scope| name("inspect", "path of the owner", &scope.path);
    scope.as_ref().map(named).transpose()?;
    Ok(Inspection {
        flavor: sanitize::line(&flavor, SHORT),
        version: version.map(|version| sanitize::line(&version, SHORT)),
        identity: identity.map(|identity| Identity { name: identity.name.and_then(|name| told(&name)), kind: identity.kind }),
        credential_name: credential_name.and_then(|name| told(&name)),
        expires_at,
        grants: match grants {
            // A right that is not spelled as documented is ignored.
            Grants::Known(rights) => {
                Grants::Known(rights.into_iter().filter(|right| is_name(right) && right.len() <= SHORT).take(MOST).collect())
            }
            Grants::Unknown(why) => Grants::Unknown(sanitize::line(&why, WORDS)),
        },
        capabilities,
        scope,
        warnings: warnings.iter().take(MOST).map(|warning| sanitize::line(warning, WORDS)).collect(),
    })
}

/// Whether ssh cannot take this user name or host for an option.
fn is_ssh_word(word: &str) -> bool {
    let is_usual = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-' | ':' | ']');
    !word.is_empty() && !word.starts_with('-') && word.chars().all(is_usual)
}

fn is_name(text: &str) -> bool {
    is_plain(text) && text.len() <= NAME
}

/// Whether a text can be the name of a branch: git refuses a leading dash, and a program could take it for an option.
fn is_branch(text: &str) -> bool {
    is_name(text) && !text.starts_with('-')
}

fn is_topic(text: &str) -> bool {
    is_plain(text) && !text.is_empty() && text.len() <= TOPIC
}

/// Accepts a name unchanged, or refuses the answer that contains it.
fn name(operation: &'static str, what: &str, text: &str) -> Result<(), ProviderError> {
    if is_name(text) {
        return Ok(());
    }
    let message = format!("the {what} contains invisible characters, or more than {NAME}");
    Err(ProviderError::new(ErrorKind::ResponseInvalid, operation, message))
}

/// Sanitizes a name that is only displayed; `None` if it has no visible characters.
fn told(text: &str) -> Option<String> {
    Some(sanitize::line(text, SHORT)).filter(|text| !text.is_empty())
}

fn finding(found: PermissionFinding) -> PermissionFinding {
    PermissionFinding { message: found.message.map(|message| sanitize::line(&message, WORDS)), ..found }
}

fn hook(operation: &'static str, mut found: Hook) -> Result<Hook, ProviderError> {
    name(operation, "id of a hook", &found.id)?;
    for value in found.shape.fields.values_mut() {
        // The escaped value still differs from the desired one.
        if !is_plain(value) || value.len() > ADDRESS {
            *value = sanitize::escaped(value).chars().take(ADDRESS).collect();
        }
    }
    found.state = match found.state {
        HookState::Disabled(cause) => HookState::Disabled(sanitize::line(&cause, WORDS)),
        HookState::HeldBack { cause, until } => HookState::HeldBack { cause: sanitize::line(&cause, WORDS), until },
        state @ (HookState::Active | HookState::Paused) => state,
    };
    Ok(found)
}

#[async_trait]
impl Client for Entrance {
    async fn inspect(&self) -> Result<Inspection, ProviderError> {
        inspected(self.client.inspect().await?)
    }

    fn permission(&self, inspection: &Inspection, permission: Permission) -> PermissionFinding {
        finding(self.client.permission(inspection, permission))
    }

    fn hook_permission(&self, inspection: &Inspection, events: &BTreeSet<EventKind>) -> PermissionFinding {
        finding(self.client.hook_permission(inspection, events))
    }

    async fn repository(&self, path: &RepositoryPath) -> Result<Repository, ProviderError> {
        self.described(self.client.repository(path).await?)
    }

    async fn repository_by_id(&self, id: &str) -> Result<Option<Repository>, ProviderError> {
        self.client.repository_by_id(id).await?.map(|found| self.described(found)).transpose()
    }

    async fn branch_exists(&self, repository: &Repository, branch: &str) -> Result<bool, ProviderError> {
        self.client.branch_exists(repository, branch).await
    }

    async fn probe_git(&self, path: &RepositoryPath) -> Result<GitProbe, ProviderError> {
        let found = self.client.probe_git(path).await?;
        // No reference name is shown; callers only check whether there are any.
        let heads = found.heads.into_iter().map(|(name, object)| (sanitize::escaped(&name).into_owned(), object)).collect();
        Ok(GitProbe { heads })
    }

    fn repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        let pages = self.client.repositories();
        pages.map(|page| page?.into_iter().map(|found| self.listed(found)).collect()).boxed()
    }

    fn hook_shapes(&self, events: &BTreeSet<EventKind>) -> Vec<HookShape> {
        self.client.hook_shapes(events)
    }

    async fn hooks(&self, repository: &Repository) -> Result<Vec<Hook>, ProviderError> {
        self.client.hooks(repository).await?.into_iter().map(|found| hook("list hooks", found)).collect()
    }

    async fn create_hook(&self, repository: &Repository, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        hook("create the hook", self.client.create_hook(repository, request).await?)
    }

    async fn update_hook(&self, repository: &Repository, id: &str, request: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        hook("update the hook", self.client.update_hook(repository, id, request).await?)
    }

    async fn release_hook(&self, repository: &Repository, id: &str, release: &HookRelease<'_>) -> Result<(), ProviderError> {
        self.client.release_hook(repository, id, release).await
    }

    async fn delete_hook(&self, repository: &Repository, id: &str) -> Result<Deletion, ProviderError> {
        self.client.delete_hook(repository, id).await
    }
}

#[cfg(test)]
mod tests;
